// SRC: src/arena.c src/change.c src/schema.c src/json.c src/target.c src/values.c src/times.c src/decimal.c src/names.c src/provider.c src/providers/hubspot.c src/providers/hubspot_types.c src/providers/hubspot_paths.c src/providers/hubspot_objects.c src/providers/hubspot_batch.c src/providers/hubspot_decode.c src/providers/hubspot_associations.c src/providers/hubspot_labels.c src/providers/hubspot_schema.c src/providers/hubspot_pairs.c src/providers/hubspot_reread.c src/providers/hubspot_relink.c src/providers/hubspot_answers.c src/providers/hubspot_link_lists.c src/providers/hubspot_pages.c src/providers/hubspot_page_records.c src/providers/hubspot_page_links.c src/providers/hubspot_limits.c  LIBS: -lunistring
/*
 * Unit tests of the HubSpot provider: every row of API_FACTS A16 in v3, v4 and dated forms, the
 * routing policy, discovery, re-reads and rate-limit hints.  No I/O: answers are scripted.
 */
#include "../../src/provider.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

const Provider provider_airtable = {.name = "airtable"};

static int	passed;
static int	failed;

static void
check(bool ok, const char *what)
{
	printf("%s - %s\n", ok ? "ok" : "not ok", what);
	ok ? passed++ : failed++;
}

static void
check_text(const char *got, const char *want, const char *what)
{
	bool		ok = strcmp(got, want) == 0;

	check(ok, what);
	if (!ok)
		printf("#   want: %s\n#   got:  %s\n", want, got);
}

static const Provider *const hs = &provider_hubspot;

#define FIELD(n) {.field = n, .name = n, .enabled = true}
#define NFIELDS(a) ((int) (sizeof(a) / sizeof(a[0])))

static SchemaField contact_fields[] = {
	FIELD("email"), FIELD("firstname"), FIELD("lastname"), FIELD("phone"), FIELD("tags"), FIELD("hs_object_id"), FIELD("lastmodifieddate"),
};
static SchemaField company_fields[] = {FIELD("name"), FIELD("domain")};
static const char *car_aliases[] = {"p99_car", "p_car"};
static LinkType cc_types[] = {
	{279, "HUBSPOT_DEFINED", "0-1", "0-2", NULL}, {280, "HUBSPOT_DEFINED", "0-2", "0-1", NULL},
	{1, "HUBSPOT_DEFINED", "0-1", "0-2", "Primary"}, {2, "HUBSPOT_DEFINED", "0-2", "0-1", "Primary"},
	{37, "USER_DEFINED", "0-1", "0-2", "Boss of"}, {38, "USER_DEFINED", "0-2", "0-1", "Led by"},
};
static LinkType cd_types[] = {
	{4, "HUBSPOT_DEFINED", "0-1", "0-3", NULL}, {3, "HUBSPOT_DEFINED", "0-3", "0-1", NULL},
	{60, "USER_DEFINED", "0-1", "0-3", "Fan"}, {61, "USER_DEFINED", "0-3", "0-1", "Fan"},
};
static SchemaCollection collections[] = {
	{.collection = "0-1", .name = "contacts", .table = "contact", .fields = contact_fields, .nfields = NFIELDS(contact_fields), .enabled = true},
	{.collection = "0-2", .name = "companies", .table = "firms", .fields = company_fields, .nfields = NFIELDS(company_fields), .enabled = true},
	{.collection = "0-3", .name = "deals", .table = "deal", .enabled = true},
	{.collection = "0-7", .name = "products", .table = "product", .enabled = false},
	{.collection = "owners", .name = "owners", .table = "owner", .enabled = true},
	{.collection = "2-5", .name = "Car", .table = "car", .aliases = car_aliases, .naliases = 2, .enabled = true},
	{.collection = "0-2:0-1", .name = "companies:contacts", .kind = COLLECTION_LINKS, .from = "0-2", .to = "0-1",
	.link_types = cc_types, .nlink_types = NFIELDS(cc_types), .enabled = true},
	{.collection = "0-1:0-3", .name = "contacts:deals", .kind = COLLECTION_LINKS, .from = "0-1", .to = "0-3",
	.link_types = cd_types, .nlink_types = NFIELDS(cd_types), .enabled = true},
};
static const Schema schema = {collections, NFIELDS(collections)};
static const SyncView view = {.name = "crm", .schema = &schema};
static const SyncView undiscovered = {.name = "crm"};

/* ---- printing ---- */

static void
print_change(Buf *b, const Change *c)
{
	buf_printf(b, "%s%s", b->n ? "; " : "", change_op_name(c->op));
	if (c->collection.p)
		buf_printf(b, " %.*s", STR_FMT(c->collection));
	if (c->id.p)
		buf_printf(b, "/%.*s", STR_FMT(c->id));
	if (c->to_collection.p)
		buf_printf(b, " > %.*s", STR_FMT(c->to_collection));
	if (c->to_id.p)
		buf_printf(b, "/%.*s", STR_FMT(c->to_id));
	if (c->match_field.p)
		buf_printf(b, " where %.*s=%.*s", STR_FMT(c->match_field), STR_FMT(c->match_value));
	for (int i = 0; i < c->nfields; i++)
	{
		const FieldValue *f = &c->fields[i];

		buf_printf(b, " %.*s%s=", STR_FMT(f->field), f->known ? "" : "?");
		if (f->type == JSON_NULL)
			buf_cstr(b, "null");
		else
			buf_str(b, f->text);
	}
	for (int i = 0; i < c->nlabels; i++)
		buf_printf(b, " [%.*s]", STR_FMT(c->labels[i]));
	for (int i = 0; i < c->nkeep_ids; i++)
		buf_printf(b, " keep:%.*s", STR_FMT(c->keep_ids[i]));
	if (c->labels_replace)
		buf_cstr(b, " replace");
	if (c->with_links)
		buf_cstr(b, " with_links");
}

static const char *
print_changes(Arena *arena, const ChangeList *list)
{
	Buf			b;

	buf_init(&b, arena);
	for (int i = 0; i < list->count; i++)
		print_change(&b, &list->items[i]);
	return b.n ? buf_finish(&b).p : "";
}

/* ---- routing ---- */

static Arena *scratch;

static Route
route(const SyncView *v, const char *method, const char *url)
{
	char	   *copy = arena_cstr(scratch, str_of(url));
	char	   *query = strchr(copy, '?');
	RequestView request = {.method = str_of(method), .host = STR_LIT("api.hubapi.com"), .query = STR_NULL, .body = STR_LIT("")};
	Route		r;

	if (query != NULL)
	{
		*query = '\0';
		request.query = str_of(query + 1);
	}
	request.path = str_of(copy);
	hs->route(v, &request, scratch, &r);
	return r;
}

static const char *
decode_with(const SyncView *v, const char *method, const char *url, const char *body, int status, const char *answer, bool encoded)
{
	char	   *copy = arena_cstr(scratch, str_of(url));
	char	   *query = strchr(copy, '?');
	RequestView request = {.method = str_of(method), .host = STR_LIT("api.hubapi.com"), .query = STR_NULL, .body = str_of(body)};
	ResponseView response = {.status = status, .body = str_of(answer), .encoded = encoded};
	ChangeList	changes = {0};
	DecodeResult result;
	Route		r;

	if (query != NULL)
	{
		*query = '\0';
		request.query = str_of(query + 1);
	}
	request.path = str_of(copy);
	hs->route(v, &request, scratch, &r);
	if (r.verdict != ROUTE_OK)
		return "refused";
	if (!r.mirrored)
		return "not mirrored";
	result = hs->decode(v, &r, &request, &response, scratch, &changes);
	if (result == DECODE_NOMEM)
		return "nomem";
	return arena_printf(scratch, "%s%s", result == DECODE_UNREADABLE ? "unreadable: " : "", print_changes(scratch, &changes));
}

static const char *
decode(const char *method, const char *url, const char *body, int status, const char *answer)
{
	return decode_with(&view, method, url, body, status, answer, false);
}

static void
check_read(const char *method, const char *url, bool read, const char *bucket)
{
	Route		r = route(&view, method, url);
	char		what[300];

	snprintf(what, sizeof(what), "%s %s is %s, bucket %s", method, url, read ? "a read" : "not provably a read", bucket);
	check(r.verdict == ROUTE_OK && r.read == read && strcmp(r.bucket, bucket) == 0 && !(read && r.mirrored), what);
}

static void
check_refused(const char *method, const char *url, const char *hint)
{
	Route		r = route(&view, method, url);
	char		what[300];

	snprintf(what, sizeof(what), "%s %s is unsupported, with a hint", method, url);
	check(r.verdict == ROUTE_UNSUPPORTED && r.message && r.hint && strstr(r.hint, hint), what);
}

static void
check_collection(const char *type, const char *want)
{
	char		url[200];
	char		what[200];
	Route		r;

	snprintf(url, sizeof(url), "/crm/v3/objects/%s", type);
	r = route(&view, "POST", url);
	snprintf(what, sizeof(what), "type %s is collection %s", type, want ? want : "(none)");
	check(want ? r.collection && strcmp(r.collection, want) == 0 : r.collection == NULL, what);
}

static void
test_types(void)
{
	check_collection("contacts", "0-1");
	check_collection("contact", "0-1");
	check_collection("CONTACT", "0-1");
	check_collection("0-1", "0-1");
	check_collection("Line_Items", "0-8");
	check_collection("2-5", "2-5");
	check_collection("car", "2-5");
	check_collection("P99_car", "2-5");
	check_collection("p_car", "2-5");
	check_collection("bicycles", NULL);
	check_collection("owners", NULL);
	check_collection("%63ontacts", "0-1");
}

static void
test_routes(void)
{
	RequestView wrong = {.method = STR_LIT("GET"), .host = STR_LIT("api.hubspot.com"), .path = STR_LIT("/crm/v3/objects/contacts")};
	Route		r;

	hs->route(&view, &wrong, scratch, &r);
	check(r.verdict == ROUTE_BAD_HOST && strstr(r.hint, "api.hubapi.com") && strstr(r.message, "api.hubspot.com"),
		  "the wrong host is told, with the right one");
	check_read("GET", "/crm/v3/objects/contacts", true, "default");
	check_read("HEAD", "/crm/objects/2026-03/contacts/1", true, "default");
	check_read("POST", "/crm/v3/objects/contacts/search", true, "search");
	check_read("POST", "/crm/objects/2026-09-beta/0-1/search", true, "search");
	check_read("POST", "/crm/objects/v3/0-421/search", true, "search");
	check_read("POST", "/crm/v3/objects/contacts/batch/read", true, "default");
	check_read("POST", "/crm/v4/associations/contacts/companies/batch/read", true, "default");
	check_read("POST", "/crm/associations/2026-03/contacts/companies/batch/read", true, "default");
	check_read("POST", "/crm/v3/properties/contacts/batch/read", true, "default");
	check_read("POST", "/crm-object-schemas/v3/schemas/batch/read", true, "default");
	check_read("POST", "/crm/v3/lists/search", true, "default");
	check_read("POST", "/crm/v3/lists", false, "default");
	check_read("POST", "/crm/v3/objects/contacts", false, "default");
	check_read("POST", "/crm/v3/objects/contacts/batch/create", false, "default");
	check_read("PUT", "/crm/v3/objects/contacts/search", false, "search");
	check_read("POST", "/oauth/v1/token", false, "default");
	check_read("GET", "/contacts/v1/lists/all/contacts/all", true, "default");
	check_refused("GET", "/", "/crm/v3");
	check_refused("GET", "/nonsense/v1/x", "/crm/v3");
	check_refused("GET", "/crm//v3/objects/contacts", "/crm/v3");
	check_refused("POST", "/contacts/v1/contact", "/crm/v3/objects/contacts");
	check_refused("PUT", "/companies/v2/companies/1", "/crm/v3/objects/companies");
	check_refused("POST", "/deals/v1/deal", "/crm/v3/objects/deals");
	check_refused("POST", "/engagements/v1/engagements", "notes");
	check_refused("POST", "/crm-objects/v1/objects/products", "/crm/v3/objects");
	check_refused("PUT", "/crm-associations/v1/associations", "/crm/v4/associations");
	check_refused("POST", "/properties/v1/contacts/properties", "/crm/v3/properties");
	check_refused("POST", "/crm/v3%2Fobjects/contacts", "batch");
	check_refused("POST", "/crm/v3/objects/contacts;a=b/batch/create", "batch");
	check_refused("POST", "/crm/v3/objects/contacts/batch%2Fcreate", "batch");
	check(route(&view, "PATCH", "/crm/v3/objects/contacts/a%2Fb%40c.d?idProperty=email").verdict == ROUTE_OK,
		  "a unique value may hold a slash");
	check(route(&view, "POST", "/crm/v3/objects/contacts").mirrored, "a create of a mirrored type is mirrored");
	check(!route(&view, "POST", "/crm/v3/objects/tickets").mirrored, "a type that is not mirrored is not");
	check(!route(&view, "POST", "/crm/v3/objects/products").mirrored, "a disabled type is not");
	check(route(&undiscovered, "POST", "/crm/v3/objects/bicycles").mirrored, "before discovery every write may be mirrored");
	check(!route(&view, "POST", "/crm/v3/imports").mirrored, "an import is forwarded, unmirrored");
	check(!route(&view, "PATCH", "/crm/v3/pipelines/deals/1").mirrored, "pipelines change no mirror table");
	check(!route(&view, "POST", "/crm/v3/properties/contacts/groups").mirrored, "property groups change no mirror table");
}

/* ---- decoding ---- */

#define C1 "{\"id\":\"1\",\"properties\":{\"email\":\"a@b.c\",\"hs_object_id\":\"1\"},\"createdAt\":\"2024-01-01T00:00:00Z\",\"updatedAt\":\"2024-01-02T00:00:00.5Z\",\"archived\":false}"

static void
test_single(void)
{
	static const char *const bases[] = {"/crm/v3/objects/contacts", "/crm/objects/2026-03/contacts", "/crm/objects/v3/0-1", "/crm/objects/2026-09-beta/Contact"};
	char		url[200];

	for (int i = 0; i < 4; i++)
	{
		check_text(decode("POST", bases[i], "{\"properties\":{\"email\":\"a@b.c\",\"firstname\":\"A\",\"phone\":\"\"}}", 201, C1),
				   "patch 0-1/1 email=a@b.c hs_object_id=1 firstname=A phone=null",
				   "a create: the response wins, request-only keys are added, \"\" is NULL");
		snprintf(url, sizeof(url), "%s/1", bases[i]);
		check_text(decode("PATCH", url, "{\"properties\":{\"lastname\":null,\"Email\":\"x\"}}", 200, C1),
				   "patch 0-1/1 email=a@b.c hs_object_id=1 lastname=null", "a PATCH; names fold to lower case");
		check_text(decode("DELETE", url, "", 204, ""), "delete 0-1/1", "a DELETE");
		snprintf(url, sizeof(url), "%s/batch/archive", bases[i]);
		check_text(decode("POST", url, "{\"inputs\":[{\"id\":\"1\"},{\"id\":2}]}", 204, ""), "delete 0-1/1; delete 0-1/2", "batch/archive");
		snprintf(url, sizeof(url), "%s/merge", bases[i]);
		check_text(decode("POST", url, "{\"primaryObjectId\":\"1\",\"objectIdToMerge\":\"2\"}", 200, "{\"id\":\"3\",\"properties\":{}}"),
				   "delete 0-1/1; delete 0-1/2; reread 0-1/3 with_links", "a merge that mints a new id");
		snprintf(url, sizeof(url), "%s/gdpr-delete", bases[i]);
		check_text(decode("POST", url, "{\"objectId\":\"A@b.c\",\"idProperty\":\"email\"}", 204, ""),
				   "delete 0-1 where email=A@b.c", "gdpr-delete by email");
		check_text(decode("POST", url, "{\"objectId\":\"7\"}", 204, ""), "delete 0-1/7", "gdpr-delete by id");
	}
	check_text(decode("POST", "/crm/v3/objects/contacts/merge", "{\"primaryObjectId\":\"1\",\"objectIdToMerge\":\"2\"}", 200, "{\"id\":\"1\",\"properties\":{}}"),
			   "delete 0-1/2; reread 0-1/1 with_links", "a merge that keeps the primary id");
	check_text(decode("POST", "/crm/v3/objects/contacts", "{}", 201, "{\"createdResourceId\":\"1\",\"entity\":" C1 "}"),
			   "patch 0-1/1 email=a@b.c hs_object_id=1", "an entity is unwrapped");
	check_text(decode("PATCH", "/crm/v3/objects/contacts/z?idProperty=firstname%00longer", "{\"properties\":{}}", 200, "{\"id\":\"1\",\"properties\":{}}"),
			   "patch 0-1/1 firstname?=z; refresh_schema 0-1", "a name with a NUL in it is no field, and is read no further than any");
	check_text(decode("PATCH", "/crm/v3/objects/contacts/z@y.x?idProperty=email", "{\"properties\":{}}", 200, "{\"id\":\"1\",\"properties\":{}}"),
			   "patch 0-1/1 email=z@y.x", "PATCH by a unique property: the response's id");
	check_text(decode("PATCH", "/crm/v3/objects/contacts/9", "{}", 200, "{\"id\":\"1\",\"properties\":{}}"),
			   "delete 0-1/9; reread 0-1/1 with_links; patch 0-1/1", "a merged-away id is retired");
	check_text(decode("PATCH", "/crm/v3/objects/contacts/1", "{}", 200, "{\"id\":\"1\",\"archived\":true}"), "delete 0-1/1", "an archived answer deletes");
	check_text(decode("POST", "/crm/v3/objects/contacts", "{\"properties\":{\"brand_new\":\"1\"}}", 201, "{\"id\":5,\"properties\":{\"newer\":\"2\"}}"),
			   "patch 0-1/5 newer?=2 brand_new?=1; refresh_schema 0-1", "unknown properties refresh the schema once");
	check_text(decode("PATCH", "/crm/v3/objects/contacts/1", "{\"properties\":{\"tags\":\";b\"}}", 200, "{\"id\":\"1\",\"properties\":{}}"),
			   "patch 0-1/1; reread 0-1/1", "a value that appends is re-read");
	check_text(decode("PUT", "/crm/v3/objects/contacts/1/whatever", "", 200, "{}"), "reread 0-1/1 with_links", "an unknown write re-reads its record");
	check_text(decode("POST", "/crm/v3/objects/tickets", "{}", 201, C1), "not mirrored", "a type that is not selected changes nothing");
	check_text(decode_with(&undiscovered, "POST", "/crm/v3/objects/contacts", "{}", 201, "{\"id\":\"1\",\"properties\":{\"a\":\"b\"}}", false),
			   "patch 0-1/1 a?=b", "without a schema the row is told anyway");
}

static void
test_unreadable(void)
{
	check_text(decode("PATCH", "/crm/v3/objects/contacts/1", "{}", 200, "<html>"), "unreadable: reread 0-1/1", "a PATCH whose answer is not JSON");
	check_text(decode("PATCH", "/crm/v3/objects/contacts/1", "{}", 200, "[1]"), "unreadable: reread 0-1/1", "a PATCH whose answer is another JSON");
	check_text(decode("PATCH", "/crm/v3/objects/contacts/1", "{}", 200, ""), "unreadable: reread 0-1/1", "a PATCH with an empty answer");
	check_text(decode("POST", "/crm/v3/objects/contacts", "{}", 201, "{\"id\":\"1\",\"prop"), "unreadable: ", "a truncated create names no record");
	check_text(decode_with(&view, "DELETE", "/crm/v3/objects/contacts/1", "", 200, "", true), "unreadable: reread 0-1/1", "an encoded answer to a DELETE");
	check_text(decode("POST", "/crm/v3/objects/contacts/batch/update", "{\"inputs\":[{\"id\":\"1\"},{\"id\":\"e@f.g\",\"idProperty\":\"email\"}]}", 200, "{}"),
			   "unreadable: reread 0-1/1", "a batch without results");
	check_text(decode("POST", "/crm/v3/objects/contacts/merge", "{\"primaryObjectId\":1,\"objectIdToMerge\":\"2\"}", 200, "x"),
			   "unreadable: reread 0-1/1 with_links; reread 0-1/2 with_links", "a merge that cannot be read");
	check_text(decode("PUT", "/crm/v4/objects/contacts/1/associations/companies/2", "[]", 201, "x"), "unreadable: reread 0-1/1 > 0-2/2", "a link that cannot be read");
	check_text(decode("POST", "/crm/v4/associations/contacts/companies/batch/create", "{\"inputs\":[{\"from\":{\"id\":\"1\"},\"to\":{\"id\":\"2\"},\"types\":[]}]}", 201, "x"),
			   "unreadable: reread 0-1/1 > 0-2/2", "links that cannot be read");
}

static void
test_batches(void)
{
	static const char *const bases[] = {"/crm/v3/objects/contacts", "/crm/objects/2026-03/0-1"};
	char		url[200];

	for (int i = 0; i < 2; i++)
	{
		snprintf(url, sizeof(url), "%s/batch/update", bases[i]);
		check_text(decode("POST", url, "{\"inputs\":[{\"id\":\"1\",\"properties\":{\"phone\":\"\"}},{\"id\":\"2\",\"properties\":{\"phone\":\"5\"}}]}", 200,
						  "{\"status\":\"COMPLETE\",\"results\":[{\"id\":\"2\",\"properties\":{}},{\"id\":\"1\",\"properties\":{}}]}"),
				   "patch 0-1/2 phone=5; patch 0-1/1 phone=null", "batch/update matches by id, not by position");
		snprintf(url, sizeof(url), "%s/batch/upsert", bases[i]);
		check_text(decode("POST", url, "{\"inputs\":[{\"id\":\"A@b.c\",\"idProperty\":\"email\",\"properties\":{\"phone\":\"1\"}},{\"id\":\"d@e.f\",\"idProperty\":\"email\",\"properties\":{\"phone\":\"2\"}}]}", 200,
						  "{\"results\":[{\"id\":\"12\",\"properties\":{},\"new\":true},{\"id\":\"11\",\"properties\":{\"email\":\"a@b.c\"},\"new\":false}]}"),
				   "patch 0-1/12 phone=2 email=d@e.f; patch 0-1/11 email=a@b.c phone=1", "batch/upsert matches by the unique value, the last by elimination");
		snprintf(url, sizeof(url), "%s/batch/create", bases[i]);
		check_text(decode("POST", url, "{\"inputs\":[{\"objectWriteTraceId\":\"x\",\"properties\":{\"phone\":\"1\"}},{\"objectWriteTraceId\":\"y\",\"properties\":{\"phone\":\"2\"}}]}", 207,
						  "{\"results\":[{\"id\":\"12\",\"objectWriteTraceId\":\"y\",\"properties\":{}}],\"numErrors\":1,\"errors\":[{}]}"),
				   "patch 0-1/12 phone=2", "207: what succeeded, matched by trace id");
		check_text(decode("POST", url, "{\"inputs\":[{\"properties\":{\"phone\":\"1\"}},{\"properties\":{\"phone\":\"2\"}}]}", 201,
						  "{\"results\":[{\"id\":\"1\",\"properties\":{\"phone\":\"1\"}},{\"id\":\"2\",\"properties\":{}}]}"),
				   "patch 0-1/1 phone=1; patch 0-1/2; reread 0-1/2", "results that cannot be matched are re-read, if something is missing");
		check_text(decode("POST", url, "{\"inputs\":[{\"properties\":{\"phone\":\"1\"},\"associations\":[{\"to\":{\"id\":\"9\"},\"types\":[{\"associationCategory\":\"HUBSPOT_DEFINED\",\"associationTypeId\":279}]}]}]}", 201,
						  "{\"results\":[{\"id\":\"1\",\"properties\":{}}]}"),
				   "patch 0-1/1 phone=1; link 0-1/1 > 0-2/9", "one input and one result belong together, links too");
	}
	check_text(decode("POST", "/crm/v3/objects/contacts/batch/upsert", "{\"inputs\":[{\"id\":\"a@b.c\",\"idProperty\":\"email\",\"properties\":{\"phone\":\"1\"}},{\"id\":\"d@e.f\",\"idProperty\":\"email\"}]}", 207,
					  "{\"results\":[{\"id\":\"11\",\"properties\":{\"email\":\"A@B.c\"}}]}"),
			   "patch 0-1/11 email=A@B.c phone=1", "unique values match in any case");
	check_text(decode("POST", "/crm/v3/objects/contacts/batch/create", "{\"inputs\":[{\"properties\":{\"phone\":\"1\"}},{\"properties\":{\"phone\":\"2\"}}]}", 207,
					  "{\"results\":[{\"id\":\"1\",\"properties\":{}}],\"errors\":[{}]}"),
			   "patch 0-1/1; reread 0-1/1", "with a failed input, elimination tells nothing");
	check_text(decode("POST", "/crm/v3/objects/contacts/batch/create", "{\"inputs\":[{\"associations\":[1]},{}]}", 201,
					  "{\"results\":[{\"id\":\"1\",\"properties\":{}},{\"id\":\"2\",\"properties\":{}}]}"),
			   "patch 0-1/1; reread 0-1/1 with_links; patch 0-1/2; reread 0-1/2 with_links", "unmatched results with associations re-read their links");
	check_text(decode("POST", "/crm/v3/objects/contacts/batch/update", "{\"inputs\":[{\"id\":\"8\",\"properties\":{}}]}", 200,
					  "{\"results\":[{\"id\":\"1\",\"properties\":{}}]}"),
			   "delete 0-1/8; reread 0-1/1 with_links; patch 0-1/1", "a merged-away id in a batch is retired");
}

#define INLINE(id, cat) "{\"properties\":{},\"associations\":[{\"to\":{\"id\":\"9\"},\"types\":[{\"associationCategory\":\"" cat "\",\"associationTypeId\":" id "}]}]}"
#define MADE "{\"id\":\"1\",\"properties\":{}}"

static void
test_inline(void)
{
	const char *url = "/crm/objects/2026-03/contacts";

	check_text(decode("POST", url, INLINE("279", "HUBSPOT_DEFINED"), 201, MADE), "patch 0-1/1; link 0-1/1 > 0-2/9", "an unlabelled inline association is a link");
	check_text(decode("POST", url, INLINE("4", "HUBSPOT_DEFINED"), 201, MADE), "patch 0-1/1; link 0-1/1 > 0-3/9", "the type id tells the target's type");
	check_text(decode("POST", url, INLINE("37", "USER_DEFINED"), 201, MADE), "patch 0-1/1; reread 0-1/1 > 0-2/9", "a labelled one is re-read");
	check_text(decode("POST", url, INLINE("15", "HUBSPOT_DEFINED"), 201, MADE), "patch 0-1/1", "one to a type that is not mirrored is dropped");
	check_text(decode("POST", url, INLINE("777", "USER_DEFINED"), 201, MADE),
			   "patch 0-1/1; refresh_schema 0-2:0-1; refresh_schema 0-1:0-3; reread 0-1/1 with_links", "an unknown one refreshes and re-reads");
	check_text(decode_with(&undiscovered, "POST", url, INLINE("279", "HUBSPOT_DEFINED"), 201, MADE, false),
			   "patch 0-1/1; link 0-1/1 > 0-2/9", "HubSpot's own types are known without a schema");
}

#define PAIR(t) "{\"inputs\":[{\"from\":{\"id\":\"1\"},\"to\":{\"id\":\"2\"}," t "}]}"
#define LBOP(l) "{\"fromObjectTypeId\":\"0-1\",\"fromObjectId\":1,\"toObjectTypeId\":\"0-2\",\"toObjectId\":\"2\",\"labels\":[" l "]}"

static void
test_links_single(void)
{
	static const char *const bases[] = {"/crm/v4/objects/contacts/1/associations", "/crm/objects/2026-03/0-1/1/associations", "/crm/objects/v4/contact/1/associations"};
	char		url[200];

	for (int i = 0; i < 3; i++)
	{
		snprintf(url, sizeof(url), "%s/companies/2", bases[i]);
		check_text(decode("PUT", url, "[{\"associationCategory\":\"HUBSPOT_DEFINED\",\"associationTypeId\":279}]", 201, LBOP("")), "link 0-1/1 > 0-2/2", "PUT of an unlabelled association");
		check_text(decode("PUT", url, "[{\"associationCategory\":\"USER_DEFINED\",\"associationTypeId\":37}]", 201, LBOP("\"Boss of\"")), "reread 0-1/1 > 0-2/2", "PUT of a labelled one");
		check_text(decode("PUT", url, "[{\"associationCategory\":\"USER_DEFINED\",\"associationTypeId\":99}]", 201, LBOP("")), "reread 0-1/1 > 0-2/2", "PUT of an unknown one");
		check_text(decode("DELETE", url, "", 204, ""), "unlink 0-1/1 > 0-2/2", "DELETE of a pair");
		snprintf(url, sizeof(url), "%s/default/companies/2", bases[i]);
		check_text(decode("PUT", url, "", 200, "{\"results\":[{\"from\":{\"id\":\"2\"},\"to\":{\"id\":\"1\"}},{\"from\":{\"id\":\"1\"},\"to\":{\"id\":\"2\"}}]}"), "link 0-1/1 > 0-2/2", "PUT default: one link, told from both ends");
	}
	check_text(decode("PUT", "/crm/v3/objects/contacts/1/associations/deals/2/4", "", 200, MADE), "link 0-1/1 > 0-3/2", "v3 PUT by a number");
	check_text(decode("PUT", "/crm/v3/objects/contacts/1/associations/companies/2/contact_to_company", "", 200, MADE), "reread 0-1/1 > 0-2/2", "v3 PUT by a name that may be the primary label");
	check_text(decode("PUT", "/crm/v3/objects/contacts/1/associations/companies/2/contact_to_company_unlabeled", "", 200, MADE), "link 0-1/1 > 0-2/2", "v3 PUT by an unlabelled name");
	check_text(decode("DELETE", "/crm/v3/objects/contacts/1/associations/deals/2/4", "", 204, ""), "unlink 0-1/1 > 0-3/2", "v3 DELETE of the unlabelled type");
	check_text(decode("DELETE", "/crm/v3/objects/contacts/1/associations/deals/2/60", "", 204, ""), "unlink 0-1/1 > 0-3/2 [Fan]", "v3 DELETE of a label");
	check_text(decode("DELETE", "/crm/v3/objects/contacts/1/associations/companies/2/37", "", 204, ""), "reread 0-1/1 > 0-2/2", "a label with another name on the other side is re-read");
	check_text(decode("PUT", "/crm/v4/objects/contacts/1/associations/default/0-7/2", "", 200, "{}"), "not mirrored", "a link to a disabled type is not mirrored");
	check_text(decode("PUT", "/crm/v4/objects/contacts/1/associations/default/companies/2", "", 200, "{\"results\":[],\"numErrors\":1}"), "reread 0-1/1 > 0-2/2", "PUT default that linked nothing is re-read");
	check_text(decode("PUT", "/crm/v4/objects/deals/1/associations/default/companies/2", "", 200, "{\"results\":[{}]}"), "refresh_schema 0-2:0-3", "a pair without a table is discovered");
}

static void
test_links_batch(void)
{
	static const char *const bases[] = {"/crm/v4/associations/contacts/companies", "/crm/associations/2026-03/0-1/0-2", "/crm/associations/v4/contact/company"};
	char		url[200];

	for (int i = 0; i < 3; i++)
	{
		snprintf(url, sizeof(url), "%s/batch/create", bases[i]);
		check_text(decode("POST", url, PAIR("\"types\":[{\"associationCategory\":\"HUBSPOT_DEFINED\",\"associationTypeId\":279}]"), 201, "{\"results\":[" LBOP("") "]}"), "link 0-1/1 > 0-2/2", "batch/create, unlabelled");
		check_text(decode("POST", url, PAIR("\"types\":[{\"associationCategory\":\"HUBSPOT_DEFINED\",\"associationTypeId\":1}]"), 200, "{\"results\":[" LBOP("\"Primary\"") "]}"), "reread 0-1/1 > 0-2/2", "batch/create, labelled");
		check_text(decode("POST", url, PAIR("\"types\":[]"), 201, "{\"results\":[{\"fromObjectTypeId\":\"0-2\",\"fromObjectId\":\"2\",\"toObjectTypeId\":\"0-1\",\"toObjectId\":\"1\",\"labels\":[]}]}"), "link 0-1/1 > 0-2/2", "batch/create told from the other end");
		snprintf(url, sizeof(url), "%s/batch/associate/default", bases[i]);
		check_text(decode("POST", url, PAIR("\"x\":1"), 200, "{\"results\":[{\"from\":{\"id\":\"1\"},\"to\":{\"id\":\"2\"},\"associationSpec\":{\"associationTypeId\":279}}]}"), "link 0-1/1 > 0-2/2", "batch/associate/default");
		check_text(decode("POST", url, PAIR("\"x\":1"), 200, "{\"results\":[{\"from\":{\"id\":\"2\"},\"to\":{\"id\":\"1\"},\"associationSpec\":{\"associationTypeId\":280}}]}"), "link 0-1/1 > 0-2/2", "batch/associate/default, told from the other end");
		snprintf(url, sizeof(url), "%s/batch/archive", bases[i]);
		check_text(decode("POST", url, "{\"inputs\":[{\"from\":{\"id\":\"1\"},\"to\":[{\"id\":\"2\"},{\"id\":3}]}]}", i == 1 ? 200 : 204, i == 1 ? "{\"results\":[]}" : ""),
				   "unlink 0-1/1 > 0-2/2; unlink 0-1/1 > 0-2/3", "batch/archive, 204 or 200");
		snprintf(url, sizeof(url), "%s/batch/labels/archive", bases[i]);
		check_text(decode("POST", url, PAIR("\"types\":[{\"associationCategory\":\"HUBSPOT_DEFINED\",\"associationTypeId\":1}]"), 204, ""), "unlink 0-1/1 > 0-2/2 [Primary]", "labels/archive of a label");
		check_text(decode("POST", url, PAIR("\"types\":[{\"associationCategory\":\"HUBSPOT_DEFINED\",\"associationTypeId\":279}]"), 204, ""), "unlink 0-1/1 > 0-2/2", "labels/archive of the unlabelled type");
	}
	check_text(decode("POST", "/crm/v3/associations/Contacts/deals/batch/create", PAIR("\"type\":\"contact_to_deal_unlabeled\""), 201, "{\"results\":[{\"from\":{\"id\":\"1\"},\"to\":{\"id\":\"2\"},\"type\":\"x\"}]}"), "link 0-1/1 > 0-3/2", "v3 batch/create by name");
	check_text(decode("POST", "/crm/v3/associations/contacts/deals/batch/create", PAIR("\"type\":\"4\""), 207, "{\"results\":[{\"from\":{\"id\":\"1\"},\"to\":{\"id\":\"2\"},\"type\":\"4\"}],\"errors\":[{}]}"), "link 0-1/1 > 0-3/2", "v3 batch/create by number, 207");
	check_text(decode("POST", "/crm/v3/associations/contacts/deals/batch/archive", PAIR("\"type\":\"4\""), 204, ""), "unlink 0-1/1 > 0-3/2", "v3 batch/archive");
}

static void
test_schema_writes(void)
{
	check_text(decode("POST", "/crm/v3/properties/contacts", "{}", 201, "{}"), "refresh_schema 0-1", "a new property (v3)");
	check_text(decode("DELETE", "/crm/properties/2026-03/contacts/x", "", 204, ""), "refresh_schema 0-1", "a property goes (dated)");
	check_text(decode("POST", "/crm/v3/properties/contacts/batch/create", "{}", 207, "{}"), "refresh_schema 0-1", "properties in a batch");
	check_text(decode("POST", "/crm/v3/properties/tickets", "{}", 201, "{}"), "not mirrored", "a property of a type that is not mirrored");
	check_text(decode("POST", "/crm-object-schemas/v3/schemas", "{}", 201, "{}"), "refresh_schema", "a new schema");
	check_text(decode("PATCH", "/crm-object-schemas/2026-03/schemas/2-5", "{}", 200, "{}"), "refresh_schema", "a changed schema (dated)");
	check_text(decode("POST", "/crm/v3/schemas", "{}", 201, "{}"), "refresh_schema", "a new schema on the short path");
	check_text(decode("POST", "/crm/v4/associations/contacts/companies/labels", "{}", 200, "{}"), "refresh_schema 0-2:0-1", "a new label");
	check_text(decode("DELETE", "/crm/associations/2026-03/companies/contacts/labels/37", "", 204, ""), "refresh_schema 0-2:0-1", "a label goes (dated)");
	check_text(decode("PUT", "/crm/v4/associations/cars/contacts/labels", "{}", 204, ""), "not mirrored", "labels of an unknown type");
}

/* ---- conversations ---- */

typedef struct Script
{
	const char *needle;			/* "METHOD target body" contains it */
	int			status;
	const char *body;
} Script;

static const char *
run(Conversation *conv, const Script *script, int n, int *calls)
{
	Call		call;

	*calls = 0;
	while (conversation_take(conv, &call))
	{
		char	   *text = arena_printf(scratch, "%s %.*s %.*s", call.method, STR_FMT(call.target), (int) call.body.n, call.body.p ? call.body.p : "");
		int			i = 0;

		(*calls)++;
		while (i < n && strstr(text, script[i].needle) == NULL)
			i++;
		if (i == n)
			hs->feed(conv, &call, 404, STR_LIT("{\"category\":\"OBJECT_NOT_FOUND\"}"));
		else
		{
			/* a body that is gone after feed() shows any pointer that was kept into it */
			char	   *body = strdup(script[i].body);

			hs->feed(conv, &call, script[i].status, str_of(body));
			free(body);
		}
	}
	return conv->failed ? conv->error : print_changes(scratch, &conv->changes);
}

static const char *
print_schema(const Schema *s)
{
	Buf			b;

	buf_init(&b, scratch);
	for (int i = 0; i < s->ncollections; i++)
	{
		const SchemaCollection *c = &s->collections[i];

		buf_printf(&b, "%s%s=%s", i ? " | " : "", c->collection, c->table);
		for (int j = 0; j < c->nfields; j++)
			buf_printf(&b, " %s:%s", c->fields[j].field, schema_type_name(c->fields[j].type));
		if (c->kind == COLLECTION_LINKS)
			buf_printf(&b, " %s,%s #%d", c->from_column, c->to_column, c->nlink_types);
	}
	return b.n ? buf_finish(&b).p : "";
}

#define PROPS "{\"results\":[{\"name\":\"a\",\"type\":\"number\"},{\"name\":\"b\",\"type\":\"enumeration\",\"fieldType\":\"checkbox\"},{\"name\":\"c\",\"type\":\"enumeration\",\"fieldType\":\"booleancheckbox\"},{\"name\":\"gone\",\"type\":\"string\",\"archived\":true},{\"name\":\"d\",\"type\":\"datetime\"}]}"
#define LABELS "{\"results\":[{\"category\":\"HUBSPOT_DEFINED\",\"typeId\":279,\"label\":null},{\"category\":\"USER_DEFINED\",\"typeId\":5,\"label\":\"X\"}]}"

static void
test_discover(void)
{
	static const char *tables[] = {"Contacts", "companies", "owners", "tickets", "car", "nothing"};
	static const Script script[] = {
		{"GET /crm-object-schemas", 200, "{\"results\":[{\"name\":\"Car\",\"objectTypeId\":\"2-5\",\"fullyQualifiedName\":\"p9_car\"},{\"name\":\"other\",\"objectTypeId\":\"2-6\",\"fullyQualifiedName\":\"p9_other\"},{\"name\":\"nothing\",\"objectTypeId\":\"2-7\",\"archived\":true}]}"},
		{"GET /crm/v3/properties/tickets", 403, "{}"},
		{"GET /crm/v3/properties/2-5", 200, "{\"results\":[{\"name\":\"plate\",\"type\":\"string\"}]}"},
		{"GET /crm/v3/properties/", 200, PROPS},
		{"GET /crm/v3/owners", 200, "{}"},
		{"associations/companies/contacts/labels", 200, LABELS},
		{"associations/contacts/companies/labels", 200, LABELS},
		{"associations/contacts/contacts/labels", 200, LABELS},
		{"associations/2-5/contacts/labels", 404, ""},
		{"associations/2-5/2-5/labels", 400, ""},
		{"/labels", 200, "{\"results\":[]}"},
	};
	SyncView	v = {.name = "crm", .tables = tables, .ntables = 6};
	Conversation conv = {.arena = scratch, .view = &v, .discovering = true};
	int			calls;

	hs->discover(&conv);
	run(&conv, script, NFIELDS(script), &calls);
	check(!conv.failed, "discovery of chosen tables succeeds");
	check_text(print_schema(&conv.schema),
			   "0-1=contact a:numeric b:text[] c:text d:timestamp with time zone | 0-2=company a:numeric b:text[] c:text d:timestamp with time zone | "
			   "owners=owner email:text firstName:text lastName:text userId:bigint userIdIncludingInactive:bigint type:text teams:jsonb archived:boolean | "
			   "2-5=car plate:text | 0-1:0-1=associations_contact_contact from_contact_id,to_contact_id #2 | "
			   "0-2:0-1=associations_company_contact company_id,contact_id #4 | 2-5:0-1=associations_car_contact car_id,contact_id #0",
			   "discovery finds types, custom objects, owners and the pairs that can be linked");
	check(conv.notes.p && strstr(conv.notes.p, "tickets: 403") && strstr(conv.notes.p, "nothing"), "what was skipped is noted");
	check(calls == 1 + 5 + 3 + 6, "discovery makes no call too many");
}

static void
test_discover_edges(void)
{
	static const Script refused[] = {{"GET", 401, "{}"}};
	static const Script down[] = {{"GET", 502, ""}};
	static const Script all[] = {{"schemas", 403, "{}"}, {"properties/contacts", 200, PROPS}, {"owners", 200, "{}"}, {"properties", 403, ""}, {"labels", 200, "{\"results\":[]}"}};
	static const Script labels[] = {{"labels", 200, LABELS}};
	static const Script garbage[] = {{"GET", 200, "<html>"}};
	SyncView	v = {.name = "crm"};
	Conversation conv;
	int			calls;

	conv = (Conversation) {.arena = scratch, .view = &v, .discovering = true};
	hs->discover(&conv);
	run(&conv, refused, 1, &calls);
	check(conv.failed && !conv.retriable && strstr(conv.error, "alter_sync"), "401 says how to give a new credential");
	conv = (Conversation) {.arena = scratch, .view = &v, .discovering = true};
	hs->discover(&conv);
	run(&conv, down, 1, &calls);
	check(conv.failed && conv.retriable, "a 502 is tried again");
	conv = (Conversation) {.arena = scratch, .view = &v, .discovering = true};
	hs->discover(&conv);
	run(&conv, garbage, 1, &calls);
	check(conv.failed && conv.retriable, "an answer that is not JSON is tried again");
	conv = (Conversation) {.arena = scratch, .view = &v, .discovering = true};
	hs->discover(&conv);
	run(&conv, all, NFIELDS(all), &calls);
	check(!conv.failed && conv.schema.ncollections == 2 && calls == 1 + 31 + 1, "all types are tried; unreadable ones are skipped, a pair without labels has no table");
	conv = (Conversation) {.arena = scratch, .view = &view, .discovering = true, .scope = "0-1"};
	hs->discover(&conv);
	run(&conv, all, NFIELDS(all), &calls);
	check(conv.schema.ncollections == 1 && calls == 1 && conv.schema.collections[0].nfields == 4, "the scope of one type makes one call");
	conv = (Conversation) {.arena = scratch, .view = &view, .discovering = true, .scope = "0-2:0-1"};
	hs->discover(&conv);
	run(&conv, labels, 1, &calls);
	check_text(print_schema(&conv.schema), "0-2:0-1=associations_company_contact company_id,contact_id #4", "the scope of a pair asks for its labels");
	check(calls == 2, "... in both directions");
}

static const char *
reread(const Change *targets, int n, const Script *script, int nscript, int *calls)
{
	Conversation conv = {.arena = scratch, .view = &view};

	hs->reread(&conv, targets, n);
	return run(&conv, script, nscript, calls);
}

static void
test_reread_records(void)
{
	Change		t[3] = {{.op = CHANGE_REREAD, .collection = STR_LIT("0-1"), .id = STR_LIT("1")},
	{.op = CHANGE_REREAD, .collection = STR_LIT("0-1"), .id = STR_LIT("2")}, {.op = CHANGE_REREAD, .collection = STR_LIT("0-1"), .id = STR_LIT("1")}};
	static const Script ok[] = {{"{\"inputs\":[{\"id\":\"1\"},{\"id\":\"2\"}],\"properties\":[\"email\",\"firstname\",", 207, "{\"results\":[{\"id\":\"1\",\"properties\":{\"email\":null}}],\"errors\":[{\"category\":\"OBJECT_NOT_FOUND\"}]}"}};
	static const Script merged[] = {{"batch/read", 200, "{\"results\":[{\"id\":\"3\",\"properties\":{}}]}"}};
	static const Script bad[] = {{"batch/read", 207, "{\"results\":[],\"errors\":[{\"category\":\"RATE_LIMITS\"}]}"}};
	static const Script down[] = {{"batch/read", 503, ""}};
	static const Script links[] = {
		{"POST /crm/v3/objects/contacts/batch/read", 200, "{\"results\":[{\"id\":\"1\",\"properties\":{}}]}"},
		{"POST /crm/v4/associations/contacts/companies/batch/read {\"inputs\":[{\"id\":\"1\",\"after\":\"n\"}]}", 200,
		"{\"results\":[{\"from\":{\"id\":\"1\"},\"to\":[{\"toObjectId\":8,\"associationTypes\":[{\"typeId\":37,\"label\":\"Boss of\"}]}]}]}"},
		{"POST /crm/v4/associations/contacts/companies/batch/read {\"inputs\":[{\"id\":\"1\"}]}", 200,
		"{\"results\":[{\"from\":{\"id\":\"1\"},\"to\":[{\"toObjectId\":7,\"associationTypes\":[{\"typeId\":279,\"label\":null}]}],\"paging\":{\"next\":{\"after\":\"n\"}}}]}"},
		{"POST /crm/v4/associations/companies/contacts/batch/read", 200,
		"{\"results\":[{\"from\":{\"id\":\"8\"},\"to\":[{\"toObjectId\":\"1\",\"associationTypes\":[{\"typeId\":38,\"label\":\"Led by\"}]}]}]}"},
		{"POST /crm/v4/associations/contacts/deals/batch/read", 207,
		"{\"results\":[{\"from\":{\"id\":\"1\"},\"to\":[{\"toObjectId\":5,\"associationTypes\":[{\"typeId\":60,\"label\":\"Fan\"},{\"typeId\":4,\"label\":null}]}]}],\"errors\":[{\"category\":\"OBJECT_NOT_FOUND\"}]}"},
	};
	int			calls;

	check_text(reread(t, 3, ok, 1, &calls), "upsert 0-1/1 email=null; delete 0-1/2", "records come back whole, missing ones are gone");
	check(calls == 1, "duplicates are asked for once");
	check_text(reread(t, 1, merged, 1, &calls), "upsert 0-1/3; delete 0-1/1", "another id in return: the old one is gone");
	check(strstr(reread(t, 1, bad, 1, &calls), "RATE_LIMITS") != NULL, "an error that is not 'not found' never deletes");
	check(strstr(reread(t, 1, down, 1, &calls), "503") != NULL, "a 503 fails the re-read");
	check_text(reread(t, 1, NULL, 0, &calls), "delete 0-1/1", "404: it is gone");
	t[0].with_links = true;
	check_text(reread(t, 1, links, NFIELDS(links), &calls),
			   "upsert 0-1/1; link 0-1/1 > 0-2/7 replace; link 0-1/1 > 0-3/5 [Fan] replace; unlink 0-1/1 > 0-3 keep:5; "
			   "unlink 0-1/1 > 0-2 keep:7 keep:8; link 0-1/1 > 0-2/8 [Boss of] [Led by] replace",
			   "with_links: all pages; labels that differ by direction are asked for from both sides");
}

static void
test_reread_pairs(void)
{
	Change		t[2] = {
		{.op = CHANGE_REREAD, .collection = STR_LIT("0-1"), .id = STR_LIT("1"), .to_collection = STR_LIT("0-2"), .to_id = STR_LIT("8")},
		{.op = CHANGE_REREAD, .collection = STR_LIT("0-1"), .id = STR_LIT("1"), .to_collection = STR_LIT("0-2"), .to_id = STR_LIT("9")},
	};
	static const Script script[] = {
		{"contacts/companies/batch/read {\"inputs\":[{\"id\":\"1\",\"after\":\"5\"}]}", 200,
		"{\"results\":[{\"from\":{\"id\":\"1\"},\"to\":[{\"toObjectId\":8,\"associationTypes\":[{\"typeId\":1,\"label\":\"Primary\"},{\"typeId\":279,\"label\":null}]}]}]}"},
		{"contacts/companies/batch/read {\"inputs\":[{\"id\":\"1\"}]}", 200,
		"{\"results\":[{\"from\":{\"id\":\"1\"},\"to\":[{\"toObjectId\":7}],\"paging\":{\"next\":{\"after\":\"5\"}}}]}"},
		{"companies/contacts/batch/read {\"inputs\":[{\"id\":\"8\"},{\"id\":\"9\"}]}", 207,
		"{\"results\":[{\"from\":{\"id\":\"8\"},\"to\":[{\"toObjectId\":\"1\",\"associationTypes\":[{\"label\":\"Primary\"},{\"label\":\"Led by\"}]}]}],\"errors\":[{\"subCategory\":\"crm.associations.NO_ASSOCIATIONS_FOUND\",\"category\":\"X\"}]}"},
	};
	int			calls;

	check_text(reread(t, 2, script, 3, &calls), "link 0-1/1 > 0-2/8 [Primary] [Led by] replace; unlink 0-1/1 > 0-2/9",
			   "pairs: pages are followed until found, labels of both directions united, absent ones unlinked");
	check(calls == 3, "... in three calls");
	t[0].to_id = STR_LIT("7");
	check_text(reread(t, 1, script, 2, &calls), "link 0-1/1 > 0-2/7 replace", "a pair that only one direction shows is linked");
}

/* ---- limits ---- */

static Str
find_header(void *cls, const char *name)
{
	for (const char **h = cls; *h != NULL; h += 2)
		if (strcasecmp(h[0], name) == 0)
			return str_of(h[1]);
	return STR_NULL;
}

static LimitHint
limits(int status, const char **headers, const char *body)
{
	LimitHint	hint;

	hs->limits(status, find_header, headers, str_of(body), &hint);
	return hint;
}

static void
test_limits(void)
{
	const char *none[] = {NULL};
	const char *after[] = {"Retry-After", "7", NULL};
	const char *date[] = {"retry-after", "Sun, 06 Nov 1994 08:50:37 GMT", "date", "Sun, 06 Nov 1994 08:49:37 GMT", NULL};
	const char *quota[] = {"X-HubSpot-RateLimit-Remaining", "42", "X-HubSpot-RateLimit-Interval-Milliseconds", "10000", NULL};
	const char *daily[] = {"X-HubSpot-RateLimit-Remaining", "42", "X-HubSpot-RateLimit-Interval-Milliseconds", "10000", "X-HubSpot-RateLimit-Daily-Remaining", "3", NULL};

	check(limits(429, after, "").block_ms == 7000, "429 with Retry-After in seconds");
	check(limits(429, date, "").block_ms == 60000, "429 with Retry-After as a date, by HubSpot's clock");
	check(limits(429, none, "{\"policyName\":\"TEN_SECONDLY_ROLLING\"}").block_ms == 10000, "TEN_SECONDLY_ROLLING: 10 s");
	check(limits(429, none, "{\"policyName\":\"SECONDLY\"}").block_ms == 1000, "SECONDLY: 1 s");
	check(limits(429, none, "{\"policyName\":\"DAILY\"}").block_ms == 300000, "DAILY: 5 min");
	check(limits(429, none, "<html>").block_ms == 10000, "an unknown 429: 10 s");
	check(limits(503, none, "").block_ms == 0 && limits(503, after, "").block_ms == 7000, "503 blocks only with Retry-After");
	check(limits(477, after, "").block_ms == 7000, "477 with Retry-After");
	check(limits(200, after, "").block_ms == 0, "a 200 never blocks");
	check(limits(200, quota, "").has_remaining && limits(200, quota, "").remaining == 42 && limits(200, quota, "").window_ms == 10000, "the burst's remainder");
	check(limits(200, daily, "").remaining == 3 && limits(200, daily, "").window_ms == 86400000, "the day's remainder when it is tighter");
	check(!limits(200, none, "").has_remaining, "no headers, no remainder");
}

int
main(void)
{
	void		(*const tests[]) (void) = {
		test_types, test_routes, test_single, test_unreadable, test_batches, test_inline, test_links_single,
		test_links_batch, test_schema_writes, test_discover, test_discover_edges, test_reread_records,
		test_reread_pairs, test_limits,
	};

	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
	{
		scratch = arena_create();
		tests[i] ();
		arena_destroy(scratch);
	}
	printf("%d passed, %d failed\n", passed, failed);
	return failed ? 1 : 0;
}
