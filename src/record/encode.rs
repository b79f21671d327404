//! From a [`Record`] to JSON, fields in the order in which people read them.

use std::net::SocketAddr;
use std::time::Duration;

use serde::ser::{Error as _, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::to_raw_value;

use super::{
    Arrived, Done, FORMAT, Fault, Lease, Past, Record, RecordError, Rfc3339, Tenure, Ticket,
    Unknown, Wake,
};
use crate::holder::{HolderId, Owner};

pub(super) fn record(record: &Record) -> Result<Vec<u8>, RecordError> {
    let limit = record.kind.max_bytes();
    let mut first_tenure = 0;
    loop {
        let bytes = serialize(record, first_tenure)?;
        if bytes.len() <= limit {
            return Ok(bytes);
        }
        if first_tenure == record.history.len() {
            let fault = Fault::TooLarge { size: bytes.len() as u64, limit: limit as u64 };
            return Err(RecordError { path: String::new(), fault });
        }
        first_tenure += 1;
    }
}

fn serialize(record: &Record, first_tenure: usize) -> Result<Vec<u8>, RecordError> {
    let document = Document {
        format: FORMAT,
        kind: record.kind.as_str(),
        token: record.token.get(),
        nonce: record.nonce.to_string(),
        holders: record.holders.iter().map(holder).collect(),
        limit: record.limit,
        payload: record.payload.as_ref().map(|payload| &payload.0),
        done: record.done.as_ref().map(done),
        series: record.gathering.as_ref().map(|gathering| gathering.series.to_string()),
        epoch: record.gathering.as_ref().map(|gathering| gathering.epoch),
        arrived: record.gathering.as_ref().map(|all| all.arrived.iter().map(arrived).collect()),
        waiters: record.waiters.iter().map(ticket).collect(),
        history: Tenures(&record.history[first_tenure..]),
        unknown: &record.unknown,
    };
    let mut body = Vec::with_capacity(ROOM + ROOM_OF_TENURE * document.history.0.len());
    serde_json::to_writer(&mut body, &document).map_err(|error| RecordError {
        path: String::new(),
        fault: Fault::NotJson(error.to_string()),
    })?;
    // It is kept for as long as the lock is held, by some stores too.
    body.shrink_to_fit();
    Ok(body)
}

/// What a record and each of its tenures usually take, in bytes.
const ROOM: usize = 768;
const ROOM_OF_TENURE: usize = 256;

fn holder(lease: &Lease) -> HolderEntry<'_> {
    HolderEntry {
        id: Id(lease.id),
        token: lease.token.get(),
        mode: lease.mode.as_str(),
        permits: lease.permits,
        session: lease.session.map(Id),
        ttl_ms: whole_ms(lease.ttl),
        renewals: lease.renewals,
        acquired_at: Rfc3339::of(lease.acquired_at),
        renewed_at: Rfc3339::of(lease.renewed_at),
        renews_at: lease.renews_at.map(Rfc3339::of),
        expires_at: Rfc3339::of(lease.expires_at),
        released_at: lease.released_at.map(Rfc3339::of),
        owner: owner(&lease.owner, &lease.owner_unknown),
        unknown: &lease.unknown,
    }
}

fn ticket(ticket: &Ticket) -> TicketEntry<'_> {
    TicketEntry {
        id: Id(ticket.id),
        session: Id(ticket.session),
        mode: ticket.mode.as_str(),
        permits: ticket.permits,
        ttl_ms: whole_ms(ticket.ttl),
        since: Rfc3339::of(ticket.since),
        owner: owner(&ticket.owner, &ticket.owner_unknown),
        wake: ticket.wake.as_ref().map(wake),
        unknown: &ticket.unknown,
    }
}

fn wake(wake: &Wake) -> WakeEntry<'_> {
    WakeEntry { to: wake.to, nonce: wake.nonce.to_string(), unknown: wake.unknown() }
}

fn done(done: &Done) -> DoneEntry<'_> {
    DoneEntry {
        result: &done.result.0,
        at: Rfc3339::of(done.at),
        token: done.token.get(),
        owner: owner(&done.owner, &done.owner_unknown),
        retention_ms: done.retention.map(whole_ms),
        unknown: &done.unknown,
    }
}

fn arrived(arrived: &Arrived) -> ArrivedEntry<'_> {
    ArrivedEntry { member: &arrived.member, at: Rfc3339::of(arrived.at), unknown: &arrived.unknown }
}

fn tenure(tenure: &Tenure) -> TenureEntry<'_> {
    TenureEntry {
        id: Id(tenure.id),
        token: tenure.token.get(),
        owner: owner(&tenure.owner, &tenure.owner_unknown),
        from: Rfc3339::of(tenure.from),
        to: Rfc3339::of(tenure.to),
        ended: tenure.ended.as_str(),
        by: tenure.by.as_deref(),
        reason: tenure.reason.as_deref(),
        unknown: &tenure.unknown,
    }
}

fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn owner<'a>(owner: &'a Owner, unknown: &'a Unknown) -> OwnerEntry<'a> {
    OwnerEntry {
        label: &owner.label,
        host: &owner.host,
        pid: owner.pid,
        note: owner.note.as_deref(),
        unknown,
    }
}

/// An id, which is written without a text of its own: each write has dozens of them.
struct Id(HolderId);

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.with_str(|text| serializer.serialize_str(text))
    }
}

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

struct Tenures<'a>(&'a [Past]);

impl Serialize for Tenures<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut all = serializer.serialize_seq(Some(self.0.len()))?;
        for past in self.0 {
            let json = past.json(|past| to_raw_value(&tenure(past)));
            all.serialize_element(json.map_err(S::Error::custom)?)?;
        }
        all.end()
    }
}

#[derive(Serialize)]
struct Document<'a> {
    format: u64,
    kind: &'static str,
    token: u64,
    nonce: String,
    holders: Vec<HolderEntry<'a>>,
    limit: u32,
    payload: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<DoneEntry<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    series: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arrived: Option<Vec<ArrivedEntry<'a>>>,
    waiters: Vec<TicketEntry<'a>>,
    history: Tenures<'a>,
    #[serde(flatten)]
    unknown: &'a Unknown,
}

#[derive(Serialize)]
struct HolderEntry<'a> {
    id: Id,
    token: u64,
    mode: &'static str,
    permits: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<Id>,
    ttl_ms: u64,
    renewals: u64,
    acquired_at: Rfc3339,
    renewed_at: Rfc3339,
    #[serde(skip_serializing_if = "Option::is_none")]
    renews_at: Option<Rfc3339>,
    expires_at: Rfc3339,
    #[serde(skip_serializing_if = "Option::is_none")]
    released_at: Option<Rfc3339>,
    owner: OwnerEntry<'a>,
    #[serde(flatten)]
    unknown: &'a Unknown,
}

#[derive(Serialize)]
struct TicketEntry<'a> {
    id: Id,
    session: Id,
    mode: &'static str,
    permits: u32,
    ttl_ms: u64,
    since: Rfc3339,
    owner: OwnerEntry<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wake: Option<WakeEntry<'a>>,
    #[serde(flatten)]
    unknown: &'a Unknown,
}

#[derive(Serialize)]
struct WakeEntry<'a> {
    to: SocketAddr,
    nonce: String,
    #[serde(flatten)]
    unknown: &'a Unknown,
}

#[derive(Serialize)]
struct DoneEntry<'a> {
    result: &'a Value,
    at: Rfc3339,
    token: u64,
    owner: OwnerEntry<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retention_ms: Option<u64>,
    #[serde(flatten)]
    unknown: &'a Unknown,
}

#[derive(Serialize)]
struct ArrivedEntry<'a> {
    member: &'a str,
    at: Rfc3339,
    #[serde(flatten)]
    unknown: &'a Unknown,
}

#[derive(Serialize)]
struct TenureEntry<'a> {
    id: Id,
    token: u64,
    owner: OwnerEntry<'a>,
    from: Rfc3339,
    to: Rfc3339,
    ended: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(flatten)]
    unknown: &'a Unknown,
}

#[derive(Serialize)]
struct OwnerEntry<'a> {
    label: &'a str,
    host: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a str>,
    #[serde(flatten)]
    unknown: &'a Unknown,
}
