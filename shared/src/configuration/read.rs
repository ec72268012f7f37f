//! From merged sources to sections: every mistake is kept, with its key.

use std::collections::BTreeMap;

use config::{Config, ConfigError, Map, Value, ValueKind};
use serde::de::DeserializeOwned;

use super::Invalid;

/// Reads sections and collects what is wrong with them.
pub(super) struct Reader {
    sources: Map<String, Value>,
    mistakes: Vec<String>,
}

/// A mistake within a section: the key, and what is wrong with it.
pub(super) type Mistake = (&'static str, &'static str);

/// Where a text is no TOML. The line itself is not shown: it may hold a secret.
pub(super) fn syntax(text: &str) -> Result<(), String> {
    text.parse::<toml::Table>().map(drop).map_err(|error| {
        let before = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..before].split(|byte| *byte == b'\n').count();
        format!("line {line}: {}", error.message())
    })
}

impl Reader {
    pub(super) fn new(source: &Config) -> Self {
        Self {
            sources: source.cache.clone().into_table().unwrap_or_default(),
            mistakes: Vec::new(),
        }
    }

    /// A key of the top level.
    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        let text = match self.sources.remove(key) {
            Some(value) => value.into_string().map_err(|error| error.to_string()),
            None => Err("is missing".to_owned()),
        };
        text.map_err(|error| self.mistakes.push(format!("{key}: {error}"))).ok()
    }

    /// `[key]`; one that is absent has its defaults.
    pub(super) fn section<T: DeserializeOwned>(&mut self, key: &str, check: fn(&T) -> Vec<Mistake>) -> Option<T> {
        let table = match self.sources.remove(key).map(Value::into_table) {
            Some(Ok(table)) => table,
            None => Map::new(),
            Some(Err(_)) => {
                self.mistakes.push(format!("{key}: a table [{key}] is needed"));
                return None;
            }
        };
        self.table(key, table, check)
    }

    /// Every `[kind.<name>]`.
    pub(super) fn sections<T: DeserializeOwned>(
        &mut self,
        kind: &str,
        check: fn(&T) -> Vec<Mistake>,
    ) -> BTreeMap<String, T> {
        let named = self
            .section::<Map<String, Value>>(kind, |_| Vec::new())
            .unwrap_or_default();
        let placed = named
            .into_iter()
            .map(|(name, value)| (format!("{kind}.{name}"), name, value));
        self.tables(placed.collect(), check)
    }

    /// Every `[kind.<name>.key]`, taken out of `[kind.<name>]`.
    pub(super) fn inner<T: DeserializeOwned>(
        &mut self,
        kind: &str,
        key: &str,
        check: fn(&T) -> Vec<Mistake>,
    ) -> BTreeMap<String, T> {
        let mut taken = Vec::new();
        if let Some(ValueKind::Table(named)) = self.sources.get_mut(kind).map(|value| &mut value.kind) {
            for (name, value) in named {
                if let ValueKind::Table(table) = &mut value.kind
                    && let Some(inner) = table.remove(key)
                {
                    taken.push((format!("{kind}.{name}.{key}"), name.clone(), inner));
                }
            }
        }
        self.tables(taken, check)
    }

    /// Takes note of a mistake that only several sections together show, unless there is one at this key already.
    pub(super) fn mistake(&mut self, key: &str, what: &str) {
        let place = format!("{key}: ");
        if !self.mistakes.iter().any(|known| known.starts_with(&place)) {
            self.mistakes.push(place + what);
        }
    }

    /// Tables by name, each with its place.
    fn tables<T: DeserializeOwned>(
        &mut self,
        placed: Vec<(String, String, Value)>,
        check: fn(&T) -> Vec<Mistake>,
    ) -> BTreeMap<String, T> {
        let mut found = BTreeMap::new();
        for (place, name, value) in placed {
            match value.into_table() {
                Ok(table) => found.extend(self.table(&place, table, check).map(|section| (name, section))),
                Err(_) => self.mistakes.push(format!("{place}: a table [{place}] is needed")),
            }
        }
        found
    }

    /// Reads each key alone first, since serde stops at the first that is wrong.
    fn table<T: DeserializeOwned>(
        &mut self,
        place: &str,
        table: Map<String, Value>,
        check: fn(&T) -> Vec<Mistake>,
    ) -> Option<T> {
        let (mut readable, mut wrong) = (Map::new(), Vec::new());
        for (key, value) in table {
            let alone = Map::from_iter([(key.clone(), value.clone())]);
            match T::deserialize(Value::new(None, alone)) {
                Err(error) if !is_missing(&error) => wrong.push(format!("{place}.{key}: {error}")),
                _ => drop(readable.insert(key, value)),
            }
        }
        wrong.sort();
        let whole = T::deserialize(Value::new(None, readable));
        match &whole {
            Ok(section) => wrong.extend(
                check(section)
                    .iter()
                    .map(|(key, what)| format!("{place}.{key}: {what}")),
            ),
            Err(error) => wrong.push(format!("{place}: {error}")),
        }
        self.mistakes.append(&mut wrong);
        whole.ok()
    }

    /// Every mistake, and every key that nobody read.
    pub(super) fn finish(mut self) -> Result<(), Invalid> {
        let mut unknown: Vec<_> = self
            .sources
            .keys()
            .map(|key| format!("{key}: no such section"))
            .collect();
        unknown.sort();
        self.mistakes.append(&mut unknown);
        if self.mistakes.is_empty() {
            Ok(())
        } else {
            Err(Invalid(self.mistakes))
        }
    }
}

/// A key read alone always misses others.
fn is_missing(error: &ConfigError) -> bool {
    error.to_string().starts_with("missing ")
}
