//! Certificates that clients show in TLS: verified there, and read here for whose they are.

use std::sync::Arc;

use serde_json::json;
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    objects::{oid_registry, oid2abbrev},
    prelude::FromDer as _,
    time::ASN1Time,
};

use crate::{
    call::{Identity, clock},
    config::{CertificateAuth, SubjectOf},
    mcp::raw::Raw,
};

use super::{AuthError, AuthRefusal};

/// Names that a certificate has for its holder. That it may be believed is the business of whoever
/// made the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    uris: Vec<String>,
    names: Vec<String>,
    /// The subject in the words of RFC 4514, in the order of the certificate.
    subject: String,
    /// Seconds since 1970.
    ends: u64,
}

/// Returns until when a certificate is good, in seconds since 1970; none where the bytes are none.
pub fn certificate_ends(der: &[u8]) -> Option<u64> {
    certificate_validity(der).map(|validity| validity.ends)
}

/// From when and until when a certificate is good, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    pub begins: u64,
    pub ends: u64,
}

/// Reads from when and until when a certificate is good; none where the bytes are none.
pub fn certificate_validity(der: &[u8]) -> Option<Validity> {
    let (_, read) = X509Certificate::from_der(der).ok()?;
    let seconds = |at: ASN1Time| u64::try_from(at.timestamp()).unwrap_or_default();
    let validity = read.validity();
    Some(Validity { begins: seconds(validity.not_before), ends: seconds(validity.not_after) })
}

impl Certificate {
    /// None where it cannot be read.
    #[allow(clippy::wildcard_enum_match_arm, reason = "all other kinds of names")]
    pub fn read(der: &[u8]) -> Option<Self> {
        let (_, read) = X509Certificate::from_der(der).ok()?;
        let alternatives = read.subject_alternative_name().ok()?;
        let alternatives = alternatives.map(|names| &names.value.general_names[..]);
        let alternatives = alternatives.unwrap_or_default();
        let uri = |name: &GeneralName<'_>| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        };
        let dns = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        };
        let uris = alternatives.iter().filter_map(uri).collect();
        let names = alternatives.iter().filter_map(dns).collect();
        let ends = u64::try_from(read.validity().not_after.timestamp()).ok()?;
        Some(Self { uris, names, subject: subject(&read)?, ends })
    }
}

/// The holders that one section knows.
#[derive(Debug)]
pub struct CertificateAuthority {
    name: String,
    settings: CertificateAuth,
}

impl CertificateAuthority {
    pub fn new(name: &str, settings: &CertificateAuth) -> Self {
        Self { name: name.to_owned(), settings: settings.clone() }
    }

    /// Names the caller that a client certificate was issued to.
    ///
    /// # Errors
    /// Fails where the certificate names no caller or several, or has expired.
    pub fn identify(&self, shown: &Certificate) -> Result<Arc<Identity>, AuthRefusal> {
        let invalid = |why| Err(AuthRefusal::Error(AuthError::Invalid(why)));
        let found = match self.settings.subject {
            SubjectOf::Uri => &shown.uris[..],
            SubjectOf::Dns => &shown.names[..],
            SubjectOf::Subject => std::slice::from_ref(&shown.subject),
        };
        let subject = match found {
            [subject] if !subject.is_empty() => subject,
            [] | [_] => return invalid("the certificate does not say whose it is"),
            // A caller with two names could choose who it is.
            _ => return invalid("the certificate says that it is several callers'"),
        };
        // A connection may outlive the certificate that it was opened with.
        if shown.ends <= clock::unix_seconds() {
            return invalid("the certificate has expired");
        }
        Ok(Arc::new(Identity {
            authority: self.name.clone(),
            subject: subject.clone(),
            groups: self.settings.groups.iter().cloned().collect(),
            scopes: self.settings.scopes.iter().cloned().collect(),
            claims: Raw::encode(&json!({ "subject": shown.subject })),
            expires: Some(shown.ends),
            ..Identity::default()
        }))
    }
}

/// None where some part of it is no text.
fn subject(read: &X509Certificate<'_>) -> Option<String> {
    let mut parts = Vec::new();
    for set in read.subject().iter() {
        let mut values = Vec::new();
        for attribute in set.iter() {
            let kind = attribute.attr_type();
            let kind = oid2abbrev(kind, oid_registry())
                .map_or_else(|_| kind.to_id_string(), str::to_owned);
            values.push(format!("{kind}={}", escaped(attribute.as_str().ok()?)));
        }
        parts.push(values.join("+"));
    }
    Some(parts.join(","))
}

/// RFC 4514 §2.4: no value can look like two parts.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for (at, c) in value.chars().enumerate() {
        let leads = at == 0 && matches!(c, ' ' | '#');
        if c.is_control() {
            for byte in c.to_string().bytes() {
                text.push_str(&format!("\\{byte:02X}"));
            }
            continue;
        }
        if leads || matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn made(uris: &[&str], names: &[&str], common: &str) -> Certificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common);
        params.distinguished_name.push(DnType::OrganizationName, "Acme");
        let uris = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
        let names = names.iter().map(|name| SanType::DnsName((*name).try_into().unwrap()));
        params.subject_alt_names = uris.chain(names).collect();
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Certificate::read(made.der()).unwrap()
    }

    pub(super) fn identify(subject: SubjectOf, shown: &Certificate) -> Result<String, AuthRefusal> {
        let settings = CertificateAuth { subject, groups: Vec::new(), scopes: Vec::new() };
        let known = CertificateAuthority::new("machines", &settings).identify(shown);
        known.map(|known| known.subject.clone())
    }

    #[test]
    fn a_holder_is_who_the_certificate_says() {
        let one = made(&["spiffe://acme/ci"], &["CI.acme.example"], "ci");
        assert_eq!(identify(SubjectOf::Uri, &one).unwrap(), "spiffe://acme/ci");
        assert_eq!(identify(SubjectOf::Dns, &one).unwrap(), "ci.acme.example");
        assert_eq!(identify(SubjectOf::Subject, &one).unwrap(), "CN=ci,O=Acme");
    }

    #[test]
    fn nobody_is_several_or_nobody() {
        let several = made(&["spiffe://acme/a", "spiffe://acme/b"], &[], "a");
        assert!(identify(SubjectOf::Uri, &several).is_err());
        assert!(identify(SubjectOf::Dns, &several).is_err());
        let ended = Certificate { ends: 1, ..made(&["spiffe://acme/a"], &[], "a") };
        assert!(identify(SubjectOf::Uri, &ended).is_err());
    }

    #[test]
    fn a_name_cannot_look_like_two_parts() {
        let forged = made(&[], &[], "eve,O=Acme+CN=root");
        let subject = identify(SubjectOf::Subject, &forged).unwrap();
        assert_eq!(subject, "CN=eve\\,O\\=Acme\\+CN\\=root,O=Acme");
        assert!(Certificate::read(b"no certificate").is_none());
    }
}
