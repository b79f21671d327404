//! Leases that are handed on inside a process, from one user of an opened store to the next.

use leaselock::{HolderId, LeaseStatus, LossReason, Owner};

use super::guards::{is_live, trusts};
use super::{CallState, Check, Referee, Tenancy};
use crate::clock::Time;
use crate::events::{Event, Events};
use crate::machine::{Machine, State};

/// For how long a process hands a lease on before it is the others' turn (hazard H29), and what the
/// simulation's clocks are rounded by.
const TURN: Time = Time::from_micros(500_010);

/// Those who hold by one lease: the users of one opened store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crowd {
    pub(crate) process: usize,
    pub(crate) incarnation: u32,
    pub(crate) handle: usize,
}

/// What has become of a lease that is handed on.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) crowd: Crowd,
    /// The largest token that a write has reserved.
    reserved: u64,
    /// When the first of them has held by it.
    began: Option<Time>,
    /// When the last of them stopped to.
    left: Option<Time>,
    /// It was lost: nobody gives it back.
    lost: bool,
}

impl Crowd {
    /// What they call themselves on record: all the same, or nobody would be handed anything.
    pub(crate) fn label(self) -> String {
        format!("s{}.{}.{}", self.process, self.incarnation, self.handle)
    }

    pub(super) fn of(owner: &Owner) -> Option<Self> {
        let mut numbers = owner.label.strip_prefix('s')?.split('.');
        let process = numbers.next()?.parse().ok()?;
        let incarnation = numbers.next()?.parse().ok()?;
        let handle = numbers.next()?.parse().ok()?;
        Some(Self { process, incarnation, handle })
    }
}

impl Shared {
    pub(super) fn new(crowd: Crowd, token: u64) -> Self {
        Self { crowd, reserved: token, began: None, left: None, lost: false }
    }
}

impl Referee {
    /// Whoever calls is content with a lease of its crowd.
    pub(crate) fn call_shares(&mut self, call: usize, crowd: Crowd) {
        self.calls[call].crowd = Some(crowd);
    }

    /// A write of a record has landed: what it has reserved for the crowd that holds it.
    pub(super) fn note_reserved(&mut self, lock: usize) {
        let case = &mut self.locks[lock];
        let Some(record) = &case.record else { return };
        let Some(lease) = record.holders.first() else { return };
        let tenancy = case.tenancies.get_mut(&lease.id);
        let Some(shared) = tenancy.and_then(|tenancy| tenancy.shared.as_mut()) else { return };
        let before = std::mem::replace(&mut shared.reserved, record.token.get());
        if before < shared.reserved {
            let how = if lease.renewals == 0 { "an acquisition" } else { "a renewal" };
            self.counts.add(&format!("tokens reserved by {how}"));
        }
    }

    /// One of a crowd holds: by which lease.
    pub(super) fn seat(
        &mut self,
        now: Time,
        call: usize,
        (id, token): (HolderId, u64),
        status: &LeaseStatus,
        machines: &[Machine],
    ) -> HolderId {
        let (lock, Some(crowd)) = (self.calls[call].lock, self.calls[call].crowd) else {
            return id;
        };
        let its = |tenancy: &Tenancy| {
            tenancy.token <= token && tenancy.shared.as_ref().is_some_and(|it| it.crowd == crowd)
        };
        let tenancies = self.locks[lock].tenancies.iter_mut().filter(|(_, tenancy)| its(tenancy));
        let Some((lease, tenancy)) = tenancies.max_by_key(|(_, tenancy)| tenancy.token) else {
            return id;
        };
        let (lease, first) = (*lease, tenancy.token);
        let Some(shared) = &mut tenancy.shared else { return id };
        let process = crowd.process;
        if lease == id {
            shared.began.get_or_insert(now);
            if token != first {
                self.violate(now, "one owner on record", || {
                    format!("p{process} was given {token} for {first}")
                });
            }
            return lease;
        }
        let (reserved, began) = (shared.reserved, shared.began);
        let machine = &machines[process];
        self.counts.add("handed over inside a process");
        if !is_live(status) && !machine.shutting_down {
            self.violate(now, "who is handed a lock holds it", || {
                format!("p{process} was given {token}: {:?}", status.phase)
            });
        }
        if token > reserved {
            self.violate(now, "a token is handed on only after a write has reserved it", || {
                format!("p{process} was given {token} of {reserved}")
            });
        }
        let calm = |began: &Time| machine.disturbed.is_none_or(|at| at < *began);
        if let Some(began) = began.filter(calm) {
            let dial = &machine.dial;
            if dial.boot(now).since(dial.boot(began)) > TURN {
                self.violate(now, "a process hands a lock on for half a second at most", || {
                    format!("p{process} has held since {:.6} s", began.as_secs_f64())
                });
            }
        }
        lease
    }

    /// Whoever is trusted when it is given the lock has entered after all others.
    pub(super) fn judge_entry(
        &mut self,
        now: Time,
        number: usize,
        token: u64,
        machines: &[Machine],
    ) {
        let guard = &self.guards[number];
        let (lock, process) = (guard.lock, guard.process);
        let case = &mut self.locks[lock];
        let excused = case.tenancies.get(&guard.id).and_then(|tenancy| tenancy.excused);
        if case.queue.is_some() || excused.is_some() || !trusts(guard, now, machines) {
            return;
        }
        let entered = case.entered;
        case.entered = entered.max(token);
        if token <= entered {
            self.violate(now, "tokens rise", || {
                format!("p{process} was given {token} after {entered}")
            });
        }
    }

    /// One of a crowd has stopped to hold, and why if it has lost the lease.
    pub(super) fn seat_left(&mut self, now: Time, number: usize, loss: Option<&LossReason>) {
        let guard = &self.guards[number];
        if guard.seat.is_none() {
            return;
        }
        let (lock, id) = (guard.lock, guard.id);
        let tenancy = self.locks[lock].tenancies.get_mut(&id);
        let Some(shared) = tenancy.and_then(|tenancy| tenancy.shared.as_mut()) else { return };
        shared.left = Some(now);
        let crowd = shared.crowd;
        if loss.is_some() && !std::mem::replace(&mut shared.lost, true) && self.waits(lock, crowd) {
            self.counts.add("leases lost that others in the process waited for");
        }
    }

    /// Whether any of a crowd waits for this lock.
    pub(super) fn waits(&self, lock: usize, crowd: Crowd) -> bool {
        self.calls.iter().rev().any(|call| {
            call.lock == lock && call.crowd == Some(crowd) && call.state == CallState::Pending
        })
    }

    /// Whether any of a crowd holds this lock.
    pub(super) fn is_seated(&self, lock: usize, crowd: Crowd) -> bool {
        let its = |id: &HolderId| {
            let tenancy = self.locks[lock].tenancies.get(id);
            let shared = tenancy.and_then(|tenancy| tenancy.shared.as_ref());
            shared.is_some_and(|shared| shared.crowd == crowd)
        };
        self.guards.iter().any(|guard| guard.lock == lock && !guard.over && its(&guard.id))
    }

    /// Whether anybody in this process waits behind another of its crowd, who holds or contends for all.
    pub(crate) fn has_queue(&self, process: usize) -> bool {
        let waiting = self.calls.iter().filter(|call| call.state == CallState::Pending);
        let waiting = waiting.filter_map(|call| Some((call.lock, call.crowd?)));
        let waiting: Vec<_> = waiting.filter(|(_, crowd)| crowd.process == process).collect();
        waiting
            .iter()
            .enumerate()
            .any(|(number, one)| waiting[..number].contains(one) || self.is_seated(one.0, one.1))
    }

    /// Looks later at the lease that a guard was held by, when somebody has stopped to hold.
    pub(crate) fn watch_lease_of(&self, now: Time, number: usize, events: &mut Events) {
        let guard = &self.guards[number];
        if guard.seat.is_some() {
            self.watch_orphan(now, guard.lock, guard.id, events);
        }
    }

    /// A lease that nobody in its process holds by any more is handed on or given back, unless it was
    /// lost.
    pub(super) fn check_unused(
        &mut self,
        now: Time,
        (lock, id): (usize, HolderId),
        machines: &[Machine],
        events: &mut Events,
    ) {
        let held = |number: &usize| {
            let guard = &self.guards[*number];
            (guard.lock, guard.id) == (lock, id) && !guard.over
        };
        let Some(tenancy) = self.locks[lock].tenancies.get(&id) else { return };
        let Some(shared) = &tenancy.shared else { return };
        let crowd = shared.crowd;
        let machine = &machines[crowd.process];
        let gone = machine.incarnation != crowd.incarnation || machine.state != State::Running;
        let excused = tenancy.excused.is_some();
        if gone
            || shared.lost
            || excused
            || (0..self.guards.len()).rev().any(|number| held(&number))
        {
            return;
        }
        let since = shared.left.unwrap_or(tenancy.landed);
        let troubled = machine.troubled.max(machine.disturbed.unwrap_or_default());
        if troubled > tenancy.landed {
            return;
        }
        if now < since + self.grace() {
            events.add(since + self.grace(), Event::Check(Check::Orphan { lock, id }));
            return;
        }
        let since = since.as_secs_f64();
        if self.waits(lock, crowd) {
            self.violate(now, "a lease that others in the process wait for is handed on", || {
                format!("p{}'s {id} is nobody's since {since:.6} s", crowd.process)
            });
        } else {
            self.violate(now, "what was given up does not stay on record", || {
                format!("p{}'s {id} is nobody's since {since:.6} s", crowd.process)
            });
        }
    }
}
