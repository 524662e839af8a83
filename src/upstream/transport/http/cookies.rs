//! Cookies of one session with a server (RFC 6265), such as a balancer sets to keep the session at
//! one of its servers.
//!
//! Cookies are sent to the host that set them and to no other; a domain of several hosts is none
//! here.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Uri, header};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::call::clock;

/// A balancer needs one or two.
const COOKIES_MAX: usize = 16;
/// Bytes of all names and values together; where there are more, the oldest go.
const BYTES_MAX: usize = 4 << 10;
/// No session lives for longer.
const AGE_MAX: u64 = 30 * 24 * 60 * 60;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Jar {
    /// Nearly no server sets any.
    used: AtomicBool,
    kept: Mutex<Vec<Cookie>>,
}

#[derive(Clone, PartialEq)]
struct Cookie {
    name: String,
    value: String,
    /// The path below which it is sent.
    path: String,
    secure: bool,
    until: Option<Instant>,
}

impl Jar {
    /// Keeps what an answer from `uri` sets.
    pub fn keep(&self, uri: &Uri, headers: &HeaderMap, now: Instant) {
        for set in headers.get_all(header::SET_COOKIE) {
            let Some((cookie, ends)) = set.to_str().ok().and_then(|set| read(uri, set, now)) else {
                continue;
            };
            let mut kept = self.kept.lock();
            kept.retain(|other| (&other.name, &other.path) != (&cookie.name, &cookie.path));
            if !ends && cookie.bytes() <= BYTES_MAX {
                kept.push(cookie);
            }
            while COOKIES_MAX < kept.len()
                || BYTES_MAX < kept.iter().map(Cookie::bytes).sum::<usize>()
            {
                kept.remove(0);
            }
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Whether there may be any.
    pub fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Puts what is kept for `uri` into the headers of a request, behind what is there (`own`).
    pub fn put(&self, uri: &Uri, own: Option<&HeaderValue>, headers: &mut HeaderMap, now: Instant) {
        let mut kept = self.kept.lock();
        kept.retain(|cookie| cookie.until.is_none_or(|until| now < until));
        let fits = kept.iter().filter(|cookie| cookie.is_for(uri));
        let pairs = fits.map(|cookie| format!("{}={}", cookie.name, cookie.value));
        let own = own.and_then(|own| own.to_str().ok()).map(str::to_owned);
        let all: Vec<String> = own.into_iter().chain(pairs).collect();
        if let Ok(mut value) = HeaderValue::try_from(all.join("; "))
            && !all.is_empty()
        {
            value.set_sensitive(true);
            headers.insert(header::COOKIE, value);
        }
    }
}

impl Cookie {
    fn bytes(&self) -> usize {
        self.name.len() + self.value.len()
    }

    fn is_for(&self, uri: &Uri) -> bool {
        let secure = uri.scheme_str() == Some("https");
        (secure || !self.secure) && is_below(uri.path(), &self.path)
    }
}

/// Reads one `Set-Cookie` (RFC 6265 §5.2), and whether it ends the cookie instead.
fn read(uri: &Uri, set: &str, now: Instant) -> Option<(Cookie, bool)> {
    let mut parts = set.split(';');
    let (name, value) = parts.next()?.split_once('=')?;
    let name = name.trim();
    let value = value.trim();
    let plain =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && !b";,\\".contains(&byte));
    if name.is_empty() || !plain(name) || !plain(value) {
        return None;
    }
    let folder = uri.path().rsplit_once('/').map_or("/", |(folder, _)| folder);
    let path = if folder.is_empty() { "/" } else { folder };
    let name = name.to_owned();
    let value = value.to_owned();
    let mut cookie = Cookie { name, value, path: path.to_owned(), secure: false, until: None };
    let mut age = None;
    let mut expires = None;
    for part in parts {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let value = value.trim();
        match &*key.trim().to_ascii_lowercase() {
            "max-age" => age = value.parse::<i64>().ok().or(age),
            "expires" => expires = seconds_until(value).or(expires),
            "path" if value.starts_with('/') => value.clone_into(&mut cookie.path),
            "secure" => cookie.secure = true,
            "domain" => {
                let host = uri.host()?;
                let domain = value.trim_start_matches('.');
                if !domain.is_empty() && !is_within(host, domain) {
                    return None;
                }
            }
            _ => (),
        }
    }
    let left = age.or(expires);
    let ends = left.is_some_and(|left| left <= 0);
    let left = left.and_then(|left| u64::try_from(left).ok()).map(|left| left.min(AGE_MAX));
    cookie.until = left.map(|left| now + Duration::from_secs(left));
    Some((cookie, ends))
}

fn seconds_until(text: &str) -> Option<i64> {
    let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp().as_second();
    Some(at.saturating_sub(i64::try_from(clock::unix_seconds()).ok()?))
}

/// RFC 6265 §5.1.3.
fn is_within(host: &str, domain: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let domain = domain.to_ascii_lowercase();
    host.strip_suffix(&*domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// RFC 6265 §5.1.4.
fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || folder.ends_with('/'))
}

/// The value of a cookie may be secret, and is left out.
impl std::fmt::Debug for Cookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cookie").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(jar: &Jar, uri: &str) -> String {
        sent_at(jar, uri, Instant::now())
    }

    fn sent_at(jar: &Jar, uri: &str, now: Instant) -> String {
        let mut headers = HeaderMap::new();
        jar.put(&uri.parse().unwrap(), None, &mut headers, now);
        headers.get(header::COOKIE).map_or("", |sent| sent.to_str().unwrap()).to_owned()
    }

    fn kept(uri: &str, set: &[&str]) -> Jar {
        let jar = Jar::default();
        let mut headers = HeaderMap::new();
        for set in set {
            headers.append(header::SET_COOKIE, HeaderValue::from_str(set).unwrap());
        }
        jar.keep(&uri.parse().unwrap(), &headers, Instant::now());
        jar
    }

    #[test]
    fn a_cookie_is_sent_where_it_belongs() {
        let uri = "http://a.example.com/x/mcp";
        for (set, want) in [
            (&["lb=1"][..], "lb=1"),
            (&["lb=1; Path=/; HttpOnly; SameSite=None", "b=\"2\"; path=/x"], "lb=1; b=\"2\""),
            (&["lb=1", "lb=2"], "lb=2"),
            (&["lb="], "lb="),
            (&["lb=1; Max-Age=60"], "lb=1"),
            (&["lb=1; Expires=Wed, 21 Oct 2122 07:28:00 GMT"], "lb=1"),
            (&["lb=1; Domain=example.com"], "lb=1"),
            (&["lb=1; Domain=.A.example.com"], "lb=1"),
            (&["lb=1; Path=/x/mcp"], "lb=1"),
            (&["lb=1; Max-Age=nonsense"], "lb=1"),
            // Not for here.
            (&["lb=1; Domain=evil.com"], ""),
            (&["lb=1; Domain=ample.com"], ""),
            (&["lb=1; Path=/y"], ""),
            (&["lb=1; Path=/x/m"], ""),
            (&["lb=1; Secure"], ""),
            // Not any more.
            (&["lb=1", "lb=; Max-Age=0"], ""),
            (&["lb=1", "lb=1; Max-Age=-1"], ""),
            (&["lb=1", "lb=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT"], ""),
            // None at all.
            (&["=1", "a b=1", "lb", "", "lb=a,b", "lb=a b"], ""),
        ] {
            assert_eq!(sent(&kept(uri, set), uri), want, "{set:?}");
        }
        let jar = kept("https://a.example.com/mcp", &["lb=1; Secure"]);
        assert_eq!(sent(&jar, "https://a.example.com/mcp"), "lb=1");
        assert_eq!(sent(&jar, "http://a.example.com/mcp"), "");
    }

    #[test]
    fn they_are_bounded_in_number_and_bytes() {
        let many: Vec<String> = (0..99).map(|at| format!("c{at}=1; Path=/")).collect();
        let many: Vec<&str> = many.iter().map(|set| &**set).collect();
        let last = sent(&kept("http://a/", &many), "http://a/");
        assert_eq!(last.split("; ").count(), COOKIES_MAX);
        assert!(last.ends_with("c98=1"));
        let large = format!("large={}", "x".repeat(BYTES_MAX));
        let half = format!("half={}", "x".repeat(BYTES_MAX / 2));
        let other = format!("other={}", "x".repeat(BYTES_MAX / 2));
        let jar = kept("http://a/", &[&large, &half, &other]);
        assert!(sent(&jar, "http://a/").starts_with("other="));
    }

    #[test]
    fn one_that_is_old_is_forgotten() {
        let begin = Instant::now();
        let jar = kept("http://a/", &["lb=1; Max-Age=60"]);
        let at = |seconds| sent_at(&jar, "http://a/", begin + Duration::from_secs(seconds));
        assert_eq!((&*at(59), &*at(90)), ("lb=1", ""));
    }

    #[test]
    fn what_the_configuration_sends_comes_first() {
        let mut headers = HeaderMap::new();
        let own = HeaderValue::from_static("own=1");
        let uri: Uri = "http://a/".parse().unwrap();
        kept("http://a/", &["lb=1"]).put(&uri, Some(&own), &mut headers, Instant::now());
        assert_eq!(headers[header::COOKIE], "own=1; lb=1");
    }
}
