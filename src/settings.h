/*
 * settings.h - the GUCs (sequin_proxy.*), defined in sequin_proxy.c.  Times in ms, sizes in bytes
 * unless said otherwise.  Read-only for everybody else.
 */
#ifndef SEQUIN_SETTINGS_H
#define SEQUIN_SETTINGS_H

#include <stdbool.h>

extern char *setting_database;			/* postmaster */
extern int	setting_workers;			/* postmaster */
extern char *setting_listen_addresses;
extern int	setting_port;
extern char *setting_public_url;		/* "" : derived */
extern int	setting_queue_timeout;
extern int	setting_connect_timeout;
extern int	setting_upstream_timeout;
extern int	setting_commit_timeout;
extern int	setting_max_connections;	/* per worker */
extern int	setting_max_request_body;	/* kB */
extern int	setting_max_response_body;	/* kB */
extern char *setting_tls_cert_file;
extern char *setting_tls_key_file;
extern char *setting_upstream_ca_file;
extern bool setting_journal;
extern int	setting_journal_retention;	/* minutes */
extern int	setting_journal_max_rows;
extern int	setting_drain_timeout;
extern bool setting_metrics_public;

extern void settings_define(void);

#endif
