//! Guards: who may trust which, and when.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use leaselock::clock::Wall;
use leaselock::{HolderId, LeasePhase, LeaseStatus, LeaseWatch, LossReason, Release};

use super::quorum::Part;
use super::record::Seen;
use super::{CallState, Claim, GuardCase, Referee, Tenancy};
use crate::clock::{Time, showing};
use crate::machine::{Machine, State};

/// How long a keeper may take to notice that a clock jumped or its process was stopped: it looks
/// every second.
pub(super) const NOTICING: Duration = Duration::from_millis(1200);

/// How the referee hears how a guard's lease stands.
#[derive(Debug)]
pub(crate) enum Ear {
    /// The guard's keeper tells.
    Told(LeaseWatch),
    /// A guard under a session has none, so it is asked: as it may be by anybody at any time.
    Asks(Arc<LeaseWatch>),
}

impl Referee {
    /// A call has been given a guard.
    #[allow(clippy::too_many_arguments, reason = "what is known of a guard")]
    pub(crate) fn guard_begins(
        &mut self,
        now: Time,
        call: usize,
        id: HolderId,
        token: u64,
        ttl: Duration,
        ear: Ear,
        status: LeaseStatus,
        machines: &[Machine],
    ) -> usize {
        let id = self.seat(now, call, (id, token), &status, machines);
        let case = &mut self.calls[call];
        let seat = case.crowd.map(|_| token);
        case.state = CallState::Acquired(id);
        let (lock, process, user) = (case.lock, case.process, case.user);
        let recording = &mut self.locks[lock].recording;
        recording.add(user, Seen::Acquired(Some(token)));
        let looked = recording.leave_room();
        self.counts.add("acquisitions");
        if self.locks[lock].part == Part::Whole {
            self.wins(now, call, id, token);
        }
        let crowd = self.calls[call].crowd;
        let tenancy = self.locks[lock].tenancies.get(&id);
        let is_its = |tenancy: &Tenancy| match crowd {
            Some(crowd) => tenancy.shared.as_ref().is_some_and(|shared| shared.crowd == crowd),
            None => tenancy.call == Some(call),
        };
        if !tenancy.is_some_and(is_its) {
            self.violate(now, "one owner on record", || {
                format!("p{process} was given {id}, which was never on record as its own")
            });
        }
        self.guards.push(GuardCase {
            lock,
            process,
            user,
            id,
            ttl,
            ear,
            status,
            over: false,
            denied: false,
            releasing: false,
            looked,
            claim: Claim::ALONE,
            busy: false,
            seat,
        });
        self.judge_entry(now, self.guards.len() - 1, token, machines);
        self.check_trust(now, lock, machines);
        self.guards.len() - 1
    }

    /// A holder has asked its guard.
    pub(crate) fn guard_looked(
        &mut self,
        now: Time,
        number: usize,
        held: bool,
        machines: &[Machine],
    ) {
        self.refresh(now, number, machines);
        let guard = &self.guards[number];
        let (lock, user, id, process) = (guard.lock, guard.user, guard.id, guard.process);
        if !held {
            self.guards[number].denied = true;
            return;
        }
        let (denied, trusted) = (guard.denied, trusts(guard, now, machines));
        let status = format!("{:?}", guard.status);
        if denied {
            self.violate(now, "a guard that was lost never says held again", || {
                format!("p{process}'s {id}")
            });
        }
        if !trusted {
            self.violate(now, "a guard says held only before its deadline", || {
                format!("p{process}'s {id}: {status}")
            });
        }
        let token = self.token_of(number);
        let recording = &mut self.locks[lock].recording;
        recording.add(user, Seen::Trusted(token));
        self.guards[number].looked = recording.leave_room();
        self.check_trust(now, lock, machines);
    }

    /// A holder has reported progress: nobody is told, but its deadline may have moved.
    pub(crate) fn guard_touched(&mut self, number: usize, status: LeaseStatus) {
        self.guards[number].status = status;
    }

    /// A holder has lost its lease.
    pub(crate) fn guard_lost(
        &mut self,
        now: Time,
        number: usize,
        reason: &LossReason,
        machines: &[Machine],
    ) {
        self.guard_ends(now, number, machines);
        self.seat_left(now, number, Some(reason));
        self.judge_loss(now, number, reason);
    }

    /// A lease that its guard had left on record has one again.
    pub(crate) fn guard_resumed(
        &mut self,
        now: Time,
        number: usize,
        ear: Ear,
        status: LeaseStatus,
        machines: &[Machine],
    ) {
        self.refresh(now, number, machines);
        let guard = &mut self.guards[number];
        let (lock, id, process) = (guard.lock, guard.id, guard.process);
        if trusts(guard, now, machines) {
            self.violate(now, "a lease that was left is not held by who left it", || {
                format!("p{process}'s {id}")
            });
        }
        let guard = &mut self.guards[number];
        (guard.ear, guard.status, guard.denied) = (ear, status, false);
        self.check_trust(now, lock, machines);
    }

    /// A lease that its guard had left was given back, or is said to be lost.
    pub(crate) fn guard_is_off_record(&mut self, now: Time, number: usize) {
        let guard = &self.guards[number];
        let (id, process) = (guard.id, guard.process);
        let record = self.locks[guard.lock].record.as_ref();
        let there = record.and_then(|record| record.lease(id));
        if there.is_some_and(|lease| lease.released_at.is_none()) {
            self.violate(now, "a lease that was left is lost only for a reason", || {
                format!("p{process}'s {id}")
            });
        }
    }

    /// A guard has ended some time after its holder had looked at it for the last time.
    pub(crate) fn guard_ends(&mut self, now: Time, number: usize, machines: &[Machine]) {
        self.refresh(now, number, machines);
        self.guard_vanishes(number);
        self.seat_left(now, number, None);
        let guard = &self.guards[number];
        let (lock, user) = (guard.lock, guard.user);
        self.locks[lock].recording.add(user, Seen::Ended);
    }

    /// A holder begins to give its lock back: from here on its guard may not say held.
    pub(crate) fn guard_releasing(&mut self, number: usize) {
        let guard = &self.guards[number];
        let (lock, user, token) = (guard.lock, guard.user, self.token_of(number));
        self.locks[lock].recording.add(user, Seen::Ending(token));
        self.guards[number].releasing = true;
    }

    /// It was given back, or not; nothing is known where the caller dropped the future.
    pub(crate) fn guard_released(
        &mut self,
        now: Time,
        number: usize,
        release: Option<&Release>,
        machines: &[Machine],
    ) {
        self.refresh(now, number, machines);
        let guard = &self.guards[number];
        let (lock, user, id, process) = (guard.lock, guard.user, guard.id, guard.process);
        if trusts(guard, now, machines) {
            self.violate(now, "a guard that is given back says so at once", || {
                format!("p{process}'s {id}")
            });
        }
        self.guards[number].over = true;
        let loss = match release {
            Some(Release::AlreadyLost(reason)) => Some(reason),
            _ => None,
        };
        self.seat_left(now, number, loss);
        self.locks[lock].recording.add(user, Seen::Ended);
        match release {
            Some(Release::Released) => {
                self.counts.add("releases");
                self.judge_given_back(now, number);
                let record = self.locks[lock].record.as_ref();
                let there = record.and_then(|record| record.lease(id));
                let seated = self.guards[number].seat.is_some();
                if !seated && there.is_some_and(|lease| lease.released_at.is_none()) {
                    self.violate(now, "what was released is free", || format!("{id}"));
                }
            }
            Some(Release::AlreadyLost(reason)) => self.judge_loss(now, number, reason),
            Some(Release::Unconfirmed) => self.counts.add("releases unconfirmed"),
            None => self.counts.add("releases unheard of"),
        }
    }

    /// Its process has died, or nobody asks it any more: it has ended some time after it was
    /// looked at for the last time.
    pub(super) fn guard_vanishes(&mut self, number: usize) {
        let token = self.token_of(number);
        let guard = &mut self.guards[number];
        guard.over = true;
        if !guard.releasing {
            let (lock, user, looked) = (guard.lock, guard.user, guard.looked);
            self.locks[lock].recording.fill(looked, user, Seen::Ending(token));
        }
    }

    /// A process goes on after a pause: only now can it be wrong about its guards.
    pub(crate) fn process_resumed(&mut self, now: Time, process: usize, machines: &[Machine]) {
        for lock in 0..self.locks.len() {
            if self
                .guards
                .iter()
                .any(|guard| !guard.over && (guard.lock, guard.process) == (lock, process))
            {
                self.check_trust(now, lock, machines);
            }
        }
    }

    /// At most one guard of a lock may be trusted, and only one whose acquisition is on record.
    pub(super) fn check_trust(&mut self, now: Time, lock: usize, machines: &[Machine]) {
        if self.locks[lock].queue.is_some() || self.locks[lock].part == Part::Seat {
            return self.sessions.ask();
        }
        let mut trusted = None;
        for number in 0..self.guards.len() {
            if self.guards[number].lock != lock || self.guards[number].over {
                continue;
            }
            self.refresh(now, number, machines);
            let guard = &self.guards[number];
            if !trusts(guard, now, machines) {
                continue;
            }
            let (id, process) = (guard.id, guard.process);
            let tenancy = self.locks[lock].tenancies.get(&id);
            if let Some(since) = tenancy.and_then(|tenancy| tenancy.excused) {
                let longest = guard.ttl.as_secs_f64() * 0.9 * self.slow_second + 0.001;
                if now > since + Duration::from_secs_f64(longest) {
                    self.violate(now, "a broken lease is noticed in time", || {
                        format!("p{process}'s {id}")
                    });
                }
                self.counts.add("guards trusted after a break or a deletion");
                continue;
            }
            if let Some(left) = tenancy.and_then(|tenancy| tenancy.left) {
                self.violate(now, "a guard is lost before anybody else may enter", || {
                    let left = left.as_secs_f64();
                    format!("p{process} trusts {id}, which left the record at {left:.6} s")
                });
            }
            if let Some((other, by)) = trusted.replace((id, process)) {
                self.violate(now, "two guards of one lock are never trusted at once", || {
                    format!("p{by}'s {other} and p{process}'s {id}")
                });
            }
        }
    }

    /// Somebody has entered: in a process that runs, everybody before has been told by now.
    pub(super) fn check_told(&mut self, now: Time, lock: usize, machines: &[Machine]) {
        for number in 0..self.guards.len() {
            let guard = &self.guards[number];
            if guard.lock != lock || guard.over {
                continue;
            }
            self.refresh(now, number, machines);
            let guard = &self.guards[number];
            let machine = &machines[guard.process];
            let excused = self.locks[lock].tenancies.get(&guard.id);
            let calm = machine.disturbed.is_none_or(|at| now > at + NOTICING);
            if is_live(&guard.status)
                && machine.state == State::Running
                && calm
                && excused.is_none_or(|tenancy| tenancy.excused.is_none())
            {
                let (id, process) = (guard.id, guard.process);
                self.violate(now, "lost() completes before anybody else may enter", || {
                    format!("p{process}'s {id}")
                });
            }
        }
    }

    fn judge_loss(&mut self, now: Time, number: usize, reason: &LossReason) {
        let guard = &self.guards[number];
        let (lock, id, process) = (guard.lock, guard.id, guard.process);
        let case = &self.locks[lock];
        let tenancy = case.tenancies.get(&id);
        let with = self.tenancy_with(tenancy);
        let both = || [tenancy, with].into_iter().flatten();
        let left = both().any(|tenancy| tenancy.left.is_some());
        let word = format!("{reason:?}");
        let word = word.split([' ', '{']).next().unwrap_or_default();
        let justified = match reason {
            LossReason::TakenOver { .. } if case.part == Part::Whole => {
                self.has_lost_a_seat(tenancy.and_then(|tenancy| tenancy.call))
            }
            LossReason::TakenOver { .. } => left || self.is_session_over(tenancy),
            LossReason::Broken { .. } => both().any(|tenancy| tenancy.excused.is_some()),
            LossReason::RecordDeleted => {
                let call = tenancy.and_then(|tenancy| self.calls[tenancy.call?].with);
                let with = call.map(|call| &self.locks[self.calls[call].lock]);
                case.deleted.is_some() || with.is_some_and(|with| with.deleted.is_some())
            }
            LossReason::Cloned | LossReason::RecordUnreadable | LossReason::KeeperStopped => false,
            LossReason::SessionClosed => guard.seat.is_none(),
            _ => true,
        };
        self.counts.add(&format!("losses: {word}"));
        if !justified {
            self.violate(now, "a lease is lost only for a reason", || {
                format!("p{process}'s {id}: {reason}")
            });
        }
    }

    pub(crate) fn holder_of(&self, number: usize) -> usize {
        self.guards[number].process
    }

    pub(super) fn token_of(&self, number: usize) -> u64 {
        let guard = &self.guards[number];
        let tenancy = self.locks[guard.lock].tenancies.get(&guard.id);
        guard.seat.or(tenancy.map(|tenancy| tenancy.token)).unwrap_or_default()
    }

    /// Hears how a guard's lease stands, without asking the guard: that would make it look at its
    /// clocks. A guard by a lease that is handed on looks when something has become of the lease.
    pub(super) fn refresh(&mut self, now: Time, number: usize, machines: &[Machine]) {
        let guard = &mut self.guards[number];
        let moment = machines[guard.process].dial.moment(now);
        let Ear::Told(watch) = &mut guard.ear else { return };
        let was_live = is_live(&guard.status);
        let mut revived = None;
        loop {
            let changed = tokio::task::unconstrained(watch.changed());
            let changed = pin!(changed);
            match showing(moment, || changed.poll(&mut Context::from_waker(Waker::noop()))) {
                Poll::Ready(status) => {
                    if !was_live && is_live(&status) {
                        revived = Some((guard.process, guard.id));
                    }
                    guard.status = status;
                }
                Poll::Pending => break,
            }
        }
        if let Some((process, id)) = revived {
            self.violate(now, "a guard that was lost never says held again", || {
                format!("p{process}'s {id}")
            });
        }
    }
}

pub(super) fn is_live(status: &LeaseStatus) -> bool {
    matches!(status.phase, LeasePhase::Held | LeasePhase::AtRisk)
}

/// Whether the guard would say held to a process that runs, by the process's own clocks.
pub(super) fn trusts(guard: &GuardCase, now: Time, machines: &[Machine]) -> bool {
    let machine = &machines[guard.process];
    let moment = machine.dial.moment(now);
    machine.state == State::Running
        && is_live(&guard.status)
        && moment.boot.since_origin() < guard.status.boot_deadline
        && moment.wall < Wall::from(guard.status.wall_deadline)
}
