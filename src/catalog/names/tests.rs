//! Tests what every name must be, whatever upstreams list.

use std::collections::{BTreeMap, HashMap, HashSet};

use proptest::{prelude::*, sample::select, test_runner::TestCaseError};

use crate::{
    call::{ListKind, UpstreamName},
    catalog::held_names::{HeldNames, Holder, NamedBy, Owner},
    config::Names,
};

use super::{namer::NAME_CHARS_MAX, *};

/// Upstreams whose names are easily taken for another's.
const UPSTREAMS: [&str; 8] = ["b", "evil", "x", "x__y", "x_", "a-b", "a_b", "evil__b"];
/// Pieces that nasty names are made of.
const PIECES: [&str; 16] = [
    "b__",
    "B__",
    "x__",
    "x__y__",
    "x___",
    "evil__",
    "a_b",
    "a-b+",
    "__",
    "_",
    ".",
    " ",
    "log",
    "\u{e9}",
    "_1a2b3c4d",
    "b+mem://",
];

/// Lists of a route, and what its configuration says.
#[derive(Debug, Clone)]
struct World {
    upstreams: Vec<UpstreamName>,
    entries: Vec<(UpstreamName, String, String)>,
    rule: Names,
    kind: ListKind,
    records: bool,
}

impl World {
    fn name(&self, held: &HeldNames) -> Vec<Result<ChosenName, Why>> {
        let entries: Vec<_> = self.entries.iter().map(entry).collect();
        let renames = self.entries.iter().filter(|(_, own, wanted)| own != wanted);
        let renames = renames.fold(BTreeMap::new(), |mut all, (upstream, own, wanted)| {
            all.entry(wanted.clone()).or_insert(owner(upstream, own));
            all
        });
        let prefixes = Prefixes::new(&self.upstreams);
        let namer = Namer {
            rule: self.rule,
            kind: self.kind,
            prefixes: &prefixes,
            held,
            pins: &BTreeMap::new(),
            renames: &renames,
            blocked: &HashSet::new(),
            records: self.records,
        };
        namer.name_all(&entries)
    }

    /// Names that are held once these were served.
    fn served(&self, named: &[Result<ChosenName, Why>], mut held: HeldNames) -> HeldNames {
        for ((upstream, own, _), named) in self.entries.iter().zip(named) {
            if let Ok(ChosenName { name, by, .. }) = named {
                held.put(name, holder(upstream, own, *by));
            }
        }
        held
    }
}

fn entry((upstream, own, wanted): &(UpstreamName, String, String)) -> NameRequest<'_> {
    NameRequest { upstream, own, wanted }
}

fn owner(upstream: &str, own: &str) -> Owner {
    Owner { upstream: upstream.into(), own: own.to_owned() }
}

fn holder(upstream: &str, own: &str, by: NamedBy) -> Holder {
    Holder { owner: owner(upstream, own), by, since: 1, unlisted: None, free: false }
}

fn own_names() -> impl Strategy<Value = String> {
    let nasty = prop::collection::vec(select(&PIECES[..]), 1..4).prop_map(|all| all.concat());
    let long = (select(&PIECES[..]), 55..90_usize)
        .prop_map(|(piece, most)| format!("{piece}{}", "y".repeat(most)));
    prop_oneof![4 => nasty, 1 => long, 1 => ".{1,80}", 2 => "[a-c]{1,2}"]
}

fn worlds() -> impl Strategy<Value = World> {
    let upstreams = prop::sample::subsequence(UPSTREAMS.to_vec(), 1..5).prop_shuffle();
    let rule = select(vec![Names::Auto, Names::Always, Names::Never]);
    let lists = prop::collection::vec((0..5_usize, own_names(), any::<u8>()), 1..24);
    let all = (upstreams, rule, select(ListKind::ALL.to_vec()), lists, prop::bool::weighted(0.8));
    all.prop_map(|(upstreams, rule, kind, lists, records)| {
        let mut known = HashSet::new();
        let entries = lists.into_iter().filter_map(|(at, own, renamed)| {
            let upstream = UpstreamName::from(upstreams[at % upstreams.len()]);
            let wanted = if renamed < 20 { format!("given{}", renamed % 4) } else { own.clone() };
            known.insert((upstream.clone(), own.clone())).then_some((upstream, own, wanted))
        });
        let mut entries: Vec<_> = entries.collect();
        entries.sort_by_key(|(upstream, ..)| upstreams.iter().position(|one| *upstream == *one));
        let upstreams = upstreams.iter().map(|&one| one.into()).collect();
        World { upstreams, entries, rule, kind, records }
    })
}

/// All that must be true of any names.
fn check(world: &World, named: &[Result<ChosenName, Why>]) -> Result<(), TestCaseError> {
    prop_assert_eq!(named.len(), world.entries.len());
    let (prefixes, mut seen) = (Prefixes::new(&world.upstreams), HashSet::new());
    for ((upstream, own, wanted), named) in world.entries.iter().zip(named) {
        let ChosenName { name, by, .. } = match named {
            Ok(named) => named,
            Err(why) => {
                // Nothing is lost but what the rule says is left out.
                let other = matches!(why, Why::Taken(other) if **upstream != **other);
                prop_assert!(world.rule == Names::Never && other, "{own:?} is lost: {why:?}");
                continue;
            }
        };
        prop_assert!(seen.insert(name.clone()), "{name:?} twice");
        if world.kind == ListKind::Tools {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
            prop_assert!(!name.is_empty() && name.len() <= NAME_CHARS_MAX, "{name:?}");
            prop_assert!(name.bytes().all(fits), "{name:?}");
        }
        if *by != NamedBy::Config || own == wanted {
            let owner = prefixes.owner(world.kind, name);
            prop_assert!(owner.is_none_or(|it| it == upstream), "{name:?} of {upstream}");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn names_are_bounded_unique_and_their_own_upstreams(world in worlds()) {
        let named = world.name(&HeldNames::default());
        check(&world, &named)?;
        prop_assert_eq!(&named, &world.name(&HeldNames::default()), "the same each time");
        // A name that is right and that nobody else wants is kept.
        let wanted = |name: &str| world.entries.iter().filter(|it| it.2 == name).count();
        let prefixes = Prefixes::new(&world.upstreams);
        for ((upstream, own, given), named) in world.entries.iter().zip(&named) {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
            let is_plain = own == given && own.chars().all(plain) && own.len() <= NAME_CHARS_MAX;
            let free = prefixes.owner(world.kind, own).is_none_or(|it| it == upstream);
            let alone = wanted(own) == 1 && world.rule != Names::Always;
            if is_plain && free && alone && world.records {
                prop_assert_eq!(&named.as_ref().unwrap().name, own);
            }
        }
    }

    /// Upstreams come, go, list less, more and in another order: what was served stays.
    #[test]
    fn names_that_were_served_stay(
        world in worlds(),
        more in prop::collection::vec(own_names(), 0..8),
        (kept, seed) in (prop::collection::vec(any::<bool>(), 24), any::<u64>()),
    ) {
        let world = World { records: true, ..world };
        let first = world.name(&HeldNames::default());
        let held = world.served(&first, HeldNames::default());
        let served: HashMap<_, _> = world.entries.iter().zip(&first).collect();
        let mut next = world.clone();
        let mut keep = kept.iter().cycle();
        next.entries.retain(|_| *keep.next().unwrap());
        for (at, own) in more.into_iter().enumerate() {
            let upstream = world.upstreams[at % world.upstreams.len()].clone();
            if world.entries.iter().all(|known| (&known.0, &known.1) != (&upstream, &own)) {
                next.entries.push((upstream, own.clone(), own));
            }
        }
        let mut known = HashSet::new();
        next.entries.retain(|it| known.insert((it.0.clone(), it.1.clone())));
        let turn = usize::try_from(seed % 24).unwrap() % next.entries.len().max(1);
        next.entries.rotate_left(turn);
        let named = next.name(&held);
        check(&next, &named)?;
        for (entry, named) in next.entries.iter().zip(&named) {
            let Ok(named) = named else { continue };
            // No name leads elsewhere than it did, but for what the configuration gives.
            let before = held.get(&named.name).map(|holder| &holder.owner);
            let same = before.is_none_or(|it| (&it.upstream, &it.own) == (&entry.0, &entry.1));
            prop_assert!(same || named.by == NamedBy::Config, "{named:?} was {before:?}");
            let is_renamed = entry.1 != entry.2;
            if let Some(Ok(first)) = served.get(entry).filter(|_| !is_renamed) {
                let taken = next.entries.iter().any(|it| it.1 != it.2 && it.2 == first.name);
                prop_assert!(taken || first.name == named.name, "{first:?} became {named:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// An upstream joins, and what its neighbours were served under is its own by its prefix: that
    /// counts for more than who was first, and nothing is lost of it.
    #[test]
    fn a_prefix_is_its_upstreams_whoever_had_the_name_before(
        world in worlds(),
        before in 1..4_usize,
    ) {
        let world = World { records: true, ..world };
        let known: Vec<_> = world.upstreams.iter().take(before).cloned().collect();
        let entries = world.entries.iter().filter(|entry| known.contains(&entry.0));
        let entries = entries.cloned().collect();
        let first = World { upstreams: known, entries, ..world.clone() };
        let held = first.served(&first.name(&HeldNames::default()), HeldNames::default());
        check(&world, &world.name(&held))?;
    }
}

/// The same in ten shapes: what `evil` was served under is `b`'s from when `b` is there.
#[test]
fn who_had_a_name_with_the_prefix_of_a_newcomer_yields() {
    use ListKind::{Prompts, Resources, Templates, Tools};
    let has = |upstreams: &[&str], kind, own: &str| World {
        upstreams: upstreams.iter().map(|&one| one.into()).collect(),
        entries: vec![("evil".into(), own.to_owned(), own.to_owned())],
        rule: Names::Auto,
        kind,
        records: true,
    };
    for (kind, own, after) in [
        (Tools, "b__pay", "evil__b__pay"),
        (Tools, "B__pay", "evil__B__pay"),
        (Tools, "b__pay__now", "evil__b__pay__now"),
        (Tools, "b__", "evil__b__"),
        (Prompts, "b__pay", "evil__b__pay"),
        (Prompts, "B__pay", "evil__B__pay"),
        (Resources, "b+mem://x", "evil+b+mem://x"),
        (Resources, "B+mem://x", "evil+B+mem://x"),
        (Templates, "b+mem://{x}", "evil+b+mem://{x}"),
        (Templates, "B+mem://{x}", "evil+B+mem://{x}"),
    ] {
        let alone = has(&["evil"], kind, own);
        let named = alone.name(&HeldNames::default());
        assert_eq!(named[0].as_ref().unwrap().name, own, "nobody else is there");
        let held = alone.served(&named, HeldNames::default());
        assert_eq!(alone.name(&held)[0].as_ref().unwrap().name, own, "it is kept");
        let joined = has(&["evil", "b"], kind, own).name(&held);
        assert_eq!(joined[0].as_ref().unwrap().name, after, "{own}");
        let other = has(&["evil", "c"], kind, own).name(&held);
        assert_eq!(other[0].as_ref().unwrap().name, own, "another newcomer changes nothing");
    }
}

/// Names `own`s of `evil`, which stands before `b` in the route; `b` has one entry, `b_own`.
fn beside(rule: Names, kind: ListKind, owns: &[&str], b_own: &str) -> Vec<Option<String>> {
    let entries = owns.iter().map(|own| ("evil", *own)).chain([("b", b_own)]);
    let entries = entries.map(|(up, own)| (up.into(), own.to_owned(), own.to_owned()));
    let upstreams = ["evil", "b", "x_y"].map(UpstreamName::from).to_vec();
    let world = World { upstreams, entries: entries.collect(), rule, kind, records: true };
    let named = world.name(&HeldNames::default()).into_iter();
    named.map(|named| named.ok().map(|named| named.name)).collect()
}

/// Shapes in which an upstream may try to pass for `b`, by rule and kind; what they become.
#[test]
fn nobody_takes_the_prefix_of_another() {
    use ListKind::{Prompts, Resources, Templates, Tools};
    use Names::{Always, Auto, Never};
    let shapes = [
        (Auto, Tools, "b__pay", "evil__b__pay"),
        (Auto, Tools, "B__pay", "evil__B__pay"),
        (Auto, Tools, "b..pay", "evil__b__pay"),
        (Auto, Tools, "b  pay", "evil__b__pay"),
        (Auto, Tools, "b__", "evil__b__"),
        (Auto, Tools, "b__pay__now", "evil__b__pay__now"),
        (Always, Tools, "b__pay", "evil__b__pay"),
        (Always, Tools, "pay", "evil__pay"),
        (Never, Tools, "b__pay", "evil__b__pay"),
        (Auto, Prompts, "b__pay", "evil__b__pay"),
        (Auto, Prompts, " b__pay", "evil__ b__pay"),
        (Always, Prompts, "B__pay", "evil__B__pay"),
        (Never, Prompts, "b__pay", "evil__b__pay"),
        (Auto, Resources, "b+mem://x", "evil+b+mem://x"),
        (Auto, Resources, "B+mem://x", "evil+B+mem://x"),
        (Auto, Resources, "x-y+mem://x", "evil+x-y+mem://x"),
        (Always, Resources, "b+mem://x", "evil+b+mem://x"),
        (Never, Resources, "b+mem://x", "evil+b+mem://x"),
        (Auto, Templates, "b+mem://{x}", "evil+b+mem://{x}"),
        (Never, Templates, "B+mem://{x}", "evil+B+mem://{x}"),
    ];
    for (rule, kind, own, want) in shapes {
        let shown = beside(rule, kind, &[own], "other");
        assert_eq!(shown[0].as_deref(), Some(want), "{own} under {rule:?}");
    }
}

/// An upstream that lists what another's entry would be called beside it.
#[test]
fn the_other_keeps_its_entry_whatever_is_listed_beside_it() {
    let long = "y".repeat(70);
    let hashed = beside(Names::Auto, ListKind::Tools, &["pay"], &long)[1].clone().unwrap();
    for (owns, own) in [
        (&["pay", "b__pay"][..], "pay"),
        (&["pay", "b__pay", "evil__b__pay"], "pay"),
        (&[hashed.as_str()], long.as_str()),
        (&["a.b", "a_b", "a b"], "a_b"),
    ] {
        let shown = beside(Names::Auto, ListKind::Tools, owns, own);
        let unique: HashSet<_> = shown.iter().flatten().collect();
        assert_eq!(unique.len(), owns.len() + 1, "{shown:?}");
    }
}

#[test]
fn of_two_prefixes_the_longer_one_leads() {
    let prefixes = Prefixes::new(&["x".into(), "x__y".into()]);
    for rule in [Names::Auto, Names::Always, Names::Never] {
        let list = [("x", "y__pay"), ("x", "pay"), ("x__y", "pay"), ("x", "y_pay")];
        let list = list.map(|(up, own)| (up.into(), own.to_owned(), own.to_owned()));
        let upstreams = vec!["x".into(), "x__y".into()];
        let (entries, kind, records) = (list.to_vec(), ListKind::Tools, true);
        let world = World { upstreams, entries, rule, kind, records };
        for (entry, named) in world.entries.iter().zip(world.name(&HeldNames::default())) {
            let Ok(named) = named else { continue };
            let owner = prefixes.owner(kind, &named.name);
            assert!(owner.is_none_or(|owner| *owner == entry.0), "{named:?} of {entry:?}");
            if rule == Names::Always {
                assert_eq!(owner, Some(&entry.0));
            }
        }
    }
}

#[test]
fn exact_names_come_first_and_what_is_mended_yields() {
    let shown = |owns: &[&str]| beside(Names::Auto, ListKind::Tools, owns, "other");
    for owns in [
        &["a.b", "a_b"][..],
        &["a_b", "a.b"],
        &["a b", "a.b", "a_b"],
        &["a/b", "a_b"],
        &["a_b", "a:b"],
        &["a,b", "a_b", "a;b"],
        &["a\tb", "a_b"],
        &["a@b", "a#b", "a$b", "a_b"],
        &["a_b", "a+b", "a=b", "a~b"],
        &["a(b", "a_b", "a)b", "a\"b", "a'b"],
        &["a\nb", "a\rb", "a_b"],
    ] {
        let names = shown(owns);
        let exact = owns.iter().position(|own| *own == "a_b").unwrap();
        assert_eq!(names[exact].as_deref(), Some("a_b"));
        for (name, own) in names.iter().flatten().zip(owns).filter(|(_, own)| **own != "a_b") {
            assert!(name.starts_with("a_b_") && name.len() == "a_b_".len() + 8, "{own}: {name}");
        }
    }
    // Of two upstreams likewise.
    let names = beside(Names::Auto, ListKind::Tools, &["a.b"], "a_b");
    assert_eq!(names, [Some("evil__a_b".to_owned()), Some("a_b".to_owned())]);
}

#[test]
fn never_leaves_the_later_one_out() {
    let names = beside(Names::Never, ListKind::Tools, &["log"], "log");
    assert_eq!(names, [Some("log".to_owned()), None]);
    let names = beside(Names::Auto, ListKind::Resources, &["mem://x"], "mem://x");
    assert_eq!(names[1].as_deref(), Some("b+mem://x"));
}
