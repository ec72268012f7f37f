//! The table of default outcomes, and what a receipt's standing makes of them.

use proptest::prelude::*;

use super::*;

fn answered(status: u16, body: &'static str) -> Exchange {
    Exchange::Answered {
        status,
        headers: HeaderMap::new(),
        body: Bytes::from_static(body.as_bytes()),
        complete: true,
    }
}

fn broken_off(status: u16) -> Exchange {
    Exchange::Answered {
        status,
        headers: HeaderMap::new(),
        body: Bytes::new(),
        complete: false,
    }
}

fn judged(effect: Effect, exchange: &Exchange) -> Verdict {
    let readable = match exchange {
        Exchange::Answered { body, complete, .. } => *complete && (body.is_empty() || body.starts_with(b"{")),
        _ => false,
    };
    default_verdict(effect, exchange, readable)
}

#[test]
fn the_table_of_default_outcomes() {
    for effect in [Effect::Read, Effect::Idempotent, Effect::Registers] {
        let lost = if effect == Effect::Registers {
            "unknown"
        } else {
            "retry"
        };
        let rows = [
            (answered(200, "{}"), "success"),
            (answered(204, ""), "success"),
            (answered(200, "<html>"), lost),
            (broken_off(200), lost),
            (broken_off(400), lost),
            (broken_off(503), "retry"),
            (Exchange::NotSent { error: String::new() }, "retry"),
            (Exchange::Lost { error: String::new() }, lost),
            (answered(425, ""), "retry"),
            (answered(429, ""), "retry"),
            (answered(503, ""), "retry"),
            (answered(408, ""), lost),
            (answered(500, ""), lost),
            (answered(502, "<html>"), lost),
            (answered(401, ""), "retry"),
            (answered(400, ""), "reject"),
            (answered(422, ""), "reject"),
        ];
        for (exchange, expected) in rows {
            assert_eq!(judged(effect, &exchange).name(), expected, "{effect:?} {exchange:?}");
        }
        for status in [100, 301, 404, 409, 418] {
            assert!(
                matches!(judged(effect, &answered(status, "")), Verdict::Undeclared { .. }),
                "{status}"
            );
        }
    }
}

#[test]
fn retry_after_is_seconds_or_a_date_and_bounded() {
    let after = |text: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("date", "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap());
        headers.insert("retry-after", text.parse().unwrap());
        retry_after(&headers).map(|wait| wait.as_secs())
    };
    assert_eq!(after("20"), Some(20));
    assert_eq!(after("0"), Some(1));
    assert_eq!(after("99999999999999999999999"), Some(3600));
    assert_eq!(after("Sun, 06 Nov 1994 08:50:37 GMT"), Some(60));
    assert_eq!(after("Sun, 06 Nov 1994 07:00:00 GMT"), Some(1));
    for garbage in ["-5", "soon", "1.5", ""] {
        assert_eq!(after(garbage), None, "{garbage}");
    }
}

fn any_effect() -> impl Strategy<Value = Effect> {
    prop_oneof![Just(Effect::Read), Just(Effect::Idempotent), Just(Effect::Registers)]
}

#[test]
fn only_what_was_read_resolves_an_unresolved_call() {
    let reject = |declared| Verdict::Reject {
        reason: String::new(),
        declared,
    };
    let reissue = || Verdict::Reissue {
        stage: 0,
        reason: String::new(),
    };
    for (verdict, effect, expected) in [
        (reject(true), Effect::Read, "reject"),
        (reject(false), Effect::Read, "park"),
        (reject(true), Effect::Registers, "park"),
        (reissue(), Effect::Read, "reissue"),
        (reissue(), Effect::Registers, "park"),
    ] {
        assert_eq!(constrain(verdict.clone(), effect, true, false, 0).name(), expected);
        assert_eq!(constrain(verdict, effect, true, true, 0).name(), "park");
    }
}

proptest! {
    #[test]
    fn nothing_is_rejected_while_unresolved_or_once_registered(
        status in 100u16..=599, effect in any_effect(), unresolved: bool, registered: bool, before in 0u32..5, complete: bool,
    ) {
        let exchange = Exchange::Answered { status, headers: HeaderMap::new(), body: Bytes::from_static(b"{}"), complete };
        let verdict = constrain(judged(effect, &exchange), effect, unresolved, registered, before);
        let rejected = matches!(verdict, Verdict::Reject { .. } | Verdict::Reissue { .. });
        prop_assert!(!(rejected && (unresolved || registered)));
        let success = matches!(verdict, Verdict::Success { .. });
        prop_assert!(!success || (200..300).contains(&status) && complete);
    }

    #[test]
    fn what_was_sent_and_not_answered_is_never_a_plain_retry_for_a_request_that_registers(status in 500u16..=599) {
        let verdict = judged(Effect::Registers, &answered(status, "{}"));
        prop_assert_eq!(matches!(verdict, Verdict::Unknown { .. }), status != 503);
    }
}
