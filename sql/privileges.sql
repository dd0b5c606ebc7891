-- A role with EXECUTE only can do everything that is its own, and nothing else.
SET client_min_messages = warning;
CREATE FUNCTION public.refused(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	hint text;
BEGIN
	EXECUTE command;
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN replace(format('%s %s / %s', SQLSTATE, SQLERRM, hint), format('DATABASE %I', current_database()), 'DATABASE db');
END $$;
CREATE ROLE sequin_user;
CREATE ROLE sequin_other;
CREATE ROLE sequin_nobody;
CREATE ROLE sequin_reader;
DO $$
BEGIN
	EXECUTE (SELECT string_agg(format('GRANT EXECUTE ON FUNCTION %s TO sequin_user, sequin_other', p.oid::regprocedure), ';')
			 FROM pg_proc p WHERE p.pronamespace = 'sequin'::regnamespace AND p.proname NOT LIKE '\_%');
	EXECUTE format('GRANT CREATE ON DATABASE %I TO sequin_user', current_database());
END $$;

-- a role with nothing
SET ROLE sequin_nobody;
SELECT refused($$SELECT * FROM sequin.create_sync('x', 'hubspot')$$);
SELECT refused($$SELECT sequin.create_key('x')$$);
SELECT refused($$SELECT sequin._create_key('x', '', NULL, false, NULL)$$);
SELECT refused($$SELECT sequin._run_as('postgres', 'SELECT 1')$$);
SELECT refused($$SELECT sequin._caller()$$);
SELECT refused($$SELECT sequin._oauth_error('hubspot', '{}')$$);
SELECT refused($$SELECT * FROM sequin.sync$$);
SELECT refused($$SELECT * FROM sequin.credential$$);
SELECT refused($$SELECT * FROM sequin.oauth_token$$);
SELECT refused($$SELECT * FROM sequin.syncs$$);
SELECT refused($$SELECT * FROM sequin.sync_progress$$);
SELECT refused($$SELECT * FROM sequin.table_state$$);
SELECT refused($$SELECT sequin.resync('x')$$);
SELECT refused($$SELECT sequin.wait_for('x', 'live')$$);
SELECT refused($$SELECT sequin._read_anew('x', NULL)$$);
SELECT refused($$SELECT sequin._want(gen_random_uuid(), true)$$);
SELECT refused($$SELECT * FROM sequin.proxy_stats$$);
SELECT refused($$SELECT * FROM sequin._proxy_stats()$$);
SELECT refused($$SELECT * FROM sequin._rate_limit_usage()$$);
SELECT refused($$CREATE TRIGGER t BEFORE INSERT ON sequin.write_log FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()$$);
SELECT refused($$CREATE TABLE sequin.t (x int)$$);
RESET ROLE;

-- a role with EXECUTE and CREATE on the database
BEGIN;
SET LOCAL ROLE sequin_user;
SELECT name, target_schema FROM sequin.create_sync('mine', 'hubspot', 'pat-secret', tables => ARRAY['contacts'], rate_limit => '3/1s');
SELECT current_user;
SELECT nspowner::regrole FROM pg_namespace WHERE nspname = 'mine';
SELECT length(sequin.create_key('mine', 'a')), sequin.revoke_key('mine', 'a');
SELECT sequin.api_root('mine') <> sequin.rotate_identifier('mine');
SELECT sequin.alter_sync('mine', auth => 'passthrough', credential => 'pat-2', rate_limit => '2/1s', target_schema => 'mine2');
SELECT sequin.pause_sync('mine'), sequin.resume_sync('mine');
SELECT sequin.resync('mine');
-- what only a superuser or a reader of server files may do
SELECT refused($$SELECT sequin.alter_sync('mine', upstream_url => 'http://127.0.0.1:1')$$);
SELECT refused($$SELECT sequin.create_sync('mine3', 'hubspot', upstream_url => 'http://127.0.0.1:1')$$);
SELECT refused($$SELECT sequin.alter_sync('mine', credential => 'file:/etc/passwd')$$);
SELECT refused($$SELECT sequin.alter_sync('mine', credential => 'env:HOME')$$);
-- no look at the tables, its own included
SELECT refused($$SELECT * FROM sequin.credential$$);
SELECT refused($$SELECT * FROM sequin.oauth_token$$);
SELECT refused($$SELECT * FROM sequin.sync$$);
SELECT refused($$INSERT INTO sequin.sync (name, provider) VALUES ('x', 'hubspot')$$);
RESET ROLE;
SELECT owner FROM sequin.sync;
-- another role's sync
SET LOCAL ROLE sequin_other;
SELECT refused($$SELECT sequin.alter_sync('mine', auth => 'key')$$);
SELECT refused($$SELECT sequin.drop_sync('mine')$$);
SELECT refused($$SELECT sequin.pause_sync('mine')$$);
SELECT refused($$SELECT sequin.create_key('mine')$$);
SELECT refused($$SELECT sequin.revoke_key('mine', '')$$);
SELECT refused($$SELECT sequin.resync('mine')$$);
SELECT refused($$SELECT sequin.rotate_identifier('mine')$$);
-- and it may not create schemas, nor tables in others'
SELECT refused($$SELECT sequin.create_sync('theirs', 'hubspot')$$);
SELECT refused($$SELECT sequin.create_sync('theirs', 'hubspot', target_schema => 'mine2')$$);
RESET ROLE;
GRANT USAGE, CREATE ON SCHEMA mine2 TO sequin_other;
SET LOCAL ROLE sequin_other;
SELECT name FROM sequin.create_sync('theirs', 'hubspot', target_schema => 'mine2');
RESET ROLE;
-- a member may do what the owner may
GRANT sequin_user TO sequin_other;
SET LOCAL ROLE sequin_other;
SELECT refused($$SELECT sequin.pause_sync('mine')$$);
RESET ROLE;
REVOKE sequin_user FROM sequin_other;
GRANT pg_read_server_files TO sequin_user;
SET LOCAL ROLE sequin_user;
SELECT refused($$SELECT sequin.alter_sync('mine', credential => 'file:/etc/hostname')$$);
RESET ROLE;
ROLLBACK;

-- table grants: the triggers judge the one who writes, whoever the row belongs to
BEGIN;
GRANT SELECT, INSERT, UPDATE, DELETE ON sequin.sync, sequin.credential, sequin.proxy_key, sequin.mirror_table TO sequin_user, sequin_other;
SET LOCAL ROLE sequin_user;
INSERT INTO sequin.sync (name, provider) VALUES ('mine', 'hubspot') RETURNING owner, target_schema;
SELECT refused($$INSERT INTO sequin.sync (name, provider, owner) VALUES ('x', 'hubspot', 'sequin_other')$$);
SELECT refused($$UPDATE sequin.sync SET upstream_url = 'http://127.0.0.1:1'$$);
SELECT refused($$UPDATE sequin.sync SET owner = 'sequin_other'$$);
SELECT refused($$INSERT INTO sequin.credential VALUES ('mine', 'env:HOME')$$);
INSERT INTO sequin.mirror_table (sync, collection, collection_name, table_name) VALUES ('mine', '0-1', 'contacts', 'contact');
SET LOCAL ROLE sequin_other;
SELECT refused($$UPDATE sequin.sync SET paused = true$$);
SELECT refused($$DELETE FROM sequin.sync$$);
SELECT refused($$INSERT INTO sequin.proxy_key (hash, sync) VALUES (sha256('x'), 'mine')$$);
SELECT refused($$UPDATE sequin.mirror_table SET enabled = false$$);
RESET ROLE;
ROLLBACK;

-- SELECT on a view is all that a monitoring role needs
GRANT SELECT ON sequin.proxy_stats, sequin.rate_limit_usage, sequin.syncs, sequin.sync_progress TO sequin_reader;
SET ROLE sequin_reader;
SELECT refused($$SELECT * FROM sequin.proxy_stats$$), refused($$SELECT * FROM sequin.rate_limit_usage$$), refused($$SELECT * FROM sequin.syncs$$), refused($$SELECT * FROM sequin.sync_progress$$);
RESET ROLE;
SELECT worker, requests >= 0 AS counted FROM sequin.proxy_stats WHERE worker = 1;
REVOKE SELECT ON sequin.proxy_stats, sequin.rate_limit_usage, sequin.syncs, sequin.sync_progress FROM sequin_reader;

-- objects in the caller's search_path and temporary schema are never picked up
SET ROLE sequin_user;
CREATE FUNCTION pg_temp.format(text, text) RETURNS text LANGUAGE sql AS $$SELECT 'DROP TABLE sequin.sync'$$;
CREATE TEMP TABLE sync (name text);
SET search_path = pg_temp, sequin, pg_catalog, public;
BEGIN;
SELECT name FROM sequin.create_sync('mine', 'hubspot');
ROLLBACK;
RESET search_path;
RESET ROLE;
-- an error shows what to do and where the caller called, nothing of our inside
SELECT sequin.drop_sync('nosuch');
DO $$BEGIN PERFORM sequin.drop_sync('nosuch'); END$$;
DROP FUNCTION public.refused(text);
DROP OWNED BY sequin_user, sequin_other, sequin_nobody, sequin_reader;
DROP ROLE sequin_user, sequin_other, sequin_nobody, sequin_reader;
