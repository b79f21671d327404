//! Tasks of one process that want a lock each.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::contention::{self, Locks};
use crate::contestant::{Contestant, Kind};
use crate::place::Place;
use crate::run::{Outcome, Run, TTL, rotated};

const TASKS: usize = 32;

pub async fn run(run: &mut Run) {
    let kinds = [Kind::Leaselock, Kind::Naive, Kind::Floor];
    let entries = run.entries(&kinds, &Place::all());
    for round in 0..run.plan.long_rounds {
        for entry in rotated(&entries, round) {
            let name = run.name("many_locks");
            let outcome = match entry.open(TTL).await {
                Ok(contestant) => measure(&contestant, TASKS, &name, run.plan.window).await,
                Err(error) => Err(error),
            };
            run.note("many_locks", &format!("{TASKS} tasks"), &entry, round, outcome);
        }
    }
}

pub async fn measure(
    contestant: &Arc<dyn Contestant>,
    tasks: usize,
    prefix: &str,
    window: Duration,
) -> Result<Outcome> {
    let handles = std::slice::from_ref(contestant);
    contention::warm_up(handles, tasks, prefix).await?;
    let figures = contention::tasks(handles, tasks, Locks::Each(prefix), window).await?;
    Ok(Outcome { figures, samples: Vec::new() })
}
