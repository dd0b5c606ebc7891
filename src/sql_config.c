/*
 * sql_config.c - what the install script and the configuration triggers ask of the module.
 *
 * _check_install refuses a CREATE EXTENSION that could not work; _config_changed moves the
 * generation at commit; the rest are facts that SQL alone cannot know (providers, names, are we a
 * worker).  Reads no table.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/trigger.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "names.h"
#include "provider.h"
#include "providers/hubspot.h"
#include "settings.h"
#include "shared.h"
#include "sql_function.h"

SQL_FUNCTION(sequin_check_install);
SQL_FUNCTION(sequin_config_changed);
SQL_FUNCTION(sequin_in_worker);
SQL_FUNCTION(sequin_is_own_xid);
SQL_FUNCTION(sequin_oauth_error);
SQL_FUNCTION(sequin_providers);
SQL_FUNCTION(sequin_table_name);
SQL_FUNCTION(sequin_want);

void
sql_require_preload(void)
{
	if (shared == NULL)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("sequin_proxy is not loaded at server start"),
				errhint("Add sequin_proxy to shared_preload_libraries in postgresql.conf and restart the server."));
}

Datum
sequin_check_install(PG_FUNCTION_ARGS)
{
	const char *database = get_database_name(MyDatabaseId);

	sql_require_preload();
	if (database == NULL || strcmp(database, setting_database) != 0)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				errmsg("sequin_proxy serves the database \"%s\", not \"%s\"", setting_database, database ? database : ""),
				errhint("Connect to \"%s\", or set sequin_proxy.database = '%s' in postgresql.conf and restart the server.",
						setting_database, database ? database : ""));
	if (GetDatabaseEncoding() != PG_UTF8)
		ereport(ERROR, errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				errmsg("sequin_proxy needs a database in UTF8, this one is in %s", GetDatabaseEncodingName()),
				errhint("The APIs speak UTF-8: create a database with ENCODING 'UTF8' and set sequin_proxy.database to it."));
	/* The workers look for the extension again. */
	shared_config_changed();
	PG_RETURN_VOID();
}

/* A trigger for every configuration table, per statement or per row. */
Datum
sequin_config_changed(PG_FUNCTION_ARGS)
{
	TriggerData *trigger;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED), errmsg("not called as a trigger"));
	trigger = (TriggerData *) fcinfo->context;
	sql_require_preload();
	shared_config_changed();
	/* AFTER triggers: the result is ignored */
	return PointerGetDatum(trigger->tg_trigtuple);
}

/* sequin._want(id, swept): the time after which the poll or sweep has to begin. */
Datum
sequin_want(PG_FUNCTION_ARGS)
{
	sql_require_preload();
	PG_RETURN_TIMESTAMPTZ(shared_want(PG_GETARG_UUID_P(0)->data, PG_GETARG_BOOL(1)));
}

Datum
sequin_in_worker(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(shared != NULL && shared_my_slot >= 0);
}

/* Does this xmin belong to the running transaction or one of its subtransactions? */
Datum
sequin_is_own_xid(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(TransactionIdIsCurrentTransactionId(PG_GETARG_TRANSACTIONID(0)));
}

Datum
sequin_providers(PG_FUNCTION_ARGS)
{
	Datum		names[32];
	int			count = 0;

	for (; provider_all[count] != NULL && count < (int) lengthof(names); count++)
		names[count] = CStringGetTextDatum(provider_all[count]->name);
	PG_RETURN_ARRAYTYPE_P(construct_array(names, count, TEXTOID, -1, false, TYPALIGN_INT));
}

/* sequin._oauth_error(provider, credential): what is wrong with this JSON object; NULL: nothing.  Never shows it. */
Datum
sequin_oauth_error(PG_FUNCTION_ARGS)
{
	const Provider *provider = provider_find(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	text	   *value = PG_GETARG_TEXT_PP(1);
	Arena	   *arena = arena_create();
	OauthCredential credential;
	const char *error = "out of memory";
	bool		ok = false;

	if (provider == NULL || provider->oauth == NULL)
		error = "this provider has no OAuth: set a token";
	else if (arena != NULL)
		ok = oauth_parse(arena, provider->oauth, (Str) {VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value)}, &credential, &error);
	arena_destroy(arena);
	if (ok)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(error));	/* a constant: no part of the value */
}

/* HubSpot's own types have singular tables; everything else is its name in snake case. */
static Str
table_name(Arena *arena, const char *provider, const char *name)
{
	const HubspotType *type = strcmp(provider, "hubspot") == 0 ? hubspot_builtin(str_of(name)) : NULL;

	return type ? str_of(type->singular) : name_snake(arena, str_of(name));
}

/*
 * sequin._table_name(provider, API name): the name that the mirror table would get when nothing
 * collides.  Only for telling early that it is taken; discovery decides.
 */
Datum
sequin_table_name(PG_FUNCTION_ARGS)
{
	char	   *provider = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(1));
	Arena	   *arena = arena_create();
	Str			table = arena ? table_name(arena, provider, name) : STR_NULL;
	char	   *copy = table.p ? pnstrdup(table.p, table.n) : NULL;

	arena_destroy(arena);
	if (copy == NULL)
		ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
	PG_RETURN_TEXT_P(cstring_to_text(copy));
}
