//! The same services behind TLS, for clients with a certificate alone.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::serve::Listener;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::connection::{CuttableListener, CuttableStream};

/// PEM files of the server.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The certificate that it shows, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Whose certificates clients must have.
    pub client_ca: PathBuf,
}

/// Accepts connections once they are shaken hands with; one that is slow about it keeps nobody else waiting.
#[derive(Debug)]
pub(crate) struct TlsListener {
    address: SocketAddr,
    ready: mpsc::Receiver<(TlsStream<CuttableStream>, SocketAddr)>,
}

impl TlsListener {
    /// Accepts on `listener` until it is dropped.
    pub(crate) fn start(mut listener: CuttableListener, certificates: &Certificates) -> io::Result<Self> {
        let (acceptor, address) = (acceptor(certificates)?, listener.local_addr()?);
        let (sender, ready) = mpsc::channel(64);
        tokio::spawn(async move {
            loop {
                let (stream, peer) = tokio::select! {
                    () = sender.closed() => return,
                    accepted = listener.accept() => accepted,
                };
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                tokio::spawn(async move {
                    // Who has no certificate of ours has been told by the handshake.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        drop(sender.send((stream, peer)).await);
                    }
                });
            }
        });
        Ok(Self { address, ready })
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<CuttableStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            None => pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

fn acceptor(files: &Certificates) -> io::Result<TlsAcceptor> {
    let certificates = |path: &PathBuf| -> io::Result<Vec<CertificateDer<'static>>> {
        let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        found.map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
    };
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| io::Error::other(format!("{}: {error}", files.key.display())))?;
    let mut trusted = RootCertStore::empty();
    for authority in certificates(&files.client_ca)? {
        trusted.add(authority).map_err(io::Error::other)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(trusted), Arc::clone(&provider))
        .build()
        .map_err(io::Error::other)?;
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_client_cert_verifier(clients)
        .with_single_cert(certificates(&files.certificate)?, key)
        .map_err(io::Error::other)?;
    Ok(TlsAcceptor::from(Arc::new(server)))
}
