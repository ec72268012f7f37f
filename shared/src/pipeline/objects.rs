//! Objects that are put together at once. jq defines `{a: 1, b: 2}` as a sum, and jaq adds it up: of n members it moves
//! the last n times, and a body of a few dozen members costs more than the call it is for. Here a constructor whose names
//! are all constant becomes one call of a native filter that takes its members as arguments and means the same.

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::Term;
use jaq_core::path::{Opt, Part, Path};
use jaq_core::{Bind, Cv, Native, ValXs, native};
use jaq_json::{Map, Val};

use super::meter::Metered;
use super::subject::text;

/// The filter's name: no identifier of jq's can be spelled so.
const NAME: &str = "!object";
/// The most members of one; a larger object is left to jaq.
const MOST: usize = 32;
/// The numbers of a filter's objects, as its text would have them; what comes after them is left to jaq.
const NUMBERS: [&str; 24] = [
    "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18", "19", "20",
    "21", "22", "23",
];

/// The names of a filter's objects' members, by the object's number.
#[derive(Debug, Default)]
pub(super) struct Objects(Vec<Vec<String>>);

impl Objects {
    /// The constructor of these members, as one call where it can be one.
    pub(super) fn constructor<'s>(&mut self, members: Vec<(Term<&'s str>, Option<Term<&'s str>>)>) -> Term<&'s str> {
        let names: Option<Vec<&str>> = members.iter().map(|(key, value)| name(key, value.as_ref())).collect();
        let (Some(names), Some(number)) = (names, NUMBERS.get(self.0.len())) else {
            return Term::Obj(members);
        };
        if names.is_empty() || names.len() > MOST {
            return Term::Obj(members);
        }
        let mut arguments: Vec<Term<&str>> = names
            .iter()
            .zip(members)
            .map(|(name, (key, value))| match (key, value) {
                (_, Some(value)) => value,
                (key @ Term::Var(_), None) => key,
                (_, None) => member(name),
            })
            .collect();
        // The last argument is the first that the filter is given.
        arguments.push(Term::Num(number));
        self.0.push(names.into_iter().map(str::to_owned).collect());
        Term::Call(NAME, arguments)
    }
}

/// The constant name of a member: `{a: …}`, `{"a": …}`, `{a}`, `{$a}`.
fn name<'s>(key: &Term<&'s str>, value: Option<&Term<&'s str>>) -> Option<&'s str> {
    match (key, value) {
        (Term::Str(None, parts), _) => match parts.as_slice() {
            [StrPart::Str(name)] => Some(name),
            _ => None,
        },
        (Term::Var(name), None) if *name != "$__loc__" => name.strip_prefix('$'),
        _ => None,
    }
}

/// `.name`
fn member(name: &str) -> Term<&str> {
    let index = Part::Index(Term::Str(None, vec![StrPart::Str(name)]));
    Term::Path(Box::new(Term::Id), Path(vec![(index, Opt::Essential)]))
}

/// The filter, for each number of members.
pub(super) fn funs() -> impl Iterator<Item = native::Fun<Metered>> {
    (1..=MOST).map(|members| {
        let mut arguments = vec![Bind::Fun(()); members];
        arguments.push(Bind::Var(()));
        (NAME, arguments.into_boxed_slice(), Native::<Metered>::new(run))
    })
}

/// Each combination of its members' outputs, the first member's slowest, as jq's sum has it.
fn run((mut context, input): Cv<'_, Metered>) -> ValXs<'_, Val> {
    let number = match context.pop_var() {
        Val::Num(number) => number.as_isize().and_then(|number| usize::try_from(number).ok()),
        _ => None,
    };
    let names = number
        .and_then(|number| context.data().objects.0.get(number))
        .map_or(&[][..], Vec::as_slice);
    let mut members: Vec<_> = names.iter().rev().map(|name| (name, context.pop_fun())).collect();
    let mut object = Map::default();
    object.reserve(names.len());
    let mut objects = vec![object];
    while let Some((name, (member, context))) = members.pop() {
        let mut outputs = member.run((context, input.clone()));
        let Some(first) = outputs.next() else {
            return Box::new(std::iter::empty());
        };
        let mut values = vec![];
        let first = match first {
            Ok(value) => value,
            Err(error) => return Box::new(std::iter::once(Err(error))),
        };
        for output in outputs {
            match output {
                Ok(value) => values.push(value),
                Err(error) => return Box::new(std::iter::once(Err(error))),
            }
        }
        if values.is_empty() && objects.len() == 1 {
            objects[0].insert(text(name), first);
            continue;
        }
        values.insert(0, first);
        let with = |object: &Map, value: &Val| {
            let mut object = object.clone();
            object.insert(text(name), value.clone());
            object
        };
        objects = objects
            .iter()
            .flat_map(|object| values.iter().map(|value| with(object, value)))
            .collect();
    }
    Box::new(objects.into_iter().map(|object| Ok(Val::obj(object))))
}

#[cfg(test)]
mod tests {
    use crate::pipeline::filter::{Filter, read};

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
