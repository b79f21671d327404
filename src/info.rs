//! A lock, or work that is run once, as anybody can see it.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::clock::Wall;
use crate::holder::{HolderId, Owner};
use crate::protocol::expiry::{StoreTime, contender_wait, is_past};
use crate::record::{self, Kind, Mode, Payload, Record, rfc3339, to_pretty_json};
use crate::store::{Content, Read, StoreNow};
use crate::token::FencingToken;

/// What the record of a lock, or of work that is run once, says at the time it was read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LockInfo {
    /// The lock's name, or the work's key.
    pub name: String,
    /// What it is; `None` when there is no record, or none that is understood.
    pub kind: Option<Kind>,
    /// Held, free, or neither.
    pub state: LockState,
    /// The highest token ever issued.
    pub token: Option<FencingToken>,
    /// Who holds it.
    pub holders: Vec<HolderInfo>,
    /// How many permits there are: of a semaphore.
    pub limit: Option<u32>,
    /// Who waits in the queue, in the order in which they will be served.
    pub waiters: Vec<WaiterInfo>,
    /// What the last holder to set one left to read.
    pub payload: Option<Payload>,
    /// What the work has come to that is run once.
    pub done: Option<DoneInfo>,
    /// The last tenures, oldest first; at most 16.
    pub history: Vec<Tenure>,
    /// When the record was last written, by the store's clock, as far as the store says.
    pub last_modified: Option<SystemTime>,
    /// What is wrong with a record that cannot be understood.
    pub problem: Option<String>,
}

/// Whether a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LockState {
    /// It was never used, or its record was deleted.
    Absent,
    /// Nobody holds it.
    Free,
    /// Somebody holds it.
    Held,
    /// Somebody held it and did not renew: by the store's clock anybody may take it over.
    Expired,
    /// The work that is run once has been done, and its result stands.
    Done,
    /// Its record cannot be understood; it counts as held.
    Unreadable,
}

impl LockState {
    /// The word for it, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Free => "free",
            Self::Held => "held",
            Self::Expired => "expired",
            Self::Done => "done",
            Self::Unreadable => "unreadable",
        }
    }
}

impl fmt::Display for LockState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A holder, as its entry in the record says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HolderInfo {
    /// Which acquisition.
    pub id: HolderId,
    /// Its fencing token.
    pub token: FencingToken,
    /// Alone or beside others.
    pub mode: Mode,
    /// How many permits it has: of a semaphore; 1 elsewhere.
    pub permits: u32,
    /// The session under which it is held, if it is. Its lease is the session's then, and the times
    /// below are those of the acquisition.
    pub session: Option<HolderId>,
    /// How long the lease lasts after each renewal.
    pub ttl: Duration,
    /// How often it was renewed.
    pub renewals: u64,
    /// When it was acquired, by the holder's wall clock.
    pub acquired_at: SystemTime,
    /// When it was last renewed, by the holder's wall clock.
    pub renewed_at: SystemTime,
    /// When it ends, by the holder's wall clock.
    pub expires_at: SystemTime,
    /// When its work ended, if the entry only stays for the rest of its minimum hold.
    pub released_at: Option<SystemTime>,
    /// Who it is.
    pub owner: Owner,
    /// How long the lease still lasts by the store's clock, where that is known; an estimate.
    pub remaining: Option<Duration>,
}

/// A waiter, as its ticket in the record says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WaiterInfo {
    /// Which acquisition it will be.
    pub id: HolderId,
    /// The session that keeps its ticket alive.
    pub session: HolderId,
    /// Alone or beside others.
    pub mode: Mode,
    /// How many permits it waits for: of a semaphore; 1 elsewhere.
    pub permits: u32,
    /// Since when it waits, by its wall clock.
    pub since: SystemTime,
    /// Who it is.
    pub owner: Owner,
}

/// What work has come to that is run once.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DoneInfo {
    /// Its result.
    pub result: Payload,
    /// When it was recorded, by the runner's wall clock.
    pub at: SystemTime,
    /// The fencing token of the run.
    pub token: FencingToken,
    /// Who ran it.
    pub owner: Owner,
    /// For how long the result stands; for ever without.
    pub retention: Option<Duration>,
}

/// A tenure that has ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Tenure {
    /// Which acquisition.
    pub id: HolderId,
    /// Its fencing token.
    pub token: FencingToken,
    /// Who it was.
    pub owner: Owner,
    /// When it was acquired, by the holder's wall clock.
    pub from: SystemTime,
    /// When its end was written, by the writer's wall clock.
    pub to: SystemTime,
    /// How it ended: `released`, `expired`, `broken` or `finished`.
    pub ended: String,
    /// Who ended it, if not the holder.
    pub by: Option<String>,
    /// Why, if somebody said.
    pub reason: Option<String>,
}

impl LockInfo {
    pub(crate) fn absent(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: None,
            state: LockState::Absent,
            token: None,
            holders: Vec::new(),
            limit: None,
            waiters: Vec::new(),
            payload: None,
            done: None,
            history: Vec::new(),
            last_modified: None,
            problem: None,
        }
    }

    pub(crate) fn of_read(
        name: &str,
        read: &Read,
        now: Option<StoreNow>,
        margin: Duration,
    ) -> Self {
        match &read.content {
            Content::Absent => Self::absent(name),
            Content::Unreadable { error, .. } => Self {
                state: LockState::Unreadable,
                problem: Some(error.to_string()),
                ..Self::absent(name)
            },
            Content::Record { record, last_modified, .. } => {
                let mut info = Self::of_record(name, record, *last_modified, now);
                // What is held under a session does not age with this record.
                let ended = |age: Duration| {
                    record.holders.iter().all(|lease| {
                        lease.session.is_none() && age >= contender_wait(lease.ttl) + margin
                    })
                };
                if info.state == LockState::Held && age(*last_modified, now).is_some_and(ended) {
                    info.state = LockState::Expired;
                }
                if record
                    .done
                    .as_ref()
                    .is_some_and(|done| is_past(done, store_time(*last_modified, now, margin)))
                {
                    info.state = LockState::Free;
                }
                info
            }
        }
    }

    pub(crate) fn of_record(
        name: &str,
        record: &Record,
        last_modified: Option<Wall>,
        now: Option<StoreNow>,
    ) -> Self {
        let age = age(last_modified, now);
        let state = match (record.holders.is_empty(), &record.done) {
            (false, _) => LockState::Held,
            (true, Some(_)) => LockState::Done,
            (true, None) => LockState::Free,
        };
        Self {
            name: name.to_owned(),
            kind: Some(record.kind),
            state,
            token: Some(record.token),
            holders: record.holders.iter().map(|lease| holder(lease, age)).collect(),
            limit: (record.kind == Kind::Semaphore).then_some(record.limit),
            waiters: record.waiters.iter().map(waiter).collect(),
            payload: record.payload.clone(),
            done: record.done.clone().map(Into::into),
            history: record.history.iter().map(|past| tenure(past)).collect(),
            last_modified: last_modified.map(Into::into),
            problem: None,
        }
    }

    /// The same as indented JSON: `name`, `kind`, `state`, `token`, `holders`, `limit` of a semaphore,
    /// `waiters`, `payload`, `done` if there is a result, `history`, `last_modified`, `problem`; times
    /// in RFC 3339, durations in milliseconds.
    pub fn to_json(&self) -> String {
        to_pretty_json(&View::of(self))
    }
}

/// How long ago the record was written, by the store's clock.
fn age(last_modified: Option<Wall>, now: Option<StoreNow>) -> Option<Duration> {
    Some(now?.at_least.since(last_modified?))
}

fn store_time(
    last_modified: Option<Wall>,
    now: Option<StoreNow>,
    margin: Duration,
) -> Option<StoreTime> {
    let (now, last_modified) = now.zip(last_modified)?;
    Some(StoreTime { at_least: now.at_least, at: now.at, last_modified, margin })
}

impl From<record::Done> for DoneInfo {
    fn from(done: record::Done) -> Self {
        Self {
            result: done.result,
            at: done.at.into(),
            token: done.token,
            owner: done.owner,
            retention: done.retention,
        }
    }
}

fn holder(lease: &record::Lease, age: Option<Duration>) -> HolderInfo {
    HolderInfo {
        id: lease.id,
        token: lease.token,
        mode: lease.mode,
        permits: lease.permits,
        session: lease.session,
        ttl: lease.ttl,
        renewals: lease.renewals,
        acquired_at: lease.acquired_at.into(),
        renewed_at: lease.renewed_at.into(),
        expires_at: lease.expires_at.into(),
        released_at: lease.released_at.map(Into::into),
        owner: lease.owner.clone(),
        remaining: age.filter(|_| lease.session.is_none()).map(|age| lease.ttl.saturating_sub(age)),
    }
}

fn waiter(ticket: &record::Ticket) -> WaiterInfo {
    WaiterInfo {
        id: ticket.id,
        session: ticket.session,
        mode: ticket.mode,
        permits: ticket.permits,
        since: ticket.since.into(),
        owner: ticket.owner.clone(),
    }
}

fn tenure(tenure: &record::Tenure) -> Tenure {
    Tenure {
        id: tenure.id,
        token: tenure.token,
        owner: tenure.owner.clone(),
        from: tenure.from.into(),
        to: tenure.to.into(),
        ended: tenure.ended.as_str().to_owned(),
        by: tenure.by.clone(),
        reason: tenure.reason.clone(),
    }
}

#[derive(Serialize)]
struct View<'a> {
    name: &'a str,
    kind: Option<&'static str>,
    state: &'static str,
    token: Option<u64>,
    holders: Vec<HolderView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
    waiters: Vec<WaiterView<'a>>,
    payload: &'a Option<Payload>,
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<DoneView<'a>>,
    history: Vec<TenureView<'a>>,
    last_modified: Option<String>,
    problem: &'a Option<String>,
}

#[derive(Serialize)]
struct HolderView<'a> {
    id: String,
    token: u64,
    mode: &'static str,
    permits: u32,
    session: Option<String>,
    ttl_ms: u128,
    renewals: u64,
    acquired_at: String,
    renewed_at: String,
    expires_at: String,
    released_at: Option<String>,
    remaining_ms: Option<u128>,
    owner: OwnerView<'a>,
}

#[derive(Serialize)]
struct WaiterView<'a> {
    id: String,
    session: String,
    mode: &'static str,
    permits: u32,
    since: String,
    owner: OwnerView<'a>,
}

#[derive(Serialize)]
struct DoneView<'a> {
    result: &'a Payload,
    at: String,
    token: u64,
    retention_ms: Option<u128>,
    owner: OwnerView<'a>,
}

#[derive(Serialize)]
struct TenureView<'a> {
    id: String,
    token: u64,
    owner: OwnerView<'a>,
    from: String,
    to: String,
    ended: &'a str,
    by: &'a Option<String>,
    reason: &'a Option<String>,
}

#[derive(Serialize)]
struct OwnerView<'a> {
    label: &'a str,
    host: &'a str,
    pid: Option<u32>,
    note: &'a Option<String>,
}

impl<'a> View<'a> {
    fn of(info: &'a LockInfo) -> Self {
        Self {
            name: &info.name,
            kind: info.kind.map(Kind::as_str),
            state: info.state.as_str(),
            token: info.token.map(FencingToken::get),
            holders: info.holders.iter().map(HolderView::of).collect(),
            limit: info.limit,
            waiters: info.waiters.iter().map(WaiterView::of).collect(),
            payload: &info.payload,
            done: info.done.as_ref().map(DoneView::of),
            history: info.history.iter().map(TenureView::of).collect(),
            last_modified: info.last_modified.map(time),
            problem: &info.problem,
        }
    }
}

impl<'a> HolderView<'a> {
    fn of(holder: &'a HolderInfo) -> Self {
        Self {
            id: holder.id.to_string(),
            token: holder.token.get(),
            mode: holder.mode.as_str(),
            permits: holder.permits,
            session: holder.session.map(|session| session.to_string()),
            ttl_ms: holder.ttl.as_millis(),
            renewals: holder.renewals,
            acquired_at: time(holder.acquired_at),
            renewed_at: time(holder.renewed_at),
            expires_at: time(holder.expires_at),
            released_at: holder.released_at.map(time),
            remaining_ms: holder.remaining.map(|left| left.as_millis()),
            owner: OwnerView::of(&holder.owner),
        }
    }
}

impl<'a> WaiterView<'a> {
    fn of(waiter: &'a WaiterInfo) -> Self {
        Self {
            id: waiter.id.to_string(),
            session: waiter.session.to_string(),
            mode: waiter.mode.as_str(),
            permits: waiter.permits,
            since: time(waiter.since),
            owner: OwnerView::of(&waiter.owner),
        }
    }
}

impl<'a> DoneView<'a> {
    fn of(done: &'a DoneInfo) -> Self {
        Self {
            result: &done.result,
            at: time(done.at),
            token: done.token.get(),
            retention_ms: done.retention.map(|time| time.as_millis()),
            owner: OwnerView::of(&done.owner),
        }
    }
}

impl<'a> TenureView<'a> {
    fn of(tenure: &'a Tenure) -> Self {
        Self {
            id: tenure.id.to_string(),
            token: tenure.token.get(),
            owner: OwnerView::of(&tenure.owner),
            from: time(tenure.from),
            to: time(tenure.to),
            ended: &tenure.ended,
            by: &tenure.by,
            reason: &tenure.reason,
        }
    }
}

impl<'a> OwnerView<'a> {
    fn of(owner: &'a Owner) -> Self {
        Self { label: &owner.label, host: &owner.host, pid: owner.pid, note: &owner.note }
    }
}

fn time(at: SystemTime) -> String {
    rfc3339(Wall::from(at))
}
