//! The taxpayer's number and its check digits.

/// Whether `inn` has 10 or 12 digits and its check digits are right.
pub(super) fn is_inn(inn: &str) -> bool {
    let digits: Vec<u32> = inn.chars().filter_map(|digit| digit.to_digit(10)).collect();
    if digits.len() != inn.len() {
        return false;
    }
    let check = |weights: &[u32]| {
        weights
            .iter()
            .zip(&digits)
            .map(|(weight, digit)| weight * digit)
            .sum::<u32>()
            % 11
            % 10
    };
    match digits.len() {
        10 => check(&[2, 4, 10, 3, 5, 9, 4, 6, 8]) == digits[9],
        12 => {
            check(&[7, 2, 4, 10, 3, 5, 9, 4, 6, 8]) == digits[10]
                && check(&[3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8]) == digits[11]
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_inn;

    #[test]
    fn check_digits_are_checked() {
        for good in ["3914177768", "391417776386", "2500080632", "750889957950"] {
            assert!(is_inn(good), "{good}");
        }
        for wrong in [
            "3914177769",
            "391417776387",
            "391417776396",
            "",
            "391417776a",
            "39141777681",
        ] {
            assert!(!is_inn(wrong), "{wrong}");
        }
    }
}
