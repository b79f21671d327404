//! How a holder keeps its lease, gives it back, or leaves a result: the library's `keeper` and `hold`.

use super::{Swapped, holding};
use crate::config::Sabotage;
use crate::decisions::{self, Found};
use crate::state::{Keep, Put, Rec, Request, Role, State, Violation};
use crate::witness::Event;
use crate::world::World;

impl World {
    /// The keeper renews, and reserves so many tokens.
    pub(crate) fn renew(&self, state: &mut State, process: usize, reserve: u8) {
        let this = *holding(state, process);
        let nonce = self.nonce(process, state.processes[process].written, this.id);
        match decisions::renew(&this, reserve, nonce) {
            Found::StillMine(rec) => {
                let write = self.send(state, process, Some(self.version(&this.rec)), rec);
                holding(state, process).doing = Keep::Renewing(write);
            }
            Found::Gone | Found::Finished => self.lose(state, process),
            Found::Cloned => state.past.violation = Some(Violation::MistookItself),
        }
    }

    /// `Keeper::try_renew`.
    pub(super) fn renewal_swapped(&self, state: &mut State, process: usize, swapped: Swapped) {
        let this = holding(state, process);
        let Keep::Renewing(write) = this.doing else { return };
        this.doing = Keep::Resting;
        match swapped {
            Swapped::Won => {
                if write.put.rec.token > this.rec.token {
                    this.reserved = this.reserved.max(write.put.rec.token);
                }
                this.rec = write.put.rec;
                this.renewals += 1;
                this.unresolved = false;
                if this.live || self.config.has(Sabotage::LateAnswerRevives) {
                    this.live = true;
                    this.age =
                        if self.config.has(Sabotage::DeadlineFromResponse) { 0 } else { write.age };
                    self.witness.note(Event::Renewed);
                } else {
                    self.witness.note(Event::RenewedTooLate);
                }
            }
            Swapped::Conflict(None) if self.config.has(Sabotage::RenewalRecreates) => {
                let put = Put { expected: None, rec: write.put.rec, delete: false };
                if state.processes[process].writes > 0 {
                    state.processes[process].writes -= 1;
                    state.send(Request { process, put });
                }
            }
            Swapped::Conflict(None) => return self.lose(state, process),
            Swapped::Conflict(Some(object)) => {
                self.adopt(state, process, object.rec);
                match decisions::renew(holding(state, process), 0, 0) {
                    // Once the lease has run out nothing more is decided.
                    _ if !holding(state, process).live => {}
                    Found::StillMine(_) => {}
                    Found::Gone | Found::Finished => return self.lose(state, process),
                    Found::Cloned => state.past.violation = Some(Violation::MistookItself),
                }
            }
            Swapped::Unknown => {
                this.unresolved = true;
                if self.config.has(Sabotage::ExtendedWithoutAnswer) {
                    this.age = write.age;
                }
            }
            Swapped::NotApplied => {}
        }
        self.settle(state, process);
    }

    /// `Keeper::adopt`.
    fn adopt(&self, state: &mut State, process: usize, rec: Rec) {
        let this = holding(state, process);
        if let Some(entry) = rec.entry.filter(|entry| entry.id == this.id) {
            let landed = this.unresolved && entry.renewals == this.renewals + 1;
            this.renewals += u8::from(landed);
            this.unresolved &= !landed;
        }
        this.rec = rec;
    }

    /// The guard is given back: it is over for the holder before anything is sent.
    pub(crate) fn release(&self, state: &mut State, process: usize) {
        let this = holding(state, process);
        if !self.config.has(Sabotage::BeliefUntilReleaseAcknowledged) {
            this.live = false;
        }
        let (copy, expected) = (*this, self.version(&this.rec));
        let nonce = self.nonce(process, state.processes[process].written, copy.id);
        match decisions::release(&copy, nonce) {
            Found::StillMine(rec) => {
                let mut write = self.send(state, process, Some(expected), rec);
                if self.config.has(Sabotage::ReleaseByDelete) {
                    write.put.delete = true;
                    state.network.retain(|request| request.put.rec.serial != write.put.rec.serial);
                    state.send(Request { process, put: write.put });
                }
                holding(state, process).doing = Keep::Releasing(write);
            }
            Found::Gone | Found::Finished => state.processes[process].role = Role::Out,
            Found::Cloned => state.past.violation = Some(Violation::MistookItself),
        }
    }

    /// `Keeper::release`.
    pub(super) fn release_swapped(&self, state: &mut State, process: usize, swapped: Swapped) {
        let this = holding(state, process);
        let Keep::Releasing(write) = this.doing else { return };
        match swapped {
            Swapped::Won => {
                self.witness.note(Event::Released);
                let this = &mut state.processes[process];
                this.role = Role::Out;
                this.memory.highest = this.memory.highest.max(write.put.rec.token);
                this.memory.freed = (!write.put.delete).then_some(write.put.rec);
            }
            Swapped::Conflict(Some(object)) => {
                self.adopt(state, process, object.rec);
                let alive = decisions::is_alive(&self.config, process, holding(state, process).age);
                if alive && state.processes[process].writes > 0 {
                    self.release(state, process);
                } else {
                    state.processes[process].role = Role::Out;
                }
            }
            Swapped::Conflict(None) | Swapped::Unknown | Swapped::NotApplied => {
                state.processes[process].role = Role::Out;
            }
        }
    }

    /// The work is done, and its result is recorded in the place of the holder: `Keeper::end`.
    pub(crate) fn finish(&self, state: &mut State, process: usize) {
        let this = holding(state, process);
        let first = this.doing == Keep::Resting;
        if !self.config.has(Sabotage::BeliefUntilReleaseAcknowledged) {
            this.live = false;
        }
        let (copy, expected) = (*this, self.version(&this.rec));
        let nonce = self.nonce(process, state.processes[process].written, copy.id);
        // The history, which the model's records lack, tells whose results were there before.
        let recorded = state.past.recorded.has(copy.id);
        match decisions::finish(&self.config, &copy, recorded, nonce) {
            Found::StillMine(rec) => {
                let in_time = first || decisions::is_alive(&self.config, process, copy.age);
                if in_time && state.processes[process].writes > 0 {
                    if !first {
                        self.witness.note(Event::ResultRedone);
                    }
                    let write = self.send(state, process, Some(expected), rec);
                    holding(state, process).doing = Keep::Finishing(write);
                } else {
                    self.tell_refused(state, process);
                }
            }
            Found::Finished => {
                self.witness.note(Event::ResultRemembered);
                self.tell_recorded(state, process);
            }
            Found::Gone => {
                self.witness.note(Event::ResultRefused);
                self.tell_refused(state, process);
            }
            Found::Cloned => state.past.violation = Some(Violation::MistookItself),
        }
    }

    /// `Keeper::finish`.
    pub(super) fn finish_swapped(&self, state: &mut State, process: usize, swapped: Swapped) {
        match swapped {
            Swapped::Won => self.tell_recorded(state, process),
            Swapped::Conflict(Some(object)) => {
                self.adopt(state, process, object.rec);
                self.finish(state, process);
            }
            Swapped::Unknown if !self.config.has(Sabotage::UnknownResultDenied) => {
                state.processes[process].role = Role::Out;
            }
            Swapped::Conflict(None) | Swapped::Unknown | Swapped::NotApplied => {
                self.tell_refused(state, process);
            }
        }
    }

    /// The run is told that its result is on record.
    fn tell_recorded(&self, state: &mut State, process: usize) {
        let id = holding(state, process).id;
        state.processes[process].role = Role::Out;
        if !self.is_on_record(state, id) {
            state.past.violation = Some(Violation::ResultMissing);
        }
    }

    /// The run is told that its result is not on record.
    fn tell_refused(&self, state: &mut State, process: usize) {
        let id = holding(state, process).id;
        state.processes[process].role = Role::Out;
        state.past.refused.insert(id);
    }

    fn lose(&self, state: &mut State, process: usize) {
        self.witness.note(Event::Lost);
        state.processes[process].role = Role::Out;
    }

    /// The lease has run out by the holder's own clock; once it has, it stays so.
    pub(crate) fn settle(&self, state: &mut State, process: usize) {
        let Role::Holding(this) = &mut state.processes[process].role else { return };
        if this.live && !decisions::is_alive(&self.config, process, this.age) {
            this.live = false;
            state.past.lost.insert(this.id);
            self.witness.note(Event::Lost);
        }
        if !this.live && this.doing == Keep::Resting {
            state.processes[process].role = Role::Out;
        }
    }

    /// Whether this process says that it holds the lock.
    pub(crate) fn believes(&self, state: &State, process: usize) -> bool {
        match &state.processes[process].role {
            Role::Holding(this) => {
                this.live && decisions::is_alive(&self.config, process, this.age)
            }
            _ => false,
        }
    }
}
