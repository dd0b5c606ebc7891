/*
 * journal_table.h - sequin.write_log as a table: rows in, and changed by their ids.
 *
 * For journal.c only.  Inside a transaction with an active snapshot; every function may ereport.
 */
#ifndef SEQUIN_JOURNAL_TABLE_H
#define SEQUIN_JOURNAL_TABLE_H

#include "journal.h"

typedef struct JournalTable JournalTable;

extern JournalTable *journal_table_open(void);
extern void journal_table_insert(JournalTable *table, JournalEntry *entry);	/* sets its id */
extern void journal_table_update(JournalTable *table, const JournalEntry *entry);	/* a row that is gone is left alone */
extern void journal_table_close(JournalTable *table);

extern const char *journal_state_name(JournalState state);

#endif
