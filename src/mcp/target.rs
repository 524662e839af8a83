//! Finds the one member of a request's params that names a tool, prompt, resource or task.

use serde_json::value::RawValue;

use super::{
    method::{Method, Names},
    raw::{Malformed, Raw, string_of},
    unique_members::{UniqueMembers, read_unique},
};

/// Members that a server may take for more than data. A second member of one of these names is
/// refused, in whatever case it is written.
const HEAD: [&str; 10] = [
    "name",
    "uri",
    "taskId",
    "ref",
    "_meta",
    "arguments",
    "requestState",
    "inputResponses",
    "argument",
    "context",
];

/// Members of `argument` of a completion for which the same holds.
const ARGUMENT: [&str; 2] = ["name", "value"];

/// Members of `ref` for which the same holds.
const REFERENCE: [&str; 3] = ["type", "name", "uri"];

/// The tool, prompt, resource or task that a request names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetRef {
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

impl TargetRef {
    /// Reads the params of a request.
    ///
    /// # Errors
    /// Where the member that must name something is missing, is no string, or is there twice.
    pub fn of(method: Method, params: &Raw) -> Result<Self, Malformed> {
        if method.names() == Names::Nothing {
            return Ok(Self::Nothing);
        }
        let [name, uri, task_id, reference, .., argument, _] =
            read_unique(params.bytes(), UniqueMembers(&HEAD))?;
        let text = |member: Option<&RawValue>, missing| {
            member
                .and_then(string_of)
                .map(std::borrow::Cow::into_owned)
                .ok_or(Malformed::Shape(missing))
        };
        Ok(match method.names() {
            Names::Nothing => Self::Nothing,
            Names::Name => Self::Name(text(name, "`params.name` must be a string")?),
            Names::Uri => Self::Uri(text(uri, "`params.uri` must be a string")?),
            Names::TaskId => Self::Task(text(task_id, "`params.taskId` must be a string")?),
            Names::Reference => {
                if let Some(argument) = argument.filter(|it| it.get().starts_with('{')) {
                    let _: [_; ARGUMENT.len()] =
                        read_unique(argument.get().as_bytes(), UniqueMembers(&ARGUMENT))?;
                }
                let reference = reference.ok_or(Malformed::Shape("`params.ref` is missing"))?;
                let [kind, name, uri] =
                    read_unique(reference.get().as_bytes(), UniqueMembers(&REFERENCE))?;
                match text(kind, "`params.ref.type` must be a string")?.as_str() {
                    "ref/prompt" => {
                        Self::PromptReference(text(name, "`params.ref.name` must be a string")?)
                    }
                    "ref/resource" => {
                        Self::TemplateReference(text(uri, "`params.ref.uri` must be a string")?)
                    }
                    _ => {
                        return Err(Malformed::Shape(
                            "`params.ref.type` is neither `ref/prompt` nor `ref/resource`",
                        ));
                    }
                }
            }
        })
    }

    /// The value of the `Mcp-Name` header; nothing for a request that needs none.
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
        let of = |method, text: &'static str| TargetRef::of(method, &Raw::trusted(text));
        let name = of(Method::ToolsCall, r#"{"name":"a\u0062","arguments":{"name":7}}"#).unwrap();
        assert_eq!(name.header(), Some("ab"));
        let reference =
            of(Method::Complete, r#"{"ref":{"type":"ref/prompt","name":"p"},"argument":{}}"#);
        assert_eq!(reference.unwrap(), TargetRef::PromptReference("p".to_owned()));
        assert_eq!(of(Method::ToolsList, "{}").unwrap(), TargetRef::Nothing);
        for wrong in [r#"{"name":"a","name":"b"}"#, r#"{"name":7}"#, "{}"] {
            assert!(of(Method::ToolsCall, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_second_name_in_another_case_is_refused() {
        for (method, wrong) in [
            (Method::ToolsCall, r#"{"name":"log","Name":"secret"}"#),
            (Method::ToolsCall, r#"{"name":"log","arguments":{},"Arguments":{"limit":5}}"#),
            (Method::ToolsCall, r#"{"name":"log","reque\u017FtState":"x"}"#),
            (Method::ResourcesRead, r#"{"uri":"mem://one","URI":"mem://secret"}"#),
            (Method::TasksGet, r#"{"taskId":"a","tas\u212aId":"b"}"#),
            (Method::Complete, r#"{"ref":{"type":"ref/prompt","name":"a","nAme":"b"}}"#),
            (Method::Complete, r#"{"ref":{"type":"ref/prompt","name":"a"},"Ref":{}}"#),
            (
                Method::Complete,
                r#"{"ref":{"type":"ref/prompt","name":"a"},"argument":{},"argument":{}}"#,
            ),
            (
                Method::Complete,
                r#"{"ref":{"type":"ref/prompt","name":"a"},"argument":{},"\u0041rgument":{}}"#,
            ),
            (
                Method::Complete,
                r#"{"ref":{"type":"ref/prompt","name":"a"},"argument":{"value":"","Value":""}}"#,
            ),
            (
                Method::Complete,
                r#"{"ref":{"type":"ref/prompt","name":"a"},"context":{},"context":{}}"#,
            ),
        ] {
            assert!(TargetRef::of(method, &Raw::trusted(wrong)).is_err(), "{wrong}");
        }
    }
}
