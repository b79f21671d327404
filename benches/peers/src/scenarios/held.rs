//! Ten thousand locks that one process holds.

use anyhow::{Result, bail};
use futures::future::join_all;

use crate::contestant::{Entry, Kind};
use crate::held::{Held, Holding};
use crate::place::Place;
use crate::plan::Plan;
use crate::results::Figures;
use crate::run::{Outcome, Run, TTL};
use crate::worker::{Answer, Order, Worker};

pub async fn run(run: &mut Run) {
    let entry = Entry::on(Kind::Leaselock, &Place::Memory);
    if !run.takes_part(&entry) {
        return;
    }
    let holdings = [Holding::Leases, Holding::Session, Holding::Records];
    // All at once: what is measured is memory and counts.
    let measured = join_all(holdings.map(|holding| measure(&entry, holding, &run.plan))).await;
    let records = measured[2].as_ref().map_or(0.0, |held| held.bytes);
    for (case, held) in ["leases", "session"].into_iter().zip(measured) {
        let outcome = held.map(|held| figures(held, records, run.plan.held_locks));
        run.note("held", case, &entry, 0, outcome);
    }
}

async fn measure(entry: &Entry, holding: Holding, plan: &Plan) -> Result<Held> {
    let mut worker = Worker::start(entry, TTL).await?;
    let (count, window) = (plan.held_locks, plan.held_for);
    worker.order(&Order::HoldMany { holding, count, window }).await?;
    match worker.answer().await? {
        Answer::HeldMany(held) => Ok(held),
        other => bail!("not held but {other:?}"),
    }
}

fn figures(held: Held, records: f64, count: usize) -> Outcome {
    let figures = Figures::from([
        ("bytes_each".to_owned(), (held.bytes - records) / count as f64),
        ("requests_per_s".to_owned(), held.requests_per_second),
        ("acquired_per_s".to_owned(), count as f64 / held.seconds),
    ]);
    Outcome { figures, samples: Vec::new() }
}
