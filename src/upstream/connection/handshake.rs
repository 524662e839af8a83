//! The first words with a server: the era is probed, the version agreed, the capabilities learned.

use std::time::Duration;

use serde::Deserialize;

use crate::{
    call::{Client, event::Event},
    config::Timeout,
    mcp::{
        compat, error,
        message::Body,
        method::Method,
        raw::Raw,
        splice,
        version::{Era, Version},
    },
    upstream::{
        connection::{
            channel::Channel,
            error::{OpenError, refused_versions},
            peer::Peer,
        },
        exchange::error::SendError,
    },
};

/// A server that does not answer `server/discover` at all is asked `initialize`, too, after this
/// long; the official Rust SDK waits as long.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// The result of a handshake, and how the era was learned.
pub struct Agreed {
    pub peer: Peer,
    pub inferred: bool,
}

/// The result of `server/discover`.
pub enum Found {
    Modern(Peer),
    Legacy { inferred: bool },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Discovered {
    supported_versions: Vec<String>,
    capabilities: Raw,
    instructions: Option<String>,
    #[serde(rename = "_meta")]
    meta: Option<DiscoveredMeta>,
}

#[derive(Deserialize)]
struct DiscoveredMeta {
    #[serde(rename = "io.modelcontextprotocol/serverInfo")]
    server_info: Option<Raw>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Initialized {
    protocol_version: String,
    capabilities: Option<Raw>,
    server_info: Option<Raw>,
    instructions: Option<String>,
}

impl Agreed {
    /// Makes the result of a handshake in which the server itself named its era.
    pub fn stated(peer: Peer) -> Self {
        Self { peer, inferred: false }
    }

    /// Makes the result for a modern server, whose era is spoken on `link` from here on.
    fn modern(link: &Channel, peer: Peer) -> Self {
        link.agree(Version::MODERN);
        Self::stated(peer)
    }
}

/// `server/discover`, and where no modern server has answered that in time, `initialize`, too. A
/// modern server that starts slowly reads both, and refuses the second: the answer to the first
/// counts whenever it comes.
///
/// # Errors
/// Where the server refuses both, speaks no version that is known here, or ends.
pub async fn probe(link: &Channel, client: &Client, timeout: Timeout) -> Result<Agreed, OpenError> {
    let asked = link.beside();
    let mut discovering = Box::pin(discover(&asked, timeout));
    let found =
        match tokio::time::timeout(PROBE_TIMEOUT.min(timeout.open / 2), &mut discovering).await {
            Ok(found) => Some(found?),
            Err(_) => None,
        };
    let inferred = match found {
        Some(Found::Modern(peer)) => return Ok(Agreed::modern(link, peer)),
        Some(Found::Legacy { inferred }) => {
            let peer = initialize(link, client, timeout).await?;
            return Ok(Agreed { peer, inferred });
        }
        None => true,
    };
    let mut greeting = Box::pin(initialize(link, client, timeout));
    let greeted = tokio::select! {
        // The answer comes first: it may be in the pipe before the refusal of the second.
        biased;
        found = &mut discovering => match found {
            Ok(Found::Modern(peer)) => return Ok(Agreed::modern(link, peer)),
            Ok(Found::Legacy { .. }) | Err(_) => greeting.await,
        },
        // A greeting that fails for another reason than the era is told by the other, too.
        greeted = &mut greeting => match greeted {
            Err(refused) if refused.is_refusal() => {
                let patience = PROBE_TIMEOUT.min(timeout.open / 4);
                let found = tokio::time::timeout(patience, discovering).await;
                if let Ok(Ok(Found::Modern(peer))) = found {
                    return Ok(Agreed::modern(link, peer));
                }
                Err(refused)
            }
            greeted => greeted,
        },
    };
    Ok(Agreed { peer: greeted?, inferred })
}

/// A server that was legacy, and may have been replaced by a modern one.
///
/// # Errors
/// Where the server refuses both, or ends; that of `initialize`, where both fail.
pub async fn initialize_first(
    link: &Channel,
    client: &Client,
    timeout: Timeout,
) -> Result<Agreed, OpenError> {
    let refused = match initialize(link, client, timeout).await {
        Ok(peer) => return Ok(Agreed { peer, inferred: true }),
        Err(error) if error.is_refusal() => error,
        Err(error) => return Err(error),
    };
    let asked = link.beside();
    let patience = PROBE_TIMEOUT.min(timeout.open / 2);
    let found = tokio::time::timeout(patience, discover(&asked, timeout)).await;
    match found {
        Ok(Ok(Found::Modern(peer))) => Ok(Agreed::modern(link, peer)),
        Ok(Ok(Found::Legacy { .. }) | Err(_)) | Err(_) => Err(refused),
    }
}

/// Asks `server/discover`. A server that answers with any error but a modern one is a legacy server
/// (lifecycle: era detection).
///
/// # Errors
/// Where the server ends, wants credentials, or speaks no version that is known here.
pub async fn discover(link: &Channel, timeout: Timeout) -> Result<Found, OpenError> {
    link.agree(Version::MODERN);
    let mut body = match ask_discover(link, timeout).await {
        Ok(body) => body,
        Err(error) => return undiscovered(link, error),
    };
    if let Body::Error(error) = &body
        && refused_versions(error).1.iter().any(|version| version == Version::MODERN.as_str())
    {
        // The server refused the version that it says it speaks.
        body = ask_discover(link, timeout).await?;
    }
    let result = match body {
        Body::Result(result) => result,
        Body::Error(text) => {
            let (code, supported) = refused_versions(&text);
            let is_legacy = !error::is_modern(code) || supported.iter().any(|text| is_legacy(text));
            return if is_legacy {
                Ok(Found::Legacy { inferred: false })
            } else {
                Err(OpenError::Version(supported.join(", ")))
            };
        }
    };
    let Some(found) = result.try_read::<Discovered>() else {
        // The server answers anything to anything.
        return Ok(Found::Legacy { inferred: false });
    };
    let versions = found.supported_versions;
    if !versions.iter().any(|version| version == Version::MODERN.as_str()) {
        let legacy = versions.iter().any(|text| is_legacy(text));
        return if legacy {
            Ok(Found::Legacy { inferred: false })
        } else {
            Err(OpenError::Version(versions.join(", ")))
        };
    }
    Ok(Found::Modern(Peer {
        version: Version::MODERN,
        capabilities: found.capabilities,
        info: found.meta.and_then(|meta| meta.server_info),
        instructions: found.instructions,
    }))
}

async fn ask_discover(link: &Channel, timeout: Timeout) -> Result<Body, SendError> {
    let params = Raw::object();
    let exchange = link.ask(Method::Discover, &params, None, Version::MODERN, timeout).await?;
    // The caller says how long is waited.
    exchange.endless().answer().await
}

/// Judges a server's era by how `server/discover` failed. A process is lost with it; over HTTP each
/// request has its own fate, and a server, or what stands before it, may break off or forbid what
/// it does not know. Missing credentials are told, whatever the era.
fn undiscovered(link: &Channel, error: SendError) -> Result<Found, OpenError> {
    let ended = matches!(error, SendError::Lost(_)) && matches!(link, Channel::Multiplexer(..));
    if ended || matches!(error, SendError::Unavailable(_) | SendError::Status(401 | 407, _)) {
        return Err(error.into());
    }
    let stated = matches!(error, SendError::Status(400..=499, _))
        && !matches!(error, SendError::Status(403 | 408 | 429, _));
    Ok(Found::Legacy { inferred: !stated })
}

/// # Errors
/// Where the server refuses, answers with a version that is not known here, or ends.
pub async fn initialize(
    link: &Channel,
    client: &Client,
    timeout: Timeout,
) -> Result<Peer, OpenError> {
    let asked = client.version.min(Version::LEGACY_LATEST);
    // Tasks that a client would run for a server are not carried (2025-11-25).
    let capabilities = splice::edit(&client.capabilities, &[("tasks", None)]);
    let params = Raw::encode(&serde_json::json!({
        "protocolVersion": asked.as_str(),
        "capabilities": compat::client_capabilities(asked, &capabilities),
        "clientInfo": compat::info(asked, &client.info),
    }));
    let exchange = link.ask(Method::Initialize, &params, None, asked, timeout).await?;
    // The caller says how long is waited.
    let mut exchange = exchange.endless();
    let result = loop {
        match exchange.next().await? {
            Event::Answer { body: Body::Result(result), .. } => break result,
            Event::Answer { body: Body::Error(error), status } => {
                return Err(OpenError::Refused { method: "initialize", error, status });
            }
            // A question is refused by being dropped.
            Event::Notification(_) | Event::ServerRequest(_) | Event::Resumable { .. } => (),
        }
    };
    let answer: Initialized = result.try_read().ok_or(OpenError::Answer("initialize"))?;
    let version =
        Version::of_server(&answer.protocol_version).filter(|version| version.era() == Era::Legacy);
    let version = version.ok_or(OpenError::Version(answer.protocol_version))?;
    link.agree(version);
    link.notify(Method::Initialized, &Raw::object()).await?;
    Ok(Peer {
        version,
        // Some write `[]` for what is empty.
        capabilities: answer.capabilities.filter(Raw::is_object).unwrap_or_else(Raw::object),
        info: answer.server_info,
        instructions: answer.instructions,
    })
}

fn is_legacy(version: &str) -> bool {
    Version::find(version).is_some_and(|version| version.era() == Era::Legacy)
}
