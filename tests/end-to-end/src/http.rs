//! The one HTTP client of this crate.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

/// A client that asks no proxy and gives up after a while.
pub(crate) fn client() -> reqwest::Client {
    trusting(None)
}

/// The same, for servers that the authority of a PEM file vouches for.
pub(crate) fn trusting(authority: Option<&Path>) -> reqwest::Client {
    static CLIENT: OnceLock<()> = OnceLock::new();
    CLIENT.get_or_init(|| {
        // An error says that there is one already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
    });
    let builder = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30));
    let builder = match authority {
        None => builder,
        Some(path) => {
            let pem = std::fs::read(path).expect("the authority's certificate is there");
            let certificate = reqwest::Certificate::from_pem(&pem).expect("it is a certificate");
            builder.add_root_certificate(certificate)
        }
    };
    builder
        .build()
        .expect("a client without certificates of its own can be built")
}

/// `base` and segments of a path, each percent-encoded whole.
pub(crate) fn url(base: &str, segments: &[&str]) -> anyhow::Result<reqwest::Url> {
    let mut url = reqwest::Url::parse(base)?;
    url.path_segments_mut()
        .map_err(|()| anyhow::anyhow!("{base} takes no path"))?
        .pop_if_empty()
        .extend(segments);
    Ok(url)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_slash_inside_an_id_is_no_separator() {
        let url = super::url("http://localhost:1", &["ledger", "m-1", "a/b%"]).unwrap();
        assert_eq!(url.as_str(), "http://localhost:1/ledger/m-1/a%2Fb%25");
    }
}
