//! The pipeline: stages as data, declared in TOML, with jq for whatever is computed.
//!
//! A file is read ([`source`]), its shape checked and compiled; every mistake is named with
//! its place. A compiled request renders itself for a receipt and judges what came back ([`request`], [`outcome`]).
//! Nothing here does I/O but [`Source::read`].

pub mod backoff;
pub mod check;
mod compile;
mod definition;
mod extract;
mod filter;
mod json;
mod meter;
pub mod mistakes;
mod native;
pub mod outcome;
mod plain;
mod reader;
mod reads;
pub mod request;
pub mod source;
pub mod subject;
mod template;
mod told;
pub mod unknown;
mod view;

pub use backoff::Backoff;
pub use compile::{Late, Pipeline, Stage, Target};
pub use extract::{Extract, ExtractError};
pub use mistakes::{Mistakes, RenderError};
pub use outcome::{Effect, Exchange, Verdict, constrain, default_verdict};
pub use request::{Rendered, Request, To, call_id};
pub use source::Source;
pub use subject::Subject;
pub use unknown::{Lookup, Unknown};
