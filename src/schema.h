/*
 * schema.h - what a sync mirrors: collections, fields, link types.  Pure data, no code but look-ups.
 *
 * The same structs serve two makers: a provider's discovery fills in what the API has (mirror
 * names NULL), and the catalog's snapshot fills in what the mirror has (all names set).
 * Immutable once built.  Lives in the arena or memory context of its maker.
 */
#ifndef SEQUIN_SCHEMA_H
#define SEQUIN_SCHEMA_H

#include "arena.h"

/* The PostgreSQL types that mirror columns have; schema_type_name gives the SQL spelling. */
typedef enum MirrorType
{
	MIRROR_TEXT,
	MIRROR_NUMERIC,
	MIRROR_BOOLEAN,
	MIRROR_DATE,
	MIRROR_TIMESTAMPTZ,
	MIRROR_TEXT_ARRAY,
	MIRROR_JSONB,
	MIRROR_INTEGER,
	MIRROR_BIGINT
} MirrorType;

typedef struct SchemaField
{
	const char *field;			/* stable identity: HubSpot property name, Airtable fld... */
	const char *name;			/* the API's present name */
	MirrorType	type;
	/* set by the catalog's snapshot only: */
	const char *column;			/* mirror column */
	bool		enabled;
	bool		removed;		/* the API has it no more; the column stays */
} SchemaField;

typedef enum CollectionKind
{
	COLLECTION_RECORDS,			/* rows keyed by id */
	COLLECTION_LINKS			/* an association table: rows keyed by two ids */
} CollectionKind;

/* One kind of association between two HubSpot types; directional, as the API defines it. */
typedef struct LinkType
{
	long		type_id;
	const char *category;		/* HUBSPOT_DEFINED, USER_DEFINED, INTEGRATOR_DEFINED, WORK */
	const char *from;			/* collection */
	const char *to;				/* collection */
	const char *label;			/* NULL: the unlabelled type */
} LinkType;

typedef struct SchemaCollection
{
	const char *collection;		/* stable identity: "0-1", "2-123", "owners", "tblX"; links: "0-1:0-2" */
	const char *name;			/* the API's present name: "contacts", "Product Inventory"; links: "contacts:companies" */
	const char *table;			/* discovery: the wished table name ("contact"); snapshot: the real one */
	CollectionKind kind;
	SchemaField *fields;		/* records only; in the API's order; standard columns (id...) are not among them */
	int			nfields;
	bool		exact;			/* every change of a record moves its modification time: no computed fields (Airtable) */
	const char **aliases;		/* other names that paths may use for it (HubSpot custom objects) */
	int			naliases;
	/* COLLECTION_LINKS only; from/to in the alphabetical order of their singular names: */
	const char *from;			/* collection whose ids are in from_column */
	const char *to;
	const char *from_column;	/* "company_id"; one type with itself: "from_contact_id" */
	const char *to_column;
	LinkType   *link_types;		/* both directions */
	int			nlink_types;
	/* set by the catalog's snapshot only: */
	bool		enabled;
	bool		removed;
	uint32_t	relid;			/* 0 while the table does not exist */
	void	   *mirror;			/* mirror.c's cached plans; nobody else's business */
} SchemaCollection;

typedef struct Schema
{
	SchemaCollection *collections;
	int			ncollections;
} Schema;

extern const char *schema_type_name(MirrorType type);			/* "timestamp with time zone" ... */
extern bool schema_type_parse(const char *sql, MirrorType *type);	/* accepts those and timestamptz, text[] ... */
extern SchemaCollection *schema_find(const Schema *schema, Str collection);	/* by identity; NULL */
extern SchemaCollection *schema_find_name(const Schema *schema, Str name);	/* by API name, exact; NULL */
extern SchemaCollection *schema_find_links(const Schema *schema, Str a, Str b);	/* either order; NULL */
extern SchemaField *schema_field(const SchemaCollection *c, Str field);		/* by identity; NULL */
extern SchemaField *schema_field_name(const SchemaCollection *c, Str name);	/* by API name; NULL */

#endif
