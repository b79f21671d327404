//! Questions to a store that no lock is involved in: does it honour conditions, what time is it
//! there?

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use object_store::path::Path;
use object_store::{Attribute, Attributes};

use super::directory::DirectoryStore;
use super::facts::StoreNow;
use super::request::Failure;
use super::time::{RESOLUTION, StoreClock, TOLERANCE};
use super::{LockStore, Version, json_attributes};
use crate::clock::{Boot, Wall, timeout};
use crate::error::{Error, ErrorKind, Result};
use crate::name::SCRATCH;

/// How long one request of a check may take.
pub(super) const LIMIT: Duration = Duration::from_secs(10);
/// How many writers race. Some stores honour the headers one at a time but not atomically: only a
/// race shows it. More would be slow on stores that serialise writers of one key.
const RACERS: usize = 4;
/// How often a check is repeated that found out too little, and after which pause.
const ROUNDS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(1100);
/// File systems stamp with a clock that ticks every 10 ms at the slowest.
const FILE_TICK: Duration = Duration::from_millis(10);
/// Our own readings are rounded to a microsecond.
const WALL_TICK: Duration = Duration::from_micros(1);

/// Whether the store has been found fit to hold locks.
#[derive(Debug)]
pub(crate) struct Fitness {
    known: AtomicBool,
    checking: tokio::sync::Mutex<()>,
    /// Tells the store from others in this process, where it was opened by its URL.
    identity: Option<u64>,
}

/// The stores that this process has found fit.
static FIT: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());

impl Fitness {
    /// To be found out, unless this process has checked the store of this identity before.
    pub(crate) fn unknown(identity: Option<u64>) -> Self {
        let fit = FIT.lock().unwrap_or_else(PoisonError::into_inner);
        let known = identity.is_some_and(|identity| fit.contains(&identity));
        Self { known: AtomicBool::new(known), checking: tokio::sync::Mutex::new(()), identity }
    }

    /// The store is fit by construction, or the user vouches for it.
    pub(crate) fn vouched() -> Self {
        Self { known: AtomicBool::new(true), ..Self::unknown(None) }
    }

    pub(super) fn is_known(&self) -> bool {
        self.known.load(Ordering::Acquire)
    }

    /// Makes the check, unless it was made before.
    async fn ensure(&self, check: impl Future<Output = Result<()>>) -> Result<()> {
        if self.known.load(Ordering::Acquire) {
            return Ok(());
        }
        let _one_at_a_time = self.checking.lock().await;
        if self.known.load(Ordering::Acquire) {
            return Ok(());
        }
        check.await?;
        self.known.store(true, Ordering::Release);
        if let Some(identity) = self.identity {
            FIT.lock().unwrap_or_else(PoisonError::into_inner).insert(identity);
        }
        Ok(())
    }
}

/// Whether conditions are honoured.
pub(super) async fn ensure_conditions(store: &LockStore) -> Result<()> {
    store.fitness.ensure(check_conditions(store)).await
}

/// Whether objects keep their metadata.
pub(super) async fn ensure_metadata(store: &LockStore) -> Result<()> {
    store.metadata.ensure(check_metadata(store)).await
}

/// Writes a scratch object with metadata and reads it.
pub(super) async fn check_metadata(store: &LockStore) -> Result<()> {
    const NAME: &str = "leaselockcheck";
    let key = scratch_key(store, "metadata");
    let mut attributes = Attributes::with_capacity(1);
    attributes.insert(Attribute::Metadata(NAME.into()), "kept".into());
    let written = store.put(&key, None, Bytes::from_static(b"check\n"), attributes, LIMIT).await;
    // Whatever the answer was, the read tells: nobody else writes this object (hazard H1).
    let read = store.requests.get(&key, None, 1024, LIMIT).await;
    store.requests.delete(&key, LIMIT).await;
    match (written, read) {
        (Err(failure @ Failure::NotApplied { kind: ErrorKind::UnfitStore, .. }), _) => {
            Err(without_metadata().caused_by(failure.into_error(&key)))
        }
        (Err(failure), Err(_)) | (Ok(_), Err(failure)) => Err(failure.into_error(&key)),
        (_, Ok((got, _))) => match got.attributes.get(&Attribute::Metadata(NAME.into())) {
            Some(value) if value.as_ref() == "kept" => Ok(()),
            _ => Err(without_metadata()),
        },
    }
}

fn without_metadata() -> Error {
    Error::new(
        ErrorKind::UnfitStore,
        "the store does not keep metadata of objects, which is where a fence writes its tokens",
    )
}

/// Races creates and then updates of a scratch object: of each at most one may succeed, and later
/// ones none.
async fn check_conditions(store: &LockStore) -> Result<()> {
    for round in 1.. {
        let key = scratch_key(store, "check");
        let found = race(store, &key).await;
        store.requests.delete(&key, LIMIT).await;
        match found? {
            Found::Fit => return Ok(()),
            // Stores that take one write a second of an object refuse some of a race.
            Found::Nothing if round < ROUNDS => {
                store.clock.sleep_until(store.clock.now().boot.plus(PAUSE)).await;
            }
            Found::Nothing => break,
            Found::RefusesAll => {
                let message = "the store refuses every conditional update: it cannot hold locks";
                return Err(Error::new(ErrorKind::UnfitStore, message));
            }
        }
    }
    let message = "the store's honouring of conditional writes could not be checked: it answered \
                   too few of them clearly";
    Err(Error::new(ErrorKind::Unavailable, message))
}

/// What a race has shown that found no fault.
enum Found {
    Fit,
    /// Too little was answered clearly.
    Nothing,
    /// Every update was refused, clearly.
    RefusesAll,
}

async fn race(store: &LockStore, key: &Path) -> Result<Found> {
    let creates = write_at_once(store, key, None, RACERS).await?;
    creates.at_most_one("If-None-Match", "create an object that exists")?;
    let Some(current) = read_version(store, key).await? else { return Ok(Found::Nothing) };
    let again = write_at_once(store, key, None, 1).await?;
    again.none("If-None-Match", "create an object that exists")?;

    let updates = write_at_once(store, key, Some(&current), RACERS).await?;
    updates.at_most_one("If-Match", "update from the same version")?;
    let moved = read_version(store, key).await?.is_some_and(|version| !version.is(&current));
    if !moved {
        return Ok(if updates.unclear > 0 { Found::Nothing } else { Found::RefusesAll });
    }
    let stale = write_at_once(store, key, Some(&current), 1).await?;
    stale.none("If-Match", "update from a version that is gone")?;
    let unclear = again.unclear + stale.unclear;
    Ok(if unclear > 0 { Found::Nothing } else { Found::Fit })
}

/// How writes made at the same time ended.
pub(super) struct Outcomes {
    pub(super) won: usize,
    /// How many ended without a clear answer, which proves nothing against the store.
    pub(super) unclear: usize,
}

impl Outcomes {
    fn at_most_one(&self, header: &str, what: &str) -> Result<()> {
        if self.won > 1 { Err(unfit(header, what)) } else { Ok(()) }
    }

    fn none(&self, header: &str, what: &str) -> Result<()> {
        if self.won > 0 { Err(unfit(header, what)) } else { Ok(()) }
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

/// Something that nobody else writes.
pub(super) fn body(store: &LockStore) -> Bytes {
    Bytes::from(format!("{{\"leaselock\": \"{:032x}\"}}", store.rng.bits()))
}

/// Writes different bodies at the same time.
pub(super) async fn write_at_once(
    store: &LockStore,
    key: &Path,
    expected: Option<&Version>,
    racers: usize,
) -> Result<Outcomes> {
    let writes =
        (0..racers).map(|_| store.put(key, expected, body(store), json_attributes(), LIMIT));
    let mut outcomes = Outcomes { won: 0, unclear: 0 };
    for result in join_all(writes).await {
        match result {
            Ok(_) => outcomes.won += 1,
            Err(Failure::Refused(_)) => {}
            Err(Failure::Unclear(_)) => outcomes.unclear += 1,
            Err(failure) => return Err(failure.into_error(key)),
        }
    }
    Ok(outcomes)
}

async fn read_version(store: &LockStore, key: &Path) -> Result<Option<Version>> {
    match store.requests.get(key, None, usize::MAX, LIMIT).await {
        Ok((got, _)) => Ok(Some(Version::of(&got.meta))),
        Err(Failure::Absent { .. }) => Ok(None),
        Err(failure) => Err(failure.into_error(key)),
    }
}

pub(super) fn scratch_key(store: &LockStore, what: &str) -> Path {
    let name = format!("{what}-{:032x}", store.rng.bits());
    store.prefix.parts().chain([SCRATCH.into(), name.into()]).collect()
}

/// Where the store's time comes from.
#[derive(Debug)]
pub(crate) enum TimeSource {
    /// From the `Date` of every answer, at no extra request.
    #[cfg_attr(
        not(any(feature = "aws", feature = "azure", feature = "gcp")),
        expect(dead_code, reason = "only connectors see answers")
    )]
    Answers,
    /// This process stamps the objects itself, with its own wall clock.
    OwnWallClock(StoreClock),
    /// From the file system, which may be another machine's.
    Directory(DirectoryStore, StoreClock),
    /// From the stamp of an object written for the purpose.
    Probe(LastProbe),
}

/// The store's time as the last probe found it.
#[derive(Debug, Default)]
pub(crate) struct LastProbe {
    last: Mutex<Option<StoreNow>>,
    clock: StoreClock,
}

/// How long a probe's answer is carried on by our own clock: it gets less exact with every second.
const PROBE_LASTS: Duration = Duration::from_secs(30);

impl TimeSource {
    /// What must be added to an age by this clock for the resolution of its stamps and the
    /// differences between the store's machines.
    pub(super) fn margin(&self) -> Duration {
        match self {
            Self::Answers | Self::Probe(_) => RESOLUTION + TOLERANCE,
            Self::OwnWallClock(_) | Self::Directory(..) => Duration::ZERO,
        }
    }

    /// Whether asking costs no request.
    pub(super) fn is_free(&self) -> bool {
        !matches!(self, Self::Probe(_))
    }

    pub(super) async fn ask(&self, store: &LockStore, limit: Duration) -> Option<StoreNow> {
        let asked = store.clock.now();
        match self {
            Self::Answers => None,
            Self::OwnWallClock(clock) => {
                // The wall clock was read between these two: the thread may have been interrupted in between.
                clock.note(asked.wall, WALL_TICK, asked.boot, store.clock.now().boot)
            }
            Self::Directory(directory, clock) => {
                let time = timeout(&*store.clock, limit, directory.store_time()).await.ok()?;
                let time = time.inspect_err(
                    |error| tracing::debug!(%error, "the file system did not tell its time"),
                );
                let stamp = Wall::from_micros(time.ok()?.timestamp_micros());
                clock.note(stamp, FILE_TICK, asked.boot, store.clock.now().boot)
            }
            Self::Probe(probe) => match probe.carried_to(asked.boot) {
                Some(now) => Some(now),
                None => {
                    let now = probe_time(store, limit).await;
                    let trusted = now.and_then(|now| {
                        probe.clock.note(now.at_least, RESOLUTION, asked.boot, now.at)
                    });
                    *probe.last.lock().unwrap_or_else(PoisonError::into_inner) = trusted;
                    trusted
                }
            },
        }
    }
}

impl LastProbe {
    /// **Invariant.** The store's time lies between the bounds as long as our clock's rate and the
    /// store's differ by no more than promise 3 allows, 13 %: an eighth less is slower than that,
    /// a seventh more is faster. A lower bound ahead of the store's time would end leases early.
    fn carried_to(&self, now: Boot) -> Option<StoreNow> {
        let last = (*self.last.lock().unwrap_or_else(PoisonError::into_inner))?;
        let passed = now.since(last.at);
        (passed < PROBE_LASTS).then(|| StoreNow {
            at_least: last.at_least.plus(passed - passed / 8),
            at_most: last.at_most.plus(passed + passed / 7),
            at: now,
        })
    }
}

/// Writes a scratch object and reads its stamp.
pub(super) async fn probe_time(store: &LockStore, limit: Duration) -> Option<StoreNow> {
    let key = scratch_key(store, "time");
    let sent = store.clock.now().boot;
    let body = Bytes::from_static(b"what time is it?\n");
    // Whatever the answer is, the read tells: nobody else writes this object (hazard H1).
    drop(store.put(&key, None, body, json_attributes(), limit).await);
    let read = store.requests.get(&key, None, 1024, limit).await;
    let received = store.clock.now().boot;
    store.requests.delete(&key, limit).await;
    let (got, _) = read.ok()?;
    let stamp = super::plausible(&got.meta)?;
    Some(StoreNow {
        at_least: stamp,
        at_most: stamp.plus(RESOLUTION).plus(received.since(sent)),
        at: received,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_carried_on_bounds_the_time_of_a_store_whose_clock_differs_by_13_percent() {
        let (stamp, at) = (Wall::from_micros(1_795_000_000_000_000), Boot::new(PROBE_LASTS));
        let probe = LastProbe::default();
        *probe.last.lock().unwrap() = Some(StoreNow { at_least: stamp, at_most: stamp, at });
        let passed = PROBE_LASTS - Duration::from_millis(1);
        let now = probe.carried_to(at.plus(passed)).unwrap();
        assert!(now.at_least <= stamp.plus(passed.mul_f64(0.9 / 1.02)), "{now:?}");
        assert!(now.at_most >= stamp.plus(passed.mul_f64(1.02 / 0.9)), "{now:?}");
        assert_eq!(probe.carried_to(at.plus(PROBE_LASTS)), None);
    }
}
