//! A client as it declares itself, and what servers are told of it.

use crate::mcp::{
    meta::TASKS,
    raw::Raw,
    splice,
    version::{Era, Version},
};

/// A client as it declares itself: by `initialize`, or in the `_meta` of each request.
#[derive(Debug, Clone)]
pub struct Client {
    pub version: Version,
    /// A `ClientCapabilities` object.
    pub capabilities: Raw,
    /// An `Implementation` object; self-reported, never a ground for a decision.
    pub info: Raw,
}

impl Client {
    /// The gateway itself, as upstreams see it where no client stands behind a request.
    pub fn gateway(version: Version) -> Self {
        Self { version, capabilities: Raw::object(), info: gateway_info() }
    }

    /// The gateway as a client that can be asked everything: to learn what a server lists for such
    /// a one.
    pub fn fully_capable() -> Self {
        let capabilities =
            r#"{"sampling":{},"elicitation":{"form":{},"url":{}},"roots":{"listChanged":true}}"#;
        Self { capabilities: Raw::trusted(capabilities), ..Self::gateway(Version::LEGACY_LATEST) }
    }

    pub fn era(&self) -> Era {
        self.version.era()
    }

    /// Its capabilities as a modern server is shown them: what that can ask, and nothing else.
    pub fn capabilities_for_modern(&self) -> Raw {
        if self.era() == Era::Modern {
            return self.capabilities.clone();
        }
        let mut shown = Raw::object();
        for key in ["sampling", "elicitation"] {
            let value = splice::member(&self.capabilities, key).filter(Raw::is_object);
            shown = splice::edit(&shown, &[(key, value.as_ref().map(|value| &value.bytes()[..]))]);
        }
        // `listChanged` went with the sessions.
        let roots = splice::member(&self.capabilities, "roots").map(|_| &b"{}"[..]);
        splice::edit(&shown, &[("roots", roots)])
    }

    /// Its capabilities as a legacy server is shown them: extensions are negotiated otherwise
    /// there.
    pub fn capabilities_for_legacy(&self) -> Raw {
        match self.era() {
            Era::Legacy => self.capabilities.clone(),
            Era::Modern => splice::edit(&self.capabilities, &[("extensions", None)]),
        }
    }

    /// Whether it takes a task in place of a result (2026-07-28, the extension of tasks).
    pub fn takes_tasks(&self) -> bool {
        self.era() == Era::Modern
            && splice::at(&self.capabilities, &["extensions", TASKS]).is_some()
    }

    /// Its own `Implementation` object, or the gate's: a modern client need not name itself, and a
    /// legacy server wants to know.
    pub fn info_or_default(&self) -> Raw {
        let is_named = splice::member(&self.info, "name").is_some();
        if is_named { self.info.clone() } else { gateway_info() }
    }

    /// Whether it can be asked something in mid-call: sampling, elicitation or roots.
    pub fn can_be_asked(&self) -> bool {
        #[derive(serde::Deserialize)]
        struct Capabilities {
            sampling: Option<serde::de::IgnoredAny>,
            elicitation: Option<serde::de::IgnoredAny>,
            roots: Option<serde::de::IgnoredAny>,
        }
        self.capabilities.try_read::<Capabilities>().is_some_and(|has| {
            has.sampling.is_some() || has.elicitation.is_some() || has.roots.is_some()
        })
    }
}

/// Tollgate's own `Implementation` object.
pub fn gateway_info() -> Raw {
    Raw::trusted(concat!(
        r#"{"name":"tollgate","title":"Tollgate","version":""#,
        env!("CARGO_PKG_VERSION"),
        r#""}"#
    ))
}
