//! The way back: what an upstream says during a call, as its client has it.
//!
//! A response is a chain of links, each with a state of its own and lent the call's context:
//! [`resend`] yields what comes of the request that is sent now, [`coalesce`] what several calls
//! share of it, [`server_task`](crate::pipeline::tasks::server) what becomes of a task that it
//! gave, and [`guard`] what may pass of that. [`bridge`](crate::pipeline::bridge) puts it in the
//! words of the client's era, and asks the client. [`translate`] and [`redact`] make the answer
//! fit its client, and [`observe`] tells others of it.

pub mod background;
pub mod chain;
pub mod coalesce;
pub mod guard;
pub mod observe;
pub mod redact;
pub mod resend;
pub mod server_messages;
pub mod stream;
pub mod translate;

pub use self::stream::ResponseStream;
