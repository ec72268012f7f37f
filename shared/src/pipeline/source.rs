//! The text of a pipeline: its TOML and the filters that stand in files of their own.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Mistakes;

/// What is stored of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The pipeline's file.
    pub toml: String,
    /// The contents of every `body_file`, by name.
    pub files: BTreeMap<String, String>,
    /// Why a `body_file` could not be read, by name: a mistake, once it is compiled.
    #[serde(skip)]
    pub unread: BTreeMap<String, String>,
}

impl Source {
    /// Reads a pipeline's file and those it names, beside it.
    ///
    /// # Errors
    /// When the file cannot be read. What it names and cannot be read is a mistake of its place.
    pub fn read(path: &Path) -> Result<Self, Mistakes> {
        let toml =
            std::fs::read_to_string(path).map_err(|error| Mistakes(vec![format!("{}: {error}", path.display())]))?;
        let base = path.parent().unwrap_or_else(|| Path::new("."));
        let mut unread = BTreeMap::new();
        let mut files = BTreeMap::new();
        // A file that is no TOML is reported, with its line, when it is compiled.
        for name in toml
            .parse::<toml::Table>()
            .map(|table| named(&table))
            .unwrap_or_default()
        {
            match std::fs::read_to_string(base.join(&name)) {
                Ok(text) => {
                    files.insert(name, text);
                }
                Err(error) => drop(unread.insert(name.clone(), format!("{name:?}: {error}"))),
            }
        }
        Ok(Self { toml, files, unread })
    }

    /// The version: what two sources share exactly when they say the same, to the letter.
    #[must_use]
    pub fn version(&self) -> String {
        let mut hash = Sha256::new();
        for part in std::iter::once(&self.toml).chain(self.files.iter().flat_map(|(name, text)| [name, text])) {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(part);
        }
        hex::encode(&hash.finalize()[..8])
    }
}

fn named(table: &toml::Table) -> Vec<String> {
    table
        .iter()
        .flat_map(|(key, value)| match value {
            toml::Value::String(name) if key == "body_file" => vec![name.clone()],
            toml::Value::Table(table) => named(table),
            _ => Vec::new(),
        })
        .collect()
}
