"""The gate among real servers and real clients, in scenes of a life in operation.

usage: python scenes.py [SCENE…]
Every scene starts its own gate on the shipped routes.toml. Prints one line a scene; exits 1 if one failed.
"""

import os
import signal
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import arguments
import bridge
import faults
import field
import mcp_types as types
import uris
import yardstick
from anyio.abc import TaskStatus
from gate import PATIENCE, Gate, Process, below, eventually, free_port, processes
from mcp.client.client import Client
from sdk import text

HERE = Path(__file__).parent
HOME = Path(os.environ["REAL_HOME"])
LEGACY, MODERN = "legacy", "2026-07-28"
NPX_UPSTREAMS = ("everything", "files", "memory")


async def tool_names(client: Client) -> set[str]:
    return {tool.name for tool in (await client.list_tools(cache_mode="refresh")).tools}


async def all_open(client: Client) -> None:
    """Waits until every upstream of the shipped file has shown its tools and answers."""

    async def shown() -> bool:
        return {"echo", "read_text_file", "search_nodes"} <= await tool_names(client)

    await eventually("the tools of all upstreams", shown)
    for tool, arguments in (
        ("echo", {"message": "x"}),
        ("list_allowed_directories", {}),
        ("read_graph", {}),
    ):
        result = await client.call_tool(tool, arguments)
        assert not result.is_error, f"{tool}: {text(result)}"


async def run_client(gate: Gate, program: str, script: str, *arguments: str) -> None:
    """Runs a client's script, showing what it prints."""
    command = [program, str(HERE / script), gate.url, *arguments]
    result = await anyio.run_process(command, check=False, stdout=None, stderr=None)
    assert result.returncode == 0, f"{script} found failures, see above"


# ------------------------------------------------------------------------------------------------ scenes


async def the_python_sdk_uses_four_upstreams() -> None:
    with Gate() as gate:
        await run_client(gate, sys.executable, "sdk.py")


async def the_typescript_sdk_uses_four_upstreams() -> None:
    with Gate() as gate:
        await run_client(gate, "node", "sdk.mjs", str(HOME))


async def the_typescript_sdk_has_a_process_of_its_own() -> None:
    """What a server that all share logs outside of calls is for nobody: `isolation` makes it somebody's."""
    gate = Gate()
    alone = after("[upstreams.everything]", 'isolation = "session"', gate.routes.read_text())
    gate.routes.write_text(alone)
    with gate:
        await run_client(gate, "node", "sdk.mjs", str(HOME), "own-processes")


async def clients_log_in_by_themselves() -> None:
    """With nothing but the gate's address: it says where to log in, at a real authorization server."""
    port = free_port()
    command = ["node", str(HERE / "issuer.mjs"), str(HOME), str(port)]
    async with await anyio.open_process(command, stderr=None) as issuer:
        try:
            assert issuer.stdout
            issuing = (await issuer.stdout.receive()).decode().strip()
            gate = Gate()
            routes = gate.routes.read_text()
            own = f'public_url = "http://{gate.address}"\nlimits.settle = "30s"'
            routes = after("[server]", own, routes)
            routes = after('[routes."/mcp"]', 'auth = ["login"]\nscopes = ["mcp:use"]', routes)
            routes += f'\n[auth.login]\nkind = "jwt"\nissuer = "{issuing}"\n'
            gate.routes.write_text(routes)
            with gate:
                await run_client(gate, "node", "login.mjs", str(HOME))
        finally:
            issuer.terminate()


async def a_killed_server_costs_its_call_only() -> None:
    """The server itself is killed: npx, its parent, ends by itself."""
    await kill_during_a_call(lambda family: family[-1])


async def a_killed_npx_costs_its_call_only() -> None:
    """npx is killed: the server below it must not live on."""
    await kill_during_a_call(lambda family: family[0])


async def kill_during_a_call(choose: Callable[[list[Process]], Process]) -> None:
    with Gate() as gate:
        async with Client(gate.url, mode=MODERN) as client, Client(gate.url, mode=LEGACY) as other:
            await all_open(client)
            old = [
                process
                for process in below(gate.process.pid)
                if "server-everything" in process.command
            ]
            assert old, "no process of server-everything below the gate"
            async with anyio.create_task_group() as tasks:
                under_way = anyio.Event()
                tasks.start_soon(expect_retriable_failure, client, under_way)
                with anyio.fail_after(PATIENCE):
                    await under_way.wait()
                os.kill(choose(old).pid, signal.SIGKILL)
                for _ in range(20):
                    for tool in ("read_graph", "list_allowed_directories", "gateway_upstreams"):
                        result = await other.call_tool(tool, {})
                        assert not result.is_error, f"{tool} failed, too: {text(result)}"

            async def back() -> bool:
                return not (await other.call_tool("echo", {"message": "x"})).is_error

            await eventually("server-everything back", back)
            await eventually(
                f"the end of {old}", lambda: not any(process.runs() for process in old)
            )


async def expect_retriable_failure(client: Client, under_way: anyio.Event) -> None:
    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        under_way.set()

    arguments = {"duration": 60, "steps": 600}
    with anyio.fail_after(PATIENCE):
        result = await client.call_tool(
            "trigger-long-running-operation", arguments, progress_callback=progressed
        )
    assert result.is_error, f"the call was answered by a killed process: {text(result)}"
    fault = result.structured_content or {}
    assert fault.get("retriable") is True, f"the fault does not say that it is retriable: {result}"
    assert fault.get("error") == "service_unavailable", fault
    assert fault.get("message") and text(result), f"the fault says nothing: {result}"


async def nothing_outlives_a_killed_gate() -> None:
    with Gate() as gate:
        async with Client(gate.url, mode=MODERN) as client:
            await all_open(client)
        family = below(gate.process.pid)
        for upstream in ("server-everything", "server-filesystem", "server-memory"):
            assert any(upstream in process.command for process in family), (
                f"{upstream} is not among {family}"
            )
        groups = {process.group for process in family}
        assert os.getpgid(gate.process.pid) not in groups, "a child shares the gate's process group"
        gate.stop(signal.SIGKILL)

        def orphans() -> list[Process]:
            return [
                process for process in processes() if process.group in groups and process.runs()
            ] + [process for process in family if process.runs()]

        await eventually("the end of every child", lambda: not orphans())


async def nothing_outlives_a_stopped_gate() -> None:
    with Gate() as gate:
        async with Client(gate.url, mode=MODERN) as client:
            await all_open(client)
        family = below(gate.process.pid)
        gate.stop()
        orphans = [process for process in family if process.runs()]
        assert not orphans, f"left behind after SIGTERM: {orphans}"
        assert gate.process.returncode == 0, f"ended with {gate.process.returncode}"


async def without_node_the_gate_still_serves() -> None:
    with Gate(PATH="/nonexistent") as gate:
        async with Client(gate.url, mode=MODERN) as client:

            async def all_explained() -> bool:
                report = (await client.call_tool("gateway_upstreams", {})).structured_content or {}
                errors = {
                    upstream["name"]: upstream.get("last_error") or ""
                    for upstream in report["upstreams"]
                }
                return all("npx" in errors[name] for name in NPX_UPSTREAMS)

            assert "gateway_upstreams" in await tool_names(client)
            await eventually(
                "npx as the reason of every missing upstream in gateway_upstreams", all_explained
            )
        log = gate.log.read_text()
        for name in NPX_UPSTREAMS:
            explained = any(name in line and "npx" in line for line in log.splitlines())
            assert explained, f"the log does not say why {name} is missing:\n{log}"


async def a_session_outlives_a_restart() -> None:
    """The SDK's client never opens a second session by itself: an answer is an answer on the same session id."""
    with Gate() as gate:
        async with Client(gate.url, mode=LEGACY) as client:
            await all_open(client)
            gate.stop()
            gate.start()
            await all_open(client)
            gate.stop(signal.SIGKILL)
            gate.start()
            await all_open(client)


async def the_last_catalog_is_served_when_all_is_down() -> None:
    with Gate() as gate:
        async with Client(gate.url, mode=MODERN) as client:
            await all_open(client)
            before = await tool_names(client)
        gate.stop()
        gate.environment["PATH"] = "/nonexistent"
        gate.start()
        async with Client(gate.url, mode=MODERN) as client:
            now = await tool_names(client)
            assert now == before, f"lost with the upstreams: {before - now}"
            result = await client.call_tool("echo", {"message": "x"})
            assert result.is_error and (result.structured_content or {}).get("retriable") is True, (
                result
            )


async def edits_under_load_lose_no_call() -> None:
    with Gate() as gate:
        shipped = gate.routes.read_text()
        without_sum = after("[upstreams.everything]", 'tools = { deny = ["get-sum"] }', shipped)
        gate.routes.write_text(without_sum)
        # The first edit comes before the load, so that the one under load adds a tool.
        async with (
            watcher(gate, LEGACY) as legacy,
            watcher(gate, MODERN) as modern,
            busy(gate, connections=64) as load,
        ):
            for watching in (legacy, modern):
                assert "get-sum" not in await tool_names(watching.client), "get-sum is not denied"
            await eventually("one process for each server", lambda: leaders(gate) == 3)
            family = below(gate.process.pid)

            gate.routes.write_text(shipped)
            # Both are told; how fast is a matter of the machine.
            with anyio.fail_after(PATIENCE):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(legacy.learn, "get-sum")
                    tasks.start_soon(modern.learn, "get-sum")

            broken = after("[server]", 'listen_on = "127.0.0.1:1"', shipped)
            gate.routes.write_text(broken + '\n[routes."/other"]\nupstreams = ["nobody"]\n')
            await eventually(
                "both problems in the log",
                lambda: all(word in gate.log.read_text() for word in ("listen_on", "nobody")),
            )
            calls = load.answered
            await eventually("calls after the broken edit", lambda: load.answered > calls + 64)
            assert "get-sum" in await tool_names(modern.client)
            gate.routes.write_text(shipped)

            gone = [process for process in family if not process.runs()]
            assert not gone, f"an edit that is not about them ended {gone}"
        assert load.answered > 128, f"the load was none: {load.answered} calls"
        assert not load.failures, (
            f"{len(load.failures)} of {load.answered} calls failed: {load.failures[:3]}"
        )


# ------------------------------------------------------------------------------------------------ their tools


def leaders(gate: Gate) -> int:
    """How many servers' processes the gate has started; for a moment there are more, to list what only some clients use."""
    return sum(process.parent == gate.process.pid for process in below(gate.process.pid)) - 1


def after(section: str, line: str, routes: str) -> str:
    """The configuration with a line more in a section."""
    assert f"\n{section}\n" in routes, f"routes.toml has no {section}"
    return routes.replace(f"\n{section}\n", f"\n{section}\n{line}\n")


class Watcher:
    """A client that lists the tools again whenever it is told that they changed, and only then."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.changed = anyio.Event()

    async def learn(self, tool: str) -> None:
        """Returns when the client has been told of a change and found the tool."""
        while True:
            await self.changed.wait()
            self.changed = anyio.Event()
            if tool in await tool_names(self.client):
                return


@asynccontextmanager
async def watcher(gate: Gate, era: str) -> AsyncIterator[Watcher]:
    async def see(message: object) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            watching.changed.set()

    async def listen(*, task_status: TaskStatus[None]) -> None:
        async with client.listen(tools_list_changed=True) as events:
            task_status.started()
            async for _ in events:
                watching.changed.set()

    async with (
        Client(gate.url, mode=era, message_handler=see) as client,
        anyio.create_task_group() as tasks,
    ):
        watching = Watcher(client)
        await all_open(client)
        if era == MODERN:
            await tasks.start(listen)
        yield watching
        tasks.cancel_scope.cancel()


class Load:
    def __init__(self) -> None:
        self.answered = 0
        self.failures: list[str] = []


@asynccontextmanager
async def busy(gate: Gate, connections: int) -> AsyncIterator[Load]:
    """Connections that have a call under way at every moment, half of them of each era."""
    load, stop = Load(), anyio.Event()

    async def keep_calling(era: str) -> None:
        async with Client(gate.url, mode=era) as client:
            while not stop.is_set():
                try:
                    result = await client.call_tool(
                        "trigger-long-running-operation", {"duration": 0.4, "steps": 1}
                    )
                    if result.is_error:
                        load.failures.append(text(result))
                except Exception as error:
                    load.failures.append(f"{type(error).__name__}: {error}")
                load.answered += 1

    async with anyio.create_task_group() as tasks:
        for number in range(connections):
            tasks.start_soon(keep_calling, (LEGACY, MODERN)[number % 2])
        await eventually("the first calls", lambda: load.answered >= connections)
        yield load
        stop.set()


SCENES = [
    the_python_sdk_uses_four_upstreams,
    the_typescript_sdk_uses_four_upstreams,
    the_typescript_sdk_has_a_process_of_its_own,
    clients_log_in_by_themselves,
    a_killed_server_costs_its_call_only,
    a_killed_npx_costs_its_call_only,
    nothing_outlives_a_killed_gate,
    nothing_outlives_a_stopped_gate,
    without_node_the_gate_still_serves,
    a_session_outlives_a_restart,
    the_last_catalog_is_served_when_all_is_down,
    edits_under_load_lose_no_call,
    *bridge.SCENES,
    *field.SCENES,
    *arguments.SCENES,
    *faults.SCENES,
    *uris.SCENES,
    yardstick.every_sdk_gets_through_the_gate_what_it_gets_directly,
]


def causes(error: BaseException) -> list[str]:
    """What went wrong, and the line of this folder where; without the groups that it came in."""
    if grouped := getattr(error, "exceptions", None):
        return [cause for inner in grouped for cause in causes(inner)]
    frames = [
        f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).parent == HERE
    ]
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "elsewhere"
    return [f"{where}: {type(error).__name__}: {str(error) or 'took too long'}"]


async def run(chosen: list[str]) -> int:
    failed: list[str] = []
    for scene in SCENES:
        if chosen and scene.__name__ not in chosen:
            continue
        name, begun = scene.__name__.replace("_", " "), time.monotonic()
        try:
            with anyio.fail_after(300):
                await scene()
        except Exception as error:
            failed.append("\n        ".join([f"FAILED  {name}", *causes(error)]))
            print(failed[-1], flush=True)
        else:
            print(f"ok      {name} ({time.monotonic() - begun:.1f} s)", flush=True)
    # Once more at the end, where one looks.
    print(f"{len(failed)} scenes failed", *failed, sep="\n", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(anyio.run(run, sys.argv[1:]))
