"""Scenes of the bridge: real clients and real servers of every revision of the protocol, each with each."""

import json
import os
import subprocess
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import anyio
import mcp_types as types
from gate import Gate, eventually, free_port
from mcp.client.client import Client
from record import Recorder
from sdk import text
from servers import HOME, REFERENCE, Server, Try, everything, listens, servers

HERE = Path(__file__).parent
TRANSCRIPTS = HOME / "transcripts"
EVERYTHING = "@modelcontextprotocol/server-everything@2026.8.31"


# ------------------------------------------------------------------------------------------------ questions in mid-call


async def a_modern_client_uses_a_legacy_server_that_asks() -> None:
    """Over stdio; ends with a transcript of all that was said on both sides of the gate."""
    recorder, gate = Recorder(), Gate()
    spoken = gate.folder / "spoken"
    command = [str(HERE / "tee.py"), str(spoken), "npx", "-y", EVERYTHING]
    gate.routes.write_text(routes(everything=f"command = {sys.executable!r}\nargs = {command}"))
    with gate:
        async with askable(gate.url) as client:
            await shown(client, ASKING_TOOLS)
        async with (
            recorder.relay(gate.port, ">", "<") as port,
            askable(f"http://127.0.0.1:{port}/everything") as client,
        ):
            await is_asked(client, ASKING_TOOLS)
        recorder.read(spoken)
    title = (
        "The reference server of 2025-11-25 asks in mid-call; the Python SDK's client of 2026-07-28 "
        "answers by calling again. (Long texts and lists are cut short.)"
    )
    client_line = "2026-07-28, the Python SDK 2.3.0"
    transcript = recorder.transcript(title, f"everything: legacy 2025-11-25, {EVERYTHING}", client_line)
    write("modern_client_and_legacy_server", transcript)


ASKING_TOOLS = [
    ("trigger-elicitation-request", {}, "- Name: Ada"),
    ("trigger-sampling-request", {"prompt": "The capital of France?", "maxTokens": 5}, '"text": "Paris"'),
    ("get-roots-list", {}, "file:///srv/project"),
    # The first answer is the error -32042, a page to be opened before; then it asks to open the page of the call.
    ("trigger-url-elicitation", {"url": "https://example.com/", "errorPath": True}, "completed the URL elicitation"),
]


async def is_asked(client: Client, calls: list[tuple[str, dict[str, object], str]]) -> None:
    for tool, arguments, answer in calls:
        result = await client.call_tool(tool, arguments)
        assert not result.is_error and answer in text(result), f"{tool}: {result}"


async def shown(client: Client, calls: list[tuple[str, dict[str, object], str]]) -> None:
    """Waits until the tools are listed: those for clients that can be asked come a little later."""

    async def listed() -> bool:
        tools = (await client.list_tools(cache_mode="refresh")).tools
        return {tool for tool, _, _ in calls} <= {tool.name for tool in tools}

    await eventually(f"the tools {[tool for tool, _, _ in calls]}", listed)


async def answer_question(context: object, params: types.ElicitRequestParams) -> types.ElicitResult:
    """Fills in what must be given."""
    if params.mode == "url":
        return types.ElicitResult(action="accept")
    values = {"string": "Ada", "integer": 42, "number": 1.5, "boolean": True}
    asked = params.requested_schema["properties"]
    wanted = params.requested_schema.get("required") or list(asked)
    content = {name: values[asked[name]["type"]] for name in wanted}
    return types.ElicitResult(action="accept", content=content)


async def answer_sample(
    context: object, params: types.CreateMessageRequestParams
) -> types.CreateMessageResult:
    content = types.TextContent(type="text", text="Paris")
    return types.CreateMessageResult(role="assistant", model="a-model", content=content)


async def answer_roots(context: object) -> types.ListRootsResult:
    return types.ListRootsResult(roots=[types.Root(uri="file:///srv/project", name="project")])


def askable(url: str, mode: str = "2026-07-28") -> Client:
    """The Python SDK's client with somebody who answers whatever a server asks."""
    return Client(
        url,
        mode=mode,
        elicitation_callback=answer_question,
        sampling_callback=answer_sample,
        list_roots_callback=answer_roots,
    )


def routes(**sections: str) -> str:
    """A configuration: each upstream on a route of its own, the first on /mcp besides."""
    text = '[server]\nlimits.settle = "20s"\n\n'
    for name, section in sections.items():
        text += f'[routes."/{name}"]\nupstreams = ["{name}"]\nnames = "never"\n\n'
        text += f"[upstreams.{name}]\n{section}\n\n"
    return text + f'[routes."/mcp"]\nupstreams = ["{next(iter(sections))}"]\nnames = "never"\n'


def write(name: str, transcript: str) -> None:
    TRANSCRIPTS.mkdir(exist_ok=True)
    (TRANSCRIPTS / f"{name}.txt").write_text(transcript)


# ------------------------------------------------------------------------------------------------ each with each


@dataclass
class Program:
    """A client: a version of an SDK over one transport."""

    version: str
    transport: str
    sdk: str
    command: list[str]
    package: str = ""

    @property
    def name(self) -> str:
        return f"{self.version} {self.transport:<5} {self.sdk}"

    async def visit(self, gate: Gate, visited: list[Server]) -> dict[str, dict[str, object]]:
        """What it found on each server."""
        job = {
            "packages": str(HOME),
            "package": self.package,
            "version": self.version,
            "transport": self.transport,
            "servers": [self._server(gate, server) for server in visited],
        }
        environment = {**os.environ, "PYTHONPATH": str(HOME / self.package)}
        text = json.dumps(job).replace("{client}", self.name.replace(" ", ""))
        process = await anyio.run_process(
            [*self.command, text], check=False, stderr=None, env=environment
        )
        found = [json.loads(line) for line in process.stdout.splitlines()]
        return {server["name"]: server for server in found}

    def _server(self, gate: Gate, server: Server) -> dict[str, object]:
        url = f"http://127.0.0.1:{gate.port}/{server.name}" + "/sse" * (self.transport == "sse")
        tries = [
            what for what in server.tries if str(what["since"]) <= self.version < str(what["before"])
        ]
        return {"name": server.name, "url": url, "tries": tries}


def programs() -> list[Program]:
    node, python = ["node", str(HERE / "pairs.mjs")], [sys.executable, str(HERE / "pairs.py")]
    return [
        Program("2024-11-05", "sse", "TypeScript 1.9.0", node, "sdk-2024-11-05"),
        Program("2024-11-05", "sse", "Python 1.6.0", python, "mcp-1.6.0"),
        Program("2025-03-26", "http", "TypeScript 1.12.3", node, "sdk-2025-03-26"),
        Program("2025-06-18", "http", "TypeScript 1.17.5", node, "sdk-2025-06-18"),
        Program("2025-06-18", "http", "Python 1.12.4", python, "mcp-1.12.4"),
        Program("2025-11-25", "http", "TypeScript 1.32.2", node, "@modelcontextprotocol/sdk"),
        Program("2026-07-28", "http", "TypeScript 2.4.0", node),
        Program("2026-07-28", "http", "Python 2.3.0", python),
    ]


async def every_client_uses_every_server() -> None:
    """Prints a table: how much of what both know worked."""
    gate, clients = Gate(), programs()
    found: dict[str, dict[str, dict[str, object]]] = {}
    async with AsyncExitStack() as stack:
        visited = servers()
        async with anyio.create_task_group() as tasks:
            for server in visited:
                await stack.enter_async_context(server.running())
        gate.routes.write_text(routes(**{server.name: server.section for server in visited}))
        stack.enter_context(gate)
        few = anyio.CapacityLimiter(3)

        async def visit(client: Program) -> None:
            async with few:
                found[client.name] = await client.visit(gate, visited)

        async with anyio.create_task_group() as tasks:
            for client in clients:
                tasks.start_soon(visit, client)
    failures = show(clients, visited, found)
    assert not failures, "\n" + "\n".join(failures)


def show(
    clients: list[Program], visited: list[Server], found: dict[str, dict[str, dict[str, object]]]
) -> list[str]:
    """Prints the table; returns what failed."""
    failures = []
    print(" " * 36, *[f"{server.name:>16}" for server in visited])
    for client in clients:
        cells = []
        for server in visited:
            seen = found[client.name].get(server.name, {"results": {"all": "no answer"}})
            results = seen["results"]
            assert isinstance(results, dict)
            wrong = {name: why for name, why in results.items() if why != "ok"}
            cells.append(f"{len(results) - len(wrong)}/{len(results)}")
            failures += [f"{client.name} > {server.name}: {name}: {why}" for name, why in wrong.items()]
        print(f"{client.name:<36}", *[f"{cell:>16}" for cell in cells], flush=True)
    return failures


SCENES = [
    a_modern_client_uses_a_legacy_server_that_asks,
    every_client_uses_every_server,
]
