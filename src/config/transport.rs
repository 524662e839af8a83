//! How an upstream is reached: a process, a URL, or a server built in.

use std::{collections::BTreeMap, ops::Range, path::PathBuf};

use schemars::{Schema, SchemaGenerator, json_schema};
use toml::Spanned;

use super::{
    credential::Credential,
    secret::Secret,
    toml::{
        problem::Problem,
        reader::{Node, Reader},
        value::{FromToml, LocalPath, Table, is_url, word, words},
    },
};

/// The words that PEM has before each part.
const BEGIN: &str = "-----BEGIN ";

/// Headers that are the gate's own business with an upstream: who it is, what it speaks, how the
/// connection is kept (RFC 9110 §7.6.1), and what the gate itself says in them.
const NEVER: [&str; 22] = [
    "authorization",
    "proxy-authorization",
    "proxy-authenticate",
    "proxy-connection",
    "x-api-key",
    "cookie",
    "host",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "content-length",
    "content-type",
    "content-encoding",
    "accept",
    "accept-encoding",
    "last-event-id",
    "origin",
    "forwarded",
];

/// How an upstream is reached.
#[derive(Debug, Clone, PartialEq)]
pub enum Transport {
    Stdio {
        command: String,
        args: Vec<String>,
        env: BTreeMap<String, Secret>,
        cwd: Option<PathBuf>,
    },
    Http {
        url: String,
        headers: BTreeMap<String, Secret>,
        h2c: bool,
        http: HttpTransport,
        credential: Option<Credential>,
        /// Headers of a client's request that are sent on, in lower case.
        forward_headers: Vec<String>,
        /// The settings by which it is dialled otherwise than others.
        dial: Dial,
    },
    /// A server built into Tollgate, by its name; there is one, `gate`.
    Builtin { server: String },
}

impl Transport {
    /// Returns the transport to be spoken over HTTP; none where it is not over HTTP.
    pub fn over_http(&self) -> Option<HttpTransport> {
        match self {
            Self::Http { http, .. } => Some(*http),
            Self::Stdio { .. } | Self::Builtin { .. } => None,
        }
    }
}

words! {
    /// The transport over HTTP that an upstream speaks.
    #[derive(Default)]
    HttpTransport {
        /// Found out when it is opened.
        #[default]
        Auto = "auto",
        /// Streamable HTTP.
        Http = "http",
        /// HTTP+SSE of 2024-11-05.
        Sse = "sse",
    }
}

/// Settings of the connections with one upstream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dial {
    /// PEM of the certificates that it is held to, in place of the system's.
    pub ca: Option<String>,
    pub identity: Option<TlsIdentity>,
    /// The address of a proxy, which may hold a password, or `none`; without it the environment's.
    pub proxy: Option<Secret>,
}

/// The certificate that the gateway shows in TLS, and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsIdentity {
    /// PEM of the certificate, and those that lead to its root.
    pub certificate: String,
    /// PEM.
    pub key: Secret,
}

/// The name of a server built into Tollgate.
#[derive(Debug)]
pub struct Builtin;

impl FromToml for Builtin {
    type Value = String;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<String> {
        word(node, &[("gate", "gate")], reader).map(str::to_owned)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": ["gate"] })
    }
}

/// A program to start.
#[derive(Debug)]
pub struct ProgramName;

impl FromToml for ProgramName {
    type Value = String;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<String> {
        let command = String::read(node, reader)?;
        if command.is_empty() {
            let help = "name a program, such as \"npx\"";
            reader.problem(Problem::new(node.span(), "a command is empty", help));
        }
        Some(command)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        String::schema(generator)
    }
}

/// Environment variables of a process.
#[derive(Debug)]
pub struct EnvironmentTable;

impl FromToml for EnvironmentTable {
    type Value = BTreeMap<String, Secret>;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        let mut env = BTreeMap::new();
        for (name, value) in Table::<Secret>::read(node, reader)? {
            let at = name.span();
            let name = name.into_inner();
            if !is_env_name(&name) {
                let title = format!("no variable can be called `{}`", name.escape_debug());
                reader.problem(Problem::new(at, title, "remove `=` and control characters"));
            }
            env.insert(name, value);
        }
        Some(env)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        Table::<Secret>::schema(generator)
    }
}

/// Whether a process can be given a variable of this name.
pub fn is_env_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c == '=' || c.is_control())
}

/// Headers that are sent with each request, by their names in lower case.
#[derive(Debug)]
pub struct Headers;

impl FromToml for Headers {
    type Value = BTreeMap<String, Secret>;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        let mut headers = BTreeMap::new();
        for (name, value) in Table::<Spanned<Secret>>::read(node, reader)? {
            let at = name.span();
            let Ok(header) = http::HeaderName::try_from(name.get_ref()) else {
                let title = format!("`{}` is not a header's name", name.get_ref().escape_debug());
                let help = "use letters, digits and `-`";
                reader.problem(Problem::new(at, title, help));
                continue;
            };
            // A value may come from a variable or a file, so it is a matter of this upstream only.
            if http::HeaderValue::try_from(value.get_ref().expose()).is_err() {
                let title =
                    format!("the value of header {header} has characters that HTTP forbids");
                let help = "look for newlines in it";
                reader.unavailable(Problem::new(value.span(), title, help));
            }
            if headers.insert(header.as_str().to_owned(), value.into_inner()).is_some() {
                let title = format!("header {header} is given twice");
                let help = "remove one: capitals make no difference";
                reader.problem(Problem::new(at, title, help));
            }
        }
        Some(headers)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        Table::<Secret>::schema(generator)
    }
}

/// Names of headers that are sent on, in lower case. `own` are those that the upstream is sent
/// anyway.
pub fn forwarded(
    list: Vec<Spanned<String>>,
    own: &BTreeMap<String, Secret>,
    reader: &mut Reader<'_>,
) -> Vec<String> {
    let mut names = Vec::new();
    for name in list {
        let at = name.span();
        let text = name.into_inner().to_ascii_lowercase();
        let fault = if http::HeaderName::try_from(&text).is_err() {
            Some((
                format!("`{}` is not a header's name", text.escape_debug()),
                "use letters, digits and `-`",
            ))
        } else if NEVER.contains(&text.as_str()) || text.starts_with("mcp-") {
            let help = "remove it; a token is passed on by credential = { kind = \"pass\" }";
            Some((format!("the header `{text}` is never sent on"), help))
        } else if own.contains_key(&text) {
            Some((format!("the header `{text}` is in `headers`, too"), "keep it in one of them"))
        } else {
            None
        };
        match fault {
            Some((title, help)) => reader.problem(Problem::new(at, title, help)),
            None => names.push(text),
        }
    }
    names
}

/// The content of a PEM file that has certificates.
#[derive(Debug)]
pub struct Certificates;

/// The content of a PEM file that has a private key.
#[derive(Debug)]
pub struct PrivateKey;

impl FromToml for Certificates {
    type Value = String;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<String> {
        pem(node, "CERTIFICATE-----", reader)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        LocalPath::schema(generator)
    }
}

impl FromToml for PrivateKey {
    type Value = Secret;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Secret> {
        pem(node, "PRIVATE KEY-----", reader).map(Secret::new)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        LocalPath::schema(generator)
    }
}

/// The content of a file that must hold such a part. Another program writes it, so what is wrong
/// with it is a matter of this upstream only.
fn pem(node: &Node<'_>, part: &str, reader: &mut Reader<'_>) -> Option<String> {
    let (span, path): (Range<usize>, _) = (node.span(), PathBuf::read(node, reader)?);
    let text = reader.content(&path, &span)?;
    let holds = text.lines().any(|line| line.starts_with(BEGIN) && line.trim_end().ends_with(part));
    if !holds {
        let title = format!("{} holds no {}", path.display(), part.trim_end_matches('-'));
        reader.unavailable(Problem::new(span, title, "write it in PEM, as text"));
    }
    holds.then_some(text)
}

/// The address of a proxy, or `none`.
#[derive(Debug)]
pub struct Proxy;

impl FromToml for Proxy {
    type Value = Secret;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Secret> {
        let proxy = reader.secret(node)?;
        let fits = proxy.expose() == "none" || is_url(proxy.expose());
        if !fits {
            // The value is not shown: it may hold a password, and come from elsewhere.
            let title = "`proxy` is neither an http or https URL nor \"none\"";
            let help = "write it as \"http://proxy.example.com:3128\"";
            reader.unavailable(Problem::new(node.span(), title, help));
        }
        fits.then_some(proxy)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        Secret::schema(generator)
    }
}
