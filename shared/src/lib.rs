//! What the orchestrator and the external dispatcher both need, and nothing that only one of them does.
//!
//! In the order of the flow: the receipt, the pipeline it runs through, how a stage is executed, the destination it calls, the
//! store (all SQL), the hand-off's messages; then telemetry, configuration, TLS and the life of a process.

pub mod configuration;
pub mod destination;
pub mod handoff;
pub mod life;
pub mod pipeline;
pub mod receipt;
pub mod stage;
pub mod store;
pub mod telemetry;
pub mod tls;
