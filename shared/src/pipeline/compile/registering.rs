//! Which success means that a receipt is registered, and what may still be reissued then. A pipeline may register at several
//! destinations, one after the other.

use crate::pipeline::mistakes::Found;
use crate::pipeline::request::Then;
use crate::pipeline::{Effect, Request, Stage, Unknown};

/// Tells every request of a pipeline what the others say about registering.
pub(super) fn tell(stages: &mut [Stage], found: &mut Found) {
    success(stages);
    one_at_a_time(stages, found);
    let apart: Vec<Vec<bool>> = (0..stages.len())
        .map(|at| (0..stages[at].requests.len()).map(|n| apart(stages, at, n)).collect())
        .collect();
    for (stage, apart) in stages.iter_mut().zip(apart) {
        for (request, apart) in stage.requests.iter_mut().zip(apart) {
            request.reissues_apart = apart;
        }
    }
}

/// The success of the request that registers says it, unless a rule about its destination does, or one about a service.
fn success(stages: &mut [Stage]) {
    let mut said: Vec<Option<String>> = Vec::new();
    for stage in &*stages {
        if stage.requests.iter().any(has_rule) {
            said.push(stage.destination().map(str::to_owned));
        }
    }
    for stage in stages {
        let is_said = said
            .iter()
            .any(|by| by.is_none() || by.as_deref() == stage.destination());
        for request in &mut stage.requests {
            request.success_registers = !is_said && request.effect == Effect::Registers;
            if let Unknown::Lookup(lookup) = &mut request.unknown {
                lookup.request.success_registers = request.success_registers;
            }
        }
    }
}

/// A receipt has one standing: what became of one registration is said before the next one begins.
fn one_at_a_time(stages: &[Stage], found: &mut Found) {
    for (at, stage) in stages.iter().enumerate() {
        let Some(first) = stage.registers().filter(|request| !request.success_registers) else {
            continue;
        };
        let later = &stages[at + 1..];
        let is_about = |by: &Stage| by.destination().is_none() || by.destination() == stage.destination();
        let Some(told) = later
            .iter()
            .position(|by| is_about(by) && by.requests.iter().any(has_rule))
        else {
            continue;
        };
        for between in &later[..told] {
            if let Some(second) = between.registers() {
                let (by, of) = (&later[told].name, format!("{}.{}", stage.name, first.name));
                let place = format!("{}.{}", between.name, second.name);
                found.add(&place, format!("it registers before `{by}` says what became of {of}"));
            }
        }
    }
}

/// Whether what the `n`th request of a stage reissues has nothing to do with what is registered by then: that was said by stages
/// before the one it goes back to, and by nobody since.
fn apart(stages: &[Stage], at: usize, n: usize) -> bool {
    let request = &stages[at].requests[n];
    let back = request.rules.iter().filter_map(|rule| match rule.then {
        Then::Reissue(stage) => Some(stage),
        _ => None,
    });
    let Some(back) = back.min() else { return false };
    let last = n + 1 == stages[at].requests.len();
    let said = |stage: &Stage| stage.requests.iter().any(says);
    last && stages[..back].iter().any(said)
        && !stages[back..at].iter().any(said)
        && !stages[at].requests[..n].iter().any(says)
}

fn says(request: &Request) -> bool {
    request.success_registers || has_rule(request)
}

fn has_rule(request: &Request) -> bool {
    request.rules.iter().any(|rule| rule.registered)
}

#[cfg(test)]
mod tests {
    use crate::pipeline::{Pipeline, Source};

    const TWO: &str = r#"
        name = "two"
        stages = ["a", "confirm_a", "b", "confirm_b", "again"]
        [a.send]
        destination = "a"
        post = "/"
        [confirm_a.ask]
        destination = "a"
        get = "/"
        on = [{ status = 200, then = "success", registered = true }, { status = 524, then = "reissue", stage = "a" }]
        [b.send]
        destination = "b"
        post = "/"
        [confirm_b.ask]
        destination = "b"
        get = "/"
        on = [{ status = 200, then = "success", registered = true }, { status = 524, then = "reissue", stage = "b" }]
        [again.ask]
        destination = "b"
        get = "/"
        on = [{ status = 524, then = "reissue", stage = "b" }]
    "#;

    fn compile(toml: &str) -> Pipeline {
        let source = Source {
            toml: toml.to_owned(),
            files: [].into(),
            unread: [].into(),
        };
        Pipeline::compile(source).unwrap_or_else(|mistakes| panic!("{mistakes}"))
    }

    #[test]
    fn what_is_registered_elsewhere_keeps_nothing_from_being_reissued() {
        let pipeline = compile(TWO);
        let apart: Vec<_> = pipeline
            .stages
            .iter()
            .map(|stage| stage.requests[0].reissues_apart())
            .collect();
        assert_eq!(apart, [false, false, false, true, false]);
    }

    #[test]
    fn one_registration_is_known_before_the_next_begins() {
        let wrong = TWO.replace("\"confirm_a\", \"b\"", "\"b\", \"confirm_a\"");
        let source = Source {
            toml: wrong,
            files: [].into(),
            unread: [].into(),
        };
        let mistakes = Pipeline::compile(source).err().unwrap();
        let text = mistakes.to_string();
        assert!(
            text.contains("b.send: it registers before `confirm_a` says what became of a.send"),
            "{text}"
        );
    }

    #[test]
    fn each_destination_says_for_itself_what_is_registered() {
        let silent = TWO.replace("{ status = 200, then = \"success\", registered = true }, { status = 524, then = \"reissue\", stage = \"b\" }", "{ status = 202, then = \"poll\" }");
        let registers = |toml: &str| -> Vec<bool> {
            let pipeline = compile(toml);
            pipeline
                .stages
                .iter()
                .map(|stage| stage.requests[0].success_registers())
                .collect()
        };
        assert_eq!(registers(TWO), [false; 5]);
        assert_eq!(registers(&silent), [false, false, true, false, false]);
    }
}
