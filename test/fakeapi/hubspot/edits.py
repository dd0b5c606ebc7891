"""Out-of-band edits and the whole state, for the control plane (README.md lists the edits)."""
from . import meta
from .values import iso, parse_time


def _ids(api, spec):
	kind = api.types.resolve(spec['type'])
	ids = spec.get('ids', [spec.get('id')])
	if ids == 'all':
		ids = [r.id for r in api.store.of(kind).values() if not r.archived]
	return kind, [str(i) for i in ids]


def _create(api, spec):
	"""`count` records from one template; {n} in values is the number."""
	kind = api.types.resolve(spec['type'])
	ids = []
	for n in range(int(spec.get('count', 1))):
		given = {k: v.replace('{n}', str(n)) if isinstance(v, str) else v
				 for k, v in (spec.get('properties') or {}).items()}
		ids.append(api.store.create(kind, api.store.check(kind, given)).id)
	return {'ids': ids, 'id': ids[-1] if ids else None}


def _update(api, spec):
	kind, ids = _ids(api, spec)
	for key in ids:
		record = api.store.get(kind, key)
		api.store.update(record, api.store.check(kind, spec['properties'], record))
	return {'ids': ids}


def _raw(api, spec):
	"""Any value into any property, unchecked: HubSpot holds historic invalid values (A13)."""
	kind, ids = _ids(api, spec)
	for key in ids:
		record = api.store.get(kind, key)
		now = api.clock.now()
		for name, value in spec['properties'].items():
			record.put(name, value, now)
		if spec.get('bump', True):
			api.store.touch(record, now)
		else:
			api.store.version += 1
	return {'ids': ids}


def _archive(api, spec):
	kind, ids = _ids(api, spec)
	for key in ids:
		api.store.archive(api.store.get(kind, key))
	return {'ids': ids}


def _restore(api, spec):
	kind, ids = _ids(api, spec)
	for key in ids:
		api.store.restore(api.store.get(kind, key, archived=True))
	return {'ids': ids}


def _purge(api, spec):
	kind, ids = _ids(api, spec)
	for key in ids:
		api.store.purge(api.store.get(kind, key))
	return {'ids': ids}


def _merge(api, spec):
	kind = api.types.resolve(spec['type'])
	return {'id': api.store.merge(kind, spec['primary'], spec['other']).id}


def _set_updated(api, spec):
	"""Give records one last-modified time (tied timestamps, A8)."""
	kind, ids = _ids(api, spec)
	at = parse_time(spec['at'])
	for key in ids:
		record = api.store.get(kind, key)
		record.updated = at
		api.store.touch(record, at)
	return {'ids': ids, 'updatedAt': iso(at)}


def _pair(api, spec):
	source, target = api.types.resolve(spec['from_type']), api.types.resolve(spec['to_type'])
	return api.store.get(source, spec['from_id']), api.store.get(target, spec['to_id'])


def _associate(api, spec):
	record, other = _pair(api, spec)
	defs = api.links.defs
	api.links.add(record, other, [defs[int(i)] for i in spec.get('type_ids', [])])
	return {'ok': True}


def _dissociate(api, spec):
	record, other = _pair(api, spec)
	if spec.get('type_ids'):
		api.links.remove_types(record, other, [api.links.defs[int(i)] for i in spec['type_ids']])
	else:
		api.links.remove(record, other)
	return {'ok': True}


def _property_create(api, spec):
	body = {'groupName': 'information', 'fieldType': 'text', 'type': 'string', 'label': spec['property']['name'],
			**spec['property']}
	return meta.property_create(api, api.types.resolve(spec['type']), body)


def _property_archive(api, spec):
	meta.property_archive(api, api.types.resolve(spec['type']), spec['name'])
	return {'ok': True}


EDITS = {'create': _create, 'update': _update, 'raw': _raw, 'archive': _archive, 'delete': _archive,
		 'restore': _restore, 'purge': _purge, 'merge': _merge, 'set_updated': _set_updated,
		 'associate': _associate, 'dissociate': _dissociate, 'property_create': _property_create,
		 'property_archive': _property_archive}


def edit(api, spec):
	return EDITS[spec['op']](api, spec)


def _whole(record):
	return {'id': record.id, 'properties': record.props, 'createdAt': iso(record.created),
			'updatedAt': iso(record.updated), 'archived': record.archived,
			'archivedAt': None if record.archived_at is None else iso(record.archived_at)}


def state(api, args):
	"""Everything, or one type with ?type=."""
	kinds = [api.types.resolve(args['type'])] if 'type' in args else list(api.types.by_id.values())
	records = {k.id: [_whole(r) for r in api.store.of(k).values()] for k in kinds if api.store.of(k)}
	out = {'version': api.version, 'records': records, 'merged': api.store.merged,
		   'associations': api.links.all(), 'blocklist': sorted(api.store.blocklist)}
	if 'meta' in args:
		out['types'] = {k.id: {'plural': k.plural, 'singular': k.singular, 'fqn': k.fqn,
							   'properties': {n: p['type'] for n, p in k.properties.items() if not p['archived']}}
						for k in kinds}
		out['owners'] = api.owners
		out['pipelines'] = api.pipelines
	return out
