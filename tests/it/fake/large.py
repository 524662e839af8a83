"""A server of large answers: `large.py KIND FOLDER`. A kind begins with the transport, `stdio`, `json`, `stream` or `sse`;
behind it, each after a dash, may stand how that is:

    modern      speaks 2026-07-28; else 2025-06-18
    chunked     in chunks of HTTP/1.1; else a body of known length, or up to its end
    closes      HTTP/1.0, up to the end of the connection
    gzip        in that content coding
    lines       an event of many lines
    structured, entries, blob
                what is large: `structuredContent`, many entries of content, a resource; else one text

Its tools answer with as many MiB as their argument says. One that `stalls` sends three quarters of its answer, notes
that in FOLDER/log, and waits for the file FOLDER/go. Over HTTP it prints its port, and ends with its standard input.
"""

import gzip
import http.server
import json
import os
import queue
import sys
import threading
import time

TRANSPORT, *HOW = sys.argv[1].split("-")
FOLDER = sys.argv[2]
STREAMS = {}


def result(message):
    method, params = message["method"], message.get("params") or {}
    modern = {"resultType": "complete"} if "modern" in HOW else {}
    lists = {"ttlMs": 0, "cacheScope": "public"} if modern else {}
    if method == "server/discover" and modern:
        server = {"io.modelcontextprotocol/serverInfo": {"name": "s", "version": "1"}}
        versions = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
        return modern | lists | versions | {"_meta": server}
    if method == "initialize" and not modern:
        return {
            "protocolVersion": "2025-06-18",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "s", "version": "1"},
        }
    if method == "tools/list":
        tools = [{"name": name, "inputSchema": {"type": "object"}} for name in ("act", "hasty")]
        return modern | lists | {"tools": tools}
    if method == "tools/call":
        return modern | called(int(params["arguments"]["mib"]) << 20)
    return None


def called(length):
    # What is all the same is no test of a coding.
    text = os.urandom(length // 2).hex() if "gzip" in HOW else "x" * length
    if "structured" in HOW:
        return {"content": [], "structuredContent": {"text": text}}
    if "blob" in HOW:
        return {"content": [{"type": "resource", "resource": {"uri": "mem://x", "blob": text}}]}
    parts = [text[at : at + 1024] for at in range(0, length, 1024)] if "entries" in HOW else [text]
    return {"content": [{"type": "text", "text": part} for part in parts]}


def answer(message):
    """The bytes that answer it, and whether it stalls."""
    found = result(message)
    kind = {"result": found} if found else {"error": {"code": -32601, "message": "no"}}
    text = json.dumps({"jsonrpc": "2.0", "id": message["id"], **kind}).encode()
    if "gzip" in HOW:
        text = gzip.compress(text, 1)
    arguments = (message.get("params") or {}).get("arguments") or {}
    return text, bool(arguments.get("stalls"))


class Chunks:
    """Writes each piece as a chunk (RFC 9112 §7.1)."""

    def __init__(self, out):
        self.out = out

    def write(self, data):
        for at in range(0, len(data), 40_000):
            piece = data[at : at + 40_000]
            self.out.write(b"%x\r\n%s\r\n" % (len(piece), piece))

    def flush(self):
        self.out.flush()


def event(text):
    """An event, perhaps of many lines; between members of an object a line may end."""
    if "lines" in HOW:
        text = text.replace(b', "', b',\n"').replace(b"\n", b"\ndata: ")
    return b"data: " + text + b"\n\n"


def write(out, text, stalls):
    cut = len(text) * 3 // 4 if stalls else len(text)
    out.write(text[:cut])
    out.flush()
    if stalls:
        with open(FOLDER + "/log", "a") as log:
            log.write("stalls\n")
        while not os.path.exists(FOLDER + "/go"):
            time.sleep(0.02)
        out.write(text[cut:])
        out.flush()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0" if "closes" in HOW else "HTTP/1.1"

    def log_message(self, *_):
        pass

    def head(self, status, kind, length=None, chunked=False):
        self.send_response(status)
        if chunked:
            self.send_header("transfer-encoding", "chunked")
        if "gzip" in HOW and status == 200:
            self.send_header("content-encoding", "gzip")
        self.send_header("content-type", kind)
        self.send_header("content-length", str(length)) if length is not None else None
        self.send_header("connection", "close") if length is None and not chunked else None
        self.end_headers()

    def do_GET(self):
        if TRANSPORT != "sse":
            return self.head(405, "text/plain", 0)
        name = str(id(self))
        STREAMS[name] = queue.Queue()
        self.head(200, "text/event-stream")
        self.wfile.write(b"event: endpoint\ndata: /told/" + name.encode() + b"\n\n")
        self.wfile.flush()
        while True:
            text, stalls = STREAMS[name].get()
            write(self.wfile, event(text), stalls)

    def do_DELETE(self):
        self.head(405, "text/plain", 0)

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if TRANSPORT == "sse" and not self.path.startswith("/told/"):
            return self.head(405, "text/plain", 0)
        if "id" not in message:
            return self.head(202, "text/plain", 0)
        text, stalls = answer(message)
        if TRANSPORT == "sse":
            STREAMS[self.path.rsplit("/", 1)[1]].put((text, stalls))
            return self.head(202, "text/plain", 0)
        kind, body = ("text/event-stream", event(text)) if TRANSPORT == "stream" else ("application/json", text)
        if "chunked" in HOW:
            self.head(200, kind, chunked=True)
            write(Chunks(self.wfile), body, stalls)
            return self.wfile.write(b"0\r\n\r\n")
        ends = TRANSPORT == "stream" or "closes" in HOW
        self.head(200, kind, None if ends else len(body))
        self.close_connection = ends
        write(self.wfile, body, stalls)


if TRANSPORT == "stdio":
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message:
            text, stalls = answer(message)
            write(sys.stdout.buffer, text + b"\n", stalls)
else:
    http.server.ThreadingHTTPServer.daemon_threads = True
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()
