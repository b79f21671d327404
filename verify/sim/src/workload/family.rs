//! Users of queues, of a lock for readers and writers, of a semaphore, and of sessions, under which
//! they hold several of these at once.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, select_all};
use leaselock::record::Mode as Beside;
use leaselock::{
    Error, ErrorKind, LeasePhase, LeaseWatch, Lock, LockGuard, LossReason, QuorumLock, Release,
    Result, RwLock, Semaphore, Session, WriteGuard,
};

use super::User;
use crate::plan::Member;
use crate::referee::{Claim, Ear, Mode, Outcome};
use crate::rng::Draw;
use crate::trace::Kind;

/// What is wanted.
#[derive(Clone, Debug)]
pub(super) enum Want {
    Alone(Lock),
    /// A lock over several stores.
    Majority(QuorumLock),
    Read(RwLock),
    Write(RwLock),
    Permits(Semaphore, u32),
}

/// What is held.
pub(super) struct Stay {
    pub(super) guard: Kept,
    pub(super) number: usize,
    /// Through it the referee asks the guard, and the user when it is gone.
    pub(super) watch: Arc<LeaseWatch>,
}

pub(super) enum Kept {
    Plain(LockGuard),
    Writer(WriteGuard),
}

/// Which of those that are held was lost, and why.
pub(super) type Told = (usize, LossReason);

impl User {
    /// Takes one of the family, or some of it under a session of its own.
    pub(super) async fn family_round(&mut self) {
        let Some(plan) = self.plan.family else { return };
        if self.rng.chance(4) {
            self.resize().await;
        }
        let longest = self.habits().hold;
        let time = self.rng.up_to(longest);
        if self.rng.chance(plan.sessions) {
            return self.session_round(time).await;
        }
        let member = self.rng.one_of(&Member::ALL);
        let mode = self.way_to_ask();
        let (want, limited) = self.want(member, None);
        if let Ok(Some(stay)) =
            self.ask_for(&want, self.number_of(member), (mode, limited), &[]).await
        {
            self.hold_all(vec![stay], None, time).await;
        }
    }

    /// Without faults everybody gets all of it and can give it back.
    pub(super) async fn last_of_family(&mut self) {
        for member in self.plan.members() {
            if self.is_shut_down() {
                return;
            }
            self.last_of(*member).await;
        }
    }

    async fn last_of(&mut self, member: Member) {
        let stay = loop {
            let permits = self.permits;
            let want = match member {
                Member::Queue => Want::Alone(self.store.lock(member.name()).fair().ttl(self.ttl())),
                Member::Shelf => Want::Alone(self.store.lock(member.name()).ttl(self.ttl())),
                Member::Rows => Want::Write(self.store.rwlock(member.name()).ttl(self.ttl())),
                Member::Permits => Want::Permits(self.semaphore(None), permits),
            };
            let which = self.number_of(member);
            match self.ask_for(&want, which, (Mode::Forever, false), &[]).await {
                Ok(Some(stay)) => break stay,
                _ if self.permits != permits => {}
                _ => {
                    return self.tell(|world| {
                        let what = || format!("{member:?} failed");
                        world.violate("without faults every lock can be acquired", what);
                    });
                }
            }
        };
        // An operator's order may still have been on its way, whatever else it was held with.
        self.give_last_back(stay, member.name(), |reason| *reason != LossReason::SessionClosed)
            .await;
    }

    /// Opens a session, and takes several under it.
    async fn session_round(&mut self, time: Duration) {
        let opening = self.store.session().ttl(self.ttl()).owner("explicit").open();
        let limit = self.patience();
        let session = if self.rng.chance(10) {
            let clock = self.clock.clone();
            tokio::select! {
                biased;
                session = opening => session,
                () = clock.sleep(limit) => return,
            }
        } else {
            opening.await
        };
        let session = match session {
            Ok(session) => session,
            Err(error) => return self.fails("a session", error.kind()),
        };
        let mut stays = Vec::new();
        // Always in the same order, or two users would wait for each other.
        for member in Member::ALL {
            if !self.rng.chance(60) || self.is_quiet() {
                continue;
            }
            let mode = self.way_to_ask();
            let (want, limited) = self.want(member, Some(&session));
            let which = self.number_of(member);
            match self.ask_for(&want, which, (mode, limited), &stays).await {
                Ok(Some(stay)) => stays.push(stay),
                Ok(None) => {}
                Err((which, reason)) => self.is_told_of(&mut stays, which, &reason, false),
            }
        }
        self.hold_all(stays, Some(session), time).await;
    }

    /// Its number, among everything that is contended for.
    fn number_of(&self, member: Member) -> usize {
        let place = Member::ALL.iter().position(|one| *one == member).unwrap_or_default();
        self.plan.first_of_family() + place
    }

    pub(super) fn way_to_ask(&mut self) -> Mode {
        use Mode::{Dropped, Forever, Once, Until};
        self.rng.one_of(&[Forever, Forever, Forever, Forever, Once, Until, Dropped])
    }

    /// How it is wanted this time, and whether it may be lost to a limit of its own.
    fn want(&mut self, member: Member, session: Option<&Session>) -> (Want, bool) {
        let habits = *self.habits();
        let (ttl, name) = (self.ttl(), member.name());
        let limit = self.rng.between(ttl / 10, ttl * 2);
        let limited = self.rng.chance(habits.max_hold);
        let fair = match member {
            Member::Queue => self.rng.chance(85),
            _ => false,
        };
        let lingers = self.rng.chance(habits.min_hold).then(|| self.rng.up_to(ttl));
        match member {
            Member::Queue | Member::Shelf => {
                let lock = match session {
                    Some(session) => session.lock(name),
                    None => self.store.lock(name).ttl(ttl),
                };
                let lock = if fair { lock.fair() } else { lock };
                let lock = lock.store_clock(self.rng.chance(habits.store_clock));
                let lock = match lingers {
                    Some(time) if !limited => lock.min_hold(time),
                    _ if limited => lock.max_hold(limit),
                    _ => lock,
                };
                (Want::Alone(lock), limited)
            }
            Member::Rows => {
                let rows = match session {
                    Some(session) => session.rwlock(name),
                    None => self.store.rwlock(name).ttl(ttl),
                };
                let rows = if limited { rows.max_hold(limit) } else { rows };
                let want = if self.rng.chance(40) { Want::Write(rows) } else { Want::Read(rows) };
                (want, limited)
            }
            Member::Permits => {
                let semaphore = self.semaphore(session);
                let semaphore = if limited { semaphore.max_hold(limit) } else { semaphore };
                let permits = 1 + self.rng.below(self.permits as usize) as u32;
                (Want::Permits(semaphore, permits), limited)
            }
        }
    }

    fn semaphore(&self, session: Option<&Session>) -> Semaphore {
        let name = Member::Permits.name();
        match session {
            Some(session) => session.semaphore(name, self.permits),
            None => self.store.semaphore(name, self.permits).ttl(self.ttl()),
        }
    }

    async fn resize(&mut self) {
        let wanted = if self.permits == 2 { 3 } else { 2 };
        match self.semaphore(None).resize(wanted).await {
            Ok(resized) => self.permits = resized.limit(),
            Err(error) => self.take_note("a resize", &error),
        }
    }

    /// What an error tells of the semaphore.
    fn take_note(&mut self, what: &str, error: &Error) {
        if let ErrorKind::LimitMismatch { stored } = error.kind() {
            self.permits = stored;
        }
        self.fails(what, error.kind());
    }

    /// Asks for something, and hears meanwhile whether something that is held is lost.
    pub(super) async fn ask_for(
        &mut self,
        want: &Want,
        which: usize,
        (mode, limited): (Mode, bool),
        held: &[Stay],
    ) -> std::result::Result<Option<Stay>, Told> {
        let call = self.begin(which, mode, limited);
        let limit = self.patience();
        let clock = self.clock.clone();
        let asking = want.clone().owned_by(format!("c{call}")).ask(mode, limit);
        let mut told = None;
        let result = tokio::select! {
            biased;
            lost = any_lost(held) => {
                told = Some(lost);
                None
            }
            result = asking => Some(result),
            () = clock.sleep(limit), if mode == Mode::Dropped => None,
        };
        let outcome = match result {
            Some(Ok(Some(guard))) => return Ok(Some(self.welcome(call, guard, want.claim()))),
            Some(Ok(None)) => Outcome::Held,
            Some(Err(error)) => {
                if let ErrorKind::LimitMismatch { stored } = error.kind() {
                    self.permits = stored;
                }
                Outcome::Failed(error.kind())
            }
            None => Outcome::Dropped,
        };
        self.tell(|world| world.call_ends(call, outcome));
        told.map_or(Ok(None), Err)
    }

    fn welcome(&self, call: usize, guard: Kept, claim: Claim) -> Stay {
        let watch = Arc::new(guard.get().watch());
        let status = watch.status();
        let (id, token) = (guard.get().id(), guard.get().token().get());
        let (process, user, ttl) = (self.process, self.number, self.ttl());
        let ear = Ear::Asks(Arc::clone(&watch));
        let number = self.tell(|world| {
            world.note(Some(process), Kind::Holding, || format!("u{user} holds, token {token}"));
            let number = world.guard_begins(call, id, token, ttl, ear, status);
            world.referee.guard_claims(number, claim);
            number
        });
        Stay { guard, number, watch }
    }

    /// Holds for some time what is held, looking at the guards now and then.
    pub(super) async fn hold_all(
        &mut self,
        mut stays: Vec<Stay>,
        session: Option<Session>,
        time: Duration,
    ) {
        let until = self.clock_now().plus(time);
        loop {
            for number in (0..stays.len()).rev() {
                if !self.still_held(&stays[number]) {
                    self.has_ended(stays.remove(number), false);
                }
            }
            if stays.is_empty() || self.is_quiet() || self.clock_now() >= until {
                break;
            }
            let longest = self.habits().look;
            let nap = self.rng.up_to(longest);
            let (clock, quiet) = (self.clock.clone(), self.quiet_time());
            tokio::select! {
                biased;
                (which, reason) = any_lost(&stays) => {
                    self.is_told_of(&mut stays, which, &reason, false);
                }
                () = clock.sleep(nap) => {}
                () = quiet => {}
            }
            if self.rng.chance(20) {
                self.downgrade_one(&mut stays).await;
            }
        }
        self.give_all_back(stays, session).await;
    }

    /// Turns a writer into a reader, if there is one.
    async fn downgrade_one(&mut self, stays: &mut Vec<Stay>) {
        let is_writer = |stay: &Stay| matches!(stay.guard, Kept::Writer(_));
        let Some(place) = stays.iter().position(is_writer) else { return };
        let Stay { guard, number, watch } = stays.remove(place);
        let Kept::Writer(writer) = guard else { return };
        let claim = Claim { mode: Beside::Shared, permits: 1 };
        // From here on it does not write any more, whatever comes of it.
        self.tell(|world| world.referee.guard_claims(number, claim));
        let mut told = None;
        // Who waits for an answer hears of its own loss by that.
        self.tell(|world| world.referee.guard_is_busy(number, true));
        let downgraded = tokio::select! {
            biased;
            lost = any_lost(stays) => {
                told = Some(lost);
                None
            }
            downgraded = writer.downgrade() => Some(downgraded),
        };
        self.tell(|world| world.referee.guard_is_busy(number, false));
        match downgraded {
            Some(Ok(reader)) => {
                self.tell(|world| world.referee.downgraded(world.now, number));
                stays.push(Stay { guard: Kept::Plain(reader), number, watch });
            }
            Some(Err(error)) => {
                self.fails("a downgrade", error.kind());
                self.gone(number, &watch);
            }
            None => self.gone(number, &watch),
        }
        if let Some((which, reason)) = told {
            self.is_told_of(stays, which, &reason, false);
        }
    }

    /// Gives everything back, in one of several ways.
    async fn give_all_back(&mut self, stays: Vec<Stay>, session: Option<Session>) {
        for stay in &stays {
            let number = stay.number;
            self.tell(|world| world.guard_releasing(number));
        }
        let Some(session) = session else { return self.give_each_back(stays).await };
        let limit = self.rng.up_to(self.plan.round_trip());
        match self.rng.below(6) {
            // All at once.
            0 | 1 => {
                let closed = session.close().await;
                for stay in stays {
                    self.has_ended(stay, true);
                }
                if let Err(error) = closed {
                    self.fails("a session's end", error.kind());
                }
            }
            2 => {
                let clock = self.clock.clone();
                tokio::select! {
                    biased;
                    _ = session.close() => {}
                    () = clock.sleep(limit) => {}
                }
                for stay in stays {
                    self.has_ended(stay, true);
                }
            }
            // The guards keep the session until they are gone.
            3 => {
                drop(session);
                self.give_each_back(stays).await;
            }
            _ => {
                self.give_each_back(stays).await;
                if let Err(error) = session.close().await {
                    self.fails("a session's end", error.kind());
                }
            }
        }
    }

    async fn give_each_back(&mut self, stays: Vec<Stay>) {
        let (process, user) = (self.process, self.number);
        for Stay { guard, number, watch } in stays {
            self.tell(|world| {
                world.note(Some(process), Kind::Idle, || format!("u{user} gives it back"));
            });
            let limit = self.rng.up_to(self.plan.round_trip());
            let clock = self.clock.clone();
            let release = match self.rng.below(10) {
                0..=1 => {
                    drop(guard);
                    None
                }
                2 => tokio::select! {
                    biased;
                    release = guard.release() => Some(release),
                    () = clock.sleep(limit) => None,
                },
                _ => Some(guard.release().await),
            };
            self.is_over(number, &watch, release.as_ref());
        }
    }

    /// Asks the guard and tells the referee what it says.
    pub(super) fn still_held(&self, stay: &Stay) -> bool {
        let is_held = stay.guard.get().is_held();
        let (number, status) = (stay.number, stay.watch.status());
        self.tell(|world| {
            world.referee.guard_touched(number, status);
            world.guard_looked(number, is_held);
        });
        is_held
    }

    fn is_told_of(&self, stays: &mut Vec<Stay>, which: usize, reason: &LossReason, closed: bool) {
        let stay = stays.remove(which);
        let (process, user, number) = (self.process, self.number, stay.number);
        let still = stay.guard.get().is_held();
        let closed = closed || self.is_shut_down();
        self.tell(|world| {
            world.note(Some(process), Kind::Idle, || format!("u{user} has lost it: {reason}"));
            world.guard_lost(number, reason);
            let now = world.now;
            world.referee.lost_under_session(now, number, reason, closed);
            if still {
                let what = || format!("p{process}");
                world.violate("a guard that was lost never says held again", what);
            }
        });
    }

    /// A guard says that it is not held, perhaps because its session was closed by this user.
    pub(super) fn has_ended(&self, stay: Stay, closed: bool) {
        match stay.watch.status().phase {
            LeasePhase::Lost(reason) => self.is_told_of(&mut vec![stay], 0, &reason, closed),
            LeasePhase::Released if closed => self.is_over(stay.number, &stay.watch, None),
            // A shutdown has given it back.
            LeasePhase::Released if self.is_shut_down() => {
                let (number, status) = (stay.number, stay.watch.status());
                self.tell(|world| {
                    world.referee.guard_touched(number, status);
                    world.guard_ends(number);
                });
            }
            phase => {
                let (process, number) = (self.process, stay.number);
                self.tell(|world| {
                    world.guard_ends(number);
                    world.violate("a guard ends for a reason", || format!("p{process}: {phase:?}"));
                });
            }
        }
    }

    /// A guard was consumed; how its lease ended is all that is known.
    fn gone(&self, number: usize, watch: &Arc<LeaseWatch>) {
        self.tell(|world| world.guard_releasing(number));
        self.is_over(number, watch, None);
    }

    pub(super) fn is_over(
        &self,
        number: usize,
        watch: &LeaseWatch,
        release: Option<&Result<Release>>,
    ) {
        let status = watch.status();
        self.tell(|world| {
            world.referee.guard_touched(number, status);
            world.guard_released(number, release);
        });
    }
}

/// Completes when one of these is lost.
async fn any_lost(stays: &[Stay]) -> Told {
    if stays.is_empty() {
        std::future::pending::<()>().await;
    }
    let (reason, which, _) =
        select_all(stays.iter().map(|stay| Box::pin(stay.guard.get().lost()))).await;
    (which, reason)
}

impl Want {
    fn owned_by(self, label: String) -> Self {
        match self {
            Self::Alone(lock) => Self::Alone(lock.owner(label)),
            Self::Majority(lock) => Self::Majority(lock.owner(label)),
            Self::Read(rows) => Self::Read(rows.owner(label)),
            Self::Write(rows) => Self::Write(rows.owner(label)),
            Self::Permits(semaphore, permits) => Self::Permits(semaphore.owner(label), permits),
        }
    }

    fn claim(&self) -> Claim {
        match self {
            Self::Alone(_) | Self::Majority(_) | Self::Write(_) => Claim::ALONE,
            Self::Read(_) => Claim { mode: Beside::Shared, permits: 1 },
            Self::Permits(_, permits) => Claim { mode: Beside::Shared, permits: *permits },
        }
    }

    fn ask(self, mode: Mode, limit: Duration) -> BoxFuture<'static, Result<Option<Kept>>> {
        let plain = |guard: Option<LockGuard>| guard.map(Kept::Plain);
        Box::pin(async move {
            Ok(match (self, mode) {
                (Self::Alone(lock), Mode::Once) => plain(lock.try_acquire().await?.acquired()),
                (Self::Alone(lock), Mode::Until) => {
                    plain(lock.acquire_timeout(limit).await?.acquired())
                }
                (Self::Alone(lock), _) => plain(Some(lock.acquire().await?)),
                (Self::Majority(lock), Mode::Once) => plain(lock.try_acquire().await?.acquired()),
                (Self::Majority(lock), Mode::Until) => {
                    plain(lock.acquire_timeout(limit).await?.acquired())
                }
                (Self::Majority(lock), _) => plain(Some(lock.acquire().await?)),
                (Self::Read(rows), Mode::Once) => plain(rows.try_read().await?.acquired()),
                (Self::Read(rows), Mode::Until) => {
                    plain(rows.read_timeout(limit).await?.acquired())
                }
                (Self::Read(rows), _) => plain(Some(rows.read().await?)),
                (Self::Write(rows), Mode::Once) => {
                    rows.try_write().await?.acquired().map(Kept::Writer)
                }
                (Self::Write(rows), Mode::Until) => {
                    rows.write_timeout(limit).await?.acquired().map(Kept::Writer)
                }
                (Self::Write(rows), _) => Some(Kept::Writer(rows.write().await?)),
                (Self::Permits(semaphore, permits), Mode::Once) => {
                    plain(semaphore.try_acquire_many(permits).await?.acquired())
                }
                (Self::Permits(semaphore, permits), Mode::Until) => {
                    plain(semaphore.acquire_many_timeout(permits, limit).await?.acquired())
                }
                (Self::Permits(semaphore, permits), _) => {
                    plain(Some(semaphore.acquire_many(permits).await?))
                }
            })
        })
    }
}

impl Kept {
    fn get(&self) -> &LockGuard {
        match self {
            Self::Plain(guard) => guard,
            Self::Writer(writer) => writer,
        }
    }

    pub(super) async fn release(self) -> Result<Release> {
        match self {
            Self::Plain(guard) => guard.release().await,
            Self::Writer(writer) => writer.release().await,
        }
    }
}
