//! All patterns of a configuration, looked for at once.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use regex::{RegexBuilder, RegexSet, RegexSetBuilder};

use crate::{
    config::{self, Config, Detect, Detector, Place, Then, built_in},
    guard::{
        readings,
        texts::{self, Patch, Text},
    },
    mcp::{document::Document, raw::Raw, word::ESCAPE},
    telemetry::Counters,
};

use super::pattern::{By, Family, One, PATTERN_BYTES_MAX};

/// Bytes that all shapes may take together while they are looked for.
const SHAPES_BYTES_MAX: usize = 16 << 20;

/// All detectors, compiled.
#[derive(Debug)]
pub struct Detectors {
    all: Vec<One>,
    words: AhoCorasick,
    /// Detector of each word.
    owners: Vec<usize>,
    /// Tollgate's own patterns that have no words, all looked for at once. Each has a digit.
    shapes: RegexSet,
    /// Detector of each shape.
    shaped: Vec<usize>,
}

/// Detectors that look in one place, in their order, and what is done about what each finds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DetectorSelection(Vec<Option<Then>>);

/// Outcome of a search through a document.
#[derive(Debug)]
pub struct ScanResult {
    /// The document, with what is to be written over.
    pub clean: Raw,
    /// Name of the detector that found what must not pass at all.
    pub blocked: Option<String>,
    /// Detectors that found something, and what is done then.
    pub by: BTreeMap<String, Then>,
}

struct Hit {
    part: Range<usize>,
    by: usize,
    then: Then,
}

impl Detectors {
    /// Tollgate's own, and these.
    pub fn new(more: &[Detector]) -> Self {
        let mut all = Vec::new();
        let mut words = Vec::new();
        let mut owners = Vec::new();
        let mut shapes = Vec::new();
        let mut shaped = Vec::new();
        let own = built_in().iter().map(|detector| (detector, true));
        for (detector, is_own) in own.chain(more.iter().map(|detector| (detector, false))) {
            let pattern =
                RegexBuilder::new(&detector.pattern).size_limit(PATTERN_BYTES_MAX).build();
            // Those of the file were compiled when it was read, within less.
            let Ok(pattern) = pattern else { continue };
            owners.extend(detector.keywords.iter().map(|_| all.len()));
            words.extend(detector.keywords.iter().map(String::as_str));
            let looked_for = match detector.keywords.is_empty() {
                false => By::Words,
                true if is_own && !detector.unicode => By::Shape,
                true => By::Nothing,
            };
            if looked_for == By::Shape {
                shapes.push(detector.pattern.as_str());
                shaped.push(all.len());
            }
            all.push(One {
                name: detector.name.clone(),
                family: Family::of(detector.family()),
                pattern,
                check: detector.check,
                unicode: detector.unicode,
                looked_for,
            });
        }
        let words = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::Standard)
            // Larger than other kinds, and a step for each byte, whatever it is.
            .kind(Some(AhoCorasickKind::DFA))
            .build(words)
            .expect("a few hundred short words");
        let shapes = RegexSetBuilder::new(shapes)
            .size_limit(SHAPES_BYTES_MAX)
            .dfa_size_limit(SHAPES_BYTES_MAX)
            .build()
            .expect("each was compiled alone, within less");
        Self { all, words, owners, shapes, shaped }
    }

    #[cfg(test)]
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|one| one.name.as_str())
    }

    /// Selects the detectors for a place from sections that say this; none where that is nothing.
    pub fn select(&self, detect: &[Detect], place: Place) -> Option<Arc<DetectorSelection>> {
        let mut look = DetectorSelection(vec![None; self.all.len()]);
        for detect in detect.iter().filter(|detect| detect.places.contains(&place)) {
            for (one, then) in self.all.iter().zip(&mut look.0) {
                let means =
                    |word: &String| one.name == *word || one.name.split(':').next() == Some(word);
                let is_meant = detect.find.iter().any(means);
                *then = (*then).max(is_meant.then_some(detect.then));
            }
        }
        look.0.iter().any(Option::is_some).then(|| Arc::new(look))
    }

    /// Looks through a document, but for the members of these names at its top.
    pub fn scan(
        &self,
        look: &DetectorSelection,
        document: &Document,
        handles: &[&str],
        counters: &Counters,
    ) -> ScanResult {
        let nothing = || {
            let clean = document.text().clone();
            let by = BTreeMap::new();
            ScanResult { clean, blocked: None, by }
        };
        let candidates = self.candidates(look, document.text());
        if candidates.is_empty() {
            return nothing();
        }
        let mut patches = Vec::new();
        let mut blocked = None;
        let mut names = BTreeMap::new();
        let handles = texts::members(document, handles);
        for text in texts::texts(document, &handles) {
            let hits = self.hits(look, &candidates, &text.meant);
            let found = hits.iter().filter_map(|hit| Some((self.all.get(hit.by)?, hit.then)));
            for (one, then) in found {
                counters.add(one.family.counter(then));
                names.entry(one.name.as_str()).or_insert(then);
                blocked = blocked.or((then == Then::Block).then(|| one.name.clone()));
            }
            self.write_over(&text, hits, &mut patches);
        }
        if !names.is_empty() {
            let names: Vec<_> = names.keys().copied().collect();
            tracing::info!(detectors = names.join(", "), blocked = blocked.is_some(), "found");
        }
        let by = names.into_iter().map(|(name, then)| (name.to_owned(), then)).collect();
        if patches.is_empty() && blocked.is_none() {
            return ScanResult { by, ..nothing() };
        }
        ScanResult { clean: texts::patched(document.text(), &patches), blocked, by }
    }

    /// The detectors that are selected and may find something in a document, by their places in
    /// `all`.
    fn candidates(&self, look: &DetectorSelection, document: &Raw) -> Vec<usize> {
        let selected = look.0.iter().enumerate().filter(|(_, then)| then.is_some());
        let mut candidates: Vec<_> = selected.map(|(at, _)| at).collect();
        let bytes = document.bytes();
        // Letters may be written as escapes; and behind any escape what is meant begins with what
        // looks like another letter.
        let is_as_written = !ESCAPE.is_in(bytes);
        if is_as_written && !readings::has_other_characters(document.as_str()) {
            let is_plain = memchr::memchr(b'\\', bytes).is_none();
            self.rule_out(&mut candidates, document.as_str(), is_plain);
        }
        candidates
    }

    /// Takes those out of `candidates` that find nothing in this text.
    fn rule_out(&self, candidates: &mut Vec<usize>, text: &str, by_shape: bool) {
        // Nothing is found in most texts, and then nothing is written down.
        let mut found = Vec::new();
        let mut note = |owner: Option<&usize>| {
            found.resize(self.all.len(), false);
            if let Some(found) = owner.and_then(|owner| found.get_mut(*owner)) {
                *found = true;
            }
        };
        if self.has(candidates, By::Words) {
            let words = self.words.find_overlapping_iter(text);
            words.for_each(|word| note(self.owners.get(word.pattern().as_usize())));
        }
        let has_digit = || text.bytes().any(|byte| byte.is_ascii_digit());
        if by_shape && self.has(candidates, By::Shape) && has_digit() {
            self.shapes.matches(text).iter().for_each(|shape| note(self.shaped.get(shape)));
        }
        let is_ascii = text.is_ascii();
        candidates.retain(|at| {
            let is_found = found.get(*at).copied().unwrap_or_default();
            self.all.get(*at).is_some_and(|one| {
                let may = match one.looked_for {
                    By::Words => is_found,
                    By::Shape => is_found || !by_shape,
                    By::Nothing => true,
                };
                may && !(one.unicode && is_ascii)
            })
        });
    }

    fn has(&self, candidates: &[usize], by: By) -> bool {
        let is_one = |at: &usize| self.all.get(*at).is_some_and(|one| one.looked_for == by);
        candidates.iter().any(is_one)
    }

    /// What is found in a text, in whatever way it is read; each place once for each detector.
    fn hits(&self, look: &DetectorSelection, candidates: &[usize], text: &str) -> Vec<Hit> {
        let mut hits = self.hits_as_read(look, candidates, text);
        for reading in readings::others(text) {
            let found = self.hits_as_read(look, candidates, &reading.text).into_iter();
            hits.extend(found.map(|hit| Hit { part: reading.place(&hit.part), ..hit }));
        }
        // In their order, so that of any number each is held against the one before it only.
        hits.sort_by_key(|hit| (hit.by, hit.part.start));
        hits.dedup_by(|hit, before| {
            let touches = hit.by == before.by && hit.part.start < before.part.end;
            if touches {
                before.part.end = before.part.end.max(hit.part.end);
            }
            touches
        });
        hits.sort_by_key(|hit| hit.part.start);
        hits
    }

    fn hits_as_read(&self, look: &DetectorSelection, candidates: &[usize], text: &str) -> Vec<Hit> {
        let mut hits = Vec::new();
        let mut candidates = candidates.to_vec();
        self.rule_out(&mut candidates, text, true);
        for by in candidates {
            let selected = look.0.get(by).copied().flatten();
            let Some((one, then)) = self.all.get(by).zip(selected) else { continue };
            let parts = one.parts(text).into_iter();
            hits.extend(parts.map(|part| Hit { part, by, then }));
        }
        hits
    }

    fn write_over(&self, text: &Text<'_>, hits: Vec<Hit>, patches: &mut Vec<Patch>) {
        let mut end = 0;
        if text.is_number() {
            let hit = hits.iter().find(|hit| hit.then != Then::Flag);
            let one = hit.and_then(|hit| self.all.get(hit.by));
            patches.extend(one.map(|one| Patch {
                place: text.place(&(0..0)),
                text: format!("\"[redacted: {}]\"", one.name),
            }));
            return;
        }
        for hit in hits.into_iter().filter(|hit| hit.then != Then::Flag) {
            let Some(one) = self.all.get(hit.by) else { continue };
            let place = text.place(&hit.part);
            match patches.last_mut() {
                // Two that overlap are one.
                Some(last) if hit.part.start < end => {
                    last.place.end = last.place.end.max(place.end)
                }
                _ => patches.push(Patch { place, text: format!("[redacted: {}]", one.name) }),
            }
            end = end.max(hit.part.end);
        }
    }
}

/// Whether anything is looked for anywhere.
pub fn detects(config: &Config) -> bool {
    let tools = |one: &config::Upstream| {
        one.tool_settings.values().any(|tool| !tool.guard.detect.is_empty())
    };
    config.routes.iter().any(|route| !route.guard.detect.is_empty())
        || config.upstreams.iter().any(|one| !one.guard.detect.is_empty() || tools(one))
}

impl DetectorSelection {
    /// Joins two selections; of two actions the stronger holds.
    pub fn or(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| *one.max(other)).collect())
    }
}
