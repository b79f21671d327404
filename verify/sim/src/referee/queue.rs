//! Who enters beside whom and in which order, by what lands on the record.

use std::collections::BTreeMap;

use leaselock::HolderId;
use leaselock::record::{Ended, Kind, Lease, Mode, Record, Ticket};

use super::landing::{Writer, call_of};
use super::{LockCase, Referee};
use crate::clock::Time;
use crate::events::Events;
use crate::plan::Member;

/// What was ever seen of a queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// The most permits that there ever were.
    largest_limit: u32,
    /// Every ticket: when it was first on record, and whose call it is.
    tickets: BTreeMap<HolderId, (Time, Option<usize>)>,
}

impl Queue {
    pub(super) fn largest_limit(&self) -> u32 {
        self.largest_limit
    }

    /// When this ticket was first seen, and whose call it is.
    pub(super) fn ticket(&self, id: HolderId) -> Option<(Time, Option<usize>)> {
        self.tickets.get(&id).copied()
    }
}

impl LockCase {
    pub(super) fn of_family(member: Member) -> Self {
        Self::many(member.kind(), format!("{}.lock", member.name()))
    }

    /// Whose guards are asked.
    pub(super) fn many(kind: Kind, key: String) -> Self {
        let tainted = kind != Kind::Lock;
        Self { queue: Some(Queue::default()), tainted, ..Self::new(kind, key) }
    }
}

/// What a write has changed about those who hold and wait.
struct Change<'a> {
    entered: Vec<&'a Lease>,
    left: Vec<&'a Lease>,
    /// Tickets that are gone and whose waiters do not hold.
    withdrawn: Vec<&'a Ticket>,
}

impl<'a> Change<'a> {
    fn between(before: &'a Record, after: &'a Record) -> Self {
        let entered = after.holders.iter().filter(|lease| before.lease(lease.id).is_none());
        let left = before.holders.iter().filter(|lease| after.lease(lease.id).is_none());
        let withdrawn = before
            .waiters
            .iter()
            .filter(|ticket| after.ticket(ticket.id).is_none() && after.lease(ticket.id).is_none());
        Self { entered: entered.collect(), left: left.collect(), withdrawn: withdrawn.collect() }
    }
}

impl Referee {
    /// A write is about to take the place of what is on record of something with a queue.
    pub(super) fn judge_queue(
        &mut self,
        now: Time,
        lock: usize,
        writer: Writer,
        after: &Record,
        events: &mut Events,
    ) {
        let Some(queue) = &mut self.locks[lock].queue else { return };
        queue.largest_limit = queue.largest_limit.max(after.limit);
        let new: Vec<_> = after.waiters.iter().filter(|t| queue.ticket(t.id).is_none()).collect();
        for ticket in &new {
            queue.tickets.insert(ticket.id, (now, call_of(&ticket.owner)));
        }
        let new: Vec<_> = new.iter().map(|ticket| ticket.id).collect();
        for id in new {
            self.counts.add("tickets");
            self.watch_orphan(now, lock, id, events);
        }
        let sessions = after.holders.iter().filter_map(|lease| lease.session);
        for session in sessions.chain(after.waiters.iter().map(|ticket| ticket.session)) {
            self.sessions.name(session);
        }
        let before = self.locks[lock].record.clone();
        let before = before.unwrap_or_else(|| {
            let mut nobody = after.clone();
            nobody.holders.clear();
            nobody.waiters.clear();
            nobody
        });
        let change = Change::between(&before, after);
        self.judge_room(now, after, &change);
        self.judge_order(now, &before, after, &change);
        self.judge_leavers(now, writer, after, &change);
        self.judge_withdrawals(now, writer, &change);
        self.count_turns(writer, &before, after, &change);
    }

    /// Those who enter have room.
    fn judge_room(&mut self, now: Time, after: &Record, change: &Change<'_>) {
        if change.entered.is_empty() {
            return;
        }
        let alone = after.holders.iter().any(|lease| lease.mode == Mode::Exclusive);
        let fits = match after.kind {
            Kind::Semaphore => after.permits_held() <= u64::from(after.limit),
            _ => after.holders.len() == 1 || !alone,
        };
        if !fits {
            self.violate(now, "nobody enters where there is no room", || summary(after));
        }
    }

    /// Nobody enters past a waiter that came before and is still there; who comes waits at the end.
    fn judge_order(&mut self, now: Time, before: &Record, after: &Record, change: &Change<'_>) {
        for lease in &change.entered {
            let place = before.waiters.iter().position(|ticket| ticket.id == lease.id);
            let ahead = &before.waiters[..place.unwrap_or(before.waiters.len())];
            let passed = ahead.iter().find(|ticket| {
                let later = after.lease(ticket.id).is_some_and(|other| other.token > lease.token);
                after.ticket(ticket.id).is_some() || later
            });
            if let Some(passed) = passed {
                let text = format!("{} entered past {}", lease.owner.label, passed.owner.label);
                self.violate(now, "nobody enters past who came before", || text);
            }
        }
        let ids = |record: &Record| record.waiters.iter().map(|t| t.id).collect::<Vec<_>>();
        let stayed = ids(before).into_iter().filter(|id| after.ticket(*id).is_some());
        let came = ids(after).into_iter().filter(|id| before.ticket(*id).is_none());
        if stayed.chain(came).collect::<Vec<_>>() != ids(after) {
            self.violate(now, "who comes waits at the end", || summary(after));
        }
    }

    /// Whoever is not on record any more has given it back, was broken, or its session has ended.
    fn judge_leavers(&mut self, now: Time, writer: Writer, after: &Record, change: &Change<'_>) {
        for lease in &change.left {
            let Some(tenure) = after.tenure(lease.id) else { continue };
            let own = self.process_of_owner(call_of(&lease.owner)) == Some(writer.process);
            let over = lease.session.is_none_or(|session| self.sessions.is_over(session));
            let fine = match tenure.ended {
                Ended::Released => own || lease.released_at.is_some(),
                Ended::Expired => over,
                Ended::Broken => writer.operator && over,
                _ => false,
            };
            if !fine {
                let text =
                    format!("{} by p{}: {:?}", lease.owner.label, writer.process, tenure.ended);
                self.violate(now, "nobody is put out whose session stands", || text);
            }
        }
    }

    fn judge_withdrawals(&mut self, now: Time, writer: Writer, change: &Change<'_>) {
        for ticket in &change.withdrawn {
            let own = self.process_of_owner(call_of(&ticket.owner)) == Some(writer.process);
            if self.sessions.is_over(ticket.session) {
                self.counts.add("dead waiters skipped");
            } else if own {
                self.counts.add("tickets withdrawn");
            } else {
                let text = format!("{} by p{}", ticket.owner.label, writer.process);
                self.violate(now, "no waiter is put out whose session stands", || text);
            }
        }
    }

    fn count_turns(
        &mut self,
        writer: Writer,
        before: &Record,
        after: &Record,
        change: &Change<'_>,
    ) {
        let from_queue =
            change.entered.iter().filter(|lease| before.ticket(lease.id).is_some()).count() as u64;
        let ended = |how: &Ended| {
            let tenures = change.left.iter().filter_map(|lease| after.tenure(lease.id));
            tenures.filter(|tenure| tenure.ended == *how).count() > 0
        };
        let by_others =
            |lease: &&&Lease| self.process_of_owner(call_of(&lease.owner)) != Some(writer.process);
        let handed = change.entered.iter().filter(by_others).count() as u64;
        if ended(&Ended::Released) {
            self.counts.add_many("hand-overs by release", handed);
        }
        if ended(&Ended::Expired) && change.left.iter().any(|lease| lease.session.is_some()) {
            self.counts.add("takeovers through an ended session");
        }
        self.counts.add_many("turns of a queue", from_queue);
        if before.limit != after.limit && before.kind == Kind::Semaphore {
            self.counts.add("resizes");
        }
    }

    fn process_of_owner(&self, call: Option<usize>) -> Option<usize> {
        call.map(|call| self.calls[call].process)
    }
}

/// A record with several holders, or waiters, in a few words.
pub(super) fn summary(record: &Record) -> String {
    let holders = record.holders.iter().map(|lease| {
        let alone = if lease.mode == Mode::Exclusive { "!" } else { "" };
        format!("{}{alone} token {} of {}", lease.owner.label, lease.token, lease.permits)
    });
    let waiters = record.waiters.iter().map(|ticket| ticket.owner.label.clone());
    let (holders, waiters): (Vec<_>, Vec<_>) = (holders.collect(), waiters.collect());
    format!("held by [{}], queue [{}]", holders.join("; "), waiters.join(" "))
}
