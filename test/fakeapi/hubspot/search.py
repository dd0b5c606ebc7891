"""POST .../search (A8): filters, sorts, the 10,000 window, and an index that lags behind the records."""
import time

from ..message import Reply
from . import errors, objects
from .values import parse_time

WINDOW, PAGE = 10000, 200
GROUPS, FILTERS = 5, 18


def _comparable(prop, value):
	"""A value in the order of its property's type; None when it has none."""
	if value in (None, ''):
		return None
	try:
		if prop['type'] == 'number':
			text = str(value)
			return int(text) if text.isdigit() else float(text)		# ids may be longer than a float is exact
		if prop['type'] in ('datetime', 'date'):
			return parse_time(value)
	except ValueError:
		return None
	return str(value).lower()


def _tokens(value):
	return str(value or '').lower().replace('@', ' ').replace('.', ' ').split()


def _contains(prop, have, want):
	want = str(want).lower()
	if '*' in want:
		return want.strip('*') in str(have or '').lower()
	return all(t in _tokens(have) for t in _tokens(want))


def _parts(prop, have):
	if prop['fieldType'] == 'checkbox' and have:
		return [p.lower() for p in have.split(';')]
	return [_comparable(prop, have)]


def compile_filter(kind, spec):
	"""One filter as a function of the properties."""
	name, op = spec.get('propertyName'), spec.get('operator')
	prop = kind.properties.get(name)
	if prop is None or prop['archived']:
		raise errors.invalid(f'There was a problem with the request: property {name} does not exist')
	want = _comparable(prop, spec.get('value'))
	high = _comparable(prop, spec.get('highValue'))
	if op in ('IN', 'NOT_IN'):
		if not isinstance(spec.get('values'), list):
			raise errors.invalid(f'{op} needs values')
		# string values must be lower case already, the index is (A8)
		values = {v if prop['type'] in ('string', 'enumeration') else _comparable(prop, v) for v in spec['values']}
	tests = {
		'EQ': lambda h: want in _parts(prop, h), 'NEQ': lambda h: want not in _parts(prop, h),
		'IN': lambda h: any(p in values for p in _parts(prop, h)),
		'NOT_IN': lambda h: not any(p in values for p in _parts(prop, h)),
		'HAS_PROPERTY': lambda h: h not in (None, ''), 'NOT_HAS_PROPERTY': lambda h: h in (None, ''),
		'CONTAINS_TOKEN': lambda h: _contains(prop, h, spec.get('value')),
		'NOT_CONTAINS_TOKEN': lambda h: not _contains(prop, h, spec.get('value')),
		'LT': lambda h: h is not None and _comparable(prop, h) < want,
		'LTE': lambda h: h is not None and _comparable(prop, h) <= want,
		'GT': lambda h: h is not None and _comparable(prop, h) > want,
		'GTE': lambda h: h is not None and _comparable(prop, h) >= want,
		'BETWEEN': lambda h: h is not None and want <= _comparable(prop, h) <= high,
	}
	if op not in tests:
		raise errors.invalid(f'Invalid operator {op}')
	if op in ('LT', 'LTE', 'GT', 'GTE', 'BETWEEN', 'EQ', 'NEQ') and want is None \
			or op == 'BETWEEN' and high is None:
		raise errors.invalid(f'Filter on {name} needs a valid value')
	test = tests[op]
	return lambda props: test(props.get(name))


def _compile(kind, body):
	groups = body.get('filterGroups') or []
	if not groups and body.get('filters'):
		groups = [{'filters': body['filters']}]
	if len(groups) > GROUPS or sum(len(g.get('filters') or []) for g in groups) > FILTERS:
		raise errors.invalid(f'at most {GROUPS} filterGroups and {FILTERS} filters')
	compiled = [[compile_filter(kind, f) for f in g.get('filters') or []] for g in groups]
	query = str(body.get('query') or '').lower()

	def match(props):
		if query and not any(query in str(v or '').lower() for v in props.values()):
			return False
		return not compiled or any(all(test(props) for test in tests) for tests in compiled)
	return match


def _order(kind, sorts):
	"""Sort key and direction; one rule only.  The default is by creation."""
	if not sorts:
		return (lambda item: int(item[0].id)), False
	if len(sorts) > 1:
		raise errors.invalid('Only one sort is supported')
	rule = sorts[0] if isinstance(sorts[0], dict) else {'propertyName': str(sorts[0]).lstrip('-'),
														'direction': 'DESCENDING' if str(sorts[0])[:1] == '-' else ''}
	prop = kind.properties.get(rule.get('propertyName'))
	if prop is None or prop['archived']:
		raise errors.invalid(f'Unknown sort property {rule.get("propertyName")}')

	def key(item):
		value = _comparable(prop, item[1].get(prop['name']))
		return (value is not None, value if value is not None else 0)
	return key, rule.get('direction') == 'DESCENDING'


def _bounds(body):
	limit, after = body.get('limit', 10) or 10, body.get('after') or 0
	if not str(limit).isdigit() or not 1 <= int(limit) <= PAGE:
		raise errors.invalid(f'limit must be between 1 and {PAGE}')
	if not str(after).isdigit():
		raise errors.invalid(f'Invalid after: {after}')
	if int(after) + int(limit) > WINDOW:
		raise errors.invalid(f'The search cannot page beyond {WINDOW} results')
	return int(limit), int(after)


def search(api, call, kind):
	if kind.id in {api.types.resolve(name).id for name in api.config['unsearchable_types']}:
		raise errors.invalid(f'Objects of type {kind.plural} can not be searched')
	body = api.body(call)
	limit, after = _bounds(body)
	match = _compile(kind, body)
	key, down = _order(kind, body.get('sorts'))
	cutoff = time.monotonic() - api.config['search_lag_ms'] / 1000
	found = [item for item in api.store.index_of(kind, cutoff) if match(item[1])]
	found.sort(key=key, reverse=down)
	page = found[after:after + limit]
	results = [_shown(api, record, body.get('properties'), props) for record, props in page]
	out = {'total': len(found), 'results': results}
	if after + limit < len(found):
		out['paging'] = {'next': {'after': str(after + limit)}}
	return Reply(200, out)


def _shown(api, record, names, props):
	"""A record as the index knows it: an older version shows its older time."""
	out = objects.chosen(api, record, names or [], props)
	out['archived'] = False
	out.pop('archivedAt', None)
	out['updatedAt'] = props[record.kind.modified]
	return out
