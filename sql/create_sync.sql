-- create_sync: every refusal says what to do, and plain INSERT is refused alike.
\set ON_ERROR_STOP 1
SET client_min_messages = warning;
CREATE FUNCTION pg_temp.refused(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	message text;
	hint text;
BEGIN
	EXECUTE command;
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	RETURN replace(format('%s %s / %s', SQLSTATE, message, hint), format('DATABASE %I', current_database()), 'DATABASE db');
END $$;

BEGIN;
SELECT name, provider, target_schema, api_root ~ '^http://[^/]+:[0-9]+/[0-9A-Za-z]{22}$' AS api_root
	FROM sequin.create_sync('crm', 'hubspot', credential => 'pat-secret', tables => ARRAY['contacts', 'companies', 'deals'],
							rate_limit => '100/10s, search:4/1s');
SELECT nspowner = current_user::regrole AS owned FROM pg_namespace WHERE nspname = 'crm';
SELECT name, provider, state, auth, paused, last_error, api_root = sequin.api_root(name) AS same_root FROM sequin.syncs;
SELECT name, owner = current_user AS mine, config, tables, upstream_url FROM sequin.sync;
SELECT bucket, max_requests, period FROM sequin.rate_limit ORDER BY 1, 3;
SELECT state, attempts, next_attempt_at = now() AS due FROM sequin.sync_state;

SELECT pg_temp.refused($$SELECT sequin.create_sync('crm', 'hubspot')$$);
SELECT pg_temp.refused(format('SELECT sequin.create_sync(%L, %L)', name, 'hubspot'))
	FROM unnest(ARRAY['Crm', '1crm', '', 'a b', 'a;b', repeat('a', 64), NULL]) name;
SELECT pg_temp.refused($$SELECT sequin.create_sync('ab', 'pipedrive')$$);
SELECT pg_temp.refused($$SELECT sequin.create_sync('ab', NULL)$$);
SELECT pg_temp.refused($$SELECT sequin.create_sync('ab', 'airtable')$$);
SELECT pg_temp.refused($$SELECT sequin.create_sync('ab', 'airtable', config => '{"base_id": "appshort"}')$$);
SELECT pg_temp.refused($$SELECT sequin.create_sync('ab', 'hubspot', config => '[]')$$);
SELECT pg_temp.refused(format('SELECT sequin.create_sync(%L, %L, config => %L)', 'ab', 'hubspot', format('{"sync_reserve": %s}', r)))
	FROM unnest(ARRAY['-0.1', '0.91', '1e100', '"0.1"', 'null', 'true']) r;
SELECT pg_temp.refused($$SELECT sequin.create_sync('ab', 'hubspot', auth => 'basic')$$);
SELECT pg_temp.refused($$SELECT sequin.create_sync('ab', 'hubspot', tables => '{}')$$);
SELECT pg_temp.refused($$SELECT sequin.create_sync('ab', 'hubspot', tables => ARRAY['contacts', ''])$$);
SELECT pg_temp.refused($$SELECT sequin.create_sync('ab', 'hubspot', tables => ARRAY['contacts', 'contacts'])$$);
SELECT pg_temp.refused(format('SELECT sequin.create_sync(%L, %L, target_schema => %L)', 'ab', 'hubspot', s))
	FROM unnest(ARRAY['pg_x', 'sequin', '', 'information_schema', repeat('x', 64)]) s;
SELECT pg_temp.refused(format('SELECT sequin.create_sync(%L, %L, upstream_url => %L)', 'ab', 'hubspot', u))
	FROM unnest(ARRAY['ftp://x', 'http://', 'http://u:p@x', 'http://x/path', 'http://x?y', 'x:80', 'http://x:port', E'http://x\r\nA: b', '']) u;
SELECT pg_temp.refused(format('SELECT sequin.create_sync(%L, %L, rate_limit => %L)', 'ab', 'hubspot', r))
	FROM unnest(ARRAY['100', '0/10s', '5/1w', 'a/1s', '5/1s 6/1s']) r;
SELECT pg_temp.refused(format('SELECT sequin.create_sync(%L, %L, %L)', 'ab', 'hubspot', c))
	FROM unnest(ARRAY['', 'Bearer pat-secret', E'pat-secret\nX: y', 'file:secret', 'file:', 'env:', 'env:A-B', 'päss']) c;
-- an OAuth client: complete or refused, and never shown
SELECT pg_temp.refused(format('SELECT sequin.create_sync(%L, %L, %L, %L)', 'ab', p, c, '{"base_id": "appAAAAAAAAAAAAAA"}'))
	FROM unnest(ARRAY['hubspot', 'airtable']) p, unnest(ARRAY['{', '{}', '{"client_id": "pat-secret", "client_secret": "pat-secret"}',
		'{"client_id": "pat-secret", "refresh_token": "pat secret"}', '{"refresh_token": "pat-secret", "client_secret": "pat-secret"}',
		'{"client_id": "pat-secret", "client_secret": ["pat-secret"], "refresh_token": "pat-secret"}',
		'{"client_id": "pat:secret", "client_secret": "pat-secret", "refresh_token": "pat-secret"} x']) c;
SELECT pg_temp.refused($$SELECT sequin.create_sync('ab', 'hubspot', '{"client_id": "pat-secret", "refresh_token": "pat-secret"}')$$);
SELECT pg_temp.refused($$SELECT sequin.create_sync('ab', 'airtable', '{"client_id": "pat:secret", "client_secret": "pat-secret", "refresh_token": "pat-secret"}', '{"base_id": "appAAAAAAAAAAAAAA"}')$$);
SAVEPOINT o;
SELECT name FROM sequin.create_sync('oauth_hs', 'hubspot', E'{"client_id": "a",\n "client_secret": "b", "refresh_token": "c"}');
SELECT name FROM sequin.create_sync('oauth_at', 'airtable', '{"client_id": "a", "refresh_token": "c"}', '{"base_id": "appAAAAAAAAAAAAAA"}');
ROLLBACK TO o;
-- what it brings belongs to the sync, and is never dumped
SAVEPOINT o;
SELECT name FROM sequin.create_sync('oauth_hs', 'hubspot');
INSERT INTO sequin.oauth_token (sync, source_hash, access_token, error) VALUES ('oauth_hs', sha256('c'), 'pat-secret', 'HubSpot refused');
SELECT last_error LIKE 'no credential%' AS no_credential FROM sequin.syncs WHERE name = 'oauth_hs';
SELECT sequin.alter_sync('oauth_hs', credential => '{"client_id": "a", "client_secret": "b", "refresh_token": "c"}');
SELECT last_error FROM sequin.syncs WHERE name = 'oauth_hs';
UPDATE sequin.sync SET name = 'oauth_hs2' WHERE name = 'oauth_hs';
SELECT sync FROM sequin.oauth_token;
SELECT sequin.drop_sync('oauth_hs2');
SELECT count(*) FROM sequin.oauth_token;
SELECT 'sequin.oauth_token'::regclass = ANY (extconfig) AS dumped FROM pg_extension WHERE extname = 'sequin_proxy';
ROLLBACK TO o;
SELECT count(*) FROM sequin.sync;

-- every origin that is one is taken
SAVEPOINT s;
SELECT pg_temp.refused(format('SELECT sequin.create_sync(%L, %L, upstream_url => %L)', 'u' || row_number() OVER (), 'hubspot', u))
	FROM unnest(ARRAY['http://127.0.0.1:9000', 'https://gateway.example.com', 'http://[::1]:9000', 'http://localhost']) u;
ROLLBACK TO s;

-- a table that is in the way
CREATE SCHEMA taken;
CREATE TABLE taken.company (x int);
CREATE TABLE taken.product_inventory (x int);
SELECT pg_temp.refused($$SELECT sequin.create_sync('ab', 'hubspot', target_schema => 'taken', tables => ARRAY['contacts', 'companies'])$$);
SELECT pg_temp.refused($$SELECT sequin.create_sync('ab', 'airtable', target_schema => 'taken', tables => ARRAY['Product Inventory'],
												   config => '{"base_id": "appABCDEFGHIJKLMN"}')$$);
-- the rows of a dump find their own tables there
INSERT INTO sequin.sync (name, provider, target_schema, tables, created_at)
	VALUES ('restored', 'hubspot', 'taken', ARRAY['companies'], now() - interval '1 day');
INSERT INTO sequin.sync (name, provider, owner, target_schema, created_at)
	VALUES ('restored2', 'hubspot', 'nobody_here', 'taken', now() - interval '1 day');
SELECT name, state, last_error FROM sequin.syncs WHERE name LIKE 'restored%' ORDER BY 1;
UPDATE sequin.sync SET paused = true WHERE name = 'restored2';

-- plain INSERT is as good, and as strict
INSERT INTO sequin.sync (name, provider) VALUES ('plain', 'hubspot')
	RETURNING name, target_schema, owner = current_user AS mine, length(identifier), config, auth;
SELECT to_regnamespace('plain');
SELECT pg_temp.refused($$INSERT INTO sequin.sync (name, provider) VALUES ('Bad', 'hubspot')$$);
SELECT pg_temp.refused($$INSERT INTO sequin.sync (name, provider, owner) VALUES ('ab', 'hubspot', 'nobody_here')$$);
SELECT pg_temp.refused($$INSERT INTO sequin.sync (name, provider, identifier) VALUES ('ab', 'hubspot', 'short')$$);
SELECT pg_temp.refused($$INSERT INTO sequin.credential VALUES ('nosuch', 'x')$$);
SELECT pg_temp.refused($$INSERT INTO sequin.rate_limit VALUES ('plain', 'default', 0, '1s')$$);
SELECT pg_temp.refused($$INSERT INTO sequin.rate_limit SELECT 'plain', 'default', n, n * interval '1s' FROM generate_series(1, 5) n$$);
SELECT pg_temp.refused($$INSERT INTO sequin.rate_limit SELECT 'plain', 'b' || n, n, '1s' FROM generate_series(1, 5) n$$);

-- alter_sync: NULL leaves, '' and '{}' take away
SELECT sequin.alter_sync('crm', auth => 'passthrough', upstream_url => 'http://127.0.0.1:1', rate_limit => '3/1s', credential => 'pat-other');
SELECT auth, upstream_url, tables FROM sequin.sync WHERE name = 'crm';
SELECT bucket, max_requests, period FROM sequin.rate_limit WHERE sync = 'crm';
SELECT value FROM sequin.credential WHERE sync = 'crm';
SELECT sequin.alter_sync('crm', tables => '{}', rate_limit => '', upstream_url => '');
SELECT auth, upstream_url, tables FROM sequin.sync WHERE name = 'crm';
SELECT count(*) FROM sequin.rate_limit WHERE sync = 'crm';
SELECT pg_temp.refused($$SELECT sequin.alter_sync('nosuch')$$);
SELECT pg_temp.refused($$SELECT sequin.alter_sync('crm', auth => 'x')$$);
SELECT pg_temp.refused($$UPDATE sequin.sync SET provider = 'airtable', config = '{"base_id": "appABCDEFGHIJKLMN"}' WHERE name = 'crm'$$);

SELECT sequin.pause_sync('crm');
SELECT state, paused FROM sequin.syncs WHERE name = 'crm';
SELECT sequin.resume_sync('crm');
SELECT state, paused FROM sequin.syncs WHERE name = 'crm';
SELECT pg_temp.refused($$SELECT sequin.pause_sync('nosuch')$$);
SELECT pg_temp.refused($$SELECT sequin.api_root(NULL)$$);

-- a new identifier
CREATE TEMP TABLE root AS SELECT sequin.api_root('crm');
CREATE TEMP TABLE new_root AS SELECT sequin.rotate_identifier('crm') AS api_root;
SELECT (TABLE new_root) = sequin.api_root('crm') AS same, (TABLE new_root) <> (TABLE root) AS new;

-- renaming takes everything along
UPDATE sequin.sync SET name = 'crm2' WHERE name = 'crm';
SELECT sync FROM sequin.credential UNION ALL SELECT sync FROM sequin.sync_state WHERE sync LIKE 'crm%';
SELECT sequin.drop_sync('crm2');
SELECT count(*) FROM sequin.credential;
SELECT pg_temp.refused($$SELECT sequin.drop_sync('crm2')$$);
SELECT nspname FROM pg_namespace WHERE nspname = 'crm';
ROLLBACK;
SELECT count(*) FROM sequin.sync;

-- wait_for
BEGIN;
SELECT count(*) FROM sequin.create_sync('w', 'hubspot');
UPDATE sequin.sync SET paused = true WHERE name = 'w';	-- so that the sync process leaves its state alone
SELECT pg_temp.refused($$SELECT sequin.wait_for('w', 'ready')$$);
COMMIT;
SELECT sequin.wait_for('w', 'ready', '50ms');
SELECT pg_temp.refused(format('SELECT sequin.wait_for(%L, %L, ''1ms'')', 'w', s)) FROM unnest(ARRAY['live', 'fresh', 'swept', 'done', NULL]) s;
SELECT pg_temp.refused($$SELECT sequin.wait_for('nosuch', 'ready')$$);
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT pg_temp.refused($$SELECT sequin.wait_for('w', 'ready')$$);
ROLLBACK;
UPDATE sequin.sync_state SET state = 'ready' WHERE sync = 'w';
SELECT sequin.wait_for('w', 'ready');
SELECT sequin.drop_sync('w');
DROP SCHEMA w;

-- what the sync process is told
SELECT pg_temp.refused($$SELECT sequin.create_sync('iv', 'hubspot', config => '{"poll_interval": "soon"}')$$);
SELECT pg_temp.refused($$SELECT sequin.create_sync('iv', 'hubspot', config => '{"sweep_interval": "1 ms"}')$$);
SELECT pg_temp.refused($$SELECT sequin.create_sync('iv', 'hubspot', config => '{"schema_interval": true}')$$);
SELECT pg_temp.refused($$SELECT sequin.create_sync('iv', 'hubspot', config => '{"sync": "no"}')$$);
SELECT pg_temp.refused(format('SELECT sequin.create_sync(%L, %L, config => %L)', 'iv', 'hubspot', format('{"poll_interval": %s}', i)))
	FROM unnest(ARRAY['"99 ms"', '"367 days"', '"-1 s"', '""', '0', '["30s"]', '{}', 'null']) i;
SELECT name FROM sequin.create_sync('iv', 'hubspot', config => '{"poll_interval": "10s", "sweep_interval": "1 day", "schema_interval": "1h", "sync": true}');
SELECT pg_temp.refused(format('SELECT sequin.alter_sync(%L, config => %L)', 'iv', format('{"poll_interval": %s}', i)))
	FROM unnest(ARRAY['"100 ms"', '"366 days"', '30', '"soon"']) i;
SELECT pg_temp.refused($$SELECT sequin.resync('nosuch')$$);
SELECT pg_temp.refused($$SELECT sequin.resync('iv', 'nosuch')$$);
SELECT pg_temp.refused($$SELECT sequin.resync(NULL)$$);
-- without a credential nothing is read, and both views say how it stands
SELECT last_error, feed_error FROM sequin.syncs WHERE name = 'iv';
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'sequin.sync_progress'::regclass ORDER BY attnum;
SELECT sequin.wait_for('iv', s, '1ms') FROM unnest(ARRAY['ready', 'live', 'fresh', 'swept']) s;
BEGIN;
INSERT INTO sequin.mirror_table (sync, collection, collection_name, table_name) VALUES ('iv', '0-1', 'contacts', 'contact');
SELECT * FROM sequin.sync_progress WHERE sync = 'iv';
-- a backfill under way, half a minute old; near where its two readings meet some records count twice
INSERT INTO sequin.table_state (sync, collection, phase, rows_done, rows_total, started_at)
	VALUES ('iv', '0-1', 'backfill', 600, 1000, now() - interval '30 s');
SELECT phase, rows_done, rows_total, rows_per_second BETWEEN 15 AND 20 AS rate, eta BETWEEN '20 s' AND '27 s' AS eta, last_error
	FROM sequin.sync_progress WHERE sync = 'iv';
UPDATE sequin.table_state SET rows_done = 1100 WHERE sync = 'iv';
SELECT rows_done, rows_total, eta FROM sequin.sync_progress WHERE sync = 'iv';
UPDATE sequin.table_state SET phase = 'live', live_at = now(), last_error = 'HubSpot answered 500', last_error_at = now() WHERE sync = 'iv';
SELECT phase, eta, last_error FROM sequin.sync_progress WHERE sync = 'iv';
INSERT INTO sequin.credential VALUES ('iv', 'pat-secret');	-- never committed
UPDATE sequin.sync_state SET state = 'ready', ready_at = now(), last_error = NULL, last_error_at = NULL WHERE sync = 'iv';
SELECT state, last_error, last_error_at = now() AS at FROM sequin.syncs WHERE name = 'iv';
UPDATE sequin.table_state SET last_error = NULL WHERE sync = 'iv';
SELECT state FROM sequin.syncs WHERE name = 'iv';
-- resync: the rows stay, the state starts again; by any of the table's names
SELECT sequin.resync('iv', n) FROM unnest(ARRAY['contact', 'contacts', '0-1']) n;
SELECT epoch, phase, rows_done, rows_total, sweep_wanted, live_at IS NOT NULL AS was_live FROM sequin.table_state WHERE sync = 'iv';
SELECT state FROM sequin.syncs WHERE name = 'iv';
UPDATE sequin.mirror_table SET enabled = false WHERE sync = 'iv';
SELECT count(*) FROM sequin.sync_progress WHERE sync = 'iv';
ROLLBACK;
SELECT sequin.resync('iv');
SELECT sequin.drop_sync('iv');
DROP SCHEMA iv;
