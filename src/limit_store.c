/*
 * limit_store.c - saves the rate-limit windows to a file and brings them back (limit_store.h).
 *
 * Owns pg_stat/sequin_proxy.limits.  The file says whether it was written at a clean end, by the
 * last worker that left; while any worker runs, the file on disk says "running".  Times in it are
 * CLOCK_MONOTONIC of the boot that it names; after a reboot they are shifted by the wall clock.
 * It is this machine's and this build's own: a file of another layout or a damaged one counts as
 * a crash about which nothing is known.
 * No spinlock is held during I/O: each record's windows are copied first.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "access/xlog.h"
#include "common/file_perm.h"
#include "miscadmin.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"
#include "utils/timestamp.h"

#include "limit_registry.h"
#include "limiter.h"
#include "limit_store.h"
#include "reactor.h"
#include "shared.h"

#define STORE_FILE "pg_stat/sequin_proxy.limits"
#define STORE_TEMP STORE_FILE ".tmp"
#define STORE_MAGIC 0x53514c32
#define STORE_MAX ((off_t) 256 * 1024 * 1024)
#define STAMP_AGE_US INT64_C(60000000)		/* so old the file may be at a crash */
#define CRASH_FULL_US INT64_C(60000000)	/* windows up to this long start full after a crash */

typedef struct StoreHeader
{
	uint32		magic;
	uint32		layout;			/* sizes of what follows, so that another build's file is not misread */
	uint32		clean;
	TimeLineID	timeline;		/* on which it was written: another one means that this server is another */
	pg_crc32c	crc;			/* of all that follows the header */
	char		boot[40];
	int64_t		mono_us;
	int64_t		wall_us;
	int64_t		stamp;			/* shared_now(): the next life's goes on from there */
	int64_t		nrecords;
} StoreHeader;

typedef struct StoreRecord		/* followed by windows_size bytes of LimitWindows */
{
	LimitKey	key;
	char		sync_name[NAMEDATALEN];
	int64_t		blocked_until_us;
	int64_t		windows_size;
} StoreRecord;

static uint32
layout_mark(void)
{
	return (uint32) (sizeof(StoreRecord) + 1000 * sizeof(RateCell) + 100000 * sizeof(RateWindow) +
					 10000000 * sizeof(LimitWindows));
}

static int64_t
wall_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Which boot CLOCK_MONOTONIC counts from; empty where the kernel does not tell. */
static void
read_boot(char boot[40])
{
	int			fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t		n;

	memset(boot, 0, 40);
	if (fd < 0)
		return;
	n = read(fd, boot, 36);
	if (n < 36)
		memset(boot, 0, 40);
	close(fd);
}

/* ---- writing; control->lock is held ---- */

typedef struct Writer
{
	FILE	   *file;
	pg_crc32c	crc;
	int64_t		nrecords;
	bool		failed;
} Writer;

static void
put(Writer *writer, const void *data, size_t size)
{
	COMP_CRC32C(writer->crc, data, size);
	if (!writer->failed && fwrite(data, 1, size, writer->file) != size)
		writer->failed = true;
}

static void
put_record(Writer *writer, SharedLimit *limit)
{
	LimitWindows *windows = registry_windows(limit);
	StoreRecord head = {0};
	LimitWindows *copy = malloc(windows->size);

	if (copy == NULL)
	{
		writer->failed = true;
		return;
	}
	head.key = limit->key;
	head.windows_size = windows->size;
	SpinLockAcquire(&limit->mutex);
	memcpy(copy, windows, windows->size);
	head.blocked_until_us = limit->queue.blocked_until_us;
	strlcpy(head.sync_name, limit->sync_name, sizeof(head.sync_name));
	SpinLockRelease(&limit->mutex);
	put(writer, &head, sizeof(head));
	put(writer, copy, head.windows_size);
	writer->nrecords++;
	free(copy);
}

static bool
write_all(FILE *file, bool clean)
{
	Writer		writer = {.file = file};
	StoreHeader header = {0};
	SharedLimit *limit;

	INIT_CRC32C(writer.crc);
	if (fwrite(&header, 1, sizeof(header), file) != sizeof(header))
		return false;
	for (limit = registry_first(); limit != NULL; limit = registry_next(limit))
		if (limit->in_use && !registry_is_spent(limit))
			put_record(&writer, limit);
	FIN_CRC32C(writer.crc);
	header.magic = STORE_MAGIC;
	header.layout = layout_mark();
	header.clean = clean;
	header.timeline = GetWALInsertionTimeLine();
	header.crc = writer.crc;
	read_boot(header.boot);
	header.mono_us = clock_us();
	header.wall_us = wall_us();
	header.stamp = shared_now();
	header.nrecords = writer.nrecords;
	return !writer.failed && fseek(file, 0, SEEK_SET) == 0 &&
		fwrite(&header, 1, sizeof(header), file) == sizeof(header) &&
		fflush(file) == 0 && (!enableFsync || fsync(fileno(file)) == 0);
}

static void
store_write(bool clean)
{
	int			fd = open(STORE_TEMP, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, pg_file_create_mode);
	FILE	   *file = fd >= 0 ? fdopen(fd, "w") : NULL;
	bool		ok = file != NULL && write_all(file, clean);
	LimitControl *control = registry_control();

	if (file != NULL)
		ok = fclose(file) == 0 && ok;
	else if (fd >= 0)
		close(fd);
	if (ok && rename(STORE_TEMP, STORE_FILE) == 0)
	{
		control->file_is_clean = clean;
		return;
	}
	ereport(LOG, (errcode_for_file_access(), errmsg("sequin_proxy: could not write file \"%s\": %m", STORE_FILE)));
	(void) unlink(STORE_TEMP);
	/* an old count is better than none, but not one that will be taken for the whole truth */
	if (control->file_is_clean)
		(void) unlink(STORE_FILE);
}

/* ---- reading; control->lock is held exclusively ---- */

typedef struct Reader
{
	char	   *p;
	char	   *end;
	StoreHeader header;
	int64_t		shift_us;		/* from the file's monotonic clock to ours */
	int64_t		now_us;
} Reader;

static bool
get(Reader *reader, void *data, size_t size)
{
	if ((size_t) (reader->end - reader->p) < size)
		return false;
	memcpy(data, reader->p, size);
	reader->p += size;
	return true;
}

/* The whole file, palloc'd; NULL: there is none, or it cannot be read (logged). */
static char *
slurp(size_t *size)
{
	int			fd = open(STORE_FILE, O_RDONLY | O_CLOEXEC);
	struct stat st;
	char	   *data = NULL;

	if (fd < 0)
	{
		if (errno != ENOENT)
			ereport(LOG, (errcode_for_file_access(), errmsg("sequin_proxy: could not read file \"%s\": %m", STORE_FILE)));
		return NULL;
	}
	if (fstat(fd, &st) == 0 && st.st_size <= STORE_MAX)
	{
		*size = st.st_size;
		data = palloc_extended(st.st_size + 1, MCXT_ALLOC_HUGE | MCXT_ALLOC_NO_OOM);
		if (data != NULL && read(fd, data, st.st_size) != st.st_size)
		{
			pfree(data);
			data = NULL;
		}
	}
	close(fd);
	return data;
}

static bool
open_reader(Reader *reader, char *data, size_t size)
{
	pg_crc32c	crc;
	char		boot[40];
	int64_t		elapsed;

	reader->p = data;
	reader->end = data + size;
	if (!get(reader, &reader->header, sizeof(StoreHeader)) || reader->header.magic != STORE_MAGIC ||
		reader->header.layout != layout_mark())
		return false;
	INIT_CRC32C(crc);
	COMP_CRC32C(crc, reader->p, reader->end - reader->p);
	FIN_CRC32C(crc);
	reader->now_us = clock_us();
	read_boot(boot);
	/* another boot: the wall clock says how long ago; one that was set back counts as no time at all */
	elapsed = Max(wall_us() - reader->header.wall_us, 0);
	reader->shift_us = boot[0] != '\0' && memcmp(boot, reader->header.boot, sizeof(boot)) == 0 ? 0
		: reader->now_us - elapsed - reader->header.mono_us;
	return EQ_CRC32C(crc, reader->header.crc);
}

static bool
window_is_sound(const LimitWindows *windows, int i, RateWindow *w)
{
	return windows->offset[i] >= (int32_t) sizeof(LimitWindows) && windows->offset[i] % 8 == 0 &&
		windows->offset[i] <= windows->size - (int32_t) sizeof(RateWindow) &&
		w->limit >= 1 && w->limit <= PG_INT32_MAX && w->capacity == rate_capacity(w->limit) &&
		(size_t) (windows->size - windows->offset[i]) >= rate_window_size(w->limit) &&
		w->used >= 0 && w->kept >= 0 && w->used <= w->capacity - w->kept && w->head >= 0 && w->head < w->capacity;
}

static void
shift_window(RateWindow *w, int64_t by_us)
{
	for (int32_t i = 0; i < w->capacity; i++)
	{
		w->cells[i].first_us += by_us;
		w->cells[i].last_us += by_us;
	}
	if (w->last_us != INT64_MIN)
		w->last_us += by_us;
	if (w->forgotten_us != INT64_MIN)
		w->forgotten_us += by_us;
}

/* Saved windows -> specs, times in our clock, what was in flight counted as sent when it was saved. */
static int
read_windows(Reader *reader, LimitWindows *windows, RateSpec *specs)
{
	if (windows->count < 1 || windows->count > RATE_MAX_WINDOWS)
		return 0;
	for (int i = 0; i < windows->count; i++)
	{
		RateWindow *w = limit_window(windows, i);

		if (!window_is_sound(windows, i, w))
			return 0;
		shift_window(w, reader->shift_us);
		rate_window_stamp(w, Min(reader->header.mono_us + reader->shift_us, reader->now_us), w->reserved, RATE_NOBODY);
		specs[i].limit = w->limit;
		specs[i].period_us = w->period_us;
	}
	return windows->count;
}

/* What the crash may have hidden: the short windows are full now. */
static void
distrust(LimitWindows *windows, int64_t now_us)
{
	for (int i = 0; i < windows->count; i++)
	{
		RateWindow *w = limit_window(windows, i);

		if (w->period_us <= CRASH_FULL_US)
			rate_window_charge(w, now_us, w->limit);
	}
}

static void
restore_record(Reader *reader, const StoreRecord *head, LimitWindows *windows)
{
	RateSpec	specs[RATE_MAX_WINDOWS] = {0};
	int			nspecs = read_windows(reader, windows, specs);
	SharedLimit *limit;
	LimitWindows *to;

	if (nspecs == 0)
		return;
	if (!reader->header.clean || registry_control()->promoted_us != 0)
		distrust(windows, reader->now_us);
	limit = registry_add(&head->key, head->sync_name, specs, nspecs);
	to = registry_windows(limit);
	SpinLockAcquire(&limit->mutex);
	limit_windows_carry(to, windows, &limit->queue, reader->now_us);
	limit->queue.blocked_until_us = head->blocked_until_us == 0 ? 0 : head->blocked_until_us + reader->shift_us;
	limit->forgotten = true;	/* until the catalog names it; else it goes when it is spent */
	SpinLockRelease(&limit->mutex);
}

static void
restore_all(Reader *reader)
{
	for (int64_t i = 0; i < reader->header.nrecords; i++)
	{
		StoreRecord head;
		LimitWindows *windows;

		if (!get(reader, &head, sizeof(head)) || head.windows_size < (int64_t) sizeof(LimitWindows) ||
			head.windows_size > reader->end - reader->p)
			return;
		windows = palloc(head.windows_size);
		(void) get(reader, windows, head.windows_size);
		if (windows->size == head.windows_size)
			restore_record(reader, &head, windows);
		pfree(windows);
	}
}

void
store_distrust_new(SharedLimit *limit)
{
	int64_t		promoted_us = registry_control()->promoted_us;

	if (promoted_us == 0)
		return;
	SpinLockAcquire(&limit->mutex);
	distrust(registry_windows(limit), promoted_us);
	SpinLockRelease(&limit->mutex);
}

bool
limiter_wants_memory(void)
{
	LimitControl *control = registry_control();

	return control != NULL && control->wants_memory;
}

/* What the file of an older copy knows of the same sends is not counted twice. */
static void
remember_one(const LimitMemory *m, int64_t now_us)
{
	LimitKey	key = {0};
	SharedLimit *limit;
	LimitWindows *windows;

	memcpy(key.sync, m->sync, sizeof(key.sync));
	strlcpy(key.bucket, m->bucket, sizeof(key.bucket));
	limit = registry_find(&key);
	if (limit == NULL)
		return;
	windows = registry_windows(limit);
	SpinLockAcquire(&limit->mutex);
	for (int i = 0; i < windows->count; i++)
	{
		RateWindow *w = limit_window(windows, i);
		int64_t		known = rate_window_count(w, now_us);

		if (w->period_us == m->period_us && m->used > known)
			rate_window_charge(w, now_us - m->ago_us, m->used - known);
	}
	SpinLockRelease(&limit->mutex);
}

void
limiter_remember(const LimitMemory *memory, int count)
{
	LimitControl *control = registry_control();

	LWLockAcquire(control->lock, LW_EXCLUSIVE);
	for (int i = 0; i < count && control->wants_memory; i++)
		remember_one(&memory[i], clock_us());
	control->wants_memory = false;
	LWLockRelease(control->lock);
}

/* A timeline ends where a server takes over: what the other one sent since the file was copied is not in it. */
static void
note_promotion(TimeLineID file_timeline)
{
	if (file_timeline != GetWALInsertionTimeLine())
	{
		registry_control()->promoted_us = clock_us();
		registry_control()->wants_memory = true;
		ereport(LOG, (errmsg("sequin_proxy: this server took over from another one: rate limits up to a minute start as if used up")));
	}
}

static void
store_read(void)
{
	Reader		reader;
	size_t		size = 0;
	char	   *data = slurp(&size);
	bool		sound = data != NULL && open_reader(&reader, data, size);

	registry_control()->file_is_clean = true;	/* whatever it is: it must not outlive a failed first write */
	note_promotion(sound ? reader.header.timeline : 1);
	if (data == NULL)
		return;
	if (sound)
	{
		/* Ahead of the wall clock: after a crash the file is up to a save old, so on from what it may have been by then. */
		shared_now_at_least(reader.header.stamp + (reader.header.stamp > GetCurrentTimestamp() ? STAMP_AGE_US : 0));
		restore_all(&reader);
	}
	else
		ereport(LOG, (errmsg("sequin_proxy: file \"%s\" is damaged or of another version; rate limits start empty",
							 STORE_FILE)));
	pfree(data);
}

/* ---- coming and going ---- */

static bool
nobody_runs(const LimitControl *control)
{
	return (control->running.bits[0] | control->running.bits[1]) == 0;
}

void
store_arrive(int place)
{
	LimitControl *control = registry_control();
	bool		first;

	LWLockAcquire(control->lock, LW_EXCLUSIVE);
	if (!control->restored)
		store_read();
	control->restored = true;
	first = nobody_runs(control);
	limit_set_add(&control->running, place);
	if (first)
		store_write(false);		/* from now on a crash is a crash */
	LWLockRelease(control->lock);
}

void
store_leave(int place)
{
	LimitControl *control = registry_control();

	LWLockAcquire(control->lock, LW_EXCLUSIVE);
	limit_set_remove(&control->running, place);
	if (nobody_runs(control))
		store_write(true);
	LWLockRelease(control->lock);
}

void
limiter_save(void)
{
	LimitControl *control = registry_control();

	if (control == NULL)
		return;
	registry_attach();
	LWLockAcquire(control->lock, LW_EXCLUSIVE);
	store_write(nobody_runs(control));
	LWLockRelease(control->lock);
}
