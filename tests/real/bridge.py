"""Scenes of the bridge: real clients and real servers of different revisions of the protocol."""

import json
import os
import shutil
import sys
from pathlib import Path

import mcp_types as types
from gate import TOLLGATE, Gate, Process, below, eventually
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters
from record import Recorder
from sdk import text
from servers import EVERYTHING, HOME, asking, servers
from table import every_client_uses_every_server, programs, routes

HERE = Path(__file__).parent
TRANSCRIPTS = HOME / "transcripts"
ASKING_TOOLS = [
    ("trigger-elicitation-request", {}, "- Name: Ada"),
    (
        "trigger-sampling-request",
        {"prompt": "The capital of France?", "maxTokens": 5},
        '"text": "Paris"',
    ),
    ("get-roots-list", {}, "file:///srv/project"),
    # The first answer is the error -32042, a page to be opened before; then it asks to open the call's own page.
    (
        "trigger-url-elicitation",
        {"url": "https://example.com/", "errorPath": True},
        "User completed the URL",
    ),
]

# ------------------------------------------------------------------------------------------------ questions in mid-call


async def a_modern_client_is_asked_by_a_legacy_server() -> None:
    """Over stdio; leaves a transcript of all that was said on both sides of the gate."""
    recorder, gate = Recorder(), Gate()
    spoken = gate.folder / "spoken"
    command = [str(HERE / "tee.py"), str(spoken), "npx", "-y", EVERYTHING]
    gate.routes.write_text(routes(everything=f"command = {sys.executable!r}\nargs = {command}"))
    with gate:
        async with askable(gate.url) as client:
            await shown(client)
        async with (
            recorder.relay(gate.port, ">", "<") as port,
            askable(f"http://127.0.0.1:{port}/mcp") as client,
        ):
            await is_asked(client)
        recorder.read(spoken)
    write(
        "modern_client_is_asked_by_legacy_server",
        recorder,
        title="A server of 2025-11-25 asks in mid-call; a client of 2026-07-28 gets each question as a result, and "
        "answers by calling again.",
        upstream=f"everything: legacy 2025-11-25, {EVERYTHING} over stdio",
        client="2026-07-28, the Python SDK 2.3.0 over HTTP",
    )


async def a_modern_client_is_asked_by_a_legacy_server_over_http() -> None:
    server = next(server for server in servers() if server.name == "2025-11-25-http")
    gate = Gate()
    async with server.running():
        gate.routes.write_text(routes(everything=server.section))
        with gate:
            async with askable(gate.url) as client:
                await shown(client)
                await is_asked(client)


async def a_legacy_client_is_asked_by_a_modern_server() -> None:
    """Over HTTP; leaves a transcript, too."""
    recorder, gate = Recorder(), Gate()
    client = next(client for client in programs() if client.sdk == "TypeScript 1.17.5")
    server = next(server for server in servers() if server.name == "2026-07-28-http")
    server.tries = [
        asking("elicitation", "test_elicitation", '"username": "Ada"', message="Who are you?"),
        asking("sampling", "test_sampling", "LLM response: Paris", prompt="The capital of France?"),
        asking("roots", "test_list_roots", "file:///srv/project"),
        asking(
            "three at once", "test_input_required_result_multiple_inputs", "all inputs received"
        ),
        asking("two rounds", "test_input_required_result_multi_round", "Ada likes Ada"),
    ]
    async with server.running(), recorder.relay(server.port, ">>", "<<") as port:
        server.port = port
        gate.routes.write_text(routes(**{server.name: server.section}))
        with gate:
            async with recorder.relay(gate.port, ">", "<") as port:
                found = (await client.visit(gate, port, [server]))[server.name]
    assert set(found) == {what["name"] for what in server.tries}, found
    assert set(found.values()) == {"ok"}, found
    write(
        "legacy_client_is_asked_by_modern_server",
        recorder,
        title="A server of 2026-07-28 answers with what it needs to know; a client of 2025-06-18 is asked in mid-call, "
        "and the gate calls again with the answers.",
        upstream="reference: modern 2026-07-28, the Python SDK 2.3.0 over HTTP",
        client="2025-06-18, the TypeScript SDK 1.17.5 over HTTP",
    )


async def is_asked(client: Client) -> None:
    modern = client.protocol_version == "2026-07-28"
    # A legacy client is left alone with -32042, as it would be without the gate.
    for tool, arguments, answer in ASKING_TOOLS if modern else ASKING_TOOLS[:-1]:
        result = await client.call_tool(tool, arguments)
        assert not result.is_error and answer in text(result), f"{tool}: {result}"


async def shown(client: Client) -> None:
    """Waits until the tools are listed: those for clients that can be asked come a little later."""
    wanted = {tool for tool, _, _ in ASKING_TOOLS}

    async def listed() -> bool:
        return wanted <= {
            tool.name for tool in (await client.list_tools(cache_mode="refresh")).tools
        }

    await eventually(f"the tools {wanted}", listed)


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


def askable(server: str | StdioServerParameters, mode: str = "2026-07-28") -> Client:
    """The Python SDK's client with somebody who answers whatever a server asks."""
    return Client(
        server,
        mode=mode,
        elicitation_callback=answer_question,
        sampling_callback=answer_sample,
        list_roots_callback=answer_roots,
    )


def write(name: str, recorder: Recorder, **scene: str) -> None:
    TRANSCRIPTS.mkdir(exist_ok=True)
    (TRANSCRIPTS / f"{name}.txt").write_text(recorder.transcript(**scene))


# ------------------------------------------------------------------------------------------------ one command


async def a_sidecar_makes_a_server_modern() -> None:
    gate = Gate()
    gate.environment["XDG_STATE_HOME"] = str(gate.folder)
    gate.command = [TOLLGATE, "sidecar", "--listen", gate.address, "--", "npx", "-y", EVERYTHING]
    with gate:
        async with askable(gate.url, mode="auto") as client:
            assert client.protocol_version == "2026-07-28", client.protocol_version
            name = client.server_info and client.server_info.name
            assert name == "mcp-servers/everything", name
            await shown(client)
            answer = text(await client.call_tool("echo", {"message": "grüße 🎉"}))
            assert answer == "Echo: grüße 🎉", answer
            await is_asked(client)
        family = below(gate.process.pid)
        assert any("server-everything" in process.command for process in family), family
        gate.stop()
    await nothing_is_left(family)


async def a_desktop_client_starts_the_gate() -> None:
    """By the entry of its configuration, as `tollgate stdio --help` shows it; in either era."""
    gate = Gate()  # its folder only
    entry = {"command": TOLLGATE, "args": ["stdio", "--config", str(gate.routes)]}
    configuration = gate.folder / "desktop.json"
    configuration.write_text(json.dumps({"mcpServers": {"tollgate": entry}}))
    for mode in ("2026-07-28", "legacy"):
        servers_of_client = json.loads(configuration.read_text())["mcpServers"]
        async with askable(StdioServerParameters(**servers_of_client["tollgate"]), mode) as client:
            await shown(client)
            reported = text(await client.call_tool("gateway_upstreams", {}))
            assert "memory" in reported, reported
            await client.call_tool("read_graph", {})
            await is_asked(client)
            family = below(os.getpid())
            assert any(str(gate.routes) in process.command for process in family), family
            for upstream in ("server-everything", "server-filesystem", "server-memory"):
                assert any(upstream in process.command for process in family), family
        await nothing_is_left(family)
    shutil.rmtree(gate.folder)


async def nothing_is_left(family: list[Process]) -> None:
    await eventually(
        f"the end of {family}", lambda: not any(process.runs() for process in family)
    )


SCENES = [
    a_modern_client_is_asked_by_a_legacy_server,
    a_modern_client_is_asked_by_a_legacy_server_over_http,
    a_legacy_client_is_asked_by_a_modern_server,
    every_client_uses_every_server,
    a_sidecar_makes_a_server_modern,
    a_desktop_client_starts_the_gate,
]
