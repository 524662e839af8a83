// A tool with an argument of each type, by the official TypeScript SDK.
// usage: node probe.mjs PACKAGES KIND
// KIND: "zod" (of version 4), "zod3", "coerce" (z.coerce), or "unchecked" (the SDK's Server, which checks nothing)
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [packages, kind] = process.argv.slice(2);
const require = createRequire(`${packages}/package.json`);
const load = (name) => import(pathToFileURL(require.resolve(name)));
const { StdioServerTransport } = await load("@modelcontextprotocol/sdk/server/stdio.js");
const took = ({ need }) => ({ content: [{ type: "text", text: `took ${need}` }] });
const about = { name: "probe", version: "1" };

async function checked() {
  const { McpServer } = await load("@modelcontextprotocol/sdk/server/mcp.js");
  const { z } = await load(kind === "zod3" ? "zod/v3" : "zod");
  const of = kind === "coerce" ? z.coerce : z;
  const shape = {
    need: z.string(),
    count: (kind === "coerce" ? of.number() : of.number().int()).optional(),
    ratio: of.number().optional(),
    on: of.boolean().optional(),
    text: of.string().optional(),
    items: z.array(z.string()).optional(),
    deep: z.object({ count: of.number(), tag: z.string().optional() }).optional(),
  };
  const server = new McpServer(about);
  server.registerTool("probe", { inputSchema: shape }, took);
  return server;
}

async function unchecked() {
  const { Server } = await load("@modelcontextprotocol/sdk/server/index.js");
  const types = await load("@modelcontextprotocol/sdk/types.js");
  const whole = { type: "integer" };
  const inputSchema = {
    type: "object",
    properties: {
      need: { type: "string" },
      count: whole,
      ratio: { type: "number" },
      on: { type: "boolean" },
      text: { type: "string" },
      items: { type: "array", items: { type: "string" } },
      deep: { type: "object", properties: { count: whole, tag: { type: "string" } }, required: ["count"] },
    },
    required: ["need"],
  };
  const server = new Server(about, { capabilities: { tools: {} } });
  server.setRequestHandler(types.ListToolsRequestSchema, () => ({ tools: [{ name: "probe", inputSchema }] }));
  server.setRequestHandler(types.CallToolRequestSchema, ({ params }) => took(params.arguments));
  return server;
}

await (await (kind === "unchecked" ? unchecked() : checked())).connect(new StdioServerTransport());
