//! What a waiter expects of those who have the lock or want it, going by the record. It decides when to
//! look, and nothing else.

use std::time::Duration;

use super::{Contender, Under, View};
use crate::clock::Boot;
use crate::holder::HolderId;
use crate::polling::{Beat, Expected};
use crate::record::{Ended, Lease, Past, Record};

impl Contender {
    /// What to expect, and since when the present holder has been seen.
    pub(super) fn expected(&self, view: &View) -> Option<(Expected, Boot)> {
        let record = view.found.as_deref()?;
        // Of several, whoever has had it longest.
        let holders = record.holders.iter();
        let seen = holders.filter_map(|lease| Some((view.observations.since(lease)?, lease)));
        let (since, lease) = seen.min_by_key(|(since, lease)| (*since, lease.id))?;
        let place = record.waiters.iter().position(|ticket| ticket.id == self.id);
        let ahead = place.map(|place| u32::try_from(place).unwrap_or(u32::MAX));
        let holds = holds(&record.history);
        let renewed = match lease.session {
            None => Some((lease, view)),
            Some(session) => self.sessions.get(&session).and_then(|seen| {
                let view = seen.as_ref()?;
                Some((view.found.as_deref()?.holders.first()?, view))
            }),
        };
        // Who is not next need not know as soon that the holder has died.
        let renewed = renewed.filter(|_| place.unwrap_or(0) == 0);
        let beat = renewed.and_then(|(lease, view)| beat(lease, view));
        let session = lease.session.filter(|_| beat.is_some());
        // Nobody enters past a ticket.
        let rivals = if ahead.is_some() { 0 } else { self.rivals(record) };
        let holder = lease.id;
        Some((Expected { holder, holds, ahead, rivals, beat, session }, since))
    }

    /// Whether somebody else has got the lock since this one wants it, or did so to this process lately, so
    /// that it should take a ticket: whoever leaves the lock and wants it again is there first, time and
    /// again.
    pub(super) fn is_overtaken(&mut self, holder: HolderId) -> bool {
        let before = self.rival.replace(holder);
        if !self.target.may_queue || self.target.want.queue {
            return false;
        }
        let now = self.clock().now().boot;
        let overtaken = before.is_some_and(|before| before != holder);
        if overtaken {
            self.client().memory.overtaken(&self.key, now);
        }
        overtaken || self.client().memory.was_overtaken(&self.key, now)
    }

    /// Goes on as an acquisition that waits in the queue.
    pub(super) fn join_the_queue(&mut self) {
        tracing::debug!(lock = %self.target.name, "others have got the lock before: queues for it");
        (self.target.want.queue, self.target.under) = (true, Under::Implied);
        self.begin_anew();
    }

    /// Goes on without a ticket: there can be no session to wait under.
    pub(super) fn do_without_the_queue(&mut self) {
        (self.target.want.queue, self.target.under) = (false, Under::Itself);
        self.target.may_queue = false;
        self.begin_anew();
    }

    /// How many others have had it lately.
    fn rivals(&self, record: &Record) -> u32 {
        let own = &self.terms.owner;
        let tenures = record.history.iter().map(|tenure| &tenure.owner);
        let holders = record.holders.iter().map(|lease| &lease.owner);
        let mut others: Vec<_> = tenures
            .chain(holders)
            .map(|owner| (&owner.host, owner.pid))
            .filter(|(host, pid)| (*host, *pid) != (&own.host, own.pid))
            .collect();
        others.sort_unstable();
        others.dedup();
        u32::try_from(others.len()).unwrap_or(u32::MAX)
    }
}

fn beat(lease: &Lease, view: &View) -> Option<Beat> {
    let seen = view.observations.since(lease)?;
    Some(Beat { of: lease.id, at: lease.renewed_at, next: lease.renews_at, seen })
}

/// For how long it was held in all the tenures that are known, the shortest first. Only those that ended as
/// they should tell.
fn holds(history: &[Past]) -> Vec<Duration> {
    let done = |tenure: &&Past| matches!(tenure.ended, Ended::Released | Ended::Finished);
    let mut holds: Vec<_> =
        history.iter().filter(done).map(|tenure| tenure.to.since(tenure.from)).collect();
    holds.sort_unstable();
    holds
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::holder::{Nonce, Owner};
    use crate::record::Lease;
    use crate::time::Wall;
    use crate::token::FencingToken;

    /// The history of a lock that was held for these times, by whoever.
    fn held_for(times: &[u64]) -> Vec<Past> {
        let mut record = Record::free(FencingToken::ZERO, Nonce::from_random(0));
        let mut wall = Wall::from_micros(0);
        for (number, ms) in (1..).zip(times) {
            let id = HolderId::from_random(number);
            let ttl = Duration::from_secs(30);
            let lease = Lease::acquired(id, record.token, ttl, wall, Owner::default());
            record.holders.push(lease);
            wall = wall.plus(Duration::from_millis(*ms));
            record.retire_holder(id, Ended::Released, wall);
        }
        record.history
    }

    #[test]
    fn all_tenures_that_are_known_tell_for_how_long_it_is_held() {
        let of = |times: &[u64]| holds(&held_for(times));
        let ms =
            |times: &[u64]| times.iter().copied().map(Duration::from_millis).collect::<Vec<_>>();
        assert_eq!(of(&[]), ms(&[]));
        assert_eq!(of(&[100, 500, 20, 900]), ms(&[20, 100, 500, 900]));
        let many: Vec<_> = (1..=20).collect();
        assert_eq!(of(&many), ms(&many[4..]));
    }
}
