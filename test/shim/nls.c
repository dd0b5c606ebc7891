/*
 * nls.c - message catalogues switched off, for tools/check_asan.sh: with AddressSanitizer preloaded, Debian 12's
 * PostgreSQL waits for ever for libintl's lock, which libgpg-error's constructor has left locked.
 */
char *bindtextdomain(const char *domain, const char *dir);
char *bind_textdomain_codeset(const char *domain, const char *codeset);

char *
bindtextdomain(const char *domain, const char *dir)
{
	(void) domain;
	return (char *) dir;
}

char *
bind_textdomain_codeset(const char *domain, const char *codeset)
{
	(void) domain;
	return (char *) codeset;
}
