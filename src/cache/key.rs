//! Makes the key that a result is kept under, of all that could make the answer another one.

use sha2::{Digest as _, Sha256};

use crate::{
    call::{Caller, Client, UpstreamName},
    mcp::{
        canonical::canonical,
        meta::{CLIENT_CAPABILITIES, CLIENT_INFO, LOG_LEVEL, PROGRESS_TOKEN, PROTOCOL_VERSION},
        method::Method,
        raw::Raw,
        splice,
        version::Version,
    },
};

/// A SHA-256: nobody finds another question with the same.
pub type CacheKey = [u8; 32];

/// Members of `_meta` that say nothing of what is asked. What a client can do counts apart, and
/// what the gate does not know may be a tenant's name.
const ASIDE: [&str; 7] = [
    PROGRESS_TOKEN,
    PROTOCOL_VERSION,
    CLIENT_INFO,
    CLIENT_CAPABILITIES,
    LOG_LEVEL,
    "traceparent",
    "tracestate",
];

/// Claims that are other ones in each token, and say nothing of who it is for (RFC 7519 §4.1).
const CLAIMS_ASIDE: [&str; 4] = ["exp", "iat", "nbf", "jti"];

/// A question, as it goes to an upstream.
#[derive(Debug, Clone, Copy)]
pub struct CacheQuery<'a> {
    pub method: Method,
    pub upstream: &'a UpstreamName,
    /// The upstream's own name for the tool, or the resource's URI.
    pub name: &'a str,
    /// Fingerprint of the tool as it is listed: another one is another tool.
    pub definition: u64,
    /// The tool says that it changes nothing.
    pub read_only: bool,
    pub params: &'a Raw,
    /// `Mcp-Param-*` headers.
    pub mirrored: &'a [(String, String)],
    pub caller: &'a Caller,
    pub client: &'a Client,
    /// A digest of what the upstream is shown beside the params: forwarded headers, and the token
    /// that is passed on or exchanged. None where that is nothing.
    pub vary: Option<[u8; 32]>,
}

/// The keys under which the answer to a question is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheKeys {
    /// Key of this caller alone.
    pub own: CacheKey,
    /// Key that all callers share.
    pub public: CacheKey,
}

/// The keys of a question: with the arguments in `only` alone where that is given, and with the
/// `generation` of the upstream. None for what must not be answered from memory: answers to
/// questions of the server, a wish for a task, members that the gate does not know, arguments that
/// servers may read differently, and params of more than `bytes_max` bytes.
pub fn keys(
    question: CacheQuery<'_>,
    only: Option<&[String]>,
    generation: u64,
    bytes_max: usize,
) -> Option<CacheKeys> {
    if bytes_max < question.params.bytes().len() {
        return None;
    }
    let named = if question.method == Method::ToolsCall { "name" } else { "uri" };
    let mut arguments = None;
    let mut meta = None;
    let mut names = 0;
    for (key, value) in splice::entries(question.params) {
        match key.as_str() {
            "arguments" if question.method == Method::ToolsCall && arguments.is_none() => {
                arguments = Some(value);
            }
            "_meta" if meta.is_none() => meta = Some(value),
            key if key == named => names += 1,
            _ => return None,
        }
    }
    (names == 1).then_some(())?;
    let arguments = arguments.unwrap_or_else(Raw::object);
    let mut parts = Parts(Sha256::new());
    parts.add(question.method.name());
    parts.add(question.upstream.as_str());
    parts.add(generation.to_be_bytes());
    parts.add(question.name);
    parts.add(question.definition.to_be_bytes());
    parts.list(only.unwrap_or_default());
    parts.add([u8::from(only.is_some())]);
    parts.add(canonical(arguments.bytes(), only)?);
    parts.add(of_meta(meta)?);
    // The headers mirror arguments; those that count are told.
    if only.is_none() {
        let headers = question.mirrored.iter();
        let mut headers: Vec<_> = headers.map(|(name, value)| format!("{name}:{value}")).collect();
        headers.sort_unstable();
        parts.list(&headers);
    }
    // A legacy server answers in the version of the client's own session.
    parts.add(question.client.version.min(Version::LEGACY_LATEST).as_str());
    parts.add(canonical(question.client.capabilities_for_modern().bytes(), None)?);
    // The headers count for what is public, too: it is so for callers, not for what the server was
    // shown of them.
    parts.list(question.vary);
    let mut own = Parts(parts.0.clone());
    own.caller(question.caller);
    parts.add("public");
    Some(CacheKeys { own: own.end(), public: parts.end() })
}

/// Takes the members of `_meta` that count, in canonical form.
fn of_meta(meta: Option<Raw>) -> Option<Vec<u8>> {
    let Some(meta) = meta else { return Some(b"{}".to_vec()) };
    if !meta.is_object() {
        return canonical(meta.bytes(), None);
    }
    canonical(splice::edit(&meta, &ASIDE.map(|key| (key, None))).bytes(), None)
}

/// A hash of parts, each with its length before it: no two rows of parts are alike.
struct Parts(Sha256);

impl Parts {
    fn add(&mut self, part: impl AsRef<[u8]>) {
        let part = part.as_ref();
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
    }

    fn list<T: AsRef<[u8]>>(&mut self, parts: impl IntoIterator<Item = T>) {
        let parts: Vec<_> = parts.into_iter().collect();
        self.add((parts.len() as u64).to_be_bytes());
        parts.into_iter().for_each(|part| self.add(part));
    }

    /// Everything that is known of a caller: with other groups, scopes or claims, policies and
    /// servers may say something else to the same person.
    fn caller(&mut self, caller: &Caller) {
        match caller {
            Caller::Address(address) => {
                self.add("address");
                self.add(address.to_string());
            }
            Caller::Parent => self.add("parent"),
            Caller::Known(known) => {
                self.add("known");
                self.add(&known.authority);
                self.add(&known.issuer);
                self.add(&known.subject);
                self.list(&known.groups);
                self.list(&known.scopes);
                let is_object = known.claims.is_object();
                let lasting = || splice::edit(&known.claims, &CLAIMS_ASIDE.map(|key| (key, None)));
                let claims = if is_object { lasting() } else { known.claims.clone() };
                let form = canonical(claims.bytes(), None);
                self.add(form.unwrap_or_else(|| claims.bytes().to_vec()));
            }
        }
    }

    fn end(self) -> CacheKey {
        self.0.finalize().into()
    }
}
