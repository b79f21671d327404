//! What users do with locks: wait, hold, renew, release, drop, give up. They tell the referee what
//! they see, and nothing else.

mod all;
mod crowd;
mod detached;
mod family;
mod gathering;
mod grip;
mod once;
mod quorum;
mod table;

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::StreamExt;
use leaselock::fencing::Claimed;
use leaselock::{
    Break, ErrorKind, LeasePhase, LeaseStatus, Lock, LockGuard, LossReason, Payload, Quorum,
    Release, Result, Store,
};
use rand::rngs::SmallRng;

use crate::clock::SimClock;
use crate::plan::{Habits, Plan};
use crate::referee::{Crowd, Ear, Mode, Outcome};
use crate::rng::{Draw, stream};
use crate::trace::Kind;
use crate::world::{World, lock};
use grip::{Grip, Wanted};

/// One user of one store.
pub(crate) struct User {
    store: Store,
    /// The lock over three stores, if there is one.
    quorum: Option<Quorum>,
    clock: SimClock,
    plan: Arc<Plan>,
    process: usize,
    incarnation: u32,
    /// Which of its process's stores it uses.
    handle: usize,
    number: usize,
    rng: SmallRng,
    /// A claim that is written later, perhaps when others hold the lock.
    paused: Option<Claimed>,
    /// How many permits the semaphore has, as far as is known.
    permits: u32,
    /// Guards that were lost and are kept nevertheless.
    lost: Vec<Grip>,
}

impl User {
    pub(crate) fn new(
        store: Store,
        quorum: Option<Quorum>,
        clock: SimClock,
        incarnation: u32,
        (handle, which): (usize, u64),
    ) -> Self {
        let (plan, number) = {
            let mut world = lock(&clock.world);
            (Arc::clone(&world.plan), world.referee.new_user())
        };
        let process = clock.process;
        let rng = stream(plan.seed, &[7, process as u64, incarnation.into(), which]);
        let permits = plan.family.map_or(1, |family| family.permits);
        Self {
            store,
            quorum,
            clock,
            plan,
            process,
            incarnation,
            handle,
            number,
            rng,
            paused: None,
            permits,
            lost: Vec::new(),
        }
    }

    /// Uses locks until faults end, and then each of them once more.
    pub(crate) async fn run(mut self) {
        while !self.is_quiet() {
            let rest = self.rng.up_to(self.habits().rest);
            self.nap(rest).await;
            if self.is_quiet() || self.is_shut_down() {
                break;
            }
            self.round().await;
        }
        self.quiet_time().await;
        if !self.is_shut_down() {
            for number in 0..self.plan.locks {
                self.last_round(number).await;
            }
            if self.plan.together && !self.is_shut_down() {
                self.last_of_all().await;
            }
            if self.plan.once.is_some() && !self.is_shut_down() {
                self.last_run().await;
            }
            self.last_of_family().await;
            if !self.is_shut_down() {
                self.last_of_quorum().await;
                self.last_of_gathering().await;
            }
        }
        let process = self.process;
        self.tell(|world| world.user_is_done(process));
    }

    async fn round(&mut self) {
        if self.quorum.is_some() && self.rng.chance(60) {
            return self.quorum_round().await;
        }
        if self.plan.family.is_some() && self.rng.chance(70) {
            return self.family_round().await;
        }
        if self.plan.once.is_some() && self.rng.chance(50) {
            return self.once_round().await;
        }
        if self.plan.gathering.is_some() && self.rng.chance(70) {
            return self.gathering_round().await;
        }
        if let Some(plan) = self.plan.crowd
            && self.rng.chance(plan.share)
        {
            return self.crowd_round(plan).await;
        }
        if self.plan.together && self.rng.chance(30) {
            return self.round_of_all().await;
        }
        if self.paused.is_some() && self.rng.chance(60) {
            self.wake().await;
        }
        if self.rng.chance(3) {
            self.look_around().await;
        }
        let which = self.rng.below(self.plan.locks);
        let mode = self.rng.one_of(&[
            Mode::Forever,
            Mode::Forever,
            Mode::Forever,
            Mode::Forever,
            Mode::Once,
            Mode::Until,
            Mode::Dropped,
        ]);
        let terms = self.terms(which);
        if let Some(guard) = self.ask(&terms, which, mode).await {
            let longest = self.habits().hold;
            let time = self.rng.up_to(longest);
            self.hold(guard, which, time, terms.manual, terms.ttl).await;
        }
    }

    /// Without faults everybody gets every lock and can give it back.
    async fn last_round(&mut self, which: usize) {
        let elects = self.plan.elections && self.rng.chance(50);
        let (lock, ttl) = (self.lock(which), self.ttl());
        let crowd = None;
        let terms = Terms { lock, ttl, manual: false, limited: false, elects, crowd };
        let terms = if self.is_in_crowd() { self.terms_of_crowd(which) } else { terms };
        match self.ask(&terms, which, Mode::Forever).await {
            Some(guard) => {
                let number = guard.number;
                if !self.look(&guard) {
                    return self.has_lost(guard).await;
                }
                self.tell(|world| world.guard_releasing(number));
                let release = guard.guard.release().await;
                let fine = match &release {
                    // An operator's order may still have been on its way.
                    Ok(Release::AlreadyLost(LossReason::Broken { .. })) => true,
                    // A lease that was handed on may have been there before the faults ended.
                    Ok(Release::AlreadyLost(_)) if terms.crowd.is_some() => true,
                    other => matches!(other, Ok(Release::Released)),
                };
                self.tell(|world| {
                    world.guard_released(number, Some(&release));
                    if !fine {
                        world.violate("without faults every lock can be given back", || {
                            format!("{release:?}")
                        });
                    }
                });
            }
            None => self.tell(|world| {
                world.violate("without faults every lock can be acquired", || "it failed".into());
            }),
        }
    }

    /// Asks for a lock.
    async fn ask(&mut self, terms: &Terms, which: usize, mode: Mode) -> Option<Held> {
        let call = self.begin(which, mode, terms.limited);
        if let Some(crowd) = terms.crowd {
            self.tell(|world| world.referee.call_shares(call, crowd));
        }
        let label = terms.crowd.map_or_else(|| format!("c{call}"), Crowd::label);
        let wanted = if terms.elects {
            Wanted::Seat(self.store.election(Plan::name(which)).ttl(terms.ttl).owner(label))
        } else {
            Wanted::Lock(terms.lock.clone().owner(label))
        };
        let limit = self.patience();
        let clock = self.clock.clone();
        let result: Option<Result<Option<Grip>>> = match mode {
            Mode::Forever => Some(wanted.acquire().await.map(Some)),
            Mode::Once => Some(wanted.try_acquire().await),
            Mode::Until => Some(wanted.acquire_timeout(limit).await),
            Mode::Dropped => {
                let mut asking = pin!(wanted.acquire());
                tokio::select! {
                    biased;
                    result = &mut asking => Some(result.map(Some)),
                    () = clock.sleep(limit) => None,
                }
            }
        };
        let outcome = match result {
            Some(Ok(Some(guard))) => {
                if terms.elects {
                    self.tell(|world| world.count("elections won"));
                }
                return Some(self.receive(call, guard, terms.ttl));
            }
            Some(Ok(None)) => Outcome::Held,
            Some(Err(error)) => Outcome::Failed(error.kind()),
            None => Outcome::Dropped,
        };
        self.tell(|world| world.call_ends(call, outcome));
        None
    }

    fn begin(&self, which: usize, mode: Mode, limited: bool) -> usize {
        let (process, incarnation, user) = (self.process, self.incarnation, self.number);
        self.tell(|world| {
            world.note(Some(process), Kind::Waiting, || format!("u{user} asks, {mode:?}"));
            let now = world.now;
            world.referee.call_begins(now, which, process, incarnation, user, (mode, limited))
        })
    }

    fn receive(&self, call: usize, guard: Grip, ttl: Duration) -> Held {
        let number = self.introduce(call, &guard, ttl);
        Held { guard, number }
    }

    /// Shows a new guard to the referee; its number there.
    fn introduce(&self, call: usize, guard: &LockGuard, ttl: Duration) -> usize {
        let watch = guard.watch();
        let status = watch.status();
        let (id, token) = (guard.id(), guard.token().get());
        let (process, user) = (self.process, self.number);
        self.tell(|world| {
            world.note(Some(process), Kind::Holding, || format!("u{user} holds, token {token}"));
            world.guard_begins(call, id, token, ttl, Ear::Told(watch), status)
        })
    }

    /// Holds a lock for some time, looking at the guard now and then.
    async fn hold(
        &mut self,
        mut held: Held,
        which: usize,
        time: Duration,
        manual: bool,
        ttl: Duration,
    ) {
        let is_own = manual || !self.plan.hands_over(self.process);
        let until = self.clock_now().plus(time);
        loop {
            if !self.look(&held) {
                return self.has_lost(held).await;
            }
            if self.is_quiet() || self.clock_now() >= until {
                break;
            }
            let longest = self.habits().look;
            let nap = self.rng.up_to(longest);
            let lost = held.guard.lost();
            let clock = self.clock.clone();
            let quiet = self.quiet_time();
            tokio::select! {
                biased;
                reason = lost => return self.is_told(held, &reason),
                () = clock.sleep(nap) => {}
                () = quiet => {}
            }
            self.do_something(&held, manual, ttl).await;
            if self.plan.leaves && is_own && self.rng.chance(15) {
                let lock = self.lock(which).keeper(!manual);
                match self.leave(held, &lock).await {
                    Some(resumed) => held = resumed,
                    None => return,
                }
            }
            if self.plan.table && which == 0 && self.rng.chance(40) {
                self.write_table(&held).await;
            }
        }
        self.give_back(held).await;
    }

    async fn do_something(&mut self, held: &Held, manual: bool, ttl: Duration) {
        if self.rng.chance(60) {
            held.guard.touch();
            let (number, status) = (held.number, held.guard.watch().status());
            self.tell(|world| world.referee.guard_touched(number, status));
        }
        let busy = if manual { 50 } else { 10 };
        if !self.rng.chance(busy) {
            return;
        }
        let renewed = if self.rng.chance(20) {
            let payload =
                Payload::from_json_str(&self.number.to_string()).expect("a number is JSON");
            held.guard.set_payload(payload).await
        } else if self.rng.chance(20) {
            let clock = self.clock.clone();
            let limit = self.rng.up_to(ttl / 10);
            tokio::select! {
                biased;
                result = held.guard.renew() => result,
                () = clock.sleep(limit) => return self.tell(|world| world.count("renewals dropped")),
            }
        } else {
            held.guard.renew().await
        };
        if let Err(error) = renewed {
            self.fails("a renewal", error.kind());
        }
    }

    /// Asks the guard and tells the referee what it says.
    fn look(&self, held: &Held) -> bool {
        let is_held = held.guard.is_held();
        let number = held.number;
        self.tell(|world| world.guard_looked(number, is_held));
        is_held
    }

    /// The guard says that it is not held: why not?
    async fn has_lost(&self, held: Held) {
        let status: LeaseStatus = held.guard.watch().status();
        match status.phase {
            LeasePhase::Lost(reason) => self.is_told(held, &reason),
            // A shutdown has given it back.
            phase => {
                let (process, number) = (self.process, held.number);
                let shut_down = self.is_shut_down();
                self.tell(|world| {
                    world.guard_ends(number);
                    if !shut_down {
                        world.violate("a guard ends for a reason", || {
                            format!("p{process}: {phase:?}")
                        });
                    }
                });
            }
        }
    }

    fn is_told(&self, held: Held, reason: &LossReason) {
        self.hears(&held, reason);
    }

    fn hears(&self, held: &Held, reason: &LossReason) {
        let (process, user, number) = (self.process, self.number, held.number);
        let still = held.guard.is_held();
        self.tell(|world| {
            world.note(Some(process), Kind::Idle, || format!("u{user} has lost it: {reason}"));
            world.guard_lost(number, reason);
            if still {
                world.violate("a guard that was lost never says held again", || {
                    format!("p{process}")
                });
            }
        });
    }

    async fn give_back(&mut self, held: Held) {
        let Held { guard, number } = held;
        let (process, user) = (self.process, self.number);
        self.tell(|world| {
            world.note(Some(process), Kind::Idle, || format!("u{user} gives it back"));
            world.guard_releasing(number);
        });
        let way = self.rng.below(10);
        let limit = self.rng.up_to(self.plan.round_trip());
        let clock = self.clock.clone();
        let release = match way {
            0..=1 => {
                drop(guard);
                None
            }
            2 => {
                let mut releasing = pin!(guard.release());
                tokio::select! {
                    biased;
                    release = &mut releasing => Some(release),
                    () = clock.sleep(limit) => None,
                }
            }
            _ => Some(guard.release().await),
        };
        match release {
            Some(release) => self.tell(|world| world.guard_released(number, Some(&release))),
            None => self.tell(|world| world.guard_released(number, None)),
        }
    }

    /// Reads that decide nothing.
    async fn look_around(&self) {
        let found = if self.plan.locks > 1 {
            let mut infos = self.store.list("");
            let mut worst = None;
            while let Some(info) = infos.next().await {
                worst = worst.or(info.err());
            }
            worst
        } else {
            self.lock(0).inspect().await.err()
        };
        if let Some(error) = found {
            self.fails("a look around", error.kind());
        }
    }

    fn fails(&self, what: &str, kind: ErrorKind) {
        let process = self.process;
        self.tell(|world| world.judge_error(process, what, kind));
    }

    fn terms(&mut self, which: usize) -> Terms {
        let habits = *self.habits();
        let ttl = self.ttl();
        let manual = self.rng.chance(habits.manual);
        let mut limited = false;
        let mut lock = self.lock(which);
        let rng = &mut self.rng;
        lock = lock.keeper(!manual).store_clock(rng.chance(habits.store_clock));
        if rng.chance(habits.min_hold) {
            lock = lock.min_hold(rng.up_to(ttl));
        } else if rng.chance(habits.max_hold) {
            limited = true;
            lock = lock.max_hold(rng.between(ttl / 10, ttl * 2));
        }
        if rng.chance(habits.progress) {
            limited = true;
            lock = lock.progress_within(rng.between(ttl / 4, ttl * 2));
        }
        if let Some(skew) = habits.max_skew {
            lock = lock.trust_wall_clock(skew);
        }
        let elects = self.plan.elections && rng.chance(40);
        let (manual, limited) = (manual && !elects, limited && !elects);
        Terms { lock, ttl, manual, limited, elects, crowd: None }
    }

    fn lock(&self, which: usize) -> Lock {
        // Who takes to the queue does so on the lock that has one.
        let lock = self.store.lock(Plan::name(which)).ttl(self.ttl()).queue_when_overtaken(false);
        lock.local_handover(self.plan.hands_over(self.process))
    }

    fn ttl(&self) -> Duration {
        self.plan.processes[self.process].ttl
    }

    /// How long a call is waited for: often only until its write is under way.
    fn patience(&mut self) -> Duration {
        let longest = match self.rng.below(4) {
            0 => Duration::ZERO,
            1 | 2 => self.plan.round_trip(),
            _ => self.plan.ttl,
        };
        self.rng.up_to(longest)
    }

    async fn nap(&mut self, time: Duration) {
        let clock = self.clock.clone();
        tokio::select! {
            biased;
            () = self.quiet_time() => {}
            () = clock.sleep(time) => {}
        }
    }

    /// Completes when all faults have ended.
    fn quiet_time(&self) -> impl Future<Output = ()> + use<> {
        let (world, user) = (Arc::clone(&self.clock.world), self.number);
        std::future::poll_fn(move |context| {
            let quiet = lock(&world).awaits_quiet(user, context.waker());
            if quiet { Poll::Ready(()) } else { Poll::Pending }
        })
    }

    fn habits(&self) -> &Habits {
        &self.plan.habits
    }

    fn is_quiet(&self) -> bool {
        self.tell(|world| world.is_quiet())
    }

    fn is_shut_down(&self) -> bool {
        self.tell(|world| world.machines[self.process].shutting_down)
    }

    fn clock_now(&self) -> leaselock::clock::Boot {
        self.tell(|world| world.read_clock(self.process)).boot
    }

    fn tell<T>(&self, what: impl FnOnce(&mut World) -> T) -> T {
        what(&mut lock(&self.clock.world))
    }
}

struct Terms {
    lock: Lock,
    ttl: Duration,
    manual: bool,
    limited: bool,
    /// Campaigns in the election of that name, on terms of its own.
    elects: bool,
    /// Shares a lease with them.
    crowd: Option<Crowd>,
}

struct Held {
    guard: Grip,
    number: usize,
}

/// An operator ends somebody's lease.
pub(crate) async fn break_lease(store: Store, clock: SimClock, name: &str, force: bool) {
    let lock_ = store.lock(name);
    let order = if force {
        Break::force()
    } else {
        let Ok(info) = lock_.inspect().await else { return };
        let Some(holder) = info.holders.first() else { return };
        Break::expecting(holder.token)
    };
    let result = lock_.break_lease(order.reason("the simulation").by("an operator")).await;
    let mut world = lock(&clock.world);
    match result {
        Ok(_) => world.count("breaks"),
        Err(error) => world.judge_error(clock.process, "a break", error.kind()),
    }
}

/// A process ends in good order.
pub(crate) async fn shut_down(stores: Vec<Store>, clock: SimClock, incarnation: u32) {
    for store in stores {
        store.shutdown().await;
    }
    lock(&clock.world).is_shut_down(clock.process, incarnation);
}
