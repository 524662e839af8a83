"""Spellings of URIs by which a server alone gives what is forbidden, and that none does through the gate."""

import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio
from gate import Gate, eventually
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters
from mcp.shared.exceptions import MCPError
from servers import HOME, everything

HERE = Path(__file__).parent
HIDDEN, PLAIN = "the hidden text", "a plain text"
# Of the client's SDK: what a server prints.
logging.getLogger("mcp").setLevel(logging.CRITICAL)

# What the two servers have that find resources by a library of URIs: a hidden one, and one that all may read.
PAIRS = [
    ("http://h.example/private/secret", "http://h.example/public"),
    ("https://h.example/private/secret", "https://h.example/public"),
    ("http://xn--bcher-kva.example/private/secret", "http://xn--bcher-kva.example/public"),
    ("mem://vault/private/secret", "mem://vault/public"),
]
# What the reference server has: its library compares what Node's URL makes of both.
DOCUMENTS = "demo://resource/static/document"


def spellings(uri: str) -> Iterator[str]:
    """The URI itself, and others that some reader takes for it."""
    scheme, _, rest = uri.partition("://")
    host, _, path = rest.partition("/")
    folder, _, name = path.rpartition("/")
    top, _, below = path.partition("/")
    yield uri
    # The scheme, and what stands behind it.
    yield f"{scheme.upper()}://{rest}"
    yield f"{scheme.title()}://{rest}"
    yield f"{scheme}:/{rest}" if host else f"{scheme}:/{path}"
    yield f"{scheme}:{rest}" if host else f"{scheme}:{path}"
    yield f"{scheme}:///{rest}" if host else f"{scheme}:////{path}"
    yield f"{scheme}:/{'/' * 4}{rest}"
    yield uri.replace("/", "\\")
    yield f"{scheme}:\\\\{host}\\{path}"
    # The host.
    for other in [
        host.upper(),
        f"{host}.",
        f"{host}:",
        f"{host}:80",
        f"{host}:443",
        f"{host}:080",
        f"{host}:00",
        f"x@{host}",
        f"x:y@{host}",
        f"@{host}",
        f":@{host}",
        f"{host}%2E",
        f"%{ord((host or 'l')[0]):02x}{host[1:]}",
        f"{host}\t",
    ]:
        yield f"{scheme}://{other}/{path}"
    if host.startswith("xn--"):
        for other in (
            "bücher",
            "BÜCHER",
            "Bücher",
            "b%C3%BCcher",
            "bu\u0308cher",
            "XN--BCHER-KVA",
            "ｂücher",
        ):
            yield uri.replace("xn--bcher-kva", other)
    if not host:
        for other in (
            "localhost",
            "LOCALHOST",
            "127.0.0.1",
            "[::1]",
            "localhost.",
            "%6cocalhost",
            "elsewhere",
            ".",
        ):
            yield f"{scheme}://{other}/{path}"
    # The path.
    before = f"{scheme}://{host}/"
    yield f"{before}/{path}"
    yield f"{before}{folder}//{name}"
    yield f"{before}{path}/"
    yield f"{before}{path}/."
    yield f"{before}./{path}"
    yield f"{before}{folder}/./{name}"
    yield f"{before}x/../{path}"
    yield f"{before}{folder}/x/../{name}"
    yield f"{before}x/%2e%2e/{path}"
    yield f"{before}x/.%2E/{path}"
    yield f"{before}x%2F..%2F{path}"
    yield f"{before}{folder}/x\\..\\{name}"
    yield f"{before}../{path}"
    yield f"{before}{folder}%2F{name}"
    yield f"{before}{folder}%2f{name}"
    yield f"{before}{path.replace('/', '%2F')}"
    yield f"{before}{path.replace('/', '%5C')}"
    yield f"{before}{path.replace('/', '%252F')}"
    yield f"{before}{folder}/%{ord(name[0]):02x}{name[1:]}"
    yield f"{before}{folder}/%25{ord(name[0]):02x}{name[1:]}"
    yield f"{before}{''.join(f'%{ord(letter):02X}' for letter in top)}/{below}"
    yield f"{before}{folder}/{name.upper()}"
    yield f"{before}{folder}/{name[:2]}\t{name[2:]}"
    yield f"{before}{folder}/{name[:2]}\n{name[2:]}"
    yield f"{before}{folder};x/{name}"
    # What stands behind the path.
    for end in (
        "?",
        "?x",
        "?x=1&y",
        "#",
        "#x",
        "?x#y",
        "%00",
        "\0",
        "%23x",
        "%3Fx",
        ";x",
        " ",
        "%20",
        "\u200b",
    ):
        yield f"{uri}{end}"
    yield f" {uri}"
    yield f"\t{uri}"
    yield f"url:{uri}"


@dataclass
class Reader:
    """A server, and its resources: hidden ones, and beside each one that all may read."""

    name: str
    command: list[str]
    pairs: list[tuple[str, str]]
    hidden: str
    """Words of what is hidden, and of nothing else."""


def readers(folder: Path) -> list[Reader]:
    files = [(folder / "private/secret.txt").as_uri(), (folder / "public.txt").as_uri()]
    pairs = [(files[0], files[1]), *PAIRS]
    texts = [f"{uri}={text}" for pair in PAIRS for uri, text in zip(pair, (HIDDEN, PLAIN), strict=True)]
    documents = [(f"{DOCUMENTS}/features.md", f"{DOCUMENTS}/architecture.md")]
    return [
        Reader("python", [sys.executable, str(HERE / "reader.py"), str(folder), *texts], pairs, HIDDEN),
        Reader("node", ["node", str(HERE / "reader.mjs"), str(HOME), str(folder), *texts], pairs, HIDDEN),
        Reader("everything", everything("2025-11-25"), documents, "# Everything Server - Features"),
    ]


def rules(reader: Reader) -> dict[str, tuple[str, str]]:
    """Ways to keep the hidden ones from everybody: the keys of a route, and its policies."""
    hidden = [uri for uri, _ in reader.pairs]
    within = [f"{uri.rpartition('/')[0]}/*" for uri in hidden]
    if reader.name == "everything":
        within = [f"{DOCUMENTS}/f*"]
    everybody = "permit(principal, action, resource);\n"
    exact = "".join(
        f"forbid(principal, action, resource == Resource::{json.dumps(f'{reader.name}/{uri}')});\n"
        for uri in hidden
    )
    like = "".join(
        f"forbid(principal, action, resource) when {{ resource.name like {json.dumps(one)} }};\n"
        for one in within
    )
    return {
        "forbid": ("", everybody + exact),
        "forbid like": ("", everybody + like),
        "deny": (f"resources = {{ deny = {json.dumps(hidden)} }}", ""),
        "deny pattern": (f"resources = {{ deny = {json.dumps(within)} }}", ""),
    }


def configured(gate: Gate, every: list[Reader], unlisted: list[str]) -> dict[tuple[str, str], str]:
    """Writes the configuration; says at which path each reader is, by which rule."""
    (gate.folder / "policies").mkdir()
    paths, text = {}, ""
    for reader in every:
        text += f"[upstreams.{reader.name}]\ncommand = {reader.command[0]!r}\nargs = {reader.command[1:]!r}\n"
        for number, (rule, (keys, policy)) in enumerate(rules(reader).items()):
            for more in unlisted:
                path = f"/{reader.name}-{number}{'-open' if more else ''}"
                paths[reader.name, f"{rule}{', unlisted' if more else ''}"] = path
                text += f'[routes."{path}"]\nupstreams = ["{reader.name}"]\n{keys}\n{more}\n'
                if policy:
                    file = f"policies{path}.cedar"
                    (gate.folder / file).write_text(policy)
                    text += f'policy = ["{file}"]\n'
    gate.routes.write_text(text)
    return paths


async def read(client: Client, uri: str) -> str:
    try:
        contents = (await client.read_resource(uri)).contents
    except (MCPError, ValueError):
        return ""
    return getattr(contents[0], "text", "") if contents else ""


Reached = dict[tuple[str, str], set[str]]
"""For each reader and rule the spellings by which it gave what is hidden; the rule "" is the server alone."""


async def measured(unlisted: list[str]) -> tuple[list[Reader], Reached]:
    reached: Reached = {}
    with tempfile.TemporaryDirectory() as made:
        folder, gate = Path(os.path.realpath(made)), Gate()
        (folder / "private").mkdir()
        (folder / "private/secret.txt").write_text(HIDDEN)
        (folder / "public.txt").write_text(PLAIN)
        every = readers(folder)
        paths = configured(gate, every, unlisted)

        async def visit(reader: Reader, rule: str, target: StdioServerParameters | str) -> None:
            async with Client(target, mode="legacy") as client:

                async def served() -> bool:
                    return all([await read(client, public) for _, public in reader.pairs])

                await eventually(f"{reader.name}, {rule}: what all may read", served)
                for hidden, _ in reader.pairs:
                    found = {uri for uri in spellings(hidden) if reader.hidden in await read(client, uri)}
                    reached.setdefault((reader.name, rule), set()).update(found)

        with gate:
            async with anyio.create_task_group() as tasks:
                for reader in every:
                    quietly = ["-c", 'exec "$@" 2>/dev/null', "sh", *reader.command]
                    tasks.start_soon(visit, reader, "", StdioServerParameters(command="sh", args=quietly))
                    for (name, rule), path in paths.items():
                        if name == reader.name:
                            tasks.start_soon(visit, reader, rule, f"http://{gate.address}{path}")
    return every, reached


async def no_spelling_of_a_uri_reaches_what_is_forbidden() -> None:
    """Prints by how many spellings each server gives what is hidden: alone, and by each rule of the gate."""
    every, reached = await measured(["", 'unlisted = "allow"'])
    failures = []
    for reader in every:
        tried = {uri for hidden, _ in reader.pairs for uri in spellings(hidden)}
        alone = reached[reader.name, ""]
        print(
            f"        {reader.name}: {len(tried)} spellings, {len(alone)} reach it without the gate",
            flush=True,
        )
        assert {hidden for hidden, _ in reader.pairs} <= alone, f"{reader.name} has not what is to be hidden"
        for (name, rule), found in reached.items():
            if name == reader.name and rule:
                print(f"            {rule:<24}{len(found)}")
                failures += [f"{name}, {rule}: {uri!r}" for uri in sorted(found)]
    assert not failures, "\n".join(["", *failures])


SCENES = [no_spelling_of_a_uri_reaches_what_is_forbidden]
