//! Signatures over the bytes that are sent.
//!
//! A signature is made anew for every call and stored nowhere. A repeat has the stored bytes, and the same key makes the
//! same signature of them; after the key was changed only the new one's is accepted.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;

use crate::configuration::Signature;
use crate::pipeline::Rendered;
use crate::tls::pem;

/// Signs the bodies of one destination's requests.
pub(super) struct Signer {
    key: Arc<RsaKeyPair>,
    header: HeaderName,
}

/// A signature could not be made.
#[derive(Debug, thiserror::Error)]
#[error("could not be signed")]
pub(super) struct Unsigned;

impl Signer {
    /// Reads the key; the mistakes begin with their keys below `place`.
    pub(super) fn read(place: &str, signature: &Signature) -> Result<Self, Vec<String>> {
        let header = HeaderName::from_bytes(signature.header.as_bytes())
            .map_err(|_| format!("{place}.header: is no header's name"));
        let key = key(signature).map_err(|error| format!("{place}.key_file: {error}"));
        match (key, header) {
            (Ok(key), Ok(header)) => Ok(Self {
                key: Arc::new(key),
                header,
            }),
            (key, header) => Err(key.err().into_iter().chain(header.err()).collect()),
        }
    }

    /// Adds the signature of the body, if there is one. On another thread: it takes half a millisecond with a key of 2,048 bits,
    /// three with one of 4,096, and everything else of the process would stand still meanwhile.
    pub(super) async fn sign(&self, request: &mut Rendered) -> Result<(), Unsigned> {
        let Some(body) = request.body.clone() else {
            return Ok(());
        };
        let key = Arc::clone(&self.key);
        let signature = tokio::task::spawn_blocking(move || over(&key, &body))
            .await
            .map_err(|_| Unsigned)??;
        request.headers.push((self.header.to_string(), signature));
        Ok(())
    }
}

fn key(signature: &Signature) -> Result<RsaKeyPair, String> {
    let path = &signature.key_file;
    let key = match pem::key(path).map_err(|error| error.to_string())? {
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        _ => return Err(format!("{}: an RSA key is needed", path.display())),
    };
    key.map_err(|error| format!("{}: an RSA key of 2048 to 4096 bits is needed: {error}", path.display()))
}

fn over(key: &RsaKeyPair, body: &[u8]) -> Result<String, Unsigned> {
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), body, &mut signature)
        .map_err(|_| Unsigned)?;
    Ok(STANDARD.encode(signature))
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use bytes::Bytes;
    use http::Method;

    use super::*;

    struct Directory(PathBuf);

    impl Directory {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("chekhov-{}", uuid::Uuid::new_v4().simple()));
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn openssl(&self, arguments: &str) {
            let openssl = Command::new("openssl")
                .args(arguments.split(' '))
                .current_dir(&self.0)
                .output()
                .unwrap();
            assert!(
                openssl.status.success(),
                "{arguments}: {}",
                String::from_utf8_lossy(&openssl.stderr)
            );
        }

        fn signer(&self, file: &str, header: &str) -> Result<Signer, Vec<String>> {
            let signature = Signature {
                key_file: self.0.join(file),
                header: header.to_owned(),
            };
            Signer::read("destination.orange.signature", &signature)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    async fn signed(signer: &Signer, body: Option<&[u8]>) -> Rendered {
        let mut request = Rendered {
            method: Method::POST,
            path_and_query: "/".to_owned(),
            headers: Vec::new(),
            body: body.map(Bytes::copy_from_slice),
        };
        signer.sign(&mut request).await.unwrap();
        request
    }

    #[tokio::test]
    async fn others_verify_what_is_signed_with_either_form_of_a_key() {
        let directory = Directory::new();
        directory.openssl("genrsa -out pkcs8.pem 2048");
        directory.openssl("rsa -in pkcs8.pem -traditional -out pkcs1.pem");
        directory.openssl("rsa -in pkcs8.pem -pubout -out public.pem");
        let body = "{\"текст\": 1}\n".as_bytes();
        let mut signatures = Vec::new();
        for file in ["pkcs8.pem", "pkcs1.pem"] {
            let signer = directory.signer(file, "X-Signature").unwrap();
            let request = signed(&signer, Some(body)).await;
            assert_eq!(request.body.as_deref(), Some(body));
            let (name, signature) = request.headers.into_iter().next().unwrap();
            assert_eq!(name, "x-signature");
            signatures.push(signature);
        }
        assert_eq!(signatures[0], signatures[1], "the same bytes have the same signature");
        let write = |file: &str, bytes: &[u8]| std::fs::write(Path::new(&directory.0).join(file), bytes).unwrap();
        write("body", body);
        write("signature", &STANDARD.decode(&signatures[0]).unwrap());
        directory.openssl("dgst -sha256 -verify public.pem -signature signature body");
    }

    #[tokio::test]
    async fn a_request_without_a_body_is_not_signed() {
        let directory = Directory::new();
        directory.openssl("genrsa -out key.pem 2048");
        let signer = directory.signer("key.pem", "X-Signature").unwrap();
        assert!(signed(&signer, None).await.headers.is_empty());
    }

    #[test]
    fn what_is_no_rsa_key_is_named_with_its_configuration_key_and_not_shown() {
        let directory = Directory::new();
        directory.openssl("ecparam -name prime256v1 -genkey -noout -out sec1.pem");
        directory.openssl("pkcs8 -topk8 -nocrypt -in sec1.pem -out ec.pem");
        directory.openssl("genrsa -out short.pem 1024");
        std::fs::write(directory.0.join("text.pem"), "-----BEGIN hidden-----\n").unwrap();
        for file in ["sec1.pem", "ec.pem", "short.pem", "text.pem", "absent.pem"] {
            let mistakes = directory.signer(file, "no header").err().unwrap();
            assert!(
                mistakes[0].starts_with("destination.orange.signature.key_file:") && mistakes[0].contains(file),
                "{mistakes:?}"
            );
            assert!(mistakes[1].starts_with("destination.orange.signature.header:"));
            assert!(!mistakes[0].contains("hidden"), "{mistakes:?}");
        }
    }
}
