//! TLS: whom we trust, and the certificate that we show.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::WantsClientCert;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls_platform_verifier::Verifier;

use super::pem;
use crate::configuration::Tls;

/// Trusts what the system trusts, and shows no certificate.
pub(crate) fn plain() -> Result<ClientConfig, rustls::Error> {
    Ok(trusting(Vec::new())?.with_no_client_auth())
}

/// Trusts what the system trusts and the configured authorities, and shows the configured certificate. The mistakes begin
/// with their keys below `place`.
pub(crate) fn with_certificate(place: &str, tls: &Tls) -> Result<ClientConfig, Vec<String>> {
    let wrong = |key: &str, what: &dyn std::fmt::Display| format!("{place}.{key}: {what}");
    let chain = pem::certificates(&tls.certificate_file).map_err(|error| wrong("certificate_file", &error));
    let key = pem::key(&tls.key_file).map_err(|error| wrong("key_file", &error));
    let trusted = tls.ca_file.as_deref().map_or(Ok(Vec::new()), pem::certificates);
    let trusted = trusted
        .map_err(|error| wrong("ca_file", &error))
        .and_then(|trusted| trusting(trusted).map_err(|error| wrong("ca_file", &error)));
    match (chain, key, trusted) {
        (Ok(chain), Ok(key), Ok(trusted)) => trusted.with_client_auth_cert(chain, key).map_err(|error| {
            let what = format!("the certificate and the key cannot be used together: {error}");
            vec![wrong("key_file", &what)]
        }),
        (chain, key, trusted) => Err([chain.err(), key.err(), trusted.err()].into_iter().flatten().collect()),
    }
}

fn trusting(
    more: Vec<CertificateDer<'static>>,
) -> Result<rustls::ConfigBuilder<ClientConfig, WantsClientCert>, rustls::Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Verifier::new_with_extra_roots(more, Arc::clone(&provider))?;
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier)))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn every_file_that_cannot_be_used_is_named_with_its_key() {
        let absent = |name: &str| PathBuf::from("/nowhere").join(name);
        let tls = Tls {
            certificate_file: absent("client.pem"),
            key_file: absent("client.key"),
            ca_file: Some(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")),
        };
        let mistakes = with_certificate("destination.orange.tls", &tls).unwrap_err();
        for (mistake, key) in mistakes.iter().zip(["certificate_file", "key_file", "ca_file"]) {
            assert!(
                mistake.starts_with(&format!("destination.orange.tls.{key}: ")),
                "{mistake}"
            );
        }
        assert_eq!(mistakes.len(), 3, "{mistakes:?}");
    }
}
