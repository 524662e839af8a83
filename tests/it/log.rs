//! What gates log of their upstreams: each line names its upstream, and comes once in a while only.

use std::{io, sync::Once, time::Duration};

use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    eventually,
    fake::{self, Act, Fake},
    gate::{Gate, gateway},
    soon,
};

/// Of all gates of this process: whoever looks into it has upstreams with names of their own.
static WRITTEN: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Written;

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        WRITTEN.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps warnings, errors and lines of calls from here on.
pub fn is_kept() {
    static KEPT: Once = Once::new();
    KEPT.call_once(|| {
        let builder = tracing_subscriber::fmt().with_ansi(false).with_writer(|| Written);
        builder.with_env_filter("warn,tollgate::access=info").init();
    });
}

/// The lines so far with all of these words.
pub fn lines(words: &[&str]) -> Vec<String> {
    let text = String::from_utf8_lossy(&WRITTEN.lock()).into_owned();
    let lines = text.lines().filter(|line| words.iter().all(|word| line.contains(word)));
    lines.map(str::to_owned).collect()
}

/// Two upstreams with each kind of trouble, again and again: `[kind][which]`.
struct Troubled {
    gate: Gate,
    deaf: [Fake; 2],
    noisy: [Fake; 2],
    vague: [Fake; 2],
}

const NAMES: [[&str; 2]; 5] = [
    ["log-hasty-1", "log-hasty-2"],
    ["log-deaf-1", "log-deaf-2"],
    ["log-mute-1", "log-mute-2"],
    ["log-noisy-1", "log-noisy-2"],
    ["log-vague-1", "log-vague-2"],
];
/// Words of what is logged of each.
const TOLD: [(usize, &str); 6] = [
    (0, "last_words=\"bye\""),
    (0, "not open"),
    (1, "did not take `resources/subscribe`"),
    (2, "took no subscription"),
    (3, "beside calls is given up"),
    (4, "this list is not as the server has it"),
];
/// The time between two lines of one kind and upstream.
const PERIOD: Duration = Duration::from_secs(10);

impl Troubled {
    async fn start() -> Self {
        let no = || Act::Error(r#"{"code":-32000,"message":"not today"}"#.to_owned());
        let uris = |fake: Fake, of: &str| {
            (0..6).fold(fake, |fake, at| fake.resource(&format!("{of}://{at}")))
        };
        let deaf = NAMES[1]
            .map(|name| uris(fake::legacy("2025-06-18"), name).on("resources/subscribe", no()));
        let mute = NAMES[2].map(|name| uris(fake::http(), name).on("subscriptions/listen", no()));
        let noisy = NAMES[3].map(|name| fake::legacy("2025-06-18").tool(name));
        let vague = NAMES[4].map(|name| fake::http().tool(name));
        let mut plan = gateway();
        for name in NAMES[0] {
            let ends = "echo bye >&2; exit $(( $$ % 200 + 1 ))";
            plan = plan.section(name, &format!("command = \"sh\"\nargs = [\"-c\", {ends:?}]\n"));
        }
        for (names, fakes) in [(NAMES[1], &deaf), (NAMES[2], &mute), (NAMES[4], &vague)] {
            for (name, fake) in names.iter().zip(fakes) {
                plan = plan.upstream(name, fake);
            }
        }
        for (name, fake) in NAMES[3].iter().zip(&noisy) {
            plan = plan.upstream_with(name, fake, "noise_bytes_max = \"4KiB\"");
        }
        Self { gate: plan.start().await, deaf, noisy, vague }
    }

    /// Has everything go wrong at least three times.
    async fn goes_wrong(&self) {
        let client = self.gate.modern();
        for at in 0..6 {
            for name in NAMES[1].iter().chain(&NAMES[2]) {
                let uris = [format!("{name}://{at}")];
                let wanted = json!({ "notifications": { "resourceSubscriptions": uris } });
                drop(client.start("subscriptions/listen", wanted).await);
            }
        }
        for round in 1..=3 {
            let why = format!(r#"{{"code":-32603,"message":"reason {round}"}}"#);
            for fake in &self.vague {
                let read = fake.seen("tools/list").len();
                fake.becomes("tools/list", Act::Error(why.clone()));
                fake.tell("notifications/tools/list_changed", &json!({}));
                eventually("it is read", || (read < fake.seen("tools/list").len()).then_some(()))
                    .await;
            }
            for fake in &self.noisy {
                eventually("it is heard", || (0 < fake.listeners()).then_some(())).await;
            }
            let given_up = counted(&self.gate, "upstream_noisy");
            self.noisy.iter().for_each(|fake| fake.says(&"data: hm\n\n".repeat(1_000)));
            let noticed = || (given_up + 2 <= counted(&self.gate, "upstream_noisy")).then_some(());
            eventually("both are given up", noticed).await;
            self.noisy.iter().for_each(Fake::forgets_sessions);
            for name in NAMES[3] {
                soon("a new session", client.call(name)).await;
            }
        }
        for name in NAMES[0] {
            let restarts = || {
                let report = self.gate.app().viewer().report();
                let found = report.upstreams.iter().find(|one| one.name == name).unwrap();
                (3 <= json!(found)["restarts"].as_u64().unwrap()).then_some(())
            };
            eventually("it has ended three times", restarts).await;
        }
        for fake in &self.deaf {
            let asked = || (3 <= fake.seen("resources/subscribe").len()).then_some(());
            eventually("it was asked three times", asked).await;
        }
    }
}

fn counted(gate: &Gate, name: &str) -> u64 {
    gate.app().viewer().report().counters[name]
}

/// Six kinds of trouble, each of two upstreams at a time: nobody's line takes another's place, and
/// none comes with every fault.
#[tokio::test(flavor = "multi_thread")]
async fn each_upstreams_trouble_is_told_by_its_name_and_not_each_time() {
    is_kept();
    let begun = Instant::now();
    let troubled = Troubled::start().await;
    troubled.goes_wrong().await;
    let periods = usize::try_from(begun.elapsed().as_secs() / PERIOD.as_secs()).unwrap();
    for (kind, words) in TOLD {
        for name in NAMES[kind] {
            let named = format!("upstream=\"{name}\"");
            let what = format!("{name}: {words}");
            let told = eventually(&what, || {
                let told = lines(&[&named, words]);
                (!told.is_empty()).then_some(told)
            });
            let told = told.await;
            assert!(told.len() <= 1 + periods, "{name}, {words}: {told:#?}");
        }
    }
}
