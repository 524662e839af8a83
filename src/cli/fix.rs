//! `tollgate check --fix`: writes into the configuration what it lacks and what can be found out.

use std::path::Path;

use anyhow::{Context as _, bail};
use toml_edit::{DocumentMut, Item};

use crate::{
    app,
    config::{self, Config, Grant, Transport},
    credential::issuers_of,
    net::{Net, public},
};

use super::{
    file,
    output::{complain, say},
};

/// What is written of an upstream.
struct Found<'c> {
    upstream: &'c str,
    issuer: String,
}

/// Writes `issuer` beside each secret that an upstream could have sent to anybody: the one that it
/// names now. All else in the file stays as it is written. Says what is written, and what cannot be
/// found out; true where anything was written.
///
/// # Errors
/// The file cannot be read or written, or would not be in order with what is written.
pub fn fix(path: &Path, config: &Config) -> anyhow::Result<bool> {
    let found = app::runtime()?.block_on(found(config));
    if found.is_empty() {
        return Ok(false);
    }
    let before =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut document: DocumentMut = before.parse()?;
    for Found { upstream, issuer } in &found {
        set_issuer(&mut document, upstream, issuer).with_context(|| {
            format!("upstreams.{upstream}.credential is not written in {}", path.display())
        })?;
    }
    let after = document.to_string();
    if let Err(problems) = config::parse(&path.to_string_lossy(), &after, &config::environment) {
        bail!("nothing was written: {} problem(s) in what would be", problems.len());
    }
    file::replace(path, &after)?;
    for Found { upstream, issuer } in found {
        say(&format!(
            "wrote issuer = {issuer:?} into upstreams.{upstream}.credential: see that it is the \
             one that may have the secret"
        ));
    }
    Ok(true)
}

async fn found(config: &Config) -> Vec<Found<'_>> {
    let net = Net::new();
    let mut all = Vec::new();
    for upstream in &config.upstreams {
        let Transport::Http { url, dial, .. } = &upstream.transport else { continue };
        let Some(grant) = config::grant_without_issuer(&upstream.transport) else { continue };
        let asked = match net.of_upstream(dial, &config::environment) {
            Ok(net) => issuer_of(url, &net, grant).await,
            Err(why) => Err(why),
        };
        match asked {
            Ok(issuer) => all.push(Found { upstream: upstream.name.as_str(), issuer }),
            Err(why) => complain(&format!(
                "upstreams.{}.credential: no `issuer` was found: {why}",
                upstream.name
            )),
        }
    }
    all
}

/// The one authorization server that an upstream names.
///
/// # Errors
/// Why it is not to be written without being asked about.
async fn issuer_of(url: &str, net: &Net, grant: &Grant) -> Result<String, String> {
    let patience = grant.fetching.timeout;
    let asked = tokio::time::timeout(patience, issuers_of(url, net, &grant.fetching)).await;
    let named =
        asked.map_err(|_elapsed| format!("no answer within {patience:?} (`fetch_timeout`)"))??;
    let [issuer] = &named[..] else {
        return Err(match &named[..] {
            [] => "the server names none".to_owned(),
            all => format!("the server names {}: write the one that is meant", all.join(", ")),
        });
    };
    if url.starts_with("https:") && !issuer.starts_with("https:") {
        return Err(format!("the server names {issuer}, which is not https"));
    }
    if !config::is_url(issuer) {
        return Err(format!("the server names {}, which is no address", issuer.escape_debug()));
    }
    // As the gate itself judges: what is written would be trusted from then on.
    if public::is_private(issuer).await && !public::is_wholly_private(url).await {
        return Err(format!(
            "the server names {issuer}, which is an address of a private network: write it where \
             that is right"
        ));
    }
    Ok(issuer.clone())
}

/// Writes the key into the section, be it a section of its own or in braces; none where the section
/// is not in this file.
fn set_issuer(document: &mut DocumentMut, upstream: &str, issuer: &str) -> Option<()> {
    let section = document.get_mut("upstreams")?.get_mut(upstream)?.get_mut("credential")?;
    let section = section.as_table_like_mut()?;
    // Nothing in it stands for a variable.
    section.insert("issuer", Item::from(issuer.replace("${", "$${")));
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_written_where_the_section_is_and_all_else_stays() {
        for (before, after) in [
            (
                "# one\n[upstreams.a.credential]\nkind = \"x\" # two\n\n[routes]\n",
                "# one\n[upstreams.a.credential]\nkind = \"x\" # two\nissuer = \"https://i\"\n\n\
                 [routes]\n",
            ),
            (
                "[upstreams.a]\ncredential = { kind = \"x\" } # x\n",
                "[upstreams.a]\ncredential = { kind = \"x\" , issuer = \"https://i\" } # x\n",
            ),
            (
                "upstreams.a.credential.kind = \"x\"\n",
                "upstreams.a.credential.kind = \"x\"\n\
                 upstreams.a.credential.issuer = \"https://i\"\n",
            ),
        ] {
            let mut document: DocumentMut = before.parse().unwrap();
            set_issuer(&mut document, "a", "https://i").unwrap();
            assert_eq!(document.to_string(), after);
        }
        for other in ["", "[upstreams.b]\n", "[upstreams.a]\n", "upstreams = 1\n"] {
            let mut document: DocumentMut = other.parse().unwrap();
            assert_eq!(set_issuer(&mut document, "a", "https://i"), None, "{other:?}");
        }
    }
}
