"""One API behind a port: reads a request, logs, judges, carries out or spoils it, answers.

Uses aiohttp's low-level server (no router, no normalisation): `raw_path` is the target as sent.
The order of one request: log, control plane, judge, fault, authorise, limit, API, answer.
"""
import asyncio
import itertools
import json
import sys
import time
import traceback

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from . import control, faults
from .limits import Limits
from .history import MARKER
from .log import RequestLog, text
from .message import ApiError, Call, Reply

MAX_LINE = 1 << 17
CONNECTIONS = itertools.count(1)


class Connection(RequestHandler):
	"""aiohttp's connection, numbered."""

	def connection_made(self, transport):
		self.number = next(CONNECTIONS)
		super().connection_made(transport)


class Server(web.Server):
	"""aiohttp's low-level server with numbered connections and large limits."""

	def __call__(self):
		return Connection(self, loop=self._loop, **self._kwargs)

	def _make_request(self, message, payload, protocol, writer, task):
		return web.BaseRequest(message, payload, protocol, writer, task, self._loop, client_max_size=1 << 30)


class ApiServer:
	"""Ties an API (hubspot.HubSpot, airtable.Airtable) to a port."""

	def __init__(self, api):
		self.api = api
		self.log = RequestLog()
		self.faults = faults.FaultList()
		self.jitter = None
		self.limits = Limits(api.DEFAULT_LIMITS, api.PENALTY)

	async def listen(self, port, tls=None):
		"""Bind 127.0.0.1 and return the port."""
		server = Server(self.handle, access_log=None, auto_decompress=False, max_line_size=MAX_LINE,
						max_field_size=MAX_LINE, keepalive_timeout=600)
		loop = asyncio.get_running_loop()
		self.sock = await loop.create_server(server, '127.0.0.1', port, ssl=tls, backlog=1024)
		return self.sock.sockets[0].getsockname()[1]

	async def handle(self, request):
		target = request.raw_path
		if target.startswith('/__ctl/'):
			return await self._control(request)
		protocol = request.protocol
		entry = self.log.begin(protocol.number, request.method, target, request.raw_headers)
		if request.headers.get('Expect', '').lower() == '100-continue':
			request.transport.write(b'HTTP/1.1 100 Continue\r\n\r\n')
		headers = [(text(k), text(v)) for k, v in request.raw_headers]
		call = Call(request.method, target, headers)
		entry.bucket = self.api.bucket(call)
		refused = self.limits.arrive(entry.bucket, entry.time)
		try:
			call.body = entry.body = await request.read()
		except (web.RequestPayloadError, ConnectionError):
			raise asyncio.CancelledError from None		# the body never arrived whole: entry.body stays None
		marker = call.header(MARKER, None)
		arrival = self.api.history.arrived(marker, entry)
		response = None
		try:
			response = await self._respond(request, call, entry, refused, marker)
		finally:
			self.api.history.answered(arrival, entry, None if response is None else response.body or b'')
		return response

	async def _respond(self, request, call, entry, refused, marker):
		before, after, fault = self.jitter.plan(marker) if self.jitter else (0, 0, None)
		if before:
			await asyncio.sleep(before)
		fault = self.faults.take(call) or fault
		if fault is None:
			reply = self.answer(call, entry, refused)
			if after:
				await asyncio.sleep(after)
			entry.status = reply.status
			entry.done = time.monotonic()
			return self._response(reply)
		entry.fault = fault.action
		reply = await self._faulty(fault, request, call, entry, refused)
		entry.done = time.monotonic()
		if reply is None:
			raise asyncio.CancelledError		# aiohttp then closes the connection without a word
		entry.status = reply.status
		return self._response(reply)

	async def _faulty(self, fault, request, call, entry, refused):
		"""Carry out a fault; None: the connection is finished."""
		transport = request.transport
		if fault.delay and fault.action != 'drip' and not fault.spec.get('delay_after'):
			await asyncio.sleep(fault.delay)
		reply = self.answer(call, entry, refused) if fault.apply else Reply(200, {})
		if fault.delay and fault.spec.get('delay_after'):
			await asyncio.sleep(fault.delay)
		if transport is None or transport.is_closing():
			return None
		if await faults.raw_before(fault, transport):
			return None
		faults.spoil(fault, reply)
		return None if await faults.raw_after(fault, reply, transport) else reply

	def answer(self, call, entry=None, refused=None, trusted=False):
		"""The API's own reply.  `trusted`: an out-of-band edit, no authentication, no limit."""
		before = self.api.version
		self.api.history.marker = call.header(MARKER, None)
		try:
			if not trusted:
				self.api.authorize(call)
			reply = self.api.limited(call, refused) if refused else self.api.handle(call)
		except ApiError as err:
			reply = err.reply
		except Exception:				# a bug of the double must be loud, yet answer
			bug = traceback.format_exc()
			print(bug, file=sys.stderr, flush=True)
			reply = Reply(500, {'message': 'bug in the fake API', 'trace': bug})
			if entry:
				entry.bug = bug
		self.api.history.marker = None
		if entry:
			entry.applied = reply.status < 300
			entry.changed = self.api.version != before
			self.api.decorate(call, reply, self.limits.remaining(entry.bucket))
		return reply

	def _response(self, reply):
		headers = dict(reply.headers)
		if reply.body is not None:
			headers.setdefault('Content-Type', self.api.CONTENT_TYPE)
		return web.Response(status=reply.status, body=reply.payload() or None, headers=headers)

	async def _control(self, request):
		body = await request.read()
		call = Call(request.method, request.raw_path, [], body)
		try:
			reply = control.handle(self, call)
		except (ValueError, KeyError, TypeError, AttributeError) as err:
			reply = Reply(400, {'error': f'{type(err).__name__}: {err}'})
		return web.Response(status=reply.status, content_type='application/json',
							body=json.dumps(reply.body).encode('ascii'))
