//! How others know us: signed bytes, certificates of ours; and whom we trust.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// `[destination.<name>.signature]`: every body that is sent is signed, RSA with SHA-256 (PKCS #1 v1.5), in base64.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// PEM file of an RSA private key, PKCS #8 or PKCS #1; relative to the configuration's file.
    pub key_file: PathBuf,
    /// The header that carries the signature. Default `X-Signature`.
    #[serde(default = "header")]
    pub header: String,
}

/// `[destination.<name>.tls]`: connections of its own, with a certificate.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// PEM file of our certificate and those between it and its authority; relative to the configuration's file.
    pub certificate_file: PathBuf,
    /// PEM file of its private key.
    pub key_file: PathBuf,
    /// PEM file of authorities that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
}

/// `[rabbitmq.tls]`, for an `amqps` URL.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerTls {
    /// PEM file of authorities that are trusted besides the system's; relative to the configuration's file.
    pub ca_file: Option<PathBuf>,
    /// PEM file of our certificate, where the broker wants one.
    pub certificate_file: Option<PathBuf>,
    /// PEM file of its private key.
    pub key_file: Option<PathBuf>,
}

/// `[intake.tls]`, `[orchestrator.tls]`, `[dispatcher.tls]`: a listener behind TLS.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerTls {
    /// PEM file of its certificate and those between it and its authority; relative to the configuration's file.
    pub certificate_file: PathBuf,
    /// PEM file of its private key.
    pub key_file: PathBuf,
    /// PEM file of the authorities of clients; where it is set nobody gets in without a certificate of theirs.
    pub client_ca_file: Option<PathBuf>,
}

impl BrokerTls {
    pub(super) fn resolve(&mut self, base: &Path) {
        let files = [&mut self.ca_file, &mut self.certificate_file, &mut self.key_file];
        for file in files.into_iter().flatten() {
            *file = base.join(&*file);
        }
    }
}

impl ListenerTls {
    pub(super) fn resolve(&mut self, base: &Path) {
        let files = [&mut self.certificate_file, &mut self.key_file];
        for file in files.into_iter().chain(&mut self.client_ca_file) {
            *file = base.join(&*file);
        }
    }
}

impl Signature {
    pub(super) fn resolve(&mut self, base: &Path) {
        self.key_file = base.join(&self.key_file);
    }
}

impl Tls {
    pub(super) fn resolve(&mut self, base: &Path) {
        let files = [&mut self.certificate_file, &mut self.key_file];
        for file in files.into_iter().chain(&mut self.ca_file) {
            *file = base.join(&*file);
        }
    }
}

fn header() -> String {
    "X-Signature".to_owned()
}
