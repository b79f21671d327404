//! What all scenarios share: the plan, who takes part, and where results go.

use std::time::Duration;

use anyhow::Result;

use crate::contestant::{Entry, Kind};
use crate::place::Place;
use crate::plan::Plan;
use crate::results::{Failure, Figures, Measurement, Results};

/// Longer than any lease of a scenario in which no holder dies would have to be renewed.
pub const TTL: Duration = Duration::from_secs(30);

/// A run that is under way.
pub struct Run {
    pub plan: Plan,
    pub results: Results,
    /// Only these, if any are named.
    chosen: Vec<Entry>,
    names: u64,
}

/// What a contestant did.
#[derive(Default)]
pub struct Outcome {
    pub figures: Figures,
    pub samples: Vec<f64>,
}

impl Run {
    pub fn new(plan: Plan, chosen: Vec<Entry>) -> Self {
        Self { plan, results: Results::default(), chosen, names: 0 }
    }

    /// This library, on all of the places where its server is there; then the peers.
    pub fn entries(&self, kinds: &[Kind], places: &[Place]) -> Vec<Entry> {
        let on =
            |kind: &Kind| places.iter().map(|place| Entry::on(*kind, place)).collect::<Vec<_>>();
        let entries = kinds.iter().flat_map(on).chain(Kind::PEERS.map(Entry::peer));
        entries.filter(|entry| self.takes_part(entry)).collect()
    }

    pub fn takes_part(&self, entry: &Entry) -> bool {
        entry.is_there() && self.is_wanted(entry)
    }

    fn is_wanted(&self, entry: &Entry) -> bool {
        self.chosen.is_empty() || self.chosen.contains(entry)
    }

    /// Notes whose server does not run, so that nobody takes silence for a result.
    pub fn note_absent(&mut self) {
        let places = Place::all();
        let ours = places.iter().map(|place| Entry::on(Kind::Leaselock, place));
        let all: Vec<Entry> = ours.chain(Kind::PEERS.map(Entry::peer)).collect();
        for entry in all {
            if self.is_wanted(&entry) && !entry.is_there() {
                let why = anyhow::anyhow!("its server is not running");
                self.note("all", "all", &entry, 0, Err(why));
            }
        }
    }

    /// A name that no other round uses.
    pub fn name(&mut self, scenario: &str) -> String {
        self.names += 1;
        format!("{scenario}/{}-{}", std::process::id(), self.names)
    }

    /// Notes how it went.
    pub fn note(
        &mut self,
        scenario: &str,
        case: &str,
        contestant: &Entry,
        round: usize,
        outcome: Result<Outcome>,
    ) {
        let (scenario, case) = (scenario.to_owned(), case.to_owned());
        let contestant = contestant.to_string();
        match outcome {
            Ok(Outcome { figures, samples }) => {
                eprintln!("  {scenario}, {case}: {contestant}: {}", brief(&figures, &samples));
                let measurement =
                    Measurement { scenario, case, contestant, round, figures, samples };
                self.results.measurements.push(measurement);
            }
            Err(error) => {
                let why = format!("{error:#}");
                eprintln!("  {scenario}, {case}: {contestant}: FAILED: {why}");
                self.results.failures.push(Failure { scenario, case, contestant, why });
            }
        }
    }
}

/// The same items, begun with another one in each round, so that nobody always goes first.
pub fn rotated<T: Clone>(items: &[T], round: usize) -> Vec<T> {
    let mut items = items.to_vec();
    if !items.is_empty() {
        let by = round * 7 % items.len();
        items.rotate_left(by);
    }
    items
}

fn brief(figures: &Figures, samples: &[f64]) -> String {
    let figures = figures.iter().map(|(name, value)| format!("{name}={value:.3}"));
    let samples = samples.iter().map(|value| format!("{value:.1}"));
    figures.chain(samples).collect::<Vec<_>>().join(" ")
}
