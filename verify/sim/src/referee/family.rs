//! What is held under sessions: how long a session stands, and who may trust a guard under it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use leaselock::record::{Kind, Mode, Record};
use leaselock::{HolderId, LeaseStatus, LeaseWatch, LossReason};

use super::guards::{Ear, NOTICING, is_live, trusts};
use super::landing::Writer;
use super::queue::Queue;
use super::{Referee, Tenancy};
use crate::clock::Time;
use crate::machine::{Machine, State};
use crate::world::World;

/// How much of a lock a holder believes to have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claim {
    pub(crate) mode: Mode,
    pub(crate) permits: u32,
}

impl Claim {
    pub(crate) const ALONE: Self = Self { mode: Mode::Exclusive, permits: 1 };
}

/// All sessions that ever were.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    all: BTreeMap<HolderId, SessionCase>,
    /// Something has happened since guards under sessions were last asked.
    to_ask: bool,
}

#[derive(Debug)]
struct SessionCase {
    /// Whose it is.
    process: usize,
    /// Whether it is on record with its lease.
    stands: bool,
    /// When it was last written by its owner.
    renewed: Time,
    /// Somebody has relied on it: it is named in a record.
    named: bool,
    /// Since when an operator has put an end to it, of which its owner only hears at the next renewal.
    broken: Option<Time>,
    /// Its own process has deleted its record.
    deleted: bool,
}

impl Sessions {
    /// Guards under sessions are to be asked when this event is over.
    pub(super) fn ask(&mut self) {
        self.to_ask = true;
    }

    /// It has ended on the store, or never was there.
    pub(super) fn is_over(&self, session: HolderId) -> bool {
        self.all.get(&session).is_none_or(|case| !case.stands)
    }

    /// When it was last renewed, if it stands.
    pub(super) fn renewed(&self, session: HolderId) -> Option<Time> {
        self.all.get(&session).filter(|case| case.stands).map(|case| case.renewed)
    }

    pub(super) fn broken(&self, session: HolderId) -> Option<Time> {
        self.all.get(&session)?.broken
    }

    /// A record names it.
    pub(super) fn name(&mut self, session: HolderId) {
        if let Some(case) = self.all.get_mut(&session) {
            case.named = true;
        }
    }
}

impl Referee {
    /// A write of a session's record has landed.
    pub(super) fn session_landed(&mut self, now: Time, writer: Writer, key: &str, body: &Bytes) {
        let Some(session) = session_of(key) else { return };
        let Writer { process, operator } = writer;
        let record = match Record::decode_of(Kind::Session, body) {
            Ok(record) => record,
            Err(fault) => {
                let promise = "every record that the library writes is readable";
                return self.violate(now, promise, || format!("p{process}: {fault}"));
            }
        };
        self.sessions.ask();
        let stands = !record.holders.is_empty();
        let Some(case) = self.sessions.all.get_mut(&session) else {
            let case = SessionCase {
                process,
                stands,
                renewed: now,
                named: false,
                broken: None,
                deleted: false,
            };
            self.sessions.all.insert(session, case);
            return self.counts.add("sessions");
        };
        let (stood, owner) = (std::mem::replace(&mut case.stands, stands), case.process);
        let (named, deleted) = (case.named, std::mem::take(&mut case.deleted));
        if owner == process {
            case.renewed = now;
        }
        match (stood, stands) {
            (true, false) if operator => {
                case.broken = Some(now);
                self.counts.add("sessions broken");
                self.excuse(now, session);
            }
            (true, false) if owner == process => self.counts.add("sessions given back"),
            (true, false) => self.counts.add("sessions ended by contenders"),
            (true, true) if owner != process => {
                self.violate(now, "only its owner renews a session", || {
                    format!("p{process} wrote {session} of p{owner}")
                });
            }
            // Its own create, which was sent again or was late. Nobody holds by it, and it runs out.
            (false, true) if deleted => self.counts.add("sessions created again by a late write"),
            (false, true) if named => {
                self.violate(now, "a session that has ended never stands again", || {
                    format!("p{process} wrote {session}")
                });
            }
            _ => {}
        }
    }

    /// Whether it is a session that may be deleted: one that has been given back.
    pub(crate) fn session_deleted(&mut self, now: Time, process: usize, key: &str) -> bool {
        let Some(session) = session_of(key) else { return false };
        let Some(case) = self.sessions.all.get_mut(&session) else { return true };
        let (stood, owner) = (std::mem::replace(&mut case.stands, false), case.process);
        case.deleted = true;
        self.sessions.ask();
        self.counts.add("sessions deleted");
        if owner != process || stood {
            self.violate(now, "only a session that has ended is deleted, by its owner", || {
                format!("p{process} deleted {session} of p{owner}")
            });
        }
        true
    }

    /// Everybody who holds under this session only hears at its next renewal that it was broken.
    fn excuse(&mut self, now: Time, session: HolderId) {
        for case in &mut self.locks {
            for tenancy in case.tenancies.values_mut() {
                if tenancy.session == Some(session) && tenancy.left.is_none() {
                    tenancy.excused.get_or_insert(now);
                    case.tainted = true;
                }
            }
        }
    }

    pub(super) fn is_session_over(&self, tenancy: Option<&Tenancy>) -> bool {
        let session = tenancy.and_then(|tenancy| tenancy.session);
        session.is_some_and(|session| self.sessions.is_over(session))
    }

    /// What the holder believes to have.
    pub(crate) fn guard_claims(&mut self, number: usize, claim: Claim) {
        self.guards[number].claim = claim;
        self.sessions.ask();
    }

    /// Its holder waits for an answer about it, and hears of its loss by that.
    pub(crate) fn guard_is_busy(&mut self, number: usize, busy: bool) {
        self.guards[number].busy = busy;
    }

    /// A writer was told that it is a reader now.
    pub(crate) fn downgraded(&mut self, now: Time, number: usize) {
        self.counts.add("downgrades");
        let guard = &self.guards[number];
        let (lock, id) = (guard.lock, guard.id);
        let record = self.locks[lock].record.as_ref();
        if record
            .and_then(|record| record.lease(id))
            .is_some_and(|lease| lease.mode != Mode::Shared)
        {
            self.violate(now, "who was downgraded reads", || format!("{id}"));
        }
    }

    /// A holder has lost what it held under a session, and was told why.
    pub(crate) fn lost_under_session(
        &mut self,
        now: Time,
        number: usize,
        reason: &LossReason,
        closed: bool,
    ) {
        let guard = &self.guards[number];
        let (id, process) = (guard.id, guard.process);
        let tenancy = self.locks[guard.lock].tenancies.get(&id);
        if tenancy.is_some_and(|tenancy| tenancy.session.is_some()) {
            self.counts.add("sessions lost while holding");
        }
        if *reason == LossReason::SessionClosed && !closed {
            self.violate(now, "a session that is used is not closed", || {
                format!("p{process}'s {id}")
            });
        }
    }

    /// Who is to be asked, if it may matter now.
    fn guards_to_ask(&mut self, machines: &[Machine]) -> Vec<(usize, Arc<LeaseWatch>)> {
        if !std::mem::take(&mut self.sessions.to_ask) {
            return Vec::new();
        }
        let guards = self.guards.iter().enumerate();
        let there = guards
            .filter(|(_, guard)| !guard.over && machines[guard.process].state == State::Running);
        there
            .filter_map(|(number, guard)| match &guard.ear {
                Ear::Asks(watch) => Some((number, Arc::clone(watch))),
                Ear::Told(_) => None,
            })
            .collect()
    }

    /// What guards have answered, at this very instant.
    fn judge_answers(
        &mut self,
        now: Time,
        answers: Vec<(usize, LeaseStatus)>,
        machines: &[Machine],
    ) {
        for (number, status) in answers {
            self.check_told_of_session(now, number, machines);
            let guard = &mut self.guards[number];
            if !is_live(&guard.status) && is_live(&status) {
                let (id, process) = (guard.id, guard.process);
                self.violate(now, "a guard that was lost never says held again", || {
                    format!("p{process}'s {id}")
                });
            }
            self.guards[number].status = status;
        }
        for lock in 0..self.locks.len() {
            if self.locks[lock].queue.is_some() {
                self.check_trust_of_many(now, lock, machines);
            }
        }
    }

    /// Whoever holds nothing any more by what is on the store has been told by now, if its process runs.
    fn check_told_of_session(&mut self, now: Time, number: usize, machines: &[Machine]) {
        let guard = &self.guards[number];
        let (id, process, machine) = (guard.id, guard.process, &machines[guard.process]);
        let calm = machine.disturbed.is_none_or(|at| now > at + NOTICING);
        let tenancy = self.locks[guard.lock].tenancies.get(&id);
        let gone = tenancy.is_some_and(|tenancy| tenancy.left.is_some());
        let excused = tenancy.is_some_and(|tenancy| tenancy.excused.is_some());
        let over = gone || self.is_session_over(tenancy);
        if over && calm && !excused && !guard.releasing && !guard.busy && !machine.shutting_down {
            self.violate(now, "lost() completes before anybody else may enter", || {
                format!("p{process}'s {id}")
            });
        }
    }

    /// Those whose guards say held at this instant may hold together, and each is on record.
    fn check_trust_of_many(&mut self, now: Time, lock: usize, machines: &[Machine]) {
        let mut together: Vec<usize> = Vec::new();
        for number in 0..self.guards.len() {
            let guard = &self.guards[number];
            if guard.lock != lock || guard.over || !trusts(guard, now, machines) {
                continue;
            }
            let (id, process) = (guard.id, guard.process);
            let tenancy = self.locks[lock].tenancies.get(&id).cloned();
            if let Some(since) = tenancy.as_ref().and_then(|tenancy| tenancy.excused) {
                let longest = guard.ttl.as_secs_f64() * 0.9 * self.slow_second + 0.001;
                if now > since + Duration::from_secs_f64(longest) {
                    self.violate(now, "a broken lease is noticed in time", || {
                        format!("p{process}'s {id}")
                    });
                }
                self.counts.add("guards trusted after a session was broken");
                continue;
            }
            if let Some(left) = tenancy.as_ref().and_then(|tenancy| tenancy.left) {
                self.violate(now, "a guard is lost before anybody else may enter", || {
                    let left = left.as_secs_f64();
                    format!("p{process} trusts {id}, which left the record at {left:.6} s")
                });
            }
            if self.is_session_over(tenancy.as_ref()) {
                self.violate(now, "a guard is lost before its session may be ended", || {
                    format!("p{process} trusts {id}")
                });
            }
            self.judge_majority(now, number);
            together.push(number);
        }
        self.judge_company(now, lock, &together);
    }

    fn judge_company(&mut self, now: Time, lock: usize, together: &[usize]) {
        let name = |number: &usize| {
            let guard = &self.guards[*number];
            format!("p{}'s {}", guard.process, guard.id)
        };
        let names = together.iter().map(name).collect::<Vec<_>>().join(", ");
        let claims: Vec<_> = together.iter().map(|number| self.guards[*number].claim).collect();
        let kind = self.locks[lock].kind;
        if kind == Kind::Semaphore {
            let permits: u32 = claims.iter().map(|claim| claim.permits).sum();
            let most = self.locks[lock].queue.as_ref().map_or(0, Queue::largest_limit);
            if permits > most {
                self.violate(now, "never more permits are trusted than there are", || {
                    format!("{permits} of {most}: {}", names)
                });
            }
        } else if claims.len() > 1 && claims.iter().any(|claim| claim.mode == Mode::Exclusive) {
            self.violate(now, "nobody is trusted beside one who holds it alone", || names);
        }
        if claims.len() > 1 {
            self.counts.add(match kind {
                Kind::Semaphore => "times several held permits",
                _ => "times several read",
            });
        }
    }
}

impl World {
    /// Guards that have to be asked now, while nobody has the world.
    pub(crate) fn guards_to_ask(&mut self) -> Vec<(usize, Arc<LeaseWatch>)> {
        self.referee.guards_to_ask(&self.machines)
    }

    /// What they have said.
    pub(crate) fn hear(&mut self, answers: Vec<(usize, LeaseStatus)>) {
        self.referee.judge_answers(self.now, answers, &self.machines);
    }
}

/// The session whose record lies under this key.
fn session_of(key: &str) -> Option<HolderId> {
    key.strip_prefix(".leaselock/sessions/")?.strip_suffix(".session")?.parse().ok()
}
