//! The store: what reaches it, and what is promised of each write that takes effect.

use super::decisions;
use super::state::{Id, OnRecord, Put, Rec, Renewing, State, Violation, What, process_of};
use super::{Family, FamilySabotage};
use crate::witness::Event;

impl Family {
    /// A write reaches the store, and is answered if its sender waits.
    pub(super) fn land(&self, state: &mut State, number: usize) {
        let flight = state.flights.remove(number);
        let by = usize::from(flight.by);
        let landed = match &flight.put {
            Put::Lock { what, rec, present: true } => {
                self.written(state, by, *what, rec);
                true
            }
            Put::Lock { present: false, .. } => false,
            Put::Renewal { over, last } => self.land_renewal(state, by, *over, *last),
            Put::End { session, over } => self.land_end(state, usize::from(*session), *over),
        };
        if flight.awaited {
            match flight.put {
                Put::Renewal { .. } => self.renewal_answered(state, by, landed),
                Put::Lock { .. } | Put::End { .. } => self.answered(state, by, landed),
            }
        }
    }

    fn land_renewal(&self, state: &mut State, of: usize, over: u8, last: bool) -> bool {
        let ended = state.sessions[of] == OnRecord::Ended;
        if ended {
            self.witness.note(Event::LateRenewalRefused);
        }
        // Once it has ended there is no count any more; the session's is that of its owner.
        let revives = ended && self.has(FamilySabotage::RenewalRevives);
        let lands = state.sessions[of] == (OnRecord::Held { renewals: over });
        if lands || revives {
            state.sessions[of] = OnRecord::Held { renewals: over + 1 };
        }
        if let Renewing::Unclear { there, .. } = &mut state.processes[of].session.renewing {
            *there |= lands && last;
        }
        if revives {
            state.past.violation = Some(Violation::SessionCameBack);
        }
        lands
    }

    fn land_end(&self, state: &mut State, of: usize, over: u8) -> bool {
        let found = state.sessions[of];
        let is_as_seen = found == OnRecord::Held { renewals: over };
        if !is_as_seen && found != OnRecord::Ended {
            self.witness.note(Event::EndRefused);
        }
        let lands = is_as_seen || self.has(FamilySabotage::EndedUnconditionally);
        if lands {
            self.witness.note(Event::SessionEnded);
            state.sessions[of] = decisions::end(of, found);
        }
        lands
    }

    /// A write of the lock's record takes effect.
    fn written(&self, state: &mut State, by: usize, what: What, rec: &Rec) {
        for flight in &mut state.flights {
            if let Put::Lock { present, .. } = &mut flight.put {
                *present = false;
            }
        }
        let before = std::mem::replace(&mut state.rec, rec.clone());
        self.who_left(state, by, what, &before);
        self.who_came(state, by, what, &before);
        let shut = |id: &Id| state.past.shut.contains(id);
        if rec.waiters.iter().any(|id| shut(id) && !before.waiters.contains(id)) {
            state.past.violation = Some(Violation::DoorWasOpen);
        }
    }

    fn who_left(&self, state: &mut State, by: usize, what: What, before: &Rec) {
        let has_ended = |id: Id| state.sessions[process_of(id)] == OnRecord::Ended;
        let holders = before.holders.iter().map(|entry| (entry.id, true));
        let waiters = before.waiters.iter().map(|id| (*id, false));
        let left: Vec<_> = holders.chain(waiters).filter(|(id, _)| !state.rec.names(*id)).collect();
        for (id, held) in left {
            let own_hand = process_of(id) == by;
            // That sabotage does just this: it has to show what comes of it.
            if !own_hand && !has_ended(id) && !self.has(FamilySabotage::SessionNotEnded) {
                state.past.violation = Some(Violation::PutOut);
            }
            match (held, own_hand) {
                (true, true) => {}
                (true, false) if what == What::Enter => self.witness.note(Event::TookFromEnded),
                (false, true) => self.witness.note(Event::WaiterGaveUp),
                (false, false) => self.witness.note(Event::DeadWaiterSkipped),
                _ => {}
            }
            if held {
                state.past.gone.insert(id);
            }
        }
    }

    fn who_came(&self, state: &mut State, by: usize, what: What, before: &Rec) {
        let mut highest = before.token;
        for entry in &state.rec.holders {
            if before.entry(entry.id).is_some() {
                continue;
            }
            let id = entry.id;
            if entry.token <= highest || entry.token > state.rec.token {
                state.past.violation = Some(Violation::TokenDidNotRise);
            }
            highest = highest.max(entry.token);
            if state.past.shut.contains(&id) {
                state.past.violation = Some(Violation::DoorWasOpen);
            } else if state.past.gone.contains(&id) {
                state.past.violation = Some(Violation::CameBack);
            }
            let place = before.waiters.iter().position(|waiter| *waiter == id);
            let earlier = &before.waiters[..place.unwrap_or(before.waiters.len())];
            let passed = earlier.iter().any(|waiter| {
                let lives = state.sessions[process_of(*waiter)] != OnRecord::Ended;
                let gave_up = process_of(*waiter) == by && !state.rec.names(*waiter);
                lives && !gave_up && state.rec.entry(*waiter).is_none()
            });
            if passed {
                state.past.violation = Some(Violation::PassedTheQueue);
            }
            if place.is_some() && process_of(id) != by {
                self.witness.note(match what {
                    What::Release => Event::HandedOver,
                    What::Downgrade => Event::LetIn,
                    _ => Event::LetInByAnother,
                });
                if state.sessions[process_of(id)] == OnRecord::Ended {
                    self.witness.note(Event::HandedToTheDead);
                }
            }
        }
        if state.rec.token < before.token {
            state.past.violation = Some(Violation::TokenDidNotRise);
        }
    }
}
