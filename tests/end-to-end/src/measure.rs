//! Times.

use time::Duration;

use crate::api::Receipt;

/// From acceptance to the end of the last call of the `internal` stages; `None` while there was none.
#[must_use]
pub fn early_stages(receipt: &Receipt, internal: &[String]) -> Option<Duration> {
    let calls = receipt.history.iter().filter(|call| internal.contains(&call.stage));
    let end = calls
        .map(|call| call.started_at + Duration::milliseconds(call.duration_ms))
        .max()?;
    Some(end - receipt.accepted_at)
}

/// The nearest-rank percentile of `values`, in any order; `None` of nothing.
#[must_use]
pub fn percentile(values: &[Duration], percent: usize) -> Option<Duration> {
    let mut values = values.to_vec();
    values.sort_unstable();
    let rank = (values.len() * percent).div_ceil(100).max(1);
    values.get(rank - 1).copied()
}

/// The most instants (in milliseconds) in any window of one second.
#[must_use]
pub fn busiest_second(instants: &[i64]) -> usize {
    let mut instants = instants.to_vec();
    instants.sort_unstable();
    let within = |first: usize| {
        instants[first..]
            .iter()
            .take_while(|at| **at < instants[first] + 1000)
            .count()
    };
    (0..instants.len()).map(within).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<_> = (1..=200).rev().map(Duration::milliseconds).collect();
        assert_eq!(percentile(&values, 99), Some(Duration::milliseconds(198)));
        assert_eq!(percentile(&values[..1], 99), Some(Duration::milliseconds(200)));
        assert_eq!(percentile(&[], 99), None);
    }
}
