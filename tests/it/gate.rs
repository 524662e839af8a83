//! Tollgate itself, in process, between fakes and clients; configured by sentences that become a
//! `routes.toml`.

use std::{fmt::Write, fs, ops::Deref};

use tempfile::TempDir;
use tollgate::app;

use crate::{
    client::{Endpoint, endpoint},
    fake::Fake,
    soon,
};

const POLICY: &str = "policies/base.cedar";

/// A gate to be started.
pub struct Plan {
    server: String,
    upstreams: String,
    names: Vec<String>,
    routes: String,
    policy: String,
    extra: String,
    vault: Option<Box<app::VaultAccess>>,
}

/// A gate that serves; it derefs to its endpoint `/mcp`.
pub struct Gate {
    running: Option<app::RunningGate>,
    endpoint: Endpoint,
    pub folder: TempDir,
    vault: Option<Box<app::VaultAccess>>,
}

pub fn gateway() -> Plan {
    let [server, upstreams, routes, policy, extra] = std::array::from_fn(|_| String::new());
    Plan { server, upstreams, names: Vec::new(), routes, policy, extra, vault: None }
}

impl Plan {
    /// An upstream of this name, listed on `/mcp` unless routes are given.
    pub fn upstream(self, name: &str, fake: &Fake) -> Self {
        self.section(name, &fake.section())
    }

    /// An upstream with more keys.
    pub fn upstream_with(self, name: &str, fake: &Fake, keys: &str) -> Self {
        self.section(name, &format!("{}{keys}\n", fake.section()))
    }

    /// An upstream that nothing listens for.
    pub fn unreachable(self, name: &str) -> Self {
        self.section(name, "url = \"http://127.0.0.1:9/mcp\"\n")
    }

    pub fn section(mut self, name: &str, keys: &str) -> Self {
        self.names.push(name.to_owned());
        self.upstreams.push_str(&section(name, keys));
        self
    }

    /// A route of this path with these keys.
    pub fn route(mut self, path: &str, keys: &str) -> Self {
        write!(self.routes, "[routes.\"{path}\"]\n{keys}\n").unwrap();
        self
    }

    /// Sections of any other kind, as they are.
    pub fn extra(mut self, sections: &str) -> Self {
        self.extra.push_str(sections);
        self
    }

    /// Keys of `[server]`, `limits.body_bytes_max = 100` for example.
    pub fn server(mut self, keys: &str) -> Self {
        self.server.push_str(keys);
        self.server.push('\n');
        self
    }

    /// Policies for `/mcp`, unless routes are given: these name `policies/base.cedar` themselves.
    pub fn policy(mut self, text: &str) -> Self {
        text.clone_into(&mut self.policy);
        self
    }

    /// Its secrets are in this Vault, by this token.
    pub fn vault(mut self, address: &str, token: &str) -> Self {
        let (address, token) = (address.to_owned(), token.to_owned());
        self.vault = Some(Box::new(app::VaultAccess { address, token, namespace: None }));
        self
    }

    /// Starts it, and waits until every upstream was opened or failed once.
    pub async fn start(self) -> Gate {
        let gate = self.open().await;
        gate.settled().await;
        gate
    }

    /// Starts it without waiting for upstreams.
    pub async fn open(self) -> Gate {
        let folder = tempfile::tempdir().unwrap();
        let mut routes = match self.routes.is_empty() {
            true => format!("[routes.\"/mcp\"]\nupstreams = {:?}\n", self.names),
            false => self.routes.clone(),
        };
        if !self.policy.is_empty() {
            fs::create_dir(folder.path().join("policies")).unwrap();
            fs::write(folder.path().join(POLICY), &self.policy).unwrap();
            if self.routes.is_empty() {
                writeln!(routes, "policy = [{POLICY:?}]").unwrap();
            }
        }
        let server = format!("[server]\nlimits.drain = \"2s\"\n{}", self.server);
        let toml = format!("{server}\n{routes}\n{}{}", self.upstreams, self.extra);
        fs::write(folder.path().join("routes.toml"), toml).unwrap();
        let (running, endpoint) = run(&folder, self.vault.clone()).await;
        Gate { running: Some(running), endpoint, folder, vault: self.vault }
    }
}

/// An upstream's section; restarts are quick, since tests wait for them.
pub fn section(name: &str, keys: &str) -> String {
    let restart = match keys.contains("restart") {
        true => "",
        false => "restart = { delay = \"50ms\", delay_max = \"200ms\" }\n",
    };
    format!("[upstreams.{name}]\n{keys}{restart}\n")
}

/// A gate with this very file.
pub async fn of(text: &str) -> Gate {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("routes.toml"), text).unwrap();
    let (running, endpoint) = run(&folder, None).await;
    Gate { running: Some(running), endpoint, folder, vault: None }
}

async fn run(
    folder: &TempDir,
    vault: Option<Box<app::VaultAccess>>,
) -> (app::RunningGate, Endpoint) {
    let options = app::Options {
        config: folder.path().join("routes.toml"),
        listen: Some("127.0.0.1:0".parse().unwrap()),
        watch: true,
        vault: vault.map(|vault| *vault),
        ..app::Options::default()
    };
    let running = match app::start(options).await {
        Ok(running) => running,
        Err(error) => panic!("{error}"),
    };
    let endpoint = endpoint(running.address(), "/mcp");
    (running, endpoint)
}

impl Gate {
    pub async fn settled(&self) {
        soon("the upstreams", self.running.as_ref().unwrap().settled()).await;
    }

    /// The gate itself.
    pub fn app(&self) -> &app::RunningGate {
        self.running.as_ref().unwrap()
    }

    /// The endpoint of another route.
    pub fn at(&self, path: &str) -> Endpoint {
        endpoint(self.endpoint.address, path)
    }

    /// Writes the file anew.
    pub fn edit(&self, change: impl FnOnce(String) -> String) {
        let path = self.folder.path().join("routes.toml");
        let toml = fs::read_to_string(&path).unwrap();
        fs::write(path, change(toml)).unwrap();
    }

    /// Writes the policies anew.
    pub fn edit_policy(&self, text: &str) {
        fs::write(self.folder.path().join(POLICY), text).unwrap();
    }

    /// Stops, and starts again on the same folder and another port.
    pub async fn restarts(&mut self) {
        self.stops().await;
        let (running, endpoint) = run(&self.folder, self.vault.clone()).await;
        self.running = Some(running);
        self.endpoint = endpoint;
    }

    pub async fn stops(&mut self) {
        if let Some(running) = self.running.take() {
            soon("the gate to stop", running.stop()).await;
        }
    }
}

impl Deref for Gate {
    type Target = Endpoint;

    fn deref(&self) -> &Endpoint {
        &self.endpoint
    }
}
