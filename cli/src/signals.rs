//! The signals that the wrapper takes notice of.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{self, SignalKind, signal};

use crate::clock::Moment;
use crate::orphans::Orphans;
use crate::process;

/// They end the wait for a lock, and are passed on to a running child.
const PASSED_ON: [Signal; 6] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// Those that mean the end. A HUP may only ask CMD to read its configuration again.
const ENDING: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGQUIT];

/// Signals that come so soon after each other are one request. `timeout` signals its command and then
/// its whole group, a service manager every process, and a program that is told to end tells those
/// that it started, whom somebody else has told too.
const ONE_REQUEST: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Signals {
    requests: Vec<(Signal, unix::Signal)>,
    children: unix::Signal,
    continued: unix::Signal,
    asked_to_end: bool,
    interrupted: bool,
    /// When the last request began.
    last_request: Option<Moment>,
    pub(crate) orphans: Orphans,
}

impl Signals {
    /// Call it before there are other threads: they inherit what is blocked.
    pub(crate) fn listen() -> io::Result<Self> {
        // Some programs block signals and start others so. Without the children's this process would
        // never learn of CMD's end, and renew for ever. CMD starts with none blocked in any case.
        SigSet::empty().thread_set_mask()?;
        let mut requests = Vec::with_capacity(PASSED_ON.len());
        for wanted in PASSED_ON {
            // `nohup leaselock run …`: what is ignored stays so, for the child too.
            if !process::is_ignored(wanted) {
                requests.push((wanted, signal(SignalKind::from_raw(wanted as i32))?));
            }
        }
        let children = signal(SignalKind::child())?;
        let continued = signal(SignalKind::from_raw(Signal::SIGCONT as i32))?;
        Ok(Self {
            requests,
            children,
            continued,
            asked_to_end: false,
            interrupted: false,
            last_request: None,
            orphans: Orphans::new(),
        })
    }

    /// Whether any of the signals so far was meant to end the program.
    pub(crate) fn asked_to_end(&self) -> bool {
        self.asked_to_end
    }

    /// Whether there was an INT.
    pub(crate) fn interrupted(&self) -> bool {
        self.interrupted
    }

    /// The next signal that somebody sent to the wrapper, while it has no child. Cancel safe.
    pub(crate) async fn request(&mut self) -> Signal {
        let signal = poll_fn(|context| self.poll_childless(context)).await;
        self.last_request = Some(Moment::now());
        signal
    }

    /// The next one that is a request of its own, and not the same stop once more: whoever sends it does
    /// not want to wait any longer. Cancel safe.
    pub(crate) async fn insisted(&mut self) -> Signal {
        loop {
            let signal = poll_fn(|context| self.poll_childless(context)).await;
            let now = Moment::now();
            if self.last_request.is_none_or(|last| last.plus(ONE_REQUEST).reached(now)) {
                self.last_request = Some(now);
                return signal;
            }
        }
    }

    /// CMD has ended: what was meant for it, and came too late, is not about what follows.
    pub(crate) fn settle(&mut self) {
        while self.request().now_or_never().is_some() {}
    }

    /// Whatever comes next, while it has a child. Cancel safe.
    pub(crate) async fn next(&mut self) -> Notice {
        let notice = poll_fn(|context| {
            if self.children.poll_recv(context).is_ready() {
                return Poll::Ready(Notice::Child);
            }
            if self.continued.poll_recv(context).is_ready() {
                return Poll::Ready(Notice::Continued);
            }
            self.poll_request(context).map(Notice::Request)
        })
        .await;
        if matches!(notice, Notice::Request(_)) {
            self.last_request = Some(Moment::now());
        }
        notice
    }

    fn poll_childless(&mut self, context: &mut Context<'_>) -> Poll<Signal> {
        if self.orphans.come_here() {
            while self.children.poll_recv(context).is_ready() {
                self.orphans.reap();
            }
        }
        self.poll_request(context)
    }

    fn poll_request(&mut self, context: &mut Context<'_>) -> Poll<Signal> {
        for (name, stream) in &mut self.requests {
            if stream.poll_recv(context).is_ready() {
                self.asked_to_end |= ENDING.contains(name);
                self.interrupted |= *name == Signal::SIGINT;
                return Poll::Ready(*name);
            }
        }
        Poll::Pending
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Notice {
    /// Something happened to a child.
    Child,
    /// The wrapper was stopped, and goes on.
    Continued,
    Request(Signal),
}
