//! Tollgate: the gate in front of every MCP server.
