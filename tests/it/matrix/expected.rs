//! What each feature is expected to look like for a client and a server of these versions, and why
//! it is not always simply there. (The rules: ARCHITECTURE.md, "Where the eras meet".)

use super::{
    End,
    features::{Feature, Seen},
    spec::{MODERN, V2024_11_05, V2025_03_26, V2025_06_18, V2025_11_25, Version},
};

/// What is to be seen, and the reason where it is not simply [`Seen::Works`].
pub type Expected = (Seen, &'static str);

const WORKS: Expected = (Seen::Works, "");
const SERVER_LACKS: Expected =
    (Seen::Error(-32602), "the server's version does not have it, so the server has no such tool");

#[allow(clippy::wildcard_enum_match_arm, reason = "what is not named simply works")]
pub fn expected(client: End, server: End, feature: Feature) -> Expected {
    let (c, s) = (client.version, server.version);
    match feature {
        Feature::Opened => opened(c, s),
        Feature::Blocks => blocks(c, s),
        Feature::StructuredContent if s < V2025_06_18 => SERVER_LACKS,
        Feature::StructuredContent if c < V2025_06_18 => {
            let seen = Seen::Without("structuredContent".to_owned());
            (seen, "the client's version has none: it reads the text beside it")
        }
        Feature::UnknownTool => (Seen::Error(-32602), "an unknown tool is an invalid parameter"),
        Feature::ParamHeaders | Feature::PingedByServer if (s == MODERN) == is_ping(feature) => {
            SERVER_LACKS
        }
        Feature::ResourceMissing if c == MODERN => {
            (Seen::Error(-32602), "2026-07-28 has no code of its own for a missing resource")
        }
        Feature::ResourceMissing => (Seen::Error(-32002), "a missing resource, legacy"),
        Feature::Completion | Feature::AskedInCompletion
            if s == V2024_11_05 && c != V2024_11_05 =>
        {
            let seen = Seen::Without("completions".to_owned());
            (seen, "a server of 2024-11-05 cannot declare completions, so clients do not ask")
        }
        Feature::AskedInCompletion if s == MODERN => {
            let seen = Seen::Without("a question".to_owned());
            (seen, "a modern server asks in tools/call, prompts/get and resources/read only")
        }
        Feature::AskedInCompletion if c == MODERN => {
            (Seen::Refused, "a modern client is asked in tools/call, prompts/get, resources/read")
        }
        Feature::ElicitForm => elicitation(c, s, V2025_06_18),
        Feature::ElicitUrl => elicitation(c, s, V2025_11_25),
        Feature::Declined => elicitation(c, s, V2025_06_18),
        Feature::SamplingRefused if c == MODERN => {
            let seen = Seen::Without("a refusal".to_owned());
            (seen, "not tried: `inputResponses` cannot say no, so the client never comes back")
        }
        Feature::SamplingRefused if s == MODERN => (
            Seen::Error(-1),
            "a modern server is told nothing: the call ends with what the client said",
        ),
        Feature::PageRequired if s != V2025_11_25 => SERVER_LACKS,
        Feature::PageRequired if c == V2025_11_25 => {
            (Seen::Error(-32042), "the client opens the page by itself, and calls again")
        }
        Feature::PageRequired => elicitation(c, s, V2025_11_25),
        Feature::AskedIncapable => cannot_ask(c, s),
        Feature::Ping if c == MODERN => (Seen::Error(-32601), "2026-07-28 has no ping"),
        _ => WORKS,
    }
}

fn is_ping(feature: Feature) -> bool {
    feature == Feature::PingedByServer
}

fn opened(c: Version, s: Version) -> Expected {
    match c < V2025_03_26 || s < V2025_03_26 {
        true => {
            let seen = Seen::Without("completions".to_owned());
            (seen, "2024-11-05 has completion/complete, but no capability that says so")
        }
        false => WORKS,
    }
}

fn blocks(c: Version, s: Version) -> Expected {
    let kinds = [("audio", V2025_03_26), ("resource_link", V2025_06_18)];
    let lost = kinds.iter().filter(|(_, since)| *since <= s && c < *since);
    let lost: Vec<&str> = lost.map(|(kind, _)| *kind).collect();
    match lost.is_empty() {
        true => WORKS,
        false => {
            let seen = Seen::Without(lost.join(", "));
            (seen, "the client's version has no such content: it gets a text that says what it was")
        }
    }
}

fn elicitation(c: Version, s: Version, since: Version) -> Expected {
    match (s < since, c < since) {
        (true, _) => SERVER_LACKS,
        (false, true) => cannot_ask(c, s),
        (false, false) => WORKS,
    }
}

/// The server is shown a client without the capability.
fn cannot_ask(c: Version, s: Version) -> Expected {
    match (c, s) {
        (MODERN, MODERN) => (Seen::Error(-32021), "the client lacks a capability that is required"),
        (_, MODERN) => (
            Seen::Error(-32602),
            "-32021 in words that a legacy client knows: it lacks a capability",
        ),
        _ => (Seen::Refused, "the server is shown a client without the capability, and says so"),
    }
}
