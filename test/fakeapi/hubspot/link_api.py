"""Association endpoints v3, v4 and dated, and label definitions (A9)."""
from ..message import ApiError, Reply
from . import batch, errors, objects

READ_MOST, WRITE_MOST = 1000, 2000


def _id(api, version, value):
	"""v4 shows some ids as numbers, dated versions as strings (A9)."""
	return int(value) if version == 'v4' and api.config['v4_numeric_ids'] and str(value).isdigit() else str(value)


def _both(api, source, source_id, target, target_id):
	"""The two live records of a pair, or a 404."""
	return api.store.get(source, source_id), api.store.get(target, target_id)


def _labelled(api, version, record, other, link_types):
	"""LabelsBetweenObjectPair: only the labels of this request."""
	return {'fromObjectTypeId': record.kind.id, 'fromObjectId': _id(api, version, record.id),
			'toObjectTypeId': other.kind.id, 'toObjectId': _id(api, version, other.id),
			'labels': [d.label for d in link_types if d.label is not None]}


def _put(api, record, other, link_types):
	put = api.links.replace if api.config['put_labels'] == 'replace' else api.links.add
	put(record, other, link_types)


def _near(api, version, record, target):
	return [{'toObjectId': _id(api, version, oid), 'associationTypes': [d.to_json() for d in ds]}
			for oid, ds in api.links.to(record, target)]


def _page(items, after, limit, key):
	"""A slice of items after an id, and its paging."""
	rest = [i for i in items if int(i[key]) > int(after or 0)]
	paging = {'next': {'after': str(rest[limit - 1][key])}} if len(rest) > limit else None
	return rest[:limit], paging


# -- singles: /{objects}/{t}/{id}/associations/...

def single(api, call, version, kind, key, rest):
	"""rest: the path after `associations`."""
	if rest[:1] == ['default'] and len(rest) == 3 and call.method == 'PUT':
		return _default(api, kind, key, api.types.resolve(rest[1]), rest[2])
	target = api.types.resolve(rest[0]) if rest else None
	if len(rest) == 1 and call.method == 'GET':
		return _list(api, call, version, kind, key, target)
	if len(rest) == 2 and version != 'v3':
		return _pair(api, call, version, kind, key, target, rest[1])
	if len(rest) == 3 and version == 'v3':
		return _old_pair(api, call, kind, key, target, rest)
	raise errors.no_route()


def _default(api, kind, key, target, target_id):
	record, other = _both(api, kind, key, target, target_id)
	return batch.response(api, _associate_default(api, record, other))


def _associate_default(api, record, other):
	plain = api.links.plain(record.kind, other.kind)
	api.links.add(record, other, [plain])
	pairs = [(record, other, plain)]
	if api.config['default_shows_inverse']:
		pairs.append((other, record, api.links.defs[plain.inverse]))
	return [{'from': {'id': a.id}, 'to': {'id': b.id},
			 'associationSpec': {'associationCategory': d.category, 'associationTypeId': d.id}} for a, b, d in pairs]


def _list(api, call, version, kind, key, target):
	"""Reading by a merged-away id gives an empty list (A6)."""
	merged = key in api.store.merged.get(kind.id, {})
	record = api.store.get(kind, key)
	if version == 'v3':
		items = [{'id': oid, 'type': d.name} for oid, ds in api.links.to(record, target) for d in ds]
		return Reply(200, {'results': [] if merged else items})
	page, paging = _page(_near(api, version, record, target), call.arg('after'),
						 objects.int_arg(call, 'limit', 500, 500), 'toObjectId')
	body = {'results': [] if merged else page}
	if paging and not merged:
		body['paging'] = paging
	return Reply(200, body)


def _pair(api, call, version, kind, key, target, target_id):
	if call.method == 'DELETE':
		record, other = api.store.find(kind, key), api.store.find(target, target_id)
		if record is not None and other is not None:
			api.links.remove(record, other)
		return Reply(204)
	if call.method != 'PUT':
		raise errors.no_route()
	record, other = _both(api, kind, key, target, target_id)
	link_types = api.links.spec(api.body(call, list), kind, target)
	_put(api, record, other, link_types)
	return Reply(201, _labelled(api, version, record, other, link_types))


def _old_pair(api, call, kind, key, target, rest):
	"""v3: the association type is the last path segment."""
	record, other = _both(api, kind, key, target, rest[1])
	link_type = api.links.named(kind, target, rest[2])
	if call.method == 'PUT':
		api.links.add(record, other, [link_type])
		out = objects.chosen(api, record, [])
		out['associations'] = objects.inline_links(api, record, [target.id])
		return Reply(200, out)
	if call.method == 'DELETE':
		api.links.remove_types(record, other, [link_type])
		return Reply(204)
	raise errors.no_route()


# -- batches and definitions: /associations/{from}/{to}/...

def route(api, call, version, rest):
	"""rest: the path after `associations`."""
	if len(rest) < 3:
		raise errors.no_route()
	source, target = api.types.resolve(rest[0]), api.types.resolve(rest[1])
	action = '/'.join(rest[2:])
	if rest[2] == 'labels':
		return _labels(api, call, source, target, rest[3:])
	if action == 'types' and call.method == 'GET':
		api.links.plain(source, target)
		return Reply(200, {'results': [{'id': str(d.id), 'name': d.name} for d in api.links.between(source, target)]})
	table = V3 if version == 'v3' else V4
	if action not in table or call.method != 'POST':
		raise errors.no_route()
	return table[action](api, call, version, source, target)


def _ends(api, item, source, target):
	return _both(api, source, (item.get('from') or {}).get('id'), target, (item.get('to') or {}).get('id'))


def _each(items, work):
	"""A batch of associations fails item by item (207)."""
	results, problems = [], []
	for item in items:
		try:
			results += work(item)
		except ApiError as err:
			ends = {k: [str(item[k]['id'])] for k in ('from', 'to') if isinstance(item.get(k), dict)}
			problems.append(errors.item_error(err, **{f'{k}ObjectId': v for k, v in ends.items()}))
	return results, problems


def _create_v3(api, call, version, source, target):
	def work(item):
		record, other = _ends(api, item, source, target)
		link_type = api.links.named(source, target, item.get('type'))
		api.links.add(record, other, [link_type])
		return [{'from': {'id': record.id}, 'to': {'id': other.id}, 'type': item.get('type') or link_type.name}]
	results, problems = _each(batch.inputs(api, call, WRITE_MOST), work)
	return batch.response(api, results, problems, 201, version)


def _archive_v3(api, call, _version, source, target):
	for item in batch.inputs(api, call, WRITE_MOST):
		record = api.store.find(source, (item.get('from') or {}).get('id'))
		other = api.store.find(target, (item.get('to') or {}).get('id'))
		if record is not None and other is not None:
			api.links.remove_types(record, other, [api.links.named(source, target, item.get('type'))])
	return Reply(204)


def _read_v3(api, call, version, source, target):
	def work(item):
		record = api.store.get(source, item.get('id'))
		to = [{'id': oid, 'type': d.name} for oid, ds in api.links.to(record, target) for d in ds]
		if record.id != str(item['id']):
			_none_found(item)
		return [{'from': {'id': str(item['id'])}, 'to': to}] if to else _none_found(item)
	results, problems = _each(batch.inputs(api, call, READ_MOST), work)
	return batch.response(api, results, problems, 200, version)


def _none_found(item):
	"""An id without associations, or merged away (A6), is an error entry of a 207, not a failure (A9)."""
	raise errors.error(404, f'No associations found for id {item.get("id")}', 'OBJECT_NOT_FOUND',
					   subCategory='crm.associations.NO_ASSOCIATIONS_FOUND')


def _create(api, call, version, source, target):
	def work(item):
		record, other = _ends(api, item, source, target)
		link_types = api.links.spec(item.get('types'), source, target)
		_put(api, record, other, link_types)
		return [_labelled(api, version, record, other, link_types)]
	results, problems = _each(batch.inputs(api, call, WRITE_MOST), work)
	return batch.response(api, results, problems, 200 if batch.is_late(version) else 201, version)


def _create_default(api, call, version, source, target):
	def work(item):
		return _associate_default(api, *_ends(api, item, source, target))
	results, problems = _each(batch.inputs(api, call, WRITE_MOST), work)
	return batch.response(api, results, problems, 200, version)


def _gone(api, version):
	"""v4: 204; dated: 200 with an empty BatchResponse (A9)."""
	return batch.response(api, []) if version[:1] == '2' else Reply(204)


def _archive(api, call, version, source, target):
	for item in batch.inputs(api, call, WRITE_MOST):
		record = api.store.find(source, (item.get('from') or {}).get('id'))
		for end in item.get('to') or []:
			other = api.store.find(target, end.get('id'))
			if record is not None and other is not None:
				api.links.remove(record, other)
	return _gone(api, version)


def _archive_labels(api, call, version, source, target):
	for item in batch.inputs(api, call, WRITE_MOST):
		record = api.store.find(source, (item.get('from') or {}).get('id'))
		other = api.store.find(target, (item.get('to') or {}).get('id'))
		link_types = api.links.spec(item.get('types'), source, target)
		if record is not None and other is not None:
			api.links.remove_types(record, other, link_types)
	return _gone(api, version)


def _read(api, call, version, source, target):
	limit = api.config['association_page']

	def work(item):
		record = api.store.get(source, item.get('id'))
		page, paging = _page(_near(api, version, record, target), item.get('after'), limit, 'toObjectId')
		if not page or record.id != str(item['id']):
			_none_found(item)
		out = {'from': {'id': str(item['id'])}, 'to': page}
		if paging:
			out['paging'] = paging
		return [out]
	results, problems = _each(batch.inputs(api, call, READ_MOST), work)
	return batch.response(api, results, problems, 200, version)


V3 = {'batch/create': _create_v3, 'batch/archive': _archive_v3, 'batch/read': _read_v3}
V4 = {'batch/create': _create, 'batch/archive': _archive, 'batch/read': _read,
	  'batch/associate/default': _create_default, 'batch/labels/archive': _archive_labels}


# -- label definitions

def _labels(api, call, source, target, rest):
	method = call.method
	if method == 'GET' and not rest:
		api.links.plain(source, target)
		return Reply(200, {'results': [d.to_json() for d in api.links.between(source, target)]})
	if method == 'POST' and not rest:
		return _label_create(api, api.body(call), source, target)
	if method == 'PUT' and not rest:
		body = api.body(call)
		d = _own_label(api, body.get('associationTypeId'), source, target)
		d.label = body.get('label', d.label)
		back = api.links.defs[d.inverse]
		back.label = body.get('inverseLabel', back.label)
		api.store.version += 1
		return Reply(204)
	if method == 'DELETE' and len(rest) == 1:
		api.links.undefine(_own_label(api, rest[0], source, target))
		return Reply(204)
	raise errors.no_route()


def _label_create(api, body, source, target):
	if not body.get('label') or not body.get('name'):
		raise errors.invalid('label and name are required')
	if any(d.name == body['name'] for d in api.links.between(source, target)):
		raise errors.invalid(f'An association label named {body["name"]} exists already')
	api.links.plain(source, target)
	d = api.links.define(source, target, body['label'], body['name'], body.get('inverseLabel'))
	both = dict.fromkeys((d, api.links.defs[d.inverse]))
	return Reply(200, {'results': [x.to_json() for x in both]})


def _own_label(api, type_id, source, target):
	d = api.links.defs.get(int(type_id) if str(type_id).isdigit() else -1)
	if d is None or (d.source, d.target) != (source.id, target.id) or d.category != 'USER_DEFINED' or d.label is None:
		raise errors.invalid(f'{type_id} is not a user defined label of this pair')
	return d
