//! The configuration with the secrets that a Vault keeps for it: at the start, and ever after.

use std::sync::Arc;

use crate::{
    config::{self, Config, Problems},
    net::{
        Net,
        vault::{Vault, VaultAccess},
    },
    snapshot::Gate,
    telemetry::Counter,
};

use super::{error::StartError, options::Options};

/// Reads the configuration; what it names in Vault is waited for once. What is not there then is
/// missing as a variable is that is not set.
///
/// # Errors
/// The configuration is wrong, or would open a route to everybody.
pub async fn load(options: &Options) -> Result<(Arc<Config>, Arc<Vault>), StartError> {
    let access = options.vault.clone().or_else(VaultAccess::of_environment);
    let vault = Vault::new(Net::new(), access);
    let mut read = read(options, &vault);
    if vault.lacks() {
        vault.fetch(std::time::Duration::MAX).await;
        read = self::read(options, &vault);
    }
    let mut config = read.map_err(StartError::Config)?;
    if let Some(address) = options.listen {
        config.listen_on(address).map_err(|route| StartError::Open { address, route })?;
    }
    Ok((Arc::new(config), Arc::new(vault)))
}

/// Reads the secrets anew for as long as the gate runs; edits are looked for each second, and find
/// what has changed. Safe to drop.
pub async fn keep(gate: Arc<Gate>, vault: Arc<Vault>) {
    loop {
        vault.due_again().await;
        let refresh = gate.snapshot().config.server.limits.vault_refresh;
        let fetched = vault.fetch(refresh).await;
        (0..fetched.read).for_each(|_| gate.counters.add(Counter::VaultRead));
        (0..fetched.failed).for_each(|_| gate.counters.add(Counter::VaultFailed));
    }
}

fn read(options: &Options, vault: &Vault) -> Result<Config, Problems> {
    config::load_layered(&options.config, &options.layers, &|name| vault.lookup(name))
}
