# docker build -t tollgate .                     the gate alone, for upstreams by URL
# docker build -t tollgate:node --target node .  the gate with Node, for upstreams by npx
# docker run -p 127.0.0.1:8080:8080 -v ./routes.toml:/etc/tollgate/routes.toml:ro -v state:/etc/tollgate/state tollgate

FROM rust:1.95-bookworm AS build
# pingora's zlib-ng is built by cmake.
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
# benches/pgo.sh builds with what the calls of the bench taught the compiler.
RUN rustup component add llvm-tools
# What `tollgate --version` says: docker build --build-arg COMMIT=$(git rev-parse --short=12 HEAD)
ARG COMMIT
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/build/target \
    TOLLGATE_COMMIT=$COMMIT bash benches/pgo.sh --features pingora && cp target/pgo/tollgate /usr/local/bin/
# What both images hold in /etc/tollgate; the folders are the only places that are written to.
# Whoever runs an image publishes its port: that the route is open is said on purpose.
RUN mkdir -p /etc/tollgate/state && cp -r routes.toml files /etc/tollgate/ \
    && sed -i '/^\[routes\."\/mcp"\]$/a auth = "none"' /etc/tollgate/routes.toml \
    && tollgate check --config /etc/tollgate/routes.toml

FROM node:22-bookworm-slim AS node
COPY --from=build /usr/local/bin/tollgate /usr/local/bin/
COPY --from=build --chown=node:node /etc/tollgate /etc/tollgate
USER node
EXPOSE 8080
ENTRYPOINT ["tollgate"]
# A container's own loopback is out of reach, whatever the file says.
CMD ["run", "--config", "/etc/tollgate/routes.toml", "--listen", "0.0.0.0:8080"]

# The last stage is what a build without --target makes.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /usr/local/bin/tollgate /usr/local/bin/
COPY --from=build --chown=nonroot:nonroot /etc/tollgate /etc/tollgate
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/tollgate"]
CMD ["run", "--config", "/etc/tollgate/routes.toml", "--listen", "0.0.0.0:8080"]
