//! While the child runs: keep it within its lease, pass signals on, see how it ends.

use std::time::Duration;

use leaselock::{LeasePhase, LeaseStatus, LeaseWatch};
use nix::errno::Errno;
use nix::sys::signal::Signal;

use crate::child::Child;
use crate::clock::{self, Moment};
use crate::limits::{Limits, Policy};
use crate::people;
use crate::process::Change;
use crate::signals::{Notice, Signals};
use crate::status_file::StatusFile;
use crate::terminal::{self, Terminal};
use crate::watchdog::{Watchdog, end_group};

/// Timers stand still during suspend: never sleep longer without a look at the clocks.
const SLICE: Duration = Duration::from_millis(250);
/// A group that gets KILL and still lives is stuck in the kernel, where it does nothing.
const STUCK: Duration = Duration::from_secs(1);

pub(crate) struct Hold<'a> {
    pub(crate) name: &'a str,
    pub(crate) policy: Policy,
    pub(crate) child: Child,
    pub(crate) terminal: Terminal,
    pub(crate) watch: LeaseWatch,
    pub(crate) limits: Limits,
    pub(crate) watchdog: Option<&'a mut Watchdog>,
    pub(crate) signals: &'a mut Signals,
    pub(crate) status_file: Option<StatusFile>,
    pub(crate) quiet: bool,
    pub(crate) course: Course,
}

/// How far things have gone.
#[derive(Debug, Default)]
pub(crate) struct Course {
    /// There is nothing more to learn about the lease.
    settled: bool,
    at_risk: bool,
    /// People know that the command is ended because of the lease.
    told: bool,
    /// What the group was told, because of the lease.
    sent: Option<Signal>,
    /// The child was stopped by the terminal, and so this process is, or will be in a moment.
    suspended: Option<Moment>,
}

/// How the child ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) change: Change,
    /// It was stopped because of the lease.
    pub(crate) stopped: bool,
    pub(crate) had_terminal: bool,
}

impl Hold<'_> {
    pub(crate) async fn until_end(mut self) -> Ended {
        loop {
            self.enforce(Moment::now());
            let idle = self.idle();
            tokio::select! {
                biased;
                notice = self.signals.next() => match notice {
                    Notice::Child => {
                        if let Some(change) = self.child_changed() {
                            return self.finish(change).await;
                        }
                    }
                    Notice::Continued => self.resume(),
                    Notice::Request(signal) => self.pass_on(signal),
                },
                status = self.watch.changed(), if !self.course.settled => {
                    self.lease_changed(&status);
                }
                () = clock::sleep(idle) => {}
            }
        }
    }

    /// Does what is due.
    fn enforce(&mut self, now: Moment) {
        if self.course.suspended.is_some_and(|since| since.plus(SLICE).reached(now)) {
            // Nobody stopped us after all: an orphaned group is not stopped by terminal signals.
            self.resume();
        }
        if !self.policy.stops() {
            return;
        }
        if self.limits.kill.reached(now) {
            if self.course.sent != Some(Signal::SIGKILL) {
                self.end(Signal::SIGKILL);
            }
        } else if self.limits.term.reached(now) && self.course.sent.is_none() {
            self.end(Signal::SIGTERM);
            self.limits = self.policy.hurry(self.limits, now);
            let kill = self.limits.kill;
            if let Some(watchdog) = &mut self.watchdog {
                // It must not send TERM again: many programs take a second one as "at once".
                watchdog.lease(Limits { term: Moment::NEVER, kill });
            }
            // Last: whoever reads this may be slow.
            if !self.course.settled {
                self.say("the lease is about to end: stopping the command");
                self.course.told = true;
            }
        }
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.send_again();
        }
    }

    fn end(&mut self, signal: Signal) {
        self.course.sent = Some(signal);
        if end_group(self.child.group(), signal) == Err(Errno::EPERM) {
            self.say(
                "the command runs as another user and cannot be stopped: it may outlive the lease",
            );
        }
    }

    fn idle(&self) -> Duration {
        let next = match self.course.sent {
            None => self.limits.term.earlier(self.limits.kill),
            Some(Signal::SIGKILL) => Moment::NEVER,
            Some(_) => self.limits.kill,
        };
        next.left(Moment::now()).min(SLICE)
    }

    fn lease_changed(&mut self, status: &LeaseStatus) {
        match &status.phase {
            LeasePhase::Held | LeasePhase::AtRisk => self.lease_stands(status),
            LeasePhase::Lost(reason) => {
                self.course.settled = true;
                let now = Moment::now();
                self.limits = self.policy.hurry(self.limits, now);
                self.enforce(now);
                let course = if self.policy.stops() {
                    "stopping the command"
                } else {
                    "the command runs on"
                };
                self.say(&format!("the lease was lost ({reason}): {course}"));
                self.course.told = true;
            }
            // Given back, or something that this command does not know: no renewal will come, and
            // the limits stand.
            _ => self.course.settled = true,
        }
        if let Some(file) = &self.status_file
            && let Err(error) = file.write(status)
        {
            self.say(&format!("the status file is out of date: {error}"));
            // It must not claim what is no longer true.
            self.status_file = None;
        }
    }

    fn lease_stands(&mut self, status: &LeaseStatus) {
        let at_risk = status.phase == LeasePhase::AtRisk;
        if at_risk && !self.course.at_risk {
            self.say("the lease is at risk: the store has not acknowledged a renewal for long");
        }
        self.course.at_risk = at_risk;
        // Once it was told to end, a group ends, even if a renewal succeeds meanwhile.
        if self.course.sent.is_none() {
            let deadline = Moment::at(status.boot_deadline, status.wall_deadline);
            self.limits = self.policy.limits(deadline);
            if let Some(watchdog) = &mut self.watchdog {
                watchdog.lease(self.policy.for_watchdog(self.limits));
            }
        }
    }

    fn pass_on(&self, signal: Signal) {
        if self.child.signal(signal).is_err() {
            self.say(&format!("the command runs as another user: {signal} did not reach it"));
        }
    }

    /// Answers the child's end.
    fn child_changed(&mut self) -> Option<Change> {
        if let Some(watchdog) = &mut self.watchdog
            && watchdog.died()
        {
            self.signals.orphans.forget(watchdog.pid());
            self.say("the watchdog is gone: do not freeze or kill this process");
        }
        self.signals.orphans.reap();
        match self.child.look()? {
            Change::Stopped(signal) => {
                self.suspend(signal);
                None
            }
            end => Some(end),
        }
    }

    /// The terminal stopped the child: for ^Z, or because it is in the background.
    ///
    /// A stop that did not come from a terminal is the business of whoever caused it.
    fn suspend(&mut self, signal: i32) {
        let Ok(signal) = Signal::try_from(signal) else {
            return;
        };
        let wants_terminal = matches!(signal, Signal::SIGTTIN | Signal::SIGTTOU);
        if !self.terminal.exists() || !(wants_terminal || signal == Signal::SIGTSTP) {
            return;
        }
        let now = Moment::now();
        if wants_terminal && self.terminal.is_ours() {
            self.course.suspended = Some(now);
            self.resume();
            return;
        }
        self.terminal.take_back(self.child.group());
        if self.policy.stops() {
            let left = people::duration(self.limits.term.earlier(self.limits.kill).left(now));
            self.say(&format!(
                "the lease is not renewed while stopped: the command has {left} left"
            ));
        }
        self.course.suspended = Some(Moment::now());
        terminal::signal_own_group(signal);
    }

    fn resume(&mut self) {
        if self.course.suspended.take().is_none() {
            return;
        }
        if self.terminal.is_ours() {
            self.terminal.give(self.child.group());
        }
        self.pass_on(Signal::SIGCONT);
    }

    async fn finish(mut self, change: Change) -> Ended {
        let had_terminal = self.terminal.take_back(self.child.group());
        // The watchdog first: it must not signal a number that is not the child's any more.
        let mut acted = false;
        if let Some(watchdog) = &mut self.watchdog {
            acted = watchdog.disarm();
            if watchdog.is_gone() {
                self.signals.orphans.forget(watchdog.pid());
            }
        }
        let stopped = acted || self.course.sent.is_some();
        self.child.reap();
        self.signals.orphans.forget(self.child.group());
        self.signals.orphans.reap();
        if self.child.group_lives() {
            self.end_leftovers().await;
        }
        // Not before: whoever reads this may be slow, and the watchdog has let go.
        if stopped && !self.course.told {
            self.say("this was stopped for too long to renew the lease: the command was ended");
        }
        self.signals.settle();
        Ended { change, stopped, had_terminal }
    }

    /// Ends what the child left running in its group: it has no business after the release.
    async fn end_leftovers(&mut self) {
        if !self.policy.stops() {
            self.say("processes that the command left in the background run on without the lock");
            return;
        }
        let group = self.child.group();
        let now = Moment::now();
        let kill = self.limits.kill.earlier(now.plus(self.policy.grace));
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.lease(Limits { term: Moment::NEVER, kill });
            watchdog.arm(group);
        }
        self.say("stopping processes that the command left in the background");
        let _ = end_group(group, Signal::SIGTERM);
        let mut pause = Duration::from_millis(1);
        let mut killed = false;
        while self.child.group_lives() {
            let now = Moment::now();
            if kill.reached(now) && !killed {
                let _ = end_group(group, Signal::SIGKILL);
                killed = true;
            }
            if kill.plus(STUCK).reached(now) {
                self.say("a process that the command left in the background cannot be stopped");
                break;
            }
            clock::sleep(pause).await;
            self.signals.orphans.reap();
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.disarm();
        }
    }

    fn say(&self, text: &str) {
        if !self.quiet {
            people::say(&format!("{}: {text}", self.name));
        }
    }
}
