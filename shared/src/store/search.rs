//! Searching: a walk along the index that suits what is looked for, window by window. Never a scan, never a count of all.
//!
//! A window looks at a bounded number of entries and answers those that are meant: it may be short, or empty, and have a
//! next one. Nothing is held between two windows, so what moves meanwhile may be met twice or missed by a walk in the
//! order of what moves ([`Order::Nearest`]); by ids ([`Order::ById`]) each receipt is met at most once.

mod cursor;
mod filter;
mod meant;
mod source;

pub use cursor::Cursor;
pub(super) use filter::first_id;
pub use filter::{Filter, Outcome, State};

use sqlx::PgPool;
use uuid::Uuid;

use self::source::Source;
use super::StoreError;
use crate::stage::Versions;

/// The order of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By the index that has the fewest entries besides what is meant: for whoever looks.
    Nearest,
    /// By what does not change while it is walked: for whoever moves what it meets. With an end, if that is
    /// [`Filter::moved_before`].
    ById,
}

/// What a window is no more than.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Entries that are looked at.
    pub examine: usize,
    /// Receipts that are answered; at least 1.
    pub most: usize,
}

/// A stretch of a walk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Window {
    /// The receipts that were meant, in the walk's order.
    pub ids: Vec<Uuid>,
    /// How many entries were looked at.
    pub examined: usize,
    /// Where the next window begins; `None`: this was the last.
    pub next: Option<Cursor>,
}

/// Entries that are read at once.
const STRETCH: usize = 1000;

impl Cursor {
    /// Whether it is of such a walk, and not of another.
    #[must_use]
    pub fn fits(&self, filter: &Filter, order: Order) -> bool {
        let source = Source::chain(filter, order).get(self.source);
        source.is_some_and(|source| self.key.as_ref().is_none_or(|key| source.has(key)))
    }
}

/// The next window of the receipts that `filter` means, after `after`, which [fits](Cursor::fits). Ages are to be
/// [fixed](Filter::fixed) before.
///
/// # Errors
/// When the database does not answer.
pub async fn window(
    pool: &PgPool,
    versions: &Versions,
    filter: &Filter,
    order: Order,
    after: Option<Cursor>,
    bounds: Bounds,
) -> Result<Window, StoreError> {
    let chain = Source::chain(filter, order);
    let mut place = after.unwrap_or(Cursor { source: 0, key: None });
    let mut window = Window::default();
    while let Some(source) = chain.get(place.source) {
        if window.examined >= bounds.examine {
            window.next = Some(place);
            break;
        }
        // As many as are wanted, and more where few of them are meant.
        let stretch = (bounds.most - window.ids.len()).max(window.examined).min(STRETCH);
        let stretch = stretch.min(bounds.examine - window.examined);
        let most = i64::try_from(stretch).unwrap_or(i64::MAX);
        let entries = source.entries(pool, filter, place.key.as_ref(), most).await?;
        let ids: Vec<Uuid> = entries.iter().map(|(_, id)| *id).collect();
        let meant = meant::of(pool, versions, filter, &ids).await?;
        for (key, id) in entries {
            window.examined += 1;
            place.key = Some(key);
            if meant.contains(&id) {
                window.ids.push(id);
                if window.ids.len() >= bounds.most {
                    window.next = Some(place);
                    return Ok(window);
                }
            }
        }
        if ids.len() < stretch {
            place = Cursor {
                source: place.source + 1,
                key: None,
            };
        }
    }
    Ok(window)
}
