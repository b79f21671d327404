//! How a holder keeps its lease and gives it back: the library's `keeper` and `hold`.

use super::{Swapped, holding};
use crate::config::Sabotage;
use crate::decisions::{self, Found};
use crate::state::{Keep, Put, Rec, Request, Role, State, Violation};
use crate::witness::Event;
use crate::world::World;

impl World {
    /// The keeper renews.
    pub(crate) fn renew(&self, state: &mut State, process: usize) {
        let this = *holding(state, process);
        let nonce = self.nonce(process, state.processes[process].written, this.id);
        match decisions::renew(&this, nonce) {
            Found::StillMine(rec) => {
                let write = self.send(state, process, Some(self.version(&this.rec)), rec);
                holding(state, process).doing = Keep::Renewing(write);
            }
            Found::Gone => self.lose(state, process),
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
                match decisions::renew(holding(state, process), 0) {
                    // Once the lease has run out nothing more is decided.
                    _ if !holding(state, process).live => {}
                    Found::StillMine(_) => {}
                    Found::Gone => return self.lose(state, process),
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
            Found::Gone => state.processes[process].role = Role::Out,
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
