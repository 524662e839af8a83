//! The names of all that is counted, each written once beside what it stands for.

/// Makes an enum each of whose variants has a name, and the list of all of them.
macro_rules! named {
    ($(#[$about:meta])* $of:ident { $($variant:ident = $name:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $of {
            $($variant,)*
        }

        impl $of {
            /// All of them, in the order of their discriminants.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name that operators see.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

named! {
    /// Everything that is counted.
    Counter {
        Requests = "requests",
        LogLinesDropped = "log_lines_dropped",
        RefusedHost = "refused_host",
        RefusedOrigin = "refused_origin",
        RefusedBodyBytes = "refused_body_bytes",
        RefusedDepth = "refused_depth",
        RefusedMalformed = "refused_malformed",
        RefusedHeaders = "refused_headers",
        RefusedSession = "refused_session",
        RefusedConnections = "refused_connections",
        RefusedAddresses = "refused_addresses",
        ConnectionsEvicted = "connections_evicted",
        ConnectionsIdle = "connections_idle",
        AcceptExhausted = "accept_exhausted",
        RefusedIncoming = "refused_incoming",
        RefusedUnsent = "refused_unsent",
        UnsentCut = "unsent_cut",
        AnswersHeldBack = "answers_held_back",
        WritesStalled = "writes_stalled",
        RefusedRequests = "refused_requests",
        RefusedSlow = "refused_slow",
        RefusedStreams = "refused_streams",
        RefusedCalls = "refused_calls",
        RefusedChannelBytes = "refused_channel_bytes",
        RefusedRate = "refused_rate",
        RefusedBudget = "refused_budget",
        RefusedInFlight = "refused_in_flight",
        RefusedCost = "refused_cost",
        WaitedInFlight = "waited_in_flight",
        LimitKeysEvicted = "limit_keys_evicted",
        VaultRead = "vault_read",
        VaultFailed = "vault_failed",
        LimitStoreLost = "limit_store_lost",
        LimitStoreLocal = "limit_store_local",
        SessionsOpened = "sessions_opened",
        SessionsRevived = "sessions_revived",
        SessionsEvicted = "sessions_evicted",
        UpstreamSessionsEvicted = "upstream_sessions_evicted",
        CallerSessionsOpened = "caller_sessions_opened",
        CallerSessionsEvicted = "caller_sessions_evicted",
        CallerSessionsWaited = "caller_sessions_waited",
        OutboxDropped = "outbox_dropped",
        NoticesDropped = "notices_dropped",
        UpstreamGarbage = "upstream_garbage",
        UpstreamUnexpected = "upstream_unexpected",
        UpstreamEventsIgnored = "upstream_events_ignored",
        UpstreamSessionsRenewed = "upstream_sessions_renewed",
        UpstreamTooLarge = "upstream_too_large",
        OpeningsWaited = "openings_waited",
        LegacyFallbacks = "legacy_fallbacks",
        ListItemsDropped = "list_items_dropped",
        ListItemsMended = "list_items_mended",
        ListsFailed = "lists_failed",
        NamesLeftOut = "names_left_out",
        NamesChanged = "names_changed",
        NamesMoved = "names_moved",
        NamesLapsed = "names_lapsed",
        NamesUnrecorded = "names_unrecorded",
        NamesDamaged = "names_damaged",
        Parked = "parked",
        ParkedExpired = "parked_expired",
        RefusedParked = "refused_parked",
        RefusedQuestions = "refused_questions",
        RefusedQuestionBytes = "refused_question_bytes",
        RefusedStates = "refused_states",
        Rounds = "rounds",
        Tasks = "tasks",
        TasksExpired = "tasks_expired",
        RefusedTasks = "refused_tasks",
        TaskResultsDropped = "task_results_dropped",
        TasksCarried = "tasks_carried",
        Unseen = "unseen",
        Unknown = "unknown",
        Denied = "denied",
        PolicyErrors = "policy_errors",
        GrantsEvicted = "grants_evicted",
        DecisionsDropped = "decisions_dropped",
        ViewsBuilt = "views_built",
        ViewsEvicted = "views_evicted",
        Reloads = "reloads",
        ReloadsRefused = "reloads_refused",
        RefusedAnonymous = "refused_anonymous",
        RefusedCredentials = "refused_credentials",
        RefusedScopes = "refused_scopes",
        AuthUnavailable = "auth_unavailable",
        KeysFetched = "keys_fetched",
        KeysFailed = "keys_failed",
        TokensFetched = "tokens_fetched",
        TokensFailed = "tokens_failed",
        RefusedSubscriptions = "refused_subscriptions",
        RefusedLogins = "refused_logins",
        LoginSourcesEvicted = "login_sources_evicted",
        RefusedStepUp = "refused_step_up",
        Introspections = "introspections",
        IntrospectionsFailed = "introspections_failed",
        TokensExchanged = "tokens_exchanged",
        StreamsRevoked = "streams_revoked",
        CertificatesRead = "certificates_read",
        CertificatesFailed = "certificates_failed",
        RefusedArguments = "refused_arguments",
        LenientArguments = "lenient_arguments",
        CountedArguments = "counted_arguments",
        RefusedArgumentBytes = "refused_argument_bytes",
        RefusedResults = "refused_results",
        RefusedResultBytes = "refused_result_bytes",
        UncheckedCalls = "unchecked_calls",
        SchemasUnusable = "schemas_unusable",
        SchemasEvicted = "schemas_evicted",
        RefusedSchemaWork = "refused_schema_work",
        RefusedSchemaMemory = "refused_schema_memory",
        SchemaChecksLate = "schema_checks_late",
        UpstreamNoisy = "upstream_noisy",
        UpstreamMemory = "upstream_memory",
        Linked = "linked",
        LinkedDropped = "linked_dropped",
        ToolsChanged = "tools_changed",
        LinksForgotten = "links_forgotten",
        RefusedUris = "refused_uris",
        NoticesWithheld = "notices_withheld",
        SecretsFlagged = "secrets_flagged",
        SecretsRedacted = "secrets_redacted",
        SecretsBlocked = "secrets_blocked",
        PersonalFlagged = "personal_flagged",
        PersonalRedacted = "personal_redacted",
        PersonalBlocked = "personal_blocked",
        InjectionFlagged = "injection_flagged",
        InjectionRedacted = "injection_redacted",
        InjectionBlocked = "injection_blocked",
        ExfiltrationFlagged = "exfiltration_flagged",
        ExfiltrationRedacted = "exfiltration_redacted",
        ExfiltrationBlocked = "exfiltration_blocked",
        CustomFlagged = "custom_flagged",
        CustomRedacted = "custom_redacted",
        CustomBlocked = "custom_blocked",
        ReplicaPicks = "replica_picks",
        ReplicaEjections = "replica_ejections",
        ReplicaFailovers = "replica_failovers",
        Hedges = "hedges",
        HedgesWon = "hedges_won",
        ProbesFailed = "probes_failed",
        CanaryCalls = "canary_calls",
        CanaryFailures = "canary_failures",
        CanaryFallbacks = "canary_fallbacks",
        CanariesBack = "canaries_back",
        ShadowCalls = "shadow_calls",
        ShadowMismatches = "shadow_mismatches",
        ShadowFailures = "shadow_failures",
        ShadowSkipped = "shadow_skipped",
        RefusedBreaker = "refused_breaker",
        BreakersOpened = "breakers_opened",
        BreakersClosed = "breakers_closed",
        Retries = "retries",
        RefusedRetries = "refused_retries",
        UpstreamTimeouts = "upstream_timeouts",
        CacheHits = "cache_hits",
        CacheMisses = "cache_misses",
        CacheStale = "cache_stale",
        CacheStaleOnError = "cache_stale_on_error",
        CacheJoined = "cache_joined",
        CacheEvicted = "cache_evicted",
        CacheInvalidated = "cache_invalidated",
        CacheTooLarge = "cache_too_large",
        CacheRefusedWriting = "cache_refused_writing",
        AuditWritten = "audit_written",
        AuditDropped = "audit_dropped",
        AuditRefused = "audit_refused",
        AuditFailed = "audit_failed",
        AuditReopened = "audit_reopened",
        MetricsShared = "metrics_shared",
        TracesExported = "traces_exported",
        TracesDropped = "traces_dropped",
        TracesFailed = "traces_failed",
        SpansDropped = "spans_dropped",
        InternalErrors = "internal_errors",
    }
}

named! {
    /// Everything of which there is so much at one moment.
    Gauge {
        Connections = "connections",
        ActiveRequests = "active_requests",
        Streams = "streams",
        WaitingCalls = "waiting_calls",
    }
}

named! {
    /// Why a call ended without an answer of its upstream's own: the closed set of words that
    /// metrics (with `fault_` before them) and the audit log have for it.
    Reason {
        InvalidRequest = "invalid_request",
        NotFound = "not_found",
        AccessDenied = "access_denied",
        RateLimited = "rate_limited",
        Overloaded = "overloaded",
        Cancelled = "cancelled",
        Unbridgeable = "unbridgeable",
        MissingCapability = "missing_capability",
        StaleState = "stale_state",
        NoAnswer = "no_answer",
        Declined = "declined",
        ClientError = "client_error",
        ServiceTimeout = "service_timeout",
        ServiceUnavailable = "service_unavailable",
        ResponseTooLarge = "response_too_large",
        UpstreamError = "upstream_error",
        InvalidArguments = "invalid_arguments",
        Blocked = "blocked",
        InternalError = "internal_error",
    }
}

named! {
    /// The parts of a call's time, each with a histogram: what its name ends with.
    CallPart {
        Whole = "call",
        Upstream = "call_upstream",
        Gate = "call_gate",
    }
}

named! {
    /// The scopes that calls are counted by: metrics have it before `_outcomes` and
    /// `_call_seconds`.
    ScopeKind {
        Route = "route",
        Upstream = "upstream",
        Tool = "tool",
    }
}

/// How a call ended, for metrics and the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    /// The tool says itself that it failed.
    ToolError,
    /// A JSON-RPC error of the server's own.
    Error,
    /// The client is asked something first; its retry is a call of its own.
    InputRequired,
    /// The call ended without an answer of its upstream's own.
    Failed(Reason),
}

impl Outcome {
    const ANSWERS: [Self; 4] = [Self::Ok, Self::ToolError, Self::Error, Self::InputRequired];
    pub const COUNT: usize = Self::ANSWERS.len() + Reason::ALL.len();

    /// All of them, in the order of their indexes.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::ANSWERS.into_iter().chain(Reason::ALL.iter().map(|reason| Self::Failed(*reason)))
    }

    pub fn index(self) -> usize {
        match self {
            Self::Ok => 0,
            Self::ToolError => 1,
            Self::Error => 2,
            Self::InputRequired => 3,
            Self::Failed(reason) => Self::ANSWERS.len() + reason as usize,
        }
    }

    /// The word that operators see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ToolError => "tool_error",
            Self::Error => "error",
            Self::InputRequired => "input_required",
            Self::Failed(reason) => reason.name(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn small_letters(variant: &str) -> String {
        let mut name = String::new();
        for c in variant.chars() {
            if c.is_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.extend(c.to_lowercase());
        }
        name
    }

    /// Metrics have one name for one thing, and a name can be guessed from its variant.
    #[test]
    fn each_name_is_its_variants_in_small_letters_and_stands_once() {
        let counters = Counter::ALL.iter().map(|one| (format!("{one:?}"), one.name()));
        let gauges = Gauge::ALL.iter().map(|one| (format!("{one:?}"), one.name()));
        let reasons = Reason::ALL.iter().map(|one| (format!("{one:?}"), one.name()));
        for named in [counters.collect::<Vec<_>>(), gauges.collect(), reasons.collect()] {
            for (variant, name) in &named {
                assert_eq!(small_letters(variant), *name);
            }
            let names: BTreeSet<_> = named.iter().map(|(_, name)| name).collect();
            assert_eq!(names.len(), named.len());
        }
    }

    #[test]
    fn an_outcome_has_one_name_and_stands_at_its_index() {
        assert!(Outcome::all().enumerate().all(|(at, outcome)| outcome.index() == at));
        let names: BTreeSet<_> = Outcome::all().map(Outcome::name).collect();
        assert_eq!(names.len(), Outcome::COUNT);
    }

    #[test]
    fn a_discriminant_is_the_place_in_the_list() {
        assert!(Counter::ALL.iter().enumerate().all(|(at, counter)| *counter as usize == at));
        assert!(ScopeKind::ALL.iter().enumerate().all(|(at, kind)| *kind as usize == at));
        assert!(Gauge::ALL.iter().enumerate().all(|(at, gauge)| *gauge as usize == at));
        assert!(CallPart::ALL.iter().enumerate().all(|(at, part)| *part as usize == at));
        assert!(Reason::ALL.iter().enumerate().all(|(at, reason)| *reason as usize == at));
    }
}
