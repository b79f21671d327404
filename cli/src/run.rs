//! `leaselock run`: take the lock, run the command, give the lock back.

use std::ffi::OsString;
use std::time::Duration;

use futures::future::join_all;
use leaselock::{DoneInfo, ErrorKind, FencingToken, Release, Run as OneRun, Store};

use crate::args::{Global, Run};
use crate::child::Child;
use crate::choice;
use crate::clock::{self, Moment};
use crate::exit::{self, Failure};
use crate::hold::{Course, Hold};
use crate::key::Key;
use crate::limits::Policy;
use crate::people;
use crate::process::{Change, Prepare};
use crate::report::{Report, Typed};
use crate::signals::Signals;
use crate::status_file::{Place, StatusFile};
use crate::tenure::Tenure;
use crate::terminal::{self, Terminal};
use crate::waiting::{self, Patience, Waited};
use crate::watchdog::Watchdog;

/// How long an interrupted wait may take to withdraw from the store.
pub(crate) const WITHDRAWAL: Duration = Duration::from_secs(5);
/// How long it may take to end a session, or to give back what a slower store of a quorum has, when the
/// lock has been given back. What is left then ends by itself.
const LEFTOVERS: Duration = Duration::from_secs(2);

/// What `run --help` says besides the options and the exit codes.
pub(crate) const LONG_HELP: &str = "\
Examples:
  leaselock run -n backup -- ./backup.sh           one at a time, or not at all
  leaselock run --wait 5m acct/4 acct/17 -- ./pay  both of them, or none
  leaselock run --limit 4 licences -- ./render     four at a time

CMD finds in its environment:
  LEASELOCK_NAME         LOCK; several, a line for each
  LEASELOCK_TOKEN        the fencing token: pass it on with every write that the
                         lock protects
  LEASELOCK_TOKENS       with several LOCKs, instead of LEASELOCK_TOKEN and
                         LEASELOCK_HOLDER: a line NAME=TOKEN for each
  LEASELOCK_HOLDER       the id of this acquisition
  LEASELOCK_PERMITS      with --limit: how many it has
  LEASELOCK_STORE        the store's URL, without credentials and options;
                         several, a line for each
  LEASELOCK_STATUS_FILE  a small JSON file that is kept current: name, token (or
                         tokens, by name), holder, state (held, at_risk, lost),
                         deadline (wall clock) and boot_deadline (seconds on
                         CLOCK_BOOTTIME)

A LOCK is one of three things, and stays it: a lock, which one holds; with
--shared and --exclusive one that many readers or one writer hold; with --limit
a semaphore. Readers that come after a waiting writer wait behind it. Whoever
holds or waits with one of these or --fair does so under a session, a second
small record that is renewed in place of LOCK's and ends with this process. All
who use a plain lock should say --fair or none of them: who does not gets it
only when nobody waits in the queue.

Several LOCKs are plain locks of one store. They are taken in the order of their
names, whatever order they are given in, so that those who want the same ones
never wait for each other in a circle. While a later one is waited for, the
earlier ones are held. The loss of one is the loss of all.

Several --store, an odd number that fail independently of each other, hold one
plain LOCK: while a majority of them says so. What a minority does, or does not
answer, neither frees nor blocks it; but a directory must exist, or be possible
to make, when this begins. Everybody has to name the same stores. `ls`, `show`
and `break` work on one of them at a time.

With --once, CMD is run under a lease on a key instead of a lock, and when it
exits with 0 that is recorded in the same place: whoever comes later exits with
0 and does not run it. Any other end of CMD is not recorded, and it may be run
again; so it is when this host dies, even after CMD has done its work. Keys and
locks of the same name have nothing to do with each other.

With --json, outcome is one of completed, busy, timed_out, skipped,
already_done, interrupted (by a signal, while waiting), not_started, lost (exit
code 120), overrun (121), unrecorded (CMD has succeeded, but that was not
recorded for certain) and failed. Several LOCKs have tokens, by name; token is
null then.

CMD runs in a process group of its own, which never outlives the lease. When the
lease is lost or cannot be renewed in time, the group gets TERM, and KILL after
--kill-grace, at the latest a moment before the lease ends. A separate watchdog
process does the same when leaselock itself is frozen (SIGSTOP) or killed. What
CMD leaves in its group when it ends is ended too, before the release.

What this does not cover:
  - A process that leaves the group (setsid, a daemon, a job of an interactive
    shell, a container started by another service).
  - A CMD that runs as another user, and so cannot be signalled (use
    `sudo leaselock run`, not `leaselock run … sudo`).
  - A machine, virtual machine or container that is frozen whole: CMD is killed
    as soon as it goes on, but may get a few instructions in first. That is what
    the fencing token is for.
  - ^Z at the terminal, or SIGSTOP: nothing renews the lease meanwhile, and the
    watchdog ends CMD when it runs out.
  - --on-lost warn: nothing stops CMD then, and there is no watchdog.

INT, TERM, HUP, QUIT, USR1 and USR2 are passed on to the group; the lease is
renewed until CMD has ended, and only then given back. While the lock is waited
for, they end the wait.";

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
    let locks = choice::names(args);
    let stores = global.stores().len();
    if stores > 1 && after_loss == AfterLoss::Again {
        return Err(Failure::new(exit::USAGE, "an election is held on one --store"));
    }
    choice::check(args, locks.len(), stores)?;
    let shortest = args.ttl.min(args.max_hold.unwrap_or(Duration::MAX));
    let policy = Policy::new(args.on_lost, shortest, args.kill_grace).map_err(|message| {
        Failure::new(exit::USAGE, message).hint("`leaselock config` tells where they are set")
    })?;
    let place = Place::choose();
    // First of all, while this process has one thread.
    let mut watchdog = match policy.stops() {
        true => Some(Watchdog::start(policy, &place).map_err(internal)?),
        false => None,
    };
    let mut report = Report::default();
    let name = locks.join(", ");
    let run = Running { global, args, locks, name, policy, place: &place, after_loss };
    let ended = crate::block_on(run.run(watchdog.as_mut(), &mut report));
    if let Some(watchdog) = watchdog {
        watchdog.dismiss();
    }
    let code = ended.unwrap_or_else(|failure| failure.print());
    if args.json {
        report.print(code);
    }
    if let Some(typed) = report.typed {
        terminal::die_of(typed);
    }
    Ok(code)
}

struct Running<'a> {
    global: &'a Global,
    args: &'a Run,
    /// In the order of their names, each once.
    locks: Vec<String>,
    /// All of them, for people.
    name: String,
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
        if let Some(watchdog) = &watchdog {
            signals.orphans.spare(watchdog.pid());
        }
        signals.orphans.reap();
        let begun = Moment::now();
        let opened = tokio::select! {
            biased;
            signal = signals.request() => return Ok(report.interrupted(signal)),
            opened = crate::open_all(self.global) => opened,
        };
        let stores = opened?;
        report.waited = since(begun);
        let key = choice::key(self.args, &self.locks, &stores)?;
        loop {
            let ended =
                self.round(&stores, &key, &mut signals, watchdog.as_deref_mut(), report).await;
            // What was typed at the terminal went to CMD alone, and is meant for this process too.
            let asked_to_end = signals.asked_to_end() || report.typed.is_some();
            let mut again = self.after_loss == AfterLoss::Again && !asked_to_end;
            again &= was_lost(&ended, report);
            if again && watchdog.as_mut().is_some_and(|watchdog| watchdog.is_gone()) {
                // Nothing can be started without it: this would be elected in vain.
                people::say(&format!("{}: not campaigning again without a watchdog", self.name));
                again = false;
            }
            if !again {
                if key.lingers() {
                    wind_up(&stores, &mut signals, LEFTOVERS).await;
                }
                return ended;
            }
            report.outcome = Report::default().outcome;
            if !self.global.quiet {
                people::say(&format!("{}: the lease was lost: campaigning again", self.name));
            }
        }
    }

    /// Waits for the lock, and holds it while CMD runs.
    async fn round(
        &self,
        stores: &[Store],
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
                let code = self.hold(stores, key, tenure, signals, watchdog, report).await;
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
                wind_up(stores, signals, WITHDRAWAL).await;
                Ok(report.interrupted(signal))
            }
        }
    }

    fn was_done(&self, done: &DoneInfo) -> String {
        format!(
            "{}: not run again: it was done by {} at {}",
            self.name,
            people::owner(&done.owner),
            humantime::format_rfc3339_seconds(done.at),
        )
    }

    /// Acquires a lease that still stands when it gets here.
    async fn acquire(&self, key: &Key, signals: &mut Signals) -> Result<Waited, Failure> {
        loop {
            match waiting::acquire(key, self.patience(), signals, self.global.quiet).await? {
                // This process was frozen between the acquisition and now: once more.
                Waited::Acquired(late) if !late.is_held() => {
                    self.release(late, signals).await;
                }
                waited => return Ok(waited),
            }
        }
    }

    fn patience(&self) -> Patience {
        Patience::of(self.args.busy.no_wait || self.args.skip_if_busy, self.args.busy.wait)
    }

    fn busy(&self, report: &mut Report) -> u8 {
        let (outcome, code) = match (self.args.skip_if_busy, self.args.busy.wait) {
            (true, _) => ("skipped", 0),
            (false, Some(_)) => ("timed_out", self.args.busy.code()),
            (false, None) => ("busy", self.args.busy.code()),
        };
        report.outcome = outcome;
        code
    }

    /// From the acquisition to the release.
    async fn hold(
        &self,
        stores: &[Store],
        key: &Key,
        tenure: Tenure,
        signals: &mut Signals,
        watchdog: Option<&mut Watchdog>,
        report: &mut Report,
    ) -> Result<u8, Failure> {
        let marks = tenure.marks();
        (report.token, report.tokens) =
            (marks.token().map(FencingToken::get), marks.tokens_as_json());
        let ended = match self.start(stores, key, &tenure, signals, watchdog) {
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
            let name = &self.name;
            people::say(&format!("{name}: the command finished without the lock: {reason}"));
        }
        report.typed = Typed::by(died_by, ended.had_terminal, signals.interrupted());
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
        stores: &[Store],
        key: &Key,
        tenure: &Tenure,
        signals: &'a mut Signals,
        mut watchdog: Option<&'a mut Watchdog>,
    ) -> Result<Hold<'a>, Failure> {
        let watch = tenure.watch();
        let status = watch.status();
        let deadline = Moment::at(status.boot_deadline, status.wall_deadline);
        let limits = self.policy.limits(deadline);
        if !tenure.is_held() {
            let message = "the lease was lost before the command could be started";
            return Err(Failure::new(exit::LOST, message));
        }
        if let Some(watchdog) = &mut watchdog {
            watchdog.lease(self.policy.for_watchdog(limits));
        }
        let marks = tenure.marks();
        let status_file = StatusFile::create(self.place, &self.name, &marks, &status)
            .inspect_err(|error| {
                people::say(&format!(
                    "{}: CMD has no status file ({error}); hint: set TMPDIR to where one can be",
                    self.name
                ));
            })
            .ok();
        let terminal = Terminal::find();
        let handed_over = terminal.to_hand_over();
        let prepare = Prepare {
            watchdog: watchdog.as_ref().map(|watchdog| watchdog.fd()),
            terminal: handed_over,
            die_with_parent: self.policy.stops(),
        };
        let status_path = status_file.as_ref().map(|file| file.path().as_os_str().to_owned());
        let lines = |lines: Vec<String>| Some(lines.join("\n").into());
        let token = marks.token().map(|token| OsString::from(token.to_string()));
        let tokens = marks.tokens().map(|tokens| tokens.iter());
        let tokens = tokens.map(|all| all.map(|(name, token)| format!("{name}={token}")).collect());
        let urls = stores.iter().map(|store| store.url().to_owned()).collect();
        // None where there is none: what a `run` around this one has set is another's.
        let environment: [(&str, Option<OsString>); 7] = [
            ("LEASELOCK_NAME", lines(self.locks.clone())),
            ("LEASELOCK_TOKEN", token.clone()),
            ("LEASELOCK_TOKENS", tokens.and_then(lines)),
            ("LEASELOCK_HOLDER", marks.holder().map(Into::into)),
            ("LEASELOCK_STORE", lines(urls)),
            ("LEASELOCK_STATUS_FILE", status_path),
            ("LEASELOCK_PERMITS", key.permits().map(|permits| permits.to_string().into())),
        ];
        // Within another election's CMD, `run` leaves that one's term alone.
        let term = (self.after_loss == AfterLoss::Again).then_some(("LEASELOCK_TERM", token));
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
        signals.orphans.spare(child.group());
        Ok(Hold {
            name: &self.name,
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
            signal = signals.insisted() => {
                let name = &self.name;
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
                people::say(&format!("{}: {text}", self.name));
            }
        };
        let unconfirmed = "the store did not confirm the release: the lock ends by itself";
        tokio::select! {
            biased;
            released = tenure.give_back() => match released {
                Ok(Release::Released) => {}
                Ok(Release::AlreadyLost(reason)) => return Some(reason.to_string()),
                Ok(Release::Unconfirmed) => warn(unconfirmed.to_owned()),
                Err(error) => warn(format!("{unconfirmed} ({error:#})")),
            },
            // The child is gone; whoever is that impatient need not wait for the store.
            signal = signals.insisted() => warn(format!("{signal}: {unconfirmed}")),
        }
        None
    }
}

/// Undoes an acquisition that is under way, and ends whatever of it lingers, unless that takes too long
/// or a (second) request comes.
pub(crate) async fn wind_up(stores: &[Store], signals: &mut Signals, limit: Duration) {
    tokio::select! {
        biased;
        _ = signals.insisted() => {}
        _ = clock::within(limit, join_all(stores.iter().map(Store::shutdown))) => {}
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

fn since(begun: Moment) -> Duration {
    Moment::now().boot.saturating_sub(begun.boot)
}

pub(crate) fn internal(error: std::io::Error) -> Failure {
    Failure::new(exit::INTERNAL, format!("cannot start: {error}"))
}
