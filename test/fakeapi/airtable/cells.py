"""Cells: what a write may put into a field (B2, B6), and how a cell is shown (B8)."""
import re
from datetime import datetime

from . import errors, formula
from .store import new_id

REC = re.compile(r'^rec[A-Za-z0-9]{14}$')
TEXT = {'singleLineText', 'multilineText', 'richText', 'email', 'url', 'phoneNumber'}
NUMBER = {'number', 'currency', 'percent', 'duration'}
USERS = {'usrFakeUser000001': {'id': 'usrFakeUser000001', 'email': 'ann@example.com', 'name': 'Ann Author'},
		 'usrFakeUser000002': {'id': 'usrFakeUser000002', 'email': 'bob@example.com', 'name': 'Bob Builder'}}
AUTHOR = USERS['usrFakeUser000001']
ATTACHMENT_LIFE = 7200000


# -- writing

def _bad(field, value):
	shown = repr(value)[:60]
	return errors.error(422, 'INVALID_VALUE_FOR_COLUMN', f'Field "{field.name}" cannot accept the provided value {shown}')


def clean(api, base, field, value, typecast, change=None):
	"""The stored form of a value (None: empty).  Without `change` only checks; with it typecast may create."""
	if field.computed:
		raise errors.error(422, 'INVALID_VALUE_FOR_COLUMN',
						   f'Field "{field.name}" cannot accept a value because the field is computed')
	if value is None or value == '' or value == [] or value is False:
		return None
	if field.kind in TEXT:
		return _text(field, value, typecast)
	if field.kind in NUMBER:
		return _number(field, value, typecast)
	work = WRITERS.get(field.kind)
	if work is None:
		raise _bad(field, value)
	return work(api, base, field, value, typecast, change)


def _text(field, value, typecast):
	if isinstance(value, str):
		return value
	if typecast and isinstance(value, (int, float)):
		return formula.text(value)
	raise _bad(field, value)


def _number(field, value, typecast):
	if isinstance(value, (int, float)) and not isinstance(value, bool):
		return value
	if typecast:
		try:
			return formula.special(float(str(value).strip(' $%').replace(',', '')))
		except ValueError:
			return None
	raise _bad(field, value)


def _rating(_api, _base, field, value, typecast, _change):
	value = _number(field, value, typecast)
	if value is not None and not (isinstance(value, int) and 1 <= value <= field.options.get('max', 10)):
		raise _bad(field, value)
	return value


def _checkbox(_api, _base, field, value, typecast, _change):
	if value is True or typecast:
		return True
	raise _bad(field, value)


def _date(_api, _base, field, value, _typecast, _change):
	try:
		return datetime.strptime(str(value)[:10], '%Y-%m-%d').strftime('%Y-%m-%d')
	except ValueError:
		raise _bad(field, value) from None


def _datetime(_api, _base, field, value, _typecast, _change):
	at = formula.parse_moment(value)
	if at is None:
		raise _bad(field, value)
	return formula.iso(at)


def _choice(field, name, typecast, change):
	"""Check a choice; typecast makes a new one, which is a change of the schema."""
	if isinstance(name, dict):
		name = name.get('name')
	if not isinstance(name, str):
		raise _bad(field, name)
	name = name.strip()
	if field.choice(name) is None:
		if not typecast:
			raise errors.error(422, 'INVALID_MULTIPLE_CHOICE_OPTIONS',
							   f'Insufficient permissions to create new select option "{name}"')
		if change is not None:
			field.options['choices'].append({'id': new_id('sel'), 'name': name, 'color': 'blueLight2'})
	return name


def _single_select(_api, _base, field, value, typecast, change):
	return _choice(field, value, typecast, change)


def _multiple_select(_api, _base, field, value, typecast, change):
	if typecast and isinstance(value, str):
		value = [v.strip() for v in value.split(',') if v.strip()]
	if not isinstance(value, list):
		raise _bad(field, value)
	return list(dict.fromkeys(_choice(field, v, typecast, change) for v in value))


def _user(field, value):
	for user in USERS.values():
		if isinstance(value, dict) and (value.get('id') == user['id'] or value.get('email') == user['email']):
			return dict(user)
		if value in (user['id'], user['email'], user['name']):
			return dict(user)
	raise _bad(field, value)


def _collaborator(_api, _base, field, value, typecast, _change):
	if not isinstance(value, dict) and not typecast:
		raise _bad(field, value)
	return _user(field, value)


def _collaborators(_api, _base, field, value, _typecast, _change):
	if not isinstance(value, list):
		raise _bad(field, value)
	return [_user(field, v) for v in value]


def _links(api, base, field, value, typecast, change):
	"""Record ids; typecast links by the primary field's text and creates what it does not find."""
	if typecast and isinstance(value, str):
		value = [v.strip() for v in value.split(',')]
	if not isinstance(value, list):
		raise _bad(field, value)
	other = base.tables[field.options['linkedTableId']]
	out = []
	for item in value:
		item = item.get('id') if isinstance(item, dict) else item
		if isinstance(item, str) and item in other.records:
			out.append(item)
		elif typecast and isinstance(item, str) and not REC.match(item):
			out.append(_link_by_name(api, base, other, item, change))
		elif isinstance(item, str) and REC.match(item):
			raise errors.no_row(item)
		else:
			raise _bad(field, value)
	return list(dict.fromkeys(i for i in out if i)) or None


def _link_by_name(api, base, other, name, change):
	for record in other.records.values():
		if record.cells.get(other.primary.id) == name:
			return record.id
	if change is None:
		return None
	record = base.insert(change, other)
	base.set(change, other, record, other.primary, clean(api, base, other.primary, name, True, change))
	return record.id


def _attachments(api, _base, field, value, _typecast, change):
	if not isinstance(value, list):
		raise _bad(field, value)
	out = []
	for item in value:
		if not isinstance(item, dict) or not (item.get('url') or item.get('id')):
			raise errors.error(422, 'INVALID_ATTACHMENT_OBJECT', f'Invalid attachment for field {field.name}')
		if item.get('id'):
			out.append(_known_attachment(api, field, item))
		elif 'fail.invalid' not in item['url']:
			out.append(new_attachment(api, item['url'], item.get('filename')))
		elif change is not None:
			api.partial.append('attachmentsFailedUploading')
	return out or None


def _known_attachment(api, field, item):
	known = api.attachments.get(item['id'])
	if known is None:
		raise errors.error(422, 'INVALID_ATTACHMENT_OBJECT', f'Unknown attachment {item["id"]} for {field.name}')
	return known


def new_attachment(api, url, filename=None, size=None, kind=None):
	"""Size and thumbnails are known only once the upload has finished (B2)."""
	out = {'id': new_id('att'), 'filename': filename or url.rstrip('/').rsplit('/', 1)[-1] or 'file',
		   'size': size or 1000 + len(url), 'type': kind or 'image/png',
		   'ready': api.clock.now() + api.config['attachment_delay_ms']}
	api.attachments[out['id']] = out
	return out


def _barcode(_api, _base, field, value, typecast, _change):
	if isinstance(value, str) and typecast:
		return {'text': value}
	if not isinstance(value, dict) or not isinstance(value.get('text'), str):
		raise _bad(field, value)
	return {k: value[k] for k in ('text', 'type') if value.get(k)}


WRITERS = {'rating': _rating, 'checkbox': _checkbox, 'date': _date, 'dateTime': _datetime,
		   'singleSelect': _single_select, 'multipleSelects': _multiple_select, 'singleCollaborator': _collaborator,
		   'multipleCollaborators': _collaborators, 'multipleRecordLinks': _links,
		   'multipleAttachments': _attachments, 'barcode': _barcode}


# -- reading

class Row:
	"""Reads one record's cells as the API shows them; computed cells are worked out here."""

	__slots__ = ('api', 'base', 'table', 'record', 'now', 'depth')

	def __init__(self, api, base, table, record, depth=0):
		self.api = api
		self.base = base
		self.table = table
		self.record = record
		self.now = api.clock.now()
		self.depth = depth

	def __call__(self, field):
		work = READERS.get(field.kind)
		return work(self, field) if work else self.record.cells.get(field.id)

	def linked_by(self, field):
		"""{linked record id: [values]} of a lookup or rollup."""
		link = self.table.fields.get(field.options['recordLinkFieldId'])
		if link is None or link.kind != 'multipleRecordLinks' or self.depth > 3:
			return {}
		other = self.base.tables[link.options['linkedTableId']]
		target = other.fields.get(field.options['fieldIdInLinkedTable'])
		out = {}
		for rid in self.record.cells.get(link.id, []):
			if target is not None and rid in other.records:
				value = Row(self.api, self.base, other, other.records[rid], self.depth + 1)(target)
				values = value if isinstance(value, list) else [value]
				out[rid] = [v for v in values if v not in (None, '')]
		return out

	def linked(self, field):
		return [v for values in self.linked_by(field).values() for v in values]


def _formula(row, field):
	cache = row.api.compiled
	key = (field.id, field.options['formula'])
	if key not in cache:
		cache[key] = formula.compile_formula(field.options['formula'], row.table)
	return formula.result(cache[key], row)


def _rollup(row, field):
	values = row.linked(field)
	name = field.options.get('_function', 'SUM')
	try:
		if name == 'ARRAYJOIN':
			return ', '.join(formula.text(v) for v in values) or None
		if name == 'AVERAGE':
			return formula.special(formula.divide(float(sum(map(formula.number, values))), len(values)))
		return formula.special({'SUM': sum, 'MAX': max, 'MIN': min}[name]([formula.number(v) for v in values] or [0]))
	except formula.Failed:
		return {'error': '#ERROR!'}


def _count(row, field):
	return len(row.record.cells.get(field.options['recordLinkFieldId'], []))


def _button(row, field):
	return {'label': field.options['_label'], 'url': f'https://example.com/{row.record.id}'}


def _attachments_shown(row, field):
	held = row.record.cells.get(field.id)
	return [_attachment(row, a) for a in held] if held else None


def _attachment(row, a):
	"""URLs change every two hours; size and thumbnails come late (B2)."""
	period = row.now // ATTACHMENT_LIFE
	url = f'https://v5.airtableusercontent.com/v3/u/{period}/{a["id"]}'
	out = {'id': a['id'], 'url': url, 'filename': a['filename']}
	if a['ready'] <= row.now:
		small = {'url': url + '/small', 'width': 36, 'height': 36}
		out.update(size=a['size'], type=a['type'], width=600, height=400,
				   thumbnails={'small': small, 'large': {**small, 'width': 512, 'height': 512},
							   'full': {**small, 'width': 3000, 'height': 3000}})
	return out


READERS = {'formula': _formula, 'rollup': _rollup, 'count': _count, 'button': _button,
		   'multipleLookupValues': lambda row, f: row.linked(f) or None,
		   'autoNumber': lambda row, f: row.record.seq, 'createdBy': lambda row, f: dict(AUTHOR),
		   'lastModifiedBy': lambda row, f: dict(AUTHOR), 'createdTime': lambda row, f: formula.iso(row.record.created),
		   'lastModifiedTime': lambda row, f: formula.iso(row.record.modified),
		   'multipleAttachments': _attachments_shown}


def as_string(row, field, value):
	"""cellFormat=string: for people, not for the mirror (B2)."""
	if value is True:
		return 'checked'
	if field.kind == 'multipleRecordLinks':
		other = row.base.tables[field.options['linkedTableId']]
		return ', '.join(formula.text(other.records[i].cells.get(other.primary.id)) for i in value if i in other.records)
	if field.kind == 'currency':
		return f'${value:,.2f}'
	if field.kind == 'percent':
		return f'{value * 100:g}%'
	if field.kind == 'multipleAttachments':
		return ', '.join(f'{a["filename"]} ({a["url"]})' for a in value)
	if field.kind in ('dateTime', 'createdTime', 'lastModifiedTime'):
		return datetime.strptime(value[:19], '%Y-%m-%dT%H:%M:%S').strftime('%-m/%-d/%Y %-I:%M%p').lower()
	return formula.text(value)


def show(api, base, table, record, by_id=False, as_text=False, only=None, comments=False):
	"""R = {id, createdTime, fields}; empty cells are left out (B2)."""
	row, fields = Row(api, base, table, record), {}
	for field in table.fields.values():
		if only is not None and field.id not in only:
			continue
		value = row(field)
		if value is None or value is False or value == '' or value == []:
			continue
		fields[field.id if by_id else field.name] = as_string(row, field, value) if as_text else value
	out = {'id': record.id, 'createdTime': formula.iso(record.created), 'fields': fields}
	if comments:
		out['commentCount'] = len(record.comments)
	return out
