//! The system calls that no safe wrapper offers: forking the watchdog, preparing the child between
//! its fork and its exec, looking at a child without reaping it.
#![allow(unsafe_code, reason = "the one file with unsafe code; each block says why it is sound")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::{ForkResult, Pid, chdir, fork, getpid, getppid, setpgid, setsid, tcsetpgrp};

use crate::watchdog::Message;

/// Where the watchdog's end of the socket is moved to.
const SOCKET: RawFd = 3;

/// Forks a process that runs `watch` and nothing else, in a session of its own, holding no file of
/// this one but `socket`.
///
/// Call it before any thread exists.
pub(crate) fn fork_detached(
    socket: &impl AsFd,
    name: &'static std::ffi::CStr,
    watch: impl FnOnce(BorrowedFd<'static>),
) -> nix::Result<Pid> {
    // SAFETY: the caller has started no thread yet (`run` forks before it builds its runtime or
    // calls the library), so no lock of the allocator or of anything else can be held by a thread
    // that does not exist in the new process.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let detached = detach(socket.as_fd(), name);
            let code = i32::from(detached.is_err());
            if let Ok(socket) = detached {
                watch(socket);
            }
            // Without running anything that belongs to the original process.
            // SAFETY: _exit has no preconditions.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Leaves the session, and lets go of every file, so that the watchdog neither dies by ^C nor keeps
/// a pipeline, a lock on a file or a mount alive.
fn detach(socket: BorrowedFd<'_>, name: &std::ffi::CStr) -> nix::Result<BorrowedFd<'static>> {
    setsid()?;
    // Blocked rather than handled: whoever signals everything, as a shutdown does, must not end
    // the watchdog before its child. It ends by itself once the socket is closed.
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)?;
    chdir("/")?;
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
    // SAFETY: all files of this process belong to it alone, and nothing but `socket` and `null`
    // is used from here on: `null` is at 3 or above, is duplicated before anything is closed,
    // and `socket` survives at its new place. Nothing owns the closed numbers in the new process,
    // which never returns into the code that opened them.
    unsafe {
        for standard in 0..SOCKET {
            Errno::result(libc::dup2(null.as_raw_fd(), standard))?;
        }
        std::mem::forget(null);
        if socket.as_raw_fd() != SOCKET {
            Errno::result(libc::dup2(socket.as_raw_fd(), SOCKET))?;
        }
        close_from(SOCKET + 1);
        rename(name);
        Ok(BorrowedFd::borrow_raw(SOCKET))
    }
}

/// # Safety
/// Nothing may use a file of this process whose number is `first` or above.
unsafe fn close_from(first: RawFd) {
    #[cfg(target_os = "linux")]
    // SAFETY: the caller's promise. The call itself takes three numbers.
    if unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) } == 0 {
        return;
    }
    // An older kernel, or another one.
    // SAFETY: getdtablesize has no preconditions; for close, the caller's promise.
    unsafe {
        let end = libc::sysconf(libc::_SC_OPEN_MAX).clamp(256, 65_536);
        for fd in first..i32::try_from(end).unwrap_or(65_536) {
            libc::close(fd);
        }
    }
}

/// Gives the process a name of its own: `killall leaselock` must not hit the watchdog too.
fn rename(name: &std::ffi::CStr) {
    #[cfg(target_os = "linux")]
    // SAFETY: PR_SET_NAME reads a NUL-terminated string, which `name` is.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
    }
    #[cfg(not(target_os = "linux"))]
    let _ = name;
}

/// What the child does between its fork and its exec.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prepare {
    /// Is told the new group before CMD can run: there is no moment without protection.
    pub(crate) watchdog: Option<RawFd>,
    /// The controlling terminal, when the child is to have it.
    pub(crate) terminal: Option<RawFd>,
    /// Whether the child gets TERM when this process dies.
    pub(crate) die_with_parent: bool,
}

/// Puts the child into a group of its own, and more.
pub(crate) fn prepare(command: &mut Command, prepare: Prepare) {
    let parent = getpid();
    let ready = move || -> io::Result<()> {
        setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
        if prepare.die_with_parent {
            die_with(parent)?;
        }
        if let Some(socket) = prepare.watchdog {
            arm(socket)?;
        }
        if let Some(terminal) = prepare.terminal {
            // SAFETY: the parent keeps the terminal open until the child has been started.
            let terminal = unsafe { BorrowedFd::borrow_raw(terminal) };
            without_stopping(|| tcsetpgrp(terminal, getpid()))?;
        }
        Ok(())
    };
    // SAFETY: the closure runs in the forked child of a process with several threads. It makes
    // system calls only (setpgid, prctl, getppid, write, sigmask, tcsetpgrp), on values copied
    // before the fork; it neither allocates nor takes a lock nor panics.
    unsafe {
        command.pre_exec(ready);
    }
}

/// Tells the watchdog of the new group.
fn arm(socket: RawFd) -> io::Result<()> {
    // Without the flag a watchdog that is gone would mean death by SIGPIPE here, and not an error
    // that the parent sees.
    #[cfg(target_os = "linux")]
    let flags = libc::MSG_NOSIGNAL;
    #[cfg(not(target_os = "linux"))]
    let flags = 0;
    let message = Message::Arm(getpid()).encode();
    // SAFETY: `message` is valid for reading its length.
    let sent = unsafe { libc::send(socket, message.as_ptr().cast(), message.len(), flags) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A second line beside the watchdog, which alone can end a whole group and one that ignores TERM.
fn die_with(parent: Pid) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    // SAFETY: PR_SET_PDEATHSIG takes a signal number.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // It may have died before the line above.
    if getppid() != parent {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

/// Runs a terminal call that a background process would be stopped for (SIGTTOU).
pub(crate) fn without_stopping(call: impl FnOnce() -> nix::Result<()>) -> nix::Result<()> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTTOU);
    let before = set.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let result = call();
    before.thread_set_mask()?;
    result
}

/// What happened to a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It ended with this code.
    Exited(i32),
    /// It died by this signal.
    Killed(i32),
    /// This signal stopped it.
    Stopped(i32),
}

/// Looks for a change of `child`. One that ended stays a zombie, so that its number, and that of
/// its group, cannot be given to another process; a stop is reported once.
pub(crate) fn look(child: Pid) -> io::Result<Option<Change>> {
    let (ends, stops) = (libc::WEXITED, libc::WSTOPPED);
    // Asked for both at once: there is nothing to stop any more in a child that has ended since it
    // was asked for its end alone, and the system says so with an error.
    while let Some(change) = waitid(Some(child), ends | stops | libc::WNOWAIT)? {
        let status = change.status;
        match change.code {
            libc::CLD_EXITED => return Ok(Some(Change::Exited(status))),
            // It may have gone on, or ended, since then.
            libc::CLD_STOPPED => {
                if let Ok(Some(stop)) = waitid(Some(child), stops) {
                    return Ok(Some(Change::Stopped(stop.status)));
                }
            }
            _ => return Ok(Some(Change::Killed(status))),
        }
    }
    Ok(None)
}

/// A child that has ended and was not waited for.
pub(crate) fn some_zombie() -> Option<Pid> {
    let found = waitid(None, libc::WEXITED | libc::WNOWAIT).ok()??;
    Some(Pid::from_raw(found.pid))
}

/// Lets go of a child that has ended.
pub(crate) fn reap(zombie: Pid) {
    // It ended, so this neither waits nor is interrupted.
    let _ = waitid(Some(zombie), libc::WEXITED);
}

/// Whether processes that lose their parent become children of this one.
pub(crate) fn adopts_orphans() -> bool {
    #[cfg(target_os = "linux")]
    let is_subreaper = nix::sys::prctl::get_child_subreaper().unwrap_or(false);
    #[cfg(not(target_os = "linux"))]
    let is_subreaper = false;
    is_subreaper || getpid() == Pid::from_raw(1)
}

struct Waited {
    pid: libc::pid_t,
    code: libc::c_int,
    status: libc::c_int,
}

/// Does not wait; `None` for `child` means any.
fn waitid(child: Option<Pid>, options: libc::c_int) -> io::Result<Option<Waited>> {
    // SAFETY: siginfo_t is plain data, for which all zeros is a valid value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let (which, id) = match child {
        Some(child) => (libc::P_PID, child.as_raw()),
        None => (libc::P_ALL, 0),
    };
    let id = libc::id_t::try_from(id).map_err(io::Error::other)?;
    // SAFETY: `info` is valid for writing a siginfo_t.
    let result = unsafe { libc::waitid(which, id, &raw mut info, options | libc::WNOHANG) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: waitid succeeded: either the structure was left zeroed, or its SIGCHLD fields set.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    Ok((pid != 0).then_some(Waited { pid, code: info.si_code, status }))
}

/// Whether this process was started with `signal` ignored (`nohup` does that to HUP, shells to INT
/// of background jobs): then it stays ignored, and CMD inherits that.
pub(crate) fn is_ignored(signal: Signal) -> bool {
    // SAFETY: sigaction is plain data, for which all zeros is a valid value.
    let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: without a new action the call only writes the present one to `now`.
    let result = unsafe { libc::sigaction(signal as i32, std::ptr::null(), &raw mut now) };
    result == 0 && now.sa_sigaction == libc::SIG_IGN
}

/// Lets `signal` do again what it does by default.
pub(crate) fn reset(signal: Signal) {
    // SAFETY: the default action runs no code of this process.
    let before = unsafe { nix::sys::signal::signal(signal, nix::sys::signal::SigHandler::SigDfl) };
    // It fails for KILL and STOP only, which have no other action.
    debug_assert!(before.is_ok());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A look that never rests often meets the very instant of the end.
    #[test]
    fn how_a_child_ended_is_known_whenever_it_is_looked_at() {
        for _ in 0..200 {
            let mut child = std::process::Command::new("true").spawn().expect("starts");
            let pid = Pid::from_raw(child.id().cast_signed());
            let change = loop {
                if let Some(change) = look(pid).expect("nobody else reaps it") {
                    break change;
                }
            };
            assert!(matches!(change, Change::Exited(0)), "{change:?}");
            child.wait().expect("is reaped");
        }
    }
}
