-- The extension installs, owns its schema, and opens nothing to anybody.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS sequin_proxy;

SELECT extversion, extrelocatable FROM pg_extension WHERE extname = 'sequin_proxy';
SELECT d.deptype FROM pg_depend d JOIN pg_extension e ON d.refobjid = e.oid AND e.extname = 'sequin_proxy'
	WHERE d.classid = 'pg_namespace'::regclass AND d.objid = 'sequin'::regnamespace;

-- what a dump takes along, and under which condition
SELECT c.relname, x.condition
	FROM pg_extension e, unnest(e.extconfig, e.extcondition) x(relid, condition) JOIN pg_class c ON c.oid = x.relid
	WHERE e.extname = 'sequin_proxy' ORDER BY c.relname;

-- functions that PUBLIC may execute
SELECT p.proname FROM pg_proc p WHERE p.pronamespace = 'sequin'::regnamespace
	AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0)
	ORDER BY 1;
-- relations that anybody but the owner may touch
SELECT c.relname FROM pg_class c, aclexplode(c.relacl) a
	WHERE c.relnamespace = 'sequin'::regnamespace AND a.grantee <> c.relowner;
-- functions in plpgsql or sql without a safe search_path
SELECT p.proname FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
	WHERE p.pronamespace = 'sequin'::regnamespace AND l.lanname IN ('sql', 'plpgsql')
	AND p.proconfig IS DISTINCT FROM ARRAY['search_path=pg_catalog, pg_temp'];
-- public objects without a comment
SELECT p.proname FROM pg_proc p WHERE p.pronamespace = 'sequin'::regnamespace AND p.proname NOT LIKE '\_%'
	AND obj_description(p.oid, 'pg_proc') IS NULL;
SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'sequin'::regnamespace AND c.relkind IN ('r', 'v')
	AND obj_description(c.oid, 'pg_class') IS NULL;
SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
	WHERE c.relnamespace = 'sequin'::regnamespace AND c.relkind IN ('r', 'v') AND col_description(c.oid, a.attnum) IS NULL ORDER BY 1, 2;
-- triggers that a session_replication_role would switch off
SELECT t.tgrelid::regclass, t.tgenabled FROM pg_trigger t
	WHERE t.tgname = 'config_changed' AND t.tgenabled <> 'A';

-- the public surface
SELECT p.proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid)
	FROM pg_proc p WHERE p.pronamespace = 'sequin'::regnamespace AND p.proname NOT LIKE '\_%' ORDER BY 1;

-- it does not install over somebody's schema
DROP EXTENSION sequin_proxy;
SELECT to_regnamespace('sequin');
CREATE SCHEMA sequin;
CREATE EXTENSION sequin_proxy;
DROP SCHEMA sequin;
CREATE EXTENSION sequin_proxy;
