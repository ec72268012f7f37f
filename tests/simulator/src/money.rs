//! Integer arithmetic of receipts: sums, VAT, check digits. Never a float.

/// The VAT rates a receipt may name, each with its percentage, in the order they are reported in.
const RATES: [(&str, u64); 12] = [
    ("none", 0),
    ("vat0", 0),
    ("vat5", 5),
    ("vat7", 7),
    ("vat10", 10),
    ("vat20", 20),
    ("vat22", 22),
    ("vat105", 5),
    ("vat107", 7),
    ("vat110", 10),
    ("vat120", 20),
    ("vat122", 22),
];

/// The VAT contained in the items, one entry for each rate that occurs, from pairs of rate and sum.
///
/// `Err` holds a rate that does not exist.
pub(crate) fn vat_inside<'a>(
    items: impl IntoIterator<Item = (&'a str, u64)>,
) -> Result<Vec<(&'static str, u64)>, &'a str> {
    let mut sums: [Option<u128>; RATES.len()] = [None; RATES.len()];
    for (rate, sum) in items {
        let place = RATES.iter().position(|(name, _)| *name == rate).ok_or(rate)?;
        sums[place] = Some(u128::from(sum) + sums[place].unwrap_or_default());
    }
    let taxes = RATES.iter().zip(sums).filter_map(|((name, percent), sum)| {
        let percent = u128::from(*percent);
        Some((*name, narrow(half_up(sum? * percent, 100 + percent))))
    });
    Ok(taxes.collect())
}

/// Price × quantity, rounded half up; `None` unless the quantity is a decimal above 0 with at most six places.
pub(crate) fn line_sum(price: u64, quantity: &str) -> Option<u64> {
    let millionths = millionths(quantity).filter(|quantity| *quantity > 0)?;
    let product = u128::from(price).checked_mul(millionths)?;
    u64::try_from(half_up(product, 1_000_000)).ok()
}

/// A decimal with at most two places, in hundredths: kopecks of roubles.
pub(crate) fn hundredths(amount: &str) -> Option<u64> {
    let millionths = millionths(amount)?;
    (millionths % 10_000 == 0)
        .then(|| u64::try_from(millionths / 10_000).ok())
        .flatten()
}

/// Hundredths as a decimal.
pub(crate) fn decimal(hundredths: u64) -> String {
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// Is it a taxpayer's number: 10 or 12 digits, the last one or two of which check the others?
pub(crate) fn is_inn(text: &str) -> bool {
    const WEIGHTS: [u32; 11] = [3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8];
    let Some(digits) = text.chars().map(|digit| digit.to_digit(10)).collect::<Option<Vec<_>>>() else {
        return false;
    };
    let checks = |place: usize| {
        let weights = &WEIGHTS[WEIGHTS.len() - place..];
        let sum: u32 = weights.iter().zip(&digits).map(|(weight, digit)| weight * digit).sum();
        sum % 11 % 10 == digits[place]
    };
    match digits.len() {
        10 => checks(9),
        12 => checks(10) && checks(11),
        _ => false,
    }
}

fn millionths(quantity: &str) -> Option<u128> {
    let (whole, places) = match quantity.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (quantity, ""),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 18 || places.len() > 6 || !digits(whole) || !digits(places) {
        return None;
    }
    format!("{whole}{places:0<6}").parse().ok()
}

fn half_up(dividend: u128, divisor: u128) -> u128 {
    (2 * dividend + divisor) / (2 * divisor)
}

fn narrow(sum: u128) -> u64 {
    u64::try_from(sum).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vat_is_inside_the_sum_and_rounded_half_up() {
        let items = [("vat20", 12_345), ("none", 7), ("vat20", 55), ("vat105", 21)];
        assert_eq!(vat_inside(items), Ok(vec![("none", 0), ("vat20", 2067), ("vat105", 1)]));
        assert_eq!(vat_inside([("vat20", 3)]), Ok(vec![("vat20", 1)]), "a half rounds up");
        assert_eq!(vat_inside([("vat18", 100)]), Err("vat18"));
    }

    #[test]
    fn lines_round_half_up() {
        assert_eq!(line_sum(12_345, "1"), Some(12_345));
        assert_eq!(line_sum(1, "0.5"), Some(1));
        assert_eq!(line_sum(1, "0.499999"), Some(0));
        assert_eq!(line_sum(333, "3.000000"), Some(999));
        for quantity in ["", "0", "0.0", "-1", "1.", ".5", "1e3", "0.0000001", "+1", "1 "] {
            assert_eq!(line_sum(1, quantity), None, "{quantity:?}");
        }
    }

    #[test]
    fn roubles_are_decimals() {
        for (text, kopecks) in [("123.45", 12_345), ("7", 700), ("0.5", 50), ("12.0", 1200)] {
            assert_eq!(hundredths(text), Some(kopecks));
            assert_eq!(hundredths(&decimal(kopecks)), Some(kopecks));
        }
        for text in ["1.005", "1e2", "-1", "\"1\"", ""] {
            assert_eq!(hundredths(text), None, "{text}");
        }
    }

    #[test]
    fn check_digits() {
        for inn in ["3914177768", "391417776386", "000000000000"] {
            assert!(is_inn(inn), "{inn}");
        }
        for inn in [
            "3914177769",
            "391417776387",
            "391417776396",
            "39141777638",
            "",
            "391417776x",
        ] {
            assert!(!is_inn(inn), "{inn}");
        }
    }
}
