//! A lock that one writer or several readers hold.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::acquire::{Contended, Limit, Target, Under, contend_for};
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::guard::LockGuard;
use crate::info::LockInfo;
use crate::keeper::Release;
use crate::lock::Attempt;
use crate::name;
use crate::options::LockOptions;
use crate::protocol::queue::Want;
use crate::record::{Kind, Mode};
use crate::session::OpenSession;

/// A lock that one writer holds alone, or up to 128 readers hold together. Cheap to clone; nothing is
/// written before it is acquired.
///
/// Whoever has to wait takes a ticket, and is served in the order of arrival: readers that come after
/// a waiting writer wait behind it, so neither starves. A writer's token exceeds those of all readers
/// and writers before it.
///
/// Readers and writers are held under a [session](crate::Session) that the process shares, so that
/// they do not renew through one record. Every acquisition and every release is a write to the same
/// record nevertheless: stores that take one write a second per object let in about one reader a
/// second.
///
/// A reader cannot become a writer: two that tried would wait for each other. Release it, and take
/// [`write`](Self::write). The other way there is [`WriteGuard::downgrade`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> leaselock::Result<()> {
/// # let store = leaselock::open("memory:///").await?;
/// let table = store.rwlock("tables/orders");
/// let (one, other) = (table.read().await?, table.read().await?); // together
/// assert!(one.is_held() && other.is_held());
/// one.release().await?;
/// other.release().await?;
///
/// let writer = table.write().await?; // alone
/// let reader = writer.downgrade().await?; // without a gap in which others could write
/// reader.release().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RwLock {
    target: Target,
    options: LockOptions,
}

/// A writer's guard: what [`LockGuard`] is, and what only a writer can do.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct WriteGuard(LockGuard);

/// What came of an attempt to write that does not wait for ever.
#[derive(Debug)]
#[must_use = "the lock may be held by somebody else"]
pub enum WriteAttempt {
    /// The lock is ours alone.
    Acquired(WriteGuard),
    /// Somebody else holds it; this is what the record says.
    Held(Box<LockInfo>),
}

impl RwLock {
    pub(crate) fn new(client: Arc<Client>, name: String) -> Self {
        let alone = Target::alone(client, Kind::RwLock, name);
        let want = Want { queue: true, ..Want::ALONE };
        Self { target: Target { want, under: Under::Implied, ..alone }, options: <_>::default() }
    }

    pub(crate) fn within(mut self, session: Arc<OpenSession>) -> Self {
        self.target.under = Under::Session(session);
        self
    }

    /// The lock's name.
    pub fn name(&self) -> &str {
        &self.target.name
    }

    crate::options::common_setters!();

    /// Acquires it beside other readers; waits behind writers that came before.
    ///
    /// # Errors
    /// As [`Lock::acquire`](crate::Lock::acquire); and [`WrongKind`](ErrorKind::WrongKind) when the
    /// name belongs to something else.
    ///
    /// # Cancel safety
    /// Cancel safe, as [`Lock::acquire`](crate::Lock::acquire); its ticket is taken back.
    pub async fn read(&self) -> Result<LockGuard> {
        self.contend(Mode::Shared, Limit::Forever).await?.acquired().ok_or_else(too_early)
    }

    /// As [`read`](Self::read), without waiting.
    ///
    /// # Errors
    /// As [`read`](Self::read), but after four failures of the store.
    ///
    /// # Cancel safety
    /// As [`read`](Self::read).
    pub async fn try_read(&self) -> Result<Attempt> {
        self.contend(Mode::Shared, Limit::Once).await
    }

    /// As [`read`](Self::read), waiting for up to `limit`.
    ///
    /// # Errors
    /// As [`read`](Self::read), but a store that does not answer is tried until `limit`.
    ///
    /// # Cancel safety
    /// As [`read`](Self::read).
    pub async fn read_timeout(&self, limit: Duration) -> Result<Attempt> {
        self.contend(Mode::Shared, self.until(limit)).await
    }

    /// Acquires it alone; readers and writers that come later wait behind this one.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// # Cancel safety
    /// As [`read`](Self::read).
    pub async fn write(&self) -> Result<WriteGuard> {
        let attempt = self.contend(Mode::Exclusive, Limit::Forever).await?;
        attempt.acquired().map(WriteGuard).ok_or_else(too_early)
    }

    /// As [`write`](Self::write), without waiting.
    ///
    /// # Errors
    /// As [`read`](Self::read), but after four failures of the store.
    ///
    /// # Cancel safety
    /// As [`read`](Self::read).
    pub async fn try_write(&self) -> Result<WriteAttempt> {
        self.contend(Mode::Exclusive, Limit::Once).await.map(Into::into)
    }

    /// As [`write`](Self::write), waiting for up to `limit`.
    ///
    /// # Errors
    /// As [`read`](Self::read), but a store that does not answer is tried until `limit`.
    ///
    /// # Cancel safety
    /// As [`read`](Self::read).
    pub async fn write_timeout(&self, limit: Duration) -> Result<WriteAttempt> {
        self.contend(Mode::Exclusive, self.until(limit)).await.map(Into::into)
    }

    /// What the record says, with one read.
    ///
    /// # Errors
    /// As [`Lock::inspect`](crate::Lock::inspect).
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn inspect(&self) -> Result<LockInfo> {
        let client = &self.target.client;
        let key = name::key_of(Kind::RwLock, client.store.prefix(), self.name())?;
        client.inspect(self.name().to_owned(), key).await
    }

    fn until(&self, limit: Duration) -> Limit {
        Limit::Until(self.target.client.store.clock().now().boot.plus(limit))
    }

    async fn contend(&self, mode: Mode, limit: Limit) -> Result<Attempt> {
        let want = Want { mode, ..self.target.want };
        let target = Target { want, ..self.target.clone() };
        contend_for(&target, &self.options, limit).await?.attempt()
    }
}

impl WriteGuard {
    /// Becomes a reader, without a gap in which another could write. Readers that wait next come in.
    ///
    /// # Errors
    /// [`Lost`](ErrorKind::Lost) when the lease is lost. Any other error: the store did not confirm it,
    /// and the lock is given back.
    ///
    /// # Cancel safety
    /// Dropping the future gives the lock back in the background.
    pub async fn downgrade(self) -> Result<LockGuard> {
        self.0.downgrade().await?;
        Ok(self.0)
    }

    /// Gives the lock back: see [`LockGuard::release`].
    ///
    /// # Errors
    /// As [`LockGuard::release`].
    ///
    /// # Cancel safety
    /// As [`LockGuard::release`].
    pub async fn release(self) -> Result<Release> {
        self.0.release().await
    }

    /// The guard as one like others.
    pub fn into_guard(self) -> LockGuard {
        self.0
    }
}

impl Deref for WriteGuard {
    type Target = LockGuard;

    fn deref(&self) -> &LockGuard {
        &self.0
    }
}

impl WriteAttempt {
    /// The guard, if the lock was acquired.
    pub fn acquired(self) -> Option<WriteGuard> {
        match self {
            Self::Acquired(guard) => Some(guard),
            Self::Held(_) => None,
        }
    }
}

impl From<Attempt> for WriteAttempt {
    fn from(attempt: Attempt) -> Self {
        match attempt {
            Attempt::Acquired(guard) => Self::Acquired(WriteGuard(guard)),
            Attempt::Held(info) => Self::Held(info),
        }
    }
}

impl Contended {
    /// What came of it, where there is no result to be found.
    pub(crate) fn attempt(self) -> Result<Attempt> {
        match self {
            Self::Acquired(guard) => Ok(Attempt::Acquired(guard)),
            Self::Held(info) => Ok(Attempt::Held(info)),
            Self::Done(_) => Err(Error::new(ErrorKind::Internal, "a lock has a result")),
        }
    }
}

pub(crate) fn too_early() -> Error {
    Error::new(ErrorKind::Internal, "waiting ended too early")
}
