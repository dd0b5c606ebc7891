-- decode: what Airtable's answers change, without doing it.
SET client_min_messages = warning;
BEGIN;
SELECT name FROM sequin.create_sync('base', 'airtable', config => '{"base_id": "appABCDEFGHIJKLMN"}', upstream_url => 'http://127.0.0.1:1');
INSERT INTO sequin.mirror_table (sync, collection, collection_name, table_name) VALUES
	('base', 'tblAAAAAAAAAAAAAA', 'Product Inventory', 'product_inventory'), ('base', 'tblBBBBBBBBBBBBBB', 'A/B Tests', 'a_b_tests');
INSERT INTO sequin.mirror_column (sync, collection, field, field_name, column_name, column_type) VALUES
	('base', 'tblAAAAAAAAAAAAAA', 'fldAAAAAAAAAAAAAA', 'Name', 'name', 'text'),
	('base', 'tblAAAAAAAAAAAAAA', 'fldBBBBBBBBBBBBBB', 'In Stock', 'in_stock', 'boolean'),
	('base', 'tblAAAAAAAAAAAAAA', 'fldCCCCCCCCCCCCCC', 'Tags', 'tags', 'text[]'),
	('base', 'tblBBBBBBBBBBBBBB', 'fldDDDDDDDDDDDDDD', 'Name', 'name', 'text');
CREATE FUNCTION pg_temp.changes(method text, url text, request text DEFAULT NULL, status int DEFAULT 200, response text DEFAULT NULL)
	RETURNS TABLE (op text, collection text, id text, data jsonb) LANGUAGE sql AS
	$$SELECT * FROM sequin.decode('base', method, '/v0/appABCDEFGHIJKLMN/' || url, request, status, response)$$;

\echo -- create, by name and by id, single and batch, keys by name and by field id
SELECT * FROM pg_temp.changes('POST', 'Product%20Inventory', '{"fields":{"Name":"Pen"}}', 200,
	'{"id":"recAAAAAAAAAAAAA1","createdTime":"2024-01-01T00:00:00.000Z","fields":{"Name":"Pen","Tags":["a","b"]}}');
SELECT * FROM pg_temp.changes('POST', 'tblAAAAAAAAAAAAAA/', '{"records":[{"fields":{}},{"fields":{}}],"returnFieldsByFieldId":true}', 200,
	'{"records":[{"id":"recAAAAAAAAAAAAA1","createdTime":"2024-01-01T00:00:00.000Z","fields":{"fldAAAAAAAAAAAAAA":"Pen"}},
	             {"id":"recAAAAAAAAAAAAA2","createdTime":"2024-01-01T00:00:00.000Z","fields":{"fldBBBBBBBBBBBBBB":true}}]}');
SELECT * FROM pg_temp.changes('POST', 'A%2FB%20Tests', '{"fields":{"Name":"x"}}', 200,
	'{"id":"recAAAAAAAAAAAAA3","createdTime":"2024-01-01T00:00:00.000Z","fields":{"Name":"x"}}');
\echo -- update, single and upsert
SELECT * FROM pg_temp.changes('PATCH', 'Product%20Inventory/recAAAAAAAAAAAAA1', '{"fields":{"Name":null}}', 200,
	'{"id":"recAAAAAAAAAAAAA1","createdTime":"2024-01-01T00:00:00.000Z","fields":{}}');
SELECT * FROM pg_temp.changes('PUT', 'Product%20Inventory', '{"performUpsert":{"fieldsToMergeOn":["Name"]},"records":[{"fields":{"Name":"Pen"}}]}', 200,
	'{"records":[{"id":"recAAAAAAAAAAAAA1","createdTime":"2024-01-01T00:00:00.000Z","fields":{"Name":"Pen"}}],"createdRecords":[],"updatedRecords":["recAAAAAAAAAAAAA1"]}');
\echo -- delete, single (wherever the record lives) and batch
SELECT * FROM pg_temp.changes('DELETE', 'Product%20Inventory/recAAAAAAAAAAAAA1', NULL, 200, '{"id":"recAAAAAAAAAAAAA1","deleted":true}');
SELECT * FROM pg_temp.changes('DELETE', 'Product%20Inventory?records%5B%5D=recAAAAAAAAAAAAA1&records[]=recAAAAAAAAAAAAA2', NULL, 200,
	'{"records":[{"id":"recAAAAAAAAAAAAA1","deleted":true},{"id":"recAAAAAAAAAAAAA2","deleted":false}]}');
\echo -- display strings are not data
SELECT * FROM pg_temp.changes('PATCH', 'Product%20Inventory/recAAAAAAAAAAAAA1?cellFormat=string&timeZone=utc&userLocale=en', '{"fields":{"Name":"Pen"}}', 200,
	'{"id":"recAAAAAAAAAAAAA1","createdTime":"2024-01-01T00:00:00.000Z","fields":{"Name":"Pen"}}');
\echo -- an unknown field, an unknown table
SELECT op, collection, id FROM pg_temp.changes('PATCH', 'Product%20Inventory/recAAAAAAAAAAAAA1', '{"fields":{"New":"1"}}', 200,
	'{"id":"recAAAAAAAAAAAAA1","createdTime":"2024-01-01T00:00:00.000Z","fields":{"New":"1"}}') ORDER BY op;
SELECT op, collection, id FROM pg_temp.changes('POST', 'New%20Table', '{"fields":{}}', 200,
	'{"id":"recAAAAAAAAAAAAA1","createdTime":"2024-01-01T00:00:00.000Z","fields":{}}') ORDER BY op;
\echo -- reads and refusals
SELECT * FROM pg_temp.changes('POST', 'Product%20Inventory/listRecords', '{}', 200, '{"records":[]}');
SELECT * FROM pg_temp.changes('PATCH', 'Product%20Inventory/recAAAAAAAAAAAAA1', '{"fields":{}}', 422, '{"error":{}}');
\echo -- a body that is not the format
SELECT * FROM pg_temp.changes('PATCH', 'Product%20Inventory/recAAAAAAAAAAAAA1', '{"fields":{"Name":"x"}}', 200, 'oops');
\echo -- the schema, and an attachment that goes to another host
SELECT * FROM sequin.decode('base', 'POST', '/v0/meta/bases/appABCDEFGHIJKLMN/tables', '{}', 200, '{"id":"tblCCCCCCCCCCCCCC"}');
SELECT * FROM sequin.decode('base', 'POST', 'https://content.airtable.com/v0/appABCDEFGHIJKLMN/recAAAAAAAAAAAAA1/fldCCCCCCCCCCCCCC/uploadAttachment',
	'{}', 200, '{"id":"recAAAAAAAAAAAAA1","createdTime":"2024-01-01T00:00:00.000Z","fields":{"fldCCCCCCCCCCCCCC":[{"id":"att1"}]}}');
\echo -- another base
\set SHOW_CONTEXT never
SELECT * FROM sequin.decode('base', 'POST', '/v0/appZZZZZZZZZZZZZZ/Table', '{}', 200, '{}');
ROLLBACK;
