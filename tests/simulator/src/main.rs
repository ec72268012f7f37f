//! Runs the simulator until it is told to stop.

use std::io::Write;
use std::net::SocketAddr;

use anyhow::Context;
use clap::Parser;
use simulator::Simulator;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// The services around Chekhov, and the ledger that judges every test
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen; port 0 takes a free one, and the address is printed
    #[arg(long, default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { listen } = Arguments::parse();
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}"))?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut out = std::io::stdout();
    writeln!(out, "listening on {}", listener.local_addr()?)?;
    out.flush()?;
    // Hanging requests would hold a graceful shutdown for ever, and there is nothing to save.
    tokio::select! {
        served = simulator::serve(listener, Simulator::default()) => served.context("the server failed"),
        _ = terminate.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot wait for an interrupt"),
    }
}
