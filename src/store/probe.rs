//! Questions to a store that no lock is involved in: does it honour conditions, what time is it
//! there?

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use object_store::path::Path;
use object_store::{Attribute, ObjectStoreExt, PutMode, PutPayload};

use super::directory::DirectoryStore;
use super::facts::StoreNow;
use super::request::Failure;
use super::time::{RESOLUTION, TOLERANCE};
use super::{LockStore, Version};
use crate::clock::{Boot, Wall};
use crate::error::{Error, ErrorKind, Result};
use crate::name::SCRATCH;

/// How long one request of a check may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How many writers race. Some stores honour the headers one at a time but not atomically: only a
/// race shows it. More would be slow on stores that serialise writers of one key.
const RACERS: usize = 4;

/// Whether the store has been found fit to hold locks.
#[derive(Debug)]
pub(crate) struct Fitness {
    known: AtomicBool,
    checking: tokio::sync::Mutex<()>,
}

impl Fitness {
    /// Nothing is known yet.
    pub(crate) fn unknown() -> Self {
        Self {
            known: AtomicBool::new(false),
            checking: tokio::sync::Mutex::new(()),
        }
    }

    /// The store is fit by construction, or the user vouches for it.
    pub(crate) fn vouched() -> Self {
        Self {
            known: AtomicBool::new(true),
            checking: tokio::sync::Mutex::new(()),
        }
    }

    pub(super) async fn ensure(&self, store: &LockStore) -> Result<()> {
        if self.known.load(Ordering::Acquire) {
            return Ok(());
        }
        let _one_at_a_time = self.checking.lock().await;
        if self.known.load(Ordering::Acquire) {
            return Ok(());
        }
        check(store).await?;
        self.known.store(true, Ordering::Release);
        Ok(())
    }
}

/// Races creates and then updates of a scratch object: of each at most one may succeed, and later
/// ones none.
async fn check(store: &LockStore) -> Result<()> {
    let key = scratch_key(store, "check");
    let verdict = race(store, &key).await;
    // Best effort: an object left behind is small and is no lock.
    let _ = store.requests.objects().delete(&key).await;
    verdict
}

async fn race(store: &LockStore, key: &Path) -> Result<()> {
    let created = write_at_once(store, key, None, RACERS).await?;
    refuse_more_than_one(&created, "If-None-Match", "create an object that exists")?;
    let again = write_at_once(store, key, None, 1).await?;
    if !again.is_empty() {
        return Err(unfit("If-None-Match", "create an object that exists"));
    }
    let current = read_version(store, key).await?;
    let updated = write_at_once(store, key, Some(&current), RACERS).await?;
    refuse_more_than_one(&updated, "If-Match", "update from the same version")?;
    if updated.is_empty() && read_version(store, key).await? == current {
        let message = "the store refuses every conditional update: it cannot hold locks";
        return Err(Error::new(ErrorKind::UnfitStore, message));
    }
    let stale = write_at_once(store, key, Some(&current), 1).await?;
    if !stale.is_empty() {
        return Err(unfit("If-Match", "update from a version that is gone"));
    }
    Ok(())
}

fn refuse_more_than_one(winners: &[Version], header: &str, what: &str) -> Result<()> {
    if winners.len() > 1 {
        Err(unfit(header, what))
    } else {
        Ok(())
    }
}

fn unfit(header: &str, what: &str) -> Error {
    Error::new(
        ErrorKind::UnfitStore,
        format!(
            "the store does not honour {header}: it let more than one writer {what}, so a lock on \
             it would have two holders at once"
        ),
    )
}

/// Writes different bodies at the same time; the versions of those that succeeded.
async fn write_at_once(
    store: &LockStore,
    key: &Path,
    expected: Option<&Version>,
    racers: usize,
) -> Result<Vec<Version>> {
    let writes = (0..racers).map(|_| {
        let body = format!("{{\"leaselock\": \"{:032x}\"}}", store.rng.bits());
        store.put(key, expected, Bytes::from(body), LIMIT)
    });
    let mut winners = Vec::new();
    for result in join_all(writes).await {
        match result {
            Ok(version) => winners.push(version),
            // An unclear answer proves nothing against the store.
            Err(Failure::Refused(_) | Failure::Unclear(_)) => {}
            Err(failure) => return Err(failure.into_error(key)),
        }
    }
    Ok(winners)
}

async fn read_version(store: &LockStore, key: &Path) -> Result<Version> {
    let got = store.requests.get(key, None, usize::MAX, LIMIT).await;
    let (got, _) = got.map_err(|failure| failure.into_error(key))?;
    Ok(Version::of(&got.meta))
}

fn scratch_key(store: &LockStore, what: &str) -> Path {
    let name = format!("{what}-{:032x}", store.rng.bits());
    store
        .prefix
        .parts()
        .chain([SCRATCH.into(), name.into()])
        .collect()
}

/// Where the store's time comes from.
#[derive(Debug)]
pub(crate) enum TimeSource {
    /// From the `Date` of every answer, at no extra request.
    Answers,
    /// This process stamps the objects itself, with its own wall clock.
    OwnWallClock,
    /// From the file system, which may be another machine's.
    Directory(DirectoryStore),
    /// From the stamp of an object written for the purpose.
    Probe(LastProbe),
}

/// The store's time as the last probe found it.
#[derive(Debug, Default)]
pub(crate) struct LastProbe(Mutex<Option<StoreNow>>);

/// File systems stamp with a clock that ticks every 10 ms at the slowest.
const FILE_TICK: Duration = Duration::from_millis(10);

/// How long a probe's answer is carried on by our own clock.
const PROBE_LASTS: Duration = Duration::from_secs(10 * 60);

impl TimeSource {
    /// What must be added to an age by this clock for the resolution of its stamps and the
    /// differences between the store's machines.
    pub(super) fn margin(&self) -> Duration {
        match self {
            Self::Answers | Self::Probe(_) => RESOLUTION + TOLERANCE,
            Self::OwnWallClock | Self::Directory(_) => Duration::ZERO,
        }
    }

    pub(super) async fn ask(&self, store: &LockStore, limit: Duration) -> Option<StoreNow> {
        let asked = store.clock.now();
        match self {
            Self::Answers => None,
            Self::OwnWallClock => Some(StoreNow {
                at_least: asked.wall,
                at_most: asked.wall,
                at: asked.boot,
            }),
            Self::Directory(directory) => {
                let time = directory.store_time().await.inspect_err(
                    |error| tracing::debug!(%error, "the file system did not tell its time"),
                );
                let stamp = Wall::from_micros(time.ok()?.timestamp_micros());
                let at = store.clock.now().boot;
                let at_most = stamp.plus(FILE_TICK).plus(at.since(asked.boot));
                Some(StoreNow {
                    at_least: stamp,
                    at_most,
                    at,
                })
            }
            Self::Probe(last) => match last.carried_to(store.clock.now().boot) {
                Some(now) => Some(now),
                None => {
                    let now = probe_time(store, limit).await;
                    *last.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
                    now
                }
            },
        }
    }
}

impl LastProbe {
    fn carried_to(&self, now: Boot) -> Option<StoreNow> {
        let last = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        let passed = now.since(last.at);
        (passed < PROBE_LASTS).then(|| StoreNow {
            at_least: last.at_least.plus(passed - passed / 1000),
            at_most: last.at_most.plus(passed + passed / 1000),
            at: now,
        })
    }
}

/// Writes a scratch object and reads its stamp.
async fn probe_time(store: &LockStore, limit: Duration) -> Option<StoreNow> {
    let key = scratch_key(store, "time");
    let sent = store.clock.now().boot;
    let attributes = [
        (Attribute::ContentType, "text/plain".into()),
        (Attribute::CacheControl, "no-store".into()),
    ];
    let body = PutPayload::from_static(b"what time is it?\n");
    let written = store
        .requests
        .put(&key, body, PutMode::Create, attributes, limit)
        .await;
    let read = store.requests.get(&key, None, 1024, limit).await;
    let received = store.clock.now().boot;
    let _ = store.requests.objects().delete(&key).await;
    written.ok()?;
    let (got, _) = read.ok()?;
    let stamp = super::plausible(&got.meta)?;
    Some(StoreNow {
        at_least: stamp,
        at_most: stamp.plus(RESOLUTION).plus(received.since(sent)),
        at: received,
    })
}
