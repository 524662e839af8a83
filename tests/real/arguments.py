"""Slightly wrong calls to real servers: what each does alone, and what the gate lets through to it."""

import logging
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio
from field import UVX
from fetched import NPX, PYPI
from gate import Gate, eventually
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.shared.exceptions import MCPError
from sdk import text
from servers import HOME
from table import routes

HERE = Path(__file__).parent
# How many servers are started at once.
AT_ONCE = 3
# How long a server may take to start, and for all its calls, in seconds.
PATIENCE = 90
# Of the client's SDK: that a server prints what is no message.
logging.getLogger("mcp").setLevel(logging.CRITICAL)

# What may be wrong, and whether it passes by the gate's own rule (docs/guard.md).
PASSES = {
    "number as text": True,
    "boolean as text": True,
    "scalar for text": True,
    "member too many": True,
    "null for optional": True,
    "JSON text, parsed": True,
    "JSON text": False,
    "missing": False,
    "not of the enum": False,
    "scalar for array": False,
    "scalar for object": False,
    "text is no number": False,
    "null for required": False,
    "array for scalar": False,
    "out of bounds": False,
}

Arguments = dict[str, object]


@dataclass
class Call:
    server: str
    tool: str
    kind: str
    arguments: Arguments

    @property
    def passes(self) -> bool:
        return PASSES[self.kind]


@dataclass
class Outcome:
    """What became of a call."""

    what: str
    """"takes", "refuses" (the server does), or "gate" (the gate does)."""
    said: str


def probes() -> dict[str, tuple[list[str], dict[str, str]]]:
    """The commands of servers with one tool that has an argument of each type, and their environment."""
    script = [sys.executable, str(HERE / "probe.py")]
    found = {
        "FastMCP of mcp 1.30": (script, {"PYTHONPATH": str(HOME / "mcp-1.30.0")}),
        "MCPServer of mcp 2.3": (script, {}),
    }
    for kind in ("zod", "zod3", "coerce", "unchecked"):
        found[f"TypeScript, {kind}"] = (["node", str(HERE / "probe.mjs"), str(HOME), kind], {})
    return found


def commands(folder: str) -> dict[str, tuple[list[str], dict[str, str]]]:
    npx = {name: ["npx", "-y", *words] for name, *words in NPX}
    uvx = {name: [*UVX, *words] for name, *words in PYPI}
    cache = {"UV_CACHE_DIR": str(HOME / "uv-cache"), "MEMORY_FILE_PATH": f"{folder}/.git/behind"}
    used = {call.server for call in calls(folder)}
    return probes() | {
        name: ([word.format(folder=folder) for word in command], cache)
        for name, command in {**npx, **uvx}.items()
        if name in used
    }


def of_probes() -> Iterator[Call]:
    """All kinds, on each framework."""
    deep = {"count": 1}
    wrong: list[tuple[str, Arguments]] = [
        ("number as text", {"count": "1"}),
        ("number as text", {"ratio": "1.5"}),
        ("number as text", {"deep": {"count": "1"}}),
        ("boolean as text", {"on": "true"}),
        ("scalar for text", {"text": 5}),
        ("scalar for text", {"text": True}),
        ("member too many", {"zz": 1}),
        ("member too many", {"deep": {**deep, "zz": 1}}),
        ("null for optional", {"count": None}),
        ("null for optional", {"deep": {**deep, "tag": None}}),
        ("JSON text", {"items": '["a"]'}),
        ("JSON text", {"deep": '{"count":1}'}),
        ("missing", {"need": ...}),
        ("missing", {"deep": {"tag": "t"}}),
        ("scalar for array", {"items": "a"}),
        ("scalar for object", {"deep": 7}),
        ("text is no number", {"count": "x"}),
        ("text is no number", {"count": ""}),
        ("null for required", {"need": None}),
        ("array for scalar", {"count": [1]}),
    ]
    for server in probes():
        for kind, change in wrong:
            whole = {"need": "n", **change}
            whole = {name: value for name, value in whole.items() if value is not ...}
            parsed = kind == "JSON text" and " of mcp " in server
            yield Call(server, "probe", "JSON text, parsed" if parsed else kind, whole)


def calls(folder: str) -> list[Call]:
    thought: Arguments = {"thought": "t", "nextThoughtNeeded": False}
    thought |= {"thoughtNumber": 1, "totalThoughts": 1}
    file, log = f"{folder}/a", {"repo_path": folder}
    annotated = "get-annotated-message"
    entity = {"name": "n", "entityType": "t", "observations": ["o"]}
    real: list[tuple[str, str, str, Arguments]] = [
        ("everything", "get-sum", "number as text", {"a": "1", "b": 2}),
        ("everything", "get-sum", "missing", {"a": 1}),
        ("everything", "get-sum", "member too many", {"a": 1, "b": 2, "c": 3}),
        ("everything", "get-sum", "text is no number", {"a": "one", "b": 2}),
        ("everything", "get-sum", "null for required", {"a": None, "b": 2}),
        ("everything", "echo", "scalar for text", {"message": 5}),
        ("everything", "echo", "member too many", {"message": "m", "zz": 1}),
        ("everything", annotated, "not of the enum", {"messageType": "shout"}),
        ("everything", annotated, "boolean as text", {"messageType": "error", "includeImage": "true"}),
        ("everything", "get-tiny-image", "member too many", {"zz": None}),
        ("thinking", "sequentialthinking", "number as text", {**thought, "thoughtNumber": "1"}),
        ("thinking", "sequentialthinking", "number as text", {**thought, "totalThoughts": "3"}),
        ("thinking", "sequentialthinking", "boolean as text", {**thought, "nextThoughtNeeded": "false"}),
        ("thinking", "sequentialthinking", "member too many", {**thought, "zz": 1}),
        ("thinking", "sequentialthinking", "null for optional", {**thought, "isRevision": None}),
        ("thinking", "sequentialthinking", "out of bounds", {**thought, "thoughtNumber": "0"}),
        ("thinking", "sequentialthinking", "missing", {"thought": "t"}),
        ("memory", "search_nodes", "scalar for text", {"query": 5}),
        ("memory", "search_nodes", "member too many", {"query": "q", "limit": 5}),
        ("memory", "open_nodes", "scalar for array", {"names": "a"}),
        ("memory", "open_nodes", "JSON text", {"names": '["a"]'}),
        ("memory", "create_entities", "scalar for object", {"entities": ["n"]}),
        ("memory", "create_entities", "member too many", {"entities": [{**entity, "zz": 1}]}),
        ("memory", "create_entities", "scalar for text", {"entities": [{**entity, "name": 7}]}),
        ("memory", "create_entities", "missing", {"entities": [{"name": "n"}]}),
        ("files", "list_directory", "member too many", {"path": folder, "zz": 1}),
        ("files", "list_directory_with_sizes", "not of the enum", {"path": folder, "sortBy": "date"}),
        ("files", "list_directory_with_sizes", "null for optional", {"path": folder, "sortBy": None}),
        ("files", "read_text_file", "number as text", {"path": file, "head": "1"}),
        ("files", "read_text_file", "null for optional", {"path": file, "head": None}),
        ("files", "read_multiple_files", "JSON text", {"paths": f'["{file}"]'}),
        ("files", "read_multiple_files", "scalar for array", {"paths": file}),
        ("files", "directory_tree", "scalar for array", {"path": folder, "excludePatterns": "b"}),
        ("git", "git_log", "number as text", {**log, "max_count": "1"}),
        ("git", "git_log", "null for optional", {**log, "max_count": None}),
        ("git", "git_log", "null for optional", {**log, "start_timestamp": None}),
        ("git", "git_log", "member too many", {**log, "zz": 1}),
        ("git", "git_log", "text is no number", {**log, "max_count": "all"}),
        ("git", "git_diff_unstaged", "number as text", {**log, "context_lines": "5"}),
        ("git", "git_status", "missing", {}),
        ("git", "git_add", "scalar for array", {**log, "files": "a"}),
        ("time", "get_current_time", "scalar for text", {"timezone": 5}),
        ("time", "convert_time", "member too many", convert(zz=1)),
        ("time", "convert_time", "missing", {"time": "12:00"}),
        ("calculator", "calculate", "member too many", {"expression": "1+1", "zz": 1}),
        ("calculator", "calculate", "scalar for text", {"expression": 5}),
        ("calculator", "calculate", "missing", {}),
        ("calculator", "calculate", "array for scalar", {"expression": ["1+1"]}),
        ("hello", "add", "number as text", {"a": "1", "b": "2"}),
        ("hello", "add", "member too many", {"a": 1, "b": 2, "zz": 1}),
        ("hello", "add", "null for required", {"a": None, "b": 2}),
        ("hello", "echo", "scalar for text", {"message": True}),
        ("hello", "echo", "member too many", {"message": "m", "zz": 1}),
        ("runner", "run-code", "member too many", {"code": "print(1)", "languageId": "python", "zz": 1}),
        ("runner", "run-code", "not of the enum", {"code": "print(1)", "languageId": "cobol"}),
        ("runner", "run-code", "missing", {"languageId": "python"}),
        ("word", "list_available_documents", "member too many", {"directory": folder, "zz": 1}),
        ("word", "list_available_documents", "null for optional", {"directory": None}),
        ("word", "list_available_documents", "scalar for text", {"directory": 5}),
        ("word", "add_heading", "number as text", {"filename": "none.docx", "text": "t", "level": "2"}),
        ("excel", "list_workbooks", "boolean as text", {"directory": folder, "recursive": "true"}),
        ("excel", "list_workbooks", "member too many", {"directory": folder, "zz": 1}),
        ("excel", "list_workbooks", "null for optional", {"directory": folder, "recursive": None}),
        ("excel", "list_workbooks", "array for scalar", {"directory": [folder]}),
        ("excel", "read_range", "not of the enum", {"path": "none.xlsx", "sheet": "s", "mode": "all"}),
    ]
    return [*of_probes(), *(Call(*each) for each in real)]


def convert(**more: object) -> Arguments:
    return {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo", **more}


async def called(client: Client, call: Call) -> Outcome:
    try:
        result = await client.call_tool(call.tool, call.arguments)
    except MCPError as error:
        return Outcome("refuses", str(error))
    fault = result.structured_content or {}
    if result.is_error and fault.get("error") == "invalid_arguments":
        return Outcome("gate", text(result))
    return Outcome("refuses" if result.is_error else "takes", text(result))


async def visited(target: StdioServerParameters | str, mode: str, mine: list[Call]) -> list[Outcome]:
    with anyio.fail_after(PATIENCE):
        async with Client(target, mode=mode) as client:

            async def listed() -> bool:
                tools = (await client.list_tools(cache_mode="refresh")).tools
                return {call.tool for call in mine} <= {tool.name for tool in tools}

            await eventually(f"the tools of {mine[0].server}", listed, PATIENCE)
            return [await called(client, call) for call in mine]


async def measured() -> list[tuple[Call, Outcome, Outcome]]:
    """Each call, what its server does alone, and what the gate makes of it."""
    with tempfile.TemporaryDirectory() as folder:
        # As servers see it that resolve links.
        folder = os.path.realpath(folder)
        Path(folder, "a").write_text("one\ntwo\n")
        who = ["-c", "user.name=a", "-c", "user.email=a@b.example"]
        for words in (["init", "-q"], ["add", "a"], [*who, "commit", "-qm", "first"]):
            await anyio.run_process(["git", "-C", folder, *words])
        every, gate, found = calls(folder), Gate(), commands(folder)
        names = {name: f"server{number}" for number, name in enumerate(found)}
        sections = {
            names[name]: f"command = {command[0]!r}\nargs = {command[1:]!r}\ncwd = {folder!r}\n"
            + "".join(f"env.{key} = {value!r}\n" for key, value in environment.items())
            for name, (command, environment) in found.items()
        }
        gate.routes.write_text(routes(**sections))
        alone: dict[str, list[Outcome]] = {}
        behind: dict[str, list[Outcome]] = {}
        few = anyio.CapacityLimiter(AT_ONCE)

        async def visit(name: str) -> None:
            command, environment = found[name]
            mine = [call for call in every if call.server == name]
            # Without what it says besides.
            quietly = ["-c", 'exec "$@" 2>/dev/null', "sh", *command]
            # A memory of its own, so that both tries find the same; it is on no list of files there.
            alone_only = {"MEMORY_FILE_PATH": f"{folder}/.git/alone"}
            environment = {**os.environ, **environment, **alone_only}
            direct = StdioServerParameters(command="sh", args=quietly, env=environment, cwd=folder)
            async with few:
                alone[name] = await visited(direct, "legacy", mine)
                url = f"http://{gate.address}/{names[name]}"
                behind[name] = await visited(url, "2026-07-28", mine)

        with gate:
            async with anyio.create_task_group() as tasks:
                for name in found:
                    tasks.start_soon(visit, name)
    every.sort(key=lambda call: list(found).index(call.server))
    outcomes = [outcome for name in found for outcome in alone[name]]
    through = [outcome for name in found for outcome in behind[name]]
    return list(zip(every, outcomes, through, strict=True))


def wrong(call: Call, alone: Outcome, gate: Outcome) -> str | None:
    """What the gate did against its rule."""
    if call.passes:
        return None if alone == gate else f"its server alone: {alone}; through the gate: {gate}"
    return None if gate.what == "gate" else f"the gate lets it through: {gate}"


async def slightly_wrong_calls_fare_as_without_the_gate() -> None:
    """Prints what servers do alone and what the gate does, by kind, and each call that it alone refuses."""
    rows = await measured()
    counts: Counter[tuple[str, str, str]] = Counter()
    for call, alone, gate in rows:
        counts[call.kind, alone.what, gate.what] += 1
    print(f"        {len(rows)} calls      {'alone':>10}{'gate':>10}")
    for (kind, alone_does, gate_does), count in sorted(counts.items()):
        print(f"        {kind:<20}{alone_does:>10}{gate_does:>10}{count:>5}")
    for call, alone, gate in rows:
        if alone.what == "takes" and gate.what == "gate":
            print(f"        refused by the gate alone: {call.server}: {call.kind}: {call.arguments}")
    assert 62 <= len(rows), len(rows)
    failures = [
        f"{call.server}, {call.tool}, {call.kind}, {call.arguments}: {why}"
        for call, alone, gate in rows
        if (why := wrong(call, alone, gate))
    ]
    assert not failures, "\n".join(["", *failures])


SCENES = [slightly_wrong_calls_fare_as_without_the_gate]
