"""The request log: what arrived, byte for byte, and what became of it.  Filled by server.py."""
import base64
import time


def text(raw):
	"""Bytes as a string that keeps every byte (lone surrogates for what is not UTF-8)."""
	return raw.decode('utf-8', 'surrogateescape') if isinstance(raw, bytes) else raw


class Entry:
	"""One request.  `applied`: the API carried it out (2xx); `changed`: and its state moved."""

	__slots__ = ('n', 'time', 'wall', 'connection', 'method', 'target', 'headers', 'body', 'bucket',
				 'status', 'applied', 'changed', 'fault', 'done', 'bug')

	def __init__(self, n, connection, method, target, headers):
		self.n = n
		self.time = time.monotonic()
		self.wall = time.time()
		self.connection = connection
		self.method = method
		self.target = target
		self.headers = headers
		self.body = None				# None: it never arrived whole
		self.bucket = None
		self.status = None				# None: no answer of the API was sent
		self.applied = False
		self.changed = False
		self.fault = None
		self.done = None
		self.bug = None

	def to_json(self, brief=False):
		out = {'n': self.n, 'time': self.time, 'wall': self.wall, 'connection': self.connection,
			   'method': self.method, 'target': self.target, 'bucket': self.bucket, 'status': self.status,
			   'applied': self.applied, 'changed': self.changed, 'fault': self.fault, 'done': self.done}
		if self.bug:
			out['bug'] = self.bug
		if not brief:
			out['headers'] = [[text(k), text(v)] for k, v in self.headers]
			out['body'] = None if self.body is None else base64.b64encode(self.body).decode()
		return out


class RequestLog:
	"""All requests since the last clear; numbers go on counting."""

	def __init__(self):
		self.entries = []
		self.count = 0

	def begin(self, connection, method, target, headers):
		self.count += 1
		entry = Entry(self.count, connection, method, target, headers)
		self.entries.append(entry)
		return entry

	def clear(self):
		self.entries = []

	def to_json(self, since=0, brief=False):
		return {'count': self.count, 'log': [e.to_json(brief) for e in self.entries if e.n > since]}
