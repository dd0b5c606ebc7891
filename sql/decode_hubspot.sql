-- decode: what HubSpot's answers change, without doing it.
SET client_min_messages = warning;
BEGIN;
SELECT name FROM sequin.create_sync('crm', 'hubspot', upstream_url => 'http://127.0.0.1:1');
INSERT INTO sequin.mirror_table (sync, collection, collection_name, table_name, kind, enabled, detail) VALUES
	('crm', '0-1', 'contacts', 'contact', 'records', true, '{}'),
	('crm', '0-2', 'companies', 'company', 'records', true, '{}'),
	('crm', '0-3', 'deals', 'deal', 'records', false, '{}'),
	('crm', '2-77', 'cars', 'cars', 'records', true, '{"aliases": ["p123_cars"]}'),
	('crm', '0-2:0-1', 'companies:contacts', 'associations_company_contact', 'links', true,
	 '{"from": "0-2", "to": "0-1", "from_column": "company_id", "to_column": "contact_id", "types":
	   [{"id": 279, "category": "HUBSPOT_DEFINED", "from": "0-1", "to": "0-2", "label": null},
	    {"id": 280, "category": "HUBSPOT_DEFINED", "from": "0-2", "to": "0-1", "label": null},
	    {"id": 11, "category": "USER_DEFINED", "from": "0-1", "to": "0-2", "label": "Partner"}]}');
INSERT INTO sequin.mirror_column (sync, collection, field, field_name, column_name, column_type)
	SELECT 'crm', c, f, f, f, t FROM (VALUES ('0-1', 'email', 'text'), ('0-1', 'firstname', 'text'), ('0-1', 'age', 'numeric'),
		('0-2', 'domain', 'text'), ('2-77', 'plate', 'text'), ('0-3', 'amount', 'numeric')) x(c, f, t);
CREATE FUNCTION pg_temp.changes(method text, url text, request text DEFAULT NULL, status int DEFAULT 200, response text DEFAULT NULL)
	RETURNS TABLE (op text, collection text, id text, data jsonb) LANGUAGE sql AS
	$$SELECT * FROM sequin.decode('crm', method, url, request, status, response)$$;

\echo -- create, with and without scheme and host
SELECT * FROM pg_temp.changes('POST', 'https://api.hubapi.com/crm/v3/objects/contacts', '{"properties":{"email":"a@x.org","firstname":"Ann","age":""}}', 201,
	'{"id":"1","properties":{"email":"a@x.org","age":null},"createdAt":"2024-01-01T00:00:00Z","updatedAt":"2024-01-01T00:00:01Z","archived":false}');
SELECT * FROM pg_temp.changes('POST', 'api.hubapi.com/crm/objects/2026-03/0-1', '{"properties":{"email":"a@x.org"}}', 201,
	'{"id":"1","properties":{"email":"a@x.org"},"createdAt":"2024-01-01T00:00:00Z","updatedAt":"2024-01-01T00:00:01Z","archived":false}');
SELECT * FROM pg_temp.changes('POST', '/crm/v3/objects/p123_cars', '{"properties":{"plate":"X 1"}}', 201,
	'{"id":"9","properties":{"plate":"X 1"},"createdAt":"2024-01-01T00:00:00Z","updatedAt":"2024-01-01T00:00:01Z","archived":false}');
\echo -- update by id, and by another property
SELECT * FROM pg_temp.changes('PATCH', '/crm/v3/objects/contacts/1', '{"properties":{"firstname":""}}', 200,
	'{"id":"1","properties":{"firstname":null},"createdAt":"2024-01-01T00:00:00Z","updatedAt":"2024-01-02T00:00:00Z","archived":false}');
SELECT * FROM pg_temp.changes('PATCH', '/crm/v3/objects/contacts/a%40x.org?idProperty=email', '{"properties":{"age":"7"}}', 200,
	'{"id":"1","properties":{"age":"7"},"createdAt":"2024-01-01T00:00:00Z","updatedAt":"2024-01-02T00:00:00Z","archived":false}');
\echo -- an unknown property asks for the schema
SELECT op, collection, id, data FROM pg_temp.changes('PATCH', '/crm/v3/objects/contacts/1', '{"properties":{"shoe":"42"}}', 200,
	'{"id":"1","properties":{"shoe":"42"},"createdAt":"2024-01-01T00:00:00Z","updatedAt":"2024-01-02T00:00:00Z","archived":false}') ORDER BY op;
\echo -- batches; what failed in a 207 changes nothing
SELECT * FROM pg_temp.changes('POST', '/crm/v3/objects/contacts/batch/update', '{"inputs":[{"id":"1","properties":{"age":"8"}},{"id":"2","properties":{"age":"9"}}]}', 207,
	'{"status":"COMPLETE","results":[{"id":"2","properties":{"age":"9"},"createdAt":"2024-01-01T00:00:00Z","updatedAt":"2024-01-02T00:00:00Z","archived":false}],"errors":[{"status":"error"}],"numErrors":1}');
\echo -- deletes
SELECT * FROM pg_temp.changes('DELETE', '/crm/v3/objects/contacts/1', NULL, 204, '');
SELECT * FROM pg_temp.changes('POST', '/crm/v3/objects/contacts/batch/archive', '{"inputs":[{"id":"1"},{"id":"2"}]}', 204, '');
SELECT * FROM pg_temp.changes('POST', '/crm/v3/objects/contacts/gdpr-delete', '{"objectId":"1"}', 204, '');
SELECT * FROM pg_temp.changes('POST', '/crm/v3/objects/contacts/gdpr-delete', '{"objectId":"a@x.org","idProperty":"email"}', 204, '');
\echo -- merge
SELECT * FROM pg_temp.changes('POST', '/crm/v3/objects/contacts/merge', '{"primaryObjectId":"1","objectIdToMerge":"2"}', 200,
	'{"id":"3","properties":{"email":"a@x.org"},"createdAt":"2024-01-01T00:00:00Z","updatedAt":"2024-01-02T00:00:00Z","archived":false}') ORDER BY op, id;
\echo -- associations
SELECT * FROM pg_temp.changes('PUT', '/crm/v4/objects/contacts/1/associations/default/companies/5', NULL, 200,
	'{"status":"COMPLETE","results":[{"from":{"id":"1"},"to":{"id":"5"},"associationSpec":{"associationCategory":"HUBSPOT_DEFINED","associationTypeId":279}}]}');
SELECT * FROM pg_temp.changes('PUT', '/crm/v4/objects/contacts/1/associations/companies/5', '[{"associationCategory":"USER_DEFINED","associationTypeId":11}]', 201,
	'{"fromObjectTypeId":"0-1","fromObjectId":1,"toObjectTypeId":"0-2","toObjectId":5,"labels":["Partner"]}');
SELECT * FROM pg_temp.changes('DELETE', '/crm/v4/objects/contacts/1/associations/companies/5', NULL, 204, '');
\echo -- schema changes
SELECT * FROM pg_temp.changes('POST', '/crm/v3/properties/contacts', '{"name":"shoe"}', 201, '{"name":"shoe"}');
\echo -- reads, refusals, types that are switched off or not mirrored: nothing
SELECT * FROM pg_temp.changes('POST', '/crm/v3/objects/contacts/search', '{}', 200, '{"total":1,"results":[{"id":"1","properties":{"email":"z"}}]}');
SELECT * FROM pg_temp.changes('GET', '/crm/v3/objects/contacts/1', NULL, 200, '{"id":"1","properties":{"email":"z"}}');
SELECT * FROM pg_temp.changes('PATCH', '/crm/v3/objects/contacts/1', '{"properties":{"age":"7"}}', 429, '{"status":"error"}');
SELECT count(*) FROM pg_temp.changes('PATCH', '/crm/v3/objects/0-3/1', '{"properties":{"amount":"7"}}', 200, '{"id":"1","properties":{"amount":"7"}}');
\echo -- a body that is not in the format of the API: the record is asked for again
SELECT * FROM pg_temp.changes('PATCH', '/crm/v3/objects/contacts/1', '{"properties":{"age":"7"}}', 200, '<html>');
\echo -- what the proxy would refuse is refused here, with the same hint
\set SHOW_CONTEXT never
SAVEPOINT s;
SELECT * FROM pg_temp.changes('POST', '/no/such/api', '{}', 200, '{}');
ROLLBACK TO s;
SELECT * FROM pg_temp.changes('POST', 'https://api.hubspot.com/crm/v3/objects/contacts', '{}', 200, '{}');
ROLLBACK TO s;
SELECT * FROM pg_temp.changes('POST', '/contacts/v1/contact', '{}', 200, '{}');
ROLLBACK TO s;
SELECT * FROM pg_temp.changes('POST', '/crm/v3/../x', '{}', 200, '{}');
ROLLBACK TO s;
SELECT * FROM sequin.decode('nosuch', 'GET', '/', NULL, 200, NULL);
ROLLBACK TO s;
-- a NUL in a string fits no PostgreSQL type: NULL, as in the mirror
SELECT data FROM pg_temp.changes('PATCH', '/crm/v3/objects/contacts/1', '{"properties":{"email":"x"}}', 200,
	'{"id":"1","properties":{"email":"a\u0000b"},"createdAt":"2024-01-01T00:00:00Z","updatedAt":"2024-01-02T00:00:00Z","archived":false}');
ROLLBACK;
