//! Translates what a server says in mid-call and at the end into the words of the client's era.

use super::{Bridge, Bridged, Outgoing, request_state, url_elicitation};
use crate::{
    call::event::{Event, ServerNotification, ServerRequest},
    mcp::{compat, id::Id, message::Body, method::Method, splice, version::Era},
    park::OpenQuestions,
    pipeline::{
        context::Context,
        event::ClientEvent,
        fault::Fault,
        response::{guard::Guarded, translate},
    },
};

impl Bridge {
    /// Puts an event in the words of the client's era.
    ///
    /// # Errors
    /// Where it has no words there, and the call ends with that.
    pub fn hear(
        &mut self,
        context: &Context,
        event: Event,
        below: &mut Guarded,
        outgoing: &mut Outgoing,
    ) -> Result<Bridged, Fault> {
        match event {
            Event::Notification(notice) => Ok(self.on_notice(context, &notice)),
            Event::ServerRequest(question) => self.on_request(context, question, below, outgoing),
            Event::Resumable { retry } => Ok(match self {
                Self::Requests(_) => Bridged::Event(ClientEvent::Paused(retry)),
                Self::InputRequired(_) | Self::Task(_) => Bridged::Nothing,
            }),
            Event::Answer { body, status } => {
                self.on_answer(context, body, status, below, outgoing)
            }
        }
    }

    fn on_notice(&mut self, context: &Context, notice: &ServerNotification) -> Bridged {
        if notice.method == Some(Method::Cancelled) {
            return self.on_withdrawal(notice);
        }
        let Some(whole) = compat::notice(context.client().version, notice.method, &notice.whole)
        else {
            return Bridged::Nothing;
        };
        if let Self::InputRequired(retry) = self
            && notice.method == Some(Method::Progress)
        {
            retry.on_progress(context);
        }
        Bridged::Event(ClientEvent::Message(whole.bytes().clone()))
    }

    /// The server no longer wants an answer to what it asked.
    fn on_withdrawal(&mut self, notice: &ServerNotification) -> Bridged {
        let id = splice::member(&notice.params, "requestId").and_then(|id| Id::new(id).ok());
        let Some(id) = id else { return Bridged::Nothing };
        match self {
            Self::Requests(requests) => match requests.withdraw(&id, &notice.params) {
                Some(event) => return Bridged::Event(event),
                None => return Bridged::Nothing,
            },
            Self::InputRequired(retry) => retry.batch.withdraw(&id),
            Self::Task(task) => task.withdraw(&id),
        }
        Bridged::Nothing
    }

    /// A legacy server asks something; a request that is dropped is refused.
    fn on_request(
        &mut self,
        context: &Context,
        request: ServerRequest,
        below: &mut Guarded,
        outgoing: &mut Outgoing,
    ) -> Result<Bridged, Fault> {
        let (batch, put) = match self {
            Self::Requests(requests) => {
                let put = requests.put(context, request, below.resend_mut());
                return Ok(put.map_or(Bridged::Nothing, Bridged::Event));
            }
            Self::InputRequired(retry) => (&mut retry.batch, OpenQuestions::default()),
            Self::Task(task) => {
                let put = task.task().open_questions();
                (&mut task.batch, put)
            }
        };
        let added = batch.add(context, request, put);
        if let Err(fault) = &added {
            outgoing.extend(below.cancel(Some(fault.to_string())).into_iter().map(Ok));
        }
        added.map(|()| Bridged::Nothing)
    }

    fn on_answer(
        &mut self,
        context: &Context,
        body: Body,
        status: u16,
        below: &mut Guarded,
        outgoing: &mut Outgoing,
    ) -> Result<Bridged, Fault> {
        if below.server_task.is_over() {
            return Ok(Bridged::Answer { body, status });
        }
        let era = below.resend().era;
        let kind = match &body {
            Body::Result(result) if era == Era::Modern => {
                translate::result_type(result, context.client().era())
            }
            Body::Result(_) | Body::Error(_) => None,
        };
        match (self, body, kind.as_deref()) {
            (Self::Requests(requests), Body::Result(result), Some("input_required")) => {
                requests.begin_round(context, &result, below, outgoing)?;
                Ok(Bridged::Nothing)
            }
            (Self::Requests(_), Body::Result(_), Some(kind)) => {
                Err(Fault::Unbridgeable(format!("it answered with a result of type `{kind}`")))
            }
            (
                Self::InputRequired(_) | Self::Task(_),
                Body::Result(result),
                Some("input_required"),
            ) => {
                let result = request_state::sealed(context, below.resend().place(), result.into());
                let body = Body::Result(result.into());
                Ok(Bridged::Event(ClientEvent::Answer { body, status }))
            }
            // A task cannot be begun anew: there the error is the end, and names the pages.
            (Self::InputRequired(_), Body::Error(error), _)
                if era == Era::Legacy && url_elicitation::is_required(&error) =>
            {
                let body = url_elicitation::result(context, &error)?;
                Ok(Bridged::Event(ClientEvent::Answer { body, status: 200 }))
            }
            (_, body, _) => Ok(Bridged::Answer { body, status }),
        }
    }
}
