"""The token endpoint of both stand-ins (A15, B11): refresh tokens in, access tokens out.

Knows no HTTP server: an API routes its token path here and asks `accepts` of every bearer token.
Airtable's rules: HTTP Basic with a secret and never without, rotation that ends the old pair, 409 for
two refreshes within a second.  HubSpot's: everything in the form, the refresh token stays.
"""
import base64
import time
from itertools import count
from urllib.parse import parse_qsl

from .message import ApiError, Reply

SERIAL = count(1)			# never reset: no token is given twice in a process's life
DEFAULTS = {'oauth_client_id': 'fake-client', 'oauth_client_secret': 'fake-client-secret', 'oauth_life_s': 1800,
			'oauth_conflict_ms': 1000}


class TokenOffice:
	"""One OAuth app at one API."""

	def __init__(self, path, basic, rotates, config):
		self.path = path
		self.basic = basic
		self.rotates = rotates
		self.config = config
		self.access = {}			# token: when it ends
		self.refresh = {f'fake-refresh-{"a" if rotates else "h"}'}
		self.refreshes = 0
		self.refused = 0
		self.conflicts = 0
		self.refreshed_at = -1e9

	def serves(self, call):
		return call.path == self.path

	def accepts(self, token):
		return self.access.get(token, 0) > time.monotonic()

	def _refuse(self, status, code, words):
		self.refused += 1
		return ApiError(status, {'error': code, 'error_description': words, 'status': 'error', 'message': words})

	def _client(self, call, form):
		"""Does the caller prove to be the app?"""
		wanted, secret = self.config['oauth_client_id'], self.config['oauth_client_secret']
		scheme, _, given = call.header('Authorization').partition(' ')
		if self.basic and secret is not None:
			proof = base64.b64encode(f'{wanted}:{secret}'.encode()).decode()
			return scheme.lower() == 'basic' and given == proof
		if self.basic:
			return not scheme and form.get('client_id') == wanted
		return (form.get('client_id'), form.get('client_secret')) == (wanted, secret)

	def handle(self, call):
		"""One request to the token endpoint."""
		if call.method != 'POST':
			raise ApiError(405, {'error': 'invalid_request'})
		if call.header('Content-Type').split(';')[0] != 'application/x-www-form-urlencoded':
			raise self._refuse(400, 'invalid_request', 'The body must be form-encoded')
		form = dict(parse_qsl(call.body.decode('utf-8'), keep_blank_values=True))
		if not self._client(call, form):
			raise self._refuse(401, 'invalid_client', 'Client authentication failed')
		if form.get('grant_type') != 'refresh_token':
			raise self._refuse(400, 'unsupported_grant_type', 'Unsupported grant type')
		token = form.get('refresh_token')
		if self.rotates and time.monotonic() - self.refreshed_at < self.config['oauth_conflict_ms'] / 1000:
			self.conflicts += 1
			raise ApiError(409, {'error': 'invalid_grant', 'error_description': 'A token was refreshed just now'})
		if token not in self.refresh:
			raise self._refuse(400, 'invalid_grant', f'The refresh token {token} is not valid')
		return Reply(200, self._grant(token))

	def _grant(self, token):
		self.refreshes += 1
		self.refreshed_at = time.monotonic()
		number = next(SERIAL)
		access = f'oaa-{number}-' + 'secret' * 4
		if self.rotates:
			self.access.clear()
			self.refresh = {f'oar-{number}-' + 'secret' * 4}
		self.access[access] = time.monotonic() + self.config['oauth_life_s']
		return {'access_token': access, 'refresh_token': next(iter(self.refresh)) if self.rotates else token,
				'token_type': 'bearer', 'expires_in': self.config['oauth_life_s'],
				**({'scope': 'data.records:read', 'refresh_expires_in': 5184000} if self.rotates else {})}

	def control(self, given):
		"""POST /__ctl/oauth: {"revoke": "access" | "refresh", "issue": a refresh token}."""
		if given.get('revoke') == 'access':
			self.access.clear()
		elif given.get('revoke') == 'refresh':
			self.refresh.clear()
		elif 'revoke' in given:
			raise ValueError('revoke is access or refresh')
		if 'issue' in given:		# the user authorised the app again
			self.refresh.add(given['issue'])
		return self.report()

	def report(self):
		"""What GET /__ctl/oauth answers."""
		return {'refreshes': self.refreshes, 'refused': self.refused, 'conflicts': self.conflicts,
				'access': [t for t in self.access if self.accepts(t)], 'refresh': sorted(self.refresh)}
