//! A lock over three stores, of which two decide: what stands on their records, and who may trust it.

use leaselock::HolderId;
use leaselock::record::{Kind, Record};

use super::landing::call_of;
use super::{CallState, LockCase, Referee, Tenancy};
use crate::clock::Time;
use crate::plan::Plan;

/// What a lock is to a lock over several stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Part {
    /// Nothing.
    #[default]
    None,
    /// The whole: it has no record.
    Whole,
    /// Its record on one store.
    Seat,
}

impl LockCase {
    /// The whole, and then its records.
    pub(super) fn of_quorum() -> Vec<Self> {
        let whole =
            Self { part: Part::Whole, ..Self::many(Kind::Lock, "nothing lies here".to_owned()) };
        let seat = |number| {
            let key = format!("{}/{}.lock", Plan::PLACES[number], Plan::QUORUM);
            Self { part: Part::Seat, ..Self::new(Kind::Lock, key) }
        };
        std::iter::once(whole).chain((0..Plan::PLACES.len()).map(seat)).collect()
    }
}

impl Referee {
    /// Where the records lie of something that is called for.
    pub(super) fn places_of(&self, lock: usize) -> Vec<usize> {
        match self.locks[lock].part {
            Part::Whole => (lock + 1..=lock + Plan::PLACES.len()).collect(),
            Part::None | Part::Seat => vec![lock],
        }
    }

    /// On how many records an acquisition stands with this token.
    pub(super) fn seats_of(&self, call: usize, token: u64) -> usize {
        let seats = self.locks.iter().filter(|case| case.part == Part::Seat);
        let records = seats.filter_map(|case| case.record.as_ref());
        let has_it = |record: &&Record| {
            record.holders.iter().any(|lease| {
                let stands = lease.released_at.is_none();
                stands && (call_of(&lease.owner), lease.token.get()) == (Some(call), token)
            })
        };
        records.filter(has_it).count()
    }

    /// An acquisition has entered one of the stores: by a vote, or later.
    pub(super) fn count_entry(&mut self, call: Option<usize>) {
        let won = call.is_some_and(|call| matches!(self.calls[call].state, CallState::Acquired(_)));
        self.counts.add(if won { "stores entered after a majority" } else { "votes" });
    }

    /// Whether an acquisition has been put out of a record.
    pub(super) fn has_lost_a_seat(&self, call: Option<usize>) -> bool {
        let seats = self.locks.iter().filter(|case| case.part == Part::Seat);
        let mut tenancies = seats.flat_map(|case| case.tenancies.values());
        tenancies.any(|tenancy| tenancy.call == call && tenancy.left.is_some())
    }

    /// A call was given a guard: a majority says so.
    pub(super) fn wins(&mut self, now: Time, call: usize, id: HolderId, token: u64) {
        let (lock, process) = (self.calls[call].lock, self.calls[call].process);
        let seats = self.seats_of(call, token);
        if seats < MAJORITY {
            self.violate(now, "who holds a lock over several stores has a majority", || {
                format!("p{process} was given token {token} with {seats}")
            });
        }
        let case = &mut self.locks[lock];
        if token <= case.highest {
            let highest = case.highest;
            self.violate(now, "tokens rise", || {
                format!("p{process} was given {token} by a majority after {highest}")
            });
        }
        let case = &mut self.locks[lock];
        case.highest = case.highest.max(token);
        let tenancy = Tenancy {
            landed: now,
            left: None,
            call: Some(call),
            token,
            session: None,
            excused: None,
            shared: None,
        };
        case.tenancies.insert(id, tenancy);
        self.counts.add("locks over several stores acquired");
    }

    /// A guard is trusted at this instant.
    pub(super) fn judge_majority(&mut self, now: Time, number: usize) {
        let guard = &self.guards[number];
        if self.locks[guard.lock].part != Part::Whole {
            return;
        }
        let (id, process) = (guard.id, guard.process);
        let tenancy = self.locks[guard.lock].tenancies.get(&id);
        let Some((call, token)) = tenancy.and_then(|found| Some((found.call?, found.token))) else {
            return;
        };
        let seats = self.seats_of(call, token);
        if seats < MAJORITY {
            self.violate(now, "who trusts a lock over several stores has a majority", || {
                format!("p{process} trusts token {token} with {seats}")
            });
        } else if seats < Plan::PLACES.len() {
            self.counts.add("guards trusted by a bare majority");
        }
    }

    /// A guard of the whole has been given back, and that was confirmed.
    pub(super) fn judge_given_back(&mut self, now: Time, number: usize) {
        let guard = &self.guards[number];
        let case = &self.locks[guard.lock];
        let Some(tenancy) = case.tenancies.get(&guard.id).filter(|_| case.part == Part::Whole)
        else {
            return;
        };
        let (token, seats) =
            (tenancy.token, tenancy.call.map_or(0, |call| self.seats_of(call, tenancy.token)));
        if seats >= MAJORITY {
            self.violate(now, "what was released is free", || {
                format!("token {token} stands on {seats} stores")
            });
        }
    }
}

/// Of the three.
const MAJORITY: usize = 2;
