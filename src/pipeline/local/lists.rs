//! Lists of what the caller may see.

use std::sync::Arc;

use crate::{
    call::ListKind,
    mcp::message::Body,
    pipeline::{context::Context, fault::Fault},
};

/// A page of a list: a copy of ready bytes.
///
/// # Errors
/// Where the cursor is none of this list, or the only server behind the route has no such list.
pub async fn list(mut context: Arc<Context>, kind: ListKind) -> Result<Body, Fault> {
    #[derive(serde::Deserialize)]
    struct Params {
        cursor: Option<String>,
    }
    let params = context.call.params.text().read::<Params>();
    let params = params.map_err(|error| Fault::Invalid(error.to_string()))?;
    // Some servers list more for those who can be asked.
    let can_be_asked = context.client().can_be_asked();
    if can_be_asked || context.gate.is_settling(context.limits()) {
        let waited = if can_be_asked {
            context.asked_known().await
        } else {
            context.settled_early(Some(kind)).await
        };
        if waited {
            context = context.renewed().await;
        }
    }
    if !context.route.is_recorded() {
        Arc::make_mut(&mut context).at.record_names().await;
    }
    let view = context.route.seen_by(context.caller(), context.client()).await;
    if view.lacks(kind) {
        return Err(Fault::UnknownMethod(kind.method().name().into()));
    }
    let page = view.page(kind, params.cursor.as_deref(), context.client().version);
    page.map(|page| Body::Result(page.into())).map_err(|error| Fault::Invalid(error.message))
}
