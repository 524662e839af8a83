//! Tests what detectors find, and what they do not.

use std::{collections::BTreeMap, sync::Arc};

use proptest::{prelude::*, test_runner::TestRunner};
use regex_syntax::hir::{Hir, HirKind, Repetition};
use serde::Deserialize;

use crate::{
    config::{Check, Detect, Detector, Place, Then, built_in},
    mcp::{document::Document, raw::Raw},
    telemetry::Counters,
};

use super::*;

#[derive(Deserialize)]
struct Sample {
    finds: Vec<String>,
    passes: Vec<String>,
}

fn look(detectors: &Detectors, find: &str, then: Then) -> Arc<DetectorSelection> {
    let detect = Detect { find: vec![find.to_owned()], places: vec![Place::Results], then };
    assert_eq!(detectors.select(std::slice::from_ref(&detect), Place::Arguments), None);
    detectors.select(&[detect], Place::Results).unwrap()
}

fn read(text: &str) -> Document {
    Document::new(Raw::trusted(text.to_owned()))
}

fn searched(find: &str, then: Then, document: &str) -> (ScanResult, BTreeMap<String, u64>) {
    let (detectors, counters) = (Detectors::new(&[]), Counters::default());
    let look = look(&detectors, find, then);
    let found = detectors.scan(&look, &read(document), &["requestState"], &counters);
    (found, counters.read())
}

#[test]
fn each_detector_finds_what_it_must_and_nothing_else() {
    let samples: BTreeMap<String, BTreeMap<String, Sample>> =
        toml::from_str(include_str!("samples.toml")).unwrap();
    let (detectors, counters) = (Detectors::new(&[]), Counters::default());
    let (mut faults, mut known) = (Vec::new(), Vec::new());
    for (family, ones) in samples {
        for (one, Sample { finds, passes }) in ones {
            let name = format!("{family}:{one}");
            let look = look(&detectors, &name, Then::Block);
            let found = |text: &str| {
                let document = Raw::encode(&serde_json::json!({ "a": [text.replace('~', "")] }));
                detectors.scan(&look, &Document::new(document), &[], &counters).blocked
            };
            assert!(!finds.is_empty() && !passes.is_empty(), "{name}");
            // Alone in its document, and behind a letter that is none of ASCII and an escape.
            let missed = finds.iter().flat_map(|text| [text.clone(), format!("é\n{text}\té")]);
            let missed = missed.filter(|text| found(text).as_deref() != Some(name.as_str()));
            faults.extend(missed.map(|text| format!("{name} misses {text}")));
            let wrong = passes.iter().filter(|text| found(text).is_some());
            faults.extend(wrong.map(|text| format!("{name} finds {text}")));
            known.push(name);
        }
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
    let mut all: Vec<_> = built_in().iter().map(|detector| detector.name.clone()).collect();
    all.sort();
    known.sort();
    assert_eq!(known, all, "each detector has samples");
    let mut compiled: Vec<_> = detectors.names().map(str::to_owned).collect();
    compiled.sort();
    assert_eq!(compiled, all, "a pattern that is too large would never find anything");
}

/// Words that stand in a pattern itself: in lower case, of three letters at least.
fn words(pattern: &str) -> Vec<String> {
    let without = |pattern: &str, part: &str| {
        regex::Regex::new(part).unwrap().replace_all(pattern, " ").into_owned()
    };
    let bare = without(pattern, r"\\u\{[0-9A-F]+\}|\\.");
    let bare = without(&bare, r"\[\^?\]?[^\]]*\]");
    let bare = without(&bare, r"\(\?[a-z-]*:?");
    let words = bare.split(|c: char| !c.is_ascii_alphabetic() && c != '_');
    words.filter(|word| 3 <= word.len()).map(str::to_ascii_lowercase).collect()
}

/// A detector of which a word is left out of the keywords never looks at it.
#[test]
fn each_word_of_a_pattern_stands_in_a_text_that_it_must_find() {
    let samples: BTreeMap<String, BTreeMap<String, Sample>> =
        toml::from_str(include_str!("samples.toml")).unwrap();
    let (mut missing, mut all) = (Vec::new(), 0);
    for detector in built_in() {
        let (family, name) = detector.name.split_once(':').unwrap();
        let finds = samples[family][name].finds.join("\n").replace('~', "").to_lowercase();
        for word in words(&detector.pattern) {
            all += 1;
            if !finds.contains(&word) {
                missing.push(format!("{}: {word}", detector.name));
            }
        }
    }
    assert!(missing.is_empty(), "no text that must be found has\n{}", missing.join("\n"));
    assert!(150 < all, "{all} words");
}

/// Texts that a detector's pattern matches, made from the pattern itself: without its boundaries
/// and anchors, which no generator can keep.
fn matches(pattern: &str) -> proptest::string::RegexGeneratorStrategy<String> {
    fn without_looks(hir: Hir) -> Hir {
        match hir.into_kind() {
            HirKind::Look(_) => Hir::empty(),
            HirKind::Capture(group) => without_looks(*group.sub),
            HirKind::Repetition(each) => {
                // Long enough: what may be longer has nothing that a keyword is in.
                let max = each.max.map_or(each.min + 3, |max| max.min(each.min + 3));
                let sub = Box::new(without_looks(*each.sub));
                Hir::repetition(Repetition { max: Some(max), sub, ..each })
            }
            HirKind::Concat(all) => Hir::concat(all.into_iter().map(without_looks).collect()),
            HirKind::Alternation(all) => {
                Hir::alternation(all.into_iter().map(without_looks).collect())
            }
            HirKind::Empty => Hir::empty(),
            HirKind::Literal(literal) => Hir::literal(literal.0),
            HirKind::Class(class) => Hir::class(class),
        }
    }
    let hir = without_looks(regex_syntax::parse(pattern).unwrap());
    proptest::string::string_regex_parsed(&hir).unwrap()
}

/// A detector is not asked of a text that has none of its keywords, so one that can match such a
/// text never fires there.
#[test]
fn whatever_a_pattern_matches_has_a_keyword_of_its_detector() {
    let mut runner = TestRunner::new(ProptestConfig { cases: 100, ..ProptestConfig::default() });
    for detector in built_in().iter().filter(|one| !one.keywords.is_empty()) {
        let held = runner.run(&matches(&detector.pattern), |text| {
            // Two letters beyond ASCII are the other case of letters in it; they are read as these.
            let text = text.to_lowercase().replace('\u{17f}', "s");
            let has = detector.keywords.iter().any(|word| text.contains(word.as_str()));
            prop_assert!(has, "{} can match {text:?}, which has no keyword", detector.name);
            Ok(())
        });
        assert!(held.is_ok(), "{}", held.unwrap_err());
    }
}

/// Texts that people and programs write all day.
#[test]
fn plain_texts_have_nothing_in_them() {
    let texts = [
        include_str!("../../../README.md"),
        include_str!("../../../docs/limits.md"),
        include_str!("../../../tests/schemas/2025-11-25.json"),
        "commit 9bc514c1dde609c5a78ef319bdef28786da63a2f5dbfce263 on 2026-11-24T10:00:00Z",
        "3f2504e0-4f89-11d3-9a0c-0305e82c3301 0x1f4a 192.168.0.1:8080 [::1]:443 v1.2.3-rc.4",
        "SELECT count(*) FROM orders WHERE total > 1234.56 AND id IN (1000000, 2000000, 3000000);",
        "Total 1'234'567.89 CHF, order 4000123412341235, tracking 00340434161094022115",
    ];
    let (detectors, counters) = (Detectors::new(&[]), Counters::default());
    for find in ["secrets", "personal", "injection", "exfiltration"] {
        let look = look(&detectors, find, Then::Redact);
        for text in texts {
            let document = Raw::encode(&text);
            let clean = detectors.scan(&look, &Document::new(document), &[], &counters).clean;
            assert!(!clean.as_str().contains("[redacted: "), "{find}: {clean:?}");
        }
    }
}

#[test]
fn what_is_found_is_written_over_and_all_else_stays() {
    let document = concat!(
        r#"{"content":[{"type":"text","text":"caf\u00e9 \ud83d\ude00 ann\u0040example.com, "#,
        r#"bob@example.com\n"}],"n":1e400, "requestState":"eve@example.com","x" : "a\/b"}"#,
    );
    let (found, counts) = searched("personal:email", Then::Redact, document);
    let want = document
        .replace(r"ann\u0040example.com", "[redacted: personal:email]")
        .replace("bob@example.com", "[redacted: personal:email]");
    assert_eq!((found.clean.as_str(), found.blocked), (want.as_str(), None));
    assert_eq!((counts["personal_redacted"], counts["personal_blocked"]), (2, 0));
}

#[test]
fn an_escape_hides_nothing_and_a_key_is_a_text() {
    let hidden = r#"["\u0041\u004bIAIOSFODNN7EXAMPLE"]"#;
    assert_eq!(searched("secrets", Then::Block, hidden).0.blocked.as_deref(), Some("secrets:aws"));
    let key = r#"{"AKIAIOSFODNN7EXAMPLE":1}"#;
    assert_eq!(
        searched("secrets", Then::Redact, key).0.clean.as_str(),
        r#"{"[redacted: secrets:aws]":1}"#
    );
    let flagged = searched("secrets", Then::Flag, key);
    assert_eq!((flagged.0.clean.as_str(), flagged.1["secrets_flagged"]), (key, 1));
}

#[test]
fn two_that_overlap_are_written_over_at_once() {
    let document = r#"["AIPATOKEN postgres://app:pw@mail.example.com:5432/x 4111 1111 1111 1111"]"#;
    let custom = Detector {
        name: "custom:all".to_owned(),
        keywords: Vec::new(),
        pattern: "postgres://[^ ]+".to_owned(),
        check: Check::None,
        unicode: false,
    };
    let (detectors, counters) = (Detectors::new(&[custom]), Counters::default());
    let find = ["custom", "personal", "secrets"].map(str::to_owned).to_vec();
    let detect = Detect { find, places: vec![Place::Results], then: Then::Redact };
    let look = detectors.select(&[detect], Place::Results).unwrap();
    let clean = detectors.scan(&look, &Document::new(Raw::trusted(document)), &[], &counters).clean;
    assert_eq!(clean.as_str(), r#"["AIPATOKEN [redacted: custom:all] [redacted: personal:card]"]"#);
    assert_eq!(counters.read()["custom_redacted"], 1);
}

#[test]
fn of_two_sections_the_stronger_action_counts() {
    let detectors = Detectors::new(&[]);
    let both =
        look(&detectors, "secrets", Then::Flag).or(&look(&detectors, "secrets:aws", Then::Block));
    let search = |text: &str| {
        let document = Raw::encode(&text);
        detectors.scan(&both, &Document::new(document), &[], &Counters::default()).blocked
    };
    assert!(search("AKIAIOSFODNN7EXAMPLE").is_some());
    assert_eq!(search("postgres://app:s3cr3t-pw@db.internal/x"), None);
}
