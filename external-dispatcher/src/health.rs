//! What this dispatcher makes of its calls: it closes the destination for everybody when it has failed as such or told us to
//! wait, and opens it again by a canary that was answered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use shared::configuration;
use shared::destination::{Destination, Following};
use shared::life::Heart;
use shared::stage::Seen;
use shared::store::destinations::{self, Probed};
use sqlx::PgPool;
use tokio_util::task::TaskTracker;

use crate::breaker::{Breaker, Sign};

/// How long ago a receipt may have come through a stage that others are said to pass.
const OF_LATE: Duration = Duration::from_mins(1);
/// How long until the next look when there was nothing to probe with.
const NOTHING: Duration = Duration::from_secs(1);

/// The health of one destination, as this dispatcher sees it.
pub struct Health {
    /// The destination's name.
    pub destination: String,
    /// Where its state is followed.
    pub following: Arc<Following>,
    /// The database.
    pub pool: PgPool,
    /// This instance.
    pub heart: Arc<Heart>,
    /// What is in flight.
    pub tracker: TaskTracker,
    breaker: Mutex<Breaker>,
    /// When a receipt last came through each stage.
    passed: Mutex<BTreeMap<String, Instant>>,
    /// Answers that take longer are failures.
    slow: Duration,
    /// How long a canary may take.
    canary: Duration,
    probe: Duration,
    probe_max: Duration,
}

impl Health {
    /// Of a destination of the configuration.
    #[must_use]
    pub fn new(
        name: &str,
        destination: &configuration::Destination,
        following: Arc<Following>,
        pool: PgPool,
        heart: Arc<Heart>,
        tracker: TaskTracker,
    ) -> Self {
        Self {
            destination: name.to_owned(),
            following,
            pool,
            heart,
            tracker,
            breaker: Mutex::default(),
            passed: Mutex::default(),
            slow: destination.timeout / 2,
            // With a token: another's lease, a fetch, the call, a fetch, and the call again.
            canary: destination.timeout * if destination.token.is_some() { 5 } else { 2 } + Duration::from_secs(5),
            probe: destination.probe,
            probe_max: destination.probe_max,
        }
    }

    /// Takes note of a receipt that came through a stage.
    pub fn passed(&self, stage: &str) {
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        match passed.get_mut(stage) {
            Some(last) => *last = Instant::now(),
            None => drop(passed.insert(stage.to_owned(), Instant::now())),
        }
    }

    /// Whether one has of late: whoever fails there again and again fails by itself.
    #[must_use]
    pub fn passes(&self, stage: &str) -> bool {
        let passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        passed.get(stage).is_some_and(|last| last.elapsed() < OF_LATE)
    }

    /// Takes note of a call, and closes the destination if that is what follows.
    pub fn note(self: &Arc<Self>, call: &Seen<'_>) {
        let Some(known) = self.following.get(&self.destination) else {
            return;
        };
        let now = Instant::now();
        let (pause, probes, reason) = match Sign::of(call, now - call.begun, self.slow) {
            Sign::Wait(after, reason) => {
                let until = known.closing.as_ref().map(|closing| closing.probe);
                if until.is_some_and(|until| until + destinations::SAME > now + after) {
                    return;
                }
                (after, self.lately(&known).unwrap_or_default(), reason)
            }
            sign if known.admits() => {
                let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
                breaker.opened(known.opened());
                let failed = matches!(sign, Sign::Failure(_) | Sign::Refused(_));
                if !breaker.note(call.receipt, call.begun, now, failed) {
                    return;
                }
                let reason = match sign {
                    Sign::Failure(reason) => reason,
                    Sign::Refused(reason) => {
                        tracing::error!(destination = %self.destination, reason, "good credentials are refused");
                        let name = self.destination.clone();
                        metrics::counter!("chekhov_credentials_refused_total", "destination" => name).increment(1);
                        reason
                    }
                    Sign::Life | Sign::Wait(..) => return,
                };
                // What follows it is the same failure until the destination has opened again.
                breaker.opened(Some(now));
                let probes = self.lately(&known).map_or(0, |probes| probes.saturating_add(1));
                (self.pause(probes), probes, reason)
            }
            _ => return,
        };
        let health = Arc::clone(self);
        self.tracker
            .spawn(async move { health.close(pause, probes, &reason).await });
    }

    async fn close(&self, pause: Duration, probes: i32, reason: &str) {
        match destinations::close(&self.pool, &self.destination, pause, probes, reason).await {
            Ok(true) => {
                tracing::warn!(destination = %self.destination, reason, ?pause, "closed");
                metrics::counter!("chekhov_destination_closings_total", "destination" => self.destination.clone())
                    .increment(1);
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, destination = %self.destination, "it could not be closed"),
        }
        self.following.refresh().await;
    }

    /// What an open destination went through before it opened, if it has not been open for long enough to be well. That it
    /// fails again by then is one canary more that failed: of one whose canaries are answered while other calls fail, openings
    /// become as rare as canaries would.
    fn lately(&self, known: &Destination) -> Option<i32> {
        let well = known.settings.slow_start.max(self.probe_max);
        known
            .opened()
            .is_some_and(|at| at.elapsed() < well)
            .then_some(known.probes)
    }

    /// The pause before the next canary, after so many that failed.
    fn pause(&self, probes: i32) -> Duration {
        let doubled = self
            .probe
            .saturating_mul(2u32.saturating_pow(u32::try_from(probes).unwrap_or_default()));
        doubled.min(self.probe_max.max(self.probe))
    }

    /// Takes the canary, if it is anybody's: until the call has certainly ended.
    pub async fn take_canary(&self) -> bool {
        match destinations::take_canary(&self.pool, &self.destination, self.heart.id(), self.canary).await {
            Ok(taken) => taken,
            Err(error) => {
                tracing::warn!(%error, destination = %self.destination, "no canary without the database");
                false
            }
        }
    }

    /// Takes note of what the canary came to; answers whether the destination showed life, and opens.
    pub fn probed(self: &Arc<Self>, call: &Seen<'_>) -> bool {
        let known = self.following.get(&self.destination);
        let pause = known
            .map_or(self.probe, |known| self.pause(known.probes) * 2)
            .min(self.probe_max);
        let probed = match Sign::of(call, call.begun.elapsed(), self.slow) {
            Sign::Life => Probed::Alive,
            Sign::Failure(reason) | Sign::Refused(reason) => Probed::Failed { pause, reason },
            Sign::Wait(after, reason) => Probed::Failed {
                pause: pause.max(after),
                reason,
            },
        };
        let alive = probed == Probed::Alive;
        let health = Arc::clone(self);
        self.tracker.spawn(async move { health.end_canary(&probed).await });
        alive
    }

    /// There was nothing to probe with.
    pub async fn nothing(&self) {
        self.end_canary(&Probed::Nothing { pause: NOTHING }).await;
    }

    async fn end_canary(&self, probed: &Probed) {
        match destinations::probed(&self.pool, &self.destination, self.heart.id(), probed).await {
            Ok(true) => {
                let result = match probed {
                    Probed::Alive => "alive",
                    Probed::Failed { .. } => "failed",
                    Probed::Nothing { .. } => "nothing",
                };
                if !matches!(probed, Probed::Nothing { .. }) {
                    tracing::info!(destination = %self.destination, result, "canary");
                }
                metrics::counter!("chekhov_canaries_total", "destination" => self.destination.clone(), "result" => result)
                    .increment(1);
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, destination = %self.destination, "the canary's end could not be stored");
            }
        }
        self.following.refresh().await;
    }
}
