//! The last good listing of an upstream: in memory, and on disk for the next start.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    config::{self, Transport},
    store::Store,
};

use super::listing::Listing;

/// One upstream's place.
#[derive(Debug)]
pub struct Shelf {
    file: String,
    /// What the listing is of: another command or address is another server.
    source: String,
    store: Store,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    listing: Option<Arc<Listing>>,
    confirmed: bool,
    /// Counts what was put here, and up to where the routes show it.
    version: u64,
    published: u64,
    /// What is only for clients that can be asked is known as well, or cannot be.
    whole: bool,
    error: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct File {
    source: String,
    listing: Listing,
}

impl Shelf {
    /// Takes what is on disk, else what its predecessor of the same name has; a file that cannot
    /// be read is passed over.
    pub fn open(
        upstream: &config::Upstream,
        store: &Store,
        predecessor: Option<&Self>,
    ) -> Arc<Self> {
        let file = format!("catalog-{}.json", upstream.name);
        let source = source(&upstream.transport);
        let read = store.read(&file).ok().flatten();
        let read = read.and_then(|bytes| serde_json::from_slice::<File>(&bytes).ok());
        let listing = read.filter(|file| file.source == source).map(|mut file| {
            file.listing.restore();
            Arc::new(file.listing)
        });
        let listing = listing.or_else(|| predecessor.and_then(Self::listing));
        let kept = Kept { listing, ..Kept::default() };
        Arc::new(Self { file, source, store: store.clone(), kept: Mutex::new(kept) })
    }

    pub fn listing(&self) -> Option<Arc<Listing>> {
        self.kept.lock().listing.clone()
    }

    /// Whether the upstream itself said so since the start.
    pub fn is_confirmed(&self) -> bool {
        self.kept.lock().confirmed
    }

    /// How often something new was put here: to be asked before the routes are built.
    pub fn version(&self) -> u64 {
        self.kept.lock().version
    }

    /// The routes show what was here at that version.
    pub fn published(&self, version: u64) {
        self.kept.lock().published = version;
    }

    /// Whether something is here, and the routes show it.
    pub fn is_shown(&self) -> bool {
        let kept = self.kept.lock();
        kept.listing.is_some() && kept.version == kept.published
    }

    /// Whether it was read since the start and is shown, or could not be read.
    pub fn is_settled(&self) -> bool {
        let kept = self.kept.lock();
        kept.confirmed && kept.version == kept.published || kept.error.is_some()
    }

    /// Nothing more will be learned before something changes.
    pub fn finish(&self) {
        self.kept.lock().whole = true;
    }

    pub fn is_whole(&self) -> bool {
        let kept = self.kept.lock();
        kept.whole && kept.version == kept.published || kept.error.is_some()
    }

    /// Why the last reading failed.
    pub fn error(&self) -> Option<String> {
        self.kept.lock().error.clone()
    }

    pub fn failed(&self, error: String) {
        self.kept.lock().error = Some(error);
    }

    /// Keeps a new listing; on disk too where it differs. True where it differs or is the first
    /// confirmed.
    pub fn put(&self, listing: Listing) -> bool {
        let listing = Arc::new(listing);
        let differs = {
            let mut kept = self.kept.lock();
            let differs = kept.listing.as_ref() != Some(&listing);
            let news = differs || !kept.confirmed;
            kept.listing = Some(Arc::clone(&listing));
            kept.confirmed = true;
            kept.error = None;
            kept.version += u64::from(news);
            if !differs {
                return news;
            }
            differs
        };
        let file = File { source: self.source.clone(), listing: (*listing).clone() };
        let text = serde_json::to_vec(&file).unwrap_or_default();
        if let Err(error) = self.store.write(&self.file, &text) {
            tracing::warn!(file = self.file, %error, "the catalog is not on disk");
        }
        differs
    }
}

/// Without secrets: they change without the server being another.
fn source(transport: &Transport) -> String {
    let text = match transport {
        Transport::Stdio { command, args, cwd, .. } => format!("{command} {args:?} {cwd:?}"),
        Transport::Http { url, .. } => url.clone(),
        Transport::Builtin { kit } => kit.clone(),
    };
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}
