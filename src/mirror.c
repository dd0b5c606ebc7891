/*
 * mirror.c - Changes -> SQL: which change goes where, in which order, as whom (mirror.h).
 *
 * Called inside a transaction (txn.h), with SPI connected.  First every change is resolved to its
 * table, as it is now; an item whose table or column is missing is left out whole.  Then the ops
 * of all items are sorted, so that two workers can't deadlock, fenced against deletes by others,
 * and written, each table's as the role that owns the sync.  Never does I/O, and never decides
 * what the API meant: that is the provider's.
 */
#include "mirror_internal.h"

#include "commands/trigger.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "shared.h"

/*
 * Fences: an upsert shares its stripe, a delete has it alone, until commit.  So either a writer
 * sees the tombstone of a delete, or the delete sees the writer's row.
 */
#define FENCE_STRIPES 32
#define FENCE_CLASS 0x5351		/* the fourth field of the advisory lock's tag; PostgreSQL's own use 1 and 2 */

typedef struct Ops
{
	MirrorOp   *items;
	int			count;
	int			cap;
} Ops;

typedef struct FenceLock
{
	Oid			relid;
	uint16		stripe;
	bool		exclusive;
} FenceLock;

typedef struct Fences
{
	FenceLock  *items;
	int			count;
	int			cap;
} Fences;

/* ---- the owner's role ---- */

MirrorRole
mirror_role_enter(Oid owner)
{
	MirrorRole	before;

	if (!OidIsValid(owner))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("the role that owns this sync does not exist any more")));
	GetUserIdAndSecContext(&before.user, &before.context);
	SetUserIdAndSecContext(owner, before.context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	return before;
}

void
mirror_role_leave(MirrorRole before)
{
	SetUserIdAndSecContext(before.user, before.context);
}

/* A deferred trigger would run at commit, when we are the worker again. */
static void
make_constraints_immediate(void)
{
	ConstraintsSetStmt *stmt = makeNode(ConstraintsSetStmt);

	stmt->constraints = NIL;
	stmt->deferred = false;
	AfterTriggerSetState(stmt);
}

/* ---- results ---- */

static void
out_of_memory(void)
{
	ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
}

static bool
same_target(const Change *a, const Change *b)
{
	return str_eq(a->collection, b->collection) && str_eq(a->id, b->id) && str_eq(a->to_collection, b->to_collection) &&
		str_eq(a->to_id, b->to_id);
}

static void
ask_again(MirrorItem *item, Str collection, const Change *change, bool base_wide)
{
	Change		target = *change;
	Change	   *reread;

	target.collection = collection;
	for (int i = 0; i < item->rereads.count; i++)
		if (same_target(&item->rereads.items[i], &target))
			return;
	reread = change_add(&item->rereads, item->arena, CHANGE_REREAD, collection, change->id);
	if (reread == NULL)
		out_of_memory();
	reread->to_collection = change->to_collection;
	reread->to_id = change->to_id;
	reread->base_wide = base_wide || collection.p == NULL;
	reread->with_links = change->with_links;
	item->verdict = MIRROR_REREAD;
}

void
mirror_reread(const MirrorOp *op)
{
	const Change *change = op->change;

	ask_again(op->item, change->to_collection.p ? change->collection : str_of(op->table->c->collection), change, false);
}

static bool is_records(const SchemaCollection *c);

static void
reread_stranger(const MirrorOp *op, const char *collection, Str id)
{
	CatalogSync *sync = op->item->sync;
	SchemaCollection *c = schema_find(&sync->schema, str_of(collection));
	MirrorTable *table = c != NULL && is_records(c) ? mirror_table_open(sync, c) : NULL;
	Change		record = {.id = id,.with_links = true};

	if (table != NULL && !mirror_row_exists(table, id))
		ask_again(op->item, str_of(c->collection), &record, false);
}

void
mirror_reread_strangers(const MirrorOp *op)
{
	reread_stranger(op, op->table->c->from, op->id);
	reread_stranger(op, op->table->c->to, op->to_id);
}

/* ---- changes -> ops ---- */

static MirrorOp *
op_add(Ops *ops, MirrorItem *item, Change *change, MirrorTable *table)
{
	MirrorOp   *op;

	if (ops->count == ops->cap)
	{
		ops->cap = ops->cap ? ops->cap * 2 : 16;
		ops->items = ops->items ? repalloc(ops->items, sizeof(MirrorOp) * ops->cap) : palloc(sizeof(MirrorOp) * ops->cap);
	}
	op = &ops->items[ops->count];
	memset(op, 0, sizeof(*op));
	op->item = item;
	op->change = change;
	op->table = table;
	op->id = op->key = change->id;
	op->seq = ops->count++;
	item->touched = true;
	return op;
}

/* False: it is not there (any more), and the item has to wait for a refresh. */
static bool
open_table(MirrorItem *item, SchemaCollection *c, MirrorTable **table)
{
	*table = mirror_table_open(item->sync, c);
	if (*table != NULL)
		return true;
	item->verdict = MIRROR_REFRESH;
	item->refresh = c->collection;
	return false;
}

static bool
is_records(const SchemaCollection *c)
{
	return c->kind == COLLECTION_RECORDS && c->enabled;
}

static bool
row_exists(MirrorItem *item, MirrorTable *table, Str id)
{
	MirrorRole	before = mirror_role_enter(item->sync->owner);
	bool		found = mirror_row_exists(table, id);

	mirror_role_leave(before);
	return found;
}

/* The table other than `but` that has the record; NULL: none. */
static MirrorTable *
find_elsewhere(MirrorItem *item, const SchemaCollection *but, Str id)
{
	Schema	   *schema = &item->sync->schema;

	for (int i = 0; i < schema->ncollections; i++)
	{
		SchemaCollection *c = &schema->collections[i];
		MirrorTable *table = c != but && is_records(c) ? mirror_table_open(item->sync, c) : NULL;

		if (table != NULL && row_exists(item, table, id))
			return table;
	}
	return NULL;
}

static bool
has_unknown_field(const Change *change)
{
	for (int i = 0; i < change->nfields; i++)
		if (!change->fields[i].known)
			return true;
	return false;
}

/* Whether a record of table `c` looks, by its fields' names, as one of `other` might. */
static bool
fits(const Change *change, SchemaCollection *c, SchemaCollection *other)
{
	for (int i = 0; i < change->nfields; i++)
	{
		SchemaField *field = schema_field(c, change->fields[i].field);

		if (field == NULL || schema_field_name(other, str_of(field->name)) == NULL)
			return false;
	}
	return true;
}

/* A record that none of our tables has: could it belong to another than the path's? */
static bool
is_doubtful(MirrorItem *item, SchemaCollection *c, const Change *change)
{
	Schema	   *schema = &item->sync->schema;

	if (c == NULL || has_unknown_field(change) || item->sync->view.tables != NULL)
		return true;			/* tables that the user did not choose are unknown to us */
	for (int i = 0; i < schema->ncollections; i++)
		if (&schema->collections[i] != c && schema->collections[i].kind == COLLECTION_RECORDS &&
			fits(change, c, &schema->collections[i]))
			return true;
	return false;
}

/* A record that is in none of our tables may be in a page that is on its way: leave tombstones. */
static bool
delete_anywhere(Ops *ops, MirrorItem *item, Change *change)
{
	Schema	   *schema = &item->sync->schema;

	for (int i = 0; i < schema->ncollections; i++)
	{
		MirrorTable *table = is_records(&schema->collections[i]) ? mirror_table_open(item->sync, &schema->collections[i]) : NULL;

		if (table != NULL)
			op_add(ops, item, change, table);
	}
	return true;
}

/* The path named a table, but the API goes by the record's id alone. */
static bool
add_base_wide(Ops *ops, MirrorItem *item, Change *change, SchemaCollection *c)
{
	MirrorTable *table = NULL;
	MirrorTable *elsewhere;

	if (change->op == CHANGE_DELETE)
		return delete_anywhere(ops, item, change);
	if (c != NULL && is_records(c) && !open_table(item, c, &table))
		return false;
	if (table != NULL && row_exists(item, table, change->id))
	{
		op_add(ops, item, change, table);
		return true;
	}
	elsewhere = find_elsewhere(item, c, change->id);
	if (elsewhere == NULL && !is_doubtful(item, c, change))
	{
		if (table != NULL)
			op_add(ops, item, change, table);
		return true;
	}
	item->touched = true;
	ask_again(item, elsewhere ? str_of(elsewhere->c->collection) : change->collection, change, elsewhere == NULL);
	return true;
}

static bool
add_record(Ops *ops, MirrorItem *item, Change *change)
{
	SchemaCollection *c = change->collection.p ? schema_find(&item->sync->schema, change->collection) : NULL;
	MirrorTable *table;

	if (change->base_wide || change->collection.p == NULL)
		return add_base_wide(ops, item, change, c);
	if (c == NULL || !is_records(c))
		return true;
	if (!open_table(item, c, &table))
		return false;
	op_add(ops, item, change, table);
	return true;
}

static bool
add_link(Ops *ops, MirrorItem *item, Change *change)
{
	SchemaCollection *c = schema_find_links(&item->sync->schema, change->collection, change->to_collection);
	MirrorTable *table;
	MirrorOp   *op;

	if (c == NULL || !c->enabled)
		return true;
	if (!open_table(item, c, &table))
		return false;
	op = op_add(ops, item, change, table);
	op->reversed = !str_is(change->collection, c->from);
	op->to_id = change->to_id;
	if (change->to_id.p == NULL)
		return true;
	if (op->reversed)
	{
		op->id = change->to_id;
		op->to_id = change->id;
	}
	op->key = mirror_pair_id(table, item->arena, op->id, op->to_id);
	return true;
}

static bool
add_change(Ops *ops, MirrorItem *item, Change *change)
{
	switch (change->op)
	{
		case CHANGE_UPSERT:
		case CHANGE_PATCH:
		case CHANGE_DELETE:
			return add_record(ops, item, change);
		case CHANGE_LINK:
		case CHANGE_UNLINK:
			return add_link(ops, item, change);
		case CHANGE_REREAD:
		case CHANGE_REFRESH_SCHEMA:
			break;				/* the exchange's business */
	}
	return true;
}

static void
add_item(Ops *ops, MirrorItem *item)
{
	int			before = ops->count;

	item->verdict = MIRROR_APPLIED;
	item->touched = false;
	item->rereads = (ChangeList) {0};
	item->refresh = NULL;
	item->nwritten = 0;
	item->written = arena_zalloc(item->arena, item->nchanges > 0 ? item->nchanges : 1);
	if (item->written == NULL)
		out_of_memory();
	for (int i = 0; i < item->nchanges; i++)
		if (!add_change(ops, item, &item->changes[i]))
		{
			/* Nothing of it: what could be written is written after the refresh, in order. */
			ops->count = before;
			item->touched = false;
			item->rereads = (ChangeList) {0};
			return;
		}
}

/* ---- fences ---- */

static uint16
stripe_of(Str id)
{
	return id.n > 0 ? hash_bytes((const unsigned char *) id.p, (int) id.n) % FENCE_STRIPES : 0;
}

static int
compare_locks(const void *a, const void *b)
{
	const FenceLock *x = a;
	const FenceLock *y = b;

	if (x->relid != y->relid)
		return x->relid < y->relid ? -1 : 1;
	if (x->stripe != y->stripe)
		return x->stripe < y->stripe ? -1 : 1;
	return y->exclusive - x->exclusive;		/* the stronger first: the weaker then costs nothing */
}

static void
take_fence(const FenceLock *lock)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, lock->relid, lock->stripe, FENCE_CLASS);
	LockAcquire(&tag, lock->exclusive ? ExclusiveLock : ShareLock, false, false);
}

static void
fence_add(Fences *f, Oid relid, Str id, bool exclusive)
{
	if (f->count == f->cap)
	{
		f->cap *= 2;
		f->items = repalloc(f->items, sizeof(FenceLock) * f->cap);
	}
	f->items[f->count++] = (FenceLock) {relid, stripe_of(id), exclusive};
}

/* A link needs its ends to stay: a delete of one would not see the link's row, nor we its tombstone. */
static void
fence_end(Fences *f, const MirrorOp *op, const char *collection, Str id)
{
	SchemaCollection *c = schema_find(&op->item->sync->schema, str_of(collection));
	MirrorTable *table = c != NULL && is_records(c) ? mirror_table_open(op->item->sync, c) : NULL;

	if (table != NULL && id.p != NULL)
		fence_add(f, table->relid, id, false);
}

static void
fence_op(Fences *f, const MirrorOp *op)
{
	const SchemaCollection *c = op->table->c;
	bool		removes = op->change->op == CHANGE_DELETE || op->change->op == CHANGE_UNLINK;

	if (op->change->match_field.p != NULL)
	{
		/* Which records these are shows only when they are gone: all stripes. */
		for (uint16 s = 0; s < FENCE_STRIPES; s++)
		{
			fence_add(f, op->table->relid, op->key, true);
			f->items[f->count - 1].stripe = s;
		}
		return;
	}
	fence_add(f, op->table->relid, op->key, removes);
	if (c->kind == COLLECTION_LINKS && !removes)
	{
		fence_end(f, op, c->from, op->id);
		fence_end(f, op, c->to, op->to_id);
	}
}

static void
take_fences(const Ops *ops)
{
	Fences		f = {.cap = ops->count * 3 + 1};

	f.items = palloc(sizeof(FenceLock) * f.cap);
	for (int i = 0; i < ops->count; i++)
		fence_op(&f, &ops->items[i]);
	qsort(f.items, f.count, sizeof(FenceLock), compare_locks);
	for (int i = 0; i < f.count; i++)
		if (i == 0 || f.items[i].relid != f.items[i - 1].relid || f.items[i].stripe != f.items[i - 1].stripe)
			take_fence(&f.items[i]);
	pfree(f.items);
}

/* ---- writing ---- */

/* Records before links, so that a link's ends are there; then by table and key, the same in every worker. */
static int
compare_ops(const void *a, const void *b)
{
	const MirrorOp *x = a;
	const MirrorOp *y = b;
	int			order;

	if (x->table->c->kind != y->table->c->kind)
		return x->table->c->kind == COLLECTION_RECORDS ? -1 : 1;
	if (x->table->relid != y->table->relid)
		return x->table->relid < y->table->relid ? -1 : 1;
	/* What takes away all links but some comes first, in pieces that name one side. */
	if ((x->to_id.p == NULL) != (y->to_id.p == NULL))
		return x->to_id.p == NULL ? -1 : 1;
	if (x->to_id.p == NULL && x->reversed != y->reversed)
		return x->reversed - y->reversed;
	order = str_cmp(x->key, y->key);
	return order != 0 ? order : x->seq - y->seq;
}

/* As many of the ops as can be written together; returns how many. */
static int
write_some(Apply *apply, MirrorOp *ops, int nops)
{
	bool		records = ops->table->c->kind == COLLECTION_RECORDS;
	bool		removes = ops->change->op == CHANGE_DELETE || ops->change->op == CHANGE_UNLINK;

	CHECK_FOR_INTERRUPTS();
	if (!removes)
		return records ? mirror_rows_write(apply, ops, nops) : mirror_links_write(apply, ops, nops);
	if (!records && ops->to_id.p == NULL)
		return mirror_links_remove_rest(apply, ops, nops);
	if (records)
		mirror_row_delete(apply, ops);
	else
		mirror_link_delete(apply, ops);
	return 1;
}

/* Ops of one table of one snapshot. */
static void
write_run(Apply *apply, MirrorOp *ops, int nops)
{
	MemoryContext old = CurrentMemoryContext;
	MirrorRole	before;

	mirror_notes_read(apply, ops, nops);
	before = mirror_role_enter(ops->table->sync->owner);
	make_constraints_immediate();
	MemoryContextSwitchTo(apply->run_cx);
	for (int i = 0; i < nops;)
	{
		if (i > 0)
			ops[i].again = ops[i - 1].written && ops[i - 1].item == ops[i].item && str_eq(ops[i - 1].key, ops[i].key);
		i += write_some(apply, &ops[i], nops - i);
		MemoryContextReset(apply->run_cx);
	}
	mirror_links_drop(apply, ops->table->sync, str_of(ops->table->c->collection));
	MemoryContextSwitchTo(old);
	mirror_role_leave(before);
}

/* Several ops can be of one change: an id that may be in any table. */
static void
count_written(const Ops *ops)
{
	for (int i = 0; i < ops->count; i++)
	{
		MirrorItem *item = ops->items[i].item;
		uint8_t    *written = &item->written[ops->items[i].change - item->changes];

		if (ops->items[i].changed && !*written)
		{
			*written = 1;
			item->nwritten++;
		}
	}
}

void
mirror_apply(MirrorItem **items, int nitems)
{
	Apply		apply = {.stamp = shared_now(),.cx = CurrentMemoryContext};
	Ops			ops = {0};

	mirror_tables_begin();
	apply.run_cx = AllocSetContextCreate(CurrentMemoryContext, "sequin rows", ALLOCSET_DEFAULT_SIZES);
	apply.row_cx = AllocSetContextCreate(CurrentMemoryContext, "sequin row", ALLOCSET_DEFAULT_SIZES);
	for (int i = 0; i < nitems; i++)
		add_item(&ops, items[i]);
	if (ops.count > 0)
	{
		qsort(ops.items, ops.count, sizeof(MirrorOp), compare_ops);
		take_fences(&ops);
	}
	for (int i = 0, n; i < ops.count; i += n)
	{
		for (n = 1; i + n < ops.count && ops.items[i + n].table == ops.items[i].table;)
			n++;
		write_run(&apply, &ops.items[i], n);
	}
	count_written(&ops);
	mirror_notes_write(&apply);
	MemoryContextDelete(apply.run_cx);
	MemoryContextDelete(apply.row_cx);
}

void
mirror_forget(Catalog *catalog)
{
	for (int i = 0; i < catalog->nsyncs; i++)
		for (int j = 0; j < catalog->syncs[i].schema.ncollections; j++)
			if (catalog->syncs[i].schema.collections[j].mirror != NULL)
				mirror_table_close(catalog->syncs[i].schema.collections[j].mirror);
}
