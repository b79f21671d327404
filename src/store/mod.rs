//! Records on an object store: [`read`](LockStore::read), [`poll`](LockStore::poll) and
//! [`swap`](LockStore::swap), the only function that writes one.
//!
//! This folder never decides who holds a lock.

#[cfg(any(feature = "aws", feature = "azure", feature = "gcp"))]
mod connector;
pub(crate) mod directory;
mod examine;
mod facts;
pub(crate) mod objects;
pub(crate) mod open;
mod probe;
mod request;
mod swap;
mod time;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, ObjectMeta, ObjectStore, PutMode, PutPayload, UpdateVersion,
};

#[cfg(all(feature = "__fuzzing", feature = "aws"))]
pub(crate) use connector::date_of;
pub(crate) use facts::StoreNow;
use request::{Failure, Requests};
use swap::{ConditionalWrite, Landed};
pub(crate) use swap::{Patience, Swap};

use crate::clock::{Boot, Clock, Wall};
use crate::error::{Error, ErrorKind, Result};
use crate::holder::Nonce;
use crate::name;
use crate::record::{Fault, Kind, Record, RecordError};
use crate::rng::Randomness;

/// What names one write of an object: conditions are made with it. Google's stores go by the
/// version, the others by the ETag; both are carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    e_tag: Option<String>,
    version: Option<String>,
}

/// What a read found.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) content: Content,
    /// When the answer had come.
    pub(crate) received: Boot,
    /// The store's time, where the answer told it.
    pub(crate) now: Option<StoreNow>,
}

#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// There is no such object.
    Absent,
    /// A record.
    Record {
        record: Box<Record>,
        version: Version,
        /// When the store says it was written; `None` where the store does not say.
        last_modified: Option<Wall>,
    },
    /// Something that is not understood.
    Unreadable { error: RecordError, version: Version },
}

/// What a poll found.
#[derive(Debug)]
pub(crate) enum Polled {
    /// Still the version known.
    Unchanged {
        /// The store's time, where the answer told it.
        now: Option<StoreNow>,
    },
    /// Another.
    Changed(Box<Read>),
}

/// Records under one prefix of an object store.
#[derive(Debug)]
pub(crate) struct LockStore {
    requests: Requests,
    prefix: Path,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Randomness>,
    time: probe::TimeSource,
    fitness: probe::Fitness,
    metadata: probe::Fitness,
    e_tags: objects::ETags,
}

impl LockStore {
    pub(crate) fn prefix(&self) -> &Path {
        &self.prefix
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    pub(crate) fn rng(&self) -> &Arc<dyn Randomness> {
        &self.rng
    }

    pub(crate) fn nonce(&self) -> Nonce {
        Nonce::from_random(self.rng.bits())
    }

    /// Reads a record, with one request.
    ///
    /// # Errors
    /// The request failed. A damaged record is no error but [`Content::Unreadable`].
    pub(crate) async fn read(&self, key: &Path, limit: Duration) -> Result<Read> {
        match self.get(key, None, limit).await? {
            Polled::Changed(read) => Ok(*read),
            Polled::Unchanged { .. } => Err(Error::new(
                ErrorKind::UnfitStore,
                "an unconditional read was answered with 304",
            )),
        }
    }

    /// Reads a record unless it still is this version, with one request.
    ///
    /// # Errors
    /// The request failed.
    pub(crate) async fn poll(
        &self,
        key: &Path,
        known: &Version,
        limit: Duration,
    ) -> Result<Polled> {
        self.get(key, Some(known), limit).await
    }

    async fn get(&self, key: &Path, known: Option<&Version>, limit: Duration) -> Result<Polled> {
        let if_none_match = known.and_then(|version| version.e_tag.clone());
        let kind = name::kind_of(key);
        let answer = self.requests.get(key, if_none_match, kind.max_bytes(), limit).await;
        let received = self.clock.now().boot;
        let read = |content, now| Ok(Polled::Changed(Box::new(Read { content, received, now })));
        let (got, now) = match answer {
            Ok(answer) => answer,
            Err(Failure::NotModified { now }) => return Ok(Polled::Unchanged { now }),
            Err(Failure::Absent { now }) => return read(Content::Absent, now),
            Err(failure) => return Err(failure.into_error(key)),
        };
        let version = Version::of(&got.meta);
        // Some servers answer a conditional read with 200 and the same version.
        if known.is_some_and(|known| known.is(&version)) {
            return Ok(Polled::Unchanged { now });
        }
        let content = match decode(kind, &got) {
            Ok(record) => Content::Record {
                record: Box::new(record),
                version,
                last_modified: plausible(&got.meta),
            },
            Err(error) => Content::Unreadable { error, version },
        };
        read(content, now)
    }

    /// Writes `record` if the object still is what `expected` says: absent, or this version.
    ///
    /// The only function that writes records.
    ///
    /// # Errors
    /// It was not applied and never will be.
    pub(crate) async fn swap(
        &self,
        key: &Path,
        expected: Option<&Version>,
        record: &Record,
        patience: Patience,
    ) -> Result<Swap<Box<Read>>> {
        let (body, nonce) = (encode(record)?, record.nonce);
        let write = RecordWrite { store: self, key, expected, body, nonce };
        swap::see_through(&write, &self.clock, &self.rng, patience).await
    }

    async fn put(
        &self,
        key: &Path,
        expected: Option<&Version>,
        body: Bytes,
        attributes: Attributes,
        limit: Duration,
    ) -> Result<Version, Failure> {
        let mode = match expected {
            None => PutMode::Create,
            Some(version) => PutMode::Update(version.clone().into()),
        };
        let result =
            self.requests.put(key, PutPayload::from_bytes(body), mode, attributes, limit).await?;
        let version = Version { e_tag: result.e_tag, version: result.version };
        if version.e_tag.is_none() && version.version.is_none() {
            return Err(Failure::Unclear("the store acknowledged a write without an ETag".into()));
        }
        Ok(version)
    }

    /// Deletes a record that means the same as none, if the store permits it: a session's that has
    /// ended. No other is ever deleted.
    pub(crate) async fn delete(&self, key: &Path, limit: Duration) {
        self.requests.delete(key, limit).await;
    }

    /// Whether nothing is left to check before writing.
    pub(crate) fn is_known_fit(&self) -> bool {
        self.fitness.is_known()
    }

    /// Refuses a store that does not honour conditional writes: once per store and process, before
    /// the first write (hazard H14).
    ///
    /// # Errors
    /// [`UnfitStore`](ErrorKind::UnfitStore), or the check could not be made.
    pub(crate) async fn ensure_fit(&self) -> Result<()> {
        probe::ensure_conditions(self).await
    }

    /// The store's time, where an answer does not tell it but it can be asked for; may cost
    /// requests.
    pub(crate) async fn ask_time(&self, limit: Duration) -> Option<StoreNow> {
        self.time.ask(self, limit).await
    }

    /// The store's time, told by an answer or as far as it costs nothing to find out.
    pub(crate) async fn time_for_free(
        &self,
        told: Option<StoreNow>,
        limit: Duration,
    ) -> Option<StoreNow> {
        match told {
            None if self.time.is_free() => self.time.ask(self, limit).await,
            told => told,
        }
    }

    /// The store's time by the stamp of a scratch object, whatever answers say.
    pub(crate) async fn probe_time(&self, limit: Duration) -> Option<StoreNow> {
        probe::probe_time(self, limit).await
    }

    /// What must be added to an age by the store's clock for the resolution of its stamps.
    pub(crate) fn time_margin(&self) -> Duration {
        self.time.margin()
    }

    /// All objects below `prefix`.
    pub(crate) fn list(&self, prefix: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let describe = self.requests.clone();
        self.requests
            .objects()
            .list(Some(prefix))
            .map(move |entry| {
                entry.map_err(|error| describe.explain(error).into_error(&Path::default()))
            })
            .boxed()
    }
}

/// A record on its way to the store.
struct RecordWrite<'a> {
    store: &'a LockStore,
    key: &'a Path,
    expected: Option<&'a Version>,
    body: Bytes,
    nonce: Nonce,
}

impl ConditionalWrite for RecordWrite<'_> {
    type Found = Box<Read>;
    type Conflict = Box<Read>;

    fn key(&self) -> &Path {
        self.key
    }

    async fn put(&self, limit: Duration) -> Result<Version, Failure> {
        let attributes = json_attributes();
        self.store.put(self.key, self.expected, self.body.clone(), attributes, limit).await
    }

    async fn read(&self, limit: Duration) -> Result<Box<Read>> {
        self.store.read(self.key, limit).await.map(Box::new)
    }

    fn recognise(&self, read: &Box<Read>) -> Landed {
        match (&read.content, self.expected) {
            (Content::Record { record, version, .. }, _) if record.nonce == self.nonce => {
                Landed::Ours(version.clone())
            }
            (Content::Absent, None) => Landed::NotYet,
            (Content::Record { version, .. } | Content::Unreadable { version, .. }, Some(old))
                if version.is(old) =>
            {
                Landed::NotYet
            }
            _ => Landed::Other,
        }
    }

    fn conflict(&self, found: Box<Read>, _refused: bool) -> Box<Read> {
        found
    }
}

fn json_attributes() -> Attributes {
    let mut attributes = Attributes::with_capacity(2);
    attributes.insert(Attribute::ContentType, "application/json".into());
    attributes.insert(Attribute::CacheControl, "no-store".into());
    attributes
}

impl Version {
    fn of(meta: &ObjectMeta) -> Self {
        Self { e_tag: meta.e_tag.clone(), version: meta.version.clone() }
    }

    /// Whether both name the same write. Some stores tell the version in one kind of answer only.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let agree = |a: &Option<String>, b: &Option<String>| match (a, b) {
            (Some(a), Some(b)) => Some(a == b),
            _ => None,
        };
        let e_tags = agree(&self.e_tag, &other.e_tag);
        let versions = agree(&self.version, &other.version);
        e_tags.or(versions) == Some(true) && versions != Some(false)
    }
}

impl From<Version> for UpdateVersion {
    fn from(version: Version) -> Self {
        Self { e_tag: version.e_tag, version: version.version }
    }
}

fn encode(record: &Record) -> Result<Bytes> {
    record.encode().map(Bytes::from).map_err(|error| {
        Error::new(ErrorKind::InvalidOptions, "the lock's record cannot be written")
            .caused_by(error)
    })
}

fn decode(kind: Kind, got: &request::Got) -> Result<Record, RecordError> {
    match &got.body {
        Some(body) => Record::decode_of(kind, body),
        None => Err(RecordError {
            path: String::new(),
            fault: Fault::TooLarge { size: got.meta.size, limit: kind.max_bytes() as u64 },
        }),
    }
}

/// The object's age stamp, unless the store does not say: a missing header reads as the epoch, and
/// a lease would seem to have expired half a century ago (hazard H23).
fn plausible(meta: &ObjectMeta) -> Option<Wall> {
    const YEAR_2000: Wall = Wall::from_micros(946_684_800_000_000);
    let stamp = Wall::from_micros(meta.last_modified.timestamp_micros());
    (stamp > YEAR_2000).then_some(stamp)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn version(e_tag: Option<&str>, version: Option<&str>) -> Version {
        Version { e_tag: e_tag.map(str::to_owned), version: version.map(str::to_owned) }
    }

    #[test]
    fn a_version_is_another_by_whatever_both_tell() {
        let both = version(Some("a"), Some("1"));
        for same in [both.clone(), version(Some("a"), None), version(None, Some("1"))] {
            assert!(both.is(&same) && same.is(&both), "{same:?}");
        }
        for other in [
            version(Some("b"), Some("1")),
            version(Some("a"), Some("2")),
            version(Some("b"), Some("2")),
            version(Some("b"), None),
            version(None, Some("2")),
            // Nothing to compare proves nothing.
            version(None, None),
        ] {
            assert!(!both.is(&other) && !other.is(&both), "{other:?}");
        }
        assert!(!version(Some("a"), None).is(&version(None, Some("1"))));
    }

    fn opened(url: Option<&str>) -> LockStore {
        let opening = open::Opening {
            clock: Arc::new(crate::clock::SystemClock),
            rng: Arc::new(crate::rng::SystemRandomness),
            options: std::collections::BTreeMap::new(),
            prefix: None,
            check: false,
        };
        let opened = match url {
            Some(url) => open::url(url, opening),
            None => open::object_store(Arc::new(object_store::memory::InMemory::new()), opening),
        };
        opened.unwrap().0
    }

    #[test]
    fn whole_seconds_and_several_machines_need_a_margin() {
        assert_eq!(opened(None).time_margin(), Duration::from_secs(3));
        assert_eq!(opened(Some("memory:///")).time_margin(), Duration::ZERO);
    }

    #[test]
    fn only_a_users_own_store_has_to_be_asked_for_its_time() {
        assert!(!opened(None).time.is_free());
        assert!(opened(Some("memory:///")).time.is_free());
    }

    #[test]
    fn a_condition_carries_the_e_tag_and_the_version() {
        let condition = UpdateVersion::from(version(Some("a"), Some("1")));
        assert_eq!(
            (condition.e_tag.as_deref(), condition.version.as_deref()),
            (Some("a"), Some("1"))
        );
    }

    #[test]
    fn stamps_from_before_there_were_such_stores_are_none() {
        let stamped = |seconds| {
            plausible(&ObjectMeta {
                location: Path::from("x"),
                last_modified: DateTime::from_timestamp(seconds, 0).unwrap(),
                size: 0,
                e_tag: None,
                version: None,
            })
        };
        assert_eq!(stamped(0), None);
        assert_eq!(stamped(946_684_800), None);
        assert_eq!(stamped(946_684_801), Some(Wall::from_micros(946_684_801_000_000)));
        assert_eq!(stamped(-1), None);
    }
}
