"""A plain HTTP/1.1 client connection that never repeats a request and can hang up in the middle of one."""

import asyncio


class Cut(Exception):
    """No whole answer came.  `sent`: some of the request may have left."""

    def __init__(self, why, sent):
        super().__init__(why)
        self.sent = sent


class Connection:
    """One kept connection to a host and port; made anew after anything odd."""

    def __init__(self, host, port, timeout=20.0):
        self.host = host
        self.port = port
        self.timeout = timeout
        self.reader = self.writer = None

    def close(self):
        if self.writer is not None:
            self.writer.transport.abort()
        self.reader = self.writer = None

    async def _open(self):
        if self.writer is not None and (self.writer.is_closing() or self.reader.at_eof()):
            self.close()
        if self.writer is None:
            try:
                self.reader, self.writer = await asyncio.wait_for(asyncio.open_connection(self.host, self.port, limit=1 << 22), 5)
            except (OSError, asyncio.TimeoutError) as e:
                raise Cut(f"connect: {e!r}", sent=False) from None

    async def ask(self, method, target, headers, body=b"", hang_up=None):
        """(status, {lower-case header: value}, body bytes).

        hang_up: ("body", share) leaves in the middle of the upload, ("answer", seconds) so long after it.
        """
        await self._open()
        head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items())
        head += f"Host: {self.host}:{self.port}\r\n" + (f"Content-Length: {len(body)}\r\n" if body or method != "GET" else "") + "\r\n"
        raw = head.encode() + body
        try:
            if hang_up and hang_up[0] == "body":
                self.writer.write(raw[:int(len(raw) * hang_up[1])])
                await asyncio.wait_for(self.writer.drain(), 5)
                raise Cut("hung up in the upload", sent=True)
            self.writer.write(raw)
            if hang_up:
                await asyncio.sleep(hang_up[1])
                raise Cut("hung up before the answer", sent=True)
            return await asyncio.wait_for(self._answer(method), self.timeout)
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError, ValueError) as e:
            self.close()
            raise Cut(repr(e), sent=True) from None
        except Cut:
            self.close()
            raise

    async def _answer(self, method):
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = {}
        for line in lines[1:-2]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        body = await self._body(method, status, headers)
        if headers.get("connection", "").lower() == "close":
            self.close()
        return status, headers, body

    async def _body(self, method, status, headers):
        if method == "HEAD" or status in (204, 304):
            return b""
        if "content-length" in headers:
            return await self.reader.readexactly(int(headers["content-length"]))
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return await self.reader.read()
        parts = []
        while size := int((await self.reader.readline()).split(b";")[0], 16):
            parts.append(await self.reader.readexactly(size))
            await self.reader.readexactly(2)
        await self.reader.readuntil(b"\r\n")
        return b"".join(parts)
