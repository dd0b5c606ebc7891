"""Property values: everything is a string on output, and what HubSpot refuses (A5, A11, A13)."""
import re
from datetime import datetime, timezone
from functools import lru_cache

EMAIL = re.compile(r'^[^@\s,]+@[^@\s,]+\.[^@\s,.]+$')
EPOCH = re.compile(r'^-?\d{1,15}$')


@lru_cache(1 << 17)
def iso(ms):
	"""Milliseconds as HubSpot writes them: no fraction when it is zero."""
	at = datetime.fromtimestamp(ms // 1000, timezone.utc).strftime('%Y-%m-%dT%H:%M:%S')
	return f'{at}Z' if ms % 1000 == 0 else f'{at}.{ms % 1000:03d}Z'


@lru_cache(1 << 17)
def parse_time(value):
	"""ISO or epoch milliseconds -> milliseconds; ValueError otherwise."""
	text = str(value).strip()
	if EPOCH.match(text):
		return int(text)
	at = datetime.fromisoformat(text.replace('Z', '+00:00'))
	if at.tzinfo is None:
		at = at.replace(tzinfo=timezone.utc)
	return round(at.timestamp() * 1000)


def to_text(value):
	"""A JSON value as the string that HubSpot keeps."""
	if value is None:
		return ''
	if isinstance(value, bool):
		return 'true' if value else 'false'
	return str(value)


def _number(text):
	float(text)
	return text


def _date(text):
	if EPOCH.match(text) and not re.match(r'^\d{4}$', text):
		ms = int(text)
		if ms % 86400000:
			raise ValueError('not midnight')
		return iso(ms)[:10]
	return datetime.strptime(text[:10], '%Y-%m-%d').strftime('%Y-%m-%d')


def _bool(text):
	if text.lower() not in ('true', 'false'):
		raise ValueError('not a boolean')
	return text.lower()


PARSERS = {'number': (_number, 'INVALID_LONG'), 'date': (_date, 'INVALID_DATE'), 'bool': (_bool, 'INVALID_BOOLEAN'),
		   'datetime': (lambda t: iso(parse_time(t)), 'INVALID_DATE')}


def _enumeration(prop, text):
	"""Options are checked by value; multi-selects are `;` separated."""
	parts = [p for p in text.split(';') if p != ''] if prop['fieldType'] == 'checkbox' else [text]
	known = {o['value'] for o in prop['options']}
	if not prop.get('externalOptions') and any(p not in known for p in parts):
		return None, 'INVALID_OPTION'
	return ';'.join(parts), None


def clean(prop, value):
	"""(text, None) or (None, error code) for one value of a property definition."""
	text = to_text(value)
	if text == '':
		return '', None
	if prop['name'] == 'email' and not EMAIL.match(text):
		return None, 'INVALID_EMAIL'
	if prop['name'] == 'email':
		return text.lower(), None
	if prop['type'] == 'enumeration':
		return _enumeration(prop, text)
	if prop['type'] not in PARSERS:
		return text, None
	parser, code = PARSERS[prop['type']]
	try:
		return parser(text), None
	except (ValueError, OverflowError, OSError):
		return None, code
