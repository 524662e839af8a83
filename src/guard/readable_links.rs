//! URIs that upstreams gave to callers in results: those may be read by them although they are on
//! no list.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
};

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    call::Caller,
    mcp::{raw::Raw, word::Word},
    telemetry::{Counter, Counters},
};

/// Bytes of a URI that is noted; no client asks for a longer one.
const URI_BYTES_MAX: usize = 8 * 1024;

static URI: Word = Word::new("uri");

/// The links of a gate. They outlive reloads.
#[derive(Debug)]
pub struct ReadableLinks {
    given: Mutex<Given>,
    /// Keyed anew in each process: nobody can make up two links that are taken for one.
    hasher: RandomState,
    counters: Arc<Counters>,
}

/// The route on which a link is read, and the upstream that gave it.
#[derive(Debug, Clone, Copy, Hash)]
pub struct LinkOrigin<'a> {
    pub route: &'a str,
    pub upstream: &'a str,
}

#[derive(Debug, Default)]
struct Given {
    by_caller: HashMap<Caller, GivenToOne>,
    count: usize,
    /// Callers by how many links they have, each with a number for a name: whoever has the most is
    /// found without looking at all of them.
    by_count: BTreeSet<(usize, u64)>,
    numbered: HashMap<u64, Caller>,
    /// How many callers were numbered so far.
    numbers: u64,
}

/// Hashes of route, upstream and URI, the oldest first.
#[derive(Debug, Default)]
struct GivenToOne {
    number: u64,
    order: VecDeque<u64>,
    known: HashSet<u64>,
}

impl ReadableLinks {
    pub fn new(counters: Arc<Counters>) -> Self {
        Self { given: Mutex::default(), hasher: RandomState::new(), counters }
    }

    /// Notes the links of a result that an upstream gave a caller: of at most `max` links of all
    /// callers, and a tenth of that for each, the newest.
    pub fn note(&self, origin: LinkOrigin<'_>, caller: &Caller, result: &Raw, max: usize) {
        let links = links(result);
        if links.is_empty() {
            return;
        }
        // The newest stay.
        let links = links.into_iter().rev().take(max / 10).rev();
        let mut given = self.given.lock();
        let mut forgotten = 0;
        for uri in links {
            let link = self.hasher.hash_one((origin, uri.as_str()));
            let Some(held) = given.add(caller, link) else { continue };
            if max / 10 < held {
                given.forget(caller);
                forgotten += 1;
            }
            if max < given.count {
                // The caller with the most makes room.
                let most = given.by_count.last().and_then(|(_, number)| given.numbered.get(number));
                most.cloned().iter().for_each(|most| given.forget(most));
                forgotten += 1;
            }
        }
        drop(given);
        (0..forgotten).for_each(|_| self.counters.add(Counter::LinksForgotten));
    }

    /// Whether an upstream gave this very URI to this caller on this route.
    pub fn has(&self, origin: LinkOrigin<'_>, caller: &Caller, uri: &str) -> bool {
        let link = self.hasher.hash_one((origin, uri));
        self.given.lock().by_caller.get(caller).is_some_and(|own| own.known.contains(&link))
    }
}

impl Given {
    /// Adds a link of a caller, and says how many it has then; none where it has this one.
    fn add(&mut self, caller: &Caller, link: u64) -> Option<usize> {
        let own = match self.by_caller.get_mut(caller) {
            Some(own) => own,
            None => {
                self.numbers += 1;
                self.numbered.insert(self.numbers, caller.clone());
                let own = GivenToOne { number: self.numbers, ..GivenToOne::default() };
                self.by_caller.entry(caller.clone()).or_insert(own)
            }
        };
        if !own.known.insert(link) {
            return None;
        }
        self.by_count.remove(&(own.order.len(), own.number));
        own.order.push_back(link);
        self.by_count.insert((own.order.len(), own.number));
        self.count += 1;
        Some(own.order.len())
    }

    /// Forgets the oldest link of a caller.
    fn forget(&mut self, caller: &Caller) {
        let Some(own) = self.by_caller.get_mut(caller) else { return };
        self.by_count.remove(&(own.order.len(), own.number));
        if let Some(oldest) = own.order.pop_front() {
            own.known.remove(&oldest);
            self.count -= 1;
        }
        if own.order.is_empty() {
            self.numbered.remove(&own.number);
            self.by_caller.remove(caller);
        } else {
            self.by_count.insert((own.order.len(), own.number));
        }
    }
}

/// The parts of a result that may have links: of a tool, of a resource, of a prompt.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Linking {
    content: Vec<Block>,
    contents: Vec<Block>,
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    content: Block,
}

/// A block of content (a link, or one that has a resource in it), or a resource.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Block {
    #[serde(rename = "type")]
    kind: Value,
    uri: Value,
    resource: Option<Box<Self>>,
}

/// The URIs of links and resources in a result, where a client finds them and nowhere else: in what
/// is structured a server may give back what a caller wrote.
fn links(result: &Raw) -> Vec<String> {
    // Few results have any, and this one look is all that they cost.
    if !URI.is_in(result.bytes()) {
        return Vec::new();
    }
    let Linking { content, contents, messages } = result.try_read().unwrap_or_default();
    let blocks = content.into_iter().chain(messages.into_iter().map(|message| message.content));
    let linked = blocks.filter_map(|block| match block.kind.as_str()? {
        "resource_link" => Some(block.uri),
        "resource" => block.resource.map(|resource| resource.uri),
        _ => None,
    });
    let all = linked.chain(contents.into_iter().map(|resource| resource.uri));
    let texts = all.filter_map(|uri| uri.as_str().map(str::to_owned));
    texts.filter(|uri| uri.len() <= URI_BYTES_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<'a>(route: &'a str, upstream: &'a str) -> LinkOrigin<'a> {
        LinkOrigin { route, upstream }
    }

    fn given(links: &ReadableLinks, caller: &Caller, uris: &[&str], max: usize) {
        let content: Vec<_> = uris
            .iter()
            .map(|uri| serde_json::json!({ "type": "resource_link", "uri": uri, "name": "a" }))
            .collect();
        let result = Raw::encode(&serde_json::json!({ "content": content }));
        links.note(at("/mcp", "a"), caller, &result, max);
    }

    #[test]
    fn links_are_found_where_a_client_finds_them() {
        for (result, want) in [
            (r#"{"content":[{"type":"resource_link","uri" : "a:\u0031"}]}"#, &["a:1"][..]),
            (
                r#"{"content":[{"type":"resource","resource":{"text":"\"uri\"","uri":"c:1"}}]}"#,
                &["c:1"],
            ),
            (r#"{"contents":[{"uri":"d:1","text":"x"},{"uri":"d:2"}]}"#, &["d:1", "d:2"]),
            (
                r#"{"messages":[{"role":"user","content":{"type":"resource_link","uri":"e:1"}}]}"#,
                &["e:1"],
            ),
            (r#"{"content":[{"type":"text","text":"uri","uri":"f:1"}]}"#, &[]),
            (r#"{"content":[{"uri":"g:1"}]}"#, &[]),
            (r#"{"content":[{"type":"resource_link","uri":7}]}"#, &[]),
            (r#"{"content":[],"structuredContent":{"uri":"h:1"}}"#, &[]),
            (r#"{"structuredContent":{"content":[{"type":"resource_link","uri":"i:1"}]}}"#, &[]),
            (r#"{"content":[],"_meta":{"uri":"j:1"}}"#, &[]),
            (r#"{"content":"uri"}"#, &[]),
        ] {
            let found = links(&Raw::trusted(result));
            assert_eq!(found, want, "{result}");
        }
    }

    #[test]
    fn a_link_is_of_one_caller_route_and_upstream() {
        let links = ReadableLinks::new(Arc::default());
        let (ann, bob) = (Caller::Parent, Caller::Address([127, 0, 0, 1].into()));
        given(&links, &ann, &["mem://a"], 100);
        assert!(links.has(at("/mcp", "a"), &ann, "mem://a"));
        assert!(!links.has(at("/mcp", "a"), &bob, "mem://a"));
        assert!(!links.has(at("/mcp", "b"), &ann, "mem://a"));
        assert!(!links.has(at("/other", "a"), &ann, "mem://a"));
        assert!(!links.has(at("/mcp", "a"), &ann, "MEM://a"));
    }

    #[test]
    fn the_oldest_makes_room() {
        let links = ReadableLinks::new(Arc::default());
        let caller = |last| Caller::Address([127, 0, 0, last].into());
        for last in 1..=20 {
            for at in 0..9 {
                given(&links, &caller(last), &[&format!("mem://{at}")], 40);
            }
        }
        let all = links.given.lock();
        assert!(all.count <= 40 && all.by_caller.values().all(|own| own.order.len() <= 4));
        let held: usize = all.by_caller.values().map(|own| own.known.len()).sum();
        assert_eq!(all.count, held);
        let counts: usize = all.by_count.iter().map(|(count, _)| count).sum();
        assert_eq!((counts, all.by_count.len()), (held, all.by_caller.len()));
        assert_eq!(all.numbered.len(), all.by_caller.len());
        for (caller, own) in &all.by_caller {
            assert!(all.by_count.contains(&(own.order.len(), own.number)));
            assert_eq!(all.numbered.get(&own.number), Some(caller));
        }
        drop(all);
        assert!(links.has(at("/mcp", "a"), &caller(20), "mem://8"));
        assert!(!links.has(at("/mcp", "a"), &caller(20), "mem://0"));
    }
}
