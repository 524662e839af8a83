//! The endpoint of an HTTP upstream: where it is, and how one request gets there: its credential,
//! the cookies of its session, redirects that are followed, and connections that broke before the
//! answer.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method as Verb, Uri, header};
use hyper::{Request, Response};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    call::{Token, spans::CallSpans},
    config::Transport,
    credential::Credential,
    net::{
        Answer, Content, HeadTemplate, Net, NetError, Pool, RequestText, RequestWriter, SendOptions,
    },
    upstream::exchange::{
        error::SendError,
        server_reason::{Refusal, ServerReason, in_place_of_message},
    },
};

use super::{
    BOTH_TYPES, JSON, TRACE_HEADERS,
    address::{is_redirect, masked, redirected},
    cookies::Jar,
};

/// Redirects that are followed for one request.
const HOPS_MAX: usize = 5;
/// Headers of one call beside those of all: its version, session or method and name.
const HEADERS_ROOM: usize = 4;
/// A map of headers that is copied for each request has room for what each adds: to grow one costs
/// more than to fill it.
const MAP_ROOM: usize = 16;

/// The endpoint of an HTTP upstream, and how it is spoken to; of one conversation.
#[derive(Debug)]
pub struct Endpoint {
    net: Net,
    pub uri: Uri,
    /// The connections to its own address, where that is plain HTTP.
    pool: Option<Arc<Pool>>,
    /// What a POST begins with there; none where it may have more than one field of a name.
    post: Option<HeadTemplate>,
    /// The headers of every request.
    headers: HeaderMap,
    /// The headers of every POST whose answer may be JSON or a stream: ready, since most calls are.
    post_headers: HeaderMap,
    h2c: bool,
    /// Headers of clients that are sent on.
    forwards: Vec<HeaderName>,
    credential: Option<Credential>,
    /// The caller whose connection it is, with the token that they came with last; none where it is
    /// not one caller's.
    whose: Mutex<Option<Token>>,
    ids: AtomicU64,
    cookies: Jar,
}

/// A request from which the one that is sent is made, and made again where it is redirected or its
/// connection broke: copying a whole [`HeaderMap`] ahead of every call for that costs more.
#[derive(Debug)]
pub(super) struct RequestTemplate {
    pub verb: Verb,
    /// Where it goes, unless to the endpoint's own address.
    elsewhere: Option<Uri>,
    body: Bytes,
    kind: HeaderKind,
    /// Headers that replace others of their name.
    set: Vec<(HeaderName, HeaderValue)>,
    /// Headers of the client, beside others of their name.
    forwarded: Vec<(HeaderName, HeaderValue)>,
}

/// The headers that a request begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderKind {
    /// The headers that the configuration sets for all.
    Bare,
    /// A message in JSON as well, whose answer is JSON or a stream of events.
    Message,
}

impl RequestTemplate {
    pub fn new(verb: Verb, body: Bytes, kind: HeaderKind) -> Self {
        let set = Vec::with_capacity(HEADERS_ROOM);
        Self { verb, elsewhere: None, body, kind, set, forwarded: Vec::new() }
    }

    /// The same request to another address of the server.
    pub fn to(self, uri: Uri) -> Self {
        Self { elsewhere: Some(uri), ..self }
    }

    pub fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.set.push((name, value));
    }

    /// Takes out headers of the client with these names.
    pub fn forward_nothing_of(&mut self, names: &[HeaderName]) {
        self.forwarded.retain(|(name, _)| !names.contains(name));
    }

    /// The headers that are set, each with the value that it was given last.
    fn set_headers(&self) -> impl Iterator<Item = &(HeaderName, HeaderValue)> {
        let later = |at: usize| self.set.iter().skip(at + 1);
        let is_last = move |at, name| later(at).all(|(other, _)| other != name);
        self.set.iter().enumerate().filter(move |(at, (name, _))| is_last(*at, name)).map(|it| it.1)
    }
}

/// How one request is sent.
#[derive(Debug)]
pub(super) struct How {
    /// The caller in whose name it is sent, where it is not the conversation's.
    pub whose: Option<Token>,
    /// Whether it may reach the server twice.
    pub repeatable: bool,
    /// Whether it is part of a session, which has cookies.
    pub in_session: bool,
    /// The spans of the call that it is sent for, where that is traced.
    pub spans: Option<Arc<CallSpans>>,
}

impl Endpoint {
    /// # Errors
    /// What is wrong with the address or a header; the value of a header is not repeated.
    pub fn new(
        net: Net,
        transport: &Transport,
        credential: Option<Credential>,
        whose: Option<Token>,
    ) -> Result<Self, String> {
        let Transport::Http { url, headers, h2c, forward_headers, .. } = transport else {
            return Err("it is not over HTTP".to_owned());
        };
        let uri = url.parse().map_err(|error| format!("`{url}` is no address: {error}"))?;
        let mut map = HeaderMap::with_capacity(headers.len() + MAP_ROOM);
        // The header is set since without it any coding were acceptable (RFC 9110 §12.5.3).
        map.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        for (name, secret) in headers {
            let parsed =
                HeaderName::try_from(name).ok().zip(HeaderValue::from_str(secret.expose()).ok());
            let (key, mut text) =
                parsed.ok_or_else(|| format!("header `{name}` is no valid header"))?;
            text.set_sensitive(true);
            map.insert(key, text);
        }
        let forwards = forward_headers.iter().filter_map(|name| name.parse().ok()).collect();
        let mut post_headers = map.clone();
        post_headers.insert(header::CONTENT_TYPE, JSON);
        post_headers.insert(header::ACCEPT, BOTH_TYPES);
        let pool = if *h2c { None } else { net.pool_of(&uri) };
        let post = pool.as_ref().filter(|_| !map.keys().any(is_set_by_calls)).map(|pool| {
            let mut request = Request::new(());
            *request.method_mut() = Verb::POST;
            request.uri_mut().clone_from(&uri);
            request.headers_mut().clone_from(&post_headers);
            pool.template(request)
        });
        Ok(Self {
            net,
            uri,
            pool,
            post,
            headers: map,
            post_headers,
            h2c: *h2c,
            forwards,
            credential,
            whose: Mutex::new(whose),
            ids: AtomicU64::new(1),
            cookies: Jar::default(),
        })
    }

    /// Sets the token that its caller came with last.
    pub fn set_token(&self, token: &Token) {
        *self.whose.lock() = Some(token.clone());
    }

    /// Whether the server has set a cookie.
    pub(super) fn has_cookies(&self) -> bool {
        self.cookies.is_used()
    }

    pub(super) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn forward(&self, from: &HeaderMap, to: &mut RequestTemplate) {
        for name in &self.forwards {
            let values = from.get_all(name).iter();
            to.forwarded.extend(values.map(|value| (name.clone(), value.clone())));
        }
    }

    fn uri_of<'a>(&'a self, template: &'a RequestTemplate) -> &'a Uri {
        template.elsewhere.as_ref().unwrap_or(&self.uri)
    }

    /// Writes a request from what is ready; none where it is none of those that most are.
    fn written(&self, template: &RequestTemplate, how: &How) -> Option<RequestText> {
        let is_usual = template.kind == HeaderKind::Message
            && template.verb == Verb::POST
            && template.elsewhere.is_none()
            && self.credential.is_none()
            && !(how.in_session && self.cookies.is_used());
        let body = &template.body;
        let is_taken = self.pool.as_ref().is_some_and(|pool| pool.takes(body));
        let post = self.post.as_ref().filter(|_| is_usual && is_taken)?;
        if !template.set.iter().all(|(name, _)| is_set_by_calls(name)) {
            return None;
        }
        let mut writer = RequestWriter::of_template(post, body.len());
        for (name, value) in template.set_headers().chain(&template.forwarded) {
            writer.field(name, value);
        }
        Some(writer.end(&template.verb, body))
    }

    fn request(&self, template: &RequestTemplate) -> Request<Bytes> {
        let mut request = Request::new(template.body.clone());
        *request.method_mut() = template.verb.clone();
        *request.uri_mut() = self.uri_of(template).clone();
        let headers = request.headers_mut();
        *headers = match template.kind {
            HeaderKind::Bare => self.headers.clone(),
            HeaderKind::Message => self.post_headers.clone(),
        };
        for (name, value) in &template.set {
            headers.insert(name.clone(), value.clone());
        }
        for (name, value) in &template.forwarded {
            headers.append(name.clone(), value.clone());
        }
        request
    }

    /// Sends a request, and once more on another connection where the server had closed the one
    /// that it took before, or where that broke before the answer and it may be sent twice.
    /// Redirects to the same host are followed.
    pub(super) async fn send(
        &self,
        mut template: RequestTemplate,
        how: How,
    ) -> Result<Response<Content>, NetError> {
        let mut status = 0;
        for _ in 0..=HOPS_MAX {
            let response = match self.dispatch(&template, &how, self.net.wants_fresh()).await {
                // Nothing was sent, whatever the request does there.
                Err(NetError::Closed(_)) => {
                    // Boxed, as the next one: rare, and as large as the first one.
                    Box::pin(self.dispatch(&template, &how, true)).await?
                }
                Err(NetError::Broken(_)) if how.repeatable => {
                    self.net.distrust_pool();
                    Box::pin(self.dispatch(&template, &how, true)).await?
                }
                sent => sent.inspect_err(|_| self.net.distrust_pool())?,
            };
            if how.in_session {
                let uri = self.uri_of(&template);
                self.cookies.keep(uri, response.headers(), Instant::now());
            }
            let Some(location) = location_of(&response) else { return Content::of(response) };
            status = response.status().as_u16();
            let uri = self.redirect(&template, status, &location)?;
            template = template.to(uri);
        }
        let last = self.uri_of(&template).to_string();
        Err(unfollowed(status, &last, "there are more than 5 of them"))
    }

    /// Returns where a redirected request goes next, and as what.
    ///
    /// # Errors
    /// Where another request would have to be made of it, or what it says is for no other server.
    fn redirect(
        &self,
        template: &RequestTemplate,
        status: u16,
        location: &str,
    ) -> Result<Uri, NetError> {
        let keeps = [307, 308].contains(&status) || template.verb == Verb::GET;
        match redirected(self.uri_of(template), location) {
            Ok(target) if keeps => Ok(target),
            Ok(_) => {
                Err(unfollowed(status, location, "only 307 and 308 leave a request what it is"))
            }
            Err(why) => Err(unfollowed(status, location, why)),
        }
    }

    async fn dispatch(
        &self,
        template: &RequestTemplate,
        how: &How,
        fresh: bool,
    ) -> Result<Answer, NetError> {
        if let (Some(pool), Some(text)) = (&self.pool, self.written(template, how)) {
            return self.net.send_text(pool, &text, fresh).await;
        }
        // Boxed: it is the larger way, and not the usual one.
        Box::pin(self.dispatch_any(template, how, fresh)).await
    }

    async fn dispatch_any(
        &self,
        template: &RequestTemplate,
        how: &How,
        fresh: bool,
    ) -> Result<Answer, NetError> {
        let uri = self.uri_of(template);
        let mut request = self.request(template);
        if how.in_session && self.cookies.is_used() {
            let own = self.headers.get(header::COOKIE);
            self.cookies.put(uri, own, request.headers_mut(), Instant::now());
        }
        let h2c = self.h2c && request.uri().scheme_str() == Some("http");
        let pool = self.pool.as_ref().filter(|pool| pool.is_of(uri));
        let way = SendOptions { h2c, pool, fresh };
        match &self.credential {
            None => self.net.send(request, way).await,
            Some(credential) => {
                let whose = how.whose.clone().or_else(|| self.whose.lock().clone());
                // Boxed: a token may have to be fetched.
                let spans = how.spans.as_ref();
                let sending = credential.send(&self.net, request, way, whose.as_ref(), spans);
                Box::pin(sending).await
            }
        }
    }

    /// Why a server refuses a request, in its own words as far as it has any.
    pub(super) fn refusal(&self, status: u16, challenge: &str, body: &[u8]) -> SendError {
        SendError::Status(status, self.reason(status, challenge, body))
    }

    /// The server's own reason to refuse a request, as far as it gave one.
    pub(super) fn reason(&self, status: u16, challenge: &str, body: &[u8]) -> ServerReason {
        self.told(body, |refusal| ServerReason::of(Refusal { status, challenge, ..refusal }))
    }

    /// Makes an error of what a server sent in place of a message, after the `error` that was found
    /// in it.
    pub(super) fn garbage(&self, body: &[u8], error: &str) -> SendError {
        self.told(body, |refusal| SendError::Garbage(in_place_of_message(body, error, refusal)))
    }

    /// Hands out what is needed to show a server's words without what it was sent.
    fn told<T>(&self, body: &[u8], tell: impl FnOnce(Refusal<'_>) -> T) -> T {
        let whose = self.whose.lock().clone();
        let values = self.headers.values().filter_map(|value| value.to_str().ok());
        // `Bearer`, `Basic` and the like are no secret.
        let words = values.filter_map(|value| value.split_whitespace().next_back());
        let secrets: Vec<_> = words.chain(whose.as_ref().map(Token::expose)).collect();
        let url = masked(&self.uri.to_string());
        tell(Refusal { body, url: &url, secrets: &secrets, ..Refusal::default() })
    }
}

/// Returns where an answer redirects to; none where it is another answer.
fn location_of(response: &Answer) -> Option<String> {
    let location = response.headers().get(header::LOCATION)?;
    is_redirect(response.status())
        .then(|| String::from_utf8_lossy(location.as_bytes()).trim().to_owned())
}

/// Whether calls set a header of this name, in the place of any other: those of MCP, and of traces.
fn is_set_by_calls(name: &HeaderName) -> bool {
    name.as_str().starts_with("mcp-") || TRACE_HEADERS.contains(name)
}

fn unfollowed(status: u16, location: &str, why: &str) -> NetError {
    let to = masked(location);
    NetError::Redirect(format!(
        "answered with HTTP status {status}, to `{to}`, which is not followed: {why}"
    ))
}

/// Translates a failure to send into what it means for the request.
pub(super) fn broken(error: NetError) -> SendError {
    match error {
        NetError::Connect(_) | NetError::Unsent(_) | NetError::Closed(_) => {
            SendError::Unavailable(error.to_string())
        }
        NetError::Exhausted(why) => SendError::Unready(why),
        NetError::Broken(_) => SendError::Lost(error.to_string()),
        NetError::Coding(_) => SendError::Garbage(error.to_string()),
        NetError::Redirect(text) => SendError::Redirected(text),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::config;

    /// What a test gives a request: headers of calls, each of which may be set twice; some that a
    /// client brings; and what the configuration sets.
    const SET: [&str; 5] =
        ["mcp-protocol-version", "mcp-method", "mcp-name", "mcp-param-a", "mcp-session-id"];
    const FORWARDED: [&str; 4] = ["traceparent", "x-a", "connection", "accept"];
    const CONFIGURED: [&str; 4] = ["x-a", "authorization", "x-b", "mcp-param-a"];

    fn endpoint(configured: &[&str]) -> Endpoint {
        let headers: Vec<_> =
            configured.iter().map(|name| format!("{name} = \"configured\"")).collect();
        let text = format!(
            "[routes.\"/mcp\"]\nupstreams = [\"a\"]\n[upstreams.a]\n\
             url = \"http://127.0.0.1:9/mcp?key=1\"\nheaders = {{ {} }}\n",
            headers.join(", ")
        );
        let config = config::parse("routes.toml", &text, &|_| None).unwrap();
        Endpoint::new(Net::new(), &config.upstreams[0].transport, None, None).unwrap()
    }

    /// Lines of a head in alphabetical order, and the body: the order of fields says nothing.
    fn sorted(text: &RequestText) -> (Vec<String>, String) {
        let whole = String::from_utf8(text.whole()).unwrap();
        let (head, body) = whole.split_once("\r\n\r\n").unwrap();
        let mut lines: Vec<_> = head.split("\r\n").map(str::to_owned).collect();
        lines.sort();
        (lines, body.to_owned())
    }

    proptest! {
        /// Whatever is set, what is written from what is ready is what is written of a map.
        #[test]
        fn a_request_from_what_is_ready_says_the_same(
            set in vec((select(SET.to_vec()), "[a-z]{1,4}"), 0..6),
            forwarded in vec((select(FORWARDED.to_vec()), "[a-z]{1,4}"), 0..3),
            configured in prop::sample::subsequence(CONFIGURED.to_vec(), 0..4),
            length in prop_oneof![0..300_usize, 4_000..4_200_usize, 16_300..16_500_usize],
        ) {
            let endpoint = endpoint(&configured);
            let body = Bytes::from("x".repeat(length));
            let mut template = RequestTemplate::new(Verb::POST, body, HeaderKind::Message);
            for (name, value) in set {
                template.set(HeaderName::from_static(name), value.parse().unwrap());
            }
            for (name, value) in forwarded {
                let value = value.parse().unwrap();
                template.forwarded.push((HeaderName::from_static(name), value));
            }
            let how = How { whose: None, repeatable: false, in_session: true, spans: None };
            let pool = endpoint.pool.as_ref().unwrap();
            let is_ready = !configured.contains(&"mcp-param-a") && length <= 16 << 10;
            let written = endpoint.written(&template, &how);
            prop_assert_eq!(written.is_some(), is_ready);
            if let Some(written) = written {
                prop_assert_eq!(sorted(&written), sorted(&pool.text(endpoint.request(&template))));
            }
        }
    }
}
