"""Rate limits as a server sees them: exact sliding windows that judge, and on demand enforce.

`judge` counts every request that arrived, refused ones too.  `enforce` refuses by what was accepted,
so a client that backs off gets through.  Owned by server.py; the APIs name the bucket of a call.
"""
import time
from collections import deque

MODES = ('off', 'judge', 'enforce')


class Window:
	"""At most `limit` requests in any stretch of `span` seconds."""

	def __init__(self, limit, span):
		self.limit = int(limit)
		self.span = float(span)
		self.received = deque()
		self.accepted = deque()
		self.most = 0

	def _trim(self, now):
		for times in (self.received, self.accepted):
			while times and times[0] <= now - self.span:
				times.popleft()

	def judge(self, now, slack):
		"""Count an arrival; return by how many seconds it came too early, or None."""
		self._trim(now)
		self.received.append(now)
		self.most = max(self.most, len(self.received))
		if len(self.received) <= self.limit:
			return None
		early = self.received[-1 - self.limit] + self.span - now
		return early if early > slack else None

	def full(self):
		return len(self.accepted) >= self.limit

	def remaining(self, now):
		self._trim(now)
		return max(0, self.limit - len(self.received))


class Limits:
	"""All buckets of one API.  Bucket keys are `name` or `name:instance` (Airtable: one per base)."""

	def __init__(self, defaults, penalty=0.0):
		self.defaults = defaults
		self.default_penalty = penalty
		self.reset()

	def reset(self):
		self.mode = 'judge'
		self.slack = 0.0				# seconds by which the network may squeeze two requests
		self.penalty = self.default_penalty
		self.windows = {name: list(map(list, ws)) for name, ws in self.defaults.items()}
		self.forget()

	def forget(self):
		"""Forget all counts and violations, keep the configuration."""
		self.buckets = {}
		self.boxed = {}
		self.counts = {}
		self.violations = []

	def configure(self, cfg):
		"""`limits`: null/"off" or {bucket: [[n, seconds], ...]}; `mode`, `slack_ms`, `penalty_s`."""
		if 'mode' in cfg:
			if cfg['mode'] not in MODES:
				raise ValueError(f'mode must be one of {MODES}')
			self.mode = cfg['mode']
		if 'limits' in cfg:
			given = cfg['limits']
			if given in (None, 'off'):
				self.mode = 'off'
			else:
				self.windows.update(given)
		self.slack = cfg.get('slack_ms', self.slack * 1000) / 1000
		self.penalty = float(cfg.get('penalty_s', self.penalty))
		if {'mode', 'limits', 'penalty_s'} & set(cfg):
			self.forget()

	def _bucket(self, key):
		if key not in self.buckets:
			rules = self.windows.get(key.split(':')[0], [])
			self.buckets[key] = [Window(n, span) for n, span in rules]
		return self.buckets[key]

	def arrive(self, key, now=None):
		"""Count a request; return the window that refuses it, or None."""
		now = time.monotonic() if now is None else now
		self.counts[key] = self.counts.get(key, 0) + 1
		if self.mode == 'off':
			return None
		windows = self._bucket(key)
		for w in windows:
			early = w.judge(now, self.slack)
			if early is not None:
				self.violations.append({'bucket': key, 'limit': w.limit, 'span': w.span, 'at': now,
										'count': len(w.received), 'too_early_ms': round(early * 1000, 3)})
		return self._refuse(key, windows, now) if self.mode == 'enforce' else None

	def _refuse(self, key, windows, now):
		if self.boxed.get(key, 0) > now:
			return windows[0]
		over = next((w for w in windows if w.full()), None)
		if over is not None:
			if self.penalty:
				self.boxed[key] = now + self.penalty
			return over
		for w in windows:
			w.accepted.append(now)
		return None

	def remaining(self, key):
		"""(limit, remaining, span) of the bucket's first window, or None when off."""
		windows = self._bucket(key) if self.mode != 'off' else []
		if not windows:
			return None
		return windows[0].limit, windows[0].remaining(time.monotonic()), windows[0].span

	def report(self):
		"""What GET /__ctl/judge answers."""
		seen = [{'bucket': key, 'limit': w.limit, 'span': w.span, 'max_in_window': w.most}
				for key, ws in self.buckets.items() for w in ws]
		return {'mode': self.mode, 'windows': seen, 'violations': self.violations[:1000],
				'violation_count': len(self.violations), 'requests': dict(self.counts)}
