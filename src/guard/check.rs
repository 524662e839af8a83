//! Tells real matches from look-alikes: check digits, and how random a secret is.

use crate::config::Check;

/// Bits a character that a secret has at least; words of most languages have under 3, a long one
/// of random characters over 3.5.
const RANDOM_BITS_MIN: f64 = 3.2;

/// Whether what a pattern matched is what it looks like.
pub fn holds(check: Check, text: &str) -> bool {
    match check {
        Check::None => true,
        Check::Luhn => is_card(text),
        Check::Iban => is_iban(text),
        Check::Ean13 => is_ean13(&digits(text)),
        Check::Ssn => is_ssn(&digits(text)),
        Check::Nir => is_nir(text),
        Check::Dni => is_dni(text),
        Check::Cpf => is_cpf(&digits(text)),
        Check::Random => is_random(text),
        Check::NoFlag => !is_flag(text),
        Check::Blob if text.contains(['?', '#']) => is_random(text),
        Check::Blob => text.rsplit('/').next().is_some_and(is_encoded),
    }
}

fn digits(text: &str) -> Vec<u32> {
    text.chars().filter_map(|c| c.to_digit(10)).collect()
}

fn is_card(text: &str) -> bool {
    let digits = digits(text);
    let doubled = |digit: u32| if 4 < digit { digit * 2 - 9 } else { digit * 2 };
    let sum = digits
        .iter()
        .rev()
        .enumerate()
        .fold(0, |sum, (at, digit)| sum + if at % 2 == 0 { *digit } else { doubled(*digit) });
    let varied = digits.iter().any(|digit| Some(digit) != digits.first());
    (13..=19).contains(&digits.len()) && sum % 10 == 0 && varied
}

/// The lengths of the countries that are met most; of others any length is taken.
fn iban_length(country: &str) -> Option<usize> {
    let lengths = [
        ("NO", 15),
        ("BE", 16),
        ("DK", 18),
        ("FI", 18),
        ("NL", 18),
        ("AT", 20),
        ("LU", 20),
        ("CH", 21),
        ("LI", 21),
        ("HR", 21),
        ("DE", 22),
        ("GB", 22),
        ("IE", 22),
        ("SE", 24),
        ("ES", 24),
        ("CZ", 24),
        ("RO", 24),
        ("SK", 24),
        ("PT", 25),
        ("FR", 27),
        ("IT", 27),
        ("GR", 27),
        ("HU", 28),
        ("PL", 28),
        ("MT", 31),
    ];
    lengths.iter().find(|(known, _)| *known == country).map(|(_, length)| *length)
}

fn is_iban(text: &str) -> bool {
    let bare: String = text.chars().filter(|c| *c != ' ').collect();
    let Some((head, tail)) = bare.split_at_checked(4) else { return false };
    let known = head.get(..2).and_then(iban_length);
    if !(15..=34).contains(&bare.len()) || known.is_some_and(|length| length != bare.len()) {
        return false;
    }
    let rest = tail.chars().chain(head.chars()).try_fold(0_u32, |rest, c| {
        let value = c.to_digit(36)?;
        Some((rest * if value < 10 { 10 } else { 100 } + value) % 97)
    });
    rest == Some(1)
}

fn is_ean13(digits: &[u32]) -> bool {
    let sum = digits
        .iter()
        .enumerate()
        .fold(0, |sum, (at, digit)| sum + if at % 2 == 0 { *digit } else { digit * 3 });
    digits.len() == 13 && sum % 10 == 0
}

fn number(digits: &[u32]) -> u64 {
    digits.iter().fold(0, |number, digit| number * 10 + u64::from(*digit))
}

fn is_ssn(digits: &[u32]) -> bool {
    let (Some(area), Some(group), Some(serial)) =
        (digits.get(..3), digits.get(3..5), digits.get(5..9))
    else {
        return false;
    };
    let area = number(area);
    area != 0 && area != 666 && area < 900 && number(group) != 0 && number(serial) != 0
}

fn is_nir(text: &str) -> bool {
    // Corsica counts as 19 and 18.
    let bare: String = text.chars().filter(|c| *c != ' ').collect();
    let digits = digits(&bare.replace("2A", "19").replace("2B", "18"));
    let (Some(body), Some(key)) = (digits.get(..13), digits.get(13..15)) else { return false };
    digits.len() == 15 && 97 - number(body) % 97 == number(key)
}

fn is_dni(text: &str) -> bool {
    let bare = text.replace('-', "");
    let Some(letter) = bare.chars().last() else { return false };
    let first = bare.chars().next().and_then(|first| "XYZ".find(first));
    let mut digits = digits(&bare);
    if let Some(first) = first {
        digits.insert(0, u32::try_from(first).unwrap_or_default());
    }
    let at = usize::try_from(number(&digits) % 23).unwrap_or_default();
    digits.len() == 8 && "TRWAGMYFPDXBNJZSQVHLCKE".chars().nth(at) == Some(letter)
}

fn is_cpf(digits: &[u32]) -> bool {
    let check = |count: usize| {
        let weights = (2..).take(count).collect::<Vec<u32>>().into_iter().rev();
        let sum: u32 = digits.iter().zip(weights).map(|(digit, weight)| digit * weight).sum();
        Some((sum * 10) % 11 % 10) == digits.get(count).copied()
    };
    let varied = digits.iter().any(|digit| Some(digit) != digits.first());
    digits.len() == 11 && varied && check(9) && check(10)
}

/// A black flag, then the letters of a region and the sign of their end as tag characters.
fn is_flag(text: &str) -> bool {
    let Some(region) =
        text.strip_prefix('\u{1F3F4}').and_then(|tags| tags.strip_suffix('\u{E007F}'))
    else {
        return false;
    };
    let letter = |tag: char| char::from_u32(u32::from(tag).checked_sub(0xE0000)?);
    let letters: Option<Vec<char>> = region.chars().map(letter).collect();
    let is_code = |letters: &[char]| {
        let (country, rest) = letters.split_at(2.min(letters.len()));
        country.iter().all(char::is_ascii_lowercase)
            && rest.iter().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    letters.is_some_and(|letters| (3..=5).contains(&letters.len()) && is_code(&letters))
}

/// Whether a segment of a path is encoded, and no row of words: hexadecimal, or letters of both
/// cases and digits mixed as base64 has them.
fn is_encoded(segment: &str) -> bool {
    let count = |kind: fn(char) -> bool| segment.chars().filter(|c| kind(*c)).count();
    let length = segment.len();
    let [digits, upper, lower] = [
        count(|c| c.is_ascii_digit()),
        count(|c| c.is_ascii_uppercase()),
        count(|c| c.is_ascii_lowercase()),
    ];
    let is_hex = count(|c| c.is_ascii_hexdigit()) == length && 0 < digits && digits < length;
    let breaks = count(|c| matches!(c, '-' | '_' | '+'));
    // A twentieth of digits (base64 has a sixth), and hyphens no oftener than base64 has signs.
    let is_mixed = length <= digits * 20 && length <= upper * 10 && length <= lower * 10;
    is_hex || (is_mixed && breaks * 12 <= length && is_random(segment))
}

/// Judges by Shannon's entropy; a text of letters alone is words, and one that begins as a path is
/// a path.
fn is_random(text: &str) -> bool {
    let mut counts = [0_u32; 256];
    let mut total = 0_u32;
    for byte in text.bytes() {
        if let Some(count) = counts.get_mut(usize::from(byte)) {
            *count += 1;
            total += 1;
        }
    }
    let bits: f64 = counts
        .iter()
        .filter(|count| **count != 0)
        .map(|count| {
            let share = f64::from(*count) / f64::from(total);
            -share * share.log2()
        })
        .sum();
    let has = |kind: fn(&u8) -> bool| text.bytes().any(|byte| kind(&byte));
    let is_path = ["/", "~/", "./", "../"]
        .iter()
        .any(|root| text.strip_prefix(root).is_some_and(|rest| rest.contains('/')));
    !is_path && has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic) && RANDOM_BITS_MIN <= bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_digits_are_those_of_their_publishers() {
        for (check, right, wrong) in [
            (Check::Luhn, "4111 1111 1111 1111", "4111 1111 1111 1112"),
            (Check::Luhn, "378282246310005", "378282246310006"),
            (Check::Luhn, "5555555555554444", "5555555555554445"),
            (Check::Iban, "GB82 WEST 1234 5698 7654 32", "GB82 WEST 1234 5698 7654 33"),
            (Check::Iban, "CH9300762011623852957", "CH9300762011623852958"),
            (Check::Iban, "DE89370400440532013000", "DE8937040044053201300"),
            (Check::Ean13, "756.9217.0769.85", "756.9217.0769.86"),
            (Check::Ssn, "219-09-9999", "666-09-9999"),
            (Check::Ssn, "078-05-1120", "078-00-1120"),
            (Check::Nir, "2 55 08 14 168 025 38", "2 55 08 14 168 025 39"),
            (Check::Dni, "12345678Z", "12345678A"),
            (Check::Dni, "X1234567L", "X1234567M"),
            (Check::Cpf, "529.982.247-25", "529.982.247-26"),
            (Check::Cpf, "123.456.789-09", "111.111.111-11"),
            (Check::Random, "q7Jx2Lm0Zt9RbWv4", "correct-horse-battery"),
            (Check::Random, "8f14e45fceea167a5a36", "aaaaaaaa1111"),
            (
                Check::NoFlag,
                "\u{E0068}\u{E0069}",
                "\u{1F3F4}\u{E0067}\u{E0062}\u{E0065}\u{E006E}\u{E0067}\u{E007F}",
            ),
            (
                Check::NoFlag,
                "\u{1F3F4}\u{E0067}\u{E0062}\u{E0065}\u{E006E}\u{E0067}\u{E007F}\u{E0068}",
                "\u{1F3F4}\u{E0075}\u{E0073}\u{E0074}\u{E0078}\u{E007F}",
            ),
        ] {
            assert!(holds(check, right), "{check:?} {right}");
            assert!(!holds(check, wrong), "{check:?} {wrong}");
        }
    }
}
