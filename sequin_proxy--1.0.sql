-- sequin_proxy--1.0.sql - the SQL surface.  Run by CREATE EXTENSION, with search_path = pg_catalog, pg_temp.
--
-- Public functions and all triggers are sequin_as_extension (src/sql_caller.c): it notes the caller and calls
-- the function of the same name with '_' before it as the bootstrap superuser; rights are judged for
-- sequin._caller().  So a role needs EXECUTE and nothing else, and plain DML is validated as the functions are.
-- plpgsql bodies hold no backslash (standard_conforming_strings) and name everything in full.

\echo Use "CREATE EXTENSION sequin_proxy" to load this file. \quit

-- Not IF NOT EXISTS: a schema that somebody else made could hold functions of theirs.
CREATE SCHEMA sequin;
COMMENT ON SCHEMA sequin IS 'sequin_proxy: SaaS APIs mirrored in tables, written through an HTTP proxy';

CREATE FUNCTION sequin._check_install() RETURNS void
	LANGUAGE c AS 'MODULE_PATHNAME', 'sequin_check_install';
SELECT sequin._check_install();

---------------------------------------------------------------------------------------------------
-- Tables
---------------------------------------------------------------------------------------------------

CREATE TABLE sequin.sync (
	name text COLLATE "C" PRIMARY KEY CONSTRAINT sync_name_format CHECK (name ~ '^[a-z][a-z0-9_-]{0,62}$'),
	id uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid() UNIQUE,
	provider text COLLATE "C" NOT NULL,
	identifier text COLLATE "C" NOT NULL UNIQUE CONSTRAINT sync_identifier_format CHECK (identifier ~ '^[0-9A-Za-z]{22}$'),
	target_schema text COLLATE "C" NOT NULL,
	owner name NOT NULL,
	config jsonb NOT NULL DEFAULT '{}' CONSTRAINT sync_config_is_object CHECK (pg_catalog.jsonb_typeof(config) = 'object'),
	tables text[],
	auth text COLLATE "C" NOT NULL DEFAULT 'key' CONSTRAINT sync_auth_known CHECK (auth IN ('key', 'passthrough')),
	upstream_url text COLLATE "C",
	paused boolean NOT NULL DEFAULT false,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE sequin.sync IS 'one API account kept in one schema; INSERT, UPDATE and DELETE are as good as create_sync, alter_sync and drop_sync';
COMMENT ON COLUMN sequin.sync.name IS 'what the functions take';
COMMENT ON COLUMN sequin.sync.paused IS 'pause_sync: no calls of the sync''s own';
COMMENT ON COLUMN sequin.sync.created_at IS 'when it was made';
COMMENT ON COLUMN sequin.sync.id IS 'what the rate limiter knows the sync by; never changes';
COMMENT ON COLUMN sequin.sync.provider IS 'hubspot or airtable; never changes';
COMMENT ON COLUMN sequin.sync.identifier IS '128 random bits in base 62: the first segment of the API root';
COMMENT ON COLUMN sequin.sync.target_schema IS 'schema of the mirror tables; changing it moves them';
COMMENT ON COLUMN sequin.sync.owner IS 'role that owns the mirror tables and may change the sync';
COMMENT ON COLUMN sequin.sync.config IS 'what the provider needs: {"base_id": "app..."} for airtable; poll_interval, sweep_interval, schema_interval (''30s''), sync_reserve (0 to 0.9), "sync": false for a proxy alone';
COMMENT ON COLUMN sequin.sync.tables IS 'the API''s own names of what to mirror; NULL: all that it lists';
COMMENT ON COLUMN sequin.sync.auth IS 'key: callers show a proxy key; passthrough: their own Authorization goes to the API';
COMMENT ON COLUMN sequin.sync.upstream_url IS 'origin that gets this sync''s traffic in place of the API (tests, gateways); set by superusers only';

CREATE TABLE sequin.sync_state (
	sync text COLLATE "C" PRIMARY KEY REFERENCES sequin.sync ON DELETE CASCADE ON UPDATE CASCADE,
	state text NOT NULL DEFAULT 'discovering' CONSTRAINT sync_state_known CHECK (state IN ('discovering', 'ready', 'error')),
	last_error text,
	last_error_at timestamptz,
	ready_at timestamptz,
	attempts integer NOT NULL DEFAULT 0,
	next_attempt_at timestamptz DEFAULT pg_catalog.now(),
	checked_at timestamptz,
	feed text,
	feed_error text
);
COMMENT ON TABLE sequin.sync_state IS 'how each sync is doing; kept by the workers, not dumped';
COMMENT ON COLUMN sequin.sync_state.sync IS 'name of the sync';
COMMENT ON COLUMN sequin.sync_state.state IS 'of discovery: discovering, ready or error';
COMMENT ON COLUMN sequin.sync_state.last_error IS 'why discovery failed, or what it had to leave out';
COMMENT ON COLUMN sequin.sync_state.last_error_at IS 'when';
COMMENT ON COLUMN sequin.sync_state.ready_at IS 'when it was first discovered';
COMMENT ON COLUMN sequin.sync_state.attempts IS 'discoveries that failed in a row';
COMMENT ON COLUMN sequin.sync_state.next_attempt_at IS 'when a discovery is due; NULL: none is';
COMMENT ON COLUMN sequin.sync_state.checked_at IS 'when the last discovery that succeeded began: the mirror follows the API''s schema as of then';
COMMENT ON COLUMN sequin.sync_state.feed IS 'where the API''s change feed was left (Airtable webhook and cursor); NULL: there is none';
COMMENT ON COLUMN sequin.sync_state.feed_error IS 'why the change feed is not used, in the API''s words; NULL: it is, or the API has none';

-- No CHECK here: "Failing row contains" would put the secret into the log.
CREATE TABLE sequin.credential (
	sync text COLLATE "C" PRIMARY KEY REFERENCES sequin.sync ON DELETE CASCADE ON UPDATE CASCADE,
	value text COLLATE "C"
);
COMMENT ON TABLE sequin.credential IS 'how we authenticate to each API: a token, an OAuth client as JSON, file:/path or env:NAME; readable by its owner only, literal tokens are never dumped';
COMMENT ON COLUMN sequin.credential.sync IS 'whose it is';
COMMENT ON COLUMN sequin.credential.value IS 'a token, an OAuth client as JSON, file:/path or env:NAME';

CREATE TABLE sequin.oauth_token (
	sync text COLLATE "C" PRIMARY KEY REFERENCES sequin.sync ON DELETE CASCADE ON UPDATE CASCADE,
	source_hash bytea NOT NULL,
	access_token text COLLATE "C",
	refresh_token text COLLATE "C",
	expires_at timestamptz,
	refreshed_at timestamptz,
	error text
);
COMMENT ON TABLE sequin.oauth_token IS 'what each OAuth credential has brought; kept by the sync process, readable by its owner only, never dumped';
COMMENT ON COLUMN sequin.oauth_token.source_hash IS 'SHA-256 of the credential''s refresh token that it began with; another credential begins anew';
COMMENT ON COLUMN sequin.oauth_token.refresh_token IS 'the newest one: the API may give another with every refresh, and then the credential''s own is dead';
COMMENT ON COLUMN sequin.oauth_token.error IS 'why there is no newer token; NULL: nothing is wrong';
COMMENT ON COLUMN sequin.oauth_token.sync IS 'whose it is';
COMMENT ON COLUMN sequin.oauth_token.access_token IS 'what goes up as Authorization';
COMMENT ON COLUMN sequin.oauth_token.expires_at IS 'as the API said';
COMMENT ON COLUMN sequin.oauth_token.refreshed_at IS 'when it was brought';

CREATE TABLE sequin.proxy_key (
	hash bytea PRIMARY KEY CONSTRAINT proxy_key_hash_is_sha256 CHECK (pg_catalog.octet_length(hash) = 32),
	sync text COLLATE "C" NOT NULL REFERENCES sequin.sync ON DELETE CASCADE ON UPDATE CASCADE,
	label text NOT NULL DEFAULT '',
	methods text[],
	read_only boolean NOT NULL DEFAULT false,
	expires_at timestamptz,
	created_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
CREATE INDEX proxy_key_sync ON sequin.proxy_key (sync, label);
COMMENT ON TABLE sequin.proxy_key IS 'how callers authenticate to the proxy; the SHA-256 of the key''s text, never the key';
COMMENT ON COLUMN sequin.proxy_key.hash IS 'SHA-256 of the key''s text';
COMMENT ON COLUMN sequin.proxy_key.sync IS 'which sync it opens';
COMMENT ON COLUMN sequin.proxy_key.label IS 'whose it is, in your words; revoke_key goes by it';
COMMENT ON COLUMN sequin.proxy_key.created_at IS 'when it was made';
COMMENT ON COLUMN sequin.proxy_key.methods IS 'HTTP methods that the key may use; NULL: all';
COMMENT ON COLUMN sequin.proxy_key.read_only IS 'only what the provider knows to be a read, whatever its method';
COMMENT ON COLUMN sequin.proxy_key.expires_at IS 'NULL: never';

CREATE TABLE sequin.rate_limit (
	sync text COLLATE "C" REFERENCES sequin.sync ON DELETE CASCADE ON UPDATE CASCADE,
	bucket text COLLATE "C" DEFAULT 'default' CONSTRAINT rate_limit_bucket_format CHECK (bucket ~ '^[a-z][a-z0-9_]{0,14}$'),
	max_requests bigint NOT NULL CONSTRAINT rate_limit_max_requests_range CHECK (max_requests BETWEEN 1 AND 1000000000),
	period interval CONSTRAINT rate_limit_period_range CHECK (period BETWEEN '1 second' AND '366 days'),
	PRIMARY KEY (sync, bucket, period)
);
COMMENT ON TABLE sequin.rate_limit IS 'at most max_requests in any period, per bucket; a sync without rows has its provider''s published limits, one without "default" rows those of that bucket';
COMMENT ON COLUMN sequin.rate_limit.sync IS 'whose it is';
COMMENT ON COLUMN sequin.rate_limit.bucket IS 'kind of request that is counted apart: default, search';
COMMENT ON COLUMN sequin.rate_limit.max_requests IS 'at most so many';
COMMENT ON COLUMN sequin.rate_limit.period IS 'in any period of this length';

CREATE TABLE sequin.limit_memory (
	sync text COLLATE "C" REFERENCES sequin.sync ON DELETE CASCADE ON UPDATE CASCADE,
	bucket text COLLATE "C",
	period_us bigint,
	used bigint NOT NULL,
	at timestamptz NOT NULL,
	PRIMARY KEY (sync, bucket, period_us)
);
COMMENT ON TABLE sequin.limit_memory IS 'how much of each long rate-limit window is used, twice a minute: for a standby that takes over; kept by the sync process';
COMMENT ON COLUMN sequin.limit_memory.sync IS 'whose it is';
COMMENT ON COLUMN sequin.limit_memory.bucket IS 'as in rate_limit';
COMMENT ON COLUMN sequin.limit_memory.period_us IS 'length of the window';
COMMENT ON COLUMN sequin.limit_memory.used IS 'requests in the window';
COMMENT ON COLUMN sequin.limit_memory.at IS 'when that was so';

CREATE TABLE sequin.mirror_table (
	sync text COLLATE "C" REFERENCES sequin.sync ON DELETE CASCADE ON UPDATE CASCADE,
	collection text COLLATE "C",
	collection_name text NOT NULL,
	table_name text COLLATE "C" NOT NULL CONSTRAINT mirror_table_name_length CHECK (pg_catalog.octet_length(table_name) BETWEEN 1 AND 63),
	kind text NOT NULL DEFAULT 'records' CONSTRAINT mirror_table_kind_known CHECK (kind IN ('records', 'links')),
	enabled boolean NOT NULL DEFAULT true,
	locked boolean NOT NULL DEFAULT false,
	removed_at timestamptz,
	detail jsonb NOT NULL DEFAULT '{}' CONSTRAINT mirror_table_detail_is_object CHECK (pg_catalog.jsonb_typeof(detail) = 'object'),
	PRIMARY KEY (sync, collection),
	CONSTRAINT mirror_table_name_unique UNIQUE (sync, table_name) DEFERRABLE
);
COMMENT ON TABLE sequin.mirror_table IS 'which API collections are mirrored, in which tables; UPDATE table_name renames and locks, enabled = false stops writing to it';
COMMENT ON COLUMN sequin.mirror_table.sync IS 'whose it is';
COMMENT ON COLUMN sequin.mirror_table.table_name IS 'in the sync''s target_schema';
COMMENT ON COLUMN sequin.mirror_table.kind IS 'records, or links: an association table';
COMMENT ON COLUMN sequin.mirror_table.enabled IS 'false: neither written to nor read from the API';
COMMENT ON COLUMN sequin.mirror_table.collection IS 'the API''s stable identity: HubSpot object type id, Airtable tbl...; links: two of them with a colon';
COMMENT ON COLUMN sequin.mirror_table.collection_name IS 'the API''s present name';
COMMENT ON COLUMN sequin.mirror_table.locked IS 'a rename in the API does not rename the table';
COMMENT ON COLUMN sequin.mirror_table.removed_at IS 'when the API was seen without it; the table stays until you drop it';
COMMENT ON COLUMN sequin.mirror_table.detail IS 'the provider''s own: other names of the collection, association types';

CREATE TABLE sequin.mirror_column (
	sync text COLLATE "C",
	collection text COLLATE "C",
	field text COLLATE "C",
	field_name text NOT NULL,
	column_name text COLLATE "C" NOT NULL CONSTRAINT mirror_column_name_length CHECK (pg_catalog.octet_length(column_name) BETWEEN 1 AND 63),
	column_type text NOT NULL,
	enabled boolean NOT NULL DEFAULT true,
	locked boolean NOT NULL DEFAULT false,
	removed_at timestamptz,
	PRIMARY KEY (sync, collection, field),
	FOREIGN KEY (sync, collection) REFERENCES sequin.mirror_table ON DELETE CASCADE ON UPDATE CASCADE
);
COMMENT ON TABLE sequin.mirror_column IS 'which fields are mirrored, in which columns; UPDATE column_name renames and locks, enabled = false stops writing to it';
COMMENT ON COLUMN sequin.mirror_column.sync IS 'whose it is';
COMMENT ON COLUMN sequin.mirror_column.collection IS 'of which table';
COMMENT ON COLUMN sequin.mirror_column.column_name IS 'in the mirror table';
COMMENT ON COLUMN sequin.mirror_column.column_type IS 'PostgreSQL type that the field''s kind gives';
COMMENT ON COLUMN sequin.mirror_column.enabled IS 'false: not written to';
COMMENT ON COLUMN sequin.mirror_column.field IS 'the API''s stable identity: HubSpot property name, Airtable fld...';
COMMENT ON COLUMN sequin.mirror_column.field_name IS 'the API''s present name';
COMMENT ON COLUMN sequin.mirror_column.locked IS 'a rename in the API does not rename the column';
COMMENT ON COLUMN sequin.mirror_column.removed_at IS 'when the API was seen without it; the column stays until you drop it';

-- How far the sync process is with each mirror table.
CREATE TABLE sequin.table_state (
	sync text COLLATE "C",
	collection text COLLATE "C",
	epoch integer NOT NULL DEFAULT 0,
	phase text COLLATE "C" NOT NULL DEFAULT 'waiting' CONSTRAINT table_state_phase_known CHECK (phase IN ('waiting', 'backfill', 'live')),
	list_cursor text,
	list_last text,
	list_done boolean NOT NULL DEFAULT false,
	down_last text,
	down_done boolean NOT NULL DEFAULT false,
	rows_done bigint NOT NULL DEFAULT 0,
	rows_total bigint,
	started_at timestamptz,
	live_at timestamptz,
	since timestamptz,
	polled_at timestamptz,
	swept_at timestamptz,
	sweep_wanted boolean NOT NULL DEFAULT false,
	fill text,
	last_error text,
	last_error_at timestamptz,
	PRIMARY KEY (sync, collection),
	FOREIGN KEY (sync, collection) REFERENCES sequin.mirror_table ON DELETE CASCADE ON UPDATE CASCADE
);
COMMENT ON TABLE sequin.table_state IS 'how far the sync process is with each mirror table; kept by it, not dumped: see sequin.sync_progress';
COMMENT ON COLUMN sequin.table_state.sync IS 'name of the sync';
COMMENT ON COLUMN sequin.table_state.collection IS 'the API''s identity of it';
COMMENT ON COLUMN sequin.table_state.phase IS 'waiting, backfill or live';
COMMENT ON COLUMN sequin.table_state.list_last IS 'the last id that the list has shown';
COMMENT ON COLUMN sequin.table_state.list_done IS 'the list was read to its end, or to where the second reading came';
COMMENT ON COLUMN sequin.table_state.down_done IS 'the same of the second reading';
COMMENT ON COLUMN sequin.table_state.rows_done IS 'records that the backfill has brought';
COMMENT ON COLUMN sequin.table_state.rows_total IS 'as the API counts them; NULL: it does not tell';
COMMENT ON COLUMN sequin.table_state.started_at IS 'when the backfill began';
COMMENT ON COLUMN sequin.table_state.live_at IS 'when it was filled, first or last; NULL: never yet';
COMMENT ON COLUMN sequin.table_state.last_error IS 'what keeps it from being read; NULL: nothing';
COMMENT ON COLUMN sequin.table_state.last_error_at IS 'when that was met';
COMMENT ON COLUMN sequin.table_state.epoch IS 'moves when the table is read anew from the start';
COMMENT ON COLUMN sequin.table_state.list_cursor IS 'the backfill''s next page of the API''s list; list_last: the last id seen there';
COMMENT ON COLUMN sequin.table_state.down_last IS 'the lowest id that the backfill''s second reading, from the highest id down, has seen';
COMMENT ON COLUMN sequin.table_state.since IS 'the next poll asks for what was modified from then on, by the API''s clock';
COMMENT ON COLUMN sequin.table_state.polled_at IS 'when the last finished poll began';
COMMENT ON COLUMN sequin.table_state.swept_at IS 'when the last finished sweep began';
COMMENT ON COLUMN sequin.table_state.fill IS 'fields that are new in the mirror: the records that have them are still to be read';
COMMENT ON COLUMN sequin.table_state.sweep_wanted IS 'a sweep is to be made as soon as possible';

CREATE TABLE sequin.cast_error (
	at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	sync text COLLATE "C" NOT NULL REFERENCES sequin.sync ON DELETE CASCADE ON UPDATE CASCADE,
	table_name text NOT NULL,
	id text,
	column_name text NOT NULL,
	value text,
	error text NOT NULL
);
CREATE INDEX cast_error_sync ON sequin.cast_error (sync, at);
COMMENT ON TABLE sequin.cast_error IS 'values that did not fit their column and became NULL';
COMMENT ON COLUMN sequin.cast_error.at IS 'when it was met';
COMMENT ON COLUMN sequin.cast_error.sync IS 'whose value it is';
COMMENT ON COLUMN sequin.cast_error.table_name IS 'mirror table';
COMMENT ON COLUMN sequin.cast_error.id IS 'the record; NULL: not known';
COMMENT ON COLUMN sequin.cast_error.column_name IS 'the column that became NULL';
COMMENT ON COLUMN sequin.cast_error.value IS 'as the API gave it, cut';
COMMENT ON COLUMN sequin.cast_error.error IS 'why it does not fit';

CREATE TABLE sequin.tombstone (
	sync text COLLATE "C" REFERENCES sequin.sync ON DELETE CASCADE ON UPDATE CASCADE,
	collection text COLLATE "C",
	id text COLLATE "C",
	at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	PRIMARY KEY (sync, collection, id)
);
CREATE INDEX tombstone_at ON sequin.tombstone (sync, at);
COMMENT ON TABLE sequin.tombstone IS 'records deleted of late, so that an older page does not bring them back';
COMMENT ON COLUMN sequin.tombstone.sync IS 'name of the sync';
COMMENT ON COLUMN sequin.tombstone.collection IS 'the API''s identity of the table';
COMMENT ON COLUMN sequin.tombstone.id IS 'of the record';
COMMENT ON COLUMN sequin.tombstone.at IS 'when its delete was committed';

CREATE TABLE sequin.write_log (
	id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
	request_id text NOT NULL,
	sync text COLLATE "C" NOT NULL,
	at timestamptz NOT NULL DEFAULT pg_catalog.now(),
	method text NOT NULL,
	path text NOT NULL,
	status integer,
	state text NOT NULL CONSTRAINT write_log_state_known
		CHECK (state IN ('intent', 'committed', 'none', 'deferred', 'resolved', 'failed')),
	targets jsonb,
	error text,
	key_label text,
	attempts integer NOT NULL DEFAULT 0,
	next_attempt_at timestamptz,
	settled_at timestamptz
) WITH (fillfactor = 50);
-- A row is written when its write is sent and again when it is settled.  No index has a column that this changes, and half of each
-- page is kept free for it: so the second costs no index entry, and its space is taken back without a vacuum.
CREATE INDEX write_log_due ON sequin.write_log (next_attempt_at, id) WHERE next_attempt_at IS NOT NULL;
COMMENT ON TABLE sequin.write_log IS 'proxied writes and what became of each';
COMMENT ON COLUMN sequin.write_log.id IS 'in the order in which they were sent';
COMMENT ON COLUMN sequin.write_log.request_id IS 'Sequin-Request-Id of the response';
COMMENT ON COLUMN sequin.write_log.sync IS 'name of the sync';
COMMENT ON COLUMN sequin.write_log.at IS 'when it was sent';
COMMENT ON COLUMN sequin.write_log.method IS 'HTTP method';
COMMENT ON COLUMN sequin.write_log.error IS 'why it is not committed';
COMMENT ON COLUMN sequin.write_log.key_label IS 'label of the proxy key that it came with; NULL: the caller sent the API''s own token (passthrough)';
COMMENT ON COLUMN sequin.write_log.attempts IS 're-reads that failed';
COMMENT ON COLUMN sequin.write_log.next_attempt_at IS 'when the record is re-read next; NULL: it is not';
COMMENT ON COLUMN sequin.write_log.settled_at IS 'when the state became final';
COMMENT ON COLUMN sequin.write_log.path IS 'without the query: it may hold personal data';
COMMENT ON COLUMN sequin.write_log.status IS 'the API''s; NULL: no answer came';
COMMENT ON COLUMN sequin.write_log.state IS
	'intent: being sent; committed; none: no effect on the mirror; deferred: accepted, to be re-read; resolved: re-read; failed: gave up, see error';
COMMENT ON COLUMN sequin.write_log.targets IS 'the records to re-read';

-- Configuration is dumped; what the workers find out again, and literal secrets, are not.
SELECT pg_catalog.pg_extension_config_dump('sequin.sync', '');
SELECT pg_catalog.pg_extension_config_dump('sequin.credential', $$WHERE value ~ '^(file|env):'$$);
SELECT pg_catalog.pg_extension_config_dump('sequin.proxy_key', '');
SELECT pg_catalog.pg_extension_config_dump('sequin.rate_limit', '');
SELECT pg_catalog.pg_extension_config_dump('sequin.mirror_table', '');
SELECT pg_catalog.pg_extension_config_dump('sequin.mirror_column', '');

---------------------------------------------------------------------------------------------------
-- What C knows
---------------------------------------------------------------------------------------------------

CREATE FUNCTION sequin._caller() RETURNS oid
	LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'sequin_caller';
CREATE FUNCTION sequin._caller_is_superuser() RETURNS boolean
	LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'sequin_caller_is_superuser';
CREATE FUNCTION sequin._run_as(role name, command text) RETURNS void
	LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'sequin_run_as';
CREATE FUNCTION sequin._in_worker() RETURNS boolean
	LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'sequin_in_worker';
CREATE FUNCTION sequin._is_own_xid(xid) RETURNS boolean
	LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'sequin_is_own_xid';
CREATE FUNCTION sequin._providers() RETURNS text[]
	LANGUAGE c IMMUTABLE AS 'MODULE_PATHNAME', 'sequin_providers';
CREATE FUNCTION sequin._oauth_error(provider text, credential text) RETURNS text
	LANGUAGE c STRICT IMMUTABLE AS 'MODULE_PATHNAME', 'sequin_oauth_error';
CREATE FUNCTION sequin._table_name(provider text, name text) RETURNS text
	LANGUAGE c STRICT IMMUTABLE AS 'MODULE_PATHNAME', 'sequin_table_name';
CREATE FUNCTION sequin._random_text(nbytes integer) RETURNS text
	LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'sequin_random_text';
CREATE FUNCTION sequin._root_url(identifier text) RETURNS text
	LANGUAGE c STRICT STABLE AS 'MODULE_PATHNAME', 'sequin_root_url';
CREATE FUNCTION sequin._rate_parse(limits text) RETURNS TABLE (bucket text, max_requests bigint, period interval)
	LANGUAGE c STRICT STABLE AS 'MODULE_PATHNAME', 'sequin_rate_parse';
CREATE FUNCTION sequin._config_changed() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'sequin_config_changed';
-- Asks the sync process for a poll (or sweep) of every table that begins after this; at once, whatever becomes of the transaction.
CREATE FUNCTION sequin._want(id uuid, swept boolean) RETURNS timestamptz
	LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'sequin_want';

---------------------------------------------------------------------------------------------------
-- Rights and look-ups
---------------------------------------------------------------------------------------------------

CREATE FUNCTION sequin._unknown_sync(p_name text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RAISE EXCEPTION 'sync "%" does not exist', p_name
		USING ERRCODE = 'undefined_object', HINT = 'SELECT name FROM sequin.syncs lists them.';
END $$;

CREATE FUNCTION sequin._require_owner(p_sync text, p_owner name) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT sequin._caller_is_superuser() AND NOT EXISTS (
		SELECT FROM pg_roles r WHERE r.rolname = p_owner AND pg_has_role(sequin._caller(), r.oid, 'USAGE'))
	THEN
		RAISE EXCEPTION 'must be owner of sync "%"', p_sync
			USING ERRCODE = 'insufficient_privilege', HINT = format('It belongs to the role "%s".', p_owner);
	END IF;
END $$;

-- The sync of that name, which the caller may change.
CREATE FUNCTION sequin._owned_sync(p_name text) RETURNS sequin.sync
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_sync sequin.sync;
BEGIN
	SELECT * INTO v_sync FROM sequin.sync s WHERE s.name = p_name;
	IF NOT FOUND THEN
		PERFORM sequin._unknown_sync(p_name);
	END IF;
	PERFORM sequin._require_owner(v_sync.name, v_sync.owner);
	RETURN v_sync;
END $$;

-- The same for a row of a table that belongs to a sync; a sync that is just being deleted takes its rows along.
CREATE FUNCTION sequin._require_child(p_op text, p_sync text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF p_op = 'DELETE' AND NOT EXISTS (SELECT FROM sequin.sync s WHERE s.name = p_sync) THEN
		RETURN;
	END IF;
	PERFORM sequin._owned_sync(p_sync);
END $$;

-- The sync process is to read a table (or all, collection NULL) from the start, and then to sweep it; polls go on meanwhile.
CREATE FUNCTION sequin._read_anew(p_sync text, p_collection text) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_count bigint;
BEGIN
	UPDATE sequin.table_state t SET epoch = t.epoch + 1, phase = 'waiting', list_cursor = NULL, list_last = NULL, list_done = false,
		down_last = NULL, down_done = false, rows_done = 0, rows_total = NULL, started_at = NULL, sweep_wanted = true, fill = NULL,
		last_error = NULL, last_error_at = NULL
		WHERE t.sync = p_sync AND (p_collection IS NULL OR t.collection = p_collection);
	GET DIAGNOSTICS v_count = ROW_COUNT;
	RETURN v_count;
END $$;

-- Asks the sync process for a discovery.
CREATE FUNCTION sequin._wake(p_sync text) RETURNS void
	LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
	UPDATE sequin.sync_state SET next_attempt_at = now(), attempts = 0
	WHERE sync = p_sync AND (next_attempt_at, attempts) IS DISTINCT FROM (now(), 0)
$$;

---------------------------------------------------------------------------------------------------
-- Validation of sequin.sync
---------------------------------------------------------------------------------------------------

CREATE FUNCTION sequin._check_name(p_name text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF p_name IS NULL OR p_name !~ '^[a-z][a-z0-9_-]{0,62}$' THEN
		RAISE EXCEPTION 'invalid sync name "%"', coalesce(p_name, '')
			USING ERRCODE = 'invalid_name',
				HINT = 'A name is 1 to 63 lower-case letters, digits, "_" and "-", and starts with a letter.';
	END IF;
END $$;

CREATE FUNCTION sequin._check_provider(p_provider text, p_config jsonb) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF p_provider IS NULL OR p_provider <> ALL (sequin._providers()) THEN
		RAISE EXCEPTION 'unknown provider "%"', coalesce(p_provider, '')
			USING ERRCODE = 'invalid_parameter_value',
				HINT = format('Providers are: %s.', array_to_string(sequin._providers(), ', '));
	END IF;
	IF p_config IS NULL OR jsonb_typeof(p_config) <> 'object' THEN
		RAISE EXCEPTION 'config must be a JSON object'
			USING ERRCODE = 'invalid_parameter_value', HINT = 'For airtable: {"base_id": "app..."}; hubspot needs none.';
	END IF;
	IF p_provider = 'airtable' AND coalesce(p_config->>'base_id', '') !~ '^app[A-Za-z0-9]{14}$' THEN
		RAISE EXCEPTION 'config needs the base_id of an Airtable base'
			USING ERRCODE = 'invalid_parameter_value',
				HINT = 'Give config => ''{"base_id": "app..."}'': "app" and 14 letters or digits, from the base''s URL.';
	END IF;
	-- CASE: the order in which AND and OR look at their sides is not promised
	IF (CASE jsonb_typeof(p_config->'sync_reserve') WHEN 'number' THEN (p_config->>'sync_reserve')::numeric NOT BETWEEN 0 AND 0.9
			ELSE p_config ? 'sync_reserve' END) THEN
		RAISE EXCEPTION 'invalid sync_reserve %', left((p_config->'sync_reserve')::text, 40)
			USING ERRCODE = 'invalid_parameter_value',
				HINT = 'Give a number from 0 to 0.9: the share of each rate limit that the sync may use while proxied requests wait.';
	END IF;
	IF p_config ? 'sync' AND jsonb_typeof(p_config->'sync') <> 'boolean' THEN
		RAISE EXCEPTION 'invalid sync in config'
			USING ERRCODE = 'invalid_parameter_value',
				HINT = 'Give true, or false for a proxy alone: tables then hold what comes through it and are not filled.';
	END IF;
	PERFORM sequin._check_intervals(p_config);
END $$;

-- NULL: not an interval.
CREATE FUNCTION sequin._interval_us(p_text text) RETURNS bigint
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN extract(epoch FROM p_text::interval) * 1000000;
EXCEPTION WHEN data_exception THEN
	RETURN NULL;
END $$;

CREATE FUNCTION sequin._check_intervals(p_config jsonb) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_key text;
	v_us bigint;
BEGIN
	FOREACH v_key IN ARRAY ARRAY['poll_interval', 'sweep_interval', 'schema_interval'] LOOP
		CONTINUE WHEN p_config->v_key IS NULL;
		-- an interval's text may hold brackets and quotes: an array would do
		v_us := CASE WHEN jsonb_typeof(p_config->v_key) IN ('string', 'number') THEN sequin._interval_us(p_config->>v_key) END;
		IF v_us IS NULL OR v_us NOT BETWEEN 100000 AND 366 * 86400 * 1000000::bigint THEN
			RAISE EXCEPTION 'invalid % in config', v_key
				USING ERRCODE = 'invalid_parameter_value',
					HINT = format('Give an interval from 100 milliseconds to 366 days, as {"%s": "30s"}.', v_key);
		END IF;
	END LOOP;
END $$;

CREATE FUNCTION sequin._check_tables(p_tables text[]) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_hint constant text := 'Give the API''s own names, as ARRAY[''contacts'', ''deals'']; NULL for all.';
BEGIN
	IF p_tables IS NULL THEN
		RETURN;
	END IF;
	IF cardinality(p_tables) = 0 OR array_ndims(p_tables) <> 1 THEN
		RAISE EXCEPTION 'tables must not be empty' USING ERRCODE = 'invalid_parameter_value', HINT = v_hint;
	END IF;
	IF EXISTS (SELECT FROM unnest(p_tables) t WHERE t IS NULL OR btrim(t) = '') THEN
		RAISE EXCEPTION 'tables must not hold an empty name' USING ERRCODE = 'invalid_parameter_value', HINT = v_hint;
	END IF;
	IF cardinality(p_tables) <> (SELECT count(DISTINCT t) FROM unnest(p_tables) t) THEN
		RAISE EXCEPTION 'tables holds a name twice' USING ERRCODE = 'invalid_parameter_value', HINT = v_hint;
	END IF;
END $$;

CREATE FUNCTION sequin._check_auth(p_auth text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF p_auth IS NULL OR p_auth NOT IN ('key', 'passthrough') THEN
		RAISE EXCEPTION 'unknown auth "%"', coalesce(p_auth, '')
			USING ERRCODE = 'invalid_parameter_value',
				HINT = 'auth is ''key'' (callers show a proxy key) or ''passthrough'' (their own Authorization goes to the API).';
	END IF;
END $$;

CREATE FUNCTION sequin._check_upstream(p_url text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF p_url IS NULL THEN
		RETURN;
	END IF;
	IF NOT sequin._caller_is_superuser() THEN
		RAISE EXCEPTION 'permission denied to set upstream_url'
			USING ERRCODE = 'insufficient_privilege',
				HINT = 'Only a superuser may: it decides where the server connects and who gets the credential.';
	END IF;
	IF p_url !~ '^https?://([A-Za-z0-9._-]+|[[][0-9A-Fa-f:.]+[]])(:[0-9]{1,5})?$' THEN
		RAISE EXCEPTION 'invalid upstream_url'
			USING ERRCODE = 'invalid_parameter_value',
				HINT = 'Give an origin without path or user: http://127.0.0.1:9000 or https://gateway.example.com.';
	END IF;
END $$;

CREATE FUNCTION sequin._check_owner(p_owner name) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_role oid := (SELECT r.oid FROM pg_roles r WHERE r.rolname = p_owner);
BEGIN
	IF v_role IS NULL THEN
		RAISE EXCEPTION 'role "%" does not exist', p_owner
			USING ERRCODE = 'undefined_object', HINT = 'The owner of a sync is a role of this cluster: CREATE ROLE, or UPDATE owner.';
	END IF;
	IF NOT sequin._caller_is_superuser() AND NOT pg_has_role(sequin._caller(), v_role, 'MEMBER') THEN
		RAISE EXCEPTION 'must be member of role "%"', p_owner
			USING ERRCODE = 'insufficient_privilege', HINT = 'A sync can only be given to a role that you are a member of.';
	END IF;
END $$;

-- The target schema exists and the owner may create tables in it.
CREATE FUNCTION sequin._ensure_schema(p_schema text, p_owner name) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF p_schema = '' OR octet_length(p_schema) > 63 OR p_schema ~ '^pg_' OR p_schema IN ('sequin', 'information_schema') THEN
		RAISE EXCEPTION 'invalid target_schema "%"', p_schema
			USING ERRCODE = 'invalid_schema_name',
				HINT = 'Give target_schema => another name, of at most 63 bytes; system schemas and "sequin" are taken.';
	END IF;
	IF to_regnamespace(quote_ident(p_schema)) IS NULL THEN
		IF NOT has_database_privilege(p_owner, current_database(), 'CREATE') THEN
			RAISE EXCEPTION 'role "%" may not create the schema "%"', p_owner, p_schema
				USING ERRCODE = 'insufficient_privilege',
					HINT = format('GRANT CREATE ON DATABASE %I TO %I, or give target_schema => a schema that it may create tables in.',
								  current_database(), p_owner);
		END IF;
		PERFORM sequin._run_as(p_owner, format('CREATE SCHEMA %I', p_schema));
	ELSIF NOT (has_schema_privilege(p_owner, p_schema, 'CREATE') AND has_schema_privilege(p_owner, p_schema, 'USAGE')) THEN
		RAISE EXCEPTION 'role "%" may not create tables in the schema "%"', p_owner, p_schema
			USING ERRCODE = 'insufficient_privilege', HINT = format('GRANT USAGE, CREATE ON SCHEMA %I TO %I.', p_schema, p_owner);
	END IF;
END $$;

-- Told at once rather than by discovery.
CREATE FUNCTION sequin._check_taken(p_sync sequin.sync) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_table text;
	v_name text;
BEGIN
	IF p_sync.tables IS NULL THEN
		RETURN;
	END IF;
	FOREACH v_table IN ARRAY p_sync.tables LOOP
		v_name := sequin._table_name(p_sync.provider, v_table);
		IF to_regclass(format('%I.%I', p_sync.target_schema, v_name)) IS NOT NULL THEN
			RAISE EXCEPTION 'relation "%" already exists in schema "%"', v_name, p_sync.target_schema
				USING ERRCODE = 'duplicate_table',
					HINT = format('It would mirror "%s": rename or drop it, or give target_schema => another schema.', v_table);
		END IF;
	END LOOP;
END $$;

-- The mirror tables follow the sync to another schema or owner.
CREATE FUNCTION sequin._move_tables(p_old sequin.sync, p_new sequin.sync) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_table regclass;
BEGIN
	FOR v_table IN
		SELECT c.oid FROM sequin.mirror_table m
		JOIN pg_class c ON c.relname = m.table_name AND c.relnamespace = to_regnamespace(quote_ident(p_old.target_schema))
		JOIN pg_roles r ON r.oid = c.relowner AND r.rolname = p_old.owner
		WHERE m.sync IN (p_old.name, p_new.name) AND c.relkind IN ('r', 'p')
	LOOP
		IF p_new.owner <> p_old.owner THEN
			EXECUTE format('ALTER TABLE %s OWNER TO %I', v_table, p_new.owner);
		END IF;
		IF p_new.target_schema <> p_old.target_schema THEN
			PERFORM sequin._run_as(p_new.owner, format('ALTER TABLE %s SET SCHEMA %I', v_table, p_new.target_schema));
		END IF;
	END LOOP;
END $$;

CREATE FUNCTION sequin._check_sync() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'sequin_as_extension';
CREATE FUNCTION sequin.__check_sync() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF TG_OP <> 'INSERT' THEN
		PERFORM sequin._require_owner(OLD.name, OLD.owner);
	END IF;
	IF TG_OP = 'DELETE' THEN
		RETURN OLD;
	END IF;
	NEW.owner := coalesce(NEW.owner, pg_get_userbyid(sequin._caller()));
	NEW.identifier := coalesce(NEW.identifier, sequin._random_text(16));
	NEW.target_schema := coalesce(NEW.target_schema, NEW.name);
	PERFORM sequin._check_name(NEW.name);
	IF TG_OP = 'INSERT' AND EXISTS (SELECT FROM sequin.sync s WHERE s.name = NEW.name) THEN
		RAISE EXCEPTION 'sync "%" already exists', NEW.name
			USING ERRCODE = 'duplicate_object', HINT = 'Change it with sequin.alter_sync, or drop it with sequin.drop_sync.';
	END IF;
	PERFORM sequin._check_provider(NEW.provider, NEW.config);
	PERFORM sequin._check_tables(NEW.tables);
	PERFORM sequin._check_auth(NEW.auth);
	IF TG_OP = 'INSERT' THEN
		PERFORM sequin._check_upstream(NEW.upstream_url);
		-- A row of a dump (it was made before): its tables are there already, roles and grants may come later;
		-- one bad row must not keep all others from being restored.
		IF NEW.created_at < now() AND sequin._caller_is_superuser() THEN
			RETURN NEW;
		END IF;
		PERFORM sequin._check_owner(NEW.owner);
		PERFORM sequin._ensure_schema(NEW.target_schema, NEW.owner);
		PERFORM sequin._check_taken(NEW);
		RETURN NEW;
	END IF;
	IF NEW.provider <> OLD.provider OR NEW.id <> OLD.id THEN
		RAISE EXCEPTION 'the provider and id of a sync cannot be changed'
			USING ERRCODE = 'feature_not_supported', HINT = 'Create another sync.';
	END IF;
	IF NEW.upstream_url IS DISTINCT FROM OLD.upstream_url THEN
		PERFORM sequin._check_upstream(NEW.upstream_url);
	END IF;
	IF NEW.owner <> OLD.owner THEN
		PERFORM sequin._check_owner(NEW.owner);
	END IF;
	IF (NEW.owner, NEW.target_schema) IS DISTINCT FROM (OLD.owner, OLD.target_schema) THEN
		PERFORM sequin._ensure_schema(NEW.target_schema, NEW.owner);
		PERFORM sequin._move_tables(OLD, NEW);
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER check_sync BEFORE INSERT OR UPDATE OR DELETE ON sequin.sync
	FOR EACH ROW EXECUTE FUNCTION sequin._check_sync();

CREATE FUNCTION sequin._follow_sync() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'sequin_as_extension';
CREATE FUNCTION sequin.__follow_sync() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF TG_OP = 'INSERT' THEN
		INSERT INTO sequin.sync_state (sync) VALUES (NEW.name);
		RETURN NULL;
	END IF;
	IF NEW.name <> OLD.name THEN
		UPDATE sequin.write_log SET sync = NEW.name WHERE sync = OLD.name;
	END IF;
	-- Another base has other tables: until they are there, nothing may be committed.
	IF NEW.config->'base_id' IS DISTINCT FROM OLD.config->'base_id' THEN
		UPDATE sequin.sync_state SET state = 'discovering', ready_at = NULL, feed = NULL, feed_error = NULL WHERE sync = NEW.name;
		PERFORM sequin._read_anew(NEW.name, NULL);
	END IF;
	IF (NEW.config->'base_id', NEW.tables, NEW.target_schema, NEW.owner, NEW.upstream_url)
		IS DISTINCT FROM (OLD.config->'base_id', OLD.tables, OLD.target_schema, OLD.owner, OLD.upstream_url)
		OR (OLD.paused AND NOT NEW.paused)
	THEN
		PERFORM sequin._wake(NEW.name);
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER follow_sync AFTER INSERT OR UPDATE ON sequin.sync
	FOR EACH ROW EXECUTE FUNCTION sequin._follow_sync();

---------------------------------------------------------------------------------------------------
-- Validation of what belongs to a sync
---------------------------------------------------------------------------------------------------

CREATE FUNCTION sequin._check_credential_value(p_provider text, p_value text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_error text;
BEGIN
	-- no message here may show the value
	IF p_value ~ '^file:' THEN
		IF NOT pg_has_role(sequin._caller(), 'pg_read_server_files', 'USAGE') THEN
			RAISE EXCEPTION 'permission denied to read a credential from a file'
				USING ERRCODE = 'insufficient_privilege', HINT = 'It needs membership in pg_read_server_files.';
		END IF;
		IF p_value !~ '^file:/.' THEN
			RAISE EXCEPTION 'the path of a credential file must be absolute'
				USING ERRCODE = 'invalid_parameter_value', HINT = 'Write file:/path/to/file.';
		END IF;
	ELSIF p_value ~ '^env:' THEN
		IF NOT sequin._caller_is_superuser() THEN
			RAISE EXCEPTION 'permission denied to read a credential from the server''s environment'
				USING ERRCODE = 'insufficient_privilege', HINT = 'Only a superuser may use env:NAME.';
		END IF;
		IF p_value !~ '^env:[A-Za-z_][A-Za-z0-9_]*$' THEN
			RAISE EXCEPTION 'invalid name of an environment variable'
				USING ERRCODE = 'invalid_parameter_value', HINT = 'Write env:NAME.';
		END IF;
	ELSIF p_value ~ '^[{]' THEN
		v_error := sequin._oauth_error(p_provider, p_value);
		IF v_error IS NOT NULL THEN
			RAISE EXCEPTION '%', v_error
				USING ERRCODE = 'invalid_parameter_value',
					HINT = 'Give {"client_id": "...", "client_secret": "...", "refresh_token": "..."}; an Airtable client without a secret leaves it out.';
		END IF;
	ELSIF coalesce(p_value, '') !~ '^[!-~]+$' OR octet_length(p_value) > 16384 THEN
		RAISE EXCEPTION 'invalid credential'
			USING ERRCODE = 'invalid_parameter_value',
				HINT = 'Give the token alone (no "Bearer", no blanks or line ends), or file:/path, or env:NAME, or a JSON object for OAuth.';
	END IF;
END $$;

CREATE FUNCTION sequin._check_credential() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'sequin_as_extension';
CREATE FUNCTION sequin.__check_credential() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF TG_OP = 'DELETE' THEN
		PERFORM sequin._require_child(TG_OP, OLD.sync);
		RETURN OLD;
	END IF;
	PERFORM sequin._require_child(TG_OP, NEW.sync);
	IF TG_OP = 'INSERT' OR NEW.value IS DISTINCT FROM OLD.value THEN
		PERFORM sequin._check_credential_value((SELECT s.provider FROM sequin.sync s WHERE s.name = NEW.sync), NEW.value);
		PERFORM sequin._wake(NEW.sync);
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER check_credential BEFORE INSERT OR UPDATE OR DELETE ON sequin.credential
	FOR EACH ROW EXECUTE FUNCTION sequin._check_credential();

CREATE FUNCTION sequin._check_key() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'sequin_as_extension';
CREATE FUNCTION sequin.__check_key() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF TG_OP = 'DELETE' THEN
		PERFORM sequin._require_child(TG_OP, OLD.sync);
		RETURN OLD;
	END IF;
	PERFORM sequin._require_child(TG_OP, NEW.sync);
	IF NEW.methods IS NOT NULL THEN
		IF cardinality(NEW.methods) = 0
			OR EXISTS (SELECT FROM unnest(NEW.methods) m WHERE m IS NULL OR m !~ '^[A-Za-z-]{1,32}$')
		THEN
			RAISE EXCEPTION 'invalid methods of a key'
				USING ERRCODE = 'invalid_parameter_value',
					HINT = 'Give HTTP methods, as ARRAY[''GET'', ''POST'']; NULL for all.';
		END IF;
		NEW.methods := (SELECT array_agg(DISTINCT upper(m)) FROM unnest(NEW.methods) m);
	END IF;
	NEW.label := coalesce(NEW.label, '');
	RETURN NEW;
END $$;
CREATE TRIGGER check_key BEFORE INSERT OR UPDATE OR DELETE ON sequin.proxy_key
	FOR EACH ROW EXECUTE FUNCTION sequin._check_key();

CREATE FUNCTION sequin._check_rate() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'sequin_as_extension';
CREATE FUNCTION sequin.__check_rate() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF TG_OP = 'DELETE' THEN
		PERFORM sequin._require_child(TG_OP, OLD.sync);
		RETURN OLD;
	END IF;
	PERFORM sequin._require_child(TG_OP, NEW.sync);
	NEW.bucket := coalesce(NEW.bucket, 'default');
	IF TG_OP = 'INSERT' AND (
		(SELECT count(*) FROM sequin.rate_limit r WHERE r.sync = NEW.sync AND r.bucket = NEW.bucket) >= 4
		OR (SELECT count(DISTINCT r.bucket) FROM sequin.rate_limit r WHERE r.sync = NEW.sync AND r.bucket <> NEW.bucket) >= 4)
	THEN
		RAISE EXCEPTION 'too many rate limits for sync "%"', NEW.sync
			USING ERRCODE = 'program_limit_exceeded', HINT = 'A sync may have 4 buckets, each with 4 windows.';
	END IF;
	RETURN NEW;
END $$;
CREATE TRIGGER check_rate BEFORE INSERT OR UPDATE OR DELETE ON sequin.rate_limit
	FOR EACH ROW EXECUTE FUNCTION sequin._check_rate();

CREATE FUNCTION sequin._rename_table(p_sync text, p_old text, p_new text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_sync sequin.sync := sequin._owned_sync(p_sync);
BEGIN
	IF to_regclass(format('%I.%I', v_sync.target_schema, p_old)) IS NOT NULL THEN
		PERFORM sequin._run_as(v_sync.owner, format('ALTER TABLE %I.%I RENAME TO %I', v_sync.target_schema, p_old, p_new));
	END IF;
END $$;

CREATE FUNCTION sequin._check_mirror_table() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'sequin_as_extension';
CREATE FUNCTION sequin.__check_mirror_table() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF TG_OP = 'DELETE' THEN
		PERFORM sequin._require_child(TG_OP, OLD.sync);
		RETURN OLD;
	END IF;
	PERFORM sequin._require_child(TG_OP, NEW.sync);
	IF octet_length(NEW.table_name) NOT BETWEEN 1 AND 63 THEN
		RAISE EXCEPTION 'invalid table name "%"', NEW.table_name
			USING ERRCODE = 'invalid_name', HINT = 'A table name has 1 to 63 bytes.';
	END IF;
	IF TG_OP = 'UPDATE' AND NEW.table_name <> OLD.table_name THEN
		PERFORM sequin._rename_table(NEW.sync, OLD.table_name, NEW.table_name);
		NEW.locked := true;
	END IF;
	IF TG_OP = 'UPDATE' AND NEW.enabled AND NOT OLD.enabled THEN
		PERFORM sequin._wake(NEW.sync);
		PERFORM sequin._read_anew(NEW.sync, NEW.collection);
	END IF;
	RETURN NEW;
END $$;

CREATE FUNCTION sequin._rename_column(p_sync text, p_collection text, p_old text, p_new text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_sync sequin.sync := sequin._owned_sync(p_sync);
	v_table text := (SELECT m.table_name FROM sequin.mirror_table m WHERE m.sync = p_sync AND m.collection = p_collection);
	v_relation regclass := to_regclass(format('%I.%I', v_sync.target_schema, v_table));
BEGIN
	IF EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = v_relation AND a.attname = p_old AND NOT a.attisdropped) THEN
		PERFORM sequin._run_as(v_sync.owner, format('ALTER TABLE %s RENAME COLUMN %I TO %I', v_relation, p_old, p_new));
	END IF;
END $$;

CREATE FUNCTION sequin._check_mirror_column() RETURNS trigger
	LANGUAGE c AS 'MODULE_PATHNAME', 'sequin_as_extension';
CREATE FUNCTION sequin.__check_mirror_column() RETURNS trigger
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF TG_OP = 'DELETE' THEN
		PERFORM sequin._require_child(TG_OP, OLD.sync);
		RETURN OLD;
	END IF;
	PERFORM sequin._require_child(TG_OP, NEW.sync);
	IF octet_length(NEW.column_name) NOT BETWEEN 1 AND 63
		OR NEW.column_name IN ('id', 'created_at', 'created_time', 'updated_at', '_sync_updated_at')
	THEN
		RAISE EXCEPTION 'invalid column name "%"', NEW.column_name
			USING ERRCODE = 'invalid_name',
				HINT = 'A column name has 1 to 63 bytes and is not one of the standard columns (id, created_at, created_time, updated_at, _sync_updated_at).';
	END IF;
	IF TG_OP = 'UPDATE' AND NEW.column_name <> OLD.column_name THEN
		PERFORM sequin._rename_column(NEW.sync, NEW.collection, OLD.column_name, NEW.column_name);
		NEW.locked := true;
	END IF;
	IF TG_OP = 'UPDATE' AND NEW.enabled AND NOT OLD.enabled THEN
		PERFORM sequin._wake(NEW.sync);
		PERFORM sequin._read_anew(NEW.sync, NEW.collection);
	END IF;
	RETURN NEW;
END $$;

-- Our workers have done the renaming themselves, and write many rows at once.
CREATE TRIGGER check_mirror_table BEFORE INSERT OR UPDATE OR DELETE ON sequin.mirror_table
	FOR EACH ROW WHEN (NOT sequin._in_worker()) EXECUTE FUNCTION sequin._check_mirror_table();
CREATE TRIGGER check_mirror_column BEFORE INSERT OR UPDATE OR DELETE ON sequin.mirror_column
	FOR EACH ROW WHEN (NOT sequin._in_worker()) EXECUTE FUNCTION sequin._check_mirror_column();

-- Every committed change is seen by the very next request, also those of a restore or a replica role.
DO $$
DECLARE
	v_table text;
BEGIN
	FOREACH v_table IN ARRAY ARRAY['sync', 'credential', 'oauth_token', 'proxy_key', 'rate_limit', 'mirror_table', 'mirror_column'] LOOP
		EXECUTE pg_catalog.format('CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON sequin.%I '
								  'FOR EACH STATEMENT EXECUTE FUNCTION sequin._config_changed()', v_table);
		EXECUTE pg_catalog.format('ALTER TABLE sequin.%I ENABLE ALWAYS TRIGGER config_changed', v_table);
	END LOOP;
END $$;
-- The snapshot holds whether a sync is ready, not how often it was tried.
CREATE TRIGGER state_changed AFTER UPDATE ON sequin.sync_state
	FOR EACH ROW WHEN (OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION sequin._config_changed();
-- A table that is to be read anew: the sync process looks at once.
CREATE TRIGGER epoch_changed AFTER UPDATE ON sequin.table_state
	FOR EACH ROW WHEN (OLD.epoch IS DISTINCT FROM NEW.epoch) EXECUTE FUNCTION sequin._config_changed();
CREATE TRIGGER state_made AFTER INSERT OR DELETE ON sequin.sync_state
	FOR EACH ROW EXECUTE FUNCTION sequin._config_changed();

---------------------------------------------------------------------------------------------------
-- Public functions, and behind each the one that does it
---------------------------------------------------------------------------------------------------

CREATE FUNCTION sequin._api_root(p_sync text) RETURNS text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_root text := (SELECT sequin._root_url(s.identifier) FROM sequin.sync s WHERE s.name = p_sync);
BEGIN
	IF v_root IS NULL THEN
		PERFORM sequin._unknown_sync(p_sync);
	END IF;
	RETURN v_root;
END $$;
CREATE FUNCTION sequin.api_root(sync text) RETURNS text
	LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'sequin_as_extension';
COMMENT ON FUNCTION sequin.api_root(text) IS
	'the URL to put before the API''s host and path: http://localhost:8432/<identifier>; ERROR for an unknown sync';

-- '' gives the provider's published limits back.
CREATE FUNCTION sequin._set_rate_limit(p_sync text, p_limits text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	DELETE FROM sequin.rate_limit r WHERE r.sync = p_sync;
	IF p_limits <> '' THEN
		INSERT INTO sequin.rate_limit (sync, bucket, max_requests, period)
			SELECT p_sync, p.bucket, p.max_requests, p.period FROM sequin._rate_parse(p_limits) p;
	END IF;
END $$;

CREATE FUNCTION sequin._create_sync(p_name text, p_provider text, p_credential text, p_config jsonb, p_target_schema text,
									p_tables text[], p_rate_limit text, p_auth text, p_upstream_url text)
	RETURNS TABLE (o_name text, o_provider text, o_target_schema text, o_api_root text)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO sequin.sync (name, provider, config, target_schema, tables, auth, upstream_url)
		VALUES (p_name, p_provider, p_config, p_target_schema, p_tables, p_auth, p_upstream_url);
	IF p_credential IS NOT NULL THEN
		INSERT INTO sequin.credential (sync, value) VALUES (p_name, p_credential);
	END IF;
	IF p_rate_limit IS NOT NULL THEN
		PERFORM sequin._set_rate_limit(p_name, p_rate_limit);
	END IF;
	RETURN QUERY SELECT s.name, s.provider, s.target_schema, sequin._root_url(s.identifier)
		FROM sequin.sync s WHERE s.name = p_name;
END $$;
CREATE FUNCTION sequin.create_sync(name text, provider text, credential text DEFAULT NULL, config jsonb DEFAULT '{}',
								   target_schema text DEFAULT NULL, tables text[] DEFAULT NULL, rate_limit text DEFAULT NULL,
								   auth text DEFAULT 'key', upstream_url text DEFAULT NULL)
	RETURNS TABLE (name text, provider text, target_schema text, api_root text)
	LANGUAGE c ROWS 1 AS 'MODULE_PATHNAME', 'sequin_as_extension';
COMMENT ON FUNCTION sequin.create_sync(text, text, text, jsonb, text, text[], text, text, text) IS
	'mirrors an API account into a schema and opens its proxy; the caller owns it. credential: a token, an OAuth client as JSON (client_id, client_secret, refresh_token), file:/path or env:NAME; rate_limit: ''100/10s, search:4/1s'', NULL = the provider''s default. Discovery starts at commit: wait_for(name, ''ready'')';

CREATE FUNCTION sequin._alter_sync(p_name text, p_credential text, p_config jsonb, p_target_schema text, p_tables text[],
								   p_rate_limit text, p_auth text, p_upstream_url text)
	RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM sequin._owned_sync(p_name);
	UPDATE sequin.sync s SET
		config = coalesce(p_config, s.config),
		target_schema = coalesce(p_target_schema, s.target_schema),
		tables = CASE WHEN p_tables IS NULL THEN s.tables WHEN cardinality(p_tables) = 0 THEN NULL ELSE p_tables END,
		auth = coalesce(p_auth, s.auth),
		upstream_url = CASE WHEN p_upstream_url IS NULL THEN s.upstream_url ELSE nullif(p_upstream_url, '') END
		WHERE s.name = p_name;
	IF p_credential IS NOT NULL THEN
		INSERT INTO sequin.credential AS c (sync, value) VALUES (p_name, p_credential)
			ON CONFLICT (sync) DO UPDATE SET value = excluded.value;
	END IF;
	IF p_rate_limit IS NOT NULL THEN
		PERFORM sequin._set_rate_limit(p_name, p_rate_limit);
	END IF;
END $$;
CREATE FUNCTION sequin.alter_sync(name text, credential text DEFAULT NULL, config jsonb DEFAULT NULL, target_schema text DEFAULT NULL,
								  tables text[] DEFAULT NULL, rate_limit text DEFAULT NULL, auth text DEFAULT NULL,
								  upstream_url text DEFAULT NULL) RETURNS void
	LANGUAGE c AS 'MODULE_PATHNAME', 'sequin_as_extension';
COMMENT ON FUNCTION sequin.alter_sync(text, text, jsonb, text, text[], text, text, text) IS
	'changes a sync; NULL leaves as it is. tables => ''{}'': all; rate_limit => '''': the provider''s default; upstream_url => '''': the API itself; target_schema moves the mirror tables';

CREATE FUNCTION sequin._drop_sync(p_name text, p_drop_tables boolean) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_sync sequin.sync := sequin._owned_sync(p_name);
	v_table regclass;
BEGIN
	IF p_drop_tables THEN
		FOR v_table IN
			SELECT c.oid FROM sequin.mirror_table m
			JOIN pg_class c ON c.relname = m.table_name AND c.relnamespace = to_regnamespace(quote_ident(v_sync.target_schema))
			JOIN pg_roles r ON r.oid = c.relowner AND r.rolname = v_sync.owner
			WHERE m.sync = p_name AND c.relkind IN ('r', 'p')
		LOOP
			PERFORM sequin._run_as(v_sync.owner, format('DROP TABLE %s', v_table));
		END LOOP;
	END IF;
	DELETE FROM sequin.sync s WHERE s.name = p_name;
END $$;
CREATE FUNCTION sequin.drop_sync(name text, drop_tables boolean DEFAULT false) RETURNS void
	LANGUAGE c AS 'MODULE_PATHNAME', 'sequin_as_extension';
COMMENT ON FUNCTION sequin.drop_sync(text, boolean) IS
	'forgets a sync, its keys and its credential; the mirror tables stay unless drop_tables, the schema always';

CREATE FUNCTION sequin._pause_sync(p_name text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM sequin._owned_sync(p_name);
	UPDATE sequin.sync s SET paused = true WHERE s.name = p_name;
END $$;
CREATE FUNCTION sequin.pause_sync(name text) RETURNS void
	LANGUAGE c AS 'MODULE_PATHNAME', 'sequin_as_extension';
COMMENT ON FUNCTION sequin.pause_sync(text) IS 'stops the sync''s own calls to the API; the proxy goes on';

CREATE FUNCTION sequin._resume_sync(p_name text) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM sequin._owned_sync(p_name);
	UPDATE sequin.sync s SET paused = false WHERE s.name = p_name;
END $$;
CREATE FUNCTION sequin.resume_sync(name text) RETURNS void
	LANGUAGE c AS 'MODULE_PATHNAME', 'sequin_as_extension';
COMMENT ON FUNCTION sequin.resume_sync(text) IS 'ends pause_sync';

CREATE FUNCTION sequin._rotate_identifier(p_sync text) RETURNS text
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM sequin._owned_sync(p_sync);
	UPDATE sequin.sync s SET identifier = sequin._random_text(16) WHERE s.name = p_sync;
	RETURN sequin._api_root(p_sync);
END $$;
CREATE FUNCTION sequin.rotate_identifier(sync text) RETURNS text
	LANGUAGE c AS 'MODULE_PATHNAME', 'sequin_as_extension';
COMMENT ON FUNCTION sequin.rotate_identifier(text) IS 'gives the sync a new identifier and returns its new API root; the old one is unknown at commit';

CREATE FUNCTION sequin._create_key(p_sync text, p_label text, p_methods text[], p_read_only boolean, p_expires_at timestamptz)
	RETURNS text
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_key text := 'sqk_' || sequin._random_text(32);
BEGIN
	INSERT INTO sequin.proxy_key (hash, sync, label, methods, read_only, expires_at)
		VALUES (sha256(convert_to(v_key, 'UTF8')), p_sync, p_label, p_methods, coalesce(p_read_only, false), p_expires_at);
	RETURN v_key;
END $$;
CREATE FUNCTION sequin.create_key(sync text, label text DEFAULT '', methods text[] DEFAULT NULL, read_only boolean DEFAULT false,
								  expires_at timestamptz DEFAULT NULL) RETURNS text
	LANGUAGE c AS 'MODULE_PATHNAME', 'sequin_as_extension';
COMMENT ON FUNCTION sequin.create_key(text, text, text[], boolean, timestamptz) IS
	'a new proxy key, shown this once (sqk_ and 43 characters); only its SHA-256 is stored';

CREATE FUNCTION sequin._revoke_key(p_sync text, p_label text) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_count bigint;
BEGIN
	PERFORM sequin._owned_sync(p_sync);
	DELETE FROM sequin.proxy_key k WHERE k.sync = p_sync AND k.label = coalesce(p_label, '');
	GET DIAGNOSTICS v_count = ROW_COUNT;
	IF v_count = 0 THEN
		RAISE EXCEPTION 'sync "%" has no key labelled "%"', p_sync, coalesce(p_label, '')
			USING ERRCODE = 'undefined_object', HINT = 'SELECT label FROM sequin.proxy_key lists them.';
	END IF;
	RETURN v_count;
END $$;
CREATE FUNCTION sequin.revoke_key(sync text, label text) RETURNS bigint
	LANGUAGE c AS 'MODULE_PATHNAME', 'sequin_as_extension';
COMMENT ON FUNCTION sequin.revoke_key(text, text) IS 'ends all keys of that label, at commit; returns how many; ERROR when there is none';

CREATE FUNCTION sequin._resync(p_name text, p_table_name text) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_collection text;
BEGIN
	PERFORM sequin._owned_sync(p_name);
	IF p_table_name IS NOT NULL THEN
		SELECT m.collection INTO v_collection FROM sequin.mirror_table m
			WHERE m.sync = p_name AND p_table_name IN (m.table_name, m.collection_name, m.collection)
			ORDER BY m.table_name = p_table_name DESC, m.collection = p_table_name DESC LIMIT 1;
		IF NOT FOUND THEN
			RAISE EXCEPTION 'sync "%" has no table "%"', p_name, p_table_name
				USING ERRCODE = 'undefined_table', HINT = 'SELECT table_name FROM sequin.mirror_table lists them.';
		END IF;
	END IF;
	PERFORM sequin._wake(p_name);
	RETURN sequin._read_anew(p_name, v_collection);
END $$;
CREATE FUNCTION sequin.resync(name text, table_name text DEFAULT NULL) RETURNS bigint
	LANGUAGE c AS 'MODULE_PATHNAME', 'sequin_as_extension';
COMMENT ON FUNCTION sequin.resync(text, text) IS
	'reads one table (NULL: all) from the API anew, and then sweeps it; the rows stay meanwhile. Returns how many tables; ERROR for an unknown sync or table';

CREATE FUNCTION sequin._check_wait(p_sync text, p_state text) RETURNS uuid
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_xmin xid;
	v_id uuid;
BEGIN
	IF p_state IS NULL OR p_state NOT IN ('ready', 'live', 'fresh', 'swept') THEN
		RAISE EXCEPTION 'unknown state "%"', coalesce(p_state, '')
			USING ERRCODE = 'invalid_parameter_value', HINT = 'States are: ready, live, fresh, swept.';
	END IF;
	SELECT s.xmin, s.id INTO v_xmin, v_id FROM sequin.sync s WHERE s.name = p_sync;
	IF NOT FOUND THEN
		PERFORM sequin._unknown_sync(p_sync);
	END IF;
	IF sequin._is_own_xid(v_xmin) THEN
		RAISE EXCEPTION 'sync "%" was created or changed in this transaction, which nobody else can see', p_sync
			USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'COMMIT first, then call wait_for.';
	END IF;
	IF current_setting('transaction_isolation') <> 'read committed' THEN
		RAISE EXCEPTION 'wait_for cannot see progress in a "%" transaction', current_setting('transaction_isolation')
			USING ERRCODE = 'active_sql_transaction', HINT = 'Call it outside the transaction, or in a READ COMMITTED one.';
	END IF;
	RETURN v_id;
END $$;

-- NULL: the sync is gone.
CREATE FUNCTION sequin._is_reached(p_id uuid, p_state text, p_since timestamptz) RETURNS boolean
	LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
	SELECT CASE p_state WHEN 'ready' THEN coalesce(st.state = 'ready', false)
		ELSE coalesce(st.ready_at IS NOT NULL AND st.state <> 'discovering', false) AND NOT EXISTS (
			SELECT FROM sequin.mirror_table m
			LEFT JOIN sequin.table_state t ON t.sync = m.sync AND t.collection = m.collection
			WHERE m.sync = s.name AND m.enabled AND m.removed_at IS NULL
				AND NOT coalesce(CASE p_state
					WHEN 'live' THEN t.phase = 'live' AND t.fill IS NULL
					WHEN 'fresh' THEN t.live_at IS NOT NULL AND (m.kind = 'links' OR t.polled_at >= p_since)
					ELSE t.live_at IS NOT NULL AND t.swept_at >= p_since END, false)) END
	FROM sequin.sync s LEFT JOIN sequin.sync_state st ON st.sync = s.name
	WHERE s.id = p_id
$$;

CREATE FUNCTION sequin._wait_for(p_sync text, p_state text, p_timeout interval) RETURNS boolean
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	v_deadline constant timestamptz := clock_timestamp() + coalesce(p_timeout, interval '60 seconds');
	v_pause double precision := 0.005;
	v_id constant uuid := sequin._check_wait(p_sync, p_state);
	v_since timestamptz;
	v_reached boolean;
BEGIN
	IF p_state IN ('fresh', 'swept') THEN
		v_since := sequin._want(v_id, p_state = 'swept');
	END IF;
	LOOP
		v_reached := sequin._is_reached(v_id, p_state, v_since);
		IF v_reached IS NULL THEN
			PERFORM sequin._unknown_sync(p_sync);
		ELSIF v_reached THEN
			RETURN true;
		ELSIF clock_timestamp() >= v_deadline THEN
			RETURN false;
		END IF;
		PERFORM pg_sleep(least(v_pause, greatest(extract(epoch FROM v_deadline - clock_timestamp()), 0.001)::double precision));
		v_pause := least(v_pause * 1.3, 0.1);
	END LOOP;
END $$;
CREATE FUNCTION sequin.wait_for(sync text, state text, timeout interval DEFAULT '60s') RETURNS boolean
	LANGUAGE c AS 'MODULE_PATHNAME', 'sequin_as_extension';
COMMENT ON FUNCTION sequin.wait_for(text, text, interval) IS
	'waits for ready (discovered, its tables exist, the proxy commits), live (every table is filled), fresh (a poll of every table that began after this call is committed) or swept (the same for a full sweep: deletes and associations too); false when the timeout ends first; ERROR for an unknown sync or state, and inside the transaction that created it';

CREATE FUNCTION sequin._decode(sync text, method text, url text, request_body text, status integer, response_body text)
	RETURNS TABLE (op text, collection text, id text, data jsonb)
	LANGUAGE c AS 'MODULE_PATHNAME', 'sequin_decode';
CREATE FUNCTION sequin.decode(sync text, method text, url text, request_body text, status integer, response_body text)
	RETURNS TABLE (op text, collection text, id text, data jsonb)
	LANGUAGE c AS 'MODULE_PATHNAME', 'sequin_as_extension';
COMMENT ON FUNCTION sequin.decode(text, text, text, text, integer, text) IS
	'the changes that such an exchange would commit, without doing anything: op is upsert, patch, delete, link, unlink, reread or refresh_schema; ERROR for a URL that the proxy would refuse. url with or without scheme and host';

---------------------------------------------------------------------------------------------------
-- Views
---------------------------------------------------------------------------------------------------

CREATE VIEW sequin.syncs AS
	SELECT s.name, s.provider,
		CASE WHEN s.paused THEN 'paused'
			WHEN st.state = 'ready' AND NOT EXISTS (
				SELECT FROM sequin.mirror_table m LEFT JOIN sequin.table_state t ON t.sync = m.sync AND t.collection = m.collection
				WHERE m.sync = s.name AND m.enabled AND m.removed_at IS NULL AND t.phase IS DISTINCT FROM 'live')
			THEN 'live'
			ELSE coalesce(st.state, 'discovering') END AS state,
		s.target_schema, sequin._root_url(s.identifier) AS api_root, s.auth, s.paused,
		CASE WHEN pg_catalog.to_regrole(pg_catalog.quote_ident(s.owner)) IS NULL
			THEN pg_catalog.format('its owner, the role "%s", does not exist: create it, or UPDATE sequin.sync SET owner', s.owner)
			WHEN c.sync IS NULL
			THEN pg_catalog.format('no credential: set one with sequin.alter_sync(%L, credential => ''...'')', s.name)
			ELSE coalesce(o.error, st.last_error, bad.last_error) END AS last_error,
		coalesce(st.last_error_at, bad.last_error_at) AS last_error_at, st.ready_at, st.feed_error
	FROM sequin.sync s
	LEFT JOIN sequin.sync_state st ON st.sync = s.name
	LEFT JOIN sequin.credential c ON c.sync = s.name
	LEFT JOIN sequin.oauth_token o ON o.sync = s.name
	LEFT JOIN LATERAL (
		SELECT pg_catalog.format('%s: %s', m.table_name, t.last_error) AS last_error, t.last_error_at
		FROM sequin.table_state t JOIN sequin.mirror_table m ON m.sync = t.sync AND m.collection = t.collection
		WHERE t.sync = s.name AND t.last_error IS NOT NULL AND m.enabled AND m.removed_at IS NULL
		ORDER BY t.last_error_at DESC LIMIT 1) bad ON true;
COMMENT ON VIEW sequin.syncs IS 'every sync and how it is doing; state is discovering, ready (the proxy commits, tables are being filled), live (they are), error or paused';
COMMENT ON COLUMN sequin.syncs.name IS 'what the functions take';
COMMENT ON COLUMN sequin.syncs.provider IS 'hubspot or airtable';
COMMENT ON COLUMN sequin.syncs.state IS 'discovering, ready, live, error or paused';
COMMENT ON COLUMN sequin.syncs.target_schema IS 'schema of the mirror tables';
COMMENT ON COLUMN sequin.syncs.api_root IS 'the URL to put before the API''s host and path';
COMMENT ON COLUMN sequin.syncs.auth IS 'key or passthrough';
COMMENT ON COLUMN sequin.syncs.paused IS 'pause_sync: no calls of the sync''s own';
COMMENT ON COLUMN sequin.syncs.last_error_at IS 'when that was met';
COMMENT ON COLUMN sequin.syncs.ready_at IS 'when it was first discovered';
COMMENT ON COLUMN sequin.syncs.feed_error IS 'why the API''s change feed is not used; NULL: it is, or the API has none';
COMMENT ON COLUMN sequin.syncs.last_error IS 'what to fix; NULL: nothing';

CREATE VIEW sequin.sync_progress AS
	SELECT m.sync, m.table_name, m.collection_name, coalesce(t.phase, 'waiting') AS phase,
		least(coalesce(t.rows_done, 0), t.rows_total) AS rows_done, t.rows_total,
		p.rows_per_second,
		CASE WHEN t.phase = 'backfill' AND t.rows_total >= t.rows_done AND p.rows_per_second > 0
			THEN pg_catalog.make_interval(secs => ((t.rows_total - t.rows_done) / p.rows_per_second)::double precision) END AS eta,
		t.started_at, t.live_at, t.polled_at, t.swept_at, t.last_error, t.last_error_at
	FROM sequin.mirror_table m
	LEFT JOIN sequin.table_state t ON t.sync = m.sync AND t.collection = m.collection
	CROSS JOIN LATERAL (SELECT pg_catalog.round(t.rows_done / nullif(extract(epoch FROM
		coalesce(t.live_at, pg_catalog.clock_timestamp()) - t.started_at), 0), 1) AS rows_per_second) p
	WHERE m.enabled AND m.removed_at IS NULL;
COMMENT ON VIEW sequin.sync_progress IS 'per mirror table: how far the sync is; phase is waiting, backfill or live';
COMMENT ON COLUMN sequin.sync_progress.sync IS 'name of the sync';
COMMENT ON COLUMN sequin.sync_progress.table_name IS 'mirror table';
COMMENT ON COLUMN sequin.sync_progress.collection_name IS 'the API''s name of it';
COMMENT ON COLUMN sequin.sync_progress.phase IS 'waiting, backfill (being filled from the start) or live';
COMMENT ON COLUMN sequin.sync_progress.started_at IS 'when the backfill began';
COMMENT ON COLUMN sequin.sync_progress.live_at IS 'when it was filled, first or last';
COMMENT ON COLUMN sequin.sync_progress.last_error_at IS 'when that was met';
COMMENT ON COLUMN sequin.sync_progress.rows_done IS 'records (links) that the backfill has brought';
COMMENT ON COLUMN sequin.sync_progress.rows_total IS 'as the API counts them; NULL: it does not tell';
COMMENT ON COLUMN sequin.sync_progress.rows_per_second IS 'mean over the backfill';
COMMENT ON COLUMN sequin.sync_progress.eta IS 'time left of the backfill, at that rate; NULL: not known, or done';
COMMENT ON COLUMN sequin.sync_progress.polled_at IS 'what was changed in the API before then is here, as far as its index showed it';
COMMENT ON COLUMN sequin.sync_progress.swept_at IS 'deletes and associations too';
COMMENT ON COLUMN sequin.sync_progress.last_error IS 'what keeps this table from being read, in the API''s words; NULL: nothing';

CREATE FUNCTION sequin._rate_limit_usage()
	RETURNS TABLE (sync text, bucket text, period interval, "limit" bigint, used_by_proxy bigint, used_by_sync bigint,
				   proxy_waiting integer, blocked_until timestamptz)
	LANGUAGE c AS 'MODULE_PATHNAME', 'sequin_rate_limit_usage';
CREATE VIEW sequin.rate_limit_usage AS SELECT * FROM sequin._rate_limit_usage();
COMMENT ON VIEW sequin.rate_limit_usage IS 'per sync, bucket and window: requests sent within the last period, by whom, and who waits';
COMMENT ON COLUMN sequin.rate_limit_usage.sync IS 'whose limit';
COMMENT ON COLUMN sequin.rate_limit_usage.bucket IS 'kind of request';
COMMENT ON COLUMN sequin.rate_limit_usage.period IS 'length of the window';
COMMENT ON COLUMN sequin.rate_limit_usage."limit" IS 'most requests in it';
COMMENT ON COLUMN sequin.rate_limit_usage.used_by_proxy IS 'sent for callers of the proxy within the last period';
COMMENT ON COLUMN sequin.rate_limit_usage.used_by_sync IS 'sent by the sync process within the last period';
COMMENT ON COLUMN sequin.rate_limit_usage.proxy_waiting IS 'proxied requests that wait for a slot';
COMMENT ON COLUMN sequin.rate_limit_usage.blocked_until IS 'the API answered 429: nothing is sent before; NULL: not blocked';

CREATE FUNCTION sequin._proxy_stats()
	RETURNS TABLE (worker integer, pid integer, listening boolean, listen_error text, connections bigint, accepted bigint,
				   requests bigint, s1xx bigint, s2xx bigint, s3xx bigint, s4xx bigint, s5xx bigint, errors bigint,
				   commits bigint, batches bigint, deferred bigint, queued bigint, in_flight bigint,
				   mean_upstream_ms double precision, mean_commit_ms double precision, mean_total_ms double precision)
	LANGUAGE c AS 'MODULE_PATHNAME', 'sequin_proxy_stats';
CREATE VIEW sequin.proxy_stats AS SELECT * FROM sequin._proxy_stats();
COMMENT ON VIEW sequin.proxy_stats IS 'a row per proxy worker, counted since the server started; pid NULL: not running';
COMMENT ON COLUMN sequin.proxy_stats.worker IS 'number of the process, from 1';
COMMENT ON COLUMN sequin.proxy_stats.pid IS 'NULL: not running';
COMMENT ON COLUMN sequin.proxy_stats.listening IS 'its socket is open';
COMMENT ON COLUMN sequin.proxy_stats.listen_error IS 'why it is not';
COMMENT ON COLUMN sequin.proxy_stats.connections IS 'clients connected now';
COMMENT ON COLUMN sequin.proxy_stats.accepted IS 'connections so far';
COMMENT ON COLUMN sequin.proxy_stats.requests IS 'requests so far';
COMMENT ON COLUMN sequin.proxy_stats.s1xx IS 'answers of the API by class';
COMMENT ON COLUMN sequin.proxy_stats.s3xx IS 'answers of the API by class';
COMMENT ON COLUMN sequin.proxy_stats.s4xx IS 'answers of the API by class';
COMMENT ON COLUMN sequin.proxy_stats.s5xx IS 'answers of the API by class';
COMMENT ON COLUMN sequin.proxy_stats.commits IS 'writes answered as committed';
COMMENT ON COLUMN sequin.proxy_stats.batches IS 'transactions that held them';
COMMENT ON COLUMN sequin.proxy_stats.deferred IS 'writes answered as deferred';
COMMENT ON COLUMN sequin.proxy_stats.in_flight IS 'requests sent to the API and not yet answered';
COMMENT ON COLUMN sequin.proxy_stats.mean_upstream_ms IS 'from sending to the API''s whole answer';
COMMENT ON COLUMN sequin.proxy_stats.mean_total_ms IS 'from the request''s arrival to its response';
COMMENT ON COLUMN sequin.proxy_stats.s2xx IS 'answers of the API by class';
COMMENT ON COLUMN sequin.proxy_stats.errors IS 'answers that the proxy gave itself (Sequin-Error)';
COMMENT ON COLUMN sequin.proxy_stats.queued IS 'requests waiting for a rate-limit slot now';
COMMENT ON COLUMN sequin.proxy_stats.mean_commit_ms IS 'per transaction (batch)';

---------------------------------------------------------------------------------------------------
-- Grants: nothing but the way in.  A superuser grants the rest.
---------------------------------------------------------------------------------------------------

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA sequin FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA sequin FROM PUBLIC;
GRANT USAGE ON SCHEMA sequin TO PUBLIC;
-- What the views call runs as their reader: these check SELECT on the view themselves, or tell nothing.
GRANT EXECUTE ON FUNCTION sequin._rate_limit_usage(), sequin._proxy_stats(), sequin._root_url(text) TO PUBLIC;
-- The WHEN of the mirror tables' triggers runs as whoever writes to them.
GRANT EXECUTE ON FUNCTION sequin._in_worker() TO PUBLIC;
