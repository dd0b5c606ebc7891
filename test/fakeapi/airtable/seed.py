"""The seeded base: `{"records": n, "suppliers": n}`.  Every field type of B8, every awkward name.

All ids are fixed, so tests may name them; two pairs differ only by case.
"""
from . import cells
from .store import Base, Change, Field, Table

BASE_ID = 'appFakeBase000001'
OTHER_BASE_ID = 'appFakeBase000002'
PRODUCTS, SUPPLIERS = 'tblProducts000001', 'tblSuppliers00001'
TEXT_OPTIONS = {'isReversed': False, 'prefersSingleRecordLink': False}
RESULT = {'result': {'type': 'number', 'options': {'precision': 2}}, 'isValid': True}


def fld(n):
	"""The id of the n-th field of Product Inventory."""
	return f'fldProd{n:010d}'


def _choices(*names):
	return {'choices': [{'id': f'sel{n:<14}'.replace(' ', '0')[:17], 'name': n, 'color': 'blueLight2'} for n in names]}


# name, type, options: the order numbers the ids from 1
PRODUCT_FIELDS = [
	('Name', 'singleLineText', None), ('Notes', 'multilineText', None), ('Rich Notes', 'richText', None),
	('Contact Email', 'email', None), ('Website', 'url', None), ('Phone', 'phoneNumber', None),
	('Quantity', 'number', {'precision': 0}), ('Price', 'currency', {'precision': 2, 'symbol': '$'}),
	('Margin %', 'percent', {'precision': 1}), ('Stars', 'rating', {'max': 5, 'icon': 'star', 'color': 'yellowBright'}),
	('Build Time', 'duration', {'durationFormat': 'h:mm:ss'}),
	('In Stock?', 'checkbox', {'icon': 'check', 'color': 'greenBright'}),
	('Released', 'date', {'dateFormat': {'name': 'iso', 'format': 'YYYY-MM-DD'}}),
	('Checked At', 'dateTime', {'dateFormat': {'name': 'iso', 'format': 'YYYY-MM-DD'},
								'timeFormat': {'name': '24hour', 'format': 'HH:mm'}, 'timeZone': 'utc'}),
	('Status', 'singleSelect', _choices('Todo', 'Doing', 'Done')), ('Tags', 'multipleSelects', _choices('red', 'green', 'a, b')),
	('Owner', 'singleCollaborator', None), ('Team', 'multipleCollaborators', None),
	('Suppliers', 'multipleRecordLinks', {'linkedTableId': SUPPLIERS, 'inverseLinkFieldId': 'fldSupp0000000004', **TEXT_OPTIONS}),
	('Photos', 'multipleAttachments', {'isReversed': False}), ('Barcode', 'barcode', None),
	('Open', 'button', {'_label': 'Open'}), ('Summary (AI)', 'aiText', {'prompt': ['Summarise'], 'referencedFieldIds': []}),
	('Total', 'formula', {'formula': f'{{{fld(7)}}} * {{{fld(8)}}}', 'referencedFieldIds': [fld(7), fld(8)], **RESULT}),
	('Ratio', 'formula', {'formula': f'{{{fld(8)}}} / {{{fld(7)}}}', 'referencedFieldIds': [fld(7), fld(8)], **RESULT}),
	('Label', 'formula', {'formula': f'{{{fld(1)}}} & " #" & {{{fld(32)}}}', 'referencedFieldIds': [fld(1), fld(32)],
						  'result': {'type': 'singleLineText'}, 'isValid': True}),
	('Supplier Cost', 'rollup', {'recordLinkFieldId': fld(19), 'fieldIdInLinkedTable': 'fldSupp0000000003',
								 '_function': 'SUM', 'referencedFieldIds': [], **RESULT}),
	('Average Cost', 'rollup', {'recordLinkFieldId': fld(19), 'fieldIdInLinkedTable': 'fldSupp0000000003',
								'_function': 'AVERAGE', 'referencedFieldIds': [], **RESULT}),
	('Supplier Count', 'count', {'recordLinkFieldId': fld(19), 'isValid': True}),
	('Supplier Names', 'multipleLookupValues', {'recordLinkFieldId': fld(19), 'fieldIdInLinkedTable': 'fldSupp0000000001',
												'isValid': True, 'result': {'type': 'singleLineText'}}),
	('Source', 'externalSyncSource', _choices('Sheet')), ('Number', 'autoNumber', None),
	('Created', 'createdTime', {'result': {'type': 'dateTime', 'options': {'timeZone': 'utc'}}}),
	('Modified', 'lastModifiedTime', {'isValid': True, 'referencedFieldIds': [], 'result': {'type': 'dateTime', 'options': {'timeZone': 'utc'}}}),
	('Created By', 'createdBy', None), ('Modified By', 'lastModifiedBy', None),
	('manualSort', 'manualSort', None),
	# names that collide or need care as columns
	('id', 'singleLineText', None), ('Created Time', 'singleLineText', None), ('createdTime', 'singleLineText', None),
	('firstName', 'singleLineText', None), ('first name', 'singleLineText', None), ('First-Name!', 'singleLineText', None),
	('🚀 Go', 'singleLineText', None), ('2nd Choice', 'singleLineText', None), ('Größe', 'number', {'precision': 1}),
	('100%/day "q" {x}', 'singleLineText', None),
	('A very long field name that goes well beyond the sixty-three bytes of a PostgreSQL identifier', 'singleLineText', None),
]
# further tables: id, name, rows
ODD_TABLES = [
	('tblLaunch00000001', '🚀 Launch Plan', 2), ('tblABTests0000001', 'A/B Tests', 3), ('tblBudget00000001', '2024 Budget', 2),
	('tblProductsDup001', 'Product-Inventory', 1), ('tblPercent0000001', '100% done?', 1), ('tblEmpty000000001', 'Empty', 0),
	('tblproducts000001', 'product inventory', 1), ('tblLikeAnId000001', 'tblLaunch00000002', 1),
]


def plant(api, given):
	"""Fill a fresh account."""
	unknown = set(given) - {'config', 'records', 'suppliers'}
	if unknown:
		raise ValueError(f'seed: unknown {sorted(unknown)}')
	base = Base(BASE_ID, 'Fake Base', api.clock)
	api.bases[base.id] = base
	_product_table(base)
	_supplier_table(base)
	change = Change()
	_suppliers(base, change, given.get('suppliers', 5))
	_products(api, base, change, given.get('records', 25))
	_odd_tables(base, change)
	other = Base(OTHER_BASE_ID, 'Second Base', api.clock)
	api.bases[other.id] = other
	table = other.add_table(Table('tblOther000000001', 'Only Table'))
	table.add_field(Field('fldOther000000001', 'Name', 'singleLineText'))


def _product_table(base):
	table = base.add_table(Table(PRODUCTS, 'Product Inventory', 'Everything we sell'))
	for n, (name, kind, options) in enumerate(PRODUCT_FIELDS, 1):
		options = None if options is None else {**options}
		if options and 'choices' in options:
			options['choices'] = [dict(c) for c in options['choices']]
		table.add_field(Field(fld(n), name, kind, options))


def _supplier_table(base):
	table = base.add_table(Table(SUPPLIERS, 'Suppliers'))
	table.add_field(Field('fldSupp0000000001', 'Name', 'singleLineText'))
	table.add_field(Field('fldSupp0000000002', 'Country', 'singleSelect', _choices('IE', 'DE')))
	table.add_field(Field('fldSupp0000000003', 'Cost', 'number', {'precision': 2}))
	table.add_field(Field('fldSupp0000000004', 'Products', 'multipleRecordLinks',
						  {'linkedTableId': PRODUCTS, 'inverseLinkFieldId': fld(19), 'isReversed': True,
						   'prefersSingleRecordLink': False}))
	table.add_field(Field('fldSupp0000000005', 'Product Count', 'count', {'recordLinkFieldId': 'fldSupp0000000004', 'isValid': True}))


def _fill(base, change, table, record, values):
	for key, value in values.items():
		base.set(change, table, record, table.field(key), value)


def _suppliers(base, change, count):
	table = base.tables[SUPPLIERS]
	for n in range(1, count + 1):
		record = base.insert(change, table, f'recSupp{n:010d}')
		_fill(base, change, table, record, {'Name': f'Supplier {n}', 'Country': 'IE' if n % 2 else 'DE', 'Cost': n * 1.25})


def _product(api, n, suppliers):
	"""Odd rows are full, even ones nearly empty (empties are left out, B2)."""
	if n % 2 == 0:
		return {'Name': f'Product {n}', 'Quantity': 0}
	linked = [suppliers[(n + i) % len(suppliers)] for i in range(2)] if len(suppliers) > 1 else suppliers
	return {'Name': f'Product {n}', 'Notes': f'line 1\nline 2 "quoted" é {n}', 'Rich Notes': f'**bold** {n}\n',
			'Contact Email': f'p{n}@example.com', 'Website': f'https://example.com/{n}', 'Phone': '(555) 010-0000',
			'Quantity': n, 'Price': n + 0.99, 'Margin %': 0.123, 'Stars': n % 5 + 1, 'Build Time': 3723.5,
			'In Stock?': True, 'Released': '2024-02-29', 'Checked At': '2024-02-29T12:34:56.789Z', 'Status': 'Doing',
			'Tags': ['red', 'a, b'], 'Owner': dict(cells.AUTHOR), 'Team': [dict(u) for u in cells.USERS.values()],
			'Suppliers': list(dict.fromkeys(linked)) or None, 'Barcode': {'text': f'00{n}', 'type': 'ean13'},
			'Photos': [{**cells.new_attachment(api, f'https://example.com/{n}.png'), 'ready': 0}],
			'Summary (AI)': {'state': 'generated', 'isStale': False, 'value': f'AI {n}'}, 'Source': 'Sheet',
			'id': f'own-{n}', 'Created Time': f'ct {n}', 'firstName': f'fn{n}', 'first name': f'f n{n}', 'Größe': n / 2,
			'🚀 Go': 'go', '2nd Choice': 'second', '100%/day "q" {x}': 'odd'}


def _products(api, base, change, count):
	table = base.tables[PRODUCTS]
	suppliers = list(base.tables[SUPPLIERS].records)
	for n in range(1, count + 1):
		record = base.insert(change, table, f'recProd{n:010d}')
		_fill(base, change, table, record, _product(api, n, suppliers))
	for rid in ('recCaseTwin00000a', 'recCaseTwin00000A'):
		record = base.insert(change, table, rid)
		_fill(base, change, table, record, {'Name': f'Twin {rid[-1]}'})


def _odd_tables(base, change):
	for n, (tid, name, rows) in enumerate(ODD_TABLES, 1):
		table = base.add_table(Table(tid, name))
		table.add_field(Field(f'fldOdd{n:03d}00000001', 'Name', 'singleLineText'))
		table.add_field(Field(f'fldOdd{n:03d}00000002', 'Value', 'number', {'precision': 0}))
		for r in range(1, rows + 1):
			record = base.insert(change, table, f'recOdd{n:03d}{r:08d}')
			_fill(base, change, table, record, {'Name': f'{name} {r}', 'Value': r})

