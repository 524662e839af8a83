//! Failures of TLS in words that an operator can act on.

use std::{error::Error, io};

use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error as TlsError, InvalidMessage};

use super::http1::Http1Error;

/// Names that are shown of a certificate.
const NAMES_MAX: usize = 5;

/// An error with its causes.
type Chain = dyn Error + 'static;

/// Says what failed in TLS, and what can be done about it; none where something else failed.
pub fn of(error: &Chain) -> Option<String> {
    if let Some(error) = found::<TlsError>(error) {
        return tls(error);
    }
    let io = found::<io::Error>(error)?;
    (io.kind() == io::ErrorKind::UnexpectedEof && io.to_string().contains("handshake")).then(|| {
        "it closed the connection in the TLS handshake: does this port speak TLS (`https:`)?"
            .to_owned()
    })
}

/// Whether an answer was no HTTP at all, as that of a port that speaks TLS only.
pub fn is_no_http(error: &Chain) -> bool {
    found::<hyper::Error>(error).is_some_and(hyper::Error::is_parse)
        || matches!(found::<Http1Error>(error), Some(Http1Error::NoHttp))
}

/// The innermost error of this kind in a chain; an [`io::Error`] hides the one that it was made of.
fn found<T: Error + 'static>(error: &Chain) -> Option<&T> {
    let mut next = Some(error);
    let mut last = None;
    while let Some(error) = next {
        last = error.downcast_ref::<T>().or(last);
        let hidden = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let hidden = hidden.map(|inner| inner as &Chain);
        next = hidden.or_else(|| error.source());
    }
    last
}

#[allow(clippy::wildcard_enum_match_arm, reason = "all others are told in the library's words")]
fn tls(error: &TlsError) -> Option<String> {
    let text = match error {
        // Whole by itself, and the library's own words have the time of each try in them.
        TlsError::InvalidCertificate(
            error @ (CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYetContext { .. }),
        ) => return Some(certificate(error)),
        TlsError::InvalidCertificate(error) => certificate(error),
        TlsError::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "this port speaks no TLS: write `http:` in `url`, or name the port that does".to_owned()
        }
        TlsError::AlertReceived(alert) => alerted(*alert)?,
        TlsError::PeerIncompatible(_) => old_version(),
        TlsError::NoCertificatesPresented => "it shows no certificate".to_owned(),
        _ => return None,
    };
    Some(format!("{text} ({error})").replace(['\n', '\r'], " "))
}

fn old_version() -> String {
    "it speaks no version of TLS, or no cipher suite, that is safe: TLS 1.2 or 1.3 is needed"
        .to_owned()
}

/// Says what a server says as it breaks off (RFC 8446 §6.2).
#[allow(clippy::wildcard_enum_match_arm, reason = "all others are told in the library's words")]
fn alerted(alert: AlertDescription) -> Option<String> {
    Some(match alert {
        AlertDescription::CertificateRequired
        | AlertDescription::BadCertificate
        | AlertDescription::HandshakeFailure
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::AccessDenied => {
            "it wants a client certificate, or another one: see `client_certificate` and \
             `client_key` of the upstream"
                .to_owned()
        }
        AlertDescription::UnknownCA => {
            "it does not trust the CA of the client certificate that it was shown: see \
             `client_certificate` of the upstream"
                .to_owned()
        }
        AlertDescription::CertificateExpired | AlertDescription::CertificateRevoked => {
            "the client certificate that it was shown has expired or is revoked: renew \
             `client_certificate` of the upstream"
                .to_owned()
        }
        AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity => old_version(),
        AlertDescription::UnrecognisedName => {
            "it knows no host of that name: is the one in `url` right?".to_owned()
        }
        _ => return None,
    })
}

#[allow(clippy::wildcard_enum_match_arm, reason = "all others are a certificate that is none")]
fn certificate(error: &CertificateError) -> String {
    const TRUST: &str = "put the CA's certificate into a file and name it in `ca` of the upstream";
    match error {
        CertificateError::UnknownIssuer => format!(
            "its certificate is of an issuer that nobody here trusts, such as a private CA, or is \
             signed by itself: {TRUST}"
        ),
        CertificateError::Other(_) if error.to_string().contains("CaUsedAsEndEntity") => format!(
            "its certificate is that of a CA, signed by itself, which no server may show: give the \
             server one that the CA has issued; then {TRUST}"
        ),
        CertificateError::NotValidForName => {
            "its certificate is for another name than the one in `url`".to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<_> = presented.iter().take(NAMES_MAX).map(|name| shown(name)).collect();
            let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
            format!(
                "its certificate is for {names}, not for `{}`: use a name of the certificate in \
                 `url`, or give the server one for this name",
                expected.to_str().escape_debug()
            )
        }
        CertificateError::Expired => "its certificate has expired: renew it there".to_owned(),
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("its certificate has expired, {}: renew it there", date(*not_after))
        }
        CertificateError::NotValidYet => {
            "its certificate is not valid yet: are the clocks right, there and here?".to_owned()
        }
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "its certificate is not valid before {}: are the clocks right, there and here?",
            date(*not_before)
        ),
        CertificateError::Revoked => "its certificate is revoked: it needs another one".to_owned(),
        CertificateError::BadSignature => format!(
            "its certificate is not signed by the CA that it names (another CA of the same name, \
             perhaps): {TRUST}"
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not for servers (extended key usage): it needs another one"
                .to_owned()
        }
        _ => "its certificate cannot be used: it needs another one".to_owned(),
    }
}

fn shown(name: &str) -> String {
    // The library writes it so: `DnsName("a.example")`.
    let inner = name.split_once('"').and_then(|(_, rest)| rest.split_once('"'));
    format!("`{}`", inner.map_or(name, |(inner, _)| inner).escape_debug())
}

fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).map_or_else(
        |_| "at a time that cannot be told".to_owned(),
        |at| at.strftime("%Y-%m-%d %H:%M UTC").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::ServerName;

    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn each_failure_has_its_remedy() {
        let expected = ServerName::try_from("gate.example").unwrap();
        let presented = vec!["DnsName(\"other.example\")".to_owned()];
        let invalid = TlsError::InvalidCertificate;
        let alert = TlsError::AlertReceived;
        for (error, words) in [
            (invalid(CertificateError::UnknownIssuer), "`ca` of the upstream"),
            (invalid(CertificateError::BadSignature), "`ca` of the upstream"),
            (invalid(CertificateError::NotValidForName), "another name"),
            (
                invalid(CertificateError::NotValidForNameContext { expected, presented }),
                "is for `other.example`, not for `gate.example`",
            ),
            (invalid(CertificateError::Expired), "expired"),
            (
                invalid(CertificateError::ExpiredContext { time: at(9), not_after: at(0) }),
                "expired, 1970-01-01",
            ),
            (invalid(CertificateError::NotValidYet), "clocks"),
            (
                invalid(CertificateError::NotValidYetContext {
                    time: at(0),
                    not_before: at(86_400),
                }),
                "before 1970-01-02",
            ),
            (invalid(CertificateError::Revoked), "revoked"),
            (invalid(CertificateError::InvalidPurpose), "not for servers"),
            (invalid(CertificateError::BadEncoding), "cannot be used"),
            (TlsError::InvalidMessage(InvalidMessage::InvalidContentType), "`http:`"),
            (alert(AlertDescription::CertificateRequired), "`client_certificate`"),
            (alert(AlertDescription::HandshakeFailure), "`client_certificate`"),
            (alert(AlertDescription::UnknownCA), "does not trust the CA"),
            (alert(AlertDescription::CertificateExpired), "renew `client_certificate`"),
            (alert(AlertDescription::ProtocolVersion), "TLS 1.2 or 1.3"),
            (alert(AlertDescription::UnrecognisedName), "no host of that name"),
        ] {
            let wrapped =
                io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error.clone()));
            let told = of(&wrapped).unwrap_or_default();
            assert!(told.contains(words), "{error:?}: {told}");
        }
        // A failure that lasts is the same at each try.
        let tried = |time| {
            let not_after = at(0);
            let error = invalid(CertificateError::ExpiredContext { time: at(time), not_after });
            of(&io::Error::other(error))
        };
        assert_eq!(tried(9), tried(70));
        assert_eq!(of(&io::Error::other("connection refused")), None);
        assert_eq!(of(&io::Error::from_raw_os_error(111)), None);
        let eof = io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof");
        assert!(of(&io::Error::other(eof)).is_some());
    }
}
