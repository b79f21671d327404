//! The clocks of one process.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use leaselock::clock::{Boot, Clock, Moment, Wall};

use crate::world::{Shared, lock};

/// The true time: since the simulation began.
pub(crate) type Time = Duration;

/// The true wall-clock time at which every simulation begins, in microseconds.
pub(crate) const EPOCH: i64 = 1_795_000_000_000_000;

/// A rate in parts of a million of the true one.
pub(crate) type Rate = u64;

/// So much of the true rate's time.
pub(crate) fn paced(passed: Duration, rate: Rate) -> Duration {
    Duration::from_nanos((passed.as_nanos() * u128::from(rate) / 1_000_000) as u64)
}

/// How the clocks of one process, or of the store, follow the true time.
#[derive(Clone, Debug)]
pub(crate) struct Dial {
    rate: Rate,
    boot: Duration,
    boot_from: Time,
    wall: i64,
    wall_from: Time,
    frozen: bool,
}

impl Dial {
    pub(crate) fn new(now: Time, rate: Rate, boot: Duration, wall: i64) -> Self {
        Self { rate, boot, boot_from: now, wall, wall_from: now, frozen: false }
    }

    pub(crate) fn boot(&self, now: Time) -> Boot {
        let passed =
            if self.frozen { Duration::ZERO } else { paced(now - self.boot_from, self.rate) };
        Boot::new(self.boot + passed)
    }

    pub(crate) fn wall(&self, now: Time) -> Wall {
        Wall::from_micros(self.wall + paced(now - self.wall_from, self.rate).as_micros() as i64)
    }

    pub(crate) fn moment(&self, now: Time) -> Moment {
        Moment { boot: self.boot(now), wall: self.wall(now) }
    }

    /// The true time at which the monotonic clock will show `boot`, if nothing stops it.
    pub(crate) fn when(&self, boot: Boot) -> Time {
        let left = boot.since_origin().saturating_sub(self.boot).as_nanos() * 1_000_000;
        self.boot_from + Duration::from_nanos(left.div_ceil(u128::from(self.rate)) as u64)
    }

    /// The monotonic clock stands still; the wall clock will have gone on.
    pub(crate) fn freeze(&mut self, now: Time) {
        self.boot = self.boot(now).since_origin();
        self.boot_from = now;
        self.frozen = true;
    }

    pub(crate) fn thaw(&mut self, now: Time) {
        if std::mem::take(&mut self.frozen) {
            self.boot_from = now;
        }
    }

    /// Somebody sets the wall clock.
    pub(crate) fn jump(&mut self, micros: i64) {
        self.wall += micros;
    }
}

/// What the library sees of a process's clocks.
#[derive(Clone)]
pub(crate) struct SimClock {
    pub(crate) world: Shared,
    pub(crate) process: usize,
}

impl std::fmt::Debug for SimClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SimClock({})", self.process)
    }
}

thread_local! {
    /// What a process's clocks show while somebody has the world who looks at what the process knows.
    static SHOWN: Cell<Option<Moment>> = const { Cell::new(None) };
}

/// Looks at what somebody in a process knows, who may look at the process's clocks for it. For the
/// referee, who has the world: a clock would wait for that.
pub(crate) fn showing<T>(moment: Moment, look: impl FnOnce() -> T) -> T {
    SHOWN.set(Some(moment));
    let found = look();
    SHOWN.set(None);
    found
}

impl Clock for SimClock {
    fn now(&self) -> Moment {
        SHOWN.get().unwrap_or_else(|| lock(&self.world).read_clock(self.process))
    }

    fn sleep_until(&self, until: Boot) -> BoxFuture<'static, ()> {
        Box::pin(Sleep { clock: self.clone(), until, number: None })
    }
}

impl SimClock {
    /// Sleeps for so long by this clock.
    pub(crate) fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        self.sleep_until(self.now().boot.plus(time))
    }

    pub(crate) fn shared(&self) -> Arc<dyn Clock> {
        Arc::new(self.clone())
    }
}

struct Sleep {
    clock: SimClock,
    until: Boot,
    number: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let (process, until) = (self.clock.process, self.until);
        let mut world = lock(&self.clock.world);
        if world.read_clock(process).boot >= until {
            return Poll::Ready(());
        }
        let number = world.sleep(process, until, self.number, context.waker());
        drop(world);
        self.number = Some(number);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let waker =
                lock(&self.clock.world).forget_sleep(self.clock.process, self.until, number);
            // Not while the world is locked: it may be the last hold on a task.
            drop(waker);
        }
    }
}
