//! From a [`Record`] to JSON, fields in the order in which people read them.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::{
    Arrived, Done, FORMAT, Fault, Lease, Record, RecordError, Tenure, Ticket, Unknown, rfc3339,
};
use crate::holder::Owner;

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
        history: record.history[first_tenure..].iter().map(tenure).collect(),
        unknown: &record.unknown,
    };
    let mut body = serde_json::to_vec(&document).map_err(|error| RecordError {
        path: String::new(),
        fault: Fault::NotJson(error.to_string()),
    })?;
    // It is kept for as long as the lock is held, by some stores too.
    body.shrink_to_fit();
    Ok(body)
}

fn holder(lease: &Lease) -> HolderEntry<'_> {
    HolderEntry {
        id: lease.id.to_string(),
        token: lease.token.get(),
        mode: lease.mode.as_str(),
        permits: lease.permits,
        session: lease.session.map(|session| session.to_string()),
        ttl_ms: whole_ms(lease.ttl),
        renewals: lease.renewals,
        acquired_at: rfc3339(lease.acquired_at),
        renewed_at: rfc3339(lease.renewed_at),
        expires_at: rfc3339(lease.expires_at),
        released_at: lease.released_at.map(rfc3339),
        owner: owner(&lease.owner, &lease.owner_unknown),
        unknown: &lease.unknown,
    }
}

fn ticket(ticket: &Ticket) -> TicketEntry<'_> {
    TicketEntry {
        id: ticket.id.to_string(),
        session: ticket.session.to_string(),
        mode: ticket.mode.as_str(),
        permits: ticket.permits,
        ttl_ms: whole_ms(ticket.ttl),
        since: rfc3339(ticket.since),
        owner: owner(&ticket.owner, &ticket.owner_unknown),
        unknown: &ticket.unknown,
    }
}

fn done(done: &Done) -> DoneEntry<'_> {
    DoneEntry {
        result: &done.result.0,
        at: rfc3339(done.at),
        token: done.token.get(),
        owner: owner(&done.owner, &done.owner_unknown),
        retention_ms: done.retention.map(whole_ms),
        unknown: &done.unknown,
    }
}

fn arrived(arrived: &Arrived) -> ArrivedEntry<'_> {
    ArrivedEntry { member: &arrived.member, at: rfc3339(arrived.at), unknown: &arrived.unknown }
}

fn tenure(tenure: &Tenure) -> TenureEntry<'_> {
    TenureEntry {
        id: tenure.id.to_string(),
        token: tenure.token.get(),
        owner: owner(&tenure.owner, &tenure.owner_unknown),
        from: rfc3339(tenure.from),
        to: rfc3339(tenure.to),
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
    history: Vec<TenureEntry<'a>>,
    #[serde(flatten)]
    unknown: &'a Unknown,
}

#[derive(Serialize)]
struct HolderEntry<'a> {
    id: String,
    token: u64,
    mode: &'static str,
    permits: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    ttl_ms: u64,
    renewals: u64,
    acquired_at: String,
    renewed_at: String,
    expires_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    released_at: Option<String>,
    owner: OwnerEntry<'a>,
    #[serde(flatten)]
    unknown: &'a Unknown,
}

#[derive(Serialize)]
struct TicketEntry<'a> {
    id: String,
    session: String,
    mode: &'static str,
    permits: u32,
    ttl_ms: u64,
    since: String,
    owner: OwnerEntry<'a>,
    #[serde(flatten)]
    unknown: &'a Unknown,
}

#[derive(Serialize)]
struct DoneEntry<'a> {
    result: &'a Value,
    at: String,
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
    at: String,
    #[serde(flatten)]
    unknown: &'a Unknown,
}

#[derive(Serialize)]
struct TenureEntry<'a> {
    id: String,
    token: u64,
    owner: OwnerEntry<'a>,
    from: String,
    to: String,
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
