//! What is to be reckoned.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};

use super::duration;

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("lists").args(["table", "show_prices"]))]
pub(crate) struct Cost {
    /// How many locks there are
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) locks: u64,

    /// For how long a lock is held each time, for example 20s or 1h
    #[arg(long, value_name = "DUR", value_parser = duration, required_unless_present = "lists")]
    pub(crate) hold: Option<Duration>,

    /// How often each lock is acquired and released a day, for example 24 or 0.5 [default: without a
    /// pause]
    #[arg(long, value_name = "N", value_parser = above_zero)]
    pub(crate) cycles_per_day: Option<f64>,

    /// The TTL of the locks; 1s to 24h
    #[arg(long, value_name = "DUR", default_value = "30s", value_parser = duration)]
    pub(crate) ttl: Duration,

    /// How many wait each time, on average, for example 2 or 0.1
    #[arg(long, value_name = "N", value_parser = above_zero, requires = "wait")]
    pub(crate) waiters: Option<f64>,

    /// For how long each of them waits, for example 10m
    #[arg(long, value_name = "DUR", value_parser = duration, requires = "waiters")]
    pub(crate) wait: Option<Duration>,

    /// All locks are held under one session, which is renewed once for all
    #[arg(long)]
    pub(crate) session: bool,

    /// Each lock is acquired by the process that has released it less than 10s ago, which saves the
    /// read
    #[arg(long)]
    pub(crate) warm: bool,

    /// Show where each number comes from
    #[arg(long, conflicts_with = "json")]
    pub(crate) explain: bool,

    /// Print one JSON object: usage, services with their requests by kind and cost_per_month
    #[arg(long)]
    pub(crate) json: bool,

    /// Take prices from FILE instead of the list that is built in
    #[arg(long, value_name = "FILE")]
    pub(crate) prices: Option<PathBuf>,

    /// Print the list that is built in, to be copied and changed
    #[arg(long, conflicts_with_all = ["locks", "hold", "cycles_per_day", "ttl", "waiters", "wait"])]
    #[arg(conflicts_with_all = ["session", "warm", "explain", "json", "prices"])]
    pub(crate) show_prices: bool,

    /// Print the table of docs/COST.md: what cycles, hours held and hours waited cost
    #[arg(long, conflicts_with_all = ["locks", "hold", "cycles_per_day", "ttl", "waiters", "wait"])]
    #[arg(conflicts_with_all = ["session", "warm", "explain", "json"])]
    pub(crate) table: bool,
}

fn above_zero(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "a number above zero is expected".to_owned())
}
