//! The wire record: one small JSON object per lock, or per key of work that is run once. This folder
//! is the only place that knows JSON.
//!
//! The format is described in `docs/PROTOCOL.md`. A record that cannot be understood whole is
//! never rewritten: the [`RecordError`] names the path and the fault, and the lock counts as held
//! (hazard H10).

mod decode;
mod encode;
mod payload;
mod stamp;

use std::time::Duration;

use chrono::{DateTime, Datelike, Timelike};

pub use payload::Payload;
pub use stamp::{MAX_MARKS, Mark, Stamp};
pub(crate) use stamp::{content_length, padding};

use crate::holder::{HolderId, Nonce, Owner};
use crate::time::Wall;
use crate::token::FencingToken;

/// The only format there is so far.
pub(crate) const FORMAT: u64 = 1;
/// How many past tenures a record remembers.
pub(crate) const MAX_HISTORY: usize = 16;
/// Shortest TTL a record may carry.
pub(crate) const MIN_TTL: Duration = Duration::from_secs(1);
/// Longest TTL a record may carry.
pub(crate) const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// Shortest time for which a result is kept.
pub(crate) const MIN_RETENTION: Duration = Duration::from_secs(1);
/// Longest time for which a result is kept, unless it is kept for ever: a hundred years.
pub(crate) const MAX_RETENTION: Duration = Duration::from_secs(36_525 * 24 * 60 * 60);

/// Fields that this version does not know. They survive a rewrite.
type Unknown = serde_json::Map<String, serde_json::Value>;

/// Which primitive a record belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A lock.
    Lock,
    /// Work that is run once.
    Once,
}

impl Kind {
    /// The word in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Once => "once",
        }
    }

    /// Largest record of this kind, in bytes of JSON: a result has room of its own.
    pub(crate) const fn max_bytes(self) -> usize {
        match self {
            Self::Lock => 64 * 1024,
            Self::Once => 64 * 1024 + Payload::MAX_RESULT_BYTES,
        }
    }

    const fn described(self) -> &'static str {
        match self {
            Self::Lock => "a lock",
            Self::Once => "work that is run once",
        }
    }
}

/// The record of a lock, or of work that is run once.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// What it is the record of.
    pub kind: Kind,
    /// The highest token ever issued under this name; never decreases.
    pub token: FencingToken,
    /// New for every write.
    pub nonce: Nonce,
    /// The lease, when the lock is held; empty when it is free.
    pub holders: Vec<Lease>,
    /// What the last holder to set one left for others to read.
    pub payload: Option<Payload>,
    /// What the work has come to that is run once; never set in a lock's record.
    pub done: Option<Done>,
    /// The last tenures, oldest first.
    pub history: Vec<Tenure>,
    /// Waiters, as written by versions that queue them.
    waiters: Vec<serde_json::Value>,
    unknown: Unknown,
}

/// One holder's entry in a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// Which acquisition.
    pub id: HolderId,
    /// Its fencing token.
    pub token: FencingToken,
    /// How long the lease lasts after each renewal: what everybody judges this entry by.
    pub ttl: Duration,
    /// How often it was renewed.
    pub renewals: u64,
    /// When it was acquired, by the holder's wall clock.
    pub acquired_at: Wall,
    /// When it was last renewed, by the holder's wall clock.
    pub renewed_at: Wall,
    /// When it ends, by the holder's wall clock: for people and the opt-in wall-clock rule.
    pub expires_at: Wall,
    /// Set when the work has ended and the entry only stays for the rest of its minimum hold.
    pub released_at: Option<Wall>,
    /// Who it is.
    pub owner: Owner,
    unknown: Unknown,
    owner_unknown: Unknown,
}

/// Work that has been done: what it has come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    /// Its result.
    pub result: Payload,
    /// When it was recorded, by the runner's wall clock: for people.
    pub at: Wall,
    /// The fencing token of the run.
    pub token: FencingToken,
    /// Who ran it.
    pub owner: Owner,
    /// For how long the result stands, by the store's clock, before the work may be run again; for
    /// ever without.
    pub retention: Option<Duration>,
    unknown: Unknown,
    owner_unknown: Unknown,
}

/// A tenure that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Tenure {
    /// Which acquisition.
    pub id: HolderId,
    /// Its fencing token.
    pub token: FencingToken,
    /// Who it was.
    pub owner: Owner,
    /// When it was acquired, by the holder's wall clock.
    pub from: Wall,
    /// When its end was written, by the writer's wall clock.
    pub to: Wall,
    /// How it ended.
    pub ended: Ended,
    /// Who ended it, if not the holder.
    pub by: Option<String>,
    /// Why, if somebody said.
    pub reason: Option<String>,
    unknown: Unknown,
    owner_unknown: Unknown,
}

/// How a tenure ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// The holder gave it back.
    Released,
    /// It ran out and another holder took over.
    Expired,
    /// Somebody broke it.
    Broken,
    /// Its work was done, and the result was recorded.
    Finished,
    /// In a way that a newer version writes.
    Other(String),
}

impl Ended {
    /// The word in the record.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Released => "released",
            Self::Expired => "expired",
            Self::Broken => "broken",
            Self::Finished => "finished",
            Self::Other(word) => word,
        }
    }
}

impl Record {
    /// A free lock's record whose counter stands at `token`.
    pub fn free(token: FencingToken, nonce: Nonce) -> Self {
        Self::free_of(Kind::Lock, token, nonce)
    }

    /// A free record of this kind whose counter stands at `token`.
    pub fn free_of(kind: Kind, token: FencingToken, nonce: Nonce) -> Self {
        Self {
            kind,
            token,
            nonce,
            holders: Vec::new(),
            payload: None,
            done: None,
            history: Vec::new(),
            waiters: Vec::new(),
            unknown: Unknown::new(),
        }
    }

    /// The lock's record in `bytes`.
    ///
    /// # Errors
    /// The first fault, with its path in the document.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        Self::decode_of(Kind::Lock, bytes)
    }

    /// The record of this kind in `bytes`.
    ///
    /// # Errors
    /// The first fault, with its path in the document; another kind is [`Fault::OtherKind`].
    pub fn decode_of(kind: Kind, bytes: &[u8]) -> Result<Self, RecordError> {
        decode::record(kind, bytes)
    }

    /// The record as JSON. When it would exceed 64 KiB, or 128 KiB where there may be a result, the
    /// oldest tenures are left out.
    ///
    /// # Errors
    /// It is too large even without history.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        encode::record(self)
    }

    /// The entry of this acquisition, if it is there.
    pub fn lease(&self, id: HolderId) -> Option<&Lease> {
        self.holders.iter().find(|lease| lease.id == id)
    }

    /// The tenure of this acquisition, if it has ended and is still remembered.
    pub fn tenure(&self, id: HolderId) -> Option<&Tenure> {
        self.history.iter().rev().find(|tenure| tenure.id == id)
    }

    /// Moves every holder's entry into the history.
    pub(crate) fn retire_holders(&mut self, how: impl Fn(&Lease) -> End, at: Wall) {
        for lease in std::mem::take(&mut self.holders) {
            let end = how(&lease);
            self.history.push(Tenure {
                id: lease.id,
                token: lease.token,
                owner: Owner { note: None, ..lease.owner },
                from: lease.acquired_at,
                to: at,
                ended: end.ended,
                by: end.by,
                reason: end.reason,
                unknown: Unknown::new(),
                owner_unknown: lease.owner_unknown,
            });
        }
        let surplus = self.history.len().saturating_sub(MAX_HISTORY);
        self.history.drain(..surplus);
    }
}

/// How a tenure ended, and at whose hand.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) ended: Ended,
    pub(crate) by: Option<String>,
    pub(crate) reason: Option<String>,
}

impl From<Ended> for End {
    fn from(ended: Ended) -> Self {
        Self { ended, by: None, reason: None }
    }
}

impl Done {
    /// What the holder of `lease` leaves at `at`.
    pub(crate) fn of(
        lease: &Lease,
        result: Payload,
        retention: Option<Duration>,
        at: Wall,
    ) -> Self {
        Self {
            result,
            at,
            token: lease.token,
            owner: Owner { note: None, ..lease.owner.clone() },
            retention,
            unknown: Unknown::new(),
            owner_unknown: lease.owner_unknown.clone(),
        }
    }
}

impl Lease {
    /// A lease acquired at `at` for `ttl`.
    pub(crate) fn acquired(
        id: HolderId,
        token: FencingToken,
        ttl: Duration,
        at: Wall,
        owner: Owner,
    ) -> Self {
        Self {
            id,
            token,
            ttl,
            renewals: 0,
            acquired_at: at,
            renewed_at: at,
            expires_at: at.plus(ttl),
            released_at: None,
            owner,
            unknown: Unknown::new(),
            owner_unknown: Unknown::new(),
        }
    }
}

/// Why a record could not be understood or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{fault}", at_path(.path))]
pub struct RecordError {
    /// Where in the document, such as `holders[0].ttl_ms`; empty for the whole of it.
    pub path: String,
    /// What is wrong there.
    pub fault: Fault,
}

/// What is wrong at a place in a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// It is not JSON, or is cut off.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// It is larger than a record may be.
    #[error("{size} bytes are more than the {limit} allowed")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A newer version wrote it.
    #[error("format {found} is newer than {FORMAT}, the newest this version understands")]
    NewerFormat {
        /// The format it carries.
        found: u64,
    },
    /// It belongs to another kind of primitive.
    #[error("this is a {found:?}, not {}", .expected.described())]
    OtherKind {
        /// The kind it carries.
        found: String,
        /// The kind that was looked for.
        expected: Kind,
    },
    /// A field that must be there is not.
    #[error("missing")]
    Missing,
    /// A value has another type or form than it must have.
    #[error("expected {expected}, found {found}")]
    Unexpected {
        /// What belongs there.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A number or a length is implausible.
    #[error("{found} is out of range ({range})")]
    OutOfRange {
        /// What is there.
        found: String,
        /// What would be plausible.
        range: &'static str,
    },
}

fn at_path(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("{path}: ") }
}

/// Any serialisable view as indented JSON.
pub(crate) fn to_pretty_json(view: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(view).unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}"))
}

/// RFC 3339 has the years 0 to 9999. What lies outside is told as the end of them: no reader would
/// understand more, and a clock gone wild must not make a record that nobody can read.
pub(crate) fn tellable(at: Wall) -> Wall {
    const FIRST: Wall = Wall::from_micros(-62_167_219_200_000_000);
    const LAST: Wall = Wall::from_micros(253_402_300_799_999_999);
    at.clamp(FIRST, LAST)
}

/// RFC 3339 with microseconds, in UTC. A record has dozens of times, and each write formats all of
/// them: by hand, as the general formatter takes longer than all the rest of a write.
pub(crate) fn rfc3339(at: Wall) -> String {
    let time = DateTime::from_timestamp_micros(tellable(at).micros()).unwrap_or_default();
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    let fields = [
        (0..4, time.year().unsigned_abs()),
        (5..7, time.month()),
        (8..10, time.day()),
        (11..13, time.hour()),
        (14..16, time.minute()),
        (17..19, time.second()),
        (20..26, time.timestamp_subsec_micros()),
    ];
    for (place, mut number) in fields {
        for digit in text[place].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
    text.iter().map(|byte| char::from(*byte)).collect()
}

#[cfg(test)]
mod tests {
    use chrono::SecondsFormat;

    use super::*;

    #[test]
    fn times_are_written_as_the_general_formatter_would() {
        let mut micros = -62_167_219_200_000_000_i64;
        while micros < 253_402_300_800_000_000 {
            let time = DateTime::from_timestamp_micros(micros).unwrap();
            let expected = time.to_rfc3339_opts(SecondsFormat::Micros, true);
            assert_eq!(rfc3339(Wall::from_micros(micros)), expected);
            micros += 123_456_789_012_345;
        }
    }

    #[test]
    fn times_of_a_clock_gone_wild_can_still_be_read() {
        let written = |micros| rfc3339(Wall::from_micros(micros));
        assert_eq!(written(253_402_300_800_000_000), "9999-12-31T23:59:59.999999Z");
        assert_eq!(written(i64::MAX), "9999-12-31T23:59:59.999999Z");
        assert_eq!(written(-62_167_219_200_000_001), "0000-01-01T00:00:00.000000Z");
        assert_eq!(written(i64::MIN), "0000-01-01T00:00:00.000000Z");
    }
}
