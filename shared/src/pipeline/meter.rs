//! The limits of a filter: words that reach outside or recurse are refused when it is read, and whatever it repeats is
//! counted while it runs.
//!
//! jq without `def` repeats itself only by what yields several outputs: calls (`range(…)`), iterations (`.[]`) and `..`.
//! Each of them is followed by a step of the meter, so that a filter ends after so many steps or so much time, however
//! its loops are nested. What the meter does not see is the size of one value, such as a string multiplied.

use std::cell::Cell;
use std::time::{Duration, Instant};

use jaq_core::load::parse::{BinaryOp, Def, Pattern, Term};
use jaq_core::path::{Part, Path};
use jaq_core::{Bind, Ctx, DataT, Error, Exn, Lut, Native, data, native};
use jaq_json::Val;

use super::native::Natives;

/// The most outputs that calls and iterations of one run may yield together.
const STEPS: u32 = 250_000;
/// How long one run may take: steps that take this long together do something enormous each.
const TIME: Duration = Duration::from_secs(5);
/// How many steps pass between two looks at the clock.
const GLANCE: u32 = 256;
/// The most that counts between two looks: a process that was paused, or had to wait for a processor, did not work.
const WORKED: Duration = Duration::from_millis(200);
/// The whole filter's name among its definitions; refused inside it, for it would be a recursion.
pub(super) const WHOLE: &str = "whole_filter";
/// The meter's own name among the filters: no identifier of jq's can be spelled so.
const STEP: &str = "!step";

/// What reaches outside, recurses, or repeats inside itself where no step is counted.
const REFUSED: [&str; 20] = [
    "now",
    "env",
    "input",
    "inputs",
    "debug",
    "debug_empty",
    "stderr",
    "stderr_empty",
    "halt",
    "halt_error",
    "input_filename",
    "input_line_number",
    "repeat",
    "while",
    "until",
    "recurse",
    "combinations",
    "localtime",
    "strflocaltime",
    WHOLE,
];

/// The steps of one run.
#[derive(Debug)]
pub(super) struct Meter {
    steps: Cell<u32>,
    glanced: Cell<Instant>,
    worked: Cell<Duration>,
    spent: Cell<bool>,
}

/// What compiled filters run with: their table, their native filters, and the meter of the run.
pub(super) struct Metered;

#[derive(Clone)]
pub(super) struct Run<'a> {
    pub(super) lut: &'a Lut<Metered>,
    pub(super) meter: &'a Meter,
    pub(super) natives: &'a Natives,
}

impl DataT for Metered {
    type V<'a> = Val;
    type Data<'a> = Run<'a>;
}

impl<'a> data::HasLut<'a, Metered> for Run<'a> {
    fn lut(&self) -> &'a Lut<Metered> {
        self.lut
    }
}

impl Meter {
    pub(super) fn start() -> Self {
        Self {
            steps: Cell::new(0),
            glanced: Cell::new(Instant::now()),
            worked: Cell::new(Duration::ZERO),
            spent: Cell::new(false),
        }
    }

    /// Whether the run went over its limits: whatever it came to then counts for nothing, also where it caught the error.
    pub(super) fn is_spent(&self) -> bool {
        self.spent.get()
    }

    /// Counts one more.
    ///
    /// # Errors
    /// When that is too many, or all of them took too long.
    pub(super) fn step(&self) -> Result<(), Error<Val>> {
        let steps = self.steps.get() + 1;
        self.steps.set(steps.min(STEPS));
        if steps >= STEPS || (steps.is_multiple_of(GLANCE) && self.glance(Instant::now()) > TIME) {
            self.spent.set(true);
        }
        if self.is_spent() {
            return Err(Error::str("too many steps"));
        }
        Ok(())
    }

    /// How long it has worked.
    fn glance(&self, now: Instant) -> Duration {
        let since = now.saturating_duration_since(self.glanced.replace(now));
        self.worked.set(self.worked.get() + since.min(WORKED));
        self.worked.get()
    }
}

/// The filter that counts a step: it passes on what it gets, also as a path and in an update.
pub(super) fn funs() -> native::Fun<Metered> {
    fn passes(ctx: &Ctx<'_, Metered>) -> Result<(), Exn<'static, Val>> {
        ctx.data().meter.step().map_err(Exn::from)
    }
    let run = Native::new(|(ctx, value)| Box::new(std::iter::once(passes(&ctx).map(|()| value))))
        .with_paths(|(ctx, at)| Box::new(std::iter::once(passes(&ctx).map(|()| at))))
        .with_update(|(ctx, value), update| match passes(&ctx) {
            Ok(()) => update(value),
            Err(error) => Box::new(std::iter::once(Err(error))),
        });
    (STEP, Box::<[Bind]>::from([]), run)
}

/// The term with a step after whatever yields several outputs, and what can be native as a call of it.
///
/// # Errors
/// The word that is refused.
pub(super) fn metered<'s>(term: Term<&'s str>, natives: &mut Natives) -> Result<Term<&'s str>, &'s str> {
    if let Some(call) = natives.plain(&term)? {
        return Ok(call);
    }
    Ok(match term {
        Term::Var("$ENV" | "$__prog_args") => return Err("$ENV"),
        Term::Id | Term::Num(_) | Term::Break(_) | Term::Var(_) => term,
        Term::Recurse => counted(Term::Recurse),
        Term::Str(format, parts) => {
            let mut metered_parts = Vec::with_capacity(parts.len());
            for part in parts {
                metered_parts.push(match part {
                    jaq_core::load::lex::StrPart::Term(term) => {
                        jaq_core::load::lex::StrPart::Term(metered(term, natives)?)
                    }
                    plain => plain,
                });
            }
            Term::Str(format, metered_parts)
        }
        Term::Arr(inner) => Term::Arr(inner.map(|term| boxed(*term, natives)).transpose()?),
        Term::Obj(members) => natives.object(members)?,
        Term::Neg(inner) => Term::Neg(boxed(*inner, natives)?),
        Term::BinOp(left, operator, right) => {
            let operator = match operator {
                BinaryOp::Pipe(pattern) => BinaryOp::Pipe(pattern.map(|pattern| bound(pattern, natives)).transpose()?),
                plain => plain,
            };
            Term::BinOp(boxed(*left, natives)?, operator, boxed(*right, natives)?)
        }
        Term::Label(name, inner) => Term::Label(name, boxed(*inner, natives)?),
        Term::Fold(kind, over, pattern, rest) => Term::Fold(
            kind,
            boxed(*over, natives)?,
            bound(pattern, natives)?,
            rest.into_iter()
                .map(|term| metered(term, natives))
                .collect::<Result<_, _>>()?,
        ),
        Term::TryCatch(inner, catch) => Term::TryCatch(
            boxed(*inner, natives)?,
            catch.map(|term| boxed(*term, natives)).transpose()?,
        ),
        Term::IfThenElse(branches, otherwise) => {
            let mut metered_branches = Vec::with_capacity(branches.len());
            for (condition, then) in branches {
                metered_branches.push((metered(condition, natives)?, metered(then, natives)?));
            }
            Term::IfThenElse(
                metered_branches,
                otherwise.map(|term| boxed(*term, natives)).transpose()?,
            )
        }
        Term::Def(..) => return Err("def"),
        Term::Call(name, _) if REFUSED.contains(&name) => return Err(name),
        Term::Call(name, arguments) => counted(Term::Call(
            name,
            arguments
                .into_iter()
                .map(|term| metered(term, natives))
                .collect::<Result<_, _>>()?,
        )),
        Term::Path(of, Path(parts)) => {
            let iterates = parts.iter().any(|(part, _)| matches!(part, Part::Range(..)));
            let mut metered_parts = Vec::with_capacity(parts.len());
            for (part, optional) in parts {
                let part = match part {
                    Part::Index(index) => Part::Index(metered(index, natives)?),
                    Part::Range(from, to) => Part::Range(
                        from.map(|term| metered(term, natives)).transpose()?,
                        to.map(|term| metered(term, natives)).transpose()?,
                    ),
                };
                metered_parts.push((part, optional));
            }
            let path = Term::Path(boxed(*of, natives)?, Path(metered_parts));
            if iterates { counted(path) } else { path }
        }
    })
}

fn boxed<'s>(term: Term<&'s str>, natives: &mut Natives) -> Result<Box<Term<&'s str>>, &'s str> {
    metered(term, natives).map(Box::new)
}

fn counted(term: Term<&str>) -> Term<&str> {
    Term::BinOp(
        Box::new(term),
        BinaryOp::Pipe(None),
        Box::new(Term::Call(STEP, Vec::new())),
    )
}

fn bound<'s>(pattern: Pattern<&'s str>, natives: &mut Natives) -> Result<Pattern<&'s str>, &'s str> {
    Ok(match pattern {
        Pattern::Var(name) => Pattern::Var(name),
        Pattern::Arr(inner) => Pattern::Arr(
            inner
                .into_iter()
                .map(|pattern| bound(pattern, natives))
                .collect::<Result<_, _>>()?,
        ),
        Pattern::Obj(members) => {
            let mut bound_members = Vec::with_capacity(members.len());
            for (key, inner) in members {
                bound_members.push((metered(key, natives)?, bound(inner, natives)?));
            }
            Pattern::Obj(bound_members)
        }
    })
}

/// A definition of the whole filter under `name`, to be put before what calls it.
pub(super) fn definition<'a>(name: &'a str, body: Term<&'a str>) -> Def<&'a str> {
    Def {
        name,
        args: Vec::new(),
        body,
    }
}

/// A definition of the library, as one that lives as long as a filter's text.
pub(super) fn shorter<'a>(definition: Def<&'static str>) -> Def<&'a str> {
    definition
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_no_work() {
        let meter = Meter::start();
        let begun = meter.glanced.get();
        assert!(meter.glance(begun + Duration::from_mins(1)) <= WORKED);
        let mut now = begun + Duration::from_mins(1);
        for _ in 0..100 {
            now += Duration::from_millis(100);
            meter.glance(now);
        }
        assert!(meter.worked.get() > TIME, "slow steps add up: {:?}", meter.worked.get());
    }
}
