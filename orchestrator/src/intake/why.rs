//! Why an operator does something: said in the body of each action, for the record.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use super::Problem;
use super::problem::Fault;

/// The longest reason, in characters.
const LONGEST: usize = 500;

/// Why something is done.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Why {
    /// 1 to 500 characters; it is kept for good, so no personal data.
    #[schema(min_length = 1, max_length = 500)]
    #[serde(default)]
    reason: Option<String>,
}

/// From which stage, and why.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// The stage's name.
    #[serde(default)]
    stage: Option<String>,
    /// 1 to 500 characters; it is kept for good, so no personal data.
    #[schema(min_length = 1, max_length = 500)]
    #[serde(default)]
    reason: Option<String>,
}

impl Why {
    /// The reason.
    ///
    /// # Errors
    /// 422 without one.
    pub fn reason(self) -> Result<String, Problem> {
        faultless(reason_fault(self.reason.as_deref()).into_iter().collect())?;
        Ok(self.reason.unwrap_or_default())
    }
}

impl Restart {
    /// The reason and the stage.
    ///
    /// # Errors
    /// 422 without either.
    pub fn read(self) -> Result<(String, String), Problem> {
        let mut faults: Vec<Fault> = reason_fault(self.reason.as_deref()).into_iter().collect();
        if self.stage.as_ref().is_none_or(String::is_empty) {
            faults.push(fault("/stage", "the name of a stage is needed"));
        }
        faultless(faults)?;
        Ok((self.reason.unwrap_or_default(), self.stage.unwrap_or_default()))
    }
}

/// What is wrong with a reason, where one is needed.
pub fn reason_fault(reason: Option<&str>) -> Option<Fault> {
    let Some(reason) = reason else {
        return Some(fault("/reason", "a reason is needed"));
    };
    let length = reason.chars().count();
    let is_good = (1..=LONGEST).contains(&length) && !reason.trim().is_empty() && !reason.contains('\0');
    (!is_good).then(|| fault("/reason", "1 to 500 characters"))
}

/// A fault at `pointer`.
pub fn fault(pointer: &str, detail: &str) -> Fault {
    Fault {
        pointer: pointer.to_owned(),
        detail: detail.to_owned(),
    }
}

/// # Errors
/// 422 with `faults`, if there are any.
pub fn faultless(faults: Vec<Fault>) -> Result<(), Problem> {
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Problem::faults("what is asked for has faults", faults))
    }
}

/// A body that has to be there.
///
/// # Errors
/// 400 for what is no JSON, 422 for what has another shape.
pub fn required<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>) -> Result<T, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let body = body.map_err(|error| bad(error.body_text()))?;
    let body = if body.is_empty() { b"{}".as_slice() } else { &body };
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            Problem::faults("what is asked for has faults", vec![fault("", &error.to_string())])
        }
        _ => bad(format!("not JSON: {error}")),
    })
}

/// The reason of an action that may come without a body, as it always could.
///
/// # Errors
/// 400 or 422 for a body that is no reason.
pub fn optional(body: Result<Bytes, BytesRejection>) -> Result<Option<String>, Problem> {
    if matches!(&body, Ok(body) if body.is_empty()) {
        return Ok(None);
    }
    required::<Why>(body)?.reason().map(Some)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn places(result: Result<impl Sized, Problem>) -> Value {
        let problem = serde_json::to_value(result.err().expect("a fault")).unwrap();
        problem["errors"].as_array().map_or(json!(problem["status"]), |errors| {
            errors.iter().map(|error| error["pointer"].clone()).collect()
        })
    }

    fn bytes(text: &str) -> Bytes {
        Bytes::from(text.to_owned())
    }

    #[test]
    fn a_reason_is_needed_and_short() {
        let long = json!({"reason": "ж".repeat(501)}).to_string();
        for body in ["", "{}", r#"{"reason": null}"#, r#"{"reason": " "}"#, &long] {
            assert_eq!(
                places(required::<Why>(Ok(bytes(body))).and_then(Why::reason)),
                json!(["/reason"]),
                "{body}"
            );
        }
        assert_eq!(places(required::<Why>(Ok(bytes("{")))), json!(400));
        for body in ["1", r#"{"why": "x"}"#, r#"{"reason": 1}"#] {
            assert_eq!(places(required::<Why>(Ok(bytes(body)))), json!([""]), "{body}");
        }
        let just = json!({"reason": "ж".repeat(500)}).to_string();
        assert!(required::<Why>(Ok(bytes(&just))).and_then(Why::reason).is_ok());
        assert_eq!(optional(Ok(bytes(""))).ok(), Some(None), "as it always could");
        assert_eq!(places(optional(Ok(bytes("{}")))), json!(["/reason"]));
        assert_eq!(
            places(required::<Restart>(Ok(bytes("{}"))).and_then(Restart::read)),
            json!(["/reason", "/stage"])
        );
    }
}
