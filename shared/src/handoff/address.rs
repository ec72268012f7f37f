//! Where the broker is, and how it is reached.

use std::io;
use std::path::Path;

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};

use super::{PATIENCE, timed_out};
use crate::configuration::{BrokerTls, Invalid, RabbitMq, Secret};
use crate::tls::pem;

/// The largest frame, in bytes, where the URL says nothing else. The library makes room for 64 of them on each connection: with the
/// broker's own 128 KiB that is more than the rest of an idle process. Our messages are of a few kilobytes; larger ones are several
/// frames.
const FRAME_MAX: u32 = 16 * 1024;

/// The broker's URL, and what a TLS connection to it needs.
#[derive(Clone)]
pub struct Address {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    url: Secret,
    tls: OwnedTLSConfig,
}

impl Address {
    /// Reads the files that `[rabbitmq.tls]` names.
    ///
    /// # Errors
    /// Every file that cannot be used, with its key.
    pub fn read(rabbitmq: &RabbitMq) -> Result<Self, Invalid> {
        let url = rabbitmq.url.expose().parse::<AMQPUri>();
        let authority = url.map(|url| url.authority).unwrap_or_default();
        Ok(Self {
            host: authority.host,
            port: authority.port,
            url: rabbitmq.url.clone(),
            tls: rabbitmq
                .tls
                .as_ref()
                .map_or_else(|| Ok(OwnedTLSConfig::default()), tls)?,
        })
    }

    /// Connects without recovery by the library: whoever holds the connection makes it anew, with everything on it.
    ///
    /// # Errors
    /// When the broker does not answer in [`PATIENCE`] or refuses.
    pub async fn connect(&self, name: &str) -> Result<Connection, lapin::Error> {
        let properties = ConnectionProperties::default().with_connection_name(name.to_owned().into());
        let runtime = lapin::runtime::default_runtime()?;
        let mut url: AMQPUri = self.url.expose().parse().map_err(io::Error::other)?;
        url.query.frame_max.get_or_insert(FRAME_MAX);
        let connecting = Connection::connect_uri_with_config(url, properties, self.tls.clone(), runtime);
        match tokio::time::timeout(PATIENCE, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(timed_out()),
        }
    }
}

fn tls(tls: &BrokerTls) -> Result<OwnedTLSConfig, Invalid> {
    let mut mistakes = Vec::new();
    let mut read = |key: &str, file: Option<&Path>, usable: fn(&Path) -> Result<(), pem::Unreadable>| {
        let file = file?;
        let text = usable(file).and_then(|()| pem::text(file));
        text.map_err(|error| mistakes.push(format!("rabbitmq.tls.{key}: {error}")))
            .ok()
    };
    let certificates = |file: &Path| pem::certificates(file).map(drop);
    let cert_chain = read("ca_file", tls.ca_file.as_deref(), certificates);
    let certificate = read("certificate_file", tls.certificate_file.as_deref(), certificates);
    let key = read("key_file", tls.key_file.as_deref(), |file| pem::key(file).map(drop));
    if !mistakes.is_empty() {
        return Err(Invalid(mistakes));
    }
    let identity = certificate.zip(key).map(|(certificate, key)| OwnedIdentity::PKCS8 {
        pem: certificate.into_bytes(),
        key: key.into_bytes(),
    });
    Ok(OwnedTLSConfig { identity, cert_chain })
}
