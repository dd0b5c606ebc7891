"""The records: creation, change, archive, merge, purge, and what the search index can see of them.

Raises HubSpot's errors but knows no HTTP.  `version` counts every change.
"""
from bisect import bisect_right
from collections import deque
import time

from . import errors
from .types import MERGEABLE, READ_ONLY
from .values import clean, iso


class Record:
	"""One object.  `versions` feeds the lagging search index: (monotonic time, properties or None)."""

	__slots__ = ('id', 'kind', 'props', 'created', 'updated', 'archived', 'archived_at', 'history', 'versions')

	def __init__(self, kind, record_id, now):
		self.id = record_id
		self.kind = kind
		self.props = {}
		self.created = self.updated = now
		self.archived = False
		self.archived_at = None
		self.history = {}
		self.versions = deque()

	def put(self, name, value, now):
		"""Set one property and remember its history."""
		if self.props.get(name) == value:
			return
		self.props[name] = value
		past = self.history.setdefault(name, [])
		past.insert(0, {'value': value or '', 'timestamp': iso(now), 'sourceType': 'INTEGRATION', 'sourceId': 'fake'})
		del past[20:]


def _calculated(record):
	"""The properties that HubSpot computes itself, by type (A5)."""
	p = record.props
	if record.kind.id == '0-1':
		name = ' '.join(x for x in (p.get('firstname'), p.get('lastname')) if x)
		return {'hs_all_contact_vids': record.id, 'hs_email_domain': (p.get('email') or '@').split('@')[1] or None,
				'hs_is_contact': 'true', 'hs_is_unworked': 'true', 'hs_pipeline': 'contacts-lifecycle-pipeline',
				'lifecyclestage': p.get('lifecyclestage') or 'lead', 'hs_full_name_or_email': name or p.get('email')}
	if record.kind.id == '0-2':
		return {'hs_pipeline': 'companies-lifecycle-pipeline', 'website': p.get('website') or p.get('domain')}
	if record.kind.id == '0-3':
		return {'pipeline': p.get('pipeline') or 'default', 'hs_projected_amount': p.get('amount'),
				'dealstage': p.get('dealstage') or 'appointmentscheduled',
				'hs_is_closed': 'true' if (p.get('dealstage') or '').startswith('closed') else 'false'}
	if record.kind.id == '0-5':
		return {'hs_pipeline': p.get('hs_pipeline') or '0', 'hs_pipeline_stage': p.get('hs_pipeline_stage') or '1'}
	return {}


class Store:
	"""All records of the account."""

	def __init__(self, types, clock, config, history):
		self.types = types
		self.clock = clock
		self.history = history
		self.config = config
		self.version = 0
		self.records = {}			# type id -> {id: Record}
		self.order = {}				# type id -> [int id], ascending; may hold gone ids
		self.merged = {}			# type id -> {old id: survivor id}
		self.unique = {}			# (type id, property) -> {value: record id}
		self.next_id = {}
		self.blocklist = set()
		self.ghosts = {}			# type id -> [Record], gone but perhaps still in the search index
		self.links = None			# set by api.py

	def of(self, kind):
		return self.records.setdefault(kind.id, {})

	# -- look-up

	def find(self, kind, key, id_property=None):
		"""A record, archived or not, by id (merged-away ids lead to the survivor) or unique property."""
		if id_property and id_property != 'hs_object_id':
			prop = kind.properties.get(id_property)
			if prop is None or not prop['hasUniqueValue']:
				raise errors.invalid(f'Property {id_property} is not a unique property of {kind.plural}')
			key = self.unique.get((kind.id, id_property), {}).get(str(key).strip().lower())
		key = str(key)
		seen = self.merged.get(kind.id, {})
		while key in seen:
			key = seen[key]
		return self.of(kind).get(key)

	def get(self, kind, key, id_property=None, archived=False):
		record = self.find(kind, key, id_property)
		if record is None or record.archived != archived:
			raise errors.not_found(key)
		return record

	def page(self, kind, after, limit, archived):
		"""Up to limit+1 records by ascending id after an id."""
		order, records = self.order.get(kind.id, []), self.of(kind)
		out = []
		for i in range(bisect_right(order, after), len(order)):
			record = records.get(str(order[i]))
			if record is not None and record.archived == archived:
				out.append(record)
				if len(out) > limit:
					break
		return out

	# -- change

	def check(self, kind, given, record=None):
		"""Clean values, or a 400 for the whole request (A4, A11)."""
		if not isinstance(given, dict):
			raise errors.invalid('Invalid input JSON: properties must be an object')
		out, problems = {}, []
		for name, value in given.items():
			prop = kind.properties.get(name) or kind.properties.get(name.lower())
			if prop is None or prop['archived']:
				problems.append((name, 'PROPERTY_DOESNT_EXIST', f'Property "{name}" does not exist'))
			elif prop['modificationMetadata']['readOnlyValue']:
				problems.append((name, 'READ_ONLY_VALUE', f'"{name}" is a read only property'))
			else:
				text, code = clean(prop, value)
				if code:
					problems.append((name, code, f'{value} was not a valid value for {name}'))
				out[prop['name']] = text
		if problems:
			raise errors.bad_values(problems)
		self._check_unique(kind, out, record)
		return out

	def _check_unique(self, kind, values, record):
		for name, value in values.items():
			if not value or not kind.properties[name]['hasUniqueValue']:
				continue
			other = self.unique.get((kind.id, name), {}).get(value.lower())
			if other is None or (record is not None and other == record.id):
				continue
			if name == 'email':
				raise errors.conflict(other)
			raise errors.bad_values([(name, 'CONFLICTING_UNIQUE_VALUE',
									  f'{value} is already taken by object with id {other}')])

	def mint(self, kind):
		"""A new id.  Types count for themselves, so one id exists in several types."""
		number = self.next_id.get(kind.id, self.config['id_base'])
		self.next_id[kind.id] = number + 1
		self.order.setdefault(kind.id, []).append(number)
		return str(number)

	def create(self, kind, values):
		"""A new record with already checked values."""
		if kind.id in READ_ONLY:
			raise errors.invalid(f'Objects of type {kind.plural} can not be created')
		now = self.clock.now()
		record = Record(kind, self.mint(kind), now)
		self.of(kind)[record.id] = record
		self._own(record, now)
		self._set(record, values, now)
		return record

	def _own(self, record, now):
		record.props.update({'hs_object_id': record.id, record.kind.created: iso(now),
							 'hs_object_source': 'INTEGRATION', 'hs_object_source_id': '4711',
							 'hs_object_source_label': 'INTEGRATION'})

	def update(self, record, values):
		self._set(record, values, self.clock.now())

	def _set(self, record, values, now):
		for name, value in values.items():
			if record.kind.properties[name]['hasUniqueValue']:
				self._move_unique(record, name, value)
			record.put(name, value or None, now)
		for name, value in _calculated(record).items():
			record.put(name, value, now)
		self.touch(record, now)

	def _move_unique(self, record, name, value):
		index = self.unique.setdefault((record.kind.id, name), {})
		old = record.props.get(name)
		if old and index.get(old.lower()) == record.id:
			del index[old.lower()]
		if value:
			index[value.lower()] = record.id

	def touch(self, record, now):
		"""Move the last-modified time, never backwards, and feed the search index."""
		record.updated = max(now, record.updated)
		record.props[record.kind.modified] = iso(record.updated)
		if record.kind.modified != 'hs_lastmodifieddate':
			record.props['hs_lastmodifieddate'] = iso(record.updated)
		self.index(record)

	def index(self, record):
		"""Show the record's present state to searches after the lag."""
		self.version += 1
		seen = None if record.archived else dict(record.props)
		if self.history.on:
			self.history.note(record.kind.id, record.id, None if record.archived else self.shown(record))
		if not self.config['search_lag_ms']:
			record.versions.clear()
		record.versions.append((time.monotonic(), seen))

	@staticmethod
	def shown(record):
		return {**record.props, 'updatedAt': record.updated}

	def index_of(self, kind, cutoff):
		"""(record, properties) of all that a search may see, ghosts of deleted records included."""
		ghosts = [r for r in self.ghosts.get(kind.id, ()) if self.indexed(r, cutoff) is not None]
		self.ghosts[kind.id] = ghosts
		for record in [*self.of(kind).values(), *ghosts]:
			props = self.indexed(record, cutoff)
			if props is not None:
				yield record, props

	def indexed(self, record, cutoff):
		"""The properties that a search may see, or None."""
		versions = record.versions
		while len(versions) > 1 and versions[1][0] <= cutoff:
			versions.popleft()
		if not versions or versions[0][0] > cutoff:
			return None
		return versions[0][1]

	# -- the end of records

	def archive(self, record):
		if record.archived:
			return
		record.archived = True
		record.archived_at = self.clock.now()
		for name, value in record.props.items():
			index = self.unique.get((record.kind.id, name))
			if index and value and index.get(value.lower()) == record.id:
				del index[value.lower()]
		self.links.forget(record)
		self.index(record)

	def restore(self, record):
		record.archived = False
		record.archived_at = None
		for name, value in record.props.items():
			if value and record.kind.properties.get(name, {}).get('hasUniqueValue'):
				self._move_unique(record, name, value)
		self.touch(record, self.clock.now())

	def purge(self, record):
		"""gdpr-delete: gone for good (A7)."""
		self.archive(record)
		self._remove(record)

	def _remove(self, record):
		if self.of(record.kind).pop(record.id, None) is not None and self.config['search_lag_ms']:
			self.ghosts.setdefault(record.kind.id, []).append(record)

	def merge(self, kind, primary_id, other_id):
		"""Mint a record from two (A6); `merge_mints: false` keeps the primary as it was before 2025."""
		if kind.id not in MERGEABLE and not kind.custom:
			raise errors.invalid(f'Objects of type {kind.plural} can not be merged')
		one, two = self.get(kind, primary_id), self.get(kind, other_id)
		if one is two:
			raise errors.invalid('Cannot merge an object with itself')
		now = self.clock.now()
		into = one
		if self.config['merge_mints']:
			into = Record(kind, self.mint(kind), now)
			into.created = min(one.created, two.created)
			self.of(kind)[into.id] = into
			self._own(into, into.created)
		gone = [r for r in (one, two) if r is not into]
		values = {**self._writable(two), **self._writable(one)}
		consumed = self._consumed(one) + self._consumed(two) + [r.id for r in gone]
		emails = [r.props['email'] for r in gone if r.props.get('email')]
		for record in gone:
			self._swallow(record, into)
		self._set(into, values, now)
		self._note_merge(into, consumed, emails, now)
		return into

	def _note_merge(self, into, consumed, emails, now):
		into.put('hs_merged_object_ids', ';'.join(dict.fromkeys(consumed)), now)
		if into.kind.id == '0-1':
			into.put('hs_calculated_merged_vids', ';'.join(f'{i}:{now}' for i in consumed), now)
			extra = [e for e in emails if e != into.props.get('email')]
			into.put('hs_additional_emails', ';'.join(extra) or None, now)
			for email in extra:
				self.unique.setdefault(('0-1', 'email'), {})[email] = into.id
		self.touch(into, now)

	@staticmethod
	def _consumed(record):
		return [i for i in (record.props.get('hs_merged_object_ids') or '').split(';') if i]

	@staticmethod
	def _writable(record):
		known = record.kind.properties
		return {n: v for n, v in record.props.items()
				if v and n in known and not known[n]['modificationMetadata']['readOnlyValue']}

	def _swallow(self, record, into):
		"""A merged-away record vanishes, unless `merge_archives` (sources differ)."""
		self.links.move(record, into)
		self.archive(record)
		self.merged.setdefault(record.kind.id, {})[record.id] = into.id
		if not self.config['merge_archives']:
			self._remove(record)
