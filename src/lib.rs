//! Distributed locks with no lock server: leases on the object storage you already have.
//!
//! A lock is one small record on a store with conditional writes: S3 and everything that speaks its
//! protocol, Azure Blob Storage, Google Cloud Storage, a directory, or any
//! [`object_store::ObjectStore`]. Leases expire, are renewed in the background, and are waited for
//! with bounded, jittered, exponential backoff.
//!
//! # What is not promised
//!
//! - **That a paused process does not act late.** Between asking [`LockGuard::is_held`] and the next
//!   line a process can be suspended for an hour; no lease can prevent that. [`LockGuard::fence`]
//!   makes the object store refuse what such a process sends; to anything else pass
//!   [`LockGuard::token`] along, and let it refuse a smaller token than the largest it has seen.
//! - **Exclusion while somebody deletes a record that is held.** Tokens go on rising all the same.
//! - **Hand-over in less than a poll,** but where [`WakeHints`] get through; and fairness only where it
//!   is asked for: [`Lock::fair`].
//!
//! # What is
//!
//! - At most one acquisition owns a lock on the store, whatever clocks do.
//! - Fencing tokens rise strictly: across releases, crashes, takeovers, breaks, and deletion.
//! - A guard says that it is lost *before* anybody else may take over. Only the rates of clocks
//!   matter for that, never their readings: they need not be synchronised.
//! - A fenced write of a former holder is refused by the store: see [`fencing`].
//! - A crashed holder's lock is free again after `1.02 × TTL + 50 ms` and one poll.
//!
//! The argument stands in `docs/PROTOCOL.md`, the assumptions in `docs/GUARANTEES.md`.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> leaselock::Result<()> {
//! let store = leaselock::open("memory:///").await?; // or s3://bucket/locks, file:///var/locks, …
//! let lock = store.lock("etl/nightly").ttl(Duration::from_secs(30)).owner("nightly-etl");
//!
//! let guard = lock.acquire().await?;
//! let answer = guard.run(async { 6 * 7 }).await?; // dropped the moment the lease is lost
//! assert_eq!(answer, 42);
//! guard.release().await?;
//!
//! // The same in one line:
//! let token = lock.with(async |guard| guard.token()).await?;
//! # assert!(token.get() > 0);
//! # Ok(())
//! # }
//! ```
//!
//! # Run once
//!
//! [`Store::once`] runs work once under a key, whoever asks for it: the first runs it under a lease and
//! records its result, the others get the result. See [`Once`] for what that does not promise.
//!
//! # More than a lock
//!
//! - [`Lock::fair`]: first come, first served.
//! - [`Store::rwlock`]: readers together, or one writer.
//! - [`Store::semaphore`]: so many permits at a time.
//! - [`Store::session`]: one lease for thousands of locks of one process.
//! - [`Store::lock_all`]: several locks together, all of them or none.
//! - [`Quorum`]: a lock over several independent stores, of which a majority decides.
//! - [`LockGuard::detach`]: a lease that is held from one process to the next.
//! - [`Store::election`]: one of many candidates leads, and everybody can see who.
//! - [`Store::latch`] opens when enough different members have arrived, and stays open;
//!   [`Store::barrier`] opens whenever all have.
//! - [`blocking`]: all of it for programs without async.
//!
//! `docs/PRIMITIVES.md` has an example of each, and what it does not promise.
//!
//! # Runtimes
//!
//! All requests and renewals run on a thread of the library's own ([`Runtime::Dedicated`]), so that
//! a program which blocks every thread of its runtime keeps its leases; the library's futures work
//! on any executor. A future that is dropped abandons no write: what has begun is seen to its end
//! and undone in the background.
//!
//! # Features
//!
//! `aws`, `azure` and `gcp` bring the clouds; none is on by default. `tracing` events and `metrics`
//! counters are emitted always; `docs/GUARANTEES.md` lists them.

mod acquire;
mod admin;
mod all;
mod barrier;
pub mod blocking;
mod client;
pub mod clock;
mod detached;
mod diagnosis;
mod election;
mod error;
pub mod fencing;
#[cfg(all(feature = "__fuzzing", feature = "aws"))]
#[doc(hidden)]
pub mod fuzzing;
mod gathering;
mod guard;
mod handle;
mod hold;
mod holder;
mod info;
mod joint;
mod keeper;
mod latch;
mod local;
mod lock;
mod memory;
mod name;
mod once;
mod options;
mod polling;
pub mod protocol;
mod quorum;
pub mod record;
mod rng;
mod runtime;
mod rwlock;
mod semaphore;
mod session;
mod store;
mod telemetry;
mod time;
mod token;
mod wait;
mod wake;

pub use admin::{Break, Broken};
pub use all::{AllGuard, AttemptAll, LockAll};
pub use barrier::Barrier;
pub use detached::DetachedLease;
pub use diagnosis::{Diagnosis, Finding, Verdict};
pub use election::{Campaign, Election, Health, Leader, Leadership};
pub use error::{Error, ErrorKind, Result};
pub use gathering::{Arrival, GatheringInfo, MemberInfo, Passed, Waited};
pub use guard::LockGuard;
pub use handle::{ShutdownReport, Store, StoreBuilder, open};
pub use hold::{LeasePhase, LeaseStatus, LeaseWatch, LossReason};
pub use holder::{HolderId, Nonce, Owner, ParseHolderIdError};
pub use info::{DoneInfo, HolderInfo, LockInfo, LockState, Tenure, WaiterInfo};
pub use keeper::Release;
pub use latch::Latch;
pub use lock::{Attempt, Lock};
pub use once::{Base64, Once, Outcome, Run, Start};
pub use polling::Polling;
pub use quorum::{Quorum, QuorumInfo, QuorumLock, QuorumMember};
pub use record::Payload;
pub use runtime::Runtime;
pub use rwlock::{RwLock, WriteAttempt, WriteGuard};
pub use semaphore::Semaphore;
pub use session::{Session, SessionBuilder};
pub use store::directory::{DirectoryStore, OutsideRoot};
pub use token::{FencingToken, ParseTokenError};
pub use wake::WakeHints;

/// The guides are compiled, so that what they show cannot rot.
#[cfg(doctest)]
mod guides {
    #[doc = include_str!("../README.md")]
    mod readme {}
    #[doc = include_str!("../docs/FENCING.md")]
    mod fencing {}
    #[doc = include_str!("../docs/GUARANTEES.md")]
    mod guarantees {}
    #[doc = include_str!("../docs/PRIMITIVES.md")]
    mod primitives {}
}
