//! The authorization server of one upstream: where it is, and what it gives.

use std::sync::{Arc, OnceLock};

use futures_util::FutureExt;
use http::Uri;
use parking_lot::Mutex;
use serde::Deserialize;

use crate::{
    auth::{Metadata, form, well_known},
    config::{Fetching, Grant},
    net::{Net, public},
    telemetry::{Counter, Counters},
};

use super::token::{FetchedToken, Granted};

/// An authorization server.
pub struct Server {
    /// The upstream's name.
    name: String,
    pub settings: Grant,
    /// The upstream's own address, without what may be secret in it (RFC 8707 §2).
    resource: String,
    net: Net,
    /// For places that the upstream names, where it is of the internet and nothing says who they
    /// may be.
    public_net: OnceLock<Net>,
    pub counters: Arc<Counters>,
    /// The token endpoint and the issuer, once they were found.
    found: Mutex<Option<(String, String)>>,
}

impl Server {
    pub fn new(
        name: &str,
        url: &str,
        settings: &Grant,
        net: &Net,
        counters: &Arc<Counters>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            settings: settings.clone(),
            resource: resource_of(url),
            net: net.clone(),
            public_net: OnceLock::new(),
            counters: Arc::clone(counters),
            found: Mutex::default(),
        }
    }

    /// Asks for a token. `grant` is what kind of grant it is, and all that belongs to it;
    /// `replaces` where it comes in the place of one that was refused.
    ///
    /// # Errors
    /// Why there is none, for operators. It names no secret.
    pub async fn grant(
        &self,
        grant: Vec<(&'static str, String)>,
        replaces: bool,
    ) -> Result<FetchedToken, String> {
        let patience = self.settings.fetching.timeout;
        // Its type is erased: it is rare, and lies deep below all that waits for a token.
        let granted = tokio::time::timeout(patience, self.ask(grant).boxed()).await;
        let silence = || Err(format!("no answer within {patience:?} (`fetch_timeout`)"));
        let token = granted.unwrap_or_else(|_| silence());
        match token.and_then(|granted| FetchedToken::of(&granted, replaces)) {
            Ok(token) => {
                self.counters.add(Counter::TokensFetched);
                Ok(token)
            }
            Err(error) => {
                self.counters.add(Counter::TokensFailed);
                tracing::warn!(upstream = self.name, error, "no token for an upstream");
                // The token endpoint may have moved.
                *self.found.lock() = None;
                Err(error)
            }
        }
    }

    async fn ask(&self, mut fields: Vec<(&'static str, String)>) -> Result<Granted, String> {
        let known = self.found.lock().clone();
        let (url, issuer) = match (&self.settings.token_url, known) {
            (Some(url), _) => (url.clone(), url.clone()),
            (None, Some(known)) => known,
            (None, None) => self.discover().await?,
        };
        let scope = self.settings.scopes.join(" ");
        fields.extend((!scope.is_empty()).then_some(("scope", scope)));
        // Servers that want an audience know no resource.
        fields.push(match &self.settings.audience {
            Some(audience) => ("audience", audience.clone()),
            None => ("resource", self.resource.clone()),
        });
        let request = form(&url, fields, &self.settings.client, &issuer)?;
        Ok(self.net_of_issuer().await.fetch(request, &self.settings.fetching).await?)
    }

    /// Whether what the upstream names may be anywhere: the configuration says who it is, or the
    /// upstream itself is of a private network.
    async fn may_be_private(&self) -> bool {
        self.settings.issuer.is_some()
            || self.settings.token_url.is_some()
            || public::is_wholly_private(&self.resource).await
    }

    /// What the issuer is spoken to with: where it must not be of a private network, its name is
    /// held to that again when it is dialled, since it may lead elsewhere by then.
    async fn net_of_issuer(&self) -> &Net {
        if self.may_be_private().await {
            return &self.net;
        }
        self.public_net.get_or_init(|| self.net.to_public())
    }

    /// Holds what a server of the internet names to be there, too, unless the configuration says
    /// who its issuer is.
    async fn keep_outside(&self, place: &str) -> Result<(), String> {
        if !self.may_be_private().await && public::is_private(place).await {
            return Err(format!(
                "the upstream leads to {place}, which is an address of a private network: write \
                 `issuer` or `token_url` if that is right"
            ));
        }
        Ok(())
    }

    /// Finds the authorization server of the upstream (RFC 9728 §3), and that one's token endpoint
    /// and issuer (RFC 8414 §3).
    async fn discover(&self) -> Result<(String, String), String> {
        let bounds = &self.settings.fetching;
        let named = &named_servers(&self.resource, &self.net, bounds).await?;
        let issuer = match &self.settings.issuer {
            Some(wanted) => {
                named.iter().find(|issuer| is_same_issuer(issuer, wanted)).ok_or_else(|| {
                    format!("the upstream names {}, and not `issuer`", named.join(", "))
                })?
            }
            None => named.first().ok_or("the upstream names no authorization server")?,
        };
        self.keep_outside(issuer).await?;
        let metadata = Metadata::of(issuer, self.net_of_issuer().await, bounds).await?;
        let endpoint = metadata.token_endpoint.ok_or("its issuer names no token endpoint")?;
        let downgraded = self.resource.starts_with("https:")
            && ![issuer, &endpoint].iter().all(|place| place.starts_with("https:"));
        if downgraded {
            return Err("its issuer or its token endpoint is not https".to_owned());
        }
        self.keep_outside(&endpoint).await?;
        let found = (endpoint, metadata.issuer);
        *self.found.lock() = Some(found.clone());
        Ok(found)
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The authorization servers that the upstream at an address names (RFC 9728 §3). The caller bounds
/// the time.
///
/// # Errors
/// Where it says nothing, or speaks for another address.
pub async fn issuers_of(url: &str, net: &Net, bounds: &Fetching) -> Result<Vec<String>, String> {
    named_servers(&resource_of(url), net, bounds).await
}

async fn named_servers(address: &str, net: &Net, bounds: &Fetching) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct Resource {
        resource: String,
        authorization_servers: Vec<String>,
    }
    let mut found = Err("the upstream has no address".to_owned());
    for place in well_known(address, "oauth-protected-resource")? {
        found = net.get::<Resource>(&place, bounds).await.map_err(String::from);
        if found.is_ok() {
            break;
        }
    }
    let found = found?;
    // Metadata of somebody else must not be used (RFC 9728 §3.3).
    if resource_of(&found.resource) != address {
        return Err(format!("the upstream's metadata is that of {}", found.resource));
    }
    Ok(found.authorization_servers)
}

fn is_same_issuer(one: &str, other: &str) -> bool {
    one.trim_end_matches('/') == other.trim_end_matches('/')
}

/// An address without user, query and fragment.
fn resource_of(url: &str) -> String {
    let Ok(uri) = url.parse::<Uri>() else { return url.to_owned() };
    let Some((scheme, host)) = uri.scheme_str().zip(uri.host()) else { return url.to_owned() };
    let port = uri.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{scheme}://{host}{port}{}", uri.path().trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_has_no_secrets_in_it() {
        let secret = "https://me:pw@a.example:8443/mcp/?key=1";
        assert_eq!(resource_of(secret), "https://a.example:8443/mcp");
    }
}
