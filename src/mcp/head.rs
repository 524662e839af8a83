//! What a request is about: the one member of its params that names a tool, prompt, resource or
//! task.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    method::{Method, Names},
    raw::{Malformed, Raw, string_of},
};

/// A second member of one of these names is refused (serde's derive does it).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    uri: Option<&'a RawValue>,
    #[serde(borrow)]
    task_id: Option<&'a RawValue>,
    #[serde(borrow, rename = "ref")]
    reference: Option<Reference<'a>>,
    #[serde(borrow, rename = "_meta")]
    _meta: Option<&'a RawValue>,
    #[serde(borrow, rename = "arguments")]
    _arguments: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Reference<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    uri: Option<&'a RawValue>,
}

/// What a request names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    Nothing,
    /// A tool or a prompt.
    Name(String),
    Uri(String),
    Task(String),
    /// `completion/complete` for a prompt.
    PromptReference(String),
    /// `completion/complete` for a resource template.
    TemplateReference(String),
}

impl Named {
    /// Reads the params of a request.
    ///
    /// # Errors
    /// Where the member that must name something is missing, is no string, or is there twice.
    pub fn of(method: Method, params: &Raw) -> Result<Self, Malformed> {
        if method.names() == Names::Nothing {
            return Ok(Self::Nothing);
        }
        let head: Head<'_> = params.read()?;
        let text = |member: Option<&RawValue>, missing| {
            member
                .and_then(string_of)
                .map(std::borrow::Cow::into_owned)
                .ok_or(Malformed::Shape(missing))
        };
        Ok(match method.names() {
            Names::Nothing => Self::Nothing,
            Names::Name => Self::Name(text(head.name, "`params.name` must be a string")?),
            Names::Uri => Self::Uri(text(head.uri, "`params.uri` must be a string")?),
            Names::TaskId => Self::Task(text(head.task_id, "`params.taskId` must be a string")?),
            Names::Reference => {
                let reference =
                    head.reference.ok_or(Malformed::Shape("`params.ref` is missing"))?;
                match text(reference.kind, "`params.ref.type` must be a string")?.as_str() {
                    "ref/prompt" => Self::PromptReference(text(
                        reference.name,
                        "`params.ref.name` must be a string",
                    )?),
                    "ref/resource" => Self::TemplateReference(text(
                        reference.uri,
                        "`params.ref.uri` must be a string",
                    )?),
                    _ => {
                        return Err(Malformed::Shape(
                            "`params.ref.type` is neither `ref/prompt` nor `ref/resource`",
                        ));
                    }
                }
            }
        })
    }

    /// What the `Mcp-Name` header must say; nothing for a request that needs none.
    pub fn header(&self) -> Option<&str> {
        match self {
            Self::Name(text) | Self::Uri(text) | Self::Task(text) => Some(text),
            Self::Nothing | Self::PromptReference(_) | Self::TemplateReference(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_its_target_once() {
        let of = |method, text: &'static str| Named::of(method, &Raw::trusted(text));
        let name = of(Method::ToolsCall, r#"{"name":"a\u0062","arguments":{"name":7}}"#).unwrap();
        assert_eq!(name.header(), Some("ab"));
        let reference =
            of(Method::Complete, r#"{"ref":{"type":"ref/prompt","name":"p"},"argument":{}}"#);
        assert_eq!(reference.unwrap(), Named::PromptReference("p".to_owned()));
        assert_eq!(of(Method::ToolsList, "{}").unwrap(), Named::Nothing);
        for wrong in [r#"{"name":"a","name":"b"}"#, r#"{"name":7}"#, "{}"] {
            assert!(of(Method::ToolsCall, wrong).is_err(), "{wrong}");
        }
    }
}
