//! The controlling terminal: the child's group gets it, as a shell would give it to a job.

use std::fs::File;
use std::io::IsTerminal;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::FileTypeExt;

use nix::sys::signal::{Signal, killpg, raise};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};

use crate::process;
use crate::report::Typed;

/// `None` inside when there is none (cron, CI, services).
#[derive(Debug)]
pub(crate) struct Terminal {
    device: Option<File>,
}

impl Terminal {
    pub(crate) fn find() -> Self {
        Self { device: File::options().read(true).write(true).open("/dev/tty").ok() }
    }

    /// The terminal, when the child should have it from the start: somebody sits there, and our
    /// output does not go to another program of the same job. In `leaselock run … | less` it is
    /// `less` that reads the keyboard; a child that wants to as well is stopped for it, and then
    /// gets it.
    pub(crate) fn to_hand_over(&self) -> Option<RawFd> {
        let sits_there = std::io::stdin().is_terminal() && self.is_ours();
        if sits_there && !output_is_piped() {
            self.device.as_ref().map(AsRawFd::as_raw_fd)
        } else {
            None
        }
    }

    /// Whether our own group is in the foreground.
    pub(crate) fn is_ours(&self) -> bool {
        self.belongs_to(getpgrp())
    }

    pub(crate) fn belongs_to(&self, group: Pid) -> bool {
        self.device.as_ref().is_some_and(|device| tcgetpgrp(device.as_fd()) == Ok(group))
    }

    pub(crate) fn exists(&self) -> bool {
        self.device.is_some()
    }

    /// Brings `group` to the foreground.
    pub(crate) fn give(&self, group: Pid) {
        if let Some(device) = &self.device {
            // It fails when the group or the terminal is gone; there is nothing to give then.
            let _ = process::without_stopping(|| tcsetpgrp(device.as_fd(), group));
        }
    }

    /// Brings our own group to the foreground, if `group` has it. Answers whether it had.
    pub(crate) fn take_back(&self, group: Pid) -> bool {
        let had = self.belongs_to(group);
        if had {
            self.give(getpgrp());
        }
        had
    }
}

/// Does to our own job what the terminal did to the child's group alone, because the child had it; or what
/// it would do to us if it were not told to leave keys to us.
pub(crate) fn signal_own_group(signal: Signal) {
    // Our own group always exists.
    let _ = killpg(getpgrp(), signal);
}

/// ^C ends this process as it would end one that does not care. A shell ends its loop, or its script,
/// only when the command in it died of the signal; `$?` is the same as after an exit with 130.
pub(crate) fn die_of(typed: Typed) {
    process::reset(Signal::SIGINT);
    match typed {
        // Without `leaselock` it would have gone to the whole job, and ended a script too.
        Typed::ToCmd => signal_own_group(Signal::SIGINT),
        // It fails for no signal that exists.
        Typed::ToJob => drop(raise(Signal::SIGINT)),
    }
}

fn output_is_piped() -> bool {
    let stdout = std::io::stdout().as_fd().try_clone_to_owned().map(File::from);
    stdout
        .and_then(|file| file.metadata())
        .is_ok_and(|data| data.file_type().is_fifo() || data.file_type().is_socket())
}
