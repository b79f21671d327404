//! The world: the store, what is on its way to it, time, people; and the promises.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stateright::{Model, Property};

use crate::config::{Config, Sabotage};
use crate::decisions::{self, Decision};
use crate::process::Then;
use crate::state::{
    Age, Contend, Contending, Holding, Keep, Memory, OPERATOR, Object, Past, Process, Put, Request,
    Role, Stage, State, Violation,
};

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
    /// A guard is given back.
    Release(usize),
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

/// What has been seen to happen: a property that always holds proves nothing where nothing ever
/// happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Acquired,
    Released,
    Renewed,
    TakeoverTried,
    TakenOver,
    Lost,
    RenewedTooLate,
    AcquiredTooLate,
    FoundLanded,
    FoundRefused,
    NeverFoundOut,
    LateWriteLanded,
    LateWriteRefused,
    LateWriteClaimed,
    DoorShut,
    ShutOut,
    Broken,
    Deleted,
    Crashed,
}

impl Event {
    /// All, with what they mean.
    pub(crate) const ALL: [(Self, &'static str); 19] = [
        (Self::Acquired, "acquired"),
        (Self::Released, "released"),
        (Self::Renewed, "renewed"),
        (Self::TakeoverTried, "takeover tried"),
        (Self::TakenOver, "taken over"),
        (Self::Lost, "lost"),
        (Self::RenewedTooLate, "renewed too late"),
        (Self::AcquiredTooLate, "acquired too late, given back"),
        (Self::FoundLanded, "unclear write found to have landed"),
        (Self::FoundRefused, "unclear write found refused"),
        (Self::NeverFoundOut, "unclear write never found out"),
        (Self::LateWriteLanded, "late write landed"),
        (Self::LateWriteRefused, "late write refused"),
        (Self::LateWriteClaimed, "late write recognised as one's own"),
        (Self::DoorShut, "door shut behind a doubtful write"),
        (Self::ShutOut, "late write shut out"),
        (Self::Broken, "broken by an operator"),
        (Self::Deleted, "record deleted"),
        (Self::Crashed, "crashed"),
    ];
}

/// Counts events.
#[derive(Debug, Default)]
pub(crate) struct Witness([AtomicU64; Event::ALL.len()]);

impl Witness {
    pub(crate) fn note(&self, event: Event) {
        self.0[event as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was seen.
    pub(crate) fn count(&self, event: Event) -> u64 {
        self.0[event as usize].load(Ordering::Relaxed)
    }
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

    fn reach_store(&self, state: &mut State, request: Request) -> bool {
        let Put { expected, rec, delete } = request.put;
        let before = state.object;
        if delete {
            if let Some(entry) = before.and_then(|object| object.rec.entry) {
                state.past.gone.insert(entry.id);
            }
            state.object = None;
            return true;
        }
        let ignored = self.config.has(Sabotage::IfMatchIgnored) && expected.is_some();
        let version = before.map(|object| self.version(&object.rec));
        if version != expected && !(ignored && before.is_some()) {
            return false;
        }
        state.object = Some(Object { rec, age: 0 });
        let old = before.and_then(|object| object.rec.entry);
        if let Some(old) = old.filter(|old| rec.entry.is_none_or(|new| new.id != old.id)) {
            state.past.gone.insert(old.id);
            if rec.entry.is_some() {
                self.witness.note(Event::TakenOver);
            }
        }
        if let Some(new) = rec.entry.filter(|new| old.is_none_or(|old| old.id != new.id)) {
            if state.past.shut.has(new.id) {
                state.past.violation = Some(Violation::DoorWasOpen);
            } else if state.past.gone.has(new.id) {
                state.past.violation = Some(Violation::CameBack);
            } else if new.token <= state.past.top {
                state.past.violation = Some(Violation::TokenDidNotRise);
            }
        }
        state.past.top = state.past.top.max(rec.token);
        true
    }

    /// A write reaches the store.
    fn land(&self, state: &mut State, number: usize, answer: Stage, again: bool) {
        let request = state.network[number];
        if !again {
            state.network.remove(number);
        }
        let landed = self.reach_store(state, request);
        let serial = request.put.rec.serial;
        let waited_for =
            state.processes[request.process].write().filter(|write| write.put.rec.serial == serial);
        match waited_for {
            Some(write) => {
                write.landed |= landed;
                if write.stage == Stage::Waiting && !again {
                    write.stage = if landed { answer } else { Stage::Unclear };
                }
            }
            None if landed => self.witness.note(Event::LateWriteLanded),
            None => {
                self.witness.note(Event::LateWriteRefused);
                let id = request.put.rec.entry.map(|entry| entry.id);
                if id.is_some_and(|id| state.past.shut.has(id)) {
                    self.witness.note(Event::ShutOut);
                }
            }
        }
    }

    /// A write is lost on its way.
    fn refuse(&self, state: &mut State, number: usize, answer: Stage) {
        let request = state.network.remove(number);
        if let Some(write) = state.processes[request.process].write()
            && write.put.rec.serial == request.put.rec.serial
        {
            write.stage = answer;
        }
    }

    fn crash(&self, state: &mut State, process: usize) {
        self.witness.note(Event::Crashed);
        state.crashes -= 1;
        let this = &mut state.processes[process];
        this.role = Role::Out;
        this.memory = Memory::default();
    }

    fn break_lease(&self, state: &mut State) {
        let Some(object) = state.object else { return };
        let Some(entry) = object.rec.entry else { return };
        self.witness.note(Event::Broken);
        state.breaks -= 1;
        state.past.overridden.insert(entry.id);
        let nonce = OPERATOR | state.breaks;
        let put = Put {
            expected: Some(self.version(&object.rec)),
            rec: decisions::break_lease(object.rec, nonce),
            delete: false,
        };
        self.reach_store(state, Request { process: usize::MAX, put });
    }

    fn delete(&self, state: &mut State) {
        let Some(object) = state.object.take() else { return };
        self.witness.note(Event::Deleted);
        state.deletions -= 1;
        if let Some(entry) = object.rec.entry {
            state.past.overridden.insert(entry.id);
            state.past.gone.insert(entry.id);
        }
    }

    /// Whether a write may be on its way that was decided on when there was no record. Tokens and
    /// shut doors are not promised to survive a record that is deleted meanwhile.
    fn creates_under_way(&self, state: &State) -> bool {
        let absent = |process: &Process| match &process.role {
            Role::Contending(Contending { doing, doubt, .. }) => {
                *doubt == Some(None)
                    || match doing {
                        Contend::Viewing(view) => view.found.is_none(),
                        Contend::Reading { found, .. } => found.is_none(),
                        Contend::Writing(write) => write.put.expected.is_none(),
                        Contend::Looking { .. } => false,
                    }
            }
            Role::Shutting(shutting) => shutting.expected.is_none(),
            Role::Holding(_) | Role::Out => false,
        };
        state.network.iter().any(|request| request.put.expected.is_none())
            || state.processes.iter().any(absent)
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
                        Some((Decision::Ours, _)) => steps.push(Step::Act(number)),
                        Some((Decision::Write { .. }, _)) if this.writes > 0 => {
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

impl State {
    pub(crate) fn send(&mut self, request: Request) {
        let place = self.network.partition_point(|other| *other <= request);
        self.network.insert(place, request);
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
            Step::Renew(process) => self.renew(&mut state, process),
            Step::Release(process) => self.release(&mut state, process),
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
        vec![
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
        ]
    }
}
