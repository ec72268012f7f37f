//! The API's description, generated from its code.

use axum::Json;
use shared::store::deadlines::Deadlines;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::auth::Caller;
use super::{audit, destinations, export, failures, jobs, post, problem, read, resolve, search, steer, wait, why};

#[derive(OpenApi)]
#[openapi(
    info(title = "Chekhov", description = "Registers receipts through an external API that cannot be trusted"),
    paths(post::receipt, read::by_id, search::receipts, failures::failures, export::export,
        steer::retry, steer::cancel, steer::release, steer::reopen, steer::restart, resolve::resolve,
        jobs::create, jobs::page, jobs::one, jobs::start, jobs::stop, audit::page,
        destinations::all, destinations::one, destinations::change),
    components(schemas(post::Posted, problem::Problem, problem::Fault, read::ReceiptView, read::Page, read::CallView, read::PipelineView,
        search::Found, search::Summaries, search::Summary, wait::Wait, failures::Failures, export::Exported,
        resolve::Finding, why::Why, why::Restart, audit::Page, audit::Entry, jobs::New, jobs::View, jobs::Page,
        destinations::Destinations, destinations::DestinationView, destinations::BacklogView, Deadlines, destinations::Patch, destinations::Wanted)),
    modifiers(&Bearer)
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("bearer", scheme);
    }
}

/// `GET /openapi.json`, for whoever has a token.
pub async fn document(_caller: Caller) -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}
