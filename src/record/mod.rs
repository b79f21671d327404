//! The wire record: one small JSON object per lock, semaphore, session, or key of work that is run
//! once. This folder is the only place that knows JSON.
//!
//! The format is described in `docs/PROTOCOL.md`. A record that cannot be understood whole is
//! never rewritten: the [`RecordError`] names the path and the fault, and the lock counts as held
//! (hazard H10).

mod decode;
mod encode;
mod gathering;
mod past;
mod payload;
mod stamp;
mod wake;

use std::time::Duration;

use chrono::{DateTime, Datelike, Timelike};

pub use gathering::{Arrived, Gathering, MAX_MEMBER, MAX_MEMBERS};
pub use past::Past;
pub use payload::Payload;
pub use stamp::{MAX_MARKS, Mark, Stamp};
pub(crate) use stamp::{content_length, padding};
pub use wake::Wake;

use crate::holder::{HolderId, Nonce, Owner};
use crate::time::Wall;
use crate::token::FencingToken;

/// The only format there is so far.
pub(crate) const FORMAT: u64 = 1;
/// How many past tenures a record remembers.
pub(crate) const MAX_HISTORY: usize = 16;
/// Holders that a record may have at once, where it may have several.
pub const MAX_HOLDERS: usize = 128;
/// Waiters that may queue in a record. Who finds the queue full waits without a ticket.
pub const MAX_WAITERS: usize = 64;
/// Permits that a semaphore may have.
pub const MAX_PERMITS: u32 = 65_536;
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
    /// A lock that one writer or several readers hold.
    RwLock,
    /// A semaphore.
    Semaphore,
    /// Something that opens when enough have arrived, and stays open.
    Latch,
    /// Something that opens whenever all have arrived.
    Barrier,
    /// Work that is run once.
    Once,
    /// A session: the one lease of all that a process holds under it.
    Session,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Lock,
        Self::RwLock,
        Self::Semaphore,
        Self::Latch,
        Self::Barrier,
        Self::Once,
        Self::Session,
    ];

    /// The word in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::RwLock => "rwlock",
            Self::Semaphore => "semaphore",
            Self::Latch => "latch",
            Self::Barrier => "barrier",
            Self::Once => "once",
            Self::Session => "session",
        }
    }

    /// Whether records of both kinds lie under the same keys, so that a name that belongs to one of
    /// them can be opened as the other by mistake.
    pub fn shares_keys_with(self, other: Self) -> bool {
        let alone = |kind| matches!(kind, Self::Once | Self::Session);
        self == other || !(alone(self) || alone(other))
    }

    /// Largest record that may lie where this kind does, in bytes of JSON: many holders need room,
    /// and so does a result.
    pub(crate) const fn max_bytes(self) -> usize {
        match self {
            Self::Once => 64 * 1024 + Payload::MAX_RESULT_BYTES,
            Self::Session => 64 * 1024,
            _ => 256 * 1024,
        }
    }

    /// Holders at once.
    const fn max_holders(self) -> usize {
        match self {
            Self::Lock | Self::Once | Self::Session => 1,
            Self::RwLock | Self::Semaphore => MAX_HOLDERS,
            Self::Latch | Self::Barrier => 0,
        }
    }

    /// Whether it is something at which members arrive.
    pub(crate) const fn gathers(self) -> bool {
        matches!(self, Self::Latch | Self::Barrier)
    }

    pub(crate) const fn described(self) -> &'static str {
        match self {
            Self::Lock => "a lock",
            Self::RwLock => "a lock for readers and writers",
            Self::Semaphore => "a semaphore",
            Self::Latch => "a latch",
            Self::Barrier => "a barrier",
            Self::Once => "work that is run once",
            Self::Session => "a session",
        }
    }
}

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// By one alone.
    Exclusive,
    /// Beside others.
    Shared,
}

impl Mode {
    /// The word in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exclusive => "exclusive",
            Self::Shared => "shared",
        }
    }
}

/// The record of a lock, or of another primitive.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// What it is the record of.
    pub kind: Kind,
    /// The highest token ever issued under this name; never decreases.
    pub token: FencingToken,
    /// New for every write.
    pub nonce: Nonce,
    /// The leases of those who hold it; empty when it is free.
    pub holders: Vec<Lease>,
    /// How many permits there are: of a semaphore; how many members a latch or a barrier waits for; 1
    /// elsewhere.
    pub limit: u32,
    /// What the last holder to set one left for others to read.
    pub payload: Option<Payload>,
    /// What the work has come to that is run once; never set in a lock's record.
    pub done: Option<Done>,
    /// Who has arrived: at a latch or a barrier, and nowhere else.
    pub gathering: Option<Gathering>,
    /// The last tenures, oldest first.
    pub history: Vec<Past>,
    /// Who waits in the queue, in the order in which they will be served.
    pub waiters: Vec<Ticket>,
    unknown: Unknown,
}

/// One holder's entry in a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// Which acquisition.
    pub id: HolderId,
    /// Its fencing token.
    pub token: FencingToken,
    /// Alone or beside others.
    pub mode: Mode,
    /// How many permits it has: of a semaphore; 1 elsewhere.
    pub permits: u32,
    /// The session under which it is held, if it is. Such an entry stands until its session has
    /// ended, and nobody renews it.
    pub session: Option<HolderId>,
    /// How long the lease lasts after each renewal, its own or its session's: what everybody judges
    /// it by.
    pub ttl: Duration,
    /// How often it was renewed.
    pub renewals: u64,
    /// When it was acquired, by the holder's wall clock.
    pub acquired_at: Wall,
    /// When it was last renewed, by the holder's wall clock.
    pub renewed_at: Wall,
    /// When its holder means to renew it next, by its wall clock, if it does so by itself. It tells others
    /// when to look, and nothing else.
    pub renews_at: Option<Wall>,
    /// When it ends, by the holder's wall clock: for people and the opt-in wall-clock rule.
    pub expires_at: Wall,
    /// Set when the work has ended and the entry only stays for the rest of its minimum hold.
    pub released_at: Option<Wall>,
    /// Who it is.
    pub owner: Owner,
    unknown: Unknown,
    owner_unknown: Unknown,
}

/// A waiter's place in the queue. It stands until its session has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ticket {
    /// The acquisition that it will be.
    pub id: HolderId,
    /// The session that keeps it alive, and under which the lock will be held.
    pub session: HolderId,
    /// Alone or beside others.
    pub mode: Mode,
    /// How many permits it waits for.
    pub permits: u32,
    /// How long the session lasts after each renewal.
    pub ttl: Duration,
    /// Since when it waits, by its wall clock: for people.
    pub since: Wall,
    /// Who it is.
    pub owner: Owner,
    /// Where it can be told that it is served, if it wants to be.
    pub wake: Option<Wake>,
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

    /// A free record of this kind whose counter stands at `token`; of a latch or a barrier, one at which
    /// nobody has arrived yet.
    pub fn free_of(kind: Kind, token: FencingToken, nonce: Nonce) -> Self {
        Self {
            kind,
            token,
            nonce,
            holders: Vec::new(),
            limit: 1,
            payload: None,
            done: None,
            gathering: kind.gathers().then(|| Gathering::new(nonce)),
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

    /// The record in `bytes`, of this kind or of one that [shares its keys](Kind::shares_keys_with).
    ///
    /// # Errors
    /// The first fault, with its path in the document; any other kind is [`Fault::OtherKind`].
    pub fn decode_of(kind: Kind, bytes: &[u8]) -> Result<Self, RecordError> {
        decode::record(kind, bytes)
    }

    /// The record as JSON. When it would exceed what its kind may have, the oldest tenures are left
    /// out.
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

    /// The ticket of this acquisition, if it waits in the queue.
    pub fn ticket(&self, id: HolderId) -> Option<&Ticket> {
        self.waiters.iter().find(|ticket| ticket.id == id)
    }

    /// How many permits are held.
    pub fn permits_held(&self) -> u64 {
        self.holders.iter().map(|lease| u64::from(lease.permits)).sum()
    }

    /// The tenure of this acquisition, if it has ended and is still remembered.
    pub fn tenure(&self, id: HolderId) -> Option<&Tenure> {
        self.history.iter().rev().find(|tenure| tenure.id == id).map(|tenure| &**tenure)
    }

    /// Moves every holder's entry into the history.
    pub(crate) fn retire_holders(&mut self, how: impl Fn(&Lease) -> End, at: Wall) {
        self.retire(|lease| Some(how(lease)), at);
    }

    /// Moves the entry of this acquisition into the history, if it is there.
    pub(crate) fn retire_holder(&mut self, id: HolderId, how: impl Into<End>, at: Wall) {
        let end = how.into();
        self.retire(|lease| (lease.id == id).then(|| end.clone()), at);
    }

    /// Moves the entries that have ended into the history.
    pub(crate) fn retire(&mut self, how: impl Fn(&Lease) -> Option<End>, at: Wall) {
        for lease in std::mem::take(&mut self.holders) {
            let Some(end) = how(&lease) else {
                self.holders.push(lease);
                continue;
            };
            let tenure = Tenure {
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
            };
            self.history.push(tenure.into());
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
            mode: Mode::Exclusive,
            permits: 1,
            session: None,
            ttl,
            renewals: 0,
            acquired_at: at,
            renewed_at: at,
            renews_at: None,
            expires_at: at.plus(ttl),
            released_at: None,
            owner,
            unknown: Unknown::new(),
            owner_unknown: Unknown::new(),
        }
    }
}

impl Ticket {
    /// The place in the queue of an acquisition that has waited since `at`.
    pub(crate) fn new(
        id: HolderId,
        session: HolderId,
        mode: Mode,
        permits: u32,
        ttl: Duration,
        at: Wall,
        owner: Owner,
    ) -> Self {
        let (unknown, owner_unknown) = (Unknown::new(), Unknown::new());
        Self {
            id,
            session,
            mode,
            permits,
            ttl,
            since: at,
            owner: Owner { note: None, ..owner },
            wake: None,
            unknown,
            owner_unknown,
        }
    }

    /// The entry that takes the ticket's place at `at`.
    pub(crate) fn admitted(self, token: FencingToken, at: Wall) -> Lease {
        Lease {
            mode: self.mode,
            permits: self.permits,
            session: Some(self.session),
            owner_unknown: self.owner_unknown,
            ..Lease::acquired(self.id, token, self.ttl, at, self.owner)
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
#[derive(Clone, Copy)]
pub(crate) struct Rfc3339([u8; 27]);

impl Rfc3339 {
    pub(crate) fn of(at: Wall) -> Self {
        let time = DateTime::from_timestamp_micros(tellable(at).micros()).unwrap_or_default();
        let (date, clock) = (time.date_naive(), time.time());
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        let fields = [
            (0..4, date.year().unsigned_abs()),
            (5..7, date.month()),
            (8..10, date.day()),
            (11..13, clock.hour()),
            (14..16, clock.minute()),
            (17..19, clock.second()),
            (20..26, clock.nanosecond() / 1000),
        ];
        for (place, mut number) in fields {
            for digit in text[place].iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
        Self(text)
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The same as a text.
pub(crate) fn rfc3339(at: Wall) -> String {
    Rfc3339::of(at).as_str().to_owned()
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
