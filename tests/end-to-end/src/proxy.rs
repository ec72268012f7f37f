//! A way to PostgreSQL on which answers get lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Passes bytes on in both directions. While it is armed, one of so many answers is swallowed and its connection cut, and one
/// of three that a `COMMIT` gets: PostgreSQL did what it was asked, and nobody is told.
#[derive(Debug, Clone)]
pub struct Proxy {
    port: u16,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    /// Every how many answers one is lost; 0: none.
    every: AtomicUsize,
    answers: AtomicUsize,
    commits: AtomicUsize,
    lost: AtomicUsize,
    lost_commits: AtomicUsize,
}

impl Proxy {
    /// Listens on a port of its own for the server at `url`, until the program ends.
    ///
    /// # Errors
    /// When there is no port, or `url` names no server.
    pub async fn start(url: &str) -> anyhow::Result<Self> {
        let url = reqwest::Url::parse(url)?;
        let server = (
            url.host_str().unwrap_or("127.0.0.1").to_owned(),
            url.port().unwrap_or(5432),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let proxy = Self {
            port: listener.local_addr()?.port(),
            counters: Arc::default(),
        };
        let counters = Arc::clone(&proxy.counters);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = TcpStream::connect(&server).await {
                    tokio::spawn(pass(client, server, Arc::clone(&counters)));
                }
            }
        });
        Ok(proxy)
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Loses one of every `every` answers from now on; 0 loses none.
    pub fn lose_one_in(&self, every: usize) {
        self.counters.every.store(every, Ordering::Relaxed);
    }

    /// How many answers were lost, and how many of them were those of a `COMMIT`.
    #[must_use]
    pub fn lost(&self) -> (usize, usize) {
        let lost = self.counters.lost.load(Ordering::Relaxed);
        (lost, self.counters.lost_commits.load(Ordering::Relaxed))
    }
}

impl Counters {
    /// Whether the next answer is lost.
    fn lose(&self, committing: bool) -> bool {
        let one_in = |counter: &AtomicUsize, every: usize| counter.fetch_add(1, Ordering::Relaxed) % every == every - 1;
        let every = self.every.load(Ordering::Relaxed);
        if every == 0 {
            return false;
        }
        let lost = one_in(&self.answers, every) || committing && one_in(&self.commits, 3);
        self.lost.fetch_add(usize::from(lost), Ordering::Relaxed);
        self.lost_commits
            .fetch_add(usize::from(lost && committing), Ordering::Relaxed);
        lost
    }
}

async fn pass(mut client: TcpStream, mut server: TcpStream, counters: Arc<Counters>) {
    let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut committing = false;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                // A message of its own, as drivers send it.
                committing = asked[..length].windows(6).any(|word| word == b"COMMIT");
                if server.write_all(&asked[..length]).await.is_err() { return }
            }
            read = server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                if counters.lose(committing) { return }
                if client.write_all(&answered[..length]).await.is_err() { return }
            }
        }
    }
}
