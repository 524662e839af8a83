//! Small JSON documents, such as keys and tokens, fetched within bounds.

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Limited};
use serde::{Deserialize, de::DeserializeOwned};

use crate::config::Fetching;

use super::client::{Net, SendOptions};

/// Why there is none: in words for operators, which hold neither what was sent nor what came.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FetchError {
    /// Nobody answered, or not to the end.
    #[error("{0}")]
    Lost(String),
    /// The answer is another one than was asked for.
    #[error("{0}")]
    Answer(String),
}

impl From<FetchError> for String {
    fn from(error: FetchError) -> Self {
        error.to_string()
    }
}

impl Net {
    /// Gets the document at this address. The caller bounds the time.
    ///
    /// # Errors
    /// As [`Net::fetch`].
    pub async fn get<T: DeserializeOwned>(
        &self,
        url: &str,
        bounds: &Fetching,
    ) -> Result<T, FetchError> {
        let request = Request::get(url).body(Bytes::new());
        let request = request.map_err(|error| FetchError::Answer(format!("{url}: {error}")))?;
        self.fetch(request, bounds).await
    }

    /// Sends a request and reads the document that answers it. The caller bounds the time.
    ///
    /// # Errors
    /// Where there is no answer, none of success, or none of this kind.
    pub async fn fetch<T: DeserializeOwned>(
        &self,
        mut request: Request<Bytes>,
        bounds: &Fetching,
    ) -> Result<T, FetchError> {
        let json = header::HeaderValue::from_static("application/json");
        let agent = concat!("tollgate/", env!("CARGO_PKG_VERSION"));
        let agent = header::HeaderValue::from_static(agent);
        request.headers_mut().insert(header::ACCEPT, json);
        request.headers_mut().insert(header::USER_AGENT, agent);
        let url = request.uri().clone();
        // Boxed: rare and large.
        let reply = Box::pin(self.send(request, SendOptions::default())).await;
        let reply = reply.map_err(|error| FetchError::Lost(format!("{url}: {error}")))?;
        let status = reply.status();
        let body = Limited::new(reply.into_body(), bounds.bytes_max).collect().await;
        let body = body.map_err(|error| {
            FetchError::Lost(format!("{url}: {error} (`fetch_bytes_max` is {})", bounds.bytes_max))
        })?;
        let body = body.to_bytes();
        if !status.is_success() {
            // The words of RFC 6749 §5.2, which hold no secret.
            #[derive(Deserialize)]
            struct Refused {
                error: String,
            }
            let refused = serde_json::from_slice::<Refused>(&body).map(|refused| refused.error);
            let refused = refused.unwrap_or_default();
            return Err(FetchError::Answer(format!("{url}: {status} {}", refused.escape_debug())));
        }
        // The answer may be a token: the error must not show it.
        let read = serde_json::from_slice(&body).ok();
        read.ok_or_else(|| FetchError::Answer(format!("{url}: not what was asked for")))
    }
}
