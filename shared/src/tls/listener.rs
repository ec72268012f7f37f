//! A listener of ours, behind TLS where the configuration says so.

use std::io;
use std::sync::Arc;

use axum::Router;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tls_listener::TlsListener;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::pem;
use crate::configuration::{Invalid, ListenerTls};

/// Shakes hands with the clients of a listener.
#[derive(Clone)]
pub struct Acceptor(TlsAcceptor);

impl Acceptor {
    /// Reads what `[<section>.tls]` names; `None` where there is none. With `client_ca_file` clients need a certificate.
    ///
    /// # Errors
    /// Every file that cannot be used, with its key.
    pub fn read(section: &str, tls: Option<&ListenerTls>) -> Result<Option<Self>, Invalid> {
        tls.map(|tls| Self::of(section, tls)).transpose()
    }

    fn of(section: &str, tls: &ListenerTls) -> Result<Self, Invalid> {
        let wrong = |key: &str, what: &dyn std::fmt::Display| format!("{section}.tls.{key}: {what}");
        let chain = pem::certificates(&tls.certificate_file).map_err(|error| wrong("certificate_file", &error));
        let key = pem::key(&tls.key_file).map_err(|error| wrong("key_file", &error));
        let clients = tls.client_ca_file.as_deref().map(pem::certificates).transpose();
        let clients = clients.map_err(|error| wrong("client_ca_file", &error));
        let (chain, key, clients) = match (chain, key, clients) {
            (Ok(chain), Ok(key), Ok(clients)) => (chain, key, clients),
            (chain, key, clients) => {
                let mistakes = [chain.err(), key.err(), clients.err()];
                return Err(Invalid(mistakes.into_iter().flatten().collect()));
            }
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let with_versions = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Invalid(vec![format!("{section}.tls: {error}")]))?;
        let verified = match clients {
            None => with_versions.with_no_client_auth(),
            Some(authorities) => {
                let mut trusted = RootCertStore::empty();
                trusted.add_parsable_certificates(authorities);
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(trusted), provider)
                    .build()
                    .map_err(|error| Invalid(vec![wrong("client_ca_file", &error)]))?;
                with_versions.with_client_cert_verifier(verifier)
            }
        };
        let mut server = verified.with_single_cert(chain, key).map_err(|error| {
            let what = format!("the certificate and the key cannot be used together: {error}");
            Invalid(vec![wrong("key_file", &what)])
        })?;
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(server))))
    }
}

/// Serves `router` until `stop`, and then what is in flight. A client that is slow to shake hands keeps nobody waiting.
///
/// # Errors
/// None in practice: a connection that cannot be accepted is not served.
pub async fn serve(
    listener: TcpListener,
    acceptor: Option<Acceptor>,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    // Made once: axum would make the routes of a router anew for each connection, which keeps them for as long as it lives.
    let router = router.into_make_service();
    match acceptor {
        None => axum::serve(listener, router).with_graceful_shutdown(stop).await,
        Some(Acceptor(acceptor)) => {
            let listener = TlsListener::new(acceptor, listener);
            axum::serve(listener, router).with_graceful_shutdown(stop).await
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn every_file_that_cannot_be_used_is_named_with_its_key() {
        let absent = |name: &str| PathBuf::from("/nowhere").join(name);
        let tls = ListenerTls {
            certificate_file: absent("server.pem"),
            key_file: absent("server.key"),
            client_ca_file: Some(absent("clients.pem")),
        };
        let Err(Invalid(mistakes)) = Acceptor::read("intake", Some(&tls)) else {
            panic!("nothing of it is there");
        };
        let keys = ["certificate_file", "key_file", "client_ca_file"];
        assert_eq!(mistakes.len(), keys.len(), "{mistakes:?}");
        for (mistake, key) in mistakes.iter().zip(keys) {
            assert!(mistake.starts_with(&format!("intake.tls.{key}: /nowhere")), "{mistake}");
        }
    }
}
