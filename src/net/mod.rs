//! Dialling out: pooled HTTP/1.1 and HTTP/2 connections to upstreams, TLS and proxies included;
//! answers without their content coding ([`content`]); small documents ([`fetch`]), what is fetched
//! once for all who want it ([`flight`]), and the secrets that a Vault keeps.

mod answer;
mod client;
mod content;
mod dial;
mod error;
mod fetch;
pub mod flight;
pub mod http1;
mod idle;
mod inflate;
mod live;
mod pool;
mod proxy;
pub mod public;
mod resolver;
mod reuse;
mod tls_words;
pub mod vault;

pub use self::{
    answer::Answer,
    client::{Net, SendOptions, certificates_in},
    content::Content,
    error::NetError,
    fetch::FetchError,
    http1::{HeadTemplate, RequestText, RequestWriter},
    pool::Pool,
};
