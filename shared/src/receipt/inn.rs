//! The taxpayer's number (INN) and its check digits.
//!
//! Ten digits for an organisation, twelve for a person. The last digit of ten, and each of the last two of twelve, is
//! the weighted sum of all digits before it, modulo 11, modulo 10.

/// The weights of a check digit over the eleven digits before it; a check digit with fewer before it uses the last ones.
const WEIGHTS: [u32; 11] = [3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8];

/// Whether `text` is 10 or 12 digits whose check digits are right.
pub(super) fn is_inn(text: &str) -> bool {
    let digits = text.as_bytes();
    if !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    match digits.len() {
        10 => checks(digits, 9),
        12 => checks(digits, 10) && checks(digits, 11),
        _ => false,
    }
}

/// Whether the digit at `at` (at most 11) is the check digit of those before it.
fn checks(digits: &[u8], at: usize) -> bool {
    let weights = &WEIGHTS[WEIGHTS.len() - at..];
    let sum: u32 = weights
        .iter()
        .zip(digits)
        .map(|(weight, digit)| weight * u32::from(digit - b'0'))
        .sum();
    sum % 11 % 10 == u32::from(digits[at] - b'0')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The published weights, each written out, as a second opinion.
    fn completed(digits: &[u32]) -> String {
        let check = |weights: &[u32], digits: &[u32]| {
            weights
                .iter()
                .zip(digits)
                .map(|(weight, digit)| weight * digit)
                .sum::<u32>()
                % 11
                % 10
        };
        let mut digits = digits.to_vec();
        if digits.len() == 9 {
            digits.push(check(&[2, 4, 10, 3, 5, 9, 4, 6, 8], &digits));
        } else {
            digits.push(check(&[7, 2, 4, 10, 3, 5, 9, 4, 6, 8], &digits));
            digits.push(check(&[3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8], &digits));
        }
        digits.iter().map(u32::to_string).collect()
    }

    #[test]
    fn known_numbers() {
        for good in ["3914177768", "391417776386", "7707083893", "500100732259"] {
            assert!(is_inn(good), "{good}");
        }
        for wrong in [
            "",
            "3914177769",
            "391417776387",
            "391417776396",
            "39141777681",
            "391417776a",
            "٣٩١٤١٧٧٧٦٨",
            "+914177768",
        ] {
            assert!(!is_inn(wrong), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn the_right_check_digits_and_no_other(
            digits in prop_oneof![prop::collection::vec(0u32..10, 9), prop::collection::vec(0u32..10, 10)],
            by in 1u8..10,
        ) {
            let inn = completed(&digits);
            prop_assert!(is_inn(&inn));
            for check in digits.len()..inn.len() {
                let mut wrong = inn.clone().into_bytes();
                wrong[check] = b'0' + (wrong[check] - b'0' + by) % 10;
                prop_assert!(!is_inn(std::str::from_utf8(&wrong).unwrap()));
            }
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,14}") {
            is_inn(&text);
        }
    }
}
