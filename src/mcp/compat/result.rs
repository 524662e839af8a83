//! Answers, errors and notifications for older clients, and requests for older servers.

use crate::mcp::{
    error::{INVALID_PARAMS, URL_ELICITATION_REQUIRED},
    message::Body,
    method::Method,
    raw::Raw,
    splice,
    version::{Era, Version},
    word::Word,
};

use super::{
    content,
    entry::page,
    members::{Thing, trim},
    translation,
};

static TASK: Word = Word::new("task");

/// Notifications that only 2025-11-25 has.
const LATEST_NOTICES: [&str; 2] =
    ["notifications/elicitation/complete", "notifications/tasks/status"];

/// An answer of a server of era `from`, as a client of this version knows it.
pub fn body(client: Version, from: Era, method: Method, body: Body) -> Body {
    match body {
        Body::Result(given) => {
            let text = result(client, from, method, &given);
            Body::Result(given.with_text(text))
        }
        Body::Error(given) => Body::Error(error(client, &given)),
    }
}

/// A result of a server of era `from`, as a client of this version knows it. For a modern client,
/// and for one of 2025-11-25 before a legacy server, nothing is looked at.
pub(super) fn result(client: Version, from: Era, method: Method, result: &Raw) -> Raw {
    let newest = client == Version::LEGACY_LATEST && from == Era::Legacy;
    if client.era() == Era::Modern || newest || !result.is_object() {
        return result.clone();
    }
    let result = match from {
        Era::Modern => without_modern(client, method, result),
        Era::Legacy => result.clone(),
    };
    if is_list(method) {
        return page(client, method, &result);
    }
    if !translation::needs_translation(client, from, method, result.bytes()) {
        return result;
    }
    if method == Method::ToolsCall {
        return tool_result(client, &result);
    }
    let (list, part): (_, fn(Version, &Raw) -> Raw) = if method == Method::PromptsGet {
        ("messages", prompt_message)
    } else {
        ("contents", contents)
    };
    splice::change(&result, list, |all| splice::map_values(all, |one| part(client, one)))
}

/// An error as a client of this version knows it: before 2025-11-25 none is told by a code to open
/// a page. What to open is still in `data`, and in the message if the server says so.
pub(super) fn error(client: Version, error: &Raw) -> Raw {
    let old = client < Version::V2025_11_25 && error.is_object();
    let code = if old { splice::member(error, "code") } else { None };
    match code.and_then(|code| code.try_read::<i64>()) {
        Some(URL_ELICITATION_REQUIRED) => {
            splice::edit(error, &[("code", Some(INVALID_PARAMS.to_string().as_bytes()))])
        }
        _ => error.clone(),
    }
}

/// A notification, whole, as a client of this version knows it; none where its version has no such
/// notification. `method` is none where the gate knows none of that name.
pub fn notice(client: Version, method: Option<Method>, whole: &Raw) -> Option<Raw> {
    match method {
        Some(Method::Progress) if client < Version::V2025_03_26 => {
            Some(splice::change(whole, "params", |all| trim(client, Thing::ProgressParams, all)))
        }
        None if client != Version::V2025_11_25 => {
            let name = splice::member(whole, "method").and_then(|name| name.try_read::<String>());
            let unknown = name.is_some_and(|name| LATEST_NOTICES.contains(&name.as_str()));
            (!unknown).then(|| whole.clone())
        }
        _ => Some(whole.clone()),
    }
}

/// Params of a client's request, as a server of this version knows them.
#[allow(clippy::wildcard_enum_match_arm, reason = "no other request has what came later")]
pub fn params(server: Version, method: Method, params: &Raw) -> Raw {
    match method {
        // The one thing that could be there is rare, and need not be looked for in every call.
        Method::ToolsCall if splice::rare_member(params, &TASK).is_none() => params.clone(),
        Method::ToolsCall => trim(server, Thing::ToolParams, params),
        Method::Complete => {
            let params = trim(server, Thing::CompletionParams, params);
            splice::change(&params, "ref", |about| {
                // The URI of a template is the other kind of reference, and has no title.
                trim(server, Thing::PromptReference, about)
            })
        }
        _ => params.clone(),
    }
}

fn is_list(method: Method) -> bool {
    matches!(
        method,
        Method::ToolsList | Method::PromptsList | Method::ResourcesList | Method::TemplatesList
    )
}

/// Takes out the members that say how to read and keep a result, which no legacy version has.
fn without_modern(client: Version, method: Method, result: &Raw) -> Raw {
    let result = trim(client, Thing::Result, result);
    if is_list(method) || method == Method::ResourcesRead {
        return trim(client, Thing::CacheableResult, &result);
    }
    result
}

/// A tool's result. Servers say what is structured as text too; one that does not gets it said.
fn tool_result(client: Version, result: &Raw) -> Raw {
    let result = splice::change(result, "content", |all| content::blocks(client, all));
    let known = trim(client, Thing::ToolResult, &result);
    let taken = splice::member(&result, "structuredContent").filter(|_| known != result);
    let Some(taken) = taken else { return content::object_only(client, &known) };
    let content = splice::member(&known, "content");
    if content.is_some_and(|content| !splice::values(&content).is_empty()) {
        return known;
    }
    let said = splice::array(&[content::text(taken.as_str())]);
    splice::edit(&known, &[("content", Some(said.bytes()))])
}

fn prompt_message(client: Version, message: &Raw) -> Raw {
    splice::change(message, "content", |one| content::block(client, one))
}

fn contents(client: Version, contents: &Raw) -> Raw {
    trim(client, Thing::Contents, contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEGACY: Era = Era::Legacy;
    const MODERN: Era = Era::Modern;

    #[track_caller]
    fn becomes(client: Version, from: Era, method: Method, text: &'static str, want: &str) {
        let given = Raw::trusted(text);
        let out = result(client, from, method, &given);
        assert_eq!(out.as_str(), want, "{client}");
        if text == want {
            assert_eq!(out.bytes().as_ptr(), given.bytes().as_ptr(), "{client}: shared");
        }
    }

    #[test]
    fn what_is_structured_is_never_lost() {
        use Version as V;
        let call = Method::ToolsCall;
        let alone = r#"{"structuredContent":{"n":1e400},"x":1}"#;
        becomes(
            V::V2025_03_26,
            LEGACY,
            call,
            alone,
            r#"{"x":1,"content":[{"type":"text","text":"{\"n\":1e400}"}]}"#,
        );
        becomes(V::V2025_06_18, LEGACY, call, alone, alone);
        let said =
            r#"{"content":[{"type":"text","text":"[1]"}],"structuredContent":[1],"isError":true}"#;
        becomes(
            V::V2024_11_05,
            MODERN,
            call,
            said,
            r#"{"content":[{"type":"text","text":"[1]"}],"isError":true}"#,
        );
        for client in [V::V2025_06_18, V::V2025_11_25] {
            becomes(
                client,
                MODERN,
                call,
                said,
                concat!(
                    r#"{"content":[{"type":"text","text":"[1]"}],"#,
                    r#""structuredContent":{"result":[1]},"#,
                    r#""isError":true}"#
                ),
            );
        }
        becomes(V::V2025_11_25, LEGACY, call, said, said);
        becomes(V::V2026_07_28, MODERN, call, said, said);
    }

    #[test]
    fn what_a_modern_server_says_beside_goes() {
        use Version as V;
        let text = concat!(
            r#"{"resultType":"complete","ttlMs":1,"cacheScope":"public","contents":[],"#,
            r#""content":[]}"#
        );
        let bare = r#"{"contents":[],"content":[]}"#;
        becomes(V::V2025_11_25, MODERN, Method::ResourcesRead, text, bare);
        becomes(
            V::V2024_11_05,
            MODERN,
            Method::ToolsCall,
            text,
            r#"{"ttlMs":1,"cacheScope":"public","contents":[],"content":[]}"#,
        );
        becomes(V::V2024_11_05, LEGACY, Method::ResourcesRead, text, text);
    }

    #[test]
    fn each_method_has_its_own_places() {
        use Version as V;
        let block = r#"{"type":"resource_link","name":"n","uri":"u:1"}"#;
        let text = r#"{"type":"text","text":"n: u:1"}"#;
        let prompt = |block| format!(r#"{{"messages":[{{"role":"user","content":{block}}}]}}"#);
        let given = Raw::trusted(prompt(block));
        let out = result(V::V2025_03_26, LEGACY, Method::PromptsGet, &given);
        assert_eq!(out.as_str(), prompt(text));
        becomes(
            V::V2025_03_26,
            LEGACY,
            Method::ResourcesRead,
            r#"{"contents":[{"uri":"u:1","text":"","_meta":{}}],"_meta":{}}"#,
            r#"{"contents":[{"uri":"u:1","text":""}],"_meta":{}}"#,
        );
        becomes(
            V::V2025_03_26,
            MODERN,
            Method::ToolsList,
            r#"{"ttlMs":0,"tools":[{"title":"A","name":"a","inputSchema":{}}]}"#,
            r#"{"tools":[{"name":"a","inputSchema":{}}]}"#,
        );
        for odd in [r#""audio""#, r#"{"content":"audio"}"#, r#"{"content":["audio"],"a":"audio"}"#]
        {
            becomes(V::V2024_11_05, LEGACY, Method::ToolsCall, odd, odd);
        }
    }

    #[test]
    fn a_long_result_without_a_mark_is_shared() {
        let text = format!(r#"{{"content":[{{"type":"text","text":"{}"}}]}}"#, "a".repeat(1 << 16));
        let given = Raw::trusted(text);
        for client in Version::ALL {
            let out = result(client, LEGACY, Method::ToolsCall, &given);
            assert_eq!(out.bytes().as_ptr(), given.bytes().as_ptr());
        }
    }

    #[test]
    fn errors_and_notices() {
        use Version as V;
        let page = Raw::trusted(r#"{"code":-32042,"message":"m","data":{"elicitations":[]}}"#);
        let want = r#"{"code":-32602,"message":"m","data":{"elicitations":[]}}"#;
        assert_eq!(error(V::V2025_06_18, &page).as_str(), want);
        assert_eq!(error(V::V2025_11_25, &page), page);

        let progress = concat!(
            r#"{"jsonrpc":"2.0","method":"notifications/progress","#,
            r#""params":{"progressToken":1,"progress":0.50,"message":"m"}}"#
        );
        let told = |client, text| {
            let (method, whole) =
                (Method::notification("notifications/progress"), Raw::trusted(text));
            notice(client, method, &whole).map(|out| out.as_str().to_owned())
        };
        let want = progress.replace(r#","message":"m""#, "");
        assert_eq!(told(V::V2024_11_05, progress), Some(want));
        assert_eq!(told(V::V2025_03_26, progress).as_deref(), Some(progress));

        let other = |client, name: &str| {
            let whole =
                Raw::trusted(format!(r#"{{"jsonrpc":"2.0","method":"{name}","params":{{}}}}"#));
            notice(client, Method::notification(name), &whole).is_some()
        };
        for name in LATEST_NOTICES {
            let heard = V::ALL.map(|client| other(client, name));
            assert_eq!(heard, [false, false, false, true, false], "{name}");
        }
        assert!(other(V::V2024_11_05, "notifications/vendor"));
        assert!(other(V::V2024_11_05, "notifications/tools/list_changed"));
    }

    #[test]
    fn older_servers_get_what_they_know() {
        use Version as V;
        let call = Raw::trusted(r#"{"name":"a","task":{"ttl":1},"arguments":{"task":1}}"#);
        let plain = r#"{"name":"a","arguments":{"task":1}}"#;
        let asked = V::ALL.map(|server| params(server, Method::ToolsCall, &call));
        let asked = asked.each_ref().map(Raw::as_str);
        assert_eq!(asked, [plain, plain, plain, call.as_str(), plain]);

        let complete = Raw::trusted(
            r#"{"ref":{"type":"ref/prompt","name":"a","title":"A"},"argument":{},"context":{}}"#,
        );
        let want = r#"{"ref":{"type":"ref/prompt","name":"a"},"argument":{}}"#;
        assert_eq!(params(V::V2025_03_26, Method::Complete, &complete).as_str(), want);
        assert_eq!(params(V::V2025_06_18, Method::Complete, &complete), complete);
    }
}
