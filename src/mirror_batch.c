/*
 * mirror_batch.c - rows in memory that one statement reads, and what became of each.
 *
 * Owns the relation "sequin_batch": a tuplestore that this SPI connection knows by name, as
 * triggers know their transition tables, so nobody else can see or call it.  A caller begins a
 * batch, adds a row per op, has it written, and ends it.  One batch at a time; its ops have
 * different keys and are in order.  Called by mirror_rows.c and mirror_links.c as the owner of the
 * sync; knows nothing of what the columns mean but that the first is the op's number.
 */
#include "mirror_internal.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/rls.h"
#include "utils/timestamp.h"

#include "fault_point.h"
#include "txn.h"

#define MEMORY_KB (32 * 1024)	/* beyond that a batch goes to a temporary file */
#define LEAST_INSERT 10			/* rows; fewer are not worth a subtransaction */
#define MOST_NEW 10000			/* rows; more tell no more */

/* What the judge statement says of an op; NULL: there is no such row. */
typedef enum Judgement
{
	SAME_ALREADY = 1,
	NEWER_THERE = 2,
	TO_BE_WRITTEN = 3
} Judgement;

TupleDesc
mirror_batch_desc(const MirrorBatchColumn *columns, int n)
{
	TupleDesc	desc = CreateTemplateTupleDesc(n + 1);

	TupleDescInitEntry(desc, 1, "ord", INT4OID, -1, 0);
	for (int i = 0; i < n; i++)
		TupleDescInitEntry(desc, (AttrNumber) (i + 2), columns[i].name, columns[i].type, columns[i].typmod, 0);
	return desc;
}

static Tuplestorestate *
store_create(void)
{
	return tuplestore_begin_heap(false, false, MEMORY_KB);
}

bool
mirror_batch_fits(const MirrorOp *first, const MirrorOp *last, const MirrorOp *op)
{
	/* A row that this very item wrote has a fence of its own, and is written alone. */
	if (first->again || op->item->page != first->item->page || str_eq(op->key, last->key))
		return false;
	/* A page's rows that were not written are judged together: by one fence. */
	return !op->item->page || op->item == first->item;
}

/* In a memory context that lives as long as the SPI connection. */
void
mirror_batch_begin(MirrorBatch *batch, Apply *apply, MirrorOp *ops, TupleDesc desc)
{
	MemoryContext old = MemoryContextSwitchTo(apply->cx);
	EphemeralNamedRelation enr = &batch->relation;
	int			result;

	*batch = (MirrorBatch) {.apply = apply,.ops = ops,.desc = desc,.page = ops->item->page,.nerrors = apply->nerrors};
	enr->md.name = MIRROR_BATCH;
	enr->md.tupdesc = desc;
	enr->md.enrtype = ENR_NAMED_TUPLESTORE;
	enr->md.enrtuples = 100;
	enr->reldata = store_create();
	result = SPI_register_relation(enr);
	if (result != SPI_OK_REL_REGISTER)
		elog(ERROR, "could not hand rows to a statement: %s", SPI_result_code_string(result));
	MemoryContextSwitchTo(old);
}

void
mirror_batch_end(MirrorBatch *batch)
{
	SPI_unregister_relation(MIRROR_BATCH);
	tuplestore_end(batch->relation.reldata);
}

/* values[0] is set here; whatever they point to is copied. */
void
mirror_batch_add(MirrorBatch *batch, MirrorOp *op, Datum *values, bool *nulls)
{
	TimestampTz fence = op->again ? DT_NOEND : op->item->asked_at;

	if (batch->count == 0)
		batch->fence = fence;
	batch->mixed |= fence != batch->fence;
	batch->fence = Min(fence, batch->fence);
	values[0] = Int32GetDatum((int32) (op - batch->ops));
	nulls[0] = false;
	op->pending = true;
	tuplestore_putvalues(batch->relation.reldata, batch->desc, values, nulls);
	batch->count++;
	batch->nops = (int) (op - batch->ops) + 1;
}

/* Leaves in the store only what is still to be written. */
static void
keep_pending(MirrorBatch *batch)
{
	MemoryContext old = MemoryContextSwitchTo(batch->apply->cx);
	Tuplestorestate *all = batch->relation.reldata;
	Tuplestorestate *rest = store_create();
	TupleTableSlot *slot = MakeSingleTupleTableSlot(batch->desc, &TTSOpsMinimalTuple);
	bool		isnull;

	batch->count = 0;
	tuplestore_rescan(all);
	while (tuplestore_gettupleslot(all, true, false, slot))
		if (batch->ops[DatumGetInt32(slot_getattr(slot, 1, &isnull))].pending)
		{
			tuplestore_puttupleslot(rest, slot);
			batch->count++;
		}
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(all);
	batch->relation.reldata = rest;
	MemoryContextSwitchTo(old);
}

static void
judge_op(MirrorOp *op, int judgement)
{
	if (!op->pending)
		return;
	if (judgement == NEWER_THERE)
		mirror_reread(op);
	if (judgement == NEWER_THERE || judgement == SAME_ALREADY)
		op->pending = false;
}

/* Asks the table about every row of the store: those that are the same, or older, are pending no more.  Returns how many are not there. */
static int
judge(MirrorBatch *batch, SPIPlanPtr plan)
{
	Datum		values[] = {TimestampTzGetDatum(batch->fence)};
	uint64		n = mirror_execute(plan, values, NULL);
	SPITupleTable *rows = SPI_tuptable;
	int			absent = 0;

	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;
		int			ord = DatumGetInt32(SPI_getbinval(rows->vals[i], rows->tupdesc, 1, &isnull));
		int			judgement = DatumGetInt32(SPI_getbinval(rows->vals[i], rows->tupdesc, 2, &isnull));

		judge_op(&batch->ops[ord], isnull ? TO_BE_WRITTEN : judgement);
		absent += isnull;
	}
	SPI_freetuptable(rows);
	return absent;
}

static bool
text_is(HeapTuple tuple, TupleDesc desc, int column, Str expected)
{
	bool		isnull;
	Datum		datum = SPI_getbinval(tuple, desc, column, &isnull);
	text	   *value = isnull ? NULL : DatumGetTextPP(datum);

	return value != NULL && str_eq((Str) {VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value)}, expected);
}

static void
mark_written(MirrorOp *op)
{
	op->pending = false;
	op->written = op->changed = true;
}

/* The statement returns what it wrote in the store's order: the key, in one column or in two. */
static void
take_written(MirrorBatch *batch, uint64 n)
{
	SPITupleTable *rows = SPI_tuptable;
	uint64		next = 0;

	for (int i = 0; i < batch->nops; i++)
	{
		MirrorOp   *op = &batch->ops[i];

		if (!op->pending)
			continue;
		/* all of them: then even where a trigger gave a row another key */
		if (n == batch->count)
			mark_written(op);
		else if (next < n && text_is(rows->vals[next], rows->tupdesc, 1, op->id) &&
				 (rows->tupdesc->natts == 1 || text_is(rows->vals[next], rows->tupdesc, 2, op->to_id)))
		{
			mark_written(op);
			next++;
		}
	}
	SPI_freetuptable(rows);
}

static void
write_pending(MirrorBatch *batch, SPIPlanPtr plan)
{
	Datum		values[] = {TimestampTzGetDatum(batch->apply->stamp), TimestampTzGetDatum(batch->fence)};

	if (batch->count > 0)
		take_written(batch, mirror_execute(plan, values, NULL));
}

static int
count_pending(const MirrorBatch *batch)
{
	int			n = 0;

	for (int i = 0; i < batch->nops; i++)
		n += batch->ops[i].pending;
	return n;
}

/* ---- rows that are likely to be new ---- */

/*
 * ON CONFLICT looks each key up before it inserts, and inserts by way of a lock and a WAL record of its own: a fifth of
 * a backfill's time.  A plain INSERT fails instead where a row is there, and leaves dead rows behind: so it risks no
 * more rows than the pages just before had new ones.  What of the user's would see rows twice when it fails, or needs
 * more of the statement than that it inserts, has the statement that does for all.
 */
static bool
is_likely_new(const MirrorBatch *batch)
{
	const MirrorTable *t = batch->ops->table;

	return batch->page && batch->count >= LEAST_INSERT && batch->count <= t->new_rows && t->plain &&
		check_enable_rls(t->relid, InvalidOid, true) != RLS_ENABLED;
}

static void
count_new(const MirrorBatch *batch, bool all_new)
{
	MirrorTable *t = batch->ops->table;

	t->new_rows = all_new ? Min(t->new_rows + batch->count, MOST_NEW) : 0;
}

typedef struct Insert
{
	MirrorBatch *batch;
	SPIPlanPtr	plan;
} Insert;

static void
insert_run(void *arg)
{
	Insert	   *insert = arg;
	Datum		values[] = {TimestampTzGetDatum(insert->batch->apply->stamp)};
	uint64		n = mirror_execute(insert->plan, values, NULL);

	if (n != insert->batch->count)
		elog(ERROR, "of %d new rows " UINT64_FORMAT " went in", insert->batch->count, n);
	FAULT_IN_TXN("mirror.inserted");
}

/* Another unique index of the user's says the same: the statement that follows tells. */
static bool
is_there_already(int sqlstate)
{
	return sqlstate == ERRCODE_UNIQUE_VIOLATION;
}

/* All or nothing.  False: one is there already, be it since a moment ago. */
static bool
insert_all(MirrorBatch *batch, SPIPlanPtr plan)
{
	Insert		insert = {batch, plan};
	bool		all = txn_try(insert_run, &insert, is_there_already, NULL);

	count_new(batch, all);
	for (int i = 0; all && i < batch->nops; i++)
		if (batch->ops[i].pending)
			mark_written(&batch->ops[i]);
	return all;
}

/* ---- all of it ---- */

/*
 * `write` has the params stamp and fence, and returns keys; `judge` has the fence, and returns
 * numbers and Judgements; `insert` has the stamp.  What is pending afterwards was kept from the table by a trigger or a policy of
 * the user's; or, where the ops' fences differ, may have been by the common one.
 */
void
mirror_batch_write(MirrorBatch *batch, MirrorPlanSource source)
{
	MirrorTable *t = batch->ops->table;

	if (is_likely_new(batch))
	{
		if (insert_all(batch, source(batch, MIRROR_PLAN_INSERT)))
			return;
		t->pages_are_new = false;
	}
	/* A backfill writes all it reads, a sweep next to nothing: what the last page was like tells which to expect. */
	if (batch->page && !t->pages_are_new)
	{
		count_new(batch, judge(batch, source(batch, MIRROR_PLAN_JUDGE)) == batch->count);
		t->pages_are_new = count_pending(batch) == batch->count;
		if (!t->pages_are_new)
			keep_pending(batch);
	}
	write_pending(batch, source(batch, MIRROR_PLAN_WRITE));
	if (count_pending(batch) == 0)
		return;
	t->pages_are_new = false;
	if (!batch->mixed)
		judge(batch, source(batch, MIRROR_PLAN_JUDGE));
}
