//! `routes.toml`: read whole, checked whole, and never half valid.
//!
//! [`Config`] is what the rest of the gateway sees: every value is checked and has its default.
//! The way in is `read`. Each topic has one file: a table of its keys with their documentation and
//! defaults, of which `toml::section` makes the reading, the JSON Schema and the checked type; and
//! what only several keys together tell. `file` has what only several sections tell.

mod advice;
mod audit;
mod auth;
mod bounds;
mod cache;
mod changes;
mod credential;
mod file;
mod filter;
mod guard;
mod inputs;
mod limit;
mod log;
mod network;
mod oauth;
mod pins;
mod read;
mod replicas;
mod resilience;
mod route;
mod rules;
mod secret;
mod section_name;
mod server;
mod sidecar;
mod stateful;
mod store;
mod telemetry;
mod toml;
mod tool;
mod transport;
mod upstream;

#[cfg(test)]
pub use read::parse_layered;
pub use {
    advice::{advice, grant_without_issuer},
    audit::{Audit, Recorded, WhenFull},
    auth::{ApiKey, Auth, AuthKind, CertificateAuth, JwtAuth, OpaqueAuth, StepUp, SubjectOf},
    bounds::Limits,
    cache::{Cache, Keep, Resources},
    credential::{Credential, Exchange, Grant, SigV4},
    file::{Config, schema},
    filter::{Filter, Names, UnlistedUris},
    guard::{
        Against, ArgumentCheck, Check, Detect, Detector, Filling, Guard, Place, Then, TooLarge,
        Unusable, built_in,
    },
    inputs::Inputs,
    limit::{Bound, Cost, InFlight, Limit, Per, Rate, Window},
    log::{CallerForm, Log},
    network::Network,
    oauth::{ClientAuth, ClientSecret, Fetching},
    pins::Pin,
    read::{Layers, environment, load, load_layered, parse},
    replicas::{Back, Canary, Ejection, Health, Replicas, Shadow},
    resilience::{Breaker, Cause, Restart, Retry, Share, Sliding, Timeout, ToolTimeout},
    route::Route,
    rules::{Case, CaseFile, Expected, RuleFile, Rules},
    secret::Secret,
    section_name::NAME_CHARS_MAX,
    server::{Server, Tls},
    sidecar::{Sidecar, sidecar},
    store::LimitStore,
    telemetry::Telemetry,
    tool::Tool,
    transport::{Dial, HttpTransport, Transport, is_env_name},
    upstream::{Isolation, Pipe, Start, Upstream},
};

pub use self::toml::{
    problem::{Problem, Problems, nearest},
    reader::is_variable,
    value::is_url,
};

#[cfg(test)]
mod tests;
