//! Reads the members of an object, each by its rule, and remembers every fault at its place.
//!
//! A reader answers `None` when it has reported a fault: what depends on the value is then not judged.

use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, UtcOffset};

use super::faults::{Faults, Place};
use super::json::{Json, Object};
use super::names::Words;

/// What is said of a member that is not there.
const MISSING: &str = "is missing";

/// An object at its place, with the faults found so far.
pub(super) struct Members<'a> {
    place: &'a Place<'a>,
    object: &'a Object<'a>,
    faults: &'a mut Faults,
}

impl<'a> Members<'a> {
    /// The members of `json`, which must be an object with no other members than `known`.
    pub(super) fn of(json: &'a Json<'a>, known: &[&str], place: &'a Place<'a>, faults: &'a mut Faults) -> Option<Self> {
        let Json::Object(object) = json else {
            faults.add(place, "must be an object");
            return None;
        };
        for (name, _) in object {
            if !known.contains(&name.as_ref()) {
                faults.add(&Place::Member(place, name), "is not a known member");
            }
        }
        Some(Self { place, object, faults })
    }

    /// Says that `rule` is broken by the member `name`.
    pub(super) fn fault(&mut self, name: &str, rule: impl Into<String>) {
        self.faults.add(&Place::Member(self.place, name), rule);
    }

    /// Whether `name` is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn get(&self, name: &str) -> Option<&'a Json<'a>> {
        self.object
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value)
    }

    fn needed(&mut self, name: &str) -> Option<&'a Json<'a>> {
        let value = self.get(name);
        if value.is_none() {
            self.fault(name, MISSING);
        }
        value
    }

    /// What `read` makes of the member, which must be a text; a fault saying `rule` if it makes nothing.
    pub(super) fn text<T>(&mut self, name: &str, rule: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let value = match self.needed(name)? {
            Json::Text(text) => read(text),
            _ => None,
        };
        if value.is_none() {
            self.fault(name, rule);
        }
        value
    }

    /// A text that `good` accepts, as `rule` says.
    pub(super) fn string(&mut self, name: &str, rule: &str, good: impl FnOnce(&str) -> bool) -> Option<String> {
        self.text(name, rule, |text| good(text).then(|| text.to_owned()))
    }

    /// One of a list of words.
    pub(super) fn word<W: Words>(&mut self, name: &str) -> Option<W> {
        self.text(name, W::RULE, W::read)
    }

    /// A time by RFC 3339 that exists in UTC too: the last hours of the year 9999 do not everywhere.
    pub(super) fn time(&mut self, name: &str) -> Option<OffsetDateTime> {
        self.text(name, "must be a date and time by RFC 3339", |text| {
            let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
            time.checked_to_offset(UtcOffset::UTC).map(|_| time)
        })
    }

    /// An amount in minor units, from `least` to `most`, written as a JSON integer.
    pub(super) fn amount(&mut self, name: &str, least: i64, most: i64) -> Option<i64> {
        match self.needed(name)? {
            Json::Integer(amount) if (least..=most).contains(amount) => Some(*amount),
            _ => {
                let rule =
                    format!("must be an integer of minor units from {least} to {most}, without fraction or exponent");
                self.fault(name, rule);
                None
            }
        }
    }

    /// What `read` makes of the member, which is an object at a place of its own.
    pub(super) fn object<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&Json<'_>, &Place<'_>, &mut Faults) -> Option<T>,
    ) -> Option<T> {
        let value = self.needed(name)?;
        read(value, &Place::Member(self.place, name), self.faults)
    }

    /// What `read` makes of each of 1 to `most` elements. With another number of them the array is the fault and what
    /// it returns is `None`; the first `most` are read all the same, for their own faults.
    pub(super) fn list<T>(
        &mut self,
        name: &str,
        most: usize,
        read: impl Fn(&Json<'_>, &Place<'_>, &mut Faults) -> T,
    ) -> Option<Vec<T>> {
        let value = self.needed(name)?;
        let elements: &[Json<'_>] = match value {
            Json::Array(elements) => elements,
            _ => &[],
        };
        let fits = (1..=most).contains(&elements.len());
        if !fits {
            self.fault(name, format!("must be an array of 1 to {most}"));
        }
        let place = Place::Member(self.place, name);
        let read = |(n, element)| read(element, &Place::Element(&place, n), self.faults);
        let read: Vec<T> = elements.iter().take(most).enumerate().map(read).collect();
        fits.then_some(read)
    }

    /// A member that may be absent: `Some(None)` then, what `read` makes of it otherwise.
    #[expect(
        clippy::option_option,
        reason = "absent is no fault: the outer one says whether it could be read"
    )]
    pub(super) fn optional<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Self, &str) -> Option<T>,
    ) -> Option<Option<T>> {
        if self.has(name) {
            read(self, name).map(Some)
        } else {
            Some(None)
        }
    }
}
