// SRC: src/providers/airtable_paths.c src/providers/airtable_schema.c src/providers/airtable.c src/providers/airtable_decode.c src/providers/airtable_record.c src/providers/airtable_reread.c src/providers/airtable_pages.c src/providers/airtable_feed.c src/target.c src/json.c src/arena.c src/change.c src/schema.c src/provider.c src/names.c src/values.c src/decimal.c src/times.c  LIBS: -lunistring
/*
 * test_airtable_paths.c - which requests are Airtable's and the base's, and what they are.
 */
#include "../../src/providers/airtable.h"
#include "airtable_fixture.h"

const Provider provider_hubspot = {.name = "hubspot"};	/* provider.c wants one */

#define API "api.airtable.com"
#define CONTENT "content.airtable.com"
#define D "/v0/" BASE

static const char *const op_names[] = {
	"pass", "create", "update_one", "update_many", "delete_one", "delete_many", "upload", "other", "meta"
};

/* "read pass tblTasks", "write create tblTasks", "unsupported", "bad_host" */
static const char *
route_text(Arena *arena, const SyncView *view, const char *method, const char *host, const char *path)
{
	Str			raw = exact(path);
	RequestView request = {.method = str_of(method), .host = str_of(host), .path = raw};
	Route		route;

	provider_airtable.route(view, &request, arena, &route);
	release(raw);
	if (route.verdict == ROUTE_BAD_HOST)
		return route.message && route.hint ? "bad_host" : "bad_host without words";
	if (route.verdict == ROUTE_UNSUPPORTED)
		return route.message && route.hint ? "unsupported" : "unsupported without words";
	if (route.verdict != ROUTE_OK || strcmp(route.bucket, "default") != 0 || (route.read && route.mirrored))
		return "wrong";
	return arena_printf(arena, "%s %s%s%s", route.read ? "read" : route.mirrored ? "mirrored" : "write",
						op_names[route.op], route.collection ? " " : "", route.collection ? route.collection : "");
}

static const struct
{
	const char *method,
			   *host,
			   *path,
			   *expected,
			   *what;
}			rows[] = {
	{"GET", API, D "/tblTasks", "read pass tblTasks", "listing a table is a read"},
	{"HEAD", API, D "/tblTasks", "read pass tblTasks", "HEAD is a read"},
	{"OPTIONS", API, D "/tblTasks", "read pass tblTasks", "OPTIONS is a read"},
	{"GET", API, D "/tblTasks/recA1", "read pass tblTasks", "getting a record is a read"},
	{"POST", API, D "/tblTasks/listRecords", "read pass tblTasks", "listRecords is a POST that is a read"},
	{"POST", API, D "/Tasks/listRecords/", "read pass tblTasks", "listRecords with a trailing slash is a read"},
	{"PUT", API, D "/tblTasks/listRecords", "unsupported", "listRecords takes no other write"},
	{"POST", API, D "/tblTasks", "mirrored create tblTasks", "POST to a table creates"},
	{"POST", API, D "/Tasks/", "mirrored create tblTasks", "the table may be a name, with a trailing slash"},
	{"POST", API, D "/Tasks//", "unsupported", "an empty last segment is unsupported"},
	{"POST", API, "/v0//" BASE "/Tasks", "unsupported", "an empty segment in the middle is unsupported"},
	{"GET", API, D "//recA1", "unsupported", "an empty segment in place of a table is unsupported"},
	{"GET", API, D "/Tasks//comments", "unsupported", "an empty segment in place of a record is unsupported"},
	{"POST", API, "//v0/" BASE "/Tasks", "unsupported", "an empty first segment is unsupported"},
	{"POST", API, D "/People%20%2F%20Staff%20100%25", "mirrored create tblPeople", "a name is percent-decoded, %2F and %25 too"},
	{"POST", API, D "/People%20/%20Staff%20100%25", "unsupported", "a bare slash in a table's name is not one name"},
	{"POST", API, D "/tasks", "mirrored create", "names match exactly: another case is an unknown table"},
	{"POST", API, D "/tblNew", "mirrored create tblNew", "an unknown table id is its own identity"},
	{"POST", API, D "/tblOldTasks", "mirrored create tblOldTasks", "a removed table's id is its own identity"},
	{"PATCH", API, D "/Tasks", "mirrored update_many tblTasks", "PATCH of a table is a batch"},
	{"PUT", API, D "/Tasks", "mirrored update_many tblTasks", "PUT of a table is a batch"},
	{"DELETE", API, D "/Tasks", "mirrored delete_many tblTasks", "DELETE of a table is a batch"},
	{"PATCH", API, D "/Tasks/recA1", "mirrored update_one tblTasks", "PATCH of a record"},
	{"PUT", API, D "/Tasks/recA1/", "mirrored update_one tblTasks", "PUT of a record, with a trailing slash"},
	{"DELETE", API, D "/Tasks/recA1", "mirrored delete_one tblTasks", "DELETE of a record"},
	{"PATCH", API, D "/Tasks/%72ecA1", "mirrored update_one tblTasks", "an id is read percent-decoded, as the API does"},
	{"POST", API, D "/Tasks/recA1", "mirrored other tblTasks", "an unknown method on a record is forwarded, not trusted"},
	{"MOVE", API, D "/Tasks", "mirrored other tblTasks", "an unknown method on a table is forwarded, not trusted"},
	{"get", API, D "/Tasks", "mirrored other tblTasks", "a method in lower case is not GET"},
	{"PATCH", API, D "/Tasks/rec'x", "unsupported", "a record id holds no quote"},
	{"POST", API, D "/Tasks/recA1/comments", "write pass tblTasks", "comments are not mirrored"},
	{"GET", API, D "/Tasks/recA1/comments", "read pass tblTasks", "reading comments is a read"},
	{"DELETE", API, D "/Tasks/recA1/comments/com1", "write pass tblTasks", "deleting a comment is not mirrored"},
	{"GET", API, D "/Tasks/recA1/history", "read pass tblTasks", "an unknown read inside the base is forwarded"},
	{"POST", API, D "/Tasks/recA1/history", "unsupported", "an unknown write inside the base is not"},
	{"POST", API, D "/tblTasks/sync/abc", "unsupported", "the sync API's writes could not be followed"},
	{"GET", API, D, "unsupported", "a base without a table is unsupported"},
	{"GET", API, "/v0/appOTHER000000001/Tasks", "unsupported", "another base is unsupported"},
	{"PATCH", API, "/v0/appbase00000000001/Tasks/recA1", "unsupported", "a base id is case-sensitive"},
	{"GET", API, "/v0", "unsupported", "the version alone is unsupported"},
	{"GET", API, "/", "unsupported", "the root is unsupported"},
	{"GET", API, "", "unsupported", "no path is unsupported"},
	{"GET", API, "/v1/" BASE "/Tasks", "unsupported", "another version is unsupported"},
	{"GET", API, "/oauth2/v1/token", "unsupported", "OAuth is not on this host"},
	{"GET", API, D "/a/b/c/d/e/f/g/h/i/j", "unsupported", "a path longer than any of the API's is unsupported"},
	{"GET", API, "/v0/meta/whoami", "read pass", "whoami passes"},
	{"GET", API, "/v0/meta/bases", "read pass", "the list of bases passes"},
	{"POST", API, "/v0/meta/bases", "write pass", "creating another base is not mirrored"},
	{"GET", API, "/v0/meta/bases/" BASE "/tables", "read pass", "reading the schema is a read"},
	{"POST", API, "/v0/meta/bases/" BASE "/tables", "mirrored meta", "creating a table is mirrored"},
	{"PATCH", API, "/v0/meta/bases/" BASE "/tables/tblTasks", "mirrored meta tblTasks", "changing a table is mirrored"},
	{"POST", API, "/v0/meta/bases/" BASE "/tables/tblTasks/fields/", "mirrored meta tblTasks", "creating a field is mirrored"},
	{"PATCH", API, "/v0/meta/bases/" BASE "/tables/tblTasks/fields/fldName", "mirrored meta tblTasks", "changing a field is mirrored"},
	{"DELETE", API, "/v0/meta/bases/" BASE, "mirrored meta", "deleting the base is mirrored"},
	{"POST", API, "/v0/meta/bases/" BASE "/invites", "write pass", "other metadata is not mirrored"},
	{"GET", API, "/v0/meta/bases/appOTHER000000001/tables", "unsupported", "another base's metadata is unsupported"},
	{"GET", API, "/v0/meta/enterpriseAccounts/ent1", "unsupported", "an enterprise's metadata is outside the base"},
	{"GET", API, "/v0/meta", "unsupported", "meta alone is unsupported"},
	{"POST", API, "/v0/bases/" BASE "/webhooks", "write pass", "webhooks are not mirrored"},
	{"GET", API, "/v0/bases/" BASE "/webhooks/ach1/payloads", "read pass", "reading payloads is a read"},
	{"GET", API, "/v0/bases/appOTHER000000001/webhooks", "unsupported", "another base's webhooks are unsupported"},
	{"GET", API, "/v0/bases/" BASE "/other", "unsupported", "nothing but webhooks is there"},
	{"POST", CONTENT, D "/recA1/fldFiles/uploadAttachment", "mirrored upload", "uploadAttachment on the content host"},
	{"POST", CONTENT, D "/recA1/My%20files/uploadAttachment/", "mirrored upload", "uploadAttachment to a field by name"},
	{"GET", CONTENT, D "/recA1/fldFiles/uploadAttachment", "unsupported", "uploadAttachment is a POST"},
	{"POST", CONTENT, D "/Tasks", "unsupported", "records are not on the content host"},
	{"POST", CONTENT, "/v0/appOTHER000000001/recA1/fldFiles/uploadAttachment", "unsupported", "uploading to another base is unsupported"},
	{"POST", CONTENT, D "/tblTasks/fldFiles/uploadAttachment", "unsupported", "uploadAttachment needs a record"},
	{"POST", API, D "/recA1/fldFiles/uploadAttachment", "unsupported", "uploadAttachment on the API host is unsupported"},
	{"GET", "airtable.com", "/v0/" BASE "/Tasks", "bad_host", "airtable.com is the wrong host"},
	{"GET", "api.hubapi.com", "/v0/" BASE "/Tasks", "bad_host", "another API's host is wrong"},
	{"GET", "api.airtable.com.evil.example", "/v0/" BASE "/Tasks", "bad_host", "a host that only begins like ours is wrong"},
	{"GET", "", "", "bad_host", "no host is wrong"},
};

static void
test_rows(Arena *arena)
{
	SyncView	view = base_view();

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		check_text(route_text(arena, &view, rows[i].method, rows[i].host, rows[i].path), rows[i].expected, rows[i].what);
}

static Route
route_of(Arena *arena, const SyncView *view, const char *method, const char *host, const char *path)
{
	RequestView request = {.method = str_of(method), .host = str_of(host), .path = str_of(path)};
	Route		route;

	provider_airtable.route(view, &request, arena, &route);
	return route;
}

static void
test_words(Arena *arena)
{
	SyncView	view = base_view();
	SyncView	no_base = {.name = "x"};
	Route		r;

	r = route_of(arena, &view, "POST", API, D "/recA1/fldFiles/uploadAttachment");
	check(strstr(r.hint, CONTENT) != NULL, "the hint names the host for uploadAttachment");
	r = route_of(arena, &view, "GET", API, "/v0/appOTHER000000001/Tasks");
	check(strstr(r.hint, BASE) != NULL, "the hint names the sync's base");
	r = route_of(arena, &view, "GET", "airtable.com", "/v0/x");
	check(strstr(r.hint, API) != NULL, "the hint names the right host");
	r = route_of(arena, &no_base, "GET", API, D "/Tasks");
	check(r.verdict == ROUTE_UNSUPPORTED && strstr(r.hint, "base_id") != NULL, "a sync without a base says what to set");
	r = route_of(arena, &view, "PATCH", API, D "/People%20%2F%20Staff%20100%25/recA1");
	check(str_is(r.args[AIRTABLE_ARG_TABLE], "People / Staff 100%") && str_is(r.args[AIRTABLE_ARG_RECORD], "recA1"),
		  "the route holds the decoded table and record");
	view.schema = NULL;
	r = route_of(arena, &view, "POST", API, D "/Tasks");
	check(r.verdict == ROUTE_OK && r.mirrored && r.collection == NULL, "before discovery a name is of no known table");
}

int
main(void)
{
	Arena	   *arena = arena_create();

	test_rows(arena);
	test_words(arena);
	arena_destroy(arena);
	return finish();
}
