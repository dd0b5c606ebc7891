"""Object types and their standard properties (A3, A13).  Data and look-up only."""
import re

from . import errors

# id, plural, singular
STANDARD = [
	('0-1', 'contacts', 'contact'), ('0-2', 'companies', 'company'), ('0-3', 'deals', 'deal'),
	('0-5', 'tickets', 'ticket'), ('0-7', 'products', 'product'), ('0-8', 'line_items', 'line_item'),
	('0-14', 'quotes', 'quote'), ('0-19', 'feedback_submissions', 'feedback_submission'),
	('0-53', 'invoices', 'invoice'), ('0-69', 'subscriptions', 'subscription'),
	('0-101', 'commerce_payments', 'commerce_payment'), ('0-74', 'goal_targets', 'goal_target'),
	('0-115', 'users', 'user'), ('0-162', 'services', 'service'), ('0-420', 'listings', 'listing'),
	('0-27', 'tasks', 'task'), ('0-46', 'notes', 'note'), ('0-47', 'meetings', 'meeting'),
	('0-48', 'calls', 'call'), ('0-49', 'emails', 'email'), ('0-116', 'postal_mail', 'postal_mail'),
	('0-18', 'communications', 'communication'), ('0-136', 'leads', 'lead'), ('0-123', 'orders', 'order'),
	('0-142', 'carts', 'cart'), ('0-84', 'discounts', 'discount'), ('0-85', 'fees', 'fee'),
	('0-86', 'taxes', 'tax'), ('0-410', 'courses', 'course'), ('0-421', 'appointments', 'appointment'),
]
READ_ONLY = {'0-19', '0-74'}
MERGEABLE = {'0-1', '0-2', '0-3', '0-5', '0-162', '0-123', '0-410'}

# what a read or search returns when no properties are asked for
DEFAULTS = {
	'0-1': ['email', 'firstname', 'lastname'], '0-2': ['domain', 'name'],
	'0-3': ['amount', 'closedate', 'dealname', 'dealstage', 'pipeline'],
	'0-5': ['content', 'hs_pipeline', 'hs_pipeline_stage', 'hs_ticket_category', 'hs_ticket_priority', 'subject'],
	'0-7': ['description', 'name', 'price'], '0-8': ['quantity', 'amount', 'price'],
}
# name:type[:fieldType][:flags]; flags: u unique, r read-only; options after '='
SPECIFIC = {
	'0-1': 'email:string::u firstname:string lastname:string phone:phone_number:phonenumber company:string '
		   'website:string jobtitle:string annualrevenue:number date_of_birth:date last_seen:datetime '
		   'is_vip:bool:booleancheckbox newsletter:enumeration:booleancheckbox=true,false '
		   'favorite_colors:enumeration:checkbox=red,green,blue,light\\ grey '
		   'hs_lead_status:enumeration:radio=NEW,OPEN,IN_PROGRESS,UNQUALIFIED '
		   'lifecyclestage:enumeration:radio=subscriber,lead,opportunity,customer,other '
		   'prefs:json:text ext_id:string::u first_name:string hs_additional_emails:string '
		   'hs_all_contact_vids:enumeration:checkbox:r hs_email_domain:string::r hs_is_contact:bool:booleancheckbox:r '
		   'hs_is_unworked:bool:booleancheckbox:r hs_pipeline:string::r hs_full_name_or_email:string::r '
		   'hs_calculated_merged_vids:enumeration:checkbox:r num_associated_companies:number::r '
		   'hs_origin:object_coordinates:text:r',
	'0-2': 'name:string domain:string website:string industry:enumeration:select=COMPUTER_SOFTWARE,BANKING,RETAIL '
		   'numberofemployees:number founded:date city:string country:string phone:phone_number:phonenumber '
		   'erp_id:string::u hs_pipeline:string::r num_associated_contacts:number::r',
	'0-3': 'dealname:string amount:number dealstage:enumeration:radio=appointmentscheduled,contractsent,closedwon,closedlost '
		   'pipeline:enumeration:select=default closedate:datetime dealtype:enumeration:radio=newbusiness,existingbusiness '
		   'description:string hs_is_closed:bool:booleancheckbox:r hs_projected_amount:number::r',
	'0-5': 'subject:string content:string:textarea hs_pipeline:enumeration:select=0 '
		   'hs_pipeline_stage:enumeration:select=1,2,3,4 hs_ticket_category:enumeration:checkbox=PRODUCT_ISSUE,BILLING_ISSUE '
		   'hs_ticket_priority:enumeration:select=LOW,MEDIUM,HIGH',
	'0-7': 'name:string description:string price:number hs_sku:string::u recurringbillingfrequency:string',
	'0-8': 'name:string quantity:number price:number amount:number hs_product_id:number',
	'0-27': 'hs_task_subject:string hs_task_body:string:html hs_task_status:enumeration:select=NOT_STARTED,COMPLETED '
			'hs_timestamp:datetime',
	'0-46': 'hs_note_body:string:html hs_timestamp:datetime hs_attachment_ids:enumeration:checkbox',
}
GENERIC = 'name:string description:string:textarea hs_timestamp:datetime'
SOURCE = 'hs_object_source:string::r hs_object_source_id:string::r hs_object_source_label:string::r'


class ObjectType:
	"""One object type with its property definitions."""

	def __init__(self, type_id, plural, singular, fqn=None, labels=None):
		self.id = type_id
		self.plural = plural
		self.singular = singular
		self.fqn = fqn
		self.custom = fqn is not None
		self.labels = labels or {'singular': singular.title(), 'plural': plural.title()}
		self.properties = {}
		self.modified = 'lastmodifieddate' if type_id == '0-1' else 'hs_lastmodifieddate'
		self.created = 'createdate' if type_id in ('0-1', '0-2', '0-3', '0-5') else 'hs_createdate'
		self.schema = None

	@property
	def key(self):
		"""The name under `associations` in a read."""
		return self.fqn or self.plural

	def names(self):
		return {n.lower() for n in (self.id, self.plural, self.singular, self.fqn) if n}

	def default_names(self):
		own = DEFAULTS.get(self.id, [])
		return own + [self.created, 'hs_object_id', self.modified]


def make_property(name, kind='string', field='', flags='', options=(), **more):
	"""A property definition as the properties API shows it (A13)."""
	field = field or {'string': 'text', 'number': 'number', 'date': 'date', 'datetime': 'date',
					  'enumeration': 'select', 'bool': 'booleancheckbox'}.get(kind, 'text')
	read_only = 'r' in flags
	out = {'name': name, 'label': name.replace('_', ' ').title(), 'description': '', 'groupName': 'information',
		   'type': kind, 'fieldType': field,
		   'options': [{'label': o.title(), 'value': o, 'hidden': False, 'displayOrder': i, 'description': ''}
					   for i, o in enumerate(options)],
		   'calculated': False, 'externalOptions': False, 'hasUniqueValue': 'u' in flags, 'hidden': False,
		   'hubspotDefined': True, 'displayOrder': -1, 'archived': False, 'formField': not read_only,
		   'dataSensitivity': 'non_sensitive', 'createdAt': '2019-08-06T02:41:52Z', 'updatedAt': '2023-01-06T14:20:01Z',
		   'modificationMetadata': {'archivable': False, 'readOnlyDefinition': True, 'readOnlyOptions': False,
									'readOnlyValue': read_only}}
	out.update(more)
	return out


def _parse(spec):
	for word in re.split(r'(?<!\\) ', spec):
		left, _, options = word.replace('\\ ', ' ').partition('=')
		name, kind, field, flags = (left.split(':') + ['', '', ''])[:4]
		yield make_property(name, kind, field, flags, options.split(',') if options else ())


def fill_properties(kind):
	"""Give a type its standard properties."""
	for prop in _parse(SPECIFIC.get(kind.id, GENERIC) + ' ' + SOURCE):
		kind.properties[prop['name']] = prop
	for name in dict.fromkeys((kind.created, kind.modified, 'hs_createdate', 'hs_lastmodifieddate')):
		kind.properties[name] = make_property(name, 'datetime', 'date', 'r')
	kind.properties['hs_object_id'] = make_property('hs_object_id', 'number', 'number', 'r')
	merged = make_property('hs_merged_object_ids', 'enumeration', 'checkbox', 'r', externalOptions=True)
	kind.properties['hs_merged_object_ids'] = merged
	owner = make_property('hubspot_owner_id', 'enumeration', 'select', externalOptions=True,
						  referencedObjectType='OWNER')
	kind.properties['hubspot_owner_id'] = owner
	for name in ('hs_all_contact_vids', 'hs_calculated_merged_vids', 'hs_attachment_ids'):
		if name in kind.properties:
			kind.properties[name]['externalOptions'] = True


class TypeTable:
	"""All object types of the account; resolves the path segment in every spelling (A3)."""

	def __init__(self):
		self.by_id = {}
		self.by_name = {}
		for type_id, plural, singular in STANDARD:
			kind = ObjectType(type_id, plural, singular)
			fill_properties(kind)
			self.add(kind)

	def add(self, kind):
		self.by_id[kind.id] = kind
		for name in kind.names():
			self.by_name[name] = kind

	def remove(self, kind):
		del self.by_id[kind.id]
		for name in kind.names():
			self.by_name.pop(name, None)

	def find(self, name):
		return self.by_name.get(str(name).lower())

	def resolve(self, name):
		"""The type, or a 400."""
		kind = self.find(name)
		if kind is None:
			raise errors.invalid(f'Unable to infer object type from: {name}')
		return kind

	def custom(self):
		return [k for k in self.by_id.values() if k.custom]
