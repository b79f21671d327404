//! From the moment before one process gives a lock back until another, which waits, has it.

use std::time::Duration;

use anyhow::Result;

use crate::contestant::{Entry, Kind};
use crate::place::Place;
use crate::plan::Holding;
use crate::run::{Outcome, Run, TTL, rotated};
use crate::worker::{Order, Worker};

pub async fn run(run: &mut Run) {
    let mut entries = run.entries(&[Kind::Leaselock, Kind::Naive], &Place::all());
    entries.retain(Entry::is_shared);
    let handovers = run.plan.handovers.clone();
    for round in 0..run.plan.long_rounds {
        for entry in rotated(&entries, round) {
            let name = run.name("handover");
            match measure(&entry, &name, &handovers).await {
                Ok(outcomes) => {
                    for ((holding, _), outcome) in handovers.iter().zip(outcomes) {
                        run.note("handover", &holding.to_string(), &entry, round, Ok(outcome));
                    }
                }
                Err(error) => {
                    let case = handovers[0].0.to_string();
                    run.note("handover", &case, &entry, round, Err(error));
                }
            }
        }
    }
}

pub async fn measure(
    entry: &Entry,
    name: &str,
    handovers: &[(Holding, usize)],
) -> Result<Vec<Outcome>> {
    let mut holder = Worker::start(entry, TTL).await?;
    let mut waiter = Worker::start(entry, TTL).await?;
    holder.order(&Order::Lock { name: name.to_owned() }).await?;
    holder.locked().await?;
    let mut outcomes = Vec::new();
    for (holding, count) in handovers {
        let mut samples = Vec::new();
        for _ in 0..*count {
            samples.push(hand_over(&mut holder, &mut waiter, name, holding.draw()).await?);
            std::mem::swap(&mut holder, &mut waiter);
        }
        outcomes.push(Outcome { samples, ..Outcome::default() });
    }
    holder.unlock().await?;
    tokio::try_join!(holder.end(), waiter.end())?;
    Ok(outcomes)
}

/// Milliseconds. The waiter begins to wait when the time of holding begins.
async fn hand_over(
    holder: &mut Worker,
    waiter: &mut Worker,
    name: &str,
    hold: Duration,
) -> Result<f64> {
    waiter.order(&Order::Lock { name: name.to_owned() }).await?;
    tokio::time::sleep(hold).await;
    let (before, at) = tokio::try_join!(holder.unlock(), waiter.locked())?;
    Ok((at - before) as f64 / 1e6)
}
