//! How a contender gets the lock: the library's `acquire`.

use super::{Swapped, contending, moved_on, new_id};
use crate::config::Sabotage;
use crate::decisions::{self, Decision};
use crate::state::{
    Age, Contend, Contending, Holding, Id, Keep, Object, Process, Rec, Role, Shutting, State,
    Token, View, Violation,
};
use crate::witness::Event;
use crate::world::World;

impl World {
    /// A process asks for the lock: with a read, or from what it remembers.
    pub(crate) fn begin(&self, state: &mut State, process: usize, remembered: bool) {
        let this = &mut state.processes[process];
        this.acquisitions -= 1;
        let id = new_id(process, &mut this.begun);
        let freed = this.memory.freed.take();
        let view = View { found: freed, stamp: 0, age: 0, stamped: false };
        this.role = Role::Contending(Contending {
            id,
            first_write: None,
            doubt: None,
            earlier_doubt: None,
            doing: Contend::Viewing(view),
        });
        if !remembered {
            self.look(state, process);
        }
    }

    /// Reads the record, at once or in steps.
    pub(crate) fn look(&self, state: &mut State, process: usize) {
        if self.config.slow_reads {
            contending(state, process).doing = Contend::Looking { since: 0 };
        } else {
            let object = state.object;
            self.see(state, process, object, 0);
        }
    }

    /// The store answers a read.
    pub(crate) fn serve(&self, state: &mut State, process: usize) {
        let object = state.object;
        let this = contending(state, process);
        if let Contend::Looking { since } = this.doing {
            let found = object.map(|object| object.rec);
            let stamp = object.map_or(0, |object| object.age);
            this.doing = Contend::Reading { found, stamp, since };
        }
    }

    /// The answer to a read is received.
    pub(crate) fn receive_read(&self, state: &mut State, process: usize) {
        if let Contend::Reading { found, stamp, since } = contending(state, process).doing {
            let object = found.map(|rec| Object { rec, age: stamp });
            self.see(state, process, object, since);
        }
    }

    /// `Contender::view`: what was read becomes what is known.
    fn see(&self, state: &mut State, process: usize, object: Option<Object>, since: Age) {
        let found = object.map(|object| object.rec);
        self.remember(state, process, found, since);
        let version = found.map(|rec| self.version(&rec));
        let this = contending(state, process);
        let ours = found.is_some_and(|rec| rec.entry.is_some_and(|entry| entry.id == this.id));
        if !ours && this.doubt.is_none_or(|expected| moved_on(expected, version)) {
            this.doubt = None;
            if this.first_write.take().is_some() && !self.config.has(Sabotage::IdentityKept) {
                // `Contender::renew_identity`
                self.renew_identity(state, process);
            }
        }
        let this = contending(state, process);
        let stamp = object.map_or(0, |object| object.age);
        this.doing = Contend::Viewing(View { found, stamp, age: 0, stamped: true });
    }

    fn renew_identity(&self, state: &mut State, process: usize) {
        let id = new_id(process, &mut state.processes[process].begun);
        contending(state, process).id = id;
    }

    /// `Memory::seen`.
    fn remember(&self, state: &mut State, process: usize, found: Option<Rec>, since: Age) {
        let memory = &mut state.processes[process].memory;
        memory.freed = None;
        let Some(found) = found else { return };
        memory.highest = memory.highest.max(found.token);
        let before = memory.seen;
        memory.seen = decisions::note(&self.config, process, before, found);
        if self.config.has(Sabotage::TimerFromSend)
            && let Some(seen) = &mut memory.seen
            && before.is_none_or(|before| before.entry != seen.entry)
        {
            seen.age = since;
        }
    }

    /// What a contender would do now.
    pub(crate) fn decide(&self, state: &State, process: usize) -> Option<Decision> {
        let this = &state.processes[process];
        let Role::Contending(Contending { id, doing: Contend::Viewing(view), .. }) = &this.role
        else {
            return None;
        };
        let nonce = self.nonce(process, this.written, *id);
        // The store's time in microseconds exceeds every token that was ever given out.
        let start = state.past.top;
        Some(decisions::acquire(&self.config, process, *id, view, &this.memory, start, nonce))
    }

    /// Acts on the decision.
    pub(crate) fn act(&self, state: &mut State, process: usize) {
        let Some(decision) = self.decide(state, process) else { return };
        let this = contending(state, process);
        let Contend::Viewing(view) = this.doing else { return };
        match decision {
            Decision::Wait => {}
            Decision::Done(id) => {
                self.witness.note(Event::ToldDone);
                if !self.is_on_record(state, id) {
                    state.past.violation = Some(Violation::ToldAnother);
                    return;
                }
                self.give_up(state, process);
            }
            Decision::Ours => {
                let Some(first) = this.first_write else {
                    state.past.violation = Some(Violation::Bewildered);
                    return;
                };
                let rec = view.found.expect("our own entry is in it");
                (this.doubt, this.earlier_doubt) = (None, None);
                self.witness.note(Event::LateWriteClaimed);
                self.enter(state, process, rec, first);
            }
            Decision::Write { rec, takeover } => {
                if takeover.is_some() {
                    self.witness.note(Event::TakeoverTried);
                }
                let expected = view.found.map(|rec| self.version(&rec));
                this.first_write.get_or_insert(0);
                this.earlier_doubt = this.doubt.replace(expected);
                let write = self.send(state, process, expected, rec);
                contending(state, process).doing = Contend::Writing(write);
            }
        }
    }

    /// The contender gives up, its caller has stopped waiting, or the work is done.
    pub(crate) fn give_up(&self, state: &mut State, process: usize) {
        let Contending { id, doubt, .. } = *contending(state, process);
        state.processes[process].role = match doubt {
            Some(_) if self.config.has(Sabotage::DoorLeftOpen) => {
                state.past.shut.insert(id);
                Role::Out
            }
            Some(expected) => Role::Shutting(Shutting { id, expected, write: None }),
            None => Role::Out,
        };
    }

    /// `Contender::outcome`: the record says that this acquisition has the lock; the write that
    /// says so was decided on `age` ago.
    fn enter(&self, state: &mut State, process: usize, rec: Rec, age: Age) {
        let id = contending(state, process).id;
        let this = &mut state.processes[process];
        if !decisions::is_alive(&self.config, process, age) {
            self.witness.note(Event::AcquiredTooLate);
            let expected = Some(self.version(&rec));
            this.role = Role::Shutting(Shutting { id, expected, write: None });
            return;
        }
        let token = rec.entry.map_or(rec.token, |entry| entry.token);
        this.memory.highest = this.memory.highest.max(rec.token);
        this.role = Role::Holding(Holding {
            id,
            token,
            renewals: 0,
            unresolved: false,
            rec,
            age: if self.config.has(Sabotage::DeadlineFromResponse) { 0 } else { age },
            reserved: rec.token,
            handed: 0,
            live: true,
            doing: Keep::Resting,
        });
        self.witness.note(Event::Acquired);
        let handed_on = |other: &Process| match &other.role {
            Role::Holding(other) => other.id != id && other.handed > 0,
            _ => false,
        };
        if state.processes.iter().any(handed_on) {
            self.witness.note(Event::EnteredAfterHandOver);
        }
        self.has_entered(state, id, token);
    }

    /// Whoever enters has a larger token than all before.
    pub(super) fn has_entered(&self, state: &mut State, id: Id, token: Token) {
        // Somebody may have overridden it before it knew that it had the lock.
        if token <= state.past.entered && !state.past.overridden.has(id) {
            state.past.violation = Some(Violation::TokenDidNotRise);
        }
        state.past.entered = state.past.entered.max(token);
    }

    /// `Contender::write`.
    pub(super) fn acquisition_swapped(&self, state: &mut State, process: usize, swapped: Swapped) {
        let this = contending(state, process);
        let Contend::Writing(write) = this.doing else { return };
        match swapped {
            Swapped::Won => {
                (this.doubt, this.earlier_doubt) = (None, None);
                self.enter(state, process, write.put.rec, write.age);
            }
            Swapped::Conflict(object) => {
                this.earlier_doubt = None;
                if self.config.has(Sabotage::FirstWriteForgotten) {
                    (this.doubt, this.first_write) = (None, None);
                }
                self.see(state, process, object, 0);
            }
            Swapped::Unknown => {
                this.earlier_doubt = None;
                self.look(state, process);
            }
            Swapped::NotApplied => {
                this.doubt = this.earlier_doubt.take();
                if this.doubt.is_none() {
                    this.first_write = None;
                }
                self.look(state, process);
            }
        }
    }
}
