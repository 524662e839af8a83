//! Bounds what a server sends that is no message, within a minute: a few lines of a log are passed
//! over, a flood costs a core for as long as it lasts.

use std::time::Duration;

use tokio::time::Instant;

/// Bytes and lines that are looked at together.
const WINDOW: Duration = Duration::from_secs(60);
/// Short lines cost more than their bytes say: each counts as so many at least.
pub const LINE_BYTES: usize = 128;

/// The noise of one connection or stream; the default bounds nothing.
#[derive(Debug, Default)]
pub struct Noise {
    bytes_max: Option<usize>,
    /// Bytes in the window that began then.
    bytes: usize,
    lines: u64,
    since: Option<Instant>,
}

impl Noise {
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max: Some(bytes_max), ..Self::default() }
    }

    /// Counts a line, an event or a comment; the reason to end the server, where that was one too
    /// many.
    pub fn heard(&mut self, bytes: usize, now: Instant) -> Option<String> {
        let bytes_max = self.bytes_max?;
        if self.since.is_none_or(|since| WINDOW <= now.saturating_duration_since(since)) {
            *self = Self { since: Some(now), ..Self::new(bytes_max) };
        }
        self.bytes = self.bytes.saturating_add(bytes.max(LINE_BYTES));
        self.lines += 1;
        let lines = self.lines;
        (bytes_max < self.bytes).then(|| {
            format!(
                "it sent {lines} lines that are no message within a minute, more than {bytes_max} \
                 bytes (`noise_bytes_max`)"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_flood_ends_it_and_a_trickle_never_does(
            lines in prop::collection::vec((0_usize..5_000, 0_u64..2_000), 1..400),
        ) {
            const MAX: usize = 50_000;
            let begin = Instant::now();
            let (mut noise, mut now) = (Noise::new(MAX), begin);
            let (mut window, mut seen) = (begin, 0);
            for (at, (bytes, millis)) in lines.into_iter().enumerate() {
                now += Duration::from_millis(if at == 0 { 0 } else { millis });
                if WINDOW <= now - window || at == 0 {
                    (window, seen) = (now, 0);
                }
                seen += bytes.max(LINE_BYTES);
                let ended = noise.heard(bytes, now);
                prop_assert_eq!(ended.is_some(), MAX < seen);
                prop_assert!(ended.is_none_or(|why| why.contains("noise_bytes_max")));
            }
            prop_assert_eq!(Noise::default().heard(usize::MAX, now), None);
        }
    }
}
