// Clients of the official TypeScript SDK, both lines, log in by themselves: they are told where by the gate, register
// at the authorization server, and a person (see `browse`) logs in and consents.
// usage: node login.mjs URL PACKAGES      PACKAGES: the folder where setup.sh installed them
// Prints one line a check; exits 1 if one failed.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [url, packages] = process.argv.slice(2);
const require = createRequire(`${packages}/package.json`);
const v1 = {
  ...require("@modelcontextprotocol/sdk/client/index.js"),
  ...require("@modelcontextprotocol/sdk/client/streamableHttp.js"),
};
const v2 = require("@modelcontextprotocol/client");

const CALLBACK = "http://127.0.0.1:1/callback"; // nobody listens: the browser's last step is read, not followed
const INFO = { name: "tollgate-real-test", version: "1.0.0" };

const PEERS = [
  ["sdk 1.x", v1, () => new v1.Client(INFO)],
  ["client 2.x", v2, () => new v2.Client(INFO)],
  ["client 2.x, 2026-07-28", v2, () => new v2.Client(INFO, { versionNegotiation: { mode: { pin: "2026-07-28" } } })],
];

/** What a client keeps of its login. */
function keeper(person) {
  const kept = {};
  return {
    kept,
    redirectUrl: CALLBACK,
    clientMetadata: {
      client_name: INFO.name,
      application_type: "native",
      redirect_uris: [CALLBACK],
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
      token_endpoint_auth_method: "none",
    },
    clientInformation: () => kept.client,
    saveClientInformation: (client) => void (kept.client = client),
    tokens: () => kept.tokens,
    saveTokens: (tokens) => void (kept.tokens = tokens),
    codeVerifier: () => kept.verifier,
    discoveryState: () => kept.discovery,
    saveDiscoveryState: (state) => void (kept.discovery = state),
    saveCodeVerifier: (verifier) => void (kept.verifier = verifier),
    redirectToAuthorization: async (to) => {
      kept.asked = to;
      kept.back = (await browse(to, person)).searchParams;
    },
  };
}

/** A person at a browser: logs in, consents, and is sent back to the client. */
async function browse(to, person) {
  const cookies = new Map();
  let [address, body] = [new URL(to), undefined];
  for (let step = 0; step < 20; step++) {
    const reply = await fetch(address, {
      method: body ? "POST" : "GET",
      body,
      redirect: "manual",
      headers: { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join("; ") },
    });
    for (const cookie of reply.headers.getSetCookie()) {
      const [, name, value] = cookie.match(/^([^=]+)=([^;]*)/);
      cookies.set(name, value);
    }
    body = undefined;
    const location = reply.headers.get("location");
    if (location) {
      address = new URL(location, address);
      if (address.href.startsWith(CALLBACK)) return address;
      continue;
    }
    const page = await reply.text();
    assert.equal(reply.status, 200, page);
    const action = page.match(/<form[^>]*action="([^"]+)"/)?.[1];
    const prompt = page.match(/name="prompt" value="([^"]+)"/)?.[1];
    assert(action && prompt, page);
    address = new URL(action, address);
    body = new URLSearchParams({ prompt, ...(prompt === "login" && { login: person, password: "any" }) });
  }
  throw new Error("the login has no end");
}

let failed = 0;
for (const [name, sdk, make] of PEERS) {
  try {
    const auth = keeper("ada");
    const transport = () => new sdk.StreamableHTTPClientTransport(new URL(url), { authProvider: auth });
    const first = transport();
    await assert.rejects(make().connect(first), /nauthorized/, "nobody gets in without a token");
    assert.equal(auth.kept.asked.searchParams.get("resource"), url, "the token is for this very route");
    assert.match(auth.kept.asked.searchParams.get("scope"), /^mcp:use\b/, "as the gate told");
    await first.finishAuth(auth.kept.back.get("code"), auth.kept.back.get("iss"));
    const client = make();
    await client.connect(transport());
    const result = await client.callTool({ name: "echo", arguments: { message: "let in" } });
    assert.equal(result.content[0].text, "Echo: let in");
    await client.close();
    console.log(`ok      ${name}: logs in and calls a tool`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}: logs in and calls a tool\n        ${String(error.stack).replaceAll("\n", "\n        ")}`);
  }
}
process.exit(failed ? 1 : 0);
