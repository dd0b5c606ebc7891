"""What passes between the HTTP server and the two APIs: a Call in, a Reply out.

Knows no API and no aiohttp: the APIs can be driven without a socket (see control.py, /__ctl/edit).
"""
import json
import time
from urllib.parse import parse_qsl, unquote


class ApiError(Exception):
	"""An answer that is not 2xx; the API's own modules raise it, server.py turns it into a Reply."""

	def __init__(self, status, body, headers=None):
		super().__init__(f'{status}')
		self.reply = Reply(status, body, headers)


class Reply:
	"""A status, a body (JSON value, bytes or None for no body at all) and extra headers."""

	__slots__ = ('status', 'body', 'headers')

	def __init__(self, status=200, body=None, headers=None):
		self.status = status
		self.body = body
		self.headers = dict(headers or {})

	def payload(self):
		"""The body as bytes, UTF-8 JSON as both APIs send it."""
		if self.body is None:
			return b''
		if isinstance(self.body, bytes):
			return self.body
		return json.dumps(self.body, ensure_ascii=False, separators=(',', ':')).encode('utf-8', 'surrogatepass')


class Call:
	"""One request.  `target` is the raw request target; the path is split before it is decoded."""

	def __init__(self, method, target, headers=(), body=b''):
		self.method = method.upper()
		self.target = target
		self.headers = headers			# list of (name, value) in arrival order
		self.body = body
		path, _, query = target.partition('?')
		if '://' in path[:9]:			# absolute-form
			path = '/' + path.split('://', 1)[1].partition('/')[2]
		self.path = path
		self.query = query
		self.segments = [unquote(part) for part in path.split('/')[1:]]
		self._args = None

	@property
	def args(self):
		"""The query as a list of (key, value), blanks kept."""
		if self._args is None:
			self._args = parse_qsl(self.query, keep_blank_values=True)
		return self._args

	def arg(self, name, default=None):
		"""The first value of a query key."""
		return next((v for k, v in self.args if k == name), default)

	def arg_all(self, *names):
		"""All values of these query keys."""
		return [v for k, v in self.args if k in names]

	def header(self, name, default=''):
		"""The first header of that name, in any case."""
		name = name.lower()
		return next((v for k, v in self.headers if k.lower() == name), default)

	def json(self):
		"""The body as JSON; ValueError when it is not."""
		return json.loads(self.body.decode('utf-8'))


class Clock:
	"""Milliseconds since the epoch; a test may freeze or shift it (tied timestamps)."""

	def __init__(self):
		self.frozen = None
		self.shift = 0

	def now(self):
		if self.frozen is not None:
			return self.frozen
		return int(time.time() * 1000) + self.shift
