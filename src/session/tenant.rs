//! What is held under a session: it has no task and no lease of its own, and rests in few bytes.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;
use tokio::sync::Mutex;

use super::{Leftover, OpenSession};
use crate::client::{Client, Registration};
use crate::error::{Error, ErrorKind};
use crate::hold::{Hold, LossReason};
use crate::keeper::{Command, Entry, Obeyed, Release, Reserved, lost};
use crate::protocol::lock::Own;
use crate::record::{Kind, Record};
use crate::store::{Content, Version};
use crate::wait::{Backoff, RETRYING};

/// A record up to this size in bytes is kept, so that giving the lock back costs one request. A
/// larger one is read again: there may be thousands of them.
const SMALL: usize = 1024;

/// One acquisition under a session.
pub(crate) struct Tenant {
    pub(crate) client: Arc<Client>,
    pub(crate) session: Arc<OpenSession>,
    pub(crate) key: Path,
    pub(crate) hold: Arc<Hold>,
    pub(crate) min_hold: Option<Duration>,
    pub(crate) request_timeout: Duration,
    /// By the write that acquired it.
    pub(crate) reserved: Reserved,
    /// One write at a time (hazard H12).
    pub(crate) place: Mutex<Place>,
    /// Lives as long as the guard.
    pub(crate) _registration: Registration,
}

/// Its entry in the record, as far as it is known.
pub(crate) struct Place {
    own: Own,
    kind: Kind,
    /// The record's version and content, if that is small.
    known: Option<(Version, Box<[u8]>)>,
}

impl Place {
    pub(crate) fn new(own: Own, record: &Record, version: Version) -> Self {
        let body = record.encode().ok().filter(|body| body.len() <= SMALL);
        let known = body.map(|body| (version, body.into_boxed_slice()));
        Self { own, kind: record.kind, known }
    }
}

impl Tenant {
    /// Asks the session's task to do it.
    pub(crate) fn order(self: &Arc<Self>, command: Command) {
        self.session.order(Arc::clone(self), command);
    }

    /// Does it, in the session's task; what may still be on record that should not be.
    pub(super) async fn obey(self: Arc<Self>, command: Command) -> Option<Leftover> {
        let mut place = self.place.lock().await;
        let left = match self.entry(&mut place).await {
            Ok(mut entry) => match entry.obey(command).await {
                Obeyed::Ended { off_record } => !off_record,
                Obeyed::Renewed | Obeyed::Stands => {
                    *place = Place::new(entry.own, &entry.record, entry.version);
                    false
                }
            },
            Err(reason) => {
                let leaving = matches!(command, Command::Release { .. } | Command::Finish { .. });
                if reason != LossReason::Unreachable {
                    self.hold.end(reason.clone());
                }
                refuse(command, reason);
                leaving
            }
        };
        left.then(|| self.leftover())
    }

    /// Its entry, for when nobody holds by it any more.
    pub(crate) fn leftover(&self) -> Leftover {
        Leftover {
            client: Arc::clone(&self.client),
            key: self.key.clone(),
            hold: Arc::clone(&self.hold),
            min_hold: self.min_hold,
            request_timeout: self.request_timeout,
        }
    }

    /// The entry with its record, read again if that was not kept.
    async fn entry(&self, place: &mut Place) -> Result<Entry, LossReason> {
        let known = place.known.take().and_then(|(version, body)| {
            let record = Record::decode_of(place.kind, &body).ok()?;
            Some((record, version))
        });
        let (record, version) = match known {
            Some(known) => known,
            None => self.read().await?,
        };
        Ok(Entry {
            store: Arc::clone(&self.client.store),
            memory: Arc::clone(&self.client.memory),
            wakes: Arc::clone(&self.client.wakes),
            key: self.key.clone(),
            hold: Arc::clone(&self.hold),
            request_timeout: self.request_timeout,
            min_hold: self.min_hold,
            renew_every: None,
            renews_in: None,
            record,
            version,
            own: place.own,
        })
    }

    async fn read(&self) -> Result<(Record, Version), LossReason> {
        let store = &self.client.store;
        let mut backoff = Backoff::new(RETRYING, Arc::clone(store.rng()));
        // Under a session that is renewed the last write comes ever later.
        let until = self.hold.last_write();
        while store.clock().now().boot < until {
            match store.read(&self.key, self.request_timeout).await {
                Ok(read) => {
                    return match read.content {
                        Content::Record { record, version, .. } => Ok((*record, version)),
                        Content::Absent => Err(LossReason::RecordDeleted),
                        Content::Unreadable { .. } => Err(LossReason::RecordUnreadable),
                    };
                }
                Err(error) => tracing::debug!(lock = %self.hold.name, %error, "a read failed"),
            }
            let resume = store.clock().now().boot.plus(backoff.next());
            store.clock().sleep_until(resume).await;
        }
        Err(LossReason::Unreachable)
    }
}

/// The record is not there any more, or could not be read in time.
fn refuse(command: Command, reason: LossReason) {
    match command {
        Command::Renew { done, .. }
        | Command::Downgrade { done }
        | Command::Finish { done, .. } => {
            let _ = done.send(Err(match reason {
                LossReason::Unreachable => {
                    Error::new(ErrorKind::Unavailable, "the record could not be read in time")
                }
                reason => lost(&reason),
            }));
        }
        Command::Release { done: Some(done), .. } => {
            let unreachable = reason == LossReason::Unreachable;
            let release =
                if unreachable { Release::Unconfirmed } else { Release::AlreadyLost(reason) };
            let _ = done.send(Ok(release));
        }
        // Nobody waits, or whoever does hears of it by itself.
        Command::Release { done: None, .. } | Command::Reserve { .. } => {}
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenant").field("key", &self.key).field("session", &self.session).finish()
    }
}
