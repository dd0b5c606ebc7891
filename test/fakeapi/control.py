"""The control plane under /__ctl/: what a test does to a stand-in past its API.

Never counted, judged, logged or faulted.  Each port has its own plane for its own API.
"""
from .jitter import Jitter
from .message import Call, Reply


def _reset(server, body):
	"""Fresh seeded state, no faults, an empty log, default configuration."""
	server.faults.clear()
	server.jitter = None
	server.log.clear()
	server.limits.reset()
	server.api.reset(body)
	return {'ok': True}


def _config(server, body):
	server.limits.configure(body)
	server.api.configure({k: v for k, v in body.items()
						  if k not in ('limits', 'mode', 'slack_ms', 'penalty_s')})
	return _show_config(server)


def _show_config(server):
	limits = server.limits
	return {'mode': limits.mode, 'limits': limits.windows, 'slack_ms': limits.slack * 1000,
			'penalty_s': limits.penalty, **server.api.config}


def _edit(server, body):
	"""Out-of-band edits: one edit or a list.  {"request": {...}} is an API call without auth or limit."""
	edits = body if isinstance(body, list) else [body]
	return {'results': [_edit_one(server, e) for e in edits]}


def _edit_one(server, edit):
	if 'request' not in edit:
		return server.api.edit(edit)
	req = edit['request']
	raw = Reply(200, req['body']).payload() if 'body' in req else b''
	reply = server.answer(Call(req.get('method', 'POST'), req['path'], [], raw), trusted=True)
	return {'status': reply.status, 'body': None if isinstance(reply.body, bytes) else reply.body}


def _fault(server, body):
	specs = body if isinstance(body, list) else [body]
	return {'ids': [server.faults.add(spec).number for spec in specs]}


def _jitter(server, body):
	server.jitter = Jitter(body) if body else None
	return {'ok': True}


def _history(server, call):
	return server.api.history.to_json(int(call.arg('changes', 0)), int(call.arg('arrivals', 0)))


def _log(server, call):
	return server.log.to_json(int(call.arg('since', 0)), call.arg('brief') is not None)


def _state(server, call):
	return server.api.state(dict(call.args))


def handle(server, call):
	"""Route one control request."""
	name = '/'.join(call.segments[1:])
	key = f'{call.method} {name}'
	body = call.json() if call.body else {}
	routes = {
		'GET ping': lambda: {'ok': True},
		'POST reset': lambda: _reset(server, body),
		'POST fault': lambda: _fault(server, body),
		'GET fault': lambda: {'faults': [f.to_json() for f in server.faults.faults]},
		'DELETE fault': lambda: server.faults.clear() or {'ok': True},
		'POST jitter': lambda: _jitter(server, body),
		'DELETE jitter': lambda: _jitter(server, None),
		'POST history': lambda: server.api.history.start(server.api.everything()) or {'ok': True},
		'GET history': lambda: _history(server, call),
		'DELETE history': lambda: server.api.history.stop() or {'ok': True},
		'GET log': lambda: _log(server, call),
		'DELETE log': lambda: server.log.clear() or {'ok': True},
		'GET config': lambda: _show_config(server),
		'POST config': lambda: _config(server, body),
		'GET state': lambda: _state(server, call),
		'POST edit': lambda: _edit(server, body),
		'GET oauth': server.api.oauth.report,
		'POST oauth': lambda: server.api.oauth.control(body),
		'GET judge': lambda: server.limits.report(),
		'DELETE judge': lambda: server.limits.forget() or {'ok': True},
	}
	if key not in routes:
		return Reply(404, {'error': f'no control {key}', 'known': sorted(routes)})
	return Reply(200, routes[key]())
