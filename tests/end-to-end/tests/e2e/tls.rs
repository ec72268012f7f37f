//! Behind TLS: PostgreSQL, a broker that wants a certificate, and our own listeners.

use std::time::Duration;

use end_to_end::{Certificates, Servers, Stack};

use super::{all_registered, quick, receipts};

#[tokio::test(flavor = "multi_thread")]
async fn all_of_it_runs_behind_tls_and_nobody_gets_in_without() {
    let certificates = Certificates::make().unwrap();
    let directory = certificates.directory().to_owned();
    let starting = tokio::task::spawn_blocking(move || Servers::start_behind_tls(&directory));
    let servers = starting.await.unwrap().unwrap();
    let mut options = quick()
        .with("rabbitmq.tls.ca_file", &certificates.path("ca.pem"))
        .with("rabbitmq.tls.certificate_file", &certificates.path("client.pem"))
        .with("rabbitmq.tls.key_file", &certificates.path("client.key"));
    for section in ["intake", "orchestrator", "dispatcher"] {
        options = options
            .with(
                &format!("{section}.tls.certificate_file"),
                &certificates.path("server.pem"),
            )
            .with(&format!("{section}.tls.key_file"), &certificates.path("server.key"));
    }
    options.servers = Some(servers.urls().unwrap());
    options.authority = Some(certificates.path("ca.pem").into());
    let mut stack = Stack::start(&options).await.unwrap();
    stack.post_all(&receipts(50)).await.unwrap();
    stack.settled(Duration::from_secs(30)).await;
    all_registered(&stack).await;

    let connections = |condition: &str| {
        let of = "pg_stat_ssl join pg_stat_activity using (pid) where application_name like 'chekhov-%'";
        stack
            .database
            .sql(&format!("select count(*) from {of} and {condition}"))
            .unwrap()
    };
    assert_eq!(connections("not ssl"), "0");
    assert_ne!(connections("ssl"), "0");
    let brokers = servers
        .run(&["rabbitmqctl", "--quiet", "list_connections", "ssl", "peer_cert_subject"])
        .unwrap();
    let brokers: Vec<_> = brokers.lines().filter(|line| line.starts_with("true")).collect();
    assert_eq!(brokers.len(), 2, "each process shows its certificate");
    assert!(brokers.iter().all(|line| line.contains("CN=client")), "{brokers:?}");
    for member in stack.orchestrators.iter().chain(&stack.dispatchers) {
        let open = member
            .measured("chekhov_destination_open{destination=\"fiscal\"}")
            .await;
        assert_eq!(open.unwrap(), Some(1.0));
    }

    let base = stack.orchestrators[0].api.base().to_owned();
    let plain = reqwest::get(format!("{}/healthz", base.replace("https", "http"))).await;
    assert!(plain.is_err(), "{plain:?}");
    let stranger = reqwest::get(format!("{base}/healthz")).await.unwrap_err();
    assert!(format!("{stranger:?}").contains("UnknownIssuer"), "{stranger:?}");
}
