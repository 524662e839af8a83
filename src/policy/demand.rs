//! Reads which login a policy says would help: its annotation `@step_up`, such as `amr=mfa
//! max_age=15m`.

use jiff::SignedDuration;

use crate::config::StepUp;

/// Reads the words as a demanded login; none where they are no such words, or ask nothing.
pub fn read(words: &str) -> Option<StepUp> {
    let mut demanded = StepUp { acr: Vec::new(), amr: Vec::new(), max_age: None };
    for word in words.split_whitespace() {
        match word.split_once('=')? {
            (_, "") => return None,
            ("acr", class) => demanded.acr.push(class.to_owned()),
            ("amr", method) => demanded.amr.push(method.to_owned()),
            ("max_age", age) => {
                let age: SignedDuration = age.parse().ok()?;
                demanded.max_age = Some(age.try_into().ok()?);
            }
            _ => return None,
        }
    }
    let asks = !demanded.acr.is_empty() || !demanded.amr.is_empty() || demanded.max_age.is_some();
    asks.then_some(demanded)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn words_ask_of_a_login() {
        let all = read("amr=mfa acr=phr amr=hwk max_age=15m").unwrap();
        assert_eq!((all.amr.len(), &all.acr[..]), (2, &["phr".to_owned()][..]));
        assert_eq!(all.max_age, Some(Duration::from_mins(15)));
        for wrong in ["", "mfa", "amr=", "amr=mfa, acr", "max_age=soon", "max_age=-1s", "a=b"] {
            assert!(read(wrong).is_none(), "{wrong}");
        }
    }
}
