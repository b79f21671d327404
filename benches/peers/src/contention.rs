//! Tasks that want one lock again and again.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};

use crate::clock::{self, Nanos};
use crate::contestant::Contestant;
use crate::referee::Referee;
use crate::requests::Requests;
use crate::results::Figures;
use crate::statistics::{jain, percentile};

/// How long a call that cannot be dropped may take after the time is over.
const GRACE: Nanos = 10_000_000_000;

/// How a contender fared.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Share {
    /// How long it waited each time it got the lock, in milliseconds.
    pub waits: Vec<f64>,
    /// How long it had been waiting when the time was over.
    pub cut_off: f64,
    /// What it asked of its store, where that is counted.
    pub requests: Option<Requests>,
}

/// When acquisitions count.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub from: Nanos,
    pub end: Nanos,
}

impl Span {
    /// From now on.
    pub fn of(window: Duration) -> Self {
        Self { from: clock::now(), end: clock::after(window) }
    }
}

/// Takes the lock from now on until the end of `span`, and holds it for `hold` each time. With a referee,
/// it fails when somebody else has it meanwhile.
pub async fn contend(
    contestant: &dyn Contestant,
    name: &str,
    referee: Option<&Referee>,
    hold: Duration,
    span: Span,
) -> Result<Share> {
    let mut share = Share::default();
    let Span { from, end } = span;
    let limit = if contestant.may_be_dropped() { end } else { end + GRACE };
    let mut before = None;
    while clock::now() < end {
        let began = clock::now();
        let mut locking = contestant.lock(name);
        let held = loop {
            tokio::select! {
                () = clock::sleep_until(from), if before.is_none() => {
                    before = Some(contestant.requests());
                }
                held = &mut locking => break Some(held?),
                () = clock::sleep_until(limit) => break None,
            }
        };
        drop(locking);
        // What is had when the time is over does not count, or a slow contestant would gain by it.
        let now = clock::now();
        let waited = millis(now.min(end).saturating_sub(began));
        if now >= end {
            share.cut_off = waited;
        } else if now >= from {
            share.waits.push(waited);
        }
        let Some(held) = held else { break };
        referee.map_or(Ok(()), Referee::enter)?;
        if now < end && !hold.is_zero() {
            tokio::time::sleep(hold).await;
        }
        referee.map_or(Ok(()), Referee::leave)?;
        held.unlock().await?;
    }
    let requests = contestant.requests().zip(before.flatten());
    share.requests = requests.map(|(now, then)| now.since(&then));
    Ok(share)
}

/// Each task takes a lock of its own twice, so that connections are made before it counts.
pub async fn warm_up(handles: &[Arc<dyn Contestant>], tasks: usize, name: &str) -> Result<()> {
    let taking = (0..tasks).map(|task| async move {
        for _ in 0..2 {
            handles[task % handles.len()].lock(&format!("{name}-{task}")).await?.unlock().await?;
        }
        anyhow::Ok(())
    });
    try_join_all(taking).await?;
    Ok(())
}

/// What is contended for.
#[derive(Clone, Copy)]
pub enum Locks<'a> {
    /// The same by all, under the eyes of a referee.
    One(&'a str),
    /// One by each, with names that begin like this.
    Each(&'a str),
}

/// `tasks` tasks of this process, spread over the handles it has.
pub async fn tasks(
    handles: &[Arc<dyn Contestant>],
    tasks: usize,
    locks: Locks<'_>,
    window: Duration,
) -> Result<Figures> {
    let span = Span::of(window);
    let mut running = Vec::new();
    for task in 0..tasks {
        let contestant = Arc::clone(&handles[task % handles.len()]);
        let (name, referee) = match locks {
            Locks::One(name) => (name.to_owned(), Some(Referee::of(name)?)),
            Locks::Each(prefix) => (format!("{prefix}-{task}"), None),
        };
        running.push(tokio::spawn(async move {
            contend(&*contestant, &name, referee.as_ref(), Duration::ZERO, span).await
        }));
    }
    let shares: Result<Vec<Share>> = try_join_all(running).await?.into_iter().collect();
    Ok(figures(&shares?, window))
}

/// What the shares of all come to.
pub fn figures(shares: &[Share], window: Duration) -> Figures {
    let counts: Vec<f64> = shares.iter().map(|share| share.waits.len() as f64).collect();
    let waits: Vec<f64> = shares.iter().flat_map(|share| share.waits.iter().copied()).collect();
    let longest = |share: &Share| share.waits.iter().copied().fold(share.cut_off, f64::max);
    let mut figures = Figures::new();
    let mut put = |name: &str, value: f64| {
        // JSON has no other numbers.
        if value.is_finite() {
            figures.insert(name.to_owned(), value);
        }
    };
    put("rate_per_s", waits.len() as f64 / window.as_secs_f64());
    put("jain", jain(&counts));
    put("wait_p50_ms", percentile(&waits, 0.5));
    put("wait_p99_ms", percentile(&waits, 0.99));
    put("wait_max_ms", shares.iter().map(longest).fold(0.0, f64::max));
    figures
}

fn millis(nanos: Nanos) -> f64 {
    nanos as f64 / 1e6
}
