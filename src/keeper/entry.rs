//! What an acquisition writes once it holds the lock: renewals, and at last its release.
//!
//! **Invariants.** One write at a time, so a release never races a renewal (hazard H12). A deadline
//! moves only by an acknowledged write, counted from before it was sent. Once the lease has ended
//! nothing more is written.

use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;

use super::lost;
use crate::client::Client;
use crate::clock::{Boot, LOOK, Moment, Wall};
use crate::error::{Error, ErrorKind, Result};
use crate::hold::{Hold, LossReason};
use crate::holder::Nonce;
use crate::memory::Memory;
use crate::options::Terms;
use crate::protocol::lock::{Gone, HolderDecision, Own, Renewal, downgrade, release, renew};
use crate::protocol::once::{Finish, finish};
use crate::record::{Lease, Payload, Record};
use crate::rng::Randomness;
use crate::store::{Content, LockStore, Patience, Read, Swap, Version};
use crate::wait::{Backoff, RETRYING};
use crate::wake::Wakes;

/// However often others rewrite the record between our read and our write, we do not retry without end
/// within one renewal, and not without a pause when giving the lock back.
const REDO: usize = 8;
/// Attempts of a renewal that the user asked for.
const COMMANDED: u32 = 3;

/// An acquisition's entry in a record.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) store: Arc<LockStore>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) wakes: Arc<Wakes>,
    pub(crate) key: Path,
    pub(crate) hold: Arc<Hold>,
    /// The longest that one request may take.
    pub(crate) request_timeout: Duration,
    pub(crate) min_hold: Option<Duration>,
    /// Between two renewals, before jitter; `None` when nobody renews it by itself.
    pub(crate) renew_every: Option<Duration>,
    /// After how long the next renewal will come, as the record tells others.
    pub(crate) renews_in: Option<Duration>,
    pub(crate) record: Record,
    pub(crate) version: Version,
    /// What it knows of itself in the record.
    pub(crate) own: Own,
}

/// How long after a renewal the next one comes: the interval give or take a tenth, so that the keepers of
/// many locks do not march in step.
pub(crate) fn until_renewal(every: Duration, rng: &dyn Randomness) -> Duration {
    every / 10 * 9 + rng.up_to(every / 5)
}

/// The last write of an acquisition.
#[derive(Clone, Copy, Debug)]
pub(super) enum End<'a> {
    /// Gives the lock back.
    Release,
    /// Records what the work has come to.
    Finish(&'a Finish),
}

/// How the last write of an acquisition ended.
pub(super) enum Last {
    Landed,
    /// The lease was lost before.
    Lost(LossReason),
    /// It was not applied, and it is too late for another attempt.
    TooLate,
    /// It may have been applied, or may yet be.
    Unknown(Error),
}

impl Entry {
    /// The entry of an acquisition that has just been written.
    pub(crate) fn new(
        client: &Client,
        key: Path,
        hold: Arc<Hold>,
        terms: &Terms,
        renews_in: Option<Duration>,
        record: Record,
        version: Version,
    ) -> Self {
        Self {
            store: Arc::clone(&client.store),
            memory: Arc::clone(&client.memory),
            wakes: Arc::clone(&client.wakes),
            key,
            request_timeout: terms.request_timeout,
            min_hold: terms.min_hold,
            renew_every: terms.renew_every,
            renews_in,
            record,
            version,
            own: Own { id: hold.id, renewals: 0, unresolved: false },
            hold,
        }
    }

    /// Renews because the user asked for it: one that is due by itself has a single attempt, as the
    /// keeper comes back to it and its guard has a say in between.
    pub(super) async fn renew_now(&mut self, payload: Option<&Payload>) -> Result<()> {
        let with = Renewal { payload, ..Renewal::default() };
        let mut backoff = Backoff::new(RETRYING, Arc::clone(self.store.rng()));
        for _ in 1..COMMANDED {
            match self.renew(with).await {
                Err(error) if error.kind() == ErrorKind::Unavailable && self.hold.is_live() => {
                    let clock = self.store.clock();
                    let resume = clock.now().boot.plus(backoff.next());
                    self.attend(clock.sleep_until(resume)).await;
                }
                result => return result,
            }
        }
        self.renew(with).await
    }

    /// Renews once.
    pub(super) async fn renew(&mut self, with: Renewal<'_>) -> Result<()> {
        let result = self.try_renew(with).await;
        if let Err(error) = &result {
            tracing::debug!(lock = %self.hold.name, %error, "a renewal failed");
            self.hold.troubled(match error.kind() {
                ErrorKind::PermissionDenied | ErrorKind::MissingCredentials => LossReason::Denied,
                _ => LossReason::Unreachable,
            });
        }
        result
    }

    async fn try_renew(&mut self, with: Renewal<'_>) -> Result<()> {
        let next_in = self.renew_every.map(|every| until_renewal(every, &**self.store.rng()));
        let with = Renewal { next_in, ..with };
        // The lease counts from the decision, as its record tells: not from when it was sent.
        let decided =
            self.rewrite(|found, own, nonce, now| renew(found, own, with, nonce, now)).await?;
        self.renews_in = next_in;
        if self.hold.extend(decided) {
            return Ok(());
        }
        Err(lost(&self.hold.loss().unwrap_or(LossReason::Expired)))
    }

    /// Turns a writer into a reader.
    pub(super) async fn downgrade(&mut self) -> Result<()> {
        self.rewrite(downgrade).await.map(|_| ())
    }

    /// Writes what is decided while the lease stands; answers when it was decided.
    async fn rewrite(
        &mut self,
        decide: impl Fn(&Record, Own, Nonce, Wall) -> HolderDecision,
    ) -> Result<Moment> {
        for _ in 0..REDO {
            self.hold.settle();
            if let Some(reason) = self.hold.loss() {
                return Err(lost(&reason));
            }
            let (nonce, decided) = (self.store.nonce(), self.store.clock().now());
            let record = match decide(&self.record, self.own, nonce, decided.wall) {
                HolderDecision::Write(record) => record,
                HolderDecision::Gone(gone) => return Err(self.lose(gone.into())),
            };
            let patience = self.patience(1);
            let write = self.store.swap(&self.key, Some(&self.version), &record, patience);
            match self.attend(write).await? {
                Swap::Won { version } => {
                    self.own = self.own.having_written(record.lease(self.own.id));
                    self.wakes.tell(&self.record, &record);
                    (self.record, self.version) = (*record, version);
                    self.memory.issued(&self.key, self.record.token);
                    return Ok(decided);
                }
                Swap::Conflict(read) => {
                    if let Some(reason) = self.adopt(*read, record.lease(self.own.id)) {
                        return Err(self.lose(reason));
                    }
                }
                Swap::Unknown(error) => {
                    self.own.unresolved = true;
                    return Err(error);
                }
            }
        }
        let message = "the record was rewritten by others again and again";
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    fn lose(&self, reason: LossReason) -> Error {
        let error = lost(&reason);
        self.hold.end(reason);
        error
    }

    /// The last write: frees the record, or records a result.
    pub(super) async fn end(&mut self, how: End<'_>) -> Result<Last> {
        if let Some(reason) = self.hold.loss() {
            return Ok(Last::Lost(reason));
        }
        // Under a session that is renewed the last write comes ever later.
        let until = self.hold.last_write();
        let mut backoff = Backoff::new(RETRYING, Arc::clone(self.store.rng()));
        for tries in 1.. {
            let clock = Arc::clone(self.store.clock());
            let (nonce, now) = (self.store.nonce(), clock.now().wall);
            let decision = match how {
                End::Finish(result) => finish(&self.record, self.own, result, nonce, now),
                End::Release => {
                    let rest = self.min_hold.map(|min| min.saturating_sub(self.hold.held_for()));
                    let linger = rest.filter(|rest| !rest.is_zero());
                    release(&self.record, self.own, linger, nonce, now)
                }
            };
            let record = match (decision, how) {
                (HolderDecision::Write(record), _) => record,
                (HolderDecision::Gone(Gone::Finished), End::Finish(_))
                | (HolderDecision::Gone(Gone::Released), End::Release) => return Ok(Last::Landed),
                (HolderDecision::Gone(gone), _) => return Ok(Last::Lost(gone.into())),
            };
            if clock.now().boot >= until {
                break;
            }
            let patience = Patience { until, ..self.patience(u32::MAX) };
            match self.store.swap(&self.key, Some(&self.version), &record, patience).await? {
                Swap::Won { version } => {
                    self.wakes.tell(&self.record, &record);
                    self.remember(*record, version);
                    return Ok(Last::Landed);
                }
                Swap::Conflict(read) => {
                    if let Some(reason) = self.adopt(*read, record.lease(self.own.id)) {
                        return Ok(Last::Lost(reason));
                    }
                    // Many who come and go, or a store that refuses everything.
                    if tries >= REDO {
                        clock.sleep_until(clock.now().boot.plus(backoff.next())).await;
                    }
                }
                Swap::Unknown(error) => return Ok(Last::Unknown(error)),
            }
        }
        Ok(Last::TooLate)
    }

    /// Whoever comes next in this process need not read what it has just left free.
    fn remember(&self, record: Record, version: Version) {
        if record.holders.is_empty() && record.done.is_none() {
            let now = self.store.clock().now().boot;
            self.memory.freed(&self.key, record, version, now);
        }
    }

    /// Goes on from what somebody else has written, if it is a record. `tried` is the entry that was
    /// just to be written: it may have been, before the other rewrote the record around it.
    fn adopt(&mut self, read: Read, tried: Option<&Lease>) -> Option<LossReason> {
        match read.content {
            Content::Record { record, version, .. } => {
                if let Some(lease) = record.lease(self.own.id) {
                    // The next decision tells whether that is our own work.
                    let landed = self.own.unresolved && lease.renewals == self.own.renewals + 1;
                    if landed || tried.is_some_and(|tried| tried == lease) {
                        self.own = self.own.having_written(Some(lease));
                    }
                }
                (self.record, self.version) = (*record, version);
                None
            }
            Content::Absent => Some(LossReason::RecordDeleted),
            Content::Unreadable { .. } => Some(LossReason::RecordUnreadable),
        }
    }

    fn patience(&self, attempts: u32) -> Patience {
        let (request, until) = (self.request_timeout, self.hold.last_write());
        Patience { request, until, attempts }
    }

    /// When the clocks have to be looked at again.
    pub(super) fn next_look(&self) -> Boot {
        self.store.clock().now().boot.plus(LOOK).min(self.hold.next_event())
    }

    /// Waits for a write, or for the next attempt, and watches the deadline meanwhile: it passes
    /// whether or not the store answers (hazard H11).
    async fn attend<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            let wake = self.next_look();
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
