"""HubSpot's face: configuration, authentication, buckets, routing (A1, A2, A4, A12).

The version segment is matched by pattern; every area knows both path styles (A2).
"""
import re
import uuid

from .. import oauth
from ..history import History
from ..message import ApiError, Clock
from . import batch, edits, errors, link_api, links, meta, objects, search, seed, store, types

VERSION = re.compile(r'^(v\d+|\d{4}-\d{2}(-beta)?)$')
DEFAULT_CONFIG = {
	'tokens': ['pat-na1-test'], 'forbidden_types': [], 'unsearchable_types': [], 'search_lag_ms': 0, 'cleared': 'absent',
	'merge_mints': True, 'merge_archives': False, 'delete_missing': 204, 'delete_merged': 'survivor',
	'shuffle_batch': True, 'put_labels': 'add', 'v4_numeric_ids': True, 'default_shows_inverse': False,
	'association_page': 500, 'rate_headers': True, 'retry_after': None, 'daily_limit': 250000, 'daily_left': None,
	'portal_id': 4711, 'id_base': 1001, 'freeze_clock': None, 'clock_shift_ms': 0, **oauth.DEFAULTS,
}
AREAS = ('objects', 'associations', 'properties', 'schemas', 'owners', 'pipelines')


class HubSpot:
	"""One HubSpot account."""

	CONTENT_TYPE = 'application/json;charset=utf-8'
	DEFAULT_LIMITS = {'default': [[100, 10.0]], 'search': [[5, 1.0]]}
	PENALTY = 0.0
	# what a write's response shows beside what was sent, and which of it a PATCH shows too (A5)
	ECHO = {'0-1': ('hs_all_contact_vids', 'hs_email_domain', 'hs_is_contact', 'hs_is_unworked', 'hs_pipeline',
					'lifecyclestage', 'hs_full_name_or_email'),
			'0-2': ('hs_pipeline', 'website'), '0-3': ('pipeline', 'dealstage', 'hs_projected_amount', 'hs_is_closed'),
			'0-5': ('hs_pipeline', 'hs_pipeline_stage')}
	ECHO_PATCH = ('hs_full_name_or_email', 'hs_is_unworked', 'hs_projected_amount')

	def __init__(self):
		self.history = History()
		self.reset({})

	def reset(self, given):
		"""Fresh seeded state; see seed.py for what may be given."""
		self.config = {k: list(v) if isinstance(v, list) else v for k, v in DEFAULT_CONFIG.items()}
		self.clock = Clock()
		self.oauth = oauth.TokenOffice('/oauth/v1/token', basic=False, rotates=False, config=self.config)
		self.configure(given.get('config', {}))
		self.types = types.TypeTable()
		self.history.stop()
		self.store = store.Store(self.types, self.clock, self.config, self.history)
		self.links = self.store.links = links.Links(self.types, self.store)
		self.owners, self.pipelines = [], {}
		self.custom_count = self.stage_count = self.used_today = 0
		seed.plant(self, given)

	def configure(self, given):
		unknown = set(given) - set(DEFAULT_CONFIG)
		if unknown:
			raise ValueError(f'unknown configuration {sorted(unknown)}; known {sorted(DEFAULT_CONFIG)}')
		self.config.update(given)
		if 'freeze_clock' in given or 'clock_shift_ms' in given:
			self.clock.frozen = self.config['freeze_clock']
			self.clock.shift = self.config['clock_shift_ms']

	@property
	def version(self):
		return self.store.version

	# -- what server.py asks

	def bucket(self, call):
		return 'search' if call.method == 'POST' and call.path.rstrip('/').endswith('/search') else 'default'

	def authorize(self, call):
		self.used_today += 1
		if self.oauth.serves(call):
			return
		scheme, _, token = call.header('Authorization').partition(' ')
		if scheme.lower() != 'bearer' or not self._known(token.strip()):
			raise errors.error(401, 'Authentication credentials not found. This API supports OAuth 2.0 authentication '
									'and you can find more details at https://developers.hubspot.com/',
							   'INVALID_AUTHENTICATION')
		if self.config['daily_left'] is not None:
			self._spend_daily()

	def _known(self, token):
		return token in self.config['tokens'] or self.oauth.accepts(token)

	def _spend_daily(self):
		if self.config['daily_left'] <= 0:
			raise self._too_many('DAILY', 'You have reached your daily limit.')
		self.config['daily_left'] -= 1

	def _too_many(self, policy, message):
		headers = {} if self.config['retry_after'] is None else {'Retry-After': str(self.config['retry_after'])}
		err = errors.error(429, message, 'RATE_LIMITS', errorType='RATE_LIMIT', policyName=policy,
						   requestId=str(uuid.uuid4()))
		err.reply.headers.update(headers)
		return err

	def limited(self, _call, window):
		policy = 'SECONDLY' if window.span <= 1 else 'TEN_SECONDLY_ROLLING'
		return self._too_many(policy, f'You have reached your {policy.lower()} limit.').reply

	def decorate(self, call, reply, left):
		"""Correlation id and rate headers; none of the latter on search (A12)."""
		reply.headers.setdefault('X-HubSpot-Correlation-Id', str(uuid.uuid4()))
		if left is None or not self.config['rate_headers'] or self.bucket(call) == 'search':
			return
		limit, remaining, span = left
		day = self.config['daily_limit']
		daily = self.config['daily_left']
		reply.headers.update({
			'X-HubSpot-RateLimit-Daily': str(day),
			'X-HubSpot-RateLimit-Daily-Remaining': str(max(0, day - self.used_today) if daily is None else daily),
			'X-HubSpot-RateLimit-Interval-Milliseconds': str(int(span * 1000)),
			'X-HubSpot-RateLimit-Max': str(limit), 'X-HubSpot-RateLimit-Remaining': str(remaining)})

	def body(self, call, shape=dict):
		"""The JSON body, of that shape, or a 400."""
		try:
			body = call.json()
		except ValueError:
			raise errors.bad_json() from None
		if not isinstance(body, shape):
			raise errors.bad_json()
		return body

	def require(self, kind, values):
		"""A custom object's required properties."""
		missing = [n for n in (kind.schema or {}).get('requiredProperties', []) if not values.get(n)]
		if missing:
			raise errors.invalid('Error creating ' + kind.plural + '. Some required properties were not set.',
								 context={'properties': missing})

	# -- routing

	def handle(self, call):
		if self.oauth.serves(call):
			return self.oauth.handle(call)
		rest = call.segments[:-1] if call.segments[-1:] == [''] else call.segments
		version, area, rest = self._area(rest)
		if area == 'objects':
			return self._objects(call, version, rest)
		if area == 'associations':
			self._allowed(rest[:2])
			return link_api.route(self, call, version, rest)
		if area == 'properties':
			self._allowed(rest[:1])
			return meta.properties(self, call, version, rest)
		simple = {'schemas': meta.schemas, 'owners': meta.owners, 'pipelines': meta.pipelines, 'account': meta.account}
		return simple[area](self, call, rest)

	@staticmethod
	def _area(parts):
		"""(version, area, rest) of either path style."""
		if parts[:1] == ['crm'] and len(parts) >= 3:
			for version, area in ((parts[1], parts[2]), (parts[2], parts[1])):
				if VERSION.match(version) and area in AREAS:
					return version, area, parts[3:]
		if parts[:1] == ['crm-object-schemas'] and len(parts) >= 3 and VERSION.match(parts[1]) and parts[2] == 'schemas':
			return parts[1], 'schemas', parts[3:]
		if parts[:2] == ['account-info', 'v3']:
			return 'v3', 'account', parts[2:]
		raise errors.no_route()

	def _allowed(self, names):
		"""403 for types outside the token's scopes (A11)."""
		denied = {self.types.resolve(n).id for n in self.config['forbidden_types']}
		for name in names:
			kind = self.types.find(name)
			if kind is not None and kind.id in denied:
				scope = f'crm.objects.{kind.plural}.read'
				raise errors.error(403, 'This app hasn\'t been granted all required scopes to make this call.',
								   'MISSING_SCOPES', errors=[{'message': 'One or more of the following scopes are required.',
															  'context': {'requiredGranularScopes': [scope]}}])

	def _objects(self, call, version, rest):
		"""rest: {t}[/{id}|/batch/x|/search|/merge|/gdpr-delete][/associations/...]."""
		if not rest:
			raise errors.no_route()
		self._allowed(rest[:1])
		kind = self.types.resolve(rest[0])
		tail = rest[1:]
		if len(tail) >= 2 and tail[1] == 'associations':
			return link_api.single(self, call, version, kind, tail[0], tail[2:])
		if version == 'v4':
			raise errors.no_route()
		if tail[:1] == ['batch']:
			return self._batch(call, version, kind, tail[1:])
		if len(tail) == 1 and call.method == 'POST':
			return self._post(call, kind, tail[0])
		plain = {(0, 'GET'): objects.list_page, (0, 'POST'): objects.create, (1, 'GET'): objects.read,
				 (1, 'PATCH'): objects.patch, (1, 'DELETE'): objects.delete}
		work = plain.get((len(tail), call.method))
		if work is None:
			raise errors.error(405, 'Method not allowed') if len(tail) < 2 else errors.no_route()
		return work(self, call, kind, *tail)

	def _post(self, call, kind, action):
		works = {'search': search.search, 'merge': objects.merge, 'gdpr-delete': objects.gdpr_delete}
		if action not in works:
			raise errors.error(405, 'Method not allowed')
		return works[action](self, call, kind)

	def _batch(self, call, version, kind, tail):
		works = {'create': batch.create, 'read': batch.read, 'update': batch.update, 'upsert': batch.upsert,
				 'archive': batch.archive}
		if len(tail) != 1 or tail[0] not in works or call.method != 'POST':
			raise errors.no_route()
		return works[tail[0]](self, call, kind, version)

	# -- the control plane

	def edit(self, spec):
		try:
			return edits.edit(self, spec)
		except ApiError as err:
			return {'status': err.reply.status, 'body': err.reply.body}

	def state(self, args):
		return edits.state(self, args)

	def everything(self):
		"""What there is, for history.py."""
		for kind in self.types.by_id.values():
			for record in self.store.of(kind).values():
				if not record.archived:
					yield kind.id, record.id, self.store.shown(record)
		yield from self.links.everything()
