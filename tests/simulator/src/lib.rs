//! The services around Chekhov, in one process, and the ledger that judges every test.
//!
//! Stands in for the internal services (validation, catalog, sellers, tax, numbers, documents) and for an
//! asynchronous fiscal API that can be told to fail in every way such an API is known to fail. Everything is in
//! memory. Every request is recorded, tied to its receipt, and can be asked for afterwards.
//!
//! Under `/orange` there is a second external API with a contract of its own (`src/orange/mod.rs`): signed bodies, a client
//! certificate, 201 / 409 / 503 / 524. Its targets in the table of faults are `orange`, `orange.register` and `orange.status`;
//! the mode `expire` is its own: a status says 524, and the document is not registered. Its settings:
//! `{"orange": {"signature_key": "<PEM>", "certificate": true, "limit": {"rate": 1, "per_s": 1}}}`. The ledger counts what both
//! APIs register by the same `reference`, and each registration says by which `api`.
//!
//! ```no_run
//! # async fn start() -> std::io::Result<()> {
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! simulator::serve(listener, simulator::Simulator::default()).await
//! # }
//! ```

mod accepted;
mod answer;
mod app;
mod check;
mod connection;
mod control;
mod faults;
mod fiscal;
mod internal;
mod ledger;
mod money;
mod orange;
mod progress;
mod route;
mod service;
mod settings;
mod summary;
mod tls;
mod ways;

#[cfg(test)]
mod tests;

pub use app::{Simulator, router, serve, serve_tls};
pub use tls::Certificates;
