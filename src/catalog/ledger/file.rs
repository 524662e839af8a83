//! The ledger as a file: a line of JSON for each name, so that damage costs only lines.

use std::{io, str};

use serde::{Deserialize, Serialize};

use crate::{
    call::{RoutePath, UpstreamName},
    store::StateFolder,
    telemetry::{Counter, Counters},
};

use super::{Book, Holder, kind::RecordKind};

pub const NAME: &str = "names.jsonl";
pub const LOCK: &str = "names.lock";
/// The file as it was before the last change.
const EARLIER: &str = "names.jsonl.earlier";

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Name {
        route: RoutePath,
        kind: RecordKind,
        name: String,
        #[serde(flatten)]
        holder: Holder,
    },
    /// The most entries that an upstream listed at once.
    Most {
        route: RoutePath,
        kind: RecordKind,
        upstream: UpstreamName,
        most: usize,
    },
    Source {
        upstream: UpstreamName,
        source: String,
    },
}

/// The book of the file; empty where there is none. Damaged lines are passed over: the file is put
/// aside for people to look at, and what the earlier one knew is taken in their place.
///
/// # Errors
/// Fails where a file of the state folder cannot be read, put aside or written.
pub fn read(store: &StateFolder, counters: &Counters) -> io::Result<Book> {
    let Some(bytes) = store.read(NAME)? else { return Ok(Book::default()) };
    let mut book = Book::default();
    let damaged = enter(&mut book, &bytes);
    if damaged == 0 {
        return Ok(book);
    }
    counters.add(Counter::NamesDamaged);
    let aside = store.put_aside(NAME)?;
    let mut whole = Book::default();
    let earlier = store.read(EARLIER)?;
    let lost = earlier.is_none_or(|bytes| enter(&mut whole, &bytes) != 0);
    let recovered = whole.lines().len();
    // The newer wins.
    let lines: Vec<_> = book.lines();
    for line in lines {
        whole.put(line);
    }
    tracing::error!(
        damaged,
        recovered,
        aside,
        "{NAME} in the state folder is damaged: {}",
        match lost {
            true => "names on its damaged lines may lead to other upstreams; see `tollgate names`",
            false => "what its damaged lines said was taken from the file before it",
        }
    );
    write(store, &whole)?;
    Ok(whole)
}

/// Writes the book whole; the file before it is kept once.
///
/// # Errors
/// Fails where a file of the state folder cannot be written.
pub fn write(store: &StateFolder, book: &Book) -> io::Result<()> {
    let mut text = Vec::new();
    for line in book.lines() {
        serde_json::to_writer(&mut text, &line)?;
        text.push(b'\n');
    }
    store.keep_earlier(NAME, EARLIER)?;
    store.write(NAME, &text)
}

/// Enters all lines; gives how many are none.
fn enter(book: &mut Book, bytes: &[u8]) -> usize {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut damaged = 0;
    for line in lines {
        match str::from_utf8(line).ok().and_then(|line| serde_json::from_str(line).ok()) {
            Some(line) => book.put(line),
            None => damaged += 1,
        }
    }
    damaged
}

impl Book {
    fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for (route, list, held) in self.lists() {
            let kind = RecordKind::of(list);
            lines.extend(held.iter().map(|(name, holder)| {
                let route = route.clone();
                let name = name.clone();
                let holder = holder.clone();
                Line::Name { route, kind, name, holder }
            }));
            lines.extend(held.most().map(|(upstream, most)| {
                let route = route.clone();
                let upstream = upstream.clone();
                Line::Most { route, kind, upstream, most }
            }));
        }
        lines.extend(self.sources.iter().map(|(upstream, source)| Line::Source {
            upstream: upstream.clone(),
            source: source.clone(),
        }));
        lines
    }

    fn put(&mut self, line: Line) {
        match line {
            Line::Name { route, kind, name, holder } => {
                self.routes.entry(route).or_default().of_mut(kind.list()).put(&name, holder);
            }
            Line::Most { route, kind, upstream, most } => {
                let names = self.routes.entry(route).or_default();
                names.of_mut(kind.list()).had(&upstream, most);
            }
            Line::Source { upstream, source } => {
                self.sources.insert(upstream, source);
            }
        }
    }
}
