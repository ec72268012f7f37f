//! The services around Chekhov, in one process, and the ledger that judges every test.
//!
//! Stands in for the internal services (validation, catalog, sellers, tax, numbers, documents) and for an
//! asynchronous fiscal API that can be told to fail in every way such an API is known to fail. Everything is in
//! memory. Every request is recorded, tied to its receipt, and can be asked for afterwards.
//!
//! ```no_run
//! # async fn start() -> std::io::Result<()> {
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! simulator::serve(listener, simulator::Simulator::default()).await
//! # }
//! ```

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
mod route;
mod service;
mod settings;
mod summary;

#[cfg(test)]
mod tests;

pub use app::{Simulator, router, serve};
