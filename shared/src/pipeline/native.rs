//! What a filter has native filters of its own for. jq defines `{a: 1, b: 2}` as a sum, and jaq adds it up: of n members it
//! moves the last n times, and a body of a few dozen members costs more than the call it is for. Here an object whose
//! names are all constant becomes one call that means the same, and so does whatever is [`Plain`].

use std::iter::{empty, once};

use jaq_core::load::parse::Term;
use jaq_core::native::Fun;
use jaq_core::{Bind, Cv, Exn, RunPtr, ValXs};
use jaq_json::{Map, Val};

use super::meter::{Metered, metered};
use super::plain::{self, Plain, Variables};
use super::subject::text;

/// A filter's own native filters, by number.
#[derive(Debug, Default)]
pub(super) struct Natives(Vec<Native>);

#[derive(Debug)]
struct Native {
    /// How many arguments it takes, and how many of them, the first, are variables.
    arguments: usize,
    variables: usize,
    made: Made,
}

/// What it puts out.
#[derive(Debug)]
enum Made {
    Plain(Plain),
    /// Name and value of each member; one that is not plain is the next argument.
    Object(Vec<(Val, Option<Plain>)>),
}

/// A member as it is read: `{name: value}`, or `{name}` alone.
type Member<'s> = (Term<&'s str>, Option<Term<&'s str>>);

macro_rules! numbered {
    ($($number:literal)*) => {
        /// By number; what comes after the last is left to jaq. No identifier of jq's can be spelled so.
        const NAMES: &[&str] = &[$(concat!("!", $number)),*];
        /// One function each: a number among the arguments would have to be evaluated at every call.
        const RUNS: &[RunPtr<Metered>] = &[$(run::<$number>),*];
    };
}
numbered!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);

impl Natives {
    /// The term as one call, if it is plain and nothing but its output can be asked of it.
    ///
    /// # Errors
    /// The word that is refused.
    pub(super) fn plain<'s>(&mut self, term: &Term<&'s str>) -> Result<Option<Term<&'s str>>, &'s str> {
        let mut variables = Variables::new();
        let plain = Plain::of(term, &mut variables).filter(|plain| plain.makes() && !self.is_full());
        plain
            .map(|plain| self.call(variables, Vec::new(), Made::Plain(plain)))
            .transpose()
    }

    /// The constructor of these members, as one call where it can be one.
    ///
    /// # Errors
    /// The word that is refused.
    pub(super) fn object<'s>(&mut self, members: Vec<Member<'s>>) -> Result<Term<&'s str>, &'s str> {
        let names: Option<Vec<&str>> = members
            .iter()
            .map(|(key, value)| plain::name(key, value.as_ref()))
            .collect();
        let Some(names) = names.filter(|_| !self.is_full()) else {
            let mut member = |(key, value): Member<'s>| match value {
                // A name alone stands for its own member: `{a}`, `{$x}`. With a step it would stand for none.
                None => Ok((key, None)),
                Some(value) => Ok((metered(key, self)?, Some(metered(value, self)?))),
            };
            let members = members.into_iter().map(&mut member);
            return members.collect::<Result<_, &'s str>>().map(Term::Obj);
        };
        let (mut variables, mut arguments) = (Variables::new(), Vec::new());
        let mut made = Vec::with_capacity(names.len());
        for (name, (key, value)) in names.into_iter().zip(members) {
            let plain = Plain::member(name, &key, value.as_ref(), &mut variables);
            if plain.is_none() {
                arguments.push(value.unwrap_or(key));
            }
            made.push((text(name), plain));
        }
        self.call(variables, arguments, Made::Object(made))
    }

    fn is_full(&self) -> bool {
        self.0.len() == NAMES.len()
    }

    fn call<'s>(
        &mut self,
        variables: Variables<'s>,
        arguments: Vec<Term<&'s str>>,
        made: Made,
    ) -> Result<Term<&'s str>, &'s str> {
        let name = NAMES[self.0.len()];
        self.0.push(Native {
            arguments: variables.len() + arguments.len(),
            variables: variables.len(),
            made,
        });
        let arguments = variables.into_iter().map(Term::Var).chain(arguments);
        let arguments = arguments.map(|term| metered(term, self)).collect::<Result<_, _>>()?;
        Ok(Term::Call(name, arguments))
    }

    /// All of them, for the compiler.
    pub(super) fn funs(&self) -> Vec<Fun<Metered>> {
        let numbered = self.0.iter().zip(NAMES.iter().zip(RUNS));
        let fun = |(native, (name, run)): (&Native, (&&'static str, &RunPtr<Metered>))| {
            let arguments = vec![Bind::Fun(()); native.arguments];
            (*name, arguments.into(), jaq_core::Native::<Metered>::new(*run))
        };
        numbered.map(fun).collect()
    }
}

/// Each combination of its members' outputs, the first member's slowest, as jq's sum has it.
fn run<const NUMBER: usize>((mut context, input): Cv<'_, Metered>) -> ValXs<'_, Val> {
    let meter = context.data().meter;
    let native = &context.data().natives.0[NUMBER];
    let mut arguments: Vec<_> = (0..native.arguments).map(|_| context.pop_fun()).collect();
    let mut variables = Vec::with_capacity(native.variables);
    for (variable, context) in arguments.drain(arguments.len() - native.variables..).rev() {
        match variable.run((context, Val::Null)).next() {
            Some(Ok(value)) => variables.push(value),
            Some(Err(error)) => return Box::new(once(Err(error))),
            None => return Box::new(empty()),
        }
    }
    let members = match &native.made {
        Made::Plain(plain) => return Box::new(once(plain.run(&input, &variables, meter).map_err(Exn::from))),
        Made::Object(members) => members,
    };
    let mut object = Map::default();
    object.reserve(members.len());
    let mut objects = vec![object];
    for (name, plain) in members {
        let outputs = match plain {
            Some(plain) => plain
                .run(&input, &variables, meter)
                .map(|value| vec![value])
                .map_err(Exn::from),
            None => arguments.pop().map_or(Ok(Vec::new()), |(member, context)| {
                member.run((context, input.clone())).collect()
            }),
        };
        let mut outputs: Vec<Val> = match outputs {
            Ok(outputs) => outputs,
            Err(error) => return Box::new(once(Err(error))),
        };
        match (objects.as_mut_slice(), outputs.len()) {
            (_, 0) => return Box::new(empty()),
            ([object], 1) => {
                object.extend(outputs.drain(..).map(|value| (name.clone(), value)));
                continue;
            }
            _ => {}
        }
        let with = |object: &Map, value: &Val| {
            let mut object = object.clone();
            object.insert(name.clone(), value.clone());
            object
        };
        objects = objects
            .iter()
            .flat_map(|object| outputs.iter().map(|value| with(object, value)))
            .collect();
    }
    Box::new(objects.into_iter().map(|object| Ok(Val::obj(object))))
}

#[cfg(test)]
mod tests {
    use crate::pipeline::filter::Filter;
    use crate::pipeline::reader::read;

    fn json(text: &str) -> Result<String, String> {
        Filter::compile(text)?.json(read(r#"{"a": 1, "b": [2, 3], "k": "n"}"#)?)
    }

    #[test]
    fn every_spelling_of_an_object_means_what_it_means_in_jq() {
        for (text, expected) in [
            ("{a: .a, \"b c\": .b, k}", r#"{"a":1,"b c":[2,3],"k":"n"}"#),
            (".a as $a | {$a, b: {c: $a}}", r#"{"a":1,"b":{"c":1}}"#),
            ("{(.k): 1, a: 2}", r#"{"n":1,"a":2}"#),
            ("{a: 1, b: 2, a: 3}", r#"{"a":3,"b":2}"#),
            (
                "[{a: (1, 2), b: (3, 4)} | \"\\(.a)\\(.b)\"]",
                r#"["13","14","23","24"]"#,
            ),
            ("[{a: empty, b: error}]", "[]"),
            ("{a: ({a: 1} | .a), b: (.b[] | select(. > 2))}", r#"{"a":1,"b":3}"#),
            ("{\"\\(.k)\": 1}", r#"{"n":1}"#),
            ("{}", "{}"),
        ] {
            assert_eq!(json(text).as_deref(), Ok(expected), "{text}");
        }
        assert!(json("{a: 1, b: error}").is_err());
        assert!(json("{a: .nosuch.x[0], b: (1 | .x)}").is_err());
    }

    #[test]
    fn what_is_too_large_or_too_much_for_one_call_is_an_object_all_the_same() {
        let large: Vec<String> = (0..100).map(|n| format!("m{n}: {n}")).collect();
        let object = json(&format!("{{{}}}", large.join(", "))).unwrap();
        assert!(
            object.starts_with(r#"{"m0":0,"#) && object.ends_with(r#""m99":99}"#),
            "{object}"
        );
        let many: Vec<String> = (0..40).map(|n| format!("{{n: {n}}}")).collect();
        let total = json(&format!("[{}] | map(.n) | add", many.join(", "))).unwrap();
        assert_eq!(total, "780");
    }
}
