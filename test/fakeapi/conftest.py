"""Fixtures of the self-tests: one process with both stand-ins, reset before every test."""
import http.client
import json
import os
import subprocess
import sys

import pytest

TEST_DIR = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Client:
	"""One keep-alive connection to a stand-in."""

	def __init__(self, port, token):
		self.port = port
		self.token = token
		self.conn = http.client.HTTPConnection('127.0.0.1', port, timeout=10)

	def raw(self, method, path, body=None, headers=None):
		self.conn.request(method, path, body, headers or {})
		reply = self.conn.getresponse()
		return reply.status, reply.read(), reply.headers

	def __call__(self, method, path, body=None, status=None, headers=None):
		"""The decoded JSON (None for no body), checked against `status` when given."""
		head = {'Authorization': f'Bearer {self.token}', **(headers or {})}
		sent = None if body is None else json.dumps(body)
		if sent is not None:
			head['Content-Type'] = 'application/json'
		got, raw, self.headers = self.raw(method, path, sent, head)
		out = json.loads(raw) if raw else None
		if status is not None:
			assert got == status, (got, out)
		return out

	def ctl(self, method, path, body=None):
		return self(method, '/__ctl/' + path, body, 200)

	def drop(self):
		self.conn.close()


@pytest.fixture(scope='session')
def ports():
	env = {**os.environ, 'PYTHONPATH': TEST_DIR}
	with subprocess.Popen([sys.executable, '-m', 'fakeapi'], stdout=subprocess.PIPE, env=env, text=True) as proc:
		yield json.loads(proc.stdout.readline())
		proc.terminate()


@pytest.fixture
def hs(ports):
	client = Client(ports['hubspot'], 'pat-na1-test')
	client.ctl('POST', 'reset', {})
	yield client
	client.drop()


@pytest.fixture
def at(ports):
	client = Client(ports['airtable'], 'patFakeToken00001.secret')
	client.ctl('POST', 'reset', {})
	client.ctl('POST', 'config', {'limits': 'off'})
	yield client
	client.drop()
