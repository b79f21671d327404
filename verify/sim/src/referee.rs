//! The referee: sees every write that lands and everything that users are told, and checks from
//! outside what `docs/PROTOCOL.md` promises. It decides by facts only: what is on the store, what
//! guards say, and the true time.

mod all;
mod calls;
mod crowd;
mod family;
mod gathering;
mod guards;
mod landing;
mod once;
mod queue;
mod quorum;
mod record;
mod table;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use leaselock::record::{Kind, Record};
use leaselock::{HolderId, LeaseStatus};

use crate::Options;
use crate::clock::{Dial, Time};
use crate::counts::Counts;
use crate::objects::Operation;
use crate::plan::Plan;
use crowd::Shared;
use family::Sessions;
use gathering::Gatherings;
use once::Results;
use queue::Queue;
use quorum::Part;
use record::Recording;
use table::Table;

pub(crate) use calls::{Mode, Outcome};
pub(crate) use crowd::Crowd;
pub(crate) use family::Claim;
pub(crate) use gathering::{Errand, Spot, Told};
pub(crate) use guards::Ear;
pub(crate) use landing::Writer;

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// When, since the beginning.
    pub at: Duration,
    /// Which promise.
    pub promise: &'static str,
    /// What happened.
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at {:.6} s: {} ({})", self.at.as_secs_f64(), self.promise, self.what)
    }
}

/// Something to look at later.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Check {
    /// Nobody may have left this acquisition's entry behind.
    Orphan { lock: usize, id: HolderId },
    /// Somebody must have followed on this entry of a holder who died: whose call is `waiter`, where
    /// there is a queue.
    Successor { lock: usize, id: HolderId, renewals: u64, died: Time, waiter: Option<usize> },
}

#[derive(Debug)]
pub(crate) struct Referee {
    locks: Vec<LockCase>,
    guards: Vec<GuardCase>,
    calls: Vec<CallCase>,
    violation: Option<Violation>,
    counts: Counts,
    ttl: Duration,
    round_trip: Duration,
    /// In true time, for the process with the slowest clock: a second.
    slow_second: f64,
    records: bool,
    users: usize,
    store_clock: Dial,
    table: Table,
    sessions: Sessions,
    gatherings: Gatherings,
}

/// Whatever is contended for: a lock, or the work that is run once.
#[derive(Debug)]
struct LockCase {
    kind: Kind,
    key: String,
    record: Option<Record>,
    /// Every acquisition that was ever on record.
    tenancies: BTreeMap<HolderId, Tenancy>,
    highest: u64,
    /// The largest token that anybody was trusted with.
    entered: u64,
    /// When the record was last deleted.
    deleted: Option<Time>,
    recording: Recording,
    results: Results,
    /// A deletion or a break of a held record, or a lock that several may hold: the history need not
    /// be one of a lock.
    tainted: bool,
    /// Of what is held under sessions.
    queue: Option<Queue>,
    part: Part,
}

/// One acquisition, as the store has seen it.
#[derive(Clone, Debug)]
struct Tenancy {
    landed: Time,
    left: Option<Time>,
    call: Option<usize>,
    token: u64,
    /// Under which it is held, if it is.
    session: Option<HolderId>,
    /// Since when its holder may be wrong without blame: its lease was broken, or its record
    /// deleted.
    excused: Option<Time>,
    /// By whom it is handed on inside a process, if it is.
    shared: Option<Shared>,
}

/// One guard.
#[derive(Debug)]
struct GuardCase {
    lock: usize,
    process: usize,
    user: usize,
    id: HolderId,
    ttl: Duration,
    ear: Ear,
    status: LeaseStatus,
    /// Nobody asks it any more.
    over: bool,
    /// It has once been said not to be held.
    denied: bool,
    /// Its holder has begun to give it back.
    releasing: bool,
    looked: usize,
    /// How much of it its holder believes to have.
    claim: Claim,
    /// Its holder waits for an answer about it.
    busy: bool,
    /// The token of whoever holds by a lease that is handed on.
    seat: Option<u64>,
}

/// One call that wants a lock.
#[derive(Debug)]
struct CallCase {
    lock: usize,
    process: usize,
    incarnation: u32,
    user: usize,
    mode: Mode,
    /// The same call where it wants another lock as well.
    with: Option<usize>,
    /// Its hold may end before it has begun: a lock lost to such a limit is left to expire.
    limited: bool,
    /// With whom it shares a lease, if it does.
    crowd: Option<Crowd>,
    began: Time,
    state: CallState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallState {
    Pending,
    Acquired(HolderId),
    GivenUp(Time),
    Dead,
}

impl Referee {
    pub(crate) fn new(plan: &Plan, options: &Options) -> Self {
        let locks = (0..plan.locks)
            .map(|number| LockCase::new(Kind::Lock, format!("{}.lock", Plan::name(number))))
            .chain(plan.once.map(|_| LockCase::new(Kind::Once, format!("{}.once", Plan::ONCE))))
            .chain(plan.members().iter().map(|member| LockCase::of_family(*member)))
            .chain(plan.quorum.then(LockCase::of_quorum).into_iter().flatten())
            .collect();
        Self {
            locks,
            guards: Vec::new(),
            calls: Vec::new(),
            violation: None,
            counts: Counts::default(),
            ttl: plan.longest_ttl(),
            round_trip: plan.round_trip(),
            slow_second: plan.by_the_slowest(Duration::from_secs(1)).as_secs_f64(),
            records: plan.seed.is_multiple_of(options.histories_of.max(1)),
            users: 0,
            store_clock: plan.store.dial(),
            table: Table::default(),
            sessions: Sessions::default(),
            gatherings: Gatherings::new(plan),
        }
    }

    pub(crate) fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// A promise is broken; only the first counts.
    pub(crate) fn violate(
        &mut self,
        at: Time,
        promise: &'static str,
        what: impl FnOnce() -> String,
    ) {
        if self.violation.is_none() {
            self.violation = Some(Violation { at, promise, what: what() });
        }
    }

    pub(crate) fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// Guards have clocks, which have the world, which has the referee: nothing would ever be freed.
    pub(crate) fn forget_guards(&mut self) {
        self.guards.clear();
    }

    /// A number for a user who has not been there before.
    pub(crate) fn new_user(&mut self) -> usize {
        self.users += 1;
        self.users
    }

    /// Looks at the histories, when everything is over.
    pub(crate) fn check_histories(&mut self, now: Time) {
        if !self.records {
            return;
        }
        for number in 0..self.locks.len() {
            let case = &self.locks[number];
            if case.tainted {
                self.counts.add("histories not checked");
                continue;
            }
            self.counts.add("histories checked");
            if let Err(fault) = case.recording.check() {
                self.violate(now, "histories are linearizable", || fault.to_string());
            }
        }
    }

    /// A person deletes a record.
    pub(crate) fn deleted(&mut self, now: Time, lock: usize) {
        let case = &mut self.locks[lock];
        let record = case.record.take();
        case.deleted = Some(now);
        let Some(record) = record else { return };
        if let Some(lease) = record.holders.first() {
            case.tainted = true;
            if let Some(tenancy) = case.tenancies.get_mut(&lease.id) {
                tenancy.left = Some(now);
                tenancy.excused = Some(now);
            }
            self.counts.add("deletions while held");
        } else {
            self.counts.add("deletions while free");
        }
    }

    /// The documented limit of promise 2: a create that was decided on before the record was
    /// deleted, and is delayed past that, may carry a token that is too small.
    pub(crate) fn is_from_before_a_deletion(&self, operation: &Operation, sent: Time) -> bool {
        let Operation::Put { key, mode, .. } = operation else { return false };
        let case = self.locks.iter().find(|case| case.key == key.as_ref());
        let deleted = case.and_then(|case| case.deleted);
        *mode == object_store::PutMode::Create && deleted.is_some_and(|at| sent <= at)
    }

    fn lock_of(&self, key: &str) -> Option<usize> {
        self.locks.iter().position(|case| case.key == key)
    }
}

impl LockCase {
    fn new(kind: Kind, key: String) -> Self {
        Self {
            kind,
            key,
            record: None,
            tenancies: BTreeMap::new(),
            highest: 0,
            entered: 0,
            deleted: None,
            recording: Recording::default(),
            results: Results::default(),
            tainted: false,
            queue: None,
            part: Part::None,
        }
    }
}

/// A record in a few words.
pub(crate) fn summary(body: &Bytes) -> String {
    let kinds = [Kind::Lock, Kind::Once, Kind::Session];
    match kinds.into_iter().find_map(|kind| Record::decode_of(kind, body).ok()) {
        None => format!("{} bytes", body.len()),
        Some(record) if record.holders.len() > 1 || !record.waiters.is_empty() => {
            queue::summary(&record)
        }
        Some(record) => match (record.holders.first(), &record.done) {
            (None, Some(done)) => {
                format!("done, {} of token {}", done.result.to_json(), done.token)
            }
            (None, None) => format!("free, token {}", record.token),
            (Some(lease), _) => {
                let lingers = if lease.released_at.is_some() { " lingering" } else { "" };
                let (label, renewals) = (&lease.owner.label, lease.renewals);
                format!("{label} token {} renewals {renewals}{lingers}", lease.token)
            }
        },
    }
}
