"""Formulas: parser, and evaluation into closures of a record (filterByFormula and formula fields).

A closure takes a `row(field)` reader with .record; times are Moments.  A small part of Airtable's
language, with its coercions as far as B4 and B8 need them.
"""
import math
import re
from datetime import datetime, timezone

TOKEN = re.compile(r"""\s*(?:(?P<num>\d+(?:\.\d+)?)|(?P<str>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
	|\{(?P<field>(?:\\.|[^}\\])*)\}|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<op><=|>=|!=|[-+*/&=<>(),]))""", re.X)


class FormulaError(Exception):
	"""The formula can not be parsed or names an unknown field."""


class Failed(Exception):
	"""Evaluation gave #ERROR!."""


class Moment(int):
	"""Milliseconds since the epoch."""


def parse_moment(value):
	"""A Moment from a cell or literal, or None."""
	if isinstance(value, Moment) or value in (None, ''):
		return value or None
	try:
		at = datetime.fromisoformat(str(value).strip().replace('Z', '+00:00'))
	except ValueError:
		return None
	if at.tzinfo is None:
		at = at.replace(tzinfo=timezone.utc)
	return Moment(round(at.timestamp() * 1000))


def iso(ms):
	"""ISO UTC with milliseconds always, as Airtable writes it."""
	return datetime.fromtimestamp(ms // 1000, timezone.utc).strftime('%Y-%m-%dT%H:%M:%S') + f'.{ms % 1000:03d}Z'


def number(value):
	if value is None or value == '':
		return 0
	if isinstance(value, (bool, int, float)):
		return value + 0
	try:
		return float(value)
	except (TypeError, ValueError):
		raise Failed from None


def text(value):
	if value is None or value is False:
		return ''
	if isinstance(value, Moment):
		return iso(value)
	if isinstance(value, list):
		return ', '.join(text(v) for v in value)
	if isinstance(value, dict):
		return str(value.get('name') or value.get('text') or value.get('value') or '')
	if isinstance(value, float) and value.is_integer():
		return str(int(value))
	return str(value)


def truth(value):
	return value not in (None, '', 0, False, [])


def divide(a, b):
	if b == 0:
		return math.nan if a == 0 or a != a else math.copysign(math.inf, a)
	return a / b


def compare(op, a, b):
	"""Times against strings compare as times, numbers as numbers, the rest as text."""
	if isinstance(a, Moment) or isinstance(b, Moment):
		a, b = parse_moment(a), parse_moment(b)
		if a is None or b is None:
			return op == '!=' if (a is None) != (b is None) else op in ('=', '<=', '>=')
	elif isinstance(a, (int, float)) or isinstance(b, (int, float)):
		if op in ('=', '!=') and (isinstance(a, str) or isinstance(b, str)):
			a, b = text(a), text(b)
		else:
			a, b = number(a), number(b)
	else:
		a, b = text(a), text(b)
	return {'=': a == b, '!=': a != b, '<': a < b, '>': a > b, '<=': a <= b, '>=': a >= b}[op]


def _round(value, places=0):
	return round(number(value), int(number(places)))


UNITS = {'milliseconds': 1, 'seconds': 1000, 'minutes': 60000, 'hours': 3600000, 'days': 86400000}


def _dateadd(value, count, unit):
	at = parse_moment(value)
	if at is None:
		raise Failed
	return Moment(at + int(number(count)) * UNITS[unit if unit.endswith('s') else unit + 's'])


# name -> function of evaluated arguments
PLAIN = {
	'AND': lambda *a: all(map(truth, a)), 'OR': lambda *a: any(map(truth, a)), 'NOT': lambda a: not truth(a),
	'XOR': lambda *a: sum(map(truth, a)) % 2 == 1, 'TRUE': lambda: True, 'FALSE': lambda: False,
	'BLANK': lambda: None, 'LEN': lambda a: len(text(a)), 'UPPER': lambda a: text(a).upper(),
	'LOWER': lambda a: text(a).lower(), 'TRIM': lambda a: text(a).strip(),
	'CONCATENATE': lambda *a: ''.join(map(text, a)), 'VALUE': number, 'ROUND': _round,
	'SUM': lambda *a: sum(map(number, a)), 'MIN': lambda *a: min(map(number, a)),
	'MAX': lambda *a: max(map(number, a)), 'ABS': lambda a: abs(number(a)),
	'FIND': lambda what, where, start=0: text(where).find(text(what), max(0, int(start) - 1)) + 1,
	'SEARCH': lambda what, where: text(where).lower().find(text(what).lower()) + 1 or None,
	'ARRAYJOIN': lambda a, sep=', ': text(sep).join(text(v) for v in (a if isinstance(a, list) else [a])),
	'REGEX_MATCH': lambda a, r: re.search(text(r), text(a)) is not None,
	'IS_AFTER': lambda a, b: compare('>', parse_moment(a) or Moment(-1), parse_moment(b) or Moment(-1)),
	'IS_BEFORE': lambda a, b: compare('<', parse_moment(a) or Moment(-1), parse_moment(b) or Moment(-1)),
	'IS_SAME': lambda a, b, *_: parse_moment(a) == parse_moment(b),
	'DATETIME_PARSE': lambda a, *_: parse_moment(a), 'DATEADD': _dateadd,
	'DATETIME_FORMAT': lambda a, *_: text(parse_moment(a)),
}


class Parser:
	"""Recursive descent over one formula for one table."""

	def __init__(self, source, table):
		self.table = table
		self.tokens = self._tokens(source)
		self.at = 0

	@staticmethod
	def _tokens(source):
		out, pos = [], 0
		source = source.rstrip()
		while pos < len(source):
			m = TOKEN.match(source, pos)
			if not m:
				raise FormulaError(f'unexpected {source[pos:pos + 10]!r}')
			out.append((m.lastgroup, m.group(m.lastgroup)))
			pos = m.end()
		return out

	def peek(self, *ops):
		return self.at < len(self.tokens) and self.tokens[self.at][0] == 'op' and self.tokens[self.at][1] in ops

	def take(self):
		if self.at >= len(self.tokens):
			raise FormulaError('unexpected end')
		self.at += 1
		return self.tokens[self.at - 1]

	def whole(self):
		out = self.comparison()
		if self.at != len(self.tokens):
			raise FormulaError('unexpected rest')
		return out

	def comparison(self):
		left = self.sum()
		while self.peek('=', '!=', '<', '>', '<=', '>='):
			op, a, b = self.take()[1], left, self.sum()
			left = lambda r, op=op, a=a, b=b: compare(op, a(r), b(r))
		return left

	def sum(self):
		left = self.product()
		while self.peek('+', '-', '&'):
			op, a, b = self.take()[1], left, self.product()
			left = {'+': lambda r, a=a, b=b: number(a(r)) + number(b(r)),
					'-': lambda r, a=a, b=b: number(a(r)) - number(b(r)),
					'&': lambda r, a=a, b=b: text(a(r)) + text(b(r))}[op]
		return left

	def product(self):
		left = self.unary()
		while self.peek('*', '/'):
			op, a, b = self.take()[1], left, self.unary()
			left = {'*': lambda r, a=a, b=b: number(a(r)) * number(b(r)),
					'/': lambda r, a=a, b=b: divide(number(a(r)), number(b(r)))}[op]
		return left

	def unary(self):
		if self.peek('-'):
			self.take()
			inner = self.unary()
			return lambda r: -number(inner(r))
		return self.primary()

	def primary(self):
		kind, value = self.take()
		if kind == 'num':
			constant = float(value) if '.' in value else int(value)
			return lambda r: constant
		if kind == 'str':
			literal = re.sub(r'\\(.)', r'\1', value[1:-1])
			return lambda r: literal
		if kind == 'field':
			return self.reference(re.sub(r'\\(.)', r'\1', value))
		if kind == 'name':
			return self.call(value) if self.peek('(') else self.reference(value)
		if value == '(':
			inner = self.comparison()
			self.close()
			return inner
		raise FormulaError(f'unexpected {value}')

	def close(self):
		if self.take() != ('op', ')'):
			raise FormulaError('missing )')

	def reference(self, key):
		field = self.table.field(key)
		if field is None:
			raise FormulaError(f'Unknown field names: {key.lower()}')
		if field.kind in ('date', 'dateTime', 'createdTime', 'lastModifiedTime'):
			return lambda r: parse_moment(r(field))
		return lambda r: r(field)

	def call(self, name):
		name = name.upper()
		self.take()
		args = []
		while not self.peek(')'):
			args.append(self.comparison())
			if self.peek(','):
				self.take()
		self.close()
		return self.function(name, args)

	def function(self, name, args):
		special = {'RECORD_ID': lambda r: r.record.id, 'CREATED_TIME': lambda r: Moment(r.record.created),
				   'LAST_MODIFIED_TIME': lambda r: Moment(r.record.modified), 'NOW': lambda r: Moment(r.now),
				   'TODAY': lambda r: Moment(r.now // 86400000 * 86400000)}
		if name in special:
			return special[name]
		if name == 'IF':
			return lambda r: args[1](r) if truth(args[0](r)) else (args[2](r) if len(args) > 2 else None)
		if name == 'OR':			# long OR(RECORD_ID()=...) lists should stop early
			return lambda r: any(truth(a(r)) for a in args)
		if name == 'ERROR':
			return self._fail
		if name not in PLAIN:
			raise FormulaError(f'unknown function {name}')
		work = PLAIN[name]
		return lambda r: work(*[a(r) for a in args])

	@staticmethod
	def _fail(_row):
		raise Failed


def compile_formula(source, table):
	"""A closure of a row reader; FormulaError when it can not be."""
	return Parser(source, table).whole()


def result(closure, row):
	"""A formula field's cell: specials for NaN and errors (B8), None when empty."""
	try:
		value = closure(row)
	except (Failed, TypeError, ValueError, KeyError, OverflowError):
		return {'error': '#ERROR!'}
	if isinstance(value, Moment):
		return iso(value)
	if isinstance(value, float):
		return special(value)
	return value


def special(value):
	"""NaN and Infinity have their own JSON (unverified)."""
	if isinstance(value, float) and value != value:
		return {'specialValue': 'NaN'}
	if isinstance(value, float) and math.isinf(value):
		return {'specialValue': 'Infinity' if value > 0 else '-Infinity'}
	if isinstance(value, float) and value.is_integer():
		return int(value)
	return value
