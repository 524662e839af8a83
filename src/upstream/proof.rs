//! Proofs that a request needs to be sent: that it may be, that it was let in, and that a breaker
//! lets it through; and the proof that it was sent, for what it leads to.

use std::sync::Arc;

use crate::{
    call::{UpstreamName, UpstreamRequest},
    limit::{Admission, LimitTarget, LimitedRequest, RouteAdmission},
    mcp::message::Body,
    policy::{Permit, PermitTarget, Succession},
    resilience::{Attempt, Continuation},
    upstream::{
        cluster::Upstream,
        exchange::{Exchange, error::SendError},
    },
};

/// The right to send a request. It holds the upstream that is permitted, so that none can be sent
/// to another, and the admission of the route. Each send needs an [`Attempt`] besides, and is
/// admitted by the limits of the upstream once there is a connection for it.
#[derive(Debug, Clone)]
pub struct Clearance {
    permit: Permit<Upstream>,
    route: RouteAdmission,
    /// The admission of a request that was sent, for what carries on with it.
    carried: Option<Admission>,
}

/// The proof that a request was sent: what it leads to (answers, looks at its task) is brought to
/// its end on its strength, and holds its places.
#[derive(Debug, Clone)]
pub struct Sent {
    admission: Admission,
    let_through: Continuation,
}

impl Clearance {
    pub fn new(permit: Permit<Upstream>, route: RouteAdmission) -> Self {
        Self { permit, route, carried: None }
    }

    /// Makes a clearance for what the limits of its upstream admitted already.
    pub fn admitted(self, admission: Admission) -> Self {
        Self { carried: Some(admission), ..self }
    }

    /// Returns the upstream that the request goes to.
    pub fn upstream(&self) -> &Arc<Upstream> {
        self.permit.on()
    }

    /// Checks that this is a clearance for `upstream`: each way to a server begins with that.
    ///
    /// # Errors
    /// Where it is for another.
    pub fn check(&self, upstream: &Upstream) -> Result<(), SendError> {
        if std::ptr::eq(Arc::as_ptr(self.upstream()), upstream) {
            return Ok(());
        }
        Err(permitted_elsewhere())
    }

    /// Makes a clearance for a copy of a request, which nobody waits for.
    pub fn without_places(&self) -> Self {
        let route = self.route.without_places();
        Self { permit: self.permit.clone(), route, carried: None }
    }

    /// Makes a clearance for the upstream that takes this one's place by configuration.
    ///
    /// # Errors
    /// Where that takes the place of another.
    pub fn at_successor(&self, succession: &Succession<Upstream>) -> Result<Self, SendError> {
        let permit = self.permit.at_successor(succession).ok_or_else(permitted_elsewhere)?;
        Ok(Self { permit, route: self.route.clone(), carried: None })
    }

    /// Sends a client's request. What becomes of the attempt is known with the exchange's end.
    /// Nothing was sent where this fails: of several replicas all were tried then.
    ///
    /// # Errors
    /// Where there is no connection for it, or a limit of the upstream refuses it.
    pub async fn send(
        &self,
        ask: &UpstreamRequest,
        attempt: Attempt,
    ) -> Result<Exchange, SendError> {
        self.upstream().send(ask, self, attempt).await
    }

    /// Sends what a request leads to that was sent.
    ///
    /// # Errors
    /// Where there is no connection for it.
    pub async fn carry_on(
        &self,
        ask: &UpstreamRequest,
        sent: &Sent,
    ) -> Result<Exchange, SendError> {
        let carrying = self.clone().admitted(sent.admission.clone());
        carrying.send(ask, sent.let_through.attempt()).await
    }

    /// Subscribes for a legacy client, or ends that.
    ///
    /// # Errors
    /// Where there is no connection for it, or the server fails.
    pub async fn subscribe(&self, ask: &UpstreamRequest, uri: &str) -> Result<Body, SendError> {
        let _places = self.admit(ask).await?;
        self.upstream().subscribe(ask, uri, self).await
    }

    /// Hears of `uri` on the connection that all share from now on.
    ///
    /// # Errors
    /// As [`Clearance::subscribe`].
    pub async fn want(&self, uri: &str) -> Result<(), SendError> {
        self.upstream().want(uri, self).await
    }

    /// Admits one send by the limits of the upstream and its tool.
    ///
    /// # Errors
    /// Where one refuses it.
    pub async fn admit(&self, ask: &UpstreamRequest) -> Result<Admission, SendError> {
        if let Some(carried) = &self.carried {
            return Ok(carried.clone());
        }
        let name = ask.name.as_deref().unwrap_or_default();
        let target = LimitTarget { upstream: self.upstream().name(), name };
        let request = LimitedRequest {
            method: ask.method,
            caller: &ask.caller,
            client: &ask.client,
            route: self.route.route(),
            params: ask.params.text(),
        };
        self.route.admit(request, target).await.map_err(SendError::Limited)
    }
}

impl Sent {
    pub fn new(admission: Admission, let_through: Continuation) -> Self {
        Self { admission, let_through }
    }
}

impl PermitTarget for Upstream {
    fn name(&self) -> &UpstreamName {
        Self::name(self)
    }
}

fn permitted_elsewhere() -> SendError {
    SendError::Unavailable("this call was permitted for another upstream".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::time::Instant;

    use crate::{
        app::offline::idle,
        call::{Caller, Client, ReplicaIndex, tasks::Tasks},
        config,
        limit::Limits,
        mcp::{method::Method, raw::Raw, version::Version},
        policy::{Judge, PolicyBounds},
        resilience::Circuit,
        store::StateFolder,
        upstream::{replica::phase::Phase, settings::Settings},
    };

    use super::*;

    fn ask(method: Method) -> UpstreamRequest {
        UpstreamRequest {
            spans: None,
            method,
            params: Raw::trusted(r#"{"name":"log","uri":"mem://one"}"#).into(),
            name: Some("log".to_owned()),
            mirrored: Vec::new(),
            caller: Caller::Parent,
            client: Arc::new(Client::gateway(Version::MODERN)),
            session: None,
            presence: None,
            streams: false,
            as_task: false,
            forwarded: None,
            log_level: None,
            safe: false,
            hedge: None,
            replica: None,
        }
    }

    /// A clearance for an upstream, as the way of a call makes it.
    async fn clearance(config: &config::Config, upstream: &Arc<Upstream>) -> Clearance {
        let bounds = PolicyBounds::of(&config.server.limits);
        let judge = Judge::new(&"/mcp".into(), None, bounds, &Arc::default());
        let ask = ask(Method::ToolsCall);
        let request = LimitedRequest {
            method: ask.method,
            caller: &ask.caller,
            client: &ask.client,
            route: &"/mcp".into(),
            params: ask.params.text(),
        };
        let limits = Limits::new(Arc::default(), Tasks::default()).next(config);
        let target = LimitTarget { upstream: upstream.name(), name: "log" };
        let admission = limits.admit_route(request, target).await.expect("nothing limits it");
        Clearance::new(judge.permit_begun(upstream), admission)
    }

    /// The upstreams of a configuration in which `b` has a successor `c`, and those of `urls`.
    fn upstreams(urls: &str) -> (config::Config, Vec<Arc<Upstream>>, tempfile::TempDir) {
        let keys = format!("url = {urls}\ntimeout = {{ open = \"50ms\" }}\n");
        let text = format!(
            "[routes.\"/mcp\"]\nupstreams = [\"a\", \"b\"]\n\
             [upstreams.a]\n{keys}[upstreams.b]\n{keys}\
             canary.upstream = \"c\"\ncanary.weight = 1\n[upstreams.c]\n{keys}"
        );
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("routes.toml");
        std::fs::write(&file, text).unwrap();
        let config = config::load(&file, &|_| None).unwrap();
        let context = Arc::new(idle(StateFolder::open(folder.path()).unwrap()));
        let all = config.upstreams.iter().map(|upstream| {
            let settings = Settings { config: upstream.clone(), answer_bytes_max: 1 << 20 };
            Upstream::new(settings, &context)
        });
        let all = all.collect();
        (config, all, folder)
    }

    /// Each upstream's clearance, and where that leads by what takes the place of `b`.
    async fn leads_right(urls: &str) {
        let (config, all, _folder) = upstreams(urls);
        let section = |name: &str| config.upstreams.iter().find(|one| one.name == name).unwrap();
        let named = |name: &str| all.iter().find(|one| one.name() == name).unwrap();
        assert!(Succession::new(section("a"), named("c")).is_none(), "nothing takes its place");
        assert!(Succession::new(section("b"), named("a")).is_none(), "that is another");
        let succession = Succession::new(section("b"), named("c")).unwrap();
        for upstream in &all {
            let clearance = clearance(&config, upstream).await;
            assert!(Arc::ptr_eq(clearance.upstream(), upstream));
            let there = clearance.at_successor(&succession).ok();
            let there = there.map(|there| Arc::clone(there.upstream()));
            assert_eq!(there.is_some(), upstream.name() == "b");
            assert!(there.is_none_or(|there| Arc::ptr_eq(&there, named("c"))));
        }
    }

    #[tokio::test]
    async fn a_clearance_leads_to_its_own_upstream_and_to_that_ones_successor_alone() {
        leads_right(r#""http://127.0.0.1:9/""#).await;
        leads_right(r#"["http://127.0.0.1:9/", "http://[::1]:9/"]"#).await;
    }

    /// The error that is known before anything is waited for.
    fn error<T>(asked: impl Future<Output = Result<T, SendError>>) -> Option<SendError> {
        Box::pin(asked).now_or_never().and_then(Result::err)
    }

    /// What each way to a server says of this clearance.
    fn by_every_way(asked: &Arc<Upstream>, clearance: &Clearance) -> Vec<Option<SendError>> {
        let attempt = || Circuit::new(Arc::default()).attempt(None).unwrap();
        let [call, subscribe, unsubscribe] =
            [Method::ToolsCall, Method::Subscribe, Method::Unsubscribe].map(ask);
        let uri = "mem://one";
        let mut told = vec![
            error(asked.send(&call, clearance, attempt())),
            error(asked.subscribe(&subscribe, uri, clearance)),
            error(asked.subscribe(&unsubscribe, uri, clearance)),
            error(asked.want(uri, clearance)),
        ];
        if 1 < asked.replicas.len() {
            told.push(error(asked.send_to(ReplicaIndex(1), &call, clearance, attempt())));
        }
        told
    }

    /// Hands each upstream each one's clearance, by every way to a server; the right one alone gets
    /// as far as the wait for a connection.
    async fn is_held_to_its_upstream(urls: &str) {
        let (config, all, _folder) = upstreams(urls);
        let pairs =
            all.iter().flat_map(|permitted| all.iter().map(move |asked| (permitted, asked)));
        for (permitted, asked) in pairs {
            let told = by_every_way(asked, &clearance(&config, permitted).await);
            let is_right = permitted.name() == asked.name();
            let is_refused = told.iter().map(|told| *told == Some(permitted_elsewhere()));
            let case = format!("{} at {}: {told:?}", permitted.name(), asked.name());
            assert!(is_refused.into_iter().all(|is_refused| is_refused != is_right), "{case}");
        }
    }

    #[tokio::test]
    async fn a_clearance_for_one_upstream_is_refused_at_every_other() {
        is_held_to_its_upstream(r#""http://127.0.0.1:9/""#).await;
        is_held_to_its_upstream(r#"["http://127.0.0.1:9/", "http://[::1]:9/"]"#).await;
    }

    /// What a call is told whose upstream's shared connection failed with `error`.
    async fn told(urls: &str, error: &SendError) -> Option<SendError> {
        let (config, all, _folder) = upstreams(urls);
        for replica in &all[0].replicas {
            // Nothing is tried again for the call.
            *replica.soonest.lock() = Instant::now() + Duration::from_secs(60);
            replica.phase.send_replace(Phase::Failed(error.clone()));
        }
        let attempt = Circuit::new(Arc::default()).attempt(None).unwrap();
        clearance(&config, &all[0]).await.send(&ask(Method::ToolsCall), attempt).await.err()
    }

    /// A process that the machine has no room for is no failure of its server, whether the call
    /// itself started it or found that nobody could.
    #[tokio::test]
    async fn a_call_is_told_why_the_connection_that_all_share_is_not_open() {
        let several = r#"["http://127.0.0.1:9/", "http://[::1]:9/"]"#;
        let errors = [
            SendError::Unready("this gateway has no room for it".to_owned()),
            SendError::Unavailable("it ended".to_owned()),
        ];
        for error in &errors {
            assert_eq!(told(r#""http://127.0.0.1:9/""#, error).await.as_ref(), Some(error));
            assert_eq!(told(several, error).await.as_ref(), Some(error));
        }
    }

    #[tokio::test]
    async fn what_could_not_be_sent_counts_in_no_limit_of_its_upstream() {
        let (mut config, all, _folder) = upstreams(r#""http://127.0.0.1:9/""#);
        let once = config::parse(
            "routes.toml",
            "[routes.\"/mcp\"]\nupstreams = [\"*\"]\n[upstreams.a]\nurl = \"http://127.0.0.1:9/\"\n\
             limits = [{ budget = \"1/month\" }]\n",
            &|_| None,
        );
        config.upstreams = once.unwrap().upstreams;
        let clearance = clearance(&config, &all[0]).await;
        for _ in 0..3 {
            let attempt = Circuit::new(Arc::default()).attempt(None).unwrap();
            let failed = clearance.send(&ask(Method::ToolsCall), attempt).await.err();
            assert!(!matches!(failed, None | Some(SendError::Limited(_))), "{failed:?}");
        }
        let sent =
            clearance.admit(&ask(Method::ToolsCall)).await.expect("it has all of its budget");
        assert!(clearance.admit(&ask(Method::ToolsCall)).await.is_err());
        sent.give_back();
        sent.give_back();
        assert!(clearance.admit(&ask(Method::ToolsCall)).await.is_ok());
        assert!(clearance.admit(&ask(Method::ToolsCall)).await.is_err(), "given back once");
    }
}
