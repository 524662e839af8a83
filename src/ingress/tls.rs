//! TLS on accepted connections: certificate files, read again when they change, and clients that
//! show certificates of their own.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::RwLock;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use sha2::{Digest as _, Sha256};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    config::Tls,
    telemetry::{Counter, Counters},
};

/// The pause between two looks at the files: a renewed certificate is in use within a second, as an
/// edit of the configuration is.
const POLL: Duration = Duration::from_secs(1);

/// The gate's certificate, and the authorities of its clients'. New connections have those read
/// last.
#[derive(Debug)]
pub struct ServerCertificates {
    files: Tls,
    current: RwLock<Current>,
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    /// The fingerprint of `client_ca`.
    authorities: [u8; 32],
    /// The signal that other authorities vouch for clients.
    replaced: CancellationToken,
}

impl ServerCertificates {
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn read(files: &Tls) -> Result<Arc<Self>, String> {
        let current = Current {
            config: Arc::new(config(files)?),
            authorities: digest(files.client_ca.iter()),
            replaced: CancellationToken::new(),
        };
        Ok(Arc::new(Self { files: files.clone(), current: RwLock::new(current) }))
    }

    /// The acceptor of one connection, with a token that is cancelled when a certificate shown on
    /// it may be good no more: others vouch for clients then.
    pub fn acceptor(&self) -> (TlsAcceptor, CancellationToken) {
        let current = self.current.read();
        (TlsAcceptor::from(Arc::clone(&current.config)), current.replaced.clone())
    }

    fn replace(&self, config: ServerConfig) {
        let authorities = digest(self.files.client_ca.iter());
        let mut current = self.current.write();
        current.config = Arc::new(config);
        if current.authorities != authorities {
            current.authorities = authorities;
            std::mem::take(&mut current.replaced).cancel();
        }
    }

    /// Reads the files again whenever they have changed, for as long as the gate runs. Ones that
    /// are wrong change nothing: a pair may be written one after the other.
    pub async fn follow(self: Arc<Self>, counters: Arc<Counters>) {
        let mut seen = self.fingerprint();
        let mut told = None;
        loop {
            tokio::time::sleep(POLL).await;
            let now = self.fingerprint();
            if now == seen {
                continue;
            }
            match config(&self.files) {
                Ok(config) => {
                    self.replace(config);
                    counters.add(Counter::CertificatesRead);
                    tracing::info!("the certificates of [server.tls] were read again");
                    seen = now;
                }
                // Looked at again all the same: the rest of the pair may be on its way.
                Err(error) if told.as_ref() != Some(&error) => {
                    counters.add(Counter::CertificatesFailed);
                    tracing::error!(error, "the new certificates of [server.tls] are not used");
                    told = Some(error);
                }
                Err(_) => (),
            }
        }
    }

    fn fingerprint(&self) -> [u8; 32] {
        let Tls { certificate, key, client_ca } = &self.files;
        digest([certificate, key].into_iter().chain(client_ca))
    }
}

/// Fingerprint of the bytes of all files; one that cannot be read is as if it were empty.
fn digest<'a>(files: impl Iterator<Item = &'a PathBuf>) -> [u8; 32] {
    let mut digest = Sha256::new();
    for file in files {
        let bytes = std::fs::read(file).unwrap_or_default();
        digest.update(bytes.len().to_le_bytes());
        digest.update(bytes);
    }
    digest.finalize().into()
}

fn config(files: &Tls) -> Result<ServerConfig, String> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| {
        format!("{}: no private key can be read from it: {error}", files.key.display())
    })?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|error| wrong(&error))?;
            }
            // A client that shows none may have a token: routes say who may pass.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build();
            builder.with_client_cert_verifier(verifier.map_err(|error| wrong(&error))?)
        }
    };
    let certificate = files.certificate.display();
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| format!("{certificate} and its key cannot be used: {error}"))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The certificates of a PEM file; none of one that cannot be read.
pub fn certificates_in(file: &Path) -> Vec<Vec<u8>> {
    let found = certificates(file).unwrap_or_default();
    found.iter().map(|certificate| certificate.to_vec()).collect()
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let name = file.display();
    match read {
        Ok(found) if found.is_empty() => Err(format!("{name}: there is no certificate in it")),
        Ok(found) => Ok(found),
        Err(error) => Err(format!("{name}: no certificate can be read from it: {error}")),
    }
}
