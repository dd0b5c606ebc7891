"""The control plane, the log, the faults (A17.9) and the speed of the stand-ins.

Run all self-tests: /usr/bin/python3 -m pytest test/fakeapi -q
"""
import base64
import json
import os
import socket
import time

import pytest

from fakeapi.limits import Limits

BASE = '/v0/appFakeBase000001'


# -- the control plane and faults

def test_ctl_log_keeps_the_target_headers_and_body_byte_for_byte(hs):
	raw = b'\xc3\xa9'
	target = b'/crm/v3/objects/A%2fB%2FC/%zz//..;x?q=%20+&Q=' + raw + b'&x=a/b?c'
	with socket.create_connection(('127.0.0.1', hs.port)) as sock:
		sock.sendall(b'POST ' + target + b' HTTP/1.1\r\nhOsT: x\r\nX-Dup: 1\r\nx-dup:  2 \r\nContent-Length: 3\r\n'
					 b'Connection: close\r\n\r\n\x00\xffz')
		while sock.recv(4096):
			pass
	entry = hs.ctl('GET', 'log')['log'][-1]
	assert entry['target'].encode('utf-8', 'surrogateescape') == target
	assert [h for h in entry['headers'] if h[0].lower() in ('host', 'x-dup')] \
		== [['hOsT', 'x'], ['X-Dup', '1'], ['x-dup', '2 ']]
	assert base64.b64decode(entry['body']) == b'\x00\xffz' and entry['applied'] is False


def test_ctl_log_numbers_connections_and_says_what_was_applied(hs):
	hs('GET', '/crm/v3/objects/contacts', status=200)
	hs('POST', '/crm/v3/objects/contacts', {'properties': {'email': 'l@example.com'}}, 201)
	hs('POST', '/crm/v3/objects/contacts', {'properties': {'nope': 1}}, 400)
	log = hs.ctl('GET', 'log')['log']
	assert [(e['applied'], e['changed'], e['status']) for e in log] == [(True, False, 200), (True, True, 201), (False, False, 400)]
	assert len({e['connection'] for e in log}) == 1 and log[0]['time'] < log[1]['time']
	hs.ctl('DELETE', 'log')
	assert hs.ctl('GET', 'log')['log'] == []


def fault(hs, action, **more):
	hs.ctl('POST', 'fault', {'match': {'method': 'PATCH', 'path_regex': '/contacts/1001'}, 'action': action, **more})


def patched(hs):
	"""Did a PATCH behind a fault reach the record?"""
	rows = hs.ctl('GET', 'state?type=contacts')['records']['0-1']
	return rows[0]['properties']['firstname'] == 'Fault'


def exchange(hs):
	"""All bytes that come back for one PATCH, and the error that ended them."""
	body = b'{"properties":{"firstname":"Fault"}}'
	head = (f'PATCH /crm/v3/objects/contacts/1001 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {hs.token}\r\n'
			f'Content-Length: {len(body)}\r\n\r\n').encode()
	out = b''
	with socket.create_connection(('127.0.0.1', hs.port), timeout=1.5) as sock:
		sock.sendall(head + body)
		try:
			while True:
				got = sock.recv(1 << 20)
				if not got:
					return out, 'closed'
				out += got
				if b'"}' in out and b'Connection: close' not in out and b'Transfer-Encoding' not in out:
					return out, 'answered'
		except ConnectionResetError:
			return out, 'reset'
		except TimeoutError:
			return out, 'timeout'


@pytest.mark.parametrize('action, applied, end, empty', [
	('reset_before', False, 'reset', True), ('reset_after', True, 'reset', True),
	('close_after_request', False, 'closed', True), ('hang', False, 'timeout', True),
	('truncate', True, 'closed', False), ('truncate_head', True, 'closed', False), ('garbage', False, 'closed', False),
	('drip', True, 'closed', False), ('chunked', True, 'closed', False), ('until_close', True, 'closed', False)])
def test_a17_9_raw_faults(hs, action, applied, end, empty):
	more = {'bytes': 90} if action == 'drip' else {}
	fault(hs, action, **more)
	out, how = exchange(hs)
	assert how == end and (out == b'') is empty and patched(hs) is applied
	assert hs.ctl('GET', 'log')['log'][-1]['fault'] == action
	hs('PATCH', '/crm/v3/objects/contacts/1001', {'properties': {}}, 200)		# times: 1


def test_a17_9_hang_after_the_commit(hs):
	fault(hs, 'hang', apply=True)
	assert exchange(hs)[1] == 'timeout' and patched(hs)


def test_a17_9_a_slow_write_is_applied_though_the_client_has_gone(hs):
	fault(hs, 'delay', delay_ms=1700)			# exchange() gives up after 1.5 s
	assert exchange(hs)[1] == 'timeout' and not patched(hs)
	time.sleep(0.4)
	assert patched(hs) and hs.ctl('GET', 'log')['log'][-1]['applied'] is True


def test_a17_9_a_body_that_is_cut_off_is_never_applied(hs):
	with socket.create_connection(('127.0.0.1', hs.port)) as sock:
		sock.sendall(f'PATCH /crm/v3/objects/contacts/1001 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {hs.token}\r\n'
					 'Content-Length: 100\r\n\r\n{"properties"'.encode())
		time.sleep(0.1)
	time.sleep(0.1)
	entry = hs.ctl('GET', 'log')['log'][-1]
	assert entry['body'] is None and entry['applied'] is False and entry['status'] is None


def test_a17_9_status_faults_with_headers_and_apply(hs):
	fault(hs, 'status', status=477, headers={'Retry-After': '3'}, body={'status': 'error'}, times=2)
	url, body = '/crm/v3/objects/contacts/1001', {'properties': {'firstname': 'Fault'}}
	hs('PATCH', url, body, 477)
	assert hs.headers['Retry-After'] == '3' and not patched(hs)
	hs('PATCH', url, body, 477)
	fault(hs, 'status', status=502, apply=True, skip=1)
	hs('PATCH', url, {'properties': {}}, 200)
	hs('PATCH', url, body, 502)
	assert patched(hs)


def test_a17_9_malformed_gzip_huge_delay(hs):
	head = {'Authorization': f'Bearer {hs.token}'}
	url, body = '/crm/v3/objects/contacts/1001', '{"properties":{"firstname":"Fault"}}'
	fault(hs, 'malformed')
	with pytest.raises(ValueError):
		json.loads(hs.raw('PATCH', url, body, head)[1])
	fault(hs, 'gzip')
	assert hs.raw('PATCH', url, body, head)[1][:2] == b'\x1f\x8b'
	fault(hs, 'huge', size=1 << 20)
	raw = hs.raw('PATCH', url, body, head)[1]
	assert len(raw) > 1 << 20 and json.loads(raw)['id'] == '1001'
	fault(hs, 'delay', delay_ms=200)
	start = time.monotonic()
	hs.raw('PATCH', url, body, head)
	assert time.monotonic() - start >= 0.2


def test_ctl_edit_by_operation_and_by_request(hs, at):
	out = hs.ctl('POST', 'edit', [{'op': 'create', 'type': 'contacts', 'count': 2, 'properties': {'email': 'e{n}@x.com'}},
								  {'op': 'raw', 'type': 'contacts', 'id': '1001', 'properties': {'annualrevenue': 'old junk'}},
								  {'request': {'method': 'DELETE', 'path': '/crm/v3/objects/contacts/1002'}}])['results']
	assert len(out[0]['ids']) == 2 and out[2]['status'] == 204
	assert hs('GET', '/crm/v3/objects/contacts/1001?properties=annualrevenue', status=200)['properties']['annualrevenue'] \
		== 'old junk'
	at.ctl('POST', 'edit', [{'op': 'field_rename', 'table': 'Suppliers', 'field': 'Cost', 'name': 'Price'},
							{'op': 'update', 'table': 'Suppliers', 'id': 'recSupp0000000001', 'fields': {'Price': 3}},
							{'op': 'table_delete', 'table': 'Empty'}])
	assert at('GET', BASE + '/Suppliers/recSupp0000000001', status=200)['fields']['Price'] == 3
	at('GET', BASE + '/Empty', status=403)
	assert hs.ctl('GET', 'log')['log'][-1]['method'] == 'GET'


def test_ctl_reset_takes_counts_and_refuses_nonsense(hs):
	hs.ctl('POST', 'reset', {'contacts': 250, 'companies': 0})
	assert len(hs.ctl('GET', 'state?type=0-1')['records']['0-1']) == 250
	assert 'error' in hs('POST', '/__ctl/reset', {'nonsense': 3}, 400)
	hs('POST', '/__ctl/config', {'nonsense': 3}, 400)


def test_speed_a_request_costs_less_than_a_millisecond_of_cpu(hs, ports):
	"""1000 requests a second are possible; CPU time, since the machine is shared."""
	def cpu():
		with open(f'/proc/{ports["pid"]}/stat', encoding='ascii') as stat:
			fields = stat.read().rsplit(')', 1)[1].split()
		return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')
	hs.ctl('POST', 'config', {'limits': 'off'})
	before = cpu()
	for _ in range(400):
		hs('GET', '/crm/v3/objects/contacts/1001', status=200)
	assert (cpu() - before) / 400 < 0.001


def test_a12_the_judge_is_exact_in_every_sliding_window():
	limits = Limits({'default': [[2, 10.0]]})
	for at in (0.0, 9.5, 10.0, 19.5):			# never more than two within ten seconds
		limits.arrive('default', at)
	assert limits.violations == [] and limits.report()['windows'][0]['max_in_window'] == 2
	limits.arrive('default', 19.75)			# what a token bucket would allow
	assert [(v['count'], v['too_early_ms']) for v in limits.violations] == [(3, 250.0)]
	limits.configure({'slack_ms': 3})
	limits.arrive('default', 29.498)
	assert len(limits.violations) == 1
