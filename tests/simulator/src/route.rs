//! Which service a request is for, told from its method and path.
//!
//! Parsed by hand, because ids may contain anything that can be percent-encoded, slashes too.

use axum::http::Method;
use percent_encoding::percent_decode_str;

/// A request of a simulated service, its parameters decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Validate,
    Catalog,
    Seller { inn: String },
    Tax,
    Number { key: String },
    Document { key: String },
    Token,
    Register { group: String, operation: String },
    Report { group: String, uuid: String },
    FiscalDocument { group: String, uuid: String },
    Lookup { group: String, external_id: String },
    OrangeRegister,
    OrangeStatus { inn: String, id: String },
    Unknown,
}

/// An external API as a whole: faults may be aimed at it, and it has limits of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Api {
    Fiscal,
    Orange,
}

impl Api {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::Fiscal, Self::Orange];

    /// The name in the table of faults, of which its targets' names are longer ones.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fiscal => "fiscal",
            Self::Orange => "orange",
        }
    }
}

/// What the ledger counts by and faults are aimed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Target {
    Validation,
    Catalog,
    Sellers,
    Tax,
    Numbers,
    Documents,
    Token,
    Register,
    Report,
    Document,
    Lookup,
    OrangeRegister,
    OrangeStatus,
    Other,
}

impl Target {
    /// All of them, in the order of their declaration.
    pub(crate) const ALL: [Self; 14] = [
        Self::Validation,
        Self::Catalog,
        Self::Sellers,
        Self::Tax,
        Self::Numbers,
        Self::Documents,
        Self::Token,
        Self::Register,
        Self::Report,
        Self::Document,
        Self::Lookup,
        Self::OrangeRegister,
        Self::OrangeStatus,
        Self::Other,
    ];

    /// The name in the ledger and in the table of faults.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Validation => "validation",
            Self::Catalog => "catalog",
            Self::Sellers => "sellers",
            Self::Tax => "tax",
            Self::Numbers => "numbers",
            Self::Documents => "documents",
            Self::Token => "fiscal.token",
            Self::Register => "fiscal.register",
            Self::Report => "fiscal.report",
            Self::Document => "fiscal.document",
            Self::Lookup => "fiscal.lookup",
            Self::OrangeRegister => "orange.register",
            Self::OrangeStatus => "orange.status",
            Self::Other => "other",
        }
    }

    /// The external API that it is a part of.
    pub(crate) fn api(self) -> Option<Api> {
        match self {
            Self::Token | Self::Register | Self::Report | Self::Document | Self::Lookup => Some(Api::Fiscal),
            Self::OrangeRegister | Self::OrangeStatus => Some(Api::Orange),
            _ => None,
        }
    }

    /// The API whose limit its calls count towards. Fetching a token does not count.
    pub(crate) fn limited(self) -> Option<Api> {
        self.api().filter(|_| self != Self::Token)
    }
}

impl Route {
    /// Reads method and path; what is nobody's is [`Route::Unknown`].
    pub(crate) fn parse(method: &Method, path: &str) -> Self {
        Self::find(method, path).unwrap_or(Self::Unknown)
    }

    fn find(method: &Method, path: &str) -> Option<Self> {
        let (service, rest) = path.strip_prefix('/')?.split_once('/')?;
        let id = |prefix: &str| rest.strip_prefix(prefix).and_then(decode);
        match (method.as_str(), service) {
            ("POST", "validation") if rest == "validate" => Some(Self::Validate),
            ("GET", "catalog") if rest == "items" => Some(Self::Catalog),
            ("GET", "sellers") => Some(Self::Seller { inn: id("sellers/")? }),
            ("POST", "tax") if rest == "calculate" => Some(Self::Tax),
            ("PUT", "numbers") => Some(Self::Number { key: id("numbers/")? }),
            ("PUT", "documents") => Some(Self::Document { key: id("documents/")? }),
            (_, "fiscal") => Self::find_fiscal(method, rest.strip_prefix("v4/")?),
            (_, "orange") => Self::find_orange(method, rest.strip_prefix("api/v2/documents/")?),
            _ => None,
        }
    }

    fn find_fiscal(method: &Method, rest: &str) -> Option<Self> {
        if rest == "token" {
            return (method == Method::POST).then_some(Self::Token);
        }
        let (group, tail) = rest.split_once('/')?;
        let group = decode(group)?;
        if method == Method::POST {
            return Some(Self::Register {
                group,
                operation: decode(tail)?,
            });
        }
        if method != Method::GET {
            return None;
        }
        match tail.split_once('/')? {
            ("report", uuid) => Some(Self::Report {
                group,
                uuid: decode(uuid)?,
            }),
            ("document", uuid) => Some(Self::FiscalDocument {
                group,
                uuid: decode(uuid)?,
            }),
            ("by-id", external_id) => Some(Self::Lookup {
                group,
                external_id: decode(external_id)?,
            }),
            _ => None,
        }
    }

    fn find_orange(method: &Method, rest: &str) -> Option<Self> {
        if rest.is_empty() {
            return (method == Method::POST).then_some(Self::OrangeRegister);
        }
        let (inn, id) = rest.split_once("/status/")?;
        (method == Method::GET).then_some(Self::OrangeStatus {
            inn: decode(inn)?,
            id: decode(id)?,
        })
    }

    /// What the request is aimed at.
    pub(crate) fn target(&self) -> Target {
        match self {
            Self::Validate => Target::Validation,
            Self::Catalog => Target::Catalog,
            Self::Seller { .. } => Target::Sellers,
            Self::Tax => Target::Tax,
            Self::Number { .. } => Target::Numbers,
            Self::Document { .. } => Target::Documents,
            Self::Token => Target::Token,
            Self::Register { .. } => Target::Register,
            Self::Report { .. } => Target::Report,
            Self::FiscalDocument { .. } => Target::Document,
            Self::Lookup { .. } => Target::Lookup,
            Self::OrangeRegister => Target::OrangeRegister,
            Self::OrangeStatus { .. } => Target::OrangeStatus,
            Self::Unknown => Target::Other,
        }
    }
}

/// Percent-decodes an id; empty ones and what is not UTF-8 are none.
pub(crate) fn decode(text: &str) -> Option<String> {
    let decoded = percent_decode_str(text).decode_utf8().ok()?;
    (!decoded.is_empty()).then(|| decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_may_hold_slashes_and_percent_signs() {
        let route = Route::parse(&Method::GET, "/fiscal/v4/main-1/by-id/a%2Fb%25%20%D1%87/c");
        assert_eq!(
            route,
            Route::Lookup {
                group: "main-1".into(),
                external_id: "a/b% ч/c".into()
            }
        );
    }

    #[test]
    fn a_group_may_be_called_token() {
        let route = Route::parse(&Method::POST, "/fiscal/v4/token/sell");
        assert_eq!(
            route,
            Route::Register {
                group: "token".into(),
                operation: "sell".into()
            }
        );
    }

    #[test]
    fn what_is_nobodys_is_unknown() {
        for path in [
            "/",
            "/tax",
            "/tax/calculate/",
            "/numbers/numbers/",
            "/fiscal/v4/g/report/",
            "/numbers/numbers/%ff",
        ] {
            assert_eq!(Route::parse(&Method::PUT, path), Route::Unknown, "{path}");
        }
    }
}
