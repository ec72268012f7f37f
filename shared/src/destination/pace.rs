//! When the next calls to a destination may be sent, over all dispatchers together.
//!
//! A slot is an instant of the database's clock at which one call may be sent, no more than [`lateness`] later; whoever has
//! missed it takes another. Slots stand evenly in the shortest window, a little wider apart than its limit: a window then
//! holds no more than its limit even if each of its calls is late. The longer windows are counted in fiftieths, and each
//! call is charged to every window that could see it. Dispatchers take a few slots at a time, for the coming moment only
//! (`AHEAD`, `CHUNK`), so that one who dies with some costs next to nothing, and nobody has to find out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::configuration::{Limits, Rate};

/// What lateness may cost: a twenty-fifth of the limit.
const EVENNESS: f64 = 0.96;
/// How far ahead slots are given out.
const AHEAD: Duration = Duration::from_millis(200);
/// The time that the slots of one grant fill at most; one slot at least.
const CHUNK: Duration = Duration::from_millis(50);
/// Parts of a longer window.
const PARTS: i64 = 50;
/// Parts that a window together with lateness may touch.
const TOUCHED: i64 = PARTS + 2;

/// What was given out: part of a destination's row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// No slot before, in microseconds since 1970: what there is to go by without a last one.
    next: i64,
    /// The last slot, likewise: the next one comes by the limits that are in force then.
    #[serde(default, skip_serializing_if = "is_none")]
    last: i64,
    /// Of each longer window, by its seconds: the parts in which slots were given out, and how many.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    given: BTreeMap<u64, VecDeque<(i64, u32)>>,
}

/// What may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// These slots, in microseconds since 1970, rising.
    Slots(Vec<i64>),
    /// None yet: ask again after so long.
    Later(Duration),
}

/// How much later than its slot a call may be sent.
#[must_use]
pub fn lateness(limits: &Limits) -> Duration {
    paced(limits).map_or(Duration::ZERO, |rate| rate.per.mul_f64(1.0 / EVENNESS - 1.0))
}

impl Pace {
    /// Gives out up to `wanted` slots from `now` (microseconds since 1970), at `speed` (0 to 1) of the shortest window.
    pub fn grant(&mut self, limits: &Limits, speed: f64, now: i64, wanted: usize) -> Grant {
        self.grant_within(limits, speed, now, wanted, AHEAD)
    }

    /// Gives out the slots of a longer time than the coming moment: whoever takes one so early waits for it.
    pub fn grant_within(&mut self, limits: &Limits, speed: f64, now: i64, wanted: usize, ahead: Duration) -> Grant {
        let Some(paced) = paced(limits) else {
            return Grant::Slots(vec![now; wanted]);
        };
        let spacing = spacing(paced, speed);
        let most = (micros(CHUNK) / spacing.max(1)).max(1);
        let longer: Vec<Rate> = limits.0.iter().copied().filter(|rate| *rate != paced).collect();
        // What was given out of a window counts, whatever its limit is by now.
        self.given
            .retain(|seconds, _| longer.iter().any(|rate| rate.per.as_secs() == *seconds));

        let mut slots = Vec::new();
        while slots.len() < wanted.min(usize::try_from(most).unwrap_or(1)) {
            let slot = longer
                .iter()
                .fold(self.earliest_of_all(spacing).max(now), |slot, rate| {
                    slot.max(self.earliest(*rate, slot))
                });
            if slot > now + micros(ahead) {
                if slots.is_empty() {
                    return Grant::Later(Duration::from_micros(
                        u64::try_from(slot - now - micros(ahead)).unwrap_or(1),
                    ));
                }
                break;
            }
            for per in windows(&longer) {
                self.charge(per, slot);
            }
            (self.last, self.next) = (slot, slot + spacing);
            slots.push(slot);
        }
        Grant::Slots(slots)
    }

    /// Takes a slot back that was not used, unless a later one was given out.
    pub fn take_back(&mut self, limits: &Limits, slot: i64) {
        let Some(paced) = paced(limits).filter(|_| self.last == slot) else {
            return;
        };
        (self.last, self.next) = (0, slot);
        let longer: Vec<Rate> = limits.0.iter().copied().filter(|rate| *rate != paced).collect();
        for per in windows(&longer) {
            let at = slot / (micros(per) / PARTS);
            let given = self.given.get_mut(&per.as_secs());
            if let Some((part, count)) = given.and_then(VecDeque::back_mut)
                && *part == at
            {
                *count = count.saturating_sub(1);
            }
        }
    }

    fn earliest_of_all(&self, spacing: i64) -> i64 {
        if self.last == 0 { self.next } else { self.last + spacing }
    }

    /// The first instant from `slot` on at which a longer window admits one more.
    fn earliest(&self, rate: Rate, slot: i64) -> i64 {
        let part = micros(rate.per) / PARTS;
        let Some(given) = self.given.get(&rate.per.as_secs()) else {
            return slot;
        };
        let at = slot / part;
        let mut seen: i64 = given
            .iter()
            .filter(|(part, _)| *part > at - TOUCHED)
            .map(|(_, count)| i64::from(*count))
            .sum();
        let mut earliest = slot;
        for (old, count) in given.iter().filter(|(part, _)| *part > at - TOUCHED) {
            if seen < i64::from(rate.calls) {
                break;
            }
            seen -= i64::from(*count);
            earliest = (old + TOUCHED) * part;
        }
        earliest.max(slot)
    }

    fn charge(&mut self, per: Duration, slot: i64) {
        let at = slot / (micros(per) / PARTS);
        let given = self.given.entry(per.as_secs()).or_default();
        while given.front().is_some_and(|(part, _)| *part <= at - TOUCHED) {
            given.pop_front();
        }
        match given.back_mut() {
            Some((part, count)) if *part == at => *count += 1,
            _ => given.push_back((at, 1)),
        }
    }
}

/// The windows of limits, each once.
fn windows(limits: &[Rate]) -> BTreeSet<Duration> {
    limits.iter().map(|rate| rate.per).collect()
}

/// The window in which slots stand evenly: the shortest, and of several the narrowest.
#[must_use]
pub fn paced(limits: &Limits) -> Option<Rate> {
    limits.0.iter().copied().min_by_key(|rate| (rate.per, rate.calls))
}

/// The time from one slot to the next, in microseconds, at `speed`. Rounded up, or a window would hold one more after all.
fn spacing(paced: Rate, speed: f64) -> i64 {
    micros((paced.per / paced.calls).div_f64(EVENNESS * speed.clamp(0.01, 1.0))) + 1
}

/// The time from one slot to the next at full speed; zero without a limit.
#[must_use]
pub fn between(limits: &Limits) -> Duration {
    let spacing = paced(limits).map_or(0, |paced| spacing(paced, 1.0));
    Duration::from_micros(u64::try_from(spacing).unwrap_or_default())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's shape")]
fn is_none(slot: &i64) -> bool {
    *slot == 0
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000;

    fn limits(text: &str) -> Limits {
        serde_json::from_str(&format!("{text:?}")).unwrap()
    }

    /// Three dispatchers that always want more, asking whenever they may, for `time`.
    fn slots(limits: &Limits, begin: i64, time: i64) -> Vec<i64> {
        let (mut pace, mut slots, mut now) = (Pace::default(), Vec::new(), begin);
        while now < begin + time {
            match pace.grant(limits, 1.0, now, 7) {
                Grant::Slots(given) => slots.extend(given),
                Grant::Later(wait) => now += micros(wait),
            }
        }
        slots
    }

    /// The most calls in any window, if each may be sent up to `late` after its slot.
    fn most(slots: &[i64], per: i64, late: i64) -> usize {
        let within = |first: &i64| {
            slots
                .iter()
                .filter(|slot| **slot >= *first && **slot < first + per + late)
                .count()
        };
        slots.iter().map(within).max().unwrap_or_default()
    }

    #[test]
    fn no_window_holds_more_than_its_limit_however_late_its_calls() {
        for (text, seconds) in [
            ("50/s", 20),
            ("500/s", 3),
            ("1/s", 30),
            ("10/s, 30/m, 180/h", 9_000),
            ("7/m, 100/h", 9_000),
        ] {
            let limits = limits(text);
            let late = micros(lateness(&limits));
            let given = slots(&limits, 1_790_000_000 * SECOND, seconds * SECOND);
            for rate in &limits.0 {
                let most = most(&given, micros(rate.per), late);
                assert!(most <= rate.calls as usize, "{text}: {most} in {rate}");
            }
        }
    }

    #[test]
    fn next_to_nothing_of_a_limit_is_lost() {
        for (text, seconds, least) in [("50/s", 20, 0.955), ("500/s", 5, 0.955), ("10/s, 180/h", 36_000, 0.95)] {
            let limits = limits(text);
            let given = slots(&limits, 1_790_000_000 * SECOND, seconds * SECOND).len();
            let admitted = limits
                .admit(Duration::from_secs(u64::try_from(seconds).unwrap()))
                .unwrap();
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let used = given as f64 / admitted as f64;
            assert!(used >= least, "{text}: {used}");
        }
    }

    #[test]
    fn what_nobody_wanted_is_not_saved_up() {
        let (limits, mut pace) = (limits("50/s"), Pace::default());
        assert_eq!(
            pace.grant(&limits, 1.0, 100 * SECOND, 1),
            Grant::Slots(vec![100 * SECOND])
        );
        let Grant::Slots(given) = pace.grant(&limits, 1.0, 160 * SECOND, 2) else {
            panic!("a minute later")
        };
        assert_eq!(given, [160 * SECOND, 160 * SECOND + 20_834]);
    }

    #[test]
    fn slow_start_sets_slots_wider_apart() {
        let (limits, mut pace) = (limits("50/s"), Pace::default());
        pace.grant(&limits, 0.1, SECOND, 1);
        assert_eq!(pace.next, SECOND + 208_334);
    }

    #[test]
    fn limits_that_are_narrowed_know_what_was_given_out() {
        let mut pace = Pace::default();
        let far = Duration::from_hours(2);
        let mut slots = Vec::new();
        for text in ["10/s, 100/h"; 100].into_iter().chain(["10/s, 90/h"]) {
            match pace.grant_within(&limits(text), 1.0, 7_200 * SECOND, 1, far) {
                Grant::Slots(given) => slots.extend(given),
                Grant::Later(wait) => panic!("{wait:?}"),
            }
        }
        assert!(
            slots[99] < 7_220 * SECOND && slots[100] > 10_700 * SECOND,
            "an hour later"
        );
    }

    #[test]
    fn limits_that_are_widened_hold_at_once() {
        let mut pace = Pace::default();
        pace.grant(&limits("1/h"), 1.0, 100 * SECOND, 1);
        let Grant::Slots(given) = pace.grant(&limits("2/s"), 1.0, 101 * SECOND, 1) else {
            panic!("an hour later")
        };
        assert_eq!(given, [101 * SECOND]);
    }

    #[test]
    fn a_slot_that_was_missed_is_given_out_again_if_no_later_one_was() {
        let (limits, mut pace) = (limits("1/s, 3/m"), Pace::default());
        let far = Duration::from_mins(2);
        let take = |pace: &mut Pace, now| match pace.grant_within(&limits, 1.0, now, 1, far) {
            Grant::Slots(slots) => slots[0],
            Grant::Later(wait) => panic!("{wait:?}"),
        };
        let first = take(&mut pace, 100 * SECOND);
        pace.take_back(&limits, first);
        assert_eq!(take(&mut pace, 101 * SECOND), 101 * SECOND, "charged to no window");
        let (second, third) = (take(&mut pace, 101 * SECOND), take(&mut pace, 101 * SECOND));
        assert!(second >= 102 * SECOND && third > second);
        let taken = pace.clone();
        pace.take_back(&limits, second);
        assert_eq!(pace, taken, "a later one was given out");
        assert!(
            take(&mut pace, 101 * SECOND) >= 160 * SECOND,
            "three were, in this minute"
        );
    }

    proptest! {
        #[test]
        fn changing_limits_never_gives_out_a_slot_before_the_last(changes in prop::collection::vec((1u32..200, 0i64..400_000, 1usize..9), 1..60)) {
            let (mut pace, mut now, mut last) = (Pace::default(), 1_790_000_000 * SECOND, 0);
            for (calls, passed, wanted) in changes {
                now += passed;
                let limits = Limits(vec![Rate { calls, per: Duration::from_secs(1) }]);
                if let Grant::Slots(given) = pace.grant(&limits, 1.0, now, wanted) {
                    for slot in given {
                        prop_assert!(slot > last && slot >= now && slot <= now + micros(AHEAD));
                        last = slot;
                    }
                }
            }
        }
    }
}
