//! How a conversation over HTTP ends, and what is known of its session.

use std::{pin::Pin, sync::atomic::Ordering};

use http::Method as Verb;

use crate::{mcp::version::Version, upstream::exchange::error::SendError};

use super::{Http, LAST_WORDS, NOTIFICATION_TIMEOUT};

impl Http {
    /// Sets the version that every request names from here on, once.
    pub fn agree(&self, version: Version) {
        self.0.version.get_or_init(|| version);
    }

    pub(super) fn version(&self) -> Version {
        self.0.version.get().copied().unwrap_or(Version::LEGACY_LATEST)
    }

    /// Ends it from our side; its session by DELETE (best effort). Nothing where it has ended.
    pub fn close(&self, why: &str) {
        if self.is_closed() {
            return self.0.deleted.cancel();
        }
        self.end(why);
        self.0.cut.cancel();
        if self.0.session.get().is_none() {
            return self.0.deleted.cancel();
        }
        let mut request = self.get(None);
        request.verb = Verb::DELETE;
        let sending = self.send(request);
        let deleted = self.0.deleted.clone();
        let said = self.0.said.clone();
        said.close();
        self.0.tasks.finish(async move {
            tokio::time::timeout(LAST_WORDS, said.wait()).await.ok();
            if let Ok(Err(error)) = tokio::time::timeout(NOTIFICATION_TIMEOUT, sending).await {
                tracing::debug!(%error, "a session could not be ended upstream");
            }
            deleted.cancel();
        });
    }

    /// Waits until the server knows of the end, after [`Http::close`].
    pub async fn deleted(&self) {
        self.0.deleted.cancelled().await;
    }

    /// Waits for its end, and says why it came.
    pub async fn closed(&self) -> String {
        self.0.closed.cancelled().await;
        self.closed_why()
    }

    pub fn is_closed(&self) -> bool {
        self.0.closed.is_cancelled()
    }

    pub(super) fn closed_why(&self) -> String {
        self.0.why.lock().clone()
    }

    /// Ends the conversation because its server no longer knows the session.
    pub(super) fn forgotten(&self) {
        self.0.forgotten.store(true, Ordering::Relaxed);
        self.end("it no longer knows the session");
    }

    /// Whether it ended because the server no longer knew the session: the server is well, and
    /// another session can be opened at once.
    pub fn has_lost_session(&self) -> bool {
        self.0.forgotten.load(Ordering::Relaxed)
    }

    /// Whether the server can tell this conversation from others: by a session, or by cookies.
    pub fn keeps_session(&self) -> bool {
        self.0.session.get().is_some() || self.0.endpoint.has_cookies()
    }

    /// Whether anything was answered well in the session.
    pub fn is_proven(&self) -> bool {
        self.0.proven.load(Ordering::Relaxed)
    }

    /// Waits for what the server says, until the conversation is closed from this side: its calls
    /// end with it.
    pub(super) async fn unless_cut<T>(
        &self,
        said: Pin<&mut impl Future<Output = Result<T, SendError>>>,
    ) -> Result<T, SendError> {
        tokio::select! {
            // What is there already comes first.
            biased;
            said = said => said,
            () = self.0.cut.cancelled() => Err(SendError::Lost(self.closed_why())),
        }
    }

    pub(super) fn end(&self, why: &str) {
        {
            let mut said = self.0.why.lock();
            if said.is_empty() {
                why.clone_into(&mut said);
            }
        }
        self.0.closed.cancel();
    }
}
