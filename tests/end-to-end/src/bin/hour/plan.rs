//! What a run is to be, and what may be asked of it: all of it follows from the two arguments and the settings as shipped.

use std::time::Duration;

use serde_json::{Value, json};

pub const ORCHESTRATORS: usize = 2;
pub const DISPATCHERS: usize = 10;
/// Calls a second to the fiscal API, of all dispatchers together.
pub const LIMIT: u32 = 500;
/// Of `LIMIT`, what is made use of at least while there is enough to call for.
pub const USED: f64 = 0.93;
/// Fresh receipts posted a second.
pub const POSTED: u32 = 2;
/// How often is sampled.
pub const SAMPLE: Duration = Duration::from_secs(10);

/// As shipped.
const CONCURRENCY: usize = 64;
const TIMEOUT: Duration = Duration::from_secs(10);
const PROBE: Duration = Duration::from_secs(1);
const PROBE_MAX: Duration = Duration::from_secs(30);
pub const SLOW_START: Duration = Duration::from_secs(30);
/// Seconds of the limit that may be queued.
const AHEAD: u32 = 2;

/// How long a dispatcher is frozen: it is taken for dead long before.
const FROZEN: Duration = Duration::from_secs(30);
/// Of calls under way at once by canaries: one, and that of a dispatcher that was frozen with it.
pub const UNDER_WAY: u64 = 1;
/// What a machine that does other things may take for anything.
const SLACK: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How long the outage lasts once the backlog is there.
    pub outage: Duration,
    /// Receipts of the backlog.
    pub receipts: u64,
}

/// Something that is done during the outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The outage takes this of the [`SHAPES`].
    Shape(usize),
    /// A dispatcher is killed and started again.
    Kill(usize),
    /// The first dispatcher is stopped, and goes on.
    Freeze,
    Thaw,
    /// An orchestrator is stopped in order and started again.
    Restart,
    /// A look at everything.
    Sample,
    /// A count of the rows of the backlog that were touched.
    Count,
}

/// What the API does in an outage, one after the other.
pub const SHAPES: [&str; 6] = [
    "refuses",
    "hangs",
    "503, Retry-After 20 s",
    "500",
    "reads and resets",
    "registers and resets",
];

/// A shape as the simulator's table of faults.
pub fn fault(shape: usize) -> Value {
    let fault = match shape % SHAPES.len() {
        0 => json!({"mode": "refuse"}),
        1 => json!({"mode": "hang"}),
        2 => json!({"mode": "error", "status": 503, "retry_after": "20"}),
        3 => json!({"mode": "error", "status": 500}),
        4 => json!({"mode": "drop_before_commit"}),
        _ => json!({"mode": "commit_then_drop"}),
    };
    json!({ "fiscal": fault })
}

impl Plan {
    /// Receipts of the backlog that have a deadline.
    pub fn urgent(&self) -> u64 {
        self.receipts / 100
    }

    /// Receipts of the backlog that were called for once.
    pub fn timers(&self) -> u64 {
        self.receipts / 50
    }

    /// Far enough for all that may become of the run.
    pub fn deadline(&self) -> Duration {
        self.outage + Duration::from_hours(3)
    }

    /// Everything in its order, by the time since the outage has its backlog.
    pub fn events(&self) -> Vec<(Duration, Event)> {
        let sixth = (self.outage / 6).max(Duration::from_secs(20));
        let each = |every: Duration| {
            (1..)
                .map(move |n| (every * n, n))
                .take_while(|(at, _)| *at < self.outage)
        };
        let mut events = vec![(Duration::ZERO, Event::Shape(0))];
        let numbered = |n: u32| usize::try_from(n).unwrap_or_default();
        events.extend(each(sixth.min(Duration::from_mins(5))).map(|(at, n)| (at, Event::Shape(numbered(n)))));
        // Not the first dispatcher: it is frozen.
        let killed = |n: u32| 1 + numbered(n) % (DISPATCHERS - 1);
        events.extend(each(sixth.min(Duration::from_secs(127))).map(|(at, n)| (at, Event::Kill(killed(n)))));
        events.extend([
            (self.outage / 3, Event::Freeze),
            (self.outage / 3 + FROZEN, Event::Thaw),
        ]);
        events.push((self.outage * 2 / 3, Event::Restart));
        events.extend(each(SAMPLE).map(|(at, _)| (at, Event::Sample)));
        events.extend(each(sixth).map(|(at, _)| (at, Event::Count)));
        events.sort_by_key(|(at, _)| *at);
        events
    }

    /// Canaries that may be sent within `time` of the closing: the first after `PROBE`, each of the others twice as long after the
    /// one before it, `PROBE_MAX` at most. What the API does (hang, `Retry-After`) only makes it longer. Who dies or is frozen
    /// with the canary leaves a lease that may end a little earlier than the pause would: one more for each.
    pub fn canaries(time: Duration, lost: usize) -> usize {
        let (mut at, mut pause, mut count) = (PROBE, PROBE, lost);
        while at <= time {
            count += 1;
            pause = (pause * 2).min(PROBE_MAX);
            at += pause;
        }
        count
    }

    /// Calls until it is closed: each dispatcher judges its own, and closes it at the latest with the tenth that fails (half of
    /// its last twenty); besides, as many were under way as may be.
    pub fn until_closed() -> usize {
        DISPATCHERS * 9 + 1 + CONCURRENCY
    }

    /// How long it may take from the end of the outage until it is open: a canary that hangs, the longest pause, and one more.
    pub fn until_open() -> Duration {
        TIMEOUT + PROBE_MAX + SLACK
    }

    /// Calls that the backlog may take: each registers, is asked for twice and fetched; some more for whoever was asked too early.
    pub fn calls(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let receipts = self.receipts as f64;
        receipts * 6.0
    }

    /// How many receipts may be queued.
    pub fn horizon() -> i64 {
        i64::from(LIMIT * AHEAD)
    }

    /// First calls that may come a little out of turn, by what is in hand: two receipts a place, one relay's batch.
    pub fn out_of_turn() -> usize {
        CONCURRENCY * 2 + 500
    }

    /// How long so many calls may take from the opening on: slow start makes half of its time's, and the last receipts wait for
    /// a timer each.
    pub fn drained(calls: f64) -> Duration {
        Duration::from_secs_f64(calls / (f64::from(LIMIT) * USED)) + SLOW_START / 2 + 4 * SLACK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_takes_about_two_canaries_a_minute() {
        let plan = Plan {
            outage: Duration::from_hours(1),
            receipts: 100_000,
        };
        assert_eq!(Plan::canaries(Duration::from_secs(31), 0), 5);
        assert_eq!(Plan::canaries(plan.outage, 0), 123);
        let events = plan.events();
        let count = |wanted: fn(&Event) -> bool| events.iter().filter(|(_, event)| wanted(event)).count();
        assert_eq!(count(|event| matches!(event, Event::Shape(_))), 12);
        assert_eq!(count(|event| matches!(event, Event::Kill(_))), 28);
    }
}
