//! What a query asks Prometheus for: the selectors in it.

/// Words that stand before a list of labels.
const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
/// Words that are no metric.
const WORDS: [&str; 7] = ["and", "or", "unless", "bool", "offset", "Inf", "NaN"];

/// The selectors of `query`, without ranges and offsets: each must find a series, or the query asks for what is not there.
#[must_use]
pub fn selectors(query: &str) -> Vec<String> {
    let mut selectors = Vec::new();
    let mut rest = query;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' | '\'' => quoted(rest),
            '[' => until(rest, ']'),
            '{' => {
                let matchers = until(rest, '}');
                selectors.push(rest[..matchers].to_owned());
                matchers
            }
            // Numbers and durations.
            '0'..='9' => span(rest, |letter| letter.is_ascii_alphanumeric() || letter == '.'),
            _ if is_name(first) => {
                let name = span(rest, is_name);
                let after = &rest[name..];
                let space = span(after, char::is_whitespace);
                let follows = &after[space..];
                let word = &rest[..name];
                if BEFORE_LABELS.contains(&word) && follows.starts_with('(') {
                    name + space + until(follows, ')')
                } else if WORDS.contains(&word) || BEFORE_LABELS.contains(&word) || is_applied(follows) {
                    name
                } else if after.starts_with('{') {
                    let whole = name + until(after, '}');
                    selectors.push(rest[..whole].to_owned());
                    whole
                } else {
                    selectors.push(word.to_owned());
                    name
                }
            }
            _ => first.len_utf8(),
        };
        rest = &rest[length..];
    }
    selectors
}

/// Whether what stands before is a function or an aggregation.
fn is_applied(follows: &str) -> bool {
    ["(", "by ", "by(", "without ", "without("]
        .iter()
        .any(|next| follows.starts_with(next))
}

fn is_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_' || letter == ':'
}

fn span(text: &str, is: impl Fn(char) -> bool) -> usize {
    text.find(|letter| !is(letter)).unwrap_or(text.len())
}

/// How long the text in quotes is that `text` begins with.
fn quoted(text: &str) -> usize {
    let quote = text.chars().next();
    let mut escaped = false;
    for (at, letter) in text.char_indices().skip(1) {
        match letter {
            '\\' if !escaped => escaped = true,
            _ if Some(letter) == quote && !escaped => return at + 1,
            _ => escaped = false,
        }
    }
    text.len()
}

/// How long it is up to `end`, which does not count in quotes.
fn until(text: &str, end: char) -> usize {
    let mut at = 0;
    while let Some(letter) = text[at..].chars().next() {
        match letter {
            '"' | '\'' => at += quoted(&text[at..]),
            _ if letter == end => return at + 1,
            _ => at += letter.len_utf8(),
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_selector_is_found_and_nothing_else() {
        for (query, found) in [
            ("up", vec!["up"]),
            (r#"absent(up{job="a{b}"} == 1)"#, vec![r#"up{job="a{b}"}"#]),
            (
                "sum by (stage, le) (rate(a:b_total[5m] offset 1h)) / on (stage) group_left max(c) > 4 * 3600",
                vec!["a:b_total", "c"],
            ),
            (
                r#"label_replace(a > 0 and on (x) b == 0, "y", "$1", "queue", ".*[.](.+)") or {job="j"}"#,
                vec!["a", "b", r#"{job="j"}"#],
            ),
        ] {
            assert_eq!(selectors(query), found, "{query}");
        }
    }
}
