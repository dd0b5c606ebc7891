/*
 * compat.h - PostgreSQL version differences.  The code spells the newest API; older ones are
 * shimmed here, each with the version that changed it.  Only 15 has been built and tested.
 */
#ifndef SEQUIN_COMPAT_H
#define SEQUIN_COMPAT_H

#include "postgres.h"

#if PG_VERSION_NUM < 140000
#error "sequin_proxy needs PostgreSQL 14 or later"
#endif

/* 15: shmem_request_hook; before it the request is made in _PG_init itself. */
#if PG_VERSION_NUM < 150000
#error "PostgreSQL 14 is not yet built here: shmem_request_hook needs its shim"
#endif

/* 16: object_ownercheck replaces pg_database_ownercheck. */
#if PG_VERSION_NUM >= 160000
#include "catalog/pg_database.h"
#define database_ownercheck(oid, role) object_ownercheck(DatabaseRelationId, (oid), (role))
#else
#define database_ownercheck(oid, role) pg_database_ownercheck((oid), (role))
#endif

/* 16: permissions have a list of their own beside the range table; 18: so has what is not pruned. */
#define executor_state_relation(estate, rel) \
	do { \
		RangeTblEntry *rte_ = makeNode(RangeTblEntry); \
		rte_->rtekind = RTE_RELATION; \
		rte_->relid = RelationGetRelid(rel); \
		rte_->relkind = (rel)->rd_rel->relkind; \
		rte_->rellockmode = AccessShareLock; \
		executor_range_table((estate), rte_); \
	} while (0)
#if PG_VERSION_NUM >= 160000
#include "parser/parse_relation.h"
#define executor_range_table(estate, rte) \
	do { \
		List	   *perms_ = NIL; \
		addRTEPermissionInfo(&perms_, (rte)); \
		executor_range_table_of((estate), list_make1(rte), perms_); \
	} while (0)
#else
#define executor_range_table(estate, rte) ExecInitRangeTable((estate), list_make1(rte))
#endif
#if PG_VERSION_NUM >= 180000
#define executor_range_table_of(estate, list, perms) ExecInitRangeTable((estate), (list), (perms), bms_make_singleton(1))
#else
#define executor_range_table_of(estate, list, perms) ExecInitRangeTable((estate), (list), (perms))
#endif

/* 18: index_beginscan takes a place for statistics. */
#if PG_VERSION_NUM >= 180000
#define index_scan_begin(rel, index, snapshot) index_beginscan((rel), (index), (snapshot), NULL, 1, 0)
#else
#define index_scan_begin(rel, index, snapshot) index_beginscan((rel), (index), (snapshot), 1, 0)
#endif

/* 17: getIdentitySequence takes the relation. */
#if PG_VERSION_NUM >= 170000
#define identity_sequence(rel, column) getIdentitySequence((rel), (column), false)
#else
#define identity_sequence(rel, column) getIdentitySequence(RelationGetRelid(rel), (column), false)
#endif

/* 17: CreateWaitEventSet takes a ResourceOwner (NULL: session life) in place of a memory context. */
#if PG_VERSION_NUM >= 170000
#define wait_event_set_create(n) CreateWaitEventSet(NULL, (n))
#else
#define wait_event_set_create(n) CreateWaitEventSet(TopMemoryContext, (n))
#endif

/* 18: WaitEventSet has a header of its own. */
#if PG_VERSION_NUM >= 180000
#include "storage/waiteventset.h"
#endif

#endif
