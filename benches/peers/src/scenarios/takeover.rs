//! How long a lock stays taken after its holder was killed.

use std::time::Duration;

use anyhow::{Result, bail};
use futures::future::join_all;

use crate::clock::Nanos;
use crate::contestant::{Entry, Kind};
use crate::place::Place;
use crate::run::{Outcome, Run};
use crate::worker::{Answer, Order, Worker};

/// ZooKeeper's least session time-out is two of its ticks of 2 s: it makes 4 s of this.
const TTL: Duration = Duration::from_secs(3);

/// When the dead holder's lock was had.
struct Takeover {
    at: Nanos,
    killed: Nanos,
    /// When the last renewal was sent, where that can be known.
    renewed: Option<Nanos>,
}

pub async fn run(run: &mut Run) {
    let mut entries = run.entries(&[Kind::Leaselock, Kind::Newcomer], &Place::all());
    entries.retain(Entry::is_shared);
    for round in 0..run.plan.takeovers {
        let names: Vec<_> = entries.iter().map(|_| run.name("takeover")).collect();
        // All at once: they do nothing but wait, for seconds.
        let takeovers = entries.iter().zip(&names).map(|(entry, name)| measure(entry, name));
        for (entry, takeover) in entries.iter().zip(join_all(takeovers).await) {
            match takeover {
                Ok(takeover) => {
                    run.note("takeover", "from the kill", entry, round, Ok(takeover.after_kill()));
                    if let Some(outcome) = takeover.after_renewal() {
                        run.note("takeover", "from the last renewal", entry, round, Ok(outcome));
                    }
                }
                Err(error) => run.note("takeover", "from the kill", entry, round, Err(error)),
            }
        }
    }
}

async fn measure(entry: &Entry, name: &str) -> Result<Takeover> {
    let lock = Order::Lock { name: name.to_owned() };
    let mut holder =
        Worker::start(&Entry { kind: holder_of(entry.kind), ..entry.clone() }, TTL).await?;
    holder.order(&lock).await?;
    let mut renewed = holder.locked().await?;
    holder.order(&Order::TellRenewals).await?;
    let mut successor = Worker::start(entry, TTL).await?;
    let is_newcomer = entry.kind == Kind::Newcomer;
    if !is_newcomer {
        successor.order(&lock).await?;
    }
    // A moment that has nothing to do with when it renews.
    let alive = TTL.mul_f64(0.3 + 0.5 * fastrand::f64());
    tokio::time::sleep(alive).await;
    let killed = holder.kill()?;
    if is_newcomer {
        successor.order(&lock).await?;
    }
    let mut is_known = false;
    while let Ok(answer) = holder.answer().await {
        match answer {
            Answer::Renewed { at } => (renewed, is_known) = (at, true),
            other => bail!("not renewed but {other:?}"),
        }
    }
    let at = successor.locked().await?;
    successor.unlock().await?;
    successor.end().await?;
    Ok(Takeover { at, killed, renewed: is_known.then_some(renewed) })
}

fn holder_of(kind: Kind) -> Kind {
    if kind == Kind::Newcomer { Kind::Leaselock } else { kind }
}

impl Takeover {
    fn after_kill(&self) -> Outcome {
        sample(self.at.saturating_sub(self.killed))
    }

    fn after_renewal(&self) -> Option<Outcome> {
        self.renewed.map(|renewed| sample(self.at.saturating_sub(renewed)))
    }
}

fn sample(nanos: Nanos) -> Outcome {
    Outcome { samples: vec![nanos as f64 / 1e6], ..Outcome::default() }
}
