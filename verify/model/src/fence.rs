//! Fenced objects: holders, each paused wherever it may be, write one object with the decisions of
//! `leaselock::protocol::fencing` that ship.
//!
//! The lock is whatever it may be at its worst: somebody new may hold it at any moment, and nobody
//! is told. Tokens rise; nothing else is assumed of it, and no clock. Any write may land, land with
//! its answer lost, land long after its sender has read back, or never.

use std::collections::BTreeSet;

use leaselock::FencingToken;
use leaselock::protocol::fencing::{Claim, Fate, claim, fate, next};
use leaselock::record::{Mark, Stamp};
use stateright::{Model, Property};

/// One bounded world.
#[derive(Clone, Debug)]
pub(crate) struct Fenced {
    /// How many processes take the lock, one time each.
    pub(crate) holders: u8,
    /// How many change the object without a lock.
    pub(crate) updaters: u8,
    /// How often each holder puts.
    pub(crate) puts: u8,
    /// How often one write is sent at most.
    pub(crate) sends: u8,
    /// How many writes of all processes go wrong: without an answer, or without effect.
    pub(crate) faults: u8,
    /// Whether ETags are digests of bodies, as on S3.
    pub(crate) digests: bool,
    /// What has been broken on purpose.
    pub(crate) sabotage: Option<FenceSabotage>,
}

/// A mistake that would be easy to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FenceSabotage {
    /// A holder reads and writes on the version that it read, without putting its token there first.
    ClaimSkipped,
    /// A holder that has claimed writes without a condition.
    Unconditional,
    /// Bodies are written as they are where ETags are digests.
    NoPadding,
    /// What is there and is not its own is taken for proof that a write was refused.
    MarksIgnored,
    /// A write that was refused or got no answer is believed to have failed.
    NoReadBack,
    /// Somebody without a lock takes the token off.
    TokenTakenOff,
}

type Tag = u8;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Object {
    e_tag: ETag,
    stamp: Stamp,
    /// What was appended, by the tags of the writes.
    content: Vec<Tag>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum ETag {
    OfWrite(Tag),
    OfBody(Vec<Tag>, Option<Mark>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Write {
    process: u8,
    tag: Tag,
    token: u8,
    /// Whether it changes the content.
    puts: bool,
    /// `None` without a condition; inside it, what must be there.
    condition: Option<Option<ETag>>,
    object: Object,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    /// Has a token and has not looked.
    Holding,
    /// Is about to send this for the first time or again.
    Ready(Write, u8),
    /// Waits for the answer.
    Sent(Write, u8),
    /// Got none, or a refusal, and must look.
    Unclear(Write, u8),
    /// May put on what it knows.
    Claimed(Object),
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Process {
    token: u8,
    phase: Phase,
    /// How often it will put yet.
    puts: u8,
    /// What the write that is under way was decided on.
    base: Option<Object>,
}

/// The world at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    object: Option<Object>,
    processes: Vec<Process>,
    flying: Vec<Write>,
    tokens: u8,
    tags: u8,
    faults: u8,
    /// The highest token whose holder may rely on what it has read.
    relied_on: u8,
    acknowledged: BTreeSet<Tag>,
    told_refused: BTreeSet<Tag>,
    fenced: bool,
    superseded: bool,
    late: bool,
    lowered: bool,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Acquire(u8),
    Read(u8),
    Send(u8),
    /// A write in flight takes effect or is refused, and is answered.
    Land(usize),
    /// The same, and the answer is lost.
    LandUnheard(usize),
    /// It never arrives.
    Vanish(usize),
    /// Its sender waits no longer; it flies on.
    GiveUpWaiting(u8),
    LookAgain(u8),
    Put(u8),
}

impl Fenced {
    fn has(&self, sabotage: FenceSabotage) -> bool {
        self.sabotage == Some(sabotage)
    }

    fn object(&self, content: Vec<Tag>, stamp: Stamp, tag: Tag) -> Object {
        let e_tag = match self.digests {
            true if self.has(FenceSabotage::NoPadding) => ETag::OfBody(content.clone(), None),
            true => ETag::OfBody(content.clone(), stamp.mark()),
            false => ETag::OfWrite(tag),
        };
        Object { e_tag, stamp, content }
    }

    /// What a holder that has found `found` goes on with.
    fn decide(&self, state: &mut State, number: u8, found: Option<Object>) {
        let holder = number < self.holders;
        let token = state.processes[usize::from(number)].token;
        let tag = state.tags;
        let stamp = found.as_ref().map(|object| &object.stamp);
        let stamp = if !holder {
            let mut stamp = next(stamp, fencing_token(0), mark(tag));
            if self.has(FenceSabotage::TokenTakenOff) {
                stamp.token = fencing_token(0);
            }
            stamp
        } else if self.has(FenceSabotage::ClaimSkipped) {
            // It goes by what it has read, from now on.
            state.relied_on = state.relied_on.max(token);
            next(stamp, fencing_token(token), mark(tag))
        } else {
            match claim(stamp, found.is_some(), fencing_token(token), mark(tag)) {
                Claim::Write(stamp) => stamp,
                Claim::Ours => {
                    let object = found.expect("carries its token");
                    return claimed(state, number, object);
                }
                Claim::Fenced(_) => {
                    state.fenced = true;
                    state.processes[usize::from(number)].phase = Phase::Done;
                    return;
                }
            }
        };
        let puts = !holder || self.has(FenceSabotage::ClaimSkipped);
        self.prepare(state, number, found, stamp, puts);
    }

    fn prepare(
        &self,
        state: &mut State,
        number: u8,
        base: Option<Object>,
        stamp: Stamp,
        puts: bool,
    ) {
        let tag = state.tags;
        state.tags += 1;
        let mut content = base.as_ref().map(|object| object.content.clone()).unwrap_or_default();
        if puts {
            content.push(tag);
        }
        let blind = puts && number < self.holders && self.has(FenceSabotage::Unconditional);
        let process = &mut state.processes[usize::from(number)];
        let write = Write {
            process: number,
            tag,
            token: process.token,
            puts,
            condition: (!blind).then(|| base.as_ref().map(|object| object.e_tag.clone())),
            object: self.object(content, stamp, tag),
        };
        process.base = base;
        process.phase = Phase::Ready(write, self.sends);
    }

    /// The sender knows that its write has landed and still is what is there.
    fn won(&self, state: &mut State, write: &Write) {
        if write.puts {
            state.acknowledged.insert(write.tag);
        }
        claimed(state, write.process, write.object.clone());
    }

    /// What is there is neither what was expected nor this write.
    fn conflict(&self, state: &mut State, write: &Write, found: Option<Object>) {
        if !write.puts {
            return self.decide(state, write.process, found);
        }
        let process = &mut state.processes[usize::from(write.process)];
        let base = process.base.as_ref().map(|object| &object.stamp);
        let found = found.as_ref().map(|object| &object.stamp);
        let fate = match fate(mark(write.tag), base, found) {
            _ if self.has(FenceSabotage::MarksIgnored) => Fate::Refused,
            fate => fate,
        };
        match fate {
            Fate::Landed => {
                state.superseded = true;
                state.acknowledged.insert(write.tag);
            }
            Fate::Refused => {
                state.told_refused.insert(write.tag);
                let by = found.map(|stamp| stamp.token);
                state.fenced |= by > Some(fencing_token(write.token));
            }
            Fate::Unknown => {}
        }
        process.phase = Phase::Done;
    }

    /// Applies a write to the object if it may be; whether it was.
    fn apply(&self, state: &mut State, write: &Write) -> bool {
        let there = state.object.as_ref().map(|object| &object.e_tag);
        if write.condition.as_ref().is_some_and(|condition| condition.as_ref() != there) {
            return false;
        }
        let before = state.object.as_ref().map(|object| object.stamp.token);
        state.late |= write.puts && write.token > 0 && write.token < state.relied_on;
        state.lowered |= before.is_some_and(|before| write.object.stamp.token < before);
        state.object = Some(write.object.clone());
        true
    }

    fn land(&self, state: &mut State, flight: usize, heard: bool) {
        let write = state.flying.remove(flight);
        let applied = self.apply(state, &write);
        let process = &mut state.processes[usize::from(write.process)];
        let Phase::Sent(sent, sends) = &process.phase else { return };
        if *sent != write {
            return;
        }
        let sends = *sends;
        match (heard, applied) {
            (true, true) => self.won(state, &write),
            _ => self.unclear(state, write, sends),
        }
    }

    fn unclear(&self, state: &mut State, write: Write, sends: u8) {
        let process = &mut state.processes[usize::from(write.process)];
        if self.has(FenceSabotage::NoReadBack) && write.puts {
            state.told_refused.insert(write.tag);
            process.phase = Phase::Done;
        } else {
            process.phase = Phase::Unclear(write, sends);
        }
    }

    fn look_again(&self, state: &mut State, write: Write, sends: u8) {
        let found = state.object.clone();
        let there = found.as_ref().map(|object| &object.e_tag);
        let expected = write.condition.as_ref().and_then(Option::as_ref);
        if found.as_ref().and_then(|object| object.stamp.mark()) == Some(mark(write.tag)) {
            self.won(state, &write);
        } else if there == expected && write.condition.is_some() {
            // It may still land: again, or nobody knows.
            let process = &mut state.processes[usize::from(write.process)];
            process.phase = if sends > 0 { Phase::Ready(write, sends) } else { Phase::Done };
        } else {
            self.conflict(state, &write, found);
        }
    }
}

impl Model for Fenced {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let process = |puts| Process { token: 0, phase: Phase::Idle, puts, base: None };
        let holders = (0..self.holders).map(|_| process(self.puts));
        vec![State {
            object: None,
            processes: holders.chain((0..self.updaters).map(|_| process(0))).collect(),
            flying: Vec::new(),
            tokens: 0,
            tags: 0,
            faults: self.faults,
            relied_on: 0,
            acknowledged: BTreeSet::new(),
            told_refused: BTreeSet::new(),
            fenced: false,
            superseded: false,
            late: false,
            lowered: false,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        for (number, process) in (0..).zip(&state.processes) {
            match &process.phase {
                Phase::Idle if number < self.holders => steps.push(Step::Acquire(number)),
                Phase::Idle | Phase::Holding => steps.push(Step::Read(number)),
                Phase::Ready(..) => steps.push(Step::Send(number)),
                Phase::Sent(..) if state.faults > 0 => steps.push(Step::GiveUpWaiting(number)),
                Phase::Unclear(..) => steps.push(Step::LookAgain(number)),
                Phase::Claimed(..) => steps.push(Step::Put(number)),
                Phase::Sent(..) | Phase::Done => {}
            }
        }
        for flight in 0..state.flying.len() {
            steps.push(Step::Land(flight));
            if state.faults > 0 {
                steps.extend([Step::LandUnheard(flight), Step::Vanish(flight)]);
            }
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        let phase = |number: u8| last.processes[usize::from(number)].phase.clone();
        match step {
            Step::Acquire(number) => {
                state.tokens += 1;
                let process = &mut state.processes[usize::from(number)];
                (process.token, process.phase) = (state.tokens, Phase::Holding);
            }
            Step::Read(number) => self.decide(&mut state, number, last.object.clone()),
            Step::Send(number) => {
                let Phase::Ready(write, sends) = phase(number) else { return None };
                state.flying.push(write.clone());
                state.processes[usize::from(number)].phase = Phase::Sent(write, sends - 1);
            }
            Step::Land(flight) => self.land(&mut state, flight, true),
            Step::LandUnheard(flight) => {
                state.faults -= 1;
                self.land(&mut state, flight, false);
            }
            Step::Vanish(flight) => {
                state.faults -= 1;
                let write = state.flying.remove(flight);
                if let Phase::Sent(sent, sends) = phase(write.process)
                    && sent == write
                {
                    self.unclear(&mut state, write, sends);
                }
            }
            Step::GiveUpWaiting(number) => {
                state.faults -= 1;
                let Phase::Sent(write, sends) = phase(number) else { return None };
                self.unclear(&mut state, write, sends);
            }
            Step::LookAgain(number) => {
                let Phase::Unclear(write, sends) = phase(number) else { return None };
                self.look_again(&mut state, write, sends);
            }
            Step::Put(number) => {
                let Phase::Claimed(object) = phase(number) else { return None };
                let process = &mut state.processes[usize::from(number)];
                process.puts -= 1;
                let token = fencing_token(process.token);
                let stamp = next(Some(&object.stamp), token, mark(state.tags));
                self.prepare(&mut state, number, Some(object), stamp, true);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "no write lands after a later holder has claimed",
                |_, state: &State| !state.late,
            ),
            Property::always("no acknowledged write is lost", |_, state: &State| {
                state.acknowledged.iter().all(|tag| contains(state, *tag))
            }),
            Property::always("what was said to be refused is not there", |_, state: &State| {
                !state.told_refused.iter().any(|tag| contains(state, *tag))
            }),
            Property::always("no write takes effect twice", |_, state: &State| {
                let content = state.object.iter().flat_map(|object| &object.content);
                let mut seen = BTreeSet::new();
                content.into_iter().all(|tag| seen.insert(*tag))
            }),
            Property::always("an object's token never decreases", |_, state: &State| {
                !state.lowered
            }),
            Property::sometimes("a holder is fenced out", |_, state: &State| state.fenced),
            Property::sometimes(
                "a write is superseded before it is heard of",
                |_, state: &State| state.superseded,
            ),
            Property::sometimes("two holders' writes are there", |_, state: &State| {
                state.object.as_ref().is_some_and(|object| object.content.len() > 1)
            }),
        ]
    }
}

/// May rely on what it knows of the object, and puts if it wants to.
fn claimed(state: &mut State, number: u8, object: Object) {
    let process = &mut state.processes[usize::from(number)];
    state.relied_on = state.relied_on.max(process.token);
    process.phase = if process.puts == 0 { Phase::Done } else { Phase::Claimed(object) };
}

fn contains(state: &State, tag: Tag) -> bool {
    state.object.as_ref().is_some_and(|object| object.content.contains(&tag))
}

fn mark(tag: Tag) -> Mark {
    Mark::from_random(u128::from(tag))
}

fn fencing_token(token: u8) -> FencingToken {
    FencingToken::new(u64::from(token)).expect("the model's numbers are small")
}
