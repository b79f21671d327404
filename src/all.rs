//! Many locks at once: all of them or none.
//!
//! **Invariants.** Locks are taken one after the other in the order of their names, by everybody, so
//! that nobody waits for a lock while holding one that comes later: no circle of waiters can close. A
//! lock that is lost while a later one is waited for undoes all that were taken, the last one first.
//! The guard holds while every one of them is held: a [joint](crate::joint) of all, of which all are
//! needed.
//!
//! Nothing here is a task: what is under way when the caller stops waiting is undone by the guards
//! that are dropped and by the contender that is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, Either, FutureExt, select, select_all};

use crate::acquire::{Contended, Limit, contend};
use crate::client::Client;
use crate::clock::timeout;
use crate::error::{Error, ErrorKind, Result};
use crate::fencing::{Fence, Objects};
use crate::guard::LockGuard;
use crate::hold::{Hold, LeaseWatch, LossReason};
use crate::holder::HolderId;
use crate::info::LockInfo;
use crate::joint::{GivingBack, Whole};
use crate::keeper::Release;
use crate::name;
use crate::options::{LockOptions, Terms};
use crate::record::Kind;
use crate::token::FencingToken;

/// Several locks of one store that are acquired together: all of them or none. Cheap to clone;
/// nothing is written before they are acquired.
///
/// The order in which the names are given does not matter, and neither does a name that is given
/// twice: locks are taken in the order of their names, so that callers who want the same locks never
/// wait for each other in a circle. That holds among those who take all their locks by one call; who
/// acquires another lock while holding some must keep that order by themselves.
///
/// **What is not promised:** that all of them change hands in one instant. While the later ones are
/// waited for, the earlier ones are held already, and nobody else can have them.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> leaselock::Result<()> {
/// # let store = leaselock::open("memory:///").await?;
/// let guard = store.lock_all(["accounts/17", "accounts/4"]).owner("transfer").acquire().await?;
/// let moved = guard.run(async { "from 17 to 4" }).await?; // dropped the moment one of them is lost
/// println!("{moved}, under {:?}", guard.tokens());
/// guard.release().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LockAll {
    client: Arc<Client>,
    names: BTreeSet<String>,
    options: LockOptions,
}

/// What came of an attempt at several locks that does not wait for ever.
#[derive(Debug)]
#[must_use = "one of the locks may be held by somebody else"]
pub enum AttemptAll {
    /// All of them are ours.
    Acquired(AllGuard),
    /// Somebody else holds this one, and none of them is ours.
    Held(Box<LockInfo>),
}

impl AttemptAll {
    /// The guard, if the locks were acquired.
    pub fn acquired(self) -> Option<AllGuard> {
        match self {
            Self::Acquired(guard) => Some(guard),
            Self::Held(_) => None,
        }
    }
}

impl LockAll {
    pub(crate) fn new(client: Arc<Client>, names: BTreeSet<String>) -> Self {
        Self { client, names, options: LockOptions::default() }
    }

    /// The locks' names, in the order in which they are taken.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    crate::options::setters! {
        /// How long each lease lasts without renewal: see [`Lock::ttl`](crate::Lock::ttl).
        ttl(ttl: Duration) { ttl: Some(ttl) }

        /// A label for the records, at most 128 bytes, so that others can see who holds the locks.
        owner(label: impl Into<String>) { owner: label.into() }

        /// Free text for the records, at most 1,024 bytes.
        note(text: impl Into<String>) { note: Some(text.into()) }

        /// All are lost after this time even if they could be renewed, counted from when the last of
        /// them was acquired.
        max_hold(limit: Duration) { max_hold: Some(limit) }
    }

    /// Acquires all locks; waits for as long as somebody else holds one of them.
    ///
    /// Costs what acquiring each of them costs, one after the other.
    ///
    /// # Errors
    /// [`InvalidOptions`](ErrorKind::InvalidOptions) for no names at all, and as
    /// [`Lock::acquire`](crate::Lock::acquire). None of them is held then.
    ///
    /// # Cancel safety
    /// Cancel safe: what was taken is given back in the background, and a write that is under way is
    /// seen to its end there.
    pub async fn acquire(&self) -> Result<AllGuard> {
        match self.contend(Limit::Forever).await? {
            AttemptAll::Acquired(guard) => Ok(guard),
            AttemptAll::Held(_) => Err(Error::new(ErrorKind::Internal, "waiting ended too early")),
        }
    }

    /// Acquires all locks if each is free or its lease has ended, without waiting. Otherwise those
    /// that were taken before the first that is held have been given back when this returns, as far
    /// as the store has confirmed it in time.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), but after four failures of the store.
    ///
    /// # Cancel safety
    /// As [`acquire`](Self::acquire).
    pub async fn try_acquire(&self) -> Result<AttemptAll> {
        self.contend(Limit::Once).await
    }

    /// Acquires all locks; waits for up to `limit` in all while somebody else holds one of them. A
    /// lock that is lost while another is waited for means to start over within the same limit.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), but a store that does not answer is tried until `limit`.
    ///
    /// # Cancel safety
    /// As [`acquire`](Self::acquire).
    pub async fn acquire_timeout(&self, limit: Duration) -> Result<AttemptAll> {
        let until = self.client.store.clock().now().boot.plus(limit);
        self.contend(Limit::Until(until)).await
    }

    async fn contend(&self, limit: Limit) -> Result<AttemptAll> {
        let terms = self.check()?;
        loop {
            let guards = Vec::with_capacity(self.names.len());
            let mut taken = Taken { client: Arc::clone(&self.client), guards };
            let answer = match self.take(limit, &mut taken).await {
                Ok(Took::All) => {
                    let guard = self.joint(&terms, taken);
                    if guard.is_held() {
                        return Ok(AttemptAll::Acquired(guard));
                    }
                    // The first was lost while the last was on its way.
                    drop(guard);
                    continue;
                }
                Ok(Took::Lost) => None,
                Ok(Took::Held(info)) => Some(Ok(AttemptAll::Held(info))),
                Err(error) => Some(Err(error)),
            };
            self.give_back(taken, terms.request_timeout).await;
            if let Some(answer) = answer {
                return answer;
            }
        }
    }

    /// Everything that can be wrong, before the first of them is taken.
    fn check(&self) -> Result<Terms> {
        if self.names.is_empty() {
            let message = "no locks were named that are to be acquired together";
            return Err(Error::new(ErrorKind::InvalidOptions, message));
        }
        for name in &self.names {
            name::key(self.client.store.prefix(), name)?;
        }
        self.options.check()
    }

    /// Takes one after the other, as far as it gets.
    async fn take(&self, limit: Limit, taken: &mut Taken) -> Result<Took> {
        // The longest hold is that of all together.
        let options = LockOptions { max_hold: None, ..self.options.clone() };
        for name in &self.names {
            let contending = contend(&self.client, Kind::Lock, name, &options, limit);
            let contended = match select(taken.lost(), Box::pin(contending)).await {
                Either::Left(_) => return Ok(Took::Lost),
                Either::Right((contended, _)) => contended?,
            };
            match contended {
                Contended::Acquired(guard) => taken.guards.push(guard),
                Contended::Held(info) => return Ok(Took::Held(info)),
                Contended::Done(_) => {
                    return Err(Error::new(ErrorKind::Internal, "a lock has a result"));
                }
            }
        }
        Ok(Took::All)
    }

    fn joint(&self, terms: &Terms, mut taken: Taken) -> AllGuard {
        let members = std::mem::take(&mut taken.guards);
        let of = |member: &LockGuard| (member.name().to_owned(), (member.id(), member.token()));
        let locks: BTreeMap<_, _> = members.iter().map(of).collect();
        let whole = Whole {
            name: self.names.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
            id: HolderId::from_random(self.client.store.rng().bits()),
            // Nobody is shown this one: each lock has its own.
            token: locks.values().map(|(_, token)| *token).max().unwrap_or(FencingToken::ZERO),
            terms: terms.clone(),
            needed: members.len(),
            giving_back: GivingBack::Reversed,
        };
        let (guard, _) = whole.of(&self.client, members);
        AllGuard { guard, locks, terms: Arc::new(terms.clone()), client: Arc::clone(&self.client) }
    }

    /// Gives back what was taken, the last one first, and waits for it; for each no longer than a
    /// request should take. What comes too late is done in the background.
    async fn give_back(&self, mut taken: Taken, limit: Duration) {
        let guards = std::mem::take(&mut taken.guards);
        if guards.is_empty() {
            return;
        }
        let clock = Arc::clone(self.client.store.clock());
        let giving_back = async move {
            for guard in guards.into_iter().rev() {
                let released = timeout(&*clock, limit, guard.release()).await;
                tracing::debug!(?released, "gave back one of several locks");
            }
            Ok(())
        };
        let _ = self.client.call(giving_back).await;
    }
}

/// What came of taking one lock after the other.
enum Took {
    All,
    /// One that was taken has been lost.
    Lost,
    /// Somebody else has this one.
    Held(Box<LockInfo>),
}

/// What has been taken, in that order. Whoever drops it without a word has stopped waiting.
struct Taken {
    client: Arc<Client>,
    guards: Vec<LockGuard>,
}

impl Taken {
    /// Completes when one of them is lost.
    fn lost(&self) -> BoxFuture<'static, ()> {
        if self.guards.is_empty() {
            return Box::pin(std::future::pending());
        }
        select_all(self.guards.iter().map(|guard| guard.lost().boxed())).map(drop).boxed()
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let guards = std::mem::take(&mut self.guards);
        if guards.is_empty() {
            return;
        }
        self.client.spawn(async move {
            for guard in guards.into_iter().rev() {
                let _ = guard.release().await;
            }
        });
    }
}

/// Several locks that are held, for as long as [`is_held`](Self::is_held) says so. The loss of one is
/// the loss of all.
///
/// Keepers renew each lease in the background. When one is lost, this says so at once; those that are
/// left stay taken until the guard is dropped, or for 0.9 × TTL at most, while the work winds down.
///
/// What a guard cannot do is said at [`LockGuard`], and so is what dropping one means. Locks are given
/// back in the reverse of the order of their names.
#[derive(Debug)]
#[must_use = "the locks are released when the guard is dropped"]
pub struct AllGuard {
    guard: LockGuard,
    /// Each lock's acquisition.
    locks: BTreeMap<String, (HolderId, FencingToken)>,
    terms: Arc<Terms>,
    client: Arc<Client>,
}

impl AllGuard {
    /// The fencing token of each lock, by its name. Each is larger than that of every earlier
    /// acquisition of the same lock; those of different locks have nothing to do with each other.
    pub fn tokens(&self) -> BTreeMap<&str, FencingToken> {
        self.locks.iter().map(|(name, (_, token))| (name.as_str(), *token)).collect()
    }

    /// The fencing token of one of the locks; `None` if it is not among them.
    pub fn token(&self, name: &str) -> Option<FencingToken> {
        self.locks.get(name).map(|(_, token)| *token)
    }

    /// Whether all locks are held: judged now, by this process's clocks, without asking the store.
    /// Once false it stays false. Does not allocate.
    pub fn is_held(&self) -> bool {
        self.guard.is_held()
    }

    /// How long all of them are held for certain if nothing renews them; zero when one is lost.
    pub fn remaining(&self) -> Duration {
        self.guard.remaining()
    }

    /// Completes when one of them is lost, with the reason; never when they are released first.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub fn lost(&self) -> impl Future<Output = LossReason> + Send + 'static {
        self.guard.lost()
    }

    /// Completes when one of them is at risk or lost: see [`LockGuard::at_risk`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub fn at_risk(&self) -> impl Future<Output = ()> + Send + 'static {
        self.guard.at_risk()
    }

    /// Follows them as one lease, which counts from the renewal that is longest ago.
    pub fn watch(&self) -> LeaseWatch {
        self.guard.watch()
    }

    /// Writes objects with the token of one of the locks: see [`LockGuard::fence`]. It claims no more
    /// objects once any of the locks is lost. `None` if the lock is not among them.
    pub fn fence(&self, name: &str, objects: &Objects) -> Option<Fence> {
        let (id, token) = *self.locks.get(name)?;
        // One lock's token on the lease of all.
        let terms = Terms { max_hold: None, ..Terms::clone(&self.terms) };
        let clock = Arc::clone(self.client.store.clock());
        let all = (1, vec![Arc::clone(self.guard.hold())]);
        let hold = Hold::of_parts(name.to_owned(), id, token, &terms, clock, all);
        Some(Fence::new(objects.clone(), Arc::new(hold)))
    }

    /// Runs `work` while all locks are held and drops it the moment one is lost.
    ///
    /// # Errors
    /// [`Lost`](ErrorKind::Lost) when one was lost before the work was done.
    ///
    /// # Cancel safety
    /// Dropping the future drops the work; the guard stays.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        self.guard.run(work).await
    }

    /// Gives all locks back, with one write each, one after the other: the last name first. The guard
    /// is invalid at once. [`Release::Released`] means that every one of them was confirmed.
    ///
    /// # Errors
    /// The store refused one, for example because credentials were withdrawn. Its lease expires.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the release; only its outcome goes unseen.
    pub async fn release(self) -> Result<Release> {
        self.guard.release().await
    }
}
