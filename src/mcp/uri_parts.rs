//! The parts of a URI, and what readers pass over in each.

use std::fmt;

/// Schemes that WHATWG readers treat by rules of their own, with their default ports.
const SPECIAL: [(&str, &str); 5] =
    [("http", "80"), ("https", "443"), ("ws", "80"), ("wss", "443"), ("ftp", "21")];

/// Default ports of other schemes (IANA's registry of port numbers), which WHATWG readers keep.
const PORTS: [(&str, &str); 14] = [
    ("amqp", "5672"),
    ("amqps", "5671"),
    ("git", "9418"),
    ("imap", "143"),
    ("ldap", "389"),
    ("ldaps", "636"),
    ("mongodb", "27017"),
    ("mysql", "3306"),
    ("postgres", "5432"),
    ("postgresql", "5432"),
    ("redis", "6379"),
    ("sftp", "22"),
    ("smb", "445"),
    ("ssh", "22"),
];

/// A URI in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    pub scheme: String,
    pub has_authority: bool,
    /// User info with its `@`.
    pub user: String,
    pub host: String,
    pub port: String,
    pub path: String,
    /// A query with its `?`.
    pub query: String,
}

impl Parts {
    /// None where there is no scheme.
    pub fn of(uri: &str) -> Option<Self> {
        let uri = uri.split('#').next().unwrap_or_default();
        let (scheme, rest) = uri.split_once(':')?;
        let (hierarchy, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
        let authority = hierarchy.strip_prefix("//");
        let (authority, path) = match authority {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None => ("", hierarchy),
        };
        let (user, host) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        let (host, port) = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, port),
            Some(_) | None => (host, ""),
        };
        Some(Self {
            scheme: scheme.to_owned(),
            has_authority: hierarchy.starts_with("//"),
            user: user.to_owned(),
            host: host.to_owned(),
            port: port.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
        })
    }

    pub fn is_file(&self) -> bool {
        self.scheme == "file"
    }

    pub fn is_special(&self) -> bool {
        self.is_file() || SPECIAL.iter().any(|(scheme, _)| self.scheme == *scheme)
    }

    pub fn default_port(&self) -> Option<&'static str> {
        let mut known = SPECIAL.iter().chain(&PORTS);
        known.find(|(scheme, _)| self.scheme == *scheme).map(|(_, port)| *port)
    }

    /// Whether the path of a file has an escape that is a separator or ends a name for some system.
    pub fn hides_a_file(&self) -> bool {
        let ends = |byte: u8| byte == b'/' || byte == b'\\' || byte.is_ascii_control();
        self.is_file() && self.path.split('%').skip(1).filter_map(code).any(ends)
    }

    pub fn without_user(&mut self) {
        self.user.clear();
    }

    pub fn with_host_in_lower_case(&mut self) {
        self.host.make_ascii_lowercase();
    }

    pub fn without_last_dot(&mut self) {
        let host = self.host.trim_end_matches('.');
        if !host.is_empty() {
            self.host = host.to_owned();
        }
    }

    pub fn without_port(&mut self) {
        if self.default_port().is_some_and(|port| port == self.port) {
            self.port.clear();
        }
    }

    pub fn without_host_of_file(&mut self) {
        if self.is_file() {
            self.host.clear();
        }
    }

    pub fn without_query(&mut self) {
        self.query.clear();
    }

    pub fn without_empty_segments(&mut self) {
        while self.path.contains("//") {
            self.path = self.path.replace("//", "/");
        }
    }

    pub fn without_last_slash(&mut self) {
        let last = if self.is_special() { 1 } else { 0 };
        if last < self.path.len() && self.path.ends_with('/') {
            self.path.pop();
        }
    }
}

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, has_authority, user, host, port, path, query } = self;
        write!(f, "{scheme}:")?;
        if *has_authority {
            write!(f, "//{user}{host}")?;
            if !port.is_empty() {
                write!(f, ":{port}")?;
            }
        } else if path.starts_with("//") {
            // Two slashes at the beginning of a path would be read as those before an authority
            // (RFC 3986 §3.3).
            f.write_str("/.")?;
        }
        write!(f, "{path}{query}")
    }
}

/// The byte of an escape, which begins after its `%`.
pub fn code(after: &str) -> Option<u8> {
    let code = after.get(..2).filter(|code| code.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u8::from_str_radix(code, 16).ok()
}

pub fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}
