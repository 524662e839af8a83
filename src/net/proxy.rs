//! Chooses the proxy that leads to an address: the one that an upstream names, or those of the
//! environment.

use std::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderValue, Uri};

/// The word that stands for no proxy at all, whatever the environment has.
pub const NONE: &str = "none";

/// A forward proxy.
#[derive(Clone, PartialEq)]
pub struct ProxyServer {
    /// Its address, without userinfo.
    pub uri: Uri,
    pub authorization: Option<HeaderValue>,
}

/// The rule by which a proxy is chosen for an address.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum ProxyRoute {
    #[default]
    Direct,
    Always(ProxyServer),
    Environment(EnvironmentProxies),
}

/// The proxies of `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, or of the same names in lower case,
/// which count first.
#[derive(Debug, Clone, PartialEq)]
pub struct EnvironmentProxies {
    http: Option<ProxyServer>,
    https: Option<ProxyServer>,
    except: Vec<Except>,
}

/// An entry of `NO_PROXY`.
#[derive(Debug, Clone, PartialEq)]
enum Except {
    All,
    /// A host and all below it.
    Host(String, Option<u16>),
    Network(IpAddr, u8),
}

impl ProxyServer {
    /// Reads `http://USER:PASSWORD@HOST:PORT`. None where it is no address of a proxy.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let uri: Uri = text.parse().ok()?;
        let scheme = uri.scheme()?.clone();
        let authority = uri.authority()?;
        let known = ["http", "https"].contains(&scheme.as_str());
        let (user, host) = match authority.as_str().rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority.as_str()),
        };
        let authorization = match user {
            Some(user) => {
                let (name, password) = user.split_once(':').unwrap_or((user, ""));
                let plain = [&*decoded(name)?, b":", &*decoded(password)?].concat();
                let mut value =
                    HeaderValue::try_from(format!("Basic {}", STANDARD.encode(plain))).ok()?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        let uri = Uri::builder().scheme(scheme).authority(host).path_and_query("/").build().ok()?;
        (known && uri.host().is_some_and(|host| !host.is_empty()))
            .then_some(Self { uri, authorization })
    }
}

impl ProxyRoute {
    /// The route to an upstream whose `proxy` is this, if it has one.
    ///
    /// # Errors
    /// Where the text is no address of a proxy; it is not repeated.
    pub fn of(
        proxy: Option<&str>,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        match proxy {
            Some(NONE) => Ok(Self::Direct),
            Some(text) => ProxyServer::parse(text).map(Self::Always).ok_or_else(|| {
                format!("`proxy` is no address such as http://proxy.example.com:3128, nor `{NONE}`")
            }),
            None => {
                Ok(EnvironmentProxies::read(environment).map_or(Self::Direct, Self::Environment))
            }
        }
    }

    /// The proxy to this address; none where it is dialled itself.
    pub fn to(&self, uri: &Uri) -> Option<&ProxyServer> {
        match self {
            Self::Direct => None,
            Self::Always(proxy) => Some(proxy),
            Self::Environment(environment) => environment.to(uri),
        }
    }
}

impl EnvironmentProxies {
    fn read(variable: &dyn Fn(&str) -> Option<String>) -> Option<Self> {
        let read = |name: &str| {
            let text = variable(&name.to_ascii_lowercase()).or_else(|| variable(name))?;
            Some(text).filter(|text| !text.trim().is_empty())
        };
        let proxy = |name: &str| {
            let text = read(name)?;
            let proxy = ProxyServer::parse(&text);
            if proxy.is_none() {
                tracing::warn!(variable = name, "it is no address of a proxy, and not used");
            }
            proxy
        };
        let http = proxy("HTTP_PROXY");
        let https = proxy("HTTPS_PROXY");
        let except = read("NO_PROXY").unwrap_or_default();
        let except = except.split([',', ' ']).filter_map(Except::parse).collect();
        (http.is_some() || https.is_some()).then_some(Self { http, https, except })
    }

    fn to(&self, uri: &Uri) -> Option<&ProxyServer> {
        let is_https = uri.scheme_str() == Some("https");
        let host = uri.host()?.trim_matches(['[', ']']).to_ascii_lowercase();
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        if is_loopback(&host) || self.except.iter().any(|except| except.covers(&host, port)) {
            return None;
        }
        if is_https { self.https.as_ref() } else { self.http.as_ref() }
    }
}

impl Except {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text == "*" {
            return Some(Self::All);
        }
        if let Some((network, length)) = text.split_once('/') {
            return Some(Self::Network(network.parse().ok()?, length.parse().ok()?));
        }
        let bare = text.trim_matches(['[', ']']);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Some(Self::Network(address, 128));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (&*text, None),
        };
        let host = host.trim_start_matches('*').trim_matches(['.', '[', ']']);
        (!host.is_empty()).then(|| Self::Host(host.to_owned(), port))
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Host(name, only) => {
                let below = host
                    .strip_suffix(&**name)
                    .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                below && only.is_none_or(|only| only == port)
            }
            Self::Network(network, length) => {
                host.parse().is_ok_and(|host| is_within(host, *network, *length))
            }
        }
    }
}

fn is_within(host: IpAddr, network: IpAddr, length: u8) -> bool {
    match (host.to_canonical(), network.to_canonical()) {
        (IpAddr::V4(host), IpAddr::V4(network)) => {
            let shift = 32 - u32::from(length.min(32));
            let bits = |address: u32| address.checked_shr(shift).unwrap_or(0);
            bits(host.to_bits()) == bits(network.to_bits())
        }
        (IpAddr::V6(host), IpAddr::V6(network)) => {
            let shift = 128 - u32::from(length.min(128));
            let bits = |address: u128| address.checked_shr(shift).unwrap_or(0);
            bits(host.to_bits()) == bits(network.to_bits())
        }
        (IpAddr::V4(_) | IpAddr::V6(_), _) => false,
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|host| host.to_canonical().is_loopback())
}

/// Percent-decoded (RFC 3986 §2.1).
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                let digits = [*high, *low];
                out.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
                rest = after;
            }
            (b'%', _) => return None,
            (byte, after) => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    Some(out)
}

/// Shows nothing that is secret.
impl std::fmt::Debug for ProxyServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ProxyServer").field(&self.uri).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_proxy_keeps_its_password_to_itself() {
        let proxy = ProxyServer::parse("http://us%40er:p%3Ass@proxy.example.com:3128").unwrap();
        assert_eq!(proxy.uri, "http://proxy.example.com:3128/");
        let sent = proxy.authorization.as_ref().unwrap();
        assert_eq!(sent, &format!("Basic {}", STANDARD.encode("us@er:p:ss")));
        assert!(!format!("{proxy:?} {sent:?}").contains(&STANDARD.encode("us@er:p:ss")));
        assert_eq!(ProxyServer::parse("proxy:3128").unwrap().uri, "http://proxy:3128/");
        assert_eq!(ProxyServer::parse("https://proxy").unwrap().uri, "https://proxy/");
        for text in ["", "socks5://proxy:1080", "http://", "http://a b", "ftp://x", "http://%@x"] {
            assert_eq!(ProxyServer::parse(text), None, "{text}");
        }
        let refused = ProxyRoute::of(Some("socks5://user:secret@proxy"), &|_| None).unwrap_err();
        assert!(!refused.contains("secret"), "{refused}");
    }

    #[test]
    fn the_environment_names_proxies_and_what_goes_without() {
        let variable = |name: &str| match name {
            "HTTP_PROXY" => Some("http://plain:1".to_owned()),
            "HTTPS_PROXY" => Some("http://shadowed:9".to_owned()),
            "https_proxy" => Some("secure:2".to_owned()),
            "NO_PROXY" => Some(
                "example.com, .corp,*.wild.org,10.0.0.0/8 ,192.168.1.7,fd00::/8,port.net:8443,\
                 nonsense/x,,[::5]"
                    .to_owned(),
            ),
            _ => None,
        };
        let route = ProxyRoute::of(None, &variable).unwrap();
        let by = |uri: &str| route.to(&uri.parse().unwrap()).map(|proxy| proxy.uri.to_string());
        let plain = Some("http://plain:1/");
        let secure = Some("http://secure:2/");
        for (uri, want) in [
            ("http://far.net/mcp", plain),
            ("https://far.net/mcp", secure),
            ("https://FAR.net:8443/mcp", secure),
            ("https://example.com/", None),
            ("https://a.b.example.com:99/", None),
            ("https://notexample.com/", secure),
            ("https://example.com.evil/", secure),
            ("http://x.corp/", None),
            ("http://corp/", None),
            ("http://a.wild.org/", None),
            ("http://10.200.3.4/", None),
            ("http://11.0.0.1/", plain),
            ("http://192.168.1.7/", None),
            ("http://192.168.1.8/", plain),
            ("http://[fd12::1]/", None),
            ("http://[fe80::1]/", plain),
            ("http://[::5]/", None),
            ("https://port.net:8443/", None),
            ("https://port.net/", secure),
            ("http://localhost:80/", None),
            ("http://a.localhost/", None),
            ("http://127.0.0.9/", None),
            ("http://[::1]:3/", None),
            ("http://[::ffff:127.0.0.1]/", None),
        ] {
            assert_eq!(by(uri).as_deref(), want, "{uri}");
        }
        assert_eq!(ProxyRoute::of(Some("none"), &variable), Ok(ProxyRoute::Direct));
        let own = ProxyRoute::of(Some("http://own:3"), &variable).unwrap();
        assert!(own.to(&"http://127.0.0.1/".parse().unwrap()).is_some(), "said on purpose");
        let all = |name: &str| if name == "NO_PROXY" { Some("*".into()) } else { variable(name) };
        let route = ProxyRoute::of(None, &all).unwrap();
        assert_eq!(route.to(&"https://far.net/".parse().unwrap()), None);
        assert_eq!(ProxyRoute::of(None, &|_| None), Ok(ProxyRoute::Direct));
        assert_eq!(ProxyRoute::of(None, &|_| Some(" ".to_owned())), Ok(ProxyRoute::Direct));
    }
}
