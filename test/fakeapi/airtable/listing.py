"""Lists: GET {table} and POST {table}/listRecords (B2, B3), with iterators that expire."""
import re
import time

from ..message import Reply
from . import cells, errors, formula
from .records import string_format, truthy
from .store import new_id

SORT = re.compile(r'^sort\[(\d+)\]\[(field|direction)\]$')


def query_params(call):
	"""The query in the shape of a listRecords body."""
	out, sorts = {}, {}
	for key, value in call.args:
		base_key = re.sub(r'\[\d*\]$', '', key)
		match = SORT.match(key)
		if match:
			sorts.setdefault(int(match[1]), {})[match[2]] = value
		elif base_key in ('fields', 'recordMetadata'):
			out.setdefault(base_key, []).append(value)
		else:
			out[base_key] = value
	if sorts:
		out['sort'] = [sorts[i] for i in sorted(sorts)]
	return out


def list_get(api, call, base, table):
	params = query_params(call)
	return _list(api, base, table, params, params)


def list_post(api, call, base, table):
	"""A POST that is a read; timeZone and userLocale stay query parameters (B2)."""
	body = api.body(call) if call.body else {}
	return _list(api, base, table, body, {**body, **query_params(call)})


def _size(params, key, most, default):
	value = params.get(key, default)
	if not str(value).isdigit() or not 1 <= int(value) <= most:
		raise errors.invalid(f'Invalid {key}')
	return int(value)


def _only(table, params):
	names = params.get('fields')
	if not names:
		return None
	out = set()
	for name in names if isinstance(names, list) else [names]:
		field = table.field(name)
		if field is None:
			raise errors.error(422, 'UNKNOWN_FIELD_NAME', f'Unknown field name: "{name}"')
		out.add(field.id)
	return out


def _matching(api, base, table, params):
	"""All rows in the order of the list."""
	rows = list(table.records.values())
	source = params.get('filterByFormula')
	if source:
		try:
			test = formula.compile_formula(source, table)
		except formula.FormulaError as err:
			raise errors.error(422, 'INVALID_FILTER_BY_FORMULA', f'The formula for filtering records is invalid: {err}') \
				from None
		rows = [r for r in rows if _passes(test, cells.Row(api, base, table, r))]
	for rule in reversed(params.get('sort') or []):
		field = table.field(rule.get('field'))
		if field is None:
			raise errors.error(422, 'UNKNOWN_FIELD_NAME', f'Unknown field name: "{rule.get("field")}"')
		down = rule.get('direction') == 'desc'
		rows.sort(key=lambda r, f=field: _sort_key(cells.Row(api, base, table, r)(f)), reverse=down)
	return rows


def _passes(test, row):
	try:
		return formula.truth(test(row))
	except (formula.Failed, TypeError, ValueError, KeyError):
		return False


def _sort_key(value):
	if value is None:
		return (0, 0, '')
	if isinstance(value, (int, float)):
		return (1, value, '')
	return (2, 0, formula.text(value).lower())


def _start(api, params):
	"""Where the page begins: (sequence or index to continue after, rows given so far)."""
	offset = params.get('offset')
	if not offset:
		return None
	held = api.iterators.get(offset)
	if held is None or held['until'] < time.monotonic():
		raise errors.error(422, 'LIST_RECORDS_ITERATOR_NOT_AVAILABLE')
	return held


def _list(api, base, table, params, outer):
	as_text = string_format(params.get('cellFormat'), outer.get('timeZone'), outer.get('userLocale'))
	if params.get('view') and not any(params['view'] in (v['id'], v['name']) for v in table.views):
		raise errors.error(422, 'VIEW_NAME_NOT_FOUND', f'View {params["view"]} not found')
	size = _size(params, 'pageSize', 100, 100)
	most = _size(params, 'maxRecords', 1 << 31, 1 << 30)
	only = _only(table, params)
	start = _start(api, params)
	rows = _matching(api, base, table, params)
	given = start['given'] if start else 0
	if start:		# not a snapshot: what was created or deleted meanwhile shifts (B3)
		rows = rows[start['given']:] if params.get('sort') else [r for r in rows if r.seq > start['seq']]
	page = rows[:min(size, most - given)]
	body = {'records': [cells.show(api, base, table, r, truthy(params.get('returnFieldsByFieldId')), as_text, only,
								   'commentCount' in (params.get('recordMetadata') or ())) for r in page]}
	if len(rows) > len(page) and given + len(page) < most:
		body['offset'] = _offset(api, page[-1], given + len(page))
	return Reply(200, body)


def _offset(api, last, given):
	token = f'{new_id("itr")}/{last.id}'
	api.iterators[token] = {'seq': last.seq, 'given': given, 'until': time.monotonic() + api.config['iterator_ttl_s']}
	return token
