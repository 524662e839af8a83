//! The ledger of gates that share a Redis: a name is first recorded there, by whoever is first, and
//! then in the state folder of each.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    call::{ListKind, RoutePath},
    catalog::{
        held_names::{Holder, NamedBy},
        naming::Claim,
    },
    config::LimitStore,
    store::remote::{Remote, RemoteError, Script},
};

use super::kind::RecordKind;

/// Compares and sets holders of names; see the file.
const RECORD: &str = include_str!("record.lua");
/// Everything, after the number of changes that were made.
const READ: &str = "return redis.call('HGETALL', KEYS[1])";
/// The number of changes, which tells one state from another.
const LOOK: &str = "return {redis.call('HGET', KEYS[1], '') or '0'}";

/// The time that the store has for each answer: no call is so urgent that a name should be given
/// by this gate alone for it.
const PATIENCE: Duration = Duration::from_secs(2);
/// Names that one script records.
const BATCH: usize = 256;

/// The store, opened when it is needed.
#[derive(Debug)]
pub struct SharedLedger {
    settings: LimitStore,
    connection: tokio::sync::Mutex<Option<Remote>>,
    record: Script,
    read: Script,
    look: Script,
}

/// A name in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRecord {
    pub route: RoutePath,
    pub kind: ListKind,
    pub name: String,
    pub holder: Holder,
}

/// Field of the store's hash.
#[derive(Serialize, Deserialize)]
struct Field(RoutePath, RecordKind, String);

impl SharedLedger {
    pub fn new(settings: LimitStore) -> Arc<Self> {
        let [record, read, look] = [RECORD, READ, LOOK].map(Script::new);
        let connection = tokio::sync::Mutex::default();
        Arc::new(Self { settings, connection, record, read, look })
    }

    pub fn settings(&self) -> &LimitStore {
        &self.settings
    }

    /// Records entries, each where nobody else has its name, or where the configuration says so.
    /// Gives those that lead elsewhere.
    ///
    /// # Errors
    /// Where the store does not answer. Some may have been recorded then.
    pub async fn record(&self, entries: &[LedgerRecord]) -> Result<Vec<LedgerRecord>, RemoteError> {
        self.send(entries, "first").await
    }

    /// Changes what is said of names, but not whose they are, unless an operator says so.
    ///
    /// # Errors
    /// As [`SharedLedger::record`].
    pub async fn mark(&self, entries: &[LedgerRecord]) -> Result<(), RemoteError> {
        self.send(entries, "mark").await.map(drop)
    }

    async fn send(
        &self,
        entries: &[LedgerRecord],
        word: &str,
    ) -> Result<Vec<LedgerRecord>, RemoteError> {
        let mut refused = Vec::new();
        for batch in entries.chunks(BATCH) {
            let mut arguments = Vec::new();
            for entry in batch {
                let word = entry.forced().unwrap_or(word).to_owned();
                arguments.extend([entry.field(), encoded(&entry.holder), word]);
            }
            let answers = self.run(&self.record, &arguments).await?;
            let others = batch.iter().zip(answers).filter_map(|(entry, other)| {
                Some(LedgerRecord { holder: serde_json::from_str(&other).ok()?, ..entry.clone() })
            });
            refused.extend(others);
        }
        Ok(refused)
    }

    /// All names, and the number of changes that made them so.
    ///
    /// # Errors
    /// Where the store does not answer.
    pub async fn read(&self) -> Result<(Vec<LedgerRecord>, String), RemoteError> {
        let answer = self.run(&self.read, &[]).await?;
        let mut entries = Vec::new();
        let mut version = "0".to_owned();
        for [field, value] in answer.as_chunks::<2>().0 {
            if field.is_empty() {
                version.clone_from(value);
            } else {
                entries.extend(LedgerRecord::read(field, value));
            }
        }
        Ok((entries, version))
    }

    /// The number of changes.
    ///
    /// # Errors
    /// Where the store does not answer.
    pub async fn version(&self) -> Result<String, RemoteError> {
        let answer = self.run(&self.look, &[]).await?;
        Ok(answer.into_iter().next().unwrap_or_default())
    }

    async fn run(&self, script: &Script, arguments: &[String]) -> Result<Vec<String>, RemoteError> {
        let mut connection = self.connection.lock().await;
        let remote = match connection.take() {
            Some(remote) => remote,
            None => {
                let password = self.settings.password.as_ref().map(|password| password.expose());
                Remote::connect(self.settings.url.expose(), password, PATIENCE).await?
            }
        };
        let key = format!("{}:names", self.settings.prefix);
        let answer = remote.texts(script, &[key], arguments, PATIENCE).await?;
        // A connection that failed is opened anew.
        *connection = Some(remote);
        Ok(answer)
    }
}

impl LedgerRecord {
    pub fn of(route: &RoutePath, claim: &Claim, now: u64) -> Self {
        let holder = Holder {
            owner: claim.owner.clone(),
            by: claim.by,
            since: now,
            unlisted: None,
            free: false,
        };
        let route = route.to_owned();
        let kind = claim.kind;
        let name = claim.name.clone();
        Self { route, kind, name, holder }
    }

    /// The word for what an operator says.
    fn forced(&self) -> Option<&'static str> {
        let force = matches!(self.holder.by, NamedBy::Config | NamedBy::Pin) && !self.holder.free;
        force.then_some("force")
    }

    fn field(&self) -> String {
        encoded(&Field(self.route.clone(), RecordKind::of(self.kind), self.name.clone()))
    }

    fn read(field: &str, value: &str) -> Option<Self> {
        let Field(route, kind, name) = serde_json::from_str(field).ok()?;
        Some(Self { route, kind: kind.list(), name, holder: serde_json::from_str(value).ok()? })
    }
}

fn encoded(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
