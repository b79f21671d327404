//! Work that is run once: by one of those who want it run, whose result the others get.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::acquire::{Contended, Limit, contend};
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::guard::LockGuard;
use crate::info::{DoneInfo, LockInfo};
use crate::keeper::Release;
use crate::name;
use crate::options::{LockOptions, check_retention};
use crate::protocol::once::Finish;
use crate::record::{Kind, Payload};

/// Work that is run once under a key, whoever asks for it and however often: the first runs it under
/// a lease and records its result in the same record, the others get the result. Cheap to clone;
/// nothing is written before it is run.
///
/// A run that fails, crashes or loses its lease leaves nothing behind: the next to ask runs the work.
///
/// **What is not promised:** that the work is *begun* only once. A run that crashes after its effect
/// and before its result is recorded is followed by another, and so is one whose result could not be
/// recorded. At most one result is ever recorded, and it is the result of a run that still held its
/// lease on the store; for effects elsewhere pass [`LockGuard::token`] along, or make them repeatable.
///
/// ```
/// use leaselock::Outcome;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> leaselock::Result<()> {
/// # let store = leaselock::open("memory:///").await?;
/// # async fn pay(fence: u64) -> Result<String, std::io::Error> { Ok(format!("receipt {fence}")) }
/// let once = store.once("payments/42/2026-11").owner("payroll");
/// match once.run(async |guard| pay(guard.token().get()).await).await? {
///     Outcome::Ran(receipt) => println!("paid: {receipt}"),
///     Outcome::AlreadyDone(receipt) => println!("paid before: {receipt}"),
///     Outcome::Failed(error) => println!("not paid, to be tried again: {error}"),
///     _ => unreachable!("`run` waits for whoever runs it"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Once {
    client: Arc<Client>,
    key: String,
    retention: Option<Duration>,
    options: LockOptions,
}

/// What came of work that is run once.
#[derive(Debug)]
#[must_use = "the work may have failed"]
#[non_exhaustive]
pub enum Outcome<T, E> {
    /// It was run here, and this is its result, which is on record now.
    Ran(T),
    /// It had been run before; this is the result on record.
    AlreadyDone(T),
    /// It was run here and ended with this error. Nothing is on record: it may be run again.
    Failed(E),
    /// Somebody else runs it. Only where it was not to be waited for, or for so long.
    Running(Box<LockInfo>),
}

/// What came of asking for a [`Run`].
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

/// A run of work that is run once, for callers whose work is no closure: [`Once::run`] does all this.
///
/// Dropping it gives the lease back in the background, without a result: the next to ask runs the
/// work.
#[derive(Debug)]
#[must_use = "the lease is given back when the run is dropped"]
pub struct Run {
    guard: LockGuard,
    retention: Option<Duration>,
}

impl Once {
    pub(crate) fn new(client: Arc<Client>, key: String) -> Self {
        Self { client, key, retention: None, options: LockOptions::default() }
    }

    /// The key.
    pub fn key(&self) -> &str {
        &self.key
    }

    crate::options::setters! {
        /// How long the lease of a run lasts without renewal: see [`Lock::ttl`](crate::Lock::ttl). After
        /// a crash others wait for about that long before they run the work.
        ttl(ttl: Duration) { ttl: Some(ttl) }

        /// A label for the record, at most 128 bytes, so that others can see who runs or ran it.
        owner(label: impl Into<String>) { owner: label.into() }

        /// Free text for the record while the work runs, at most 1,024 bytes.
        note(text: impl Into<String>) { note: Some(text.into()) }

        /// A run that takes longer loses its lease even if it could be renewed.
        max_hold(limit: Duration) { max_hold: Some(limit) }

        /// After a run that failed, nobody runs the work before so much time has passed since that run
        /// began, up to 24 h.
        min_hold(time: Duration) { min_hold: Some(time) }
    }

    /// For how long a result that is recorded from here stands, before the work may be run again: 1 s
    /// to 100 years, in whole milliseconds; for ever unless given. Everybody goes by what is on
    /// record, not by a retention of their own.
    ///
    /// By the store's clock, plus a margin of 3 s where its stamps are coarse: a result is past only
    /// when it certainly is. Where the store's time cannot be learned, results stand for ever.
    #[must_use]
    pub fn retention(mut self, time: Duration) -> Self {
        self.retention = Some(time);
        self
    }

    /// Runs `work` unless it has been run; waits for as long as somebody else runs it. The work is
    /// dropped the moment the lease is lost. Its result has at most 64 KiB as compact JSON; see
    /// [`Base64`] for bytes.
    ///
    /// Costs one read where it has been run, otherwise one read and two writes.
    ///
    /// # Errors
    /// As [`Lock::acquire`](crate::Lock::acquire) before the work is begun; and
    /// - [`Lost`](ErrorKind::Lost): the lease was lost before the result could be recorded. It is not
    ///   on record, and if somebody has taken over, their result stands.
    /// - [`InvalidOptions`](ErrorKind::InvalidOptions): the result is too large or has no JSON form.
    ///   **The work has been done**, but this counts as a failure: nothing is on record, the lease is
    ///   given back, and the next to ask runs it again. Record where a large result lies instead. Or a
    ///   result that is on record has another shape than `T`.
    /// - [`Unconfirmed`](ErrorKind::Unconfirmed): the work has been done, and the store did not say
    ///   whether its result was recorded. Asking again tells.
    /// - Any other error of the store while recording, whose message says that the work was done:
    ///   nothing is on record, and the lease expires.
    ///
    /// # Cancel safety
    /// Dropping the future drops the work and gives the lease back in the background: the next to ask
    /// runs the work. A result that is being recorded may be on record nevertheless.
    pub async fn run<T, E>(
        &self,
        work: impl AsyncFnOnce(&LockGuard) -> Result<T, E>,
    ) -> Result<Outcome<T, E>>
    where
        T: Serialize + DeserializeOwned,
    {
        self.start().await?.carry_out(work).await
    }

    /// As [`run`](Self::run), without waiting for somebody else who runs it.
    ///
    /// # Errors
    /// As [`run`](Self::run), but after four failures of the store.
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    pub async fn try_run<T, E>(
        &self,
        work: impl AsyncFnOnce(&LockGuard) -> Result<T, E>,
    ) -> Result<Outcome<T, E>>
    where
        T: Serialize + DeserializeOwned,
    {
        self.try_start().await?.carry_out(work).await
    }

    /// As [`run`](Self::run), waiting for up to `limit` while somebody else runs it. The work itself
    /// takes as long as it takes.
    ///
    /// # Errors
    /// As [`run`](Self::run), but a store that does not answer is tried until `limit`.
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    pub async fn run_timeout<T, E>(
        &self,
        limit: Duration,
        work: impl AsyncFnOnce(&LockGuard) -> Result<T, E>,
    ) -> Result<Outcome<T, E>>
    where
        T: Serialize + DeserializeOwned,
    {
        self.start_timeout(limit).await?.carry_out(work).await
    }

    /// Begins a run, unless the work has been run; waits for as long as somebody else runs it.
    ///
    /// # Errors
    /// As [`Lock::acquire`](crate::Lock::acquire); also for a retention out of bounds.
    ///
    /// # Cancel safety
    /// As [`Lock::acquire`](crate::Lock::acquire).
    pub async fn start(&self) -> Result<Start> {
        self.begin(Limit::Forever).await
    }

    /// As [`start`](Self::start), without waiting.
    ///
    /// # Errors
    /// As [`start`](Self::start), but after four failures of the store.
    ///
    /// # Cancel safety
    /// As [`start`](Self::start).
    pub async fn try_start(&self) -> Result<Start> {
        self.begin(Limit::Once).await
    }

    /// As [`start`](Self::start), waiting for up to `limit`.
    ///
    /// # Errors
    /// As [`start`](Self::start), but a store that does not answer is tried until `limit`.
    ///
    /// # Cancel safety
    /// As [`start`](Self::start).
    pub async fn start_timeout(&self, limit: Duration) -> Result<Start> {
        let until = self.client.store.clock().now().boot.plus(limit);
        self.begin(Limit::Until(until)).await
    }

    /// What the record says, with one read: [`Held`](crate::LockState::Held) while somebody runs the
    /// work, [`Done`](crate::LockState::Done) with the result, or [`Free`](crate::LockState::Free)
    /// after a failure or when the result is past.
    ///
    /// # Errors
    /// The key is invalid, or the store does not answer. A damaged record is no error but the state
    /// [`Unreadable`](crate::LockState::Unreadable).
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn inspect(&self) -> Result<LockInfo> {
        let key = name::key_of(Kind::Once, self.client.store.prefix(), &self.key)?;
        self.client.inspect(self.key.clone(), key).await
    }

    pub(crate) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    async fn begin(&self, limit: Limit) -> Result<Start> {
        if let Some(time) = self.retention {
            check_retention(time)?;
        }
        let contended = contend(&self.client, Kind::Once, &self.key, &self.options, limit).await?;
        Ok(match contended {
            Contended::Acquired(guard) => Start::Run(Run { guard, retention: self.retention }),
            Contended::Done(done) => Start::Done(Box::new((*done).into())),
            Contended::Held(info) => Start::Running(info),
        })
    }
}

impl Start {
    async fn carry_out<T, E>(
        self,
        work: impl AsyncFnOnce(&LockGuard) -> Result<T, E>,
    ) -> Result<Outcome<T, E>>
    where
        T: Serialize + DeserializeOwned,
    {
        let run = match self {
            Self::Run(run) => run,
            Self::Done(done) => return recorded(&done).map(Outcome::AlreadyDone),
            Self::Running(info) => return Ok(Outcome::Running(info)),
        };
        match run.guard.run(work(&run.guard)).await? {
            Ok(value) => run.finish(&value).await.map(|()| Outcome::Ran(value)),
            Err(failure) => {
                let key = run.guard.name().to_owned();
                if let Err(error) = run.give_back().await {
                    tracing::warn!(key, %error, "the lease of a run that failed has to expire");
                }
                Ok(Outcome::Failed(failure))
            }
        }
    }
}

fn recorded<T: DeserializeOwned>(done: &DoneInfo) -> Result<T> {
    done.result.deserialize().map_err(|error| {
        let message = "the work was done before, but its result has another shape";
        Error::new(ErrorKind::InvalidOptions, message).caused_by(error)
    })
}

impl Run {
    /// The guard of the lease under which the work is run: its token, and whether it still is held.
    pub fn guard(&self) -> &LockGuard {
        &self.guard
    }

    /// Records what the work has come to and gives the lease up, with one write. The guard is invalid
    /// at once; the store is asked again for as long as the lease would have lasted.
    ///
    /// # Errors
    /// Those of [`Once::run`] that concern the recording.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the write; only its outcome goes unseen.
    pub async fn finish(self, result: &impl Serialize) -> Result<()> {
        match Payload::result_of(result) {
            Ok(result) => self.guard.finish(Finish { result, retention: self.retention }).await,
            Err(error) => {
                let key = self.guard.name().to_owned();
                tracing::warn!(key, %error, "work was done whose result cannot be recorded");
                // Whether or not that succeeds, this is what the caller has to know.
                drop(self.give_back().await);
                let message = "the work was done, but its result cannot be recorded: it counts as \
                               failed, and the next to ask runs it again";
                Err(Error::new(ErrorKind::InvalidOptions, message).caused_by(error))
            }
        }
    }

    /// Gives the lease back without a result, as after a failure: the next to ask runs the work.
    ///
    /// # Errors
    /// The store refused, for example because credentials were withdrawn. The lease expires.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the release; only its outcome goes unseen.
    pub async fn give_back(self) -> Result<Release> {
        self.guard.release().await
    }
}

/// Bytes as the result of work that is run once: kept as base64 text, so up to 48 KiB of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Base64(pub Vec<u8>);

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Self).map_err(D::Error::custom)
    }
}
