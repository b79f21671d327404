//! A clock that is moved by hand.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use futures::future::BoxFuture;
use leaselock::clock::{Boot, Clock, Moment, Wall};
use leaselock::{Runtime, Store, StoreBuilder};
use object_store::ObjectStore;

/// A [`Clock`] that stands still until a test moves it. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    boot: Duration,
    /// The wall clock, in microseconds.
    wall: i64,
    sleepers: BTreeMap<u64, (Boot, Waker)>,
    next_sleeper: u64,
}

impl ManualClock {
    /// A clock that shows the year 2026 and has been up for an hour.
    pub fn new() -> Self {
        let clock = Self::default();
        clock.state().boot = Duration::from_secs(3600);
        clock.state().wall = 1_795_000_000_000_000;
        clock
    }

    /// A process that lives by this clock, in the test's own runtime: what it opens `objects` with.
    pub fn process(&self, objects: Arc<dyn ObjectStore>) -> StoreBuilder {
        Store::from_object_store(objects)
            .check_preconditions(false)
            .runtime(Runtime::Current)
            .clock(Arc::new(self.clone()))
    }

    /// Moves both clocks on and wakes who has slept long enough.
    pub fn advance(&self, by: Duration) {
        self.move_wall(i64::try_from(by.as_micros()).unwrap_or(i64::MAX));
        self.state().boot += by;
        self.wake();
    }

    /// Moves only the wall clock, also backwards, by so many microseconds.
    pub fn move_wall(&self, micros: i64) {
        self.state().wall += micros;
    }

    /// Lets so much time pass, a little at a time, and all tasks of this thread do what is due.
    pub async fn pass(&self, time: Duration) {
        let mut left = time;
        while !left.is_zero() {
            let step = left.min(Duration::from_millis(250));
            self.advance(step);
            left -= step;
            breathe().await;
        }
    }

    /// Lets time pass, a tenth of a second at a time, until the work is done.
    pub async fn passing<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                output = &mut work => return output,
                () = breathe() => self.advance(Duration::from_millis(100)),
            }
        }
    }

    /// How many tasks are asleep.
    pub fn sleepers(&self) -> usize {
        self.state().sleepers.len()
    }

    fn wake(&self) {
        let mut state = self.state();
        let now = Boot::new(state.boot);
        state.sleepers.retain(|_, (until, waker)| {
            let asleep = *until > now;
            if !asleep {
                waker.wake_by_ref();
            }
            asleep
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Moment {
        let state = self.state();
        Moment { boot: Boot::new(state.boot), wall: Wall::from_micros(state.wall) }
    }

    fn sleep_until(&self, until: Boot) -> BoxFuture<'static, ()> {
        let mut sleep = Sleep { clock: self.clone(), until, number: None };
        Box::pin(std::future::poll_fn(move |context| sleep.poll(context.waker())))
    }
}

struct Sleep {
    clock: ManualClock,
    until: Boot,
    number: Option<u64>,
}

impl Sleep {
    fn poll(&mut self, waker: &Waker) -> Poll<()> {
        let mut state = self.clock.state();
        if Boot::new(state.boot) >= self.until {
            return Poll::Ready(());
        }
        let number = *self.number.get_or_insert_with(|| {
            state.next_sleeper += 1;
            state.next_sleeper
        });
        state.sleepers.insert(number, (self.until, waker.clone()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.clock.state().sleepers.remove(&number);
        }
    }
}

/// Lets all tasks of this thread do what is due.
pub async fn breathe() {
    for _ in 0..150 {
        tokio::task::yield_now().await;
    }
}

/// Waits, in real time and with a generous bound, until `condition` holds.
///
/// # Panics
/// It never did.
#[allow(clippy::disallowed_methods, reason = "waits in real time for other threads")]
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not within 30 s: {what}");
}

/// The same of what has to be awaited to be known.
///
/// # Panics
/// It never did.
#[allow(clippy::disallowed_methods, reason = "waits in real time for other threads")]
pub async fn eventually_so(what: &str, condition: impl AsyncFn() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, wait).await.unwrap_or_else(|_| panic!("not within 60 s: {what}"));
}
