"""Writes down a conversation between a client, the gate and a server, in the notation of tests/transcripts.

`>` is what the client says, `<` what the gate answers (`|` on a stream of events); `>>` is what the gate says to the
server, `<<` what the server says.
"""

import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import anyio
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.buffered import BufferedByteReceiveStream

# Longest head of a request or an answer, in bytes.
HEAD_MAX = 1 << 16
# What is longer is shortened in a transcript, which is to be read by people: texts (characters), lists of things.
TEXT_MAX, LIST_MAX = 160, 3


@dataclass(frozen=True)
class Line:
    at: int
    """Nanoseconds of a clock that all processes of the machine share."""
    mark: str
    exchange: object
    """What it is part of: a request over HTTP with its answer, or a process."""
    said: str
    """A message; or what HTTP says without one."""
    status: str = ""

    def method(self) -> str:
        return json.loads(self.said).get("method", "") if self.said.startswith("{") else ""


class Recorder:
    """Relays of HTTP and files of `tee.py`, and all that was said there."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.exchanges = 0

    @asynccontextmanager
    async def relay(self, port: int, to: str, back: str) -> AsyncIterator[int]:
        """A port which leads to another, while all is written down with these marks (`>`, `<` or `>>`, `<<`)."""

        async def serve(client: ByteStream) -> None:
            async with client, await anyio.connect_tcp("127.0.0.1", port) as server:
                asked: list[int] = []
                async with anyio.create_task_group() as both:
                    for pump in (
                        _Pump(client, server, lambda *said: self._asked(to, asked, *said)),
                        _Pump(server, client, lambda *said: self._answered(back, asked, *said)),
                    ):
                        both.start_soon(pump.run, both.cancel_scope)

        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, serve)
            yield listener.extra(SocketAttribute.local_port)
            tasks.cancel_scope.cancel()

    def _asked(self, mark: str, asked: list[int], first: str, body: str) -> None:
        if first:
            self.exchanges += 1
            asked.append(self.exchanges)
        method = first.split(" ")[0]
        if method in ("GET", "DELETE"):
            self._note(mark, asked[-1], method)
        elif body:
            self._note(mark, asked[-1], body)

    def _answered(self, mark: str, asked: list[int], first: str, body: str) -> None:
        """Over one connection of HTTP/1 the answers come in the order of the requests."""
        if first and not body:
            self._note(mark, asked[-1], "", first.split(" ")[1])
        elif first:
            self._note(mark, asked[-1], body, first.split(" ")[1])
        elif body:
            self._note("|" if mark == "<" else mark, asked[-1], body)

    def _note(self, mark: str, exchange: object, said: str, status: str = "") -> None:
        self.lines.append(Line(time.monotonic_ns(), mark, exchange, said, status))

    def read(self, file: Path) -> None:
        """Takes in what `tee.py` wrote."""
        for line in file.read_text().splitlines():
            at, process, mark, said = json.loads(line)
            self.lines.append(Line(at, mark, f"process {process}", said))

    def transcript(self, title: str, upstream: str, client: str) -> str:
        """The whole as text: what the client says and hears, and of the other side what its calls lead to."""
        lines = sorted(self.lines, key=lambda line: line.at)
        called = {line.exchange for line in lines if line.method() == "tools/call"}
        heard = [line for line in lines if len(line.mark) == 1 or line.exchange in called]
        processes = list(
            dict.fromkeys(line.exchange for line in heard if isinstance(line.exchange, str))
        )
        name, _ = upstream.split(":", 1)
        shown = [
            f"# {title}",
            "# Recorded by tests/real/run.sh. Long texts and lists are cut short; of the upstream's side",
            "# only the connections are shown that calls were sent on.",
            f"upstream {upstream}",
            f"client: {client}",
        ]
        for line in heard:
            if line.mark == ">":
                shown.append("")
            if len(line.mark) == 2 and not line.said:
                continue
            number = processes.index(line.exchange) + 1 if line.exchange in processes else 0
            who = f"{name}#{number}" if len(processes) > 1 and number else name
            parts = [line.mark, who if len(line.mark) == 2 else line.status, _shortened(line.said)]
            shown.append(" ".join(part for part in parts if part))
        return _named("\n".join(_without_echoes(shown)) + "\n")


class _Pump:
    """Copies one direction of a connection, and tells what it says: (first line of the head, body), or an event."""

    def __init__(
        self, source: ByteStream, sink: ByteStream, tell: Callable[[str, str], None]
    ) -> None:
        self.source, self.sink, self.tell = BufferedByteReceiveStream(source), sink, tell

    async def run(self, scope: anyio.CancelScope) -> None:
        try:
            while True:
                await self._message()
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.IncompleteRead):
            scope.cancel()  # whoever closes closes both

    async def _message(self) -> None:
        head = await self.source.receive_until(b"\r\n\r\n", HEAD_MAX)
        first, *headers = head.decode("latin-1").split("\r\n")
        header = {
            name.lower(): value.strip() for name, _, value in (h.partition(":") for h in headers)
        }
        if header.get("transfer-encoding") == "chunked":
            await self.sink.send(head + b"\r\n\r\n")
            await self._chunks(first, "event-stream" in header.get("content-type", ""))
        else:
            body = await self.source.receive_exactly(int(header.get("content-length", 0)))
            self.tell(first, body.decode())
            await self.sink.send(head + b"\r\n\r\n" + body)

    async def _chunks(self, first: str, stream: bool) -> None:
        body = b""
        while True:
            size = await self.source.receive_until(b"\r\n", HEAD_MAX)
            chunk = await self.source.receive_exactly(int(size, 16) + 2)
            body += chunk[:-2].replace(b"\r", b"")
            while stream and b"\n\n" in body:
                event, _, body = body.partition(b"\n\n")
                data = [
                    line[5:].strip() for line in event.splitlines() if line.startswith(b"data:")
                ]
                self.tell("", b"\n".join(data).decode())
            if not stream and len(chunk) == 2:
                self.tell(first, body.decode())
            await self.sink.send(size + b"\r\n" + chunk)
            if len(chunk) == 2:
                return


def _without_echoes(lines: list[str]) -> list[str]:
    """The lines, those that are repeated at once only once."""
    counted = [(line, len(list(same))) for line, same in groupby(lines)]
    return [f"{line} ({times} times)" if times > 1 else line for line, times in counted]


def _shortened(said: str) -> str:
    """The message with long texts and lists cut short."""

    def cut(value: object) -> object:
        if isinstance(value, str) and len(value) > TEXT_MAX:
            return f"{value[:60]}…"
        if isinstance(value, list):
            kept = [cut(entry) for entry in value[:LIST_MAX]]
            return kept + [f"… and {len(value) - LIST_MAX} more"] * (len(value) > LIST_MAX)
        if isinstance(value, dict):
            if set(value) > {"inputSchema", "name"}:
                return {"name": value["name"], "…": "…"}
            short = {
                key: entry if key == "requestState" else cut(entry) for key, entry in value.items()
            }
            if "properties" in short and len(short["properties"]) > LIST_MAX:
                kept = dict(list(short["properties"].items())[:LIST_MAX])
                short["properties"] = {**kept, "…": f"{len(value['properties']) - LIST_MAX} more"}
            return short
        return value

    if not said.startswith(("{", "[")):
        return said
    return json.dumps(cut(json.loads(said)), ensure_ascii=False, separators=(",", ":"))


def _named(text: str) -> str:
    """The text with names in place of what is sealed or drawn by lot."""
    for name, pattern in (
        ("state", r'"requestState":("(?:[^"\\]|\\.)*")'),
        ("ask", r'"id":("tollgate-[0-9a-f]+-[0-9]+")'),
        ("elicitation", r'"elicitationId":"([0-9a-f-]{36})"'),
    ):
        for number, secret in enumerate(dict.fromkeys(re.findall(pattern, text)), 1):
            text = text.replace(secret, f"<{name}-{number}>")
    return text
