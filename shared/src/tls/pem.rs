//! Keys and certificates in PEM files. What is wrong with one is told without a word of what it holds.

use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("{}: {cause}", path.display())]
    File { path: PathBuf, cause: std::io::Error },
    #[error("{}: no {what} in PEM can be read from it", path.display())]
    Content { path: PathBuf, what: &'static str },
}

/// The first private key of a file.
pub(crate) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, Unreadable> {
    PrivateKeyDer::from_pem_slice(&bytes(path)?).map_err(|_| content(path, "private key"))
}

/// Every certificate of a file, in its order; at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Unreadable> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes(path)?).collect();
    certificates
        .ok()
        .filter(|found| !found.is_empty())
        .ok_or_else(|| content(path, "certificate"))
}

/// What a file holds, as it is.
pub(crate) fn text(path: &Path) -> Result<String, Unreadable> {
    String::from_utf8(bytes(path)?).map_err(|_| content(path, "text"))
}

fn bytes(path: &Path) -> Result<Vec<u8>, Unreadable> {
    std::fs::read(path).map_err(|cause| Unreadable::File {
        path: path.to_owned(),
        cause,
    })
}

fn content(path: &Path, what: &'static str) -> Unreadable {
    Unreadable::Content {
        path: path.to_owned(),
        what,
    }
}
