//! Bodies of requests, read within a budget of bytes for all of them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};

use super::reply::Rejection;

/// A body that is known to be no larger is not counted: requests are, and calls of this size go on
/// whatever others send.
const COUNTED_MIN: usize = 16 << 10;

/// Why a body of hyper's, within a limit, was not read to its end.
type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The bytes of all bodies that are being read.
#[derive(Debug, Default)]
pub struct BodyBudget(Arc<AtomicUsize>);

/// The bytes that one body counts as so far, until this is dropped.
struct CountedBody {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl BodyBudget {
    /// Reads a body of `bytes_max` at most, while all bodies have `all_max` at most. It is refused
    /// before it is read, where its length is known.
    ///
    /// # Errors
    /// It is too large, all are together, or it breaks off.
    pub async fn read(
        &self,
        body: Incoming,
        bytes_max: usize,
        all_max: usize,
    ) -> Result<Bytes, Rejection> {
        let declared = body.size_hint().upper();
        let small = COUNTED_MIN as u64;
        if declared.is_some_and(|bytes| bytes <= small) {
            let whole = Limited::new(body, bytes_max).collect().await;
            return whole
                .map(http_body_util::Collected::to_bytes)
                .map_err(|error| broken(&error, bytes_max));
        }
        let declared = declared.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or_default();
        if bytes_max < declared {
            return Err(Rejection::BodyTooLarge(bytes_max));
        }
        let mut counted = CountedBody { all: Arc::clone(&self.0), bytes: 0 };
        if all_max < self.0.load(Ordering::Relaxed).saturating_add(declared.max(COUNTED_MIN)) {
            return Err(Rejection::IncomingBytes);
        }
        let mut body = Limited::new(body, bytes_max);
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| broken(&error, bytes_max))?;
            let Some(data) = frame.data_ref() else { continue };
            if !counted.add(data.len(), all_max) {
                return Err(Rejection::IncomingBytes);
            }
            whole.extend_from_slice(data);
        }
        Ok(whole.freeze())
    }
}

impl CountedBody {
    fn add(&mut self, bytes: usize, all_max: usize) -> bool {
        self.bytes += bytes;
        self.all.fetch_add(bytes, Ordering::Relaxed) + bytes <= all_max
    }
}

impl Drop for CountedBody {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn broken(error: &BodyError, bytes_max: usize) -> Rejection {
    if error.is::<LengthLimitError>() {
        return Rejection::BodyTooLarge(bytes_max);
    }
    Rejection::Request(format!("the body broke off: {error}"))
}
