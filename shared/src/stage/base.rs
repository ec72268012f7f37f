//! Where an endpoint is: its URL, read once.

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Uri};
use reqwest::Url;

/// Where an endpoint's calls go.
pub(super) struct Base {
    url: Url,
    scheme: Scheme,
    authority: Authority,
    path: String,
    /// Where connections lead.
    pub(super) origin: Uri,
    /// What the header `Host` says: the port only where it is not the scheme's.
    pub(super) host_header: HeaderValue,
}

impl Base {
    /// Reads a URL; its host is turned into ASCII.
    pub(super) fn read(url: &str) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("the URL cannot be used: {error}");
        let url = Url::parse(url.trim_end_matches('/')).map_err(|error| wrong(&error))?;
        let uri: Uri = url.as_str().parse().map_err(|error| wrong(&error))?;
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return Err(wrong(&"it names no host"));
        };
        let origin = Uri::builder().scheme(scheme.clone()).authority(authority.clone());
        let host = match authority.port_u16() {
            Some(port) if port != usual_port(scheme) => format!("{}:{port}", authority.host()),
            _ => authority.host().to_owned(),
        };
        Ok(Self {
            origin: origin.path_and_query("/").build().map_err(|error| wrong(&error))?,
            host_header: HeaderValue::try_from(host).map_err(|error| wrong(&error))?,
            scheme: scheme.clone(),
            authority: authority.clone(),
            path: uri.path().trim_end_matches('/').to_owned(),
            url,
        })
    }

    /// Its host.
    pub(super) fn host(&self) -> &str {
        self.authority.host()
    }

    /// Its port, the scheme's if it names none.
    pub(super) fn port(&self) -> u16 {
        self.authority.port_u16().unwrap_or(usual_port(&self.scheme))
    }

    /// Its path, without a `/` at its end.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// What is below it, as it is given.
    pub(super) fn url(&self, below: &str) -> String {
        format!("{}://{}{}{below}", self.scheme, self.authority, self.path)
    }

    /// What a request line names for what is below it.
    pub(super) fn target(&self, path_and_query: &str) -> Result<Uri, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("the URL cannot be used: {error}");
        let plain = path_and_query
            .is_ascii()
            .then(|| format!("{}{path_and_query}", self.path));
        let target = if let Some(Ok(below)) = plain.map(PathAndQuery::try_from) {
            below
        } else {
            // A pipeline may spell its paths with letters that have to be encoded.
            let whole = format!("{}{path_and_query}", self.url.as_str().trim_end_matches('/'));
            let url = Url::parse(&whole).map_err(|error| wrong(&error))?;
            let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
            PathAndQuery::try_from(format!("{}{query}", url.path())).map_err(|error| wrong(&error))?
        };
        Ok(Uri::from(target))
    }
}

fn usual_port(scheme: &Scheme) -> u16 {
    if *scheme == Scheme::HTTPS { 443 } else { 80 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_below_a_url_is_put_behind_it() {
        for (base, below, origin, host, target) in [
            (
                "http://localhost:8090/fiscal/",
                "/v4/sell?a=b",
                "http://localhost:8090/",
                "localhost:8090",
                "/fiscal/v4/sell?a=b",
            ),
            ("https://host", "/x", "https://host/", "host", "/x"),
            ("https://host:80", "/x", "https://host:80/", "host:80", "/x"),
            ("http://[::1]:80", "/x", "http://[::1]/", "[::1]", "/x"),
            (
                "http://пример.рф/касса",
                "/чек",
                "http://xn--e1afmkfd.xn--p1ai/",
                "xn--e1afmkfd.xn--p1ai",
                "/%D0%BA%D0%B0%D1%81%D1%81%D0%B0/%D1%87%D0%B5%D0%BA",
            ),
            (
                "http://host/a",
                "/with space?q=ё",
                "http://host/",
                "host",
                "/a/with%20space?q=%D1%91",
            ),
        ] {
            let base = Base::read(base).unwrap();
            assert_eq!(base.origin, origin);
            assert_eq!(base.host_header, host);
            assert_eq!(base.target(below).unwrap(), target);
        }
    }
}
