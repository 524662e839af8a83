//! Finds the one member of a request's params that names a tool, prompt, resource or task.

use serde_json::value::RawValue;

use super::{
    index::{PARAMS, Param},
    method::{Method, Names},
    params::Params,
    raw::{Malformed, Raw, string_of, text_of},
    unique_members::{UniqueMembers, read_unique},
};

/// Members of `argument` of a completion of which a second one is refused, in whatever case it is
/// written.
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
    pub fn of(method: Method, params: &Params) -> Result<Self, Malformed> {
        if method.names() == Names::Nothing {
            return Ok(Self::Nothing);
        }
        if !params.is_regular() {
            let _: [_; PARAMS.len()] = read_unique(params.text().bytes(), UniqueMembers(&PARAMS))?;
        }
        let text = |member, missing| {
            let text = |written: &Raw| Some(text_of(written.as_str())?.into_owned());
            params.member(member).as_ref().and_then(text).ok_or(Malformed::Shape(missing))
        };
        match method.names() {
            Names::Nothing => Ok(Self::Nothing),
            Names::Name => text(Param::Name, "`params.name` must be a string").map(Self::Name),
            Names::Uri => text(Param::Uri, "`params.uri` must be a string").map(Self::Uri),
            Names::TaskId => {
                text(Param::TaskId, "`params.taskId` must be a string").map(Self::Task)
            }
            Names::Reference => Self::of_completion(params),
        }
    }

    fn of_completion(params: &Params) -> Result<Self, Malformed> {
        if let Some(argument) = params.member(Param::Argument).filter(Raw::is_object) {
            let _: [_; ARGUMENT.len()] = read_unique(argument.bytes(), UniqueMembers(&ARGUMENT))?;
        }
        let reference = params.member(Param::Reference);
        let reference = reference.ok_or(Malformed::Shape("`params.ref` is missing"))?;
        let [kind, name, uri] = read_unique(reference.bytes(), UniqueMembers(&REFERENCE))?;
        let text = |member: Option<&RawValue>, missing| {
            let text = member.and_then(string_of).map(std::borrow::Cow::into_owned);
            text.ok_or(Malformed::Shape(missing))
        };
        match text(kind, "`params.ref.type` must be a string")?.as_str() {
            "ref/prompt" => {
                text(name, "`params.ref.name` must be a string").map(Self::PromptReference)
            }
            "ref/resource" => {
                text(uri, "`params.ref.uri` must be a string").map(Self::TemplateReference)
            }
            _ => Err(Malformed::Shape(
                "`params.ref.type` is neither `ref/prompt` nor `ref/resource`",
            )),
        }
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
        let of = |method, text: &'static str| TargetRef::of(method, &Raw::trusted(text).into());
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
            (Method::ToolsCall, r#"{"name":"log","task":{},"Task":{"ttl":1}}"#),
            (Method::ToolsCall, r#"{"name":"log","task":{},"task":{"ttl":1}}"#),
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
            assert!(TargetRef::of(method, &Raw::trusted(wrong).into()).is_err(), "{wrong}");
        }
    }
}
