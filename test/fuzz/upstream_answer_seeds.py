"""upstream_answer_seeds.py DIRECTORY - answers to begin from, one of each framing."""
import pathlib
import sys

OK = b"HTTP/1.1 200 OK\r\n"
SEEDS = [
    OK + b"Content-Length: 2\r\n\r\nhi", OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-T: u\r\n\r\n",
    OK + b"\r\nto the end", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx",
    b"HTTP/1.1 100 C\r\nX: y\r\n\r\n" + OK + b"Connection: foo, close\r\nContent-Length: 1\r\n\r\nx",
    b"HTTP/1.1 204 No\r\nX-Fold: a\r\n  b\r\n\r\n", OK + b"Content-Length: 1000\r\n\r\nH",
]
out = pathlib.Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
for i, seed in enumerate(SEEDS):
    (out / f"seed{i}").write_bytes(seed)
