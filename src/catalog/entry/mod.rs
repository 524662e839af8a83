//! Entries of lists as the strictest clients read them: mended where that is certain, else left
//! out.
//!
//! The official SDKs read a list as a whole: one entry that their models refuse costs a client all
//! entries of all servers behind a route. The tables below are what the models of the TypeScript
//! and the Python SDK demand together; `tests/data/entries.json` has a case for each line. Bytes of
//! an entry that every model takes stay as they are.

mod fitting;
mod shape;
mod text;

use crate::{
    call::ListKind,
    mcp::{
        raw::{Raw, check_depth},
        splice, uri,
    },
};

use self::{
    fitting::{Fit, edited, find, fitted, twice},
    shape::{Without, table},
    text::whole_characters,
};

/// Bytes of the name of a tool or a prompt. The specification advises 128 characters; servers that
/// go beyond are served, since clients take any name.
const NAME_BYTES_MAX: usize = 1_024;

/// How large an entry may be.
#[derive(Debug, Clone, Copy)]
pub struct EntryBounds {
    pub bytes_max: usize,
    pub depth_max: usize,
}

/// An entry that every client can read.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    /// Its name, URI or template.
    pub key: String,
    pub raw: Raw,
    /// The members that were mended.
    pub mended: Vec<&'static str>,
}

/// Why an entry is left out of its list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    #[error("it is no object")]
    NoObject,
    #[error("it has more than {0} bytes (`entry_bytes_max`)")]
    Large(usize),
    #[error("it is nested deeper than {0} levels (`depth_max`)")]
    Deep(usize),
    #[error("it has the member {0:?} twice")]
    Twice(String),
    #[error("it has no `{0}`")]
    NoKey(&'static str),
    #[error("its name has more than {NAME_BYTES_MAX} bytes")]
    LongName,
    #[error("its `uri` is no absolute URI")]
    NoUri,
    #[error("its `{0}` cannot be read by clients")]
    Member(&'static str),
    #[error("it is listed twice")]
    Repeated,
    #[error("{0}")]
    Mirror(String),
}

/// An entry as every client can read it.
///
/// # Errors
/// Where it cannot be mended without guessing.
pub fn fit(kind: ListKind, entry: &Raw, bounds: EntryBounds) -> Result<Fitted, Flaw> {
    if bounds.bytes_max < entry.bytes().len() {
        return Err(Flaw::Large(bounds.bytes_max));
    }
    if !entry.is_object() {
        return Err(Flaw::NoObject);
    }
    if check_depth(entry.bytes(), bounds.depth_max).is_err() {
        return Err(Flaw::Deep(bounds.depth_max));
    }
    let mut mended = Vec::new();
    let whole = whole_characters(entry);
    if whole.is_some() {
        mended.push("characters");
    }
    let entry = whole.unwrap_or_else(|| entry.clone());
    let members = splice::entries(&entry);
    if let Some(name) = twice(&members) {
        return Err(Flaw::Twice(name.chars().take(64).collect()));
    }
    let key = key_of(kind, &members)?;
    let mut edits = Vec::new();
    for member in table(kind) {
        let given = find(&members, member.name);
        let fit = match given {
            Some(value) => fitted(&member.shape, value),
            None if member.without == Without::Fine => Fit::Right,
            None => fitted(&member.shape, &Raw::trusted("null")),
        };
        let edit = match (fit, member.without) {
            (Fit::Right, _) => continue,
            (Fit::Instead(value), _) => Some(value),
            (Fit::Wrong, Without::Fine) => None,
            (Fit::Wrong, Without::Key) => Some(Raw::encode(&key)),
            (Fit::Wrong, Without::Useless) => return Err(Flaw::Member(member.name)),
        };
        mended.push(member.name);
        edits.push((member.name, edit));
    }
    Ok(Fitted { key, raw: edited(&entry, &edits), mended })
}

fn key_of(kind: ListKind, members: &[(String, Raw)]) -> Result<String, Flaw> {
    let key = find(members, kind.key()).and_then(|key| key.try_read::<String>());
    let key = key.filter(|key| !key.is_empty()).ok_or(Flaw::NoKey(kind.key()))?;
    match kind {
        ListKind::Tools | ListKind::Prompts if NAME_BYTES_MAX < key.len() => Err(Flaw::LongName),
        // The parser that the Python SDK has.
        ListKind::Resources if !uri::is_url(&key) => Err(Flaw::NoUri),
        ListKind::Tools | ListKind::Prompts | ListKind::Resources | ListKind::Templates => Ok(key),
    }
}

#[cfg(test)]
mod tests;
