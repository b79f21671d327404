//! `leaselock run`: take the lock, run the command, give the lock back.

use std::ffi::OsString;
use std::time::Duration;

use leaselock::{DoneInfo, ErrorKind, LockGuard, Release, Run as OneRun, Store};
use nix::sys::signal::Signal;

use crate::args::{Global, Run};
use crate::child::Child;
use crate::clock::{self, Moment};
use crate::exit::{self, Failure};
use crate::hold::{Course, Ended, Hold};
use crate::key::{Key, Tenure};
use crate::limits::Policy;
use crate::people;
use crate::process::{self, Change, Prepare};
use crate::report::Report;
use crate::signals::Signals;
use crate::status_file::{Place, StatusFile};
use crate::terminal::{self, Terminal};
use crate::waiting::{self, Patience, Waited};
use crate::watchdog::Watchdog;

/// How long an interrupted wait may take to withdraw from the store.
const WITHDRAWAL: Duration = Duration::from_secs(5);

/// What `run --help` says besides the options and the exit codes.
pub(crate) const LONG_HELP: &str = "\
CMD gets LEASELOCK_NAME, LEASELOCK_TOKEN (the fencing token: pass it on with every write that the
lock protects), LEASELOCK_HOLDER, LEASELOCK_STORE (without credentials and options) and
LEASELOCK_STATUS_FILE, a small JSON file that is kept current: name, token, holder, state (held,
at_risk, lost), deadline (wall clock) and boot_deadline (seconds on CLOCK_BOOTTIME); with --limit
also LEASELOCK_PERMITS, how many it has.

A LOCK is one of three things, and stays it: a lock, which one holds; with --shared and --exclusive
one that many readers or one writer hold; with --limit a semaphore. Readers that come after a waiting
writer wait behind it. Whoever holds or waits with one of these or --fair does so under a session, a
second small record that is renewed in place of LOCK's and ends with this process. All who use a plain
lock should say --fair or none of them: who does not gets it only when nobody waits in the queue.

With --once, CMD is run under a lease on a key instead of a lock, and when it exits with 0 that is
recorded in the same place: whoever comes later exits with 0 and does not run it. Any other end of CMD
is not recorded, and it may be run again; so it is when this host dies, even after CMD has done its
work. Keys and locks of the same name have nothing to do with each other.

With --json, outcome is one of completed, busy, timed_out, skipped, already_done, interrupted (by a
signal, while waiting), not_started, lost (exit code 120), overrun (121), unrecorded (CMD has
succeeded, but that was not recorded for certain) and failed.

CMD runs in a process group of its own, which never outlives the lease. When the lease is lost or
cannot be renewed in time, the group gets TERM, and KILL after --kill-grace, at the latest a moment
before the lease ends. A separate watchdog process does the same when leaselock itself is frozen
(SIGSTOP) or killed. What CMD leaves in its group when it ends is ended too, before the release.

What this does not cover:
  - A process that leaves the group (setsid, a daemon, a container started by another service).
  - A CMD that runs as another user, and so cannot be signalled (use `sudo leaselock run`, not
    `leaselock run … sudo`).
  - A machine, virtual machine or container that is frozen whole: CMD is killed as soon as it goes
    on, but may get a few instructions in first. That is what the fencing token is for.
  - ^Z at the terminal, or SIGSTOP: nothing renews the lease meanwhile, and the watchdog ends CMD
    when it runs out.
  - --on-lost warn: nothing stops CMD then, and there is no watchdog.

INT, TERM, HUP, QUIT, USR1 and USR2 are passed on to the group; the lease is renewed until CMD has
ended, and only then given back. While the lock is waited for, they end the wait.";

/// What follows when the lease was lost and CMD was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterLoss {
    Exit,
    /// The lock is waited for again, and CMD started anew.
    Again,
}

/// Answers the exit code.
pub(crate) fn run(global: &Global, args: &Run) -> Result<u8, Failure> {
    carry_out(global, args, AfterLoss::Exit)
}

/// Answers the exit code.
pub(crate) fn carry_out(global: &Global, args: &Run, after_loss: AfterLoss) -> Result<u8, Failure> {
    let shortest = args.ttl.min(args.max_hold.unwrap_or(Duration::MAX));
    let policy = Policy::new(args.on_lost, shortest, args.kill_grace)
        .map_err(|message| Failure::new(exit::USAGE, message))?;
    let place = Place::choose();
    // First of all, while this process has one thread.
    let mut watchdog = match policy.stops() {
        true => Some(Watchdog::start(policy, &place).map_err(internal)?),
        false => None,
    };
    let mut report = Report::default();
    let run = Running { global, args, policy, place: &place, after_loss };
    let ended = crate::block_on(run.run(watchdog.as_mut(), &mut report));
    if let Some(watchdog) = watchdog {
        watchdog.dismiss();
    }
    let code = ended.unwrap_or_else(|failure| failure.print());
    if args.json {
        report.print(code);
    }
    if let Some(signal) = report.typed {
        process::reset(signal);
        terminal::echo_to_own_group(signal);
    }
    Ok(code)
}

struct Running<'a> {
    global: &'a Global,
    args: &'a Run,
    policy: Policy,
    place: &'a Place,
    after_loss: AfterLoss,
}

impl Running<'_> {
    async fn run(
        &self,
        mut watchdog: Option<&mut Watchdog>,
        report: &mut Report,
    ) -> Result<u8, Failure> {
        let mut signals = Signals::listen().map_err(internal)?;
        let begun = Moment::now();
        let opened = tokio::select! {
            biased;
            signal = signals.request() => return Ok(report.interrupted(signal)),
            opened = crate::open(self.global) => opened,
        };
        let store = opened?;
        report.waited = since(begun);
        let key = self.key(&store);
        loop {
            let watchdog = watchdog.as_deref_mut();
            let ended = self.round(&store, &key, &mut signals, watchdog, report).await;
            // What was typed at the terminal went to CMD alone, and is meant for this process too.
            let asked_to_end = signals.asked_to_end() || report.typed.is_some();
            let again = self.after_loss == AfterLoss::Again && !asked_to_end;
            if !again || !was_lost(&ended, report) {
                if key.needs_session() {
                    withdraw(&store, &mut signals).await;
                }
                return ended;
            }
            report.outcome = Report::default().outcome;
            if !self.global.quiet {
                people::say(&format!("{}: the lease was lost: campaigning again", self.args.lock));
            }
        }
    }

    /// Waits for the lock, and holds it while CMD runs.
    async fn round(
        &self,
        store: &Store,
        key: &Key,
        signals: &mut Signals,
        watchdog: Option<&mut Watchdog>,
        report: &mut Report,
    ) -> Result<u8, Failure> {
        let begun = Moment::now();
        let waited = self.acquire(key, signals).await;
        let acquired = Moment::now();
        report.waited += since(begun);
        match waited? {
            Waited::Acquired(tenure) => {
                let code = self.hold(store, key, tenure, signals, watchdog, report).await;
                report.held += since(acquired);
                code
            }
            Waited::Busy(info) => {
                if !self.global.quiet {
                    people::say(&people::situation(&info));
                }
                Ok(self.busy(report))
            }
            Waited::Done(done) => {
                report.outcome = "already_done";
                if !self.global.quiet {
                    people::say(&self.was_done(&done));
                }
                Ok(0)
            }
            Waited::Interrupted(signal) => {
                withdraw(store, signals).await;
                Ok(report.interrupted(signal))
            }
        }
    }

    fn key(&self, store: &Store) -> Key {
        let args = self.args;
        let name = &args.lock;
        let owner = args.owner.clone().unwrap_or_else(people::user);
        // The builders have these options in common, but no type.
        macro_rules! with_options {
            ($key:expr) => {{
                let mut key = $key.ttl(args.ttl).owner(owner);
                if let Some(note) = &args.note {
                    key = key.note(note);
                }
                if let Some(time) = args.max_hold {
                    key = key.max_hold(time);
                }
                key
            }};
        }
        macro_rules! with_min_hold {
            ($key:expr) => {{
                let key = with_options!($key);
                match args.min_hold {
                    Some(time) => key.min_hold(time),
                    None => key,
                }
            }};
        }
        if args.once {
            let once = with_min_hold!(store.once(name));
            return Key::Once(match args.retention {
                Some(time) => once.retention(time),
                None => once,
            });
        }
        if let Some(limit) = args.limit {
            let semaphore = with_options!(store.semaphore(name, limit));
            return Key::Permits(semaphore, args.permits.unwrap_or(1));
        }
        match (args.shared, args.exclusive) {
            (true, _) => Key::Shared(with_options!(store.rwlock(name))),
            (false, true) => Key::Exclusive(with_options!(store.rwlock(name))),
            (false, false) if args.fair => Key::Fair(with_min_hold!(store.lock(name)).fair()),
            (false, false) => Key::Lock(with_min_hold!(store.lock(name))),
        }
    }

    fn was_done(&self, done: &DoneInfo) -> String {
        format!(
            "{}: not run again: it was done by {} at {}",
            self.args.lock,
            people::owner(&done.owner),
            humantime::format_rfc3339_seconds(done.at),
        )
    }

    /// Acquires a lease that still stands when it gets here.
    async fn acquire(&self, key: &Key, signals: &mut Signals) -> Result<Waited, Failure> {
        loop {
            match waiting::acquire(key, self.patience(), signals, self.global.quiet).await? {
                // This process was frozen between the acquisition and now: once more.
                Waited::Acquired(late) if !late.guard().is_held() => {
                    self.release(late, signals).await;
                }
                waited => return Ok(waited),
            }
        }
    }

    fn patience(&self) -> Patience {
        match (self.args.no_wait || self.args.skip_if_busy, self.args.wait) {
            (true, _) => Patience::Not,
            (false, Some(time)) => Patience::AtMost(time),
            (false, None) => Patience::ForEver,
        }
    }

    fn busy(&self, report: &mut Report) -> u8 {
        let (outcome, code) = match (self.args.skip_if_busy, self.args.wait) {
            (true, _) => ("skipped", 0),
            (false, Some(_)) => ("timed_out", self.args.conflict_exit_code.unwrap_or(exit::BUSY)),
            (false, None) => ("busy", self.args.conflict_exit_code.unwrap_or(exit::BUSY)),
        };
        report.outcome = outcome;
        code
    }

    /// From the acquisition to the release.
    async fn hold(
        &self,
        store: &Store,
        key: &Key,
        tenure: Tenure,
        signals: &mut Signals,
        watchdog: Option<&mut Watchdog>,
        report: &mut Report,
    ) -> Result<u8, Failure> {
        report.token = Some(tenure.guard().token().get());
        let ended = match self.start(store, key, tenure.guard(), signals, watchdog) {
            Ok(hold) => hold.until_end().await,
            Err(failure) => {
                report.outcome = "not_started";
                self.release(tenure, signals).await;
                return Err(failure);
            }
        };
        let (code, died_by) = code(ended.change);
        let lost = match tenure {
            Tenure::Run(run) if code == 0 && !ended.stopped => {
                let recorded = self.record(run, signals).await;
                recorded.inspect_err(|_| report.outcome = "unrecorded")?
            }
            tenure => self.release(tenure, signals).await,
        };
        if let Some(reason) = lost.as_ref().filter(|_| !ended.stopped && !self.global.quiet) {
            let name = &self.args.lock;
            people::say(&format!("{name}: the command finished without the lock: {reason}"));
        }
        report.typed = typed(&ended, died_by);
        let (outcome, code) = match (ended.stopped, lost.is_some()) {
            (true, _) => ("lost", exit::LOST),
            (false, true) => ("overrun", exit::OVERRUN),
            (false, false) => ("completed", code),
        };
        report.outcome = outcome;
        Ok(code)
    }

    fn start<'a>(
        &'a self,
        store: &Store,
        key: &Key,
        guard: &LockGuard,
        signals: &'a mut Signals,
        mut watchdog: Option<&'a mut Watchdog>,
    ) -> Result<Hold<'a>, Failure> {
        let watch = guard.watch();
        let status = watch.status();
        let deadline = Moment::at(status.boot_deadline, status.wall_deadline);
        let limits = self.policy.limits(deadline);
        if !guard.is_held() {
            let message = "the lease was lost before the command could be started";
            return Err(Failure::new(exit::LOST, message));
        }
        if let Some(watchdog) = &mut watchdog {
            watchdog.lease(self.policy.for_watchdog(limits));
        }
        let status_file = StatusFile::create(self.place, guard, &status)
            .inspect_err(|error| people::say(&format!("no status file: {error}")))
            .ok();
        let terminal = Terminal::find();
        let handed_over = terminal.to_hand_over();
        let prepare = Prepare {
            watchdog: watchdog.as_ref().map(|watchdog| watchdog.fd()),
            terminal: handed_over,
            die_with_parent: self.policy.stops(),
        };
        let status_path = status_file.as_ref().map(|file| file.path().as_os_str().to_owned());
        let environment: [(&str, Option<OsString>); 6] = [
            ("LEASELOCK_NAME", Some(guard.name().into())),
            ("LEASELOCK_TOKEN", Some(guard.token().to_string().into())),
            ("LEASELOCK_HOLDER", Some(guard.id().to_string().into())),
            ("LEASELOCK_STORE", Some(store.url().into())),
            ("LEASELOCK_STATUS_FILE", status_path),
            // None of those around it, either.
            ("LEASELOCK_PERMITS", key.permits().map(|permits| permits.to_string().into())),
        ];
        // Within another election's CMD, `run` leaves that one's term alone.
        let term = (self.after_loss == AfterLoss::Again)
            .then(|| ("LEASELOCK_TERM", Some(guard.token().to_string().into())));
        let environment = environment.into_iter().chain(term);
        let child = Child::start(&self.args.command, environment, prepare).inspect_err(|_| {
            // It may have got so far: both belong to nobody now.
            if let Some(watchdog) = &mut watchdog {
                watchdog.disarm();
            }
            if handed_over.is_some() && !terminal.is_ours() {
                terminal.give(nix::unistd::getpgrp());
            }
        })?;
        Ok(Hold {
            name: &self.args.lock,
            policy: self.policy,
            child,
            terminal,
            watch,
            limits,
            watchdog,
            signals,
            status_file,
            quiet: self.global.quiet,
            course: Course::default(),
        })
    }

    /// Records that CMD has succeeded. Answers why it was not ours any more, if so.
    async fn record(&self, run: OneRun, signals: &mut Signals) -> Result<Option<String>, Failure> {
        let result = serde_json::json!({ "exit_code": 0 });
        tokio::select! {
            biased;
            finished = run.finish(&result) => match finished {
                Ok(()) => Ok(None),
                Err(error) if error.kind() == ErrorKind::Lost => Ok(Some(error.to_string())),
                Err(error) => Err(error.into()),
            },
            signal = signals.request() => {
                let name = &self.args.lock;
                let message =
                    format!("{name}: {signal}: it is not known whether the success was recorded");
                Err(Failure::new(exit::UNAVAILABLE, message))
            }
        }
    }

    /// Answers why the lock was not ours any more, if so.
    async fn release(&self, tenure: Tenure, signals: &mut Signals) -> Option<String> {
        let warn = |text: String| {
            if !self.global.quiet {
                people::say(&format!("{}: {text}", self.args.lock));
            }
        };
        let unconfirmed = "the store did not confirm the release: the lock ends by itself";
        tokio::select! {
            biased;
            released = tenure.give_back() => match released {
                Ok(Release::Released) => {}
                Ok(Release::AlreadyLost(reason)) => return Some(reason.to_string()),
                Ok(Release::Unconfirmed) => warn(unconfirmed.to_owned()),
                Err(error) => warn(format!("{unconfirmed} ({})", exit::chain(&error))),
            },
            // The child is gone; whoever is that impatient need not wait for the store.
            signal = signals.request() => warn(format!("{signal}: {unconfirmed}")),
        }
        None
    }
}

/// Undoes an acquisition that is under way, and ends the session under which this process waited or
/// held, unless a (second) signal comes.
async fn withdraw(store: &Store, signals: &mut Signals) {
    tokio::select! {
        biased;
        _ = signals.request() => {}
        _ = clock::within(WITHDRAWAL, store.shutdown()) => {}
    }
}

/// Whether the lease was lost before CMD had ended by itself.
fn was_lost(ended: &Result<u8, Failure>, report: &Report) -> bool {
    match ended {
        Ok(_) => report.outcome == "lost",
        Err(failure) => failure.code() == exit::LOST,
    }
}

fn code(change: Change) -> (u8, Option<i32>) {
    match change {
        Change::Exited(code) => (u8::try_from(code & 0xff).unwrap_or(u8::MAX), None),
        Change::Killed(signal) | Change::Stopped(signal) => (exit::by_signal(signal), Some(signal)),
    }
}

/// ^C at the terminal went to the child's group only. Without `leaselock` it would have gone to the
/// whole job, and ended a script too: so it does, this process included, because a shell ends its
/// loop only when the command in it died of the signal. `$?` is the same.
fn typed(ended: &Ended, died_by: Option<i32>) -> Option<Signal> {
    let signal = Signal::try_from(died_by?).ok()?;
    (signal == Signal::SIGINT && ended.had_terminal).then_some(signal)
}

fn since(begun: Moment) -> Duration {
    Moment::now().boot.saturating_sub(begun.boot)
}

fn internal(error: std::io::Error) -> Failure {
    Failure::new(exit::INTERNAL, format!("cannot start: {error}"))
}
