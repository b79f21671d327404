//! The store: what reaches it, what is lost on the way, and what people do to the record.

use crate::config::Sabotage;
use crate::decisions;
use crate::state::{
    Contend, Contending, Id, OPERATOR, Object, Process, Put, Rec, Request, Role, Stage, State,
    Violation,
};
use crate::witness::Event;
use crate::world::World;

impl World {
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
        if self.config.once.is_some() {
            self.note_result(state, before, rec);
        }
        true
    }

    /// What a write does to the result of work that is run once.
    fn note_result(&self, state: &mut State, before: Option<Object>, rec: Rec) {
        let Some(old) = before else { return };
        if old.rec.done.is_some() && old.rec.done != rec.done {
            if self.config.is_past(old.age) {
                self.witness.note(Event::ResultPast);
            } else {
                state.past.violation = Some(Violation::ResultTakenOff);
            }
        }
        if let Some(new) = rec.done.filter(|new| old.rec.done != Some(*new)) {
            self.witness.note(Event::Recorded);
            state.past.recorded.insert(new);
            if old.rec.entry.is_none_or(|entry| entry.id != new) {
                state.past.violation = Some(Violation::ResultOfAnother);
            }
        }
        if let Some(new) = rec.entry {
            // Whoever remembers to have freed the record had a run that failed.
            let mut others = state.processes.iter().enumerate();
            let failed = others.any(|(number, other)| {
                number != usize::from(new.id >> 4) && other.memory.freed == Some(old.rec)
            });
            if failed {
                self.witness.note(Event::Retried);
            }
        }
    }

    /// Whether this run's result is on record; or has been, where results are kept for a time only.
    pub(crate) fn is_on_record(&self, state: &State, id: Id) -> bool {
        let for_ever = self.config.once.is_none_or(|once| once.retention.is_none());
        let now = state.object.and_then(|object| object.rec.done) == Some(id);
        now || (!for_ever && state.past.recorded.has(id))
    }

    /// A write reaches the store.
    pub(crate) fn land(&self, state: &mut State, number: usize, answer: Stage, again: bool) {
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
    pub(crate) fn refuse(&self, state: &mut State, number: usize, answer: Stage) {
        let request = state.network.remove(number);
        if let Some(write) = state.processes[request.process].write()
            && write.put.rec.serial == request.put.rec.serial
        {
            write.stage = answer;
        }
    }

    pub(crate) fn break_lease(&self, state: &mut State) {
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

    pub(crate) fn delete(&self, state: &mut State) {
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
    pub(crate) fn creates_under_way(&self, state: &State) -> bool {
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
}

impl State {
    pub(crate) fn send(&mut self, request: Request) {
        let place = self.network.partition_point(|other| *other <= request);
        self.network.insert(place, request);
    }
}
