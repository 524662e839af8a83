// The clients of the official TypeScript SDK, both lines that are current, use the gate as an agent would.
// usage: node sdk.mjs URL PACKAGES      PACKAGES: the folder where setup.sh installed them
// Prints one line a check; exits 1 if one failed.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { gunzipSync } from "node:zlib";

const [url, packages, ownProcesses] = process.argv.slice(2);
const require = createRequire(`${packages}/package.json`);
const v1 = {
  ...require("@modelcontextprotocol/sdk/client/index.js"),
  ...require("@modelcontextprotocol/sdk/client/streamableHttp.js"),
  ...require("@modelcontextprotocol/sdk/types.js"),
};
const v2 = require("@modelcontextprotocol/client");

/** How long a notification or a list may take to reach the client. */
const PATIENCE_MS = 10_000;
const INFO = { name: "tollgate-real-test", version: "1.0.0" };
const ASKABLE = { sampling: {}, elicitation: {}, roots: {} };

/** The two lines of the SDK name the same things differently; each peer has the same members. */
const PEERS = [
  {
    name: "sdk 1.x, 2025-11-25",
    modern: false,
    client: (capabilities) => new v1.Client(INFO, { capabilities }),
    transport: () => new v1.StreamableHTTPClientTransport(new URL(url)),
    call: (client, name, args, options) => client.callTool({ name, arguments: args }, undefined, options),
    onRequest: (client, method, answer) => client.setRequestHandler(V1_SCHEMAS[method], answer),
    onNotification: (client, method, seen) => client.setNotificationHandler(V1_SCHEMAS[method], seen),
  },
  ...[
    ["client 2.x, 2025-11-25", "legacy"],
    ["client 2.x, 2026-07-28", { pin: "2026-07-28" }],
    ["client 2.x, probing", "auto"],
  ].map(([name, mode]) => ({
    name,
    modern: mode !== "legacy",
    client: (capabilities) => new v2.Client(INFO, { capabilities, versionNegotiation: { mode } }),
    transport: () => new v2.StreamableHTTPClientTransport(new URL(url)),
    call: (client, name, args, options) => client.callTool({ name, arguments: args }, options),
    onRequest: (client, method, answer) => client.setRequestHandler(method, answer),
    onNotification: (client, method, seen) => client.setNotificationHandler(method, seen),
  })),
];
const V1_SCHEMAS = {
  "sampling/createMessage": v1.CreateMessageRequestSchema,
  "elicitation/create": v1.ElicitRequestSchema,
  "roots/list": v1.ListRootsRequestSchema,
  "notifications/message": v1.LoggingMessageNotificationSchema,
  "notifications/resources/list_changed": v1.ResourceListChangedNotificationSchema,
  "notifications/resources/updated": v1.ResourceUpdatedNotificationSchema,
};

const text = (result) => result.content.map((part) => part.text ?? "").join("\n");
const names = (list) => list.map((entry) => entry.name);
/** Asks the gate, whatever the client has kept. */
const toolNames = async (client) => names((await client.listTools(undefined, { cacheMode: "refresh" })).tools);
const pause = (ms) => new Promise((wake) => setTimeout(wake, ms));

/** Asks until `ask` gives something, and says what was waited for when it never does. */
async function eventually(what, ask) {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    assert(Date.now() < end, `${what}: nothing within ${PATIENCE_MS} ms`);
    await pause(50);
  }
}

/** What any client finds: `check(client, peer)`. */
const CHECKS = {
  "lists the tools of all four upstreams": async (client) => {
    const wanted = ["gateway_upstreams", "echo", "read_text_file", "search_nodes"];
    await eventually(wanted.join(), async () => {
      const listed = await toolNames(client);
      return wanted.every((name) => listed.includes(name));
    });
  },

  "calls a tool of gate": async (client, peer) => {
    const answer = text(await peer.call(client, "gateway_upstreams", {}));
    for (const upstream of ["gate", "everything", "files", "memory"]) assert(answer.includes(upstream), answer);
  },

  "calls a tool of everything": async (client, peer) => {
    assert.equal(text(await peer.call(client, "echo", { message: "grüße 🎉" })), "Echo: grüße 🎉");
  },

  "calls tools of files": async (client, peer) => {
    const folder = text(await peer.call(client, "list_allowed_directories", {})).split("\n")[1];
    const path = `${folder}/${peer.name}.txt`;
    await peer.call(client, "write_file", { path, content: `written by ${peer.name}` });
    assert.equal(text(await peer.call(client, "read_text_file", { path })), `written by ${peer.name}`);
  },

  "calls tools of memory": async (client, peer) => {
    const entity = { name: `gate of ${peer.name}`, entityType: "gate", observations: ["stands open"] };
    await peer.call(client, "create_entities", { entities: [entity] });
    const { structuredContent } = await peer.call(client, "search_nodes", { query: entity.name });
    assert.deepEqual(structuredContent.entities, [entity]);
  },

  "reads structured content that the output schema admits": async (client, peer) => {
    const { structuredContent } = await peer.call(client, "get-structured-content", { location: "Chicago" });
    assert.deepEqual(Object.keys(structuredContent).sort(), ["conditions", "humidity", "temperature"]);
  },

  "lists and gets prompts": async (client) => {
    const listed = names((await client.listPrompts()).prompts);
    for (const name of ["simple-prompt", "args-prompt", "completable-prompt"]) {
      assert(listed.includes(name), listed.join());
    }
    const prompt = await client.getPrompt({ name: "args-prompt", arguments: { city: "Basel", state: "BS" } });
    assert.equal(prompt.messages[0].content.text, "What's weather in Basel, BS?");
  },

  "lists and reads resources": async (client) => {
    const uri = "demo://resource/static/document/features.md";
    const { resources } = await client.listResources();
    assert(resources.some((resource) => resource.uri === uri), JSON.stringify(resources));
    const { contents } = await client.readResource({ uri });
    assert.match(contents[0].text, /# Everything Server - Features/);
  },

  "lists resource templates and reads by one": async (client) => {
    const { resourceTemplates } = await client.listResourceTemplates();
    const templates = resourceTemplates.map((template) => template.uriTemplate);
    assert(templates.includes("demo://resource/dynamic/text/{resourceId}"), templates.join());
    const { contents } = await client.readResource({ uri: "demo://resource/dynamic/text/7" });
    assert.match(contents[0].text, /^Resource 7: /);
  },

  "completes an argument, with context": async (client) => {
    const { completion } = await client.complete({
      ref: { type: "ref/prompt", name: "completable-prompt" },
      argument: { name: "name", value: "A" },
      context: { arguments: { department: "Engineering" } },
    });
    assert.deepEqual(completion.values, ["Alice"]);
  },

  "receives progress": async (client, peer) => {
    const seen = [];
    const options = { onprogress: ({ progress, total }) => seen.push(`${progress}/${total}`) };
    const result = await peer.call(client, "trigger-long-running-operation", { duration: 0.5, steps: 5 }, options);
    assert.match(text(result), /completed/);
    // The 1.x client drops a notification that it reads together with the answer; the last one may be.
    assert.deepEqual(seen.slice(0, 4), ["1/5", "2/5", "3/5", "4/5"]);
  },

  "is told of a failed call": async (client, peer) => {
    const result = await peer.call(client, "read_text_file", { path: "/nowhere/at/all.txt" });
    assert.equal(result.isError, true);
    assert.match(text(result), /Access denied/);
  },

  "is refused an unknown tool": async (client, peer) => {
    await assert.rejects(peer.call(client, "no_such_tool", {}), (error) => error.code === -32602);
  },

  "is told that the resources changed": async (client, peer) => {
    let told = 0;
    peer.onNotification(client, "notifications/resources/list_changed", () => void told++);
    const listening = peer.modern && (await client.listen({ resourcesListChanged: true }));
    const name = `${peer.name.replace(/\W+/g, "-")}.gz`;
    const data = "data:text/plain,pack%20me";
    const result = await peer.call(client, "gzip-file-as-resource", { name, data, outputType: "resourceLink" });
    const uri = `demo://resource/session/${name}`;
    assert.equal(result.content[0].uri, uri);
    await eventually("list_changed", () => told > 0);
    await eventually(`${uri} in resources/list`, async () =>
      (await client.listResources(undefined, { cacheMode: "refresh" })).resources.some((r) => r.uri === uri));
    const { contents } = await client.readResource({ uri });
    assert.equal(gunzipSync(Buffer.from(contents[0].blob, "base64")).toString(), "pack me");
    if (peer.modern) await listening.close();
  },

  "is told that a resource was updated": async (client, peer) => {
    const uri = "demo://resource/static/document/startup.md";
    const updated = new Set();
    peer.onNotification(client, "notifications/resources/updated", ({ params }) => void updated.add(params.uri));
    const listening = peer.modern && (await client.listen({ resourceSubscriptions: [uri] }));
    if (!peer.modern) await client.subscribeResource({ uri });
    const toggled = await peer.call(client, "toggle-subscriber-updates", {});
    assert.match(text(toggled), /^Started/);
    try {
      await eventually(`resources/updated of ${uri}`, () => updated.has(uri));
    } finally {
      await peer.call(client, "toggle-subscriber-updates", {});
    }
    await (peer.modern ? listening.close() : client.unsubscribeResource({ uri }));
  },
};

/** What a client of the sessions' era finds besides. */
const LEGACY_CHECKS = {
  "answers a ping": (client) => client.ping(),
};

/** What it finds where the server's process is its own: messages outside of calls are for somebody. */
const OWN_PROCESS_CHECKS = {
  "receives log messages of the level it set": async (client, peer) => {
    await toolShown(client, "echo");
    const uri = "demo://resource/static/document/architecture.md";
    const seen = [];
    peer.onNotification(client, "notifications/message", ({ params }) => void seen.push(String(params.data)));
    await client.setLoggingLevel("error");
    await client.subscribeResource({ uri }); // is logged as `info`
    await client.setLoggingLevel("info");
    await client.unsubscribeResource({ uri }); // is logged as `info`, too
    await eventually("the second message", () => seen.some((line) => line.includes("Unsubscribe")));
    assert(!seen.some((line) => line.includes("Received Subscribe")), seen.join());
  },
};

/** What a client finds that can be asked in the middle of a call. */
const ASKED_CHECKS = {
  "is asked for a sample in mid-call": async (client, peer) => {
    await toolShown(client, "trigger-sampling-request");
    peer.onRequest(client, "sampling/createMessage", async ({ params }) => {
      assert.match(params.messages[0].content.text, /say something/);
      return { role: "assistant", model: "test", content: { type: "text", text: "something" }, stopReason: "endTurn" };
    });
    const result = await peer.call(client, "trigger-sampling-request", { prompt: "say something", maxTokens: 5 });
    assert.match(text(result), /"text": "something"/);
  },

  "is asked for input in mid-call": async (client, peer) => {
    await toolShown(client, "trigger-elicitation-request");
    peer.onRequest(client, "elicitation/create", async ({ params }) => {
      assert(params.requestedSchema.properties.name, JSON.stringify(params));
      return { action: "accept", content: { name: "Ada", integer: 42 } };
    });
    const result = await peer.call(client, "trigger-elicitation-request", {});
    assert.match(text(result), /- Name: Ada/);
    assert.match(text(result), /- Favorite Integer: 42/);
  },

  "is asked for its roots": async (client, peer) => {
    await toolShown(client, "get-roots-list");
    const result = await peer.call(client, "get-roots-list", {});
    assert.match(text(result), /file:\/\/\/srv\/project/);
  },
};

/** server-everything registers these tools only for a client that can be asked. */
const toolShown = (client, name) =>
  eventually(`${name} in tools/list`, async () => (await toolNames(client)).includes(name));

const failures = [];

async function attempt(name, what) {
  try {
    await what();
    console.log(`ok      ${name}`);
    return true;
  } catch (error) {
    failures.push(`FAILED  ${name}\n        ${String(error.message).replaceAll("\n", "\n        ")}`);
    console.log(failures.at(-1));
    return false;
  }
}

async function run(peer, capabilities, checks) {
  const client = peer.client(capabilities);
  if (capabilities.roots) {
    peer.onRequest(client, "roots/list", async () => ({ roots: [{ uri: "file:///srv/project", name: "project" }] }));
  }
  if (!(await attempt(`${peer.name}: connects`, () => client.connect(peer.transport())))) return;
  for (const [name, check] of Object.entries(checks)) {
    await attempt(`${peer.name}: ${name}`, () => check(client, peer));
  }
  await client.close();
}

for (const peer of PEERS) {
  if (ownProcesses) {
    if (!peer.modern) await run(peer, {}, OWN_PROCESS_CHECKS);
    continue;
  }
  await run(peer, {}, peer.modern ? CHECKS : { ...CHECKS, ...LEGACY_CHECKS });
  if (!peer.modern) await run(peer, ASKABLE, ASKED_CHECKS);
}
// Once more where a cut log still shows them.
for (const failure of failures) console.log(`once more: ${failure}`);
process.exit(failures.length ? 1 : 0);
