//! The shipped decisions, asked in this world's terms. Nothing is decided here.
//!
//! Every process's clock shows the same reading now; what differs is how long ago things were.

use std::sync::OnceLock;
use std::time::Duration;

use leaselock::clock::{Boot, Moment, Wall};
use leaselock::protocol::expiry::{
    Evidence, Observations, Sessions, Standing, Verdict, contender_wait, remaining,
};
use leaselock::protocol::lock::{self, Acquire, AcquireDecision, HolderDecision, Own, Renewal};
use leaselock::protocol::queue::Want;
use leaselock::protocol::session;
use leaselock::record::{Kind, Lease, Mode, Record};
use leaselock::{FencingToken, HolderId, Nonce, Owner};

use super::state::{
    Age, Entry, Id, Known, OnRecord, Process, Rec, Session, Token, id as id_of, process_of,
};
use super::{Family, FamilySabotage};
use crate::config::TTL;

/// What every clock shows now.
const NOW: Moment = Moment {
    boot: Boot::new(Duration::from_secs(100_000)),
    wall: Wall::from_micros(1_795_000_000_000_000),
};
/// Every write has a new nonce in the library. Here versions are told apart otherwise.
const NONCE: Nonce = Nonce::from_random(0);

/// What a contender shall do.
pub(crate) enum Decision {
    Enter(Rec),
    LineUp(Rec),
    Ours,
    Wait,
    /// How this process's session stands.
    Ask(usize),
    /// To end this process's session.
    End(usize),
}

impl Family {
    /// What a process's clock shows after so many ticks.
    fn elapsed(&self, process: usize, ticks: Age) -> Duration {
        (self.tick * u32::from(ticks)) * self.members[process].rate / 1_000_000
    }

    fn ago(&self, process: usize, age: Age) -> Boot {
        Boot::new(NOW.boot.since_origin() - self.elapsed(process, age))
    }

    /// The age from which on an age changes no decision any more.
    pub(super) fn saturated(&self) -> Age {
        let slowest = self.members.iter().map(|member| member.rate).min().unwrap_or(1_000_000);
        let tick = self.tick * slowest / 1_000_000;
        let ticks = contender_wait(TTL).as_millis().div_ceil(tick.as_millis());
        Age::try_from(ticks).unwrap_or(Age::MAX)
    }

    /// Asks [`remaining`] whether a lease that was established so long ago is still the holder's.
    pub(super) fn is_alive(&self, process: usize, age: Age) -> bool {
        let sent = Moment { boot: self.ago(process, age), wall: NOW.wall };
        !remaining(TTL, sent, NOW).is_zero()
    }

    /// Asks [`lock::acquire`].
    pub(super) fn acquire(&self, rec: &Rec, process: usize, id: Id, known: &[Known]) -> Decision {
        let mut found = self.record(rec);
        if self.has(FamilySabotage::ReaderPasses) && self.members[process].shared {
            found.waiters.retain(|ticket| ticket.id == holder(id));
        }
        if self.has(FamilySabotage::OnePermitEach) {
            found.holders.iter_mut().for_each(|lease| lease.permits = 1);
        }
        if self.has(FamilySabotage::TicketWithoutLease) {
            for ticket in &mut found.waiters {
                ticket.session = eternal(ticket.session);
            }
        }
        let sessions = self.standings(process, known);
        let evidence = Evidence {
            now: NOW,
            observations: &Observations::default(),
            store: None,
            max_skew: None,
            sessions: &sessions,
        };
        let decision = lock::acquire(Some(&found), &evidence, &self.intent(process, id));
        let rec = |record: &Record| {
            let mut new = self.rec(record);
            if self.has(FamilySabotage::ReaderPasses) && self.members[process].shared {
                new.waiters = rec.waiters.iter().copied().filter(|other| *other != id).collect();
                new.waiters.extend(record.ticket(holder(id)).map(|_| id));
            }
            new
        };
        match decision {
            AcquireDecision::Write { record, .. } => Decision::Enter(rec(&record)),
            AcquireDecision::Queue(record) => Decision::LineUp(rec(&record)),
            AcquireDecision::Ours => Decision::Ours,
            AcquireDecision::HeldUntil(_) => Decision::Wait,
            AcquireDecision::Ask(asked) => Decision::Ask(self.owner_of(asked)),
            AcquireDecision::End(ended) => Decision::End(self.owner_of(ended)),
            other => unreachable!("nothing else is under this name: {other:?}"),
        }
    }

    /// Asks [`session::standing`] of all sessions that a process has looked at.
    fn standings(&self, process: usize, known: &[Known]) -> Sessions {
        let looked_at = known.iter().enumerate().filter_map(|(of, known)| {
            let standing = match known {
                Known::Nothing => return None,
                Known::Ended => Standing::Ended,
                Known::Seen { renewals, age } => self.standing(process, of, *renewals, *age),
            };
            Some((session_of(of), standing))
        });
        let far = Standing::Open(Verdict::AliveUntil(NOW.boot.plus(TTL)));
        let eternal = (0..known.len()).map(|of| (eternal(session_of(of)), far));
        looked_at.chain(eternal).collect()
    }

    fn standing(&self, process: usize, of: usize, renewals: u8, age: Age) -> Standing {
        let record = session_record(of, OnRecord::Held { renewals });
        let mut observations = Observations::default();
        observations.note(&record, self.ago(process, age));
        let evidence = Evidence {
            now: NOW,
            observations: &observations,
            store: None,
            max_skew: None,
            sessions: &Sessions::NONE,
        };
        match session::standing(Some(&record), &evidence) {
            Standing::Open(Verdict::Expired(_)) if self.has(FamilySabotage::SessionNotEnded) => {
                Standing::Ended
            }
            standing => standing,
        }
    }

    fn intent(&self, process: usize, id: Id) -> Acquire {
        let member = &self.members[process];
        let want = Want {
            mode: mode(member.shared),
            permits: member.permits,
            limit: self.limit,
            session: Some(session_of(process)),
            queue: true,
        };
        Acquire {
            kind: self.kind,
            want,
            id: holder(id),
            ttl: TTL,
            owner: Owner::default(),
            payload: None,
            nonce: NONCE,
            above: token(0),
            reserve: 0,
            renews_in: None,
        }
    }

    /// Asks [`lock::release`]; `None` where there is nothing to give back.
    pub(super) fn released(&self, rec: &Rec, id: Id) -> Option<Rec> {
        let written = written(lock::release(&self.record(rec), own(id), None, NONCE, NOW.wall))?;
        let mut new = self.rec(&written);
        if self.has(FamilySabotage::HandedOverWithoutToken) {
            new.token = rec.token;
            for entry in new.holders.iter_mut().filter(|entry| rec.entry(entry.id).is_none()) {
                entry.token = rec.token;
            }
        }
        Some(new)
    }

    /// Asks [`lock::downgrade`].
    pub(super) fn downgraded(&self, rec: &Rec, id: Id) -> Option<Rec> {
        let written = written(lock::downgrade(&self.record(rec), own(id), NONCE, NOW.wall))?;
        Some(self.rec(&written))
    }

    /// Asks [`lock::shut_the_door`].
    pub(super) fn without(&self, rec: &Rec, id: Id) -> Rec {
        self.rec(&lock::shut_the_door(&self.record(rec), holder(id), NONCE, NOW.wall))
    }

    /// The record that the protocol sees.
    fn record(&self, rec: &Rec) -> Record {
        let mut record = self.template().clone();
        record.token = token(rec.token);
        let (lease, ticket) = (record.holders.remove(0), record.waiters.remove(0));
        let leases = rec.holders.iter().map(|entry| {
            let mut lease = lease.clone();
            (lease.id, lease.token) = (holder(entry.id), token(entry.token));
            lease.mode = mode(entry.shared);
            lease.permits = self.members[process_of(entry.id)].permits;
            lease.session = Some(session_of(process_of(entry.id)));
            lease
        });
        record.holders = leases.collect();
        let waiters = rec.waiters.iter().map(|id| {
            let (member, mut ticket) = (&self.members[process_of(*id)], ticket.clone());
            (ticket.id, ticket.session) = (holder(*id), session_of(process_of(*id)));
            (ticket.mode, ticket.permits) = (mode(member.shared), member.permits);
            ticket
        });
        record.waiters = waiters.collect();
        record
    }

    /// A record with an entry and a ticket, made by the protocol itself.
    fn template(&self) -> &Record {
        self.template.get_or_init(|| {
            let sessions = [0, 1].map(|of| {
                let alive = Verdict::AliveUntil(NOW.boot.plus(TTL));
                (session_of(of), Standing::Open(alive))
            });
            let evidence = Evidence {
                now: NOW,
                observations: &Observations::default(),
                store: None,
                max_skew: None,
                sessions: &sessions.into_iter().collect(),
            };
            let intent = |process: usize| {
                let mut intent = self.intent(process, id_of(process, 0));
                intent.want.mode = Mode::Exclusive;
                intent.want.permits = intent.want.limit;
                intent
            };
            let held = match lock::acquire(None, &evidence, &intent(0)) {
                AcquireDecision::Write { record, .. } => record,
                other => unreachable!("an absent record is there for the taking: {other:?}"),
            };
            match lock::acquire(Some(&held), &evidence, &intent(1)) {
                AcquireDecision::Queue(record) => *record,
                other => unreachable!("somebody who lives holds it: {other:?}"),
            }
        })
    }

    /// The record as this world keeps it.
    fn rec(&self, record: &Record) -> Rec {
        let entry = |lease: &Lease| Entry {
            id: self.id_of(lease.id),
            token: small(lease.token.get()),
            shared: lease.mode == Mode::Shared,
        };
        Rec {
            token: small(record.token.get()),
            holders: record.holders.iter().map(entry).collect(),
            waiters: record.waiters.iter().map(|ticket| self.id_of(ticket.id)).collect(),
        }
    }

    fn id_of(&self, holder_id: HolderId) -> Id {
        let ids = (0..self.members.len())
            .flat_map(|process| (0..self.acquisitions).map(move |number| id_of(process, number)));
        ids.into_iter().find(|id| holder(*id) == holder_id).expect("nobody else may be in it")
    }

    fn owner_of(&self, session: HolderId) -> usize {
        let mut all = 0..self.members.len();
        all.find(|process| session_of(*process) == session).expect("there are no other sessions")
    }
}

/// Asks [`lock::renew`] about a process's own session, of which this is on record; the renewals that
/// it then has, or `None` where it has ended.
pub(super) fn renew(process: usize, session: &Session, found: OnRecord) -> Option<u8> {
    let own = Own {
        id: session_of(process),
        renewals: u64::from(session.renewals),
        unresolved: session.unresolved,
    };
    let found = session_record(process, found);
    let written = written(lock::renew(&found, own, Renewal::default(), NONCE, NOW.wall))?;
    Some(small(written.holders[0].renewals))
}

/// Asks [`session::end`].
pub(super) fn end(process: usize, found: OnRecord) -> OnRecord {
    match session::end(&session_record(process, found), NONCE, NOW.wall).holders.first() {
        Some(lease) => OnRecord::Held { renewals: small(lease.renewals) },
        None => OnRecord::Ended,
    }
}

/// Takes note of a session's record that was read just now, as [`Observations::note`] does.
pub(super) fn note(process: &mut Process, of: usize, found: OnRecord) {
    let known = &mut process.known[of];
    *known = match (found, *known) {
        (OnRecord::Ended, _) => Known::Ended,
        (OnRecord::Held { renewals }, Known::Seen { renewals: seen, .. }) if seen == renewals => {
            *known
        }
        (OnRecord::Held { renewals }, _) => Known::Seen { renewals, age: 0 },
    };
}

/// The record of a session, made by the protocol itself.
fn session_record(process: usize, found: OnRecord) -> Record {
    static TEMPLATE: OnceLock<Record> = OnceLock::new();
    let template = TEMPLATE.get_or_init(|| {
        let evidence = Evidence {
            now: NOW,
            observations: &Observations::default(),
            store: None,
            max_skew: None,
            sessions: &Sessions::NONE,
        };
        let intent = Acquire {
            kind: Kind::Session,
            want: Want::ALONE,
            id: session_of(0),
            ttl: TTL,
            owner: Owner::default(),
            payload: None,
            nonce: NONCE,
            above: token(0),
            reserve: 0,
            renews_in: None,
        };
        match lock::acquire(None, &evidence, &intent) {
            AcquireDecision::Write { record, .. } => *record,
            other => unreachable!("its name is new: {other:?}"),
        }
    });
    let mut record = template.clone();
    match found {
        OnRecord::Held { renewals } => {
            record.holders[0].id = session_of(process);
            record.holders[0].renewals = u64::from(renewals);
        }
        OnRecord::Ended => record.holders.clear(),
    }
    record
}

fn written(decision: HolderDecision) -> Option<Record> {
    match decision {
        HolderDecision::Write(record) => Some(*record),
        HolderDecision::Gone(_) => None,
    }
}

fn own(id: Id) -> Own {
    Own { id: holder(id), renewals: 0, unresolved: false }
}

const fn mode(shared: bool) -> Mode {
    if shared { Mode::Shared } else { Mode::Exclusive }
}

fn small(number: u64) -> u8 {
    u8::try_from(number).expect("the model's numbers are small")
}

fn token(value: Token) -> FencingToken {
    FencingToken::new(u64::from(value)).expect("the model's numbers are small")
}

fn holder(id: Id) -> HolderId {
    HolderId::from_random(u128::from(id) + 1)
}

fn session_of(process: usize) -> HolderId {
    HolderId::from_random(process as u128 + 1_000)
}

/// The session under which a ticket stands that is believed to live for ever.
fn eternal(session: HolderId) -> HolderId {
    let of = (0..8).find(|process| session_of(*process) == session).unwrap_or_default();
    HolderId::from_random(of as u128 + 2_000)
}
