//! Keys and certificates of a scenario's own, made by the `openssl` program.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// A directory with what both ends of a connection need; gone with the scenario.
#[derive(Debug)]
pub struct Certificates(PathBuf);

impl Certificates {
    /// Makes an authority (`ca.pem`), by it a server of `127.0.0.1` and a client (`server.pem` and `server.key`, `client.…`), and
    /// an RSA key to sign with (`signing.key`, `signing.pub`).
    ///
    /// # Errors
    /// When `openssl` cannot.
    pub fn make() -> anyhow::Result<Self> {
        let directory = std::env::temp_dir().join(format!("chekhov-certificates-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&directory)?;
        let made = Self(directory);
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
        made.openssl(&format!(
            "req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=authority"
        ))?;
        for (name, extensions) in [
            ("server", "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n"),
            ("client", "extendedKeyUsage=clientAuth\n"),
        ] {
            std::fs::write(made.0.join("extensions"), extensions)?;
            made.openssl(&format!("req {key} -keyout {name}.key -out request -subj /CN={name}"))?;
            made.openssl(&format!(
                "x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out {name}.pem"
            ))?;
        }
        made.openssl("genrsa -out signing.key 2048")?;
        made.openssl("rsa -in signing.key -pubout -out signing.pub")?;
        Ok(made)
    }

    /// Where they are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// The path of one of them.
    #[must_use]
    pub fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// The text of one of them.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn text(&self, name: &str) -> anyhow::Result<String> {
        std::fs::read_to_string(Path::new(&self.0).join(name)).with_context(|| name.to_owned())
    }

    fn openssl(&self, arguments: &str) -> anyhow::Result<()> {
        let output = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(&self.0)
            .output()
            .context("openssl cannot be run; deploy/install installs it")?;
        ensure!(
            output.status.success(),
            "openssl {arguments}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }
}

impl Drop for Certificates {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
