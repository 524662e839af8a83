//! A fake that speaks HTTP+SSE: what it would answer over Streamable HTTP comes on the session's one
//! stream.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{Method, Response, Uri};

use super::{
    Act, Session, Stream,
    http::{Body, Exchange, events, status},
};

impl Exchange {
    pub async fn older(self, verb: &Method, uri: &Uri) -> Response<Body> {
        let session = uri.query().and_then(|query| query.strip_prefix("session="));
        match (verb.as_str(), uri.path(), session) {
            ("GET", "/sse", _) => self.begin(),
            ("POST", "/messages", Some(session)) => self.posted(session.to_owned()).await,
            ("GET" | "POST", _, _) if uri.path() != "/sse" => self.ends(status(404)),
            _ => self.ends(status(405)),
        }
    }

    /// Opens a session: its stream begins with the address for messages.
    fn begin(mut self) -> Response<Body> {
        let (stream, body) = events();
        self.completes();
        let id = self.fake.next_id("session-");
        let endpoint = match self.fake.0.script.lock().act("") {
            Some(Act::Endpoint(elsewhere)) => elsewhere.clone(),
            _ => format!("/messages?session={id}"),
        };
        let first = format!(": open\n\nevent: endpoint\ndata: {endpoint}\n\n");
        drop(stream.send(Bytes::from(first)));
        let session = Session { streams: vec![stream], uris: vec![] };
        self.fake.0.live.lock().sessions.insert(id, session);
        body
    }

    /// Takes a message, unless the script refuses it; its answer comes on the stream.
    async fn posted(self, session: String) -> Response<Body> {
        let open = |session: &Session| session.streams.iter().find(|one| !one.is_closed()).cloned();
        let stream = self.fake.0.live.lock().sessions.get(&session).and_then(open);
        let Some(stream) = stream else { return self.ends(status(404)) };
        if self.message.method.is_none() || self.message.id.is_none() {
            return self.legacy(&session).await;
        }
        if let Some(Act::Status(code)) = self.told() {
            return self.ends(status(code));
        }
        tokio::spawn(async move {
            tokio::select! {
                () = stream.closed() => (),
                answer = self.legacy(&session) => pump(answer, &stream).await,
            }
        });
        status(202)
    }
}

/// Says on the stream what an answer over Streamable HTTP would say.
async fn pump(answer: Response<Body>, stream: &Stream) {
    let json = answer.headers()["content-type"] == "application/json";
    let mut body = answer.into_body();
    if json {
        let text = body.collect().await.unwrap().to_bytes();
        // A newline between two tokens of JSON is as good as none.
        let text = String::from_utf8_lossy(&text).replacen('{', "{\n", 1);
        let text = text.replace('\n', "\ndata: ");
        drop(stream.send(Bytes::from(format!("event: message\ndata: {text}\n\n: ping\n\n"))));
        return;
    }
    while let Some(piece) = body.frame().await {
        let bytes = piece.map(|frame| frame.into_data().unwrap()).unwrap_or_default();
        if stream.send(bytes).is_err() {
            return; // whoever sends more is told by its body, which is dropped
        }
        tokio::task::yield_now().await;
    }
}
