//! Exhausts one configuration.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use stateright::{Checker, Expectation, HasDiscoveries, Model};

use crate::config::Config;
use crate::family::Family;
use crate::fence::Fenced;
use crate::gathering::Gathered;
use crate::quorum::Quorum;
use crate::witness::{Event, Witness};
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
    let (states, violation, _) = explore(world);
    Checked { states, witnessed: seen_by(&witness), violation }
}

/// The same for what is held beside others, in turn, and under sessions.
pub(crate) fn check_family(world: &Family) -> Checked {
    let witness = Arc::default();
    let world = Family { witness: Arc::clone(&witness), ..world.clone() };
    let (states, violation, _) = explore(world);
    Checked { states, witnessed: seen_by(&witness), violation }
}

fn seen_by(witness: &Witness) -> Vec<(&'static str, u64)> {
    Event::ALL.map(|(event, what)| (what, witness.count(event))).into()
}

/// The same for fenced objects.
pub(crate) fn check_fenced(world: &Fenced) -> Checked {
    check_world(world)
}

/// The same for latches and barriers.
pub(crate) fn check_gathered(world: &Gathered) -> Checked {
    check_world(world)
}

/// The same for a lock over several stores.
pub(crate) fn check_quorum(world: &Quorum) -> Checked {
    check_world(world)
}

fn check_world<M>(world: &M) -> Checked
where
    M: Model + Clone + Send + Sync + 'static,
    M::State: Hash + Debug + Clone + PartialEq + Send + Sync + 'static,
    M::Action: Clone + PartialEq + Debug + Send + Sync + 'static,
{
    let (states, violation, seen) = explore(world.clone());
    let sometimes = world.properties().into_iter();
    let sometimes = sometimes.filter(|property| property.expectation == Expectation::Sometimes);
    let witnessed =
        sometimes.map(|property| (property.name, u64::from(seen.contains(&property.name))));
    Checked { states, witnessed: witnessed.collect(), violation }
}

/// How many states there are, the shortest way to a broken promise, and which events happen.
fn explore<M>(world: M) -> (usize, Option<Counterexample>, Vec<&'static str>)
where
    M: Model + Send + Sync + 'static,
    M::State: Hash + Debug + Clone + PartialEq + Send + Sync + 'static,
    M::Action: Clone + PartialEq + Debug + Send + Sync + 'static,
{
    let names = |expectation: Expectation| {
        let properties = world.properties().into_iter();
        let properties = properties.filter(|property| property.expectation == expectation);
        properties.map(|property| property.name).collect::<Vec<_>>()
    };
    let hoped = names(Expectation::Sometimes);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let checker = world
        .checker()
        .threads(threads)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let (seen, broken): (Vec<_>, Vec<_>) =
        checker.discoveries().into_iter().partition(|(name, _)| hoped.contains(name));
    let violation = broken
        .into_iter()
        .map(|(property, path)| Counterexample {
            property,
            steps: path.into_actions().iter().map(|step| format!("{step:?}")).collect(),
        })
        .min_by_key(|example| example.steps.len());
    let seen = seen.into_iter().map(|(name, _)| name).collect();
    (checker.unique_state_count(), violation, seen)
}
