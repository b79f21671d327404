//! A latch: opens when enough have arrived, and stays open.

use std::sync::Arc;
use std::time::Duration;

use crate::acquire::Limit;
use crate::client::Client;
use crate::error::Result;
use crate::gathering::{Arrival, Errand, Gatherer, GatheringInfo, Passed, Waited};
use crate::record::Kind;

/// Something that opens when enough members have arrived, and stays open: "run the merge when all 16
/// shards are there". Cheap to clone; nothing is written before somebody arrives.
///
/// A member has a name, and counts once however often it arrives: a shard that crashes after it has
/// arrived and is run again arrives again, under the same name, and changes nothing. Names have 1 to
/// 128 bytes without control characters; a latch waits for 1 to 1,024 members.
///
/// Nobody has to be alive for a latch to open, and nobody to wait: there is no lease, and an arrival
/// does not expire.
///
/// [`reset`](Self::reset) closes it and begins the next **epoch**. Epochs count from 0. For work that is
/// done every night, a name for every night (`merge/2026-11-21`) is simpler than a reset, and cannot
/// count a late arrival of yesterday's as today's.
///
/// **What is not promised:** that work behind a latch is done once. All who wait go on; combine it with
/// [`Store::once`](crate::Store::once). Nor is anything remembered when somebody deletes the record:
/// whoever waited for it is told so ([`EpochMismatch`](crate::ErrorKind::EpochMismatch)), whoever comes
/// later finds a latch at which nobody has arrived.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> leaselock::Result<()> {
/// # let store = leaselock::open("memory:///").await?;
/// let latch = store.latch("merge/2026-11-21", 2);
/// latch.arrive("shard-0").await?;
/// latch.arrive("shard-0").await?; // run again: counts once
/// let arrival = latch.arrive("shard-1").await?;
/// assert!(arrival.is_open && arrival.arrived == 2);
/// latch.wait().await?; // is open, and stays so
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Latch {
    gatherer: Gatherer,
}

impl Latch {
    pub(crate) fn new(client: Arc<Client>, name: String, needed: u32) -> Self {
        Self { gatherer: Gatherer::new(client, Kind::Latch, name, needed) }
    }

    /// The name.
    pub fn name(&self) -> &str {
        self.gatherer.name()
    }

    /// How many members it waits for.
    pub fn needed(&self) -> u32 {
        self.gatherer.needed()
    }

    /// Arrives in the present epoch, without waiting for the others. Where the latch is open, or the
    /// member has arrived before, nothing is written.
    ///
    /// Costs one read and, the first time, one write; more where many arrive at once, as each write goes
    /// over the one before.
    ///
    /// # Errors
    /// - [`InvalidOptions`](crate::ErrorKind::InvalidOptions): the member's name or the number of members
    ///   is out of bounds, or so many long names do not fit into 256 KiB.
    /// - [`LimitMismatch`](crate::ErrorKind::LimitMismatch): the latch waits for another number.
    /// - [`WrongKind`](crate::ErrorKind::WrongKind): the name is that of a lock, say.
    /// - [`EpochMismatch`](crate::ErrorKind::EpochMismatch): it was reset, or its record deleted, while
    ///   this call was under way.
    /// - [`Unconfirmed`](crate::ErrorKind::Unconfirmed): the store did not say whether the arrival
    ///   counts. Arriving again does no harm.
    /// - As [`Lock::acquire`](crate::Lock::acquire) where the store is unfit, denies access, or has not
    ///   answered for 30 s, or the record is damaged.
    ///
    /// # Cancel safety
    /// Dropping the future does not take back an arrival: a write that has begun is seen to its end in
    /// the background. One that has not begun is not made.
    pub async fn arrive(&self, member: impl Into<String>) -> Result<Arrival> {
        self.attend(Some(member.into()), None).await
    }

    /// Waits until the latch is open, polling with conditional reads under exponential backoff (100 ms
    /// to 3 s, with full jitter). Returns at once where it is.
    ///
    /// # Errors
    /// As [`arrive`](Self::arrive), but for members; also
    /// [`EpochMismatch`](crate::ErrorKind::EpochMismatch) when the epoch that was waited for was reset
    /// before it opened. One that opened and was reset between two looks counts as open.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn wait(&self) -> Result<Passed> {
        self.attend(None, Some(Limit::Forever)).await.map(Arrival::passed)
    }

    /// As [`wait`](Self::wait), for up to `limit`.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), but a store that does not answer is tried until `limit`.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn wait_timeout(&self, limit: Duration) -> Result<Waited> {
        let limit = self.gatherer.within(limit);
        self.attend(None, Some(limit)).await.map(Arrival::waited)
    }

    /// Arrives, and waits until the latch is open.
    ///
    /// # Errors
    /// As [`arrive`](Self::arrive) and [`wait`](Self::wait). After an error the arrival may count.
    ///
    /// # Cancel safety
    /// As [`arrive`](Self::arrive).
    pub async fn arrive_and_wait(&self, member: impl Into<String>) -> Result<Passed> {
        self.attend(Some(member.into()), Some(Limit::Forever)).await.map(Arrival::passed)
    }

    /// What the record says, with one read: also where it waits for another number than this handle.
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

    /// Ends the present epoch, open or not, and answers which is present then: the next, in which nobody
    /// has arrived. It waits for as many members as this handle was opened with, which may be another
    /// number than before. A latch at which nobody has ever arrived stays as it is, in epoch 0.
    ///
    /// Of several resets at once that have seen the same epoch one has an effect. Whoever waits for an
    /// epoch that had not opened is told so.
    ///
    /// # Errors
    /// As [`arrive`](Self::arrive), but for members and the number of them.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop what has begun.
    pub async fn reset(&self) -> Result<u64> {
        self.gatherer.reset(None).await
    }

    /// As [`reset`](Self::reset), but ends only this epoch: if a later one is present already, it stays.
    /// So it may be repeated.
    ///
    /// # Errors
    /// As [`reset`](Self::reset); also [`EpochMismatch`](crate::ErrorKind::EpochMismatch) when the epoch
    /// has not begun.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop what has begun.
    pub async fn reset_from(&self, epoch: u64) -> Result<u64> {
        self.gatherer.reset(Some(epoch)).await
    }

    async fn attend(&self, member: Option<String>, wait: Option<Limit>) -> Result<Arrival> {
        self.gatherer.attend(Errand { member, epoch: None, wait }).await
    }
}
