//! Bearer tokens with roles; the configuration has only their hashes.

use std::ops::Deref;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use sha2::{Digest, Sha256};
use shared::configuration::{Role, Token};
use shared::store::audit::By;
use shared::telemetry::TraceContext;
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

    /// Refuses whoever may not read what is about all merchants.
    ///
    /// # Errors
    /// 403.
    pub fn may_oversee(&self) -> Result<(), Problem> {
        match self.0.role {
            Role::Viewer | Role::Operator if self.0.merchants.is_none() => Ok(()),
            Role::Viewer | Role::Operator => Err(Problem::forbidden("this token is for some merchants only")),
            Role::Intake => Err(Problem::forbidden("only a viewer or an operator may do this")),
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

    /// The only merchants whose receipts this caller sees; `None`: it sees all.
    #[must_use]
    pub fn only(&self) -> Option<&[String]> {
        self.0.merchants.as_deref()
    }

    /// What it may do, in a word.
    #[must_use]
    pub fn role(&self) -> &'static str {
        match self.0.role {
            Role::Intake => "intake",
            Role::Viewer => "viewer",
            Role::Operator => "operator",
        }
    }

    /// The token's name, for logs and for the record.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }
}

/// An operator, and the trace of what was asked.
#[derive(Clone)]
pub struct Operator {
    caller: Caller,
    trace_id: Option<String>,
}

impl Operator {
    /// Who it is, and why it is done: for the record.
    #[must_use]
    pub fn by(&self, reason: Option<String>) -> By {
        By {
            who: self.caller.name().to_owned(),
            role: self.caller.role(),
            reason,
            trace_id: self.trace_id.clone(),
        }
    }
}

impl Deref for Operator {
    type Target = Caller;

    fn deref(&self) -> &Caller {
        &self.caller
    }
}

impl FromRequestParts<Arc<Intake>> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, intake: &Arc<Intake>) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, intake).await?;
        caller.may_steer()?;
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let trace = header("traceparent").and_then(|parent| TraceContext::read(parent, None));
        Ok(Self {
            caller,
            trace_id: trace.map(|trace| trace.trace_id().to_owned()),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(role: Role, merchants: Option<&[&str]>) -> Caller {
        let merchants = merchants.map(|known| known.iter().map(|merchant| (*merchant).to_owned()).collect());
        Caller(Arc::new(Token {
            name: "t".to_owned(),
            role,
            sha256: hex::encode(Sha256::digest(b"secret")),
            merchants,
        }))
    }

    #[test]
    fn each_role_may_what_it_may() {
        let (intake, viewer, operator) = (
            caller(Role::Intake, None),
            caller(Role::Viewer, None),
            caller(Role::Operator, None),
        );
        assert!(intake.may_post("m").is_ok() && intake.may_steer().is_err());
        assert!(viewer.may_post("m").is_err() && viewer.may_steer().is_err() && viewer.sees("m"));
        assert!(intake.may_oversee().is_err() && viewer.may_oversee().is_ok() && operator.may_oversee().is_ok());
        assert!(operator.may_post("m").is_ok() && operator.may_steer().is_ok());
    }

    #[test]
    fn a_merchants_token_is_for_its_merchants() {
        let intake = caller(Role::Intake, Some(&["m-1"]));
        assert!(intake.may_post("m-1").is_ok() && intake.may_post("m-2").is_err() && !intake.sees("m-2"));
        assert!(intake.only().is_some() && caller(Role::Viewer, Some(&["m-1"])).may_oversee().is_err());
    }

    #[test]
    fn a_token_is_found_by_its_hash_and_by_nothing_else() {
        let tokens = Tokens::new(&[(*caller(Role::Viewer, None).0).clone()]);
        assert!(tokens.find("secret").is_some());
        for wrong in ["", "Secret", "secret ", &hex::encode(Sha256::digest(b"secret"))] {
            assert!(tokens.find(wrong).is_none(), "{wrong}");
        }
    }
}
