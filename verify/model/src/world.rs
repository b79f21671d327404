//! The world: what may happen next, time; and the promises.

use std::sync::Arc;

use stateright::{Model, Property};

use crate::config::Config;
use crate::decisions::Decision;
use crate::process::Then;
use crate::state::{
    Age, Contend, Contending, Holding, Keep, Memory, Past, Process, Role, Stage, State, Violation,
};
use crate::witness::{Event, Witness};

/// Something that may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// A process asks for the lock, with a read first.
    Begin(usize),
    /// The same from what it remembers.
    BeginRemembered(usize),
    /// The store answers a read.
    ServeRead(usize),
    /// The answer to a read arrives.
    ReceiveRead(usize),
    /// A contender looks again.
    Poll(usize),
    /// A contender acts on what it knows.
    Act(usize),
    /// A contender gives up.
    GiveUp(usize),
    /// A keeper renews.
    Renew(usize),
    /// A lease is handed on to another task of its process.
    HandOver(usize),
    /// A keeper renews and reserves tokens for that.
    Reserve(usize),
    /// A guard is given back; the run has failed, where work is run once.
    Release(usize),
    /// A run has a result.
    Finish(usize),
    /// The answer to a write arrives, or is waited for no longer.
    Receive(usize),
    /// A write is read back.
    ReadBack(usize, Then),
    /// It cannot be read back.
    ReadBackFails(usize),
    /// Who gave up sees to the door.
    Shut(usize),
    /// A write reaches the store and is answered.
    Land(usize),
    /// A write reaches the store, whose answer is lost or says the wrong thing.
    LandUnclear(usize),
    /// A write reaches the store, and something on the way sends it once more.
    LandTwice(usize),
    /// A write is refused though its condition holds, or never arrives: 409, 429, 503.
    Refuse(usize),
    /// A write is certainly not applied: the connection was never made.
    Deny(usize),
    /// A process dies and comes back with no memory.
    Crash(usize),
    /// An operator breaks the lease.
    Break,
    /// Somebody deletes the record.
    Delete,
    /// Time passes.
    Tick,
}

/// One bounded world, to be explored.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) config: Config,
    pub(crate) witness: Arc<Witness>,
    saturated: Age,
}

impl World {
    /// The world of this configuration.
    pub(crate) fn new(config: Config) -> Self {
        let saturated = config.saturated();
        Self { config, witness: Arc::default(), saturated }
    }

    fn crash(&self, state: &mut State, process: usize) {
        self.witness.note(Event::Crashed);
        state.crashes -= 1;
        let this = &mut state.processes[process];
        this.role = Role::Out;
        this.memory = Memory::default();
    }

    fn tick(&self, state: &mut State) {
        let older = |age: &mut Age| *age = (*age + 1).min(self.saturated);
        let stamps = self.config.rules.store_clock;
        if let Some(object) = &mut state.object
            && stamps
        {
            older(&mut object.age);
        }
        for number in 0..state.processes.len() {
            let process = &mut state.processes[number];
            if let Some(seen) = &mut process.memory.seen {
                older(&mut seen.age);
            }
            match &mut process.role {
                Role::Contending(this) => {
                    this.first_write.iter_mut().for_each(older);
                    match &mut this.doing {
                        Contend::Looking { since } | Contend::Reading { since, .. } => older(since),
                        Contend::Viewing(view) if stamps && view.stamped => older(&mut view.age),
                        Contend::Viewing(_) => {}
                        Contend::Writing(write) => older(&mut write.age),
                    }
                }
                Role::Holding(this) => {
                    older(&mut this.age);
                    if let Keep::Renewing(write) = &mut this.doing {
                        older(&mut write.age);
                    }
                }
                Role::Shutting(_) | Role::Out => {}
            }
            self.settle(state, number);
        }
    }

    fn process_steps(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let this = &state.processes[number];
        if this.role != Role::Out && state.crashes > 0 {
            steps.push(Step::Crash(number));
        }
        self.hand_over_steps(state, number, steps);
        if let Some(write) = this.waiting_for() {
            if write.stage != Stage::ReadingBack {
                return steps.push(Step::Receive(number));
            }
            steps.push(Step::ReadBack(number, Then::Stop));
            if self.may_send_again(state, number) {
                steps.push(Step::ReadBack(number, Then::SendAgain));
            }
            return steps.push(Step::ReadBackFails(number));
        }
        match &this.role {
            Role::Out if this.acquisitions > 0 => {
                steps.push(Step::Begin(number));
                if this.memory.freed.is_some() {
                    steps.push(Step::BeginRemembered(number));
                }
            }
            Role::Out => {}
            Role::Contending(Contending { doing, .. }) => match doing {
                Contend::Looking { .. } => steps.push(Step::ServeRead(number)),
                Contend::Reading { .. } => steps.push(Step::ReceiveRead(number)),
                Contend::Viewing(view) => {
                    steps.push(Step::GiveUp(number));
                    let known = view.found.map(|rec| self.version(&rec));
                    if known != state.object.map(|object| self.version(&object.rec)) {
                        steps.push(Step::Poll(number));
                    }
                    match self.decide(state, number) {
                        Some(Decision::Ours | Decision::Done(_)) => steps.push(Step::Act(number)),
                        Some(Decision::Write { .. }) if this.writes > 0 => {
                            steps.push(Step::Act(number));
                        }
                        _ => {}
                    }
                }
                Contend::Writing(_) => {}
            },
            Role::Holding(Holding { live: true, doing: Keep::Resting, .. }) if this.writes > 0 => {
                steps.push(Step::Renew(number));
                steps.push(Step::Release(number));
                if self.config.once.is_some() {
                    steps.push(Step::Finish(number));
                }
            }
            Role::Holding(_) => {}
            Role::Shutting(_) => steps.push(Step::Shut(number)),
        }
    }

    /// How many rely on holding the lock, of those to whom exclusion is promised.
    fn believers(&self, state: &State) -> usize {
        (0..state.processes.len())
            .filter(|number| match &state.processes[*number].role {
                Role::Holding(this) => {
                    !state.past.overridden.has(this.id) && self.believes(state, *number)
                }
                _ => false,
            })
            .count()
    }

    /// Whether somebody waits for ever: nothing is on its way, all time has passed, and there is
    /// nothing left that a waiter would do.
    fn is_stuck(&self, state: &State) -> bool {
        let waits = |number: &usize| {
            let this = &state.processes[*number];
            let waiting = matches!(
                this.role,
                Role::Contending(Contending { doing: Contend::Viewing(_), .. })
            );
            waiting && this.writes > 0
        };
        let Some(waiting) = (0..state.processes.len()).find(waits) else { return false };
        if !state.network.is_empty() || state.processes.iter().any(|p| p.waiting_for().is_some()) {
            return false;
        }
        let mut later = state.clone();
        for _ in 0..self.saturated {
            self.tick(&mut later);
        }
        if later != *state {
            return false;
        }
        let mut steps = Vec::new();
        self.process_steps(state, waiting, &mut steps);
        !steps.iter().any(|step| matches!(step, Step::Act(_) | Step::Poll(_)))
    }
}

impl Model for World {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let process = Process {
            role: Role::Out,
            acquisitions: self.config.acquisitions,
            writes: self.config.writes,
            begun: 0,
            written: 0,
            memory: Memory::default(),
        };
        vec![State {
            object: None,
            network: Vec::new(),
            processes: vec![process; self.config.rates.len()],
            crashes: self.config.crashes,
            breaks: self.config.breaks,
            deletions: self.config.deletions,
            duplicates: self.config.duplicates,
            past: Past::default(),
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.past.violation.is_some() {
            return;
        }
        for number in 0..state.processes.len() {
            self.process_steps(state, number, steps);
        }
        for (number, request) in state.network.iter().enumerate() {
            // Two copies of one request are the same to everybody.
            if number > 0 && state.network[number - 1] == *request {
                continue;
            }
            steps.push(Step::Land(number));
            let write = state.processes[request.process].waiting_for();
            let waited_for = write.filter(|write| {
                write.put.rec.serial == request.put.rec.serial && write.stage == Stage::Waiting
            });
            if let Some(write) = waited_for {
                steps.push(Step::LandUnclear(number));
                steps.push(Step::Refuse(number));
                if write.sent == 1 && !write.landed {
                    steps.push(Step::Deny(number));
                }
                if state.duplicates > 0 {
                    steps.push(Step::LandTwice(number));
                }
            }
        }
        let held = state.object.is_some_and(|object| object.rec.entry.is_some());
        if state.breaks > 0 && held {
            steps.push(Step::Break);
        }
        if state.deletions > 0 && state.object.is_some() && !self.creates_under_way(state) {
            steps.push(Step::Delete);
        }
        steps.push(Step::Tick);
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = before.clone();
        match step {
            Step::Begin(process) => self.begin(&mut state, process, false),
            Step::BeginRemembered(process) => self.begin(&mut state, process, true),
            Step::ServeRead(process) => self.serve(&mut state, process),
            Step::ReceiveRead(process) => self.receive_read(&mut state, process),
            Step::Poll(process) => self.look(&mut state, process),
            Step::Act(process) => self.act(&mut state, process),
            Step::GiveUp(process) => self.give_up(&mut state, process),
            Step::Renew(process) => self.renew(&mut state, process, 0),
            Step::HandOver(process) => self.hand_over(&mut state, process),
            Step::Reserve(process) => self.reserve(&mut state, process),
            Step::Release(process) => self.release(&mut state, process),
            Step::Finish(process) => self.finish(&mut state, process),
            Step::Receive(process) => self.receive(&mut state, process),
            Step::ReadBack(process, then) => self.read_back(&mut state, process, then),
            Step::ReadBackFails(process) => self.read_back_fails(&mut state, process),
            Step::Shut(process) => self.shut(&mut state, process),
            Step::Land(number) => self.land(&mut state, number, Stage::Acknowledged, false),
            Step::LandUnclear(number) => self.land(&mut state, number, Stage::Unclear, false),
            Step::LandTwice(number) => {
                state.duplicates -= 1;
                self.land(&mut state, number, Stage::Waiting, true);
            }
            Step::Refuse(number) => self.refuse(&mut state, number, Stage::Unclear),
            Step::Deny(number) => self.refuse(&mut state, number, Stage::NotApplied),
            Step::Crash(process) => self.crash(&mut state, process),
            Step::Break => self.break_lease(&mut state),
            Step::Delete => self.delete(&mut state),
            Step::Tick => self.tick(&mut state),
        }
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("one holder at a time", |world: &World, state: &State| {
                world.believers(state) <= 1
            }),
            Property::always("tokens rise", |_, state: &State| {
                state.past.violation != Some(Violation::TokenDidNotRise)
            }),
            Property::always("whoever has left does not come back", |_, state: &State| {
                state.past.violation != Some(Violation::CameBack)
            }),
            Property::always("who has given up does not get the lock", |_, state: &State| {
                state.past.violation != Some(Violation::DoorWasOpen)
            }),
            Property::always("nobody takes himself for a rival", |_, state: &State| {
                state.past.violation != Some(Violation::MistookItself)
            }),
            Property::always("everybody knows his own writes", |_, state: &State| {
                state.past.violation != Some(Violation::Bewildered)
            }),
            Property::always("what is lost stays lost", |world: &World, state: &State| {
                !(0..state.processes.len()).any(|number| match &state.processes[number].role {
                    Role::Holding(this) => {
                        state.past.lost.has(this.id) && world.believes(state, number)
                    }
                    _ => false,
                })
            }),
            Property::always("nobody waits for ever", |world: &World, state: &State| {
                !world.is_stuck(state)
            }),
        ];
        if self.config.once.is_some() {
            properties.extend(results());
        }
        properties
    }
}

/// What is promised of work that is run once.
fn results() -> [Property<World>; 7] {
    [
        Property::always("at most one result is recorded", |world: &World, state: &State| {
            let kept = world.config.once.is_some_and(|once| once.retention.is_none());
            !kept || state.past.recorded.len() <= 1
        }),
        Property::always("a result on record stays", |_, state: &State| {
            state.past.violation != Some(Violation::ResultTakenOff)
        }),
        Property::always("a result is that of the run on record", |_, state: &State| {
            state.past.violation != Some(Violation::ResultOfAnother)
        }),
        Property::always("a result said to be recorded is", |_, state: &State| {
            state.past.violation != Some(Violation::ResultMissing)
        }),
        Property::always("a result said not to be recorded never is", |_, state: &State| {
            !state.past.refused.meets(state.past.recorded)
        }),
        Property::always(
            "whoever is told of a result is told the right one",
            |_, state: &State| state.past.violation != Some(Violation::ToldAnother),
        ),
        Property::always("nobody runs what is done", |world: &World, state: &State| {
            let done = state.object.is_some_and(|object| object.rec.done.is_some());
            !done || world.believers(state) == 0
        }),
    ]
}
