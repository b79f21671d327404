//! The command that runs while the lock is held, and its process group.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::exit::{self, Failure};
use crate::process::{self, Change, Prepare};

/// A started child; it stays a zombie after its end until [`reap`](Self::reap).
#[derive(Debug)]
pub(crate) struct Child {
    /// The child's number is also its group's.
    group: Pid,
}

impl Child {
    /// Starts `command` directly, without a shell. Call it on the main thread: the child dies with
    /// the thread that forked it.
    pub(crate) fn start<'a>(
        command: &[OsString],
        environment: impl IntoIterator<Item = (&'a str, Option<OsString>)>,
        prepare: Prepare,
    ) -> Result<Self, Failure> {
        let Some((program, arguments)) = command.split_first() else {
            return Err(Failure::new(exit::USAGE, "no command was given"));
        };
        let mut command = Command::new(program);
        command.args(arguments);
        for (name, value) in environment {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        process::prepare(&mut command, prepare);
        let child = command.spawn().map_err(|error| not_started(program, &error))?;
        let group = i32::try_from(child.id())
            .map_err(|error| Failure::new(exit::INTERNAL, error.to_string()))?;
        Ok(Self { group: Pid::from_raw(group) })
    }

    pub(crate) fn group(&self) -> Pid {
        self.group
    }

    /// A change since the last look; the end is answered again and again.
    pub(crate) fn look(&self) -> Option<Change> {
        match process::look(self.group) {
            Ok(change) => change,
            // Somebody reaped it for us. It is gone; how it ended is not known.
            Err(_) => Some(Change::Exited(i32::from(exit::INTERNAL))),
        }
    }

    /// # Errors
    /// The group runs as another user.
    pub(crate) fn signal(&self, signal: Signal) -> nix::Result<()> {
        match killpg(self.group, signal) {
            Err(Errno::ESRCH) => Ok(()),
            other => other,
        }
    }

    /// Lets go of a child that has ended. Nobody else may signal its group afterwards, unless
    /// [`group_lives`](Self::group_lives): its number can then be given to another process.
    pub(crate) fn reap(&self) {
        while waitpid(self.group, None) == Err(Errno::EINTR) {}
    }

    /// Whether the reaped child left live processes in its group. As long as it did, the group's
    /// number is not given to another process.
    pub(crate) fn group_lives(&self) -> bool {
        let exists = || killpg(self.group, None::<Signal>) != Err(Errno::ESRCH);
        // Looked at again, because zombies may have been reaped while they were looked for.
        exists() && !only_zombies(self.group) && exists()
    }
}

fn not_started(program: &OsStr, error: &io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::NotFound => exit::NOT_FOUND,
        // The watchdog did not answer, or the machine is exhausted: CMD is not to blame.
        io::ErrorKind::BrokenPipe | io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => {
            exit::INTERNAL
        }
        _ => exit::NOT_EXECUTABLE,
    };
    Failure::new(code, format!("cannot start {}: {error}", Path::new(program).display()))
}

/// A signal counts zombies too, and some containers have no init that reaps them: they would be
/// waited for in vain. Reading every process takes a while, so ask only when there is a doubt.
fn only_zombies(group: Pid) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else {
        return false;
    };
    let mut found = false;
    for process in processes.flatten() {
        let number = process.file_name().to_str().is_some_and(|name| name.parse::<i32>().is_ok());
        if number && let Ok(stat) = fs::read_to_string(process.path().join("stat")) {
            match member_state(&stat, group) {
                Some('Z' | 'X') => found = true,
                Some(_) => return false,
                None => {}
            }
        }
    }
    // Nothing found: they ended meanwhile, or cannot be seen.
    found
}

/// The state in a line of /proc/N/stat, if that process is in `group`. The name, in parentheses,
/// may itself contain anything.
fn member_state(stat: &str, group: Pid) -> Option<char> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let its_group = fields.nth(1)?.parse::<i32>().ok()?;
    (its_group == group.as_raw()).then_some(state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_line_is_understood_whatever_its_name() {
        let group = Pid::from_raw(77);
        assert_eq!(member_state("80 (a) b) Z 1 77 77 0 -1", group), Some('Z'));
        assert_eq!(member_state("80 (sh) S 1 78 77 0 -1", group), None);
        assert_eq!(member_state("", group), None);
    }
}
