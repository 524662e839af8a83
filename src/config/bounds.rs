//! Every bound of the gateway itself.

use std::time::Duration;

use schemars::{Schema, SchemaGenerator};

use super::{
    limit::Rate,
    toml::{
        reader::{Node, Reader},
        section::{DAY, GIB, KIB, MINUTE, SECOND},
        table::section,
        value::{BoundedDuration, Count, FromToml, Size},
    },
};

section! {
    /// Every bound of the gateway itself.
    #[derive(Debug, Clone, PartialEq)]
    Limits {
        /// Bytes of one request body. The official SDKs have the same default.
        // As the official SDKs have it.
        body_bytes_max: Size<KIB, GIB> = "4MiB",
        /// Nesting of a client's JSON, and of one entry of an upstream's list.
        depth_max: Count<4, 1_000> = 64,
        /// Messages in one batch (protocol 2025-03-26).
        batch_max: Count<1, 10_000> = 50,
        /// Bytes of one message from an upstream.
        answer_bytes_max: Size<KIB, GIB> = "64MiB",
        /// Entries in one list of one upstream.
        list_items_max: Count<1, 1_000_000> = 10_000,
        /// Pages of one list of one upstream.
        // With ten entries each all of a list.
        list_pages_max: Count<1, 1_000_000> = 1_000,
        /// Bytes of one entry of a list; a larger one is left out.
        // The largest seen of a real server has a tenth of it.
        entry_bytes_max: Size<KIB, GIB> = "256KiB",
        /// Bytes of one list of one upstream.
        // 10,000 entries of 1.6 KiB.
        list_bytes_max: Size<KIB, GIB> = "16MiB",
        /// Bytes of all lists of one upstream together.
        // Two of the largest.
        lists_bytes_max: Size<KIB, { 4 * GIB }> = "32MiB",
        /// Sessions in memory; the 64th part of them that is idle longest makes room.
        sessions_max: Count<1, 10_000_000> = 10_000,
        /// A session unused for this long is put out of memory.
        session_idle: BoundedDuration<SECOND, { 30 * DAY }> = "30m",
        /// A session id is refused after this long.
        session_age: BoundedDuration<MINUTE, { 365 * DAY }> = "24h",
        /// Accepted connections. Where all places are taken, the one that is idle for longest makes
        /// room.
        connections_max: Count<1, 10_000_000> = 10_000,
        /// Accepted connections of one address, of IPv6 its first 64 bits; those of
        /// `trusted_proxies` are not bounded. Without it half of `connections_max`.
        // One address leaves as much to all others.
        connections_per_address_max: Option<Count<1, 10_000_000>>,
        /// Bytes of the head of a request.
        // Four times what common servers take.
        head_bytes_max: Size<{ 8 * KIB }, GIB> = "64KiB",
        /// Bytes of all request bodies that are being read, but for the smallest; more are
        /// refused (503). Without it the 32nd part of the memory of the machine or the cgroup, 512
        /// MiB at most.
        incoming_bytes_max: Option<Size<KIB, { 1 << 50 }>>,
        /// Bytes of all answers that are being read from upstreams, but for the first MiB of each.
        /// Further ones wait, each no longer than its call; of each upstream one is read in any
        /// case. Without it the 32nd part of the memory of the machine or the cgroup, 512 MiB at
        /// most.
        incoming_answers_bytes_max: Option<Size<KIB, { 1 << 50 }>>,
        /// Time in which a client takes something of what waits for it, if only a byte; else its
        /// connection is closed, or its stream of HTTP/2 is reset.
        // As nginx has it.
        write_timeout: BoundedDuration<10, { 60 * MINUTE }> = "60s",
        /// Bytes of all answers that wait for their clients to take them, but for small ones.
        /// Beyond, those that are taken slowest are ended. Without it a quarter of the memory of
        /// the machine or the cgroup.
        unsent_bytes_max: Option<Size<KIB, { 1 << 50 }>>,
        /// The bytes of one caller's answers that wait to be taken.
        // Four of the largest answers.
        unsent_per_caller_max: Size<KIB, { 1 << 50 }> = "256MiB",
        /// The bytes of one connection's answers that wait to be taken, on which one larger answer
        /// may wait alone.
        // One of the largest answers.
        unsent_per_connection_max: Size<KIB, { 1 << 50 }> = "64MiB",
        /// Time a client has for its first request, for the head of each, and for a body.
        // Hyper's own for a head.
        request_timeout: BoundedDuration<10, { 60 * MINUTE }> = "30s",
        /// Requests under way, each until the end of its answer: an open stream is one.
        requests_max: Count<1, 10_000_000> = 10_000,
        /// The open streams of one session.
        streams_max: Count<1, 100_000> = 64,
        /// Resources that one `subscriptions/listen` may name (2026-07-28).
        // More than a person looks at.
        subscriptions_max: Count<1, 1_000_000> = 1_000,
        /// Calls under way of one client on its standard input and output, or over HTTP+SSE.
        // As many as wait to be written to a server at once.
        channel_calls_max: Count<1, 100_000> = 256,
        /// Bytes of messages that wait for one client on its standard input and output, or over
        /// HTTP+SSE, to be written. One larger message may wait alone; an answer of more than 16
        /// KiB beyond is dropped, and its client told so; all else waits, and holds up its sender.
        // One of the largest answers, as on a connection of HTTP.
        channel_bytes_max: Size<KIB, GIB> = "64MiB",
        /// Bytes kept per stream for a client that comes back with `Last-Event-ID`.
        outbox_bytes_max: Size<KIB, GIB> = "1MiB",
        /// Age at which a stream is closed whose client comes back for the rest (2025-11-25), for
        /// proxies that would cut it; 0 closes none.
        // What is cut can be read on as well, but a client needs no second request.
        stream_age: AgeOrNever = "0s",
        /// Time that a client has to answer what a server asks in mid-call.
        // A person may have to read and think.
        answer_timeout: BoundedDuration<SECOND, DAY> = "5m",
        /// Time in which further questions of one call are gathered for a client that answers with
        /// another request (2026-07-28).
        // What a server asks at once arrives within that, and nobody notices it.
        question_window: BoundedDuration<0, { 10 * SECOND }> = "15ms",
        /// Questions that wait for one client's answers at once, in a session or in a call.
        questions_max: Count<1, 10_000> = 64,
        /// Bytes of the questions that wait for one client's answers at once in a call, or in a
        /// server's task.
        // A conversation to be sampled may hold some images.
        questions_bytes_max: Size<KIB, GIB> = "16MiB",
        /// Times that one call of a client of an older version may be asked anew by a server of
        /// 2026-07-28, before it is given up. Clients of 2026-07-28 are asked by the server itself,
        /// and count for themselves.
        // As the official SDKs have it.
        rounds_max: Count<1, 1_000> = 10,
        /// Calls that wait for answers of clients that have no session.
        parked_max: Count<1, 1_000_000> = 10_000,
        /// The parked calls of one caller.
        parked_per_caller_max: Count<1, 1_000_000> = 1_000,
        /// Silence after which a call of a client that takes tasks (2026-07-28) goes on as one,
        /// where the server has none of its own, of whichever version it is; 0 makes a task of
        /// each.
        // Nearly all tools answer in less, and clients and proxies give up after 30 to 60 s.
        task_after: BoundedDuration<0, { 7 * DAY }> = "10s",
        /// How long such a task is kept once it has ended.
        // As a session that nobody uses.
        task_ttl: BoundedDuration<SECOND, { 7 * DAY }> = "30m",
        /// Such tasks, ended ones included.
        tasks_max: Count<1, 1_000_000> = 10_000,
        /// The tasks of one caller.
        tasks_per_caller_max: Count<1, 1_000_000> = 1_000,
        /// Bytes of all their results together.
        // A few of the largest, many of the usual.
        task_bytes_max: Size<KIB, { 64 * GIB }> = "256MiB",
        /// Sets of grants (groups, scopes, and what else policies ask for) whose lists and
        /// decisions a route keeps; the oldest makes room.
        // A list of a hundred tools is some 200 KiB.
        grants_max: Count<1, 100_000> = 256,
        /// Bytes of all lists that are kept for sets of grants; those used least recently make
        /// room.
        // A list of 10,000 tools is some 120 KiB.
        views_bytes_max: Size<KIB, { 64 * GIB }> = "256MiB",
        /// Decisions that are kept for one set of grants.
        decisions_max: Count<1, 1_000_000> = 2_000,
        /// Bytes of a text among the arguments that a policy reads: a call with a longer one is
        /// denied.
        // Patterns are compared byte by byte.
        judged_text_max: Size<KIB, GIB> = "64KiB",
        /// Texts of an array among the arguments that a policy reads.
        judged_items_max: Count<1, 1_000_000> = 1_000,
        /// Silence on an open stream after which a comment is sent.
        keep_alive: BoundedDuration<SECOND, { 10 * MINUTE }> = "15s",
        /// Callers, clients and so on that one of the `limits` of routes, upstreams and tools
        /// remembers; where there are more, the 64th part of them that has used least is forgotten,
        /// and begins anew.
        // Some 5 MiB.
        limit_keys_max: Count<64, 10_000_000> = 100_000,
        /// Failed logins of one address, of IPv6 its first 64 bits. One that has more is answered
        /// 429, but for keys that are right and tokens that are known to be good.
        // A person who mistypes, or an agent with a stale key that tries again every few seconds,
        // is still told why.
        failed_logins: Rate = "30/min",
        /// Addresses that they are counted for; where there are more, those that failed least are
        /// forgotten.
        login_sources_max: Count<16, 10_000_000> = 10_000,
        /// Bytes of a tool's schema that its calls can be held to.
        // The longest seen of a real server has a tenth of it.
        schema_bytes_max: Size<KIB, GIB> = "256KiB",
        /// Parts of such a schema, those that it refers to counted each time.
        // A call that fits is checked in a millisecond or so.
        schema_parts_max: Count<16, 10_000_000> = 20_000,
        /// Such schemas in memory; one that is in use is compiled again where there are more.
        // As many as one list has entries.
        schemas_max: Count<1, 1_000_000> = 10_000,
        /// Steps that it may cost to hold one call's arguments, or its result, to a schema: parts
        /// of the schema times nodes of the value. What is beyond it is refused.
        // 4 MiB of numbers against twenty parts, or 200 KiB against a thousand.
        schema_work_max: Count<1_000, 1_000_000_000_000> = 50_000_000,
        /// Values of more than 64 KiB that are held to schemas at once; further ones wait.
        schema_checks_max: Count<1, 1_024> = 2,
        /// Memory of all such values together while they are, as it is reckoned; one that takes
        /// more by itself is refused, and others wait.
        // 4 MiB of numbers, which take fifty times what they are in text; what most programs write
        // takes ten times that.
        schema_values_bytes_max: Size<KIB, { 64 * GIB }> = "256MiB",
        /// Time that such a value may wait and be checked; then its call is refused.
        schema_patience: BoundedDuration<10, { 10 * MINUTE }> = "10s",
        /// Bytes of all results together that are kept for their callers, who were given links.
        linked_bytes_max: Size<KIB, { 64 * GIB }> = "256MiB",
        /// The bytes of linked results of one caller; the oldest makes room.
        // One of the largest.
        linked_per_caller_max: Size<KIB, { 64 * GIB }> = "64MiB",
        /// How long such a result is kept.
        // It is read in the next step, or never.
        linked_age: BoundedDuration<SECOND, { 7 * DAY }> = "10m",
        /// Links of upstreams' results that callers may read although they are on no list, of all
        /// callers together; a tenth of them for one caller. The oldest makes room.
        // Some 100 bytes each.
        links_max: Count<10, 10_000_000> = 100_000,
        /// Time from the start in which a list waits for upstreams that nothing is known of yet.
        settle: BoundedDuration<0, MINUTE> = "1s",
        /// Routes, upstreams and tools that have metrics of their own, by outcome and duration; all
        /// others of a kind share theirs.
        // 1 KiB of text each for Prometheus, of those that are called.
        call_metrics_max: Count<10, 1_000_000> = 2_000,
        /// How long a name is kept for an entry that is no longer listed by its upstream, although
        /// that is ready; also for an upstream that is no longer there.
        // Longer than a server stays changed by mistake.
        names_kept: BoundedDuration<SECOND, { 3_650 * DAY }> = "720h",
        /// Processes of servers that are being opened at once, so that many servers do not start in
        /// each other's way; as many more for calls that need a process of their own. Without it
        /// two for each core. One that has not answered after 10 s counts no more.
        // One computes while another waits for the disk.
        openings_max: Count<1, 10_000> = (two_for_each_core()),
        /// How often secrets of a Vault (`vault:PATH#FIELD`) are read anew.
        // A rotated one is in use soon enough, as the old one holds for longer.
        vault_refresh: BoundedDuration<SECOND, DAY> = "1m",
        /// Time that calls under way have when the gate stops.
        drain: BoundedDuration<0, { 60 * MINUTE }> = "10s",
    }
}

impl Limits {
    /// Accepted connections of one address.
    pub fn per_address(&self) -> usize {
        self.connections_per_address_max.unwrap_or(self.connections_max.div_ceil(2))
    }
}

/// An age of which zero means never.
#[derive(Debug)]
pub struct AgeOrNever;

impl FromToml for AgeOrNever {
    type Value = Option<Duration>;

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Option<Duration>> {
        let age = BoundedDuration::<0, DAY>::read(node, reader)?;
        Some(Some(age).filter(|age| !age.is_zero()))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        BoundedDuration::<0, DAY>::schema(generator)
    }
}

/// Two for each core that the gate may use.
fn two_for_each_core() -> usize {
    2 * std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
