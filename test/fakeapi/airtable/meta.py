"""The schema API (B7): bases, tables, fields; there is no delete."""
import copy

from ..message import Reply
from . import errors
from .cells import AUTHOR
from .store import Change, Field, Table, new_id

CREATABLE = {'singleLineText', 'multilineText', 'richText', 'email', 'url', 'phoneNumber', 'number', 'currency',
			 'percent', 'duration', 'rating', 'checkbox', 'date', 'dateTime', 'singleSelect', 'multipleSelects',
			 'singleCollaborator', 'multipleCollaborators', 'multipleRecordLinks', 'multipleAttachments', 'barcode'}
NEEDS_OPTIONS = {'number', 'currency', 'percent', 'duration', 'rating', 'checkbox', 'date', 'dateTime', 'singleSelect',
				 'multipleSelects', 'multipleRecordLinks'}


def route(api, call, rest):
	"""rest: the path after /v0/meta."""
	if rest == ['whoami'] and call.method == 'GET':
		return Reply(200, {'id': AUTHOR['id'], 'email': AUTHOR['email'], 'scopes': api.config['scopes']})
	if rest == ['bases'] and call.method == 'GET':
		return Reply(200, {'bases': [{'id': b.id, 'name': b.name, 'permissionLevel': 'create'}
									 for b in api.bases.values()]})
	if rest[:1] != ['bases'] or len(rest) < 3 or rest[2] != 'tables':
		raise errors.not_found()
	base = api.base(rest[1])
	return _tables(api, call, base, rest[3:])


def _tables(api, call, base, rest):
	if not rest and call.method == 'GET':
		return Reply(200, {'tables': [t.to_json() for t in base.tables.values()]})
	body = api.body(call)
	if not rest and call.method == 'POST':
		return Reply(200, create_table(base, body).to_json())
	table = base.tables.get(rest[0]) if rest else None
	if table is None:
		raise errors.no_model()
	if len(rest) == 1 and call.method == 'PATCH':
		return Reply(200, patch_table(base, table, body).to_json())
	if rest[1:2] == ['fields']:
		return _fields(base, call, table, rest[2:], body)
	raise errors.not_found()


def _fields(base, call, table, rest, body):
	if not rest and call.method == 'POST':
		return Reply(200, create_field(base, table, body).to_json())
	field = table.fields.get(rest[0]) if len(rest) == 1 else None
	if field is None or call.method != 'PATCH':
		raise errors.not_found()
	return Reply(200, patch_field(base, table, field, body).to_json())


def _name(body, taken):
	name = body.get('name')
	if not isinstance(name, str) or not name.strip():
		raise errors.invalid('name is required')
	if name in taken:
		raise errors.error(422, 'DUPLICATE_OR_EMPTY_FIELD_NAME', f'The name "{name}" is taken')
	return name


def create_table(base, body):
	name = _name(body, {t.name for t in base.tables.values()})
	if not isinstance(body.get('fields'), list) or not body['fields']:
		raise errors.invalid('a table needs at least one field')
	table = Table(new_id('tbl'), name, body.get('description'))
	change = Change()
	for spec in body['fields']:
		_add_field(base, table, spec, change)
	base.add_table(table)
	change.new_tables.append(table)
	base.commit(change)
	return table


def create_field(base, table, body):
	change = Change()
	field = _add_field(base, table, body, change)
	base.commit(change)
	return field


def _add_field(base, table, body, change):
	name = _name(body, {f.name for f in table.fields.values()})
	kind = body.get('type')
	if kind not in CREATABLE:
		raise errors.error(422, 'UNSUPPORTED_FIELD_TYPE_FOR_CREATE', f'Creating {kind} fields is not supported')
	if kind in NEEDS_OPTIONS and not isinstance(body.get('options'), dict):
		raise errors.invalid(f'options are required for {kind}')
	options = copy.deepcopy(body.get('options'))
	for choice in (options or {}).get('choices', []):
		choice.setdefault('id', new_id('sel'))
		choice.setdefault('color', 'blueLight2')
	field = Field(new_id('fld'), name, kind, options, body.get('description'))
	if kind == 'multipleRecordLinks':
		_add_inverse(base, table, field, change)
	table.add_field(field)
	change.new_fields.setdefault(table.id, []).append(field)
	return field


def _add_inverse(base, table, field, change):
	"""A link field brings its mirror image in the other table."""
	other = base.tables.get(field.options.get('linkedTableId'))
	if other is None:
		raise errors.invalid('linkedTableId is not a table of this base')
	field.options.update(isReversed=False, prefersSingleRecordLink=field.options.get('prefersSingleRecordLink', False))
	back = Field(new_id('fld'), _free_name(other, table.name), 'multipleRecordLinks',
				 {'linkedTableId': table.id, 'isReversed': True, 'prefersSingleRecordLink': False,
				  'inverseLinkFieldId': field.id})
	field.options['inverseLinkFieldId'] = back.id
	other.add_field(back)
	change.new_fields.setdefault(other.id, []).append(back)


def _free_name(table, name):
	taken = {f.name for f in table.fields.values()}
	return next(n for n in (name, *(f'{name} {i}' for i in range(2, 1000))) if n not in taken)


def patch_table(base, table, body):
	old = table.name
	if 'name' in body and body['name'] != old:
		table.name = _name(body, {t.name for t in base.tables.values()})
	table.description = body.get('description', table.description)
	change = Change()
	change.renamed[table.id] = (old, table)
	base.commit(change)
	return table


def patch_field(base, table, field, body):
	old = field.name
	if 'name' in body and body['name'] != old:
		field.name = _name(body, {f.name for f in table.fields.values()})
	field.description = body.get('description', field.description)
	change = Change()
	change.changed_fields.setdefault(table.id, {})[field.id] = (old, field)
	base.commit(change)
	return field
