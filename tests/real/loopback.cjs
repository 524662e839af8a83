// Preloaded into reference servers (node --require), which would listen on all interfaces: they are reached here only.
const { Server } = require("node:net");
const listen = Server.prototype.listen;
Server.prototype.listen = function (port, ...rest) {
  const host = typeof rest[0] === "string" ? [] : ["127.0.0.1"];
  return listen.call(this, port, ...host, ...rest);
};
