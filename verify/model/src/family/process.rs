//! What a process does around the decisions: the library's `acquire`, `session`, `keeper` and
//! `store::swap`, said again in steps between which anything may happen.

use leaselock::record::Kind;

use super::decisions::{self, Decision};
use super::state::{
    Age, Known, OnRecord, Phase, Put, Rec, Renewing, Session, State, Violation, What,
};
use super::{Family, FamilySabotage};
use crate::witness::Event;

impl Family {
    /// Whether a process's guard says that it holds, and whether as a reader.
    pub(super) fn belief(&self, state: &State, process: usize) -> Option<bool> {
        let this = &state.processes[process];
        let shared = match this.phase {
            Phase::Holding { shared, age } => {
                if self.has(FamilySabotage::EnteredUnverified) {
                    return self.is_alive(process, age).then_some(shared);
                }
                shared
            }
            // A writer that is about to be a reader does nothing a reader may not do.
            Phase::Sent(What::Downgrade) => true,
            _ => return None,
        };
        (!this.session.lost).then_some(shared)
    }

    /// Looks at the record, and at the sessions that matter, and does what is decided.
    pub(super) fn look(&self, state: &mut State, process: usize) {
        if state.processes[process].session.lost {
            state.processes[process].phase = Phase::Shutting;
            return;
        }
        let id = state.id(process);
        loop {
            let known = &state.processes[process].known;
            match self.acquire(&state.rec, process, id, known) {
                Decision::Ask(of) => {
                    let found = state.sessions[of];
                    decisions::note(&mut state.processes[process], of, found);
                }
                Decision::End(of) => {
                    if let Some(over) = self.still_to_end(state, process, of) {
                        let session = u8::try_from(of).expect("there are few");
                        state.processes[process].phase = Phase::Sent(What::EndSession(session));
                        return state.send(process, Put::End { session, over });
                    }
                }
                Decision::Enter(rec) => return self.write(state, process, What::Enter, rec),
                Decision::LineUp(rec) => return self.write(state, process, What::LineUp, rec),
                Decision::Ours => {
                    state.processes[process].phase = self.admitted(state, process);
                    return;
                }
                Decision::Wait => return,
            }
        }
    }

    /// `Contender::end`: looks at a session once more before it is ended; over which count of
    /// renewals, if that is as it was.
    fn still_to_end(&self, state: &mut State, process: usize, of: usize) -> Option<u8> {
        let (before, found) = (state.processes[process].known[of], state.sessions[of]);
        if let Known::Seen { renewals, .. } = before
            && self.has(FamilySabotage::EndedUnconditionally)
        {
            return Some(renewals);
        }
        decisions::note(&mut state.processes[process], of, found);
        match found {
            OnRecord::Held { renewals } if state.processes[process].known[of] == before => {
                Some(renewals)
            }
            _ => None,
        }
    }

    fn write(&self, state: &mut State, process: usize, what: What, rec: Rec) {
        state.processes[process].phase = Phase::Sent(what);
        state.send(process, Put::Lock { what, rec, present: true });
    }

    fn admitted(&self, state: &State, process: usize) -> Phase {
        let entry = state.rec.entry(state.id(process)).expect("it is on record");
        Phase::Entering { token: entry.token }
    }

    /// `Contender::outcome`: whoever is on record holds if its session does.
    pub(super) fn enter(&self, state: &mut State, process: usize) {
        let Phase::Entering { token } = state.processes[process].phase else { return };
        let lost = state.processes[process].session.lost;
        if lost && !self.has(FamilySabotage::EnteredUnverified) {
            self.witness.note(Event::EnteredTooLate);
            state.processes[process].phase = Phase::Shutting;
            return;
        }
        let shared = self.members[process].shared;
        let others = (0..state.processes.len()).filter_map(|other| self.belief(state, other));
        if others.count() > 0 {
            self.witness.note(match self.kind {
                Kind::Semaphore => Event::PermitsTogether,
                _ => Event::ReadTogether,
            });
        }
        let least =
            if shared || self.limit > 1 { state.past.entered_alone } else { state.past.entered };
        if token <= least {
            state.past.violation = Some(Violation::TokenDidNotRise);
        }
        state.past.entered = state.past.entered.max(token);
        if !shared && self.limit == 1 {
            state.past.entered_alone = token;
        }
        state.processes[process].phase = Phase::Holding { shared, age: 0 };
    }

    /// Writes that it lets go, for as long as its session stands.
    pub(super) fn release(&self, state: &mut State, process: usize) {
        let id = state.id(process);
        let released = match state.processes[process].session.lost {
            true => None,
            false => self.released(&state.rec, id),
        };
        match released {
            Some(rec) => self.write(state, process, What::Release, rec),
            None => state.processes[process].phase = Phase::Idle,
        }
    }

    pub(super) fn downgrade(&self, state: &mut State, process: usize) {
        match self.downgraded(&state.rec, state.id(process)) {
            Some(rec) => self.write(state, process, What::Downgrade, rec),
            None => state.processes[process].session = Session::LOST,
        }
    }

    /// `Contender::try_to_shut`: one look at the door, and one push.
    pub(super) fn shut(&self, state: &mut State, process: usize) {
        let id = state.id(process);
        let may_yet_land = state.flights.iter().any(|flight| {
            let own = usize::from(flight.by) == process && !flight.awaited;
            own && matches!(
                flight.put,
                Put::Lock { what: What::Enter | What::LineUp, present: true, .. }
            )
        });
        let left = state.rec.waiters.contains(&id) && self.has(FamilySabotage::TicketLeft);
        if (state.rec.names(id) && !left) || may_yet_land {
            let rec = self.without(&state.rec, id);
            self.write(state, process, What::ShutTheDoor, rec);
        } else {
            self.door_is_shut(state, process);
        }
    }

    fn door_is_shut(&self, state: &mut State, process: usize) {
        let id = state.id(process);
        state.past.shut.insert(id);
        state.processes[process].phase = Phase::Idle;
    }

    /// Renews its session, and hears of it before anything else happens.
    pub(super) fn renew(&self, state: &mut State, process: usize) {
        let session = &mut state.processes[process].session;
        let own = OnRecord::Held { renewals: session.renewals };
        let found = state.sessions[process];
        match decisions::renew(process, session, own) {
            Some(renewals) if found == own => {
                state.sessions[process] = OnRecord::Held { renewals };
                session.renewing = Renewing::Sent(0);
                self.renewal_answered(state, process, true);
            }
            Some(_) => {
                session.renewing = Renewing::Sent(0);
                self.renewal_answered(state, process, false);
            }
            None => unreachable!("it renews what it has written itself"),
        }
    }

    /// Sends a renewal of its session.
    pub(super) fn send_renewal(&self, state: &mut State, process: usize) {
        let session = &mut state.processes[process].session;
        state.slow_renewals -= 1;
        session.renewing = Renewing::Sent(0);
        let over = session.renewals;
        for flight in &mut state.flights {
            if let Put::Renewal { last, .. } = &mut flight.put
                && usize::from(flight.by) == process
            {
                *last = false;
            }
        }
        state.send(process, Put::Renewal { over, last: true });
    }

    /// Looks what became of a renewal, which tells it from others by its nonce.
    pub(super) fn read_back(&self, state: &mut State, process: usize) {
        let found = state.sessions[process];
        let session = &mut state.processes[process].session;
        let Renewing::Unclear { age, there } = session.renewing else { return };
        if there && found != OnRecord::Ended {
            return self.renewed(state, process, age);
        }
        session.renewing = Renewing::Resting;
        if found == (OnRecord::Held { renewals: session.renewals }) {
            session.unresolved = true;
        } else {
            self.refused(state, process);
        }
    }

    /// A renewal that was decided on so long ago has landed.
    fn renewed(&self, state: &mut State, process: usize, age: Age) {
        let session = &mut state.processes[process].session;
        let renewals = session.renewals + 1;
        *session = Session { age, renewals, ..Session::OPENED };
        if !self.is_alive(process, age) {
            *session = Session::LOST;
        }
    }

    /// The answer to a renewal.
    pub(super) fn renewal_answered(&self, state: &mut State, process: usize, landed: bool) {
        let Renewing::Sent(age) = state.processes[process].session.renewing else { return };
        state.processes[process].session.renewing = Renewing::Resting;
        if landed { self.renewed(state, process, age) } else { self.refused(state, process) }
    }

    /// Somebody has ended the session, or an earlier renewal has landed after all.
    fn refused(&self, state: &mut State, process: usize) {
        let found = state.sessions[process];
        let session = &mut state.processes[process].session;
        match (decisions::renew(process, session, found), found) {
            (Some(_), OnRecord::Held { renewals }) => {
                (session.renewals, session.unresolved) = (renewals, false);
            }
            (_, OnRecord::Ended) => *session = Session::LOST,
            (None, OnRecord::Held { .. }) => unreachable!("nobody else renews it"),
        }
    }

    /// The answer to a write of the lock's record, or to the end of a session.
    pub(super) fn answered(&self, state: &mut State, process: usize, landed: bool) {
        let Phase::Sent(what) = state.processes[process].phase else { return };
        let next = match (what, landed) {
            (What::Enter, true) => self.admitted(state, process),
            (What::Enter | What::LineUp, _) => Phase::Contending,
            (What::EndSession(of), _) => {
                let of = usize::from(of);
                let found = state.sessions[of];
                decisions::note(&mut state.processes[process], of, found);
                Phase::Contending
            }
            (What::Release, true) => Phase::Idle,
            (What::Release, false) => Phase::Releasing,
            (What::Downgrade, landed) => Phase::Holding { shared: landed, age: 0 },
            (What::ShutTheDoor, true) => return self.door_is_shut(state, process),
            (What::ShutTheDoor, false) => Phase::Shutting,
        };
        state.processes[process].phase = next;
    }

    /// A write is waited for no longer.
    pub(super) fn unheard(&self, state: &mut State, process: usize, put: &Put) {
        let this = &mut state.processes[process];
        if matches!(put, Put::Renewal { .. }) {
            if let Renewing::Sent(age) = this.session.renewing {
                this.session.renewing = Renewing::Unclear { age, there: false };
            }
            return;
        }
        let Phase::Sent(what) = this.phase else { return };
        this.phase = match what {
            What::Enter | What::LineUp | What::EndSession(_) => Phase::Contending,
            What::Release if self.has(FamilySabotage::ReleaseGivenUp) => Phase::Idle,
            // Its guard is dropped when a downgrade fails.
            What::Release | What::Downgrade => Phase::Releasing,
            What::ShutTheDoor => Phase::Shutting,
        };
    }
}
