/*
 * utility_hook.c - what some SQL statements mean to the workers.
 *
 * DROP DATABASE and RENAME of the workers' own database: PostgreSQL waits five seconds for a
 * database's other sessions to go; background workers never would.  So the statement's backend
 * names the database in shared memory and wakes the workers, which drain and exit; the postmaster
 * starts them again some seconds later, when the database is gone (or, if the statement failed,
 * still there).  Only for a role that may drop it: nobody else can make the workers leave.
 *
 * DROP EXTENSION, SCHEMA, OWNED: no trigger tells that the configuration is gone, so these count
 * as a configuration change.  Runs in ordinary backends only; never in a worker.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "compat.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "settings.h"
#include "shared.h"
#include "tcop/utility.h"
#include "utils/acl.h"

#include "utility_hook.h"

static ProcessUtility_hook_type previous_utility;

/* The database that this statement needs empty, or NULL. */
static const char *
database_to_leave(Node *statement)
{
	if (IsA(statement, DropdbStmt))
		return ((DropdbStmt *) statement)->dbname;
	if (IsA(statement, RenameStmt) && ((RenameStmt *) statement)->renameType == OBJECT_DATABASE)
		return ((RenameStmt *) statement)->subname;
	return NULL;
}

/* May this statement take the extension or its tables away? */
static bool
drops_configuration(Node *statement)
{
	if (IsA(statement, DropOwnedStmt))
		return true;
	if (!IsA(statement, DropStmt))
		return false;
	switch (((DropStmt *) statement)->removeType)
	{
		case OBJECT_EXTENSION:
		case OBJECT_SCHEMA:
		case OBJECT_TABLE:
			return true;
		default:
			return false;
	}
}

static void
ask_workers_to_leave(const char *name)
{
	Oid			database;

	if (shared == NULL || strcmp(name, setting_database) != 0)
		return;
	database = get_database_oid(name, true);
	if (!OidIsValid(database) || database == MyDatabaseId ||
		!database_ownercheck(database, GetUserId()))
		return;					/* the statement itself will say why it fails */
	pg_atomic_write_u32(&shared->stop_for_drop, database);
	shared_wake_all();
}

static void
utility(PlannedStmt *pstmt, const char *query, bool read_only_tree, ProcessUtilityContext context,
		ParamListInfo params, QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	const char *volatile name = database_to_leave(pstmt->utilityStmt);

	if (name != NULL)
		ask_workers_to_leave(name);
	PG_TRY();
	{
		if (previous_utility)
			previous_utility(pstmt, query, read_only_tree, context, params, env, dest, qc);
		else
			standard_ProcessUtility(pstmt, query, read_only_tree, context, params, env, dest, qc);
	}
	PG_FINALLY();
	{
		if (name != NULL && shared != NULL)
			pg_atomic_write_u32(&shared->stop_for_drop, InvalidOid);
	}
	PG_END_TRY();
	if (shared != NULL && IsTransactionState() && drops_configuration(pstmt->utilityStmt))
		shared_config_may_have_changed();
}

void
utility_hook_install(void)
{
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = utility;
}
