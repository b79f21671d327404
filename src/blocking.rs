//! The same for programs without `async`: every call waits on the thread that makes it.
//!
//! Requests and renewals run on the library's own thread, so a program that only ever blocks keeps its
//! leases. The names are those of the crate's root; builders and what a guard tells without a request
//! are the very same. For what is not here, such as writing under a [fence](crate::fencing) or
//! [`LockGuard::lost`](crate::LockGuard::lost), there is [`wait`].
//!
//! Not for code that runs in an executor: it would block it. A store that is opened here must not use
//! [`Runtime::Current`](crate::Runtime::Current).
//!
//! ```
//! use std::time::Duration;
//!
//! # fn main() -> leaselock::Result<()> {
//! let store = leaselock::blocking::open("memory:///")?;
//! let guard = store.lock("etl/nightly").ttl(Duration::from_secs(30)).acquire()?;
//! for part in 0..10 {
//!     guard.check()?; // an error once the lease is lost
//!     println!("part {part} under token {}", guard.token());
//! }
//! guard.release()?;
//!
//! let answer = store.once("answers/42").run(|_| Ok::<_, ()>(42))?;
//! assert!(matches!(answer, leaselock::Outcome::Ran(42)));
//! # Ok(())
//! # }
//! ```

use std::ops::Deref;
use std::time::Duration;

use futures::executor::{block_on, block_on_stream};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::keeper::lost;
use crate::{
    Arrival, GatheringInfo, LeasePhase, LockInfo, LossReason, Outcome, Passed, Payload, QuorumInfo,
    Release, Result, ShutdownReport, Waited,
};

/// Waits for any future of this library.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    block_on(future)
}

/// As [`crate::open`].
///
/// # Errors
/// As [`crate::open`].
pub fn open(url: impl AsRef<str>) -> Result<Store> {
    block_on(crate::open(url)).map(Store)
}

/// A type of the crate's root, to be waited for.
macro_rules! blocking {
    ($($name:ident)*) => {$(
        #[doc = concat!("As [`crate::", stringify!($name), "`].")]
        #[derive(Debug)]
        pub struct $name(crate::$name);

        impl From<crate::$name> for $name {
            fn from(inner: crate::$name) -> Self {
                Self(inner)
            }
        }

        impl From<$name> for crate::$name {
            fn from(outer: $name) -> Self {
                outer.0
            }
        }

        impl Deref for $name {
            type Target = crate::$name;

            fn deref(&self) -> &Self::Target {
                &self.0
            }
        }
    )*};
}

/// Methods that answer the builder itself.
macro_rules! setters {
    ($name:ident: $($method:ident($($argument:ident: $kind:ty)?))*) => {
        impl $name {$(
            #[doc = concat!("As [`crate::", stringify!($name), "::", stringify!($method), "`].")]
            #[must_use]
            pub fn $method(self $(, $argument: $kind)?) -> Self {
                Self(self.0.$method($($argument)?))
            }
        )*}
    };
}

/// Methods that are waited for.
macro_rules! calls {
    ($name:ident: $($method:ident($($argument:ident: $kind:ty),*) -> $answer:ty)*) => {
        impl $name {$(
            #[doc = concat!("As [`crate::", stringify!($name), "::", stringify!($method), "`].")]
            ///
            /// # Errors
            /// The same.
            pub fn $method(&self $(, $argument: $kind)*) -> Result<$answer> {
                block_on(self.0.$method($($argument),*)).map(<$answer>::from)
            }
        )*}
    };
}

/// Methods that give something up and are waited for.
macro_rules! endings {
    ($($name:ident: $method:ident() -> $answer:ty)*) => {$(
        impl $name {
            #[doc = concat!("As [`crate::", stringify!($name), "::", stringify!($method), "`].")]
            ///
            /// # Errors
            /// The same.
            pub fn $method(self) -> Result<$answer> {
                block_on(self.0.$method()).map(<$answer>::from)
            }
        }
    )*};
}

/// What comes of an attempt: a guard, or what the record says.
macro_rules! attempts {
    ($($name:ident: $got:ident($guard:ident) or $missed:ident, $method:ident)*) => {$(
        #[doc = concat!("As [`crate::", stringify!($name), "`].")]
        #[derive(Debug)]
        #[must_use = "it may be held by somebody else"]
        pub enum $name {
            /// It is ours.
            $got($guard),
            /// It is somebody else's; this is what the record says.
            $missed(Box<LockInfo>),
        }

        impl $name {
            /// What was got, if it was.
            pub fn $method(self) -> Option<$guard> {
                match self {
                    Self::$got(guard) => Some(guard),
                    Self::$missed(_) => None,
                }
            }
        }

        impl From<crate::$name> for $name {
            fn from(attempt: crate::$name) -> Self {
                match attempt {
                    crate::$name::$got(guard) => Self::$got(guard.into()),
                    crate::$name::$missed(info) => Self::$missed(info),
                }
            }
        }
    )*};
}

/// Builders of the store that answer builders of this module.
macro_rules! opens {
    ($name:ident: $($method:ident($($argument:ident: $kind:ty),*) -> $answer:ident)*) => {
        impl $name {$(
            #[doc = concat!("As [`crate::", stringify!($name), "::", stringify!($method), "`].")]
            pub fn $method(&self $(, $argument: $kind)*) -> $answer {
                $answer(self.0.$method($($argument),*))
            }
        )*}
    };
}

blocking! {
    Store Lock RwLock Semaphore SessionBuilder Session Once Run Election LockAll Latch Barrier Quorum
    QuorumLock LockGuard WriteGuard AllGuard Leadership
}

attempts! {
    Attempt: Acquired(LockGuard) or Held, acquired
    WriteAttempt: Acquired(WriteGuard) or Held, acquired
    AttemptAll: Acquired(AllGuard) or Held, acquired
    Campaign: Elected(Leadership) or Following, elected
}

opens! { Store:
    lock(name: impl Into<String>) -> Lock
    rwlock(name: impl Into<String>) -> RwLock
    semaphore(name: impl Into<String>, limit: u32) -> Semaphore
    session() -> SessionBuilder
    once(key: impl Into<String>) -> Once
    election(name: impl Into<String>) -> Election
    latch(name: impl Into<String>, needed: u32) -> Latch
    barrier(name: impl Into<String>, parties: u32) -> Barrier
}

opens! { Session:
    lock(name: impl Into<String>) -> Lock
    rwlock(name: impl Into<String>) -> RwLock
    semaphore(name: impl Into<String>, limit: u32) -> Semaphore
}

opens! { Quorum:
    lock(name: impl Into<String>) -> QuorumLock
}

setters! { Lock:
    fair() ttl(ttl: Duration) renew_every(interval: Duration) owner(label: impl Into<String>)
    note(text: impl Into<String>) max_hold(limit: Duration) min_hold(time: Duration)
    progress_within(interval: Duration) payload(payload: Payload) keeper(on: bool)
    store_clock(on: bool) trust_wall_clock(max_skew: Duration)
}

setters! { RwLock:
    ttl(ttl: Duration) owner(label: impl Into<String>) note(text: impl Into<String>)
    max_hold(limit: Duration)
}

setters! { Semaphore:
    ttl(ttl: Duration) owner(label: impl Into<String>) note(text: impl Into<String>)
    max_hold(limit: Duration)
}

setters! { SessionBuilder:
    ttl(ttl: Duration) renew_every(interval: Duration) owner(label: impl Into<String>)
}

setters! { Once:
    ttl(ttl: Duration) owner(label: impl Into<String>) note(text: impl Into<String>)
    max_hold(limit: Duration) min_hold(time: Duration) retention(time: Duration)
}

setters! { Election:
    ttl(ttl: Duration) renew_every(interval: Duration) owner(label: impl Into<String>)
    note(text: impl Into<String>) payload(payload: Payload)
}

setters! { LockAll:
    ttl(ttl: Duration) owner(label: impl Into<String>) note(text: impl Into<String>)
    max_hold(limit: Duration)
}

setters! { QuorumLock:
    ttl(ttl: Duration) renew_every(interval: Duration) owner(label: impl Into<String>)
    note(text: impl Into<String>) max_hold(limit: Duration) payload(payload: Payload)
    store_clock(on: bool)
}

calls! { Lock:
    acquire() -> LockGuard
    try_acquire() -> Attempt
    acquire_timeout(limit: Duration) -> Attempt
    inspect() -> LockInfo
}

calls! { RwLock:
    read() -> LockGuard
    try_read() -> Attempt
    read_timeout(limit: Duration) -> Attempt
    write() -> WriteGuard
    try_write() -> WriteAttempt
    write_timeout(limit: Duration) -> WriteAttempt
    inspect() -> LockInfo
}

calls! { Semaphore:
    acquire() -> LockGuard
    try_acquire() -> Attempt
    acquire_timeout(limit: Duration) -> Attempt
    acquire_many(permits: u32) -> LockGuard
    try_acquire_many(permits: u32) -> Attempt
    acquire_many_timeout(permits: u32, limit: Duration) -> Attempt
    resize(limit: u32) -> Semaphore
    inspect() -> LockInfo
}

calls! { Once:
    start() -> crate::Start
    try_start() -> crate::Start
    start_timeout(limit: Duration) -> crate::Start
    inspect() -> LockInfo
}

calls! { Election:
    campaign() -> Leadership
    try_campaign() -> Campaign
    campaign_timeout(limit: Duration) -> Campaign
    leader() -> Option<crate::Leader>
    inspect() -> LockInfo
}

calls! { LockAll:
    acquire() -> AllGuard
    try_acquire() -> AttemptAll
    acquire_timeout(limit: Duration) -> AttemptAll
}

calls! { Latch:
    arrive(member: impl Into<String>) -> Arrival
    wait() -> Passed
    wait_timeout(limit: Duration) -> Waited
    arrive_and_wait(member: impl Into<String>) -> Passed
    inspect() -> GatheringInfo
    reset() -> u64
    reset_from(epoch: u64) -> u64
}

calls! { Barrier:
    arrive(member: impl Into<String>) -> Arrival
    wait(member: impl Into<String>) -> Passed
    wait_timeout(member: impl Into<String>, limit: Duration) -> Waited
    wait_at(epoch: u64, member: impl Into<String>) -> Passed
    wait_at_timeout(epoch: u64, member: impl Into<String>, limit: Duration) -> Waited
    epoch() -> u64
    inspect() -> GatheringInfo
}

calls! { QuorumLock:
    acquire() -> LockGuard
    try_acquire() -> Attempt
    acquire_timeout(limit: Duration) -> Attempt
    inspect() -> QuorumInfo
}

calls! { LockGuard:
    renew() -> ()
    set_payload(payload: Payload) -> ()
}

endings! {
    SessionBuilder: open() -> Session
    Session: close() -> Release
    LockGuard: release() -> Release
    WriteGuard: release() -> Release
    WriteGuard: downgrade() -> LockGuard
    AllGuard: release() -> Release
    Leadership: resign() -> Release
    Run: give_back() -> Release
}

impl Store {
    /// As [`crate::Store::lock_all`].
    pub fn lock_all<N: Into<String>>(&self, names: impl IntoIterator<Item = N>) -> LockAll {
        LockAll(self.0.lock_all(names))
    }

    /// As [`crate::Store::list`].
    pub fn list(&self, prefix: &str) -> impl Iterator<Item = Result<LockInfo>> {
        block_on_stream(self.0.list(prefix))
    }

    /// As [`crate::Store::shutdown`].
    pub fn shutdown(&self) -> ShutdownReport {
        block_on(self.0.shutdown())
    }
}

impl Quorum {
    /// As [`crate::Quorum::new`].
    ///
    /// # Errors
    /// The same.
    pub fn new(stores: impl IntoIterator<Item = Store>) -> Result<Self> {
        crate::Quorum::new(stores.into_iter().map(Into::into)).map(Self)
    }
}

impl Lock {
    /// Acquires the lock, runs `work`, and releases it. Work that blocks cannot be stopped when the
    /// lease is lost: it should [look](LockGuard::check) between its steps.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), and [`Lost`](crate::ErrorKind::Lost) when the lease was lost
    /// before the work was done or before it could be released.
    pub fn with<T>(&self, work: impl FnOnce(&LockGuard) -> T) -> Result<T> {
        let guard = self.acquire()?;
        let output = work(&guard);
        guard.check()?;
        match guard.release()? {
            Release::AlreadyLost(reason) => Err(lost(&reason)),
            Release::Released | Release::Unconfirmed => Ok(output),
        }
    }
}

impl LockGuard {
    /// For loops: an error once the lease is lost. Costs no request.
    ///
    /// # Errors
    /// [`Lost`](crate::ErrorKind::Lost), with the reason.
    pub fn check(&self) -> Result<()> {
        if self.0.is_held() {
            return Ok(());
        }
        match self.0.watch().status().phase {
            LeasePhase::Lost(reason) => Err(lost(&reason)),
            _ => Err(lost(&LossReason::KeeperStopped)),
        }
    }
}

impl Once {
    /// As [`crate::Once::run`]; work that blocks cannot be stopped when the lease is lost, but nothing
    /// is recorded then.
    ///
    /// # Errors
    /// The same.
    pub fn run<T, E>(
        &self,
        work: impl FnOnce(&crate::LockGuard) -> Result<T, E>,
    ) -> Result<Outcome<T, E>>
    where
        T: Serialize + DeserializeOwned,
    {
        block_on(self.0.run(async |guard: &crate::LockGuard| work(guard)))
    }

    /// As [`crate::Once::try_run`].
    ///
    /// # Errors
    /// The same.
    pub fn try_run<T, E>(
        &self,
        work: impl FnOnce(&crate::LockGuard) -> Result<T, E>,
    ) -> Result<Outcome<T, E>>
    where
        T: Serialize + DeserializeOwned,
    {
        block_on(self.0.try_run(async |guard: &crate::LockGuard| work(guard)))
    }

    /// As [`crate::Once::run_timeout`].
    ///
    /// # Errors
    /// The same.
    pub fn run_timeout<T, E>(
        &self,
        limit: Duration,
        work: impl FnOnce(&crate::LockGuard) -> Result<T, E>,
    ) -> Result<Outcome<T, E>>
    where
        T: Serialize + DeserializeOwned,
    {
        block_on(self.0.run_timeout(limit, async |guard: &crate::LockGuard| work(guard)))
    }
}

impl Run {
    /// As [`crate::Run::finish`].
    ///
    /// # Errors
    /// The same.
    pub fn finish(self, result: &impl Serialize) -> Result<()> {
        block_on(self.0.finish(result))
    }
}

impl Election {
    /// Campaigns, runs `work` as leader, and resigns. Work that blocks cannot be stopped when the
    /// leadership is lost: it should look at [`is_leader`](crate::Leadership::is_leader) between its
    /// steps and return.
    ///
    /// # Errors
    /// As [`campaign`](Self::campaign).
    pub fn lead<T>(&self, work: impl FnOnce(&Leadership) -> T) -> Result<T> {
        let leadership = self.campaign()?;
        let output = work(&leadership);
        if let Err(error) = leadership.resign() {
            tracing::warn!(%error, "the resignation is not confirmed");
        }
        Ok(output)
    }

    /// As [`crate::Election::observe`].
    pub fn observe(&self) -> impl Iterator<Item = Result<Option<crate::Leader>>> {
        block_on_stream(self.0.observe())
    }
}
