//! What a configuration may say, and which mistakes are named.

use std::time::Duration;

use super::*;

fn load(text: &str) -> Result<Configuration, Invalid> {
    let source = config::Config::builder()
        .add_source(config::File::from_str(text, config::FileFormat::Toml))
        .build()
        .unwrap();
    Configuration::read(&source, Path::new("/etc/chekhov"))
}

const LEAST: &str = r#"
    pipeline = "receipts.toml"
    [database]
    url = "postgres://somebody:hidden@localhost/chekhov"
    [rabbitmq]
    url = "amqp://localhost"
    [destination.fiscal]
    url = "http://localhost:8090/fiscal"
    limits = ["50/s"]
"#;

#[test]
fn defaults_are_the_contracts() {
    let configuration = load(LEAST).unwrap();
    assert_eq!(configuration.heartbeat.every, Duration::from_secs(2));
    assert_eq!(configuration.destination["fiscal"].max_queued, 10_000);
    assert_eq!(configuration.destination["fiscal"].lost_after(), Duration::from_mins(1));
    assert_eq!(configuration.pipeline, Path::new("/etc/chekhov/receipts.toml"));
}

#[test]
fn every_mistake_is_named_with_its_key() {
    let text = LEAST
        .replace("50/s", "fast")
        .replace("pipeline =", "pipelin =")
        .replace("[rabbitmq]", "[rabbitmq]\nprefx = \"x\"\nprefix = [1]")
        + r#"
        concurrency = 0
        [destination.other]
        timeout = "soon"
        [service.tax]
        url = "ftp://somewhere"
        concurrency = 0
        [heartbeat]
        every = "2 parsecs"
        dead_after = "1s"
        [telemetry]
        trace_url = "http://localhost/trace"
        sampling = 1.5
        [orchestrator]
        in_flight = 0
        [[intake.tokens]]
        name = "shop"
        role = "owner"
        sha256 = "abc"
        "#;
    let Invalid(mistakes) = load(&text).unwrap_err();
    for place in [
        "pipelin:",
        "pipeline:",
        "rabbitmq.prefx:",
        "rabbitmq.prefix:",
        "destination.fiscal.limits:",
        "destination.fiscal.concurrency:",
        "destination.other:",
        "destination.other.timeout:",
        "service.tax.url:",
        "service.tax.concurrency:",
        "heartbeat.every:",
        "telemetry.trace_url:",
        "orchestrator.in_flight:",
        "telemetry.sampling:",
        "intake.tokens:",
    ] {
        let named = mistakes.iter().filter(|mistake| mistake.starts_with(place)).count();
        assert_eq!(named, 1, "{place} in {mistakes:#?}");
    }
}

const TOKEN: &str = r#"
    [destination.fiscal.token]
    post = "/v4/token"
    body = '{"login": "hidden", "pass": "hidden"}'
"#;

const KEY: &str = "[secrets]\nkey = \"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\"";

#[test]
fn a_token_needs_little_to_be_fetched() {
    let configuration = load(&format!("{LEAST}{TOKEN}{KEY}")).unwrap();
    let token = configuration.destination["fiscal"].token.as_ref().unwrap();
    assert_eq!(
        (token.header.as_str(), token.prefix.as_str()),
        ("authorization", "Bearer ")
    );
    assert_eq!(
        (token.token.as_str(), token.expires_in()),
        (".body.token", Some(".body.expires_in"))
    );
    assert!(!format!("{configuration:?}").contains("hidden"));
    assert!(!format!("{configuration:?}").contains("0011"));
}

#[test]
fn every_mistake_about_a_token_is_named_with_its_key_and_no_secret_is_quoted() {
    let token = TOKEN.replace("/v4", "v4").replace("{\"login", "(\"login")
        + r#"
        token = ".body |"
        expires_in = ".body.expires_in"
        life = "24h"
        header = "no name"
        prefix = "\n"
        pass = "hidden"
        [destination.other]
        url = "http://localhost"
        token = "hidden"
        [destination.third]
        url = "http://localhost"
        [destination.third.token]
        post = "/token"
        life = "soon"
        [secrets]
        key = "0011hidden"
        "#;
    let Invalid(mistakes) = load(&format!("{LEAST}{token}")).unwrap_err();
    for place in [
        "destination.fiscal.token.post:",
        "destination.fiscal.token.body:",
        "destination.fiscal.token.token:",
        "destination.fiscal.token.life:",
        "destination.fiscal.token.header:",
        "destination.fiscal.token.prefix:",
        "destination.fiscal.token.pass:",
        "destination.other.token:",
        "destination.third.token.life:",
        "destination.third.token:",
        "secrets.key:",
    ] {
        let named = mistakes.iter().filter(|mistake| mistake.starts_with(place)).count();
        assert_eq!(named, 1, "{place} in {mistakes:#?}");
    }
    let quoted = |mistake: &String| mistake.contains("hidden") || mistake.contains("0011");
    assert!(!mistakes.iter().any(quoted), "{mistakes:#?}");
    let Invalid(mistakes) = load(&format!("{LEAST}{TOKEN}")).unwrap_err();
    assert_eq!(mistakes, ["secrets.key: destination.fiscal.token needs one"]);
}

#[test]
fn a_password_in_a_url_is_a_mistake_that_is_not_quoted() {
    let text = LEAST.replace("http://localhost:8090", "http://somebody:hidden@localhost:8090");
    let Invalid(mistakes) = load(&text).unwrap_err();
    assert!(mistakes[0].starts_with("destination.fiscal.url:"), "{mistakes:?}");
    assert!(!mistakes[0].contains("hidden"), "{mistakes:?}");
}

#[test]
fn files_are_relative_to_the_configurations() {
    let tables = r#"
        [destination.fiscal.signature]
        key_file = "keys/signing.pem"
        [destination.fiscal.tls]
        certificate_file = "/run/secrets/client.pem"
        key_file = "client.key"
    "#;
    let text = LEAST.to_owned() + tables;
    let fiscal = load(&text).unwrap().destination["fiscal"].clone();
    let (signature, tls) = (fiscal.signature.unwrap(), fiscal.tls.unwrap());
    assert_eq!(signature.key_file, Path::new("/etc/chekhov/keys/signing.pem"));
    assert_eq!(signature.header, "X-Signature");
    assert_eq!(tls.certificate_file, Path::new("/run/secrets/client.pem"));
    assert_eq!(
        (tls.key_file.as_path(), tls.ca_file),
        (Path::new("/etc/chekhov/client.key"), None)
    );
    for (right, wrong, place) in [
        (
            "key_file = \"keys",
            "kye_file = \"keys",
            "destination.fiscal.signature:",
        ),
        ("key_file = \"client.key\"", "", "destination.fiscal:"),
    ] {
        let Invalid(mistakes) = load(&text.replace(right, wrong)).unwrap_err();
        assert!(
            mistakes.iter().any(|mistake| mistake.starts_with(place)),
            "{mistakes:?}"
        );
    }
}

#[test]
fn a_section_that_is_none_is_a_mistake() {
    let text = LEAST.replace("[database]", "heartbeat = \"2s\"\n[database]");
    assert!(load(&text).unwrap_err().0[0].starts_with("heartbeat:"));
}

#[test]
fn a_line_that_is_no_toml_is_named_and_not_shown() {
    let mistake = syntax("[database]\nurl = \"postgres://somebody:hidden@localhost\n").unwrap_err();
    assert!(
        mistake.starts_with("line 2") && !mistake.contains("hidden"),
        "{mistake}"
    );
}

#[test]
fn secrets_do_not_show() {
    assert!(!format!("{:?}", load(LEAST).unwrap()).contains("hidden"));
}
