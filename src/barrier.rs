//! A barrier: opens whenever all have arrived, and closes behind them.

use std::sync::Arc;
use std::time::Duration;

use crate::acquire::Limit;
use crate::client::Client;
use crate::error::Result;
use crate::gathering::{Arrival, Errand, Gatherer, GatheringInfo, Passed, Waited};
use crate::record::Kind;

/// Something at which a fixed number of members wait for each other, round after round: nobody begins
/// the next round before all have ended this one. Cheap to clone; nothing is written before somebody
/// arrives.
///
/// The rounds are called **epochs** and count from 0. The arrival that completes an epoch begins the
/// next; an epoch that has passed stays passed. A member has a name, 1 to 128 bytes without control
/// characters, and counts once in an epoch however often it arrives: one that crashes and is run again
/// under the same name takes its own place, and so does a replacement under that name. A barrier has 1
/// to 1,024 parties.
///
/// A member that never comes again stops all others: there is no lease, and an arrival does not expire.
///
/// **Which call to use.** [`wait`](Self::wait) is about the epoch that is present when it looks, so a
/// member that crashes, or gets an error, does not know whether it has passed before. A loop that
/// numbers its rounds and keeps the number with its work uses [`wait_at`](Self::wait_at), which returns
/// at once for what has passed, and is safe to repeat whatever happened:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> leaselock::Result<()> {
/// # let store = leaselock::open("memory:///").await?;
/// # async fn load_checkpoint() -> u64 { 0 }
/// # async fn simulate(round: u64) {}
/// let barrier = store.barrier("simulation", 1);
/// for round in load_checkpoint().await..3 {
///     simulate(round).await;
///     barrier.wait_at(round, "worker-7").await?;
/// }
/// # Ok(())
/// # }
/// ```
///
/// **What is not promised:** anything about a record that somebody deletes. Whoever waits is told so
/// ([`EpochMismatch`](crate::ErrorKind::EpochMismatch)); later calls find a new barrier in epoch 0,
/// where a numbered round is refused as one that has not begun, until the new epochs reach that number.
/// Nor that more than `parties` members get along: whoever comes too late for an epoch is let through.
#[derive(Clone, Debug)]
pub struct Barrier {
    gatherer: Gatherer,
}

impl Barrier {
    pub(crate) fn new(client: Arc<Client>, name: String, parties: u32) -> Self {
        Self { gatherer: Gatherer::new(client, Kind::Barrier, name, parties) }
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.gatherer.name()
    }

    /// How many members it waits for in every epoch.
    pub fn parties(&self) -> u32 {
        self.gatherer.needed()
    }

    /// Arrives in the present epoch and waits until it has passed, polling with conditional reads under
    /// exponential backoff (100 ms to 3 s, with full jitter).
    ///
    /// # Errors
    /// - [`InvalidOptions`](crate::ErrorKind::InvalidOptions): the member's name or the number of parties
    ///   is out of bounds, or so many long names do not fit into 256 KiB.
    /// - [`LimitMismatch`](crate::ErrorKind::LimitMismatch): the barrier has another number of parties.
    /// - [`WrongKind`](crate::ErrorKind::WrongKind): the name is that of a lock, say.
    /// - [`EpochMismatch`](crate::ErrorKind::EpochMismatch): the record was deleted meanwhile.
    /// - [`Unconfirmed`](crate::ErrorKind::Unconfirmed): the store did not say whether the arrival
    ///   counts.
    /// - As [`Lock::acquire`](crate::Lock::acquire) where the store is unfit, denies access, or has not
    ///   answered for 30 s, or the record is damaged.
    ///
    /// After an error of the store the arrival may count, and the epoch may have passed: to go on, the
    /// member has to know its number. Then [`arrive`](Self::arrive) first, which tells it, and
    /// [`wait_at`](Self::wait_at) until that succeeds.
    ///
    /// # Cancel safety
    /// Dropping the future does not take back an arrival: a write that has begun is seen to its end in
    /// the background. A call that follows is about the epoch that is present then.
    pub async fn wait(&self, member: impl Into<String>) -> Result<Passed> {
        self.attend(None, member, Some(Limit::Forever)).await.map(Arrival::passed)
    }

    /// As [`wait`](Self::wait), for up to `limit`. The arrival counts though the wait has timed out: go on
    /// with [`wait_at`](Self::wait_at) and the epoch that is told.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), but a store that does not answer is tried until `limit`.
    ///
    /// # Cancel safety
    /// As [`wait`](Self::wait).
    pub async fn wait_timeout(&self, member: impl Into<String>, limit: Duration) -> Result<Waited> {
        let limit = self.gatherer.within(limit);
        self.attend(None, member, Some(limit)).await.map(Arrival::waited)
    }

    /// Arrives in this epoch and waits until it has passed. Returns at once when it has; may be repeated
    /// whatever became of an earlier call.
    ///
    /// # Errors
    /// As [`wait`](Self::wait); also [`EpochMismatch`](crate::ErrorKind::EpochMismatch) for an epoch that
    /// has not begun.
    ///
    /// # Cancel safety
    /// Dropping the future does not take back an arrival. The call may be repeated.
    pub async fn wait_at(&self, epoch: u64, member: impl Into<String>) -> Result<Passed> {
        self.attend(Some(epoch), member, Some(Limit::Forever)).await.map(Arrival::passed)
    }

    /// As [`wait_at`](Self::wait_at), for up to `limit`.
    ///
    /// # Errors
    /// As [`wait_at`](Self::wait_at), but a store that does not answer is tried until `limit`.
    ///
    /// # Cancel safety
    /// As [`wait_at`](Self::wait_at).
    pub async fn wait_at_timeout(
        &self,
        epoch: u64,
        member: impl Into<String>,
        limit: Duration,
    ) -> Result<Waited> {
        let limit = self.gatherer.within(limit);
        self.attend(Some(epoch), member, Some(limit)).await.map(Arrival::waited)
    }

    /// Arrives in the present epoch without waiting for the others, and tells which it is, for
    /// [`wait_at`](Self::wait_at).
    ///
    /// Costs one read and, the first time in an epoch, one write; more where many arrive at once.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    ///
    /// # Cancel safety
    /// As [`wait`](Self::wait).
    pub async fn arrive(&self, member: impl Into<String>) -> Result<Arrival> {
        self.attend(None, member, None).await
    }

    /// The present epoch, with one read: how many have passed.
    ///
    /// # Errors
    /// As [`inspect`](Self::inspect).
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn epoch(&self) -> Result<u64> {
        Ok(self.gatherer.inspect().await?.epoch)
    }

    /// What the record says, with one read: also where it has another number of parties than this handle.
    ///
    /// # Errors
    /// The name is invalid, that of another primitive ([`WrongKind`](crate::ErrorKind::WrongKind)), or
    /// its record is damaged; or the store does not answer.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn inspect(&self) -> Result<GatheringInfo> {
        self.gatherer.inspect().await
    }

    async fn attend(
        &self,
        epoch: Option<u64>,
        member: impl Into<String>,
        wait: Option<Limit>,
    ) -> Result<Arrival> {
        self.gatherer.attend(Errand { member: Some(member.into()), epoch, wait }).await
    }
}
