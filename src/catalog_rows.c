/*
 * catalog_rows.c - the catalog loader's way to read SPI's last result: by row and column, copied.
 *
 * Columns are those of our own select lists, never of a table, so that a table may gain columns.
 * Called by catalog_load.c and its siblings inside a transaction; may ereport.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "catalog_load.h"

uint64
catalog_query(const char *query)
{
	int			result;

	/* a plain snapshot-respecting read: writes nothing, sees what this transaction did before */
	SPI_freetuptable(SPI_tuptable);
	result = SPI_execute(query, true, 0);
	if (result != SPI_OK_SELECT)
		elog(ERROR, "could not read the configuration: %s", SPI_result_code_string(result));
	return SPI_processed;
}

Datum
catalog_datum(uint64 row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, isnull);
}

char *
catalog_text(MemoryContext cx, uint64 row, int column)
{
	bool		isnull;
	Datum		value = catalog_datum(row, column, &isnull);
	struct varlena *detoasted;
	Size		n;
	char	   *copy;

	if (isnull)
		return NULL;
	detoasted = PG_DETOAST_DATUM_PACKED(value);
	n = VARSIZE_ANY_EXHDR(detoasted);
	copy = MemoryContextAlloc(cx, n + 1);
	memcpy(copy, VARDATA_ANY(detoasted), n);
	copy[n] = '\0';
	return copy;
}

int
catalog_compare(uint64 row, int column, const char *text)
{
	bool		isnull;
	Datum		value = catalog_datum(row, column, &isnull);
	struct varlena *detoasted;
	Size		n;
	Size		length = strlen(text);
	int			order;

	if (isnull)
		return -1;
	detoasted = PG_DETOAST_DATUM_PACKED(value);
	n = VARSIZE_ANY_EXHDR(detoasted);
	order = memcmp(VARDATA_ANY(detoasted), text, Min(n, length));
	return order != 0 ? order : n < length ? -1 : n > length;
}

bool
catalog_bool(uint64 row, int column)
{
	bool		isnull;
	Datum		value = catalog_datum(row, column, &isnull);

	return !isnull && DatumGetBool(value);
}

const char **
catalog_texts(MemoryContext cx, uint64 row, int column, int *count)
{
	bool		isnull;
	Datum		value = catalog_datum(row, column, &isnull);
	const char **texts;
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	*count = 0;
	if (isnull)
		return NULL;
	deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, &n);
	texts = MemoryContextAlloc(cx, sizeof(char *) * Max(n, 1));
	for (int i = 0; i < n; i++)
		if (!nulls[i])
			texts[(*count)++] = MemoryContextStrdup(cx, TextDatumGetCString(elements[i]));
	return texts;
}
