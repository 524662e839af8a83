//! Checks texts of an entry: whole characters, and dates that clients can read.

use crate::mcp::raw::Raw;

/// Puts U+FFFD for each half of a surrogate pair that stands alone: JSON lets it be written, and no
/// text has it. None where there is none.
pub fn whole_characters(entry: &Raw) -> Option<Raw> {
    const REPLACEMENT: &[u8; 6] = b"\\ufffd";
    let text = entry.bytes();
    memchr::memmem::find(text, b"\\u")?;
    let mut out: Option<Vec<u8>> = None;
    let mut at = 0;
    while let Some(step) = text.get(at..).and_then(|rest| memchr::memchr(b'\\', rest)) {
        at += step;
        let Some(unit) = code_unit(text, at) else {
            at += 2;
            continue;
        };
        let is_lone = match unit {
            0xD800..=0xDBFF => {
                let paired = matches!(code_unit(text, at + 6), Some(0xDC00..=0xDFFF));
                at += if paired { 6 } else { 0 };
                !paired
            }
            0xDC00..=0xDFFF => true,
            _ => false,
        };
        if is_lone {
            let out = out.get_or_insert_with(|| text.to_vec());
            if let Some(place) = out.get_mut(at..at + REPLACEMENT.len()) {
                place.copy_from_slice(REPLACEMENT);
            }
        }
        at += REPLACEMENT.len();
    }
    out.map(Raw::trusted)
}

/// The code unit of UTF-16 that is written as an escape here.
fn code_unit(text: &[u8], at: usize) -> Option<u16> {
    let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Whether it is a date with a time and an offset, as the TypeScript SDK reads it.
pub fn is_moment(text: &str) -> bool {
    let Some((date, time)) = text.split_once('T') else { return false };
    let (clock, offset) = match time.strip_suffix('Z') {
        Some(clock) => (clock, None),
        None => match time.rsplit_once(['+', '-']) {
            Some((clock, offset)) => (clock, Some(offset)),
            None => return false,
        },
    };
    let (clock, fraction) = clock.split_once('.').map_or((clock, None), |(a, b)| (a, Some(b)));
    let hours_and_minutes = |numbers: &[u32]| {
        numbers.first().is_some_and(|hour| *hour < 24) && numbers.iter().skip(1).all(|n| *n < 60)
    };
    let clock = numbers(clock, ':');
    is_date(&numbers(date, '-'), date.len())
        && matches!(clock.len(), 2 | 3)
        && hours_and_minutes(&clock)
        && fraction.is_none_or(|part| {
            clock.len() == 3 && !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())
        })
        && offset.is_none_or(|offset| {
            let offset = numbers(offset, ':');
            offset.len() == 2 && hours_and_minutes(&offset)
        })
}

fn is_date(parts: &[u32], length: usize) -> bool {
    let [year, month, day] = *parts else { return false };
    let leaps = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leaps => 29,
        2 => 28,
        1..=12 => 31,
        _ => return false,
    };
    length == 10 && (1..=days).contains(&day)
}

/// Numbers of two digits, or of four at the beginning; nothing where one is none.
fn numbers(text: &str, between: char) -> Vec<u32> {
    let parts: Vec<&str> = text.split(between).collect();
    let is_number = |(at, part): (usize, &&str)| {
        let length = part.len();
        let fits = length == 2 || at == 0 && length == 4 && between == '-';
        fits && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !parts.iter().enumerate().all(is_number) {
        return Vec::new();
    }
    parts.iter().filter_map(|part| part.parse().ok()).collect()
}
