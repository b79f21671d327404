//! What becomes of the rates when there are more and more contenders.

use std::time::Duration;

use anyhow::Result;

use super::{many_locks, one_lock, processes};
use crate::contestant::{Entry, Kind};
use crate::place::Place;
use crate::run::{Outcome, Run, TTL, rotated};

pub async fn run(run: &mut Run) {
    let places = [Place::Memory, Place::File, Place::Emulator("ministack".to_owned())];
    let entries = run.entries(&[Kind::Leaselock], &places);
    let window = run.plan.short_window;
    for (round, size) in run.plan.sizes.clone().into_iter().enumerate() {
        for entry in rotated(&entries, round) {
            let name = run.name("growth");
            let outcome = locks(&entry, size, &name, window).await;
            run.note("growth", &format!("a lock for each of {size} tasks"), &entry, 0, outcome);
            let name = run.name("growth");
            let outcome = tasks(&entry, size, &name, window).await;
            run.note("growth", &format!("one lock for {size} tasks"), &entry, 0, outcome);
            if entry.is_shared() {
                let name = run.name("growth");
                let outcome = others(&entry, size, name, window).await;
                run.note("growth", &format!("one lock for {size} processes"), &entry, 0, outcome);
            }
        }
    }
}

async fn locks(entry: &Entry, size: usize, name: &str, window: Duration) -> Result<Outcome> {
    many_locks::measure(&entry.open(TTL).await?, size, name, window).await
}

async fn tasks(entry: &Entry, size: usize, name: &str, window: Duration) -> Result<Outcome> {
    one_lock::measure(&[entry.open(TTL).await?], size, name, window).await
}

async fn others(entry: &Entry, size: usize, name: String, window: Duration) -> Result<Outcome> {
    let outcomes = processes::measure(entry, size, &[(Duration::ZERO, name)], window).await?;
    Ok(outcomes.into_iter().next().unwrap_or_default())
}
