//! What happens on one store: its sections, the runs that contend for them, and what was done to
//! them.

use std::collections::BTreeMap;
use std::io;
use std::process::Child;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use leaselock_test_support::emulators::Backend;
use rustix::process::Signal;

use crate::clock;
use crate::process::{self, Process};
use crate::profile::Profile;
use crate::section::{Section, Verdict, Witness};
use crate::tally::Tally;

/// One store.
///
/// A section may be locked before the runs, never after them.
#[derive(Debug)]
pub(crate) struct Arena {
    pub(crate) backend: Backend,
    sections: Vec<Mutex<Section>>,
    runs: Mutex<BTreeMap<usize, Run>>,
    next_user: AtomicUsize,
    /// Odd while the network is disturbed; grows with every change.
    sky: AtomicU64,
    /// Frozen wrappers.
    frozen: AtomicUsize,
    pub(crate) tally: Tally,
}

/// What is done to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mischief {
    KillWrapper,
    KillWorker,
    KillWatchdog,
    /// Wrapper, watchdog and worker at once: a machine that loses power.
    KillAll,
    FreezeWrapper,
    FreezeWorker,
    /// All three: a machine that is suspended.
    FreezeAll,
    /// Wrapper and watchdog, while the worker runs on: against this only tokens help.
    FreezeGuards,
}

impl Mischief {
    pub(crate) const ALL: [Self; 8] = [
        Self::KillWrapper,
        Self::KillWorker,
        Self::KillWatchdog,
        Self::KillAll,
        Self::FreezeWrapper,
        Self::FreezeWorker,
        Self::FreezeAll,
        Self::FreezeGuards,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::KillWrapper => "kill wrapper",
            Self::KillWorker => "kill worker",
            Self::KillWatchdog => "kill watchdog",
            Self::KillAll => "kill all three",
            Self::FreezeWrapper => "freeze wrapper",
            Self::FreezeWorker => "freeze worker",
            Self::FreezeAll => "freeze all three",
            Self::FreezeGuards => "freeze both guards",
        }
    }

    fn signal(self) -> Signal {
        match self {
            Self::KillWrapper | Self::KillWorker | Self::KillWatchdog | Self::KillAll => {
                Signal::KILL
            }
            _ => Signal::STOP,
        }
    }

    pub(crate) fn is_freeze(self) -> bool {
        self.signal() == Signal::STOP
    }

    fn hits_wrapper(self) -> bool {
        !matches!(self, Self::KillWorker | Self::KillWatchdog | Self::FreezeWorker)
    }

    fn hits_watchdog(self) -> bool {
        matches!(self, Self::KillWatchdog | Self::KillAll | Self::FreezeAll | Self::FreezeGuards)
    }

    fn hits_worker(self) -> bool {
        matches!(self, Self::KillWorker | Self::KillAll | Self::FreezeWorker | Self::FreezeAll)
    }

    /// Whether nobody is left who could give the lock back.
    fn crashes(self) -> bool {
        matches!(self, Self::KillWrapper | Self::KillAll)
    }
}

/// A command under way.
#[derive(Debug)]
struct Run {
    section: usize,
    ttl: Duration,
    wrapper: Process,
    watchdog: Option<Process>,
    worker: Option<Process>,
    wrapper_out: bool,
    watchdog_out: bool,
    unguarded: bool,
    disturbed: bool,
    /// Something is being done to it, or was that cannot be undone.
    taken: bool,
}

/// What a worker says when it enters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) section: usize,
    pub(crate) user: usize,
    pub(crate) token: u64,
    /// That of another lock, which its run holds too.
    pub(crate) other: Option<u64>,
    /// Its process, and when that started.
    pub(crate) pid: i32,
    pub(crate) started: u64,
}

/// Somebody was chosen as a target.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) user: usize,
    pub(crate) ttl: Duration,
}

impl Arena {
    pub(crate) fn new(backend: Backend) -> Self {
        let section = |profile: Profile| {
            Mutex::new(Section::new(&format!("{backend}, {}", profile.name()), profile))
        };
        Self {
            backend,
            sections: Profile::ALL.into_iter().map(section).collect(),
            runs: Mutex::default(),
            next_user: AtomicUsize::new(0),
            sky: AtomicU64::new(0),
            frozen: AtomicUsize::new(0),
            tally: Tally::default(),
        }
    }

    pub(crate) fn sections(&self) -> impl Iterator<Item = MutexGuard<'_, Section>> {
        self.sections.iter().map(|section| section.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn section(&self, number: usize) -> MutexGuard<'_, Section> {
        self.sections[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn runs(&self) -> MutexGuard<'_, BTreeMap<usize, Run>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // --- the course of a run ---

    /// A number for a new run that is about to be started.
    pub(crate) fn begins(&self, section: usize, permits: u32) -> usize {
        let user = self.next_user.fetch_add(1, Ordering::Relaxed);
        self.section(section).begins(user, permits);
        user
    }

    /// Starts it. Its worker cannot present itself before it is known here.
    pub(crate) fn start(
        &self,
        user: usize,
        section: usize,
        ttl: Duration,
        start: impl FnOnce() -> io::Result<Child>,
    ) -> io::Result<Child> {
        let mut runs = self.runs();
        let child = start()?;
        let wrapper = Process::open(child.id().cast_signed())?;
        let run = Run {
            section,
            ttl,
            wrapper,
            watchdog: None,
            worker: None,
            wrapper_out: false,
            watchdog_out: false,
            unguarded: false,
            disturbed: false,
            taken: false,
        };
        runs.insert(user, run);
        Ok(child)
    }

    /// A worker presents itself.
    pub(crate) fn enter(&self, entry: &Entry) -> Verdict {
        let Entry { section, user, token, .. } = *entry;
        // Held throughout: of two workers of one run, the later one comes later here too.
        let mut section = self.section(section);
        if !self.comes_from(entry, &mut section) {
            return Verdict::Refused;
        }
        let verdict = section.enter(user, token, self, self.calm(), clock::now());
        if let Some(other) = entry.other.filter(|_| verdict == Verdict::Accepted) {
            section.holds_too(user, other, self);
        }
        verdict
    }

    /// Whether it is the worker of that run, which then is known, and alive.
    fn comes_from(&self, entry: &Entry, section: &mut Section) -> bool {
        let user = entry.user;
        // It waits for the answer, so the number is its own, or it was killed just now.
        let worker = Process::open(entry.pid).ok();
        let is_it = process::stat(entry.pid).is_some_and(|stat| stat.started == entry.started);
        let Some(worker) = worker.filter(|worker| is_it && !worker.is_dead()) else { return false };
        let mut runs = self.runs();
        let Some(run) = runs.get_mut(&user) else { return false };
        if let Some(earlier) = &run.worker {
            if !section.profile().asks_again() {
                return false;
            }
            if !earlier.is_dead() {
                section.violation(format!("{user} has a worker beside one that is alive"));
                return false;
            }
            section.asks_again(user);
            // The wrapper has started it after all that was done to it and an earlier one at once.
            run.unguarded = run.wrapper_out && run.watchdog_out;
        }
        run.worker = Some(worker);
        true
    }

    /// A worker that has entered with this token works.
    pub(crate) fn work(&self, section: usize, user: usize, token: u64) -> Verdict {
        let mut section = self.section(section);
        if section.is_inside(user, token) { section.work(user, self) } else { Verdict::Refused }
    }

    /// It leaves, or its connection has ended.
    pub(crate) fn ends(&self, section: usize, user: usize, token: u64) {
        let mut section = self.section(section);
        if section.is_inside(user, token) {
            section.ends(user);
        }
    }

    /// It has done all of its work.
    pub(crate) fn leaves(&self, section: usize, user: usize, token: u64) {
        let mut section = self.section(section);
        if section.is_inside(user, token) {
            section.leaves(user, clock::now());
        }
    }

    /// A run's wrapper has ended in success. Answers whether there was any work.
    pub(crate) fn succeeded(&self, section: usize, user: usize) -> bool {
        self.section(section).succeeded(user)
    }

    /// A run's wrapper has ended and was waited for.
    ///
    /// Answers whether its worker ended too, within `patience`.
    pub(crate) fn is_over(&self, user: usize, section: usize, patience: Duration) -> bool {
        self.section(section).is_over(user);
        let ended = clock::wait_until(patience, || self.is_dead(user));
        self.runs().remove(&user);
        ended
    }

    /// Whether something was done to it.
    pub(crate) fn is_disturbed(&self, user: usize) -> bool {
        self.was_disturbed(user)
    }

    // --- what is done to runs ---

    /// Somebody who holds a lock, or just anybody; never one that is already a target.
    pub(crate) fn target(&self, holding: bool, choice: usize) -> Option<Target> {
        let found: Vec<usize> = if holding {
            self.sections().flat_map(|section| section.holders()).collect()
        } else {
            self.runs().keys().copied().collect()
        };
        let runs = self.runs();
        let free = found.into_iter().filter_map(|user| Some((user, runs.get(&user)?)));
        let free: Vec<_> = free.filter(|(_, run)| !run.taken).collect();
        let (user, run) = free.get(choice.checked_rem(free.len())?)?;
        Some(Target { user: *user, ttl: run.ttl })
    }

    /// Does it. Answers whether it could be done: the processes that it takes may be gone, or not
    /// there yet.
    pub(crate) fn strike(&self, target: Target, mischief: Mischief) -> bool {
        let Some(section) = self.runs().get(&target.user).map(|run| run.section) else {
            return false;
        };
        // Held throughout, so that nobody can enter between what is noted and what is done.
        let mut section = self.section(section);
        let mut runs = self.runs();
        let Some(run) = runs.get_mut(&target.user).filter(|run| !run.taken) else { return false };
        // Whoever starts another worker later was not out together with its watchdog since.
        let needs_worker = mischief.hits_worker() || mischief == Mischief::FreezeGuards;
        if needs_worker && run.worker.as_ref().is_none_or(Process::is_dead) {
            return false;
        }
        if mischief.hits_watchdog() {
            if run.watchdog.is_none() {
                run.watchdog = watchdog_of(&run.wrapper);
            }
            if run.watchdog.is_none() {
                return false;
            }
        }
        (run.taken, run.disturbed) = (true, true);
        // Before the signals: the promise is suspended no later than the guards are.
        run.wrapper_out |= mischief.hits_wrapper();
        run.watchdog_out |= mischief.hits_watchdog();
        run.unguarded |= run.wrapper_out && run.watchdog_out;
        if mischief.is_freeze() && mischief.hits_wrapper() {
            self.frozen.fetch_add(1, Ordering::SeqCst);
            self.sky.fetch_add(2 * u64::from(!self.backend.is_http()), Ordering::SeqCst);
        }
        if mischief.crashes() {
            // What is looked at next may have been renewed once more by then.
            let looks = section.profile().looks();
            let bound = (target.ttl.mul_f64(1.02) + Duration::from_millis(50)) * looks + POLL;
            section.crashed(target.user, bound, self.calm(), clock::now());
        }
        let victims = [
            (mischief.hits_watchdog(), run.watchdog.as_ref()),
            (mischief.hits_wrapper(), Some(&run.wrapper)),
            (mischief.hits_worker(), run.worker.as_ref()),
        ];
        let mut hit = false;
        for process in victims.into_iter().filter_map(|(is, process)| process.filter(|_| is)) {
            hit |= process.signal(mischief.signal());
        }
        hit
    }

    /// Lets the frozen go on: the guards first; or the worker, long enough before them for a piece
    /// of work.
    pub(crate) fn thaw(&self, user: usize, worker_first: bool) {
        if worker_first && self.go_on(user, |run| vec![run.worker.as_ref()]) {
            std::thread::sleep(HEAD_START);
        }
        self.go_on(user, |run| {
            vec![run.watchdog.as_ref(), Some(&run.wrapper), run.worker.as_ref()]
        });
        if let Some(run) = self.runs().get_mut(&user) {
            self.frozen.fetch_sub(usize::from(run.wrapper_out), Ordering::SeqCst);
            (run.wrapper_out, run.watchdog_out, run.taken) = (false, false, false);
        }
    }

    fn go_on(&self, user: usize, who: impl FnOnce(&Run) -> Vec<Option<&Process>>) -> bool {
        let runs = self.runs();
        let Some(run) = runs.get(&user) else { return false };
        let went_on = who(run).into_iter().flatten().filter(|one| one.signal(Signal::CONT));
        went_on.count() > 0
    }

    /// Whether a successor of `user` is in, or `user` itself is gone.
    pub(crate) fn is_succeeded(&self, user: usize) -> bool {
        let section = self.runs().get(&user).map(|run| run.section);
        section.is_none_or(|section| self.section(section).is_succeeded(user))
    }

    /// Asks every run to end, or makes it. Answers how many there are.
    pub(crate) fn disperse(&self, at_once: bool) -> usize {
        let runs = self.runs();
        for run in runs.values() {
            for process in [run.watchdog.as_ref(), run.worker.as_ref()].into_iter().flatten() {
                process.signal(Signal::CONT);
            }
            if let Some(worker) = &run.worker {
                worker.signal(Signal::KILL);
            }
            run.wrapper.signal(if at_once { Signal::KILL } else { Signal::TERM });
            run.wrapper.signal(Signal::CONT);
        }
        runs.len()
    }

    // --- the network ---

    /// The network is disturbed from here on, or is not any more.
    pub(crate) fn disturb(&self, disturbed: bool) {
        let change = |sky: u64| (sky.is_multiple_of(2) == disturbed).then_some(sky + 1);
        let _ = self.sky.fetch_update(Ordering::SeqCst, Ordering::SeqCst, change);
    }

    /// Which calm this is; `None` while the store cannot be relied on: while the network is
    /// disturbed, or somebody frozen, perhaps in the middle of a write, keeps all others from
    /// writing to a directory.
    fn calm(&self) -> Option<u64> {
        let writers_wait = !self.backend.is_http() && self.frozen.load(Ordering::SeqCst) > 0;
        let sky = self.sky.load(Ordering::SeqCst);
        (sky.is_multiple_of(2) && !writers_wait).then_some(sky)
    }

    /// The store has come back empty, and cannot be reached yet.
    pub(crate) fn records_lost(&self) {
        for mut section in self.sections() {
            section.records_lost(clock::wall_micros());
        }
    }
}

/// The longest pause between two polls of a waiter.
const POLL: Duration = Duration::from_secs(5);

/// What a worker gets done before its guards look at the clock, when all were frozen.
const HEAD_START: Duration = Duration::from_millis(60);

fn watchdog_of(wrapper: &Process) -> Option<Process> {
    let (pid, _) = process::children(wrapper.pid())
        .into_iter()
        .find(|(_, stat)| stat.name == "lease-watchdog")?;
    Process::open(pid).ok()
}

impl Witness for Arena {
    fn is_dead(&self, user: usize) -> bool {
        let runs = self.runs();
        let worker = runs.get(&user).and_then(|run| run.worker.as_ref());
        worker.is_none_or(Process::is_dead)
    }

    fn was_unguarded(&self, user: usize) -> bool {
        self.runs().get(&user).is_some_and(|run| run.unguarded)
    }

    fn was_disturbed(&self, user: usize) -> bool {
        self.runs().get(&user).is_some_and(|run| run.disturbed)
    }
}
