//! What an API tells of why it refused: for people, and so without the contacts and numbers of those whom the receipt is about.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex_lite::Regex;

/// An e-mail address; a telephone number as people write them; an INN, or whatever else is as long a number.
static PERSONAL: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let pattern = r"[^\s@<>(){}\[\],;:=]+@[^\s@<>(){}\[\],;:=]+|\+[0-9](?:[ ()-]{0,2}[0-9]){8,}|[0-9]{10,}";
    Regex::new(pattern).ok()
});

/// `text` with three dots instead of every e-mail address, telephone number and number of ten digits or more: it is shown
/// and kept, and an API may repeat what it was sent.
pub(super) fn told(text: &str) -> Cow<'_, str> {
    match &*PERSONAL {
        Some(personal) => personal.replace_all(text, "…"),
        None => Cow::Borrowed("…"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contacts_and_inns_are_left_out_and_everything_else_stays() {
        for (text, expected) in [
            ("e-mail a.b+c@shop.example is not known", "e-mail … is not known"),
            ("<иван@почта.рф>: refused", "<…>: refused"),
            ("phone +7 (999) 123-45-67, please", "phone …, please"),
            ("phone:+79991234567", "phone:…"),
            ("ИНН 3914177768 и 391417776386", "ИНН … и …"),
            (
                "sum 9999999 at 2026-11-24 12:00:00, code 33",
                "sum 9999999 at 2026-11-24 12:00:00, code 33",
            ),
            (
                "4bf92f35-77b3-4da6-a3ce-929d0e0e4736",
                "4bf92f35-77b3-4da6-a3ce-929d0e0e4736",
            ),
        ] {
            assert_eq!(told(text), expected);
        }
    }
}
