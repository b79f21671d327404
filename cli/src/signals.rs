//! The signals that the wrapper takes notice of.

use std::future::poll_fn;
use std::io;
use std::task::Poll;

use nix::sys::signal::Signal;
use tokio::signal::unix::{self, SignalKind, signal};

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

#[derive(Debug)]
pub(crate) struct Signals {
    requests: Vec<(Signal, unix::Signal)>,
    children: unix::Signal,
    continued: unix::Signal,
    asked_to_end: bool,
}

impl Signals {
    pub(crate) fn listen() -> io::Result<Self> {
        let mut requests = Vec::with_capacity(PASSED_ON.len());
        for wanted in PASSED_ON {
            // `nohup leaselock run …`: what is ignored stays so, for the child too.
            if !process::is_ignored(wanted) {
                requests.push((wanted, signal(SignalKind::from_raw(wanted as i32))?));
            }
        }
        let children = signal(SignalKind::child())?;
        let continued = signal(SignalKind::from_raw(Signal::SIGCONT as i32))?;
        Ok(Self { requests, children, continued, asked_to_end: false })
    }

    /// Whether any of the signals so far was meant to end the program.
    pub(crate) fn asked_to_end(&self) -> bool {
        self.asked_to_end
    }

    /// The next signal that somebody sent to the wrapper. Cancel safe.
    pub(crate) async fn request(&mut self) -> Signal {
        let Self { requests, asked_to_end, .. } = self;
        poll_fn(|context| {
            for (name, stream) in requests.iter_mut() {
                if stream.poll_recv(context).is_ready() {
                    *asked_to_end |= ENDING.contains(name);
                    return Poll::Ready(*name);
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Whatever comes next. Cancel safe.
    pub(crate) async fn next(&mut self) -> Notice {
        let Self { requests, children, continued, asked_to_end } = self;
        poll_fn(|context| {
            if children.poll_recv(context).is_ready() {
                return Poll::Ready(Notice::Child);
            }
            if continued.poll_recv(context).is_ready() {
                return Poll::Ready(Notice::Continued);
            }
            for (name, stream) in requests.iter_mut() {
                if stream.poll_recv(context).is_ready() {
                    *asked_to_end |= ENDING.contains(name);
                    return Poll::Ready(Notice::Request(*name));
                }
            }
            Poll::Pending
        })
        .await
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
