//! A legacy client is asked by requests on the stream of its call: what a legacy server asks, as it
//! comes; what a modern server asks, in rounds after which the call is sent again.

use tokio::time::Instant;

use super::{
    Outgoing, input_required,
    pending_requests::PendingRequests,
    rounds::{self, Round, StartedRound},
};
use crate::{
    call::{event::ServerRequest, spans::Stage},
    mcp::{id::Id, message, raw::Raw},
    pipeline::{
        context::Context,
        event::ClientEvent,
        fault::Fault,
        response::{guard::Guarded, resend::Resend},
    },
    telemetry::Counter,
};

/// Requests that a legacy client is being asked.
#[derive(Debug)]
pub struct ClientRequests {
    /// Requests of a legacy server.
    pending: PendingRequests,
    /// The round of a modern server's questions: the call waits for the answers.
    round: Option<Round>,
    /// How many rounds there were.
    rounds: usize,
    /// Pages that the client was told to open; it is told when they are done.
    url_elicitations: Vec<Id>,
    /// Nothing more is asked: the client has no stream to hear it.
    refuses: bool,
}

impl ClientRequests {
    pub fn new(context: &Context) -> Self {
        Self {
            pending: PendingRequests::default(),
            round: None,
            rounds: 0,
            url_elicitations: Vec::new(),
            refuses: !context.call.streams,
        }
    }

    /// When the oldest request without an answer is to be given up.
    pub fn due(&mut self) -> Option<Instant> {
        self.pending.due()
    }

    /// Gives up what was not answered in time: what the client is told.
    pub fn expire(&mut self) -> Vec<ClientEvent> {
        self.pending.expire()
    }

    /// Refuses at once what the server asks from now on.
    pub fn refuse(&mut self) {
        self.refuses = true;
    }

    /// Refuses what was asked and not answered, too.
    pub fn refuse_all(&mut self) {
        self.refuses = true;
        self.pending = PendingRequests::default();
    }

    /// Puts a legacy server's request to the client; none where it is refused.
    pub fn put(
        &mut self,
        context: &Context,
        request: ServerRequest,
        resend: &mut Resend,
    ) -> Option<ClientEvent> {
        let session = context.call.session.as_ref().filter(|_| !self.refuses)?;
        // A request that cannot be put to this client is answered with the reason.
        let request = request.for_version(session.client.version)?;
        let params = resend.request.without_task(request.params.clone());
        let method = request.method.clone();
        let Some(id) = self.pending.add(session, request, context.limits()) else {
            context.gate.counters.add(Counter::RefusedQuestions);
            return None;
        };
        resend.allow_answer(context.limits().answer_timeout);
        Some(ClientEvent::Message(message::request(&id, &method, &params)))
    }

    /// Takes back a legacy server's request: what the client is told.
    pub fn withdraw(&mut self, id: &Id, params: &Raw) -> Option<ClientEvent> {
        self.pending.withdraw(id, params)
    }

    /// Asks what a modern server's `input_required` wants to know.
    ///
    /// # Errors
    /// Where the client cannot be asked that, or was asked too often.
    pub fn begin_round(
        &mut self,
        context: &Context,
        result: &Raw,
        below: &mut Guarded,
        outgoing: &mut Outgoing,
    ) -> Result<(), Fault> {
        let started = self.start_round(context, result);
        let StartedRound { mut round, messages, pages } = match started {
            Ok(started) => started,
            Err(fault) => {
                // Nobody waits for the server's task any more.
                outgoing.extend(below.cancel(None).into_iter().map(Ok));
                return Err(fault);
            }
        };
        round.span = context.stage(Stage::Question).map(Box::new);
        outgoing.extend(messages.into_iter().map(Ok));
        self.url_elicitations.extend(pages);
        self.round = below.server_task.ask(round);
        if self.round.is_some() {
            // The call is answered: only that it was sent is kept while the client is asked.
            below.resend_mut().note_sent();
            below.resend_mut().cancel(None);
        }
        Ok(())
    }

    fn start_round(&mut self, context: &Context, result: &Raw) -> Result<StartedRound, Fault> {
        let limits = context.limits();
        self.rounds += 1;
        if limits.rounds_max < self.rounds {
            let why = format!("it asked more than {} times (`rounds_max`)", limits.rounds_max);
            return Err(Fault::Unbridgeable(why));
        }
        input_required::check_bytes(context, result.bytes().len())?;
        let session = context.call.session.as_ref().filter(|_| !self.refuses);
        let session = session.ok_or_else(|| {
            Fault::Unbridgeable("it asks in mid-call, and the client reads no stream".to_owned())
        })?;
        context.gate.counters.add(Counter::Rounds);
        Round::begin(result, session, limits, self.rounds)
    }

    /// The round that the call waits for.
    pub fn round(&mut self) -> Option<&mut Round> {
        self.round.as_mut()
    }

    /// Sends the call again with the answers of the round, or ends it with what came instead.
    pub fn end_round(
        &mut self,
        context: &Context,
        answered: Result<(), Fault>,
        resend: &mut Resend,
        outgoing: &mut Outgoing,
    ) {
        let Some(round) = self.round.take() else { return };
        match answered {
            Ok(()) => {
                let mut upstream_request = resend.next_request(context);
                upstream_request.params = round.params(upstream_request.params.text()).into();
                resend.send_again(upstream_request);
            }
            Err(fault) => {
                outgoing.extend(round.withdrawn().map(Ok));
                outgoing.push_back(Err(fault));
            }
        }
    }

    /// Takes back what the client was asked: what it is told.
    pub fn cancel(&mut self) -> Vec<ClientEvent> {
        let round = self.round.take();
        round.iter().flat_map(Round::withdrawn).collect()
    }

    /// Returns what a client is told whose pages are done: the call is over.
    pub fn pages_done(&mut self) -> impl Iterator<Item = ClientEvent> {
        self.url_elicitations.drain(..).map(|id| rounds::page_done(&id))
    }
}
