"""Associations: definitions (directional type ids) and the links between records (A9).

A link is one undirected pair; each direction shows its own type ids.  Knows no HTTP.
"""
from . import errors

# from, to, id, inverse id, label, name, inverse name
KNOWN = [
	('0-1', '0-2', 279, 280, None, 'contact_to_company_unlabeled', 'company_to_contact_unlabeled'),
	('0-1', '0-2', 1, 2, 'Primary', 'contact_to_company', 'company_to_contact'),
	('0-3', '0-1', 3, 4, None, 'deal_to_contact', 'contact_to_deal'),
	('0-3', '0-2', 341, 342, None, 'deal_to_company_unlabeled', 'company_to_deal_unlabeled'),
	('0-3', '0-2', 5, 6, 'Primary', 'deal_to_company', 'company_to_deal'),
	('0-1', '0-5', 15, 16, None, 'contact_to_ticket', 'ticket_to_contact'),
	('0-5', '0-2', 339, 340, None, 'ticket_to_company_unlabeled', 'company_to_ticket_unlabeled'),
	('0-5', '0-2', 26, 25, 'Primary', 'ticket_to_company', 'company_to_ticket'),
	('0-3', '0-5', 27, 28, None, 'deal_to_ticket', 'ticket_to_deal'),
	('0-3', '0-8', 19, 20, None, 'deal_to_line_item', 'line_item_to_deal'),
	('0-46', '0-1', 202, 201, None, 'note_to_contact', 'contact_to_note'),
	('0-27', '0-1', 204, 203, None, 'task_to_contact', 'contact_to_task'),
	('0-49', '0-1', 198, 197, None, 'email_to_contact', 'contact_to_email'),
	('0-47', '0-1', 200, 199, None, 'meeting_to_contact', 'contact_to_meeting'),
	('0-48', '0-1', 194, 193, None, 'call_to_contact', 'contact_to_call'),
	('0-1', '0-1', 449, 449, None, 'contact_to_contact', 'contact_to_contact'),
	('0-2', '0-2', 450, 450, None, 'company_to_company', 'company_to_company'),
	('0-2', '0-2', 13, 14, 'Child Company', 'parent_to_child_company', 'child_to_parent_company'),
]
EXCLUSIVE = {1, 5, 26}			# primary: at most one per record of the from side
HUBSPOT, USER = 'HUBSPOT_DEFINED', 'USER_DEFINED'


class LinkType:
	"""One direction of an association definition."""

	__slots__ = ('id', 'category', 'source', 'target', 'label', 'name', 'inverse')

	def __init__(self, type_id, category, source, target, label, name, inverse):
		self.id = type_id
		self.category = category
		self.source = source
		self.target = target
		self.label = label
		self.name = name
		self.inverse = inverse

	def to_json(self):
		return {'category': self.category, 'typeId': self.id, 'label': self.label}


class Links:
	"""All definitions and links of the account."""

	def __init__(self, types, store):
		self.types = types
		self.store = store
		self.defs = {}
		self.next_id = 1001
		self.counting = True		# seed.py counts once, at the end
		self.near = {}				# (type id, id) -> {(type id, id): set of LinkType ids}
		for source, target, one, two, label, name, back in KNOWN:
			self._define(one, two, HUBSPOT, source, target, (label, label if one != 13 else 'Parent Company'),
						 (name, back))

	# -- definitions

	def _define(self, one, two, category, source, target, labels, names):
		self.defs[one] = LinkType(one, category, source, target, labels[0], names[0], two)
		if two != one:
			self.defs[two] = LinkType(two, category, target, source, labels[1], names[1], one)

	def define(self, source, target, label, name=None, inverse_label=None, category=USER):
		"""A new definition in both directions; returns the forward one."""
		one, two = self.next_id, self.next_id + 1
		if source is target and label == (inverse_label or label):
			two = one
		self.next_id += 2
		name = name or f'{source.singular}_to_{target.singular}'
		labels = (label, inverse_label or label)
		self._define(one, two, category, source.id, target.id, labels, (name, name))
		self.store.version += 1
		return self.defs[one]

	def undefine(self, link_type):
		"""Delete a label's definition: it goes from every pair, in both directions."""
		gone = {link_type.id, link_type.inverse}
		for type_id in gone:
			self.defs.pop(type_id, None)
		for others in self.near.values():
			for held in others.values():
				held -= gone
		self.store.version += 1

	def between(self, source, target):
		return [d for d in self.defs.values() if (d.source, d.target) == (source.id, target.id)]

	def plain(self, source, target):
		"""The unlabelled definition of a direction; pairs that HubSpot has not get one when asked for."""
		for d in self.between(source, target):
			if d.label is None:
				return d
		category = USER if source.custom or target.custom else HUBSPOT
		return self.define(source, target, None, category=category)

	def named(self, source, target, name):
		"""A v3 association type: by name, by id, or the unlabelled one."""
		if name in (None, ''):
			return self.plain(source, target)
		plain = self.plain(source, target)
		for d in [plain, *self.between(source, target)]:
			if str(name).lower() in (d.name.lower(), str(d.id)):
				return d
		raise errors.invalid(f'{name} is not a valid association type between {source.plural} and {target.plural}')

	def _given(self, item):
		"""The definition that one {associationCategory, associationTypeId} names, or None."""
		try:
			return self.defs.get(int(item.get('associationTypeId')))
		except (AttributeError, TypeError, ValueError):
			return None

	def spec(self, given, source, target=None):
		"""Check [{associationCategory, associationTypeId}] -> LinkTypes; target None: derive it."""
		if not isinstance(given, list) or not given:
			raise errors.invalid('Invalid input JSON: association types are required')
		out = []
		for item in given:
			d = self._given(item)
			if d is None or d.category != item.get('associationCategory') or d.source != source.id \
					or (target is not None and d.target != target.id):
				raise errors.invalid('One or more associations are not valid',
									 context={'type': [str(item)]})
			out.append(d)
		return out

	# -- links

	def held(self, record, other):
		return self.near.get((record.kind.id, record.id), {}).get((other.kind.id, other.id), set())

	def to(self, record, target):
		"""[(id, LinkTypes)] of a record towards one type, by ascending id."""
		found = [(oid, held) for (t, oid), held in self.near.get((record.kind.id, record.id), {}).items()
				 if t == target.id]
		return [(oid, sorted((self.defs[i] for i in held), key=lambda d: (d.label is None, d.id)))
				for oid, held in sorted(found, key=lambda f: int(f[0]))]

	def add(self, record, other, link_types):
		"""Link two records; the unlabelled type always comes along."""
		for d in {x.id: x for x in (*link_types, self.plain(record.kind, other.kind))}.values():
			self._drop_exclusive(record, other, d)
			self._hold(record, other, d.id)
			self._hold(other, record, d.inverse)
		self._note((record.kind.id, record.id), (other.kind.id, other.id))
		self._changed(record, other)

	def _note(self, one, two, implied=False):
		"""Tell history.py how a pair is now."""
		if self.store.history.on:
			one, two = sorted((one, two), key=lambda end: (end[0], int(end[1])))
			self.store.history.note(f'{one[0]}:{two[0]}', f'{one[1]}:{two[1]}', self._shown(one, two), implied)

	def _shown(self, one, two):
		held = self.near.get(one, {}).get(two)
		if held is None:
			return None
		labels = {self.defs[x].label for x in held | self.near[two][one]} - {None}
		return {'labels': ';'.join(sorted(labels))}

	def everything(self):
		for one, others in self.near.items():
			for two in others:
				if (one[0], int(one[1])) <= (two[0], int(two[1])):
					yield f'{one[0]}:{two[0]}', f'{one[1]}:{two[1]}', self._shown(one, two)

	def replace(self, record, other, link_types):
		self.remove(record, other)
		self.add(record, other, link_types)

	def _hold(self, record, other, type_id):
		key = (other.kind.id, other.id)
		self.near.setdefault((record.kind.id, record.id), {}).setdefault(key, set()).add(type_id)

	def _drop_exclusive(self, record, other, d):
		"""A new primary takes the label from the old one, whose link stays."""
		if d.inverse in EXCLUSIVE:
			record, other, d = other, record, self.defs[d.inverse]
		if d.id not in EXCLUSIVE:
			return
		mine = (record.kind.id, record.id)
		for (t, oid), held in self.near.get(mine, {}).items():
			if d.id in held and oid != other.id:
				held.discard(d.id)
				self.near[(t, oid)][mine].discard(d.inverse)
				self._note(mine, (t, oid), implied=True)

	def remove(self, record, other):
		"""Remove a pair with all its labels."""
		for a, b in ((record, other), (other, record)):
			self.near.get((a.kind.id, a.id), {}).pop((b.kind.id, b.id), None)
		self._note((record.kind.id, record.id), (other.kind.id, other.id))
		self._changed(record, other)

	def remove_types(self, record, other, link_types):
		"""Remove labels; the unlabelled type takes everything with it."""
		if any(d.label is None for d in link_types):
			return self.remove(record, other)
		for d in link_types:
			self.held(record, other).discard(d.id)
			self.held(other, record).discard(d.inverse)
		self._note((record.kind.id, record.id), (other.kind.id, other.id))
		return self._changed(record, other)

	def forget(self, record):
		"""A record's links go with it."""
		mine = (record.kind.id, record.id)
		for t, oid in list(self.near.pop(mine, {})):
			self.near.get((t, oid), {}).pop(mine, None)
			self._note(mine, (t, oid))

	def move(self, record, into):
		"""Merge: links of a swallowed record go to the survivor."""
		mine = (record.kind.id, record.id)
		for (t, oid), held in list(self.near.get(mine, {}).items()):
			other = self.store.of(self.types.by_id[t]).get(oid)
			if other is None or other is into:
				continue
			keep = [self.defs[i] for i in held if not self._taken(into, other, i)]
			self.add(into, other, keep)

	def _taken(self, into, other, type_id):
		"""The primary's primary wins: is the exclusive place of the survivor taken already?"""
		if type_id not in EXCLUSIVE:
			return False
		mine = self.near.get((into.kind.id, into.id), {})
		return any(type_id in held for (t, _), held in mine.items() if t == other.kind.id)

	def _changed(self, *records):
		"""Counters follow without moving last-modified (A8: association changes are not seen by search)."""
		self.store.version += 1
		for record in records if self.counting else ():
			for target, name in (('0-1', 'num_associated_contacts'), ('0-2', 'num_associated_companies')):
				if name in record.kind.properties:
					near = self.near.get((record.kind.id, record.id), {})
					record.props[name] = str(sum(1 for t, _ in near if t == target))

	def all(self):
		"""Every pair once, for GET /__ctl/state."""
		out = []
		for (t, i), others in self.near.items():
			for (t2, i2), held in others.items():
				if (t, int(i)) <= (t2, int(i2)):
					back = self.near[(t2, i2)][(t, i)]
					labels = {self.defs[x].label for x in held | back} - {None}
					out.append({'from_type': t, 'from_id': i, 'to_type': t2, 'to_id': i2,
								'type_ids': sorted(held), 'inverse_type_ids': sorted(back), 'labels': sorted(labels)})
		return out
