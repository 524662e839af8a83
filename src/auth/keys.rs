//! The gate's own API keys: 256 random bits each, of which only a hash is kept.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::{
    call::{Identity, clock},
    config::ApiKey,
    mcp::raw::Raw,
};

use super::{AuthError, AuthRefusal};

/// Prefix of every key, so that people and scanners of secrets know one when they see it.
const PREFIX: &str = "tg_";
/// Bytes of a key's id, which is no secret.
const ID_BYTES: usize = 8;

/// The keys of one section.
#[derive(Debug)]
pub struct ApiKeys(BTreeMap<String, Known>);

#[derive(Debug)]
struct Known {
    hash: [u8; 32],
    expires: Option<u64>,
    identity: Arc<Identity>,
}

/// A key that was just made. It is shown once, and kept nowhere.
pub struct NewKey {
    pub id: String,
    pub key: String,
    /// The hash of the key, as `hash` returns it.
    pub hash: String,
}

impl NewKey {
    pub fn make() -> Self {
        let id = hex(&rand::random::<[u8; ID_BYTES]>());
        let secret = URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let key = format!("{PREFIX}{id}_{secret}");
        let hash = format!("sha256:{}", hex(&hash(&key)));
        Self { id, key, hash }
    }
}

/// Whether a text is meant to be such a key.
pub fn is_key(text: &str) -> bool {
    text.starts_with(PREFIX)
}

impl ApiKeys {
    /// Two keys of one caller are one identity's: one can take the other's place.
    pub fn new(name: &str, keys: &[ApiKey]) -> Self {
        let known = |key: &ApiKey| Known {
            hash: key.hash,
            expires: key.expires,
            identity: Arc::new(Identity {
                authority: name.to_owned(),
                subject: key.caller.clone(),
                groups: key.groups.iter().cloned().collect(),
                scopes: key.scopes.iter().cloned().collect(),
                claims: Raw::encode(&json!({ "key": key.id, "label": key.label })),
                expires: key.expires,
                key: Some(key.hash),
                ..Identity::default()
            }),
        };
        Self(keys.iter().map(|key| (key.id.clone(), known(key))).collect())
    }

    /// Names the holder of an API key.
    ///
    /// # Errors
    /// [`AuthRefusal::Foreign`] where the key is of another section; else that it is wrong or has
    /// expired.
    pub fn identify(&self, key: &str) -> Result<Arc<Identity>, AuthRefusal> {
        // Keys of another section are told from wrong ones by their ids, which are no secrets.
        let id = id_of(key).ok_or(AuthRefusal::Foreign)?;
        let known = self.0.get(id).ok_or(AuthRefusal::Foreign)?;
        if !bool::from(known.hash.ct_eq(&hash(key))) {
            return Err(AuthRefusal::Error(AuthError::Invalid("the key is wrong")));
        }
        // A caller learns what became of the key only when it has it.
        if known.expires.is_some_and(|expires| expires <= clock::unix_seconds()) {
            return Err(AuthRefusal::Error(AuthError::Expired("the key has expired")));
        }
        Ok(Arc::clone(&known.identity))
    }

    /// Whether there is a key of this id.
    pub fn has(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    /// Whether the key that somebody came with is still theirs.
    pub fn still_valid(&self, identity: &Identity) -> bool {
        let same = |known: &Known| {
            Some(known.hash) == identity.key && known.identity.subject == identity.subject
        };
        self.0.values().any(same)
    }
}

/// The id within a key; none where it is no such key.
pub fn id_of(key: &str) -> Option<&str> {
    key.strip_prefix(PREFIX)?.split('_').next()
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl std::fmt::Debug for NewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewKey").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn known(new: &NewKey, expires: Option<u64>) -> ApiKey {
        let hash = hash(&new.key);
        let caller = "ci".to_owned();
        let (groups, scopes) = (vec!["build".to_owned()], Vec::new());
        ApiKey { id: new.id.clone(), hash, caller, label: None, groups, scopes, expires }
    }

    fn refused<T>(why: &'static str) -> Result<T, AuthRefusal> {
        Err(AuthRefusal::Error(AuthError::Invalid(why)))
    }

    #[test]
    fn a_key_is_good_for_its_caller_until_it_expires() {
        let (old, new, gone) = (NewKey::make(), NewKey::make(), NewKey::make());
        let keys = [known(&old, Some(u64::MAX)), known(&new, None), known(&gone, Some(1))];
        let keys = ApiKeys::new("agents", &keys);
        let both = [&old, &new].map(|key| keys.identify(&key.key).unwrap());
        assert_eq!(both[0], both[1], "two live keys of one caller");
        assert_eq!((&*both[0].authority, &*both[0].subject), ("agents", "ci"));
        assert!(both[0].groups.contains("build"));
        let expired = AuthError::Expired("the key has expired");
        assert_eq!(keys.identify(&gone.key), Err(AuthRefusal::Error(expired)));
    }

    #[test]
    fn nothing_else_is_a_key() {
        let (key, other) = (NewKey::make(), NewKey::make());
        let keys = ApiKeys::new("agents", &[known(&key, None)]);
        let swapped = key.key.replace(&key.id, &other.id);
        for foreign in [&*other.key, &swapped, "", "tg_", "tg__", "eyJ.eyJ.sig"] {
            assert_eq!(keys.identify(foreign), Err(AuthRefusal::Foreign), "{foreign}");
        }
        let cut = key.key.split_at(key.key.len() - 1).0;
        let twice = format!("{0}{0}", key.key);
        let bare = format!("tg_{}_", key.id);
        for wrong in [cut, &twice, &bare, &format!("{} ", key.key)] {
            assert_eq!(keys.identify(wrong), refused("the key is wrong"), "{wrong}");
        }
    }

    #[test]
    fn keys_are_long_and_never_alike() {
        let made: std::collections::HashSet<_> = (0..1_000).map(|_| NewKey::make().key).collect();
        assert_eq!(made.len(), 1_000);
        assert!(made.iter().all(|key| is_key(key) && key.len() == 3 + 16 + 1 + 43));
    }
}
