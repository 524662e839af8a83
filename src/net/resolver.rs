//! Names looked up for connections: what is judged is the very address that is dialled, whatever a
//! name leads to a moment later.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use hyper_util::client::legacy::connect::{
    HttpConnector,
    dns::{GaiResolver, Name},
};
use tower_service::Service;

use super::public::is_private_address;

/// Opens connections of TCP.
pub type TcpConnector = HttpConnector<Resolver>;

type Resolving = Pin<Box<dyn Future<Output = io::Result<std::vec::IntoIter<SocketAddr>>> + Send>>;

/// Looks names up as the system does.
#[derive(Debug, Clone)]
pub struct Resolver {
    system: GaiResolver,
    /// Addresses of private networks, and of this machine, are left out.
    is_public_only: bool,
}

impl Resolver {
    pub fn new(is_public_only: bool) -> Self {
        Self { system: GaiResolver::new(), is_public_only }
    }
}

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Resolving;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.system.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Resolving {
        let is_public_only = self.is_public_only;
        let found = self.system.call(name);
        Box::pin(async move {
            let is_fit = |found: &SocketAddr| !is_public_only || !is_private_address(found.ip());
            let fit: Vec<_> = found.await?.filter(is_fit).collect();
            if fit.is_empty() && is_public_only {
                let why = "its name leads to addresses of a private network only";
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
            }
            Ok(fit.into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_of_this_machine_are_looked_up_only_where_they_may_be() {
        for (is_public_only, is_found) in [(false, true), (true, false)] {
            let mut resolver = Resolver::new(is_public_only);
            let found = resolver.call("localhost".parse().unwrap()).await;
            let found = found.map(|found| found.count()).unwrap_or_default();
            assert_eq!(0 < found, is_found, "only public ones: {is_public_only}");
        }
    }
}
