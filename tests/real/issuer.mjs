// A small real authorization server (oidc-provider), on which clients register themselves.
// usage: node issuer.mjs PACKAGES PORT      PACKAGES: the folder where setup.sh installed them
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [packages, port] = process.argv.slice(2);
const require = createRequire(`${packages}/package.json`);
const { default: Provider } = await import(pathToFileURL(require.resolve("oidc-provider")));

const issuer = `http://127.0.0.1:${port}`;
const provider = new Provider(issuer, {
  scopes: ["openid", "offline_access", "mcp:use"],
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  clientDefaults: { id_token_signed_response_alg: "RS256" },
  features: {
    registration: { enabled: true },
    devInteractions: { enabled: true }, // a form that takes any name
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: (_, resource) => ({
        scope: "mcp:use",
        audience: resource,
        accessTokenFormat: "jwt",
        accessTokenTTL: 600,
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
});
provider.listen(Number(port), "127.0.0.1", () => console.log(issuer));
