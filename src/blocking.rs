//! The same for programs without `async`: every call waits on the thread that makes it.
//!
//! Requests and renewals run on the library's own thread, so a program that only ever blocks keeps its
//! leases. The names are those of the crate's root; what a type tells without a request is the very
//! same, through [`Deref`].
//!
//! A few calls are async here as they are there, and are [waited](wait) for:
//!
//! - whatever writes or reads [objects](crate::fencing): `wait(guard.fence(&objects).put_new(path, bytes))`;
//! - what happens to a lease: [`LockGuard::lost`](crate::LockGuard::lost), `at_risk`,
//!   [`LeaseWatch::changed`](crate::LeaseWatch::changed), [`Session::lost`](crate::Session::lost);
//! - `run` of a guard, whose work is a future: that can be dropped when the lease is lost, and work that
//!   blocks cannot, which should [look](LockGuard::check) instead;
//! - what is asked of [`Leadership::guard`](crate::Leadership::guard):
//!   `wait(leadership.guard().set_payload(payload))`.
//!
//! Not for code that runs in an executor: it would block it, or panic in one of the `futures` crate. A
//! store that is opened here must not use [`Runtime::Current`].
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
//!
//! let guard = store.lock("tables/events").acquire()?;
//! let fence = guard.fence(&store.objects());
//! leaselock::blocking::wait(fence.put_new("tables/events/part-1.csv", "1,2\n"))?;
//! # Ok(())
//! # }
//! ```

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use futures::executor::{block_on, block_on_stream};
use object_store::ObjectStore;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::Clock;
use crate::keeper::lost;
use crate::once::recorded;
use crate::{
    Arrival, Break, Broken, DetachedLease, DoneInfo, GatheringInfo, HolderId, LeasePhase, LockInfo,
    LossReason, Outcome, Passed, Payload, Polling, QuorumInfo, Release, Result, Runtime,
    ShutdownReport, Waited, WakeHints,
};

/// Waits for any future of this library. Nothing of this module may be called within the future.
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
    ($($(#[$attribute:meta])* $name:ident)*) => {$(
        #[doc = concat!("As [`crate::", stringify!($name), "`].")]
        #[derive(Debug)]
        $(#[$attribute])*
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
    ($name:ident: $($method:ident($($argument:ident: $kind:ty),*))*) => {
        impl $name {$(
            #[doc = concat!("As [`crate::", stringify!($name), "::", stringify!($method), "`].")]
            #[must_use = "it is set on what comes back"]
            pub fn $method(self $(, $argument: $kind)*) -> Self {
                Self(self.0.$method($($argument),*))
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

/// Guards that can be looked at between the steps of work.
macro_rules! checks {
    ($($name:ident)*) => {$(
        impl $name {
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
    #[derive(Clone)]
    Store
    #[must_use = "nothing is opened yet"]
    StoreBuilder
    #[derive(Clone)]
    Lock
    #[derive(Clone)]
    RwLock
    #[derive(Clone)]
    Semaphore
    #[derive(Clone)]
    #[must_use = "nothing is opened yet"]
    SessionBuilder
    #[derive(Clone)]
    #[must_use = "it ends with its last handle and the last guard under it"]
    Session
    #[derive(Clone)]
    Once
    #[derive(Clone)]
    Election
    #[derive(Clone)]
    LockAll
    #[derive(Clone)]
    Latch
    #[derive(Clone)]
    Barrier
    #[derive(Clone)]
    Quorum
    #[derive(Clone)]
    QuorumLock
    #[must_use = "the lock is released when the guard is dropped"]
    LockGuard
    #[must_use = "the lock is released when the guard is dropped"]
    WriteGuard
    #[must_use = "the locks are released when the guard is dropped"]
    AllGuard
    #[must_use = "dropping it resigns"]
    Leadership
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

setters! { StoreBuilder:
    option(key: impl Into<String>, value: impl Into<String>)
    options(options: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>)
    prefix(prefix: impl Into<String>) check_preconditions(on: bool) clock(clock: Arc<dyn Clock>)
    seed(seed: u64) runtime(runtime: Runtime) wake_hints(hints: WakeHints)
}

setters! { Lock:
    fair() ttl(ttl: Duration) renew_every(interval: Duration) owner(label: impl Into<String>)
    note(text: impl Into<String>) max_hold(limit: Duration) min_hold(time: Duration)
    progress_within(interval: Duration) payload(payload: Payload) keeper(on: bool)
    store_clock(on: bool) trust_wall_clock(max_skew: Duration) polling(polling: Polling)
    queue_when_overtaken(on: bool) local_handover(on: bool)
}

setters! { RwLock:
    ttl(ttl: Duration) owner(label: impl Into<String>) note(text: impl Into<String>)
    max_hold(limit: Duration) polling(polling: Polling)
}

setters! { Semaphore:
    ttl(ttl: Duration) owner(label: impl Into<String>) note(text: impl Into<String>)
    max_hold(limit: Duration) polling(polling: Polling)
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
    break_lease(order: Break) -> Broken
    resume(holder: HolderId) -> LockGuard
    release_detached(holder: HolderId) -> ()
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
    start() -> Start
    try_start() -> Start
    start_timeout(limit: Duration) -> Start
    inspect() -> LockInfo
    forget(order: Break) -> Broken
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
    StoreBuilder: open() -> Store
    SessionBuilder: open() -> Session
    Session: close() -> Release
    LockGuard: release() -> Release
    LockGuard: detach() -> DetachedLease
    WriteGuard: release() -> Release
    WriteGuard: downgrade() -> LockGuard
    AllGuard: release() -> Release
    Leadership: resign() -> Release
}

checks! { LockGuard WriteGuard AllGuard }

impl Store {
    /// As [`crate::Store::builder`].
    pub fn builder(url: impl Into<String>) -> StoreBuilder {
        StoreBuilder(crate::Store::builder(url))
    }

    /// As [`crate::Store::from_object_store`].
    pub fn from_object_store(objects: Arc<dyn ObjectStore>) -> StoreBuilder {
        StoreBuilder(crate::Store::from_object_store(objects))
    }

    /// As [`crate::Store::lock_all`].
    pub fn lock_all<N: Into<String>>(&self, names: impl IntoIterator<Item = N>) -> LockAll {
        LockAll(self.0.lock_all(names))
    }

    /// As [`crate::Store::diagnose`].
    pub fn diagnose(&self) -> Result<crate::Diagnosis> {
        block_on(self.0.diagnose())
    }

    /// As [`crate::Store::list`].
    pub fn list(&self, prefix: &str) -> impl Iterator<Item = Result<LockInfo>> {
        block_on_stream(self.0.list(prefix))
    }

    /// As [`crate::Store::names`].
    pub fn names(&self, prefix: &str) -> impl Iterator<Item = Result<String>> {
        block_on_stream(self.0.names(prefix))
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
        work_under(self.acquire()?, work)
    }
}

impl QuorumLock {
    /// Acquires the lock, runs `work`, and releases it: see [`Lock::with`].
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire), and [`Lost`](crate::ErrorKind::Lost) when the lock was lost
    /// before the work was done or before it could be released.
    pub fn with<T>(&self, work: impl FnOnce(&LockGuard) -> T) -> Result<T> {
        work_under(self.acquire()?, work)
    }
}

fn work_under<T>(guard: LockGuard, work: impl FnOnce(&LockGuard) -> T) -> Result<T> {
    let output = work(&guard);
    guard.check()?;
    match guard.release()? {
        Release::AlreadyLost(reason) => Err(lost(&reason)),
        Release::Released | Release::Unconfirmed => Ok(output),
    }
}

impl WriteGuard {
    /// As [`crate::LockGuard::renew`].
    ///
    /// # Errors
    /// The same.
    pub fn renew(&self) -> Result<()> {
        block_on(self.0.renew())
    }

    /// As [`crate::LockGuard::set_payload`].
    ///
    /// # Errors
    /// The same.
    pub fn set_payload(&self, payload: Payload) -> Result<()> {
        block_on(self.0.set_payload(payload))
    }

    /// As [`crate::WriteGuard::into_guard`].
    pub fn into_guard(self) -> LockGuard {
        LockGuard(self.0.into_guard())
    }
}

/// As [`crate::Start`].
#[derive(Debug)]
#[must_use = "the work may be yours to run"]
pub enum Start {
    /// The work is to be run here.
    Run(Run),
    /// It has been run.
    Done(Box<DoneInfo>),
    /// Somebody else runs it. Only where it was not to be waited for, or for so long.
    Running(Box<LockInfo>),
}

/// As [`crate::Run`].
#[derive(Debug)]
#[must_use = "the lease is given back when the run is dropped"]
pub struct Run {
    guard: LockGuard,
    retention: Option<Duration>,
}

impl Once {
    /// Runs `work` unless it has been run; waits for as long as somebody else runs it. Work that blocks
    /// cannot be stopped when the lease is lost: it goes on, and should [look](LockGuard::check) between
    /// its steps; what it comes to is not recorded then. Otherwise as [`crate::Once::run`].
    ///
    /// # Errors
    /// The same; [`Lost`](crate::ErrorKind::Lost), too, when the work failed after the lease was lost.
    pub fn run<T, E>(&self, work: impl FnOnce(&LockGuard) -> Result<T, E>) -> Result<Outcome<T, E>>
    where
        T: Serialize + DeserializeOwned,
    {
        self.start()?.carry_out(work)
    }

    /// As [`run`](Self::run), without waiting for somebody else who runs it.
    ///
    /// # Errors
    /// As [`run`](Self::run), but after four failures of the store.
    pub fn try_run<T, E>(
        &self,
        work: impl FnOnce(&LockGuard) -> Result<T, E>,
    ) -> Result<Outcome<T, E>>
    where
        T: Serialize + DeserializeOwned,
    {
        self.try_start()?.carry_out(work)
    }

    /// As [`run`](Self::run), waiting for up to `limit` while somebody else runs it. The work itself
    /// takes as long as it takes.
    ///
    /// # Errors
    /// As [`run`](Self::run), but a store that does not answer is tried until `limit`.
    pub fn run_timeout<T, E>(
        &self,
        limit: Duration,
        work: impl FnOnce(&LockGuard) -> Result<T, E>,
    ) -> Result<Outcome<T, E>>
    where
        T: Serialize + DeserializeOwned,
    {
        self.start_timeout(limit)?.carry_out(work)
    }
}

impl Start {
    /// The work runs outside of any executor, so that it can wait for calls of its own.
    fn carry_out<T, E>(self, work: impl FnOnce(&LockGuard) -> Result<T, E>) -> Result<Outcome<T, E>>
    where
        T: Serialize + DeserializeOwned,
    {
        let run = match self {
            Self::Run(run) => run,
            Self::Done(done) => return recorded(&done).map(Outcome::AlreadyDone),
            Self::Running(info) => return Ok(Outcome::Running(info)),
        };
        let result = work(run.guard());
        run.guard().check()?;
        block_on(crate::Run::from(run).conclude(result))
    }
}

impl Run {
    /// As [`crate::Run::guard`].
    pub fn guard(&self) -> &LockGuard {
        &self.guard
    }

    /// As [`crate::Run::finish`].
    ///
    /// # Errors
    /// The same.
    pub fn finish(self, result: &impl Serialize) -> Result<()> {
        block_on(crate::Run::from(self).finish(result))
    }

    /// As [`crate::Run::give_back`].
    ///
    /// # Errors
    /// The same.
    pub fn give_back(self) -> Result<Release> {
        block_on(crate::Run::from(self).give_back())
    }
}

impl From<crate::Run> for Run {
    fn from(run: crate::Run) -> Self {
        Self { guard: run.guard.into(), retention: run.retention }
    }
}

impl From<Run> for crate::Run {
    fn from(run: Run) -> Self {
        Self { guard: run.guard.into(), retention: run.retention }
    }
}

impl From<crate::Start> for Start {
    fn from(start: crate::Start) -> Self {
        match start {
            crate::Start::Run(run) => Self::Run(run.into()),
            crate::Start::Done(done) => Self::Done(done),
            crate::Start::Running(info) => Self::Running(info),
        }
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
