//! What a contender knows of a lock's record.

use object_store::path::Path;

use super::{Contended, Contender, unreadable};
use crate::clock::Wall;
use crate::error::Result;
use crate::info::LockInfo;
use crate::protocol::expiry::Observations;
use crate::record::{Kind, Record};
use crate::store::{Content, Read, StoreNow, Version};

/// What is known of a record.
#[derive(Debug)]
pub(super) struct View {
    pub(super) found: Option<Box<Record>>,
    pub(super) version: Option<Version>,
    pub(super) last_modified: Option<Wall>,
    pub(super) now: Option<StoreNow>,
    pub(super) observations: Observations,
}

impl Contender {
    /// What is known without a read: the record that this process freed just now.
    pub(super) fn remembered(&self) -> Option<View> {
        let now = self.clock().now().boot;
        let known = match self.target.kind {
            // Its name was made up just now.
            Kind::Session => None,
            // Whether it is still of another kind has to be read before anybody is told so.
            _ => {
                let known = self.client().memory.take_free(&self.key, now);
                Some(known.filter(|(record, _)| self.is_wanted(record))?)
            }
        };
        let (found, version) = known.unzip();
        let observations = Observations::default();
        Some(View { found, version, last_modified: None, now: None, observations })
    }

    fn is_wanted(&self, record: &Record) -> bool {
        record.kind == self.target.kind && record.limit == self.target.want.limit
    }

    /// A read of the lock's record as a view.
    ///
    /// # Errors
    /// The record is damaged: it counts as held and is left alone (hazard H10).
    pub(super) fn view(&mut self, read: Read) -> Result<View> {
        let key = self.key.clone();
        let view = self.seen(&key, read)?;
        let ticket = view.found.as_ref().is_some_and(|record| record.ticket(self.id).is_some());
        let lease = view.found.as_ref().is_some_and(|record| record.lease(self.id).is_some());
        let moved_on = self.has_moved_on(view.version.as_ref());
        if ticket {
            self.queued = true;
            if moved_on {
                self.doubt = None;
            }
        } else if !lease && moved_on {
            self.renew_identity();
        }
        Ok(view)
    }

    /// A read of any record as a view.
    ///
    /// # Errors
    /// The record is damaged.
    pub(super) fn seen(&self, key: &Path, read: Read) -> Result<View> {
        let now = read.now;
        let (found, version, last_modified) = match read.content {
            Content::Absent => (None, None, None),
            Content::Record { record, version, last_modified } => {
                (Some(record), Some(version), last_modified)
            }
            Content::Unreadable { error, .. } => return Err(unreadable(&self.target.name, error)),
        };
        let observations = match &found {
            Some(record) => self.client().memory.seen(key, record, read.received),
            None => Observations::default(),
        };
        Ok(View { found, version, last_modified, now, observations })
    }

    /// Whether everything this acquisition has written can never land any more, or has landed and
    /// is gone again.
    fn has_moved_on(&self, version: Option<&Version>) -> bool {
        self.doubt.as_ref().is_none_or(|expected| moved_on(expected.as_ref(), version))
    }

    /// Goes on as another acquisition if this one has written. Its entry may have been in the
    /// record, and have been put out before anybody could tell: an entry that was watched there
    /// must not come back (hazard H2).
    fn renew_identity(&mut self) {
        if self.first_sent.take().is_some() {
            self.id = self.id.another(self.store().rng().bits());
            self.hint = None;
        }
        self.doubt = None;
        self.queued = false;
    }

    pub(super) fn held(&self, view: &View) -> Contended {
        let now = view.now;
        let info = match &view.found {
            Some(record) => LockInfo::of_record(&self.target.name, record, view.last_modified, now),
            None => LockInfo::absent(&self.target.name),
        };
        Contended::Held(Box::new(info))
    }
}

/// Whether a write conditioned on `expected` can never land any more.
pub(super) fn moved_on(expected: Option<&Version>, version: Option<&Version>) -> bool {
    match (expected, version) {
        (None, None) => false,
        (Some(expected), Some(version)) => !version.is(expected),
        _ => true,
    }
}
