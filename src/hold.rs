//! The state of one acquisition in this process, shared by its guard and its keeper.
//!
//! **Invariant.** Once the lease was reported as ended, to anybody, it never comes back: a late
//! answer to a renewal does not revive it. Time is judged here and nowhere else, by both clocks.

mod parts;
mod watched;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::clock::{Boot, Clock, LOOK, Moment};
use crate::hold::parts::{Parts, Standing};
use crate::hold::watched::Watched;
use crate::holder::HolderId;
use crate::options::Terms;
use crate::protocol::expiry::{holder_validity, remaining};
use crate::protocol::lock::Gone;
use crate::telemetry;
use crate::token::FencingToken;

/// Why a lease was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LossReason {
    /// It was not renewed in time: the process was paused, or nobody renewed it.
    Expired,
    /// The store could not be reached in time to renew it.
    Unreachable,
    /// The store denied access in time to renew it.
    Denied,
    /// Another holder took over.
    TakenOver {
        /// The present holder's token, if the lock is held.
        by: Option<FencingToken>,
    },
    /// Somebody broke the lease.
    Broken {
        /// Who.
        by: Option<String>,
        /// Why.
        reason: Option<String>,
    },
    /// Somebody deleted the record.
    RecordDeleted,
    /// Somebody replaced the record by something that is not understood.
    RecordUnreadable,
    /// It was held for as long as it may be.
    MaxHold,
    /// The work showed no progress for too long.
    NoProgress,
    /// Another process renewed it under the same identity: a virtual machine was cloned while it
    /// held the lock.
    Cloned,
    /// The session was closed under which it was held.
    SessionClosed,
    /// The library's task ended, which is a fault in this library or in the runtime.
    KeeperStopped,
}

impl LossReason {
    fn word(&self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Unreachable => "unreachable",
            Self::Denied => "denied",
            Self::TakenOver { .. } => "taken_over",
            Self::Broken { .. } => "broken",
            Self::RecordDeleted => "record_deleted",
            Self::RecordUnreadable => "record_unreadable",
            Self::MaxHold => "max_hold",
            Self::NoProgress => "no_progress",
            Self::Cloned => "cloned",
            Self::SessionClosed => "session_closed",
            Self::KeeperStopped => "keeper_stopped",
        }
    }
}

impl fmt::Display for LossReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired => f.write_str("it was not renewed in time"),
            Self::Unreachable => f.write_str("the store could not be reached in time to renew it"),
            Self::Denied => f.write_str("the store denied access to renew it"),
            Self::TakenOver { by: Some(token) } => write!(f, "taken over by token {token}"),
            Self::TakenOver { by: None } => f.write_str("taken over by somebody who is gone again"),
            Self::Broken { by, reason } => {
                write!(f, "broken by {}", by.as_deref().unwrap_or("an operator"))?;
                reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
            }
            Self::RecordDeleted => f.write_str("its record was deleted"),
            Self::RecordUnreadable => f.write_str("its record was replaced by something else"),
            Self::MaxHold => f.write_str("it was held for as long as it may be"),
            Self::NoProgress => f.write_str("the work showed no progress"),
            Self::Cloned => f.write_str("a clone of this process renewed it"),
            Self::SessionClosed => f.write_str("its session was closed"),
            Self::KeeperStopped => f.write_str("the task that renews it ended"),
        }
    }
}

impl From<Gone> for LossReason {
    fn from(gone: Gone) -> Self {
        match gone {
            // Its entry was given back, but not by this guard, which would have ended first.
            Gone::Released | Gone::Finished => Self::TakenOver { by: None },
            Gone::TakenOver(by) => Self::TakenOver { by },
            Gone::Broken { by, reason } => Self::Broken { by, reason },
            Gone::Cloned => Self::Cloned,
        }
    }
}

/// How a lease stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeasePhase {
    /// Held.
    Held,
    /// Held, but half of its TTL has passed without an acknowledged renewal.
    AtRisk,
    /// Not held any more.
    Lost(LossReason),
    /// Given back, or being given back.
    Released,
}

/// A lease at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseStatus {
    /// How it stands.
    pub phase: LeasePhase,
    /// How many renewals were acknowledged.
    pub renewals: u64,
    /// When it ends unless it is renewed: a reading of the monotonic clock that counts suspend
    /// (`CLOCK_BOOTTIME`), which every process of this machine can compare with its own.
    pub boot_deadline: Duration,
    /// The same by the wall clock. The lease ends at whichever comes first.
    pub wall_deadline: SystemTime,
}

/// Follows a lease: see [`LockGuard::watch`](crate::LockGuard::watch). A clone has seen what this one has.
#[derive(Clone, Debug)]
pub struct LeaseWatch {
    hold: Arc<Hold>,
    seen: Seen,
}

impl LeaseWatch {
    /// How the lease stands now.
    pub fn status(&self) -> LeaseStatus {
        self.hold.settle();
        self.hold.status()
    }

    /// Waits for the next renewal, warning or end, and returns how the lease stands then. Never
    /// completes once the lease has ended and that was returned.
    ///
    /// # Cancel safety
    /// Cancel safe: a change is not missed.
    pub async fn changed(&mut self) -> LeaseStatus {
        self.hold.changed(&mut self.seen).await;
        self.hold.status()
    }
}

/// How many changes were seen of an acquisition's state, and of its session's.
#[derive(Clone, Copy, Debug)]
struct Seen {
    own: u64,
    session: u64,
}

/// One acquisition.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) name: Arc<str>,
    pub(crate) id: HolderId,
    pub(crate) token: FencingToken,
    clock: Arc<dyn Clock>,
    ttl: Duration,
    at_risk_after: Duration,
    max_hold: Option<Duration>,
    progress_within: Option<Duration>,
    acquired: Moment,
    /// Under whose lease it is held, if not under one of its own.
    session: Option<Arc<Hold>>,
    told: Told,
    state: Watched<State>,
    /// What it consists of, if it is made of other leases.
    parts: Option<Box<Parts>>,
}

/// What of it is logged and counted. A lease that is handed on inside the process and those who hold by
/// it are told once between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    All,
    /// What becomes of the lease, but not that somebody holds.
    Lease,
    /// That somebody holds, but not what becomes of the lease.
    Holding,
}

#[derive(Clone, Debug)]
struct State {
    phase: LeasePhase,
    renewals: u64,
    /// Before the write was sent that established or last renewed the lease.
    sent: Moment,
    touched: Moment,
    /// What the end will be put down to if it comes now.
    trouble: Option<Box<LossReason>>,
}

impl Hold {
    pub(crate) fn new(
        name: String,
        id: HolderId,
        token: FencingToken,
        sent: Moment,
        terms: &Terms,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let state = State {
            phase: LeasePhase::Held,
            renewals: 0,
            sent,
            touched: clock.now(),
            trouble: None,
        };
        Self {
            name: name.into(),
            id,
            token,
            clock,
            ttl: terms.ttl,
            at_risk_after: terms.at_risk_after,
            max_hold: terms.max_hold,
            progress_within: terms.progress_within,
            acquired: sent,
            session: None,
            told: Told::All,
            state: Watched::new(state),
            parts: None,
        }
    }

    /// The same, to be [handed on](Self::handed_on).
    pub(crate) fn shared(self) -> Self {
        Self { told: Told::Lease, ..self }
    }

    /// The same, held under the lease of a session, from now on: the write that made it the holder may
    /// be another's hand-over, long after its own.
    pub(crate) fn under(self, session: Arc<Self>) -> Self {
        let acquired = self.clock.now();
        Self { session: Some(session), acquired, ..self }
    }

    /// The same lease as another acquisition holds by it, after the one that took it.
    pub(crate) fn handed_on(lease: &Arc<Self>, id: HolderId, token: FencingToken) -> Self {
        let now = lease.clock.now();
        let phase = LeasePhase::Held;
        let state = State { phase, renewals: 0, sent: now, touched: now, trouble: None };
        Self {
            name: Arc::clone(&lease.name),
            id,
            token,
            clock: Arc::clone(&lease.clock),
            ttl: lease.ttl,
            at_risk_after: lease.at_risk_after,
            max_hold: None,
            progress_within: None,
            acquired: now,
            session: Some(Arc::clone(lease)),
            told: Told::Holding,
            state: Watched::new(state),
            parts: None,
        }
    }

    pub(crate) fn is_under(&self, session: &Arc<Self>) -> bool {
        self.session.as_ref().is_some_and(|own| Arc::ptr_eq(own, session))
    }

    /// A lease made of others, of which `needed` have to be held for the whole to be held. It asks
    /// them before it says anything: there is no moment at which it claims more than they do.
    pub(crate) fn of_parts(
        name: String,
        id: HolderId,
        token: FencingToken,
        terms: &Terms,
        clock: Arc<dyn Clock>,
        parts: (usize, Vec<Arc<Self>>),
    ) -> Self {
        let now = clock.now();
        let whole = Self::new(name, id, token, now, terms, clock);
        let whole = Self { parts: Some(Box::new(Parts::new(parts.0, parts.1))), ..whole };
        whole.settle();
        whole
    }

    /// Another lease that a whole consists of from now on.
    pub(crate) fn admit(&self, part: Arc<Self>) {
        if let Some(parts) = &self.parts {
            parts.admit(part);
        }
        self.settle();
    }

    pub(crate) fn is_held(&self) -> bool {
        self.settle();
        self.state.borrow().is_live()
    }

    /// Whether it is held under a session, and that is held.
    pub(crate) fn session_is_held(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.is_held())
    }

    /// Whether it may be lost to a limit of its own.
    pub(crate) fn is_limited(&self) -> bool {
        self.max_hold.is_some() || self.progress_within.is_some()
    }

    /// How long it lasts unless it is renewed; zero when it has ended.
    pub(crate) fn remaining(&self) -> Duration {
        self.settle();
        let state = self.state.borrow();
        if state.is_live() { self.time_left(&state, self.clock.now()) } else { Duration::ZERO }
    }

    /// Takes note of what time has done.
    pub(crate) fn settle(&self) {
        let now = self.clock.now();
        self.state.modify(|state| {
            if !state.is_live() {
                return false;
            }
            let mut moved = false;
            match self.parts.as_ref().map(|parts| parts.standing(now)) {
                None => {}
                Some(Standing::Held(sent)) => moved = self.follow(state, sent, now),
                Some(Standing::Ended(phase)) => {
                    tracing::warn!(lock = %self.name, ?phase, "too few parts of it are held");
                    state.phase = phase;
                    return true;
                }
            }
            if let Some(reason) = self.ended_by_time(state, now) {
                self.lose(state, reason, now);
                return true;
            }
            let phase = self.by_risk(state, now);
            let changed = state.phase != phase;
            if changed && phase == LeasePhase::AtRisk && self.told != Told::Holding {
                tracing::warn!(lock = %self.name, "the lease is at risk: no renewal was acknowledged");
                telemetry::at_risk();
            }
            state.phase = phase;
            changed || moved
        });
    }

    /// How a lease that stands does so.
    fn by_risk(&self, state: &State, now: Moment) -> LeasePhase {
        match &self.session {
            Some(session) if session.status().phase == LeasePhase::AtRisk => LeasePhase::AtRisk,
            Some(_) => LeasePhase::Held,
            None if now.since(state.sent) >= self.at_risk_after => LeasePhase::AtRisk,
            None => state.phase.clone(),
        }
    }

    /// Counts from where the parts say, which may be earlier than before: one of them may be gone.
    fn follow(&self, state: &mut State, sent: Moment, now: Moment) -> bool {
        if state.sent == sent {
            return false;
        }
        let age = now.since(sent);
        state.renewals += u64::from(age < now.since(state.sent));
        state.sent = sent;
        if age < self.at_risk_after {
            state.phase = LeasePhase::Held;
        }
        true
    }

    fn ended_by_time(&self, state: &State, now: Moment) -> Option<LossReason> {
        if let Some(session) = &self.session {
            session.settle();
            match &session.state.borrow().phase {
                LeasePhase::Lost(reason) => return Some(reason.clone()),
                LeasePhase::Released => return Some(LossReason::SessionClosed),
                LeasePhase::Held | LeasePhase::AtRisk => {}
            }
        } else if remaining(self.ttl, state.sent, now).is_zero() {
            return Some(state.trouble.as_deref().cloned().unwrap_or(LossReason::Expired));
        }
        if self.max_hold.is_some_and(|max| now.since(self.acquired) >= max) {
            return Some(LossReason::MaxHold);
        }
        if self.progress_within.is_some_and(|within| now.since(state.touched) >= within) {
            return Some(LossReason::NoProgress);
        }
        None
    }

    /// An acknowledged renewal that was sent at `sent`; false when it came too late.
    pub(crate) fn extend(&self, sent: Moment) -> bool {
        // The old deadline may have passed while the answer was on its way (hazard H11).
        self.settle();
        self.state.modify(|state| {
            if !state.is_live() {
                return false;
            }
            telemetry::renewed();
            *state = State {
                phase: LeasePhase::Held,
                renewals: state.renewals + 1,
                sent,
                touched: state.touched,
                trouble: None,
            };
            true
        })
    }

    /// A renewal failed; should the lease end before one succeeds, this is why.
    pub(crate) fn troubled(&self, reason: LossReason) {
        self.state.modify(|state| {
            state.trouble = Some(Box::new(reason));
            false
        });
    }

    pub(crate) fn touch(&self) {
        self.settle();
        let now = self.clock.now();
        self.state.modify(|state| {
            state.touched = now;
            false
        });
    }

    /// The lease is lost, unless it has ended already.
    pub(crate) fn end(&self, reason: LossReason) {
        let now = self.clock.now();
        self.state.modify(|state| {
            let live = state.is_live();
            if live {
                self.lose(state, reason, now);
            }
            live
        });
    }

    fn lose(&self, state: &mut State, reason: LossReason, now: Moment) {
        if self.told != Told::Holding {
            tracing::warn!(lock = %self.name, token = %self.token, %reason, "the lease is lost");
            telemetry::lost(reason.word());
        }
        self.held_until(now);
        state.phase = LeasePhase::Lost(reason);
    }

    fn held_until(&self, now: Moment) {
        if self.told != Told::Lease {
            telemetry::held(now.since(self.acquired));
        }
    }

    /// The guard lets go, before anything is written: from here on nobody may trust it.
    pub(crate) fn begin_release(&self) -> Result<(), LossReason> {
        self.settle();
        let now = self.clock.now();
        self.state.modify(|state| {
            let live = state.is_live();
            if live {
                self.held_until(now);
                state.phase = LeasePhase::Released;
            }
            live
        });
        match &self.state.borrow().phase {
            LeasePhase::Lost(reason) => Err(reason.clone()),
            _ => Ok(()),
        }
    }

    pub(crate) fn loss(&self) -> Option<LossReason> {
        match &self.state.borrow().phase {
            LeasePhase::Lost(reason) => Some(reason.clone()),
            _ => None,
        }
    }

    pub(crate) fn ttl(&self) -> Duration {
        self.ttl
    }

    pub(crate) fn is_live(&self) -> bool {
        self.state.borrow().is_live()
    }

    /// The next time at which time itself changes something, if no clock is set until then. By
    /// whichever clock has moved further: after a freeze of the monotonic one its own deadline comes
    /// later than the lease ends (hazard H7).
    pub(crate) fn next_event(&self) -> Boot {
        let (state, now) = (self.state.borrow(), self.clock.now());
        let left = match state.phase {
            LeasePhase::Held => self
                .time_left(&state, now)
                .min(self.at_risk_after().saturating_sub(now.since(self.sent(&state)))),
            _ => self.time_left(&state, now),
        };
        now.boot.plus(left)
    }

    /// When the lease on record ends for its holder, whatever the guard says: no write of this
    /// acquisition begins later.
    pub(crate) fn last_write(&self) -> Boot {
        self.sent(&self.state.borrow()).boot.plus(holder_validity(self.ttl))
    }

    /// When the write was sent that established or last renewed the lease.
    pub(crate) fn renewed_at(&self) -> Boot {
        self.sent(&self.state.borrow()).boot
    }

    /// Without an acknowledged renewal, its own or its session's.
    fn at_risk_after(&self) -> Duration {
        self.session.as_ref().map_or(self.at_risk_after, |session| session.at_risk_after)
    }

    fn sent(&self, state: &State) -> Moment {
        match &self.session {
            Some(session) => session.sent(&session.state.borrow()),
            None => state.sent,
        }
    }

    pub(crate) fn held_for(&self) -> Duration {
        self.clock.now().since(self.acquired)
    }

    pub(crate) fn status(&self) -> LeaseStatus {
        let state = self.state.borrow();
        let wall = self.limits(&state).map(|(from, limit)| from.wall.plus(limit)).min();
        LeaseStatus {
            phase: state.phase.clone(),
            renewals: match &self.session {
                Some(session) => session.state.borrow().renewals,
                None => state.renewals,
            },
            boot_deadline: self.boot_deadline(&state).since_origin(),
            wall_deadline: wall.unwrap_or_default().into(),
        }
    }

    pub(crate) fn watch(self: &Arc<Self>) -> LeaseWatch {
        let seen = self.seen();
        self.settle();
        LeaseWatch { hold: Arc::clone(self), seen }
    }

    fn seen(&self) -> Seen {
        let session = self.session.as_ref().map(|session| session.state.changes());
        Seen { own: self.state.changes(), session: session.unwrap_or_default() }
    }

    /// Takes note of what it has come to. Of what becomes of its session after that is heard again, and
    /// of what became of it before is not: that must be its own by then.
    fn note(&self, seen: &mut Seen) {
        let Seen { session, .. } = self.seen();
        self.settle();
        *seen = Seen { own: self.state.changes(), session };
    }

    /// Waits for a change that was not seen; for ever once the lease has ended and that was seen.
    async fn changed(&self, seen: &mut Seen) {
        let Some(session) = &self.session else {
            // Its keeper looks at the clocks.
            self.state.changed_since(seen.own).await;
            return *seen = self.seen();
        };
        // No keeper looks at the clocks for a limit of its own, so its watchers do.
        loop {
            let watched = self.is_live();
            let limit = async {
                if self.is_limited() {
                    let wake = self.clock.now().boot.plus(LOOK).min(self.next_event());
                    self.clock.sleep_until(wake).await;
                } else {
                    std::future::pending().await
                }
            };
            tokio::select! {
                biased;
                () = self.state.changed_since(seen.own) => return self.note(seen),
                // Its renewal is ours, and so is its end.
                () = session.state.changed_since(seen.session), if watched => return self.note(seen),
                () = limit, if watched => self.settle(),
            }
        }
    }

    /// Waits until a phase satisfies `wanted`; for ever when it never does.
    pub(crate) fn wait_for<T: Send + 'static>(
        self: &Arc<Self>,
        wanted: impl Fn(&LeasePhase) -> Option<T> + Send + 'static,
    ) -> impl Future<Output = T> + Send + 'static {
        self.settle();
        let hold = Arc::clone(self);
        async move {
            loop {
                // Before looking: a change in between is heard of.
                let mut seen = hold.seen();
                hold.settle();
                if let Some(found) = wanted(&hold.state.borrow().phase) {
                    return found;
                }
                hold.changed(&mut seen).await;
            }
        }
    }

    fn time_left(&self, state: &State, now: Moment) -> Duration {
        self.limits(state)
            .map(|(from, limit)| limit.saturating_sub(now.since(from)))
            .min()
            .unwrap_or_default()
    }

    fn boot_deadline(&self, state: &State) -> Boot {
        self.limits(state).map(|(from, limit)| from.boot.plus(limit)).min().unwrap_or_default()
    }

    /// Everything that ends the lease by time: from when, and how long.
    fn limits(&self, state: &State) -> impl Iterator<Item = (Moment, Duration)> {
        let lease = Some((self.sent(state), holder_validity(self.ttl)));
        let hold = self.max_hold.map(|max| (self.acquired, max));
        let progress = self.progress_within.map(|within| (state.touched, within));
        [lease, hold, progress].into_iter().flatten()
    }
}

impl State {
    fn is_live(&self) -> bool {
        matches!(self.phase, LeasePhase::Held | LeasePhase::AtRisk)
    }
}
