//! Terms that yield one output and need no interpreter for it: constants, paths of constant names and slices from the
//! input or from a variable, and what is put together of such. A step of a path makes half a dozen iterators in jaq, and
//! the body of a call is made of little else. What a term means stays jaq's: the same functions of the same values.

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Term};
use jaq_core::ops::{Cmp, Math};
use jaq_core::path::{Opt, Part, Path};
use jaq_core::{Error, ValR, ValT};
use jaq_json::{Map, Val};

use super::meter::Meter;
use super::subject::text;

/// Such a term.
#[derive(Debug)]
pub(super) enum Plain {
    Constant(Val),
    Path(Origin, Vec<Step>),
    Object(Vec<(Val, Plain)>),
    /// A text with places in it.
    Text(Vec<Plain>),
    /// `a + b`
    Sum(Box<[Plain; 2]>),
    /// `a == b`
    Same(Box<[Plain; 2]>),
    /// `if a then b else c end`
    Choice(Box<[Plain; 3]>),
    /// `a | b`
    Pipe(Box<[Plain; 2]>),
    /// `[a[] | b]`
    Each(Box<[Plain; 2]>),
}

/// Where a path begins.
#[derive(Debug)]
pub(super) enum Origin {
    Input,
    /// By its place among the variables.
    Variable(usize),
}

#[derive(Debug)]
pub(super) enum Step {
    Index(Val),
    Slice(Option<Val>, Option<Val>),
}

/// The variables that terms need, in the order in which they are to be given.
pub(super) type Variables<'s> = Vec<&'s str>;

impl Plain {
    /// The term, if it is such a one and needs no variables: a whole filter.
    pub(super) fn alone(term: &Term<&str>) -> Option<Self> {
        let mut variables = Variables::new();
        Self::of(term, &mut variables).filter(|_| variables.is_empty())
    }

    /// The term, if it is such a one; what it needs is added to `variables`.
    pub(super) fn of<'s>(term: &Term<&'s str>, variables: &mut Variables<'s>) -> Option<Self> {
        let mut of = |term: &Term<&'s str>| Self::of(term, variables);
        Some(match term {
            Term::Id | Term::Var(_) => Self::path(term, &[], variables)?,
            Term::Path(origin, Path(parts)) => Self::path(origin, parts, variables)?,
            Term::Num(_) => Self::Constant(constant(term)?),
            Term::Str(None, parts) => match constant(term) {
                Some(text) => Self::Constant(text),
                None => Self::Text(
                    parts
                        .iter()
                        .map(|part| Self::part(part, variables))
                        .collect::<Option<_>>()?,
                ),
            },
            Term::Obj(members) => {
                let mut member = |(key, value): &(Term<&'s str>, Option<Term<&'s str>>)| {
                    let name = name(key, value.as_ref())?;
                    Some((text(name), Self::member(name, key, value.as_ref(), variables)?))
                };
                Self::Object(members.iter().map(&mut member).collect::<Option<_>>()?)
            }
            Term::BinOp(left, BinaryOp::Math(Math::Add), right) => Self::Sum(Box::new([of(left)?, of(right)?])),
            Term::BinOp(left, BinaryOp::Cmp(Cmp::Eq), right) => Self::Same(Box::new([of(left)?, of(right)?])),
            Term::BinOp(front, BinaryOp::Pipe(None), rest) => Self::Pipe(Box::new([of(front)?, of(rest)?])),
            Term::IfThenElse(branches, Some(otherwise)) => {
                let [(condition, then)] = branches.as_slice() else {
                    return None;
                };
                Self::Choice(Box::new([of(condition)?, of(then)?, of(otherwise)?]))
            }
            Term::Arr(Some(inner)) => {
                let Term::BinOp(over, BinaryOp::Pipe(None), each) = &**inner else {
                    return None;
                };
                let Term::Path(origin, Path(parts)) = &**over else {
                    return None;
                };
                let ((Part::Range(None, None), Opt::Essential), parts) = parts.split_last()? else {
                    return None;
                };
                let over = Self::path(origin, parts, variables)?;
                Self::Each(Box::new([over, Self::of(each, variables)?]))
            }
            _ => return None,
        })
    }

    /// What a member of this name holds: `{a: …}`, `{a}`, `{$a}`.
    pub(super) fn member<'s>(
        name: &str,
        key: &Term<&'s str>,
        value: Option<&Term<&'s str>>,
        variables: &mut Variables<'s>,
    ) -> Option<Self> {
        match (key, value) {
            (_, Some(value)) => Self::of(value, variables),
            (Term::Var(_), None) => Self::of(key, variables),
            (_, None) => Some(Self::Path(Origin::Input, vec![Step::Index(text(name))])),
        }
    }

    fn path<'s>(
        origin: &Term<&'s str>,
        parts: &[(Part<Term<&'s str>>, Opt)],
        variables: &mut Variables<'s>,
    ) -> Option<Self> {
        let steps = parts.iter().map(step).collect::<Option<_>>()?;
        let origin = match origin {
            Term::Id => Origin::Input,
            Term::Var(name) => {
                Origin::Variable(variables.iter().position(|known| known == name).unwrap_or_else(|| {
                    variables.push(name);
                    variables.len() - 1
                }))
            }
            _ => return None,
        };
        Some(Self::Path(origin, steps))
    }

    fn part<'s>(part: &StrPart<&'s str, Term<&'s str>>, variables: &mut Variables<'s>) -> Option<Self> {
        match part {
            StrPart::Str(part) => Some(Self::Constant(text(part))),
            StrPart::Char(part) => Some(Self::Constant(Val::from(part.to_string()))),
            StrPart::Term(term) => Self::of(term, variables),
        }
    }

    /// Whether its output is made here, and so part of nothing: anything else may stand where jq asks for a path.
    pub(super) fn makes(&self) -> bool {
        match self {
            Self::Constant(_) | Self::Path(..) => false,
            Self::Object(_) | Self::Text(_) | Self::Sum(_) | Self::Same(_) | Self::Each(_) => true,
            Self::Choice(parts) => parts[1].makes() && parts[2].makes(),
            Self::Pipe(parts) => parts[1].makes(),
        }
    }

    /// Its output.
    ///
    /// # Errors
    /// jq's own, and those of the meter.
    pub(super) fn run(&self, input: &Val, variables: &[Val], meter: &Meter) -> ValR<Val> {
        let run = |part: &Self| part.run(input, variables, meter);
        match self {
            Self::Constant(value) => Ok(value.clone()),
            Self::Path(origin, steps) => {
                let origin = match origin {
                    Origin::Input => input,
                    Origin::Variable(place) => &variables[*place],
                };
                steps.iter().try_fold(origin.clone(), |value, step| match step {
                    Step::Index(index) => value.index(index),
                    Step::Slice(from, to) => value.range(from.as_ref()..to.as_ref()),
                })
            }
            Self::Object(members) => {
                let mut object = Map::default();
                object.reserve(members.len());
                for (name, value) in members {
                    object.insert(name.clone(), run(value)?);
                }
                Ok(Val::obj(object))
            }
            Self::Text(parts) => {
                let mut joined = Vec::new();
                for part in parts {
                    match run(part)?.into_string() {
                        Val::TStr(part) => joined.extend_from_slice(&part),
                        _ => return Err(Error::str("bytes in a text")),
                    }
                }
                Ok(Val::utf8_str(joined))
            }
            Self::Sum(parts) => run(&parts[0])? + run(&parts[1])?,
            Self::Same(parts) => Ok(Val::from(run(&parts[0])? == run(&parts[1])?)),
            Self::Choice(parts) => run(&parts[if run(&parts[0])?.as_bool() { 1 } else { 2 }]),
            Self::Pipe(parts) => parts[1].run(&run(&parts[0])?, variables, meter),
            Self::Each(parts) => {
                let each = |value: ValR<Val>| {
                    let value = value?;
                    meter.step()?;
                    parts[1].run(&value, variables, meter)
                };
                run(&parts[0])?.values().map(each).collect()
            }
        }
    }
}

/// The constant name of a member: `{a: …}`, `{"a": …}`, `{a}`, `{$a}`.
pub(super) fn name<'s>(key: &Term<&'s str>, value: Option<&Term<&'s str>>) -> Option<&'s str> {
    match (key, value) {
        (Term::Str(None, parts), _) => match parts.as_slice() {
            [StrPart::Str(name)] => Some(name),
            _ => None,
        },
        (Term::Var(name), None) if *name != "$__loc__" => name.strip_prefix('$'),
        _ => None,
    }
}

fn step((part, optional): &(Part<Term<&str>>, Opt)) -> Option<Step> {
    let bound = |term: &Option<Term<&str>>| term.as_ref().map_or(Some(None), |term| constant(term).map(Some));
    match (part, optional) {
        (Part::Index(index), Opt::Essential) => constant(index).map(Step::Index),
        // `.[]` yields as many as there are.
        (Part::Range(None, None), _) | (_, Opt::Optional) => None,
        (Part::Range(from, to), Opt::Essential) => Some(Step::Slice(bound(from)?, bound(to)?)),
    }
}

fn constant(term: &Term<&str>) -> Option<Val> {
    match term {
        Term::Num(number) => Val::from_num(number).ok(),
        Term::Str(None, parts) => match parts.as_slice() {
            [] => Some(text("")),
            [StrPart::Str(part)] => Some(text(part)),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests;
