//! A client on a channel: whole messages in both directions, in their order, without headers.
//! Standard input and output is one, and so is a stream of the older HTTP+SSE.
//!
//! The session of a legacy client is the channel itself: it begins with `initialize` and ends with
//! the channel, which also ends all calls under way.

mod calls;
mod client;
mod queue;
mod run;

pub use self::client::{ChannelSettings, ClientChannel, WriteQueue};
