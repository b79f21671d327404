//! A semaphore: a number of permits, of which everybody may hold some.

use std::sync::Arc;
use std::time::Duration;

use crate::acquire::{Limit, Target, Under, contend_for};
use crate::admin::rewrite;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::guard::LockGuard;
use crate::info::LockInfo;
use crate::lock::Attempt;
use crate::name;
use crate::options::LockOptions;
use crate::protocol::lock::resize;
use crate::protocol::queue::Want;
use crate::record::{Kind, MAX_PERMITS, Mode};
use crate::rwlock::too_early;
use crate::session::OpenSession;

/// A number of permits on a store, of which up to 128 holders hold one or several each. Cheap to
/// clone; nothing is written before permits are acquired.
///
/// The number is on record from the first acquisition on: whoever opens the semaphore with another
/// gets an error, and [`resize`](Self::resize) changes it. Whoever has to wait takes a ticket, and is
/// served in the order of arrival, so that many permits can be had at once however many single ones
/// are wanted.
///
/// Permits are leases with an identity and a fencing token each, held under a
/// [session](crate::Session) that the process shares: a process that dies gives its permits back
/// when its session ends.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> leaselock::Result<()> {
/// # let store = leaselock::open("memory:///").await?;
/// let licences = store.semaphore("licences/solver", 4);
/// let one = licences.acquire().await?;
/// let three = licences.acquire_many(3).await?; // all or none
/// assert!(licences.try_acquire().await?.acquired().is_none());
/// three.release().await?;
/// one.release().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Semaphore {
    target: Target,
    options: LockOptions,
}

impl Semaphore {
    pub(crate) fn new(client: Arc<Client>, name: String, limit: u32) -> Self {
        let alone = Target::alone(client, Kind::Semaphore, name);
        let want = Want { mode: Mode::Shared, limit, queue: true, ..Want::ALONE };
        Self { target: Target { want, under: Under::Implied, ..alone }, options: <_>::default() }
    }

    pub(crate) fn within(mut self, session: Arc<OpenSession>) -> Self {
        self.target.under = Under::Session(session);
        self
    }

    /// The semaphore's name.
    pub fn name(&self) -> &str {
        &self.target.name
    }

    /// How many permits there are, as far as this handle knows.
    pub fn limit(&self) -> u32 {
        self.target.want.limit
    }

    crate::options::common_setters!();

    /// Acquires one permit; waits behind those who came before.
    ///
    /// # Errors
    /// As [`Lock::acquire`](crate::Lock::acquire); and
    /// [`LimitMismatch`](ErrorKind::LimitMismatch) when the semaphore has another number of permits,
    /// [`WrongKind`](ErrorKind::WrongKind) when the name belongs to something else,
    /// [`InvalidOptions`](ErrorKind::InvalidOptions) for a limit out of 1 to 65,536.
    ///
    /// # Cancel safety
    /// Cancel safe, as [`Lock::acquire`](crate::Lock::acquire); its ticket is taken back.
    pub async fn acquire(&self) -> Result<LockGuard> {
        self.acquire_many(1).await
    }

    /// As [`acquire`](Self::acquire), without waiting.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), but after four failures of the store.
    ///
    /// # Cancel safety
    /// As [`acquire`](Self::acquire).
    pub async fn try_acquire(&self) -> Result<Attempt> {
        self.try_acquire_many(1).await
    }

    /// As [`acquire`](Self::acquire), waiting for up to `limit`.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), but a store that does not answer is tried until `limit`.
    ///
    /// # Cancel safety
    /// As [`acquire`](Self::acquire).
    pub async fn acquire_timeout(&self, limit: Duration) -> Result<Attempt> {
        self.acquire_many_timeout(1, limit).await
    }

    /// Acquires `permits` at once: all of them or none. One guard stands for all.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); [`InvalidOptions`](ErrorKind::InvalidOptions) for none, or more
    /// than there are.
    ///
    /// # Cancel safety
    /// As [`acquire`](Self::acquire).
    pub async fn acquire_many(&self, permits: u32) -> Result<LockGuard> {
        self.contend(permits, Limit::Forever).await?.acquired().ok_or_else(too_early)
    }

    /// As [`acquire_many`](Self::acquire_many), without waiting.
    ///
    /// # Errors
    /// As [`acquire_many`](Self::acquire_many), but after four failures of the store.
    ///
    /// # Cancel safety
    /// As [`acquire`](Self::acquire).
    pub async fn try_acquire_many(&self, permits: u32) -> Result<Attempt> {
        self.contend(permits, Limit::Once).await
    }

    /// As [`acquire_many`](Self::acquire_many), waiting for up to `limit`.
    ///
    /// # Errors
    /// As [`acquire_many`](Self::acquire_many), but a store that does not answer is tried until
    /// `limit`.
    ///
    /// # Cancel safety
    /// As [`acquire`](Self::acquire).
    pub async fn acquire_many_timeout(&self, permits: u32, limit: Duration) -> Result<Attempt> {
        let until = self.target.client.store.clock().now().boot.plus(limit);
        self.contend(permits, Limit::Until(until)).await
    }

    /// Gives the semaphore on record another number of permits, from 1 to 65,536. Nobody is put out:
    /// where more are held than there are now, nobody enters before enough have been given back. Who
    /// waits with the former number gets [`LimitMismatch`](ErrorKind::LimitMismatch). Answers a handle
    /// with the new number.
    ///
    /// # Errors
    /// [`LimitMismatch`](ErrorKind::LimitMismatch) when the number on record is not this handle's:
    /// somebody else has changed it. [`NotHeld`](ErrorKind::NotHeld) when there is no record yet.
    /// Otherwise as [`acquire`](Self::acquire).
    ///
    /// # Cancel safety
    /// Dropping the future does not stop what has begun.
    pub async fn resize(&self, limit: u32) -> Result<Self> {
        check_limit(limit)?;
        let target = self.target.clone();
        let before = self.limit();
        rewrite(&self.target, move |found, nonce, now| match found {
            None => {
                let message = format!("the semaphore {:?} has no record yet", target.name);
                Err(Error::new(ErrorKind::NotHeld, message))
            }
            Some(found) if found.kind != Kind::Semaphore => Err(target.other_kind(found.kind)),
            Some(found) if found.limit == limit => Ok(None),
            Some(found) if found.limit != before => Err(target.other_limit(found.limit)),
            Some(found) => Ok(Some(resize(found, limit, nonce, now))),
        })
        .await?;
        let mut resized = self.clone();
        resized.target.want.limit = limit;
        Ok(resized)
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
        let key = name::key_of(Kind::Semaphore, client.store.prefix(), self.name())?;
        client.inspect(self.name().to_owned(), key).await
    }

    async fn contend(&self, permits: u32, limit: Limit) -> Result<Attempt> {
        let total = self.limit();
        check_limit(total)?;
        if !(1..=total).contains(&permits) {
            let message = format!("{permits} permits of {total} cannot be acquired: 1 to {total}");
            return Err(Error::new(ErrorKind::InvalidOptions, message));
        }
        let want = Want { permits, ..self.target.want };
        let target = Target { want, ..self.target.clone() };
        contend_for(&target, &self.options, limit).await?.attempt()
    }
}

fn check_limit(limit: u32) -> Result<()> {
    if (1..=MAX_PERMITS).contains(&limit) {
        return Ok(());
    }
    let message = format!("a semaphore cannot have {limit} permits: 1 to {MAX_PERMITS}");
    Err(Error::new(ErrorKind::InvalidOptions, message))
}
