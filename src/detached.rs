//! Leases that outlive the process which took them: left on record, gone on with by whoever knows
//! their identity, and given back.
//!
//! **Invariants.** Whoever goes on with a lease holds it from an acknowledged renewal on, counted from
//! before that was decided, and never by what a record says. While that is not acknowledged nothing is
//! given back: the lease belongs to whoever has its identity, not to the call.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::acquire::Target;
use crate::admin::{Rewritten, rewrite};
use crate::error::{Error, ErrorKind, Result};
use crate::guard::LockGuard;
use crate::hold::{Hold, LossReason};
use crate::holder::HolderId;
use crate::keeper::{Entry, lost, until_renewal};
use crate::lock::Lock;
use crate::options::{LockOptions, Terms};
use crate::protocol::expiry::remaining;
use crate::protocol::lock::{Gone, HolderDecision, Own, Renewal, release, renew};
use crate::record::{Lease, Record};
use crate::telemetry;
use crate::token::FencingToken;

/// A lease that nobody keeps: what it takes to go on with it, in this process or another.
///
/// Nothing renews it. It lasts until [`deadline`](Self::deadline) unless somebody
/// [resumes](Lock::resume) it or [gives it back](Lock::release_detached), and excludes others a little
/// longer. Its identity is all that is asked for: keep it from whoever is not to have the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DetachedLease {
    /// The lock's name.
    pub name: String,
    /// The identity of the acquisition.
    pub holder: HolderId,
    /// Its fencing token, which stays the same however often it is resumed.
    pub token: FencingToken,
    /// How long it lasts from each renewal on.
    pub ttl: Duration,
    /// Until when it is held for certain, by this machine's wall clock. Set the clock back, and it still
    /// ends in time on record: only what this says would be late.
    pub deadline: SystemTime,
}

impl LockGuard {
    /// Leaves the lease on record, without a request, for somebody who goes on with it: another
    /// step of a pipeline, the next call of a function. A write that is under way is waited for.
    ///
    /// Only what is held under a lease of its own can be left: acquire it with
    /// [`keeper(false)`](Lock::keeper), or with [`local_handover(false)`](Lock::local_handover) and
    /// [`queue_when_overtaken(false)`](Lock::queue_when_overtaken). Limits of this guard, such as
    /// [`max_hold`](Lock::max_hold), end with it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> leaselock::Result<()> {
    /// # let store = leaselock::open("memory:///").await?;
    /// let lock = store.lock("deploy/production").keeper(false);
    /// let left = lock.acquire().await?.detach().await?;
    ///
    /// // Elsewhere, before `left.deadline`:
    /// let guard = lock.resume(left.holder).await?;
    /// assert_eq!(guard.token(), left.token);
    /// guard.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Lost`](ErrorKind::Lost) when the lease is lost.
    /// [`InvalidOptions`](ErrorKind::InvalidOptions) when it is held together with others in this process,
    /// or under a session: the lock is given back then.
    ///
    /// # Cancel safety
    /// Dropping the future before it is done gives the lock back.
    pub async fn detach(self) -> Result<DetachedLease> {
        let Some(kept) = self.keeping().own() else {
            let message = "only a lease of one's own can be left: acquire it with keeper(false)";
            return Err(Error::new(ErrorKind::InvalidOptions, message));
        };
        let status = kept.let_go().await.map_err(|reason| lost(&reason))?;
        Ok(DetachedLease {
            name: self.name().to_owned(),
            holder: self.id(),
            token: self.token(),
            ttl: self.hold().ttl(),
            deadline: status.wall_deadline,
        })
    }
}

impl Lock {
    /// Goes on with a lease that was [left](LockGuard::detach), with one read and one write that renews
    /// it. Its TTL stays as it was acquired; everything else is as this lock is built. That its time is
    /// over is no obstacle while nobody else has taken the lock.
    ///
    /// One guard at a time: of two processes that go on with the same lease the first learns at its next
    /// renewal that it has [lost](LossReason::Cloned) it, and until then both hold it.
    ///
    /// # Errors
    /// [`Lost`](ErrorKind::Lost) when the lease is not on record any more, with the reason.
    /// [`Unavailable`](ErrorKind::Unavailable) when the store did not confirm the renewal: the lease
    /// stays as it is, or was renewed, and this can be tried again.
    /// [`InvalidOptions`](ErrorKind::InvalidOptions) when this lock has another TTL, or the lease is held
    /// under a session. Others as [`acquire`](Self::acquire).
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the renewal. Nothing is given back.
    pub async fn resume(&self, holder: HolderId) -> Result<LockGuard> {
        // Wrong options need no store to be told.
        self.options().check()?;
        let client = self.client();
        let (target, options, rng) =
            (self.target().clone(), self.options().clone(), Arc::clone(client.store.rng()));
        let written = rewrite(self.target(), move |found, nonce, now| {
            let found = on_record(&target, found, holder)?;
            let lease = found.lease(holder);
            let terms = lease.map(|lease| terms_of(&options, lease)).transpose()?;
            let every = terms.and_then(|terms| terms.renew_every);
            let next_in = every.map(|every| until_renewal(every, &*rng));
            let with = Renewal { payload: options.payload.as_ref(), next_in, reserve: 0 };
            match renew(found, Own::on_record(found, holder), with, nonce, now) {
                HolderDecision::Write(record) => Ok(Some(*record)),
                HolderDecision::Gone(gone) => Err(no_longer(gone)),
            }
        });
        let Some(Rewritten { record, version, decided }) = written.await? else {
            return Err(Error::new(ErrorKind::Internal, "a renewal was not written"));
        };
        let Some(lease) = record.lease(holder) else {
            return Err(Error::new(ErrorKind::Internal, "a renewal has no lease"));
        };
        telemetry::renewed();
        let terms = terms_of(self.options(), lease)?;
        // From here on there is something that gives the lock back when it is dropped.
        client.ensure_open()?;
        if remaining(terms.ttl, decided, client.store.clock().now()).is_zero() {
            let message = "the store confirmed the renewal only when the lease was over again";
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        let (name, clock) = (self.name().to_owned(), Arc::clone(client.store.clock()));
        let hold = Hold::new(name, holder, lease.token, decided, &terms, clock);
        let renews_in = lease.renews_at.map(|at| at.since(lease.renewed_at));
        let own = Own::on_record(&record, holder);
        let key = self.key()?;
        let entry = Entry::new(client, key, Arc::new(hold), &terms, renews_in, record, version);
        tracing::info!(lock = %self.name(), token = %entry.hold.token, %holder, "resumed");
        Ok(LockGuard::kept(client, self.target().kind, Entry { own, ..entry }))
    }

    /// Gives back a lease that was [left](LockGuard::detach), with one read and one write, as
    /// [`release`](LockGuard::release) does, but at once: a [minimum hold](Self::min_hold) is its
    /// guard's. That its time is over is no obstacle, and neither is that it was given back before.
    ///
    /// # Errors
    /// [`Lost`](ErrorKind::Lost) when somebody else has put it out before. Others as
    /// [`acquire`](Self::acquire); the lock is free when the lease expires.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop the release.
    pub async fn release_detached(&self, holder: HolderId) -> Result<()> {
        let target = self.target().clone();
        let written = rewrite(self.target(), move |found, nonce, now| {
            let found = on_record(&target, found, holder)?;
            match release(found, Own::on_record(found, holder), None, nonce, now) {
                HolderDecision::Write(record) => Ok(Some(*record)),
                HolderDecision::Gone(Gone::Released) => Ok(None),
                HolderDecision::Gone(gone) => Err(no_longer(gone)),
            }
        });
        if written.await?.is_some() {
            tracing::info!(lock = %self.name(), %holder, "released");
        }
        Ok(())
    }
}

/// The record that may have the lease of `holder`.
fn on_record<'a>(
    target: &Target,
    found: Option<&'a Record>,
    holder: HolderId,
) -> Result<&'a Record> {
    let found = found.ok_or_else(|| lost(&LossReason::RecordDeleted))?;
    if found.kind != target.kind {
        return Err(target.other_kind(found.kind));
    }
    if found.lease(holder).is_some_and(|lease| lease.session.is_some()) {
        let message = format!("{holder} holds under a session, which its own process renews");
        return Err(Error::new(ErrorKind::InvalidOptions, message));
    }
    Ok(found)
}

/// The options, with the TTL of the lease on record: others judge it by that.
fn terms_of(options: &LockOptions, lease: &Lease) -> Result<Terms> {
    if let Some(ttl) = options.ttl.filter(|ttl| *ttl != lease.ttl) {
        let message = format!("the TTL is {ttl:?}, but that of the lease {:?}", lease.ttl);
        return Err(Error::new(ErrorKind::InvalidOptions, message));
    }
    LockOptions { ttl: Some(lease.ttl), ..options.clone() }.check()
}

fn no_longer(gone: Gone) -> Error {
    match gone {
        Gone::Released => Error::new(ErrorKind::Lost, "the lease has been given back"),
        gone => lost(&gone.into()),
    }
}
