//! From JSON to a [`Record`], strictly: the first fault is reported with its path.

use std::collections::HashSet;
use std::str::FromStr;
use std::time::Duration;

use chrono::DateTime;
use serde_json::{Map, Value};

use super::{
    Arrived, Done, Ended, FORMAT, Fault, Gathering, Kind, Lease, MAX_HISTORY, MAX_HOLDERS,
    MAX_MEMBER, MAX_MEMBERS, MAX_PERMITS, MAX_RETENTION, MAX_TTL, MAX_WAITERS, MIN_RETENTION,
    MIN_TTL, Mode, Payload, Record, RecordError, Tenure, Ticket, Unknown, Wake, tellable,
};
use crate::holder::{HolderId, Nonce, Owner};
use crate::time::Wall;
use crate::token::FencingToken;

/// Longest free text, in bytes: a reason, or who broke a lease.
const MAX_TEXT: usize = 1024;

pub(super) fn record(expected: Kind, bytes: &[u8]) -> Result<Record, RecordError> {
    if bytes.len() > expected.max_bytes() {
        let limit = expected.max_bytes() as u64;
        let fault = Fault::TooLarge { size: bytes.len() as u64, limit };
        return Err(RecordError { path: String::new(), fault });
    }
    let document = serde_json::from_slice(bytes).map_err(|error| RecordError {
        path: String::new(),
        fault: Fault::NotJson(error.to_string()),
    })?;
    let mut fields = Fields::new(String::new(), document)?;

    // The format comes first: nothing else of a newer record can be judged.
    let format = fields.whole("format", 1..=u64::MAX, "1 or more")?;
    if format > FORMAT {
        return Err(fields.error("format", Fault::NewerFormat { found: format }));
    }
    let kind = kind(&mut fields, expected)?;
    let token = fields.token("token")?;
    let nonce = fields.parsed::<Nonce>("nonce", "32 hexadecimal digits")?;
    let limit = match kind {
        Kind::Semaphore => fields.count("limit", MAX_PERMITS, "1 to 65536")?,
        Kind::Latch | Kind::Barrier => fields.count("limit", MAX_MEMBERS, "1 to 1024")?,
        _ => fields.count("limit", 1, "1")?,
    };
    let holders = holders(&mut fields, kind, token)?;
    let payload = match fields.take("payload") {
        None | Some(Value::Null) => None,
        Some(value) => Some(Payload(value)),
    };
    let done = match kind {
        Kind::Once => fields.optional("done", |fields, key| done(fields, key, token))?,
        _ => None,
    };
    if done.is_some() && !holders.is_empty() {
        let fault = unexpected("nothing while somebody runs it", "a result".to_owned());
        return Err(fields.error("done", fault));
    }
    let gathering = match kind.gathers() {
        true => Some(gathering(&mut fields, kind, limit)?),
        false => None,
    };
    let waiters = fields.list("waiters", MAX_WAITERS, "at most 64 waiters")?;
    let history = fields.list("history", MAX_HISTORY, "at most 16 tenures")?;
    Ok(Record {
        kind,
        token,
        nonce,
        holders,
        limit,
        payload,
        done,
        gathering,
        waiters: waiters.into_iter().map(|entry| ticket(entry, kind)).collect::<Result<_, _>>()?,
        history: history
            .into_iter()
            .map(|past| tenure(past).map(Into::into))
            .collect::<Result<_, _>>()?,
        unknown: fields.rest(),
    })
}

fn kind(fields: &mut Fields, expected: Kind) -> Result<Kind, RecordError> {
    let found = fields.text("kind", 64)?;
    Kind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == found && kind.shares_keys_with(expected))
        .ok_or_else(|| fields.error("kind", Fault::OtherKind { found, expected }))
}

fn holders(
    fields: &mut Fields,
    kind: Kind,
    highest: FencingToken,
) -> Result<Vec<Lease>, RecordError> {
    let range = match kind.max_holders() {
        0 => "no holders",
        1 => "at most one holder",
        MAX_HOLDERS => "at most 128 holders",
        _ => "fewer holders",
    };
    let holders = fields.list("holders", kind.max_holders(), range)?;
    let holders = holders
        .into_iter()
        .map(|entry| lease(entry, kind, highest))
        .collect::<Result<Vec<_>, _>>()?;
    let exclusive = holders.iter().position(|lease| lease.mode == Mode::Exclusive);
    if let Some(index) = exclusive.filter(|_| holders.len() > 1) {
        let found = format!("\"exclusive\" beside {} others", holders.len() - 1);
        let path = format!("{}[{index}].mode", fields.path_of("holders"));
        return Err(RecordError { path, fault: unexpected("\"shared\"", found) });
    }
    Ok(holders)
}

fn lease((path, value): Entry, kind: Kind, highest: FencingToken) -> Result<Lease, RecordError> {
    let mut fields = Fields::new(path, value)?;
    let id = fields.parsed("id", "a UUID")?;
    let token = fields.token_up_to("token", highest)?;
    let (mode, permits) = share(&mut fields, kind)?;
    let session = fields.optional("session", |fields, key| fields.parsed(key, "a UUID"))?;
    let ttl = fields.ttl("ttl_ms")?;
    let renewals = fields.whole("renewals", 0..=u64::MAX - 1, "0 to 2^64 - 2")?;
    let acquired_at = fields.time("acquired_at")?;
    let renewed_at = fields.time("renewed_at")?;
    let renews_at = fields.optional("renews_at", Fields::time)?;
    let expires_at = fields.time("expires_at")?;
    let released_at = fields.optional("released_at", Fields::time)?;
    let (owner, owner_unknown) = owner(&mut fields)?;
    Ok(Lease {
        id,
        token,
        mode,
        permits,
        session,
        ttl,
        renewals,
        acquired_at,
        renewed_at,
        renews_at,
        expires_at,
        released_at,
        owner,
        unknown: fields.rest(),
        owner_unknown,
    })
}

fn ticket((path, value): Entry, kind: Kind) -> Result<Ticket, RecordError> {
    let mut fields = Fields::new(path, value)?;
    let id = fields.parsed("id", "a UUID")?;
    let session = fields.parsed::<HolderId>("session", "a UUID")?;
    let (mode, permits) = share(&mut fields, kind)?;
    let ttl = fields.ttl("ttl_ms")?;
    let since = fields.time("since")?;
    let (owner, owner_unknown) = owner(&mut fields)?;
    let wake = fields.understood("wake", Wake::understood);
    let unknown = fields.rest();
    Ok(Ticket { id, session, mode, permits, ttl, since, owner, wake, unknown, owner_unknown })
}

/// How much of it somebody holds or waits for.
fn share(fields: &mut Fields, kind: Kind) -> Result<(Mode, u32), RecordError> {
    let word = fields.text("mode", 64)?;
    let (allowed, expected): (&[Mode], _) = match kind {
        Kind::RwLock => (&[Mode::Exclusive, Mode::Shared], "\"exclusive\" or \"shared\""),
        Kind::Semaphore => (&[Mode::Shared], "\"shared\""),
        _ => (&[Mode::Exclusive], "\"exclusive\""),
    };
    let mode = allowed.iter().copied().find(|mode| mode.as_str() == word);
    let mode =
        mode.ok_or_else(|| fields.error("mode", unexpected(expected, format!("{word:?}"))))?;
    let permits = match kind {
        Kind::Semaphore => fields.count("permits", MAX_PERMITS, "1 to 65536")?,
        _ => fields.count("permits", 1, "1")?,
    };
    Ok((mode, permits))
}

fn done(fields: &mut Fields, key: &str, highest: FencingToken) -> Result<Done, RecordError> {
    let path = fields.path_of(key);
    let value = fields.required(key)?;
    let mut fields = Fields::new(path, value)?;
    let result = fields.required("result")?;
    let at = fields.time("at")?;
    let token = fields.token_up_to("token", highest)?;
    let shortest = MIN_RETENTION.as_millis() as u64;
    let longest = MAX_RETENTION.as_millis() as u64;
    let retention = fields.optional("retention_ms", |fields, key| {
        fields.whole(key, shortest..=longest, "1000 to 3155760000000")
    })?;
    let (owner, owner_unknown) = owner(&mut fields)?;
    Ok(Done {
        result: Payload(result),
        at,
        token,
        owner,
        retention: retention.map(Duration::from_millis),
        unknown: fields.rest(),
        owner_unknown,
    })
}

fn gathering(fields: &mut Fields, kind: Kind, limit: u32) -> Result<Gathering, RecordError> {
    let series = fields.parsed::<Nonce>("series", "32 hexadecimal digits")?;
    let epoch = fields.whole("epoch", 0..=Gathering::LAST_EPOCH, "0 to 2^53 - 2")?;
    // A barrier at which all have arrived is in its next epoch.
    let (most, range) = match kind {
        Kind::Barrier => (limit - 1, "fewer than `limit` members"),
        _ => (limit, "at most `limit` members"),
    };
    let entries = fields.list("arrived", most as usize, range)?;
    let mut arrived: Vec<Arrived> = Vec::with_capacity(entries.len());
    let mut seen = HashSet::with_capacity(entries.len());
    for entry in entries {
        let path = entry.0.clone();
        let entry = arrival(entry)?;
        if !seen.insert(entry.member.clone()) {
            let fault = unexpected("another member", format!("{:?} again", entry.member));
            return Err(RecordError { path: format!("{path}.member"), fault });
        }
        arrived.push(entry);
    }
    Ok(Gathering { series, epoch, arrived })
}

fn arrival((path, value): Entry) -> Result<Arrived, RecordError> {
    let mut fields = Fields::new(path, value)?;
    let member = fields.text("member", MAX_MEMBER)?;
    if let Some(fault) = Arrived::fault(&member) {
        return Err(fields.error("member", unexpected("a member's name", fault.to_owned())));
    }
    let at = fields.time("at")?;
    Ok(Arrived { member, at, unknown: fields.rest() })
}

fn tenure((path, value): Entry) -> Result<Tenure, RecordError> {
    let mut fields = Fields::new(path, value)?;
    let (owner, owner_unknown) = owner(&mut fields)?;
    Ok(Tenure {
        id: fields.parsed("id", "a UUID")?,
        token: fields.token("token")?,
        owner,
        from: fields.time("from")?,
        to: fields.time("to")?,
        ended: ended(fields.text("ended", 64)?),
        by: fields.optional("by", |fields, key| fields.text(key, MAX_TEXT))?,
        reason: fields.optional("reason", |fields, key| fields.text(key, MAX_TEXT))?,
        unknown: fields.rest(),
        owner_unknown,
    })
}

fn ended(word: String) -> Ended {
    match word.as_str() {
        "released" => Ended::Released,
        "expired" => Ended::Expired,
        "broken" => Ended::Broken,
        "finished" => Ended::Finished,
        _ => Ended::Other(word),
    }
}

fn owner(fields: &mut Fields) -> Result<(Owner, Unknown), RecordError> {
    let path = fields.path_of("owner");
    let value = fields.required("owner")?;
    let mut fields = Fields::new(path, value)?;
    let owner = Owner {
        label: fields.text("label", Owner::MAX_LABEL)?,
        host: fields.text("host", Owner::MAX_HOST)?,
        pid: fields.optional("pid", |fields, key| {
            let pid = fields.whole(key, 0..=u64::from(u32::MAX), "0 to 2^32 - 1")?;
            Ok(u32::try_from(pid).unwrap_or(u32::MAX))
        })?,
        note: fields.optional("note", |fields, key| fields.text(key, Owner::MAX_NOTE))?,
    };
    Ok((owner, fields.rest()))
}

/// A value and its path in the document.
type Entry = (String, Value);

/// The fields of one object, taken out one by one; what is left at the end is unknown.
struct Fields {
    path: String,
    map: Map<String, Value>,
}

impl Fields {
    fn new(path: String, value: Value) -> Result<Self, RecordError> {
        match value {
            Value::Object(map) => Ok(Self { path, map }),
            other => Err(RecordError { path, fault: unexpected("an object", describe(&other)) }),
        }
    }

    fn rest(self) -> Unknown {
        self.map
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn error(&self, key: &str, fault: Fault) -> RecordError {
        RecordError { path: self.path_of(key), fault }
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.map.remove(key)
    }

    fn required(&mut self, key: &str) -> Result<Value, RecordError> {
        self.take(key).ok_or_else(|| self.error(key, Fault::Missing))
    }

    /// A field that may be absent or null.
    fn optional<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Self, &str) -> Result<T, RecordError>,
    ) -> Result<Option<T>, RecordError> {
        match self.map.get(key) {
            None => Ok(None),
            Some(Value::Null) => {
                self.map.remove(key);
                Ok(None)
            }
            Some(_) => read(self, key).map(Some),
        }
    }

    /// A field that stays among the unknown ones where it is not what it should be.
    fn understood<T>(&mut self, key: &str, read: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        let found = read(self.map.get(key)?)?;
        self.map.remove(key);
        Some(found)
    }

    fn whole(
        &mut self,
        key: &str,
        allowed: std::ops::RangeInclusive<u64>,
        range: &'static str,
    ) -> Result<u64, RecordError> {
        let value = self.required(key)?;
        let found = || describe(&value);
        match value.as_u64() {
            Some(number) if allowed.contains(&number) => Ok(number),
            None if !value.is_number() => {
                Err(self.error(key, unexpected("a whole number", found())))
            }
            _ => Err(self.error(key, Fault::OutOfRange { found: found(), range })),
        }
    }

    /// A number of things, at least one.
    fn count(&mut self, key: &str, most: u32, range: &'static str) -> Result<u32, RecordError> {
        let count = self.whole(key, 1..=u64::from(most), range)?;
        Ok(u32::try_from(count).unwrap_or(most))
    }

    fn ttl(&mut self, key: &str) -> Result<Duration, RecordError> {
        let shortest = MIN_TTL.as_millis() as u64;
        let longest = MAX_TTL.as_millis() as u64;
        self.whole(key, shortest..=longest, "1000 to 86400000").map(Duration::from_millis)
    }

    fn token(&mut self, key: &str) -> Result<FencingToken, RecordError> {
        let range = "0 to 2^53 - 2";
        let number = self.whole(key, 0..=FencingToken::MAX.get() - 1, range)?;
        FencingToken::new(number)
            .ok_or_else(|| self.error(key, Fault::OutOfRange { found: number.to_string(), range }))
    }

    fn token_up_to(
        &mut self,
        key: &str,
        highest: FencingToken,
    ) -> Result<FencingToken, RecordError> {
        let token = self.token(key)?;
        if token > highest {
            let range = "up to the record's own token";
            return Err(self.error(key, Fault::OutOfRange { found: token.to_string(), range }));
        }
        Ok(token)
    }

    fn text(&mut self, key: &str, limit: usize) -> Result<String, RecordError> {
        match self.required(key)? {
            Value::String(text) if text.len() <= limit => Ok(text),
            Value::String(text) => {
                let (size, limit) = (text.len() as u64, limit as u64);
                Err(self.error(key, Fault::TooLarge { size, limit }))
            }
            other => Err(self.error(key, unexpected("a text", describe(&other)))),
        }
    }

    fn parsed<T: FromStr>(&mut self, key: &str, expected: &'static str) -> Result<T, RecordError> {
        let text = self.text(key, 128)?;
        text.parse().map_err(|_| self.error(key, unexpected(expected, format!("{text:?}"))))
    }

    fn time(&mut self, key: &str) -> Result<Wall, RecordError> {
        let text = self.text(key, 64)?;
        DateTime::parse_from_rfc3339(&text)
            .map(|time| tellable(Wall::from_micros(time.timestamp_micros())))
            .map_err(|_| self.error(key, unexpected("an RFC 3339 time", format!("{text:?}"))))
    }

    fn list(
        &mut self,
        key: &str,
        limit: usize,
        range: &'static str,
    ) -> Result<Vec<Entry>, RecordError> {
        let path = self.path_of(key);
        match self.required(key)? {
            Value::Array(values) if values.len() > limit => {
                let found = values.len().to_string();
                Err(self.error(key, Fault::OutOfRange { found, range }))
            }
            Value::Array(values) => Ok(values
                .into_iter()
                .enumerate()
                .map(|(index, value)| (format!("{path}[{index}]"), value))
                .collect()),
            other => Err(self.error(key, unexpected("a list", describe(&other)))),
        }
    }
}

fn unexpected(expected: &'static str, found: String) -> Fault {
    Fault::Unexpected { expected, found }
}

/// A value as an error message shows it: short, whatever somebody put there.
fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.len() <= 64 => format!("{text:?}"),
        Value::String(_) => "a text".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}
