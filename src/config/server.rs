//! `[server]`: the gateway itself.

use std::{net::SocketAddr, path::PathBuf};

use schemars::{Schema, SchemaGenerator};

use super::{
    bounds::Limits,
    network::Network,
    secret::Secret,
    toml::{
        problem::Problem,
        reader::{Node, Reader},
        section::Fields,
        table::section,
        value::{FromToml, LocalPath, Reference, Url},
    },
};

/// Bytes that a session key has at least: those of the cipher's own key.
const SESSION_KEY_BYTES_MIN: usize = 32;

/// Help where a certificate or its key is missing.
const TLS: &str = "TLS needs both: tls = { certificate = \"cert.pem\", key = \"key.pem\" }";

section! {
    /// The gateway itself.
    #[derive(Debug, Clone, PartialEq)]
    Server checked by check_server {
        /// Address and port to listen on.
        listen: SocketAddr = "127.0.0.1:8080",
        /// Address and port that operators are served on: /livez, /readyz with what is troubled,
        /// /metrics for Prometheus, and /report; POST /cache/purge forgets results that are kept.
        /// Programs on this machine alone read more under /api/v1/.
        /// Whoever reaches it may use them, so it belongs on loopback or a network of operators.
        /// Without it only the first two words are served.
        admin: Option<SocketAddr>,
        /// Says on purpose that `admin` is not on loopback: whoever reaches it may use it.
        admin_open: bool = false,
        /// The address clients know the gate by; without it that of `listen`. With a route's path
        /// behind it, it is the audience of tokens.
        public_url: Option<Url>,
        /// Certificate and key; with them the gate speaks HTTPS. The files are read again when they
        /// change.
        tls: Option<Tls>,
        /// Values of the header `Host` taken besides the loopback names, `listen` and `public_url`;
        /// "*" is any.
        hosts: Vec<String>,
        /// Origins of pages in browsers that may use the gate besides its own, such as
        /// `http://localhost:6274` of the MCP Inspector; they are answered with CORS. "*" is any.
        origins: Vec<String>,
        /// Addresses or networks (CIDR) of proxies before the gate, such as "10.0.0.0/8". What they
        /// say in `Forwarded` or `X-Forwarded-For` is believed: the last address there that is no
        /// such proxy's is the client's.
        trusted_proxies: Vec<Network>,
        /// Folder for the key and the last good catalogs; a relative path begins beside the file.
        state: PathBuf = "state",
        /// `env:NAME`, `file:PATH` or `vault:PATH#FIELD` of the key that session ids are sealed
        /// with, at least 32 bytes. Without it one is made and kept in `state`.
        session_key: Option<SessionKeyReference>,
        /// Every bound of the gateway itself.
        limits: Limits,
    }
}

section! {
    /// PEM files.
    #[derive(Debug, Clone, PartialEq)]
    Tls {
        /// The certificate, and those that lead to its root.
        certificate: LocalPath = required TLS,
        /// Its private key.
        key: LocalPath = required TLS,
        /// Certificates whose holders may show theirs: those of `kind = "certificate"`.
        client_ca: Option<LocalPath>,
    }
}

impl Server {
    /// Whether all but the bounds is the same.
    pub fn is_same_but_limits(&self, other: &Self) -> bool {
        *self == Self { limits: self.limits.clone(), ..other.clone() }
    }

    /// Returns the address that clients know the gate by, without a slash at its end.
    pub fn base_url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let own = || format!("{scheme}://{}", self.listen);
        self.public_url.clone().unwrap_or_else(own).trim_end_matches('/').to_owned()
    }
}

fn check_server(keys: &mut Fields<Server>, reader: &mut Reader<'_>) {
    let public = keys.public_url.value.as_ref().and_then(|url| url.parse::<http::Uri>().ok());
    keys.hosts.value.extend(public.and_then(|url| url.host().map(str::to_owned)));
    // The operators' pages name upstreams and their problems, which are no stranger's business.
    let open = keys.admin_open.value;
    let strange = keys.admin.value.filter(|admin| !admin.ip().is_loopback() && !open);
    if let (Some(admin), Some(at)) = (strange, &keys.admin.span) {
        let title = format!("whoever reaches {admin} may read all that operators see");
        let help = "listen on 127.0.0.1, or say that it is meant so: admin_open = true";
        reader.problem(Problem::new(at.clone(), title, help));
    }
}

/// A reference to the key of sessions.
#[derive(Debug)]
pub struct SessionKeyReference;

impl FromToml for SessionKeyReference {
    type Value = Secret;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Secret> {
        let key = Reference::read(node, reader)?;
        if key.expose().len() < SESSION_KEY_BYTES_MIN {
            let title = format!("the session key has {} bytes", key.expose().len());
            let help = format!("give it {SESSION_KEY_BYTES_MIN} or more, of random");
            reader.problem(Problem::new(node.span(), title, help));
        }
        Some(key)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        Reference::schema(generator)
    }
}
