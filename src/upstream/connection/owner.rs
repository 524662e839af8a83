//! The owner that a connection is opened for: that decides who hears what its server says on it,
//! and whether several calls are on it at once.

use crate::call::{SessionKey, Token};

/// The owner that a connection is opened for; with the token that its server is shown, where it is
/// one caller's.
#[derive(Debug, Clone, Copy)]
pub enum ConnectionOwner<'a> {
    /// The gateway itself, and every caller that may share its session.
    Everyone,
    /// The session of one legacy client.
    Session(SessionKey, Option<&'a Token>),
    /// A caller whose client has no session, as far as callers can be told apart. Several of its
    /// calls are on the connection at once.
    Caller(Option<&'a Token>),
    /// A single call at a time.
    Call(Option<&'a Token>),
}

/// The clients that hear what a server says on a connection outside of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Every client.
    Everyone,
    /// The client of this session.
    Session(SessionKey),
    /// Every client; a changed list may have changed for the connection's one call only.
    Call,
    /// No client, but for changed lists, which are all clients': the connection is one caller's,
    /// who has no stream outside of calls.
    Nobody,
}

impl<'a> ConnectionOwner<'a> {
    /// The token of the caller that the connection belongs to.
    pub fn token(self) -> Option<&'a Token> {
        match self {
            Self::Everyone => None,
            Self::Session(_, token) | Self::Caller(token) | Self::Call(token) => token,
        }
    }

    /// Whether all that the server says belongs to the one call that is under way.
    pub fn is_call(self) -> bool {
        matches!(self, Self::Call(_))
    }

    /// Whether a question of the server is for a client that is known.
    pub fn is_one_client(self) -> bool {
        matches!(self, Self::Call(_) | Self::Session(..))
    }

    /// Whether calls that have nothing to do with each other are on the connection at once, so that
    /// their progress tokens could be the same.
    pub fn has_many_calls(self) -> bool {
        matches!(self, Self::Everyone | Self::Caller(_))
    }

    /// The clients that hear what the server says outside of calls.
    pub fn audience(self) -> Audience {
        match self {
            Self::Everyone => Audience::Everyone,
            Self::Session(key, _) => Audience::Session(key),
            Self::Caller(_) => Audience::Nobody,
            Self::Call(_) => Audience::Call,
        }
    }
}
