//! Why a receipt waits, as a sentence for a person.

use shared::store::read::View;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The sentence; `None` where nothing waits and nothing was said. `shut`: why nothing goes to its destination now.
pub fn reason(view: &View, shut: Option<String>) -> Option<String> {
    let destination = view.destination.as_deref().unwrap_or_default();
    let waits_for = match view.state.as_str() {
        "waiting" if view.waits_for.is_some() => "waiting for it to end".to_owned(),
        "waiting" | "queued" if shut.is_some() => shut.unwrap_or_default(),
        "waiting" => match view.due_at {
            Some(due) if due <= OffsetDateTime::now_utc() => "due now".to_owned(),
            Some(due) => format!("next attempt at {}", due.format(&Rfc3339).unwrap_or_default()),
            None => format!("waiting to be handed off to {destination}"),
        },
        "queued" => format!("handed off to {destination}, waiting for its turn"),
        "parked" => "waiting for a person".to_owned(),
        _ => return view.reason.clone(),
    };
    Some(match &view.reason {
        Some(reason) => format!("{reason}; {waits_for}"),
        None => waits_for,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use uuid::Uuid;

    use super::*;

    pub fn view(state: &str, reason: Option<&str>, due_at: Option<OffsetDateTime>) -> View {
        View {
            id: Uuid::nil(),
            merchant: String::new(),
            external_id: String::new(),
            pipeline: String::new(),
            content: String::new(),
            traceparent: String::new(),
            deadline: None,
            accepted_at: OffsetDateTime::UNIX_EPOCH,
            state: state.to_owned(),
            position: None,
            last_stage: None,
            destination: Some("fiscal".to_owned()),
            reason: reason.map(str::to_owned),
            waits_for: None,
            due_at,
            moved_at: None,
            limit_key: None,
            unresolved: false,
            registered: false,
            finished_at: None,
        }
    }

    #[test]
    fn every_state_that_waits_says_for_what() {
        let later = time::macros::datetime!(2999-01-01 12:00 UTC);
        let past = OffsetDateTime::UNIX_EPOCH;
        for (state, said, due_at, expected) in [
            (
                "waiting",
                Some("tax answered 503"),
                Some(later),
                "tax answered 503; next attempt at 2999-01-01T12:00:00Z",
            ),
            ("waiting", None, Some(past), "due now"),
            ("waiting", None, None, "waiting to be handed off to fiscal"),
            ("queued", None, None, "handed off to fiscal, waiting for its turn"),
            ("parked", Some("why"), None, "why; waiting for a person"),
            ("rejected", Some("why"), None, "why"),
        ] {
            assert_eq!(
                reason(&view(state, said, due_at), None).as_deref(),
                Some(expected),
                "{state}"
            );
        }
        assert_eq!(reason(&view("registered", None, None), None), None);
        let refund = View {
            waits_for: Some(Uuid::nil()),
            ..view("waiting", Some("its original is not registered yet"), None)
        };
        assert_eq!(
            reason(&refund, Some("fiscal is paused".to_owned())).as_deref(),
            Some("its original is not registered yet; waiting for it to end")
        );
        let shut = Some("fiscal is paused".to_owned());
        assert_eq!(
            reason(&view("queued", Some("why"), None), shut).as_deref(),
            Some("why; fiscal is paused")
        );
    }
}
