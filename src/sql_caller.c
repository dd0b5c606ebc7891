/*
 * sql_caller.c - how sequin.* functions work for a role that has nothing but EXECUTE on them.
 *
 * Every public function, and every trigger on a sequin table, is sequin_as_extension: it notes the
 * caller, becomes the bootstrap superuser and calls the function of the same name with '_' before
 * it and the same argument types, which nobody else may call.  Rights are then judged for the noted
 * caller (sequin._caller()).  SECURITY DEFINER would lose who called; SECURITY INVOKER functions
 * would need grants on the tables, the credentials' among them.
 *
 * sequin._run_as does DDL on mirror tables with their owner's rights, no more.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_proc.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "sql_function.h"

SQL_FUNCTION(sequin_as_extension);
SQL_FUNCTION(sequin_caller);
SQL_FUNCTION(sequin_caller_is_superuser);
SQL_FUNCTION(sequin_run_as);

static Oid	noted_caller = InvalidOid;

/*
 * While one of our functions runs as the bootstrap superuser (its own SQL fires our triggers), the
 * caller is still the one who called the outermost.
 */
Oid
sql_caller(void)
{
	if (OidIsValid(noted_caller) && GetUserId() == BOOTSTRAP_SUPERUSERID)
		return noted_caller;
	return GetUserId();
}

static Oid
find_inner(Oid outer)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(outer));
	Form_pg_proc proc;
	List	   *name;
	Oid			inner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", outer);
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	name = list_make2(makeString(get_namespace_name(proc->pronamespace)),
					  makeString(psprintf("_%s", NameStr(proc->proname))));
	inner = LookupFuncName(name, proc->pronargs, proc->proargtypes.values, false);
	ReleaseSysCache(tuple);
	return inner;
}

static FmgrInfo *
inner_function(FmgrInfo *outer)
{
	FmgrInfo   *inner = outer->fn_extra;

	if (inner == NULL)
	{
		inner = MemoryContextAllocZero(outer->fn_mcxt, sizeof(FmgrInfo));
		fmgr_info_cxt(find_inner(outer->fn_oid), inner, outer->fn_mcxt);
		outer->fn_extra = inner;
	}
	return inner;
}

static Datum
call_inner(FunctionCallInfo fcinfo)
{
	LOCAL_FCINFO(inner, FUNC_MAX_ARGS);
	Datum		result;

	memcpy(inner, fcinfo, SizeForFunctionCallInfo(fcinfo->nargs));
	inner->flinfo = inner_function(fcinfo->flinfo);
	inner->isnull = false;
	result = FunctionCallInvoke(inner);
	fcinfo->isnull = inner->isnull;
	return result;
}

/* Ends our part of an error's context; what comes after it is the caller's. */
#define CONTEXT_MARK "sequin_proxy"

/* The statement may hold a credential: an error must not carry it into the server's log. */
static void
error_context(void *arg)
{
	errhidestmt(true);
	errcontext_msg(CONTEXT_MARK);
}

/*
 * Throws the error on without the lines of our own plpgsql, which say nothing to whoever called
 * us; an internal error keeps them.
 */
static void pg_attribute_noreturn()
rethrow(MemoryContext cx)
{
	ErrorData  *error;
	char	   *mark;

	MemoryContextSwitchTo(cx);
	error = CopyErrorData();
	FlushErrorState();
	mark = error->context ? strstr(error->context, CONTEXT_MARK) : NULL;
	if (mark != NULL && error->sqlerrcode != ERRCODE_INTERNAL_ERROR)
	{
		mark += strlen(CONTEXT_MARK);
		error->context = *mark == '\n' ? mark + 1 : NULL;
	}
	ReThrowError(error);
}

Datum
sequin_as_extension(PG_FUNCTION_ARGS)
{
	ErrorContextCallback hide = {.previous = error_context_stack, .callback = error_context};
	MemoryContext cx = CurrentMemoryContext;
	Oid			outer_caller = noted_caller;
	Oid			caller = sql_caller();
	Oid			user;
	int			context;
	volatile Datum result = (Datum) 0;

	GetUserIdAndSecContext(&user, &context);
	error_context_stack = &hide;
	PG_TRY();
	{
		noted_caller = caller;
		SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, context | SECURITY_LOCAL_USERID_CHANGE);
		result = call_inner(fcinfo);
	}
	PG_CATCH();
	{
		noted_caller = outer_caller;
		SetUserIdAndSecContext(user, context);
		rethrow(cx);
	}
	PG_END_TRY();
	noted_caller = outer_caller;
	SetUserIdAndSecContext(user, context);
	error_context_stack = hide.previous;
	return result;
}

Datum
sequin_caller(PG_FUNCTION_ARGS)
{
	PG_RETURN_OID(sql_caller());
}

Datum
sequin_caller_is_superuser(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(superuser_arg(sql_caller()));
}

static void
run_command(const char *command)
{
	int			result;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	result = SPI_execute(command, false, 0);
	if (result < 0)
		elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(result));
	if (SPI_finish() != SPI_OK_FINISH)
		elog(ERROR, "SPI_finish failed");
}

/* sequin._run_as(role name, command text): as that role, in a security-restricted context. */
Datum
sequin_run_as(PG_FUNCTION_ARGS)
{
	Oid			role = get_role_oid(NameStr(*PG_GETARG_NAME(0)), false);
	char	   *command = text_to_cstring(PG_GETARG_TEXT_PP(1));
	Oid			outer_caller = noted_caller;
	Oid			user;
	int			context;

	if (!has_privs_of_role(GetUserId(), role))
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				errmsg("permission denied to act as role \"%s\"", GetUserNameFromId(role, false)));
	GetUserIdAndSecContext(&user, &context);
	PG_TRY();
	{
		noted_caller = role;
		SetUserIdAndSecContext(role, context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
		run_command(command);
	}
	PG_FINALLY();
	{
		noted_caller = outer_caller;
		SetUserIdAndSecContext(user, context);
	}
	PG_END_TRY();
	PG_RETURN_VOID();
}
