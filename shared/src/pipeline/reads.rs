//! Which members of its input a filter looks at: the rest need not be put together for it.
//!
//! Told from the filter's syntax alone. Where its input as a whole may go anywhere (`.`, `keys`, `if` without `else`, …) it
//! reads all of it.

use std::collections::BTreeSet;

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Pattern, Term};
use jaq_core::path::{Part, Path};

/// The members of the input that a filter reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reads {
    /// Any.
    All,
    /// These and no other.
    Only(BTreeSet<String>),
}

impl Reads {
    /// What `term` reads of its input.
    pub(super) fn of(term: &Term<&str>) -> Self {
        let mut members = BTreeSet::new();
        match read(term, &mut members) {
            Some(()) => Self::Only(members),
            None => Self::All,
        }
    }

    /// Whether it reads `member`.
    pub(super) fn has(&self, member: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(members) => members.contains(member),
        }
    }
}

/// Adds what a term whose input is the filter's own reads of it; `None` when that may be anything.
fn read(term: &Term<&str>, members: &mut BTreeSet<String>) -> Option<()> {
    let mut all = |terms: &[&Term<&str>]| terms.iter().try_for_each(|term| read(term, members));
    match term {
        Term::Num(_) | Term::Var(_) | Term::Break(_) | Term::Arr(None) => Some(()),
        Term::Str(_, parts) => parts.iter().try_for_each(|part| match part {
            StrPart::Term(term) => all(&[term]),
            StrPart::Str(_) | StrPart::Char(_) => Some(()),
        }),
        Term::Arr(Some(inner)) | Term::Neg(inner) | Term::Label(_, inner) | Term::TryCatch(inner, None) => {
            all(&[inner])
        }
        Term::Obj(pairs) => pairs.iter().try_for_each(|(key, value)| match (key, value) {
            // `{$x}`; `{a}` stands for `{a: .a}`, and is left to whoever puts everything together.
            (Term::Var(_), None) => Some(()),
            (_, None) => None,
            (key, Some(value)) => all(&[key, value]),
        }),
        // What is behind the pipe sees what comes out of the front.
        Term::BinOp(front, BinaryOp::Pipe(None), _) => all(&[front]),
        Term::BinOp(bound, BinaryOp::Pipe(Some(Pattern::Var(_))), rest) => all(&[bound, rest]),
        Term::BinOp(
            left,
            BinaryOp::Comma | BinaryOp::Alt | BinaryOp::Or | BinaryOp::And | BinaryOp::Math(_) | BinaryOp::Cmp(_),
            right,
        ) => all(&[left, right]),
        Term::IfThenElse(branches, Some(otherwise)) => {
            let mut branches = branches.iter();
            branches.try_for_each(|(condition, then)| all(&[condition, then]))?;
            all(&[otherwise])
        }
        Term::Path(of, Path(parts)) => {
            let mut rest = parts.iter().map(|(part, _)| part);
            if matches!(**of, Term::Id) {
                let Some(Part::Index(name)) = rest.next() else {
                    return None;
                };
                members.insert(constant(name)?.to_owned());
            } else {
                all(&[of])?;
            }
            rest.try_for_each(|part| match part {
                Part::Index(index) => read(index, members),
                Part::Range(from, to) => [from, to]
                    .into_iter()
                    .flatten()
                    .try_for_each(|term| read(term, members)),
            })
        }
        _ => None,
    }
}

fn constant<'a>(term: &Term<&'a str>) -> Option<&'a str> {
    match term {
        Term::Str(None, parts) => match parts.as_slice() {
            [StrPart::Str(text)] => Some(text),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::filter::Filter;

    fn reads(text: &str) -> Reads {
        Filter::compile(text).unwrap().reads().clone()
    }

    #[test]
    fn members_that_are_named_are_read_and_no_other() {
        for (text, members) in [
            (".body.payload", vec!["body"]),
            (".body.status == \"wait\" and .status != 200", vec!["body", "status"]),
            ("{uuid: .body.uuid, (.call.id): 1}", vec!["body", "call"]),
            (
                ".receipt as $r | {n: $r.n, $r, s: \"\\(.call.id)\"}",
                vec!["call", "receipt"],
            ),
            (".receipt.items[.vars.n] | keys", vec!["receipt", "vars"]),
            ("[.receipt.items[] | if .a then . else .b end]", vec!["receipt"]),
            ("if .status == 1 then .body else 0 end", vec!["body", "status"]),
            ("(.body.a? // .item) | ..", vec!["body", "item"]),
            ("1", vec![]),
        ] {
            let members = members.into_iter().map(str::to_owned).collect();
            assert_eq!(reads(text), Reads::Only(members), "{text}");
        }
    }

    #[test]
    fn what_may_read_anything_reads_all() {
        for text in [
            ".",
            "keys",
            "..",
            ".[]",
            ".[\"a\" + \"b\"]",
            ". as $all | $all.body",
            "{body}",
            "if .status == 1 then .body end",
            ".body |= 1",
            "select(.status == 200) | .body",
            ". as {$body} | $body",
            "try error catch .",
            "reduce .body[] as $x (.; 1)",
        ] {
            assert_eq!(reads(text), Reads::All, "{text}");
        }
    }
}
