//! Which of the notifications that a server sends during a call are for its client.

use crate::{
    call::event::ServerNotification,
    mcp::{level, method::Method, splice, version::Era},
};

use super::Back;

impl Back {
    /// A client hears what it asked for, whatever others asked of a server that all share.
    pub(super) fn wants(&self, notice: &ServerNotification) -> bool {
        match notice.method {
            Some(Method::LogMessage) => self.hears(notice),
            Some(Method::Progress) => self.context.call.meta.progress_token.is_some(),
            _ => true,
        }
    }

    fn hears(&self, notice: &ServerNotification) -> bool {
        let least = match &self.context.call.session {
            Some(session) => session.log_level(),
            // A modern upstream knows itself what this very request asked for.
            None if self.era == Era::Modern => return true,
            None => match &self.context.call.meta.log_level {
                Some(level) => Some(level.clone()),
                None => return false,
            },
        };
        let Some(least) = least.and_then(|level| level::rank(&level)) else { return true };
        let said = splice::member(&notice.params, "level").and_then(|level| level.try_read());
        said.and_then(|level: String| level::rank(&level)).is_none_or(|said| least <= said)
    }
}
