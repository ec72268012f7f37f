//! What waits for each destination: its kept counts, how old it is, and how long it takes to drain. As gauges, shown by every
//! orchestrator alike, and for whoever asks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use shared::destination::{Destination, Following};
use shared::pipeline::{Pipeline, Stage};
use shared::stage::Versions;
use shared::store::StoreError;
use shared::store::backlog::{self, Waiting};
use shared::store::tallies::{self, Kind, Tally};
use shared::telemetry::metrics::shown;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

/// How often it is looked.
const ROUND: Duration = Duration::from_secs(20);
/// The time that a rate is of: so many rounds.
const ROUNDS: usize = 3;
/// After so many rounds it is looked whether tallies are to be folded.
const FOLD: u32 = 15;
/// A version's stages that nobody can name.
const NO_STAGE: &str = "";

/// The state, kind, stage and destination of a gauge.
type Series = (&'static str, &'static str, String, String);

/// Looks on, and remembers how many receipts had been taken when.
pub struct Backlogs {
    pool: PgPool,
    following: Arc<Following>,
    versions: Arc<Versions>,
    taken: Mutex<BTreeMap<String, VecDeque<(Instant, i64)>>>,
}

/// What waits for one destination.
#[derive(Debug, Clone, PartialEq)]
pub struct Backlog {
    /// How many there are of each kind.
    pub kinds: BTreeMap<Kind, i64>,
    /// Of them, those with a call whose outcome nobody knows.
    pub unresolved: i64,
    /// How old it is, and what is queued.
    pub waiting: Waiting,
    /// Receipts that were taken for calls a second, over the last minute.
    pub rate: f64,
    /// How long it takes to drain; `None`: nobody can say.
    pub drain: Option<Duration>,
}

impl Backlogs {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(pool: PgPool, following: Arc<Following>, versions: Arc<Versions>) -> Self {
        Self {
            pool,
            following,
            versions,
            taken: Mutex::default(),
        }
    }

    /// What waits for a destination now.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn of(&self, known: &Destination) -> Result<Backlog, StoreError> {
        let tallies = tallies::read(&self.pool, Some(&known.name)).await?;
        let waiting = backlog::read(&self.pool, std::slice::from_ref(&known.name)).await?;
        Ok(self.backlog(known, &tallies, waiting.into_iter().next().unwrap_or_default()))
    }

    /// Shows it until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let looking = async {
            let (mut shown, mut rounds) = (self.begin(), 0_u32);
            loop {
                match self.look(&mut shown).await {
                    Ok(()) => {}
                    Err(error) => tracing::warn!(%error, "what waits could not be counted"),
                }
                rounds = rounds.wrapping_add(1);
                if rounds.is_multiple_of(FOLD)
                    && let Err(error) = tallies::fold(&self.pool).await
                {
                    tracing::warn!(%error, "tallies could not be folded");
                }
                tokio::time::sleep(ROUND).await;
            }
        };
        stop.run_until_cancelled(looking).await;
    }

    async fn look(&self, series: &mut BTreeSet<Series>) -> Result<(), StoreError> {
        let all = self.following.all();
        let mut names: Vec<String> = all.iter().map(|known| known.name.clone()).collect();
        // What is bound for no destination.
        names.push(String::new());
        let tallies = tallies::read(&self.pool, None).await?;
        let waiting = backlog::read(&self.pool, &names).await?;
        let mut counts = self.counts(&tallies).await;
        for (name, waiting) in names.iter().zip(&waiting) {
            if !name.is_empty() {
                counts.insert(("queued", "", NO_STAGE.to_owned(), name.clone()), waiting.queued);
            }
            show_oldest(name, waiting);
        }
        for (known, waiting) in all.iter().zip(waiting) {
            self.note(&known.name, waiting.taken);
            let of_it: Vec<Tally> = tallies
                .iter()
                .filter(|tally| tally.destination == known.name)
                .cloned()
                .collect();
            show(known, &of_it, &self.backlog(known, &of_it, waiting));
        }
        // What is gone is shown as none.
        series.extend(counts.keys().cloned());
        for series in series.iter() {
            show_count(series, counts.get(series).copied().unwrap_or_default());
        }
        Ok(())
    }

    fn backlog(&self, known: &Destination, tallies: &[Tally], waiting: Waiting) -> Backlog {
        let mut kinds: BTreeMap<Kind, i64> = Kind::ALL.into_iter().map(|kind| (kind, 0)).collect();
        for tally in tallies {
            *kinds.entry(tally.kind).or_default() += tally.count;
        }
        let unresolved = tallies
            .iter()
            .filter(|tally| tally.unresolved)
            .map(|tally| tally.count)
            .sum();
        let rate = self.rate(&known.name, waiting.taken);
        let left = waiting.queued + kinds[&Kind::Timer] + kinds[&Kind::Turn];
        let limit = known.settings.limits.per_second();
        Backlog {
            drain: drain(left, limit.unwrap_or(rate)),
            kinds,
            unresolved,
            waiting,
            rate,
        }
    }

    /// The counts by the names of stages: of another version the same name is the same stage.
    async fn counts(&self, tallies: &[Tally]) -> BTreeMap<Series, i64> {
        let mut counts = BTreeMap::new();
        for tally in tallies {
            let pipeline = self.versions.get(&tally.pipeline).await.ok();
            let stage = pipeline.and_then(|pipeline| stage(&pipeline, tally.position).map(|stage| stage.name.clone()));
            let series = series(
                tally.kind,
                stage.unwrap_or_else(|| NO_STAGE.to_owned()),
                tally.destination.clone(),
            );
            *counts.entry(series).or_default() += tally.count;
        }
        counts
    }

    /// What is shown from the start on: whatever may come to wait at the stages of the current pipeline.
    fn begin(&self) -> BTreeSet<Series> {
        let pipeline = self.versions.current();
        let stages = pipeline.stages.iter().enumerate();
        let of = |(position, stage): (usize, &Stage)| {
            let bound_for = shared::stage::next::bound_for(pipeline, position).to_owned();
            let kinds: &[Kind] = match stage.destination() {
                Some(_) => &[Kind::Timer, Kind::Turn, Kind::Original, Kind::Parked],
                None => &[Kind::Internal, Kind::Parked],
            };
            let of_kind = |kind: &Kind| series(*kind, stage.name.clone(), bound_for.clone());
            kinds.iter().map(of_kind).collect::<Vec<_>>()
        };
        stages.flat_map(of).collect()
    }

    fn note(&self, destination: &str, taken: i64) {
        let mut known = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = known.entry(destination.to_owned()).or_default();
        seen.push_back((Instant::now(), taken));
        while seen.len() > ROUNDS {
            seen.pop_front();
        }
    }

    /// How many were taken a second since the earliest look within a minute.
    fn rate(&self, destination: &str, taken: i64) -> f64 {
        let known = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((at, before)) = known.get(destination).and_then(VecDeque::front) else {
            return 0.0;
        };
        let past = at.elapsed().max(Duration::from_secs(1));
        shown((taken - before).max(0)) / past.as_secs_f64()
    }
}

fn stage(pipeline: &Pipeline, position: i16) -> Option<&Stage> {
    pipeline.stages.get(usize::try_from(position).ok()?)
}

fn series(kind: Kind, stage: String, destination: String) -> Series {
    match kind {
        Kind::Parked => ("parked", "", stage, destination),
        kind => ("waiting", kind.name(), stage, destination),
    }
}

/// How long `left` receipts take at `rate` calls a second.
fn drain(left: i64, rate: f64) -> Option<Duration> {
    if left <= 0 {
        return Some(Duration::ZERO);
    }
    Duration::try_from_secs_f64(shown(left) / rate).ok()
}

fn show_count((state, kind, at, destination): &Series, count: i64) {
    let labels = [
        ("state", (*state).to_owned()),
        ("kind", (*kind).to_owned()),
        ("stage", at.clone()),
        ("destination", destination.clone()),
    ];
    metrics::gauge!("chekhov_receipts", &labels).set(shown(count));
}

fn show_oldest(destination: &str, waiting: &Waiting) {
    for kind in [Kind::Internal, Kind::Timer, Kind::Turn, Kind::Original] {
        let oldest = waiting.oldest.iter().find(|(of, _)| *of == kind);
        let labels = [
            ("destination", destination.to_owned()),
            ("kind", kind.name().to_owned()),
        ];
        metrics::gauge!("chekhov_oldest_wait_seconds", &labels).set(oldest.map_or(0.0, |(_, age)| age.as_secs_f64()));
    }
}

fn show(known: &Destination, tallies: &[Tally], backlog: &Backlog) {
    let destination = || known.name.clone();
    let due = backlog.waiting.due + backlog.kinds[&Kind::Turn];
    metrics::gauge!("chekhov_receipts_due", "destination" => destination()).set(shown(due));
    let drain = backlog.drain.map_or(f64::INFINITY, |drain| drain.as_secs_f64());
    metrics::gauge!("chekhov_drain_seconds", "destination" => destination()).set(drain);
    for (state, parked) in [("waiting", false), ("parked", true)] {
        let of_it = |tally: &&Tally| tally.unresolved && (tally.kind == Kind::Parked) == parked;
        let unresolved = tallies.iter().filter(of_it).map(|tally| tally.count).sum();
        metrics::gauge!("chekhov_unresolved_calls", "destination" => destination(), "state" => state)
            .set(shown(unresolved));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_drains_at_the_limit_and_never_where_nothing_is_taken() {
        assert_eq!(drain(0, 0.0), Some(Duration::ZERO));
        assert_eq!(drain(500, 50.0), Some(Duration::from_secs(10)));
        assert_eq!(drain(500, 0.0), None);
    }
}
