"""Every real client with every real server, and the table of it."""

import json
import os
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import anyio
from gate import TOLLGATE, Gate
from servers import HOME, Server, Try, servers

HERE = Path(__file__).parent
# How many clients' programs run at once: each uses every server at the same time.
CLIENTS_AT_ONCE = 3
# How long a client waits for what it is to be shown or told, in seconds.
PATIENCE = 20

Found = dict[str, dict[str, str]]
"""For each server what was tried, and "ok" or what went wrong."""


@dataclass
class Program:
    """A client: a version of an SDK, and a transport."""

    version: str
    transport: str
    sdk: str
    command: list[str]
    package: str = ""
    lacks: str = ""
    """What it cannot try."""

    @property
    def name(self) -> str:
        return f"{self.version} {self.transport:<5} {self.sdk}"

    async def visit(self, gate: Gate, port: int, visited: list[Server]) -> Found:
        """What it found on each server, by the gate's port; a client of stdio starts a gate of its own for each."""
        job = {
            "packages": str(HOME),
            "package": self.package,
            "version": self.version,
            "transport": self.transport,
            "servers": [self._server(gate, port, server) for server in visited],
        }
        text = json.dumps(job).replace("{client}", self.name.replace(" ", ""))
        environment = {**os.environ, "PYTHONPATH": str(HOME / self.package)}
        process = await anyio.run_process(
            [*self.command, text], check=False, stderr=None, env=environment
        )
        answers = [json.loads(line) for line in process.stdout.splitlines()]
        found: Found = {server.name: {"all": "no answer"} for server in visited}
        return found | {answer["name"]: answer["results"] for answer in answers}

    def _server(self, gate: Gate, port: int, server: Server) -> dict[str, object]:
        url = f"http://127.0.0.1:{port}/{server.name}" + "/sse" * (self.transport == "sse")
        alone = gate.folder / f"{server.name}.toml"
        if self.transport == "stdio":
            alone.write_text(
                f'server.state = "{server.name}"\n' + routes(**{server.name: server.section})
            )
        command = [TOLLGATE, "stdio", "--config", str(alone)]
        return {"name": server.name, "url": url, "command": command, "tries": self.tries(server)}

    def tries(self, server: Server) -> list[Try]:
        """What of it this client can try."""
        return [
            what
            | {"patience": PATIENCE}
            for what in server.tries
            if str(what["since"]) <= self.version < str(what["before"])
            and what["name"] != self.lacks
        ]


def programs() -> list[Program]:
    node, python = ["node", str(HERE / "pairs.mjs")], [sys.executable, str(HERE / "pairs.py")]
    return [
        Program("2024-11-05", "sse", "TypeScript 1.9.0", node, "sdk-2024-11-05"),
        Program("2024-11-05", "stdio", "TypeScript 1.9.0", node, "sdk-2024-11-05"),
        Program("2024-11-05", "sse", "Python 1.6.0", python, "mcp-1.6.0", lacks="progress"),
        Program("2025-03-26", "http", "TypeScript 1.12.3", node, "sdk-2025-03-26"),
        Program("2025-06-18", "http", "TypeScript 1.17.5", node, "sdk-2025-06-18"),
        Program("2025-06-18", "http", "Python 1.12.4", python, "mcp-1.12.4"),
        Program("2025-11-25", "http", "TypeScript 1.32.2", node, "@modelcontextprotocol/sdk"),
        Program("2026-07-28", "http", "TypeScript 2.4.0", node),
        Program("2026-07-28", "stdio", "TypeScript 2.4.0", node),
        Program("2026-07-28", "http", "Python 2.3.0", python),
    ]


def routes(**sections: str) -> str:
    """A configuration: each upstream on a route of its own, the first on /mcp besides."""
    text = 'server.limits.settle = "20s"\n\n'
    for name, section in sections.items():
        text += f'[routes."/{name}"]\nupstreams = ["{name}"]\nnames = "never"\n\n'
        text += f"[upstreams.{name}]\n{section}\n\n"
    return text + f'[routes."/mcp"]\nupstreams = ["{next(iter(sections))}"]\nnames = "never"\n'


async def every_client_uses_every_server() -> None:
    """Prints a table: how much of what both know worked."""
    gate, clients, visited = Gate(), programs(), servers()
    found: dict[str, Found] = {}
    few = anyio.CapacityLimiter(CLIENTS_AT_ONCE)

    async def visit(client: Program) -> None:
        async with few:
            found[client.name] = await client.visit(gate, gate.port, visited)

    async with AsyncExitStack() as stack:
        for server in visited:
            await stack.enter_async_context(server.running())
        gate.routes.write_text(routes(**{server.name: server.section for server in visited}))
        stack.enter_context(gate)
        async with anyio.create_task_group() as tasks:
            for client in clients:
                tasks.start_soon(visit, client)
        failures = show(clients, visited, found)
        assert not failures, "\n".join(["", *failures])


def show(clients: list[Program], visited: list[Server], found: dict[str, Found]) -> list[str]:
    """Prints the table: of each pair how much of what was tried worked. Returns what did not."""
    failures = []
    print(" " * 34, *[f"{server.version:>10}" for server in visited])
    print(" " * 34, *[f"{server.transport:>10}" for server in visited])
    for client in clients:
        cells = []
        for server in visited:
            results = found[client.name][server.name]
            wrong = {name: why for name, why in results.items() if why != "ok"}
            cells.append(f"{len(results) - len(wrong)}/{len(results)}")
            pair = f"{client.name} with {server.name}"
            failures += [f"{pair}: {name}: {why}" for name, why in wrong.items()]
        print(f"{client.name:<34}", *[f"{cell:>10}" for cell in cells], flush=True)
    return failures
