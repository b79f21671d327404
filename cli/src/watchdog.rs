//! A small process that ends the child when the wrapper cannot: when it is frozen, or gone.
//!
//! It is forked before anything else happens, and knows the child's group (told by the child
//! itself, before its exec) and the moments at which TERM and KILL are due (told anew with every
//! renewal). It looks at the clocks itself and needs nobody's help.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::clock::Moment;
use crate::limits::{Limits, Policy};
use crate::process;
use crate::status_file::Place;

/// Not `leaselock…`: `killall leaselock` must not end both.
const NAME: &std::ffi::CStr = c"lease-watchdog";
/// Timers stand still during suspend: never sleep longer without a look at the clocks.
const SLICE: Duration = Duration::from_millis(250);
/// How often a group is looked at that was told to end, once nobody else does.
const RECHECK: Duration = Duration::from_millis(20);
/// How long to wait for an answer; only a frozen watchdog does not answer at once.
const PATIENCE: u16 = 1_000;

/// What the watchdog says, in single bytes: it signalled the group …
const ACTED: u8 = b'a';
/// … and it will not signal the group any more.
const DISARMED: u8 = b'd';

/// The wrapper's handle.
#[derive(Debug)]
pub(crate) struct Watchdog {
    pid: Pid,
    socket: UnixStream,
    /// The newest limits, when they could not be handed over yet.
    unsent: Option<Limits>,
    gone: bool,
}

impl Watchdog {
    /// Call it before any thread exists. `leftover` is removed when the wrapper vanishes.
    pub(crate) fn start(policy: Policy, leftover: &Place) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        let pid = process::fork_detached(&theirs, NAME, |socket| watch(socket, policy, leftover))?;
        Ok(Self { pid, socket: ours, unsent: None, gone: false })
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// For [`process::prepare`].
    pub(crate) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// The lease was renewed: these are the moments now.
    pub(crate) fn lease(&mut self, limits: Limits) {
        self.unsent = Some(limits);
        self.send_again();
    }

    /// A frozen watchdog's socket may be full: then only the newest limits matter, later.
    pub(crate) fn send_again(&mut self) {
        if let Some(limits) = self.unsent
            && self.send(Message::Lease(limits)).is_ok()
        {
            self.unsent = None;
        }
    }

    /// Watch over this group again.
    pub(crate) fn arm(&mut self, group: Pid) {
        // The group is about to be ended by the wrapper itself; this is only the second line.
        let _ = self.send(Message::Arm(group));
    }

    /// Once this returns, the watchdog signals nobody any more, and the child may be reaped.
    /// Answers whether it had ended the group.
    pub(crate) fn disarm(&mut self) -> bool {
        let mut acted = false;
        let asked = self.send(Message::Disarm);
        if asked.and_then(|()| self.listen(&mut acted)).is_err() {
            // Frozen or gone: make sure, then take in what it said before.
            self.end();
            let _ = self.listen(&mut acted);
        }
        acted
    }

    /// The child has ended, or was never started.
    ///
    /// Without this call, the watchdog takes the closed socket for the wrapper's death, and ends
    /// the group: that is what a panic of the wrapper should do.
    pub(crate) fn dismiss(mut self) {
        self.end();
    }

    /// Whether it cannot watch over another CMD: it died, or did not answer and was ended.
    pub(crate) fn is_gone(&mut self) -> bool {
        self.gone || self.died()
    }

    /// Whether it died, which only somebody with KILL can bring about.
    pub(crate) fn died(&mut self) -> bool {
        if !self.gone {
            let seen = waitpid(self.pid, Some(WaitPidFlag::WNOHANG));
            self.gone = !matches!(seen, Ok(WaitStatus::StillAlive));
            return self.gone;
        }
        false
    }

    fn send(&mut self, message: Message) -> io::Result<()> {
        // A message is written whole or not at all: it is far smaller than the socket's buffer
        // granularity.
        self.socket.write_all(&message.encode())
    }

    /// Until it says that it is disarmed.
    fn listen(&mut self, acted: &mut bool) -> io::Result<()> {
        loop {
            let mut events = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            while poll(&mut events, PATIENCE) == Err(Errno::EINTR) {}
            let mut said = [0; 1];
            self.socket.read_exact(&mut said)?;
            match said[0] {
                DISARMED => return Ok(()),
                _ => *acted = true,
            }
        }
    }

    /// KILL also ends one that is stopped; its number is ours until it is waited for.
    fn end(&mut self) {
        if !self.gone {
            self.gone = true;
            let _ = kill(self.pid, Signal::SIGKILL);
            while waitpid(self.pid, None) == Err(Errno::EINTR) {}
        }
    }
}

/// What the watchdog is told; all messages have the same size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// Watch over this group.
    Arm(Pid),
    /// The lease lasts until then.
    Lease(Limits),
    /// The child has ended: leave the group's number alone, and answer.
    Disarm,
}

const WORDS: usize = 5;
const SIZE: usize = WORDS * 8;

impl Message {
    /// Does not allocate: it runs between fork and exec.
    pub(crate) fn encode(self) -> [u8; SIZE] {
        let words = match self {
            Self::Arm(group) => [1, u64::from(group.as_raw().unsigned_abs()), 0, 0, 0],
            Self::Lease(Limits { term, kill }) => {
                [2, nanos(term.boot), nanos(term.wall), nanos(kill.boot), nanos(kill.wall)]
            }
            Self::Disarm => [3, 0, 0, 0, 0],
        };
        let mut bytes = [0; SIZE];
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    fn decode(bytes: &[u8; SIZE]) -> Self {
        let mut words = [0; WORDS];
        for (word, place) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            let mut eight = [0; 8];
            eight.copy_from_slice(place);
            *word = u64::from_ne_bytes(eight);
        }
        let moment = |boot, wall| Moment { boot: time(boot), wall: time(wall) };
        match words[0] {
            1 => Self::Arm(Pid::from_raw(i32::try_from(words[1]).unwrap_or(0))),
            2 => Self::Lease(Limits {
                term: moment(words[1], words[2]),
                kill: moment(words[3], words[4]),
            }),
            _ => Self::Disarm,
        }
    }
}

/// `u64::MAX` stands for never; as a time it would be in the year 2554.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn time(nanos: u64) -> Duration {
    if nanos == u64::MAX { Duration::MAX } else { Duration::from_nanos(nanos) }
}

/// The watchdog's knowledge.
#[derive(Debug)]
struct Watch {
    policy: Policy,
    group: Option<Pid>,
    limits: Limits,
    sent: Option<Signal>,
    /// The wrapper is gone.
    alone: bool,
}

impl Watch {
    fn new(policy: Policy) -> Self {
        let never = Limits { term: Moment::NEVER, kill: Moment::NEVER };
        Self { policy, group: None, limits: never, sent: None, alone: false }
    }

    fn told(&mut self, message: Message) {
        match message {
            Message::Arm(group) => self.group = Some(group),
            // Once it was told to end, a group ends, even if a renewal succeeded meanwhile.
            Message::Lease(limits) if self.sent.is_none() => self.limits = limits,
            Message::Lease(_) => {}
            Message::Disarm => {
                self.group = None;
                self.sent = None;
            }
        }
    }

    fn abandoned(&mut self, now: Moment) {
        self.alone = true;
        self.limits = self.policy.hurry(self.limits, now);
    }

    /// The signal that is due now.
    fn due(&mut self, now: Moment) -> Option<(Pid, Signal)> {
        let group = self.group?;
        let signal = if self.limits.kill.reached(now) {
            Signal::SIGKILL
        } else if self.limits.term.reached(now) {
            Signal::SIGTERM
        } else {
            return None;
        };
        if self.sent == Some(signal) {
            return None;
        }
        if signal == Signal::SIGTERM {
            self.limits = self.policy.hurry(self.limits, now);
        }
        self.sent = Some(signal);
        Some((group, signal))
    }

    /// Nothing is left to signal. After KILL there is not, even if the group still exists: it may
    /// consist of zombies, which not every container's init reaps.
    fn has_done_all(&self) -> bool {
        let gone = |group| killpg(group, None::<Signal>).is_err();
        self.sent == Some(Signal::SIGKILL) || self.group.is_none_or(gone)
    }

    /// How long nothing can become due; `None` without end.
    fn idle(&self, now: Moment) -> Option<Duration> {
        self.group?;
        let next = match self.sent {
            None => self.limits.term.earlier(self.limits.kill),
            Some(Signal::SIGKILL) => Moment::NEVER,
            Some(_) => self.limits.kill,
        };
        let slice = if self.alone { RECHECK } else { SLICE };
        Some(next.left(now).min(slice))
    }
}

/// The watchdog's whole life. Plain system calls only.
fn watch(socket: BorrowedFd<'_>, policy: Policy, leftover: &Place) {
    let mut watch = Watch::new(policy);
    loop {
        wait(socket, &watch);
        if !watch.alone && !listen(socket, &mut watch) {
            watch.abandoned(Moment::now());
        }
        // What was told comes first: a renewal that was earned before everything was frozen
        // counts. Then the clocks, before anything else.
        if let Some((group, signal)) = watch.due(Moment::now()) {
            // Nobody could be told of an error.
            let _ = end_group(group, signal);
            // Into the socket's buffer, for `disarm` to find even if the wrapper looks later.
            let _ = nix::unistd::write(socket, &[ACTED]);
        }
        if watch.alone && watch.has_done_all() {
            leftover.remove();
            return;
        }
    }
}

fn wait(socket: BorrowedFd<'_>, watch: &Watch) {
    let timeout = match watch.idle(Moment::now()) {
        // Rounded up, or the last millisecond would be spent spinning.
        Some(idle) => {
            let millis = u16::try_from(idle.as_micros().div_ceil(1_000)).unwrap_or(u16::MAX);
            PollTimeout::from(millis)
        }
        None if watch.alone => PollTimeout::ZERO,
        None => PollTimeout::NONE,
    };
    // A closed socket is always ready: do not look at it any more.
    let mut events = [PollFd::new(socket, PollFlags::POLLIN)];
    let events = if watch.alone { &mut events[..0] } else { &mut events[..] };
    // All signals are blocked; whatever else happened, the clocks are looked at next.
    let _ = poll(events, timeout);
}

/// Takes in everything that was said. Answers whether the wrapper still exists.
fn listen(socket: BorrowedFd<'_>, watch: &mut Watch) -> bool {
    let mut bytes = [0; SIZE];
    loop {
        match nix::unistd::read(socket, &mut bytes) {
            Ok(SIZE) => {
                let message = Message::decode(&bytes);
                watch.told(message);
                if message == Message::Disarm {
                    let _ = nix::unistd::write(socket, &[DISARMED]);
                }
            }
            Err(Errno::EAGAIN) => return true,
            Err(Errno::EINTR) => {}
            // The end, or something that cannot be: nobody is there to trust.
            Ok(_) | Err(_) => return false,
        }
    }
}

/// A group that is stopped would not see TERM: it is continued.
///
/// # Errors
/// The group is gone, or not ours to signal (it runs as another user).
pub(crate) fn end_group(group: Pid, signal: Signal) -> nix::Result<()> {
    killpg(group, signal)?;
    if signal == Signal::SIGTERM {
        killpg(group, Signal::SIGCONT)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::OnLost;

    fn moment(seconds: u64) -> Moment {
        let time = Duration::from_secs(seconds);
        Moment { boot: time, wall: time }
    }

    fn watching(on_lost: OnLost) -> Watch {
        let policy = Policy::new(on_lost, Duration::from_secs(30), None).unwrap();
        let mut watch = Watch::new(policy);
        watch.told(Message::Lease(Limits { term: moment(20), kill: moment(25) }));
        watch.told(Message::Arm(Pid::from_raw(7)));
        watch
    }

    #[test]
    fn messages_survive_the_socket() {
        let limits = Limits { term: Moment::NEVER, kill: moment(9) };
        for message in
            [Message::Arm(Pid::from_raw(4_000_000)), Message::Lease(limits), Message::Disarm]
        {
            assert_eq!(Message::decode(&message.encode()), message);
        }
    }

    #[test]
    fn it_acts_by_the_clock_alone() {
        let mut watch = watching(OnLost::Term);
        let group = Pid::from_raw(7);
        assert_eq!(watch.due(moment(19)), None);
        assert_eq!(watch.idle(moment(10)), Some(SLICE));
        assert_eq!(watch.due(moment(20)), Some((group, Signal::SIGTERM)));
        assert_eq!(watch.due(moment(21)), None);
        watch.told(Message::Lease(Limits { term: moment(40), kill: moment(45) }));
        assert_eq!(watch.due(moment(25)), Some((group, Signal::SIGKILL)), "no way back");
        assert_eq!(watch.due(moment(26)), None);
    }

    #[test]
    fn after_a_freeze_of_everything_it_kills_at_once() {
        let mut watch = watching(OnLost::Term);
        assert_eq!(watch.due(moment(100)), Some((Pid::from_raw(7), Signal::SIGKILL)));
    }

    #[test]
    fn a_renewal_moves_the_moments() {
        let mut watch = watching(OnLost::Term);
        watch.told(Message::Lease(Limits { term: moment(40), kill: moment(45) }));
        assert_eq!(watch.due(moment(39)), None);
        assert!(watch.due(moment(40)).is_some());
    }

    #[test]
    fn alone_it_ends_the_group_at_once_and_within_the_lease() {
        let mut watch = watching(OnLost::Term);
        watch.abandoned(moment(10));
        assert_eq!(watch.due(moment(10)).map(|(_, signal)| signal), Some(Signal::SIGTERM));
        assert_eq!(watch.limits.kill, moment(15));
        let mut late = watching(OnLost::Term);
        late.abandoned(moment(23));
        assert_eq!(late.limits.kill, moment(25));
        let mut harsh = watching(OnLost::Kill);
        harsh.abandoned(moment(10));
        assert_eq!(harsh.due(moment(10)).map(|(_, signal)| signal), Some(Signal::SIGKILL));
    }

    #[test]
    fn disarmed_it_does_nothing() {
        let mut watch = watching(OnLost::Term);
        watch.told(Message::Disarm);
        assert_eq!(watch.due(moment(100)), None);
        assert_eq!(watch.idle(moment(100)), None);
    }
}
