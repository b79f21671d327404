//! The keeper: renews leases in time, notices when they are lost, and gives them back. One task goes its
//! [`Rounds`] of all leases of a store; what is written is a matter of each lease's own.
//!
//! **Invariant.** Whoever writes for an acquisition has its entry to itself meanwhile: see [`Entry`].

use std::fmt;
use std::sync::{Arc, Weak};

use tokio::sync::{Mutex, oneshot};
use tracing::Instrument;

use crate::client::{Client, Registration};
use crate::clock::{Boot, timeout};
use crate::error::{Error, ErrorKind, Result};
use crate::hold::{Hold, LeaseStatus, LossReason};
use crate::protocol::lock::Renewal;
use crate::protocol::once::Finish;
use crate::record::{Payload, Record};
use crate::token::FencingToken;
use crate::wait::{Backoff, RETRYING};

mod entry;
mod rounds;

use entry::{End, Last};
pub(crate) use entry::{Entry, until_renewal};
pub(crate) use rounds::Rounds;

/// How a release ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Release {
    /// The lock is free; or, with a minimum hold, it will be when that has passed.
    Released,
    /// The lease had been lost before.
    AlreadyLost(LossReason),
    /// The store did not confirm it in time. The lock becomes free when the lease expires.
    Unconfirmed,
}

/// What a guard asks of its keeper.
#[derive(Debug)]
pub(crate) enum Command {
    Renew {
        payload: Option<Box<Payload>>,
        done: oneshot::Sender<Result<()>>,
        /// Dropped when that is done.
        after: Option<After>,
    },
    /// Turns a writer into a reader.
    Downgrade { done: oneshot::Sender<Result<()>> },
    Release {
        done: Option<oneshot::Sender<Result<Release>>>,
        /// Dropped when that is done, or seems to take long.
        after: Option<After>,
    },
    /// Reserves so many tokens more, with a renewal.
    Reserve { more: u64, done: Reserving },
    /// Records what the work has come to, in the place of the holder.
    Finish { finish: Box<Finish>, done: oneshot::Sender<Result<()>> },
}

/// Whatever is to be dropped when something is done.
pub(crate) struct After(#[allow(dead_code, reason = "is there to be dropped")] Box<dyn Send>);

impl After {
    pub(crate) fn new(what: impl Send + 'static) -> Self {
        Self(Box::new(what))
    }
}

impl fmt::Debug for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("After")
    }
}

/// Tokens that an acknowledged write has reserved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reserved {
    /// Where the record's counter stands.
    pub(crate) up_to: FencingToken,
    /// Whether others wait in the queue.
    pub(crate) contested: bool,
}

impl Reserved {
    pub(crate) fn by(record: &Record) -> Self {
        Self { up_to: record.token, contested: !record.waiters.is_empty() }
    }
}

/// Hears what was reserved; nothing, if that failed or was never tried.
pub(crate) struct Reserving(Option<Box<dyn FnOnce(Option<Reserved>) + Send>>);

impl Reserving {
    pub(crate) fn new(done: impl FnOnce(Option<Reserved>) + Send + 'static) -> Self {
        Self(Some(Box::new(done)))
    }

    fn has(mut self, reserved: Option<Reserved>) {
        if let Some(done) = self.0.take() {
            done(reserved);
        }
    }
}

impl Drop for Reserving {
    fn drop(&mut self) {
        if let Some(done) = self.0.take() {
            done(None);
        }
    }
}

impl fmt::Debug for Reserving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reserving")
    }
}

/// One acquisition under a lease of its own.
pub(crate) struct Kept {
    client: Arc<Client>,
    hold: Arc<Hold>,
    /// By the write that acquired it.
    reserved: Reserved,
    /// Its place in the rounds.
    number: u64,
    /// One write at a time (hazard H12).
    work: Mutex<Work>,
    /// Lives as long as the guard, or what it has asked for.
    _registration: Registration,
}

/// What only who writes needs.
struct Work {
    entry: Entry,
    /// When the next renewal is due.
    renew_at: Option<Boot>,
    /// Between renewals that fail.
    backoff: Backoff,
}

impl Kept {
    /// Keeps the lease of `entry` from now on, until nobody has what comes back any more.
    pub(crate) fn begin(
        client: &Arc<Client>,
        entry: Entry,
        register: impl FnOnce(&Weak<Self>) -> Registration,
    ) -> Arc<Self> {
        let hold = Arc::clone(&entry.hold);
        let reserved = Reserved::by(&entry.record);
        let backoff = Backoff::new(RETRYING, Arc::clone(client.store.rng()));
        let renew_at = next_renewal(&entry);
        let kept = Arc::new_cyclic(|kept| Self {
            client: Arc::clone(client),
            hold,
            reserved,
            number: client.rounds.number(),
            work: Mutex::new(Work { entry, renew_at, backoff }),
            _registration: register(kept),
        });
        kept.plan(renew_at);
        kept
    }

    /// The tokens that were reserved when it was acquired.
    pub(crate) fn reserved(&self) -> Reserved {
        self.reserved
    }

    pub(crate) fn hold(&self) -> &Arc<Hold> {
        &self.hold
    }

    /// Does what a guard asks for; with `here`, as far as it gets without waiting on this thread.
    pub(crate) fn order(self: &Arc<Self>, command: Command, here: bool) {
        let work = Arc::clone(self).obey(command).instrument(self.span());
        if here { self.client.start_here(work) } else { self.client.spawn(work) }
    }

    /// Writes nothing more for the lease, which stays on record as it is; how it stands.
    ///
    /// # Errors
    /// It is lost.
    pub(crate) async fn let_go(&self) -> Result<LeaseStatus, LossReason> {
        // What is being written is seen to its end: it may be a renewal (hazard H12).
        let mut work = self.work.lock().await;
        self.hold.settle();
        let status = self.hold.status();
        self.hold.begin_release()?;
        work.renew_at = None;
        self.client.rounds.remove(self.number);
        Ok(status)
    }

    fn span(&self) -> tracing::Span {
        tracing::info_span!("lease", lock = %self.hold.name, token = %self.hold.token)
    }

    async fn obey(self: Arc<Self>, command: Command) {
        let mut work = self.work.lock().await;
        match work.entry.obey(command).await {
            Obeyed::Renewed => {
                work.renew_at = next_renewal(&work.entry);
                self.plan(work.renew_at);
            }
            Obeyed::Stands => {}
            Obeyed::Ended { .. } => self.client.rounds.remove(self.number),
        }
    }

    /// Renews if that still is due.
    fn renew(self: Arc<Self>) -> impl Future<Output = ()> + Send {
        let span = self.span();
        self.renew_if_due().instrument(span)
    }

    async fn renew_if_due(self: Arc<Self>) {
        let mut work = self.work.lock().await;
        let now = self.client.store.clock().now().boot;
        if self.hold.is_live() && work.renew_at.is_some_and(|at| now >= at) {
            work.renew_at = match work.entry.renew(Renewal::default()).await {
                Ok(()) => {
                    work.backoff.reset();
                    next_renewal(&work.entry)
                }
                Err(_) => Some(self.client.store.clock().now().boot.plus(work.backoff.next())),
            };
        }
        self.plan(work.renew_at);
    }

    /// Has the rounds come by when the next renewal is due.
    fn plan(self: &Arc<Self>, renew_at: Option<Boot>) {
        self.client.rounds.plan(self, renew_at);
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("hold", &self.hold).finish_non_exhaustive()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.client.rounds.remove(self.number);
        // A lease must not seem to be kept when nobody does.
        self.hold.end(LossReason::KeeperStopped);
    }
}

/// When the next renewal is due, as the record tells others.
fn next_renewal(entry: &Entry) -> Option<Boot> {
    entry.renews_in.map(|by| entry.hold.renewed_at().plus(by))
}

/// What has come of a command.
pub(crate) enum Obeyed {
    Renewed,
    /// The lease stands as before.
    Stands,
    Ended {
        /// Whether its entry is certainly not on record any more.
        off_record: bool,
    },
}

impl Entry {
    /// Does what a guard asks for. Callers may have stopped waiting for the answer.
    pub(crate) async fn obey(&mut self, command: Command) -> Obeyed {
        match command {
            Command::Renew { payload, done, after } => {
                let result = self.renew_now(payload.as_deref()).await;
                let renewed = if result.is_ok() { Obeyed::Renewed } else { Obeyed::Stands };
                let _ = done.send(result);
                drop(after);
                renewed
            }
            Command::Downgrade { done } => {
                let _ = done.send(self.downgrade().await);
                Obeyed::Stands
            }
            Command::Reserve { more, done } => {
                let with = Renewal { reserve: more, ..Renewal::default() };
                let result = self.renew(with).await;
                done.has(result.is_ok().then(|| Reserved::by(&self.record)));
                if result.is_ok() { Obeyed::Renewed } else { Obeyed::Stands }
            }
            Command::Release { done, after } => {
                let result = self.release_for(after).await;
                let off_record = matches!(result, Ok(Release::Released | Release::AlreadyLost(_)));
                if let Some(done) = done {
                    let _ = done.send(result);
                }
                Obeyed::Ended { off_record }
            }
            Command::Finish { finish, done } => {
                let result = self.finish(&finish).await;
                let off_record = result.is_ok();
                let _ = done.send(result);
                Obeyed::Ended { off_record }
            }
        }
    }

    /// Gives the lock back. Who comes `after` does not wait for a store that does not answer.
    async fn release_for(&mut self, after: Option<After>) -> Result<Release> {
        let (clock, patience) = (Arc::clone(self.store.clock()), self.request_timeout);
        let mut release = std::pin::pin!(self.release());
        if let Ok(released) = timeout(&*clock, patience, &mut release).await {
            return released;
        }
        drop(after);
        release.await
    }

    /// Gives the lock back. The guard has been told before that it does not hold it any more.
    pub(crate) async fn release(&mut self) -> Result<Release> {
        let released = match self.end(End::Release).await {
            Ok(Last::Landed) => Ok(Release::Released),
            Ok(Last::Lost(reason)) => Ok(Release::AlreadyLost(reason)),
            Ok(Last::TooLate) => Ok(Release::Unconfirmed),
            Ok(Last::Unknown(error)) => {
                tracing::warn!(lock = %self.hold.name, %error, "the release is not confirmed");
                Ok(Release::Unconfirmed)
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => Ok(Release::Unconfirmed),
            Err(error) => Err(error),
        };
        if let Err(error) = &released {
            tracing::warn!(lock = %self.hold.name, %error, "the release failed");
        }
        released
    }

    /// Records what the work has come to, if this still is the holder on record.
    pub(crate) async fn finish(&mut self, finish: &Finish) -> Result<()> {
        let finished = match self.end(End::Finish(finish)).await {
            Ok(Last::Landed) => Ok(()),
            Ok(Last::Lost(reason)) => Err(lost(&reason)),
            Ok(Last::TooLate) => Err(lost(&LossReason::Expired)),
            Ok(Last::Unknown(error)) => {
                let message =
                    "the work was done, but it is not known whether its result was recorded";
                Err(Error::new(ErrorKind::Unconfirmed, message).caused_by(error))
            }
            Err(error) => {
                let message = "the work was done, but its result was not recorded";
                Err(Error::new(error.kind(), message).caused_by(error))
            }
        };
        if let Err(error) = &finished {
            tracing::warn!(lock = %self.hold.name, %error, "no result was recorded");
        }
        finished
    }
}

pub(crate) fn lost(reason: &LossReason) -> Error {
    Error::new(ErrorKind::Lost, format!("the lease is lost: {reason}"))
}
