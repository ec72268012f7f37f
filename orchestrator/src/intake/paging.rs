//! Pages of what is shown the newest first: how long one is, and where the next begins.

use axum::http::StatusCode;

use super::Problem;

/// Entries of a page: so many at most, and as long as nobody says how many.
const MOST: i64 = 1000;
const USUAL: i64 = 100;

/// How many entries a page has.
///
/// # Errors
/// 400 for what is no such number.
pub fn limit(given: Option<i64>) -> Result<i64, Problem> {
    let limit = given.unwrap_or(USUAL);
    if (1..=MOST).contains(&limit) {
        Ok(limit)
    } else {
        let detail = format!("limit: 1 to {MOST}");
        Err(Problem::new(StatusCode::BAD_REQUEST, detail))
    }
}

/// Where the next page begins; `None`: this one came to the end.
pub fn next<T, Id>(found: &[T], limit: i64, id: impl Fn(&T) -> Id) -> Option<Id> {
    let is_full = i64::try_from(found.len()).is_ok_and(|count| count == limit);
    found.last().filter(|_| is_full).map(id)
}
