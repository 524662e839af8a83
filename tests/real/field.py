"""Scenes of servers as the field has them: of old SDKs, slow, without their database, many at once, wrong in one entry."""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import anyio
from fetched import NPX, POSTGRES, PYPI
from gate import PATIENCE, TOLLGATE, Gate, eventually, free_port
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.shared.exceptions import MCPError
from misbehave import ENTRIES
from sdk import text
from servers import HOME, Server, listens, trying
from table import routes
from yardstick import clients

HERE = Path(__file__).parent
UVX = [str(HOME / "py/bin/uvx"), "--offline", "--python", sys.executable, "--from"]


# ------------------------------------------------------------------------------------------ old and slow


def clock(version: str, words: str = "") -> str:
    """A section of `mcp-server-time` on that version of the official SDK; its messages go to a file beside routes.toml."""
    server = f"{words}exec {sys.executable} -m mcp_server_time --local-timezone UTC"
    tee = f"{HERE / 'tee.py'}"
    args = [tee, f"spoken-{version}", "env", f"PYTHONPATH={HOME / f'time-{version}'}", "sh", "-c"]
    return f"command = {sys.executable!r}\nargs = {[*args, server]}\ncwd = '{{folder}}'"


async def tells_the_time(gate: Gate, name: str, era: str) -> None:
    async with Client(f"http://{gate.address}/{name}", mode=era) as client:

        async def listed() -> bool:
            tools = (await client.list_tools(cache_mode="refresh")).tools
            return {"get_current_time", "convert_time"} <= {tool.name for tool in tools}

        await eventually(f"the tools of {name}", listed, patience=90)
        result = await client.call_tool("get_current_time", {"timezone": "Asia/Tokyo"})
        assert not result.is_error and "Asia/Tokyo" in text(result), f"{name}: {text(result)}"


async def servers_of_old_and_current_sdks_tell_the_time() -> None:
    """The old ones die of a request before `initialize`; what was found out is remembered over a restart."""
    gate, versions = Gate(), ("1.3.0", "1.6.0", "now")
    sections = {f"time-{version.replace('.', '-')}": clock(version) for version in versions}
    gate.routes.write_text(routes(**sections).replace("{folder}", str(gate.folder)))

    async def all_tell() -> None:
        async with anyio.create_task_group() as tasks:
            for name in sections:
                for era in ("legacy", "2026-07-28"):
                    tasks.start_soon(tells_the_time, gate, name, era)

    with gate:
        await all_tell()
        gate.stop()
        for version in versions:
            (gate.folder / f"spoken-{version}").unlink()
        gate.start()
        await all_tell()
        for version in versions[:2]:
            spoken = (gate.folder / f"spoken-{version}").read_text()
            assert "server/discover" not in spoken, f"mcp {version} was asked again for its era"


async def a_sidecar_bears_a_server_of_an_old_sdk() -> None:
    words = ["sidecar", "--stdio", "--", "env", f"PYTHONPATH={HOME / 'time-1.6.0'}"]
    words += [sys.executable, "-m", "mcp_server_time", "--local-timezone", "UTC"]
    for era in ("legacy", "2026-07-28"):
        async with Client(StdioServerParameters(command=TOLLGATE, args=words), mode=era) as client:
            result = await client.call_tool("get_current_time", {"timezone": "Asia/Tokyo"})
            assert "Asia/Tokyo" in text(result), text(result)


async def a_modern_server_that_starts_slowly_opens() -> None:
    gate, section = Gate(), clock("now", "sleep 12; ")
    gate.routes.write_text(routes(slow=section).replace("{folder}", str(gate.folder)))
    with gate:
        await tells_the_time(gate, "slow", "2026-07-28")
        spoken = (gate.folder / "spoken-now").read_text()
        processes = {json.loads(line)[1] for line in spoken.splitlines()}
        assert len(processes) == 1, f"it was started {len(processes)} times"


# ------------------------------------------------------------------------------------------ a database


class Database:
    """A PostgreSQL of its own, which is not started yet."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder / "data", free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        # It does not run as root.
        self.user = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}
        self.folder.mkdir()
        if self.user:
            shutil.chown(self.folder, **self.user)
        os.chmod(folder, 0o755)
        self.program("initdb", "--auth=trust", "--username=postgres", "-D", self.folder)
        table = "CREATE TABLE guests (name text);"
        self.program("postgres", "--single", "-D", self.folder, "postgres", input=table.encode())

    @staticmethod
    def found(name: str) -> str:
        installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
        return shutil.which(name) or str(installed[-1])

    def program(self, name: str, *arguments: object, input: bytes = b"") -> None:
        command = [self.found(name), *map(str, arguments)]
        done = subprocess.run(
            command, input=input, capture_output=True, timeout=PATIENCE, cwd="/", **self.user
        )
        assert done.returncode == 0, f"{name}: {done.stderr.decode()}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        options = {"port": self.port, "listen_addresses": "127.0.0.1", "fsync": "off"}
        options["unix_socket_directories"] = str(self.folder)
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        command = [self.found("postgres"), "-D", str(self.folder), *words]
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **self.user
        )
        try:
            await eventually("the database", lambda: listens(self.port))
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE)


async def a_database_that_comes_late_costs_its_tools_nothing() -> None:
    """`server-postgres` asks its database for the list of resources only; that list fails until the database is there."""
    with tempfile.TemporaryDirectory() as folder:
        database, gate = Database(Path(folder)), Gate()
        section = f"command = 'npx'\nargs = ['-y', '{POSTGRES}', '{database.url}']"
        gate.routes.write_text(routes(bank=section))
        with gate:
            async with Client(gate.url, mode="2026-07-28") as client:

                async def listed() -> bool:
                    tools = (await client.list_tools(cache_mode="refresh")).tools
                    return "query" in {tool.name for tool in tools}

                async def tabled() -> bool:
                    found = (await client.list_resources(cache_mode="refresh")).resources
                    return any("guests" in str(entry.uri) for entry in found)

                async def answered() -> bool:
                    with suppress(MCPError):
                        result = await client.call_tool("query", {"sql": "SELECT 1 AS one"})
                        return '"one": 1' in text(result)
                    return False

                await eventually("the tools without the database", listed)
                with suppress(MCPError):
                    result = await client.call_tool("query", {"sql": "SELECT 1 AS one"})
                    assert result.is_error, f"a query without a database: {text(result)}"
                async with database.running():
                    # It listens some time before it answers.
                    await eventually("an answer of the database", answered)
                    await eventually("the database's tables as resources", tabled)
                    assert await listed()


# ------------------------------------------------------------------------------------------ many at once


def many(folder: str) -> dict[str, list[str]]:
    """The commands of twenty real servers."""
    npx = {name: ["npx", "-y", *words] for name, *words in NPX}
    uvx = {name: [*UVX, *words] for name, *words in PYPI}
    return {
        name: [word.format(folder=folder) for word in command]
        for name, command in {**npx, **uvx}.items()
    }


async def opened_plainly(name: str, command: list[str], environment: dict[str, str]) -> None:
    """Starts a server as a script would: `initialize`, one list, and its end."""

    def lines() -> Iterator[dict[str, object]]:
        assert process.stdout
        for line in process.stdout:
            if line.startswith(b"{"):
                yield json.loads(line)

    def converse() -> None:
        assert process.stdin
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}}
        hello["clientInfo"] = {"name": "plain", "version": "1"}
        answers = lines()
        for number, (method, params) in enumerate(
            [("initialize", hello), ("notifications/initialized", {}), ("tools/list", {})]
        ):
            message = {"jsonrpc": "2.0", "method": method, "params": params}
            if number != 1:
                message["id"] = number
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()
            if number != 1:
                answer = next((a for a in answers if a.get("id") == number), None)
                assert answer and "result" in answer, f"{name} started plainly: {answer}"

    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    try:
        await anyio.to_thread.run_sync(converse)
    finally:
        os.killpg(process.pid, 9)
        process.wait()


async def plainly(commands: dict[str, list[str]], environment: dict[str, str]) -> float:
    """How long it takes to start them four at a time, as `xargs -P 4` does, in seconds."""
    begun, places = time.monotonic(), anyio.CapacityLimiter(4)

    async def one(name: str, command: list[str]) -> None:
        async with places:
            await opened_plainly(name, command, environment)

    async with anyio.create_task_group() as tasks:
        for name, command in commands.items():
            tasks.start_soon(one, name, command)
    return time.monotonic() - begun


async def through_a_gate(commands: dict[str, list[str]], environment: dict[str, str]) -> float:
    """How long it takes until all are ready in a gate that knows none of them."""
    gate = Gate()
    text = '[routes."/mcp"]\nupstreams = ["*"]\n[upstreams.gate]\nbuiltin = "gate"\n'
    for name, command in commands.items():
        text += f"[upstreams.{name}]\ncommand = {command[0]!r}\nargs = {command[1:]}\n"
        text += f"env.UV_CACHE_DIR = {environment['UV_CACHE_DIR']!r}\n"
    gate.routes.write_text(text)
    begun = time.monotonic()
    with gate:
        async with Client(gate.url, mode="2026-07-28") as client:
            seen: dict[str, str] = {}

            async def ready() -> bool:
                report = (await client.call_tool("gateway_upstreams", {})).structured_content or {}
                for upstream in report["upstreams"]:
                    seen[upstream["name"]] = f"{upstream['state']} {upstream.get('last_error')}"
                await anyio.sleep(0.1)
                return all(seen.get(name, "").startswith("ready") for name in commands)

            try:
                await eventually("all ready", ready, patience=150)
            except AssertionError:
                rest = {name: seen[name] for name in commands if "ready" not in seen[name][:5]}
                raise AssertionError(f"not ready within 150 s: {rest}") from None
            return time.monotonic() - begun


async def twenty_real_servers_are_ready() -> None:
    """TIMES says how often both ways are measured; the ratio is told, not asserted."""
    environment = {**os.environ, "UV_CACHE_DIR": str(HOME / "uv-cache")}
    times: dict[str, list[float]] = {"gate": [], "plainly": []}
    with tempfile.TemporaryDirectory() as folder:
        commands = many(folder)
        assert len(commands) == 20
        for _ in range(int(os.environ.get("TIMES", "1"))):
            times["plainly"].append(await plainly(commands, environment))
            times["gate"].append(await through_a_gate(commands, environment))
    gate, plain = (statistics.median(times[way]) for way in ("gate", "plainly"))
    print(
        f"        20 servers: {gate:.1f} s through the gate, {plain:.1f} s four at a time plainly: "
        f"{gate / plain:.2f} x; {times}"
    )


# ------------------------------------------------------------------------------------------ one bad server


async def strict_clients_list_a_good_server_beside_a_bad_one() -> None:
    """Each route has a good server and one with an entry that a strict client's parser would refuse."""
    script = [sys.executable, str(HERE / "misbehave.py"), "http", "{port}"]
    servers, gate = Server("misbehaving", "http", script, []), Gate()
    base = f"http://127.0.0.1:{servers.port}"
    config = f"[upstreams.good]\nurl = '{base}/good'\n"
    for name in ENTRIES:
        config += f'[upstreams.{name}]\nurl = "{base}/{name}"\n'
        config += f'[routes."/{name}"]\nupstreams = ["{name}", "good"]\n'
    gate.routes.write_text('server.limits.settle = "20s"\n' + config)
    call = {"tool": "well", "arguments": {"text": "hi"}, "answer": "said hi"}
    kinds = {"prompts": ["well"], "resources": ["test://well"], "templates": ["test://well/{x}"]}
    what = [trying("list", "list", tools=["well"])]
    what += [trying(kind, "list", kind=kind, tools=names) for kind, names in kinds.items()]
    what += [trying("call", "call", **call)]
    visited = [
        {
            "name": name,
            "url": f"http://{gate.address}/{name}",
            "tries": [each | {"patience": 15} for each in what],
        }
        for name in ENTRIES
    ]
    failures: list[str] = []
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(servers.running())
        stack.enter_context(gate)
        for client in clients():
            found = await client.visit(visited, "http", 45)
            print(
                f"        {client.name}: {sum(got == 'ok' for got in found.values())} of {len(found)}"
            )
            failures += [
                f"{client.name}, {name} ({ENTRIES[name].about}): {got[:300]}"
                for name, got in found.items()
                if got != "ok"
            ]
    assert not failures, "\n".join(["", *failures])


SCENES = [
    servers_of_old_and_current_sdks_tell_the_time,
    a_sidecar_bears_a_server_of_an_old_sdk,
    a_modern_server_that_starts_slowly_opens,
    a_database_that_comes_late_costs_its_tools_nothing,
    twenty_real_servers_are_ready,
    strict_clients_list_a_good_server_beside_a_bad_one,
]
