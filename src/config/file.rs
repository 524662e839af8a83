//! The whole of `routes.toml`, and what only several sections together tell.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use schemars::generate::SchemaSettings;
use toml::Spanned;

use crate::call::RoutePath;

use super::{
    audit::Audit,
    auth::{Auth, Authorities, check_audience, check_client_ca},
    cache::Cache,
    guard::{Detector, DetectorFields, detectors},
    log::Log,
    route::{Route, Surroundings, route},
    server::Server,
    store::{LimitStore, LimitStoreOrNone},
    telemetry::Telemetry,
    toml::{problem::Problem, reader::Reader, section::Fields, table::section, value::Table},
    upstream::{Upstream, Upstreams},
};

const NO_ROUTE: &str = "say what clients see, for example:

[routes.\"/mcp\"]
upstreams = [\"*\"]";

/// A whole, valid configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub server: Server,
    /// The routes in the order of the file.
    pub routes: Vec<Route>,
    /// The authorities in the order of the file; `routes` refer to them by name.
    pub auth: Vec<Auth>,
    /// The file's own detectors.
    pub detectors: Vec<Detector>,
    pub cache: Cache,
    /// The store in which gates count together; none: each counts by itself.
    pub limit_store: Option<LimitStore>,
    /// What the log has of calls.
    pub log: Log,
    /// The traces of calls.
    pub telemetry: Telemetry,
    /// The audit log of calls; none: nothing is recorded.
    pub audit: Option<Audit>,
    /// The upstreams in the order of the file; `routes` refer to them by name.
    pub upstreams: Vec<Upstream>,
    /// The folders that secret files stand in.
    pub secret_folders: BTreeSet<PathBuf>,
    /// The files that this one names and that were read with it, and the folders that were listed.
    pub files: BTreeSet<PathBuf>,
}

section! {
    /// Tollgate's configuration: what clients see under `routes`, and the servers behind it under
    /// `upstreams`. `${NAME}` in any text stands for an environment variable, `${NAME:-DEFAULT}`
    /// for that or the default where it is not set or empty, `${TOLLGATE_FOLDER}` for the folder of
    /// this file, and `$${` for `${`.
    keys File {
        /// The gateway itself.
        server: Server,
        /// The endpoints clients use, by their paths, such as "/mcp".
        routes: Table<Fields<Route>>,
        /// The authorities that say who a caller is, by names of a-z, 0-9, `_` and `-`; routes name
        /// them.
        auth: Authorities,
        /// Detectors of your own, by names of a-z, 0-9, `_` and `-`; `detect` has them as
        /// "custom:NAME".
        detectors: Table<DetectorFields>,
        /// Results that are kept and served again.
        cache: Cache,
        /// The store in which limits are counted.
        limit: LimitStoreOrNone,
        /// The access log of calls.
        log: Log,
        /// The traces of calls, which are exported by OTLP.
        telemetry: Telemetry,
        /// The audit log of calls; without this section nothing is.
        audit: Option<Audit>,
        /// The MCP servers behind the gate, by names of a-z, 0-9, `_` and `-`.
        upstreams: Upstreams,
    }
}

impl File {
    /// The configuration, right if the reader has no problem.
    pub fn finish(self, reader: &mut Reader<'_>) -> Config {
        let mut server = self.server.value;
        server.state = reader.folder().join(&server.state);
        let wrong = self.routes.span.as_ref().is_some_and(|span| reader.has_problem(span));
        if self.routes.value.is_empty() && !wrong {
            reader.problem(Problem::of_file("there is no route", NO_ROUTE));
        }
        let auth = self.auth.value;
        check_audience(&auth, server.listen, server.public_url.as_deref(), reader);
        let client_ca = server.tls.as_ref().and_then(|tls| tls.client_ca.as_ref());
        check_client_ca(&auth, client_ca.is_some(), reader);
        let auth: Vec<_> = auth.into_iter().map(Spanned::into_inner).collect();
        let upstreams = self.upstreams.value;
        let surroundings = Surroundings {
            upstreams: &upstreams,
            auth: &auth,
            base_url: server.base_url(),
            listen: server.listen,
        };
        let routes = self.routes.value.into_iter();
        let routes = routes.map(|(path, keys)| route(path, keys, &surroundings, reader)).collect();
        let audit =
            self.audit.value.map(|audit| Audit { path: server.state.join(&audit.path), ..audit });
        Config {
            server,
            routes,
            auth,
            detectors: detectors(self.detectors.value, reader),
            cache: self.cache.value,
            limit_store: self.limit.value,
            log: self.log.value,
            telemetry: self.telemetry.value,
            audit,
            upstreams,
            secret_folders: reader.take_secret_folders(),
            files: reader.take_files(),
        }
    }
}

/// JSON Schema (2020-12) of `routes.toml`.
pub fn schema() -> serde_json::Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.root_schema_for::<File>();
    schema.insert("title".to_owned(), "routes.toml of Tollgate".into());
    schema.to_value()
}

impl Config {
    /// Listens elsewhere than the file says.
    ///
    /// # Errors
    /// The path of a route that is open to everybody, and does not say that it is meant so, where
    /// others than this machine's programs could reach it.
    pub fn listen_on(&mut self, address: SocketAddr) -> Result<(), RoutePath> {
        self.server.listen = address;
        let open = |route: &&Route| route.auth.is_empty() && !route.everybody;
        let open = self.routes.iter().find(open).filter(|_| !address.ip().is_loopback());
        open.map_or(Ok(()), |route| Err(route.path.clone()))
    }

    /// The folders that policies and their cases stand in.
    pub fn rule_folders(&self) -> BTreeSet<PathBuf> {
        let rules = self.routes.iter().filter_map(|route| route.rules.as_ref());
        let files = rules.flat_map(|rules| {
            rules.policies.iter().chain(rules.cases.iter().map(|cases| &cases.file))
        });
        let folders = files.filter_map(|file| Path::new(&file.name).parent());
        folders.map(|folder| Path::new(".").join(folder)).collect()
    }
}
