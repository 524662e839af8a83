//! Declares each side's capabilities to the other, as far as the other's version knows them.

use crate::mcp::{raw::Raw, splice, version::Version};

use super::members::{Thing, trim};

/// A `ServerCapabilities` object for a client of this version.
pub fn server_capabilities(client: Version, has: &Raw) -> Raw {
    trim(client, Thing::ServerCapabilities, has)
}

/// A `ClientCapabilities` object for a server of this version. A client that can only be asked to
/// open pages cannot be asked anything by a server that knows forms only: to that an empty
/// `elicitation` would mean forms.
pub fn client_capabilities(server: Version, has: &Raw) -> Raw {
    let has = trim(server, Thing::ClientCapabilities, has);
    let elicitation = has.is_object().then(|| splice::member(&has, "elicitation")).flatten();
    let pages_only = elicitation.filter(Raw::is_object).is_some_and(|elicitation| {
        splice::member(&elicitation, "url").is_some()
            && splice::member(&elicitation, "form").is_none()
    });
    let has = if pages_only && server < Version::V2025_11_25 {
        splice::edit(&has, &[("elicitation", None)])
    } else {
        has
    };
    [
        ("elicitation", Thing::ElicitationCapability),
        ("sampling", Thing::SamplingCapability),
        ("roots", Thing::RootsCapability),
    ]
    .into_iter()
    .fold(has, |has, (key, thing)| splice::change(&has, key, |one| trim(server, thing, one)))
}

/// An `Implementation` object, of either side, for a peer of this version.
pub fn info(peer: Version, info: &Raw) -> Raw {
    trim(peer, Thing::Implementation, info)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_shown_what_its_version_can_ask() {
        use Version as V;
        let all = Raw::trusted(concat!(
            r#"{"roots":{"listChanged":true},"sampling":{"tools":{},"v":1},"#,
            r#""elicitation":{"form":{},"url":{}},"tasks":{},"extensions":{"a/b":{}},"#,
            r#""experimental":{}}"#
        ));
        let more = r#""extensions":{"a/b":{}},"experimental":{}}"#;
        for (server, want) in [
            (V::V2024_11_05, r#"{"roots":{"listChanged":true},"sampling":{"v":1},"#),
            (
                V::V2025_06_18,
                r#"{"roots":{"listChanged":true},"sampling":{"v":1},"elicitation":{},"#,
            ),
            (
                V::V2026_07_28,
                r#"{"roots":{},"sampling":{"tools":{},"v":1},"elicitation":{"form":{},"url":{}},"#,
            ),
        ] {
            assert_eq!(client_capabilities(server, &all).as_str(), format!("{want}{more}"));
        }
        assert_eq!(client_capabilities(V::V2025_11_25, &all), all);
        let pages = Raw::trusted(r#"{"elicitation":{"url":{}}}"#);
        assert_eq!(client_capabilities(V::V2025_06_18, &pages).as_str(), "{}");
        assert_eq!(client_capabilities(V::V2025_11_25, &pages), pages);
        for odd in ["[]", r#"{"elicitation":7,"sampling":[]}"#] {
            let odd = Raw::trusted(odd);
            assert_eq!(client_capabilities(V::V2025_06_18, &odd), odd);
        }
    }

    #[test]
    fn a_client_is_shown_what_its_version_can_use() {
        use Version as V;
        let all = Raw::trusted(r#"{"tools":{},"completions":{},"tasks":{},"extensions":{}}"#);
        for (client, want) in [
            (V::V2024_11_05, r#"{"tools":{}}"#),
            (V::V2025_06_18, r#"{"tools":{},"completions":{}}"#),
            (V::V2025_11_25, r#"{"tools":{},"completions":{},"tasks":{}}"#),
            (V::V2026_07_28, r#"{"tools":{},"completions":{},"extensions":{}}"#),
        ] {
            assert_eq!(server_capabilities(client, &all).as_str(), want);
        }
        let gate = Raw::trusted(r#"{"name":"t","title":"T","version":"1","websiteUrl":"h"}"#);
        assert_eq!(info(V::V2025_03_26, &gate).as_str(), r#"{"name":"t","version":"1"}"#);
    }
}
