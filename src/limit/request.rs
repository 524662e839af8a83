//! A request as limits see it, and what it costs.

use std::num::NonZeroU32;

use serde::de::IgnoredAny;

use crate::{
    call::{Caller, Client, RoutePath, UpstreamName},
    config::Cost,
    mcp::{method::Method, raw::Raw, splice},
};

/// The member of a call's params that has what the tool is asked for.
const ARGUMENTS: &str = "arguments";

/// A request, as limits see it.
#[derive(Debug, Clone, Copy)]
pub struct LimitedRequest<'a> {
    pub method: Method,
    pub caller: &'a Caller,
    pub client: &'a Client,
    pub route: &'a RoutePath,
    /// The request's params in full: a tool's cost may be one of its arguments.
    pub params: &'a Raw,
}

/// An upstream that a request is sent to, and its own name for the thing.
#[derive(Debug, Clone, Copy)]
pub struct LimitTarget<'a> {
    pub upstream: &'a UpstreamName,
    pub name: &'a str,
}

/// Whether limits hold for this method. A request that ends something is let in always, and so is a
/// sign of life.
pub(super) fn is_limited(method: Method) -> bool {
    !matches!(method, Method::Ping | Method::TasksCancel | Method::Unsubscribe)
}

/// The cost of a call, 1 at least.
pub(super) fn cost(cost: &Cost, params: &Raw) -> NonZeroU32 {
    let said = match cost {
        Cost::Flat(cost) => *cost,
        Cost::Argument(names) => {
            let path = [ARGUMENTS].into_iter().chain(names.iter().map(String::as_str));
            let found = path.fold(vec![params.clone()], |found, name| {
                found.iter().flat_map(|object| members(object, name)).collect()
            });
            found.iter().map(amount).fold(0, u32::saturating_add)
        }
    };
    NonZeroU32::new(said).unwrap_or(NonZeroU32::MIN)
}

/// A name that stands there twice counts twice: servers differ in which of them they read.
fn members(object: &Raw, name: &str) -> Vec<Raw> {
    let all = if object.is_object() { splice::entries(object) } else { Vec::new() };
    all.into_iter().filter(|(key, _)| key == name).map(|(_, value)| value).collect()
}

/// How much an argument asks for: what is neither an array nor a number is one thing.
fn amount(argument: &Raw) -> u32 {
    if let Some(items) = argument.try_read::<Vec<IgnoredAny>>() {
        return u32::try_from(items.len()).unwrap_or(u32::MAX);
    }
    // Beyond what a number can be here it is as much as there is.
    let beyond = match argument.bytes().first() {
        Some(b'0'..=b'9') => u32::MAX,
        _ => 1,
    };
    argument.try_read::<f64>().map_or(beyond, |number| number.ceil() as u32)
}
