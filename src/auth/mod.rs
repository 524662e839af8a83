//! Tells who is calling: the credentials of a request, judged by the authorities of its route in
//! their order.
//!
//! A [`RouteAuth`] stands before each route. [`jwt`] takes tokens of an issuer, whose keys
//! [`keyring`] keeps; [`opaque`] asks an issuer about tokens; [`keys`] takes the gate's own API
//! keys; [`certificate`] reads what clients show in TLS. [`logins`] counts those that fail. A
//! failed login is told nothing of what would have succeeded.

mod authority;
mod certificate;
mod claims;
mod client;
mod context;
mod credential;
mod error;
mod jwt;
mod keyring;
mod keys;
mod logins;
mod opaque;
mod registry;
mod route_auth;

pub use self::{
    certificate::{Certificate, Validity, certificate_ends, certificate_validity},
    client::{Metadata, form, well_known},
    context::AuthContext,
    error::{AuthError, AuthRefusal},
    keys::NewKey,
    registry::AuthorityRegistry,
    route_auth::{ClientPeer, RouteAuth, WELL_KNOWN},
};
