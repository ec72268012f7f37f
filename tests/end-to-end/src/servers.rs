//! The PostgreSQL and RabbitMQ that somebody else started: their addresses come by the environment.

use std::process::Command;

use anyhow::{Context, ensure};

/// The AMQP URL of the broker.
///
/// # Panics
/// Without `AMQP_URL`: a test that needs servers fails loudly instead of passing unseen.
#[must_use]
pub fn amqp_url() -> String {
    from_environment("AMQP_URL")
}

/// A database of a scenario's own, gone with the scenario.
#[derive(Debug)]
pub struct Database {
    server: String,
    name: String,
}

impl Database {
    /// Creates an empty one.
    ///
    /// # Panics
    /// Without `DATABASE_URL`, the URL of a database on the server, of a user who may create databases.
    ///
    /// # Errors
    /// When the server does not.
    pub fn create() -> anyhow::Result<Self> {
        let server = from_environment("DATABASE_URL");
        let name = format!("chekhov_{}", uuid::Uuid::new_v4().simple());
        psql(&server, &format!("CREATE DATABASE {name}"))?;
        Ok(Self { server, name })
    }

    /// Its URL.
    ///
    /// # Panics
    /// When `DATABASE_URL` is no URL.
    #[must_use]
    pub fn url(&self) -> String {
        let mut url = reqwest::Url::parse(&self.server).expect("DATABASE_URL is a URL");
        url.set_path(&self.name);
        url.into()
    }

    /// Runs SQL in it and returns what it prints: rows by lines, columns by `|`.
    ///
    /// # Errors
    /// When PostgreSQL has something against it.
    pub fn sql(&self, sql: &str) -> anyhow::Result<String> {
        psql(&self.url(), sql)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Err(error) = psql(&self.server, &format!("DROP DATABASE {} WITH (FORCE)", self.name)) {
            eprintln!("{} stays: {error:#}", self.name);
        }
    }
}

fn from_environment(key: &str) -> String {
    std::env::var(key).unwrap_or_else(|_| {
        panic!("{key} is not set: end-to-end tests need real servers; ./tests/run starts them, or `deploy/servers up` prints it")
    })
}

fn psql(url: &str, sql: &str) -> anyhow::Result<String> {
    let output = Command::new("psql")
        .args([
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--set=ON_ERROR_STOP=1",
            "--command",
            sql,
            url,
        ])
        .output()
        .context("psql cannot be run; deploy/install installs it")?;
    ensure!(
        output.status.success(),
        "psql: {sql}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
