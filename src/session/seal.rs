//! Session ids that carry their session, sealed so that only this gate can make or read one.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use hkdf::Hkdf;
use sha2::Sha256;

const NONCE_BYTES: usize = 24;

/// Seals and opens; the key is derived once (RFC 5869), each text costs one AEAD pass
/// (XChaCha20-Poly1305, whose nonces are long enough to be drawn at random).
pub struct Sealer(XChaCha20Poly1305);

impl Sealer {
    /// Bytes a secret needs at least.
    pub const SECRET_BYTES_MIN: usize = 32;

    /// `secret` has at least [`Self::SECRET_BYTES_MIN`] bytes of entropy; `purpose` keeps keys of
    /// different uses apart.
    pub fn new(secret: &[u8], purpose: &str) -> Self {
        let mut key = [0; 32];
        Hkdf::<Sha256>::new(Some(b"tollgate"), secret)
            .expand(purpose.as_bytes(), &mut key)
            .expect("32 bytes are within HKDF's bound");
        Self(XChaCha20Poly1305::new(&key.into()))
    }

    /// Visible ASCII, as `MCP-Session-Id` demands. `bound` must be given again to open it.
    pub fn seal(&self, text: &[u8], bound: &str) -> String {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload { msg: text, aad: bound.as_bytes() };
        let sealed =
            self.0.encrypt(&XNonce::from(nonce), payload).expect("far below the cipher's bound");
        URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat())
    }

    /// None for whatever this key did not seal for the same `bound`.
    pub fn open(&self, sealed: &str, bound: &str) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, rest) = bytes.split_first_chunk::<NONCE_BYTES>()?;
        self.0.decrypt(&XNonce::from(*nonce), Payload { msg: rest, aad: bound.as_bytes() }).ok()
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_what_it_sealed_for_the_same_use() {
        let sealer = Sealer::new(&[7; 32], "session");
        let sealed = sealer.seal(b"text", "/mcp");
        assert!(sealed.bytes().all(|byte| byte.is_ascii_graphic()));
        assert_eq!(sealer.open(&sealed, "/mcp").as_deref(), Some(&b"text"[..]));
        assert_eq!(sealer.open(&sealed, "/other"), None);
        assert_eq!(Sealer::new(&[7; 32], "state").open(&sealed, "/mcp"), None);
        assert_eq!(Sealer::new(&[8; 32], "session").open(&sealed, "/mcp"), None);
        for at in 0..sealed.len() {
            let mut forged = sealed.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(sealer.open(&String::from_utf8(forged).unwrap(), "/mcp"), None, "byte {at}");
        }
        for forged in ["", "x", "a.b", &"A".repeat(10_000)] {
            assert_eq!(sealer.open(forged, "/mcp"), None);
        }
    }
}
