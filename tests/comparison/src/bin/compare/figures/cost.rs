//! What a cluster of an arm would cost for a given rate, by its figures and by stated prices.

use clap::Args;
use serde::{Deserialize, Serialize};

use super::Summary;
use crate::arms::Arm;
use crate::events::Scenario;

const SECONDS_A_DAY: f64 = 86_400.0;
const MIB_A_GIB: f64 = 1024.0;
const BYTES_A_GB: f64 = 1e9;

/// Assumptions: what a month of each part costs, and how a cluster is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Args, Serialize, Deserialize)]
pub struct Prices {
    /// Receipts a second that the cluster is for
    #[arg(long, default_value_t = 100.0)]
    pub rate: f64,
    /// A core for a month
    #[arg(long = "core", default_value_t = 25.0)]
    pub core: f64,
    /// A GiB of memory for a month
    #[arg(long = "gib", default_value_t = 3.5)]
    pub gib: f64,
    /// A GB of disk for a month
    #[arg(long = "gb", default_value_t = 0.12)]
    pub gb: f64,
    /// The share of its cores that is used at that rate: the rest is for bursts
    #[arg(long, default_value_t = 0.5)]
    pub busy: f64,
    /// Everything there is so many times: for failures
    #[arg(long, default_value_t = 2.0)]
    pub copies: f64,
    /// Days for which receipts are kept
    #[arg(long, default_value_t = 30.0)]
    pub days: f64,
}

/// What a cluster takes and costs in a month.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Cores, all copies together.
    pub cores: f64,
    /// Memory in GiB.
    pub gib: f64,
    /// Disk in GB.
    pub gb: f64,
    /// Of all, in the currency of the prices.
    pub month: f64,
}

/// The cost of one arm, by its open loop; none where that has no figures.
pub fn cost(summary: &Summary, arm: Arm, prices: &Prices) -> Option<Cost> {
    let median = |name: &str| summary.median(arm, Scenario::Open, name);
    let busy = median("cpu_s_per_1000.system")? / 1000.0 * prices.rate;
    let stored = median("stored_bytes_per_receipt").unwrap_or_default();
    let cores = busy / prices.busy * prices.copies;
    let gib = median("memory_mib.system")? / MIB_A_GIB * prices.copies;
    let gb = stored * prices.rate * SECONDS_A_DAY * prices.days / BYTES_A_GB * prices.copies;
    let month = cores * prices.core + gib * prices.gib + gb * prices.gb;
    Some(Cost { cores, gib, gb, month })
}
