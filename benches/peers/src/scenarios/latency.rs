//! A store that is far away, as those in a cloud are: the same things once more, over a connection
//! that answers late.

use std::time::Duration;

use anyhow::Result;

use super::{cycle, handover, many_locks, one_lock, processes};
use crate::contestant::{Entry, Kind};
use crate::place::Place;
use crate::plan::Holding;
use crate::run::{Outcome, Run, rotated};

const DELAYS: [u64; 3] = [0, 10, 50];
const LOCKS: usize = 32;
const CONTENDERS: usize = 8;
const HOLDING: Holding = Holding::About(Duration::from_millis(200));

pub async fn run(run: &mut Run) {
    let kinds = [Kind::Leaselock, Kind::Naive, Kind::Floor];
    let mut entries = run.entries(&kinds, &DELAYS.map(Place::Far));
    entries.retain(|entry| entry.place.is_some());
    for round in 0..run.plan.far_rounds {
        for entry in rotated(&entries, round) {
            if let Err(error) = in_this_process(run, &entry, round).await {
                run.note("latency", "warm", &entry, round, Err(error));
            }
            if entry.kind != Kind::Floor {
                among_processes(run, &entry, round).await;
            }
        }
    }
}

async fn in_this_process(run: &mut Run, entry: &Entry, round: usize) -> Result<()> {
    let (cycles, window) = (run.plan.far_cycles, run.plan.far_window);
    let contestant = cycle::opened(entry).await?;
    let name = run.name("latency");
    let warm = cycle::cycles(&*contestant, std::iter::repeat_n(name.clone(), cycles)).await;
    run.note("latency", "warm", entry, round, warm);
    let names = (0..cycles).map(|number| format!("{name}-{number}"));
    run.note("latency", "cold", entry, round, cycle::cycles(&*contestant, names).await);
    let name = run.name("latency");
    let outcome = many_locks::measure(&contestant, LOCKS, &name, window).await;
    run.note("latency", "32 locks", entry, round, outcome);
    if entry.kind != Kind::Floor {
        let name = run.name("latency");
        let outcome = one_lock::measure(&[contestant], CONTENDERS, &name, window).await;
        run.note("latency", "8 tasks", entry, round, outcome);
    }
    Ok(())
}

async fn among_processes(run: &mut Run, entry: &Entry, round: usize) {
    let contested = [(Duration::ZERO, run.name("latency"))];
    let outcome = processes::measure(entry, CONTENDERS, &contested, run.plan.far_window).await;
    run.note("latency", "8 processes", entry, round, outcome.map(only));
    let name = run.name("latency");
    let outcome = handover::measure(entry, &name, &[(HOLDING, run.plan.far_handovers)]).await;
    run.note("latency", "hand-over", entry, round, outcome.map(only));
}

fn only(outcomes: Vec<Outcome>) -> Outcome {
    outcomes.into_iter().next().unwrap_or_default()
}
