//! PostgreSQL and RabbitMQ: those that somebody else started, whose addresses come by the environment, and private ones that
//! a scenario may stop and start.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::processes::free_port;

/// Where the two servers are.
#[derive(Debug, Clone)]
pub struct Urls {
    /// Of a database whose user may create others.
    pub database: String,
    /// Of the broker.
    pub amqp: String,
}

impl Urls {
    /// Those of the servers that somebody else started.
    ///
    /// # Panics
    /// Without `DATABASE_URL` and `AMQP_URL`: a test that needs servers fails loudly instead of passing unseen.
    #[must_use]
    pub fn from_environment() -> Self {
        Self {
            database: from_environment("DATABASE_URL"),
            amqp: from_environment("AMQP_URL"),
        }
    }
}

/// Where the metrics of the broker are that somebody else started: `host:port`.
///
/// # Panics
/// Without `RABBITMQ_METRICS`, likewise.
#[must_use]
pub fn rabbitmq_metrics() -> String {
    from_environment("RABBITMQ_METRICS")
}

/// Servers of a scenario's own; they end with it.
#[derive(Debug)]
pub struct Servers {
    directory: PathBuf,
    ports: [u16; 5],
    tls: Option<PathBuf>,
}

impl Servers {
    /// Starts both.
    ///
    /// # Errors
    /// When they do not start.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(None)
    }

    /// Starts both behind TLS, by `server.pem`, `server.key` and `ca.pem` of a directory; the broker wants a client's certificate.
    ///
    /// # Errors
    /// When they do not start.
    pub fn start_behind_tls(certificates: &Path) -> anyhow::Result<Self> {
        Self::start_with(Some(certificates.to_owned()))
    }

    fn start_with(tls: Option<PathBuf>) -> anyhow::Result<Self> {
        let directory = std::env::temp_dir().join(format!("chekhov-servers-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir_all(&directory)?;
        let ports = [free_port()?, free_port()?, free_port()?, free_port()?, free_port()?];
        let servers = Self { directory, ports, tls };
        servers.run(&["up"])?;
        Ok(servers)
    }

    /// Where they are.
    ///
    /// # Errors
    /// When nobody can say.
    pub fn urls(&self) -> anyhow::Result<Urls> {
        let text = self.run(&["urls"])?;
        let url = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.map(str::to_owned).with_context(|| format!("no {key}"))
        };
        Ok(Urls {
            database: url("DATABASE_URL")?,
            amqp: url("AMQP_URL")?,
        })
    }

    /// Runs `deploy/servers` on them: `["stop", "rabbitmq"]`; answers what it printed.
    ///
    /// # Errors
    /// When it fails: with its words.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/servers");
        let keys = [
            "POSTGRES_PORT",
            "RABBITMQ_PORT",
            "RABBITMQ_DIST_PORT",
            "EPMD_PORT",
            "RABBITMQ_METRICS_PORT",
        ];
        let output = Command::new(script)
            .args(arguments)
            .env("CHEKHOV_DATA", &self.directory)
            .envs(self.tls.iter().map(|directory| ("CHEKHOV_TLS", directory)))
            .envs(
                keys.iter()
                    .zip(self.ports)
                    .map(|(key, port)| (format!("CHEKHOV_{key}"), port.to_string())),
            )
            .output()
            .context(script)?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "deploy/servers {}: {}",
            arguments.join(" "),
            words.trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Servers {
    /// Ends RabbitMQ by force, throws away everything it has, and starts it.
    ///
    /// # Errors
    /// When that fails.
    pub fn wipe_rabbitmq(&self) -> anyhow::Result<()> {
        let pid = std::fs::read_to_string(self.directory.join("run/rabbitmq.pid"))?;
        let pid = pid.split(' ').next().unwrap_or_default();
        Command::new("kill").args(["-KILL", pid]).status()?;
        self.run(&["stop", "rabbitmq"])?;
        std::fs::remove_dir_all(self.directory.join("rabbitmq/mnesia"))?;
        self.run(&["start", "rabbitmq"]).map(drop)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        match self.run(&["down"]) {
            Ok(_) => drop(std::fs::remove_dir_all(&self.directory)),
            Err(error) => eprintln!("{} stays: {error:#}", self.directory.display()),
        }
    }
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
    /// # Errors
    /// When the server does not.
    pub fn create(urls: &Urls) -> anyhow::Result<Self> {
        let server = urls.database.clone();
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

    /// Its URL by another port of this machine.
    pub(crate) fn url_by(&self, port: Option<u16>) -> String {
        let mut url = reqwest::Url::parse(&self.url()).expect("its own URL is a URL");
        if port.is_some() {
            url.set_port(port).expect("the URL of a server has a port");
        }
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
