//! Everything that is the same for all processes: true time, the store, the way there, the referee.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use crate::Options;
use crate::clock::Time;
use crate::counts::Counts;
use crate::events::{Event, Events};
use crate::faults::{Spell, Weather, When};
use crate::machine::Machine;
use crate::objects::Objects;
use crate::plan::Plan;
use crate::referee::Referee;
use crate::trace::{Kind, Trace};
use crate::wire::{Order, Request};

/// The world, as everybody in it has it. There is one thread, so nobody ever waits for it.
pub(crate) type Shared = Arc<Mutex<World>>;

pub(crate) fn lock(world: &Shared) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything that is the same for all.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Arc<Plan>,
    pub(crate) now: Time,
    pub(crate) events: Events,
    pub(crate) machines: Vec<Machine>,
    pub(crate) objects: Objects,
    pub(crate) referee: Referee,
    pub(crate) trace: Trace,
    pub(crate) counts: Counts,
    /// Faults have ended, and everybody shall finish.
    quiet: bool,
    /// Users who wait for that, by their numbers: tokio's channels would wake them in any order.
    quiet_wakers: BTreeMap<usize, Waker>,
    /// Which faults of the schedule are to happen.
    pub(crate) kept: Vec<bool>,
    /// Requests by number.
    pub(crate) requests: BTreeMap<u64, Request>,
    pub(crate) weather: Vec<Spell>,
    /// What was sent in the step that is under way.
    pub(crate) outbox: Vec<Order>,
    /// How many requests were sent.
    pub(crate) sent: u64,
    /// How often a clock was read at this instant.
    pub(crate) readings: u64,
}

impl World {
    pub(crate) fn new(plan: Arc<Plan>, options: &Options) -> Self {
        let zero = Duration::ZERO;
        let store = plan.store.clone();
        let store_clock = store.dial();
        let kept = (0..plan.faults.len())
            .map(|number| options.keep.as_ref().is_none_or(|keep| keep.contains(&number)))
            .collect();
        let machines =
            (0..plan.processes.len()).map(|number| Machine::new(&plan, number)).collect();
        let mut world = Self {
            objects: Objects::new(store, store_clock, options.sabotage),
            referee: Referee::new(&plan, options),
            trace: Trace::new(options.timeline),
            now: zero,
            events: Events::default(),
            machines,
            counts: Counts::default(),
            quiet: false,
            quiet_wakers: BTreeMap::new(),
            kept,
            requests: BTreeMap::new(),
            weather: Vec::new(),
            outbox: Vec::new(),
            sent: 0,
            readings: 0,
            plan,
        };
        for (number, fault) in world.plan.clone().faults.iter().enumerate() {
            if let (When::At(at), true) = (fault.when, world.kept[number]) {
                world.events.add(at, Event::Fault(number));
            }
        }
        world.events.add(world.plan.length, Event::Quiet);
        world
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    pub(crate) fn note(
        &mut self,
        process: Option<usize>,
        kind: Kind,
        text: impl FnOnce() -> String,
    ) {
        self.trace.note(self.now, process, kind, text);
    }

    pub(crate) fn begin_weather(
        &mut self,
        (process, place): (Option<usize>, Option<usize>),
        length: Duration,
        weather: Weather,
    ) {
        let until = self.now + length;
        self.weather.push(Spell { until, process, place, weather });
        if place.is_some() {
            self.counts.add("times one of three stores failed");
        }
        self.counts.add(match weather {
            Weather::Cut | Weather::Mute => "outages",
            Weather::Storm(_) | Weather::Flaky(_) => "storms of errors",
            Weather::Denied => "times of denied access",
            Weather::Slow(_) => "slow times",
            Weather::Twice(_) => "times of repetition",
        });
        self.note(process, Kind::Fault, || {
            let place = place.map_or("everywhere", |place| Plan::PLACES[place]);
            format!("{weather:?} for {:.3} s, {place}", length.as_secs_f64())
        });
    }

    /// Remembers who waits for the end of all faults; whether it has come.
    pub(crate) fn awaits_quiet(&mut self, user: usize, waker: &Waker) -> bool {
        if !self.quiet {
            self.quiet_wakers.insert(user, waker.clone());
        }
        self.quiet
    }

    /// All faults end. Who waits for it is to be woken while the world is not locked.
    #[must_use]
    pub(crate) fn become_quiet(&mut self) -> BTreeMap<usize, Waker> {
        self.weather.clear();
        self.events.hurry(self.now + Duration::from_secs(1));
        self.quiet = true;
        self.note(None, Kind::Fault, || "all faults end".into());
        std::mem::take(&mut self.quiet_wakers)
    }
}
