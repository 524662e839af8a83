//! What calls are held to: right and wrong sections.

use super::{of_upstream, read, told};
use crate::config::{ArgumentCheck, Detect, Place, Then, TooLarge, Unusable, built_in};

#[test]
fn guards_stand_on_routes_upstreams_and_tools() {
    let config = read(
        r#"
[server.limits]
schema_bytes_max = "1MiB"
linked_age = "1m"

[routes."/mcp"]
upstreams = ["jobs"]

[[routes."/mcp".guard.detect]]
find = ["secrets", "custom:ticket"]
in = ["results", "arguments"]
then = "block"

[upstreams.jobs]
url = "http://jobs/mcp"
guard = { arguments = "off", unusable = "refuse", result_max = "1MiB", too_large = "link" }

[upstreams.jobs.tools.search]
guard = { arguments = "schema", results = "schema", arguments_max = 100 }
arguments = { default = { limit = 10 }, force = { "a.b" = { c = ["d", 1.5, true] } } }

[detectors.ticket]
pattern = 'TICKET-[0-9]{6}'
keywords = ["ticket"]
"#,
    );
    assert_eq!(config.server.limits.schema_bytes_max, 1 << 20);
    assert_eq!(config.server.limits.linked_age.as_secs(), 60);
    let find = ["secrets", "custom:ticket"].map(str::to_owned).to_vec();
    let places = vec![Place::Arguments, Place::Results];
    assert_eq!(config.routes[0].guard.detect, [Detect { find, places, then: Then::Block }]);
    let jobs = &config.upstreams[0];
    assert_eq!((jobs.guard.arguments, jobs.guard.results), (Some(ArgumentCheck::Off), None));
    assert_eq!(jobs.guard.unusable, Some(Unusable::Refuse));
    assert_eq!(
        (jobs.guard.result_max, jobs.guard.too_large),
        (Some(1 << 20), Some(TooLarge::Link))
    );
    let search = &jobs.tool_settings["search"];
    assert_eq!(search.guard.arguments_max, Some(100));
    let [(name, value)] = search.filling.force.as_slice() else { panic!("one") };
    assert_eq!((name.as_str(), value.as_str()), ("a.b", r#"{"c":["d",1.5,true]}"#));
    assert_eq!(search.filling.default[0].1.as_str(), "10");
    assert_eq!(config.detectors[0].name, "custom:ticket");
}

#[test]
fn wrong_guards_are_told() {
    told(
        &of_upstream(
            "url = \"http://a/\"\nguard = { argument = \"schema\", results = \"of\", detect = [\n\
             { find = [\"secret\"], in = [\"result\"], then = \"block\" },\n\
             { find = [\"personal:ibam\"], in = [\"results\"], then = \"block\" },\n\
             { find = [\"secrets\"], when = 1 }, {}] }\n",
        ),
        &[
            "error: unknown key `argument`",
            "did you mean `arguments`?",
            "error: `of` is not a word known here",
            "error: there is no detector `secret`",
            "error: `result` is not a word known here",
            "error: there is no detector `personal:ibam`",
            "did you mean `personal:iban`?",
            "error: unknown key `when`",
            "did you mean `then`?",
            "error: `in` is missing",
            "error: `find` is missing",
            "error: `in` is missing",
            "error: `then` is missing",
        ],
    );
    told(
        &of_upstream(
            "url = \"http://a/\"\ntools.t.arguments = { default = { a = 1 }, force = { a = 2 } }\n\
             [detectors.Bad]\npattern = '(?=a)'\n[detectors.empty]\npattern = 'a*'\n\
             [detectors.no]\n",
        ),
        &[
            "error: `a` has a default, and is forced",
            "error: `Bad` is not a name for a detector",
            "error: `(?=a)` is not a regular expression",
            "error: this pattern matches a text that is empty",
            "error: `pattern` is missing",
        ],
    );
}

#[test]
fn the_detectors_of_tollgate_can_be_compiled_and_have_words_that_can_be_found() {
    let mut names: Vec<_> = built_in().iter().map(|detector| detector.name.as_str()).collect();
    for detector in built_in() {
        assert!(regex::Regex::new(&detector.pattern).is_ok(), "{}", detector.name);
        let odd = |word: &String| word.contains(['/', '"', '\\']) || !word.is_ascii();
        assert!(!detector.keywords.iter().any(odd), "{}: escapes would hide it", detector.name);
    }
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "each name once");
}
