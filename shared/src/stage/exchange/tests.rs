use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::*;
use crate::tls::client;

const OK: Answer = Answer::Whole("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");

/// What the server does with a request.
#[derive(Clone, Copy)]
enum Answer {
    /// Answers, and keeps the connection.
    Whole(&'static str),
    /// Answers, and closes the connection.
    Last(&'static str),
    /// Answers, and closes the connection when it is told to.
    Parting(&'static str),
    /// Says nothing.
    Silence,
}

/// A server, and what it has seen.
#[derive(Clone)]
struct Server {
    answers: Vec<Answer>,
    part: Arc<Notify>,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Server {
    /// Does with its requests what `answers` say, in turn, and the last of them from then on; with a client of it.
    async fn start(answers: &[Answer]) -> (Self, Client) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = client_of(&listener.local_addr().unwrap().to_string());
        let server = Self {
            answers: answers.to_vec(),
            part: Arc::default(),
            connections: Arc::default(),
            requests: Arc::default(),
        };
        let accepting = server.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                accepting.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(accepting.clone().serve(stream));
            }
        });
        (server, client)
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut read = [0; 4096];
        // Requests of these tests arrive in one piece.
        while stream.read(&mut read).await.unwrap_or_default() > 0 {
            let n = self.requests.fetch_add(1, Ordering::Relaxed);
            match self.answers[n.min(self.answers.len() - 1)] {
                Answer::Whole(text) => stream.write_all(text.as_bytes()).await.unwrap(),
                Answer::Last(text) => return stream.write_all(text.as_bytes()).await.unwrap(),
                Answer::Parting(text) => {
                    stream.write_all(text.as_bytes()).await.unwrap();
                    return self.part.notified().await;
                }
                Answer::Silence => {}
            }
        }
    }

    /// Connections and requests so far.
    fn seen(&self) -> (usize, usize) {
        (
            self.connections.load(Ordering::Relaxed),
            self.requests.load(Ordering::Relaxed),
        )
    }
}

fn client_of(authority: &str) -> Client {
    // The provider may have been installed by another test already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let origin = format!("http://{authority}/").parse().unwrap();
    Client::new(connector(client::plain().unwrap()), origin)
}

async fn post(client: &Client) -> Exchange {
    let (target, patience) = (Uri::from_static("/v1"), Duration::from_secs(20));
    let body = Bytes::from_static(b"{\"sum\":1}");
    client
        .exchange(&Method::POST, target, HeaderMap::new(), body, patience)
        .await
}

fn said(exchange: &Exchange) -> (u16, &[u8], bool) {
    match exchange {
        Exchange::Answered {
            status, body, complete, ..
        } => (*status, body, *complete),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_connection_serves_one_call_after_the_other() {
    let (server, client) = Server::start(&[OK]).await;
    for _ in 0..3 {
        assert_eq!(said(&post(&client).await), (200, &b"{}"[..], true));
    }
    assert_eq!(server.seen(), (1, 3));
}

#[tokio::test]
async fn a_connection_that_was_closed_while_it_was_kept_is_not_what_a_call_is_lost_on() {
    let parting = Answer::Parting("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
    let (server, client) = Server::start(&[parting, OK]).await;
    post(&client).await;
    let mut connection = client.take().unwrap();
    assert!(connection.is_open());
    server.part.notify_one();
    // Until its end has been seen here too.
    while connection.is_open() {
        tokio::task::yield_now().await;
    }
    client.keep(connection);
    assert_eq!(said(&post(&client).await), (200, &b"{}"[..], true));
    assert_eq!(server.seen(), (2, 2));
}

#[tokio::test]
async fn a_connection_that_nobody_has_used_for_long_is_not_used_again() {
    let (server, client) = Server::start(&[OK]).await;
    post(&client).await;
    lock(&client.kept)[0].since = Instant::now().checked_sub(IDLE).unwrap();
    post(&client).await;
    assert_eq!(server.seen(), (2, 2));
    assert_eq!(lock(&client.kept).len(), 1);
}

#[tokio::test]
async fn connections_that_only_a_burst_needed_are_closed_sooner_than_the_others() {
    let (server, client) = Server::start(&[OK]).await;
    let burst = SPARE + 3;
    join_all((0..burst).map(|_| post(&client))).await;
    assert_eq!(server.seen(), (burst, burst));
    let mut kept = lock(&client.kept);
    close_unused(&mut kept);
    assert_eq!(kept.len(), burst);

    for kept in &mut *kept {
        kept.since = kept.since.checked_sub(SURPLUS).unwrap();
    }
    close_unused(&mut kept);
    assert_eq!(kept.len(), SPARE);

    for kept in &mut kept[..2] {
        kept.since = kept.since.checked_sub(IDLE).unwrap();
    }
    close_unused(&mut kept);
    assert_eq!(kept.len(), SPARE - 2);
}

#[tokio::test]
async fn a_request_that_may_have_arrived_is_never_sent_again() {
    let (server, client) = Server::start(&[OK, Answer::Last("")]).await;
    post(&client).await;
    let lost = post(&client).await;
    assert!(matches!(lost, Exchange::Lost { .. }), "{lost:?}");
    assert_eq!(server.seen(), (1, 2));
}

#[tokio::test]
async fn an_answer_that_does_not_come_in_time_costs_its_connection() {
    let (server, client) = Server::start(&[Answer::Silence, OK]).await;
    let impatient = Duration::from_millis(50);
    let target = Uri::from_static("/v1");
    let exchange = client
        .exchange(&Method::GET, target, HeaderMap::new(), Bytes::new(), impatient)
        .await;
    assert!(matches!(exchange, Exchange::Lost { .. }), "{exchange:?}");
    post(&client).await;
    assert_eq!(server.seen(), (2, 2));
}

#[tokio::test]
async fn where_nobody_listens_nothing_is_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client_of(&listener.local_addr().unwrap().to_string());
    drop(listener);
    let exchange = post(&client).await;
    assert!(matches!(exchange, Exchange::NotSent { .. }), "{exchange:?}");
}

#[tokio::test]
async fn bodies_are_read_to_their_end_however_it_is_told() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n{\"a\r\n3\r\n\":1\r\n1\r\n}\r\n0\r\n\r\n";
    let answers = [
        Answer::Whole(chunked),
        Answer::Whole("HTTP/1.1 204 No Content\r\n\r\n"),
        Answer::Last("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"a\""),
        Answer::Last("HTTP/1.1 200 OK\r\n\r\n{\"a\":1}"),
    ];
    let (server, client) = Server::start(&answers).await;
    assert_eq!(said(&post(&client).await), (200, &b"{\"a\":1}"[..], true));
    assert_eq!(said(&post(&client).await), (204, &b""[..], true));
    assert_eq!(said(&post(&client).await), (200, &b""[..], false));
    assert_eq!(said(&post(&client).await), (200, &b"{\"a\":1}"[..], true));
    assert_eq!(server.seen(), (2, 4));
}

/// More calls in one task than the runtime lets it poll at a time.
#[tokio::test]
async fn many_calls_of_one_task_all_end() {
    let (server, client) = Server::start(&[OK]).await;
    for _ in 0..3 {
        let calls = join_all((0..300).map(|_| post(&client))).await;
        assert!(calls.iter().all(|call| said(call).0 == 200));
    }
    let (connections, requests) = server.seen();
    assert!(connections <= 300, "{connections}");
    assert_eq!(requests, 900);
}
