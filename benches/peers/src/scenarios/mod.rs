//! One file for each thing that is measured.

mod cycle;
mod growth;
mod handover;
mod held;
mod latency;
mod many_locks;
mod one_lock;
mod processes;
mod takeover;

use anyhow::{Result, bail};

use crate::run::Run;

pub const ALL: [&str; 9] = [
    "cycle",
    "many_locks",
    "one_lock",
    "processes",
    "handover",
    "takeover",
    "held",
    "growth",
    "latency",
];

pub async fn run(scenario: &str, run: &mut Run) -> Result<()> {
    match scenario {
        "cycle" => cycle::run(run).await,
        "many_locks" => many_locks::run(run).await,
        "one_lock" => one_lock::run(run).await,
        "processes" => processes::run(run).await,
        "handover" => handover::run(run).await,
        "takeover" => takeover::run(run).await,
        "held" => held::run(run).await,
        "growth" => growth::run(run).await,
        "latency" => latency::run(run).await,
        other => bail!("no scenario is called {other}; there are {}", ALL.join(", ")),
    }
    Ok(())
}
