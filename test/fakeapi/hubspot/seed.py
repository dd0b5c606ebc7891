"""The seeded account: `{"contacts": 250, "companies": 40, ..., "custom": true, "links": true}` per type."""
from . import meta

DEFAULT_COUNTS = {'contacts': 25, 'companies': 10, 'deals': 12, 'tickets': 5, 'products': 3, 'line_items': 4,
				  'tasks': 2, 'notes': 2, 'cars': 3}
BASE = 1704067200000			# 2024-01-01T00:00:00Z

SAMPLES = {
	'contacts': lambda n: {'email': f'contact{n}@example.com', 'firstname': f'First{n}', 'lastname': f'Last{n}',
						   'annualrevenue': str(n * 100), 'is_vip': 'true' if n % 2 else 'false',
						   'favorite_colors': 'red;blue' if n % 3 else '', 'date_of_birth': '1980-02-29',
						   'last_seen': BASE + n * 1001, 'prefs': '{"n":%d}' % n, 'ext_id': f'ext-{n}'},
	'companies': lambda n: {'name': f'Company {n}', 'domain': f'company{n}.example', 'numberofemployees': n * 10,
							'industry': 'BANKING', 'founded': '1999-12-31'},
	'deals': lambda n: {'dealname': f'Deal {n}', 'amount': f'{n}.50', 'dealstage': 'contractsent',
						'closedate': BASE + n * 86400000},
	'tickets': lambda n: {'subject': f'Ticket {n}', 'hs_ticket_priority': 'HIGH'},
	'products': lambda n: {'name': f'Product {n}', 'price': str(n)},
	'line_items': lambda n: {'name': f'Line {n}', 'quantity': '2', 'price': '9.99'},
	'tasks': lambda n: {'hs_task_subject': f'Task {n}', 'hs_timestamp': BASE},
	'notes': lambda n: {'hs_note_body': f'<p>Note {n} \u00e9\U0001f680</p>', 'hs_timestamp': BASE},
	'cars': lambda n: {'vin': f'VIN{n:05d}', 'make': 'Fiat', 'doors': '5', 'bought': '2020-05-06'},
}
CARS = {'name': 'cars', 'labels': {'singular': 'Car', 'plural': 'Cars'}, 'requiredProperties': ['vin'],
		'searchableProperties': ['vin'], 'primaryDisplayProperty': 'vin', 'associatedObjects': ['CONTACT'],
		'properties': [{'name': 'vin', 'label': 'VIN', 'type': 'string', 'fieldType': 'text', 'hasUniqueValue': True},
					   {'name': 'make', 'label': 'Make', 'type': 'string', 'fieldType': 'text'},
					   {'name': 'doors', 'label': 'Doors', 'type': 'number', 'fieldType': 'number'},
					   {'name': 'bought', 'label': 'Bought', 'type': 'date', 'fieldType': 'date'}]}


def _owners(api):
	for n in (1, 2, 3):
		api.owners.append({'id': str(500 + n), 'email': f'owner{n}@example.com', 'firstName': f'Own{n}', 'lastName': 'Er',
						   'userId': 900 + n, 'userIdIncludingInactive': 900 + n, 'type': 'PERSON', 'teams': [],
						   'archived': n == 3, 'createdAt': '2023-01-01T00:00:00Z', 'updatedAt': '2023-01-02T00:00:00.123Z'})


def _pipelines(api):
	stages = ['appointmentscheduled', 'contractsent', 'closedwon', 'closedlost']
	for kind, pid, ids in (('0-3', 'default', stages), ('0-5', '0', ['1', '2', '3', '4'])):
		body = {'id': pid, 'label': 'Default', 'displayOrder': 0,
				'stages': [{'id': s, 'label': s.title(), 'displayOrder': i} for i, s in enumerate(ids)]}
		api.pipelines[kind] = {pid: meta._new_pipeline(api, body)}


def _records(api, counts):
	for name, count in counts.items():
		kind = api.types.find(name)
		sample = SAMPLES.get(name, lambda n: {'name': f'Item {n}'})
		for n in range(1, count + 1):
			api.store.create(kind, api.store.check(kind, sample(n)))


def _links(api):
	"""Every contact at a company, every deal with a contact; a few labelled."""
	store, types = api.store, api.types
	api.links.counting = False
	contacts, companies, deals = (list(store.of(types.find(t)).values()) for t in ('contacts', 'companies', 'deals'))
	for n, contact in enumerate(contacts):
		if companies:
			primary = [api.links.defs[1]] if n % 2 == 0 else []
			api.links.add(contact, companies[n % len(companies)], primary)
	for n, deal in enumerate(deals):
		if contacts:
			api.links.add(deal, contacts[n % len(contacts)], [])
	api.links.counting = True
	api.links._changed(*contacts, *companies)


def plant(api, given):
	"""Fill a fresh account; unknown keys are an error."""
	counts = dict(DEFAULT_COUNTS)
	if given.get('empty'):
		counts = {}
	_owners(api)
	_pipelines(api)
	if given.get('custom', True):
		meta.schema_create(api, CARS)
	else:
		counts.pop('cars', None)
	for name, count in given.items():
		if name in ('config', 'empty', 'custom', 'links'):
			continue
		if api.types.find(name) is None or not isinstance(count, int):
			raise ValueError(f'seed: {name} is not an object type with a count')
		counts[api.types.find(name).plural] = count
	lag, api.config['search_lag_ms'] = api.config['search_lag_ms'], 0
	_records(api, counts)
	if given.get('links', True):
		_links(api)
	for records in api.store.records.values():
		for record in records.values():
			record.versions[0] = (float('-inf'), dict(record.props))
	api.config['search_lag_ms'] = lag
