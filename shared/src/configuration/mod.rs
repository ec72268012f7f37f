//! The configuration: one TOML file for both processes, overridden by `CHEKHOV__…` environment variables
//! (`CHEKHOV__DATABASE__URL` is `database.url`).
//!
//! Every key is described where it stands; a key that nobody reads is a mistake. Secrets never show in `Debug`.

pub(crate) mod duration;
mod endpoints;
mod filter;
mod identity;
mod rate;
mod read;
mod secret;
mod sections;
mod token;

pub use duration::duration;
pub(crate) use endpoints::quarter_of_an_hour;
pub use endpoints::{Destination, Service};
pub use identity::{Signature, Tls};
pub use rate::{Limits, Rate};
pub use secret::{Secret, SecretKey};
pub use sections::{
    Database, Dispatcher, Heartbeat, Intake, LogFormat, Orchestrator, RabbitMq, Role, Secrets, Telemetry, Token,
};
pub use token::TokenSource;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use read::{Reader, syntax};

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// The pipeline's file, relative to the configuration's.
    pub pipeline: PathBuf,
    /// `[database]`
    pub database: Database,
    /// `[rabbitmq]`
    pub rabbitmq: RabbitMq,
    /// `[intake]`
    pub intake: Intake,
    /// `[orchestrator]`
    pub orchestrator: Orchestrator,
    /// `[dispatcher]`
    pub dispatcher: Dispatcher,
    /// `[telemetry]`
    pub telemetry: Telemetry,
    /// `[heartbeat]`
    pub heartbeat: Heartbeat,
    /// `[secrets]`
    pub secrets: Secrets,
    /// `[service.<name>]`: internal services.
    pub service: BTreeMap<String, Service>,
    /// `[destination.<name>]`: external APIs.
    pub destination: BTreeMap<String, Destination>,
}

/// Why a configuration cannot be used: every mistake, with its key.
#[derive(Debug, thiserror::Error)]
#[error("the configuration cannot be used:\n{}", .0.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))]
pub struct Invalid(pub Vec<String>);

impl Configuration {
    /// Reads the file and the environment.
    ///
    /// # Errors
    /// Every mistake that can be found, each with its key.
    pub fn load(path: &Path) -> Result<Self, Invalid> {
        let text =
            std::fs::read_to_string(path).map_err(|error| Invalid(vec![format!("{}: {error}", path.display())]))?;
        syntax(&text).map_err(|mistake| Invalid(vec![format!("{}: {mistake}", path.display())]))?;
        let environment = config::Environment::with_prefix("CHEKHOV")
            .prefix_separator("__")
            .separator("__");
        let source = config::Config::builder()
            .add_source(config::File::from_str(&text, config::FileFormat::Toml))
            .add_source(environment)
            .build()
            .map_err(|error| Invalid(vec![error.to_string()]))?;
        Self::read(&source, path.parent().unwrap_or_else(|| Path::new(".")))
    }

    /// The names that a pipeline may use: services, and destinations.
    #[must_use]
    pub fn targets(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        (
            self.service.keys().cloned().collect(),
            self.destination.keys().cloned().collect(),
        )
    }

    fn read(source: &config::Config, base: &Path) -> Result<Self, Invalid> {
        let mut reader = Reader::new(source);
        let pipeline = reader.text("pipeline");
        let database = reader.section("database", Database::check);
        let rabbitmq = reader.section("rabbitmq", |_: &RabbitMq| Vec::new());
        let intake = reader.section("intake", Intake::check);
        let orchestrator = reader.section("orchestrator", Orchestrator::check);
        let dispatcher = reader.section("dispatcher", |_: &Dispatcher| Vec::new());
        let telemetry = reader.section("telemetry", Telemetry::check);
        let heartbeat = reader.section("heartbeat", Heartbeat::check);
        let service = reader.sections("service", Service::check);
        let secrets = reader.section("secrets", |_: &Secrets| Vec::new());
        let tokens = reader.inner("destination", "token", TokenSource::check);
        let mut destination = reader.sections("destination", Destination::check);
        for (name, token) in tokens {
            if secrets.as_ref().is_some_and(|secrets| secrets.key.is_none()) {
                reader.mistake("secrets.key", &format!("destination.{name}.token needs one"));
            }
            if let Some(destination) = destination.get_mut(&name) {
                destination.token = Some(token);
            }
        }
        for destination in destination.values_mut() {
            destination.resolve(base);
        }
        reader.finish()?;
        // Whatever is missing has been reported by then.
        let read = || -> Option<Self> {
            Some(Self {
                pipeline: base.join(pipeline?),
                database: database?,
                rabbitmq: rabbitmq?,
                intake: intake?,
                orchestrator: orchestrator?,
                dispatcher: dispatcher?,
                telemetry: telemetry?,
                heartbeat: heartbeat?,
                secrets: secrets?,
                service,
                destination,
            })
        };
        read().ok_or_else(|| Invalid(vec!["a section could not be read".to_owned()]))
    }
}

#[cfg(test)]
mod tests;
