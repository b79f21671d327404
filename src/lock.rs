//! A lock by name, and how it is to be held.

use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;

use crate::acquire::{Limit, Target, Under};
use crate::client::Client;
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::Result;
use crate::guard::LockGuard;
use crate::info::LockInfo;
use crate::keeper::{Release, lost};
use crate::local;
use crate::name;
use crate::options::LockOptions;
use crate::polling::Polling;
use crate::record::{Kind, Payload};
use crate::rwlock::too_early;
use crate::session::OpenSession;

/// A lock on a store, by name. Cheap to clone; nothing is written before it is acquired.
///
/// ```
/// # use std::time::Duration;
/// # async fn nightly(store: leaselock::Store) -> leaselock::Result<()> {
/// let lock = store.lock("etl/nightly").ttl(Duration::from_secs(30)).owner("nightly-etl");
/// let guard = lock.acquire().await?;
/// // … work, passing guard.token() along …
/// guard.release().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Lock {
    target: Target,
    options: LockOptions,
}

/// What came of an attempt that does not wait for ever.
#[derive(Debug)]
#[must_use = "the lock may be held by somebody else"]
pub enum Attempt {
    /// The lock is ours.
    Acquired(LockGuard),
    /// Somebody else holds it; this is what the record says.
    Held(Box<LockInfo>),
}

impl Attempt {
    /// The guard, if the lock was acquired.
    pub fn acquired(self) -> Option<LockGuard> {
        match self {
            Self::Acquired(guard) => Some(guard),
            Self::Held(_) => None,
        }
    }
}

impl Lock {
    pub(crate) fn new(client: Arc<Client>, name: String) -> Self {
        Self { target: Target::alone(client, Kind::Lock, name), options: LockOptions::default() }
    }

    pub(crate) fn within(mut self, session: Arc<OpenSession>) -> Self {
        self.target.under = Under::Session(session);
        self
    }

    /// The lock's name.
    pub fn name(&self) -> &str {
        &self.target.name
    }

    /// Waits in a queue: who came first enters first, whoever leaves hands over to the next in the
    /// same write, and a waiter that died costs the others about one TTL. Costs one write more
    /// than waiting without; all who wait for the lock should do the same, as whoever waits without
    /// a ticket gets it only when nobody waits in the queue.
    ///
    /// The lock is then held under a [session](crate::Session) that the process shares, which is
    /// renewed for all of them together. A payload is set by a write of its own for who had to wait,
    /// and a note is on record only for who had not: the queue has no room for them.
    #[must_use]
    pub fn fair(mut self) -> Self {
        self.target.want.queue = true;
        if matches!(self.target.under, Under::Itself) {
            self.target.under = Under::Implied;
        }
        self
    }

    crate::options::setters! {
        /// How long the lease lasts without renewal: 1 s to 24 h, 30 s unless given, in whole
        /// milliseconds. A crashed holder blocks others for about that long; a shorter one costs more
        /// requests and survives shorter outages.
        ttl(ttl: Duration) { ttl: Some(ttl) }

        /// How often the keeper renews: a third of the TTL unless given. Checked against the TTL when
        /// the lock is acquired.
        renew_every(interval: Duration) { renew_every: Some(interval) }

        /// A label for the record, at most 128 bytes, so that others can see who holds the lock.
        owner(label: impl Into<String>) { owner: label.into() }

        /// Free text for the record, at most 1,024 bytes.
        note(text: impl Into<String>) { note: Some(text.into()) }

        /// The lease is lost after this time even if it could be renewed, so that a hung job does not
        /// keep a lock for ever.
        max_hold(limit: Duration) { max_hold: Some(limit) }

        /// The lock stays taken for at least this time after it was acquired, up to 24 h, even if it is
        /// released earlier: schedulers on hosts with skewed clocks then do not run a short job twice.
        /// Counts only when it is released; a crashed holder's lease expires as always.
        min_hold(time: Duration) { min_hold: Some(time) }

        /// The lease is lost unless [`LockGuard::touch`] is called at least this often: for work that
        /// may hang while its keeper goes on renewing.
        progress_within(interval: Duration) { progress_within: Some(interval) }

        /// A payload to set when the lock is acquired. Without one, the record's stays.
        payload(payload: Payload) { payload: Some(payload) }

        /// Whether a keeper renews the lease in the background, as it does unless turned off. Without
        /// one, call [`LockGuard::renew`]: for functions whose threads are frozen between calls.
        keeper(on: bool) { manual: !on }

        /// Whether an expired lease may be taken over at once when the store's own clock shows that it
        /// has expired, as it may unless turned off. Otherwise a lease has to be watched first for as
        /// long as it lasts.
        store_clock(on: bool) { no_store_clock: !on }

        /// How often a waiter looks whether the lock has become free.
        polling(polling: Polling) { polling: polling }

        /// Whether an acquisition that sees somebody else get the lock before it takes a ticket and waits in the
        /// queue from then on, as with [`fair`](Self::fair), as it does unless turned off: where waiters die so
        /// often that a TTL for each is worse than to be overtaken. Never done with a
        /// payload, a note, an interval of renewal, or without a keeper, nor where the store lets nobody
        /// write the record of a session.
        queue_when_overtaken(on: bool) { no_queue: !on }

        /// Whether the lock goes from one holder in this process to the next without a request, as it does
        /// unless turned off: to those who want it by handles of the same opened store and on the same
        /// terms, in the order in which they came, each with a token of its own. After half a second, or
        /// sooner when others wait in its queue, the lock is given back in between, so that other processes
        /// get it. Who holds and then hands over shows on record only as the first of them. Never done with
        /// a payload, a limit or a minimum of one holder's own, without a keeper, or in a queue or session.
        local_handover(on: bool) { no_local_handover: !on }

        /// Also takes over when the holder's `expires_at` lies more than `max_skew` in the past by this
        /// machine's wall clock. **Safe only if no two wall clocks of contenders ever differ by more**,
        /// which is why it is off.
        trust_wall_clock(max_skew: Duration) { max_skew: Some(max_skew) }
    }

    /// Acquires the lock; waits for as long as somebody else holds it, looking now
    /// and then with a conditional read: see [`Polling`].
    ///
    /// # Errors
    /// The options or the name are invalid, the store is unfit, denies access, or has not answered
    /// for 30 s, or the record is damaged, or [another primitive's](ErrorKind::WrongKind).
    ///
    /// # Cancel safety
    /// Cancel safe: a write that is under way when the future is dropped is seen to its end in the
    /// background, and the lock is given back if it was acquired. A future that was begun and is neither
    /// polled nor dropped may be handed the lock by another task of the process, and keeps it.
    pub async fn acquire(&self) -> Result<LockGuard> {
        self.contend(Limit::Forever).await?.acquired().ok_or_else(too_early)
    }

    /// Acquires the lock if it is free or its lease has ended, without waiting.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), but after four failures of the store.
    ///
    /// # Cancel safety
    /// As [`acquire`](Self::acquire).
    pub async fn try_acquire(&self) -> Result<Attempt> {
        self.contend(Limit::Once).await
    }

    /// Acquires the lock; waits for up to `limit` while somebody else holds it.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), but a store that does not answer is tried until `limit`.
    ///
    /// # Cancel safety
    /// As [`acquire`](Self::acquire).
    pub async fn acquire_timeout(&self, limit: Duration) -> Result<Attempt> {
        let until = self.client().store.clock().now().boot.plus(limit);
        self.contend(Limit::Until(until)).await
    }

    /// Acquires the lock, runs `work`, and releases it. The work is dropped the moment the lease is
    /// lost.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), and [`Lost`](ErrorKind::Lost) when the lease was lost before
    /// the work was done or before it could be released.
    ///
    /// # Cancel safety
    /// Dropping the future drops the work and releases the lock in the background.
    pub async fn with<T>(&self, work: impl AsyncFnOnce(&LockGuard) -> T) -> Result<T> {
        let guard = self.acquire().await?;
        let output = guard.run(work(&guard)).await?;
        match guard.release().await? {
            Release::AlreadyLost(reason) => Err(lost(&reason)),
            Release::Released | Release::Unconfirmed => Ok(output),
        }
    }

    /// What the record says, with one read.
    ///
    /// # Errors
    /// The name is invalid, or the store does not answer. A damaged record is no error but the
    /// state [`Unreadable`](crate::LockState::Unreadable).
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn inspect(&self) -> Result<LockInfo> {
        self.client().inspect(self.name().to_owned(), self.key()?).await
    }

    pub(crate) fn key(&self) -> Result<Path> {
        name::key(self.client().store.prefix(), self.name())
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    pub(crate) fn options(&self) -> &LockOptions {
        &self.options
    }

    pub(crate) fn client(&self) -> &Arc<Client> {
        &self.target.client
    }

    async fn contend(&self, limit: Limit) -> Result<Attempt> {
        local::contend(&self.target, &self.options, limit).await?.attempt()
    }
}
