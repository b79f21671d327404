//! What is held beside others, in turn, and under sessions: a lock with a queue, readers and
//! writers, and a semaphore, with the decisions of `leaselock::protocol::{queue, lock, session}` that
//! ship.
//!
//! Each process has one session, which is opened when it first asks; how that is done is how any
//! lock is acquired, which the lock's own worlds explore. It renews its session or does not: a
//! process that does nothing for a while is frozen or cut off, and its guard tells by its clock that
//! it is over. Whatever it acquires, waits for and gives back is a write of the one record of the
//! lock; a session that seems to have run out is ended by a write of the session's own record. Any
//! write may be on its way for any time, and is then refused if its condition does not hold any
//! more; its sender may wait for it in vain, look again, and send another.
//!
//! A decision on the lock's record is made when that is read: if the record is still the same when
//! the write lands, then so it was when it was decided on. What is known of others' sessions, and
//! what made somebody a holder, may be from any time before.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use leaselock::record::{Kind, Record};
use stateright::{Model, Property};

mod decisions;
mod process;
mod state;
mod store;

use crate::config::FINE_TICK;
use crate::witness::Witness;
use state::{
    Flight, Id, Known, OnRecord, Past, Phase, Process, Put, Rec, Renewing, Session, State,
    Violation, process_of,
};

/// One bounded world.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    /// A lock, a lock for readers and writers, or a semaphore.
    pub(crate) kind: Kind,
    /// How many permits there are.
    pub(crate) limit: u32,
    /// The processes.
    pub(crate) members: Vec<Member>,
    /// True time of one tick.
    pub(crate) tick: Duration,
    /// How often each process may ask for it.
    pub(crate) acquisitions: u8,
    /// How many renewals of sessions may be on their way for a while, of all processes together.
    /// There may be any number of others.
    pub(crate) slow_renewals: u8,
    /// How many writes of all processes may be waited for in vain.
    pub(crate) faults: u8,
    /// How many processes may die.
    pub(crate) crashes: u8,
    /// Whether those who wait or have come in vain may give up.
    pub(crate) giving_up: bool,
    /// What has been broken on purpose.
    pub(crate) sabotage: Option<FamilySabotage>,
    pub(crate) witness: Arc<Witness>,
    pub(crate) template: Arc<OnceLock<Record>>,
}

/// A process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    /// Rate of its clock against true time, in parts per million.
    pub(crate) rate: u32,
    /// Whether it reads only.
    pub(crate) shared: bool,
    /// How many permits it wants.
    pub(crate) permits: u32,
}

/// A mistake that would be easy to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FamilySabotage {
    /// What stands under a session is taken when that seems to have run out, without ending it.
    SessionNotEnded,
    /// A session that has run out by what was last seen of it is ended whatever has become of it.
    EndedUnconditionally,
    /// A renewal re-creates a session that has ended.
    RenewalRevives,
    /// Whoever finds itself admitted enters under a lease that counts from then.
    EnteredUnverified,
    /// A ticket has no lease: it stands for ever, whatever becomes of its session.
    TicketWithoutLease,
    /// A reader does not mind writers that wait.
    ReaderPasses,
    /// A release hands over without a new token.
    HandedOverWithoutToken,
    /// Every holder is taken to have one permit.
    OnePermitEach,
    /// A waiter that gives up leaves its ticket behind.
    TicketLeft,
    /// A release that got no answer is not seen to, while the session goes on.
    ReleaseGivenUp,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A process asks for it.
    Begin(usize),
    /// It looks at the record, and at the sessions that matter, and acts on what it sees.
    Look(usize),
    /// It has seen that it is a holder, and enters if its session still stands.
    Enter(usize),
    Downgrade(usize),
    /// It lets go.
    Release(usize),
    /// It does not want to wait any longer.
    GiveUp(usize),
    /// Who gave up sees to the door.
    Shut(usize),
    /// It renews its session.
    Renew(usize),
    /// The same, with some time before that reaches the store.
    SendRenewal(usize),
    /// It looks what became of a renewal.
    ReadBack(usize),
    /// It dies.
    Crash(usize),
    /// A write reaches the store; its sender, if it waits, is answered.
    Land(Flight),
    /// A sender waits no longer. Its write may land at any time, or never.
    Unheard(Flight),
    /// Time passes.
    Tick,
}

impl Family {
    /// A lock for which these contend.
    pub(crate) fn new(kind: Kind, limit: u32, members: &[Member]) -> Self {
        Self {
            kind,
            limit,
            members: members.to_vec(),
            tick: FINE_TICK,
            acquisitions: 1,
            slow_renewals: 1,
            faults: 1,
            crashes: 0,
            giving_up: true,
            sabotage: None,
            witness: Arc::default(),
            template: Arc::default(),
        }
    }

    fn has(&self, sabotage: FamilySabotage) -> bool {
        self.sabotage == Some(sabotage)
    }

    fn crash(&self, state: &mut State, process: usize) {
        state.crashes -= 1;
        let this = &mut state.processes[process];
        (this.phase, this.session) = (Phase::Dead, Session::LOST);
        for flight in state.flights.iter_mut().filter(|flight| usize::from(flight.by) == process) {
            flight.awaited = false;
        }
    }

    fn tick(&self, state: &mut State) {
        let most = self.saturated();
        let older = |age: &mut u8| *age = (*age + 1).min(most);
        for (number, process) in state.processes.iter_mut().enumerate() {
            for known in &mut process.known {
                if let Known::Seen { age, .. } = known {
                    older(age);
                }
            }
            if let Phase::Holding { age, .. } = &mut process.phase
                && self.has(FamilySabotage::EnteredUnverified)
            {
                older(age);
            }
            let session = &mut process.session;
            if session.lost || process.begun == 0 {
                continue;
            }
            older(&mut session.age);
            if let Renewing::Sent(age) | Renewing::Unclear { age, .. } = &mut session.renewing {
                older(age);
            }
            if !self.is_alive(number, session.age) {
                *session = Session::LOST;
            }
        }
    }

    /// What makes no difference any more is forgotten.
    fn tidy(&self, state: &mut State) {
        for number in 0..state.processes.len() {
            if !self.is_done(&state.processes[number]) {
                continue;
            }
            let process = &mut state.processes[number];
            process.known.fill(Known::Nothing);
            let named = |id: Id| process_of(id) == number;
            let on_record = state.rec.holders.iter().any(|entry| named(entry.id))
                || state.rec.waiters.iter().any(|id| named(*id));
            let under_way = state.flights.iter().any(|flight| {
                usize::from(flight.by) == number
                    || matches!(flight.put, Put::End { session, .. } if usize::from(session) == number)
            });
            // Whether its session stands or not, there is nothing under it.
            if !on_record && !under_way {
                state.processes[number].session = Session::LOST;
                state.sessions[number] = OnRecord::Ended;
                for other in &mut state.processes {
                    other.known[number] = Known::Nothing;
                }
            }
        }
        state.tidy();
    }

    /// Whether a process wants nothing any more.
    fn is_done(&self, process: &Process) -> bool {
        let asks_no_more = process.begun == self.acquisitions || process.session.lost;
        process.is_dead() || (process.phase == Phase::Idle && asks_no_more)
    }

    fn steps_of(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let this = &state.processes[number];
        if this.is_dead() {
            return;
        }
        if this.begun == 0 {
            return steps.push(Step::Begin(number));
        }
        if state.crashes > 0 && !self.is_done(this) {
            steps.push(Step::Crash(number));
        }
        // Nobody renews twice within a tick.
        if !this.session.lost && this.session.age > 0 {
            match this.session.renewing {
                Renewing::Resting => {
                    steps.push(Step::Renew(number));
                    if state.slow_renewals > 0 {
                        steps.push(Step::SendRenewal(number));
                    }
                }
                Renewing::Unclear { .. } => steps.push(Step::ReadBack(number)),
                Renewing::Sent(_) => {}
            }
        }
        match this.phase {
            Phase::Idle if !self.is_done(this) => steps.push(Step::Begin(number)),
            Phase::Idle | Phase::Sent(_) | Phase::Dead => {}
            Phase::Contending => {
                steps.push(Step::Look(number));
                if self.giving_up {
                    steps.push(Step::GiveUp(number));
                }
            }
            Phase::Entering { .. } => steps.push(Step::Enter(number)),
            Phase::Holding { shared, .. } => {
                if self.kind == Kind::RwLock && !shared && !this.session.lost {
                    steps.push(Step::Downgrade(number));
                }
                steps.push(Step::Release(number));
            }
            Phase::Releasing => steps.push(Step::Release(number)),
            Phase::Shutting => steps.push(Step::Shut(number)),
        }
    }

    /// Whether somebody waits for too long: those who live and wait go on renewing and looking, all
    /// others want nothing, whether or not their sessions go on, or are dead; and nobody enters within
    /// two leases for each of the dead on record.
    fn is_stuck(&self, state: &State) -> bool {
        let gone = |process: &Process| process.is_dead() || process.session.lost;
        let waiting: Vec<usize> = (0..state.processes.len())
            .filter(|number| {
                let process = &state.processes[*number];
                process.phase == Phase::Contending && !gone(process)
            })
            .collect();
        let others_rest = state.processes.iter().all(|process| {
            gone(process) || matches!(process.phase, Phase::Idle | Phase::Contending)
        });
        if waiting.is_empty() || !others_rest {
            return false;
        }
        let mut later = State { flights: Vec::new(), ..state.clone() };
        // None of this is seen to happen.
        let quiet = Self { witness: Arc::default(), ..self.clone() };
        // Of several they are watched one after the other. Each may have renewed after it was looked
        // at, and is then watched once more.
        let dead = (0..state.processes.len())
            .filter(|number| gone(&state.processes[*number]) && state.rec.has_any_of(*number));
        let leases = 2 * dead.count();
        for _ in 0..=usize::from(self.saturated()) * leases {
            for number in &waiting {
                // To end sessions, to be told of that, to enter.
                for _ in 0..=state.processes.len() {
                    quiet.look(&mut later, *number);
                    while !later.flights.is_empty() {
                        quiet.land(&mut later, 0);
                    }
                    if matches!(later.processes[*number].phase, Phase::Entering { .. }) {
                        return false;
                    }
                }
            }
            for number in 0..state.processes.len() {
                if gone(&state.processes[number]) {
                    continue;
                }
                if let OnRecord::Held { renewals } = &mut later.sessions[number] {
                    *renewals += 1;
                }
                later.processes[number].session = Session::OPENED;
            }
            quiet.tick(&mut later);
            for number in 0..state.processes.len() {
                if !gone(&state.processes[number]) {
                    later.processes[number].session = Session::OPENED;
                }
            }
        }
        true
    }

    fn together(&self, state: &State) -> (usize, usize, u32) {
        let (mut alone, mut shared, mut permits) = (0, 0, 0);
        for number in 0..state.processes.len() {
            match self.belief(state, number) {
                Some(true) => shared += 1,
                Some(false) => alone += 1,
                None => continue,
            }
            permits += self.members[number].permits;
        }
        (alone, shared, permits)
    }
}

impl Model for Family {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let process = Process {
            phase: Phase::Idle,
            begun: 0,
            session: Session::OPENED,
            known: vec![Known::Nothing; self.members.len()],
        };
        vec![State {
            rec: Rec { token: 0, holders: Vec::new(), waiters: Vec::new() },
            sessions: vec![
                OnRecord::Held { renewals: Session::OPENED.renewals };
                self.members.len()
            ],
            processes: vec![process; self.members.len()],
            flights: Vec::new(),
            slow_renewals: self.slow_renewals,
            faults: self.faults,
            crashes: self.crashes,
            past: Past::default(),
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        if state.past.violation.is_some() {
            return;
        }
        for number in 0..state.processes.len() {
            self.steps_of(state, number, steps);
        }
        for (number, flight) in state.flights.iter().enumerate() {
            // Two copies of one write are the same to everybody.
            if number > 0 && state.flights[number - 1] == *flight {
                continue;
            }
            steps.push(Step::Land(flight.clone()));
            if flight.awaited && state.faults > 0 {
                steps.push(Step::Unheard(flight.clone()));
            }
        }
        steps.push(Step::Tick);
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = before.clone();
        match step {
            Step::Begin(process) => {
                let this = &mut state.processes[process];
                this.begun += 1;
                this.phase = Phase::Contending;
            }
            Step::Look(process) => self.look(&mut state, process),
            Step::Enter(process) => self.enter(&mut state, process),
            Step::Downgrade(process) => self.downgrade(&mut state, process),
            Step::Release(process) => self.release(&mut state, process),
            Step::GiveUp(process) => state.processes[process].phase = Phase::Shutting,
            Step::Shut(process) => self.shut(&mut state, process),
            Step::Renew(process) => self.renew(&mut state, process),
            Step::SendRenewal(process) => self.send_renewal(&mut state, process),
            Step::ReadBack(process) => self.read_back(&mut state, process),
            Step::Crash(process) => self.crash(&mut state, process),
            Step::Land(flight) => {
                let number = state.flights.iter().position(|other| *other == flight)?;
                self.land(&mut state, number);
            }
            Step::Unheard(flight) => {
                let number = state.flights.iter().position(|other| *other == flight)?;
                state.faults -= 1;
                state.flights[number].awaited = false;
                self.unheard(&mut state, usize::from(flight.by), &flight.put);
            }
            Step::Tick => self.tick(&mut state),
        }
        self.tidy(&mut state);
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("who holds alone is alone", |world: &Family, state: &State| {
                let (alone, shared, _) = world.together(state);
                world.kind == Kind::Semaphore || alone == 0 || alone + shared == 1
            }),
            Property::always("no more permits than there are", |world: &Family, state: &State| {
                world.kind != Kind::Semaphore || world.together(state).2 <= world.limit
            }),
            violated("tokens rise from holder to holder", Violation::TokenDidNotRise),
            violated("a session that has ended never stands again", Violation::SessionCameBack),
            violated("nobody passes a waiter who lives", Violation::PassedTheQueue),
            violated("only the dead are put out", Violation::PutOut),
            violated("whoever has left is not admitted again", Violation::CameBack),
            violated("who has given up is not admitted", Violation::DoorWasOpen),
            Property::always(
                "each of the dead is passed within two leases",
                |world: &Family, state| !world.is_stuck(state),
            ),
        ];
        // What that sabotage does is just this: it has to show what comes of it.
        if !self.has(FamilySabotage::EndedUnconditionally) {
            properties.push(Property::always(
                "nobody relies on a session that has ended",
                |_, state: &State| {
                    let mut all = state.sessions.iter().zip(&state.processes);
                    !all.any(|(on_record, process)| {
                        *on_record == OnRecord::Ended && !process.session.lost
                    })
                },
            ));
        }
        properties
    }
}

fn violated(name: &'static str, what: Violation) -> Property<Family> {
    // A property is a plain function: it knows nothing of what it was made for.
    let condition: fn(&Family, &State) -> bool = match what {
        Violation::TokenDidNotRise => |_, s| s.past.violation != Some(Violation::TokenDidNotRise),
        Violation::SessionCameBack => |_, s| s.past.violation != Some(Violation::SessionCameBack),
        Violation::PassedTheQueue => |_, s| s.past.violation != Some(Violation::PassedTheQueue),
        Violation::PutOut => |_, s| s.past.violation != Some(Violation::PutOut),
        Violation::CameBack => |_, s| s.past.violation != Some(Violation::CameBack),
        Violation::DoorWasOpen => |_, s| s.past.violation != Some(Violation::DoorWasOpen),
    };
    Property::always(name, condition)
}
