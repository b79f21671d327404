//! What this process knows of locks from before. Losing it costs requests, never safety.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use object_store::path::Path;

use crate::clock::Boot;
use crate::protocol::expiry::Observations;
use crate::record::Record;
use crate::store::Version;
use crate::token::FencingToken;

/// How long a record that this process freed is expected to be unchanged. A wrong guess costs a
/// refused write; a process that comes back later reads first.
const FRESH: Duration = Duration::from_secs(10);
/// For how long a lock is taken to be wanted by others who got it before this process.
const WANTED: Duration = Duration::from_secs(10);
/// Locks remembered at most.
const CAPACITY: usize = 4096;

#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<HashMap<Path, Known>>);

#[derive(Debug, Default)]
struct Known {
    highest: Option<FencingToken>,
    free: Option<(Box<Record>, Version, Boot)>,
    observations: Observations,
    /// When somebody else last got the lock before this process.
    overtaken: Option<Boot>,
}

impl Memory {
    /// The free record that this process wrote last, once, if that was just now.
    pub(crate) fn take_free(&self, key: &Path, now: Boot) -> Option<(Box<Record>, Version)> {
        let (record, version, at) = self.known().get_mut(key)?.free.take()?;
        (now.since(at) < FRESH).then_some((record, version))
    }

    /// This process has freed the lock by writing `record`.
    pub(crate) fn freed(&self, key: &Path, record: Record, version: Version, now: Boot) {
        self.with(key, |known| {
            known.highest = known.highest.max(Some(record.token));
            known.free = Some((Box::new(record), version, now));
        });
    }

    /// A record was read; what has been seen so far of its holders.
    pub(crate) fn seen(&self, key: &Path, record: &Record, received: Boot) -> Observations {
        self.with(key, |known| {
            known.highest = known.highest.max(Some(record.token));
            known.free = None;
            known.observations.note(record, received);
            known.observations.clone()
        })
    }

    /// Somebody else has got the lock before this process.
    pub(crate) fn overtaken(&self, key: &Path, now: Boot) {
        self.with(key, |known| known.overtaken = Some(now));
    }

    /// Whether that has happened lately.
    pub(crate) fn was_overtaken(&self, key: &Path, now: Boot) -> bool {
        let overtaken = self.known().get(key).and_then(|known| known.overtaken);
        overtaken.is_some_and(|at| now.since(at) < WANTED)
    }

    /// A token was issued to this process.
    pub(crate) fn issued(&self, key: &Path, token: FencingToken) {
        self.with(key, |known| known.highest = known.highest.max(Some(token)));
    }

    /// The highest token seen under this key.
    pub(crate) fn highest(&self, key: &Path) -> Option<FencingToken> {
        self.known().get(key)?.highest
    }

    fn with<T>(&self, key: &Path, change: impl FnOnce(&mut Known) -> T) -> T {
        let mut known = self.known();
        if known.len() >= CAPACITY && !known.contains_key(key) {
            known.clear();
        }
        change(known.entry(key.clone()).or_default())
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Path, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
