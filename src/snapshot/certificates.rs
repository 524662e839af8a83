//! Certificates that the configuration names, and those that have expired or soon will.

use std::{
    fs,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    auth::{self, Validity},
    builtin::report::CertificateReport,
    call::clock,
    config::{Config, Transport},
    net,
};

const DAY_SECONDS: u64 = 24 * 60 * 60;
/// A certificate is about to end when it has less than this left, and less than a third of its
/// whole time: one that is good for a day is renewed in hours.
const SOON_SECONDS: u64 = 7 * DAY_SECONDS;
const SOON_SHARE: u64 = 3;
/// How long what was read of the files is taken for true: each scrape and probe asks.
const FRESH: Duration = Duration::from_secs(10);
/// A file of certificates that is larger is not looked into.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Looks at the certificates of the configuration in force, and keeps what it saw for a while.
#[derive(Debug, Default)]
pub struct CertificateWatch {
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug)]
struct Seen {
    at: Instant,
    /// The configuration that names them; another one is looked through at once.
    config: Weak<Config>,
    certificates: Vec<NamedCertificate>,
}

/// A certificate, and the key of the configuration that leads to it.
#[derive(Debug, Clone)]
struct NamedCertificate {
    place: String,
    validity: Validity,
}

impl CertificateWatch {
    /// A line for each certificate that has expired or is about to.
    pub fn troubles(&self, config: &Arc<Config>) -> Vec<String> {
        let now = clock::unix_seconds();
        self.each(config, |one| {
            one.validity.trouble(now).map(|why| format!("{}: {why}", one.place))
        })
    }

    /// All certificates, and when they expire.
    pub fn report(&self, config: &Arc<Config>) -> Vec<CertificateReport> {
        self.each(config, |one| {
            Some(CertificateReport { key: one.place.clone(), expires: one.validity.ends })
        })
    }

    fn each<T>(&self, config: &Arc<Config>, of: impl Fn(&NamedCertificate) -> Option<T>) -> Vec<T> {
        let mut seen = self.seen.lock();
        let is_fresh = |seen: &&Seen| {
            seen.at.elapsed() < FRESH && std::ptr::eq(seen.config.as_ptr(), Arc::as_ptr(config))
        };
        if seen.as_ref().filter(is_fresh).is_none() {
            *seen = Some(Seen {
                at: Instant::now(),
                config: Arc::downgrade(config),
                certificates: named(config),
            });
        }
        seen.iter().flat_map(|seen| &seen.certificates).filter_map(of).collect()
    }
}

impl Validity {
    fn trouble(self, now: u64) -> Option<String> {
        let day = || clock::rfc3339(self.ends);
        if self.ends <= now {
            return Some(format!("its certificate has expired, {}: renew it", day()));
        }
        let left = self.ends - now;
        let whole = self.ends.saturating_sub(self.begins);
        (left < SOON_SECONDS && left < whole / SOON_SHARE)
            .then(|| format!("its certificate expires soon, {}: renew it", day()))
    }
}

/// All certificates that the configuration names. Authorities of clients and servers are many in
/// one file, and some of such a file may be old: one whose file has a good one is left out.
fn named(config: &Config) -> Vec<NamedCertificate> {
    let mut all = Vec::new();
    if let Some(files) = &config.server.tls {
        let read = |file: &std::path::Path| {
            let length = fs::metadata(file).map_or(0, |data| data.len());
            (length <= FILE_BYTES_MAX).then(|| fs::read_to_string(file).ok()).flatten()
        };
        let own = read(&files.certificate);
        all.extend(own.and_then(|pem| shown("server.tls.certificate", &pem)));
        let clients = files.client_ca.as_ref().and_then(|file| read(file));
        all.extend(clients.and_then(|pem| trusted("server.tls.client_ca", &pem)));
    }
    for upstream in &config.upstreams {
        let Transport::Http { dial, .. } = &upstream.transport else { continue };
        let name = &upstream.name;
        let ca = dial.ca.as_ref();
        all.extend(ca.and_then(|pem| trusted(&format!("upstreams.{name}.ca"), pem)));
        let place = format!("upstreams.{name}.client_certificate");
        let identity = dial.identity.as_ref();
        all.extend(identity.and_then(|own| shown(&place, &own.certificate)));
    }
    all
}

/// The first certificate of a chain is the one that nobody takes once it has expired; those behind
/// it are of authorities, and end later.
fn shown(place: &str, pem: &str) -> Option<NamedCertificate> {
    let first = net::certificates_in(pem).into_iter().next()?;
    let validity = auth::certificate_validity(&first)?;
    Some(NamedCertificate { place: place.to_owned(), validity })
}

/// The one of several authorities that is good for longest.
fn trusted(place: &str, pem: &str) -> Option<NamedCertificate> {
    let all = net::certificates_in(pem);
    let all = all.iter().filter_map(|der| auth::certificate_validity(der));
    let validity = all.max_by_key(|validity| validity.ends)?;
    Some(NamedCertificate { place: place.to_owned(), validity })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_soon_depends_on_how_long_a_certificate_is_good() {
        let now = 1_000 * DAY_SECONDS;
        let hour = 60 * 60;
        for (before, left, word) in [
            (90 * DAY_SECONDS, 30 * DAY_SECONDS, None),
            (90 * DAY_SECONDS, 8 * DAY_SECONDS, None),
            (90 * DAY_SECONDS, 6 * DAY_SECONDS, Some("expires soon")),
            (90 * DAY_SECONDS, 1, Some("expires soon")),
            (90 * DAY_SECONDS, 0, Some("has expired")),
            (hour, 23 * hour, None),
            (15 * hour, 9 * hour, None),
            (17 * hour, 7 * hour, Some("expires soon")),
            (0, 6 * DAY_SECONDS, None),
            (24 * hour, 0, Some("has expired")),
        ] {
            let validity = Validity { begins: now - before, ends: now + left };
            let trouble = validity.trouble(now);
            match word {
                Some(word) => assert!(trouble.is_some_and(|it| it.contains(word)), "{left}"),
                None => assert_eq!(trouble, None, "{before} {left}"),
            }
        }
        let old = Validity { begins: 0, ends: 1 };
        assert!(old.trouble(now).is_some_and(|it| it.contains("1970-01-01T00:00:01Z")));
    }
}
