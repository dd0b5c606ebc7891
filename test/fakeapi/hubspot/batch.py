"""Batches of objects (A4, A10): limits, all-or-nothing without trace ids, 207 with them."""
from ..message import ApiError, Reply
from . import errors, objects
from .values import iso


def inputs(api, call, most=100):
	"""The `inputs` of a batch, or a 400."""
	given = api.body(call).get('inputs')
	if not isinstance(given, list) or not given:
		raise errors.invalid('Invalid input JSON: inputs must be a non-empty array')
	if len(given) > most:
		raise errors.invalid(f'The maximum number of inputs supported in a batch request is {most}, got {len(given)}')
	if not all(isinstance(item, dict) for item in given):
		raise errors.bad_json()
	return given


def is_late(version):
	"""2026-09 and later: no 207 of its own, and plain 200s for some creates (A4, A9, A13)."""
	return version[:1] == '2' and version >= '2026-09'


def response(api, results, problems=(), status=200, version=''):
	"""A BatchResponse; with problems 207, but from 2026-09 on the plain status (A4)."""
	now = iso(api.clock.now())
	if api.config['shuffle_batch']:
		results = list(reversed(results))		# order is not guaranteed (A10)
	body = {'status': 'COMPLETE', 'results': results, 'startedAt': now, 'completedAt': now}
	if problems:
		body['numErrors'] = len(problems)
		body['errors'] = list(problems)
		status = status if is_late(version) else 207
	return Reply(status, body)


def _traced(out, item):
	if 'objectWriteTraceId' in item:
		out['objectWriteTraceId'] = item['objectWriteTraceId']
	return out


def _each(api, items, work, tolerant):
	"""Run work(item) on each; a failing item is an error entry when tolerated, else it raises."""
	results, problems = [], []
	for item in items:
		try:
			results.append(_traced(work(item), item))
		except ApiError as err:
			if not tolerant(item, err):
				raise
			context = {'ids': [str(item['id'])]} if 'id' in item else {}
			problems.append(errors.item_error(err, trace=item.get('objectWriteTraceId'), **context))
	return results, problems


def _all_traced(items):
	return all(item.get('objectWriteTraceId') for item in items)


def _check_all(api, items, check, traced):
	"""Without trace ids one bad input fails the batch before anything is applied."""
	if not traced:
		for item in items:
			check(item)


def create(api, call, kind, version):
	items = inputs(api, call)
	traced = _all_traced(items)

	def check(item):
		api.store.check(kind, item.get('properties') or {})
		objects.plan_links(api, kind, item.get('associations'))

	def work(item):
		record, values = objects.create_one(api, kind, item)
		return objects.echoed(api, record, values, created=True)

	_check_all(api, items, check, traced)
	_no_twins(kind, items)
	results, problems = _each(api, items, work, lambda _i, _e: traced)
	return response(api, results, problems, 201, version)


def _no_twins(kind, items):
	"""Two inputs with one e-mail address fail together."""
	if kind.id != '0-1':
		return
	mails = [str((i.get('properties') or {}).get('email') or '').lower() for i in items]
	twins = {m for m in mails if m and mails.count(m) > 1}
	if twins:
		raise errors.invalid('Duplicate values for unique property email in batch', context={'email': sorted(twins)})


def _no_repeats(items):
	ids = [str(i.get('id')) for i in items]
	twice = sorted({i for i in ids if ids.count(i) > 1})
	if twice:
		raise errors.invalid(f'Duplicate IDs found in batch input: [{", ".join(twice)}]. IDs must be unique',
							 context={'ids': twice})


def update(api, call, kind, version):
	"""Unknown ids are error entries (207); bad values fail everything unless traced."""
	items = inputs(api, call)
	_no_repeats(items)
	traced = _all_traced(items)

	def check(item):
		record = api.store.find(kind, item.get('id'), item.get('idProperty'))
		api.store.check(kind, item.get('properties') or {}, record)

	def work(item):
		record = api.store.get(kind, item.get('id'), item.get('idProperty'))
		values = api.store.check(kind, item.get('properties') or {}, record)
		api.store.update(record, values)
		return objects.echoed(api, record, values)

	_check_all(api, items, check, traced)
	results, problems = _each(api, items, work, lambda _i, e: traced or e.reply.status == 404)
	return response(api, results, problems, 200, version)


def upsert(api, call, kind, version):
	items = inputs(api, call)
	_no_repeats(items)
	traced = _all_traced(items)

	def values_of(item, record):
		given = dict(item.get('properties') or {})
		if item.get('idProperty') and item['idProperty'] != 'hs_object_id':
			given.setdefault(item['idProperty'], item.get('id'))
		return api.store.check(kind, given, record)

	def look(item):
		record = api.store.find(kind, item.get('id'), item.get('idProperty'))
		if record is None and item.get('idProperty') in (None, 'hs_object_id'):
			raise errors.not_found(item.get('id'))
		return record, values_of(item, record)

	def work(item):
		record, values = look(item)
		new = record is None
		if new:
			record = api.store.create(kind, values)
		else:
			api.store.update(record, values)
		return {**objects.echoed(api, record, values, created=new), 'new': new}

	_check_all(api, items, look, traced)
	results, problems = _each(api, items, work, lambda _i, e: traced or e.reply.status == 404)
	return response(api, results, problems, 200, version)


def read(api, call, kind, version):
	body = api.body(call)
	archived = objects.flag(call, 'archived')
	past = body.get('propertiesWithHistory') or []
	items = list({str(i.get('id')): i for i in inputs(api, call)}.values())

	def work(item):
		record = api.store.get(kind, item.get('id'), body.get('idProperty'), archived)
		out = objects.chosen(api, record, (body.get('properties') or []) + past)
		if past:
			out['propertiesWithHistory'] = objects.history(record, past)
		return out

	results, problems = _each(api, items, work, lambda _i, _e: True)
	if problems:
		gone = [i for p in problems for i in p['context'].get('ids', [])]
		problems = [{'status': 'error', 'category': 'OBJECT_NOT_FOUND', 'context': {'ids': gone}, 'links': {},
					 'message': f'Could not get some {kind.plural.upper()} objects, they may be deleted or not exist.'
								' Check that ids are valid.', 'errors': []}]
	results = list({r['id']: r for r in results}.values())
	return response(api, results, problems, 200, version)


def archive(api, call, kind, _version):
	"""204 whether or not the ids exist (A4)."""
	for item in inputs(api, call):
		if str(item.get('id')).isdigit():
			objects.delete(api, call, kind, str(item['id'])) if api.store.find(kind, item['id']) else None
	return Reply(204)
