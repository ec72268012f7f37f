//! Limits as people write them: `50/s`, `1200/m`, `180/h`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

/// So many calls in so much time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// At least 1.
    pub calls: u32,
    /// A second, a minute or an hour.
    pub per: Duration,
}

impl Rate {
    fn parse(text: &str) -> Option<Self> {
        let (calls, per) = text.split_once('/')?;
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
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "{text:?} is not a rate such as \"50/s\", \"1200/m\" or \"180/h\""
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_a_number_and_a_unit() {
        assert_eq!(
            Rate::parse("180/h"),
            Some(Rate {
                calls: 180,
                per: Duration::from_hours(1)
            })
        );
        for wrong in ["", "50", "0/s", "-1/s", "50/d", "50/s/s"] {
            assert_eq!(Rate::parse(wrong), None, "{wrong}");
        }
    }
}
