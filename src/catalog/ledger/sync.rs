//! How the ledger goes along with the one that gates share.

use crate::{
    call::{RoutePath, clock},
    catalog::naming::Naming,
    store::remote::RemoteError,
    telemetry::Counter,
};

use super::{
    Claimed, Ledger,
    shared::{LedgerRecord, SharedLedger},
};

impl Ledger {
    /// Records names before they are served: in the store first, where gates share one.
    pub async fn claim(&self, route: &RoutePath, naming: &Naming) -> Claimed {
        let (shared, version) = {
            let link = self.link.lock();
            (link.shared.clone(), link.version.clone())
        };
        let Some(shared) = shared else { return self.claim_here(route, naming) };
        // Names that other gates gave are taken, before anything else is asked for.
        if version.is_none() && self.follow_shared().await {
            return Claimed::Refused;
        }
        let now = clock::unix_seconds();
        let entries: Vec<_> =
            naming.claims.iter().map(|claim| LedgerRecord::of(route, claim, now)).collect();
        match shared.record(&entries).await {
            Ok(refused) if refused.is_empty() => self.claim_here(route, naming),
            Ok(refused) => {
                self.take_over(&refused);
                Claimed::Refused
            }
            Err(error) => {
                self.lose(&error);
                Claimed::Failed
            }
        }
    }

    /// Goes on with what other processes and other gates made of the names; true where anything is
    /// another way than before.
    pub async fn follow_others(&self) -> bool {
        let reread = self.reread();
        self.follow_shared().await || reread
    }

    /// Tells the other gates of a name that was changed by hand.
    ///
    /// # Errors
    /// Where the store does not answer.
    pub async fn tell(&self, entries: &[LedgerRecord]) -> Result<(), RemoteError> {
        let shared = self.link.lock().shared.clone();
        match shared {
            Some(shared) => shared.mark(entries).await,
            None => Ok(()),
        }
    }

    async fn follow_shared(&self) -> bool {
        let (shared, version, marks, was_away) = {
            let mut link = self.link.lock();
            let Some(shared) = link.shared.clone() else { return false };
            let marks = std::mem::take(&mut link.marks);
            (shared, link.version.clone(), marks, link.away.is_some())
        };
        match self.exchange(&shared, version, &marks).await {
            Ok((changed, version)) => {
                let mut link = self.link.lock();
                (link.version, link.away) = (Some(version), None);
                if was_away {
                    tracing::info!("names are shared again");
                }
                changed || was_away
            }
            Err(error) => {
                self.link.lock().marks.extend(marks);
                self.lose(&error);
                !was_away
            }
        }
    }

    /// Tells what changed here, and takes what changed elsewhere.
    async fn exchange(
        &self,
        shared: &SharedLedger,
        version: Option<String>,
        marks: &[LedgerRecord],
    ) -> Result<(bool, String), RemoteError> {
        if !marks.is_empty() {
            shared.mark(marks).await?;
        }
        let newest = shared.version().await?;
        if version.as_ref() == Some(&newest) {
            return Ok((false, newest));
        }
        let (entries, newest) = shared.read().await?;
        let before = self.book();
        self.take_over(&entries);
        // This gate alone knows the names: the store is new, or lost its memory.
        let known: std::collections::HashSet<_> =
            entries.iter().map(|it| (it.route.as_str(), it.kind, it.name.as_str())).collect();
        let own = before.entries();
        let own = own.filter(|it| !known.contains(&(it.route.as_str(), it.kind, it.name.as_str())));
        let own: Vec<_> = own.collect();
        if !own.is_empty() {
            let refused = shared.record(&own).await?;
            self.take_over(&refused);
        }
        Ok((before != self.book(), newest))
    }

    fn take_over(&self, entries: &[LedgerRecord]) {
        if entries.is_empty() {
            return;
        }
        self.change(|book| {
            let before = book.clone();
            for LedgerRecord { route, kind, name, holder } in entries {
                let names = book.routes.entry(route.clone()).or_default();
                names.of_mut(*kind).put(name, holder.clone());
            }
            *book != before
        });
    }

    fn lose(&self, error: &RemoteError) {
        let before = self.link.lock().away.replace(error.to_string());
        if before.is_none() {
            self.counters.add(Counter::NamesUnrecorded);
            tracing::error!(
                %error,
                "names are not shared: the store of [limit] is away. Those that are known are \
                 served; new ones have their upstream's prefix until it is back"
            );
        }
    }
}
