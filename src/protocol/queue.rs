//! Who may enter beside whom, and in which order.
//!
//! **Invariants.** The holders on record never exceed what its kind allows: one, or one writer, or
//! readers alone, or as many permits as there are. Nobody enters past a waiter that came before and
//! lives. What stands under a session, an entry or a ticket, leaves the record by the hand of its own
//! acquisition or of an operator, or after its session has ended: never for time alone. A session
//! that has run out is first ended by a write of its own record, which voids whatever renewal of it
//! may still land (hazard H25).

use std::time::Duration;

use super::expiry::{Evidence, Rule, Standing, Verdict, judge};
use crate::holder::HolderId;
use crate::record::{End, Ended, Kind, Lease, MAX_HOLDERS, MAX_WAITERS, Mode, Record, Ticket};
use crate::time::{Boot, Wall};

/// How much of a lock a contender wants, and how it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Want {
    /// Alone or beside others.
    pub mode: Mode,
    /// How many permits: of a semaphore; 1 elsewhere.
    pub permits: u32,
    /// How many permits there are, as far as the contender knows.
    pub limit: u32,
    /// The session under which it will wait and hold, if there is one.
    pub session: Option<HolderId>,
    /// Whether it takes a ticket when it has to wait; needs a session.
    pub queue: bool,
}

impl Want {
    /// The whole of it, under a lease of its own, without a ticket.
    pub const ALONE: Self =
        Self { mode: Mode::Exclusive, permits: 1, limit: 1, session: None, queue: false };
}

/// Whether a contender may enter.
pub(super) enum WayIn {
    /// There is room in this record, from which everybody has been taken who had to go.
    Open {
        record: Record,
        /// The rule by which a former holder was put out, if that was for time.
        takeover: Option<Rule>,
    },
    /// Somebody is in the way, until then if nothing changes. The record is without those who are
    /// known to be gone.
    Closed { record: Record, until: Boot },
    /// It depends on a session.
    Unclear(Unclear),
}

/// What has to be done about a session before anything else can be decided.
pub(super) enum Unclear {
    /// Find out how it stands.
    Ask(HolderId),
    /// It has run out: end it.
    End(HolderId),
}

/// Looks for a way in for the acquisition `id`.
pub(super) fn way_in(found: &Record, evidence: &Evidence<'_>, id: HolderId, want: &Want) -> WayIn {
    let mut record = found.clone();
    let own = record.waiters.iter().position(|ticket| ticket.id == id);
    // From the nearest on: if it lives we wait, however those before it stand. So each waiter
    // watches one session, and not the whole queue.
    for index in (0..own.unwrap_or(record.waiters.len())).rev() {
        match standing(record.waiters[index].session, evidence) {
            Ok(Some(until)) => return WayIn::Closed { record, until },
            Ok(None) => drop(record.waiters.remove(index)),
            Err(unclear) => return WayIn::Unclear(unclear),
        }
    }
    if record.has_room(want.mode, want.permits) {
        return WayIn::Open { record, takeover: None };
    }
    let (mut takeover, mut until, mut gone) = (None, None, Vec::new());
    for lease in &record.holders {
        let alive = match lease.session {
            Some(session) => match standing(session, evidence) {
                Ok(alive) => alive,
                Err(unclear) => return WayIn::Unclear(unclear),
            },
            None => match judge(lease, evidence) {
                Verdict::AliveUntil(end) => Some(end),
                Verdict::Expired(rule) => {
                    takeover = Some(rule);
                    None
                }
            },
        };
        match alive {
            Some(end) => until = Some(until.map_or(end, |until: Boot| until.min(end))),
            None => gone.push(lease.id),
        }
    }
    let ended = |id| gone.contains(&id);
    record.retire(|lease| ended(lease.id).then(|| how_it_ended(lease)), evidence.now.wall);
    if record.has_room(want.mode, want.permits) {
        return WayIn::Open { record, takeover };
    }
    // Somebody else lives, or more is wanted than there is.
    let until = until.unwrap_or(Boot::new(Duration::MAX));
    WayIn::Closed { record, until }
}

/// Until when a session lives if nothing changes; `None` when it has ended.
fn standing(session: HolderId, evidence: &Evidence<'_>) -> Result<Option<Boot>, Unclear> {
    match evidence.sessions.standing(session) {
        None => Err(Unclear::Ask(session)),
        Some(Standing::Ended) => Ok(None),
        Some(Standing::Open(Verdict::AliveUntil(end))) => Ok(Some(end)),
        Some(Standing::Open(Verdict::Expired(_))) => Err(Unclear::End(session)),
    }
}

/// Puts `ticket` at the end of the queue, unless that is full.
pub(super) fn line_up(record: &mut Record, ticket: Ticket) -> bool {
    let room = record.waiters.len() < MAX_WAITERS;
    if room {
        record.waiters.push(ticket);
    }
    room
}

/// Lets those enter who are first in the queue, for as long as there is room, with a new token each.
/// Whether they live is theirs to prove: an entry stands under its waiter's session, and a dead one's
/// ends with that.
pub(super) fn serve(record: &mut Record, now: Wall) {
    while let Some(next) = record.waiters.first() {
        if !record.has_room(next.mode, next.permits) {
            return;
        }
        let ticket = record.waiters.remove(0);
        record.token = record.token.next();
        record.holders.push(ticket.admitted(record.token, now));
    }
}

impl Record {
    /// Whether one more may hold it beside those who do.
    pub fn has_room(&self, mode: Mode, permits: u32) -> bool {
        if self.kind == Kind::Semaphore {
            let held = self.permits_held() + u64::from(permits);
            return held <= u64::from(self.limit) && self.holders.len() < MAX_HOLDERS;
        }
        let beside = |mode| mode == Mode::Shared;
        let all_share = beside(mode) && self.holders.iter().all(|lease| beside(lease.mode));
        self.holders.is_empty() || (all_share && self.holders.len() < MAX_HOLDERS)
    }
}

/// An entry that a contender finds ended was released, if it only stayed for its minimum hold.
fn how_it_ended(lease: &Lease) -> End {
    if lease.released_at.is_some() { Ended::Released.into() } else { Ended::Expired.into() }
}
