-- Proxy keys: shown once, stored as a hash.
\set ON_ERROR_STOP 1
SET client_min_messages = warning;
CREATE FUNCTION pg_temp.refused(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	hint text;
BEGIN
	EXECUTE command;
	RETURN 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
	RETURN format('%s %s / %s', SQLSTATE, SQLERRM, hint);
END $$;
BEGIN;
SELECT name FROM sequin.create_sync('crm', 'hubspot');
CREATE TEMP TABLE made AS SELECT sequin.create_key('crm', label => 'billing-app', methods => ARRAY['get', 'POST', 'Get'],
												   expires_at => 'infinity') AS key;
SELECT key ~ '^sqk_[0-9A-Za-z]{43}$' AS shape FROM made;
SELECT sync, label, methods, read_only, expires_at FROM sequin.proxy_key;
-- nothing but the hash is there
SELECT count(*) FROM sequin.proxy_key k, made WHERE k.hash = sha256(convert_to(made.key, 'UTF8'));
SELECT count(*) FROM sequin.proxy_key k, made WHERE position(convert_to(made.key, 'UTF8') IN convert_to(k::text, 'UTF8')) > 0;
-- 256 random bits: no two alike, all characters in use
SELECT count(DISTINCT key), bool_and(length(key) = 47) FROM (SELECT sequin.create_key('crm', 'many') AS key FROM generate_series(1, 500)) s;
SELECT sequin.revoke_key('crm', 'many');
SELECT sequin.revoke_key('crm', 'billing-app');
SELECT pg_temp.refused($$SELECT sequin.revoke_key('crm', 'billing-app')$$);
SELECT pg_temp.refused($$SELECT sequin.revoke_key('nosuch', 'x')$$);
SELECT pg_temp.refused($$SELECT sequin.create_key('nosuch')$$);
SELECT pg_temp.refused($$SELECT sequin.create_key('crm', methods => '{}')$$);
SELECT pg_temp.refused($$SELECT sequin.create_key('crm', methods => ARRAY['GET /'])$$);
SELECT pg_temp.refused($$INSERT INTO sequin.proxy_key (hash, sync) VALUES ('\x00', 'crm')$$);
-- an expired one may be made: it is refused where it is used
SELECT pg_temp.refused($$SELECT sequin.create_key('crm', expires_at => now() - interval '1 minute', read_only => true)$$);
SELECT label, read_only, expires_at < now() AS expired FROM sequin.proxy_key;
SELECT sequin.drop_sync('crm');
SELECT count(*) FROM sequin.proxy_key;
ROLLBACK;
