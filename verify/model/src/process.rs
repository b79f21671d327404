//! What a process does around the decisions: the library's `acquire`, `keeper` and
//! `store::swap`, said again in steps between which anything may happen.

use crate::config::Sabotage;
use crate::decisions::{self, Decision, Found};
use crate::state::{
    Age, Contend, Contending, Holding, Id, Keep, Nonce, Object, Put, Rec, Request, Role, Shutting,
    Stage, State, Version, View, Violation, Write,
};
use crate::world::{Event, World};

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
    pub(crate) fn decide(&self, state: &State, process: usize) -> Option<(Decision, Nonce)> {
        let this = &state.processes[process];
        let Role::Contending(Contending { id, doing: Contend::Viewing(view), .. }) = &this.role
        else {
            return None;
        };
        let nonce = self.nonce(process, this.written, *id);
        // The store's time in microseconds exceeds every token that was ever given out.
        let start = state.past.top;
        let memory = &this.memory;
        Some((decisions::acquire(&self.config, process, *id, view, memory, start, nonce), nonce))
    }

    /// Acts on the decision.
    pub(crate) fn act(&self, state: &mut State, process: usize) {
        let Some((decision, _)) = self.decide(state, process) else { return };
        let this = contending(state, process);
        let Contend::Viewing(view) = this.doing else { return };
        match decision {
            Decision::Wait => {}
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

    /// The contender gives up, or its caller has stopped waiting.
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
        this.memory.highest = this.memory.highest.max(token);
        this.role = Role::Holding(Holding {
            id,
            token,
            renewals: 0,
            unresolved: false,
            rec,
            age: if self.config.has(Sabotage::DeadlineFromResponse) { 0 } else { age },
            live: true,
            doing: Keep::Resting,
        });
        self.witness.note(Event::Acquired);
        // Somebody may have overridden it before it knew that it had the lock.
        if token <= state.past.entered && !state.past.overridden.has(id) {
            state.past.violation = Some(Violation::TokenDidNotRise);
        }
        state.past.entered = state.past.entered.max(token);
    }

    /// The keeper renews.
    pub(crate) fn renew(&self, state: &mut State, process: usize) {
        let this = holding(state, process);
        let found = decisions::renew(this, 0);
        match found {
            Found::StillMine(_) => {
                let expected = Some(self.version(&this.rec));
                let (copy, id) = (*this, this.id);
                let nonce = self.nonce(process, state.processes[process].written, id);
                let Found::StillMine(rec) = decisions::renew(&copy, nonce) else { return };
                let write = self.send(state, process, expected, rec);
                holding(state, process).doing = Keep::Renewing(write);
            }
            Found::Gone => self.lose(state, process),
            Found::Cloned => state.past.violation = Some(Violation::MistookItself),
        }
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

    /// The answer to a write is received, or waited for no longer.
    pub(crate) fn receive(&self, state: &mut State, process: usize) {
        let Some(write) = state.processes[process].write() else { return };
        match write.stage {
            Stage::Acknowledged => self.swapped(state, process, Swapped::Won),
            Stage::NotApplied => self.swapped(state, process, Swapped::NotApplied),
            Stage::Unclear if self.config.has(Sabotage::NoReadBack) => {
                let object = state.object;
                self.conflict(state, process, object);
            }
            Stage::Unclear | Stage::Waiting => write.stage = Stage::ReadingBack,
            Stage::ReadingBack => {}
        }
    }

    /// `LockStore::read_back` and `recognise`.
    pub(crate) fn read_back(&self, state: &mut State, process: usize, then: Then) {
        let object = state.object;
        let sends_again = self.may_send_again(state, process);
        let Some(write) = state.processes[process].write() else { return };
        let landed = object.is_some_and(|object| object.rec.nonce == write.put.rec.nonce);
        if landed && !write.put.delete {
            self.witness.note(Event::FoundLanded);
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
            Role::Holding(Holding { doing: Keep::Releasing(_), .. }) => u8::MAX,
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
            Role::Holding(_) => self.release_swapped(state, process, swapped),
            Role::Shutting(_) => self.door_swapped(state, process, swapped),
            Role::Out => {}
        }
    }

    /// `Contender::write`.
    fn acquisition_swapped(&self, state: &mut State, process: usize, swapped: Swapped) {
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

    /// `Keeper::try_renew`.
    fn renewal_swapped(&self, state: &mut State, process: usize, swapped: Swapped) {
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

    /// `Keeper::release`.
    fn release_swapped(&self, state: &mut State, process: usize, swapped: Swapped) {
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

    /// `Contender::try_to_shut`: one look at the door, and one push.
    pub(crate) fn shut(&self, state: &mut State, process: usize) {
        let Role::Shutting(Shutting { id, expected, .. }) = state.processes[process].role else {
            return;
        };
        let found = state.object.map(|object| object.rec);
        let nonce = self.nonce(process, state.processes[process].written, id);
        let rec = match found {
            Some(rec) => {
                let ours = rec.entry.is_some_and(|entry| entry.id == id);
                if !ours && moved_on(expected, Some(self.version(&rec))) {
                    return self.door_is_shut(state, process, id);
                }
                decisions::shut_the_door(rec, id, nonce)
            }
            None if expected.is_none() => {
                Rec { token: state.past.top, nonce, serial: nonce, entry: None }
            }
            None => return self.door_is_shut(state, process, id),
        };
        if state.processes[process].writes == 0 {
            state.processes[process].role = Role::Out;
            return;
        }
        let version = found.map(|rec| self.version(&rec));
        let sent = self.send(state, process, version, rec);
        if let Role::Shutting(this) = &mut state.processes[process].role {
            this.write = Some(sent);
        }
    }

    fn door_swapped(&self, state: &mut State, process: usize, swapped: Swapped) {
        let Role::Shutting(this) = &mut state.processes[process].role else { return };
        this.write = None;
        let id = this.id;
        if matches!(swapped, Swapped::Won) {
            self.door_is_shut(state, process, id);
        }
    }

    fn door_is_shut(&self, state: &mut State, process: usize, id: Id) {
        self.witness.note(Event::DoorShut);
        state.past.shut.insert(id);
        state.processes[process].role = Role::Out;
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
