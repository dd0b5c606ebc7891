/*
 * fault_point.c - see fault_point.h.  An empty file but in a build for tests.
 */
#include "fault_point.h"

#ifdef SEQUIN_FAULT_POINTS

#include "postgres.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#define LONGEST_PAUSE_MS 20000

/* Takes the file away and tells what it says; false: there is none, or another process was first. */
static bool
take_action(const char *name, char *action, size_t size)
{
	char		path[128];
	int			fd;
	ssize_t		n;

	snprintf(path, sizeof(path), "sequin_faults/%s", name);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return false;
	n = read(fd, action, size - 1);
	close(fd);
	action[Max(n, 0)] = '\0';
	return unlink(path) == 0;
}

static void
stand_still(const char *name)
{
	char		path[128];

	snprintf(path, sizeof(path), "sequin_faults/%s.hold", name);
	for (int ms = 0; ms < LONGEST_PAUSE_MS && access(path, F_OK) == 0; ms += 5)
		usleep(5000);
}

bool
fault_point(const char *name, bool in_txn)
{
	char		action[16];

	if (!take_action(name, action, sizeof(action)))
		return false;
	if (strcmp(action, "kill") == 0)
		kill(getpid(), SIGKILL);
	else if (strcmp(action, "pause") == 0)
		stand_still(name);
	else if (in_txn)
		ereport(ERROR, (errcode(ERRCODE_DISK_FULL), errmsg("fault point %s", name)));
	else
		return true;
	return false;
}

#endif
