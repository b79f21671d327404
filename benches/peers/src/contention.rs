//! Tasks that want one lock again and again.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};

use crate::clock::{self, Nanos};
use crate::contestant::Contestant;
use crate::results::Figures;
use crate::statistics::{jain, percentile};

/// How a contender fared.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Share {
    /// How long it waited each time it got the lock, in milliseconds.
    pub waits: Vec<f64>,
    /// How long it had been waiting when the time was over.
    pub cut_off: f64,
}

/// Takes the lock until `end`, and holds it for `hold` each time.
pub async fn contend(
    contestant: &dyn Contestant,
    name: &str,
    hold: Duration,
    end: Nanos,
) -> Result<Share> {
    let mut share = Share::default();
    while clock::now() < end {
        let began = clock::now();
        let held = tokio::select! {
            held = contestant.lock(name) => held?,
            () = clock::sleep_until(end) => {
                share.cut_off = millis(began);
                return Ok(share);
            }
        };
        // What is had when the time is over does not count, or a slow contestant would gain by it.
        if clock::now() < end {
            share.waits.push(millis(began));
        }
        if !hold.is_zero() {
            tokio::time::sleep(hold).await;
        }
        held.unlock().await?;
    }
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

/// `tasks` tasks of this process, spread over the handles it has.
pub async fn tasks(
    handles: &[Arc<dyn Contestant>],
    tasks: usize,
    name: impl Fn(usize) -> String,
    window: Duration,
) -> Result<Figures> {
    let end = clock::after(window);
    let running = (0..tasks).map(|task| {
        let contestant = Arc::clone(&handles[task % handles.len()]);
        let name = name(task);
        tokio::spawn(async move { contend(&*contestant, &name, Duration::ZERO, end).await })
    });
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

fn millis(began: Nanos) -> f64 {
    clock::since(began).as_secs_f64() * 1e3
}
