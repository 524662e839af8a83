//! Checks what a configuration needs of this machine: programs, folders that can be written,
//! certificates. Looked at without opening an upstream, and without writing anything.

use std::path::Path;

use rustix::fs::{Access, access};

use crate::{
    auth,
    call::{clock, tasks::Tasks},
    config::{self, Config, Dial, Transport},
    ingress::tls::{self, ServerCertificates},
    net::{self, Net},
    process::{self, Spawner},
};

/// A certificate that ends sooner than this is warned of.
const SOON_DAYS: u64 = 30;
const DAY_SECONDS: u64 = 24 * 60 * 60;

/// The findings, a line each.
#[derive(Debug, Default)]
pub struct Inspection {
    /// The gate, or an upstream, will not work with it.
    pub errors: Vec<String>,
    /// Settings that work, and are hardly meant so, or not for long; or that another machine may
    /// have.
    pub warnings: Vec<String>,
}

/// Looks for all that the configuration names on this machine.
pub fn check(config: &Config) -> Inspection {
    let mut found = Inspection::default();
    folders(config, &mut found);
    listener(config, &mut found);
    let spawner = Spawner::new(None, std::env::vars_os(), Tasks::default());
    let net = Net::new();
    for upstream in &config.upstreams {
        match &upstream.problem {
            Some(problem) => {
                let line = format!("upstream `{}` cannot be opened: {problem}", upstream.name);
                if upstream.lacks_variables_only {
                    found.warnings.push(line);
                } else {
                    found.errors.push(line);
                }
            }
            None => reached(upstream, &spawner, &net, &mut found),
        }
    }
    unused(config, &mut found);
    found
}

/// The state folder, and that of the audit log.
fn folders(config: &Config, found: &mut Inspection) {
    let state = &config.server.state;
    let wrong = unwritable(state).map(|why| format!("server.state: {}: {why}", state.display()));
    found.errors.extend(wrong);
    let audit = config.audit.as_ref().and_then(|audit| audit.path.parent());
    if let Some(folder) = audit.filter(|folder| *folder != state) {
        // The folder is not made, other than the state folder.
        let missing = (!folder.exists()).then(|| "there is no such folder".to_owned());
        let wrong = missing.or_else(|| unwritable(folder));
        let line = wrong.map(|why| format!("audit.path: {}: {why}", folder.display()));
        found.errors.extend(line);
    }
}

/// Why a folder cannot be written, or made where it is missing.
fn unwritable(folder: &Path) -> Option<String> {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let there = folder.ancestors().find(|one| one.symlink_metadata().is_ok())?;
    if !there.is_dir() {
        return Some(format!("{} is no folder: name another one", there.display()));
    }
    let denied = access(there, Access::WRITE_OK | Access::EXEC_OK).err()?;
    Some(format!("{} cannot be written: {denied}: let tollgate's user write it", there.display()))
}

/// The certificates of the gate's own listener.
fn listener(config: &Config, found: &mut Inspection) {
    let Some(files) = &config.server.tls else { return };
    if let Err(why) = ServerCertificates::read(files) {
        found.errors.push(format!("server.tls: {why}"));
    }
    let named =
        [("certificate", Some(&files.certificate)), ("client_ca", files.client_ca.as_ref())];
    for (key, file) in named.into_iter().filter_map(|(key, file)| Some((key, file?))) {
        let place = format!("server.tls.{key}: {}", file.display());
        ends(&place, &tls::certificates_in(file), key == "certificate", found);
    }
}

/// Whether an upstream can be started or dialled, as far as that shows from here.
fn reached(upstream: &config::Upstream, spawner: &Spawner, net: &Net, found: &mut Inspection) {
    let name = &upstream.name;
    match &upstream.transport {
        Transport::Stdio { command, args, env, cwd } => {
            let settings = process::Settings {
                name: name.to_string(),
                command: command.clone(),
                args: args.clone(),
                env: env.clone(),
                cwd: cwd.clone(),
                memory: None,
                inherit: Vec::new(),
            };
            // A different machine may have it, as it may have a variable.
            if let Err(why) = spawner.find(&settings) {
                found.warnings.push(format!("upstream `{name}` cannot be started here: {why}"));
            }
        }
        Transport::Http { dial, .. } => dialled(name, dial, net, found),
        Transport::Builtin { .. } => (),
    }
}

fn dialled(name: &str, dial: &Dial, net: &Net, found: &mut Inspection) {
    if let Err(why) = net.of_upstream(dial, &config::environment) {
        found.errors.push(format!("upstream `{name}` cannot be opened: {why}"));
    }
    if let Some(pem) = &dial.ca {
        ends(&format!("upstreams.{name}.ca"), &net::certificates_in(pem), false, found);
    }
    if let Some(identity) = &dial.identity {
        let place = format!("upstreams.{name}.client_certificate");
        ends(&place, &net::certificates_in(&identity.certificate), true, found);
    }
}

/// Certificates that have ended, or will soon. The first of a chain is shown to others: once it has
/// ended, nobody takes it (`first`). Of several authorities one may have.
fn ends(place: &str, chain: &[Vec<u8>], first: bool, found: &mut Inspection) {
    let now = clock::unix_seconds();
    for (at, der) in chain.iter().enumerate() {
        let Some(ends) = auth::certificate_ends(der) else { continue };
        let day = clock::rfc3339(ends);
        let left = ends.saturating_sub(now) / DAY_SECONDS;
        if ends <= now {
            let line = format!("{place}: it has expired, {day}: renew it");
            if first && at == 0 {
                found.errors.push(line);
            } else {
                found.warnings.push(line);
            }
        } else if left < SOON_DAYS {
            let line = format!("{place}: it expires in {left} day(s), {day}: renew it");
            found.warnings.push(line);
        }
    }
}

/// Sections that nothing refers to.
fn unused(config: &Config, found: &mut Inspection) {
    let routes = || config.routes.iter();
    let successors = config.upstreams.iter().flat_map(|one| {
        let canary = one.canary.iter().map(|canary| &canary.upstream);
        canary.chain(one.shadow.iter().map(|shadow| &shadow.upstream))
    });
    let served: Vec<_> = routes().flat_map(|route| &route.upstreams).chain(successors).collect();
    let upstreams = config.upstreams.iter().map(|one| &one.name);
    let warnings = &mut found.warnings;
    warnings.extend(upstreams.filter(|name| !served.contains(name)).map(|name| {
        format!("upstreams.{name}: it is on no route, and opened all the same: name it in one")
    }));
    let authorities = config.auth.iter().map(|one| &one.name);
    let named: Vec<_> = routes().flat_map(|route| &route.auth).collect();
    warnings.extend(
        authorities
            .filter(|name| !named.contains(name))
            .map(|name| format!("auth.{name}: no route has it in `auth`: nobody logs in by it")),
    );
    let tools = config.upstreams.iter().flat_map(|one| one.tool_settings.values());
    let guards = routes().map(|route| &route.guard);
    let guards = guards.chain(config.upstreams.iter().map(|one| &one.guard));
    let guards = guards.chain(tools.map(|tool| &tool.guard));
    let looked_for: Vec<_> =
        guards.flat_map(|guard| &guard.detect).flat_map(|one| &one.find).collect();
    let is_found = |name: &String| {
        // The family has all of them.
        looked_for.iter().any(|one| *one == name || *one == "custom")
    };
    let detectors = config.detectors.iter().map(|one| &one.name);
    warnings.extend(detectors.filter(|name| !is_found(name)).map(|name| {
        let key = name.trim_start_matches("custom:");
        format!("detectors.{key}: no `detect` has \"{name}\" in `find`: it finds nothing")
    }));
}
