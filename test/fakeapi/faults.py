"""Scripted faults: which request goes wrong, and how.  Raw bytes go to the transport directly.

A fault either keeps the API from seeing the request (`status`, `reset_before`, ...) or spoils the
answer after the API carried it out (`reset_after`, `truncate`, ...).  `apply` overrides which.
"""
import asyncio
import gzip
import random
import re
import socket
import struct

# action -> is the request carried out by default?
ACTIONS = {'status': False, 'delay': True, 'reset_before': False, 'reset_after': True, 'truncate': True,
		   'truncate_head': True, 'malformed': True, 'hang': False, 'drip': True,
		   'close_after_request': False, 'close_after_response': True, 'garbage': False, 'huge': True,
		   'gzip': True, 'chunked': True, 'until_close': True, 'headers': True}


class Fault:
	"""One scripted fault, see README.md for its fields."""

	def __init__(self, number, spec):
		self.number = number
		self.spec = spec
		self.action = spec['action']
		if self.action not in ACTIONS:
			raise ValueError(f'unknown action {self.action}')
		match = spec.get('match') or {}
		self.method = match.get('method')
		self.path = re.compile(match.get('path_regex', ''))
		self.body_regex = re.compile(match.get('body_regex', '').encode())
		self.skip = int(spec.get('skip', 0))
		self.left = int(spec.get('times', 1))	# -1: for ever
		self.probability = float(spec.get('probability', 1))
		self.apply = bool(spec.get('apply', ACTIONS[self.action]))
		self.delay = float(spec.get('delay_ms', 0)) / 1000
		self.hits = 0

	def matches(self, call):
		if self.left == 0 or (self.method and self.method.upper() != call.method):
			return False
		if not self.path.search(call.target) or not self.body_regex.search(call.body):
			return False
		if random.random() >= self.probability:
			return False
		if self.skip > 0:
			self.skip -= 1
			return False
		return True

	def to_json(self):
		return {'id': self.number, 'left': self.left, 'hits': self.hits, **self.spec}


class FaultList:
	"""The faults in force; the first that matches is taken."""

	def __init__(self):
		self.faults = []
		self.count = 0

	def add(self, spec):
		self.count += 1
		fault = Fault(self.count, spec)
		self.faults.append(fault)
		return fault

	def clear(self):
		self.faults = []

	def take(self, call):
		for fault in self.faults:
			if fault.matches(call):
				fault.hits += 1
				if fault.left > 0:
					fault.left -= 1
				return fault
		return None


def _reset(transport):
	"""Close with RST: linger 0 makes the kernel drop what is queued."""
	sock = transport.get_extra_info('socket')
	if sock is not None:
		sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
	transport.abort()


def _head(reply, extra):
	"""A response head made by hand, so that it may lie."""
	fields = {'Content-Type': 'application/json;charset=utf-8', **reply.headers, **extra}
	lines = [f'HTTP/1.1 {reply.status} Whatever'] + [f'{k}: {v}' for k, v in fields.items()]
	return ('\r\n'.join(lines) + '\r\n\r\n').encode('latin-1')


def _chunks(body, pieces):
	step = max(1, len(body) // pieces)
	parts = [body[i:i + step] for i in range(0, len(body), step)]
	return b''.join(b'%x\r\n%s\r\n' % (len(p), p) for p in parts) + b'0\r\n\r\n'


async def _drip(transport, raw, fault):
	size = int(fault.spec.get('bytes', 1))
	for i in range(0, len(raw), size):
		if transport.is_closing():
			return
		transport.write(raw[i:i + size])
		await asyncio.sleep(fault.delay or 0.005)


async def _wait_gone(transport):
	while not transport.is_closing():
		await asyncio.sleep(0.02)


def spoil(fault, reply):
	"""Change the reply in place for faults that stay within HTTP."""
	spec = fault.spec
	if fault.action == 'malformed':
		given = spec.get('body')
		reply.body = given.encode() if isinstance(given, str) else reply.payload()[:-1] + b',,"'
	elif fault.action == 'huge':
		body = reply.payload() or b'{}'
		reply.body = body[:-1] + b' ' * int(spec.get('size', 64 << 20)) + body[-1:]
	elif fault.action == 'gzip':
		reply.body = gzip.compress(reply.payload())
		reply.headers['Content-Encoding'] = 'gzip'
	elif fault.action == 'close_after_response':
		reply.headers['Connection'] = 'close'
	if fault.action == 'status':
		reply.status = int(spec.get('status', 500))
		body = spec.get('body', '')
		reply.body = body.encode() if isinstance(body, str) else body
	reply.headers.update(spec.get('headers') or {})


async def raw_before(fault, transport):
	"""Faults that need no answer of the API.  True: the connection is finished."""
	if fault.action == 'reset_before':
		_reset(transport)
	elif fault.action == 'hang':
		await _wait_gone(transport)
	elif fault.action == 'garbage':
		body = fault.spec.get('body', '\x00\x16this is not HTTP\r\n\r\n')
		transport.write(body.encode('latin-1'))
	elif fault.action != 'close_after_request':
		return False
	return True


async def raw_after(fault, reply, transport):
	"""Faults that break the connection while the answer is sent.  True: they did."""
	body = reply.payload()
	if fault.action == 'reset_after':
		_reset(transport)
	elif fault.action == 'truncate':
		keep = int(fault.spec.get('bytes', len(body) // 2))
		transport.write(_head(reply, {'Content-Length': len(body) or 10}) + body[:keep])
	elif fault.action == 'truncate_head':
		transport.write(_head(reply, {'Content-Length': len(body)})[:int(fault.spec.get('bytes', 20))])
	elif fault.action == 'until_close':
		transport.write(_head(reply, {'Connection': 'close'}) + body)
	elif fault.action == 'chunked':
		head = _head(reply, {'Transfer-Encoding': 'chunked', 'Connection': 'close'})
		transport.write(head + _chunks(body, int(fault.spec.get('pieces', 7))))
	elif fault.action == 'drip':
		head = _head(reply, {'Content-Length': len(body), 'Connection': 'close'})
		await _drip(transport, head + body, fault)
	else:
		return False
	return True
