//! The configuration and the pipeline of a stack: the shipped ones, with tokens and shorter delays.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};

/// The operator's token of every stack.
pub const TOKEN: &str = "end-to-end";
/// A viewer's.
pub const VIEWER: &str = "a-viewer";
/// One that posts for the merchant `m-1` alone.
pub const ONE_MERCHANT: &str = "one-merchant";
/// Role, secret and the merchants of every token.
const TOKENS: [(&str, &str, &str); 3] = [
    ("operator", TOKEN, ""),
    ("viewer", VIEWER, ""),
    ("intake", ONE_MERCHANT, "\nmerchants = [\"m-1\"]"),
];

/// Writes `chekhov.toml`.
pub(crate) fn write_configuration(root: &Path, directory: &Path) -> anyhow::Result<()> {
    let template = root.join("deploy/chekhov.toml");
    let mut text = std::fs::read_to_string(&template).with_context(|| template.display().to_string())?;
    for (role, secret, merchants) in TOKENS {
        let hash = hex::encode(Sha256::digest(secret));
        writeln!(
            text,
            "\n[[intake.tokens]]\nname = \"the {role}\"\nrole = \"{role}\"\nsha256 = \"{hash}\"{merchants}"
        )?;
    }
    std::fs::write(directory.join("chekhov.toml"), text)?;
    Ok(())
}

/// A pipeline as it is given, or the shipped one with shorter delays: what is waited for in a test is a fault, not a back-off.
pub(crate) fn write_pipeline(shipped: &Path, given: Option<&Path>, directory: &Path) -> anyhow::Result<()> {
    std::fs::copy(shipped.join("register.jq"), directory.join("register.jq"))?;
    if let Some(given) = given {
        copy_filters(given.parent().unwrap_or(shipped), directory)?;
        std::fs::copy(given, directory.join("receipts.toml")).with_context(|| given.display().to_string())?;
        return Ok(());
    }
    let mut text = std::fs::read_to_string(shipped.join("receipts.toml"))?;
    for (delay, shorter) in [
        ("first = \"1s\"", "first = \"200ms\""),
        ("first = \"2s\"", "first = \"400ms\""),
    ] {
        ensure!(text.contains(delay), "the shipped pipeline has no {delay} any more");
        text = text.replace(delay, shorter);
    }
    std::fs::write(directory.join("receipts.toml"), text)?;
    Ok(())
}

/// What stands in files of its own beside a pipeline.
fn copy_filters(from: &Path, to: &Path) -> anyhow::Result<()> {
    for file in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let file = file?;
        if file.path().extension().is_some_and(|extension| extension == "jq") {
            std::fs::copy(file.path(), to.join(file.file_name()))?;
        }
    }
    Ok(())
}

/// The environment variable that sets a key.
pub(crate) fn variable(key: &str) -> String {
    format!("CHEKHOV__{}", key.replace('.', "__").to_uppercase())
}
