//! Calls that want a lock, and how they end.

use leaselock::{ErrorKind, HolderId};

use super::landing::call_of;
use super::quorum::Part;
use super::record::Seen;
use super::{CallCase, CallState, Check, Referee};
use crate::clock::Time;
use crate::events::{Event, Events};
use crate::machine::{Machine, State};

/// How a user asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `acquire`.
    Forever,
    /// `try_acquire`.
    Once,
    /// `acquire_timeout`.
    Until,
    /// `acquire`, dropped before it ends.
    Dropped,
}

/// How a call ends that acquires nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Somebody else holds it.
    Held,
    /// The work has been done.
    Done,
    /// The caller dropped the future.
    Dropped,
    /// It failed.
    Failed(ErrorKind),
}

impl Referee {
    pub(crate) fn call_begins(
        &mut self,
        now: Time,
        lock: usize,
        process: usize,
        incarnation: u32,
        user: usize,
        (mode, limited): (Mode, bool),
    ) -> usize {
        self.locks[lock].recording.add(user, Seen::Acquiring);
        let state = CallState::Pending;
        let (with, began) = (None, now);
        let crowd = None;
        let case =
            CallCase { lock, process, incarnation, user, mode, with, limited, crowd, began, state };
        self.calls.push(case);
        self.calls.len() - 1
    }

    /// A call has ended without the lock.
    pub(crate) fn call_ends(
        &mut self,
        now: Time,
        call: usize,
        outcome: Outcome,
        shut_down: bool,
        events: &mut Events,
    ) {
        let CallCase { lock, user, process, .. } = self.calls[call];
        self.locks[lock].recording.add(user, Seen::Acquired(None));
        self.calls[call].state = CallState::GivenUp(now);
        let crowd = self.calls[call].crowd;
        if crowd.is_some_and(|crowd| self.is_seated(lock, crowd)) {
            match outcome {
                Outcome::Dropped => self.counts.add("waiters in a process dropped"),
                Outcome::Held => self.counts.add("calls in vain beside a holder in the process"),
                _ => {}
            }
        }
        match outcome {
            Outcome::Held => self.counts.add("calls that found it held"),
            Outcome::Done => self.counts.add("calls that found it done"),
            Outcome::Dropped => self.counts.add("calls dropped"),
            Outcome::Failed(kind) => {
                self.counts.add(&format!("calls failed: {kind:?}"));
                self.judge_error(now, process, "a call that wants a lock", kind, shut_down);
            }
        }
        for lock in self.places_of(lock) {
            for id in self.on_record_of(call, lock) {
                self.watch_orphan(now, lock, id, events);
            }
        }
    }

    /// Errors that nothing in the world explains.
    pub(crate) fn judge_error(
        &mut self,
        now: Time,
        process: usize,
        what: &str,
        kind: ErrorKind,
        shut_down: bool,
    ) {
        let explained = match kind {
            ErrorKind::Unavailable | ErrorKind::PermissionDenied | ErrorKind::Lost => true,
            ErrorKind::ShutDown => shut_down,
            ErrorKind::Unconfirmed => {
                what == "a recording" || what == "the table" || what == "a gathering"
            }
            ErrorKind::Fenced { .. } | ErrorKind::Conflict => what == "the table",
            ErrorKind::TokenMismatch => what == "a break",
            ErrorKind::NotHeld => what == "a break" || what == "a resize",
            ErrorKind::LimitMismatch { .. } => {
                what == "a call that wants a lock" || what == "a resize"
            }
            _ => false,
        };
        if !explained {
            let promise = match kind {
                ErrorKind::Internal => "no call ends with an internal error",
                ErrorKind::UnreadableRecord => "every record that the library writes is readable",
                ErrorKind::UnfitStore => "a store that honours conditions is found fit",
                _ => "a call fails only for a reason",
            };
            self.violate(now, promise, || format!("p{process}: {what} ended with {kind:?}"));
        }
    }

    pub(crate) fn process_of(&self, call: usize) -> usize {
        self.calls[call].process
    }

    pub(crate) fn user_of(&self, call: usize) -> usize {
        self.calls[call].user
    }

    pub(crate) fn process_died(&mut self, process: usize) {
        for call in self.calls.iter_mut().filter(|call| call.process == process) {
            if call.state == CallState::Pending {
                call.state = CallState::Dead;
            }
        }
        for number in 0..self.guards.len() {
            let guard = &self.guards[number];
            if guard.process == process && !guard.over {
                self.guard_vanishes(number);
            }
        }
    }

    /// A waiter must follow a holder who has died, within the promised time.
    pub(crate) fn expect_successors(&mut self, now: Time, process: usize, events: &mut Events) {
        for (number, case) in self.locks.iter().enumerate() {
            let Some(lease) = case.record.as_ref().and_then(|record| record.holders.first()) else {
                continue;
            };
            // In a queue, the first of those who live sees to it that its turn comes.
            let first = case.record.as_ref().and_then(|record| record.waiters.first());
            let waiter = first.and_then(|ticket| call_of(&ticket.owner));
            if case.queue.is_some()
                && waiter.is_none_or(|waiter| self.calls[waiter].process == process)
            {
                continue;
            }
            // A session may have been renewed since it was looked at, and then has to be watched anew.
            let looks = if lease.session.is_some() { 2.0 } else { 1.0 };
            let tenancy = case.tenancies.get(&lease.id);
            let caller = tenancy.and_then(|tenancy| Some(self.calls[tenancy.call?].process));
            let shared = tenancy.and_then(|tenancy| Some(tenancy.shared.as_ref()?.crowd.process));
            if caller.or(shared) != Some(process) {
                continue;
            }
            let wait = (lease.ttl.mul_f64(1.02).as_secs_f64() + 0.05) * looks;
            // A look comes every 5 s at least; and a little for timers that are late.
            let bound = (wait + 5.0 + 0.1) * self.slow_second;
            let at = now + std::time::Duration::from_secs_f64(bound) + self.round_trip * 4;
            let (id, renewals) = (lease.id, lease.renewals);
            let check = Check::Successor { lock: number, id, renewals, died: now, waiter };
            events.add(at, Event::Check(check));
        }
    }

    pub(crate) fn check(
        &mut self,
        now: Time,
        check: Check,
        machines: &[Machine],
        events: &mut Events,
    ) {
        match check {
            Check::Orphan { lock, id } => self.check_orphan(now, lock, id, machines, events),
            Check::Successor { lock, id, renewals, died, waiter } => {
                self.check_successor(now, lock, id, renewals, (died, waiter), machines);
            }
        }
    }

    fn check_successor(
        &mut self,
        now: Time,
        lock: usize,
        id: HolderId,
        renewals: u64,
        (died, waiter): (Time, Option<usize>),
        machines: &[Machine],
    ) {
        let there = self.locks[lock].record.as_ref().and_then(|record| record.lease(id));
        let only = waiter.map(|waiter| &self.calls[waiter]);
        let waiter = self.calls.iter().find(|call| {
            let machine = &machines[call.process];
            call.lock == lock
                && only.is_none_or(|only| std::ptr::eq(only, *call))
                && call.mode == Mode::Forever
                && call.with.is_none()
                && call.state == CallState::Pending
                && call.began < died
                && call.incarnation == machine.incarnation
                && machine.state == State::Running
                && machine.troubled <= died
                && machine.disturbed.is_none_or(|at| at <= died)
        });
        let Some(waiter) = waiter else { return };
        self.counts.add("successions checked");
        if there.is_some_and(|lease| lease.renewals == renewals) {
            let process = waiter.process;
            self.violate(now, "every lease ends", || {
                format!(
                    "the holder died at {:.3} s, and p{process} still waits",
                    died.as_secs_f64()
                )
            });
        }
    }

    /// Looks later whether an acquisition that nobody has is still on record.
    pub(super) fn watch_orphan(&self, now: Time, lock: usize, id: HolderId, events: &mut Events) {
        events.add(now + self.grace(), Event::Check(Check::Orphan { lock, id }));
    }

    /// In which time whatever has been given up has left the record.
    pub(super) fn grace(&self) -> std::time::Duration {
        std::time::Duration::from_secs_f64(4.0 * self.slow_second) + self.round_trip * 8
    }

    /// Whose call was told that it has not acquired the lock, or is still waiting for it, must not
    /// be on record: it was mistaken for a rival's, or left behind (hazards H1, H2).
    fn check_orphan(
        &mut self,
        now: Time,
        lock: usize,
        id: HolderId,
        machines: &[Machine],
        events: &mut Events,
    ) {
        let case = &self.locks[lock];
        let Some(record) = &case.record else { return };
        let (ttl, session, landed, call) = match (record.lease(id), record.ticket(id)) {
            (Some(lease), _) if lease.released_at.is_some() => return,
            (Some(lease), _) => {
                let Some(tenancy) = case.tenancies.get(&id) else { return };
                if tenancy.shared.is_some() {
                    return self.check_unused(now, (lock, id), machines, events);
                }
                (lease.ttl, lease.session, tenancy.landed, tenancy.call)
            }
            (None, Some(ticket)) => {
                let Some((seen, call)) = case.queue.as_ref().and_then(|queue| queue.ticket(id))
                else {
                    return;
                };
                (ticket.ttl, Some(ticket.session), seen, call)
            }
            (None, None) => return,
        };
        let waits = record.lease(id).is_none();
        let Some(call) = call.map(|call| &self.calls[call]) else { return };
        let machine = &machines[call.process];
        let gone = machine.incarnation != call.incarnation || machine.state == State::Dead;
        if gone {
            return;
        }
        let since = match call.state {
            CallState::Acquired(acquired) if acquired == id => return,
            CallState::GivenUp(at) => at.max(landed),
            CallState::Pending if waits => return,
            // Which of its entries an acquisition over several stores still needs, only it knows.
            CallState::Acquired(_) | CallState::Pending if case.part == Part::Seat => return,
            // Of several locks, one is held while the next is waited for, and given back if it is lost.
            CallState::Acquired(_) | CallState::Pending if call.with.is_some() => return,
            CallState::Acquired(_) | CallState::Pending => landed,
            CallState::Dead => return,
        };
        if now < since + self.grace() {
            // Of a ticket that has become an entry since, or of a call that has ended since: another
            // look comes.
            return;
        }
        let troubled = machine.troubled.max(machine.disturbed.unwrap_or_default());
        // Undoing goes on for 0.9 of the lease at least, by a clock that may be fast and with pauses
        // between attempts, and then leaves it to expire.
        let patience = ttl.mul_f64(0.7);
        // An acquisition that was over before its call was given up has been undone since then.
        let unending =
            matches!(call.state, CallState::GivenUp(at) if troubled > at.min(landed) + patience);
        // Of several locks, one may have been lost while the next was waited for: left to expire, too.
        let lost = call.with.is_some() && troubled > landed;
        if call.limited || unending || lost {
            return;
        }
        if machine.state == State::Paused || troubled > since {
            if now < since + self.ttl {
                self.watch_orphan(now.max(troubled), lock, id, events);
            }
            // Recovered since, and still there?
            let settled = troubled + std::time::Duration::from_secs_f64(3.9 * self.slow_second);
            if machine.state == State::Paused || now < settled + self.round_trip * 8 {
                return;
            }
        }
        let state = call.state;
        if let Some(session) = session {
            // Undone while the session is held. Where that is lost it is not renewed any more, and
            // what is left on record is nobody's.
            let Some(renewed) = self.sessions.renewed(session) else { return };
            if renewed < since.max(troubled) + self.grace() {
                if now < since.max(troubled) + self.ttl * 4 {
                    self.watch_orphan(now, lock, id, events);
                }
                return;
            }
        }
        self.counts.add("orphans");
        self.violate(now, "what was given up does not stay on record", || {
            format!("{id} landed at {:.3} s, its call is {state:?}", since.as_secs_f64())
        });
    }

    fn on_record_of(&self, call: usize, lock: usize) -> Vec<HolderId> {
        let case = &self.locks[lock];
        let Some(record) = &case.record else { return Vec::new() };
        let holders = record.holders.iter().map(|lease| lease.id);
        let is_its = |id: &HolderId| {
            case.tenancies.get(id).is_some_and(|tenancy| tenancy.call == Some(call))
        };
        let waiters = record.waiters.iter().filter(|ticket| call_of(&ticket.owner) == Some(call));
        holders.filter(is_its).chain(waiters.map(|ticket| ticket.id)).collect()
    }
}
