//! Barriers and latches: members meet round after round, by the decisions of
//! `leaselock::protocol::gathering` that ship.
//!
//! A write may land, land with its answer lost, land long after its sender has looked again, or never.
//! A member may crash and come back with nothing but its name and the number of its round; somebody
//! may reset a latch, or delete the record.
//!
//! Nobody is told anything: a member looks, decides, writes, and looks again when there is something
//! new. Every step uses up some of what bounds the world, so a state in which nothing can happen is the
//! end of a path, and there all must be through unless somebody interfered.

use std::collections::BTreeSet;

use leaselock::clock::Wall;
use leaselock::protocol::gathering::{
    About, Arrive, ArriveDecision, ResetDecision, Sight, Standing, arrive, reset, standing,
};
use leaselock::record::{Kind, Record};
use leaselock::{FencingToken, Nonce};
use stateright::{Model, Property};

/// One bounded world.
#[derive(Clone, Debug)]
pub(crate) struct Gathered {
    pub(crate) kind: Kind,
    /// How many members there are, and are needed.
    pub(crate) members: u8,
    /// How many rounds each goes through; at a latch, only the first is waited for.
    pub(crate) rounds: u8,
    /// Whether members say which round they are in. Otherwise they do not crash.
    pub(crate) numbered: bool,
    /// How many writes go wrong: without an answer, or without effect.
    pub(crate) faults: u8,
    /// How often a member crashes.
    pub(crate) crashes: u8,
    /// How often somebody resets the latch.
    pub(crate) resets: u8,
    /// How often somebody deletes the record.
    pub(crate) deletions: u8,
    /// What has been broken on purpose.
    pub(crate) sabotage: Option<GatheringSabotage>,
}

/// A mistake that would be easy to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GatheringSabotage {
    /// Who arrives again counts again.
    CountedTwice,
    /// A call that looks again is about whatever epoch is present then.
    EpochForgotten,
    /// Whoever arrives writes without a condition.
    Unconditional,
    /// A refused write is taken for an arrival.
    NoReadBack,
    /// Who has arrived in an epoch is taken over into the next.
    NotClosed,
    /// Whatever follows the epoch of a waiter is taken for its passing.
    ResetIgnored,
    /// A new record is taken for the old one.
    SeriesIgnored,
}

/// What names one write: whose it is, and which of its writes.
type Tag = (u8, u8);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Object {
    tag: Tag,
    /// As it lies on the store.
    record: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Write {
    tag: Tag,
    /// `None` without a condition; inside it, what must be there.
    condition: Option<Option<Tag>>,
    record: Vec<u8>,
    passes: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    /// Has not looked.
    Begin,
    /// Is about to send this.
    Ready(Write),
    /// Waits for the answer.
    Sent(Write),
    /// Got none, or a refusal, and must look again.
    Unclear,
    /// Has arrived, and has seen this version.
    Waiting(Option<Tag>),
    /// All rounds are behind it.
    Through,
    /// It was told that its epoch is gone.
    Told,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Member {
    phase: Phase,
    round: u8,
    /// What its call is about, once it has looked.
    epoch: Option<u64>,
    seen: Option<Sight>,
    writes: u8,
    /// For how many rounds it has begun to arrive; no process knows that after a crash.
    begun: u8,
}

/// The world at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    object: Option<Object>,
    members: Vec<Member>,
    flying: Vec<Write>,
    faults: u8,
    crashes: u8,
    resets: u8,
    deletions: u8,
    /// Somebody was let through before all had begun to arrive in that round.
    ahead: bool,
    /// Somebody was let through an epoch that was reset before it opened.
    let_through: bool,
    /// Which epochs of a latch have opened.
    opened: BTreeSet<u64>,
    lowered: bool,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Look(u8),
    Send(u8),
    /// A write in flight takes effect or is refused, and is answered.
    Land(usize),
    /// The same, and the answer is lost.
    LandUnheard(usize),
    /// It never arrives.
    Vanish(usize),
    /// Its sender waits no longer; it flies on.
    GiveUpWaiting(u8),
    Crash(u8),
    Reset,
    Delete,
}

impl Gathered {
    fn has(&self, sabotage: GatheringSabotage) -> bool {
        self.sabotage == Some(sabotage)
    }

    fn about(&self, member: &Member) -> About {
        let needed = u32::from(self.members);
        let round = self.numbered.then_some(u64::from(member.round));
        let forgotten = self.has(GatheringSabotage::EpochForgotten);
        let mut about = About {
            kind: self.kind,
            needed,
            epoch: if forgotten { round } else { member.epoch.or(round) },
            seen: if forgotten { None } else { member.seen },
        };
        if self.has(GatheringSabotage::SeriesIgnored) {
            about.seen = None;
        }
        about
    }

    fn look(&self, state: &mut State, number: u8) {
        let object = state.object.clone();
        let found = object.as_ref().map(decoded);
        let member = state.members[usize::from(number)].clone();
        let about = self.about(&member).after(found.as_ref());
        let arrived = matches!(member.phase, Phase::Waiting(_));
        remember(state, number, &about);
        let mut name = name(number);
        if self.has(GatheringSabotage::CountedTwice)
            && !arrived
            && found
                .as_ref()
                .and_then(|record| record.gathering.as_ref())
                .is_some_and(|all| all.has(&name))
        {
            name.push_str(" again");
        }
        if arrived {
            let standing = standing(found.as_ref(), &about);
            let reset = found.as_ref().and_then(|record| record.gathering.as_ref());
            let later = reset.is_some_and(|all| Some(all.epoch) > about.epoch);
            return match standing {
                Standing::Passed => self.pass(state, number),
                Standing::Refused(_) if later && self.has(GatheringSabotage::ResetIgnored) => {
                    self.pass(state, number);
                }
                Standing::Refused(_) => told(state, number),
                Standing::Present => wait(state, number, object),
            };
        }
        let begun = &mut state.members[usize::from(number)].begun;
        *begun = (*begun).max(member.round + 1);
        let tag = (number, member.writes);
        let arrival = Arrive { member: &name, nonce: nonce(tag), above: token(above(state)) };
        match arrive(found.as_ref(), &about, arrival, Wall::from_micros(0)) {
            ArriveDecision::Write { mut record, passes } => {
                if self.has(GatheringSabotage::NotClosed) && passes {
                    let before = found.and_then(|record| record.gathering);
                    let after = record.gathering.as_mut().expect("is a barrier's");
                    after.arrived = before.expect("others have arrived before").arrived;
                }
                let blind = self.has(GatheringSabotage::Unconditional);
                let condition = (!blind).then(|| object.map(|object| object.tag));
                let record = record.encode().expect("is small");
                let member = &mut state.members[usize::from(number)];
                member.writes += 1;
                member.phase = Phase::Ready(Write { tag, condition, record, passes });
            }
            ArriveDecision::There => wait(state, number, object),
            ArriveDecision::Passed => self.pass(state, number),
            ArriveDecision::Refused(_) => told(state, number),
        }
    }

    /// A member is told that its epoch has passed.
    fn pass(&self, state: &mut State, number: u8) {
        let member = &mut state.members[usize::from(number)];
        let (round, epoch) = (member.round, member.epoch);
        member.round += 1;
        let more = self.kind == Kind::Barrier && member.round < self.rounds;
        member.phase = if more { Phase::Begin } else { Phase::Through };
        (member.epoch, member.seen) = (None, None);
        state.ahead |= state.members.iter().any(|other| other.begun <= round);
        let opened = epoch.is_some_and(|epoch| state.opened.contains(&epoch));
        state.let_through |= self.kind == Kind::Latch && !opened;
    }

    fn apply(&self, state: &mut State, write: &Write) -> bool {
        let there = state.object.as_ref().map(|object| object.tag);
        if write.condition.is_some_and(|condition| condition != there) {
            return false;
        }
        let after = decoded_from(&write.record);
        state.lowered |=
            state.object.as_ref().is_some_and(|object| decoded(object).token > after.token);
        if write.passes && self.kind == Kind::Latch {
            state.opened.extend(after.gathering.as_ref().map(|all| all.epoch));
        }
        state.object = Some(Object { tag: write.tag, record: write.record.clone() });
        true
    }

    fn land(&self, state: &mut State, flight: usize, heard: bool) {
        let write = state.flying.remove(flight);
        let applied = self.apply(state, &write);
        let number = write.tag.0;
        if state.members[usize::from(number)].phase != Phase::Sent(write.clone()) {
            return;
        }
        if heard && (applied || self.has(GatheringSabotage::NoReadBack)) {
            if write.passes && applied {
                return self.pass(state, number);
            }
            let record = decoded_from(&write.record);
            let about = self.about(&state.members[usize::from(number)]).after(Some(&record));
            remember(state, number, &about);
            state.members[usize::from(number)].phase = Phase::Waiting(Some(write.tag));
        } else {
            state.members[usize::from(number)].phase = Phase::Unclear;
        }
    }

    fn is_stuck(&self, state: &State) -> bool {
        let mut steps = Vec::new();
        self.actions(state, &mut steps);
        let waits = |member: &Member| member.phase != Phase::Through;
        // An operator may always come yet; nobody is waited for.
        let idle =
            steps.iter().all(|step| matches!(step, Step::Reset | Step::Delete | Step::Crash(_)));
        let untouched = state.resets == self.resets && state.deletions == self.deletions;
        idle && untouched && state.members.iter().any(waits)
    }
}

/// Whether every member that waits, and knows what is on record, is there.
fn on_record(state: &State) -> bool {
    let Some(object) = &state.object else { return true };
    let all = decoded(object).gathering.expect("is a barrier's or a latch's");
    (0..).zip(&state.members).all(|(number, member)| {
        member.phase != Phase::Waiting(Some(object.tag)) || all.has(&name(number))
    })
}

fn remember(state: &mut State, number: u8, about: &About) {
    let member = &mut state.members[usize::from(number)];
    (member.epoch, member.seen) = (about.epoch, about.seen);
}

fn wait(state: &mut State, number: u8, object: Option<Object>) {
    let seen = object.map(|object| object.tag);
    state.members[usize::from(number)].phase = Phase::Waiting(seen);
}

fn told(state: &mut State, number: u8) {
    state.members[usize::from(number)].phase = Phase::Told;
}

/// The store's time rises with every deletion.
fn above(state: &State) -> u64 {
    100 - 10 * u64::from(state.deletions)
}

fn name(number: u8) -> String {
    format!("member {number}")
}

fn nonce((member, write): Tag) -> Nonce {
    Nonce::from_random(u128::from(member) << 8 | u128::from(write))
}

fn token(value: u64) -> FencingToken {
    FencingToken::new(value).expect("the model's numbers are small")
}

fn decoded(object: &Object) -> Record {
    decoded_from(&object.record)
}

fn decoded_from(bytes: &[u8]) -> Record {
    Record::decode(bytes).expect("what is written can be read")
}

impl Model for Gathered {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let member =
            Member { phase: Phase::Begin, round: 0, epoch: None, seen: None, writes: 0, begun: 0 };
        vec![State {
            object: None,
            members: vec![member; usize::from(self.members)],
            flying: Vec::new(),
            faults: self.faults,
            crashes: self.crashes,
            resets: self.resets,
            deletions: self.deletions,
            ahead: false,
            let_through: false,
            opened: BTreeSet::new(),
            lowered: false,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        let there = state.object.as_ref().map(|object| object.tag);
        for (number, member) in (0..).zip(&state.members) {
            match &member.phase {
                Phase::Begin | Phase::Unclear => steps.push(Step::Look(number)),
                Phase::Ready(_) => steps.push(Step::Send(number)),
                Phase::Sent(_) if state.faults > 0 => steps.push(Step::GiveUpWaiting(number)),
                Phase::Waiting(seen) if *seen != there => steps.push(Step::Look(number)),
                Phase::Sent(_) | Phase::Waiting(_) | Phase::Through | Phase::Told => {}
            }
            if state.crashes > 0 && !matches!(member.phase, Phase::Begin | Phase::Through) {
                steps.push(Step::Crash(number));
            }
        }
        for flight in 0..state.flying.len() {
            steps.push(Step::Land(flight));
            if state.faults > 0 {
                steps.extend([Step::LandUnheard(flight), Step::Vanish(flight)]);
            }
        }
        if state.resets > 0 && there.is_some() {
            steps.push(Step::Reset);
        }
        if state.deletions > 0 && there.is_some() {
            steps.push(Step::Delete);
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        match step {
            Step::Look(number) => self.look(&mut state, number),
            Step::Send(number) => {
                let member = &mut state.members[usize::from(number)];
                let Phase::Ready(write) = member.phase.clone() else { return None };
                state.flying.push(write.clone());
                member.phase = Phase::Sent(write);
            }
            Step::Land(flight) => self.land(&mut state, flight, true),
            Step::LandUnheard(flight) => {
                state.faults -= 1;
                self.land(&mut state, flight, false);
            }
            Step::Vanish(flight) => {
                state.faults -= 1;
                let write = state.flying.remove(flight);
                let member = &mut state.members[usize::from(write.tag.0)];
                if member.phase == Phase::Sent(write) {
                    member.phase = Phase::Unclear;
                }
            }
            Step::GiveUpWaiting(number) => {
                state.faults -= 1;
                state.members[usize::from(number)].phase = Phase::Unclear;
            }
            Step::Crash(number) => {
                state.crashes -= 1;
                let member = &mut state.members[usize::from(number)];
                (member.phase, member.epoch, member.seen) = (Phase::Begin, None, None);
            }
            Step::Reset => {
                let object = state.object.as_ref()?;
                let found = decoded(object);
                let about = About {
                    kind: self.kind,
                    needed: u32::from(self.members),
                    epoch: None,
                    seen: None,
                };
                let tag = (u8::MAX, state.resets);
                let ResetDecision::Write(record) = reset(Some(&found), &about, nonce(tag)) else {
                    return None;
                };
                state.resets -= 1;
                let record = record.encode().expect("is small");
                let condition = Some(Some(object.tag));
                self.apply(&mut state, &Write { tag, condition, record, passes: false });
            }
            Step::Delete => {
                state.deletions -= 1;
                state.object = None;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nobody runs a round ahead", |_, state: &State| !state.ahead),
            Property::always(
                "nobody passes what was reset before it opened",
                |_, state: &State| !state.let_through,
            ),
            Property::always("nobody waits for ever", |world: &Self, state: &State| {
                !world.is_stuck(state)
            }),
            Property::always("whoever waits is on record", |_, state: &State| on_record(state)),
            Property::always("a gathering's token never decreases", |_, state: &State| {
                !state.lowered
            }),
            Property::sometimes("all members are through", |_, state: &State| {
                state.members.iter().all(|member| member.phase == Phase::Through)
            }),
            Property::sometimes("a write is in flight when an epoch begins", |_, state: &State| {
                let begun = state.members.iter().any(|member| member.round > 0);
                begun && !state.flying.is_empty()
            }),
            Property::sometimes("a member is told that its epoch is gone", |_, state: &State| {
                state.members.iter().any(|member| member.phase == Phase::Told)
            }),
        ]
    }
}
