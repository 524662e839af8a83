//! The ledger of names for people: listed, changed and exported while a gate runs or none does.

use std::{collections::BTreeMap, io, path::Path, sync::Arc};

use crate::{
    call::{ListKind, RoutePath, UpstreamName, clock},
    catalog::{
        Ledger,
        ledger::{HeldNames, Holder, LedgerRecord, NamedBy, Owner},
    },
    config::{self, Config},
    store::StateFolder,
    telemetry::Counters,
};

use super::error::StartError;

/// A name that was served on a route.
#[derive(Debug, Clone)]
pub struct KnownName {
    pub route: RoutePath,
    pub kind: ListKind,
    pub name: String,
    pub holder: Holder,
}

impl KnownName {
    /// The kind of the entry, in a word.
    pub fn kind_word(&self) -> &'static str {
        self.kind.entry_name()
    }

    /// A remark on the name: free, pinned, or no longer listed.
    pub fn note(&self) -> String {
        match (&self.holder, self.holder.unlisted) {
            (holder, _) if holder.free => "free".to_owned(),
            (holder, _) if holder.by == NamedBy::Pin => "pinned".to_owned(),
            (_, Some(since)) => format!("not listed since {}", clock::rfc3339(since)),
            (_, None) => String::new(),
        }
    }
}

/// The ledger in the state folder of a configuration.
///
/// # Errors
/// Where the configuration is wrong, or the folder cannot be opened.
pub fn ledger(file: &Path) -> Result<Ledger, StartError> {
    let config = config::load(file, &config::environment).map_err(StartError::Config)?;
    opened(&config)
}

/// All names of a route of this path, or of all routes.
///
/// # Errors
/// As [`ledger`].
pub fn known(file: &Path, route: Option<&str>) -> Result<Vec<KnownName>, StartError> {
    let ledger = ledger(file)?;
    let book = ledger.book();
    let mut known = Vec::new();
    let wanted = |path: &&RoutePath| route.is_none_or(|route| **path == route);
    for (path, names) in book.routes().filter(|(path, _)| wanted(path)) {
        for kind in ListKind::ALL {
            known.extend(names.of(kind).iter().map(|(name, holder)| {
                let route = path.clone();
                let name = name.clone();
                let holder = holder.clone();
                KnownName { route, kind, name, holder }
            }));
        }
    }
    Ok(known)
}

/// The upstream of each tool that was served on a route, or on the first.
///
/// # Errors
/// As [`ledger`].
pub fn upstreams_of_tools(
    file: &Path,
    path: Option<&str>,
) -> Result<BTreeMap<String, UpstreamName>, StartError> {
    let config = config::load(file, &config::environment).map_err(StartError::Config)?;
    let mut routes = config.routes.iter();
    let Some(route) = routes.find(|route| path.is_none_or(|path| route.path == path)) else {
        return Ok(BTreeMap::new());
    };
    let names = opened(&config)?.book().route(&route.path);
    let held = names.of(ListKind::Tools).iter().filter(|(_, holder)| !holder.free);
    Ok(held.map(|(name, holder)| (name.clone(), holder.owner.upstream.clone())).collect())
}

/// The path of the route, or of the first, which must have this upstream.
///
/// # Errors
/// As [`ledger`], and where there is no such route.
pub fn route(file: &Path, path: Option<&str>, upstream: &str) -> Result<RoutePath, StartError> {
    let config = config::load(file, &config::environment).map_err(StartError::Config)?;
    let fits = |route: &&config::Route| {
        path.is_none_or(|path| route.path == path)
            && route.upstreams.iter().any(|name| *name == *upstream)
    };
    if let Some(route) = config.routes.iter().find(fits) {
        return Ok(route.path.clone());
    }
    let known = config
        .routes
        .iter()
        .map(|route| format!("{} with {}", route.path, route.upstreams.join(", ")));
    let route = format!("{} with {upstream}", path.unwrap_or("of any path"));
    Err(StartError::Route { route, known: known.collect::<Vec<_>>().join("; ") })
}

/// Frees a name, for the gates that share it too.
///
/// # Errors
/// Where the ledger cannot be written, or the store that gates share does not answer.
pub async fn release(ledger: &Ledger, one: &KnownName) -> Result<(), StartError> {
    let KnownName { route, kind, name, .. } = one.clone();
    let changed = ledger.edit(&route, kind, |held| {
        let (_, holder) = held.iter_mut().find(|(known, _)| **known == name)?;
        holder.free = true;
        Some(holder.clone())
    });
    let holder = changed.map_err(StartError::Names)?;
    let entry = holder.map(|holder| LedgerRecord { route, kind, name, holder });
    tell(ledger, entry).await
}

/// Gives a name to an upstream's entry for good, for the gates that share it too; tells whose it
/// was.
///
/// # Errors
/// As [`release`].
pub async fn pin(
    ledger: &Ledger,
    route: &RoutePath,
    kind: ListKind,
    name: &str,
    owner: Owner,
) -> Result<Option<Owner>, StartError> {
    let since = clock::unix_seconds();
    let holder =
        Holder { owner: owner.clone(), by: NamedBy::Pin, since, unlisted: None, free: false };
    let put = |held: &mut HeldNames| held.put(name, holder.clone());
    let before = ledger.edit(route, kind, put).map_err(StartError::Names)?;
    let entry = LedgerRecord { route: route.clone(), kind, name: name.to_owned(), holder };
    tell(ledger, Some(entry)).await?;
    Ok(before.map(|holder| holder.owner).filter(|before| *before != owner))
}

async fn tell(ledger: &Ledger, entry: Option<LedgerRecord>) -> Result<(), StartError> {
    let told = ledger.tell(entry.as_slice()).await;
    told.map_err(|error| StartError::Names(io::Error::other(error.to_string())))
}

/// The names of a route, or of the first, as the file of its key `names_file` has them: those that
/// are in force by its `names` now, and those that are pinned.
///
/// # Errors
/// As [`ledger`], and where there is no such route.
pub fn exported(file: &Path, path: Option<&str>) -> Result<String, StartError> {
    let config = config::load(file, &config::environment).map_err(StartError::Config)?;
    let mut routes = config.routes.iter();
    let Some(route) = routes.find(|route| path.is_none_or(|path| route.path == path)) else {
        let known: Vec<_> = config.routes.iter().map(|route| route.path.as_str()).collect();
        let route = path.unwrap_or_default().to_owned();
        return Err(StartError::Route { route, known: known.join(", ") });
    };
    let names = opened(&config)?.book().route(&route.path);
    let mut text = "# Names that clients know, written by `tollgate names export`. A route takes \
                    them by its key `names_file`.\n"
        .to_owned();
    let quoted = |text: &str| toml::Value::from(text).to_string();
    for kind in ListKind::ALL {
        let in_force = |it: &&(&str, &Holder)| it.1.by == NamedBy::of(route.names) || is_pin(it.1);
        // Each entry has one name: that which was pinned, else that which was served first.
        let each = names.of(kind).by_owner().into_iter().filter_map(|(owner, names)| {
            let pinned = names.iter().find(|(_, holder)| is_pin(holder));
            let (name, _) = pinned.or_else(|| names.iter().find(in_force))?;
            Some((*name, owner))
        });
        let mut all: Vec<_> = each.collect();
        all.sort_unstable();
        if !all.is_empty() {
            text.push_str(&format!("\n[{}s]\n", kind.entry_name()));
        }
        for (name, (upstream, own)) in all {
            let name = quoted(name);
            let upstream = quoted(upstream);
            let own = quoted(own);
            text.push_str(&format!("{name} = {{ upstream = {upstream}, name = {own} }}\n"));
        }
    }
    Ok(text)
}

fn is_pin(holder: &Holder) -> bool {
    holder.by == NamedBy::Pin
}

fn opened(config: &Config) -> Result<Ledger, StartError> {
    let folder = &config.server.state;
    let failed = |error| StartError::State { folder: folder.clone(), error };
    let store = StateFolder::open(folder).map_err(failed)?;
    let ledger = Ledger::open(&store, Arc::<Counters>::default());
    ledger.follow(config);
    Ok(ledger)
}
