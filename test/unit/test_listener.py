"""The listener against hostile and unlucky clients: raw sockets against listener_harness (ASan).

Run: pytest test/unit/test_listener.py.  HARNESS=path takes a built harness; otherwise it is built here.
"""
import json, os, random, re, resource, select, signal, socket, struct, subprocess, sys, tempfile, threading, time

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def build():
    if os.environ.get("HARNESS"):
        return os.environ["HARNESS"]
    out = os.path.join(tempfile.mkdtemp(prefix="listener_harness."), "harness")
    source = os.path.join(ROOT, "test/unit/listener_harness.c")
    with open(source) as f:
        head = f.readline()
    sources = re.search(r"SRC: (.*?)  LIBS: (.*)", head)
    subprocess.run(["gcc", "-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-fsanitize=address,undefined",
                    "-fno-sanitize-recover=undefined", "-o", out, source,
                    *[os.path.join(ROOT, s) for s in sources[1].split()], *sources[2].split()], check=True)
    return out


@pytest.fixture(scope="session")
def binary():
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(20000, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
                                                resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return build()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Harness:
    """warm: every connection has served a whole request before the test gets it, so its next one is taken outright."""

    def __init__(self, binary, nofile=None, warm=False, **options):
        self.port, self.warm = free_port(), warm
        limit = (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (nofile, nofile))) if nofile else None
        self.process = subprocess.Popen([binary, str(self.port), *[f"{k}={v}" for k, v in options.items()]],
                                        stderr=subprocess.PIPE, text=True, preexec_fn=limit)
        assert self.process.stderr.readline() == "listening\n"
        self.log = []
        self.reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True)
        self.reader.start()

    def connect(self, port=None, warm=None):
        s = socket.create_connection(("127.0.0.1", port or self.port), timeout=10)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.warm if warm is None else warm:
            s.sendall(b"GET /instant HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_response(s)[2] == b"ok"
        return s

    def send(self, data, warm=None):
        s = self.connect(warm=warm)
        s.sendall(data)
        return s

    def stats(self):
        s = self.send(b"GET /stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", warm=False)
        return json.loads(read_response(s)[2])

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(20)
        self.reader.join(5)
        log = "".join(self.log)
        assert code == 0, log
        assert "Sanitizer" not in log and "runtime error" not in log, log
        assert "Error processing" not in log, "libmicrohttpd made an error page: " + log
        return log


@pytest.fixture
def start(binary):
    started = []

    def go(**options):
        started.append(Harness(binary, **options))
        return started[-1]
    yield go
    for h in started:
        if h.process.poll() is None:
            h.stop()


@pytest.fixture(scope="module", params=["fresh", "warm"])
def harness(request, binary):
    h = Harness(binary, warm=request.param == "warm", head_ms=1500, body_ms=1500, idle_ms=60000)
    yield h
    h.stop()


class Reader:
    """Responses one after the other from one socket."""

    def __init__(self, s):
        self.s, self.data = s, b""

    def more(self):
        piece = self.s.recv(1 << 16)
        self.data += piece
        return bool(piece)

    def response(self, head_request=False):
        while b"\r\n\r\n" not in self.data:
            assert self.more(), f"the connection ended in a head: {self.data!r}"
        head, self.data = self.data.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        status = int(lines[0].split()[1])
        headers = {}
        for line in lines[1:]:
            name, value = line.split(":", 1)
            headers.setdefault(name.lower(), []).append(value.strip())
        if status == 100:
            return status, headers, b""
        n = 0 if head_request or status in (204, 304) else int(headers["content-length"][0])
        while len(self.data) < n:
            assert self.more(), "the connection ended in a body"
        body, self.data = self.data[:n], self.data[n:]
        return status, headers, body

    def at_end(self):
        while True:
            if self.data:
                return False
            try:
                if not self.more():
                    return True
            except ConnectionResetError:
                return True


def read_response(s, head_request=False):
    return Reader(s).response(head_request)


def wait_until(what, check, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if check():
            return
        time.sleep(0.02)
    raise AssertionError("not in time: " + what)


EVIL = b"GET /evil HTTP/1.1\r\nHost: x\r\n\r\n"


def request(lines=b"", line=b"POST /echo HTTP/1.1", host=b"Host: x\r\n", body=b""):
    return line + b"\r\n" + host + lines + b"\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked\r\n"
REFUSED = {
    "two equal Content-Lengths": request(b"Content-Length: 5\r\nContent-Length: 5\r\n", body=b"hello"),
    "two different Content-Lengths": request(b"Content-Length: 5\r\nContent-Length: 38\r\n", body=b"hello"),
    "Content-Length and chunked": request(b"Content-Length: 5\r\n" + CHUNKED, body=b"0\r\n\r\n"),
    "chunked and Content-Length": request(CHUNKED + b"Content-Length: 5\r\n", body=b"0\r\n\r\n"),
    "xchunked": request(b"Transfer-Encoding: xchunked\r\n", body=b"0\r\n\r\n"),
    "gzip, chunked": request(b"Transfer-Encoding: gzip, chunked\r\n", body=b"0\r\n\r\n"),
    "chunked and identity": request(CHUNKED + b"Transfer-Encoding: identity\r\n", body=b"0\r\n\r\n"),
    "a space before the colon": request(b"Content-Length : 5\r\n", body=b"hello"),
    "Content-Length list": request(b"Content-Length: 5, 5\r\n", body=b"hello"),
    "Content-Length with a sign": request(b"Content-Length: +5\r\n", body=b"hello"),
    "negative Content-Length": request(b"Content-Length: -5\r\n", body=b"hello"),
    "hexadecimal Content-Length": request(b"Content-Length: 0x5\r\n", body=b"hello"),
    "20-digit Content-Length": request(b"Content-Length: 99999999999999999999\r\n", body=b"hello"),
    "bare LF lines": b"GET /echo HTTP/1.1\nHost: x\n\n",
    "a bare LF in front of a header": request(b"A: b\nContent-Length: 5\r\n"),
    "a bare CR in a value": request(b"A: b\rContent-Length: 5\r\n"),
    "a NUL in a value": request(b"A: b\0c\r\n"),
    "a control character in a value": request(b"A: b\x01c\r\n"),
    "a folded header": request(b"A: b\r\n c: d\r\n"),
    "a folded first header": request(host=b" Host: x\r\n"),
    "no Host": request(host=b""),
    "two Hosts": request(b"Host: y\r\n"),
    "two Authorizations": request(b"Authorization: a\r\nAuthorization: b\r\n"),
    "two Content-Types": request(b"Content-Type: a\r\nContent-Type: b\r\n"),
    "an absolute target": request(line=b"GET http://evil/a HTTP/1.1"),
    "an asterisk target": request(line=b"OPTIONS * HTTP/1.1"),
    "an authority target": request(line=b"CONNECT evil:443 HTTP/1.1"),
    "a space in the target": request(line=b"GET /a b HTTP/1.1"),
    "a method that is no token": request(line=b"G@T /a HTTP/1.1"),
    "HTTP/2.0": request(line=b"GET /a HTTP/2.0"),
    "HTTP/1.2": request(line=b"GET /a HTTP/1.2"),
    "HTTP/0.9": b"GET /a\r\n\r\n",
    "the HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an empty line in front": b"\r\n" + request(),
    "a TLS hello": bytes.fromhex("16030100c8010000c40303"),
    "a line without a colon": request(b"abc\r\n"),
    "chunked in HTTP/1.0": request(CHUNKED, line=b"POST /a HTTP/1.0", body=b"0\r\n\r\n"),
    "a chunk size that is no number": request(CHUNKED, body=b"zz\r\nhello\r\n0\r\n\r\n"),
    "a chunk longer than its size": request(CHUNKED, body=b"3\r\nhello\r\n0\r\n\r\n"),
    "a chunk size with a sign": request(CHUNKED, body=b"+5\r\nhello\r\n0\r\n\r\n"),
    "a chunk size with 0x": request(CHUNKED, body=b"0x5\r\nhello\r\n0\r\n\r\n"),
    "a chunk size that overflows": request(CHUNKED, body=b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    "a chunk size ended by LF": request(CHUNKED, body=b"5\nhello\r\n0\r\n\r\n"),
    "a chunk ended by LF": request(CHUNKED, body=b"5\r\nhello\n0\r\n\r\n"),
    "a space in a chunk size": request(CHUNKED, body=b"5 \r\nhello\r\n0\r\n\r\n"),
    "a trailer that is no header": request(CHUNKED, body=b"0\r\nGET / HTTP/1.1\r\n\r\n"),
    "an empty chunk size": request(CHUNKED, body=b"\r\nhello\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("pieces", [1, 2])
def test_an_ambiguous_request_is_refused_and_nothing_after_it_is_served(harness, name, pieces):
    before = harness.stats()["requests"]
    data = REFUSED[name] + EVIL
    s = harness.connect()
    if pieces == 1:
        s.sendall(data)
    else:
        cut = len(REFUSED[name]) // 2
        s.sendall(data[:cut])
        time.sleep(0.02)
        try:
            s.sendall(data[cut:])
        except OSError:
            pass
    reader = Reader(s)
    status, headers, body = reader.response()
    assert status == 400
    assert headers["sequin-error"] == ["bad_request"]
    assert headers["connection"] == ["close"]
    error = json.loads(body)["error"]
    assert error["code"] == "bad_request" and error["request_id"] == headers["sequin-request-id"][0]
    s.shutdown(socket.SHUT_WR)
    assert reader.at_end(), "something else was served"
    assert harness.stats()["requests"] == before + 1 + harness.warm   # the stats request itself


@pytest.mark.parametrize("size", [20_000, 100_000, 1_000_000])
@pytest.mark.parametrize("shape", ["one header", "many headers", "url"])
def test_a_large_head_is_431_as_json(start, size, shape):
    h = start(max_head=16384)
    if shape == "one header":
        data = request(b"A: " + b"x" * size + b"\r\n", line=b"GET /a HTTP/1.1")
    elif shape == "many headers":
        data = request(b"A: x\r\n" * (size // 6), line=b"GET /a HTTP/1.1")
    else:
        data = request(line=b"GET /" + b"a" * size + b" HTTP/1.1")
    s = h.connect()
    reader = Reader(s)
    s.settimeout(5)
    s.sendall(data)
    status, headers, body = reader.response()
    assert status == 431 and headers["sequin-error"] == ["headers_too_large"] and json.loads(body)
    s.shutdown(socket.SHUT_WR)
    assert reader.at_end()


@pytest.mark.parametrize("sizes", [(16_000, 0), (16_000, 8_000), (6_000, 100), (100, 6_100), (4_900, 900), (10, 12_000)])
def test_a_long_url_and_long_headers_pass_byte_for_byte(harness, sizes):
    url, header = sizes
    target = b"/e?" + b"a%2F&b=" * (url // 7)
    s = harness.send(request(b"A: " + b"x" * header + b"\r\n", line=b"GET " + target + b" HTTP/1.1") * 2)
    reader = Reader(s)
    for _ in range(2):
        status, headers, _ = reader.response()
        assert status == 200 and headers["x-target"] == [target.decode()]


def test_every_head_size_around_libmicrohttpds_limits_is_served(harness):
    s = harness.connect()
    reader = Reader(s)
    for n in list(range(5600, 6200, 13)) + list(range(15_800, 16_600, 57)):
        s.sendall(request(b"A: " + b"x" * n + b"\r\n", line=b"GET /e HTTP/1.1"))
        assert reader.response()[0] == 200, n


def test_many_headers_and_many_arguments_pass(harness):
    s = harness.connect()
    reader = Reader(s)
    for n in range(1, 199, 7):
        s.sendall(request(b"".join(b"H%d: x\r\n" % i for i in range(n)),
                          line=b"GET /e?" + b"&".join(b"a" for _ in range(n)) + b" HTTP/1.1"))
        assert reader.response()[0] == 200, n


@pytest.mark.parametrize("pieces", [1, 100, 500, 1500, 2500, 6000])
def test_a_cookie_of_thousands_of_pieces_passes(harness, pieces):
    s = harness.send(request(b"Cookie: " + b"a;" * pieces + b"\r\n", line=b"GET /e HTTP/1.1") * 2)
    reader = Reader(s)
    assert reader.response()[0] == 200 and reader.response()[0] == 200


@pytest.mark.parametrize("lines,body,want", [
    (b"Content-Length: 5\r\n", b"hello", b"hello"),
    (b"Content-Length: 0\r\n", b"", b""),
    (b"", b"", b""),
    (CHUNKED, b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    (CHUNKED, b"3;a=b;c=\"d\"\r\nhel\r\n2\r\nlo\r\n0\r\nX-Trailer: a\r\n\r\n", b"hello"),
    (CHUNKED, b"0\r\n\r\n", b""),
    (CHUNKED, b"000005\r\nhello\r\n0\r\n\r\n", b"hello"),
])
@pytest.mark.parametrize("step", [1, 3, 7, 10000])
def test_a_body_arrives_whole_however_it_is_cut_and_the_connection_is_kept(harness, lines, body, want, step):
    s = harness.connect()
    reader = Reader(s)
    for _ in range(2):
        data = request(lines, body=body)
        for i in range(0, len(data), step):
            s.sendall(data[i:i + step])
            if step < 100 and i % 5 == 0:
                time.sleep(0.001)
        status, headers, got = reader.response()
        assert (status, got) == (200, want) and "connection" not in headers


@pytest.mark.parametrize("n", [1000, 60_000, 65_536, 65_537, 900_000, 1 << 20])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_arrives_byte_for_byte(harness, n, chunked):
    body = random.Random(n).randbytes(n)
    s = harness.connect()
    lines, data = b"Content-Length: %d\r\n" % n, body
    if chunked:
        pieces = [body[i:i + 7001] for i in range(0, n, 7001)]
        lines, data = CHUNKED, b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"
    sender = threading.Thread(target=s.sendall, args=(request(lines, body=data) * 2,))
    sender.start()
    reader = Reader(s)
    assert reader.response()[2] == body
    sender.join()


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_413(harness, chunked):
    n = (1 << 20) + 1
    s = harness.connect()
    s.sendall(request(CHUNKED if chunked else b"Content-Length: %d\r\n" % n))
    if chunked:
        s.sendall(b"%x\r\n" % n + b"x" * n + b"\r\n0\r\n\r\n")
    reader = Reader(s)
    status, headers, _ = reader.response()
    assert status == 413 and headers["sequin-error"] == ["body_too_large"] and headers["connection"] == ["close"]
    s.shutdown(socket.SHUT_WR)
    assert reader.at_end()


def test_a_refusal_comes_before_the_body_and_survives_a_client_that_goes_on_sending(harness):
    s = harness.send(request(b"Content-Length: 1000000\r\n", line=b"POST /refuse HTTP/1.1"))
    reader = Reader(s)
    assert reader.response()[0] == 403
    s.sendall(b"x" * 500_000)
    assert reader.at_end()


def test_a_refusal_without_a_body_keeps_the_connection(harness):
    s = harness.send(request(line=b"GET /refuse HTTP/1.1"))
    reader = Reader(s)
    assert reader.response()[0] == 403
    s.sendall(request(line=b"GET /instant HTTP/1.1"))
    assert reader.response()[2] == b"ok"


def test_expect_continue_is_answered_before_the_body(harness):
    s = harness.send(request(b"Expect: 100-continue\r\nContent-Length: 5\r\n"))
    reader = Reader(s)
    assert reader.response()[0] == 100
    s.sendall(b"hello")
    assert reader.response()[2] == b"hello"


@pytest.mark.parametrize("line", [b"GET /instant HTTP/1.1", b"GET /delay/30/ HTTP/1.1", b"GET /odd HTTP/1.1",
                                  b"HEAD /head/7 HTTP/1.1"])
@pytest.mark.parametrize("lines", [b"", b"Cookie: a\r\n"])
def test_keep_alive_serves_many_requests(harness, line, lines):
    s = harness.connect()
    reader = Reader(s)
    for _ in range(20):
        s.sendall(request(lines, line=line))
        assert reader.response(line.startswith(b"HEAD"))[0] == 200


def test_direct_and_borrowed_requests_mix_on_one_connection(harness):
    s = harness.connect()
    reader = Reader(s)
    rng = random.Random(7)
    kinds = [(request(line=b"GET /instant HTTP/1.1"), b"ok"), (request(b"Content-Length: 3\r\n", body=b"abc"), b"abc"),
             (request(CHUNKED, body=b"3\r\nabc\r\n0\r\n\r\n"), b"abc"), (request(b"Cookie: a\r\n"), b""),
             (request(line=b"GET /odd HTTP/1.1"), b""), (request(line=b"GET /size/70000 HTTP/1.1"), b"x" * 70000),
             (request(line=b"GET /delay/3/ HTTP/1.1"), b"")]
    for _ in range(300):
        data, want = rng.choice(kinds)
        cut = rng.choice([len(data), rng.randrange(1, len(data))])
        s.sendall(data[:cut])
        if cut < len(data):
            time.sleep(0.002)
            s.sendall(data[cut:])
        assert reader.response()[2] == want


@pytest.mark.parametrize("first", [request(line=b"GET /instant HTTP/1.1"), request(b"Content-Length: 3\r\n", body=b"abc"),
                                   request(CHUNKED, body=b"3\r\nabc\r\n0\r\n\r\n"),
                                   request(line=b"GET /delay/50/ HTTP/1.1")])
def test_pipelined_requests_are_answered_in_order_or_the_connection_closes(harness, first):
    s = harness.send(first + request(line=b"GET /second HTTP/1.1") + request(line=b"GET /third HTTP/1.1"))
    reader = Reader(s)
    status, headers, _ = reader.response()
    assert status == 200
    for target in ["/second", "/third"]:
        if headers.get("connection") == ["close"]:
            assert reader.at_end()
            return
        status, headers, _ = reader.response()
        assert status == 200 and headers["x-target"] == [target]


@pytest.mark.parametrize("refused", [False, True])
def test_what_was_taken_with_a_request_is_the_next_one_wherever_it_is_cut(harness, refused):
    first = request(line=b"GET /refuse HTTP/1.1") if refused else request(b"Content-Length: 3\r\n", body=b"abc")
    both = first + request(b"Content-Length: 4\r\n", body=b"defg", line=b"POST /echo?second HTTP/1.1") + request(line=b"GET /third HTTP/1.1")
    s = harness.connect()
    reader = Reader(s)
    for cut in range(len(first), len(both)):
        s.sendall(both[:cut])
        time.sleep(0.002)
        s.sendall(both[cut:])
        status, headers, body = reader.response()
        assert (status, body == b"abc") == ((403, False) if refused else (200, True)) and "connection" not in headers
        assert reader.response()[2] == b"defg"
        assert reader.response()[1]["x-target"] == ["/third"]


def test_a_pipelined_bad_head_is_400_after_the_first_answer_or_the_connection_closes(harness):
    for i in range(50):
        s = harness.send(request(line=b"GET /delay/%d/ HTTP/1.1" % (i % 4)))
        s.sendall(REFUSED["two equal Content-Lengths"] + EVIL)
        reader = Reader(s)
        status, headers, _ = reader.response()
        assert status == 200
        if headers.get("connection") != ["close"]:
            status, headers, _ = reader.response()
            assert status == 400 and headers["sequin-error"] == ["bad_request"]
        s.shutdown(socket.SHUT_WR)
        assert reader.at_end()


def test_bytes_racing_into_the_socket_never_reach_libmicrohttpd_unfiltered(harness):
    """A second head dribbles in while the first is being read: no HTML page, no unfiltered request."""
    bad = REFUSED["Content-Length and chunked"]
    for i in range(300):
        s = harness.connect()
        s.sendall(request(b"Content-Length: 4\r\n", body=b"ab"))
        if i % 3:
            time.sleep(0.0005 * (i % 3))
        s.sendall(b"cd" + bad[:i % len(bad)])
        reader = Reader(s)
        assert reader.response()[2] == b"abcd"
        try:
            s.sendall(bad[i % len(bad):] + EVIL)
            s.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        try:
            while reader.more():
                pass
        except OSError:
            pass
        assert b"<html" not in reader.data.lower() and b"/evil" not in reader.data
        assert reader.data == b"" or reader.data.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("lines", [b"", b"Cookie: a\r\n"])
def test_head_shows_the_declared_length_and_no_body(harness, lines):
    s = harness.send(request(lines, line=b"HEAD /head/123456789 HTTP/1.1"))
    reader = Reader(s)
    status, headers, _ = reader.response(True)
    assert status == 200 and headers["content-length"] == ["123456789"]
    s.sendall(request(line=b"GET /instant HTTP/1.1"))
    assert reader.response()[2] == b"ok"


def test_204_and_304_have_no_body_and_no_length(harness):
    for status in [204, 304]:
        s = harness.send(request(line=b"GET /status/%d HTTP/1.1" % status))
        reader = Reader(s)
        got, headers, _ = reader.response()
        assert got == status and "content-length" not in headers
        s.sendall(request(line=b"GET /instant HTTP/1.1"))
        assert reader.response()[2] == b"ok"


@pytest.mark.parametrize("status", [200, 201, 207, 299, 301, 404, 422, 429, 477, 500, 503, 599, 999])
def test_every_status_passes(harness, status):
    assert read_response(harness.send(request(line=b"GET /status/%d HTTP/1.1" % status)))[0] == status


def test_odd_response_headers_pass_and_injected_ones_do_not(harness):
    status, headers, _ = read_response(harness.send(request(line=b"GET /odd HTTP/1.1")))
    assert headers["x-empty"] == [""] and headers["set-cookie"] == ["a=1", "b=2"]
    assert "x-injected" not in headers and "connection" not in headers


def test_http_1_0_is_closed_unless_it_asks_otherwise(harness):
    s = harness.send(b"GET /instant HTTP/1.0\r\n\r\n")
    reader = Reader(s)
    assert reader.response()[1]["connection"] == ["close"] and reader.at_end()
    s = harness.send(b"GET /instant HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    reader = Reader(s)
    assert reader.response()[1]["connection"] == ["keep-alive"]
    s.sendall(b"GET /instant HTTP/1.0\r\n\r\n")
    assert reader.response()[2] == b"ok"


def test_connection_close_is_obeyed(harness):
    for lines in [b"Connection: close\r\n", b"Connection: x, CLOSE\r\nCookie: a\r\n"]:
        reader = Reader(harness.send(request(lines, line=b"GET /delay/5/ HTTP/1.1")))
        assert reader.response()[1]["connection"] == ["close"] and reader.at_end()


@pytest.mark.parametrize("line", [b"GET /delay/100/ HTTP/1.1", b"GET /instant HTTP/1.1"])
@pytest.mark.parametrize("lines", [b"", b"Cookie: a\r\n"])
def test_a_half_closed_client_gets_its_answer(harness, line, lines):
    s = harness.send(request(lines, line=line))
    s.shutdown(socket.SHUT_WR)
    reader = Reader(s)
    assert reader.response()[0] == 200 and reader.at_end()


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


@pytest.mark.parametrize("lines", [b"", b"Cookie: a\r\n"])
def test_a_client_that_resets_while_waiting_is_noticed_and_its_request_ends_once(start, lines):
    h = start()
    s = h.send(request(lines, line=b"GET /delay/300/ HTTP/1.1"))
    wait_until("handed over", lambda: h.stats()["requests"] >= 2)
    reset(s)
    wait_until("noticed", lambda: h.stats()["gone"] == 1, 0.25)
    wait_until("done", lambda: h.stats()["busy"] == 1)
    assert h.stats()["connections"] == 1


@pytest.mark.parametrize("data", [b"", b"GET /a", request(b"Content-Length: 5\r\n", body=b"he"),
                                  request(b"Content-Length: 100000\r\n", body=b"he"),
                                  request(CHUNKED, body=b"5\r\nhe"), request(line=b"GET /size/3000000 HTTP/1.1"),
                                  request(b"Cookie: a\r\n", line=b"GET /size/3000000 HTTP/1.1"),
                                  request(line=b"GET /instant HTTP/1.1")])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_at_any_point_leaves_nothing_behind(start, data, how):
    h = start()
    for _ in range(20):
        s = h.send(data)
        time.sleep(0.003)
        reset(s) if how == "reset" else s.close()
    wait_until("all gone", lambda: h.stats()["connections"] == 1 and h.stats()["busy"] == 1, 20)


def test_a_slow_head_is_cut_at_the_total_deadline_with_a_reason(harness):
    s = harness.send(b"GET /a HTTP/1.1\r\nHost: x\r\nA: ")
    began = time.monotonic()
    while not select.select([s], [], [], 0.1)[0]:
        s.sendall(b"x")
    assert 1.3 < time.monotonic() - began < 2.5
    status, headers, body = read_response(s)
    assert status == 400 and b"head did not arrive within 1500 ms" in body and headers["sequin-error"] == ["bad_request"]


@pytest.mark.parametrize("lines,first", [(b"Content-Length: 1000\r\n", b"x"), (b"Content-Length: 100000\r\n", b"x"),
                                         (CHUNKED, b"1000\r\nx")])
def test_a_slow_body_is_cut_at_the_total_deadline_with_a_reason(harness, lines, first):
    s = harness.send(request(lines, body=first))
    began = time.monotonic()
    while not select.select([s], [], [], 0.1)[0]:
        s.sendall(b"x")
    assert 1.3 < time.monotonic() - began < 2.5
    reader = Reader(s)
    status, headers, body = reader.response()
    assert status == 400 and b"body did not arrive within 1500 ms" in body and headers["connection"] == ["close"]
    s.shutdown(socket.SHUT_WR)
    assert reader.at_end()


def test_a_connection_that_says_nothing_is_closed_silently(harness):
    s = harness.connect(warm=False)
    began = time.monotonic()
    assert s.recv(10) == b"" and 1.3 < time.monotonic() - began < 2.5


def test_an_earlier_deadline_that_was_met_does_not_close_a_connection_that_waits(harness):
    s = harness.send(request(line=b"GET /instant HTTP/1.1"), warm=False)
    reader = Reader(s)
    assert reader.response()[0] == 200
    time.sleep(1.8)     # beyond the head's deadline of the connection's beginning
    s.sendall(request(line=b"GET /delay/1800/ HTTP/1.1"))
    assert reader.response()[0] == 200
    s.sendall(request(line=b"GET /instant HTTP/1.1"))
    assert reader.response()[0] == 200


def test_an_idle_connection_is_closed_silently(start):
    h = start(idle_ms=300)
    for lines in [b"", b"Cookie: a\r\n"]:
        s = h.send(request(lines, line=b"GET /instant HTTP/1.1"))
        reader = Reader(s)
        assert reader.response()[0] == 200
        began = time.monotonic()
        assert reader.at_end() and time.monotonic() - began < 1.5


@pytest.mark.parametrize("lines", [b"", b"Cookie: a\r\n"])
def test_a_client_that_does_not_read_is_cut(start, lines):
    h = start(write_ms=500)
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    s.connect(("127.0.0.1", h.port))
    s.sendall(request(lines, line=b"GET /size/30000000 HTTP/1.1"))
    wait_until("cut", lambda: h.stats()["connections"] == 1, 3)
    assert h.stats()["busy"] == 1


@pytest.mark.parametrize("lines", [b"", b"Cookie: a\r\n"])
def test_a_large_response_arrives_whole_at_a_slow_reader(harness, lines):
    s = harness.send(request(lines, line=b"GET /size/20000000 HTTP/1.1"))
    reader = Reader(s)
    time.sleep(0.1)
    assert len(reader.response()[2]) == 20_000_000


def test_a_thousand_connections_are_served_together_and_again(start):
    h = start()
    sockets = [h.connect() for _ in range(1000)]
    for _ in range(3):
        for i, s in enumerate(sockets):
            s.sendall(request(b"Cookie: a\r\n" if i % 10 == 0 else b"", line=b"GET /delay/%d/ HTTP/1.1" % (i % 50)))
        for s in sockets:
            assert read_response(s)[0] == 200
    assert h.stats()["connections"] == 1001
    for s in sockets:
        s.close()
    wait_until("closed", lambda: h.stats()["connections"] == 1)
    assert h.stats()["busy"] == 1


def test_one_connection_too_many_is_told_so(start):
    h = start(max_connections=5)
    kept = [h.connect() for _ in range(5)]
    for s in kept:
        s.sendall(request(line=b"GET /instant HTTP/1.1"))
        read_response(s)
    s = h.send(request(line=b"GET /instant HTTP/1.1"))
    reader = Reader(s)
    status, headers, _ = reader.response()
    assert status == 503 and headers["sequin-error"] == ["not_ready"] and reader.at_end()
    s.close()
    kept.pop().close()
    time.sleep(0.1)
    assert h.stats()["refused"] == 1


def test_running_out_of_descriptors_neither_spins_nor_kills(start):
    h = start(nofile=40)
    sockets = [h.connect() for _ in range(80)]
    for s in sockets:
        s.sendall(request(line=b"GET /instant HTTP/1.1"))
    used = cpu(h.process.pid)
    time.sleep(1)
    assert cpu(h.process.pid) - used < 0.3, "it spins"
    served = select.select(sockets, [], [], 0)[0]
    assert len(served) >= 10 and all(read_response(s)[0] == 200 for s in served)
    for s in served:
        s.close()
    rest = [s for s in sockets if s not in served]
    wait_until("the others have their turn", lambda: select.select(rest, [], [], 0)[0])
    for s in rest:
        s.close()
    wait_until("it serves again", lambda: h.stats()["connections"] == 1)
    log = h.stop()
    assert log.count("could not accept") < 40


def cpu(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_an_idle_listener_with_connections_uses_no_cpu(start):
    h = start()
    sockets = [h.connect() for _ in range(50)]
    for i, s in enumerate(sockets):
        s.sendall(request(b"Cookie: a\r\n" if i % 2 else b"", line=b"GET /instant HTTP/1.1"))
        read_response(s)
    waiting = h.send(request(line=b"GET /delay/1500/ HTTP/1.1"))
    used = cpu(h.process.pid)
    time.sleep(1)
    assert cpu(h.process.pid) - used < 0.05
    assert read_response(waiting)[0] == 200


def test_rebinding_moves_to_the_new_port_and_keeps_open_connections(start):
    port2 = free_port()
    h = start(port2=port2)
    s = h.send(request(line=b"GET /delay/200/ HTTP/1.1"))
    h.process.send_signal(signal.SIGUSR1)
    wait_until("bound", lambda: any("rebound: 1" in line for line in h.log))
    assert read_response(s)[0] == 200
    with pytest.raises(OSError):
        h.connect()
    other = h.connect(port2)
    other.sendall(request(line=b"GET /instant HTTP/1.1"))
    assert read_response(other)[0] == 200


def test_stopping_with_waiting_reading_and_writing_clients_neither_aborts_nor_leaks(start):
    h = start()
    sockets = []
    for data in [request(line=b"GET /delay/60000/ HTTP/1.1"), request(b"Cookie: a\r\n", line=b"GET /delay/60000/ HTTP/1.1"),
                 request(b"Content-Length: 5\r\n", body=b"he"), request(CHUNKED, body=b"5\r\nhe"), b"GET /a", b"",
                 request(line=b"GET /size/30000000 HTTP/1.1"), request(b"Cookie: a\r\n", line=b"GET /size/30000000 HTTP/1.1"),
                 request(line=b"GET /instant HTTP/1.1"), request(b"Cookie: a\r\n", line=b"GET /instant HTTP/1.1")]:
        sockets += [h.send(data) for _ in range(5)]
    time.sleep(0.2)
    assert h.stop()


def test_random_bytes_from_many_clients_harm_nobody(start):
    h = start(head_ms=500, body_ms=500)
    rng = random.Random(42)
    words = [b"GET ", b"POST ", b"/a", b" HTTP/1.1", b"\r\n", b"\r\n\r\n", b"Host: x", b"Content-Length: ", b"5", b": ",
             CHUNKED, b"0\r\n\r\n", b"5\r\nhello\r\n", b"\n", b"\0", b"x" * 3000, b"Connection: close\r\n", b"Cookie: a;b;c\r\n",
             request(), request(b"Content-Length: 5\r\n", body=b"hello"), request(CHUNKED, body=b"0\r\n\r\n"), b"Expect: 100-continue\r\n"]
    for _ in range(600):
        s = h.connect()
        for _ in range(rng.randrange(1, 5)):
            try:
                s.sendall(b"".join(rng.choice(words) for _ in range(rng.randrange(1, 9))))
            except OSError:
                break
        if rng.random() < 0.5:
            try:
                s.shutdown(socket.SHUT_WR)
                s.settimeout(5)
                data = b""
                while piece := s.recv(65536):
                    data += piece
                assert b"<html" not in data.lower()
            except OSError:
                pass
        reset(s) if rng.random() < 0.3 else s.close()
    wait_until("all gone", lambda: h.stats()["connections"] == 1 and h.stats()["busy"] == 1, 20)
