"""Airtable's stand-in; every test names the row of API_FACTS that it pins."""
import base64
import json
import time
from urllib.parse import quote

import pytest

BASE = '/v0/appFakeBase000001'
PRODUCT = BASE + '/Product%20Inventory'


# -- Airtable: records

def test_b2_b13_tables_by_name_and_id_with_odd_encodings_and_trailing_slash(at):
	for path in ('/A%2FB%20Tests', '/A%2fB%20Tests/', '/tblABTests0000001', '/%F0%9F%9A%80%20Launch%20Plan',
				 '/100%25%20done%3F', '/2024%20Budget'):
		assert at('GET', BASE + path, status=200)['records']
	assert at('GET', BASE + '/a%2Fb%20tests', status=403)['error']['type'] == 'INVALID_PERMISSIONS_OR_MODEL_NOT_FOUND'


def test_b2_empties_are_left_out_and_zero_is_not_empty(at):
	fields = at('GET', PRODUCT + '/recProd0000000002', status=200)['fields']
	assert fields['Quantity'] == 0 and not {'Notes', 'In Stock?', 'Tags', 'Suppliers'} & set(fields)


def test_b2_empty_and_false_formula_results_are_left_out(at):
	for name, text in (('Blank', 'IF({Quantity}>1, "many", "")'), ('False', '{Name}="nobody"')):
		field = {'name': name, 'type': 'formula', 'options': {'formula': text}}
		at.ctl('POST', 'edit', {'op': 'field_create', 'table': 'Product Inventory', 'field': field})
	assert at('GET', PRODUCT + '/recProd0000000003', status=200)['fields']['Blank'] == 'many'
	assert not {'Blank', 'False'} & set(at('GET', PRODUCT + '/recProd0000000002', status=200)['fields'])


def test_b4_a_link_may_or_may_not_move_the_other_rows_time(at):
	def modified():
		rows = at.ctl('GET', 'state?table=Suppliers')['bases']['appFakeBase000001']['tables']['tblSuppliers00001']['records']
		return rows[0]['modifiedTime']
	before = modified()
	for shift, bumps, links in ((5000, False, ['recSupp0000000001']), (9000, True, [])):
		at.ctl('POST', 'config', {'clock_shift_ms': shift, 'inverse_bumps': bumps})
		at('PATCH', PRODUCT + '/recProd0000000002', {'fields': {'Suppliers': links}}, 200)
		assert (modified() > before) is bumps


def test_b2_both_key_modes(at):
	by_id = at('GET', PRODUCT + '/recProd0000000001?returnFieldsByFieldId=true', status=200)['fields']
	assert by_id['fldProd0000000001'] == 'Product 1'
	out = at('POST', PRODUCT, {'fields': {'fldProd0000000001': 'N', 'Quantity': 3}, 'returnFieldsByFieldId': True}, 200)
	assert out['fields']['fldProd0000000007'] == 3


def test_b2_single_and_batch_create_have_their_own_shapes(at):
	one = at('POST', PRODUCT, {'fields': {'Name': 'x'}}, 200)
	assert set(one) == {'id', 'createdTime', 'fields'} and len(one['id']) == 17
	many = at('POST', PRODUCT + '/', {'records': [{'fields': {'Name': 'y'}}]}, 200)
	assert list(many) == ['records']
	err = at('POST', PRODUCT, {'records': [{'fields': {}}] * 11}, 422)
	assert err['error']['type'] == 'INVALID_REQUEST_UNKNOWN'


def test_b2_patch_keeps_and_put_clears(at):
	out = at('PATCH', PRODUCT + '/recProd0000000001', {'fields': {'Name': 'P', 'Tags': []}}, 200)
	assert out['fields']['Notes'] and 'Tags' not in out['fields']
	out = at('PUT', PRODUCT + '/recProd0000000001', {'fields': {'Name': 'Q'}}, 200)
	assert out['fields']['Name'] == 'Q' and 'Notes' not in out['fields'] and out['fields']['Number'] == 1


def test_b2_b13_single_calls_ignore_the_table_and_batches_refuse(at):
	wrong = BASE + '/Suppliers'
	assert at('GET', wrong + '/recProd0000000001', status=200)['id'] == 'recProd0000000001'
	out = at('PATCH', wrong + '/recProd0000000001', {'fields': {'Quantity': 9}}, 200)
	assert out['fields']['Quantity'] == 9
	body = {'records': [{'id': 'recProd0000000001', 'fields': {}}]}
	assert at('PATCH', wrong, body, 422)['error']['type'] == 'ROW_DOES_NOT_EXIST'
	assert at('DELETE', wrong + '?records[]=recProd0000000001', status=404) == {'error': 'NOT_FOUND'}
	assert at('DELETE', wrong + '/recProd0000000001', status=200) == {'id': 'recProd0000000001', 'deleted': True}
	assert at('GET', PRODUCT + '/recProd0000000001', status=404) == {'error': 'NOT_FOUND'}


def test_b2_batch_delete_repeats_the_key(at):
	url = PRODUCT + '?records%5B%5D=recProd0000000001&records%5B%5D=recProd0000000002'
	assert [r['deleted'] for r in at('DELETE', url, status=200)['records']] == [True, True]


def test_b1_record_ids_are_case_sensitive(at):
	assert at('GET', PRODUCT + '/recCaseTwin00000a', status=200)['fields']['Name'] == 'Twin a'
	at('DELETE', PRODUCT + '/recCaseTwin00000a', status=200)
	assert at('GET', PRODUCT + '/recCaseTwin00000A', status=200)['fields']['Name'] == 'Twin A'


def test_b6_batches_are_all_or_nothing_and_errors_have_types(at):
	before = at.ctl('GET', 'state?table=Suppliers')
	url = BASE + '/Suppliers'
	for fields, kind in (({'Nope': 1}, 'UNKNOWN_FIELD_NAME'), ({'Cost': 'x'}, 'INVALID_VALUE_FOR_COLUMN'),
						 ({'Country': 'FR'}, 'INVALID_MULTIPLE_CHOICE_OPTIONS'),
						 ({'Product Count': 1}, 'INVALID_VALUE_FOR_COLUMN'),
						 ({'Products': ['recNope0000000001']}, 'ROW_DOES_NOT_EXIST')):
		err = at('POST', url, {'records': [{'fields': {'Name': 'ok'}}, {'fields': fields}]}, 422)
		assert err['error']['type'] == kind
	assert at.ctl('GET', 'state?table=Suppliers')['bases'] == before['bases']
	assert at('POST', url, {'nothing': 1}, 422)['error']['type'] == 'INVALID_REQUEST_MISSING_FIELDS'


def test_b2_upsert_creates_updates_and_fails_on_several(at):
	body = {'performUpsert': {'fieldsToMergeOn': ['Name']},
			'records': [{'fields': {'Name': 'Supplier 1', 'Cost': 7}}, {'fields': {'Name': 'New'}}]}
	out = at('PATCH', BASE + '/Suppliers', body, 200)
	assert out['updatedRecords'] == ['recSupp0000000001'] and len(out['createdRecords']) == 1
	at('POST', BASE + '/Suppliers', {'fields': {'Name': 'New'}}, 200)
	at('PATCH', BASE + '/Suppliers', body, 422)
	body['performUpsert'] = {'fieldsToMergeOn': ['Product Count']}
	at('PATCH', BASE + '/Suppliers', body, 422)


def test_b2_typecast_makes_choices_and_records_in_other_tables(at):
	body = {'fields': {'Name': 'T', 'Status': 'Brand new', 'Suppliers': ['Newcomer'], 'Quantity': '12'}, 'typecast': True}
	out = at('POST', PRODUCT, body, 200)['fields']
	assert out['Status'] == 'Brand new' and out['Quantity'] == 12 and out['Supplier Names'] == ['Newcomer']
	rows = at.ctl('GET', 'state?table=Suppliers')['bases']['appFakeBase000001']['tables']['tblSuppliers00001']['records']
	assert rows[-1]['fields']['Name'] == 'Newcomer'


def test_b2_b13_links_change_the_other_side_and_its_computed_fields(at):
	at('PATCH', PRODUCT + '/recProd0000000002', {'fields': {'Suppliers': ['recSupp0000000001']}}, 200)
	supplier = at('GET', BASE + '/Suppliers/recSupp0000000001', status=200)['fields']
	assert 'recProd0000000002' in supplier['Products'] and supplier['Product Count'] == len(supplier['Products'])
	at('PATCH', BASE + '/Suppliers/recSupp0000000001', {'fields': {'Name': 'Renamed', 'Cost': 50}}, 200)
	product = at('GET', PRODUCT + '/recProd0000000002', status=200)['fields']
	assert product['Supplier Names'] == ['Renamed'] and product['Supplier Cost'] == 50
	at('DELETE', BASE + '/Suppliers/recSupp0000000001', status=200)
	assert 'Suppliers' not in at('GET', PRODUCT + '/recProd0000000002', status=200)['fields']


def test_b8_every_field_type_is_in_the_seed(at):
	tables = at('GET', '/v0/meta/bases/appFakeBase000001/tables', status=200)['tables']
	kinds = {f['type'] for f in tables[0]['fields']}
	assert kinds >= {'singleLineText', 'multilineText', 'richText', 'email', 'url', 'phoneNumber', 'number', 'currency',
					 'percent', 'count', 'autoNumber', 'rating', 'duration', 'checkbox', 'date', 'dateTime', 'createdTime',
					 'lastModifiedTime', 'singleSelect', 'multipleSelects', 'singleCollaborator', 'createdBy',
					 'lastModifiedBy', 'multipleCollaborators', 'multipleRecordLinks', 'multipleAttachments', 'barcode',
					 'button', 'aiText', 'formula', 'rollup', 'multipleLookupValues', 'externalSyncSource', 'manualSort'}
	assert tables[0]['primaryFieldId'] == 'fldProd0000000001'
	ratio = at('GET', PRODUCT + '/recProd0000000002', status=200)['fields']['Ratio']
	assert ratio == {'specialValue': 'NaN'}


# -- Airtable: lists

def test_b3_pagination_and_expired_iterators(at):
	page = at('GET', PRODUCT + '?pageSize=20', status=200)
	assert page['offset'].startswith('itr') and '/rec' in page['offset']
	rest = at('GET', f'{PRODUCT}?pageSize=20&offset={quote(page["offset"], safe="")}', status=200)
	assert len(rest['records']) == 7 and 'offset' not in rest
	at.ctl('POST', 'edit', {'op': 'expire_iterators'})
	err = at('GET', f'{PRODUCT}?offset={page["offset"]}', status=422)
	assert err['error']['type'] == 'LIST_RECORDS_ITERATOR_NOT_AVAILABLE'


def test_b2_list_records_is_the_same_list_by_post(at):
	body = {'fields': ['Name'], 'maxRecords': 3, 'sort': [{'field': 'Number', 'direction': 'desc'}]}
	out = at('POST', PRODUCT + '/listRecords', body, 200)
	assert [r['fields'] for r in out['records']] == [{'Name': 'Twin A'}, {'Name': 'Twin a'}, {'Name': 'Product 25'}]
	got = at('GET', PRODUCT + '?fields%5B%5D=Name&maxRecords=3&sort%5B0%5D%5Bfield%5D=Number&sort%5B0%5D%5Bdirection%5D=desc',
			 status=200)
	assert got['records'] == out['records']


@pytest.mark.parametrize('text, names', [
	("RECORD_ID()='recProd0000000003'", ['Product 3']),
	("OR(RECORD_ID()='recProd0000000003', RECORD_ID()='recSupp0000000001',{Name}='Product 4')", ['Product 3', 'Product 4']),
	("AND({Quantity}>22, NOT({Name}='Product 23'))", ['Product 25']),
	("{In Stock?}=1", None), ("LAST_MODIFIED_TIME()>'2100-01-01T00:00:00.000Z'", []),
	("IS_AFTER(LAST_MODIFIED_TIME(), '2020-01-01T00:00:00.000Z')", None),
])
def test_b4_filter_by_formula(at, text, names):
	got = at('GET', f'{PRODUCT}?filterByFormula={quote(text)}', status=200)['records']
	assert got if names is None else [r['fields']['Name'] for r in got] == names


def test_b4_modified_time_ignores_computed_changes(at):
	at.ctl('POST', 'config', {'clock_shift_ms': 5000})
	at('PATCH', BASE + '/Suppliers/recSupp0000000002', {'fields': {'Cost': 99}}, 200)
	since = time.strftime('%Y-%m-%dT%H:%M:%S.000Z', time.gmtime(time.time() + 2))
	query = quote(f"LAST_MODIFIED_TIME()>'{since}'")
	assert at('GET', f'{PRODUCT}?filterByFormula={query}', status=200)['records'] == []
	assert len(at('GET', f'{BASE}/Suppliers?filterByFormula={query}', status=200)['records']) == 1


def test_b2_string_format_needs_zone_and_locale(at):
	at('GET', PRODUCT + '/recProd0000000001?cellFormat=string', status=422)
	got = at('GET', PRODUCT + '/recProd0000000001?cellFormat=string&timeZone=utc&userLocale=en', status=200)['fields']
	assert got['In Stock?'] == 'checked' and got['Price'] == '$1.99' and got['Tags'] == 'red, a, b'


# -- Airtable: attachments, comments, schema, webhooks

def test_b2_b13_upload_goes_to_the_content_host_and_is_keyed_by_field_id(at):
	body = {'contentType': 'text/plain', 'filename': 'a.txt', 'file': base64.b64encode(b'hello').decode()}
	url = BASE + '/recProd0000000002/Photos/uploadAttachment'
	out = at('POST', url, body, 200)
	assert list(out['fields']) == ['fldProd0000000020'] and out['fields']['fldProd0000000020'][0]['filename'] == 'a.txt'
	at('POST', url, body, 200, {'Host': 'content.airtable.com'})
	at('POST', url, body, 404, {'Host': 'api.airtable.com'})
	at('GET', PRODUCT, status=404, headers={'Host': 'content.airtable.com'})


def test_b2_attachments_grow_late_and_partial_success_is_a_200(at):
	body = {'fields': {'Photos': [{'url': 'https://example.com/a.png'}, {'url': 'https://fail.invalid/b.png'}]}}
	out = at('POST', PRODUCT, body, 200)
	assert out['details'] == {'message': 'partialSuccess', 'reasons': ['attachmentsFailedUploading']}
	assert len(out['fields']['Photos']) == 1 and 'thumbnails' not in out['fields']['Photos'][0]
	at.ctl('POST', 'config', {'clock_shift_ms': 3000})
	assert at('GET', f'{PRODUCT}/{out["id"]}', status=200)['fields']['Photos'][0]['thumbnails']
	assert 'details' not in at('POST', PRODUCT, {'fields': {}}, 200)


def test_b9_comments(at):
	url = PRODUCT + '/recProd0000000001/comments'
	made = at('POST', url, {'text': 'hi'}, 200)
	at('PATCH', f'{url}/{made["id"]}', {'text': 'ho'}, 200)
	assert at('GET', url, status=200)['comments'][0]['text'] == 'ho'
	listed = at('GET', PRODUCT + '?recordMetadata[]=commentCount&maxRecords=1', status=200)
	assert listed['records'][0]['commentCount'] == 1
	assert at('DELETE', f'{url}/{made["id"]}', status=200)['deleted'] is True


def test_b7_schema_writes_and_renames(at):
	url = '/v0/meta/bases/appFakeBase000001/tables'
	table = at('POST', url, {'name': 'Fresh', 'fields': [{'name': 'Name', 'type': 'singleLineText'}]}, 200)
	link = {'name': 'Links', 'type': 'multipleRecordLinks', 'options': {'linkedTableId': 'tblSuppliers00001'}}
	field = at('POST', f'{url}/{table["id"]}/fields', link, 200)
	other = at('GET', url, status=200)['tables'][1]['fields'][-1]
	assert field['options']['inverseLinkFieldId'] == other['id'] and other['name'] == 'Fresh'
	at('PATCH', f'{url}/{table["id"]}/fields/{field["id"]}', {'name': 'Renamed'}, 200)
	at('PATCH', f'{url}/{table["id"]}', {'name': 'Fresher'}, 200)
	at('GET', BASE + '/Fresh', status=403)
	at('GET', BASE + '/Fresher', status=200)
	at('POST', f'{url}/{table["id"]}/fields', {'name': 'F', 'type': 'formula', 'options': {}}, 422)
	at('DELETE', f'{url}/{table["id"]}/fields/{field["id"]}', {}, 404)
	assert at('GET', '/v0/meta/whoami', status=200)['id'].startswith('usr')
	assert len(at('GET', '/v0/meta/bases', status=200)['bases']) == 2


def test_b10_webhook_feed_by_cursor_with_retention(at):
	hooks = '/v0/bases/appFakeBase000001/webhooks'
	spec = {'specification': {'options': {'filters': {'dataTypes': ['tableData', 'tableFields', 'tableMetadata']}}}}
	hook = at('POST', hooks, spec, 200)
	assert hook['id'].startswith('ach') and hook['macSecretBase64']
	made = at('POST', PRODUCT, {'fields': {'Name': 'W', 'Status': 'Done'}}, 200)['id']
	at('PATCH', PRODUCT + '/recProd0000000002', {'fields': {'Suppliers': ['recSupp0000000001']}}, 200)
	at('DELETE', f'{PRODUCT}/{made}', status=200)
	feed = at('GET', f'{hooks}/{hook["id"]}/payloads?cursor=1&limit=2', status=200)
	assert feed['cursor'] == 3 and feed['mightHaveMore'] is True
	first, second = (p['changedTablesById'] for p in feed['payloads'])
	cell = first['tblProducts000001']['createdRecordsById'][made]['cellValuesByFieldId']
	assert cell['fldProd0000000015']['name'] == 'Done'
	assert second['tblSuppliers00001']['changedRecordsById']['recSupp0000000001']
	rest = at('GET', f'{hooks}/{hook["id"]}/payloads?cursor=3', status=200)
	assert rest['payloads'][0]['changedTablesById']['tblProducts000001']['destroyedRecordIds'] == [made]
	at.ctl('POST', 'config', {'payload_retention_s': -1})
	gone = at('GET', f'{hooks}/{hook["id"]}/payloads?cursor=1', status=200)
	assert gone['payloads'] == [] and gone['cursor'] == 4


# -- Airtable: limits

def test_b5_penalty_box_after_five_a_second(at):
	at.ctl('POST', 'config', {'mode': 'enforce', 'limits': {'base': [[5, 1]]}, 'penalty_s': 1.5})
	for _ in range(5):
		at('GET', BASE + '/Empty', status=200)
	assert at('GET', BASE + '/Empty', status=429)['error']['type'] == 'RATE_LIMIT_REACHED'
	time.sleep(1.1)
	at('GET', BASE + '/Empty', status=429)
	at('GET', '/v0/appFakeBase000002/Only%20Table', status=200)
	time.sleep(0.5)
	at('GET', BASE + '/Empty', status=200)


def test_b5_b6_billing_auth_and_unknown_bases(at):
	at('GET', '/v0/appNope0000000001/Empty', status=403)
	assert at('GET', '/v0/nonsense', status=404) == {'error': 'NOT_FOUND'}
	status, raw, _ = at.raw('GET', BASE + '/Empty')
	assert status == 401 and json.loads(raw)['error']['type'] == 'AUTHENTICATION_REQUIRED'
	at.ctl('POST', 'config', {'billing_exceeded': True})
	assert at('GET', BASE + '/Empty', status=429)['error']['type'] == 'PUBLIC_API_BILLING_LIMIT_EXCEEDED'
	at('GET', '/v0/meta/whoami', status=200)
