//! Who was started from here, and who was left to us.
//!
//! This process adopts what its descendants leave behind (it is their *subreaper*): the workers and
//! watchdogs of wrappers that were killed. So it can wait for them, as an init would, and can tell
//! in the end whether anything was left.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid,
};

use crate::process;

/// The children of this process.
#[derive(Debug, Default)]
pub(crate) struct Nursery {
    /// Those that somebody here waits for.
    own: Mutex<BTreeSet<i32>>,
}

impl Nursery {
    /// Adopts orphans from here on.
    pub(crate) fn new() -> io::Result<Self> {
        set_child_subreaper(Some(getpid()))?;
        Ok(Self::default())
    }

    /// Starts a child away from the terminal's ^C, which is for this process.
    pub(crate) fn start(&self, command: &mut Command) -> io::Result<Child> {
        let mut own = self.own();
        let child = command.process_group(0).spawn()?;
        own.insert(child.id().cast_signed());
        Ok(child)
    }

    /// Waits for one that was started here.
    pub(crate) fn wait(&self, child: Child) -> io::Result<Output> {
        let pid = child.id().cast_signed();
        let output = child.wait_with_output();
        self.own().remove(&pid);
        output
    }

    /// Waits for the orphans that have ended. Answers those that live.
    pub(crate) fn orphans(&self) -> Vec<String> {
        let own = self.own();
        let mut alive = Vec::new();
        for (pid, stat) in process::children(getpid().as_raw_nonzero().get()) {
            if own.contains(&pid) {
                continue;
            }
            if stat.state == 'Z' {
                let _ = waitpid(Pid::from_raw(pid), WaitOptions::NOHANG);
            } else {
                alive.push(format!("{pid} {} ({})", stat.name, stat.state));
            }
        }
        alive
    }

    /// Kills the orphans that live: all of them descend from here.
    pub(crate) fn end_orphans(&self) {
        let own = self.own();
        for (pid, _) in process::children(getpid().as_raw_nonzero().get()) {
            // A child's number is its own until it is waited for.
            if let Some(pid) = Pid::from_raw(pid).filter(|_| !own.contains(&pid)) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }

    fn own(&self) -> MutexGuard<'_, BTreeSet<i32>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
