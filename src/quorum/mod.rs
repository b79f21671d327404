//! Locks over several independent stores, of which a majority decides.
//!
//! **Invariants.**
//! - A lock is held by who has an entry at a majority of the stores, each within its own validity. Any
//!   two majorities share a store, and a store has one holder at a time.
//! - All entries of one acquisition carry the same token. It was issued for the first time by each
//!   store of the majority that made the acquisition, so tokens rise strictly from one acquisition to
//!   the next, whichever majorities made them.
//!
//! The argument, with what deletion of a record does to it, stands in `docs/PROTOCOL.md`.
//!
//! `round` is one attempt, `contest` the attempts of one call, `repair` what goes on behind a guard;
//! `view` is for readers. Nothing here writes: members do, each as a task of its own store's client.

mod contest;
pub(crate) mod place;
mod repair;
mod round;
mod view;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use crate::acquire::Limit;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::guard::LockGuard;
use crate::handle::Store;
use crate::keeper::{Release, lost};
use crate::lock::Attempt;
use crate::name;
use crate::options::LockOptions;
use crate::record::Payload;
pub use view::{QuorumInfo, QuorumMember};

/// Locks over an odd number of independent stores: a lock is held while a majority of them says so,
/// so that the outage of a minority, a whole provider's say, neither frees a lock nor blocks it.
/// Cheap to clone.
///
/// Unlike Redlock, whose idea this is, it hands out fencing tokens that rise strictly from one
/// acquisition to the next, whichever majority made it.
///
/// **When not to use it:** when one store's outages can be borne. An acquisition costs as many
/// requests as on each of the stores, and everybody who uses the lock must name the same stores. A
/// [fence](LockGuard::fence) protects objects on one store, and an outage of that store stops those
/// writes whatever the lock does.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> leaselock::Result<()> {
/// # let [one, two, three] = ["memory:///"; 3];
/// // For example an S3 bucket, an Azure container and a Google bucket.
/// let stores = [
///     leaselock::open(one).await?,
///     leaselock::open(two).await?,
///     leaselock::open(three).await?,
/// ];
/// let quorum = leaselock::Quorum::new(stores)?;
/// let guard = quorum.lock("failover/primary").owner("db-2").acquire().await?;
/// // … an ordinary guard: held while two of three hold …
/// guard.release().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Quorum {
    members: Arc<[Arc<Client>]>,
}

impl Quorum {
    /// A quorum of these stores: an odd number, with failures that have nothing to do with each
    /// other. They must have been opened with the same clock, as they are unless one was given.
    /// Prefixes may differ; whoever shares locks must name the same stores with the same prefixes,
    /// in whatever order.
    ///
    /// # Errors
    /// [`InvalidOptions`](ErrorKind::InvalidOptions): an even number, of which one more may not fail
    /// than of one less; or the same store twice, as far as its URL tells.
    pub fn new(stores: impl IntoIterator<Item = Store>) -> Result<Self> {
        let members: Vec<_> = stores.into_iter().map(Store::into_client).collect();
        let count = members.len();
        if count.is_multiple_of(2) {
            let message = format!(
                "a quorum of {count} stores: it must be an odd number, as one of {} survives the \
                 failure of as many",
                count.saturating_sub(1)
            );
            return Err(Error::new(ErrorKind::InvalidOptions, message));
        }
        let mut places = BTreeSet::new();
        for (number, member) in members.iter().enumerate() {
            let shared = members[..number].iter().any(|other| Arc::ptr_eq(other, member));
            if shared || member.place.is_some_and(|place| !places.insert(place)) {
                let message = format!(
                    "the store {:?} is named twice in a quorum: its failure would be two",
                    member.url
                );
                return Err(Error::new(ErrorKind::InvalidOptions, message));
            }
        }
        Ok(Self { members: members.into() })
    }

    /// The lock called `name`, as [`Store::lock`] names them, on every store.
    pub fn lock(&self, name: impl Into<String>) -> QuorumLock {
        let quorum = self.clone();
        QuorumLock { quorum, name: name.into(), options: LockOptions::default() }
    }

    /// How many stores have to agree.
    pub fn majority(&self) -> usize {
        self.members.len() / 2 + 1
    }

    /// The stores' URLs without options and credentials: safe to print.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| member.url.as_str())
    }
}

/// A lock over a [`Quorum`], by name. Cheap to clone; nothing is written before it is acquired.
#[derive(Clone, Debug)]
pub struct QuorumLock {
    quorum: Quorum,
    name: String,
    options: LockOptions,
}

impl QuorumLock {
    /// The lock's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    crate::options::setters! {
        /// How long each entry lasts without renewal: see [`Lock::ttl`](crate::Lock::ttl).
        ttl(ttl: Duration) { ttl: Some(ttl) }

        /// How often each entry is renewed, and how often at most it is tried to enter a store that does
        /// not have it: see [`Lock::renew_every`](crate::Lock::renew_every).
        renew_every(interval: Duration) { renew_every: Some(interval) }

        /// A label for the records, at most 128 bytes, so that others can see who holds the lock.
        owner(label: impl Into<String>) { owner: label.into() }

        /// Free text for the records, at most 1,024 bytes.
        note(text: impl Into<String>) { note: Some(text.into()) }

        /// The lock is lost after this time even if it could be renewed.
        max_hold(limit: Duration) { max_hold: Some(limit) }

        /// A payload to set when the lock is acquired, at every store that is entered. Later,
        /// [`LockGuard::set_payload`] sets it at a majority for certain, and where it can.
        payload(payload: Payload) { payload: Some(payload) }

        /// Whether stores' own clocks may show that a lease has expired: see
        /// [`Lock::store_clock`](crate::Lock::store_clock).
        store_clock(on: bool) { no_store_clock: !on }
    }

    /// Acquires the lock; waits for as long as somebody else holds it. Returns when a majority has
    /// been entered, and does not wait for the others: those are entered in the background.
    ///
    /// # Errors
    /// As [`Lock::acquire`](crate::Lock::acquire); [`Unavailable`](ErrorKind::Unavailable) when no
    /// majority has answered for 30 s. Stores that fail while a majority answers do no harm.
    ///
    /// # Cancel safety
    /// Cancel safe: what has been written or is being written is undone in the background.
    pub async fn acquire(&self) -> Result<LockGuard> {
        match self.contend(Limit::Forever).await? {
            Attempt::Acquired(guard) => Ok(guard),
            Attempt::Held(_) => Err(Error::new(ErrorKind::Internal, "waiting ended too early")),
        }
    }

    /// Acquires the lock if a majority is free, without waiting. Of several who try at the same
    /// time it may be that none gets it: [`acquire_timeout`](Self::acquire_timeout) tries again.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), but when no majority answers at once.
    ///
    /// # Cancel safety
    /// As [`acquire`](Self::acquire).
    pub async fn try_acquire(&self) -> Result<Attempt> {
        self.contend(Limit::Once).await
    }

    /// Acquires the lock; waits for up to `limit` while somebody else holds it.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), but stores that do not answer are tried until `limit`.
    ///
    /// # Cancel safety
    /// As [`acquire`](Self::acquire).
    pub async fn acquire_timeout(&self, limit: Duration) -> Result<Attempt> {
        let clock = self.quorum.members[0].store.clock();
        self.contend(Limit::Until(clock.now().boot.plus(limit))).await
    }

    /// Acquires the lock, runs `work`, and releases it. The work is dropped the moment the lock is
    /// lost.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), and [`Lost`](ErrorKind::Lost) when the lock was lost before the
    /// work was done or before it could be released.
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

    /// What the records say, with one read of each store, and what a majority of them agrees on.
    ///
    /// # Errors
    /// The name is invalid, or no majority has answered. A store that does not answer is no error
    /// otherwise, and neither is a damaged record: see [`QuorumInfo::members`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn inspect(&self) -> Result<QuorumInfo> {
        let mut reads = Vec::new();
        for member in self.quorum.members.iter() {
            let key = name::key(member.store.prefix(), &self.name)?;
            let read = member.inspect(self.name.clone(), key);
            reads.push(async { QuorumMember { url: member.url.clone(), answer: read.await } });
        }
        QuorumInfo::of(&self.name, join_all(reads).await, self.quorum.majority())
    }

    async fn contend(&self, limit: Limit) -> Result<Attempt> {
        contest::contend(&self.quorum, &self.name, &self.options, limit).await
    }
}

/// No majority answered: how many of how many did, and why the others did not.
fn too_few(answered: usize, of: usize, failures: Vec<Error>) -> Error {
    let mut kinds = failures.iter().map(Error::kind);
    let first = kinds.next().unwrap_or(ErrorKind::Unavailable);
    // What all of them say is something to act on.
    let kind = if kinds.all(|kind| kind == first) { first } else { ErrorKind::Unavailable };
    let causes: Vec<_> = failures.iter().map(|failure| format!("{failure:?}")).collect();
    let message = format!(
        "no majority of the quorum: {answered} of {of} stores answered, {} failed, and {} are needed",
        failures.len(),
        of / 2 + 1
    );
    Error::new(kind, message).caused_by(causes.join("; "))
}

/// Why a call ended that saw nobody who holds the lock.
fn restless(name: &str) -> Error {
    let message = format!("others contend for {name:?} all the time, and none of them has got it");
    Error::new(ErrorKind::Unavailable, message)
}
