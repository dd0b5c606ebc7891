"""HubSpot's stand-in; every test names the row of API_FACTS that it pins."""
import json
import time

import pytest


def contact(hs, **props):
	return hs('POST', '/crm/v3/objects/contacts', {'properties': props}, 201)


# -- HubSpot: objects

@pytest.mark.parametrize('path', ['/crm/v3/objects/contacts', '/crm/v3/objects/0-1', '/crm/v3/objects/Contact',
								  '/crm/objects/2026-03/CONTACTS', '/crm/objects/2027-03-beta/contacts',
								  '/crm/objects/v3/contacts', '/crm/v3/objects/contacts/'])
def test_a2_a3_a17_1_every_path_style_and_type_spelling(hs, path):
	assert hs('GET', path, status=200)['results'][0]['id'] == '1001'


def test_a3_custom_objects_by_name_fqn_and_id(hs):
	kind = hs('GET', '/crm-object-schemas/v3/schemas', status=200)['results'][0]
	for name in (kind['name'], kind['fullyQualifiedName'], kind['objectTypeId']):
		page = hs('GET', f'/crm/v3/objects/{name}?properties=vin', status=200)
		assert page['results'][0]['properties']['vin'] == 'VIN00001'
	assert hs('GET', '/crm/v3/objects/nonsense', status=400)['category'] == 'VALIDATION_ERROR'


def test_a4_a5_a17_2_create_is_201_with_location_and_a_subset_of_properties(hs):
	made = contact(hs, email='New@Example.com', firstname='N')
	assert hs.headers['Location'].endswith('/crm/v3/objects/contacts/' + made['id'])
	assert hs.headers['Content-Type'] == 'application/json;charset=utf-8'
	assert made['properties']['hs_object_id'] == made['id']
	assert made['properties']['email'] == 'new@example.com'
	assert 'lastname' not in made['properties'] and 'associations' not in made
	assert list(made)[:5] == ['id', 'properties', 'createdAt', 'updatedAt', 'archived']


def test_a5_values_are_strings_and_times_lose_zero_fractions(hs):
	made = contact(hs, annualrevenue=17, is_vip=True, last_seen=1704067200000, favorite_colors='red;blue')
	got = made['properties']
	assert (got['annualrevenue'], got['is_vip'], got['last_seen']) == ('17', 'true', '2024-01-01T00:00:00Z')
	assert got['favorite_colors'] == 'red;blue'


def test_a4_a5_a17_8_patch_shows_a_part_and_clears_with_the_empty_string(hs):
	out = hs('PATCH', '/crm/v3/objects/contacts/1001', {'properties': {'firstname': 'Z', 'phone': ''}}, 200)
	assert out['properties']['firstname'] == 'Z' and 'phone' not in out['properties']
	assert 'email' not in out['properties'] and 'lastname' not in out['properties']
	hs('PATCH', '/crm/v3/objects/contacts/1001', {'properties': {'firstname': ''}}, 200)
	got = hs('GET', '/crm/v3/objects/contacts/1001?properties=firstname,lastname', status=200)
	assert got['properties']['firstname'] is None and got['properties']['lastname'] == 'Last1'


def test_a5_cleared_property_can_be_shown_as_null(hs):
	hs.ctl('POST', 'config', {'cleared': 'null'})
	out = hs('PATCH', '/crm/v3/objects/contacts/1001', {'properties': {'firstname': ''}}, 200)
	assert out['properties']['firstname'] is None


def test_a5_reads_show_asked_for_unset_as_null_and_ignore_unknown(hs):
	got = hs('GET', '/crm/v3/objects/contacts/1001?properties=phone&properties=nope', status=200)['properties']
	assert got['phone'] is None and 'nope' not in got and 'email' not in got


def test_a4_id_property_reads_and_patches_by_email(hs):
	got = hs('GET', '/crm/v3/objects/contacts/contact2@example.com?idProperty=email', status=200)
	out = hs('PATCH', '/crm/v3/objects/contacts/CONTACT2%40example.com?idProperty=email',
			 {'properties': {'firstname': 'Q'}}, 200)
	assert got['id'] == out['id'] == '1002'


def test_a4_other_unique_properties_identify_records_too(hs):
	made = contact(hs, ext_id='MiXed-1')
	assert hs('GET', '/crm/v3/objects/contacts/MiXed-1?idProperty=ext_id', status=200)['id'] == made['id']
	hs('GET', '/crm/v3/objects/contacts/First1?idProperty=firstname', status=400)
	err = hs('POST', '/crm/v3/objects/contacts', {'properties': {'ext_id': 'MiXed-1'}}, 400)
	assert err['errors'][0]['context']['propertyName'] == ['ext_id']


def test_a11_a17_3_duplicate_email_is_409_with_the_existing_id(hs):
	err = hs('POST', '/crm/v3/objects/contacts', {'properties': {'email': 'CONTACT1@example.com'}}, 409)
	assert err['category'] == 'CONFLICT' and 'Existing ID: 1001' in err['message']


def test_a11_bad_values_are_400_with_one_error_per_property_and_change_nothing(hs):
	before = hs.ctl('GET', 'state?type=contacts')['records']
	err = hs('PATCH', '/crm/v3/objects/contacts/1001',
			 {'properties': {'nope': 1, 'email': 'bad', 'hs_object_id': 5, 'firstname': 'x', 'annualrevenue': 'abc'}}, 400)
	codes = {e['context']['propertyName'][0]: e['code'] for e in err['errors']}
	assert codes == {'nope': 'PROPERTY_DOESNT_EXIST', 'email': 'INVALID_EMAIL', 'hs_object_id': 'READ_ONLY_VALUE',
					 'annualrevenue': 'INVALID_LONG'}
	assert err['message'].startswith('Property values were not valid: [')
	assert hs.ctl('GET', 'state?type=contacts')['records'] == before


def test_a11_not_found_bodies_and_malformed_json(hs):
	assert 'category' not in hs('GET', '/crm/v3/objects/contacts/999', status=404)
	assert hs('GET', '/crm/v3/objects/contacts/abc', status=404)['context'] == {'id': ['abc']}
	status, raw, headers = hs.raw('POST', '/crm/v3/objects/contacts', '{', {'Authorization': 'Bearer pat-na1-test'})
	assert status == 400 and 'category' not in json.loads(raw)
	assert headers['X-HubSpot-Correlation-Id'] == json.loads(raw)['correlationId']


def test_a4_a7_delete_archives_and_the_archived_list_shows_it(hs):
	assert hs('DELETE', '/crm/v3/objects/contacts/1001', status=204) is None
	hs('GET', '/crm/v3/objects/contacts/1001', status=404)
	page = hs('GET', '/crm/v3/objects/contacts?archived=true', status=200)
	assert [r['id'] for r in page['results']] == ['1001'] and page['results'][0]['archivedAt']
	assert contact(hs, email='contact1@example.com')['id'] != '1001'
	hs('DELETE', '/crm/v3/objects/contacts/1001', status=204)


def test_a8_list_pages_by_last_id_without_a_cap(hs):
	seen, after = [], ''
	while after is not None:
		page = hs('GET', f'/crm/v3/objects/contacts?limit=10&after={after}', status=200)
		seen += [r['id'] for r in page['results']]
		after = page['paging']['next']['after'] if 'paging' in page else None
	assert seen == [str(n) for n in range(1001, 1026)]
	hs('GET', '/crm/v3/objects/contacts?limit=101', status=400)


def test_a4_properties_with_history(hs):
	hs('PATCH', '/crm/v3/objects/contacts/1001', {'properties': {'firstname': 'B'}}, 200)
	got = hs('GET', '/crm/v3/objects/contacts/1001?propertiesWithHistory=firstname', status=200)
	assert [h['value'] for h in got['propertiesWithHistory']['firstname']] == ['B', 'First1']


# -- HubSpot: merge, gdpr

def test_a6_a17_4_merge_mints_an_id_and_old_ids_resolve(hs):
	out = hs('POST', '/crm/v3/objects/contacts/merge', {'primaryObjectId': '1001', 'objectIdToMerge': '1002'}, 200)
	assert out['id'] not in ('1001', '1002') and out['properties']['hs_merged_object_ids'] == '1001;1002'
	for old in ('1001', '1002'):
		assert hs('GET', f'/crm/v3/objects/contacts/{old}', status=200)['id'] == out['id']
	live = {r['id'] for r in hs('GET', '/crm/v3/objects/contacts?limit=100', status=200)['results']}
	gone = hs('GET', '/crm/v3/objects/contacts?archived=true', status=200)['results']
	assert not live & {'1001', '1002'} and out['id'] in live and gone == []


def test_a6_merge_moves_associations_and_the_primary_wins(hs):
	out = hs('POST', '/crm/v3/objects/contacts/merge', {'primaryObjectId': '1001', 'objectIdToMerge': '1003'}, 200)
	got = hs('GET', f'/crm/v4/objects/contacts/{out["id"]}/associations/companies', status=200)['results']
	primaries = [r['toObjectId'] for r in got if any(t['label'] == 'Primary' for t in r['associationTypes'])]
	assert [r['toObjectId'] for r in got] == [1001, 1003] and primaries == [1001]
	assert hs('GET', '/crm/v4/objects/contacts/1001/associations/companies', status=200)['results'] == []
	assert hs('GET', f'/crm/v3/objects/contacts/{out["id"]}?properties=email', status=200)['properties']['email'] \
		== 'contact1@example.com'


def test_a7_gdpr_delete_is_204_by_id_by_email_and_for_unknown_addresses(hs):
	for body in ({'objectId': '1001'}, {'objectId': 'contact2@example.com', 'idProperty': 'email'},
				 {'objectId': 'nobody@example.com', 'idProperty': 'email'}):
		hs('POST', '/crm/v3/objects/contacts/gdpr-delete', body, 204)
	state = hs.ctl('GET', 'state?type=contacts')
	assert not {'1001', '1002'} & {r['id'] for r in state['records']['0-1']}
	assert state['blocklist'] == ['nobody@example.com']


# -- HubSpot: batches

def test_a10_a17_7_batch_create_is_all_or_nothing_without_trace_ids(hs):
	bad = {'inputs': [{'properties': {'email': 'x1@example.com'}}, {'properties': {'nope': '1'}}]}
	hs('POST', '/crm/v3/objects/contacts/batch/create', bad, 400)
	assert len(hs.ctl('GET', 'state?type=contacts')['records']['0-1']) == 25
	for n, item in enumerate(bad['inputs']):
		item['objectWriteTraceId'] = f't{n}'
	out = hs('POST', '/crm/v3/objects/contacts/batch/create', bad, 207)
	assert out['numErrors'] == 1 and out['results'][0]['objectWriteTraceId'] == 't0'
	assert out['errors'][0]['context']['objectWriteTraceId'] == ['t1']


def test_a10_batch_results_come_in_another_order(hs):
	items = [{'properties': {'email': f'o{n}@example.com'}} for n in range(3)]
	out = hs('POST', '/crm/v3/objects/contacts/batch/create', {'inputs': items}, 201)
	assert [r['properties']['email'] for r in out['results']] == ['o2@example.com', 'o1@example.com', 'o0@example.com']


def test_a10_batch_update_reports_missing_ids_with_207(hs):
	body = {'inputs': [{'id': '1001', 'properties': {'firstname': 'U'}}, {'id': '99', 'properties': {'firstname': 'U'}}]}
	out = hs('POST', '/crm/v3/objects/contacts/batch/update', body, 207)
	assert [r['id'] for r in out['results']] == ['1001'] and out['errors'][0]['context']['ids'] == ['99']
	hs('POST', '/crm/objects/2026-09/contacts/batch/update', body, 200)


def test_a4_batch_upsert_says_what_is_new(hs):
	items = [{'id': e, 'idProperty': 'email', 'properties': {'firstname': 'P'}}
			 for e in ('contact1@example.com', 'fresh@example.com')]
	out = hs('POST', '/crm/v3/objects/contacts/batch/upsert', {'inputs': items}, 200)
	assert {r['id']: r['new'] for r in out['results']} == {'1001': False, '1026': True}


def test_a4_batch_read_archive_and_the_limit_of_100(hs):
	body = {'inputs': [{'id': '1001'}, {'id': '77'}], 'properties': ['phone']}
	out = hs('POST', '/crm/v3/objects/contacts/batch/read', body, 207)
	assert out['results'][0]['properties']['phone'] is None and out['errors'][0]['context']['ids'] == ['77']
	hs('POST', '/crm/v3/objects/contacts/batch/archive', {'inputs': [{'id': '1001'}, {'id': '77'}]}, 204)
	hs('POST', '/crm/v3/objects/contacts/batch/read', {'inputs': [{'id': str(n)} for n in range(101)]}, 400)


# -- HubSpot: search

def search(hs, status=200, kind='contacts', **body):
	return hs('POST', f'/crm/v3/objects/{kind}/search', body, status)


def test_a8_search_operators(hs):
	def ids(op, name, **more):
		found = search(hs, filterGroups=[{'filters': [{'propertyName': name, 'operator': op, **more}]}], limit=200)
		return {int(r['id']) - 1000 for r in found['results']}
	assert ids('EQ', 'email', value='CONTACT3@EXAMPLE.COM') == {3}
	assert ids('GT', 'annualrevenue', value='2400') == {25}
	assert ids('BETWEEN', 'annualrevenue', value=100, highValue=200) == {1, 2}
	assert ids('IN', 'ext_id', values=['ext-1', 'ext-2']) == {1, 2}
	assert ids('NOT_HAS_PROPERTY', 'favorite_colors') == {3, 6, 9, 12, 15, 18, 21, 24}
	assert ids('CONTAINS_TOKEN', 'firstname', value='first7') == {7}
	assert ids('GTE', 'last_seen', value='1704067225025') == {25}


def test_a8_search_pages_by_offset_sorts_and_has_no_associations_nor_rate_headers(hs):
	page = search(hs, sorts=[{'propertyName': 'annualrevenue', 'direction': 'DESCENDING'}], limit=2)
	assert (page['total'], page['paging']['next']['after']) == (25, '2')
	assert [r['id'] for r in page['results']] == ['1025', '1024']
	assert 'X-HubSpot-RateLimit-Max' not in hs.headers and 'associations' not in page['results'][0]
	assert 'paging' not in search(hs, limit=2, after='23')
	search(hs, 400, limit=201)
	search(hs, 400, limit=10, after='9995')


def test_a8_a17_5_the_search_index_lags_for_creates_updates_and_deletes(hs):
	hs.ctl('POST', 'config', {'search_lag_ms': 400})
	made = contact(hs, email='lag@example.com')
	hs('PATCH', '/crm/v3/objects/contacts/1001', {'properties': {'firstname': 'Lagging'}}, 200)
	hs('DELETE', '/crm/v3/objects/contacts/1002', status=204)
	hs('POST', '/crm/v3/objects/contacts/gdpr-delete', {'objectId': '1003'}, 204)
	before = {r['id']: r['properties']['firstname'] for r in search(hs, limit=200)['results']}
	time.sleep(0.45)
	after = {r['id']: r['properties']['firstname'] for r in search(hs, limit=200)['results']}
	assert made['id'] not in before and before['1001'] == 'First1' and {'1002', '1003'} <= set(before)
	assert made['id'] in after and after['1001'] == 'Lagging' and not {'1002', '1003'} & set(after)


def test_a8_modified_property_is_lastmodifieddate_for_contacts_only(hs):
	for kind, name in (('contacts', 'lastmodifieddate'), ('companies', 'hs_lastmodifieddate')):
		page = search(hs, kind=kind, filterGroups=[{'filters': [{'propertyName': name, 'operator': 'GTE', 'value': '0'}]}])
		assert page['total'] and name in page['results'][0]['properties']
	search(hs, 400, kind='companies', filterGroups=[
		{'filters': [{'propertyName': 'lastmodifieddate', 'operator': 'GTE', 'value': '0'}]}])


def test_a8_tied_timestamps_can_be_made(hs):
	hs.ctl('POST', 'edit', {'op': 'set_updated', 'type': 'contacts', 'ids': 'all', 'at': '2030-01-01T00:00:00.500Z'})
	page = search(hs, limit=200)
	assert {r['updatedAt'] for r in page['results']} == {'2030-01-01T00:00:00.500Z'}


def keyset(hs, op, direction, limit=10, filters=()):
	"""All ids by hs_object_id, page by page; A8's way around the window of 10,000."""
	seen, last = [], None
	while True:
		more = [] if last is None else [{'propertyName': 'hs_object_id', 'operator': op, 'value': last}]
		groups = [{'filters': [*filters, *more]}] if filters or more else []
		page = search(hs, filterGroups=groups, limit=limit, properties=['hs_merged_object_ids', 'nope'],
					  sorts=[{'propertyName': 'hs_object_id', 'direction': direction}])
		assert page['total'] >= len(page['results'])
		if not page['results']:
			return seen
		seen += [int(r['id']) for r in page['results']]
		last = str(seen[-1])


def test_a8_keysets_by_id_go_up_and_down_as_numbers(hs):
	hs.ctl('POST', 'reset', {'config': {'id_base': 99}})
	hs.ctl('POST', 'config', {'limits': 'off'})
	ids = keyset(hs, 'GT', 'ASCENDING')
	assert len(ids) == 25 and ids == sorted(ids) and ids[:2] == [99, 100]
	assert keyset(hs, 'LT', 'DESCENDING') == ids[::-1]
	since = [{'propertyName': 'lastmodifieddate', 'operator': 'GTE', 'value': '0'}]
	assert keyset(hs, 'GT', 'ASCENDING', filters=since) == ids
	assert hs('GET', '/crm/v3/objects/contacts?limit=100', status=200)['results'][0]['id'] == '99'
	hs.ctl('POST', 'reset', {'config': {'id_base': 2 ** 53}})		# where a float is not exact any more
	hs.ctl('POST', 'config', {'limits': 'off'})
	assert keyset(hs, 'GT', 'ASCENDING', limit=1) == list(range(2 ** 53, 2 ** 53 + 25))


def test_a8_has_property_and_an_archived_property(hs):
	new = {'name': 'late', 'label': 'L', 'type': 'string', 'fieldType': 'text', 'groupName': 'g'}
	hs('POST', '/crm/v3/properties/contacts', new, 201)
	hs('PATCH', '/crm/v3/objects/contacts/1003', {'properties': {'late': 'x'}}, 200)
	has = [{'filters': [{'propertyName': 'late', 'operator': 'HAS_PROPERTY'}]}]
	assert [r['id'] for r in search(hs, filterGroups=has)['results']] == ['1003']
	hs('PATCH', '/crm/v3/objects/contacts/1003', {'properties': {'late': ''}}, 200)
	assert search(hs, filterGroups=has)['results'] == []
	hs('DELETE', '/crm/v3/properties/contacts/late', status=204)
	search(hs, 400, filterGroups=has)
	search(hs, 400, sorts=[{'propertyName': 'late', 'direction': 'ASCENDING'}])
	got = hs('GET', '/crm/v3/objects/contacts?limit=1&archived=false&properties=late,phone', status=200)['results'][0]
	assert 'late' not in got['properties'] and got['properties']['phone'] is None


def test_a4_lists_show_the_living_or_the_archived(hs):
	hs('DELETE', '/crm/v3/objects/contacts/1002', status=204)
	live = hs('GET', '/crm/v3/objects/contacts?limit=100&archived=false', status=200)['results']
	assert [r['id'] for r in live] == [str(n) for n in range(1001, 1026) if n != 1002]
	assert not any(r['archived'] for r in live)


def test_types_that_can_not_be_searched(hs):
	hs.ctl('POST', 'config', {'unsearchable_types': ['deals']})
	assert search(hs, 400, kind='deals')['category'] == 'VALIDATION_ERROR'
	assert hs('GET', '/crm/v3/objects/deals', status=200)['results'] and search(hs)['results']


# -- HubSpot: associations

def v4(hs, a, i, b):
	found = hs('GET', f'/crm/v4/objects/{a}/{i}/associations/{b}', status=200)['results']
	return {str(r['toObjectId']): {t['label'] for t in r['associationTypes']} for r in found}


def test_a9_a17_8_inline_associations_are_made_both_ways_and_not_echoed(hs):
	body = {'properties': {'email': 'in@example.com'}, 'associations': [
		{'to': {'id': '1004'}, 'types': [{'associationCategory': 'HUBSPOT_DEFINED', 'associationTypeId': 279}]}]}
	made = hs('POST', '/crm/v3/objects/contacts', body, 201)
	assert 'associations' not in made
	assert v4(hs, 'contacts', made['id'], 'companies') == {'1004': {None}}
	assert made['id'] in v4(hs, 'companies', '1004', 'contacts')
	body['properties'], body['associations'][0]['types'][0]['associationTypeId'] = {'email': 'in2@example.com'}, 3
	hs('POST', '/crm/v3/objects/contacts', body, 400)
	assert len(hs.ctl('GET', 'state?type=contacts')['records']['0-1']) == 26


def test_a9_labelled_put_is_a_bare_array_adds_and_brings_the_unlabelled(hs):
	label = {'label': 'Boss', 'name': 'boss'}
	made = hs('POST', '/crm/v4/associations/contacts/companies/labels', label, 200)['results']
	url = '/crm/v4/objects/contacts/1002/associations/companies/1005'
	spec = [{'associationCategory': 'USER_DEFINED', 'associationTypeId': made[0]['typeId']}]
	out = hs('PUT', url, spec, 201)
	assert out == {'fromObjectTypeId': '0-1', 'fromObjectId': 1002, 'toObjectTypeId': '0-2', 'toObjectId': 1005,
				   'labels': ['Boss']}
	hs('PUT', url, [{'associationCategory': 'HUBSPOT_DEFINED', 'associationTypeId': 1}], 201)
	assert v4(hs, 'contacts', '1002', 'companies')['1005'] == {None, 'Boss', 'Primary'}
	assert v4(hs, 'companies', '1005', 'contacts')['1002'] == {None, 'Boss', 'Primary'}
	hs('PUT', url, {'inputs': spec}, 400)


def test_a9_labels_archive_leaves_the_pair_unless_the_unlabelled_goes(hs):
	url = '/crm/v4/associations/contacts/companies/batch/labels/archive'
	ends = {'from': {'id': '1001'}, 'to': {'id': '1001'}}
	hs('POST', url, {'inputs': [{**ends, 'types': [{'associationCategory': 'HUBSPOT_DEFINED', 'associationTypeId': 1}]}]}, 204)
	assert v4(hs, 'contacts', '1001', 'companies') == {'1001': {None}}
	hs('POST', url, {'inputs': [{**ends, 'types': [{'associationCategory': 'HUBSPOT_DEFINED', 'associationTypeId': 279}]}]}, 204)
	assert v4(hs, 'contacts', '1001', 'companies') == {}


def test_a9_a17_2_archive_is_204_in_v4_and_200_with_an_empty_batch_when_dated(hs):
	body = {'inputs': [{'from': {'id': '1001'}, 'to': [{'id': '1001'}]}]}
	out = hs('POST', '/crm/associations/2026-03/contacts/companies/batch/archive', body, 200)
	assert out['results'] == [] and out['status'] == 'COMPLETE'
	hs('POST', '/crm/v4/associations/contacts/companies/batch/archive', body, 204)
	assert v4(hs, 'contacts', '1001', 'companies') == {}


def test_a9_default_put_v3_batches_and_old_singles(hs):
	out = hs('PUT', '/crm/v4/objects/deals/1001/associations/default/companies/1002', status=200)
	assert out['results'] == [{'from': {'id': '1001'}, 'to': {'id': '1002'},
							   'associationSpec': {'associationCategory': 'HUBSPOT_DEFINED', 'associationTypeId': 341}}]
	item = {'from': {'id': '1005'}, 'to': {'id': '1006'}, 'type': 'deal_to_contact'}
	out = hs('POST', '/crm/v3/associations/Deals/Contacts/batch/create', {'inputs': [item]}, 201)
	assert out['results'] == [item]
	out = hs('POST', '/crm/v3/associations/deals/contacts/batch/read', {'inputs': [{'id': '1005'}]}, 200)
	assert {t['id'] for t in out['results'][0]['to']} == {'1005', '1006'}
	hs('POST', '/crm/v3/associations/deals/contacts/batch/archive', {'inputs': [item]}, 204)
	out = hs('PUT', '/crm/v3/objects/deals/1005/associations/contacts/1007/deal_to_contact', status=200)
	assert {'id': '1007', 'type': 'deal_to_contact'} in out['associations']['contacts']['results']
	hs('DELETE', '/crm/v3/objects/deals/1005/associations/contacts/1007/deal_to_contact', status=204)
	assert set(v4(hs, 'deals', '1005', 'contacts')) == {'1005'}


def test_a9_inline_reads_use_legacy_names_so_a_pair_may_appear_twice(hs):
	got = hs('GET', '/crm/v3/objects/contacts/1001?associations=companies,deals', status=200)['associations']
	assert got['companies']['results'] == [{'id': '1001', 'type': 'contact_to_company'},
										   {'id': '1001', 'type': 'contact_to_company_unlabeled'}]
	assert got['deals']['results'] == [{'id': '1001', 'type': 'contact_to_deal'}]


def test_a9_batch_read_without_associations_is_207_and_pages(hs):
	lone = contact(hs, email='lone@example.com')['id']
	url = '/crm/v4/associations/companies/contacts/batch/read'
	hs.ctl('POST', 'config', {'association_page': 2})
	out = hs('POST', url, {'inputs': [{'id': '1001'}]}, 200)
	page = out['results'][0]
	assert [t['toObjectId'] for t in page['to']] == [1001, 1011] and page['paging']['next']['after'] == '1011'
	more = hs('POST', url, {'inputs': [{'id': '1001', 'after': '1011'}]}, 200)['results'][0]
	assert [t['toObjectId'] for t in more['to']] == [1021] and 'paging' not in more
	out = hs('POST', '/crm/v4/associations/contacts/companies/batch/read', {'inputs': [{'id': lone}]}, 207)
	assert out['results'] == [] and out['numErrors'] == 1
	hs('POST', url, {'inputs': [{'id': str(n)} for n in range(1001)]}, 400)


def test_a9_label_definitions_rename_and_delete(hs):
	url = '/crm/v4/associations/deals/contacts/labels'
	one, two = hs('POST', url, {'label': 'Buyer', 'name': 'buyer', 'inverseLabel': 'Buys'}, 200)['results']
	hs('PUT', url, {'associationTypeId': one['typeId'], 'label': 'Payer'}, 204)
	assert 'Payer' in {r['label'] for r in hs('GET', url, status=200)['results']}
	hs('PUT', '/crm/objects/2026-03/deals/1001/associations/contacts/1009',
	   [{'associationCategory': 'USER_DEFINED', 'associationTypeId': one['typeId']}], 201)
	assert v4(hs, 'contacts', '1009', 'deals')['1001'] == {None, 'Buys'} and two['label'] == 'Buys'
	hs('DELETE', f'{url}/{one["typeId"]}', status=204)
	assert v4(hs, 'contacts', '1009', 'deals')['1001'] == {None}


# -- HubSpot: metadata, authentication, limits

def test_a13_properties_can_be_listed_made_changed_and_archived(hs):
	url = '/crm/v3/properties/contacts'
	hs('POST', url, {'name': 'Score', 'label': 'S', 'type': 'number', 'fieldType': 'number', 'groupName': 'g'}, 201)
	contact(hs, score='12')
	hs('PATCH', url + '/score', {'label': 'T'}, 200)
	hs('DELETE', url + '/score', status=204)
	assert 'score' not in {p['name'] for p in hs('GET', url, status=200)['results']}
	hs('POST', '/crm/v3/objects/contacts', {'properties': {'score': '1'}}, 400)
	item = {'name': 'b1', 'label': 'B', 'type': 'string', 'fieldType': 'text', 'groupName': 'g'}
	hs('POST', '/crm/properties/2026-03/contacts/batch/create', {'inputs': [item]}, 201)
	hs('POST', url + '/batch/archive', {'inputs': [{'name': 'b1'}, {'name': 'zz'}]}, 204)
	kinds = {p['type'] for p in hs('GET', url, status=200)['results']}
	assert {'string', 'number', 'bool', 'date', 'datetime', 'enumeration', 'phone_number', 'json',
			'object_coordinates'} <= kinds


def test_a13_schemas_owners_pipelines(hs):
	body = {'name': 'planet', 'labels': {'singular': 'Planet', 'plural': 'Planets'}, 'requiredProperties': ['mass'],
			'properties': [{'name': 'mass', 'label': 'Mass', 'type': 'number', 'fieldType': 'number'}],
			'associatedObjects': ['CONTACT']}
	made = hs('POST', '/crm-object-schemas/2026-03/schemas', body, 201)
	assert made['objectTypeId'].startswith('2-') and made['fullyQualifiedName'] == 'p4711_planet'
	hs('POST', '/crm/v3/objects/planet', {'properties': {'mass': 3}}, 201)
	hs('POST', '/crm/v3/objects/planet', {'properties': {}}, 400)
	assert len(hs('GET', '/crm/v3/owners?limit=1', status=200)['results']) == 1
	assert hs('GET', '/crm/v3/owners?archived=true', status=200)['results'][0]['id'] == '503'
	stages = hs('GET', '/crm/v3/pipelines/deals', status=200)['results'][0]['stages']
	assert stages[0]['id'] == 'appointmentscheduled'


def test_a1_a11_authentication_and_scopes(hs):
	for headers in ({}, {'Authorization': 'Bearer wrong'}):
		status, raw, _ = hs.raw('GET', '/crm/v3/objects/contacts', headers=headers)
		assert status == 401 and json.loads(raw)['category'] == 'INVALID_AUTHENTICATION'
	hs.ctl('POST', 'config', {'forbidden_types': ['deals']})
	assert hs('GET', '/crm/v3/objects/0-3', status=403)['category'] == 'MISSING_SCOPES'
	hs('GET', '/crm/v3/properties/deals', status=403)


def test_a12_a17_6_enforced_limits_answer_429_with_policy_and_headers(hs):
	hs.ctl('POST', 'config', {'mode': 'enforce', 'limits': {'default': [[3, 10]], 'search': [[2, 1]]}})
	hs('GET', '/crm/v3/objects/contacts', status=200)
	assert hs.headers['X-HubSpot-RateLimit-Remaining'] == '2' and hs.headers['X-HubSpot-RateLimit-Max'] == '3'
	hs('GET', '/crm/v3/objects/contacts', status=200)
	hs('GET', '/crm/v3/objects/contacts', status=200)
	err = hs('GET', '/crm/v3/objects/contacts', status=429)
	assert err['policyName'] == 'TEN_SECONDLY_ROLLING' and 'Retry-After' not in hs.headers
	search(hs), search(hs)
	assert search(hs, 429)['policyName'] == 'SECONDLY'
	time.sleep(1.05)
	search(hs)
	assert hs.ctl('GET', 'judge')['violation_count'] == 2


def test_a12_the_judge_only_records_by_default(hs):
	for _ in range(7):
		search(hs)
	judge = hs.ctl('GET', 'judge')
	seen = {w['bucket']: w['max_in_window'] for w in judge['windows']}
	assert judge['violation_count'] == 2 and seen['search'] == 7 and judge['violations'][0]['too_early_ms'] > 500


def test_a12_daily_limit(hs):
	hs.ctl('POST', 'config', {'daily_left': 1})
	hs('GET', '/crm/v3/objects/contacts', status=200)
	assert hs('GET', '/crm/v3/objects/contacts', status=429)['policyName'] == 'DAILY'
