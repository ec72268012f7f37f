//! A whole Chekhov: a database, a simulator, orchestrators and dispatchers of its own.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::api::{Api, Receipt};
use crate::configured::{TOKEN, variable, write_configuration, write_pipeline};
use crate::eventually::{eventually, in_parallel};
use crate::judge::{Posted, Verdict, judge};
use crate::ledger::Ledger;
use crate::member::{Member, ready};
use crate::options::Options;
use crate::processes::{Process, free_port};
use crate::servers::{Database, Urls};

/// A whole Chekhov. Processes end before the database goes: fields are dropped in this order.
#[derive(Debug)]
pub struct Stack {
    /// The orchestrators.
    pub orchestrators: Vec<Member>,
    /// The dispatchers.
    pub dispatchers: Vec<Member>,
    /// The simulator's handles.
    pub ledger: Ledger,
    /// What was accepted so far.
    pub posted: Vec<Posted>,
    /// Its database.
    pub database: Database,
    /// Where its servers are.
    pub urls: Urls,
    /// The simulator; it ends with the stack.
    pub simulator: Process,
    directory: PathBuf,
    environment: Vec<(String, String)>,
    authority: Option<PathBuf>,
}

impl Stack {
    /// Starts everything, and returns when all of it is ready.
    ///
    /// # Errors
    /// When a part cannot be started.
    ///
    /// # Panics
    /// When a part does not become ready, or servers are missing.
    pub async fn start(options: &Options) -> anyhow::Result<Self> {
        let prefix = format!("chekhov-{}", uuid::Uuid::new_v4().simple());
        let directory = std::env::temp_dir().join(&prefix);
        std::fs::create_dir_all(&directory)?;
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        write_configuration(&root, &directory)?;
        write_pipeline(&root.join("deploy/pipeline"), options.pipeline.as_deref(), &directory)?;

        let urls = options.servers.clone().unwrap_or_else(Urls::from_environment);
        let database = Database::create(&urls)?;
        let listen = format!("127.0.0.1:{}", free_port()?);
        let own = ["--listen", listen.as_str()].into_iter();
        let arguments: Vec<&OsStr> = own
            .chain(options.simulator.iter().map(String::as_str))
            .map(OsStr::new)
            .collect();
        let mut simulator = Process::start("simulator", "simulator", &arguments, &[], &directory)?;
        let ledger = Ledger::new(format!("http://{listen}"));
        ready(&mut simulator, async || ledger.is_ready().await).await;

        let mut keys = vec![
            ("pipeline".to_owned(), "receipts.toml".to_owned()),
            ("database.url".to_owned(), database.url_by(options.proxy)),
            ("rabbitmq.url".to_owned(), urls.amqp.clone()),
            ("rabbitmq.prefix".to_owned(), prefix),
            ("destination.fiscal.url".to_owned(), format!("{}/fiscal", ledger.base())),
        ];
        for service in ["validation", "catalog", "sellers", "tax", "numbers", "documents"] {
            keys.push((format!("service.{service}.url"), format!("{}/{service}", ledger.base())));
        }
        let given = options.configuration.iter();
        keys.extend(given.map(|(key, value)| (key.clone(), value.replace("{simulator}", ledger.base()))));
        let environment = keys.iter().map(|(key, value)| (variable(key), value.clone())).collect();

        let (orchestrators, dispatchers, posted) = (Vec::new(), Vec::new(), Vec::new());
        let mut stack = Self {
            orchestrators,
            dispatchers,
            ledger,
            posted,
            database,
            urls,
            simulator,
            directory,
            environment,
            authority: options.authority.clone(),
        };
        for _ in 0..options.orchestrators {
            stack.add_orchestrator().await?;
        }
        for _ in 0..options.dispatchers {
            stack.add_dispatcher().await?;
        }
        Ok(stack)
    }

    /// Starts one more orchestrator.
    ///
    /// # Errors
    /// When it cannot be started.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn add_orchestrator(&mut self) -> anyhow::Result<()> {
        let (intake, metrics) = (free_port()?, free_port()?);
        let own = [("intake.listen", intake), ("orchestrator.metrics", metrics)];
        let name = format!("orchestrator-{}", self.orchestrators.len());
        let member = self.member("orchestrator", name, intake, &own).await?;
        self.orchestrators.push(member);
        Ok(())
    }

    /// Starts one more dispatcher.
    ///
    /// # Errors
    /// When it cannot be started.
    ///
    /// # Panics
    /// When it does not become ready.
    pub async fn add_dispatcher(&mut self) -> anyhow::Result<()> {
        let listen = free_port()?;
        let name = format!("external-dispatcher-{}", self.dispatchers.len());
        let member = self
            .member("external-dispatcher", name, listen, &[("dispatcher.listen", listen)])
            .await?;
        self.dispatchers.push(member);
        Ok(())
    }

    /// Posts all, over all orchestrators in turn, as careful clients do; each must be accepted.
    ///
    /// # Errors
    /// When one is not: the first such answer.
    pub async fn post_all(&mut self, receipts: &[Value]) -> anyhow::Result<()> {
        let apis: Vec<_> = self.orchestrators.iter().map(|member| member.api.clone()).collect();
        ensure!(!apis.is_empty(), "there is no orchestrator to post to");
        let work = receipts.iter().cloned().zip(apis.iter().cycle().cloned());
        let answers = in_parallel(work, 32, |(receipt, api)| async move {
            let answer = api.post_until_answered(&receipt, Duration::from_mins(1)).await;
            (receipt, answer)
        });
        let mut refused = None;
        for (receipt, answer) in answers.await {
            let external_id = receipt["external_id"].as_str().unwrap_or_default().to_owned();
            let merchant = receipt["merchant"]["id"].as_str().unwrap_or_default().to_owned();
            match answer {
                Ok(answer) if answer.is_accepted() => {
                    let id = answer.id().context("an answer without an id")?.to_owned();
                    self.posted.push(Posted {
                        id,
                        merchant,
                        external_id,
                    });
                }
                Ok(answer) => refused = Some(anyhow::anyhow!("{external_id}: {} {}", answer.status, answer.body)),
                Err(error) => refused = Some(error.context(external_id)),
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Waits until no posted receipt is on its way any more: registered, rejected, cancelled or parked.
    ///
    /// # Panics
    /// When that takes longer than `limit`: with the reasons of those that are on their way.
    pub async fn settled(&self, limit: Duration) {
        let deadline = tokio::time::Instant::now() + limit;
        let mut open: Vec<Posted> = self.posted.clone();
        loop {
            let api = self.any_api();
            let looked = in_parallel(open, 8, |posted| {
                let api = api.clone();
                async move { (api.get(&posted.id).await, posted) }
            });
            let mut reasons = Vec::new();
            open = Vec::new();
            for (receipt, posted) in looked.await {
                match receipt {
                    Ok(Some(receipt)) if receipt.is_settled() => continue,
                    // Lost: it will not come back; the judge says so.
                    Ok(None) => continue,
                    Ok(Some(receipt)) => {
                        reasons.push(format!("{} {:?} {:?}", receipt.state, receipt.stage, receipt.reason));
                    }
                    Err(error) => reasons.push(format!("{error:#}")),
                }
                open.push(posted);
            }
            if open.is_empty() {
                return;
            }
            reasons.truncate(5);
            assert!(
                tokio::time::Instant::now() < deadline,
                "{} not settled within {limit:?}; {reasons:#?}",
                open.len()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// What became of everything posted.
    ///
    /// # Errors
    /// When Chekhov or the simulator does not answer.
    pub async fn judge(&self) -> anyhow::Result<Verdict> {
        judge(&self.any_api(), &self.ledger, &self.posted).await
    }

    /// Waits until every process knows whether `destination` is open.
    ///
    /// # Panics
    /// When that takes longer than `limit`.
    pub async fn all_know(&self, destination: &str, is_open: bool, limit: Duration) {
        let metric = format!("chekhov_destination_open{{destination=\"{destination}\"}}");
        let wanted = Some(f64::from(u8::from(is_open)));
        eventually(limit, "all have heard of it", async || {
            for member in self.orchestrators.iter().chain(&self.dispatchers) {
                if !member.measured(&metric).await.is_ok_and(|open| open == wanted) {
                    return false;
                }
            }
            true
        })
        .await;
    }

    fn any_api(&self) -> Api {
        self.orchestrators
            .first()
            .expect("a stack is looked at through an orchestrator")
            .api
            .clone()
    }

    async fn member(
        &self,
        program: &'static str,
        name: String,
        port: u16,
        own: &[(&str, u16)],
    ) -> anyhow::Result<Member> {
        let mut environment = self.environment();
        environment.extend(
            own.iter()
                .map(|(key, port)| (variable(key), format!("127.0.0.1:{port}"))),
        );
        let process = Process::start(program, &name, &[], &environment, &self.directory)?;
        let scheme = if self.authority.is_some() { "https" } else { "http" };
        let api = Api::trusting(self.authority.as_deref(), format!("{scheme}://127.0.0.1:{port}"), TOKEN);
        let apart = own.iter().find(|(key, _)| *key == "orchestrator.metrics");
        let metrics = format!("{scheme}://127.0.0.1:{}/metrics", apart.map_or(port, |(_, port)| *port));
        let mut member = Member {
            process,
            api,
            metrics,
            program,
            name,
            environment,
            authority: self.authority.clone(),
        };
        member.ready().await;
        Ok(member)
    }

    /// Where configuration and logs are; kept after a failure.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its configuration, for other programs.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let file = self.directory.join("chekhov.toml").display().to_string();
        let keys = self.environment.iter().cloned();
        keys.chain([("CHEKHOV_CONFIG".to_owned(), file)]).collect()
    }

    /// A receipt as Chekhov shows it.
    ///
    /// # Panics
    /// When it does not show it.
    pub async fn shown(&self, posted: &Posted) -> Receipt {
        let shown = self.any_api().get(&posted.id).await;
        shown.expect("an answer").expect("what was posted is there")
    }

    /// Starts another program beside its members, with their configuration.
    ///
    /// # Errors
    /// When it cannot be started.
    ///
    /// # Panics
    /// When it was not built.
    pub fn start_beside(&self, program: &str, name: &str, arguments: &[String]) -> anyhow::Result<Process> {
        let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
        Process::start(program, name, &arguments, &self.environment(), &self.directory)
    }

    /// Waits until a receipt is in `state`, and shows it.
    ///
    /// # Panics
    /// When it is not within `limit`.
    pub async fn shown_in(&self, posted: &Posted, state: &str, limit: Duration) -> Receipt {
        eventually(limit, &format!("it is {state}"), async || {
            self.shown(posted).await.state == state
        })
        .await;
        self.shown(posted).await
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the logs of this stack are in {}", self.directory.display());
        } else {
            drop(std::fs::remove_dir_all(&self.directory));
        }
    }
}
