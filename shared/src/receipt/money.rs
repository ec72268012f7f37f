//! Quantities and sums, in whole numbers only.

use std::fmt;

/// A quantity in millionths: more than 0, at most six places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantity(u64);

/// The most digits before the point: beyond it no sum could be within its bounds.
const WHOLE: usize = 10;

impl Quantity {
    /// Reads a decimal; `None` if it is none, zero, or has more than six places.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || whole.len() > WHOLE || fraction.len() > 6 {
            return None;
        }
        let millionths = whole.parse::<u64>().ok()? * 1_000_000 + format!("{fraction:0<6}").parse::<u64>().ok()?;
        (millionths > 0).then_some(Self(millionths))
    }

    /// price × quantity, rounded half up to whole kopecks.
    #[must_use]
    pub fn times(self, price: i64) -> i128 {
        (i128::from(price) * i128::from(self.0) + 500_000).div_euclid(1_000_000)
    }
}

/// Canonical: no zeros that say nothing.
impl fmt::Display for Quantity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / 1_000_000, self.0 % 1_000_000);
        if fraction == 0 {
            return write!(formatter, "{whole}");
        }
        write!(formatter, "{whole}.{}", format!("{fraction:06}").trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn half_is_rounded_up() {
        let times = |text, price| Quantity::parse(text).unwrap().times(price);
        assert_eq!(times("0.333333", 333), 111);
        assert_eq!(times("0.5", 1), 1);
        assert_eq!(times("0.499999", 1), 0);
        assert_eq!(times("2.5", 3), 8);
    }

    #[test]
    fn what_is_no_quantity() {
        for wrong in [
            "",
            "0",
            "0.0",
            "-1",
            "1.",
            ".5",
            "1.0000000",
            "1e3",
            "+1",
            "1,5",
            " 1",
            "12345678901",
        ] {
            assert_eq!(Quantity::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn rounding_is_exact(price in 0i64..=9_999_999_999, millionths in 1u64..10_000_000_000_000) {
            let sum = Quantity(millionths).times(price);
            let exact = i128::from(price) * i128::from(millionths);
            let rest = exact - sum * 1_000_000;
            prop_assert!((-500_000..500_000).contains(&rest), "off by {rest} millionths");
        }

        #[test]
        fn a_quantity_is_read_back(millionths in 1u64..10_000_000_000_000) {
            prop_assert_eq!(Quantity::parse(&Quantity(millionths).to_string()), Some(Quantity(millionths)));
        }
    }
}
