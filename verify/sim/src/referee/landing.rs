//! Writes that land: what may become of a record.

use bytes::Bytes;
use leaselock::Owner;
use leaselock::record::{Ended, Kind, Lease, Record};

use super::crowd::Shared;
use super::quorum::Part;
use super::{Crowd, Referee, Spot, Tenancy};
use crate::clock::Time;
use crate::events::Events;
use crate::machine::Machine;

/// Who has written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writer {
    pub(crate) process: usize,
    /// An operator, who breaks leases.
    pub(crate) operator: bool,
}

impl Referee {
    /// A write of a record has landed.
    #[allow(clippy::too_many_arguments, reason = "what is known of a write")]
    pub(crate) fn landed(
        &mut self,
        now: Time,
        writer: Writer,
        key: &str,
        before: Option<&Bytes>,
        body: &Bytes,
        machines: &[Machine],
        events: &mut Events,
    ) {
        let process = writer.process;
        if let Some(spot) = Spot::of_key(key) {
            return self.gathering_landed(now, process, spot, body);
        }
        let Some(lock) = self.lock_of(key) else {
            return self.session_landed(now, writer, key, body);
        };
        let record = match Record::decode_of(self.locks[lock].kind, body) {
            Ok(record) => record,
            Err(fault) => {
                let promise = "every record that the library writes is readable";
                self.violate(now, promise, || format!("p{process}: {fault}"));
                return;
            }
        };
        if before.is_some() != self.locks[lock].record.is_some() {
            self.violate(now, "the referee knows what is there", || key.to_owned());
        }
        if record.kind != self.locks[lock].kind {
            let kinds = (self.locks[lock].kind, record.kind);
            self.violate(now, "a name has one kind", || format!("p{process}: {kinds:?}"));
        }
        if record.holders.len() > 1 && matches!(record.kind, Kind::Lock | Kind::Once) {
            self.violate(now, "one owner on record", || super::summary(body));
        }
        if record.token.get() < self.locks[lock].highest {
            let highest = self.locks[lock].highest;
            self.violate(now, "tokens rise", || {
                format!("p{process} wrote {} after {highest}", record.token)
            });
        }
        self.judge_results(now, lock, process, &record);
        self.judge_queue(now, lock, writer, &record, events);
        let entered = self.admit(now, lock, process, &record, events);
        self.retire(now, lock, &record);
        self.locks[lock].record = Some(record);
        self.note_reserved(lock);
        self.check_trust(now, lock, machines);
        if entered && self.locks[lock].queue.is_none() {
            self.check_told(now, lock, machines);
        }
    }

    /// Who is on record now; whether that is somebody new.
    fn admit(
        &mut self,
        now: Time,
        lock: usize,
        process: usize,
        record: &Record,
        events: &mut Events,
    ) -> bool {
        let mut entered = false;
        for lease in &record.holders {
            entered |= self.admit_one(now, lock, process, lease, events);
        }
        self.locks[lock].highest = self.locks[lock].highest.max(record.token.get());
        entered
    }

    fn admit_one(
        &mut self,
        now: Time,
        lock: usize,
        process: usize,
        lease: &Lease,
        events: &mut Events,
    ) -> bool {
        let (id, token) = (lease.id, lease.token.get());
        // Who finds nothing where its create may still be on the way cannot tell that it had landed,
        // had been put out, and that the record was then deleted. It enters with a new token.
        let deleted = self.locks[lock].deleted;
        let is_anew =
            |left: Option<Time>| left.is_some_and(|left| deleted.is_some_and(|at| at >= left));
        let known = self.locks[lock].tenancies.get(&id).filter(|tenancy| !is_anew(tenancy.left));
        if let Some(tenancy) = known {
            if tenancy.left.is_some() {
                self.violate(now, "an entry that has left the record never comes back", || {
                    format!("p{process} wrote {id} again")
                });
            }
            return false;
        }
        let highest = self.locks[lock].highest;
        // The same write may be sent again, and land again: nobody has entered in between.
        let again =
            self.locks[lock].tenancies.get(&id).is_some_and(|tenancy| tenancy.token == token);
        // Who joins at a store of several has its token, which that may have been beyond.
        let is_seat = self.locks[lock].part == Part::Seat;
        if token <= highest && !(again && token == highest) && !is_seat {
            self.violate(now, "tokens rise", || {
                format!("p{process} entered with {token} after {highest}")
            });
        }
        let (call, session) = (self.call_on(lock, &lease.owner), lease.session);
        let excused = session.and_then(|session| self.sessions.broken(session));
        let case = &mut self.locks[lock];
        case.highest = highest.max(token);
        case.tainted |= excused.is_some();
        let shared = Crowd::of(&lease.owner).map(|crowd| Shared::new(crowd, token));
        let tenancy = Tenancy { landed: now, left: None, call, excused, token, session, shared };
        case.tenancies.insert(id, tenancy);
        self.counts.add("acquisitions on record");
        if is_seat {
            self.count_entry(call);
        }
        self.watch_orphan(now, lock, id, events);
        true
    }

    /// Who was on record and is not any more.
    fn retire(&mut self, now: Time, lock: usize, record: &Record) {
        let case = &mut self.locks[lock];
        let before = case.record.iter().flat_map(|record| &record.holders);
        let left: Vec<_> =
            before.filter(|lease| record.lease(lease.id).is_none()).map(|lease| lease.id).collect();
        for id in left {
            let ended = record.tenure(id).map(|tenure| tenure.ended.clone());
            if let Some(tenancy) = case.tenancies.get_mut(&id) {
                tenancy.left = Some(now);
                if ended == Some(Ended::Broken) {
                    tenancy.excused = Some(now);
                    case.tainted = true;
                }
            }
            let word = ended.as_ref().map_or("without a trace", Ended::as_str);
            self.counts.add(&format!("tenures ended: {word}"));
        }
    }
}

/// The call whose acquisition this is.
pub(super) fn call_of(owner: &Owner) -> Option<usize> {
    owner.label.strip_prefix('c').and_then(|number| number.parse().ok())
}
