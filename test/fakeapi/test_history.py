"""The stand-ins' record of states, and jitter that is the same for the same seed."""
import random

from fakeapi.jitter import Jitter


def ask(fake, method, path, body=None, marker=None):
	return fake(method, path, body, headers={'X-Test-Op': marker} if marker else {})


def told(fake):
	return ask(fake, 'GET', '/__ctl/history')


def test_each_change_is_told_with_its_request_and_only_what_is_new(hs):
	ask(hs, 'POST', '/__ctl/history')
	made = ask(hs, 'POST', '/crm/v3/objects/contacts', {'properties': {'firstname': 'a', 'lastname': 'b'}}, 'one')['id']
	ask(hs, 'PATCH', f'/crm/v3/objects/contacts/{made}', {'properties': {'firstname': 'c'}}, 'two')
	ask(hs, 'PUT', f'/crm/v4/objects/contacts/{made}/associations/default/companies/1001', None, 'three')
	ask(hs, 'DELETE', f'/crm/v3/objects/contacts/{made}', None, 'four')
	mine = [c for c in told(hs)['changes'] if c['op']]
	assert [(c['op'], c['c'], c['gone']) for c in mine if c['c'] == '0-1'] == [
		('one', '0-1', False), ('two', '0-1', False), ('four', '0-1', True)]
	assert 'lastname' not in mine[1]['set'] and mine[1]['set']['firstname'] == 'c'
	assert [(c['op'], c['gone']) for c in mine if c['c'] == '0-1:0-2' and c['id'] == f'{made}:1001'] == [('three', False), ('four', True)]
	assert [a['op'] for a in told(hs)['arrivals']] == ['one', 'two', 'three', 'four']


def test_what_was_there_before_is_told_first(hs):
	ask(hs, 'POST', '/__ctl/history')
	assert any(c['op'] is None and c['c'] == '0-1' and c['set'].get('firstname') == 'First1' for c in told(hs)['changes'])


def test_nothing_is_kept_unless_asked_for(hs):
	ask(hs, 'POST', '/crm/v3/objects/contacts', {'properties': {'firstname': 'a'}}, 'one')
	assert told(hs) == {'on': False, 'changes': [], 'arrivals': []}


def test_a_record_of_airtable_is_told_too(at):
	ask(at, 'POST', '/__ctl/history')
	path = '/v0/appFakeBase000001/Suppliers'
	made = ask(at, 'POST', path, {'fields': {'Name': 'a', 'Cost': 1}}, 'one')['id']
	ask(at, 'PATCH', f'{path}/{made}', {'fields': {'Cost': 2}}, 'two')
	ask(at, 'DELETE', f'{path}/{made}', None, 'three')
	mine = [(c['op'], c['gone'], c['set']) for c in told(at)['changes'] if c['op']]
	assert mine[0][2]['Name'] == 'a'
	assert mine[1:] == [('two', False, {'Cost': 2}), ('three', True, {})]


def test_jitter_hangs_on_seed_and_marker_alone():
	spec = {'seed': 7, 'slow': 0.5, 'faults': {'reset_after': 0.3}}

	def fates(markers):
		jitter = Jitter(spec)
		return {m: (*jitter.plan(m)[:2], bool(jitter.plan(m)[2])) for m in markers}

	markers = [f'm{i}' for i in range(200)]
	assert fates(markers) == fates(random.sample(markers, 200))
	assert 30 < sum(f[2] for f in fates(markers).values()) < 90
