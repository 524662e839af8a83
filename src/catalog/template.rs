//! Whether a URI could come of a URI template (RFC 6570), as far as routing needs to know.

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// An expression; those with an operator may span several path segments.
    Any {
        slashes: bool,
    },
}

/// A template that can be compared with URIs, in time linear in the URI for each of its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

impl Template {
    pub fn new(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once('{') {
            let Some((expression, after)) = after.split_once('}') else { break };
            parts.push(Part::Literal(literal.to_owned()));
            let slashes = expression.starts_with(['+', '#', '.', '/', ';', '?', '&'])
                || expression.ends_with('*');
            parts.push(Part::Any { slashes });
            rest = after;
        }
        parts.push(Part::Literal(rest.to_owned()));
        Self(parts)
    }

    pub fn matches(&self, uri: &str) -> bool {
        let uri = uri.as_bytes();
        // The positions of the URI that the parts so far can end at.
        let mut at = vec![false; uri.len() + 1];
        if let Some(first) = at.first_mut() {
            *first = true;
        }
        for part in &self.0 {
            at = match part {
                Part::Literal(literal) => after_literal(&at, uri, literal.as_bytes()),
                Part::Any { slashes } => after_any(&at, uri, *slashes),
            };
        }
        at.last() == Some(&true)
    }
}

/// A template with values for its variables (RFC 6570; those of prefixes and lists as if they had
/// no modifier): with every reserved character escaped, and with none, as servers write it that do
/// not mind. What has no value stays empty.
pub fn expanded(template: &str, value: impl Fn(&str) -> Option<String>) -> [String; 2] {
    [false, true].map(|reserved| {
        let mut out = String::new();
        let mut rest = template;
        while let Some((literal, after)) = rest.split_once('{') {
            let Some((expression, after)) = after.split_once('}') else { break };
            out.push_str(literal);
            expand(&mut out, expression, &value, reserved);
            rest = after;
        }
        out + rest
    })
}

fn expand(
    out: &mut String,
    expression: &str,
    value: &impl Fn(&str) -> Option<String>,
    reserved: bool,
) {
    let names = expression.trim_start_matches(['+', '#', '.', '/', ';', '?', '&']);
    let operator = expression.chars().next().filter(|_| names.len() < expression.len());
    // The characters that stand first, and between (RFC 6570, appendix A).
    let (first, between) = match operator {
        None => ("", ","),
        Some('.') => (".", "."),
        Some('/') => ("/", "/"),
        Some(';') => (";", ";"),
        Some('?') => ("?", "&"),
        Some('&') => ("&", "&"),
        Some('#') => ("#", ","),
        Some(_) => ("", ","),
    };
    let reserved = reserved || matches!(operator, Some('+' | '#'));
    let name_of = |name: &str| name.split([':', '*']).next().unwrap_or_default().to_owned();
    let known = names.split(',').map(name_of).filter_map(|name| Some((value(&name)?, name)));
    for (at, (value, name)) in known.enumerate() {
        out.push_str(if at == 0 { first } else { between });
        if matches!(operator, Some(';' | '?' | '&')) {
            out.push_str(&name);
            out.push('=');
        }
        for byte in value.bytes() {
            let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            let kept = plain || reserved && b":/?#[]@!$&'()*+,;=%".contains(&byte);
            match kept {
                true => out.push(char::from(byte)),
                false => out.push_str(&format!("%{byte:02X}")),
            }
        }
    }
}

fn after_literal(at: &[bool], uri: &[u8], literal: &[u8]) -> Vec<bool> {
    let mut next = vec![false; at.len()];
    for start in at.iter().enumerate().filter_map(|(at, here)| here.then_some(at)) {
        let fits = uri.get(start..).is_some_and(|rest| rest.starts_with(literal));
        if let Some(end) = next.get_mut(start + literal.len()).filter(|_| fits) {
            *end = true;
        }
    }
    next
}

fn after_any(at: &[bool], uri: &[u8], slashes: bool) -> Vec<bool> {
    let mut inside = false;
    let reach = |(position, here): (usize, &bool)| {
        let crossed = position.checked_sub(1).and_then(|before| uri.get(before));
        inside = *here || inside && (slashes || crossed != Some(&b'/'));
        inside
    };
    at.iter().enumerate().map(reach).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simple_expression_stays_within_a_segment() {
        for (template, uri, want) in [
            ("test://template/{id}/data", "test://template/7/data", true),
            ("test://template/{id}/data", "test://template/7/8/data", false),
            ("test://template/{id}/data", "test://template/7", false),
            ("file:///{+path}", "file:///a/b/c", true),
            ("file:///{path*}", "file:///a/b", true),
            ("a{x}b{y}c", "a1b2bc", true),
            ("plain://x", "plain://x", true),
            ("plain://x", "plain://xy", false),
            ("search{?q,n}", "search?q=1&n=2", true),
            ("broken{", "broken{", true),
        ] {
            assert_eq!(Template::new(template).matches(uri), want, "{template} on {uri}");
        }
    }

    #[test]
    fn a_template_with_values_is_a_uri() {
        let value = |name: &str| match name {
            "a" => Some("x/y".to_owned()),
            "b" => Some("\u{e9} 1".to_owned()),
            _ => None,
        };
        for (template, want) in [
            ("db://{a}/{b}", ["db://x%2Fy/%C3%A9%201", "db://x/y/%C3%A9%201"]),
            ("db://{+a}", ["db://x/y", "db://x/y"]),
            ("db:/{/a,b}", ["db://x%2Fy/%C3%A9%201", "db://x/y/%C3%A9%201"]),
            ("db:{?c,b,a}", ["db:?b=%C3%A9%201&a=x%2Fy", "db:?b=%C3%A9%201&a=x/y"]),
            ("db:{c}{a:3}{broken", ["db:x%2Fy{broken", "db:x/y{broken"]),
        ] {
            assert_eq!(expanded(template, value), want, "{template}");
        }
    }

    #[test]
    fn a_nasty_template_costs_little() {
        let template = Template::new(&"{a}x".repeat(200));
        assert!(!template.matches(&"xy".repeat(5_000)));
    }
}
