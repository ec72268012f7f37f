//! The options of a stack.

use std::path::{Path, PathBuf};

use crate::servers::Urls;

/// What a stack is to be like.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many orchestrators.
    pub orchestrators: usize,
    /// How many dispatchers.
    pub dispatchers: usize,
    /// Keys of the configuration and their values: `("destination.fiscal.limits", "50/s")`. In a value `{simulator}` is where the
    /// simulator is.
    pub configuration: Vec<(String, String)>,
    /// PostgreSQL and RabbitMQ; absent: those of the environment.
    pub servers: Option<Urls>,
    /// The port by which its processes reach PostgreSQL; absent: the server's own.
    pub proxy: Option<u16>,
    /// A pipeline; absent: the shipped one, with shorter delays.
    pub pipeline: Option<PathBuf>,
    /// More arguments of the simulator.
    pub simulator: Vec<String>,
    /// PEM file of the authority of its listeners, where the configuration puts them behind TLS.
    pub authority: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            orchestrators: 1,
            dispatchers: 1,
            configuration: Vec::new(),
            servers: None,
            proxy: None,
            pipeline: None,
            simulator: Vec::new(),
            authority: None,
        }
    }
}

impl Options {
    /// Runs one of the pipelines of `tests/end-to-end/pipelines`.
    #[must_use]
    pub fn pipeline(mut self, name: &str) -> Self {
        self.pipeline = Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines").join(name));
        self
    }

    /// Sets a key of the configuration.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.configuration.push((key.to_owned(), value.to_owned()));
        self
    }
}
