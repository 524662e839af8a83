//! The caller that a request is from, and the number of a client's session.

use std::{fmt, net::IpAddr, sync::Arc};

use super::identity::{Identity, Token};

/// The caller that a request is from, as far as the gate knows: parked calls and leased connections
/// are bound to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Caller {
    /// The address it comes from, without authentication.
    Address(IpAddr),
    /// The process that started this gate, and speaks to it over its standard input and output.
    Parent,
    /// Somebody who proved who they are.
    Known(Arc<Identity>),
}

impl Caller {
    /// The caller as people read it in logs and records, and write it for `explain`: an address,
    /// `AUTHORITY/SUBJECT`, or `parent`.
    pub fn name(&self) -> String {
        match self {
            Self::Address(address) => address.to_string(),
            Self::Parent => "parent".to_owned(),
            Self::Known(known) => format!("{}/{}", known.authority, known.subject),
        }
    }

    /// The token that it came with, where it was one.
    pub fn token(&self) -> Option<&Token> {
        match self {
            Self::Known(known) => known.token.as_ref(),
            Self::Address(_) | Self::Parent => None,
        }
    }
}

/// The caller as keys and seals have it, where nobody's text may be another's;
/// [`Caller::name`] is what people read.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "address {address}"),
            Self::Parent => f.write_str("parent"),
            // Names and issuers have no spaces: nobody's subject makes another's text.
            Self::Known(known) => {
                write!(f, "known {} {} {}", known.authority, known.issuer, known.subject)
            }
        }
    }
}

/// A legacy session of a client, by the random number sealed in its id.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionKey(pub u128);

impl SessionKey {
    /// Half of it: random, too.
    pub fn number(self) -> u64 {
        u64::try_from(self.0 >> 64).unwrap_or_default()
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}…", self.0 >> 96)
    }
}
