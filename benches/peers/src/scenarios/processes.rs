//! Processes that want the same lock.

use std::time::Duration;

use anyhow::{Result, bail};
use futures::future::try_join_all;

use crate::clock;
use crate::contention;
use crate::contestant::{Entry, Kind};
use crate::place::Place;
use crate::requests::Requests;
use crate::run::{Outcome, Run, TTL, rotated};
use crate::worker::{Answer, Order, Worker};

const PROCESSES: usize = 8;
/// They begin at the same moment; how that is sorted out is not counted.
pub const SETTLING: Duration = Duration::from_secs(1);
const HOLDS: [Duration; 2] = [Duration::ZERO, Duration::from_millis(5)];

pub async fn run(run: &mut Run) {
    let mut entries = run.entries(&[Kind::Leaselock, Kind::Fair, Kind::Naive], &Place::all());
    entries.retain(|entry| entry.is_shared() && (entry.kind != Kind::Fair || is_enough(entry)));
    for round in 0..run.plan.long_rounds {
        for entry in rotated(&entries, round) {
            let names = HOLDS.map(|_| run.name("processes"));
            let holds: Vec<_> = HOLDS.into_iter().zip(names).collect();
            match measure(&entry, PROCESSES, &holds, run.plan.contest_window).await {
                Ok(outcomes) => {
                    for (hold, outcome) in HOLDS.iter().zip(outcomes) {
                        let case = format!("held {} ms", hold.as_millis());
                        run.note("processes", &case, &entry, round, Ok(outcome));
                    }
                }
                Err(error) => run.note("processes", "held 0 ms", &entry, round, Err(error)),
            }
        }
    }
}

/// The queue is measured on a directory and on one store over HTTP: it is what it is on all of them.
fn is_enough(entry: &Entry) -> bool {
    [Place::File, Place::Emulator("ministack".to_owned())].map(Some).contains(&entry.place)
}

/// The same processes, once for each time of holding.
pub async fn measure(
    entry: &Entry,
    processes: usize,
    holds: &[(Duration, String)],
    window: Duration,
) -> Result<Vec<Outcome>> {
    let mut workers = try_join_all((0..processes).map(|_| Worker::start(entry, TTL))).await?;
    let mut outcomes = Vec::new();
    for (hold, name) in holds {
        outcomes.push(contend(&mut workers, name, *hold, window).await?);
    }
    try_join_all(workers.into_iter().map(Worker::end)).await?;
    Ok(outcomes)
}

async fn contend(
    workers: &mut [Worker],
    name: &str,
    hold: Duration,
    window: Duration,
) -> Result<Outcome> {
    let begin = clock::after(Duration::from_millis(20));
    let from = begin + SETTLING.as_nanos() as u64;
    let end = from + window.as_nanos() as u64;
    let order = Order::Contend { name: name.to_owned(), hold, begin, from, end };
    try_join_all(workers.iter_mut().map(|worker| worker.order(&order))).await?;
    let answers = try_join_all(workers.iter_mut().map(Worker::answer)).await?;
    let mut shares = Vec::new();
    let mut sent = Some(Requests::default());
    for answer in answers {
        match answer {
            Answer::Contended { share } => {
                sent = sent.zip(share.requests.as_ref()).map(|(sum, more)| sum.and(more));
                shares.push(share);
            }
            other => bail!("not contended but {other:?}"),
        }
    }
    let mut figures = contention::figures(&shares, window);
    let count: usize = shares.iter().map(|share| share.waits.len()).sum();
    if let Some(sent) = sent {
        sent.put(&mut figures, count);
    }
    Ok(Outcome { figures, samples: Vec::new() })
}
