// A server of the official TypeScript SDK whose resources are found by what Node's URL makes of a URI.
// usage: node reader.mjs PACKAGES FOLDER URI=TEXT…     FOLDER: its files are served, by `file:` URIs
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { posix } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const [packages, folder, ...texts] = process.argv.slice(2);
const require = createRequire(`${packages}/package.json`);
const load = (name) => import(pathToFileURL(require.resolve(name)));
const { Server } = await load("@modelcontextprotocol/sdk/server/index.js");
const { StdioServerTransport } = await load("@modelcontextprotocol/sdk/server/stdio.js");
const types = await load("@modelcontextprotocol/sdk/types.js");
const known = new Map(texts.map((word) => [word.slice(0, word.indexOf("=")), word.slice(word.indexOf("=") + 1)]));

// What a server gives that takes all that its library reads, as many do.
function content(uri) {
  const url = new URL(uri);
  if (url.protocol === "file:") {
    const path = posix.normalize(fileURLToPath(url));
    return path.startsWith(`${folder}/`) ? readFileSync(path, "utf8") : undefined;
  }
  const path = posix.normalize(decodeURIComponent(url.pathname));
  const port = url.port && `:${url.port}`;
  return path.startsWith("/") ? known.get(`${url.protocol}//${url.hostname.replace(/\.$/, "")}${port}${path}`) : undefined;
}

const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
const uris = [...files.map((entry) => pathToFileURL(`${entry.parentPath ?? entry.path}/${entry.name}`).href), ...known.keys()];
const server = new Server({ name: "reader", version: "1" }, { capabilities: { resources: {} } });
server.setRequestHandler(types.ListResourcesRequestSchema, () => ({ resources: uris.map((uri) => ({ uri, name: uri })) }));
server.setRequestHandler(types.ReadResourceRequestSchema, ({ params: { uri } }) => {
  const text = content(uri);
  if (text === undefined) throw new types.McpError(-32002, "Resource not found");
  return { contents: [{ uri, text }] };
});
await server.connect(new StdioServerTransport());
