"""The client of the official Python SDK uses the gate as an agent would, in both eras.

usage: python sdk.py URL
Prints one line a check; exits 1 if one failed.
"""

import sys
from collections.abc import Awaitable, Callable

import anyio
import mcp_types as types
from mcp.client.client import Client
from mcp.shared.exceptions import MCPError

ERAS = {"2025-11-25": "legacy", "2026-07-28": "2026-07-28", "probing": "auto"}
# How long a list may take to be complete, in seconds.
PATIENCE = 10


def text(result: types.CallToolResult) -> str:
    return "\n".join(getattr(part, "text", "") for part in result.content)


async def lists_the_tools_of_all_four_upstreams(client: Client) -> None:
    wanted = {"gateway_upstreams", "echo", "read_text_file", "search_nodes"}
    with anyio.fail_after(PATIENCE):
        while wanted - {
            tool.name for tool in (await client.list_tools(cache_mode="refresh")).tools
        }:
            await anyio.sleep(0.05)


async def calls_a_tool_of_gate(client: Client) -> None:
    answer = text(await client.call_tool("gateway_upstreams", {}))
    for upstream in ("gate", "everything", "files", "memory"):
        assert upstream in answer, answer


async def calls_a_tool_of_everything(client: Client) -> None:
    answer = text(await client.call_tool("echo", {"message": "grüße 🎉"}))
    assert answer == "Echo: grüße 🎉", answer


async def calls_tools_of_files(client: Client) -> None:
    folder = text(await client.call_tool("list_allowed_directories", {})).splitlines()[1]
    path, content = f"{folder}/python.txt", f"written in {client.protocol_version}"
    await client.call_tool("write_file", {"path": path, "content": content})
    answer = text(await client.call_tool("read_text_file", {"path": path}))
    assert answer == content, answer


async def calls_tools_of_memory(client: Client) -> None:
    entity = {
        "name": f"python {client.protocol_version}",
        "entityType": "gate",
        "observations": ["stands open"],
    }
    await client.call_tool("create_entities", {"entities": [entity]})
    found = (await client.call_tool("search_nodes", {"query": entity["name"]})).structured_content
    assert found and found["entities"] == [entity], found


async def lists_and_gets_prompts(client: Client) -> None:
    listed = [prompt.name for prompt in (await client.list_prompts()).prompts]
    assert "args-prompt" in listed, listed
    prompt = await client.get_prompt("args-prompt", {"city": "Basel", "state": "BS"})
    assert getattr(prompt.messages[0].content, "text", None) == "What's weather in Basel, BS?", (
        prompt
    )


async def lists_and_reads_resources(client: Client) -> None:
    uri = "demo://resource/static/document/features.md"
    listed = [str(resource.uri) for resource in (await client.list_resources()).resources]
    assert uri in listed, listed
    contents = (await client.read_resource(uri)).contents
    assert "# Everything Server - Features" in getattr(contents[0], "text", ""), contents


async def reads_by_a_resource_template(client: Client) -> None:
    templates = [
        entry.uri_template for entry in (await client.list_resource_templates()).resource_templates
    ]
    assert "demo://resource/dynamic/text/{resourceId}" in templates, templates
    contents = (await client.read_resource("demo://resource/dynamic/text/7")).contents
    assert getattr(contents[0], "text", "").startswith("Resource 7: "), contents


async def completes_an_argument(client: Client) -> None:
    prompt = types.PromptReference(type="ref/prompt", name="completable-prompt")
    answer = await client.complete(
        prompt, {"name": "name", "value": "A"}, {"department": "Engineering"}
    )
    assert answer.completion.values == ["Alice"], answer


async def receives_progress(client: Client) -> None:
    seen: list[tuple[float, float | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total))

    await client.call_tool(
        "trigger-long-running-operation", {"duration": 0.5, "steps": 5}, progress_callback=note
    )
    assert seen == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)], seen


async def is_refused_an_unknown_tool(client: Client) -> None:
    try:
        answer = await client.call_tool("no_such_tool", {})
    except MCPError as error:
        assert error.error.code == types.INVALID_PARAMS, error.error
    else:
        raise AssertionError(f"was answered {answer}")


CHECKS: list[Callable[[Client], Awaitable[None]]] = [
    lists_the_tools_of_all_four_upstreams,
    calls_a_tool_of_gate,
    calls_a_tool_of_everything,
    calls_tools_of_files,
    calls_tools_of_memory,
    lists_and_gets_prompts,
    lists_and_reads_resources,
    reads_by_a_resource_template,
    completes_an_argument,
    receives_progress,
    is_refused_an_unknown_tool,
]


async def run(url: str) -> int:
    failed = 0
    for era, mode in ERAS.items():
        async with Client(url, mode=mode) as client:
            for check in CHECKS:
                name = f"python, {era}: {check.__name__.replace('_', ' ')}"
                try:
                    with anyio.fail_after(30):
                        await check(client)
                except Exception as error:
                    failed += 1
                    print(f"FAILED  {name}\n        {type(error).__name__}: {error}", flush=True)
                else:
                    print(f"ok      {name}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(anyio.run(run, sys.argv[1]))
