//! The options of a stack.

use std::path::PathBuf;

use crate::servers::Urls;

/// What a stack is to be like.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many orchestrators.
    pub orchestrators: usize,
    /// How many dispatchers.
    pub dispatchers: usize,
    /// Keys of the configuration and their values: `("destination.fiscal.limits", "50/s")`.
    pub configuration: Vec<(String, String)>,
    /// PostgreSQL and RabbitMQ; absent: those of the environment.
    pub servers: Option<Urls>,
    /// The port by which its processes reach PostgreSQL; absent: the server's own.
    pub proxy: Option<u16>,
    /// A pipeline; absent: the shipped one, with shorter delays.
    pub pipeline: Option<PathBuf>,
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
        }
    }
}

impl Options {
    /// Sets a key of the configuration.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.configuration.push((key.to_owned(), value.to_owned()));
        self
    }
}
