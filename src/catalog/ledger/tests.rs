//! Tests what the ledger keeps, and for how long.

use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};

use proptest::{prelude::*, sample::select};

use crate::{
    call::ListKind,
    catalog::{
        held_names::RouteNames,
        naming::{Claim, Naming},
    },
    store::StateFolder,
};

use super::{claims::NAMES_PER_ENTRY, claims::lapse, *};

fn owner(upstream: &str, own: &str) -> Owner {
    Owner { upstream: upstream.into(), own: own.to_owned() }
}

fn claim(name: &str, owner: Owner) -> Claim {
    Claim { kind: ListKind::Tools, name: name.to_owned(), owner, by: NamedBy::Auto }
}

fn naming(claims: Vec<Claim>) -> Naming {
    let mut naming = Naming::default();
    naming.claims = claims;
    naming
}

fn open(folder: &std::path::Path) -> Ledger {
    Ledger::open(&StateFolder::open(folder).unwrap(), Arc::default())
}

fn held(ledger: &Ledger) -> Vec<(String, String)> {
    let names = ledger.book().route("/mcp");
    let all = names.of(ListKind::Tools).iter();
    all.map(|(name, holder)| (name.clone(), holder.owner.upstream.to_string())).collect()
}

#[test]
fn the_first_keeps_a_name_over_restarts_and_between_processes() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (open(folder.path()), open(folder.path()));
    let to_a = naming(vec![claim("log", owner("a", "log"))]);
    let to_b = naming(vec![claim("log", owner("b", "log")), claim("b__log", owner("b", "log"))]);
    assert_eq!(one.claim_here(&"/mcp".into(), &to_a), Claimed::All);
    assert_eq!(
        two.claim_here(&"/mcp".into(), &to_b),
        Claimed::Refused,
        "though it had not read it yet"
    );
    assert_eq!(two.claim_here(&"/other".into(), &to_b), Claimed::All, "each route has its own");
    let want = [("b__log".to_owned(), "b".to_owned()), ("log".to_owned(), "a".to_owned())];
    assert_eq!(held(&two), want);
    assert!(one.reread(), "what the other process recorded is seen");
    assert!(!one.reread());
    assert_eq!(held(&one), want);
    assert_eq!(held(&open(folder.path())), want);
}

#[test]
fn what_is_released_goes_to_another_and_that_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    ledger.claim_here(&"/mcp".into(), &naming(vec![claim("log", owner("a", "log"))]));
    let release = |held: &mut HeldNames| {
        for (_, holder) in held.iter_mut() {
            holder.free = true;
        }
    };
    ledger.edit(&"/mcp".into(), ListKind::Tools, release).unwrap();
    let to_b = naming(vec![claim("log", owner("b", "log"))]);
    assert_eq!(ledger.claim_here(&"/mcp".into(), &to_b), Claimed::All);
    assert_eq!(ledger.counters.read()["names_moved"], 1);
    assert_eq!(held(&ledger), [("log".to_owned(), "b".to_owned())]);
}

/// Ways in which a file is damaged: none of them makes a name lead elsewhere.
#[test]
fn a_damaged_file_is_put_aside_and_its_names_are_kept() {
    type Damage = (&'static str, fn(&str) -> String);
    let damages: [Damage; 8] = [
        ("cut short", |text| text.chars().take(text.len() - 9).collect()),
        ("cut in a line", |text| text.chars().take(text.len() / 2).collect()),
        ("no JSON", |_| "nonsense".to_owned()),
        ("zeros", |text| "\0".repeat(text.len())),
        ("another shape", |_| "{\"names\":[]}\n".to_owned()),
        ("an array", |text| format!("[{text}]")),
        ("a line of it", |text| text.replacen("\"own\"", "\"on\"", 1)),
        ("joined lines", |text| text.replace('\n', " ")),
    ];
    for (what, damage) in damages {
        let folder = tempfile::tempdir().unwrap();
        let ledger = open(folder.path());
        let names = ["a", "b", "c"].map(|name| claim(name, owner("up", name)));
        ledger.claim_here(&"/mcp".into(), &naming(names.to_vec()));
        // The file before the last change has all of them.
        ledger.edit(&"/mcp".into(), ListKind::Tools, |_| ()).unwrap();
        let file = folder.path().join(file::NAME);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, damage(&text)).unwrap();
        let again = open(folder.path());
        assert_eq!(held(&again), held(&ledger), "{what}");
        assert_eq!(again.counters.read()["names_damaged"], 1, "{what}");
        let files = fs::read_dir(folder.path()).unwrap();
        let files: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
        let aside = |name: &std::ffi::OsString| name.to_string_lossy().contains("damaged");
        assert_eq!(files.iter().filter(|name| aside(name)).count(), 1, "{what}: {files:?}");
    }
}

#[test]
fn what_cannot_be_written_is_said_and_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let ledger = open(&state);
    let log = naming(vec![claim("log", owner("a", "log"))]);
    fs::remove_dir(&state).unwrap();
    assert_eq!(ledger.claim_here(&"/mcp".into(), &log), Claimed::Failed);
    assert!(ledger.fault().is_some() && held(&ledger).is_empty());
    assert!(!ledger.reread(), "nothing is better yet");
    fs::create_dir(&state).unwrap();
    assert!(ledger.reread() && ledger.fault().is_none());
    assert_eq!(ledger.claim_here(&"/mcp".into(), &log), Claimed::All);
}

/// Something that an upstream does in a while.
#[derive(Debug, Clone)]
enum Step {
    /// The upstream is ready, and lists these.
    Lists(Vec<u8>),
    /// The upstream is not ready; so much time passes.
    Away(u64),
    Passes(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let lists = prop::collection::btree_set(0..12_u8, 0..6);
    let lists = lists.prop_map(|list| Step::Lists(list.into_iter().collect()));
    let time = select(vec![1, 10, 29, 30, 40_u64]);
    let away = time.clone().prop_map(Step::Away);
    prop::collection::vec(
        prop_oneof![3 => lists, 1 => away, 1 => time.prop_map(Step::Passes)],
        1..20,
    )
}

const DAY: u64 = 86_400;

proptest! {
    /// A name is kept as long as it is listed, while its upstream is away, and for 30 days after;
    /// and an upstream never has more than twice what it listed at most.
    #[test]
    fn names_lapse_only_when_a_ready_upstream_has_not_listed_them_for_long(steps in steps()) {
        let mut names = RouteNames::default();
        let (mut now, mut most) = (1_000 * DAY, 0);
        let mut unlisted = BTreeMap::<u8, u64>::new();
        let kept = Duration::from_secs(30 * DAY);
        for step in steps {
            let list = match step {
                Step::Away(days) | Step::Passes(days) => {
                    now += days * DAY;
                    continue;
                }
                Step::Lists(list) => list,
            };
            most = most.max(list.len());
            let held = names.of_mut(ListKind::Tools);
            for number in &list {
                let holder = Holder {
                    owner: owner("up", &number.to_string()),
                    by: NamedBy::Auto,
                    since: now,
                    unlisted: None,
                    free: false,
                };
                held.put(&number.to_string(), holder);
                unlisted.remove(number);
            }
            let is_listed = |own: &str| list.iter().any(|number| number.to_string() == own);
            let names_before: Vec<_> = held.iter().map(|(name, _)| name.clone()).collect();
            let dropped = held.bound(&"up".into(), list.len(), NAMES_PER_ENTRY, &is_listed);
            prop_assert!(dropped.iter().all(|name| !is_listed(name)));
            // Those go first that have not been listed for longest.
            let since = |name: &String| {
                unlisted.get(&name.parse().unwrap()).copied().unwrap_or(u64::MAX)
            };
            let stay = names_before.iter().filter(|name| !dropped.contains(name));
            let oldest = stay.filter(|name| !is_listed(name)).map(since).min();
            let newest = dropped.iter().map(since).max();
            prop_assert!(newest.zip(oldest).is_none_or(|(gone, stays)| gone <= stays));
            prop_assert!(held.iter().count() <= (2 * most).max(list.len()));
            lapse(&mut names, now, kept, &|_, _| true, &|_, owner| is_listed(&owner.own));
            for (name, holder) in names.of(ListKind::Tools).iter() {
                let number: u8 = name.parse().unwrap();
                let mut missing = || *unlisted.entry(number).or_insert(now);
                let since = (!is_listed(name)).then(&mut missing);
                prop_assert_eq!(holder.unlisted, since);
                prop_assert_eq!(holder.free, since.is_some_and(|since| 30 * DAY <= now - since));
            }
        }
    }

    #[test]
    fn a_book_is_the_same_once_it_was_written(
        names in prop::collection::vec(
            (".{0,40}", "[a-c]", ".{0,40}", any::<(bool, bool)>()),
            0..20,
        ),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let ledger = open(folder.path());
        for (name, upstream, own, (free, unlisted)) in &names {
            for kind in ListKind::ALL {
                let holder = Holder {
                    owner: owner(upstream, own),
                    by: NamedBy::Pin,
                    since: 7,
                    unlisted: unlisted.then_some(8),
                    free: *free,
                };
                let put = |held: &mut HeldNames| {
                    held.put(name, holder);
                    held.had(&upstream.as_str().into(), 3);
                };
                ledger.edit(&"/r".into(), kind, put).unwrap();
            }
        }
        prop_assert_eq!(&*open(folder.path()).book(), &*ledger.book());
    }
}

#[test]
fn an_upstream_whose_section_has_another_name_keeps_its_names() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    let config = |upstreams: &[(&str, &str)]| {
        let names: Vec<_> = upstreams.iter().map(|(name, _)| name).collect();
        let mut text = format!("[routes.\"/mcp\"]\nupstreams = {names:?}\n");
        for (name, url) in upstreams {
            text.push_str(&format!("[upstreams.{name}]\nurl = \"http://{url}/mcp\"\n"));
        }
        crate::config::parse("routes.toml", &text, &|_| None).unwrap()
    };
    ledger.follow(&config(&[("git", "one"), ("db", "two")]));
    ledger.claim_here(&"/mcp".into(), &naming(vec![claim("log", owner("git", "log"))]));
    ledger.follow(&config(&[("github", "one"), ("db", "two")]));
    assert_eq!(held(&ledger), [("log".to_owned(), "github".to_owned())]);
    // Another server does not.
    ledger.follow(&config(&[("gitlab", "three"), ("db", "two")]));
    assert_eq!(held(&ledger), [("log".to_owned(), "github".to_owned())]);
}
