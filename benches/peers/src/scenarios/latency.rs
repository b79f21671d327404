//! A store that takes its time for every request, as those in a cloud do. It lies in the memory of
//! this process; handles of their own stand for other processes.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures::future::try_join_all;

use super::{cycle, many_locks, one_lock};
use crate::clock;
use crate::contestant::{Contestant, Entry, Kind};
use crate::place::Place;
use crate::run::{Outcome, Run, TTL, rotated};

const DELAYS: [u64; 3] = [0, 10, 50];
const HANDLES: usize = 8;
const TASKS: usize = 32;
const HOLD: Duration = Duration::from_millis(200);

pub async fn run(run: &mut Run) {
    let kinds = [Kind::Leaselock, Kind::Naive, Kind::Floor];
    let places = DELAYS.map(Place::Slow);
    let mut entries = run.entries(&kinds, &places);
    entries.retain(|entry| entry.place.is_some());
    for round in 0..run.plan.long_rounds {
        for entry in rotated(&entries, round) {
            if let Err(error) = measure(run, &entry, round).await {
                run.note("latency", "all", &entry, round, Err(error));
            }
        }
    }
}

async fn measure(run: &mut Run, entry: &Entry, round: usize) -> Result<()> {
    let handles = try_join_all((0..HANDLES).map(|_| opened(entry))).await?;
    // Several cycles or a few: a request counts for more than the machine's noise.
    let (cycles, window) = (run.plan.slow_cycles, run.plan.short_window * 2);
    let name = run.name("latency");
    let warm = cycle::cycles(&*handles[0], std::iter::repeat_n(name.clone(), cycles)).await;
    run.note("latency", "warm", entry, round, warm);
    let names = (0..cycles).map(|number| format!("{name}-{number}"));
    run.note("latency", "cold", entry, round, cycle::cycles(&*handles[0], names).await);
    let name = run.name("latency");
    let outcome = many_locks::measure(&handles[0], TASKS, &name, window).await;
    run.note("latency", "32 locks", entry, round, outcome);
    if entry.kind == Kind::Floor {
        return Ok(());
    }
    let name = run.name("latency");
    let outcome = one_lock::measure(&handles[..1], HANDLES, &name, window).await;
    run.note("latency", "8 tasks", entry, round, outcome);
    let name = run.name("latency");
    let outcome = one_lock::measure(&handles, HANDLES, &name, window).await;
    run.note("latency", "8 handles", entry, round, outcome);
    let name = run.name("latency");
    let outcome = hand_overs(&handles, &name, run.plan.slow_handovers).await;
    run.note("latency", "hand-over", entry, round, outcome);
    Ok(())
}

async fn opened(entry: &Entry) -> Result<Arc<dyn Contestant>> {
    let contestant = entry.open(TTL).await?;
    contestant.lock(&format!("ready/{}", fastrand::u64(..))).await?.unlock().await?;
    Ok(contestant)
}

async fn hand_overs(handles: &[Arc<dyn Contestant>], name: &str, count: usize) -> Result<Outcome> {
    let mut samples = Vec::new();
    let mut held = handles[0].lock(name).await?;
    for number in 1..=count {
        let next = Arc::clone(&handles[number % 2]);
        let name = name.to_owned();
        let waiting = tokio::spawn(async move {
            let held = next.lock(&name).await;
            (clock::now(), held)
        });
        tokio::time::sleep(HOLD).await;
        let before = clock::now();
        held.unlock().await?;
        let (at, next) = waiting.await?;
        samples.push((at - before) as f64 / 1e6);
        held = next?;
    }
    held.unlock().await?;
    Ok(Outcome { samples, ..Outcome::default() })
}
