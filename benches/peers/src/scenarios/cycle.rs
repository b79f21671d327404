//! Taking a free lock and giving it back: one that this process has just had, and ever new ones.

use std::sync::Arc;

use anyhow::Result;

use crate::clock;
use crate::contestant::{Contestant, Entry, Kind};
use crate::place::Place;
use crate::results::Figures;
use crate::run::{Outcome, Run, TTL, rotated};
use crate::statistics::percentile;

pub async fn run(run: &mut Run) {
    let kinds = [Kind::Leaselock, Kind::Naive, Kind::Floor];
    let (warm, cold) = (run.plan.warm_cycles, run.plan.cold_cycles);
    let mut open = Vec::new();
    for entry in run.entries(&kinds, &Place::all()) {
        match opened(&entry).await {
            Ok(contestant) => open.push((entry, contestant)),
            Err(error) => run.note("cycle", "warm", &entry, 0, Err(error)),
        }
    }
    for round in 0..run.plan.rounds {
        for (entry, contestant) in rotated(&open, round) {
            let name = run.name("cycle");
            let outcome = cycles(&*contestant, std::iter::repeat_n(name.clone(), warm)).await;
            run.note("cycle", "warm", &entry, round, outcome);
            let names = (0..cold).map(|number| format!("{name}-{number}"));
            let outcome = cycles(&*contestant, names).await;
            run.note("cycle", "cold", &entry, round, outcome);
        }
    }
}

pub async fn opened(entry: &Entry) -> Result<Arc<dyn Contestant>> {
    let contestant = entry.open(TTL).await?;
    contestant.lock(&format!("ready/{}", fastrand::u64(..))).await?.unlock().await?;
    Ok(contestant)
}

/// Takes and gives back each of the locks; those of one name are timed from the second on.
pub async fn cycles(
    contestant: &dyn Contestant,
    names: impl Iterator<Item = String>,
) -> Result<Outcome> {
    let mut micros = Vec::new();
    let mut last = None;
    let mut sent = contestant.requests();
    let mut names = names.peekable();
    while let Some(name) = names.next() {
        let is_first_of_many = last.is_none() && names.peek() == Some(&name);
        let began = clock::now();
        contestant.lock(&name).await?.unlock().await?;
        if is_first_of_many {
            sent = contestant.requests();
        } else {
            micros.push(clock::since(began).as_secs_f64() * 1e6);
        }
        last = Some(name);
    }
    let mut figures = Figures::from([
        ("p50_us".to_owned(), percentile(&micros, 0.5)),
        ("p99_us".to_owned(), percentile(&micros, 0.99)),
    ]);
    if let (Some(now), Some(then)) = (contestant.requests(), sent) {
        now.since(&then).put(&mut figures, micros.len());
    }
    Ok(Outcome { figures, samples: Vec::new() })
}
