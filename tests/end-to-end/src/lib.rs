//! Chekhov on its real parts: PostgreSQL, RabbitMQ, the simulator and the two processes, as a person would run them.
//!
//! [`Stack`] is a whole Chekhov in one call; the other modules are what it is made of, for scenarios that break things.
//! A scenario posts receipts, breaks something, waits until all is [settled](Stack::settled) and asks the
//! [judge](Stack::judge): nothing lost, nothing registered twice.

mod api;
mod backlog;
mod certificates;
mod collector;
mod configured;
mod eventually;
mod faults;
mod http;
mod invariants;
mod judge;
mod ledger;
mod measure;
mod member;
mod numbered;
mod options;
mod poster;
mod processes;
mod prometheus;
mod promql;
mod proxy;
mod receipts;
mod servers;
mod stack;
mod tree;
mod under_way;
mod usage;

pub use api::{Answer, Api, Call, Receipt};
pub use backlog::Backlog;
pub use certificates::Certificates;
pub use collector::{Collector, Span};
pub use configured::{ONE_MERCHANT, TOKEN, VIEWER};
pub use eventually::{eventually, in_parallel};
pub use faults::{Fault, every_fault, one_of_each_mode};
pub use invariants::Invariants;
pub use judge::{Posted, Verdict, judge};
pub use ledger::{Entry, FiscalCall, Ledger, Way};
pub use measure::{busiest_second, early_stages, percentile};
pub use member::Member;
pub use numbered::Receipts;
pub use options::Options;
pub use poster::{Poster, Reply};
pub use processes::{Process, binary, free_port};
pub use prometheus::{Prometheus, monitoring, promtool};
pub use promql::selectors;
pub use proxy::Proxy;
pub use receipts::{fixture, fresh, read, receipts_with_sellers};
pub use servers::{Database, Servers, Urls, rabbitmq_metrics};
pub use stack::Stack;
pub use tree::tree;
pub use under_way::UnderWay;
pub use usage::{Cpu, Processes, Used, server};
