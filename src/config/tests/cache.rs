//! Results that are kept: right and wrong sections.

use std::time::Duration;

use super::{of_upstream, read, told, upstream};
use crate::config::{Cache, Keep, Resources};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn the_cache_and_its_tools_are_read() {
    let config = read(
        r#"
[cache]
bytes_max = "1GiB"
entry_bytes_max = "4MiB"
request_bytes_max = "128KiB"
resources = "caller"
hint_max = "1h"
refreshes_max = 8

[routes."/mcp"]
upstreams = ["jobs"]

[upstreams.jobs]
url = "http://jobs/mcp"
tools.poll.cache = { ttl = "1s", even_if_writing = true }
tools.submit.invalidates = ["getJobDetails", "poll"]

[upstreams.jobs.tools.getJobDetails.cache]
ttl = "10m"
keys = ["jobId"]
public = true
stale = "1m"
on_error = "1h"
"#,
    );
    let want = Cache {
        bytes_max: 1 << 30,
        entry_bytes_max: 4 << 20,
        request_bytes_max: 128 << 10,
        resources: Resources::Caller,
        hint_max: 60 * MINUTE,
        refreshes_max: 8,
    };
    assert_eq!(config.cache, want);
    let tools = &config.upstreams[0].tool_settings;
    let details = Keep {
        ttl: 10 * MINUTE,
        keys: Some(vec!["jobId".to_owned()]),
        public: true,
        stale: MINUTE,
        on_error: 60 * MINUTE,
        even_if_writing: false,
    };
    assert_eq!(tools["getJobDetails"].cache, Some(details));
    let poll = tools["poll"].cache.as_ref().unwrap();
    assert_eq!((poll.even_if_writing, &poll.keys, poll.public), (true, &None, false));
    assert_eq!(tools["submit"].invalidates, ["getJobDetails", "poll"]);
    assert_eq!(upstream("url = \"http://a/\"\ntools.a.cost = 1\n").tool_settings["a"].cache, None);
}

#[test]
fn what_is_left_out_is_as_the_code_has_it() {
    let config = read("[routes.\"/a\"]\nupstreams = [\"a\"]\n[upstreams.a]\nurl = \"http://a/\"\n");
    assert_eq!(config.cache, Cache::default());
}

#[test]
fn wrong_sections_are_told() {
    told(
        &of_upstream("url = \"http://a/\"\ntools.a.cache = { keys = [\"id\"] }\n"),
        &["error: `ttl` is missing"],
    );
    told(
        &of_upstream(
            "url = \"http://a/\"\ntools.a.cache.ttl = \"1m\"\ntools.b.invalidates = [\"A\"]\n",
        ),
        &["error: nothing is kept of `A`"],
    );
    told(
        &of_upstream("url = \"http://a/\"\ntools.b.invalidates = [\"b\"]\n"),
        &["error: nothing is kept of `b`"],
    );
    told(
        &of_upstream("url = \"http://a/\"\ntools.a.cache = { ttl = \"1m\", pubic = true }\n"),
        &["error: unknown key `pubic`"],
    );
}
