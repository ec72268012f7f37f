//! Stages that are passed over: what is not for a receipt must not cost it a turn at a destination that may hang.

use crate::pipeline::{Pipeline, Stage, Subject};

/// The first stage from `position` on whose `when` holds, or the end. One that cannot be told is not passed over: its attempt
/// parks the receipt, with the reason.
#[must_use]
pub(super) fn first_of(pipeline: &Pipeline, position: usize, subject: &Subject) -> usize {
    let rest = pipeline.stages.iter().skip(position);
    position + rest.take_while(|stage| is_passed_over(stage, subject)).count()
}

/// Whether a stage is not for a receipt. An orchestrator passes over it, wherever it goes: no call is made.
#[must_use]
pub fn is_passed_over(stage: &Stage, subject: &Subject) -> bool {
    matches!(stage.runs(subject), Ok(false))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::pipeline::Source;

    const PIPELINE: &str = r#"
        name = "two"
        stages = ["number", "orange", "fiscal", "notify"]
        [number.send]
        service = "numbers"
        post = "/"
        [orange]
        when = '.receipt.total > 100'
        [orange.send]
        destination = "orange"
        post = "/"
        [fiscal]
        when = '.results.number.send.fiscal'
        [fiscal.send]
        destination = "fiscal"
        post = "/"
        [notify]
        when = '.receipt.total | error'
        [notify.send]
        service = "numbers"
        post = "/"
    "#;

    fn next(total: u32, fiscal: bool, position: usize) -> usize {
        let source = Source {
            toml: PIPELINE.to_owned(),
            files: BTreeMap::new(),
            unread: BTreeMap::new(),
        };
        let pipeline = Pipeline::compile(source).unwrap();
        let result = format!("{{\"send\": {{\"fiscal\": {fiscal}}}}}");
        let subject = Subject::new(
            Arc::from(format!("{{\"total\": {total}}}")),
            vec![("number".to_owned(), result)],
        );
        first_of(&pipeline, position, &subject)
    }

    #[test]
    fn stages_that_are_not_for_a_receipt_are_passed_over() {
        assert_eq!(next(200, true, 1), 1);
        assert_eq!(next(50, true, 1), 2);
        assert_eq!(next(50, false, 1), 3, "what cannot be told is looked at by its attempt");
        assert_eq!(next(50, false, 4), 4);
    }
}
