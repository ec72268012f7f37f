//! TLS: whom we trust and the certificate that we show, as a client and as a server.

pub mod client;
pub mod listener;
pub(crate) mod pem;
