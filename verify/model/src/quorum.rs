//! A lock over several stores, of which a majority decides: the steps of the library's `quorum`, with
//! the decisions of `leaselock::protocol::{quorum, lock}` that ship.
//!
//! A contender looks at every member, proposes one token, and votes with it at each; when a majority
//! has its entry it holds the lock, and enters the other members behind its guard. It may give up at any
//! moment, or crash, which comes to the same: nobody counts what it has entered any more, so that others
//! may put it out, and what is on its way may yet land, or not. Any write may be on its way for any
//! time. A member may be down, and come back with its record.
//!
//! # Time
//! There are no clocks here. The lease of an entry may end for its holder at any moment, and only after
//! that does it end for others. That this is so at one store is what the lock's own worlds show.
//!
//! # What is kept small
//! Members are alike, so they are kept in order of what is on them: a member's number says nothing from
//! one step to the next. An entry that its contender does not count any more, because its lease has
//! ended or the round is over, is *astray*, and so is a write. Whose they were makes no difference any
//! more, nor whether such an entry is taken off, or runs out and is put out by the next. A write whose
//! condition does not hold any more is not kept.

use leaselock::protocol::lock::AcquireDecision;
use leaselock::protocol::quorum::is_vote;
use stateright::{Model, Property};

mod decisions;
mod state;

pub(crate) use state::State;
use state::{Contender, Entry, Flight, Member, Past, Phase, Rec, Seat, Violation};

/// One bounded world.
#[derive(Clone, Debug)]
pub(crate) struct Quorum {
    /// How many stores there are.
    pub(crate) members: usize,
    /// How many rounds each contender may play.
    pub(crate) rounds: &'static [u8],
    /// How often each may try to enter a member behind its guard.
    pub(crate) joins: u8,
    /// How often a member goes down.
    pub(crate) outages: u8,
    /// What has been broken on purpose.
    pub(crate) sabotage: Option<QuorumSabotage>,
}

/// A mistake that would be easy to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QuorumSabotage {
    /// A token is proposed when one member has told its own.
    NoReadPhase,
    /// One less than a majority is enough.
    MinorityCounts,
    /// A member votes for a token that it has issued before.
    IssuedTokenCounts,
    /// A vote counts although its lease was over when it was answered.
    LateVoteCounts,
    /// What a round has entered stays, and is counted in the next.
    RoundNotUndone,
    /// A member that is entered afterwards puts out whoever is there.
    RepairPutsOut,
    /// A member that is entered afterwards issues another token.
    RepairIssuesToken,
    /// A member that is entered afterwards takes the acquisition's token for its counter.
    RepairLowersCounter,
    /// A lease that had lost its majority goes on when it has one again.
    RepairRevives,
}

/// One step. Contenders and members have numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A contender begins a round.
    Begin(usize),
    /// It looks at a member.
    Look(usize, usize),
    /// It proposes one more than the largest token it was told of.
    Propose(usize),
    /// It sends its vote to a member.
    Vote(usize, usize),
    /// A majority has landed.
    Win(usize),
    /// It sends a write that enters a member it does not have, with the token it has.
    Join(usize, usize),
    /// A lease of its own at a member ends, for all it knows.
    End(usize, usize),
    /// It gives up its round, gives back what it holds, or crashes.
    GiveUp(usize),
    /// A door is shut behind what may yet land and is not counted any more.
    Shut(usize),
    /// A write reaches a member.
    Land(usize, Flight),
    /// A member does not answer any more …
    Down(usize),
    /// … and does again, with the record it had.
    Up(usize),
}

impl Quorum {
    fn has(&self, sabotage: QuorumSabotage) -> bool {
        self.sabotage == Some(sabotage)
    }

    fn majority(&self) -> usize {
        self.members / 2 + 1
    }

    /// How many entries make a contender a holder.
    fn needed(&self) -> usize {
        self.majority() - usize::from(self.has(QuorumSabotage::MinorityCounts))
    }

    /// How many have to be known to be free before a token is proposed.
    fn asked(&self) -> usize {
        if self.has(QuorumSabotage::NoReadPhase) { 1 } else { self.majority() }
    }

    /// How many entries a contender counts.
    fn held(&self, state: &State, contender: usize) -> usize {
        state.members.iter().filter(|member| member.seats[contender].has_landed()).count()
    }

    /// Whether a contender's guard says that it holds.
    fn believes(&self, state: &State, contender: usize) -> bool {
        let won = matches!(state.contenders[contender].phase, Phase::Won(_));
        won && self.held(state, contender) >= self.needed()
    }

    fn holders(&self, state: &State) -> impl Iterator<Item = usize> {
        (0..state.contenders.len()).filter(|number| self.believes(state, *number))
    }

    fn begin(&self, state: &mut State, contender: usize) {
        let this = &mut state.contenders[contender];
        this.rounds -= 1;
        this.phase = Phase::Looking;
        for member in &mut state.members {
            let seat = &mut member.seats[contender];
            if !seat.has_landed() {
                *seat = Seat::Asked;
            }
        }
    }

    fn look(&self, state: &mut State, contender: usize, number: usize) {
        let member = &mut state.members[number];
        let floor = member.rec.map_or(0, |rec| rec.token);
        let open =
            member.up && matches!(member.acquire(contender, floor), AcquireDecision::Write { .. });
        member.seats[contender] = match state.contenders[contender].phase {
            _ if !member.up => Seat::Out,
            Phase::Looking if open => Seat::Open(floor),
            Phase::Looking => Seat::Taken(floor),
            // There is a proposal: no floor makes a difference any more.
            _ if open => Seat::Open(0),
            _ => Seat::Out,
        };
    }

    fn propose(&self, state: &mut State, contender: usize) {
        let seats = state.members.iter().map(|member| member.seats[contender]);
        let highest = seats.filter_map(Seat::floor).max().unwrap_or(0);
        state.contenders[contender].phase = Phase::Proposed(highest + 1);
        for member in &mut state.members {
            let seat = &mut member.seats[contender];
            *seat = match *seat {
                Seat::Open(_) => Seat::Open(0),
                Seat::Taken(_) => Seat::Out,
                other => other,
            };
        }
    }

    fn vote(&self, state: &mut State, contender: usize, number: usize) {
        let Some(token) = state.contenders[contender].phase.token() else { return };
        let member = &mut state.members[number];
        let votes = match member.acquire(contender, token - 1) {
            AcquireDecision::Write { record, .. } => {
                is_vote(&record, decisions::token(token - 1))
                    || self.has(QuorumSabotage::IssuedTokenCounts)
            }
            _ => false,
        };
        if votes {
            member.send(contender, token, false);
        } else {
            member.seats[contender] = Seat::Out;
        }
    }

    fn join(&self, state: &mut State, contender: usize, number: usize) {
        let this = &mut state.contenders[contender];
        this.joins -= 1;
        let Some(token) = this.phase.token() else { return };
        let member = &mut state.members[number];
        let alive =
            member.rec.as_ref().and_then(|rec| rec.entry).is_some_and(|entry| !entry.astray);
        let puts_out = alive && self.has(QuorumSabotage::RepairPutsOut);
        if puts_out || matches!(member.join(contender, token), AcquireDecision::Write { .. }) {
            member.send(contender, token, true);
        }
    }

    fn win(&self, state: &mut State, contender: usize) {
        let Phase::Proposed(token) = state.contenders[contender].phase else { return };
        state.contenders[contender].phase = Phase::Won(token);
        // Who has not voted yet is entered by a join, or not at all.
        for member in &mut state.members {
            let seat = &mut member.seats[contender];
            if *seat == Seat::Asked || seat.is_open() {
                *seat = Seat::Out;
            }
        }
        if token <= state.past.acquired {
            state.past.violation = Some(Violation::TokenDidNotRise);
        }
        let landed = state.members.iter().filter(|member| member.seats[contender].has_landed());
        let mut entries = landed.filter_map(|member| member.rec?.entry);
        let own = |entry: Entry| !entry.astray && usize::from(entry.of) == contender;
        if entries.any(|entry| own(entry) && entry.token != token) {
            state.past.violation = Some(Violation::OtherToken);
        }
        state.past.acquired = state.past.acquired.max(token);
    }

    /// The lease of what a contender has at a member, or has on its way there, ends for it.
    fn end(&self, state: &mut State, contender: usize, number: usize) {
        let member = &mut state.members[number];
        if self.has(QuorumSabotage::LateVoteCounts) && member.seats[contender].is_sent() {
            let own = |flight: &&mut Flight| usize::from(flight.by) == contender;
            member.flights.iter_mut().filter(own).for_each(|flight| flight.astray = true);
            return;
        }
        member.go_astray(contender);
        member.seats[contender] = Seat::Out;
        let won = matches!(state.contenders[contender].phase, Phase::Won(_));
        let revives = self.has(QuorumSabotage::RepairRevives);
        if won && !revives && self.held(state, contender) < self.needed() {
            self.give_up(state, contender);
        }
    }

    fn give_up(&self, state: &mut State, contender: usize) {
        let this = &mut state.contenders[contender];
        this.phase = Phase::Idle;
        if this.rounds == 0 {
            this.joins = 0;
        }
        for member in &mut state.members {
            let kept = self.has(QuorumSabotage::RoundNotUndone);
            if kept && member.seats[contender].has_landed() {
                continue;
            }
            member.go_astray(contender);
            member.seats[contender] = Seat::Out;
        }
    }

    /// The door is shut behind what may yet land.
    fn shut(&self, state: &mut State, number: usize) {
        let rec = state.members[number].without_what_may_come();
        self.write(state, number, rec);
    }

    fn land(&self, state: &mut State, number: usize, flight: Flight) {
        let member = &mut state.members[number];
        let rec = member.landed(self, &flight);
        let late = self.has(QuorumSabotage::LateVoteCounts);
        let seat = member.seats[usize::from(flight.by)];
        if !flight.astray || (late && seat.is_sent()) {
            member.seats[usize::from(flight.by)] = Seat::Landed { joined: flight.joins };
        }
        if rec.entry.is_some_and(|entry| !entry.astray && entry.token != flight.token) {
            state.past.violation = Some(Violation::OtherToken);
        }
        self.write(state, number, rec);
    }

    fn write(&self, state: &mut State, number: usize, rec: Rec) {
        let member = &mut state.members[number];
        if member.rec.is_some_and(|before| rec.token < before.token) {
            state.past.violation = Some(Violation::CounterDecreased);
        }
        member.write(rec);
    }

    /// Whether a majority that is up and free, with nobody else about, does not let in who asks.
    fn is_stuck(&self, state: &State) -> bool {
        let rest = state.contenders.iter().all(|contender| contender.phase == Phase::Idle);
        let up = state.members.iter().filter(|member| member.up).count();
        if !rest || up < self.majority() {
            return false;
        }
        let mut later = state.clone();
        let all = 0..self.members;
        for member in &mut later.members {
            member.flights.clear();
        }
        later.contenders[0].rounds = 1;
        self.begin(&mut later, 0);
        for number in all.clone() {
            self.look(&mut later, 0, number);
            let open = later.members.iter().filter(|member| member.seats[0].is_open()).count();
            if later.contenders[0].phase == Phase::Looking && open >= self.asked() {
                self.propose(&mut later, 0);
            }
        }
        for number in all {
            if later.members[number].seats[0].is_open() {
                self.vote(&mut later, 0, number);
            }
            if let Some(flight) = later.members[number].flights.pop() {
                self.land(&mut later, number, flight);
            }
        }
        self.held(&later, 0) < self.needed()
    }

    fn steps_of(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let Contender { phase, rounds, joins } = state.contenders[number];
        let open = state.members.iter().filter(|member| member.seats[number].is_open()).count();
        let asked = state.members.iter().any(|member| member.seats[number] == Seat::Asked);
        match phase {
            Phase::Idle if rounds > 0 => steps.push(Step::Begin(number)),
            Phase::Idle => {}
            Phase::Looking if open >= self.asked() => steps.push(Step::Propose(number)),
            // It has written nothing yet: before this it makes no difference.
            Phase::Looking if !asked => steps.push(Step::GiveUp(number)),
            Phase::Looking => {}
            Phase::Proposed(_) if self.held(state, number) >= self.needed() => {
                steps.push(Step::Win(number));
            }
            _ => {}
        }
        if phase.token().is_some() {
            steps.push(Step::GiveUp(number));
        }
        for (at, member) in state.members.iter().enumerate() {
            // Two members that are alike to everybody are as one.
            if at > 0 && state.members[at - 1] == *member {
                continue;
            }
            let seat = member.seats[number];
            if seat == Seat::Asked {
                steps.push(Step::Look(number, at));
            }
            if seat.has_landed() || seat.is_sent() {
                steps.push(Step::End(number, at));
            }
            if member.up && phase.token().is_some() && seat.is_open() {
                steps.push(Step::Vote(number, at));
            }
            if member.up && joins > 0 && matches!(phase, Phase::Won(_)) && seat == Seat::Out {
                steps.push(Step::Join(number, at));
            }
        }
    }
}

impl Model for Quorum {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let seats = vec![Seat::Out; self.rounds.len()];
        let member = Member { rec: None, up: true, seats, flights: Vec::new() };
        let joins = self.joins;
        let contender = |rounds: &u8| Contender { phase: Phase::Idle, rounds: *rounds, joins };
        vec![State {
            members: vec![member; self.members],
            contenders: self.rounds.iter().map(contender).collect(),
            outages: self.outages,
            past: Past::default(),
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        let wants = |this: &Contender| this.phase != Phase::Idle || this.rounds > 0;
        if state.past.violation.is_some() || !state.contenders.iter().any(wants) {
            return;
        }
        for number in 0..state.contenders.len() {
            self.steps_of(state, number, steps);
        }
        for (at, member) in state.members.iter().enumerate() {
            if at > 0 && state.members[at - 1] == *member {
                continue;
            }
            if !member.up {
                steps.push(Step::Up(at));
                continue;
            }
            steps.extend(member.flights.iter().map(|flight| Step::Land(at, *flight)));
            if member.is_doubtful() {
                steps.push(Step::Shut(at));
            }
            if state.outages > 0 {
                steps.push(Step::Down(at));
            }
        }
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = before.clone();
        match step {
            Step::Begin(contender) => self.begin(&mut state, contender),
            Step::Look(contender, member) => self.look(&mut state, contender, member),
            Step::Propose(contender) => self.propose(&mut state, contender),
            Step::Vote(contender, member) => self.vote(&mut state, contender, member),
            Step::Win(contender) => self.win(&mut state, contender),
            Step::Join(contender, member) => self.join(&mut state, contender, member),
            Step::End(contender, member) => self.end(&mut state, contender, member),
            Step::GiveUp(contender) => self.give_up(&mut state, contender),
            Step::Shut(member) => self.shut(&mut state, member),
            Step::Land(member, flight) => {
                let flights = &mut state.members[member].flights;
                flights.retain(|other| *other != flight);
                self.land(&mut state, member, flight);
            }
            Step::Down(member) => {
                state.outages -= 1;
                state.members[member].up = false;
            }
            Step::Up(member) => state.members[member].up = true,
        }
        state.members.sort();
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("one holds a majority at a time", |world: &Quorum, state: &State| {
                world.holders(state).count() <= 1
            }),
            Property::always("tokens rise from majority to majority", |_, state: &State| {
                state.past.violation != Some(Violation::TokenDidNotRise)
            }),
            Property::always("the one who holds came last", |world: &Quorum, state: &State| {
                let last = Some(state.past.acquired);
                let mut holders = world.holders(state);
                let only = holders.next().filter(|_| holders.next().is_none());
                only.is_none_or(|holder| state.contenders[holder].phase.token() == last)
            }),
            Property::always("a member's counter never decreases", |_, state: &State| {
                state.past.violation != Some(Violation::CounterDecreased)
            }),
            Property::always("an acquisition has one token", |_, state: &State| {
                state.past.violation != Some(Violation::OtherToken)
            }),
            Property::always("an undisturbed round is won", |world: &Quorum, state: &State| {
                !world.is_stuck(state)
            }),
        ];
        if self.sabotage.is_none() {
            properties.extend(hoped());
        }
        properties
    }
}

/// What proves little where it never happens.
fn hoped() -> [Property<Quorum>; 6] {
    [
        Property::sometimes("a majority acquired", |world: &Quorum, state: &State| {
            world.holders(state).count() > 0
        }),
        Property::sometimes("two voted for with one token", |_, state: &State| {
            let entries = || state.members.iter().filter_map(|member| member.rec?.entry);
            let live = || entries().filter(|entry| !entry.astray);
            live().any(|one| live().any(|two| one.of != two.of && one.token == two.token))
        }),
        Property::sometimes("a vote on its way when its round is over", |_, state: &State| {
            let mut flights = state.members.iter().flat_map(|member| &member.flights);
            flights.any(|flight| flight.astray)
        }),
        Property::sometimes("a lock held while a member is down", |world: &Quorum, state| {
            world.holders(state).count() > 0 && state.members.iter().any(|member| !member.up)
        }),
        Property::sometimes("held by others than it was won with", |world: &Quorum, state| {
            world.holders(state).any(|holder| {
                let voted =
                    |member: &&Member| member.seats[holder] == Seat::Landed { joined: false };
                state.members.iter().filter(voted).count() < world.needed()
            })
        }),
        Property::sometimes("entered behind a member's counter", |_, state: &State| {
            let mut records = state.members.iter().filter_map(|member| member.rec);
            records
                .any(|rec| rec.entry.is_some_and(|entry| !entry.astray && entry.token < rec.token))
        }),
    ]
}
