//! Tasks of one process that want the same lock.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::contention::{self, Locks};
use crate::contestant::{Contestant, Kind};
use crate::place::Place;
use crate::run::{Outcome, Run, TTL, rotated};

const TASKS: usize = 8;

pub async fn run(run: &mut Run) {
    let entries = run.entries(&[Kind::Leaselock, Kind::Naive], &Place::all());
    for round in 0..run.plan.long_rounds {
        for entry in rotated(&entries, round) {
            let name = run.name("one_lock");
            let outcome = match entry.open(TTL).await {
                Ok(contestant) => {
                    measure(&[contestant], TASKS, &name, run.plan.contest_window).await
                }
                Err(error) => Err(error),
            };
            run.note("one_lock", &format!("{TASKS} tasks"), &entry, round, outcome);
        }
    }
}

/// The tasks are spread over the handles.
pub async fn measure(
    handles: &[Arc<dyn Contestant>],
    tasks: usize,
    name: &str,
    window: Duration,
) -> Result<Outcome> {
    contention::warm_up(handles, tasks, name).await?;
    let figures = contention::tasks(handles, tasks, Locks::One(name), window).await?;
    Ok(Outcome { figures, samples: Vec::new() })
}
