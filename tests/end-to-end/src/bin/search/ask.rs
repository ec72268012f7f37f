//! What is asked: every search there is an index for, histories, failures, destinations.

use std::time::{Duration, Instant};

use anyhow::ensure;
use end_to_end::{Api, Database};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::fill::LONG;

/// Searches, as queries; what stands in `{}` is another merchant each time.
const SEARCHES: [&str; 27] = [
    "",
    "state=waiting",
    "state=waiting&destination=fiscal",
    "state=waiting&destination=other",
    "destination=fiscal&stage=register",
    "state=parked",
    "state=parked&destination=other",
    "state=rejected",
    "state=cancelled",
    "state=registered",
    "state=running",
    "state=waiting&stage=validate",
    "outcome=unknown",
    "outcome=retry&state=waiting&destination=fiscal",
    "outcome=poll",
    "outcome=undeclared",
    "deadline_before={soon}",
    "deadline_before={soon}&destination=other",
    "older_than=6h",
    "accepted_after={ago}&state=waiting",
    "moved_before={ago}&state=parked",
    "merchant={}",
    "merchant={}&state=registered",
    "merchant={}&state=waiting",
    "merchant={}&state=parked",
    "merchant={}&state=rejected",
    "merchant={}&outcome=retry",
];

/// Receipts whose histories are read.
const HISTORIES: [(&str, &str); 5] = [
    ("of what waits", "select id from work where state = 'waiting'"),
    ("of what is parked", "select id from work where state = 'parked'"),
    (
        "of a refund that waits",
        "select id from work where waits_for is not null",
    ),
    (
        "of what is registered",
        "select id from finished where state = 'registered' and exists (select from calls where receipt = finished.id)",
    ),
    (
        "of 2,000 calls",
        "select receipt as id from receipt_keys where external_id = 'search-long'",
    ),
];

/// What is read besides, by its path and query.
const OVERVIEWS: [(&[&str], &str); 4] = [
    (&["v1", "failures"], ""),
    (&["v1", "failures"], "destination=fiscal"),
    (&["v1", "destinations"], ""),
    (&["v1", "destinations", "fiscal"], ""),
];

/// A question that is asked many times.
#[derive(Debug)]
pub struct Question {
    /// What it is called.
    pub name: String,
    path: Vec<String>,
    query: Vec<(String, String)>,
    /// Each time another: what stands for `{}`.
    each: Vec<String>,
}

/// How long answers took.
#[derive(Debug)]
pub struct Took {
    /// Receipts, groups or calls of the last answer.
    pub answers: usize,
    sorted: Vec<Duration>,
}

impl Took {
    /// The nearest-rank percentile.
    pub fn at(&self, percent: usize) -> Duration {
        let rank = (self.sorted.len() * percent).div_ceil(100).max(1);
        self.sorted.get(rank - 1).copied().unwrap_or_default()
    }
}

impl Question {
    /// All of them.
    pub fn all(database: &Database) -> anyhow::Result<Vec<Self>> {
        ensure!(
            HISTORIES[4].1.contains(LONG),
            "the receipt of many calls has another name"
        );
        let merchants: Vec<String> = (0..1000).map(|n| format!("m-{n}")).collect();
        let receipts = ["v1", "receipts"];
        let mut all: Vec<Self> = SEARCHES
            .iter()
            .map(|query| Self::new(&receipts, query, merchants.clone()))
            .collect();
        for (of, ids) in HISTORIES {
            let found = database.sql(&format!("select id from ({ids}) t order by md5(id::text) limit 500"))?;
            let each: Vec<String> = found.lines().map(str::to_owned).collect();
            ensure!(!each.is_empty(), "there is no history {of}");
            let mut question = Self::new(&["v1", "receipts", "{}"], "", each);
            question.name = format!("a history {of}");
            all.push(question);
        }
        all.extend(OVERVIEWS.iter().map(|(path, query)| Self::new(path, query, Vec::new())));
        Ok(all)
    }

    fn new(path: &[&str], query: &str, each: Vec<String>) -> Self {
        let at = |ahead: time::Duration| (OffsetDateTime::now_utc() + ahead).format(&Rfc3339).unwrap_or_default();
        let value = |value: &str| match value {
            "{soon}" => at(time::Duration::minutes(5)),
            "{ago}" => at(time::Duration::hours(-6)),
            other => other.to_owned(),
        };
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        Self {
            name: format!("/{}?{query}", path.join("/")),
            path: path.iter().map(|segment| (*segment).to_owned()).collect(),
            query: pairs.map(|(key, text)| (key.to_owned(), value(text))).collect(),
            each,
        }
    }

    /// Asks it so often, one after the other; a search goes on from page to page, and begins again at the end.
    pub async fn ask(&self, api: &Api, times: usize) -> anyhow::Result<Took> {
        let (mut sorted, mut answers, mut after) = (Vec::with_capacity(times), 0, None::<String>);
        // Another merchant's pages are another search's.
        let is_one = self.query.iter().all(|(_, value)| value != "{}");
        for n in 0..times {
            let each = self.each.get(n % self.each.len().max(1)).map_or("", String::as_str);
            let given = |text| if text == "{}" { each } else { text };
            let path: Vec<&str> = self.path.iter().map(|segment| given(segment.as_str())).collect();
            let pairs = self.query.iter();
            let mut query: Vec<(&str, &str)> = pairs
                .map(|(key, value)| (key.as_str(), given(value.as_str())))
                .collect();
            query.extend(after.as_deref().filter(|_| is_one).map(|after| ("after", after)));
            let begun = Instant::now();
            let answer = api.ask(&path, &query).await?;
            sorted.push(begun.elapsed());
            ensure!(answer.status == 200, "{}: {} {}", self.name, answer.status, answer.body);
            let lists = ["receipts", "groups", "destinations", "history"];
            let list = lists.iter().find_map(|list| answer.body[list].as_array());
            answers = list.map_or(1, Vec::len);
            after = answer.body["next"].as_str().map(str::to_owned);
        }
        sorted.sort_unstable();
        Ok(Took { answers, sorted })
    }
}
