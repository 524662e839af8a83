//! A strict reader of what Prometheus reads (`OpenMetrics` 1.0): it fails on all that a scraper may
//! refuse, and on labels that a terminal should not show.

use std::collections::{BTreeMap, BTreeSet};

pub type Labels = BTreeMap<String, String>;

/// A whole exposition.
#[derive(Debug, Default)]
pub struct Exposition {
    /// Types of the families by name.
    pub types: BTreeMap<String, String>,
    pub samples: BTreeMap<(String, Labels), f64>,
}

impl Exposition {
    pub fn read(text: &str) -> Self {
        let mut read = Self::default();
        let text = text.strip_suffix("# EOF\n").expect("it ends with # EOF");
        let (mut family, mut told) = (String::new(), BTreeSet::new());
        for line in text.lines() {
            assert!(!line.chars().any(char::is_control), "{line:?}");
            if let Some(line) = line.strip_prefix("# ") {
                let mut words = line.splitn(3, ' ');
                let [word, name, rest] = [(); 3].map(|()| words.next().unwrap());
                assert!(told.insert((word.to_owned(), name.to_owned())), "twice: {line}");
                if name != family {
                    assert!(!read.types.contains_key(name), "not in one piece: {name}");
                    name.clone_into(&mut family);
                }
                match word {
                    "HELP" => assert!(!rest.is_empty(), "{line}"),
                    "UNIT" => assert!(name.ends_with(&format!("_{rest}")), "{line}"),
                    "TYPE" => drop(read.types.insert(name.to_owned(), rest.to_owned())),
                    _ => panic!("{line}"),
                }
            } else {
                assert!(told.contains(&("HELP".to_owned(), family.clone())), "no HELP: {line}");
                let kind = read.types.get(&family).unwrap_or_else(|| panic!("no TYPE: {line}"));
                let endings: &[&str] = match kind.as_str() {
                    "counter" => &["_total"],
                    "gauge" => &[""],
                    "histogram" => &["_bucket", "_sum", "_count"],
                    _ => panic!("{family} is a {kind}"),
                };
                let (name, labels, value) = sample(line);
                let known = endings.iter().any(|end| name == format!("{family}{end}"));
                assert!(known, "{name} is no sample of {family}");
                assert!(kind == "gauge" || 0.0 <= value, "{line}");
                assert!(read.samples.insert((name, labels), value).is_none(), "twice: {line}");
            }
        }
        let histograms: Vec<_> =
            read.types.iter().filter(|(_, kind)| *kind == "histogram").collect();
        histograms.into_iter().for_each(|(name, _)| read.check_histogram(name));
        read
    }

    /// The value of a sample with exactly these labels.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.samples.get(&(name.to_owned(), labels.collect())).copied()
    }

    /// The samples of a name.
    pub fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a Labels, f64)> {
        let own = self.samples.iter().filter(move |((of, _), _)| of == name);
        own.map(|((_, labels), value)| (labels, *value))
    }

    fn check_histogram(&self, family: &str) {
        let mut rows: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
        for (labels, value) in self.of(&format!("{family}_bucket")) {
            let mut labels = labels.clone();
            let bound = labels.remove("le").expect("a bucket has a bound");
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
            rows.entry(labels).or_default().push((bound, value));
        }
        let named = |end: &str| self.of(&format!("{family}_{end}")).count();
        assert_eq!([named("sum"), named("count")], [rows.len(); 2], "{family}");
        for (labels, mut buckets) in rows {
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            assert!(buckets.windows(2).all(|pair| pair[0].0 < pair[1].0), "{family} {labels:?}");
            assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{family} {labels:?}");
            let (last, all) = *buckets.last().unwrap();
            let count = self.samples.get(&(format!("{family}_count"), labels.clone()));
            assert!(last.is_infinite() && Some(&all) == count, "{family} {labels:?}");
        }
    }
}

/// The name, labels and value of a line.
fn sample(line: &str) -> (String, Labels, f64) {
    let is_word = |text: &str| {
        let mut chars = text.chars();
        chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let end = line.find(['{', ' ']).expect("a value");
    let (name, mut rest) = line.split_at(end);
    assert!(is_word(name), "{line}");
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"").expect("a label");
            assert!(is_word(label), "{line}");
            let (value, after) = quoted(after);
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
            rest = after.strip_prefix(',').unwrap_or(after);
            assert!(after.starts_with([',', '}']), "{line}");
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ').expect("one space").parse().expect(line);
    (name.to_owned(), labels, value)
}

/// The text up to its closing quote, and what is behind that.
fn quoted(text: &str) -> (String, &str) {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.push(match chars.next().map(|(_, c)| c) {
                Some('n') => '\n',
                Some(c @ ('\\' | '"')) => c,
                other => panic!("escaped: {other:?}"),
            }),
            c => value.push(c),
        }
    }
    panic!("{text} has no end")
}

#[test]
fn what_a_scraper_refuses_is_refused() {
    let counter = "# HELP a x.\n# TYPE a counter\n";
    let histogram = "# HELP h x.\n# TYPE h histogram\n";
    let read = |text: String| Exposition::read(&format!("{text}# EOF\n"));
    let good = read(format!("{counter}a_total{{b=\"c\\\"\\\\\\n\"}} 1\n"));
    assert_eq!(good.value("a_total", &[("b", "c\"\\\n")]), Some(1.0));
    read(format!(
        "{histogram}h_bucket{{le=\"1.0\"}} 1\nh_bucket{{le=\"+Inf\"}} 2\nh_sum 3\nh_count 2\n"
    ));
    for text in [
        "a_total 1\n".to_owned(),
        format!("{counter}a 1\n"),
        format!("{counter}b_total 1\n"),
        format!("{counter}a_total 1\na_total 1\n"),
        format!("{counter}a_total -1\n"),
        format!("{counter}a_total{{b=\"c}} 1\n"),
        format!("{counter}a_total{{b=\"c\",b=\"d\"}} 1\n"),
        format!("{counter}a_total{{b=\"\\x\"}} 1\n"),
        format!("{counter}a_total{{b=\"\u{1b}\"}} 1\n"),
        format!("{counter}a_total one\n"),
        format!("{counter}{counter}a_total 1\n"),
        "# HELP a x.\n# TYPE a gauge\n# UNIT a seconds\na 1\n".to_owned(),
        format!("{histogram}h_bucket{{le=\"1.0\"}} 1\nh_sum 3\nh_count 2\n"),
        format!(
            "{histogram}h_bucket{{le=\"1.0\"}} 3\nh_bucket{{le=\"+Inf\"}} 2\nh_sum 3\nh_count 2\n"
        ),
        format!("{histogram}h_bucket{{le=\"+Inf\"}} 2\nh_count 2\n"),
    ] {
        let shown = text.clone();
        let refused = std::panic::catch_unwind(|| read(text));
        assert!(refused.is_err(), "{shown}");
    }
    let unended = std::panic::catch_unwind(|| Exposition::read("# HELP a x.\n"));
    assert!(unended.is_err());
}
