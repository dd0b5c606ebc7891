"""The token endpoints (A15, B11)."""
import base64
import json
from urllib.parse import urlencode

import pytest

AIR = base64.b64encode(b'fake-client:fake-client-secret').decode()


def hub_token(hs, expect=200, **form):
	form = {'grant_type': 'refresh_token', 'client_id': 'fake-client', 'client_secret': 'fake-client-secret',
			'refresh_token': 'fake-refresh-h', **form}
	status, body, _ = hs.raw('POST', '/oauth/v1/token', urlencode(form), {'Content-Type': 'application/x-www-form-urlencoded'})
	assert status == expect, body
	return json.loads(body)


def air_token(at, refresh, expect=200, auth=f'Basic {AIR}', **form):
	head = {'Content-Type': 'application/x-www-form-urlencoded', **({'Authorization': auth} if auth else {})}
	form = {'grant_type': 'refresh_token', 'refresh_token': refresh, **form}
	status, body, _ = at.raw('POST', '/oauth2/v1/token', urlencode(form), head)
	assert status == expect, body
	return json.loads(body)


def ask(client, token, path):
	return client.raw('GET', path, headers={'Authorization': f'Bearer {token}'})[0]


CONTACTS = '/crm/v3/objects/contacts'
BASES = '/v0/meta/bases'


def test_hubspot_gives_tokens_and_keeps_the_refresh_token(hs):
	first, second = hub_token(hs), hub_token(hs)
	assert first['refresh_token'] == second['refresh_token'] == 'fake-refresh-h' and first['expires_in'] == 1800
	assert first['access_token'] != second['access_token']
	assert [ask(hs, t['access_token'], CONTACTS) for t in (first, second)] == [200, 200]
	assert hs.ctl('GET', 'oauth')['refreshes'] == 2


def test_hubspot_refuses_who_is_not_the_app(hs):
	assert hub_token(hs, 401, client_secret='x')['error'] == 'invalid_client'
	assert hub_token(hs, 400, refresh_token='x')['error'] == 'invalid_grant'
	assert hub_token(hs, 400, grant_type='x')['error'] == 'unsupported_grant_type'
	assert hs.raw('POST', '/oauth/v1/token', '{}', {'Content-Type': 'application/json'})[0] == 400
	assert hs.ctl('GET', 'oauth') | {'refresh': 0} == {'refreshes': 0, 'refused': 4, 'conflicts': 0, 'access': [], 'refresh': 0}


def test_airtable_rotates_and_the_old_pair_is_dead(at):
	at.ctl('POST', 'config', {'oauth_conflict_ms': 0})
	first = air_token(at, 'fake-refresh-a')
	assert ask(at, first['access_token'], BASES) == 200
	second = air_token(at, first['refresh_token'])
	assert [ask(at, t['access_token'], BASES) for t in (first, second)] == [401, 200]
	assert air_token(at, first['refresh_token'], 400)['error'] == 'invalid_grant'
	assert at.ctl('GET', 'oauth')['refresh'] == [second['refresh_token']]


def test_airtable_answers_409_to_two_refreshes_in_a_second(at):
	first = air_token(at, 'fake-refresh-a')
	air_token(at, first['refresh_token'], 409)
	assert ask(at, first['access_token'], BASES) == 200 and at.ctl('GET', 'oauth')['conflicts'] == 1


def test_airtable_wants_basic_with_a_secret_and_none_without(at):
	form = {'client_id': 'fake-client', 'client_secret': 'fake-client-secret'}
	assert air_token(at, 'fake-refresh-a', 401, auth=None, **form)['error'] == 'invalid_client'
	at.ctl('POST', 'config', {'oauth_client_secret': None})
	assert air_token(at, 'fake-refresh-a', 401)['error'] == 'invalid_client'
	assert air_token(at, 'fake-refresh-a', auth=None, client_id='fake-client')['access_token']


@pytest.mark.parametrize('what, status', [('expired', 401), ('revoked', 401), ('kept', 200)])
def test_an_access_token_ends(hs, what, status):
	hs.ctl('POST', 'config', {'oauth_life_s': 0 if what == 'expired' else 60})
	token = hub_token(hs)['access_token']
	if what == 'revoked':
		hs.ctl('POST', 'oauth', {'revoke': 'access'})
	assert ask(hs, token, CONTACTS) == status


def test_a_revoked_refresh_token_is_refused_until_another_is_issued(hs):
	hs.ctl('POST', 'oauth', {'revoke': 'refresh'})
	hub_token(hs, 400)
	hs.ctl('POST', 'oauth', {'issue': 'again'})
	assert hub_token(hs, refresh_token='again')['access_token']
