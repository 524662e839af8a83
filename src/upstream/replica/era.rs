//! The era that a server speaks, as far as that is known: by configuration, by earlier openings,
//! also of earlier runs, and by what failed since.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    config::{self, Transport},
    mcp::version::Era,
    store::StateFolder,
};

/// A finding that was inferred is believed for a day: what died of the probe may be replaced by a
/// newer version under the same command.
const INFERRED_AGE_MAX: u64 = 24 * 60 * 60;
/// A finding that the server itself stated is believed for a week.
const STATED_AGE_MAX: u64 = 7 * INFERRED_AGE_MAX;
/// How many times `timeout.open` a silent process is waited for at most: 5 min by default, in which
/// a cold `npx` has downloaded what it needs.
const PATIENCE_FACTOR_MAX: u32 = 10;

/// How an opening begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// `server/discover`, then `initialize` unless a modern server answers.
    Probe,
    /// `initialize` and nothing else.
    Initialize,
    /// `initialize`, then `server/discover` where that is refused.
    InitializeFirst,
    /// `server/discover` and nothing else.
    Discover,
}

/// How an opening failed, as far as that says something of the era.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// The process or the connection ended before the handshake was answered.
    Ended,
    /// The process lives, and has said nothing until the deadline.
    Silent,
    /// The server answered that it will not.
    Refused,
    /// The server was not reached, demands credentials, is overloaded and so on.
    Otherwise,
}

/// The era that a server was found to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Finding {
    legacy: bool,
    /// The server did not say so: it ended at the probe, refused it with 403, or was silent.
    inferred: bool,
    /// The time of the finding, in seconds since 1970.
    at: u64,
}

/// The findings of one upstream's servers, kept in the state folder.
#[derive(Debug)]
pub struct Findings {
    store: StateFolder,
    file: String,
    /// Fingerprints of the servers that the upstream has now.
    keys: Vec<String>,
    /// The findings by server, read from the disk when they are asked for first.
    known: Mutex<Option<BTreeMap<String, Finding>>>,
}

/// The knowledge of one server's era.
#[derive(Debug)]
pub struct Knowledge {
    /// The era that the configuration sets.
    fixed: Option<Era>,
    key: String,
    findings: Arc<Findings>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Failed openings since the last that succeeded which may be the handshake's fault.
    doubts: u32,
    /// Failed openings in a row at whose end the process lived and had said nothing.
    silences: u32,
    /// Findings that were inferred before count no more: an operator changed something.
    distrusts: bool,
}

impl Findings {
    /// `servers` are the transports of all that the upstream has.
    pub fn new<'a>(
        upstream: &str,
        store: &StateFolder,
        servers: impl IntoIterator<Item = &'a Transport>,
    ) -> Arc<Self> {
        let keys = servers.into_iter().map(fingerprint).collect();
        let file = format!("era-{upstream}.json");
        Arc::new(Self { store: store.clone(), file, keys, known: Mutex::default() })
    }

    fn get(&self, key: &str) -> Option<Finding> {
        self.known.lock().get_or_insert_with(|| self.read()).get(key).copied()
    }

    fn put(&self, key: &str, finding: Finding) {
        let mut known = self.known.lock();
        let all = known.get_or_insert_with(|| self.read());
        let before = all.insert(key.to_owned(), finding);
        let is_same = |before: Finding| Finding { at: finding.at, ..before } == finding;
        let is_recent = |before: Finding| finding.at < before.at.saturating_add(60 * 60);
        if before.is_some_and(|before| is_same(before) && is_recent(before)) {
            return;
        }
        let text = serde_json::to_vec(all).unwrap_or_default();
        drop(known);
        if let Err(error) = self.store.write(&self.file, &text) {
            tracing::warn!(file = self.file, %error, "what era a server speaks is not on disk");
        }
    }

    /// A file that is missing or damaged costs one probe.
    fn read(&self) -> BTreeMap<String, Finding> {
        let bytes = self.store.read(&self.file).ok().flatten().unwrap_or_default();
        let mut all: BTreeMap<String, Finding> = serde_json::from_slice(&bytes).unwrap_or_default();
        all.retain(|key, _| self.keys.contains(key));
        all
    }
}

impl Knowledge {
    pub fn new(config: &config::Upstream, findings: &Arc<Findings>) -> Self {
        let key = fingerprint(&config.transport);
        let findings = Arc::clone(findings);
        Self { fixed: config.era, key, findings, state: Mutex::default() }
    }

    /// The era that the configuration demands.
    pub fn fixed(&self) -> Option<Era> {
        self.fixed
    }

    /// How the next opening begins; `now` is in seconds since 1970.
    pub fn handshake(&self, now: u64) -> Handshake {
        match self.fixed {
            Some(Era::Legacy) => return Handshake::Initialize,
            Some(Era::Modern) => return Handshake::Discover,
            None => (),
        }
        let doubts = self.state.lock().doubts;
        let probes = match self.era(now) {
            // The eras are tried in turns: the server may be another one by now, or of the era that
            // it was found in.
            Some(Era::Legacy) => doubts % 2 == 1,
            Some(Era::Modern) => doubts == 0 || doubts % 2 == 1,
            None => doubts.is_multiple_of(2),
        };
        if probes { Handshake::Probe } else { Handshake::InitializeFirst }
    }

    /// Whether a process that ends at the probe is at once started again as a legacy one. The first
    /// death of a server found to be modern has other causes.
    pub fn may_be_legacy(&self, now: u64) -> bool {
        let doubts = self.state.lock().doubts;
        self.fixed.is_none() && (self.era(now) != Some(Era::Modern) || 0 < doubts)
    }

    /// How long an opening may take, where it may take `open` at first.
    pub fn patience(&self, open: Duration) -> Duration {
        let factor = 1 << self.state.lock().silences.min(PATIENCE_FACTOR_MAX.ilog2() + 1);
        open.saturating_mul(PATIENCE_FACTOR_MAX.min(factor))
    }

    /// Notes that the server was opened in an era that was not known before. A finding that is only
    /// `inferred` is believed for a shorter time.
    pub fn found(&self, era: Era, inferred: bool, now: u64) {
        self.opened();
        let finding = Finding { legacy: era == Era::Legacy, inferred, at: now };
        if self.fixed.is_none() {
            self.findings.put(&self.key, finding);
        }
    }

    /// Notes that the server was opened, and nothing new was learned.
    pub fn opened(&self) {
        *self.state.lock() = State::default();
    }

    /// Notes that the server was not opened.
    pub fn failed(&self, handshake: Handshake, manner: Manner, now: u64) {
        let both_tried = handshake == Handshake::Probe && self.may_be_legacy(now);
        let mut state = self.state.lock();
        let silent = manner == Manner::Silent;
        state.silences = if silent { state.silences.saturating_add(1) } else { 0 };
        let doubtful = match manner {
            Manner::Silent => true,
            Manner::Ended | Manner::Refused => !both_tried,
            Manner::Otherwise => false,
        };
        state.doubts = state.doubts.saturating_add(u32::from(doubtful));
    }

    /// Discards what was inferred.
    pub fn distrust(&self) {
        self.state.lock().distrusts = true;
    }

    /// The era that was found before, where the finding still counts.
    pub fn era(&self, now: u64) -> Option<Era> {
        self.finding(now).map(|found| if found.legacy { Era::Legacy } else { Era::Modern })
    }

    fn finding(&self, now: u64) -> Option<Finding> {
        let distrusts = self.state.lock().distrusts;
        let found = self.findings.get(&self.key)?;
        let age_max = if found.inferred { INFERRED_AGE_MAX } else { STATED_AGE_MAX };
        let is_old = age_max <= now.saturating_sub(found.at);
        // A clock that was set back makes no finding hold for ever.
        let is_ahead = now.saturating_add(INFERRED_AGE_MAX) < found.at;
        let is_doubted = found.inferred && distrusts;
        let counts = ![is_old, is_ahead, is_doubted].contains(&true);
        counts.then_some(found)
    }
}

/// Names a server without its secrets, which change without the server being another.
fn fingerprint(transport: &Transport) -> String {
    let text = match transport {
        Transport::Stdio { command, args, cwd, .. } => format!("stdio {command} {args:?} {cwd:?}"),
        Transport::Http { url, http, .. } => format!("http {http:?} {url}"),
        Transport::Builtin { server } => format!("builtin {server}"),
    };
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const OPEN: Duration = Duration::from_secs(30);

    fn stdio(command: &str) -> Transport {
        let command = command.to_owned();
        Transport::Stdio { command, args: Vec::new(), env: BTreeMap::new(), cwd: None }
    }

    fn knowledge(folder: &tempfile::TempDir, command: &str) -> Knowledge {
        let store = StateFolder::open(folder.path()).unwrap();
        let transport = stdio(command);
        let findings = Findings::new("git", &store, [&transport]);
        let key = fingerprint(&transport);
        Knowledge { fixed: None, key, findings, state: Mutex::default() }
    }

    /// What it says after a restart of the gate, so many seconds later.
    #[test]
    fn what_was_found_is_believed_for_its_time_and_of_this_server_only() {
        const DAY: u64 = 24 * 60 * 60;
        let cases = [
            (Era::Legacy, true, 0, Handshake::InitializeFirst),
            (Era::Legacy, true, DAY - 1, Handshake::InitializeFirst),
            (Era::Legacy, true, DAY, Handshake::Probe),
            (Era::Legacy, true, 3 * DAY, Handshake::Probe),
            (Era::Legacy, false, DAY, Handshake::InitializeFirst),
            (Era::Legacy, false, 7 * DAY - 1, Handshake::InitializeFirst),
            (Era::Legacy, false, 7 * DAY, Handshake::Probe),
            (Era::Modern, false, 0, Handshake::Probe),
            (Era::Modern, false, 3 * DAY, Handshake::Probe),
        ];
        for (era, inferred, later, begins) in cases {
            let folder = tempfile::tempdir().unwrap();
            knowledge(&folder, "a").found(era, inferred, NOW);
            let again = knowledge(&folder, "a");
            assert_eq!(again.handshake(NOW + later), begins, "{era:?} {inferred} {later}");
            let other = knowledge(&folder, "b");
            assert_eq!(other.handshake(NOW), Handshake::Probe, "another command");
            assert_eq!(again.handshake(NOW - 2 * DAY), Handshake::Probe, "the clock went back");
            again.distrust();
            let believed = era == Era::Legacy && !inferred && later < 7 * DAY;
            let begins = if believed { Handshake::InitializeFirst } else { Handshake::Probe };
            assert_eq!(again.handshake(NOW + later), begins, "after an edit of its section");
        }
    }

    #[test]
    fn the_patience_with_a_silent_process_grows_up_to_a_bound_and_ends_with_its_first_word() {
        let folder = tempfile::tempdir().unwrap();
        let one = knowledge(&folder, "a");
        let seconds = |one: &Knowledge| one.patience(OPEN).as_secs();
        let mut waited = vec![seconds(&one)];
        for _ in 0..6 {
            one.failed(one.handshake(NOW), Manner::Silent, NOW);
            waited.push(seconds(&one));
        }
        assert_eq!(waited, [30, 60, 120, 240, 300, 300, 300]);
        one.failed(one.handshake(NOW), Manner::Refused, NOW);
        assert_eq!(seconds(&one), 30, "it spoke, and is wrong");
    }

    fn manner() -> impl Strategy<Value = Manner> {
        let all = [Manner::Ended, Manner::Silent, Manner::Refused, Manner::Otherwise];
        prop::sample::select(all.to_vec())
    }

    proptest! {
        /// A server may have been replaced by one of either era: whatever was found and whatever
        /// failed since, both handshakes have their turn soon.
        #[test]
        fn whatever_happened_each_handshake_is_tried_within_three_failures(
            found in prop::option::of((any::<bool>(), any::<bool>())),
            before in prop::collection::vec(manner(), 0..12),
            fails in prop::sample::select(vec![Manner::Ended, Manner::Silent, Manner::Refused]),
        ) {
            let folder = tempfile::tempdir().unwrap();
            let one = knowledge(&folder, "a");
            if let Some((legacy, inferred)) = found {
                let era = if legacy { Era::Legacy } else { Era::Modern };
                one.found(era, inferred && legacy, NOW);
            }
            for manner in before {
                one.failed(one.handshake(NOW), manner, NOW);
            }
            let (mut probed, mut greeted) = (false, false);
            for _ in 0..3 {
                let handshake = one.handshake(NOW);
                probed |= handshake == Handshake::Probe;
                // A process that ends at the probe is greeted in the same try.
                let both = fails == Manner::Ended && one.may_be_legacy(NOW);
                // What refuses the probe is greeted on the same connection.
                let both = both || fails == Manner::Refused;
                greeted |= handshake == Handshake::InitializeFirst || both;
                one.failed(handshake, fails, NOW);
            }
            prop_assert!(probed && greeted, "{probed} {greeted}");
        }

        #[test]
        fn a_failure_that_says_nothing_changes_nothing(
            legacy in any::<bool>(), inferred in any::<bool>(), times in 1..40_usize,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let one = knowledge(&folder, "a");
            let era = if legacy { Era::Legacy } else { Era::Modern };
            one.found(era, inferred && legacy, NOW);
            let begins = one.handshake(NOW);
            for _ in 0..times {
                one.failed(begins, Manner::Otherwise, NOW);
            }
            prop_assert_eq!(one.handshake(NOW), begins);
            prop_assert_eq!(one.patience(OPEN), OPEN);
        }
    }
}
