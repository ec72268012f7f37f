//! Signatures of bodies: RSA with SHA-256, in base64.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use webpki::RawPublicKeyEntity;
use webpki::ring::RSA_PKCS1_2048_8192_SHA256;

/// A public key, in PEM.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct PublicKey {
    pem: Arc<str>,
    der: SubjectPublicKeyInfoDer<'static>,
}

impl PublicKey {
    /// Is `signature` one of these bytes?
    pub(crate) fn signed(&self, bytes: &[u8], signature: Option<&str>) -> bool {
        let (Ok(key), Some(Ok(signature))) = (
            RawPublicKeyEntity::try_from(&self.der),
            signature.map(|text| STANDARD.decode(text)),
        ) else {
            return false;
        };
        key.verify_signature(RSA_PKCS1_2048_8192_SHA256, bytes, &signature)
            .is_ok()
    }
}

impl TryFrom<String> for PublicKey {
    type Error = &'static str;

    fn try_from(pem: String) -> Result<Self, Self::Error> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| "a public key in PEM (BEGIN PUBLIC KEY) is needed")?;
        RawPublicKeyEntity::try_from(&der).map_err(|_| "a public key that can be read is needed")?;
        Ok(Self { pem: pem.into(), der })
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.pem.as_ref().to_owned()
    }
}
