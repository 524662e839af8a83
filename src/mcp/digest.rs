//! Makes the digest that answers are bound to: the same for one request, whatever its spelling.

use sha2::{Digest as _, Sha256};

use super::{canonical::canonical, method::Method, raw::Raw, splice};

/// Half a SHA-256: nobody finds another request with the same.
pub type RequestDigest = [u8; 16];

/// Digest of the method and the params, but for what may differ when a request is sent again:
/// `_meta`, `inputResponses` and `requestState` (2026-07-28, MRTR). Clients may write the same JSON
/// differently, therefore the canonical form counts; where there is none (a member that stands
/// twice), the text itself does.
pub fn request_digest(method: Method, params: &Raw) -> RequestDigest {
    let free = ["_meta", "inputResponses", "requestState"].map(|key| (key, None));
    let bare = splice::edit(params, &free);
    let canonical = canonical(bare.bytes(), None);
    let mut hash = Sha256::new();
    hash.update(method.name());
    hash.update([0]);
    hash.update(canonical.as_deref().unwrap_or(bare.bytes()));
    let whole: [u8; 32] = hash.finalize().into();
    std::array::from_fn(|at| whole.get(at).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(params: &'static str) -> RequestDigest {
        request_digest(Method::ToolsCall, &Raw::trusted(params))
    }

    #[test]
    fn the_same_request_in_another_spelling_is_the_same() {
        let plain = digest(r#"{"name":"a","arguments":{"x":1,"y":"é"}}"#);
        let again = r#"{ "requestState":"s","arguments" : {"y":"\u00e9","x":1.0},
            "inputResponses":{"k":{}},"name":"a","_meta":{"progressToken":7}}"#;
        assert_eq!(plain, digest(again));
        assert_ne!(plain, digest(r#"{"name":"a","arguments":{"x":2,"y":"é"}}"#));
        assert_ne!(plain, digest(r#"{"name":"b","arguments":{"x":1,"y":"é"}}"#));
        let other = Raw::trusted(r#"{"name":"a","arguments":{"x":1,"y":"é"}}"#);
        assert_ne!(plain, request_digest(Method::PromptsGet, &other));
        assert_ne!(digest(r#"{"n":1e400}"#), digest(r#"{"n":1e401}"#));
        assert_ne!(digest(r#"{"n":9007199254740992}"#), digest(r#"{"n":9007199254740993}"#));
    }
}
