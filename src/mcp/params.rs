//! The params of a request, with where their members stand, so that nobody walks them again.

use std::sync::Arc;

use super::{
    index::{MetaMember, Param, ParamsIndex, Span},
    meta::Meta,
    raw::{Malformed, Raw, text_of},
    splice,
};

/// The params of a request: an object, as it was received.
#[derive(Debug, Clone)]
pub struct Params {
    text: Raw,
    /// Shared by all who have the params, and behind a pointer: it is several times their size.
    /// None where it would not be regular.
    index: Option<Arc<ParamsIndex>>,
}

impl Params {
    /// Takes params that were indexed with the message that they came in.
    pub(super) fn indexed(text: Raw, index: &ParamsIndex) -> Self {
        let index = index.is_regular().then(|| Arc::new(*index));
        Self { text, index }
    }

    /// `{}`
    pub fn none() -> Self {
        Self::indexed(Raw::object(), &ParamsIndex::default())
    }

    /// The params as they are written.
    pub fn text(&self) -> &Raw {
        &self.text
    }

    /// The value of a member, sharing the bytes of the params.
    pub fn member(&self, name: Param) -> Option<Raw> {
        match &self.index {
            Some(index) => self.value(index.member(name)),
            None => splice::member(&self.text, name.name()),
        }
    }

    /// The value of a member of `_meta`, sharing the bytes of the params.
    pub fn meta_member(&self, name: MetaMember) -> Option<Raw> {
        match self.index.as_deref().and_then(|index| index.meta_member(name)) {
            Some(span) => self.value(span),
            None => splice::at(&self.text, &["_meta", name.name()]),
        }
    }

    pub fn has(&self, name: Param) -> bool {
        match &self.index {
            Some(index) => index.member(name).is_there(),
            None => splice::member(&self.text, name.name()).is_some(),
        }
    }

    /// The params with another value of a member, which is added where it is not there.
    pub fn with(&self, name: Param, value: &[u8]) -> Self {
        let text = self.text.bytes();
        let put = |index: &ParamsIndex| {
            let place = index.member(name).range();
            let index = index.resized(name, value.len())?;
            let before = text.get(..place.start)?;
            let after = text.get(place.end..)?;
            Some(Self::indexed(Raw::trusted([before, value, after].concat()), &index))
        };
        let edited = || splice::edit(&self.text, &[(name.name(), Some(value))]).into();
        self.index.as_deref().and_then(put).unwrap_or_else(edited)
    }

    /// Whether no two of the members that [`Param`] has could be taken for each other, nor any
    /// member for one of them.
    pub fn is_regular(&self) -> bool {
        self.index.is_some()
    }

    /// Whether `_meta` may have a protocol version: false where it is known to have none.
    pub fn may_say_version(&self) -> bool {
        let version = |index: &ParamsIndex| index.meta_member(MetaMember::ProtocolVersion);
        let version = self.index.as_deref().and_then(version);
        version.is_none_or(Span::is_there)
    }

    /// Reads `_meta`; empty where there is none.
    ///
    /// # Errors
    /// Fails where `_meta` or a member of it has another shape than the specification gives it.
    pub fn meta(&self) -> Result<Meta, Malformed> {
        self.indexed_meta().map_or_else(|| Meta::read(&self.text), Ok)
    }

    /// What the index knows of `_meta`; none where there is anything in it to be refused.
    fn indexed_meta(&self) -> Option<Meta> {
        let index = self.index.as_deref()?;
        let member = |name| {
            let found = index.meta_member(name).map(|span| self.value(span));
            found.map(|value| value.filter(|value| value.bytes()[..] != b"null"[..]))
        };
        let text = |name| {
            let text = |value: Raw| Some(text_of(value.as_str())?.into_owned());
            member(name)?.map_or(Some(None), |value| text(value).map(Some))
        };
        Some(Meta {
            protocol_version: text(MetaMember::ProtocolVersion)?,
            client_capabilities: member(MetaMember::ClientCapabilities)?,
            client_info: member(MetaMember::ClientInfo)?,
            log_level: text(MetaMember::LogLevel)?,
            subscription_id: member(MetaMember::SubscriptionId)?,
            progress_token: member(MetaMember::ProgressToken)?,
            traceparent: member(MetaMember::TraceParent)?,
        })
    }

    fn value(&self, span: Span) -> Option<Raw> {
        span.is_there().then(|| self.text.slice(span.range()))
    }
}

#[cfg(test)]
impl Params {
    /// Params of which nothing is known, so that all who ask walk them.
    pub(super) fn unknown(text: Raw) -> Self {
        Self { text, index: None }
    }

    pub(super) fn index(&self) -> Option<&ParamsIndex> {
        self.index.as_deref()
    }
}

impl From<Raw> for Params {
    /// Takes params that are not known yet: they are walked for their index.
    fn from(text: Raw) -> Self {
        match ParamsIndex::of(text.bytes()) {
            Some(index) => Self::indexed(text, &index),
            None => Self { text, index: None },
        }
    }
}

impl From<Params> for Raw {
    fn from(params: Params) -> Self {
        params.text
    }
}
