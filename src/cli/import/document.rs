//! A client's file as a JSON value, whether it is JSON with comments, TOML or YAML.

use std::path::Path;

use serde_json::Value;

/// Bytes of a client's file. The largest known is `~/.claude.json`, which keeps histories beside
/// the servers and grows to a few MiB.
pub const FILE_BYTES_MAX: u64 = 16 << 20;

/// Nodes of a YAML file, with those that aliases stand for: a thousand servers of a hundred values.
const YAML_NODES_MAX: usize = 100_000;

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    Toml,
    Yaml,
}

impl Format {
    /// The format that the file's name promises.
    fn of_name(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "json" | "jsonc" | "json5" => Some(Self::Json),
            "toml" => Some(Self::Toml),
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Toml => "TOML",
            Self::Yaml => "YAML",
        }
    }

    fn read(self, text: &str) -> Result<Value, String> {
        match self {
            Self::Json => json(text),
            Self::Toml => toml::from_str(text).map_err(|error| error.message().to_owned()),
            Self::Yaml => yaml(text),
        }
    }
}

/// The value of a file, and how it is written. The name decides the format, where there is one that
/// says it; else the text does.
///
/// # Errors
/// Why the text is none of the formats, in the words of the likeliest.
pub fn read(name: Option<&Path>, text: &str) -> Result<(Value, Format), String> {
    let text = text.trim_start_matches('\u{feff}');
    let likeliest = if text.trim_start().starts_with(['{', '[', '/']) {
        [Format::Json, Format::Toml, Format::Yaml]
    } else {
        [Format::Toml, Format::Yaml, Format::Json]
    };
    if let Some(format) = name.and_then(Format::of_name) {
        let value = format.read(text);
        return value
            .map(|value| (value, format))
            .map_err(|error| format!("this is not {}: {error}", format.word()));
    }
    let mut faults = Vec::new();
    for format in likeliest {
        match format.read(text) {
            // Any line of words is YAML, a text by itself.
            Ok(value) if value.is_object() || value.is_array() => return Ok((value, format)),
            Ok(_) => (),
            Err(error) => faults.push(format!("this is not {}: {error}", format.word())),
        }
    }
    Err(faults.into_iter().next().unwrap_or_else(|| "this is a text alone".to_owned()))
}

/// JSON as VS Code, Zed and others write it: with comments and trailing commas.
fn json(text: &str) -> Result<Value, String> {
    let options = jsonc_parser::ParseOptions { allow_missing_commas: false, ..Default::default() };
    jsonc_parser::parse_to_serde_value(text, &options).map_err(|error| error.to_string())
}

fn yaml(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: YAML_NODES_MAX,
            max_documents: 1,
            max_depth: 64,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: YAML_NODES_MAX,
        },
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_format_is_found_by_its_text() {
        let wanted = json!({ "a": { "b": [1, "c"] } });
        for (text, format) in [
            ("{ \"a\": { \"b\": [1, \"c\",], } } // end", Format::Json),
            ("\u{feff}// first\n{ \"a\": { \"b\": [1, \"c\"] } }", Format::Json),
            ("[a]\nb = [1, 'c']\n", Format::Toml),
            ("a:\n  b:\n    - 1\n    - c\n", Format::Yaml),
            ("---\na: {b: [1, c]}\n", Format::Yaml),
        ] {
            assert_eq!(read(None, text), Ok((wanted.clone(), format)), "{text}");
        }
    }

    #[test]
    fn a_name_says_which_format_is_meant() {
        let fault = read(Some(Path::new("a.toml")), "{}").unwrap_err();
        assert!(fault.starts_with("this is not TOML: "), "{fault}");
        let fault = read(Some(Path::new("a.yml")), "a: [").unwrap_err();
        assert!(fault.starts_with("this is not YAML: "), "{fault}");
        let fault = read(None, "{").unwrap_err();
        assert!(fault.starts_with("this is not JSON: "), "{fault}");
    }

    #[test]
    fn aliases_cannot_make_a_file_large() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            let list = format!("*a{}, ", n - 1).repeat(10);
            bomb.push_str(&format!("a{n}: &a{n} [{list}]\n"));
        }
        let fault = read(Some(Path::new("bomb.yaml")), &bomb).unwrap_err();
        assert!(fault.starts_with("this is not YAML: "), "{fault}");
        let aliases = "a: &a {command: x}\nmcpServers: {b: *a, c: *a}\n";
        let (value, _) = read(Some(Path::new("a.yaml")), aliases).unwrap();
        assert_eq!(value["mcpServers"]["c"]["command"], "x");
    }

    #[test]
    fn depth_is_bounded_in_every_format() {
        for text in [
            "[".repeat(100_000),
            format!("a = {}", "[".repeat(100_000)),
            format!("a: {}", "[".repeat(100_000)),
        ] {
            read(None, &text).unwrap_err();
        }
    }
}
