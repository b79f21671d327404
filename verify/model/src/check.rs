//! Exhausts one configuration.

use std::sync::Arc;

use stateright::{Checker, HasDiscoveries, Model};

use crate::config::Config;
use crate::witness::Event;
use crate::world::World;

/// What came of it.
#[derive(Debug)]
pub(crate) struct Checked {
    /// Different states reached.
    pub(crate) states: usize,
    /// Events and how often they were seen.
    pub(crate) witnessed: Vec<(&'static str, u64)>,
    /// The shortest way to a broken promise, if there is one.
    pub(crate) violation: Option<Counterexample>,
}

/// A way to a broken promise.
#[derive(Debug)]
pub(crate) struct Counterexample {
    /// The promise.
    pub(crate) property: &'static str,
    /// The steps that lead there.
    pub(crate) steps: Vec<String>,
}

/// Explores everything, breadth first, and stops at the first broken promise.
pub(crate) fn check(config: &Config) -> Checked {
    let world = World::new(config.clone());
    let witness = Arc::clone(&world.witness);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let checker = world
        .checker()
        .threads(threads)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let violation = checker
        .discoveries()
        .into_iter()
        .map(|(property, path)| Counterexample {
            property,
            steps: path.into_actions().iter().map(|step| format!("{step:?}")).collect(),
        })
        .min_by_key(|example| example.steps.len());
    Checked {
        states: checker.unique_state_count(),
        witnessed: Event::ALL.map(|(event, what)| (what, witness.count(event))).into(),
        violation,
    }
}
