//! Requests of servers to clients in mid-call: what the client must have declared, and what an
//! answer looks like.

use serde::Deserialize;

use super::{raw::Raw, splice};

/// A question by what it needs of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuestionKind {
    /// A form (`elicitation/create`).
    Form,
    /// A page to be opened (`elicitation/create` with mode `url`).
    Page,
    /// A model's answer (`sampling/createMessage`).
    Sampling,
    /// Sampling with tools for the model.
    SamplingWithTools,
    /// `roots/list`
    Roots,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Capabilities {
    elicitation: Option<Elicitation>,
    sampling: Option<Sampling>,
    roots: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Elicitation {
    form: Option<serde::de::IgnoredAny>,
    url: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Sampling {
    tools: Option<serde::de::IgnoredAny>,
}

impl QuestionKind {
    /// None for what no client is asked.
    pub fn of(method: &str, params: &Raw) -> Option<Self> {
        match method {
            "elicitation/create" => {
                let mode = splice::member(params, "mode").and_then(|mode| mode.try_read());
                let is_page = mode.is_some_and(|mode: String| mode == "url");
                Some(if is_page { Self::Page } else { Self::Form })
            }
            "sampling/createMessage" => {
                let tools = splice::member(params, "tools");
                Some(tools.map_or(Self::Sampling, |_| Self::SamplingWithTools))
            }
            "roots/list" => Some(Self::Roots),
            _ => None,
        }
    }

    pub fn is_elicitation(self) -> bool {
        matches!(self, Self::Form | Self::Page)
    }

    /// Whether a `ClientCapabilities` object declares it. An empty `elicitation` means forms
    /// (2025-11-25, elicitation).
    pub fn is_declared(self, capabilities: &Raw) -> bool {
        let has = capabilities.try_read::<Capabilities>().unwrap_or_default();
        match self {
            Self::Form => has.elicitation.is_some_and(|it| it.form.is_some() || it.url.is_none()),
            Self::Page => has.elicitation.is_some_and(|it| it.url.is_some()),
            Self::Sampling => has.sampling.is_some(),
            Self::SamplingWithTools => has.sampling.is_some_and(|it| it.tools.is_some()),
            Self::Roots => has.roots.is_some(),
        }
    }

    /// The least `ClientCapabilities` object that declares it.
    pub fn required(self) -> Raw {
        Raw::trusted(match self {
            Self::Form => r#"{"elicitation":{"form":{}}}"#,
            Self::Page => r#"{"elicitation":{"url":{}}}"#,
            Self::Sampling => r#"{"sampling":{}}"#,
            Self::SamplingWithTools => r#"{"sampling":{"tools":{}}}"#,
            Self::Roots => r#"{"roots":{}}"#,
        })
    }

    /// Whether this is the shape of an answer; what is in it is the server's business.
    pub fn fits(self, answer: &Raw) -> bool {
        #[derive(Deserialize)]
        struct Chosen {
            action: String,
            content: Option<Raw>,
        }
        #[derive(Deserialize)]
        struct Said {
            role: String,
            #[serde(rename = "content")]
            _content: serde::de::IgnoredAny,
            #[serde(rename = "model")]
            _model: String,
        }
        #[derive(Deserialize)]
        struct Roots {
            #[serde(rename = "roots")]
            _roots: Vec<serde::de::IgnoredAny>,
        }
        match self {
            Self::Form | Self::Page => answer.try_read::<Chosen>().is_some_and(|chosen| {
                let known = ["accept", "decline", "cancel"].contains(&chosen.action.as_str());
                known && chosen.content.is_none_or(|content| content.is_object())
            }),
            Self::Sampling | Self::SamplingWithTools => answer
                .try_read::<Said>()
                .is_some_and(|said| ["user", "assistant"].contains(&said.role.as_str())),
            Self::Roots => answer.try_read::<Roots>().is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [QuestionKind; 5] = [
        QuestionKind::Form,
        QuestionKind::Page,
        QuestionKind::Sampling,
        QuestionKind::SamplingWithTools,
        QuestionKind::Roots,
    ];

    #[test]
    fn what_is_required_is_what_declares_it() {
        for kind in ALL {
            assert!(kind.is_declared(&kind.required()), "{kind:?}");
            assert!(!kind.is_declared(&Raw::object()), "{kind:?}");
        }
        assert!(QuestionKind::Form.is_declared(&Raw::trusted(r#"{"elicitation":{}}"#)));
        assert!(!QuestionKind::Page.is_declared(&Raw::trusted(r#"{"elicitation":{}}"#)));
        assert!(!QuestionKind::Form.is_declared(&QuestionKind::Page.required()));
        assert!(!QuestionKind::SamplingWithTools.is_declared(&QuestionKind::Sampling.required()));
    }

    #[test]
    fn a_question_is_told_by_its_method_and_params() {
        let of = |method, params: &'static str| QuestionKind::of(method, &Raw::trusted(params));
        assert_eq!(of("elicitation/create", r#"{"mode":"form"}"#), Some(QuestionKind::Form));
        assert_eq!(of("elicitation/create", r#"{"mode":"url"}"#), Some(QuestionKind::Page));
        assert_eq!(
            of("sampling/createMessage", r#"{"tools":[]}"#),
            Some(QuestionKind::SamplingWithTools)
        );
        assert_eq!(of("roots/list", "{}"), Some(QuestionKind::Roots));
        assert_eq!(of("tools/call", "{}"), None);
    }

    #[test]
    fn an_answer_has_its_shape() {
        let accept = r#"{"action":"accept","content":{"a":1e400}}"#;
        let said = r#"{"role":"assistant","content":{"type":"text","text":""},"model":"m"}"#;
        let roots = r#"{"roots":[{"uri":"file:///"}]}"#;
        let table = [
            (QuestionKind::Form, accept),
            (QuestionKind::Sampling, said),
            (QuestionKind::Roots, roots),
        ];
        for (kind, right) in table {
            assert!(kind.fits(&Raw::trusted(right)), "{kind:?}");
            for (other, text) in table {
                assert_eq!(kind.fits(&Raw::trusted(text)), kind == other, "{kind:?} {text}");
            }
            for wrong in [r#"{"action":"maybe"}"#, r#"{"action":"accept","content":1}"#, "{}", "1"]
            {
                assert!(!kind.fits(&Raw::trusted(wrong)), "{kind:?} {wrong}");
            }
        }
    }
}
