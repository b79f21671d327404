//! What a process does around the decisions: the library's `acquire`, `keeper` and
//! `store::swap`, said again in steps between which anything may happen.

use crate::config::Sabotage;
use crate::state::{
    Contending, Holding, Id, Keep, Nonce, Object, Put, Rec, Request, Role, Stage, State, Version,
    Violation, Write,
};
use crate::witness::Event;
use crate::world::World;

mod contender;
mod door;
mod keeper;
mod local;

/// Attempts of one write of an acquisition; a renewal has one.
const ATTEMPTS: u8 = 3;

/// What to do when a write has not landed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Then {
    SendAgain,
    Stop,
}

/// How a swap ended.
enum Swapped {
    Won,
    Conflict(Option<Object>),
    Unknown,
    NotApplied,
}

impl World {
    /// Sends a write.
    fn send(
        &self,
        state: &mut State,
        process: usize,
        expected: Option<Version>,
        mut rec: Rec,
    ) -> Write {
        let this = &mut state.processes[process];
        rec.serial = serial(process, this.written);
        this.written += 1;
        this.writes -= 1;
        let put = Put { expected, rec, delete: false };
        state.send(Request { process, put });
        Write::new(put)
    }

    fn nonce(&self, process: usize, written: u8, id: Id) -> Nonce {
        if self.config.has(Sabotage::NonceReused) { id } else { serial(process, written) }
    }

    /// The answer to a write is received, or waited for no longer.
    pub(crate) fn receive(&self, state: &mut State, process: usize) {
        let finishing = state.processes[process].is_finishing();
        let Some(write) = state.processes[process].write() else { return };
        match write.stage {
            Stage::Acknowledged => self.swapped(state, process, Swapped::Won),
            Stage::NotApplied => self.swapped(state, process, Swapped::NotApplied),
            Stage::Unclear if self.config.has(Sabotage::NoReadBack) => {
                let object = state.object;
                self.conflict(state, process, object);
            }
            Stage::Unclear if finishing && self.config.has(Sabotage::RefusedResultBelieved) => {
                self.swapped(state, process, Swapped::NotApplied);
            }
            Stage::Unclear | Stage::Waiting => write.stage = Stage::ReadingBack,
            Stage::ReadingBack => {}
        }
    }

    /// `LockStore::read_back` and `recognise`.
    pub(crate) fn read_back(&self, state: &mut State, process: usize, then: Then) {
        let object = state.object;
        let sends_again = self.may_send_again(state, process);
        let finishing = state.processes[process].is_finishing();
        let Some(write) = state.processes[process].write() else { return };
        let landed = object.is_some_and(|object| object.rec.nonce == write.put.rec.nonce);
        if landed && !write.put.delete {
            self.witness.note(Event::FoundLanded);
            if finishing {
                self.witness.note(Event::ResultFoundLanded);
            }
            return self.swapped(state, process, Swapped::Won);
        }
        let version = object.map(|object| self.version(&object.rec));
        if version != write.put.expected {
            self.witness.note(Event::FoundRefused);
            return self.conflict(state, process, object);
        }
        if then == Then::SendAgain && sends_again {
            write.sent += 1;
            write.stage = Stage::Waiting;
            let put = write.put;
            state.processes[process].writes -= 1;
            state.send(Request { process, put });
        } else {
            self.swapped(state, process, Swapped::Unknown);
        }
    }

    /// Whether a write that has not landed would be sent again.
    pub(crate) fn may_send_again(&self, state: &State, process: usize) -> bool {
        let this = &state.processes[process];
        let limit = match &this.role {
            Role::Contending(_) => ATTEMPTS,
            Role::Holding(Holding { doing: Keep::Releasing(_) | Keep::Finishing(_), .. }) => {
                u8::MAX
            }
            _ => 1,
        };
        this.writes > 0 && this.waiting_for().is_some_and(|write| write.sent < limit)
    }

    /// Reading back fails as well.
    pub(crate) fn read_back_fails(&self, state: &mut State, process: usize) {
        self.witness.note(Event::NeverFoundOut);
        self.swapped(state, process, Swapped::Unknown);
    }

    fn conflict(&self, state: &mut State, process: usize, found: Option<Object>) {
        let Some(write) = state.processes[process].write() else { return };
        let serial = write.put.rec.serial;
        if state.object.is_some_and(|object| object.rec.serial == serial) {
            state.past.violation = Some(Violation::MistookItself);
        }
        self.swapped(state, process, Swapped::Conflict(found));
    }

    fn swapped(&self, state: &mut State, process: usize, swapped: Swapped) {
        match &state.processes[process].role {
            Role::Contending(_) => self.acquisition_swapped(state, process, swapped),
            Role::Holding(Holding { doing: Keep::Renewing(_), .. }) => {
                self.renewal_swapped(state, process, swapped);
            }
            Role::Holding(Holding { doing: Keep::Finishing(_), .. }) => {
                self.finish_swapped(state, process, swapped);
            }
            Role::Holding(_) => self.release_swapped(state, process, swapped),
            Role::Shutting(_) => self.door_swapped(state, process, swapped),
            Role::Out => {}
        }
    }

    /// What the store calls this write.
    pub(crate) fn version(&self, rec: &Rec) -> Version {
        if self.config.has(Sabotage::ETagReused) {
            Version::Like(rec.token, rec.entry)
        } else {
            Version::Of(rec.serial)
        }
    }
}

fn new_id(process: usize, begun: &mut u8) -> Id {
    *begun += 1;
    serial(process, *begun - 1)
}

fn serial(process: usize, written: u8) -> Nonce {
    (u8::try_from(process).expect("there are few") << 4) | written
}

fn moved_on(expected: Option<Version>, version: Option<Version>) -> bool {
    expected != version
}

fn contending(state: &mut State, process: usize) -> &mut Contending {
    match &mut state.processes[process].role {
        Role::Contending(this) => this,
        other => unreachable!("only a contender does this, not {other:?}"),
    }
}

fn holding(state: &mut State, process: usize) -> &mut Holding {
    match &mut state.processes[process].role {
        Role::Holding(this) => this,
        other => unreachable!("only a holder does this, not {other:?}"),
    }
}
