//! State that several gates share: scripts run by a Redis, each whole or not at all, over one
//! connection for all.

use std::{fmt, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion,
    RedisError, aio::MultiplexedConnection,
};

/// A connection; a clone shares it. It is closed with the last of them.
#[derive(Clone)]
pub struct Remote(MultiplexedConnection);

/// A script in Lua, which the server keeps by its hash.
#[derive(Debug)]
pub struct Script(redis::Script);

/// The error of a server, or why it did not answer. It has no password in it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RemoteError(String);

impl Script {
    pub fn new(text: &str) -> Self {
        Self(redis::Script::new(text))
    }
}

impl Remote {
    /// Opens a connection to `url` (`redis:`, or `rediss:` with the certificates that the system
    /// trusts), within `timeout`. A `password` wins over the URL's.
    ///
    /// # Errors
    /// Where nobody answers there in time, or not to us.
    pub async fn connect(
        url: &str,
        password: Option<&str>,
        timeout: Duration,
    ) -> Result<Self, RemoteError> {
        let info = info(url, password)?;
        // Every call has a deadline of its own.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(None);
        let client = Client::open(info)?;
        let opening = client.get_multiplexed_async_connection_with_config(&config);
        Ok(Self(Box::pin(within(timeout, opening)).await?))
    }

    /// Tells whether it answers within `timeout`.
    ///
    /// # Errors
    /// Where it does not.
    pub async fn ping(&self, timeout: Duration) -> Result<(), RemoteError> {
        let mut connection = self.0.clone();
        within(timeout, redis::cmd("PING").query_async(&mut connection)).await
    }

    /// Runs a script, in one round trip where the server knows it by now. Dropped, it may have
    /// been run.
    ///
    /// # Errors
    /// Where the connection is lost, or the server refuses.
    pub async fn run(
        &self,
        script: &Script,
        keys: &[String],
        arguments: &[String],
    ) -> Result<Vec<i64>, RemoteError> {
        let mut connection = self.0.clone();
        let mut call = script.0.prepare_invoke();
        call.key(keys).arg(arguments);
        Ok(call.invoke_async(&mut connection).await?)
    }

    /// Runs a script that returns texts, within `timeout`.
    ///
    /// # Errors
    /// Where there is no answer in time, the connection is lost, or the server refuses.
    pub async fn texts(
        &self,
        script: &Script,
        keys: &[String],
        arguments: &[String],
        timeout: Duration,
    ) -> Result<Vec<String>, RemoteError> {
        let mut connection = self.0.clone();
        let mut call = script.0.prepare_invoke();
        call.key(keys).arg(arguments);
        // Boxed: rare, and large.
        within(timeout, Box::pin(call.invoke_async(&mut connection))).await
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remote(…)")
    }
}

impl From<RedisError> for RemoteError {
    fn from(error: RedisError) -> Self {
        Self(error.to_string())
    }
}

fn info(url: &str, password: Option<&str>) -> Result<ConnectionInfo, RemoteError> {
    let info = url.into_connection_info()?;
    // The older protocol: every version of the server speaks it.
    let mut settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP2);
    if let Some(password) = password {
        settings = settings.set_password(password);
    }
    Ok(info.set_redis_settings(settings))
}

async fn within<T>(
    timeout: Duration,
    work: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, RemoteError> {
    match tokio::time::timeout(timeout, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(RemoteError(format!("no answer within {timeout:?}"))),
    }
}
