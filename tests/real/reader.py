"""A server of the official Python SDK whose resources are found by what `urllib` makes of a URI.

usage: python reader.py FOLDER URI=TEXT…     FOLDER: its files are served, by `file:` URIs
"""

import posixpath
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import anyio
import mcp_types as types
from mcp.server.lowlevel.server import Server
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError

FOLDER = Path(sys.argv[1])
TEXTS = dict(word.split("=", 1) for word in sys.argv[2:])


def content(uri: str) -> str | None:
    """What a server gives that takes all that its library reads, as many do."""
    parts = urlsplit(uri)
    if parts.scheme == "file":
        path = Path(unquote(parts.path))
        return path.read_text() if path.resolve().is_relative_to(FOLDER) else None
    host = (parts.hostname or "").rstrip(".").encode("idna").decode()
    port = "" if parts.port in (None, {"http": 80, "https": 443}.get(parts.scheme)) else f":{parts.port}"
    path = posixpath.normpath(unquote(parts.path))
    return TEXTS.get(f"{parts.scheme}://{host}{port}{path}") if path.startswith("/") else None


async def listed(*_: Any) -> types.ListResourcesResult:
    files = [path.as_uri() for path in sorted(FOLDER.rglob("*")) if path.is_file()]
    return types.ListResourcesResult(
        resources=[types.Resource(uri=uri, name=uri) for uri in [*files, *TEXTS]],
        ttl_ms=0,
        cache_scope="private",
    )


async def read(_: Any, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    try:
        text = content(params.uri)
    except (OSError, ValueError):
        text = None
    if text is None:
        raise MCPError(-32002, "Resource not found")
    found = types.TextResourceContents(uri=params.uri, text=text)
    return types.ReadResourceResult(contents=[found], ttl_ms=0, cache_scope="private")


async def main() -> None:
    server: Server[Any] = Server("reader", on_list_resources=listed, on_read_resource=read)
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


if __name__ == "__main__":
    anyio.run(main)
