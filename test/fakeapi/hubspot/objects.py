"""Object endpoints for one record, list, merge and gdpr-delete (A4-A7), and how a record is shown (A5).

`api` is hubspot.api.HubSpot; every endpoint takes (api, call, kind, ...) and returns a Reply.
"""
from ..message import Reply
from . import errors
from .values import iso


# -- how a record is shown

def _frame(record, props):
	out = {'id': record.id, 'properties': props, 'createdAt': iso(record.created),
		   'updatedAt': iso(record.updated), 'archived': record.archived}
	if record.archived:
		out['archivedAt'] = iso(record.archived_at)
	return out


def _with_url(api, record, out):
	out['url'] = f'https://app.hubspot.com/go-to/{api.config["portal_id"]}/{record.kind.id}/{record.id}'
	return out


def echoed(api, record, sent, created=False):
	"""After a write: what was sent and some of what HubSpot computes; never all (A5)."""
	kind, props = record.kind, {}
	names = ['hs_object_id', kind.modified, *sent]
	names += [n for n in api.ECHO.get(kind.id, ()) if created or n in api.ECHO_PATCH]
	if created:
		names += [kind.created, 'hs_object_source', 'hs_object_source_id', 'hs_object_source_label']
	for name in sorted(dict.fromkeys(names)):
		value = record.props.get(name)
		if value is not None:
			props[name] = value
		elif name in sent and api.config['cleared'] != 'absent':
			props[name] = None if api.config['cleared'] == 'null' else ''
	return _with_url(api, record, _frame(record, props))


def chosen(api, record, names, props=None):
	"""A read: the asked-for properties, null when unset, unknown ones ignored, plus the constants."""
	kind = record.kind
	props = record.props if props is None else props
	if names:
		names = [n for n in names if n in kind.properties and not kind.properties[n]['archived']]
		names = names + [kind.created, 'hs_object_id', kind.modified]
	else:
		names = kind.default_names()
	return _with_url(api, record, _frame(record, {n: props.get(n) for n in sorted(dict.fromkeys(names))}))


def names_arg(call, key):
	"""A comma-separated or repeated query key."""
	return [n for value in call.arg_all(key) for n in value.split(',') if n]


def flag(call, key):
	return call.arg(key, 'false').lower() == 'true'


def history(record, names):
	return {n: record.history.get(n, []) for n in names if n in record.kind.properties}


def inline_links(api, record, wanted):
	"""The `associations` part of a read (A9): legacy type names, one entry per type."""
	out = {}
	for name in wanted:
		target = api.types.resolve(name)
		entries = [{'id': oid, 'type': d.name if d.category != 'USER_DEFINED' or d.label is None else d.label}
				   for oid, ds in api.links.to(record, target) for d in ds]
		if entries:
			out[target.key] = {'results': entries}
	return out


def shown(api, call, record):
	"""A record as GET and list show it."""
	past = names_arg(call, 'propertiesWithHistory')
	out = chosen(api, record, names_arg(call, 'properties') + past)
	if past:
		out['propertiesWithHistory'] = history(record, past)
	wanted = names_arg(call, 'associations')
	linked = inline_links(api, record, wanted) if wanted else {}
	if linked:
		out['associations'] = linked
	return out


# -- endpoints

def int_arg(call, key, default, most):
	text = call.arg(key)
	if text in (None, ''):
		return default
	if not text.isdigit() or not 1 <= int(text) <= most:
		raise errors.invalid(f'{key} must be between 1 and {most}, got {text}')
	return int(text)


def list_page(api, call, kind):
	"""GET {base}: by id, `after` is the last id, no 10,000 cap."""
	most = 50 if call.arg('propertiesWithHistory') else 100
	limit = int_arg(call, 'limit', 10, most)
	after = call.arg('after') or '0'
	if not after.isdigit():
		raise errors.invalid(f'Invalid after parameter: {after}')
	page = api.store.page(kind, int(after), limit, flag(call, 'archived'))
	body = {'results': [shown(api, call, r) for r in page[:limit]]}
	if len(page) > limit:
		token = page[limit - 1].id
		rest = '&'.join(p for p in call.query.split('&') if p and not p.startswith('after='))
		body['paging'] = {'next': {'after': token, 'link': f'https://api.hubapi.com{call.path}?{rest}&after={token}'}}
	return Reply(200, body)


def read(api, call, kind, key):
	record = api.store.get(kind, key, call.arg('idProperty'), flag(call, 'archived'))
	return Reply(200, shown(api, call, record))


def plan_links(api, kind, given):
	"""Inline associations -> [(target record, LinkTypes)]; the target's type comes from the type id (A9)."""
	plans = []
	for item in given or []:
		types = api.links.spec(item.get('types'), kind)
		target = api.types.by_id[types[0].target]
		other = api.store.find(target, item.get('to', {}).get('id'))
		if other is None or other.archived or any(d.target != target.id for d in types):
			raise errors.invalid('One or more associations are invalid',
								 context={'id': [str(item.get('to', {}).get('id'))]})
		plans.append((other, types))
	return plans


def create_one(api, kind, item):
	"""Check everything, then create: one bad association and nothing is made."""
	values = api.store.check(kind, item.get('properties') or {})
	api.require(kind, values)
	plans = plan_links(api, kind, item.get('associations'))
	record = api.store.create(kind, values)
	for other, types in plans:
		api.links.add(record, other, types)
	return record, values


def create(api, call, kind):
	record, values = create_one(api, kind, api.body(call))
	where = f'https://api.hubapi.com{call.path.rstrip("/")}/{record.id}'
	return Reply(201, echoed(api, record, values, created=True), {'Location': where})


def patch(api, call, kind, key):
	record = api.store.get(kind, key, call.arg('idProperty'))
	values = api.store.check(kind, api.body(call).get('properties') or {}, record)
	api.store.update(record, values)
	return Reply(200, echoed(api, record, values))


def _ignores(api, kind, key):
	"""Is this a merged-away id that deletes do not follow?"""
	return str(key) in api.store.merged.get(kind.id, {}) and api.config['delete_merged'] != 'survivor'


def delete(api, _call, kind, key):
	"""Archive.  Unknown ids answer 204 too, unless `delete_missing` is 404."""
	if not key.isdigit():
		raise errors.not_found(key)
	record = None if _ignores(api, kind, key) else api.store.find(kind, key)
	if record is None and api.config['delete_missing'] == 404:
		raise errors.not_found(key)
	if record is not None:
		api.store.archive(record)
	return Reply(204)


def merge(api, call, kind):
	body = api.body(call)
	into = api.store.merge(kind, body.get('primaryObjectId'), body.get('objectIdToMerge'))
	names = kind.default_names() + ['hs_merged_object_ids']
	return Reply(200, chosen(api, into, names))


def gdpr_delete(api, call, kind):
	"""204 whatever happens; an unknown e-mail address is only block-listed (A7)."""
	body = api.body(call)
	key, prop = body.get('objectId'), body.get('idProperty')
	record = None if _ignores(api, kind, key) else api.store.find(kind, key, prop)
	if record is not None:
		api.store.purge(record)
	elif prop == 'email':
		api.store.blocklist.add(str(key).lower())
	return Reply(204)
