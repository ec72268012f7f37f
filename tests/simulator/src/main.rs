//! Runs the simulator until it is told to stop.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Parser};
use simulator::{Certificates, Simulator};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// The services around Chekhov, and the ledger that judges every test
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where to listen; port 0 takes a free one, and the address is printed
    #[arg(long, default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    #[command(flatten)]
    tls: Option<Secured>,
}

/// The same services over TLS, for clients with a certificate.
#[derive(Debug, Args)]
struct Secured {
    /// Where to listen for clients with a certificate
    #[arg(long, required = false, requires_all = ["tls_certificate", "tls_key", "client_ca"])]
    tls_listen: SocketAddr,
    /// PEM file of the server's certificate
    #[arg(long, required = false, requires = "tls_listen")]
    tls_certificate: PathBuf,
    /// PEM file of its key
    #[arg(long, required = false, requires = "tls_listen")]
    tls_key: PathBuf,
    /// PEM file of the authority of clients' certificates
    #[arg(long, required = false, requires = "tls_listen")]
    client_ca: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { listen, tls } = Arguments::parse();
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen}"))?;
    let simulator = Simulator::default();
    let behind_tls = async {
        match tls {
            Some(tls) => serve_tls(tls, simulator.clone()).await,
            None => std::future::pending().await,
        }
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let mut out = std::io::stdout();
    writeln!(out, "listening on {}", listener.local_addr()?)?;
    out.flush()?;
    // Hanging requests would hold a graceful shutdown for ever, and there is nothing to save.
    tokio::select! {
        served = simulator::serve(listener, simulator.clone()) => served.context("the server failed"),
        served = behind_tls => served,
        _ = terminate.recv() => Ok(()),
        interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot wait for an interrupt"),
    }
}

async fn serve_tls(tls: Secured, simulator: Simulator) -> anyhow::Result<()> {
    let listener = TcpListener::bind(tls.tls_listen)
        .await
        .with_context(|| format!("cannot listen on {}", tls.tls_listen))?;
    let certificates = Certificates {
        certificate: tls.tls_certificate,
        key: tls.tls_key,
        client_ca: tls.client_ca,
    };
    simulator::serve_tls(listener, &certificates, simulator)
        .await
        .context("the server behind TLS failed")
}
