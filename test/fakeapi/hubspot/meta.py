"""Properties, schemas, owners, pipelines and account information (A12, A13)."""
import copy
import re

from ..message import ApiError, Reply
from . import batch, errors, objects
from .types import ObjectType, fill_properties, make_property
from .values import iso

CREATABLE = {'bool', 'date', 'datetime', 'enumeration', 'number', 'phone_number', 'string', 'json',
			 'object_coordinates'}


# -- properties

def properties(api, call, version, rest):
	"""rest: the path after `properties`."""
	if not rest:
		raise errors.no_route()
	kind, rest = api.types.resolve(rest[0]), rest[1:]
	if rest[:1] == ['batch'] and len(rest) == 2 and call.method == 'POST':
		return _property_batch(api, call, version, kind, rest[1])
	if rest[:1] == ['groups']:
		return Reply(200, {'results': [{'name': 'information', 'label': 'Information', 'displayOrder': 0,
										'archived': False}]})
	if not rest and call.method == 'GET':
		archived = objects.flag(call, 'archived')
		return Reply(200, {'results': [p for p in kind.properties.values() if p['archived'] == archived]})
	if not rest and call.method == 'POST':
		return Reply(201, property_create(api, kind, api.body(call)))
	if len(rest) == 1:
		return _property_one(api, call, kind, rest[0])
	raise errors.no_route()


def _property(kind, name):
	prop = kind.properties.get(name)
	if prop is None or prop['archived']:
		raise errors.error(404, f'Property {name} does not exist', 'OBJECT_NOT_FOUND')
	return prop


def _property_one(api, call, kind, name):
	prop = _property(kind, name)
	if call.method == 'GET':
		return Reply(200, prop)
	if call.method == 'PATCH':
		body = api.body(call)
		if prop['hubspotDefined'] and 'type' in body:
			raise errors.invalid(f'The definition of {name} is read only')
		allowed = ('label', 'description', 'type', 'fieldType', 'groupName', 'options', 'hidden', 'displayOrder')
		prop.update({k: body[k] for k in allowed if k in body})
		prop['updatedAt'] = iso(api.clock.now())
		api.store.version += 1
		return Reply(200, prop)
	if call.method == 'DELETE':
		property_archive(api, kind, name)
		return Reply(204)
	raise errors.no_route()


def property_create(api, kind, body):
	"""Names are lower-cased, as HubSpot does."""
	missing = [k for k in ('name', 'label', 'type', 'fieldType', 'groupName') if not body.get(k)]
	if missing:
		raise errors.invalid(f'Some required fields were not set: [{", ".join(missing)}]')
	name = str(body['name']).lower()
	if not re.match(r'^[a-z][a-z0-9_]*$', name) or body['type'] not in CREATABLE:
		raise errors.invalid(f'Invalid property name or type: {name} {body["type"]}')
	if name in kind.properties and not kind.properties[name]['archived']:
		raise errors.error(409, f'A property named {name} already exists.', 'OBJECT_ALREADY_EXISTS')
	now = iso(api.clock.now())
	more = {k: body[k] for k in ('label', 'description', 'groupName', 'hidden', 'displayOrder', 'externalOptions',
								 'referencedObjectType', 'numberDisplayHint') if k in body}
	prop = make_property(name, body['type'], body['fieldType'], 'u' if body.get('hasUniqueValue') else '',
						 hubspotDefined=False, createdAt=now, updatedAt=now, **more)
	prop['options'] = copy.deepcopy(body.get('options') or [])
	prop['modificationMetadata'] = {'archivable': True, 'readOnlyDefinition': False, 'readOnlyOptions': False,
									'readOnlyValue': False}
	kind.properties[name] = prop
	api.store.version += 1
	return prop


def property_archive(api, kind, name):
	prop = _property(kind, name)
	if prop['hubspotDefined']:
		raise errors.invalid(f'{name} is defined by HubSpot and can not be archived')
	prop['archived'] = True
	prop['archivedAt'] = iso(api.clock.now())
	api.store.version += 1


def _property_batch(api, call, version, kind, action):
	items = batch.inputs(api, call)
	if action == 'archive':
		for item in items:
			name = item.get('name')
			if name in kind.properties and not kind.properties[name]['hubspotDefined']:
				kind.properties[name]['archived'] = True
				api.store.version += 1
		return Reply(204)
	works = {'create': lambda i: property_create(api, kind, i), 'read': lambda i: _property(kind, i.get('name'))}
	if action not in works:
		raise errors.no_route()
	results, problems = [], []
	for item in items:
		try:
			results.append(works[action](item))
		except ApiError as err:
			problems.append(errors.item_error(err, name=[str(item.get('name'))]))
	status = 201 if action == 'create' and not batch.is_late(version) else 200
	return batch.response(api, results, problems, status, version)


# -- schemas of custom objects

def schemas(api, call, rest):
	"""rest: the path after `schemas`."""
	if not rest and call.method == 'GET':
		gone = objects.flag(call, 'archived')
		return Reply(200, {'results': [] if gone else [schema_json(api, k) for k in api.types.custom()]})
	if not rest and call.method == 'POST':
		return Reply(201, schema_json(api, schema_create(api, api.body(call))))
	if not rest:
		raise errors.no_route()
	kind = api.types.find(rest[0])
	if kind is None or not kind.custom:
		raise errors.error(404, f'Unable to find schema {rest[0]}', 'OBJECT_NOT_FOUND')
	if len(rest) > 1:
		return _schema_associations(api, call, kind, rest[1:])
	if call.method == 'GET':
		return Reply(200, schema_json(api, kind))
	if call.method == 'PATCH':
		body = api.body(call)
		kind.labels.update(body.get('labels') or {})
		kind.schema.update({k: body[k] for k in kind.schema if k in body})
		api.store.version += 1
		return Reply(200, schema_json(api, kind))
	if call.method == 'DELETE':
		if any(not r.archived for r in api.store.of(kind).values()):
			raise errors.invalid('All objects of the type must be deleted first')
		api.types.remove(kind)
		api.store.version += 1
		return Reply(204)
	raise errors.no_route()


def _schema_associations(api, call, kind, rest):
	if call.method == 'POST' and rest == ['associations']:
		body = api.body(call)
		target = api.types.resolve(body.get('toObjectTypeId'))
		d = api.links.define(kind, target, None, body.get('name'))
		return Reply(201, {'id': str(d.id), 'fromObjectTypeId': kind.id, 'toObjectTypeId': target.id, 'name': d.name})
	if call.method == 'DELETE' and len(rest) == 2 and rest[1].isdigit() and int(rest[1]) in api.links.defs:
		api.links.undefine(api.links.defs[int(rest[1])])
		return Reply(204)
	raise errors.no_route()


def schema_create(api, body):
	"""A custom object type: objectTypeId 2-N, fully qualified name p<portal>_<name>."""
	missing = [k for k in ('name', 'labels', 'properties', 'requiredProperties', 'associatedObjects') if k not in body]
	if missing:
		raise errors.invalid(f'Some required fields were not set: [{", ".join(missing)}]')
	name = body['name']
	fqn = f'p{api.config["portal_id"]}_{name}'
	if api.types.find(name) or api.types.find(fqn):
		raise errors.error(409, f'An object named {name} already exists', 'OBJECT_ALREADY_EXISTS')
	api.custom_count += 1
	kind = ObjectType(f'2-{7000000 + api.custom_count}', name, name, fqn, dict(body['labels']))
	kind.schema = {'description': body.get('description'), 'requiredProperties': body['requiredProperties'],
				   'searchableProperties': body.get('searchableProperties', []),
				   'secondaryDisplayProperties': body.get('secondaryDisplayProperties', []),
				   'primaryDisplayProperty': body.get('primaryDisplayProperty', 'name')}
	kind.born = api.clock.now()
	fill_properties(kind)
	for name in ('name', 'description', 'hs_timestamp'):
		del kind.properties[name]
	for prop in body['properties']:
		property_create(api, kind, {'groupName': 'information', 'fieldType': 'text', 'type': 'string', **prop})
	api.types.add(kind)
	for other in body['associatedObjects']:
		api.links.plain(kind, api.types.resolve(other))
	return kind


def schema_json(api, kind):
	made = iso(kind.born)
	links = [{'id': str(d.id), 'fromObjectTypeId': d.source, 'toObjectTypeId': d.target, 'name': d.name,
			  'createdAt': made, 'updatedAt': made}
			 for d in api.links.defs.values() if kind.id in (d.source, d.target)]
	return {'id': kind.id.split('-')[1], 'name': kind.plural, 'fullyQualifiedName': kind.fqn,
			'objectTypeId': kind.id, 'labels': kind.labels, **kind.schema,
			'properties': [p for p in kind.properties.values() if not p['archived']],
			'associations': links, 'archived': False, 'createdAt': made, 'updatedAt': made}


# -- owners, pipelines, account

def owners(api, call, rest):
	if call.method != 'GET':
		raise errors.error(405, 'Method not allowed')
	archived = objects.flag(call, 'archived')
	known = [o for o in api.owners if o['archived'] == archived]
	if rest:
		by = 'userId' if call.arg('idProperty') == 'userId' else 'id'
		owner = next((o for o in known if str(o[by]) == rest[0]), None)
		if owner is None:
			raise errors.not_found(rest[0])
		return Reply(200, owner)
	if call.arg('email'):
		known = [o for o in known if o['email'].lower() == call.arg('email').lower()]
	limit, after = objects.int_arg(call, 'limit', 100, 500), int(call.arg('after') or 0)
	rest = [o for o in known if int(o['id']) > after]
	body = {'results': rest[:limit]}
	if len(rest) > limit:
		body['paging'] = {'next': {'after': rest[limit - 1]['id'], 'link': '?after=' + rest[limit - 1]['id']}}
	return Reply(200, body)


def pipelines(api, call, rest):
	"""/{type}[/{pipeline}[/stages[/{stage}]]]; the same verbs on both levels."""
	if not rest:
		raise errors.no_route()
	kind = api.types.resolve(rest[0])
	shelf = api.pipelines.setdefault(kind.id, {})
	if len(rest) <= 2:
		return _shelf(api, call, shelf, rest[1:], _new_pipeline)
	pipeline = shelf.get(rest[1])
	if pipeline is None or rest[2] != 'stages':
		raise errors.no_route()
	stages = {s['id']: s for s in pipeline['stages']}
	reply = _shelf(api, call, stages, rest[3:], _new_stage)
	pipeline['stages'] = list(stages.values())
	return reply


def _shelf(api, call, shelf, rest, make):
	if not rest and call.method == 'GET':
		return Reply(200, {'results': list(shelf.values())})
	if not rest and call.method == 'POST':
		item = make(api, api.body(call))
		shelf[item['id']] = item
		return Reply(201, item)
	if not rest or rest[0] not in shelf:
		raise errors.no_route()
	if call.method == 'GET':
		return Reply(200, shelf[rest[0]])
	api.store.version += 1
	if call.method == 'DELETE':
		del shelf[rest[0]]
		return Reply(204)
	if call.method == 'PUT':
		shelf[rest[0]] = make(api, {**api.body(call), 'id': rest[0]})
	elif call.method == 'PATCH':
		shelf[rest[0]].update(api.body(call), updatedAt=iso(api.clock.now()))
	else:
		raise errors.no_route()
	return Reply(200, shelf[rest[0]])


def _new_stage(api, body):
	now = iso(api.clock.now())
	api.stage_count += 1
	api.store.version += 1
	return {'id': str(body.get('id') or body.get('stageId') or 90000 + api.stage_count), 'label': body.get('label'),
			'displayOrder': body.get('displayOrder', 0), 'metadata': body.get('metadata') or {}, 'archived': False,
			'createdAt': now, 'updatedAt': now, 'writePermissions': 'CRM_PERMISSIONS_ENFORCEMENT'}


def _new_pipeline(api, body):
	out = _new_stage(api, {**body, 'id': body.get('id') or body.get('pipelineId')})
	del out['metadata'], out['writePermissions']
	out['stages'] = [_new_stage(api, s) for s in body.get('stages') or []]
	return out


def account(api, call, rest):
	now = iso(api.clock.now())
	if rest == ['details']:
		return Reply(200, {'portalId': api.config['portal_id'], 'accountType': 'STANDARD', 'timeZone': 'Europe/Dublin',
						   'uiDomain': 'app.hubspot.com', 'dataHostingLocation': 'na1', 'companyCurrency': 'USD'})
	if rest == ['api-usage', 'daily', 'private-apps']:
		return Reply(200, {'results': [{'name': 'fake', 'usageLimit': api.config['daily_limit'], 'collectedAt': now,
										'currentUsage': api.used_today, 'fetchStatus': 'SUCCESS', 'resetsAt': now}]})
	raise errors.no_route()
