"""Out-of-band edits and the whole state, for the control plane (README.md lists the edits)."""
from . import cells, meta
from .formula import iso
from .store import Change, Field, new_id


def _place(api, spec):
	base = api.base(spec.get('base') or next(iter(api.bases)))
	table = base.table(spec['table'])
	if table is None:
		raise KeyError(f'no table {spec["table"]}')
	return base, table


def _ids(table, spec):
	ids = spec.get('ids', [spec.get('id')])
	return list(table.records) if ids == 'all' else ids


def _write(api, base, change, table, record, fields):
	for key, value in fields.items():
		field = table.field(key)
		if field is None:
			raise KeyError(f'no field {key}')
		base.set(change, table, record, field, cells.clean(api, base, field, value, True, change))


def _create(api, spec):
	base, table = _place(api, spec)
	change, ids = Change('client'), []
	for n in range(int(spec.get('count', 1))):
		record = base.insert(change, table, spec.get('id'))
		given = {k: v.replace('{n}', str(n)) if isinstance(v, str) else v for k, v in spec.get('fields', {}).items()}
		_write(api, base, change, table, record, given)
		ids.append(record.id)
	base.commit(change)
	return {'ids': ids, 'id': ids[-1] if ids else None}


def _update(api, spec):
	base, table = _place(api, spec)
	change = Change('client')
	for rid in _ids(table, spec):
		_write(api, base, change, table, table.records[rid], spec['fields'])
	base.commit(change)
	return {'ok': True}


def _raw(api, spec):
	"""Any JSON into any stored cell, unchecked; the modified time moves unless bump is false."""
	base, table = _place(api, spec)
	change = Change('client')
	for rid in _ids(table, spec):
		for key, value in spec['fields'].items():
			base._store(change, table, table.records[rid], table.field(key), value, spec.get('bump', True))
	base.commit(change)
	return {'ok': True}


def _delete(api, spec):
	base, table = _place(api, spec)
	change = Change('client')
	ids = _ids(table, spec)
	for rid in ids:
		base.delete(change, table, table.records[rid])
	base.commit(change)
	return {'ids': ids}


def _field_create(api, spec):
	"""Any type, computed ones too."""
	base, table = _place(api, spec)
	given = spec['field']
	change = Change('client')
	if given['type'] in meta.CREATABLE:
		return meta.create_field(base, table, given).to_json()
	field = table.add_field(Field(new_id('fld'), given['name'], given['type'], given.get('options')))
	change.new_fields.setdefault(table.id, []).append(field)
	base.commit(change)
	return field.to_json()


def _field_rename(api, spec):
	base, table = _place(api, spec)
	return meta.patch_field(base, table, table.field(spec['field']), {'name': spec['name']}).to_json()


def _field_delete(api, spec):
	base, table = _place(api, spec)
	field = table.field(spec['field'])
	del table.fields[field.id]
	for record in table.records.values():
		record.cells.pop(field.id, None)
	change = Change('client')
	change.lost_fields[table.id] = [field.id]
	base.commit(change)
	return {'id': field.id}


def _field_type(api, spec):
	"""Change a field's type and options; `cells` maps old to new values with a plain conversion."""
	base, table = _place(api, spec)
	field = table.field(spec['field'])
	field.kind = spec['type']
	field.options = spec.get('options')
	change = Change('client')
	change.changed_fields[table.id] = {field.id: (field.name, field)}
	for record in table.records.values():
		old = record.cells.pop(field.id, None)
		if spec['type'] in cells.TEXT and old is not None:
			record.cells[field.id] = str(old)
	base.commit(change)
	return field.to_json()


def _table_create(api, spec):
	base = api.base(spec.get('base') or next(iter(api.bases)))
	return meta.create_table(base, spec['body']).to_json()


def _table_rename(api, spec):
	base, table = _place(api, spec)
	return meta.patch_table(base, table, {'name': spec['name']}).to_json()


def _table_delete(api, spec):
	base, table = _place(api, spec)
	change = Change('client')
	for record in list(table.records.values()):
		base.delete(change, table, record)
	for other in base.tables.values():		# link fields to it become text, as in the real thing
		for field in other.fields.values():
			if field.kind == 'multipleRecordLinks' and field.options['linkedTableId'] == table.id:
				field.kind, field.options = 'singleLineText', None
	del base.tables[table.id]
	change.lost_tables.append(table.id)
	base.commit(change)
	return {'id': table.id}


def _expire(api, _spec):
	"""All list iterators are gone (B3)."""
	count = len(api.iterators)
	api.iterators.clear()
	return {'expired': count}


EDITS = {'create': _create, 'update': _update, 'raw': _raw, 'delete': _delete, 'field_create': _field_create,
		 'field_rename': _field_rename, 'field_delete': _field_delete, 'field_type': _field_type,
		 'table_create': _table_create, 'table_rename': _table_rename, 'table_delete': _table_delete,
		 'expire_iterators': _expire}


def edit(api, spec):
	return EDITS[spec['op']](api, spec)


def _table_state(api, base, table):
	rows = []
	for record in table.records.values():
		shown = cells.show(api, base, table, record)
		shown['modifiedTime'] = iso(record.modified)
		shown['fieldsById'] = cells.show(api, base, table, record, True)['fields']
		rows.append(shown)
	return {'name': table.name, 'fields': [f.to_json() for f in table.fields.values()], 'records': rows}


def state(api, args):
	"""Everything; ?table= (id or name) for one table."""
	out = {'version': api.version, 'bases': {}}
	for base in api.bases.values():
		tables = [t for t in base.tables.values() if args.get('table') in (None, t.id, t.name)]
		out['bases'][base.id] = {'name': base.name, 'transactions': base.transactions,
								 'tables': {t.id: _table_state(api, base, t) for t in tables}}
	return out
