//! The keeper: one task per acquisition. It renews the lease in time, notices when it is lost, and
//! gives it back.
//!
//! **Invariants.** The keeper is the only one that writes for its acquisition, one write at a time,
//! so a release never races a renewal (hazard H12). A deadline moves only by an acknowledged write,
//! counted from before it was sent. Once the lease has ended nothing more is written.

use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;
use tokio::sync::{mpsc, oneshot};

use crate::client::Registration;
use crate::clock::Boot;
use crate::error::{Error, ErrorKind, Result};
use crate::hold::{Hold, LossReason};
use crate::memory::Memory;
use crate::options::Terms;
use crate::protocol::lock::{Gone, HolderDecision, Own, release, renew};
use crate::protocol::once::{Finish, finish};
use crate::record::{Payload, Record};
use crate::store::{Content, LockStore, Patience, Read, Swap, Version};
use crate::wait::{Backoff, RETRYING};

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
    },
    Release {
        done: Option<oneshot::Sender<Result<Release>>>,
    },
    /// Records what the work has come to, in the place of the holder.
    Finish {
        finish: Box<Finish>,
        done: oneshot::Sender<Result<()>>,
    },
}

/// How the last write of an acquisition ended.
enum Last {
    Landed,
    /// The lease was lost before.
    Lost(LossReason),
    /// It was not applied, and it is too late for another attempt.
    TooLate,
    /// It may have been applied, or may yet be.
    Unknown(Error),
}

/// However often others rewrite the record between our read and our write, we do not retry
/// without end within one renewal.
const REDO: usize = 8;
/// Attempts of a renewal that the user asked for.
const COMMANDED: u32 = 3;
/// Timers stand still while the machine sleeps, and no timer fires when the wall clock jumps: the
/// clocks are looked at this often.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) store: Arc<LockStore>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) key: Path,
    pub(crate) hold: Arc<Hold>,
    pub(crate) terms: Terms,
    pub(crate) record: Record,
    pub(crate) version: Version,
    /// What it knows of its own entry in the record.
    pub(crate) own: Own,
    pub(crate) commands: mpsc::UnboundedReceiver<Command>,
    /// Lives as long as the keeper.
    pub(crate) _registration: Registration,
}

impl Keeper {
    /// Keeps the lease until the guard is gone. What is under way is boxed: a keeper rests most of
    /// its life, and there may be thousands.
    pub(crate) async fn run(mut self) {
        let clock = Arc::clone(self.store.clock());
        let mut backoff = Backoff::new(RETRYING, Arc::clone(self.store.rng()));
        let mut renew_at = self.next_renewal();
        loop {
            let wake = self.next_look(renew_at);
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(Command::Renew { payload, done }) => {
                        let result = Box::pin(self.renew_now(payload.as_deref())).await;
                        if result.is_ok() {
                            renew_at = self.next_renewal();
                        }
                        // The caller may have stopped waiting.
                        let _ = done.send(result);
                    }
                    Some(Command::Release { done }) => {
                        let result = Box::pin(self.release()).await;
                        if let Err(error) = &result {
                            tracing::warn!(lock = %self.hold.name, %error, "the release failed");
                        }
                        if let Some(done) = done {
                            let _ = done.send(result);
                        }
                        return;
                    }
                    Some(Command::Finish { finish, done }) => {
                        let result = Box::pin(self.finish(&finish)).await;
                        if let Err(error) = &result {
                            tracing::warn!(lock = %self.hold.name, %error, "no result was recorded");
                        }
                        let _ = done.send(result);
                        return;
                    }
                    None => return,
                },
                () = clock.sleep_until(wake), if self.hold.is_live() => {
                    self.hold.settle();
                    let due = renew_at.is_some_and(|at| clock.now().boot >= at);
                    if due && self.hold.is_live() {
                        renew_at = match Box::pin(self.renew(None)).await {
                            Ok(()) => {
                                backoff.reset();
                                self.next_renewal()
                            }
                            Err(_) => Some(clock.now().boot.plus(backoff.next())),
                        };
                    }
                }
            }
        }
    }

    /// When the next renewal is due: the interval after the last was sent, give or take a tenth, so
    /// that the keepers of many locks do not march in step.
    fn next_renewal(&self) -> Option<Boot> {
        let every = self.terms.renew_every?;
        let jitter = self.store.rng().up_to(every / 5);
        Some(self.hold.renewed_at().plus(every / 10 * 9).plus(jitter))
    }

    fn next_look(&self, renew_at: Option<Boot>) -> Boot {
        let look = self.store.clock().now().boot.plus(LOOK);
        [Some(self.hold.next_event()), renew_at].into_iter().flatten().fold(look, Boot::min)
    }

    /// Renews because the user asked for it: one that is due by itself has a single attempt, as the
    /// keeper's loop comes back to it and listens to its guard in between.
    async fn renew_now(&mut self, payload: Option<&Payload>) -> Result<()> {
        let mut backoff = Backoff::new(RETRYING, Arc::clone(self.store.rng()));
        for _ in 1..COMMANDED {
            match self.renew(payload).await {
                Err(error) if error.kind() == ErrorKind::Unavailable && self.hold.is_live() => {
                    let clock = self.store.clock();
                    let resume = clock.now().boot.plus(backoff.next());
                    self.attend(clock.sleep_until(resume)).await;
                }
                result => return result,
            }
        }
        self.renew(payload).await
    }

    /// Renews once.
    async fn renew(&mut self, payload: Option<&Payload>) -> Result<()> {
        let result = self.try_renew(payload).await;
        if let Err(error) = &result {
            tracing::debug!(lock = %self.hold.name, %error, "a renewal failed");
            self.hold.troubled(match error.kind() {
                ErrorKind::PermissionDenied | ErrorKind::MissingCredentials => LossReason::Denied,
                _ => LossReason::Unreachable,
            });
        }
        result
    }

    async fn try_renew(&mut self, payload: Option<&Payload>) -> Result<()> {
        for _ in 0..REDO {
            self.hold.settle();
            if let Some(reason) = self.hold.loss() {
                return Err(lost(&reason));
            }
            // The lease counts from here, as its record tells: not from when the write was sent.
            let (nonce, decided) = (self.store.nonce(), self.store.clock().now());
            let record = match renew(&self.record, self.own, payload, nonce, decided.wall) {
                HolderDecision::Write(record) => record,
                HolderDecision::Gone(gone) => return Err(self.lose(gone.into())),
            };
            let patience = self.patience(1);
            match self
                .attend(self.store.swap(&self.key, Some(&self.version), &record, patience))
                .await?
            {
                Swap::Won { version } => {
                    (self.record, self.version) = (*record, version);
                    self.own.renewals += 1;
                    self.own.unresolved = false;
                    if self.hold.extend(decided) {
                        return Ok(());
                    }
                    return Err(lost(&self.hold.loss().unwrap_or(LossReason::Expired)));
                }
                Swap::Conflict(read) => {
                    if let Some(reason) = self.adopt(*read) {
                        return Err(self.lose(reason));
                    }
                }
                Swap::Unknown(error) => {
                    self.own.unresolved = true;
                    return Err(error);
                }
            }
        }
        Err(Error::new(
            ErrorKind::Unavailable,
            "the record was rewritten by others again and again",
        ))
    }

    fn lose(&self, reason: LossReason) -> Error {
        let error = lost(&reason);
        self.hold.end(reason);
        error
    }

    /// Gives the lock back. The guard has been told before that it does not hold it any more.
    async fn release(&mut self) -> Result<Release> {
        match self.end(None).await {
            Ok(Last::Landed) => Ok(Release::Released),
            Ok(Last::Lost(reason)) => Ok(Release::AlreadyLost(reason)),
            Ok(Last::TooLate) => Ok(Release::Unconfirmed),
            Ok(Last::Unknown(error)) => {
                tracing::warn!(lock = %self.hold.name, %error, "the release is not confirmed");
                Ok(Release::Unconfirmed)
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => Ok(Release::Unconfirmed),
            Err(error) => Err(error),
        }
    }

    /// Records what the work has come to, if this still is the holder on record.
    async fn finish(&mut self, finish: &Finish) -> Result<()> {
        match self.end(Some(finish)).await {
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
        }
    }

    /// The last write: frees the record, or records a result.
    async fn end(&mut self, result: Option<&Finish>) -> Result<Last> {
        if let Some(reason) = self.hold.loss() {
            return Ok(Last::Lost(reason));
        }
        for _ in 0..REDO {
            let clock = self.store.clock();
            let rest = self.terms.min_hold.map(|min| min.saturating_sub(self.hold.held_for()));
            let linger = rest.filter(|rest| !rest.is_zero());
            let (nonce, now) = (self.store.nonce(), clock.now().wall);
            let decision = match result {
                Some(result) => finish(&self.record, self.own, result, nonce, now),
                None => release(&self.record, self.own, linger, nonce, now),
            };
            let record = match (decision, result) {
                (HolderDecision::Write(record), _) => record,
                (HolderDecision::Gone(Gone::Finished), Some(_))
                | (HolderDecision::Gone(Gone::Released), None) => return Ok(Last::Landed),
                (HolderDecision::Gone(gone), _) => return Ok(Last::Lost(gone.into())),
            };
            if clock.now().boot >= self.hold.last_write() {
                return Ok(Last::TooLate);
            }
            let patience = self.patience(u32::MAX);
            match self.store.swap(&self.key, Some(&self.version), &record, patience).await? {
                Swap::Won { version } => {
                    if record.holders.is_empty() && record.done.is_none() {
                        self.memory.freed(
                            &self.key,
                            *record,
                            version,
                            self.store.clock().now().boot,
                        );
                    }
                    return Ok(Last::Landed);
                }
                Swap::Conflict(read) => {
                    if let Some(reason) = self.adopt(*read) {
                        return Ok(Last::Lost(reason));
                    }
                }
                Swap::Unknown(error) => return Ok(Last::Unknown(error)),
            }
        }
        Ok(Last::TooLate)
    }

    /// Goes on from what somebody else has written, if it is a record.
    fn adopt(&mut self, read: Read) -> Option<LossReason> {
        match read.content {
            Content::Record { record, version, .. } => {
                if let Some(lease) = record.lease(self.own.id) {
                    // The next decision tells whether that is our own work.
                    let landed = self.own.unresolved && lease.renewals == self.own.renewals + 1;
                    self.own.renewals += u64::from(landed);
                    self.own.unresolved &= !landed;
                }
                (self.record, self.version) = (*record, version);
                None
            }
            Content::Absent => Some(LossReason::RecordDeleted),
            Content::Unreadable { .. } => Some(LossReason::RecordUnreadable),
        }
    }

    fn patience(&self, attempts: u32) -> Patience {
        let (request, until) = (self.terms.request_timeout, self.hold.last_write());
        Patience { request, until, attempts }
    }

    /// Waits for a write, or for the next attempt, and watches the deadline meanwhile: it passes
    /// whether or not the store answers (hazard H11).
    async fn attend<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            let wake = self.next_look(None);
            tokio::select! {
                biased;
                output = &mut work => return output,
                // Once it has ended there is nothing to watch, and its deadline lies in the past.
                () = self.store.clock().sleep_until(wake), if self.hold.is_live() => {
                    self.hold.settle();
                }
            }
        }
    }
}

pub(crate) fn lost(reason: &LossReason) -> Error {
    Error::new(ErrorKind::Lost, format!("the lease is lost: {reason}"))
}

/// A lease must not seem to be kept by a keeper that is gone, even if it never ran.
impl Drop for Keeper {
    fn drop(&mut self) {
        self.hold.end(LossReason::KeeperStopped);
    }
}
