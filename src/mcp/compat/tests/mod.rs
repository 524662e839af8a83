//! Everything older, held to the published schemas as the strictest client would read them.

mod messages;
mod schemas;
mod table;

use serde_json::{Value, json};

use crate::mcp::{
    message::{self, Body},
    method::Method,
    raw::Raw,
    splice,
    version::{Era, Version},
};

use self::messages::Dice;

use super::{
    answer, client_capabilities, entry::entry, info, notice, params, question, result::result,
    server_capabilities,
};

/// A number that no typed decoding would leave as it is.
const BIG: &str = "123456789012345678901234567890.50";

const LEGACY: [Version; 4] =
    [Version::V2024_11_05, Version::V2025_03_26, Version::V2025_06_18, Version::V2025_11_25];

/// Holds one way down to the schemas: what is given is right in its own version; what becomes of it
/// is right in every older one, does not change again, and has all that no version knows of.
#[track_caller]
fn holds(
    made_in: Version,
    given: &Value,
    schema: &str,
    down: impl Fn(Version, &Raw) -> Option<Raw>,
) -> Result<(), proptest::test_runner::TestCaseError> {
    schemas::check(made_in, schema, given).map_err(|why| fail(made_in, given, &why))?;
    let text = given.to_string().replace("\"BIG\"", BIG);
    let given = Raw::trusted(text);
    for version in LEGACY.into_iter().filter(|version| *version <= made_in) {
        let Some(out) = down(version, &given) else { continue };
        let value: Value = out.try_read().ok_or_else(|| fail(version, &json!(out), "no JSON"))?;
        schemas::check(version, schema, &value).map_err(|why| fail(version, &value, &why))?;
        let again = down(version, &out).ok_or_else(|| fail(version, &value, "no second time"))?;
        proptest::prop_assert_eq!(&again, &out, "{} again", version);
        let count = |raw: &Raw| raw.as_str().matches(BIG).count();
        proptest::prop_assert_eq!(count(&out), count(&given), "{}: {:?}", version, out);
    }
    Ok(())
}

fn fail(version: Version, value: &Value, why: &str) -> proptest::test_runner::TestCaseError {
    proptest::test_runner::TestCaseError::fail(format!("{version}: {why}\n{value:#}"))
}

/// The messages of an era, and the newest version they are right in.
fn made_in(modern: bool) -> (Version, Era) {
    if modern { (Version::V2026_07_28, Era::Modern) } else { (Version::V2025_11_25, Era::Legacy) }
}

proptest::proptest! {
    #[test]
    fn results(seed: u64, modern: bool) {
        let (version, from) = made_in(modern);
        for (method, schema) in [
            (Method::ToolsCall, "CallToolResult"),
            (Method::PromptsGet, "GetPromptResult"),
            (Method::ResourcesRead, "ReadResourceResult"),
        ] {
            let given = Dice::new(seed, modern).result(method);
            holds(version, &given, schema, |client, given| {
                Some(result(client, from, method, given))
            })?;
        }
    }

    #[test]
    fn entries(seed: u64, modern: bool) {
        let (version, _) = made_in(modern);
        for (method, schema) in [
            (Method::ToolsList, "Tool"),
            (Method::PromptsList, "Prompt"),
            (Method::ResourcesList, "Resource"),
            (Method::TemplatesList, "ResourceTemplate"),
        ] {
            let given = Dice::new(seed, modern).entry(method);
            holds(version, &given, schema, |client, given| Some(entry(client, method, given)))?;
        }
    }

    #[test]
    fn questions(seed: u64, modern: bool) {
        let (version, _) = made_in(modern);
        for (method, schema) in [
            ("elicitation/create", "ElicitRequestParams"),
            ("sampling/createMessage", "CreateMessageRequestParams"),
        ] {
            let given = Dice::new(seed, modern).question(method);
            holds(version, &given, schema, |client, given| {
                question(client, method, given, "e-1").ok()
            })?;
        }
    }

    #[test]
    fn what_goes_to_older_servers(seed: u64, modern: bool) {
        let (version, _) = made_in(modern);
        let (call, complete) = Dice::new(seed, modern).requests();
        holds(version, &call, "CallToolRequestParams", |server, given| {
            Some(params(server, Method::ToolsCall, given))
        })?;
        holds(version, &complete, "CompleteRequestParams", |server, given| {
            Some(params(server, Method::Complete, given))
        })?;
        for (method, schema) in
            [("sampling/createMessage", "CreateMessageResult"), ("roots/list", "ListRootsResult")]
        {
            let given = Dice::new(seed, modern).answer(method);
            holds(version, &given, schema, |server, given| {
                match answer(server, method, Body::Result(given.clone().into())) {
                    Body::Result(out) => Some(out.into()),
                    Body::Error(_) => None,
                }
            })?;
        }
    }

    #[test]
    fn what_each_side_declares(seed: u64, modern: bool) {
        let (version, _) = made_in(modern);
        let dice = || Dice::new(seed, modern);
        let (server, client) = (dice().server_capabilities(), dice().client_capabilities());
        holds(version, &server, "ServerCapabilities", |client, given| {
            Some(server_capabilities(client, given))
        })?;
        // Extensions are on nobody's list before 2026-07-28, and stay all the same.
        if client.get("extensions").is_none() {
            holds(version, &client, "ClientCapabilities", |server, given| {
                Some(client_capabilities(server, given))
            })?;
        }
        let given = dice().implementation();
        holds(version, &given, "Implementation", |peer, given| Some(info(peer, given)))?;
    }

    #[test]
    fn notices(seed: u64) {
        let given = Dice::new(seed, false).progress();
        holds(Version::V2025_11_25, &given, "ProgressNotificationParams", |client, given| {
            let whole = message::notification(Method::Progress.name(), given);
            splice::member(&notice(client, Some(Method::Progress), &whole)?, "params")
        })?;
    }
}
