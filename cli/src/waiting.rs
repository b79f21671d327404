//! Taking the lock, and saying something while that lasts.

use std::convert::Infallible;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use leaselock::{DoneInfo, LockInfo};
use nix::sys::signal::Signal;

use crate::clock;
use crate::key::{Answer, Key};
use crate::people;
use crate::signals::Signals;
use crate::tenure::Tenure;

/// Shorter waits are nothing to talk about, and need no further request to the store.
const FIRST_WORD: Duration = Duration::from_millis(500);
/// The spinner's pace.
const TICK: Duration = Duration::from_millis(125);
/// How often the store is asked who holds the lock, in ticks of a spinner …
const TICKS_PER_LOOK: u32 = 40;
/// … and without one. Every look costs a request.
const BETWEEN_LINES: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    Not,
    AtMost(Duration),
    ForEver,
}

impl Patience {
    pub(crate) fn of(no_wait: bool, wait: Option<Duration>) -> Self {
        match (no_wait, wait) {
            (true, _) => Self::Not,
            (false, Some(time)) => Self::AtMost(time),
            (false, None) => Self::ForEver,
        }
    }
}

pub(crate) enum Waited {
    Acquired(Tenure),
    Busy(Box<LockInfo>),
    /// What is to be run once has been run.
    Done(Box<DoneInfo>),
    Interrupted(Signal),
}

/// When it answers `Interrupted`, an attempt may still be under way in the library: shut the store
/// down before leaving.
pub(crate) async fn acquire(
    key: &Key,
    patience: Patience,
    signals: &mut Signals,
    quiet: bool,
) -> leaselock::Result<Waited> {
    let talk = async {
        match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => std::future::pending().await,
            (false, true) => spin(key).await,
            (false, false) => tell(key).await,
        }
    };
    tokio::select! {
        biased;
        signal = signals.request() => Ok(Waited::Interrupted(signal)),
        answer = key.ask(patience) => Ok(match answer? {
            Answer::Ours(tenure) => Waited::Acquired(tenure),
            Answer::Busy(info) => Waited::Busy(info),
            Answer::Done(done) => Waited::Done(done),
        }),
        never = talk => match never {},
    }
}

/// For logs: one line at first, and one a minute.
async fn tell(key: &Key) -> Infallible {
    clock::sleep(FIRST_WORD).await;
    loop {
        people::say(&format!("waiting: {}", situation(key).await));
        clock::sleep(BETWEEN_LINES).await;
    }
}

/// For people: a line that moves, and vanishes in the end.
async fn spin(key: &Key) -> Infallible {
    clock::sleep(FIRST_WORD).await;
    let bar = ProgressBar::new_spinner().with_finish(ProgressFinish::AndClear);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} waiting: {wide_msg}") {
        bar.set_style(style);
    }
    loop {
        bar.set_message(situation(key).await);
        // Ticked from here rather than by indicatif's own thread: fewer threads at the fork.
        for _ in 0..TICKS_PER_LOOK {
            bar.tick();
            clock::sleep(TICK).await;
        }
    }
}

async fn situation(key: &Key) -> String {
    match key.situation().await {
        Ok(text) => text,
        // The attempt itself reports errors, or outlasts them.
        Err(_) => format!("the store does not say who holds {}", people::plain(&key.name())),
    }
}
