//! Bearer tokens with roles; the configuration has only their hashes.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use sha2::{Digest, Sha256};
use shared::configuration::{Role, Token};
use subtle::ConstantTimeEq;

use super::{Intake, Problem};

/// The tokens of the configuration.
pub struct Tokens(Vec<(Vec<u8>, Caller)>);

/// Who calls.
#[derive(Clone)]
pub struct Caller(Arc<Token>);

impl Tokens {
    /// Reads the hashes; what is no hexadecimal matches nobody (the configuration was checked before).
    #[must_use]
    pub fn new(tokens: &[Token]) -> Self {
        Self(
            tokens
                .iter()
                .map(|token| {
                    (
                        hex::decode(&token.sha256).unwrap_or_default(),
                        Caller(Arc::new(token.clone())),
                    )
                })
                .collect(),
        )
    }

    fn find(&self, secret: &str) -> Option<Caller> {
        let hash = Sha256::digest(secret.as_bytes());
        self.0
            .iter()
            .find(|(known, _)| bool::from(known.as_slice().ct_eq(&hash[..])))
            .map(|(_, caller)| caller.clone())
    }
}

impl Caller {
    /// Refuses whoever may not post for `merchant`.
    ///
    /// # Errors
    /// 403.
    pub fn may_post(&self, merchant: &str) -> Result<(), Problem> {
        match self.0.role {
            Role::Intake | Role::Operator if self.sees(merchant) => Ok(()),
            Role::Intake | Role::Operator => Err(Problem::forbidden("this token may not post for this merchant")),
            Role::Viewer => Err(Problem::forbidden("a viewer may not post receipts")),
        }
    }

    /// Refuses whoever is no operator.
    ///
    /// # Errors
    /// 403.
    pub fn may_steer(&self) -> Result<(), Problem> {
        if self.0.role == Role::Operator {
            Ok(())
        } else {
            Err(Problem::forbidden("only an operator may do this"))
        }
    }

    /// Whether receipts of `merchant` are this caller's to see.
    #[must_use]
    pub fn sees(&self, merchant: &str) -> bool {
        self.0
            .merchants
            .as_ref()
            .is_none_or(|merchants| merchants.iter().any(|known| known == merchant))
    }

    /// The token's name, for logs.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }
}

impl FromRequestParts<Arc<Intake>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, intake: &Arc<Intake>) -> Result<Self, Problem> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let secret = header
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let (_, secret) = secret.ok_or_else(|| Problem::unauthorized("a bearer token is needed"))?;
        intake
            .tokens
            .find(secret.trim())
            .ok_or_else(|| Problem::unauthorized("the token is not known"))
    }
}
