//! Is it clean: arguments and results held to the tool's schemas and to sizes, and what detectors
//! find in them; what the gate itself puts into calls.
//!
//! [`Guards`] has what the configuration says; [`Guard`] is what holds for one call. What passes
//! untouched is relayed as the very bytes received: checks read a copy.

mod call_guard;
mod check;
mod detect;
mod fill;
mod guards;
mod linked;
mod memory;
mod read;
mod readable_links;
mod readings;
mod refusal;
mod schema;
mod schemas;
mod texts;
mod value;

pub use self::{
    call_guard::Guard,
    guards::Guards,
    linked::{Linked, spoken},
    readable_links::{LinkOrigin, ReadableLinks},
    refusal::GuardRefusal,
    schemas::{Schemas, ToolSchemas},
};

#[cfg(test)]
mod tests;
