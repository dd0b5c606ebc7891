"""Bases, tables, fields, records; links with their inverses; one transaction per accepted write.

Knows no HTTP.  Every change goes through a Change object, from which webhooks.py makes payloads.
"""
import random
import string

ALNUM = string.ascii_letters + string.digits
COMPUTED = {'formula', 'rollup', 'count', 'multipleLookupValues', 'autoNumber', 'createdTime', 'lastModifiedTime',
			'createdBy', 'lastModifiedBy', 'button', 'aiText', 'externalSyncSource', 'manualSort'}


def new_id(prefix):
	"""A prefix and 14 alphanumerics; case matters."""
	return prefix + ''.join(random.choices(ALNUM, k=14))


class Field:
	"""One column."""

	def __init__(self, field_id, name, kind, options=None, description=None):
		self.id = field_id
		self.name = name
		self.kind = kind
		self.options = options
		self.description = description

	@property
	def computed(self):
		return self.kind in COMPUTED

	def to_json(self):
		out = {'id': self.id, 'name': self.name, 'type': self.kind}
		if self.description:
			out['description'] = self.description
		if self.options is not None:
			out['options'] = {k: v for k, v in self.options.items() if not k.startswith('_')}
		return out

	def choice(self, name):
		return next((c for c in (self.options or {}).get('choices', []) if c['name'] == name), None)


class Record:
	"""One row; `cells` by field id holds what is stored, computed cells are made on reading."""

	__slots__ = ('id', 'seq', 'created', 'modified', 'cells', 'comments')

	def __init__(self, record_id, seq, now):
		self.id = record_id
		self.seq = seq
		self.created = self.modified = now
		self.cells = {}
		self.comments = []


class Table:
	"""A table: fields in order, rows in order of creation."""

	def __init__(self, table_id, name, description=None):
		self.id = table_id
		self.name = name
		self.description = description
		self.fields = {}
		self.records = {}
		self.seq = 0
		self.views = [{'id': new_id('viw'), 'name': 'Grid view', 'type': 'grid'}]

	@property
	def primary(self):
		return next(iter(self.fields.values()))

	def add_field(self, field):
		self.fields[field.id] = field
		return field

	def field(self, key):
		"""By id, else by exact name."""
		found = self.fields.get(key)
		if found is None:
			found = next((f for f in self.fields.values() if f.name == key), None)
		return found

	def to_json(self):
		out = {'id': self.id, 'name': self.name, 'primaryFieldId': self.primary.id,
			   'fields': [f.to_json() for f in self.fields.values()], 'views': self.views}
		if self.description:
			out['description'] = self.description
		return out


class Change:
	"""What one transaction did, by table id; webhooks read it."""

	def __init__(self, source='publicApi'):
		self.source = source
		self.created = {}			# table id -> {record id: Record}
		self.changed = {}			# table id -> {record id: set of field ids}
		self.previous = {}			# record id -> {field id: old cell}
		self.destroyed = {}			# table id -> [record id]
		self.new_fields = {}		# table id -> [Field]
		self.changed_fields = {}	# table id -> {field id: (old name, Field)}
		self.renamed = {}			# table id -> (old name, Table)
		self.new_tables = []
		self.lost_fields = {}		# table id -> [field id]
		self.lost_tables = []


class Base:
	"""One base."""

	def __init__(self, base_id, name, clock):
		self.id = base_id
		self.name = name
		self.clock = clock
		self.tables = {}
		self.where = {}				# record id -> Table
		self.transactions = 0
		self.hooks = {}
		self.on_change = None		# set by api.py
		self.resolution = 1000		# ms: record times have whole seconds (B8: `.000Z`)

	def table(self, key):
		"""By id, else by exact name (B2)."""
		found = self.tables.get(key)
		if found is None:
			found = next((t for t in self.tables.values() if t.name == key), None)
		return found

	def add_table(self, table):
		self.tables[table.id] = table
		return table

	def record(self, record_id):
		"""(table, record) anywhere in the base, or (None, None)."""
		table = self.where.get(record_id)
		return (table, table.records[record_id]) if table else (None, None)

	def commit(self, change):
		"""Number the transaction and tell the webhooks."""
		self.transactions += 1
		if self.on_change:
			self.on_change(self, change)

	def now(self):
		"""The time that a record shows."""
		return self.clock.now() // self.resolution * self.resolution

	# -- rows

	def insert(self, change, table, record_id=None):
		table.seq += 1
		record = Record(record_id or new_id('rec'), table.seq, self.now())
		table.records[record.id] = record
		self.where[record.id] = table
		change.created.setdefault(table.id, {})[record.id] = record
		return record

	def delete(self, change, table, record):
		"""Remove a row; links to it go too."""
		for field in table.fields.values():
			if field.kind == 'multipleRecordLinks' and record.cells.get(field.id):
				self.set(change, table, record, field, None)
		for other, field in self._links_to(table):
			for row in other.records.values():
				if record.id in (row.cells.get(field.id) or ()):
					self.set(change, other, row, field, [i for i in row.cells[field.id] if i != record.id])
		del table.records[record.id]
		del self.where[record.id]
		change.created.get(table.id, {}).pop(record.id, None)
		change.changed.get(table.id, {}).pop(record.id, None)
		change.destroyed.setdefault(table.id, []).append(record.id)

	def _links_to(self, table):
		"""Link fields without an inverse that point to a table."""
		return [(t, f) for t in self.tables.values() for f in t.fields.values()
				if f.kind == 'multipleRecordLinks' and f.options['linkedTableId'] == table.id
				and not f.options.get('inverseLinkFieldId')]

	def set(self, change, table, record, field, value):
		"""Store one cell (None: empty) and follow links to the other side."""
		before = record.cells.get(field.id)
		if before == value:
			return
		self._store(change, table, record, field, value)
		inverse = (field.options or {}).get('inverseLinkFieldId') if field.kind == 'multipleRecordLinks' else None
		if inverse:
			self._follow(change, record, field, inverse, before or [], value or [])

	def _store(self, change, table, record, field, value, bump=True):
		change.previous.setdefault(record.id, {}).setdefault(field.id, record.cells.get(field.id))
		if value is None:
			record.cells.pop(field.id, None)
		else:
			record.cells[field.id] = value
		if bump:
			record.modified = max(record.modified, self.now())
		if record.id not in change.created.get(table.id, {}):
			change.changed.setdefault(table.id, {}).setdefault(record.id, set()).add(field.id)

	def _follow(self, change, record, field, inverse, before, after):
		other = self.tables[field.options['linkedTableId']]
		back = other.fields[inverse]
		for rid in set(before) ^ set(after):
			row = other.records.get(rid)
			if row is None:
				continue
			held = [i for i in row.cells.get(inverse, []) if i != record.id]
			if rid in after:
				held = held + [record.id]
			self._store(change, other, row, back, held or None, self.clock.inverse_bumps)
