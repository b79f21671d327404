//! What is explored: how many processes, what they may do, which faults, and which sabotage.

use std::time::Duration;

/// One bounded world.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Rates of the processes' clocks against true time, in parts per million; one per process.
    pub(crate) rates: Vec<u32>,
    /// True time of one tick.
    pub(crate) tick: Duration,
    /// Which rules allow a takeover.
    pub(crate) rules: Rules,
    /// How often each process may ask for the lock.
    pub(crate) acquisitions: u8,
    /// How many writes each process may send.
    pub(crate) writes: u8,
    /// How many crashes there may be, of all processes together; each comes back with no memory.
    pub(crate) crashes: u8,
    /// How often an operator may break a lease.
    pub(crate) breaks: u8,
    /// How often somebody may delete the record.
    pub(crate) deletions: u8,
    /// How many writes may be sent twice by something between a process and the store.
    pub(crate) duplicates: u8,
    /// Whether the answer to a read may come later than the store gave it.
    pub(crate) slow_reads: bool,
    /// Whether the record is that of work that is run once.
    pub(crate) once: Option<Once>,
    /// Whether processes hand their leases on from one task to another.
    pub(crate) local: Option<Local>,
    /// What has been broken on purpose.
    pub(crate) sabotage: Option<Sabotage>,
}

/// Hand-over inside a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Local {
    /// How often each process may hand a lease on.
    pub(crate) hand_overs: u8,
    /// How many tokens an acquisition reserves for that.
    pub(crate) with_acquisition: u8,
    /// How many a renewal reserves, when those are used up.
    pub(crate) with_renewal: u8,
}

/// Work that is run once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Once {
    /// For how long its result stands; for ever without. Only counted where the store's clock is
    /// used, and no longer than a lease and the margin of that clock.
    pub(crate) retention: Option<Duration>,
}

/// The rules that allow a takeover: see [`leaselock::protocol::expiry::Rule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// The entry was seen unchanged on the contender's own clock.
    pub(crate) observation: bool,
    /// The store's clock shows its age.
    pub(crate) store_clock: bool,
}

/// A mistake that others have made, or that would be easy to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// A refused write is believed to be somebody else's doing.
    NoReadBack,
    /// A lease is counted from the answer to its write.
    DeadlineFromResponse,
    /// A contender waits for the TTL and no longer.
    NoContenderMargin,
    /// A holder relies on its lease for the whole TTL.
    NoHolderMargin,
    /// Every write of an acquisition carries the same nonce.
    NonceReused,
    /// A release deletes the record.
    ReleaseByDelete,
    /// A renewal that finds no record makes one.
    RenewalRecreates,
    /// A contender's timer starts when the read is sent.
    TimerFromSend,
    /// A renewal does not restart a contender's timer.
    TimerNotReset,
    /// A holder relies on its lease until its release is acknowledged.
    BeliefUntilReleaseAcknowledged,
    /// A new record starts from token 1.
    TokenReset,
    /// Equal content has equal ETags.
    ETagReused,
    /// The store ignores If-Match.
    IfMatchIgnored,
    /// The store's clock is believed to the second.
    NoStoreClockMargin,
    /// An acquisition is given up without looking after its doubtful write.
    DoorLeftOpen,
    /// A late answer to a renewal revives a lease that was lost.
    LateAnswerRevives,
    /// A renewal without an answer extends the lease.
    ExtendedWithoutAnswer,
    /// A contender forgets when it first wrote when a later write of its own is refused.
    FirstWriteForgotten,
    /// An acquisition that may have been in the record and put out goes on under the same id.
    IdentityKept,
    /// A result is recorded whoever runs the work by now.
    ResultOfAnybody,
    /// Work is run again although its result is on record.
    ResultIgnored,
    /// A refusal to record a result is believed.
    RefusedResultBelieved,
    /// A result that may yet be recorded is said not to be.
    UnknownResultDenied,
    /// A result is past to the second of the store's clock.
    NoRetentionMargin,
    /// A lease is handed on inside a process under the token that it had.
    TokenNotAdvanced,
    /// Tokens are handed on as soon as the write is sent that is to reserve them.
    TokensNotReserved,
    /// A lease is handed on after it was lost, as if it were held.
    HandedOverAfterLoss,
    /// Whoever a lease is handed on to counts it from then.
    CountedFromHandOver,
}

/// The lease's duration in the model.
pub(crate) const TTL: Duration = Duration::from_secs(10);
/// A clock that is slow by as much as the margin is there for.
pub(crate) const SLOW: u32 = 940_000;
/// A clock that is fast by as much: 12.8 % faster than the slow one.
pub(crate) const FAST: u32 = 1_060_000;
/// With this tick a lease is one tick old by the slow clock (8.93 s of 9 s) when a contender
/// without its margin would say it is over by the fast one (10.07 s of 10 s).
pub(crate) const TICK: Duration = Duration::from_millis(9_500);
/// With this one a holder without its margin would rely on its lease by the slow clock (9.4 s of
/// 10 s) when a contender says that it is over by the fast one (10.6 s of 10.25 s).
pub(crate) const LONGER_TICK: Duration = Duration::from_millis(10_000);
/// With this one every lease and every result that is kept for a while ends within one tick, by all
/// clocks.
pub(crate) const ENDS_ALL: Duration = Duration::from_millis(14_500);
/// With this one every lease lasts for one tick, and has ended after two, by all clocks.
pub(crate) const LASTS_ONE: Duration = Duration::from_millis(8_400);
/// Half of [`TICK`]: renewals in the middle of a lease.
pub(crate) const FINE_TICK: Duration = Duration::from_millis(4_750);

impl Default for Config {
    fn default() -> Self {
        Self {
            rates: vec![SLOW, FAST],
            tick: TICK,
            rules: Rules { observation: true, store_clock: false },
            acquisitions: 1,
            writes: 2,
            crashes: 0,
            breaks: 0,
            deletions: 0,
            duplicates: 0,
            slow_reads: false,
            once: None,
            local: None,
            sabotage: None,
        }
    }
}

impl Config {
    /// Whether this has been broken on purpose.
    pub(crate) fn has(&self, sabotage: Sabotage) -> bool {
        self.sabotage == Some(sabotage)
    }

    /// What a process's clock shows after so many ticks.
    pub(crate) fn elapsed(&self, process: usize, ticks: u8) -> Duration {
        (self.tick * u32::from(ticks)) * self.rates[process] / 1_000_000
    }

    /// Whether a result that has been on record for so many ticks may have been taken off.
    pub(crate) fn is_past(&self, ticks: u8) -> bool {
        let retention = self.once.and_then(|once| once.retention);
        retention.is_some_and(|retention| self.tick * u32::from(ticks) >= retention)
    }

    /// The age from which on an age changes no decision any more.
    pub(crate) fn saturated(&self) -> u8 {
        let longest = crate::decisions::longest_wait();
        let slowest = self.rates.iter().copied().min().unwrap_or(1_000_000);
        let tick = self.tick * slowest / 1_000_000;
        u8::try_from(longest.as_millis().div_ceil(tick.as_millis())).unwrap_or(u8::MAX)
    }
}
