"""Delays and faults at random, the same for the same seed: what makes answers overtake each other.

A request's fate hangs on the seed and on its marker (history.py), or for an unmarked one on its number, so it
does not depend on who came first.  `before`: until the API carries it out; `after`: until the answer goes out.
"""
import random

from . import faults

SHAPES = {'before_ms': [0, 10], 'after_ms': [0, 30], 'slow': 0.0, 'slow_ms': [100, 600], 'faults': {}}


class Jitter:
	"""`slow`: the share of requests that wait `slow_ms` on top; `faults`: {action: probability} (faults.py)."""

	def __init__(self, spec):
		unknown = set(spec) - set(SHAPES) - {'seed', 'fault_args'}
		if unknown or not set(spec.get('faults', {})) <= set(faults.ACTIONS):
			raise ValueError(f'unknown jitter {sorted(unknown) or spec["faults"]}; known {sorted(SHAPES)}')
		self.seed = spec.get('seed', 0)
		self.spec = {**SHAPES, **spec}
		self.args = spec.get('fault_args', {})
		self.count = 0

	def plan(self, marker):
		"""(seconds before, seconds after, Fault or None) of the next request."""
		if marker is None:
			self.count += 1
			marker = f'#{self.count}'
		rng = random.Random(f'{self.seed}/{marker}')
		before, after = (rng.uniform(*self.spec[k]) / 1000 for k in ('before_ms', 'after_ms'))
		if rng.random() < self.spec['slow']:
			extra = rng.uniform(*self.spec['slow_ms']) / 1000
			before, after = (before + extra, after) if rng.random() < 0.4 else (before, after + extra)
		dice = rng.random()
		for action, probability in self.spec['faults'].items():
			if dice < probability:
				return before, after, faults.Fault(0, {'action': action, **self.args.get(action, {})})
			dice -= probability
		return before, after, None
