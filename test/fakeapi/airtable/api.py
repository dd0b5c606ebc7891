"""Airtable's face: configuration, authentication, buckets, routing (B1, B2, B5)."""
import re

from .. import oauth
from ..history import History
from ..message import ApiError, Clock
from . import edits, errors, listing, meta, records, seed, webhooks

APP = re.compile(r'^app[A-Za-z0-9]{14}$')
REC = re.compile(r'^rec[A-Za-z0-9]{14}$')
SCOPES = ['data.records:read', 'data.records:write', 'data.recordComments:read', 'data.recordComments:write',
		  'schema.bases:read', 'schema.bases:write', 'webhook:manage']
LINKED = {'multipleRecordLinks', 'multipleAttachments'}
DEFAULT_CONFIG = {
	'tokens': ['patFakeToken00001.secret'], 'scopes': SCOPES, 'billing_exceeded': False, 'forbidden_bases': [],
	'iterator_ttl_s': 300, 'attachment_delay_ms': 1500, 'payload_retention_s': 604800, 'inverse_bumps': True,
	'time_resolution_ms': 1000, 'retry_after': None, 'plural_429': False, 'freeze_clock': None, 'clock_shift_ms': 0,
	**oauth.DEFAULTS, 'oauth_life_s': 3600,
}


class Airtable:
	"""One Airtable account with its bases."""

	CONTENT_TYPE = 'application/json; charset=utf-8'
	DEFAULT_LIMITS = {'base': [[5, 1.0]], 'token': [[50, 1.0]]}
	PENALTY = 30.0

	def __init__(self):
		self.history = History()
		self.reset({})

	def reset(self, given):
		"""Fresh seeded state; see seed.py for what may be given."""
		self.config = {k: list(v) if isinstance(v, list) else v for k, v in DEFAULT_CONFIG.items()}
		self.clock = Clock()
		self.oauth = oauth.TokenOffice('/oauth2/v1/token', basic=True, rotates=True, config=self.config)
		self.history.stop()
		self.bases, self.iterators, self.attachments, self.compiled, self.partial = {}, {}, {}, {}, []
		self.configure(given.get('config', {}))
		seed.plant(self, given)
		self.configure({})
		for base in self.bases.values():
			base.on_change = self._changed

	def _changed(self, base, change):
		webhooks.record_change(self, base, change)
		if self.history.on:
			for touched in (change.created, change.changed):
				for table_id, ids in touched.items():
					for rid in ids:
						self.history.note(table_id, rid, self._shown(base.tables[table_id], rid))
			for table_id, ids in change.destroyed.items():
				for rid in ids:
					self.history.note(table_id, rid, None)

	@staticmethod
	def _shown(table, rid):
		"""A record's plain cells by field name; the computed ones and links are others' business."""
		record = table.records.get(rid)
		return None if record is None else {f.name: record.cells.get(f.id) for f in table.fields.values()
											if not f.computed and f.kind not in LINKED}

	def everything(self):
		"""What there is, for history.py."""
		for base in self.bases.values():
			for table in base.tables.values():
				for rid in table.records:
					yield table.id, rid, self._shown(table, rid)

	def configure(self, given):
		unknown = set(given) - set(DEFAULT_CONFIG)
		if unknown:
			raise ValueError(f'unknown configuration {sorted(unknown)}; known {sorted(DEFAULT_CONFIG)}')
		self.config.update(given)
		self.clock.inverse_bumps = self.config['inverse_bumps']
		for base in self.bases.values():
			base.resolution = self.config['time_resolution_ms']
		if 'freeze_clock' in given or 'clock_shift_ms' in given:
			self.clock.frozen = self.config['freeze_clock']
			self.clock.shift = self.config['clock_shift_ms']

	@property
	def version(self):
		return sum(b.transactions for b in self.bases.values())

	# -- what server.py asks

	def bucket(self, call):
		"""One bucket per base, webhooks and schema included (B5); the token endpoint is another host's."""
		if self.oauth.serves(call):
			return 'oauth'
		named = next((s for s in call.segments[1:4] if APP.match(s)), None)
		return f'base:{named}' if named else 'token'

	def authorize(self, call):
		if self.oauth.serves(call):
			return
		scheme, _, token = call.header('Authorization').partition(' ')
		token = token.strip()
		if scheme.lower() != 'bearer' or not (token in self.config['tokens'] or self.oauth.accepts(token)):
			raise errors.error(401, 'AUTHENTICATION_REQUIRED', 'Authentication required')
		if self.config['billing_exceeded'] and call.segments[1:2] != ['meta']:
			raise errors.error(429, 'PUBLIC_API_BILLING_LIMIT_EXCEEDED',
							   'You have exceeded the monthly API limit of your plan')

	def limited(self, _call, _window):
		err = errors.error(429, 'RATE_LIMIT_REACHED', 'Rate limit exceeded. Please try again later')
		if self.config['plural_429']:
			err.reply.body = {'errors': [{'error': 'RATE_LIMIT_REACHED', 'message': 'Rate limit exceeded.'}]}
		if self.config['retry_after'] is not None:
			err.reply.headers['Retry-After'] = str(self.config['retry_after'])
		return err.reply

	def decorate(self, _call, _reply, _left):
		"""No rate headers (B5)."""

	def body(self, call):
		try:
			body = call.json()
		except ValueError:
			raise errors.error(400, 'INVALID_REQUEST_BODY', 'Could not parse request body') from None
		if not isinstance(body, dict):
			raise errors.invalid('Could not parse request body', 'INVALID_REQUEST_BODY')
		return body

	def base(self, base_id):
		base = self.bases.get(base_id)
		if base is None or base_id in self.config['forbidden_bases']:
			raise errors.no_model()
		return base

	# -- routing

	def handle(self, call):
		if self.oauth.serves(call):
			return self.oauth.handle(call)
		self.partial.clear()
		rest = call.segments[:-1] if call.segments[-1:] == [''] else call.segments
		if rest[:1] != ['v0'] or len(rest) < 2:
			raise errors.not_found()
		rest = rest[1:]
		content = self._content_host(call)
		upload = len(rest) == 4 and rest[3] == 'uploadAttachment' and call.method == 'POST'
		if content is (not upload):			# the other host's path
			raise errors.not_found()
		if upload:
			return records.upload(self, call, self.base(rest[0]), rest[1], rest[2])
		if rest[0] == 'meta':
			return meta.route(self, call, rest[1:])
		if rest[0] == 'bases' and rest[2:3] == ['webhooks']:
			return webhooks.route(self, call, self.base(rest[1]), rest[3:])
		if not APP.match(rest[0]) or len(rest) < 2:
			raise errors.not_found()
		return self._records(call, self.base(rest[0]), rest[1], rest[2:])

	@staticmethod
	def _content_host(call):
		"""True: content.airtable.com, False: api.airtable.com, None: a test's own host, which may be either."""
		host = call.header('Host').split(':')[0].lower()
		return {'content.airtable.com': True, 'api.airtable.com': False}.get(host)

	def _records(self, call, base, key, rest):
		"""/{base}/{table}[/{rec}[/comments...]|/listRecords]"""
		if rest and REC.match(rest[0]):
			if rest[1:2] == ['comments']:
				return records.comments(self, call, base, rest[0], rest[2:])
			if len(rest) == 1:
				return self._one(call, base, rest[0])
		table = base.table(key)
		if table is None:
			raise errors.no_model()
		if rest == ['listRecords'] and call.method == 'POST':
			return listing.list_post(self, call, base, table)
		if rest:
			raise errors.not_found()
		if call.method == 'GET':
			return listing.list_get(self, call, base, table)
		if call.method == 'POST':
			return records.create(self, call, base, table)
		if call.method in ('PATCH', 'PUT'):
			return records.update(self, call, base, table, call.method == 'PUT')
		if call.method == 'DELETE':
			return records.delete(self, call, base, table)
		raise errors.not_found()

	def _one(self, call, base, record_id):
		"""Single-record calls look the id up in the whole base (B2)."""
		if call.method == 'GET':
			return records.read(self, call, base, record_id)
		if call.method in ('PATCH', 'PUT'):
			return records.update_one(self, call, base, record_id, call.method == 'PUT')
		if call.method == 'DELETE':
			return records.delete_one(self, base, record_id)
		raise errors.not_found()

	# -- the control plane

	def edit(self, spec):
		try:
			return edits.edit(self, spec)
		except ApiError as err:
			return {'status': err.reply.status, 'body': err.reply.body}

	def state(self, args):
		return edits.state(self, args)
