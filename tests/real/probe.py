"""A tool with an argument of each type, by the official Python SDK: FastMCP of version 1, MCPServer of 2."""

try:
    from mcp.server.mcpserver import MCPServer
except ImportError:
    from mcp.server.fastmcp import FastMCP as MCPServer
from pydantic import BaseModel


class Deep(BaseModel):
    count: int
    tag: str | None = None


server = MCPServer("probe")


@server.tool()
def probe(
    need: str,
    count: int = 0,
    ratio: float = 0,
    on: bool = False,
    text: str = "",
    items: list[str] | None = None,
    deep: Deep | None = None,
) -> str:
    return f"took {need}"


if __name__ == "__main__":
    server.run()
