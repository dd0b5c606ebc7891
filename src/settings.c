/*
 * settings.c - defines the GUCs (settings.h).  Called once, from _PG_init.
 *
 * No secret is ever a GUC: they show in pg_settings.
 */
#include "postgres.h"

#include <limits.h>

#include "utils/guc.h"

#include "settings.h"
#include "shared.h"

char	   *setting_database;
int			setting_workers;
char	   *setting_listen_addresses;
int			setting_port;
char	   *setting_public_url;
int			setting_queue_timeout;
int			setting_connect_timeout;
int			setting_upstream_timeout;
int			setting_commit_timeout;
int			setting_max_connections;
int			setting_max_request_body;
int			setting_max_response_body;
char	   *setting_tls_cert_file;
char	   *setting_tls_key_file;
char	   *setting_upstream_ca_file;
bool		setting_journal;
int			setting_journal_retention;
int			setting_journal_max_rows;
int			setting_drain_timeout;
bool		setting_metrics_public;

#define DAY_MS (24 * 3600 * 1000)
#define DAY_MIN (24 * 60)

static void
define_time(const char *name, const char *text, int *variable, int boot, int min)
{
	DefineCustomIntVariable(name, text, NULL, variable, boot, min, DAY_MS, PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
}

static void
define_size(const char *name, const char *text, int *variable, int boot)
{
	/* At most 1 GB: a body is one string in memory, and one jsonb value at most. */
	DefineCustomIntVariable(name, text, NULL, variable, boot, 1, 1024 * 1024, PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
}

static void
define_string(const char *name, const char *text, char **variable, const char *boot, GucContext context)
{
	DefineCustomStringVariable(name, text, NULL, variable, boot, context, 0, NULL, NULL, NULL);
}

static void
define_listener(void)
{
	define_string("sequin_proxy.listen_addresses", "Addresses the proxy listens on, as listen_addresses.",
				  &setting_listen_addresses, "localhost", PGC_SIGHUP);
	DefineCustomIntVariable("sequin_proxy.port", "TCP port the proxy listens on.", NULL, &setting_port,
							8432, 1, 65535, PGC_SIGHUP, 0, NULL, NULL, NULL);
	define_string("sequin_proxy.public_url", "URL under which callers reach the proxy; empty: http://<listen address>:<port>.",
				  &setting_public_url, "", PGC_SIGHUP);
	DefineCustomIntVariable("sequin_proxy.max_connections", "Client connections per worker.", NULL, &setting_max_connections,
							4000, 1, 1000000, PGC_SIGHUP, 0, NULL, NULL, NULL);
	define_size("sequin_proxy.max_request_body", "Largest request body; over it 413.", &setting_max_request_body, 16 * 1024);
	define_string("sequin_proxy.tls_cert_file", "PEM certificate chain for TLS on the listener; empty: plain HTTP.",
				  &setting_tls_cert_file, "", PGC_SIGHUP);
	define_string("sequin_proxy.tls_key_file", "PEM private key for TLS on the listener.",
				  &setting_tls_key_file, "", PGC_SIGHUP);
	DefineCustomBoolVariable("sequin_proxy.metrics_public", "Serve /metrics to peers other than loopback.", NULL,
							 &setting_metrics_public, false, PGC_SIGHUP, 0, NULL, NULL, NULL);
}

static void
define_upstream(void)
{
	define_time("sequin_proxy.queue_timeout", "Longest wait for a rate-limit slot; over it 504.", &setting_queue_timeout, 30000, 1);
	define_time("sequin_proxy.connect_timeout", "Longest time to connect to the API.", &setting_connect_timeout, 5000, 1);
	define_time("sequin_proxy.upstream_timeout", "Longest time from sending a request to its whole answer; over it 504.",
				&setting_upstream_timeout, 60000, 1);
	define_size("sequin_proxy.max_response_body", "Largest response body; over it 502.", &setting_max_response_body, 64 * 1024);
	define_string("sequin_proxy.upstream_ca_file", "PEM file of the CAs to trust for the API; empty: the system's.",
				  &setting_upstream_ca_file, "", PGC_SIGHUP);
}

void
settings_define(void)
{
	define_string("sequin_proxy.database", "Database that holds the extension.", &setting_database, "postgres", PGC_POSTMASTER);
	DefineCustomIntVariable("sequin_proxy.workers", "Proxy worker processes.", NULL, &setting_workers,
							1, 1, SHARED_MAX_WORKERS, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	define_listener();
	define_upstream();
	define_time("sequin_proxy.commit_timeout", "Longest wait for a lock on a mirror row or table, or for a synchronous standby, before a commit is deferred.",
				&setting_commit_timeout, 2000, 1);
	DefineCustomBoolVariable("sequin_proxy.journal", "Write the intent of each mirrored write to sequin.write_log before it is sent.",
							 NULL, &setting_journal, true, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("sequin_proxy.journal_retention", "How long settled rows of sequin.write_log are kept.", NULL,
							&setting_journal_retention, 30 * DAY_MIN, 0, 3660 * DAY_MIN, PGC_SIGHUP, GUC_UNIT_MIN, NULL, NULL, NULL);
	DefineCustomIntVariable("sequin_proxy.journal_max_rows", "How many settled rows of sequin.write_log are kept at most.", NULL,
							&setting_journal_max_rows, 1000000, 0, INT_MAX, PGC_SIGHUP, 0, NULL, NULL, NULL);
	define_time("sequin_proxy.drain_timeout", "Longest time to finish what is in flight when the cluster stops.",
				&setting_drain_timeout, 3000, 0);
	MarkGUCPrefixReserved("sequin_proxy");
}
