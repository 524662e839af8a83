//! Selects the notifications that a server sends during a call for its client.

use crate::{
    call::event::ServerNotification,
    mcp::{level, method::Method, splice, version::Era},
    pipeline::context::Context,
};

/// Whether the client asked for it, whatever others asked of a server that all share. `era` is the
/// one spoken to the server.
pub fn is_wanted(context: &Context, era: Era, notice: &ServerNotification) -> bool {
    match notice.method {
        Some(Method::LogMessage) => is_loud_enough(context, era, notice),
        Some(Method::Progress) => context.call.meta.progress_token.is_some(),
        _ => true,
    }
}

/// Whether a log message has at least the level that the client asked for.
fn is_loud_enough(context: &Context, era: Era, notice: &ServerNotification) -> bool {
    let least = match &context.call.session {
        Some(session) => session.log_level(),
        // A modern upstream knows itself what this very request asked for.
        None if era == Era::Modern => return true,
        None => match &context.call.meta.log_level {
            Some(level) => Some(level.clone()),
            None => return false,
        },
    };
    let Some(least) = least.and_then(|level| level::rank(&level)) else { return true };
    let said = splice::member(&notice.params, "level").and_then(|level| level.try_read());
    said.and_then(|level: String| level::rank(&level)).is_none_or(|said| least <= said)
}
