//! Taking the lock, and saying something while that lasts.

use std::convert::Infallible;
use std::io::{self, Write};
use std::pin::pin;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use leaselock::{DoneInfo, LockInfo};
use nix::sys::signal::Signal;
use nix::unistd::{getpgrp, tcgetpgrp};

use crate::clock::{self, Moment};
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
/// Timers stand still during suspend: never sleep longer without a look at the clock.
const SLICE: Duration = Duration::from_secs(1);
/// A store that does not answer for so long is worth a word.
const ANSWER: Duration = Duration::from_secs(10);

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
        match quiet {
            true => std::future::pending().await,
            false => talk(key).await,
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

async fn talk(key: &Key) -> Infallible {
    let begun = Moment::now();
    pause(FIRST_WORD).await;
    loop {
        let bar = ProgressBar::new_spinner().with_finish(ProgressFinish::AndClear);
        // Hidden where there is no terminal, or one that cannot go back in a line.
        if !bar.is_hidden() && is_in_front() {
            spin(key, bar.with_elapsed(Moment::now().boot.saturating_sub(begun.boot))).await;
        } else {
            people::say(&format!("waiting: {}", situation(key).await));
            pause(BETWEEN_LINES).await;
        }
    }
}

/// For people: a line that moves, and vanishes in the end. Returns when it would be in the way.
async fn spin(key: &Key, bar: ProgressBar) {
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} waiting: {wide_msg}") {
        bar.set_style(style);
    }
    bar.set_message(people::plain(&key.name()));
    loop {
        let mut look = pin!(situation(key));
        // Ticked from here rather than by indicatif's own thread: fewer threads at the fork.
        let seen = loop {
            tokio::select! {
                biased;
                seen = &mut look => break seen,
                stays = tick(&bar) => if !stays {
                    return;
                },
            }
        };
        bar.set_message(seen);
        for _ in 0..TICKS_PER_LOOK {
            if !tick(&bar).await {
                return;
            }
        }
    }
}

/// Draws the line anew. Answers whether it may stay.
async fn tick(bar: &ProgressBar) -> bool {
    if !is_in_front() {
        // What is on the screen is the shell's now, and is not cleared.
        bar.set_draw_target(ProgressDrawTarget::hidden());
        return false;
    }
    bar.tick();
    // The cursor was at the edge, where the terminal would show ^C on a line of its own, and that would be
    // cleared in the end instead of this one.
    let _ = io::stderr().write_all(b"\x1b[4D");
    clock::sleep(TICK).await;
    true
}

/// Whether the terminal is not another job's: in the background of a shell, its prompt is there.
fn is_in_front() -> bool {
    // It fails where the terminal controls nobody here.
    tcgetpgrp(io::stderr()).map_or(true, |group| group == getpgrp())
}

async fn pause(time: Duration) {
    let end = Moment::now().plus(time);
    while !end.reached(Moment::now()) {
        clock::sleep(end.left(Moment::now()).min(SLICE)).await;
    }
}

async fn situation(key: &Key) -> String {
    match clock::within(ANSWER, key.situation()).await {
        Some(Ok(text)) => text,
        // The attempt itself reports errors, or outlasts them.
        _ => format!("the store does not say who holds {}", people::plain(&key.name())),
    }
}
