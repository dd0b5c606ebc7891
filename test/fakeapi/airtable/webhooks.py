"""Webhooks as a pollable feed (B10): payloads by cursor, retention, filters."""
import base64
import os

from ..message import Reply
from . import cells, errors
from .formula import iso
from .store import new_id

WEEK = 7 * 86400000
MOST_HOOKS, MOST_PAYLOADS = 10, 50


class Hook:
	"""One webhook and its payloads; cursors count from 1."""

	def __init__(self, spec, url, now):
		self.id = new_id('ach')
		self.spec = spec
		self.url = url
		self.expires = now + WEEK
		self.enabled = True
		self.payloads = []			# (cursor, time, payload)
		self.next = 1

	@property
	def filters(self):
		return self.spec.get('options', {}).get('filters', {})

	def add(self, now, payload):
		self.payloads.append((self.next, now, payload))
		self.next += 1

	def to_json(self):
		return {'id': self.id, 'specification': self.spec, 'notificationUrl': self.url,
				'cursorForNextPayload': self.next, 'areNotificationsEnabled': self.enabled,
				'lastSuccessfulNotificationTime': None, 'isHookEnabled': True, 'expirationTime': iso(self.expires),
				'lastNotificationResult': None}


def route(api, call, base, rest):
	"""rest: the path after /v0/bases/{base}/webhooks."""
	if not rest and call.method == 'GET':
		return Reply(200, {'webhooks': [h.to_json() for h in base.hooks.values()]})
	if not rest and call.method == 'POST':
		return _create(api, call, base)
	hook = base.hooks.get(rest[0]) if rest else None
	if hook is None:
		raise errors.not_found()
	action = (call.method, *rest[1:])
	if action == ('DELETE',):
		del base.hooks[hook.id]
		return Reply(200, {})
	if action == ('POST', 'refresh'):
		hook.expires = api.clock.now() + WEEK
		return Reply(200, {'expirationTime': iso(hook.expires)})
	if action == ('POST', 'enableNotifications'):
		hook.enabled = bool(api.body(call).get('enable'))
		return Reply(200, {})
	if action == ('GET', 'payloads'):
		return _payloads(api, call, hook)
	raise errors.not_found()


def _create(api, call, base):
	body = api.body(call)
	spec = body.get('specification')
	types = spec.get('options', {}).get('filters', {}).get('dataTypes') if isinstance(spec, dict) else None
	if not types or not set(types) <= {'tableData', 'tableFields', 'tableMetadata'}:
		raise errors.invalid('specification.options.filters.dataTypes is required')
	if 'webhook:manage' not in api.config['scopes']:
		raise errors.error(403, 'INVALID_PERMISSIONS', 'webhook:manage is required')
	if len(base.hooks) >= MOST_HOOKS:
		raise errors.error(403, 'TOO_MANY_WEBHOOKS_BY_OAUTH_INTEGRATION_IN_APPLICATION')
	hook = Hook(spec, body.get('notificationUrl'), api.clock.now())
	base.hooks[hook.id] = hook
	return Reply(200, {'id': hook.id, 'macSecretBase64': base64.b64encode(os.urandom(32)).decode(),
					   'expirationTime': iso(hook.expires)})


def _payloads(api, call, hook):
	"""A list call prolongs the hook's life; old payloads are gone, the cursor jumps over them."""
	now = api.clock.now()
	cursor, limit = call.arg('cursor') or '1', call.arg('limit') or str(MOST_PAYLOADS)
	if not cursor.isdigit() or int(cursor) < 1 or not limit.isdigit() or not 1 <= int(limit) <= MOST_PAYLOADS:
		raise errors.invalid()
	if int(cursor) > hook.next:
		raise errors.error(422, 'INVALID_WEBHOOK_CURSOR', 'The cursor is beyond the last payload')
	keep = now - api.config['payload_retention_s'] * 1000
	hook.payloads = [p for p in hook.payloads if p[1] >= keep]
	waiting = [p for p in hook.payloads if p[0] >= int(cursor)]
	page = waiting[:int(limit)]
	if now < hook.expires:
		hook.expires = now + WEEK
	return Reply(200, {'cursor': page[-1][0] + 1 if page else max(int(cursor), hook.next),
					   'mightHaveMore': len(waiting) > len(page), 'payloadFormat': 'v0',
					   'payloads': [p[2] for p in page]})


# -- from a Change to payloads

def record_change(api, base, change):
	"""Append a payload to every hook that watches something of it."""
	now = api.clock.now()
	for hook in base.hooks.values():
		if hook.expires + WEEK < now or hook.expires < now:
			continue
		body = _payload(api, base, hook, change)
		if body:
			hook.add(now, {'timestamp': iso(now), 'baseTransactionNumber': base.transactions, 'payloadFormat': 'v0',
						   'actionMetadata': {'source': change.source, 'sourceMetadata': {'user': dict(cells.AUTHOR)}},
						   **body})


def _payload(api, base, hook, change):
	filters = hook.filters
	kinds, scope = set(filters['dataTypes']), filters.get('recordChangeScope')
	if filters.get('fromSources') and change.source not in filters['fromSources']:
		return None
	tables = {}
	if 'tableData' in kinds:
		_table_data(api, base, hook, change, tables, scope)
	if 'tableFields' in kinds:
		_table_fields(change, tables, scope)
	if 'tableMetadata' in kinds:
		for tid, (old, table) in change.renamed.items():
			tables.setdefault(tid, {})['changedMetadata'] = {'current': {'name': table.name}, 'previous': {'name': old}}
	body = {'changedTablesById': tables} if tables else {}
	if change.new_tables and 'tableMetadata' in kinds:
		body['createdTablesById'] = {t.id: {'metadata': {'name': t.name}, 'fieldsById': _field_names(t.fields.values())}
									 for t in change.new_tables}
	if change.lost_tables and 'tableMetadata' in kinds:
		body['destroyedTableIds'] = change.lost_tables
	return body


def _field_names(fields):
	return {f.id: {'name': f.name, 'type': f.kind} for f in fields}


def _table_fields(change, tables, scope):
	for tid, fields in change.new_fields.items():
		tables.setdefault(tid, {})['createdFieldsById'] = _field_names(fields)
	for tid, fields in change.changed_fields.items():
		tables.setdefault(tid, {})['changedFieldsById'] = {
			fid: {'current': {'name': f.name, 'type': f.kind}, 'previous': {'name': old, 'type': f.kind}}
			for fid, (old, f) in fields.items()}
	for tid, ids in change.lost_fields.items():
		tables.setdefault(tid, {})['destroyedFieldIds'] = ids
	if scope:
		for tid in [t for t in tables if t != scope]:
			del tables[tid]


def _table_data(api, base, hook, change, tables, scope):
	includes = hook.spec.get('options', {}).get('includes', {})
	wanted = includes.get('includeCellValuesInFieldIds')
	for tid, table in base.tables.items():
		if scope and scope != tid:
			continue
		out = {}
		created, changed = change.created.get(tid), change.changed.get(tid)
		if created:
			out['createdRecordsById'] = {
				rid: {'createdTime': iso(r.created), 'cellValuesByFieldId': _cells_v2(api, base, table, r, None)}
				for rid, r in created.items()}
		if changed:
			out['changedRecordsById'] = {
				rid: _changed(api, base, table, table.records[rid], fields, wanted, includes, change)
				for rid, fields in changed.items() if rid in table.records}
		if change.destroyed.get(tid):
			out['destroyedRecordIds'] = change.destroyed[tid]
		if out:
			tables[tid] = out


def _changed(api, base, table, record, fields, wanted, includes, change):
	out = {'current': {'cellValuesByFieldId': _cells_v2(api, base, table, record, fields, empties=True)}}
	if wanted == 'all' or isinstance(wanted, list):
		rest = (set(table.fields) if wanted == 'all' else set(wanted)) - fields
		out['unchanged'] = {'cellValuesByFieldId': _cells_v2(api, base, table, record, rest)}
	if includes.get('includePreviousCellValues'):
		old = change.previous.get(record.id, {})
		out['previous'] = {'cellValuesByFieldId': {f: _v2(base, table.fields[f], old.get(f)) for f in fields}}
	return out


def _cells_v2(api, base, table, record, only, empties=False):
	row, out = cells.Row(api, base, table, record), {}
	for field in table.fields.values():
		if only is None or field.id in only:
			value = row(field)
			if field.kind == 'multipleLookupValues':
				held = row.linked_by(field)
				out[field.id] = {'linkedRecordIds': list(held), 'valuesByLinkedRecordId': held}
			elif empties or value not in (None, False, '', []):
				out[field.id] = _v2(base, field, value)
	return out


def _v2(base, field, value):
	"""The V2 shapes: choices and links as objects, lookups by linked record."""
	if value is None:
		return None
	if field.kind == 'singleSelect':
		return field.choice(value) or {'id': None, 'name': value}
	if field.kind == 'multipleSelects':
		return [field.choice(v) or {'id': None, 'name': v} for v in value]
	if field.kind == 'multipleRecordLinks':
		other = base.tables[field.options['linkedTableId']]
		return [{'id': i, 'name': other.records[i].cells.get(other.primary.id) or ''} for i in value if i in other.records]
	return value
