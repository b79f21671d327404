//! Processes by their descriptors, which name them for good: a number alone may meanwhile belong to
//! somebody else.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A process of this run.
#[derive(Debug)]
pub(crate) struct Process {
    descriptor: OwnedFd,
    pid: i32,
}

impl Process {
    /// The process of this number. The caller knows that it exists: a child that was not waited
    /// for, or one that has just been heard of.
    pub(crate) fn open(pid: i32) -> io::Result<Self> {
        let number = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self { descriptor: pidfd_open(number, PidfdFlags::empty())?, pid })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it got there; not, if it has ended.
    pub(crate) fn signal(&self, signal: Signal) -> bool {
        pidfd_send_signal(&self.descriptor, signal).is_ok()
    }

    /// Whether it has ended, be it that nobody has waited for it yet.
    pub(crate) fn is_dead(&self) -> bool {
        let mut look = [PollFd::new(&self.descriptor, PollFlags::IN)];
        poll(&mut look, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }
}

/// What /proc says about a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) name: String,
    pub(crate) state: char,
    pub(crate) parent: i32,
    /// When it started, in ticks since boot: with the number, its name.
    pub(crate) started: u64,
}

/// `None` when there is no such process.
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse(line: &str) -> Option<Stat> {
    // The name may itself contain parentheses and blanks.
    let (head, fields) = line.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let fields: Vec<_> = fields.split_ascii_whitespace().collect();
    Some(Stat {
        name: name.to_owned(),
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

/// Children of `parent`, with what /proc says about them.
pub(crate) fn children(parent: i32) -> Vec<(i32, Stat)> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?)))
        .filter(|(_, stat)| stat.parent == parent)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_is_understood_whatever_the_name() {
        let line = "80 (a) b (c) S 7 80 80 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 4711 5 6";
        let stat = parse(line).unwrap();
        assert_eq!((stat.name.as_str(), stat.state), ("a) b (c", 'S'));
        assert_eq!((stat.parent, stat.started), (7, 4711));
    }

    #[test]
    fn a_child_is_found_and_seen_to_end() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let process = Process::open(pid).unwrap();
        let us = i32::try_from(std::process::id()).unwrap();
        assert!(children(us).iter().any(|(found, _)| *found == pid));
        assert!(!process.is_dead());
        assert!(process.signal(Signal::KILL));
        child.wait().unwrap();
        assert!(process.is_dead() && !process.signal(Signal::KILL));
    }
}
