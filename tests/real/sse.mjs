// The reference server of 2024-11-05 over HTTP+SSE, with a server for each connection: its own program has one for all,
// and ends with the first client that leaves.
// usage: node sse.mjs PACKAGE PORT      PACKAGE: the folder of that server
import { createServer as createHttpServer } from "node:http";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, port] = process.argv.slice(2);
const require = createRequire(`${folder}/package.json`);
const { SSEServerTransport } = await import(pathToFileURL(require.resolve("@modelcontextprotocol/sdk/server/sse.js")));
const { createServer } = await import(pathToFileURL(`${folder}/dist/everything.js`));
const open = new Map();

createHttpServer(async (request, response) => {
  const { pathname, searchParams } = new URL(request.url, "http://127.0.0.1");
  if (request.method === "GET" && pathname === "/sse") {
    const transport = new SSEServerTransport("/message", response);
    const { server, cleanup } = createServer();
    open.set(transport.sessionId, transport);
    server.onclose = async () => {
      open.delete(transport.sessionId);
      await cleanup();
    };
    return server.connect(transport);
  }
  const transport = request.method === "POST" && open.get(searchParams.get("sessionId"));
  return transport ? transport.handlePostMessage(request, response) : response.writeHead(404).end();
}).listen(Number(port), "127.0.0.1");
