"""The ordered record of an API's states, for a judge: which request made which record what, and when.

Off until a test turns it on.  A request is known by its marker, the value of its `X-Test-Op` header.
`seq` orders all changes of one API; a change tells only what is other than before.  Also notes each arrival
of a marked request and what it was answered, so that one that came twice, or not at all, shows.
"""
import time
import zlib

MARKER = 'x-test-op'


class History:
	"""Filled by server.py (arrivals) and the APIs' stores (changes)."""

	def __init__(self):
		self.stop()

	def stop(self):
		self.on = False
		self.seq = 0
		self.changes = []
		self.arrivals = []
		self.last = {}				# (collection, id) -> its values as they are
		self.marker = None			# of the request under way

	def start(self, records):
		"""Turn on, with what is there already: (collection, id, values)."""
		self.stop()
		self.on = True
		for collection, key, values in records:
			self.note(collection, key, values)

	def note(self, collection, key, values, implied=False):
		"""A record or link is so now; None: gone.  `implied`: by a request that did not name it."""
		if not self.on:
			return
		before = self.last.get((collection, key))
		if values is None:
			if before is None:
				return
			del self.last[collection, key]
			changed = {}
		else:
			old = before or {}
			changed = {k: v for k, v in values.items() if old.get(k) != v}
			changed.update({k: None for k in old.keys() - values.keys() if old[k] is not None})
			if before is not None and not changed:
				return
			self.last[collection, key] = dict(values)
		self.seq += 1
		self.changes.append({'seq': self.seq, 't': time.monotonic(), 'op': self.marker, 'c': collection, 'id': key,
							 'gone': values is None, 'set': changed, 'implied': implied})

	def arrived(self, marker, entry):
		"""A marked request is here; the dict that `answered` completes."""
		if not self.on or marker is None:
			return None
		arrival = {'op': marker, 't': entry.time, 'n': entry.n, 'status': None, 'applied': False, 'crc': None, 'fault': None}
		self.arrivals.append(arrival)
		return arrival

	@staticmethod
	def answered(arrival, entry, body):
		if arrival is not None:
			arrival.update(status=entry.status, applied=entry.applied, fault=entry.fault,
						   crc=None if body is None else zlib.crc32(body))

	def to_json(self, changes=0, arrivals=0, most=20000):
		"""From these positions on, so many at most."""
		return {'on': self.on, 'changes': self.changes[changes:changes + most], 'arrivals': self.arrivals[arrivals:arrivals + most]}
