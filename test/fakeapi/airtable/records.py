"""Writes and single reads of records (B2): single, batch, upsert, attachments, comments."""
import base64
import binascii

from ..message import Reply
from . import cells, errors, formula
from .store import Change, new_id

MOST = 10
MERGEABLE = {'number', 'currency', 'percent', 'singleLineText', 'multilineText', 'singleSelect', 'multipleSelects',
			 'date', 'email', 'url', 'phoneNumber'}


def truthy(value):
	return value in (True, 'true', '1', 1)


def _options(call, body):
	return truthy(body.get('typecast')), truthy(body.get('returnFieldsByFieldId', call.arg('returnFieldsByFieldId')))


def _fields(body):
	if not isinstance(body.get('fields'), dict):
		raise errors.error(422, 'INVALID_REQUEST_MISSING_FIELDS', 'Could not find field "fields" in the request body')
	return body['fields']


def _resolve(table, given):
	"""{name or id: value} -> [(Field, value)]"""
	out = []
	for key, value in given.items():
		field = table.field(key)
		if field is None:
			raise errors.error(422, 'UNKNOWN_FIELD_NAME', f'Unknown field name: "{key}"')
		out.append((field, value))
	return out


def _check(api, base, table, given, typecast):
	"""Raise what the write would raise, change nothing (batches are all or nothing)."""
	for field, value in _resolve(table, given):
		cells.clean(api, base, field, value, typecast)


def _write(api, base, change, table, record, given, typecast, whole=False):
	"""Store cells; `whole` (PUT) empties the writable ones that are not named."""
	named = _resolve(table, given)
	if whole:
		kept = {f.id for f, _ in named}
		for field in list(table.fields.values()):
			if field.id not in kept and not field.computed:
				base.set(change, table, record, field, None)
	for field, value in named:
		base.set(change, table, record, field, cells.clean(api, base, field, value, typecast, change))


def _done(api, base, change, body):
	"""Commit, and tell of attachments that failed with a 200 (B2)."""
	base.commit(change)
	if api.partial:
		body['details'] = {'message': 'partialSuccess', 'reasons': sorted(set(api.partial))}
		api.partial.clear()
	return Reply(200, body)


# -- create, update, upsert

def create(api, call, base, table):
	body = api.body(call)
	typecast, by_id = _options(call, body)
	many = 'records' in body
	items = _batch(body) if many else [body]
	for item in items:
		_check(api, base, table, _fields(item), typecast)
	change, made = Change(), []
	for item in items:
		record = base.insert(change, table)
		_write(api, base, change, table, record, _fields(item), typecast)
		made.append(record)
	shown = [cells.show(api, base, table, r, by_id) for r in made]
	return _done(api, base, change, {'records': shown} if many else shown[0])


def _batch(body):
	items = body.get('records')
	if not isinstance(items, list) or not 1 <= len(items) <= MOST or not all(isinstance(i, dict) for i in items):
		raise errors.invalid()
	return items


def update(api, call, base, table, whole):
	"""Batch PATCH and PUT: refuses ids of other tables (B2)."""
	body = api.body(call)
	items = _batch(body)
	if body.get('performUpsert'):
		return _upsert(api, call, base, table, whole, body, items)
	typecast, by_id = _options(call, body)
	ids = [i.get('id') for i in items]
	if len(set(ids)) != len(ids):
		raise errors.invalid('You cannot update the same record multiple times in a single request.', 'INVALID_RECORDS')
	for item in items:
		if item.get('id') not in table.records:
			raise errors.no_row(item.get('id'))
		_check(api, base, table, _fields(item), typecast)
	change = Change()
	for item in items:
		_write(api, base, change, table, table.records[item['id']], item['fields'], typecast, whole)
	return _done(api, base, change, {'records': [cells.show(api, base, table, table.records[i], by_id) for i in ids]})


def update_one(api, call, base, record_id, whole):
	"""Single PATCH and PUT: the table in the path does not matter (B2)."""
	table, record = base.record(record_id)
	if record is None:
		raise errors.not_found()
	body = api.body(call)
	typecast, by_id = _options(call, body)
	_check(api, base, table, _fields(body), typecast)
	change = Change()
	_write(api, base, change, table, record, body['fields'], typecast, whole)
	return _done(api, base, change, cells.show(api, base, table, record, by_id))


def _merge_fields(table, given):
	names = given.get('fieldsToMergeOn') if isinstance(given, dict) else None
	if not isinstance(names, list) or not 1 <= len(names) <= 3:
		raise errors.invalid('fieldsToMergeOn must name one to three fields')
	out = [table.field(n) for n in names]
	for name, field in zip(names, out):
		if field is None:
			raise errors.error(422, 'UNKNOWN_FIELD_NAME', f'Unknown field name: "{name}"')
		if field.kind not in MERGEABLE:
			raise errors.invalid(f'Field "{name}" of type {field.kind} can not be merged on')
	return out


def _matches(api, base, table, item, merge_on):
	"""The one row that an upsert item means, None to create; several fail the request."""
	given = {f.id: v for f, v in _resolve(table, _fields(item))}
	missing = [f.name for f in merge_on if f.id not in given]
	if missing:
		raise errors.invalid(f'Field to merge on is missing: {missing[0]}')
	wanted = {f.id: cells.clean(api, base, f, given[f.id], True) for f in merge_on}
	found = [r for r in table.records.values() if all(r.cells.get(k) == v for k, v in wanted.items())]
	if len(found) > 1:
		raise errors.invalid('Cannot update more than one record for one upsert item', 'INVALID_RECORDS')
	return found[0] if found else None


def _upsert(api, call, base, table, whole, body, items):
	typecast, by_id = _options(call, body)
	merge_on = _merge_fields(table, body['performUpsert'])
	targets = []
	for item in items:
		if item.get('id') and item['id'] not in table.records:
			raise errors.no_row(item['id'])
		_check(api, base, table, _fields(item), typecast)
		targets.append(table.records[item['id']] if item.get('id') else _matches(api, base, table, item, merge_on))
	change, rows, created = Change(), [], []
	for item, record in zip(items, targets):
		if record is None:
			record = base.insert(change, table)
			created.append(record.id)
		_write(api, base, change, table, record, item['fields'], typecast, whole and record.id not in created)
		rows.append(record)
	out = {'records': [cells.show(api, base, table, r, by_id) for r in rows],
		   'updatedRecords': [r.id for r in rows if r.id not in created], 'createdRecords': created}
	return _done(api, base, change, out)


# -- read and delete

def read(api, call, base, record_id):
	"""A record found anywhere in the base is returned (B2)."""
	table, record = base.record(record_id)
	if record is None:
		raise errors.not_found()
	as_text = string_format(call.arg('cellFormat'), call.arg('timeZone'), call.arg('userLocale'))
	return Reply(200, cells.show(api, base, table, record, truthy(call.arg('returnFieldsByFieldId')), as_text))


def string_format(cell_format, zone, locale):
	if cell_format != 'string':
		return False
	if not zone or not locale:
		raise errors.invalid('timeZone and userLocale are required with cellFormat "string"')
	return True


def delete_one(_api, base, record_id):
	table, record = base.record(record_id)
	if record is None:
		raise errors.not_found()
	change = Change()
	base.delete(change, table, record)
	base.commit(change)
	return Reply(200, {'id': record_id, 'deleted': True})


def delete(_api, call, base, table):
	ids = [v for k, v in call.args if k == 'records' or k.startswith('records[')]
	if not 1 <= len(ids) <= MOST:
		raise errors.invalid()
	if any(i not in table.records for i in ids):
		raise errors.not_found()
	change = Change()
	for rid in dict.fromkeys(ids):
		base.delete(change, table, table.records[rid])
	base.commit(change)
	return Reply(200, {'records': [{'id': i, 'deleted': True} for i in ids]})


# -- attachments and comments

def upload(api, call, base, record_id, field_key):
	"""content.airtable.com: no table in the path, the answer is keyed by field id and holds only that field."""
	table, record = base.record(record_id)
	field = table.field(field_key) if table else None
	if field is None:
		raise errors.not_found()
	if field.kind != 'multipleAttachments':
		raise errors.invalid(f'Field "{field.name}" is not an attachment field')
	body = api.body(call)
	if not all(isinstance(body.get(k), str) for k in ('contentType', 'filename', 'file')):
		raise errors.error(422, 'INVALID_REQUEST_MISSING_FIELDS', 'contentType, filename and file are required')
	try:
		raw = base64.b64decode(body['file'], validate=True)
	except binascii.Error:
		raise errors.invalid('file must be base64') from None
	if len(raw) > 5 << 20:
		raise errors.error(413, 'REQUEST_TOO_LARGE', 'The file is over 5 MB')
	new = cells.new_attachment(api, body['filename'], body['filename'], len(raw), body['contentType'])
	change = Change()
	base.set(change, table, record, field, [*record.cells.get(field.id, []), new])
	out = cells.show(api, base, table, record, True, only={field.id})
	return _done(api, base, change, out)


def comments(api, call, base, record_id, rest):
	_, record = base.record(record_id)
	if record is None:
		raise errors.not_found()
	if not rest and call.method == 'GET':
		return Reply(200, {'comments': record.comments, 'offset': None})
	if not rest and call.method == 'POST':
		body = api.body(call)
		if not isinstance(body.get('text'), str):
			raise errors.invalid()
		made = {'id': new_id('com'), 'author': dict(cells.AUTHOR), 'text': body['text'],
				'createdTime': formula.iso(api.clock.now()), 'lastUpdatedTime': None}
		if body.get('parentCommentId'):
			made['parentCommentId'] = body['parentCommentId']
		record.comments.append(made)
		return Reply(200, made)
	held = next((c for c in record.comments if rest and c['id'] == rest[0]), None)
	if held is None or call.method not in ('PATCH', 'DELETE'):
		raise errors.not_found()
	if call.method == 'DELETE':
		record.comments.remove(held)
		return Reply(200, {'id': held['id'], 'deleted': True})
	held.update(text=api.body(call).get('text'), lastUpdatedTime=formula.iso(api.clock.now()))
	return Reply(200, held)
