//! Clients that show certificates, over real connections.

use std::{fs, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer as Authority, KeyPair, SanType};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};
use tokio_rustls::TlsConnector;

use super::tollgate_key;
use crate::{
    fake,
    gate::{Gate, gateway},
    log, soon,
};

/// An authority of certificates, and the files of a gate.
struct Files {
    folder: TempDir,
    authority: Authority<'static, KeyPair>,
    root: CertificateDer<'static>,
}

struct Client {
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

impl Files {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), root.pem()).unwrap();
        let root = root.der().clone();
        let files = Self { folder, authority: Authority::new(params, key), root };
        files.renew();
        files
    }

    /// Another certificate for the gate itself.
    fn renew(&self) -> Vec<u8> {
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let made = params.signed_by(&key, &self.authority).unwrap();
        fs::write(self.folder.path().join("key.pem"), key.serialize_pem()).unwrap();
        fs::write(self.folder.path().join("cert.pem"), made.pem()).unwrap();
        made.der().to_vec()
    }

    fn client(&self, uris: &[&str]) -> Client {
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        let key = KeyPair::generate().unwrap();
        let made = params.signed_by(&key, &self.authority).unwrap();
        Client { chain: vec![made.der().clone()], key: key.serialize_der() }
    }

    async fn gate(&self, auth: &str, more: &str) -> Gate {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let (certificate, key, ca) = (path("cert.pem"), path("key.pem"), path("ca.pem"));
        gateway()
            .server(&format!(
                "tls = {{ certificate = {certificate:?}, key = {key:?}, client_ca = {ca:?} }}"
            ))
            .upstream("git", &fake::http().tool("log"))
            .route("/mcp", &format!("upstreams = [\"git\"]\nauth = [{auth}]"))
            .extra(&format!("[auth.machines]\nkind = \"certificate\"\n{more}"))
            .start()
            .await
    }

    /// A connection, and its task. None where none comes about.
    async fn connect(
        &self,
        gate: &Gate,
        client: Option<&Client>,
    ) -> Option<(SendRequest<Full<Bytes>>, JoinHandle<()>)> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = config.with_root_certificates(roots);
        let config = match client {
            None => config.with_no_client_auth(),
            Some(client) => {
                let key = PrivatePkcs8KeyDer::from(client.key.clone()).into();
                config.with_client_auth_cert(client.chain.clone(), key).unwrap()
            }
        };
        let stream = TcpStream::connect(gate.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        Some((sender, tokio::spawn(async move { drop(connection.await) })))
    }

    /// What a call is answered with: the status and the body. None where no connection comes about.
    async fn call(
        &self,
        gate: &Gate,
        client: Option<&Client>,
        token: Option<&str>,
    ) -> Option<(u16, String)> {
        let (mut sender, connection) = self.connect(gate, client).await?;
        let call = gate.modern();
        let text =
            call.request("tools/call", serde_json::json!({ "name": "log", "arguments": {} }));
        let mut request = Request::post("/mcp")
            .header("host", gate.address.to_string())
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        for (name, value) in call.headers(&text) {
            request = request.header(name, value);
        }
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Full::new(Bytes::from(text))).unwrap();
        let reply = soon("an answer", sender.send_request(request)).await.ok()?;
        let status = reply.status().as_u16();
        let body = reply.into_body().collect().await.ok()?.to_bytes();
        connection.abort();
        Some((status, String::from_utf8_lossy(&body).into_owned()))
    }
}

#[tokio::test]
async fn who_shows_a_good_certificate_is_its_holder() {
    let files = Files::new();
    let key = tollgate_key();
    let gate = files.gate("\"machines\", \"agents\"", &key.section).await;
    let one = files.client(&["spiffe://acme/ci"]);
    let (status, body) = files.call(&gate, Some(&one), None).await.unwrap();
    assert_eq!((status, body.contains("log ran")), (200, true), "{body}");
    let (status, _) = files.call(&gate, None, None).await.unwrap();
    assert_eq!(status, 401, "nothing was shown");
    let (status, _) = files.call(&gate, None, Some(&key.key)).await.unwrap();
    assert_eq!(status, 200, "the next authority knows the key");
    for uris in [&[][..], &["spiffe://acme/a", "spiffe://acme/b"]] {
        let client = files.client(uris);
        let (status, body) = files.call(&gate, Some(&client), None).await.unwrap();
        assert_eq!((status, body.contains("certificate")), (401, true), "{uris:?}: {body}");
    }
}

#[tokio::test]
async fn a_certificate_of_somebody_else_opens_nothing() {
    let (files, others) = (Files::new(), Files::new());
    let gate = files.gate("\"machines\"", "").await;
    let foreign = others.client(&["spiffe://acme/ci"]);
    assert_eq!(files.call(&gate, Some(&foreign), None).await, None);
    let own = files.client(&["spiffe://acme/ci"]);
    assert_eq!(files.call(&gate, Some(&own), None).await.unwrap().0, 200);
}

#[tokio::test]
async fn certificates_are_read_again_when_they_change() {
    let files = Files::new();
    let gate = files.gate("\"machines\"", "").await;
    let others = Files::new();
    let client = others.client(&["spiffe://acme/ci"]);
    assert_eq!(files.call(&gate, Some(&client), None).await, None);
    // Half of a pair changes nothing.
    fs::write(files.folder.path().join("key.pem"), "no key").unwrap();
    let counted = |name: &str| {
        let report = serde_json::to_value(gate.app().viewer().report()).unwrap();
        report["counters"][name].as_u64().unwrap()
    };
    crate::eventually("the wrong pair is seen", || {
        (0 < counted("certificates_failed")).then_some(())
    })
    .await;
    let own = files.client(&["spiffe://acme/own"]);
    assert_eq!(files.call(&gate, Some(&own), None).await.unwrap().0, 200);
    let (_open, closed) = files.connect(&gate, Some(&own)).await.unwrap();
    files.renew();
    fs::copy(others.folder.path().join("ca.pem"), files.folder.path().join("ca.pem")).unwrap();
    crate::eventually("the new files are read", || {
        (0 < counted("certificates_read")).then_some(())
    })
    .await;
    soon("the end of what the former authority's client has open", closed).await.unwrap();
    let let_in = async {
        while files.call(&gate, Some(&client), None).await.is_none() {
            tokio::task::yield_now().await;
        }
    };
    soon("the new authority's client", Box::pin(let_in)).await;
    assert_eq!(files.call(&gate, Some(&own), None).await, None, "of the former authority");
}

#[tokio::test]
async fn plain_http_to_a_port_of_tls_is_told_so() {
    log::is_kept();
    let files = Files::new();
    let gate = files.gate("\"machines\"", "").await;
    for begins in ["GET /livez", "POST /mcp", "OPTIONS *", "DELETE /mcp", "PRI *", "HEAD /"] {
        let mut stream = TcpStream::connect(gate.address).await.unwrap();
        let head = format!("{begins} HTTP/1.1\r\nHost: {}\r\n\r\n", gate.address);
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{begins}: {answer}");
        assert!(answer.contains("https:"), "{begins}: {answer}");
    }
    // What is neither is answered with no HTTP.
    for neither in ["\0\0", "get / HTTP/1.1\r\n\r\n", "\u{15}\u{3}\u{1}"] {
        let mut stream = TcpStream::connect(gate.address).await.unwrap();
        stream.write_all(neither.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        assert!(!answer.starts_with(b"HTTP"), "{neither:?}: {answer:?}");
    }
    assert!(!log::lines(&["plain HTTP", "127.0.0.1"]).is_empty());
}
