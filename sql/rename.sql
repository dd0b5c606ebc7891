-- UPDATE of a table or column name renames the real one, as the sync's owner, and locks it.
SET client_min_messages = warning;
\set SHOW_CONTEXT never
CREATE ROLE sequin_owner;
CREATE ROLE sequin_intruder;
BEGIN;
CREATE SCHEMA crm AUTHORIZATION sequin_owner;
INSERT INTO sequin.sync (name, provider, owner) VALUES ('crm', 'hubspot', 'sequin_owner');
CREATE TABLE crm.contact (id text PRIMARY KEY, created_at timestamptz, updated_at timestamptz, email text, "First Name" text, _sync_updated_at timestamptz);
CREATE TABLE crm.associations_company_contact (company_id text, contact_id text);
ALTER TABLE crm.contact OWNER TO sequin_owner;
ALTER TABLE crm.associations_company_contact OWNER TO sequin_owner;
INSERT INTO sequin.mirror_table (sync, collection, collection_name, table_name, kind) VALUES
	('crm', '0-1', 'contacts', 'contact', 'records'), ('crm', '0-2:0-1', 'companies:contacts', 'associations_company_contact', 'links'),
	('crm', '0-3', 'deals', 'deal', 'records');
INSERT INTO sequin.mirror_column (sync, collection, field, field_name, column_name, column_type) VALUES
	('crm', '0-1', 'email', 'Email', 'email', 'text'), ('crm', '0-1', 'firstname', 'First Name', 'First Name', 'text'),
	('crm', '0-1', 'late', 'Late', 'late', 'text');
-- columns
UPDATE sequin.mirror_column SET column_name = 'e-mail "x"' WHERE field = 'email' RETURNING column_name, locked;
UPDATE sequin.mirror_column SET column_name = 'first_name' WHERE field = 'firstname' RETURNING column_name, locked;
SELECT attname FROM pg_attribute WHERE attrelid = 'crm.contact'::regclass AND attnum > 0 ORDER BY attnum;
-- one that is not there yet is only renamed here
UPDATE sequin.mirror_column SET column_name = 'later' WHERE field = 'late' RETURNING column_name, locked;
SAVEPOINT s;
UPDATE sequin.mirror_column SET column_name = 'first_name' WHERE field = 'email';
ROLLBACK TO s;
UPDATE sequin.mirror_column SET column_name = '_sync_updated_at' WHERE field = 'email';
ROLLBACK TO s;
UPDATE sequin.mirror_column SET column_name = '' WHERE field = 'email';
ROLLBACK TO s;
-- tables
UPDATE sequin.mirror_table SET table_name = 'person' WHERE collection = '0-1' RETURNING table_name, locked;
UPDATE sequin.mirror_table SET table_name = 'opportunity' WHERE collection = '0-3' RETURNING table_name, locked;
SELECT relname FROM pg_class WHERE relnamespace = 'crm'::regnamespace AND relkind = 'r' ORDER BY 1;
SAVEPOINT s;
UPDATE sequin.mirror_table SET table_name = 'associations_company_contact' WHERE collection = '0-1';
ROLLBACK TO s;
-- switching off does not lock; switching on asks for a discovery
UPDATE sequin.sync_state SET state = 'ready', next_attempt_at = NULL;
UPDATE sequin.mirror_column SET enabled = false WHERE field = 'late' RETURNING enabled;
SELECT next_attempt_at IS NULL AS quiet FROM sequin.sync_state;
UPDATE sequin.mirror_column SET enabled = true WHERE field = 'late' RETURNING enabled;
SELECT next_attempt_at = now() AS asked FROM sequin.sync_state;
-- somebody else's table of that name is not touched
ALTER TABLE crm.person OWNER TO sequin_intruder;
SAVEPOINT s;
UPDATE sequin.mirror_table SET table_name = 'contact' WHERE collection = '0-1';
ROLLBACK TO s;
ALTER TABLE crm.person OWNER TO sequin_owner;
-- another schema
GRANT CREATE ON SCHEMA crm TO sequin_owner;
CREATE SCHEMA elsewhere AUTHORIZATION sequin_owner;
SELECT sequin.alter_sync('crm', target_schema => 'elsewhere');
SELECT relnamespace::regnamespace, relname, relowner::regrole FROM pg_class WHERE relname IN ('person', 'associations_company_contact') ORDER BY 2;
-- another owner
GRANT USAGE, CREATE ON SCHEMA elsewhere TO sequin_intruder;
UPDATE sequin.sync SET owner = 'sequin_intruder';
SELECT relname, relowner::regrole FROM pg_class WHERE relname IN ('person', 'associations_company_contact') ORDER BY 1;
-- dropping a sync keeps its tables, unless asked
SAVEPOINT s;
SELECT sequin.drop_sync('crm');
SELECT count(*) FROM sequin.mirror_column;
SELECT relname FROM pg_class WHERE relnamespace = 'elsewhere'::regnamespace AND relkind = 'r' ORDER BY 1;
ROLLBACK TO s;
SELECT sequin.drop_sync('crm', drop_tables => true);
SELECT relname FROM pg_class WHERE relnamespace = 'elsewhere'::regnamespace AND relkind = 'r' ORDER BY 1;
ROLLBACK;
DROP ROLE sequin_owner, sequin_intruder;

-- the names that tables get
SELECT n AS hubspot, sequin._table_name('hubspot', n) FROM unnest(ARRAY['contacts', 'companies', 'line_items', 'taxes', 'feedback_submissions',
	'postal_mail', '0-3', 'Contact', 'Cars', 'pet_food']) n;
SELECT n AS airtable, sequin._table_name('airtable', n) FROM unnest(ARRAY['Product Inventory', 'firstName', 'HTTPServer', '2024 Plan', 'A/B Tests',
	'🚀 Launch', 'Größe (cm)', '']) n;
