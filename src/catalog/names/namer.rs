//! Chooses a name for each entry of a list.

use std::collections::{BTreeMap, HashMap, HashSet};

use sha2::{Digest as _, Sha256};

use crate::{
    call::ListKind,
    catalog::held_names::{HeldNames, NamedBy, Owner},
    config::Names,
};

use super::{
    prefixes::{Prefixes, is_uri},
    request::{ChosenName, NameRequest, Why},
};

/// The strictest of the clients' model APIs takes 64 characters of `[A-Za-z0-9_-]`.
pub(super) const NAME_CHARS_MAX: usize = 64;

const HASH_CHARS: usize = 8;

/// Attempts to find a free name for one entry; each has another hash, so a second is rare.
const ATTEMPTS_MAX: usize = 64;

/// Gives names to one kind of a route's entries.
#[derive(Debug)]
pub struct Namer<'a> {
    pub rule: Names,
    pub kind: ListKind,
    pub prefixes: &'a Prefixes,
    /// Names that were served before, and to what they lead.
    pub held: &'a HeldNames,
    /// Names that an operator gave to one entry for good.
    pub pins: &'a BTreeMap<String, Owner>,
    /// Names that the sections of upstreams give to their entries.
    pub renames: &'a BTreeMap<String, Owner>,
    /// Names that the configuration gives to entries that have another one here.
    pub blocked: &'a HashSet<String>,
    /// Whether new names can be recorded before they are served.
    pub records: bool,
}

/// Names given so far.
struct Table<'a> {
    entries: &'a [NameRequest<'a>],
    taken: HashMap<String, usize>,
    named: Vec<Option<Result<ChosenName, Why>>>,
}

impl Namer<'_> {
    /// A name for each entry, or why it has none. The order of entries is the order of precedence
    /// among those that were never shown before.
    pub fn name_all(&self, entries: &[NameRequest<'_>]) -> Vec<Result<ChosenName, Why>> {
        let named = vec![None; entries.len()];
        let mut table = Table { entries, taken: HashMap::new(), named };
        let held = self.held.by_owner();
        let each = self.pins.iter();
        let pins: HashMap<_, _> =
            each.map(|(name, owner)| ((&*owner.upstream, &*owner.own), name)).collect();
        for (at, entry) in entries.iter().enumerate() {
            if let Some(name) = pins.get(&(entry.upstream, entry.own))
                && self.holder(entry, name, &table, true).is_none()
            {
                table.give(at, ChosenName::of(name, NamedBy::Config, Why::Configured));
            }
        }
        for (at, entry) in entries.iter().enumerate() {
            if entry.is_renamed() && table.is_open(at) {
                let chosen = self.choose(entry, &table, true);
                table.close(at, chosen);
            }
        }
        for (at, entry) in entries.iter().enumerate() {
            let known = held.get(&(entry.upstream, entry.own)).into_iter().flatten();
            let mut known = known.filter(|(name, holder)| {
                holder.by == NamedBy::of(self.rule) && self.may_have(entry, name)
            });
            if table.is_open(at)
                && let Some((name, _)) =
                    known.find(|(name, _)| self.holder(entry, name, &table, false).is_none())
            {
                table.give(at, ChosenName::of(name, NamedBy::of(self.rule), Why::Kept));
            }
        }
        let open = (0..entries.len()).filter(|at| table.is_open(*at));
        let open = open.filter_map(|at| Some((at, entries.get(at)?)));
        let (exact, unfit): (Vec<_>, Vec<_>) = open.partition(|(_, entry)| self.is_exact(entry));
        for (at, entry) in exact.into_iter().chain(unfit) {
            let chosen = self.choose(entry, &table, false);
            table.close(at, chosen);
        }
        table.named.into_iter().map(|named| named.unwrap_or(Err(Why::Unfit))).collect()
    }

    /// The first free name of those that an entry may have.
    fn choose(
        &self,
        entry: &NameRequest<'_>,
        table: &Table<'_>,
        configured: bool,
    ) -> Result<ChosenName, Why> {
        let bare = self.fit(entry, entry.wanted, 0);
        let (by, mut why) = match configured {
            true => (NamedBy::Config, Why::Configured),
            false => (NamedBy::of(self.rule), Why::Plain),
        };
        if bare != entry.wanted {
            why = Why::Unfit;
        }
        let unsure = !self.records && !configured && !self.prefixes.is_alone();
        let reserved = self.prefixes.owner(self.kind, &bare).filter(|it| *it != entry.upstream);
        let always = self.rule == Names::Always && !is_uri(self.kind);
        let mut own_holds = false;
        if let Some(reserved) = reserved.filter(|_| !configured) {
            why = Why::Reserved(reserved.to_string());
        } else if unsure {
            why = Why::Unrecorded;
        } else if !always {
            let Some(holder) = self.holder(entry, &bare, table, configured) else {
                return Ok(ChosenName { name: bare, by, why });
            };
            own_holds = *entry.upstream == *holder;
            why = Why::Taken(holder);
            if self.rule == Names::Never && !own_holds {
                return Err(why);
            }
        }
        let by = if unsure { NamedBy::Spare } else { by };
        let first = usize::from(own_holds || unsure && !self.is_exact(entry));
        for attempt in first..ATTEMPTS_MAX {
            let name = match own_holds && !always && !is_uri(self.kind) {
                true => self.fit(entry, entry.wanted, attempt),
                false => self.prefixed(entry, attempt),
            };
            if self.holder(entry, &name, table, configured).is_none() {
                return Ok(ChosenName { name, by, why });
            }
        }
        Err(why)
    }

    /// An entry's name with its upstream's before it; it belongs to that by its prefix.
    fn prefixed(&self, entry: &NameRequest<'_>, attempt: usize) -> String {
        let Some(prefix) = self.prefixes.of(entry.upstream) else {
            return self.fit(entry, entry.wanted, attempt.max(1));
        };
        if is_uri(self.kind) {
            return format!("{}{}", prefix.uri.repeat(attempt.max(1)), entry.wanted);
        }
        let whole = format!("{}{}", prefix.name, entry.wanted);
        let name = self.fit(entry, &whole, attempt);
        if self.may_have(entry, &name) {
            return name;
        }
        // `x` with a tool `y__z` beside an upstream `x__y`: without `__` it is nobody else's.
        let rest = self.fit(entry, entry.wanted, 0);
        let parts: Vec<_> = rest.split('_').filter(|part| !part.is_empty()).collect();
        let rest = if parts.is_empty() { "name".to_owned() } else { parts.join("_") };
        self.fit(entry, &format!("{}{rest}", prefix.name), attempt.max(1))
    }

    /// A text as clients take it. An attempt above 0 has a hash at its end, each another one.
    fn fit(&self, entry: &NameRequest<'_>, text: &str, attempt: usize) -> String {
        let strict = self.kind == ListKind::Tools;
        let fits = |c: char| !strict || c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let name: String = text.chars().map(|c| if fits(c) { c } else { '_' }).collect();
        let is_short = !strict || name.len() <= NAME_CHARS_MAX;
        if is_uri(self.kind) || attempt == 0 && is_short && !name.is_empty() {
            return name;
        }
        // Long names get the same with the first attempt.
        let salt = if attempt < 2 { String::new() } else { format!("/{attempt}") };
        let digest = Sha256::digest(format!("{}/{}{salt}", entry.upstream, entry.wanted));
        let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let most = if strict { NAME_CHARS_MAX - HASH_CHARS - 1 } else { usize::MAX };
        let kept: String = name.chars().take(most).collect();
        format!("{kept}_{}", hash.get(..HASH_CHARS).unwrap_or_default())
    }

    /// The upstream to which a name leads that this entry cannot have therefore.
    fn holder(
        &self,
        entry: &NameRequest<'_>,
        name: &str,
        table: &Table<'_>,
        configured: bool,
    ) -> Option<String> {
        if let Some(other) = table.holder(name) {
            return Some(other.upstream.to_string());
        }
        let is_own = |owner: &Owner| owner.upstream == *entry.upstream && owner.own == entry.own;
        let fixed = self.pins.get(name).or_else(|| self.renames.get(name));
        if let Some(owner) = fixed.filter(|owner| !is_own(owner)) {
            return Some(owner.upstream.to_string());
        }
        if configured {
            return None;
        }
        let held = self.held.get(name).filter(|holder| !is_own(&holder.owner));
        let held = held.map(|holder| holder.owner.upstream.to_string());
        held.or_else(|| self.blocked.contains(name).then(|| "the configuration".to_owned()))
    }

    fn may_have(&self, entry: &NameRequest<'_>, name: &str) -> bool {
        self.prefixes.owner(self.kind, name).is_none_or(|owner| owner == entry.upstream)
    }

    fn is_exact(&self, entry: &NameRequest<'_>) -> bool {
        self.fit(entry, entry.wanted, 0) == entry.wanted && self.may_have(entry, entry.wanted)
    }
}

impl<'a> Table<'a> {
    fn is_open(&self, at: usize) -> bool {
        self.named.get(at).is_some_and(Option::is_none)
    }

    fn holder(&self, name: &str) -> Option<&NameRequest<'a>> {
        self.entries.get(*self.taken.get(name)?)
    }

    fn give(&mut self, at: usize, named: ChosenName) {
        self.close(at, Ok(named));
    }

    fn close(&mut self, at: usize, chosen: Result<ChosenName, Why>) {
        if let Ok(named) = &chosen {
            self.taken.insert(named.name.clone(), at);
        }
        if let Some(place) = self.named.get_mut(at) {
            *place = Some(chosen);
        }
    }
}
