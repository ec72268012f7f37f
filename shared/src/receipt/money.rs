//! Quantities and sums in whole numbers, without a float anywhere.

use std::fmt;

use serde::{Serialize, Serializer};

/// The most a receipt may be worth, in minor units.
pub const MOST_TOTAL: i64 = 9_999_999_999;

/// The places of a quantity.
const PLACES: usize = 6;
/// The millionths of one.
const ONE: u64 = 1_000_000;
/// The most digits before the point. At a price of 1 more of them exceed [`MOST_TOTAL`]; ten of them with all six places
/// fit in 64 bits, also where the price is 0 and no sum bounds the quantity.
const MOST_DIGITS: usize = 10;

/// How many of an item, in millionths: more than 0 and less than 10,000,000,000.
///
/// Written (`Display`, JSON) as the shortest decimal: `1`, `0.5`, `0.333333`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity(u64);

impl Quantity {
    /// Reads a decimal such as `2` or `0.380`: digits, with a point between digits or none, at most six places, more
    /// than 0. Neither a sign, an exponent nor white space. `None` for everything else.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (whole, fraction) = match text.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (text, ""),
        };
        if whole.is_empty() || whole.len() > MOST_DIGITS || fraction.len() > PLACES {
            return None;
        }
        let mut millionths = 0;
        for digit in whole.bytes().chain(fraction.bytes()) {
            if !digit.is_ascii_digit() {
                return None;
            }
            millionths = millionths * 10 + u64::from(digit - b'0');
        }
        for _ in fraction.len()..PLACES {
            millionths *= 10;
        }
        (millionths > 0).then_some(Self(millionths))
    }

    /// The quantity in millionths.
    #[must_use]
    pub fn millionths(self) -> u64 {
        self.0
    }

    /// What this many cost at `price` minor units (0 or more) each: price × quantity, rounded half up to whole minor
    /// units, exactly. 128 bits hold the product of every price and every quantity.
    #[must_use]
    pub fn times(self, price: i64) -> i128 {
        (i128::from(price) * i128::from(self.0) + i128::from(ONE / 2)).div_euclid(i128::from(ONE))
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, mut fraction, mut places) = (self.0 / ONE, self.0 % ONE, PLACES);
        if fraction == 0 {
            return write!(formatter, "{whole}");
        }
        while fraction % 10 == 0 {
            fraction /= 10;
            places -= 1;
        }
        write!(formatter, "{whole}.{fraction:0places$}")
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn half_is_rounded_up() {
        for (quantity, price, sum) in [
            ("0.5", 1, 1),
            ("0.499999", 1, 0),
            ("0.333333", 333, 111),
            ("2.5", 3, 8),
            ("1.000001", 500_000, 500_001),
            ("0.000001", 499_999, 0),
            ("9999999999.999999", 0, 0),
        ] {
            assert_eq!(
                Quantity::read(quantity).unwrap().times(price),
                sum,
                "{quantity} of {price}"
            );
        }
    }

    #[test]
    fn what_is_no_quantity() {
        for wrong in [
            "",
            ".",
            "0",
            "0.000000",
            "-1",
            "+1",
            "1.",
            ".5",
            "1.0000000",
            "1e3",
            "1,5",
            " 1",
            "1 ",
            "1.2.3",
            "NaN",
            "١",
        ] {
            assert_eq!(Quantity::read(wrong), None, "{wrong:?}");
        }
        assert_eq!(Quantity::read("10000000000"), None);
    }

    #[test]
    fn zeros_that_say_nothing_are_not_written() {
        for (read, written) in [
            ("1.0", "1"),
            ("0.380", "0.38"),
            ("10", "10"),
            ("2.000100", "2.0001"),
            ("007", "7"),
        ] {
            assert_eq!(Quantity::read(read).unwrap().to_string(), written);
        }
    }

    proptest! {
        #[test]
        fn rounding_is_exactly_half_up(price in 0i64.., millionths in 1u64..10_000_000_000_000_000) {
            let sum = Quantity(millionths).times(price);
            let over = sum * i128::from(ONE) - i128::from(price) * i128::from(millionths);
            prop_assert!((-499_999..=500_000).contains(&over), "off by {over} millionths");
        }

        #[test]
        fn a_quantity_is_read_back(millionths in 1u64..10_000_000_000_000_000, zeros in 0usize..3) {
            let quantity = Quantity(millionths);
            prop_assert_eq!(Quantity::read(&quantity.to_string()), Some(quantity));
            let padded = format!("{}{}.{:06}", "0".repeat(zeros), millionths / ONE, millionths % ONE);
            prop_assert!(padded.find('.') > Some(MOST_DIGITS) || Quantity::read(&padded) == Some(quantity));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,24}") {
            let _ = Quantity::read(&text);
        }
    }
}
