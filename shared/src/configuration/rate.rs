//! Limits as people write them: `50/s`, `1200/m`, `180/h`, several of them in one destination.

use std::fmt;
use std::time::Duration;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// So many calls in any stretch of so much time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// At least 1.
    pub calls: u32,
    /// A second, a minute or an hour.
    pub per: Duration,
}

impl Rate {
    fn parse(text: &str) -> Option<Self> {
        let (calls, per) = text.trim().split_once('/')?;
        let calls = calls.trim().parse().ok().filter(|calls| *calls > 0)?;
        let seconds = match per.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return None,
        };
        Some(Self {
            calls,
            per: Duration::from_secs(seconds),
        })
    }

    /// How many calls it admits within `time`.
    #[must_use]
    pub fn admits(&self, time: Duration) -> usize {
        let calls = u128::from(self.calls) * time.as_millis() / self.per.as_millis().max(1);
        usize::try_from(calls).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = match self.per.as_secs() {
            1 => "s",
            60 => "m",
            _ => "h",
        };
        write!(formatter, "{}/{per}", self.calls)
    }
}

/// Limits that hold all at once; none: no limit. Written as a list, or as one text with commas.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits(pub Vec<Rate>);

impl Limits {
    /// How many calls they admit within `time` in the long run; `None`: any number.
    #[must_use]
    pub fn admit(&self, time: Duration) -> Option<usize> {
        self.0.iter().map(|rate| rate.admits(time)).min()
    }

    /// How many calls a second they admit in the long run; `None`: any number.
    #[must_use]
    pub fn per_second(&self) -> Option<f64> {
        let rates = self.0.iter().map(|rate| f64::from(rate.calls) / rate.per.as_secs_f64());
        rates.min_by(f64::total_cmp)
    }

    /// The time from one call to the next in the long run.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.0
            .iter()
            .map(|rate| rate.per / rate.calls)
            .max()
            .unwrap_or_default()
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, rate) in self.0.iter().enumerate() {
            write!(formatter, "{}{rate}", if n > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

impl Serialize for Limits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(ToString::to_string))
    }
}

impl<'de> Deserialize<'de> for Limits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = Limits;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("limits such as [\"50/s\", \"180/h\"]")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Limits, E> {
                if text.trim().is_empty() {
                    return Ok(Limits::default());
                }
                text.split(',').map(rate).collect::<Result<_, _>>().map(Limits)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<Limits, A::Error> {
                let mut rates = Vec::new();
                while let Some(text) = texts.next_element::<String>()? {
                    rates.push(rate(&text)?);
                }
                Ok(Limits(rates))
            }
        }
        deserializer.deserialize_any(Texts)
    }
}

fn rate<E: Error>(text: &str) -> Result<Rate, E> {
    Rate::parse(text).ok_or_else(|| {
        E::custom(format!(
            "{text:?} is not a limit such as \"50/s\", \"1200/m\" or \"180/h\""
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(json: &str) -> Result<Limits, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn limits_are_a_list_or_one_text() {
        let both = limits(r#"["50/s", "180/h"]"#).unwrap();
        assert_eq!(
            both.0[1],
            Rate {
                calls: 180,
                per: Duration::from_hours(1)
            }
        );
        assert_eq!(limits(r#""50/s, 180/h""#).unwrap(), both);
        assert_eq!(serde_json::to_string(&both).unwrap(), r#"["50/s","180/h"]"#);
        assert_eq!(both.to_string(), "50/s, 180/h");
        assert_eq!(limits(r#""""#).unwrap(), Limits::default());
        for wrong in ["50", "0/s", "-1/s", "50/d", "50/s/s", "50/s,"] {
            assert!(limits(&format!("{wrong:?}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_narrowest_decides_in_the_long_run() {
        let both = limits(r#"["50/s", "180/h"]"#).unwrap();
        assert_eq!(both.interval(), Duration::from_secs(20));
        assert_eq!(both.admit(Duration::from_mins(1)), Some(3));
        assert_eq!(Limits::default().admit(Duration::from_secs(1)), None);
    }
}
