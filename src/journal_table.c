/*
 * journal_table.c - sequin.write_log as a table (journal_table.h).
 *
 * Each durable write costs a row here, and its change when the write is settled; as SQL these two were a fifth of
 * all the CPU time of a write.  So rows go in and are found by their ids without the planner and executor, as
 * logical replication applies its rows: constraints, indexes and triggers are seen to, defaults are ours
 * to fill in.  Columns are found by name.  Called by journal.c; everything lives as long as the
 * caller's memory context, which must not outlive the transaction.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "journal_table.h"

typedef enum Column
{
	COLUMN_ID,
	COLUMN_REQUEST_ID,
	COLUMN_SYNC,
	COLUMN_AT,
	COLUMN_METHOD,
	COLUMN_PATH,
	COLUMN_STATUS,
	COLUMN_STATE,
	COLUMN_TARGETS,
	COLUMN_ERROR,
	COLUMN_KEY_LABEL,
	COLUMN_ATTEMPTS,
	COLUMN_NEXT_ATTEMPT_AT,
	COLUMN_SETTLED_AT,
	COLUMNS
} Column;

static const char *const column_names[COLUMNS] = {
	"id", "request_id", "sync", "at", "method", "path", "status", "state", "targets", "error", "key_label", "attempts",
	"next_attempt_at", "settled_at"
};

struct JournalTable
{
	Relation	rel;
	int			at[COLUMNS];	/* in the slot's arrays */
	Oid			sequence;		/* of the ids */
	EState	   *estate;
	ResultRelInfo *result;
	TupleTableSlot *row;		/* what is written */
	TupleTableSlot *found;		/* what was there */
	Relation	key;			/* the index by id; NULL until a row is looked for */
	IndexScanDesc scan;
	BlockNumber nblocks;		/* while the table is locked it does not shrink; 0: not asked yet */
	const char *targets_text;	/* the last that was made jsonb: a batch's creates have the same */
	Datum		targets;
};

static void
find_columns(JournalTable *table)
{
	TupleDesc	desc = RelationGetDescr(table->rel);

	for (int i = 0; i < COLUMNS; i++)
	{
		table->at[i] = -1;
		for (int j = 0; j < desc->natts && table->at[i] < 0; j++)
			if (!TupleDescAttr(desc, j)->attisdropped && strcmp(NameStr(TupleDescAttr(desc, j)->attname), column_names[i]) == 0)
				table->at[i] = j;
		if (table->at[i] < 0)
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("sequin.write_log has no column \"%s\"", column_names[i])));
	}
}

/* Looked for once: it takes a scan of pg_depend, and the table keeps its sequence. */
static Oid
id_sequence(const JournalTable *table)
{
	static Oid	relid = InvalidOid;
	static Oid	sequence = InvalidOid;

	if (relid != RelationGetRelid(table->rel))
	{
		sequence = identity_sequence(table->rel, (AttrNumber) (table->at[COLUMN_ID] + 1));
		relid = RelationGetRelid(table->rel);
	}
	return sequence;
}

JournalTable *
journal_table_open(void)
{
	JournalTable *table = palloc0(sizeof(*table));
	Oid			relid = get_relname_relid("write_log", get_namespace_oid("sequin", false));

	if (!OidIsValid(relid))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("there is no table sequin.write_log")));
	table->rel = table_open(relid, RowExclusiveLock);
	find_columns(table);
	table->sequence = id_sequence(table);
	table->estate = CreateExecutorState();
	executor_state_relation(table->estate, table->rel);
	table->estate->es_output_cid = GetCurrentCommandId(true);
	table->result = makeNode(ResultRelInfo);
	InitResultRelInfo(table->result, table->rel, 1, NULL, 0);
	table->estate->es_opened_result_relations = lappend(NIL, table->result);	/* for a trigger of the user's */
	ExecOpenIndices(table->result, false);
	table->row = MakeSingleTupleTableSlot(RelationGetDescr(table->rel), &TTSOpsVirtual);
	AfterTriggerBeginQuery();
	return table;
}

void
journal_table_close(JournalTable *table)
{
	AfterTriggerEndQuery(table->estate);
	if (table->scan != NULL)
	{
		index_endscan(table->scan);
		index_close(table->key, AccessShareLock);
	}
	if (table->found != NULL)
		ExecDropSingleTupleTableSlot(table->found);
	ExecDropSingleTupleTableSlot(table->row);
	ExecCloseIndices(table->result);
	ExecResetTupleTable(table->estate->es_tupleTable, false);
	FreeExecutorState(table->estate);
	table_close(table->rel, NoLock);
	CommandCounterIncrement();	/* what follows in this transaction sees the rows */
}

/* ---- values ---- */

static void
put(JournalTable *table, Column column, Datum value, bool null)
{
	table->row->tts_values[table->at[column]] = null ? (Datum) 0 : value;
	table->row->tts_isnull[table->at[column]] = null;
}

static void
put_text(JournalTable *table, Column column, const char *text)
{
	put(table, column, text ? CStringGetTextDatum(text) : (Datum) 0, text == NULL);
}

/* What is told of a write each time: its state, and what follows from it. */
static void
put_state(JournalTable *table, const JournalEntry *entry)
{
	TimestampTz now = GetCurrentTransactionStartTimestamp();
	bool		deferred = entry->state == JOURNAL_DEFERRED;

	put_text(table, COLUMN_STATE, journal_state_name(entry->state));
	put_text(table, COLUMN_ERROR, entry->error);
	put(table, COLUMN_NEXT_ATTEMPT_AT, TimestampTzGetDatum(now), !deferred);
	put(table, COLUMN_SETTLED_AT, TimestampTzGetDatum(now), deferred || entry->state == JOURNAL_INTENT);
}

static void
put_targets(JournalTable *table, const JournalEntry *entry)
{
	if (entry->targets == NULL)
		return;
	if (table->targets_text == NULL || strcmp(table->targets_text, entry->targets) != 0)
	{
		table->targets = DirectFunctionCall1(jsonb_in, CStringGetDatum(entry->targets));
		table->targets_text = entry->targets;
	}
	put(table, COLUMN_TARGETS, table->targets, false);
}

/* ---- rows ---- */

static void
clear_row(JournalTable *table)
{
	int			n = RelationGetDescr(table->rel)->natts;

	ExecClearTuple(table->row);
	memset(table->row->tts_values, 0, sizeof(Datum) * n);
	memset(table->row->tts_isnull, true, sizeof(bool) * n);
}

void
journal_table_insert(JournalTable *table, JournalEntry *entry)
{
	int64		id = nextval_internal(table->sequence, false);

	clear_row(table);
	put(table, COLUMN_ID, Int64GetDatum(id), false);
	put(table, COLUMN_AT, TimestampTzGetDatum(GetCurrentTransactionStartTimestamp()), false);
	put(table, COLUMN_ATTEMPTS, Int32GetDatum(0), false);
	put_text(table, COLUMN_REQUEST_ID, entry->request_id);
	put_text(table, COLUMN_SYNC, entry->sync);
	put_text(table, COLUMN_METHOD, entry->method);
	put_text(table, COLUMN_PATH, entry->path);
	put_text(table, COLUMN_KEY_LABEL, entry->key_label);
	put(table, COLUMN_STATUS, Int32GetDatum(entry->status), entry->status == 0);
	put_targets(table, entry);
	put_state(table, entry);
	ExecStoreVirtualTuple(table->row);
	ExecSimpleRelationInsert(table->result, table->estate, table->row);
	entry->id = id;
	entry->place = table->row->tts_tid;
}

static void
begin_search(JournalTable *table)
{
	Oid			index = RelationGetPrimaryKeyIndex(table->rel);

	if (!OidIsValid(index))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("sequin.write_log has no primary key")));
	table->key = index_open(index, AccessShareLock);
	table->scan = index_scan_begin(table->rel, table->key, GetActiveSnapshot());
}

/*
 * Where it was put it mostly still is, and need not be searched for.  But a place is only a guess: a rewrite of the table
 * may have put another row there, or made the table shorter; a failed transaction leaves none.
 */
static bool
find_at_place(JournalTable *table, const JournalEntry *entry)
{
	ItemPointerData place = entry->place;
	bool		null;

	if (!ItemPointerIsValid(&place))
		return false;
	if (table->nblocks == 0)
		table->nblocks = RelationGetNumberOfBlocks(table->rel);
	return ItemPointerGetBlockNumber(&place) < table->nblocks &&
		table_tuple_fetch_row_version(table->rel, &place, GetActiveSnapshot(), table->found) &&
		DatumGetInt64(slot_getattr(table->found, table->at[COLUMN_ID] + 1, &null)) == entry->id;
}

static bool
find_row(JournalTable *table, const JournalEntry *entry)
{
	ScanKeyData key;

	if (table->found == NULL)
		table->found = table_slot_create(table->rel, NULL);
	if (find_at_place(table, entry))
		return true;
	if (table->scan == NULL)
		begin_search(table);
	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(entry->id));
	index_rescan(table->scan, &key, 1, NULL, 0);
	return index_getnext_slot(table->scan, ForwardScanDirection, table->found);
}

void
journal_table_update(JournalTable *table, const JournalEntry *entry)
{
	EPQState	epq;
	int			n = RelationGetDescr(table->rel)->natts;

	if (!find_row(table, entry))
		return;
	clear_row(table);
	slot_getallattrs(table->found);
	memcpy(table->row->tts_values, table->found->tts_values, sizeof(Datum) * n);
	memcpy(table->row->tts_isnull, table->found->tts_isnull, sizeof(bool) * n);
	put_state(table, entry);
	if (entry->status != 0)
		put(table, COLUMN_STATUS, Int32GetDatum(entry->status), false);
	if (entry->state == JOURNAL_DEFERRED)
		put_targets(table, entry);	/* else they are what the intent said */
	ExecStoreVirtualTuple(table->row);
	EvalPlanQualInit(&epq, table->estate, NULL, NIL, -1);
	ExecSimpleRelationUpdate(table->result, table->estate, &epq, table->found, table->row);
	EvalPlanQualEnd(&epq);
}
