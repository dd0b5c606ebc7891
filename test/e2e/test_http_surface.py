"""What goes up and comes down is byte for byte what it would be without the proxy, and errors say who spoke."""

import gzip
import http.client
import json
from urllib.parse import urlsplit

import pytest

from conftest import HUBSPOT_TOKEN, make_sync
from raw import RawApi, Wire, ask, request

HOST = "api.hubapi.com"
PROBE = "/crm/v3/objects/contacts?probe"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture(scope="module")
def api(cluster, fakes):
    """A sync whose API is bytes that the test dictates."""
    fakes.hubspot.reset()
    fakes.hubspot.config(limits="off")
    raw = RawApi(fakes.hubspot.origin)
    sync = make_sync(cluster, fakes.hubspot, "hubspot", tables=["contacts"], upstream_url=raw.origin)
    raw.sync = sync
    raw.root = sync.client.root
    raw.auth = ("Authorization", f"Bearer {sync.client.key}")
    yield raw
    cluster.sql("SELECT sequin.drop_sync(%s, drop_tables => true)", (sync.name,))
    raw.stop()


@pytest.fixture(autouse=True)
def fresh_script(request):
    if "api" in request.fixturenames:
        raw = request.getfixturevalue("api")
        raw.answers = {"probe": OK}
        raw.seen.clear()


def down(api, answer, method="GET"):
    api.answers = {"probe": answer}
    return ask(api.root, method, HOST + PROBE, [api.auth])


def own_error(m, status, code, sent=False):
    """The proxy's own error, in every detail of its form."""
    assert (m.status, m.get("Sequin-Error")) == (status, code), m
    error = json.loads(m.body)["error"]
    assert set(error) == {"source", "code", "message", "hint", "request_id", "sent_upstream"}
    assert (error["source"], error["code"], error["sent_upstream"]) == ("sequin_proxy", code, sent)
    assert error["message"] and error["request_id"] == m.get("Sequin-Request-Id")
    assert m.get("Content-Type") == "application/json" and m.get("Sequin-Commit") is None
    return error


# ---- up ----

def test_headers_go_up_in_order_with_their_casing_and_the_credential_in_the_key_s_place(api):
    sent = [("X-First", "1"), ("accept", "a/b"), api.auth, ("X-Twice", "one"), ("x-twice", "two"), ("Accept-Encoding", "gzip, br"),
            ("X-Empty", ""), ("X-Latin", "caf\xe9"), ("User-Agent", "odd  agent"), ("Cookie", "a=b; c=d"), ("X-Forwarded-For", "1.2.3.4"),
            ("Via", "1.1 me"), ("Content-Type", "application/json"), ("Referer", "http://x/"), ("X-Last", "a,b ,c")]
    assert ask(api.root, "GET", HOST + PROBE, sent).status == 200
    up = [p for p in api.seen[0].pairs if p[0] != "Host"]
    assert up == [(n, f"Bearer {HUBSPOT_TOKEN}") if n == "Authorization" else (n, v) for n, v in sent]
    assert api.seen[0].get("Host") == urlsplit(api.origin).netloc


def test_nothing_is_added_to_a_bare_request(api):
    assert ask(api.root, "GET", HOST + PROBE, [("Sequin-Key", api.sync.client.key)]).status == 200
    assert [n for n, _ in api.seen[0].pairs] == ["Host", "Authorization"]


def test_hop_by_hop_headers_and_those_that_connection_names_stay_here(api):
    ask(api.root, "GET", HOST + PROBE, [api.auth, ("Connection", "X-Mine, keep-alive"), ("X-Mine", "1"), ("Keep-Alive", "timeout=5"), ("TE", "trailers"),
                                        ("Upgrade", "h2c"), ("Proxy-Authorization", "Basic eA=="), ("Proxy-Connection", "x"), ("Trailer", "X-T"), ("X-Kept", "1")])
    assert [n for n, _ in api.seen[0].pairs] == ["Host", "Authorization", "X-Kept"]


def test_accept_encoding_stays_on_reads_and_goes_from_writes(api):
    api.answers = {"contacts": b"HTTP/1.1 400 no\r\nContent-Length: 0\r\n\r\n"}
    for method, path in (("POST", ""), ("PATCH", "/1"), ("POST", "/search")):
        ask(api.root, method, f"{HOST}/crm/v3/objects/contacts{path}", [api.auth, ("Accept-Encoding", "gzip")], b'{"properties":{}}')
    assert [m.get("Accept-Encoding") for m in api.seen] == [None, None, "gzip"]


@pytest.mark.parametrize("target", [
    "/crm/v3/objects/contacts?probe", "/crm/v3/objects/contacts?probe=%2f%2F%zz%&&a=b=c&?x", "/crm/v3/objects/contacts?probe&q=caf\xc3\xa9",
    "/crm/v3/objects/contacts?probe=a+b%20c&a=1&a=2&=&", "/crm/v3/objects/%63ontacts?probe", "/crm/v3/objects/contacts/a%2Fb?probe",
    "/crm/v3/objects/contacts?probe=" + "x" * 6000, "/crm/v3/objects/contacts?probe=\"<>'{}|\\^`", "/crm/v3/objects/contacts?probe?", "/crm/v3/objects/contacts?probe=/../.."])
def test_path_and_query_go_up_byte_for_byte(api, target):
    a = ask(api.root, "GET", HOST + target, [api.auth])
    assert a.status == 200, a
    assert api.seen[0].target == target


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PROPFIND", "DELETE", "X-custom!", "get", "CONNECT"])
def test_every_method_is_forwarded(api, method):
    assert ask(api.root, method, HOST + "/account-info/v3/details?probe", [api.auth]).status == 200
    assert api.seen[0].line == f"{method} /account-info/v3/details?probe HTTP/1.1"


def test_a_get_has_its_body_and_a_post_without_one_says_so(api):
    ask(api.root, "GET", HOST + PROBE, [api.auth], b"\0\xff body")
    ask(api.root, "POST", HOST + "/crm/v3/objects/contacts/search?probe", [api.auth])
    assert [m.body for m in api.seen] == [b"\0\xff body", b""]
    assert api.seen[1].get("Content-Length") == "0" and api.seen[1].get("Content-Type") is None


def test_a_chunked_body_arrives_whole(api):
    head = request(api.root, "POST", HOST + "/crm/v3/objects/contacts/search?probe", [api.auth, ("Transfer-Encoding", "chunked")])
    with Wire(urlsplit(api.root).port) as wire:
        wire.send(head + b"3;ext=1\r\nabc\r\n0A\r\n0123456789\r\n0\r\nX-Trailer: 1\r\n\r\n")
        assert wire.read().status == 200
    assert api.seen[0].body == b"abc0123456789"


def test_expect_100_continue_is_answered_here_and_not_passed_on(api):
    head = request(api.root, "POST", HOST + "/crm/v3/objects/contacts/search?probe", [api.auth, ("Expect", "100-continue"), ("Content-Length", "2")])
    with Wire(urlsplit(api.root).port) as wire:
        wire.send(head)
        assert wire.read().status == 100
        wire.send(b"{}")
        assert wire.read().status == 200
    assert api.seen[0].get("Expect") is None and api.seen[0].body == b"{}"


# ---- down ----

def test_headers_come_down_in_order_and_only_ours_are_added(api):
    pairs = [("DATE", "Tue, 01 Jan 2030 00:00:00 GMT"), ("x-oDD", "1"), ("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2"), ("Content-Type", "text/odd; x=y"),
             ("Server", "them"), ("X-Empty", ""), ("Vary", "A"), ("ETag", "W/\"x\""), ("Content-Encoding", "identity"), ("Via", "1.1 cdn")]
    dropped = "Sequin-Commit: committed\r\nsequin-error: fake\r\nSEQUIN-Request-Id: x\r\nSequin-Else: 1\r\nKeep-Alive: timeout=1\r\nConnection: X-Hop\r\nX-Hop: 1\r\n"
    head = "HTTP/1.1 200 Fine\r\n" + "".join(f"{n}: {v}\r\n" for n, v in pairs) + dropped + "Content-Length: 3\r\n\r\nabc"
    a = down(api, head.encode())
    ours = {"content-length", "sequin-request-id", "sequin-commit"}
    assert [p for p in a.pairs if p[0].lower() not in ours] == pairs
    assert (a.body, a.all("Sequin-Commit"), len(a.all("Sequin-Request-Id")), a.all("Content-Length")) == (b"abc", ["none"], 1, ["3"])


def test_no_date_server_or_content_type_is_invented(api):
    a = down(api, b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
    assert sorted(n for n, _ in a.pairs) == ["Content-Length", "Sequin-Commit", "Sequin-Request-Id"]


@pytest.mark.parametrize("status", [200, 201, 202, 203, 206, 207, 299, 300, 400, 401, 403, 404, 405, 409, 415, 418, 423, 477, 499, 500, 501, 502, 503, 504, 511, 599, 600, 777, 999])
def test_every_status_comes_down_as_it_is(api, status):
    a = down(api, b"HTTP/1.1 %d Any\r\nContent-Length: 2\r\n\r\nhi" % status)
    assert (a.status, a.body, a.get("Sequin-Error"), a.get("Sequin-Commit")) == (status, b"hi", None, "none")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_passed_back(api, status):
    a = down(api, b"HTTP/1.1 %d Go\r\nLocation: %s/elsewhere\r\nContent-Length: 0\r\n\r\n" % (status, api.origin.encode()))
    assert (a.status, a.get("Location"), len(api.seen)) == (status, api.origin + "/elsewhere", 1)


def test_204_and_304_have_no_body_and_keep_the_connection(api):
    with Wire(urlsplit(api.root).port) as wire:
        for status in (204, 304, 204):
            api.answers = {"probe": b"HTTP/1.1 %d X\r\nETag: \"e\"\r\n\r\n" % status}
            wire.send(request(api.root, "GET", HOST + PROBE, [api.auth]))
            a = wire.read()
            assert (a.status, a.get("ETag"), a.get("Transfer-Encoding")) == (status, '"e"', None)
            assert status != 204 or a.get("Content-Length") is None


def test_head_keeps_the_length_that_the_api_declares(api):
    with Wire(urlsplit(api.root).port) as wire:
        for answer, length in ((b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n", "12345"), (b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "0")):
            api.answers = {"probe": answer}
            wire.send(request(api.root, "HEAD", HOST + PROBE, [api.auth]))
            a = wire.read(head_only=True)
            assert a.get("Content-Length") == length
        wire.send(request(api.root, "HEAD", "api.airtable.com/v0", [api.auth]))
        assert wire.read(head_only=True).status == 404  # an error's body does not follow a HEAD either
        api.answers = {"probe": OK}
        wire.send(request(api.root, "GET", HOST + PROBE, [api.auth]))
        assert wire.read().body == b"{}"


def test_bodies_are_untouched_whatever_their_coding_and_framing(api):
    packed = gzip.compress(b"x" * 5000)
    a = down(api, b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed)
    assert (a.body, a.get("Content-Encoding")) == (packed, "gzip")
    a = down(api, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;x\r\n!\r\n0\r\nX-T: 1\r\n\r\n")
    assert (a.body, a.get("X-T")) == (b"hello!", None)
    a = down(api, b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n\0\xff until the end")
    assert a.body == b"\0\xff until the end"
    big = bytes(range(256)) * 4096
    a = down(api, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(big) + big)
    assert a.body == big


def test_an_interim_answer_is_not_the_answer(api):
    a = down(api, b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
    assert (a.status, a.get("Link"), a.body) == (200, None, b"x")


def test_one_connection_serves_many_requests_with_an_id_each(api):
    ids = set()
    with Wire(urlsplit(api.root).port) as wire:
        for i in range(100):
            target, status = ((HOST + PROBE, 200), ("api.airtable.com/v0", 404), (HOST + "/a%00", 400))[i % 3]
            wire.send(request(api.root, "GET", target, [api.auth]))
            a = wire.read()
            assert a.status == status
            ids.add(a.get("Sequin-Request-Id"))
    assert len(ids) == 100 and all(len(i) == 32 for i in ids)


def test_pipelined_requests_are_answered_in_order_or_the_connection_says_that_it_ends(api):
    with Wire(urlsplit(api.root).port) as wire:
        wire.send(b"".join(request(api.root, "GET", f"{HOST}{PROBE}={i}", [api.auth]) for i in range(5)))
        got = 0
        while (a := wire.read()) is not None:
            assert a.status == 200
            got += 1
            if got == 5 or (a.get("Connection") or "").lower() == "close":
                break
        assert [m.target[-1] for m in api.seen[:got]] == [str(i) for i in range(got)]


# ---- URL forms ----

@pytest.mark.parametrize("prefix", ["", "https://", "https:/", "http://", "http:/", "HTTPS://"])
@pytest.mark.parametrize("host", [HOST, "API.HubApi.com", HOST + ":443"])
def test_scheme_case_and_port_of_the_host_do_not_matter(api, prefix, host):
    assert ask(api.root, "GET", prefix + host + PROBE, [api.auth]).status == 200
    assert api.seen[0].target == PROBE


# ---- the proxy's own errors ----

@pytest.mark.parametrize("target", [HOST + "/crm/../x", HOST + "/crm/%2e%2e/x", HOST + "/crm/.%2E", HOST + "/crm/a%2F..%2Fb", HOST + "/%252e%252e/x",
                                    HOST + "/crm/./x", HOST + "/crm/%00", HOST + "/crm/a\\b", HOST + "/crm/a%5cb", HOST + "/crm/%0a", HOST + "/crm/%7f", HOST + "/crm/%zz"])
def test_a_path_that_could_be_read_as_another_is_a_400(api, target):
    for root in (api.root, api.root[:-4] + "none"):  # well-formed comes before the identifier
        own_error(ask(root, "GET", target), 400, "bad_request")
    assert api.seen == []


@pytest.mark.parametrize("head", ["GARBAGE\r\n\r\n", "GET / HTTP/2.0\r\nHost: x\r\n\r\n", "GET /x HTTP/1.1\r\n\r\n", "GET /x HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
                                  "GET /x HTTP/1.1\r\nHost: x\r\nBad Name: y\r\n\r\n", "GET /x y HTTP/1.1\r\nHost: x\r\n\r\n", "GET /x HTTP/1.1\nHost: x\n\n",
                                  "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
                                  "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
                                  "GET /x HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "GET x HTTP/1.1\r\nHost: x\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"])
def test_malformed_http_is_a_400_of_ours_and_the_end_of_the_connection(api, head):
    with Wire(urlsplit(api.root).port) as wire:
        wire.send(head)
        own_error(wire.read(), 400, "bad_request")
        assert wire.closed()


def test_too_large_comes_before_everything_else(api):
    nowhere = api.root[:-4] + "none"
    with Wire(urlsplit(api.root).port) as wire:
        wire.send(request(nowhere, "POST", HOST + "/x", [("Content-Length", str(17 * 1024 * 1024))]))
        own_error(wire.read(), 413, "body_too_large")
    own_error(ask(nowhere, "GET", HOST + "/x", [("X-Big", "y" * 40000)]), 431, "headers_too_large")
    own_error(ask(nowhere, "GET", HOST + "/x", [(f"X-{i}", "y") for i in range(2000)]), 431, "headers_too_large")


def test_a_chunked_body_over_the_limit_is_a_413(api):
    with Wire(urlsplit(api.root).port) as wire:
        wire.send(request(api.root, "POST", HOST + "/crm/v3/objects/contacts", [api.auth, ("Transfer-Encoding", "chunked")]))
        try:
            for _ in range(17):
                wire.send(b"100000\r\n" + b"x" * 0x100000 + b"\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass
        own_error(wire.read(), 413, "body_too_large")
    assert api.seen == []


def test_checks_run_in_the_contract_s_order(api):
    bad = ("Authorization", "Bearer sqk_nonsense")
    nowhere = api.root[:-4] + "none"
    own_error(ask(nowhere, "GET", "api.hubspot.com/x"), 404, "unknown_sync")
    own_error(ask(api.root, "GET", "api.hubspot.com/x"), 403, "missing_key")
    own_error(ask(api.root, "GET", "api.hubspot.com/x", [bad]), 403, "invalid_key")
    error = own_error(ask(api.root, "GET", "api.hubspot.com/crm/v3/objects/contacts", [api.auth]), 404, "bad_hostname")
    assert "api.hubapi.com" in error["hint"]
    own_error(ask(api.root, "GET", HOST + "/nothing/like/it", [api.auth]), 404, "unsupported_path")
    own_error(ask(api.root, "GET", HOST + "//crm/v3/objects/contacts", [api.auth]), 404, "unsupported_path")
    error = own_error(ask(api.root, "POST", HOST + "/contacts/v1/contact", [api.auth], b"{}"), 404, "unsupported_path")
    assert "/crm/" in error["hint"]
    for target in ("", "/"):
        url = urlsplit(api.root)
        with Wire(url.port) as wire:
            wire.send(f"GET {url.path}{target} HTTP/1.1\r\nHost: x\r\n{api.auth[0]}: {api.auth[1]}\r\n\r\n")
            own_error(wire.read(), 404, "bad_hostname")
    assert api.seen == []


@pytest.mark.parametrize("answer,code", [
    (b"not http at all\r\n\r\n", "upstream_protocol_error"), (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nhalf", "upstream_protocol_error"),
    (b"HTTP/1.1 200 OK\r\nConnection: close\r\nX-Cut: y", "upstream_protocol_error"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc", "upstream_protocol_error"),
    (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", "upstream_protocol_error"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n", "upstream_protocol_error"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nabc", "upstream_response_too_large"),
    (b"HTTP/1.1 200 OK\r\nX-Big: " + b"x" * 400000 + b"\r\n\r\n", "upstream_response_too_large"),
    (b"HTTP/1.1 200 OK\r\n" + b"X-Many: y\r\n" * 30000 + b"\r\n", "upstream_response_too_large")], ids=range(9))
def test_an_answer_that_is_no_whole_http_is_a_502_and_sent(api, answer, code):
    error = own_error(down(api, answer), 502, code, sent=True)
    assert "read the record" in error["hint"]
    assert len(api.seen) == 1


def test_an_api_that_nobody_serves_is_unreachable_and_nothing_was_sent(cluster, api):
    cluster.sql("SELECT sequin.alter_sync(%s, upstream_url => 'http://127.0.0.1:1')", (api.sync.name,))
    try:
        own_error(ask(api.root, "GET", HOST + PROBE, [api.auth]), 502, "upstream_unreachable")
    finally:
        cluster.sql("SELECT sequin.alter_sync(%s, upstream_url => %s)", (api.sync.name, api.origin))


def test_an_api_that_is_silent_is_a_504_and_sent(api):
    error = own_error(down(api, b""), 504, "upstream_timeout", sent=True)
    assert "read the record" in error["hint"] and len(api.seen) == 1


def test_no_slot_in_time_is_a_504_and_nothing_was_sent(cluster, fakes):
    fakes.hubspot.reset()
    sync = make_sync(cluster, fakes.hubspot, "hubspot", tables=["contacts"], rate_limit="1/1d", wait=False)
    try:
        answers = [ask(sync.client.root, "GET", HOST + "/crm/v3/objects/contacts", [("Sequin-Key", sync.client.key)])]
        if answers[0].status == 200:  # discovery had not taken the day's slot yet
            answers.append(ask(sync.client.root, "GET", HOST + "/crm/v3/objects/contacts", [("Sequin-Key", sync.client.key)]))
        own_error(answers[-1], 504, "queue_timeout")
    finally:
        cluster.sql("SELECT sequin.drop_sync(%s, drop_tables => true)", (sync.name,))


def test_healthz_and_metrics_need_no_sync(cluster):
    conn = http.client.HTTPConnection("127.0.0.1", cluster.proxy_port, timeout=10)
    conn.request("GET", "/healthz")
    r = conn.getresponse()
    assert (r.status, json.loads(r.read())["status"]) == (200, "ok")
    conn.request("GET", "/metrics")
    r = conn.getresponse()
    text = r.read().decode()
    assert r.status == 200 and r.headers["Content-Type"].startswith("text/plain") and len(r.headers["Sequin-Request-Id"]) == 32
    for line in text.splitlines():
        assert line.startswith("# ") or (line.startswith("sequin_proxy_") and float(line.rsplit(" ", 1)[1]) >= 0)
    conn.request("GET", "/")
    r = conn.getresponse()
    assert (r.status, r.headers["Sequin-Error"]) == (404, "unknown_sync")
    conn.close()
