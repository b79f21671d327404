//! A process that contends: the program starts itself as `peers worker …` and talks to it in lines
//! of JSON.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::clock::{self, Nanos};
use crate::contention::{Share, Span, contend};
use crate::contestant::{Contestant, Entry, Held};
use crate::held::{self, Holding};
use crate::referee::Referee;

/// Longer than anything that is asked of a worker takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a worker is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Take the lock again and again from `begin` to `end`; what is had from `from` on counts.
    Contend { name: String, hold: Duration, begin: Nanos, from: Nanos, end: Nanos },
    /// Take the lock and keep it.
    Lock { name: String },
    /// Give it back.
    Unlock,
    /// Tell whenever it is renewed, until killed.
    TellRenewals,
    /// Hold many locks at once.
    HoldMany { holding: Holding, count: usize, window: Duration },
}

/// What a worker answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Connected, and has taken a lock of its own once.
    Ready,
    Contended {
        share: Share,
    },
    Locked {
        at: Nanos,
    },
    /// The moment before it was given back.
    Unlocked {
        before: Nanos,
    },
    Renewed {
        at: Nanos,
    },
    HeldMany(held::Held),
    Failed {
        why: String,
    },
}

/// A worker, seen from who started it. Killed when dropped.
pub struct Worker {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Worker {
    /// Starts it and waits until it is ready.
    pub async fn start(entry: &Entry, ttl: Duration) -> Result<Self> {
        let mut worker = Self::spawn(entry, ttl)?;
        worker.ready().await?;
        Ok(worker)
    }

    pub fn spawn(entry: &Entry, ttl: Duration) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["worker", &entry.to_string(), &ttl.as_millis().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let orders = child.stdin.take().context("has standard input")?;
        let answers = child.stdout.take().context("has standard output")?;
        Ok(Self { child, orders, answers: BufReader::new(answers).lines() })
    }

    pub async fn ready(&mut self) -> Result<()> {
        match self.answer().await? {
            Answer::Ready => Ok(()),
            other => bail!("not ready but {other:?}"),
        }
    }

    pub async fn order(&mut self, order: &Order) -> Result<()> {
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        Ok(self.orders.write_all(&line).await?)
    }

    pub async fn answer(&mut self) -> Result<Answer> {
        let line = tokio::time::timeout(PATIENCE, self.answers.next_line()).await;
        let line = line.context("a worker does not answer")??.context("a worker has ended")?;
        match serde_json::from_str(&line)? {
            Answer::Failed { why } => bail!("{why}"),
            answer => Ok(answer),
        }
    }

    pub async fn locked(&mut self) -> Result<Nanos> {
        match self.answer().await? {
            Answer::Locked { at } => Ok(at),
            other => bail!("not locked but {other:?}"),
        }
    }

    /// Gives back, and tells the moment before.
    pub async fn unlock(&mut self) -> Result<Nanos> {
        self.order(&Order::Unlock).await?;
        match self.answer().await? {
            Answer::Unlocked { before } => Ok(before),
            other => bail!("not unlocked but {other:?}"),
        }
    }

    /// SIGKILL, now; the moment before.
    pub fn kill(&mut self) -> Result<Nanos> {
        let at = clock::now();
        self.child.start_kill()?;
        Ok(at)
    }

    /// Lets it end by itself.
    pub async fn end(self) -> Result<()> {
        let Self { mut child, orders, .. } = self;
        drop(orders);
        let _ = tokio::time::timeout(Duration::from_secs(5), child.wait()).await;
        Ok(())
    }
}

/// The worker itself.
pub async fn main(entry: &Entry, ttl: Duration) -> Result<()> {
    let done = work(entry, ttl).await;
    if let Err(error) = &done {
        say(&Answer::Failed { why: format!("{error:#}") })?;
    }
    done
}

async fn work(entry: &Entry, ttl: Duration) -> Result<()> {
    let contestant = entry.open(ttl).await?;
    contestant.lock(&format!("ready/{}", fastrand::u64(..))).await?.unlock().await?;
    say(&Answer::Ready)?;
    let mut held = None;
    let mut orders = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = orders.next_line().await? {
        say(&obey(serde_json::from_str(&line)?, entry, ttl, &*contestant, &mut held).await?)?;
    }
    Ok(())
}

async fn obey(
    order: Order,
    entry: &Entry,
    ttl: Duration,
    contestant: &dyn Contestant,
    held: &mut Option<Box<dyn Held>>,
) -> Result<Answer> {
    match order {
        Order::Contend { name, hold, begin, from, end } => {
            clock::sleep_until(begin).await;
            let referee = Referee::of(&name)?;
            let span = Span { from, end };
            let share = contend(contestant, &name, Some(&referee), hold, span).await?;
            Ok(Answer::Contended { share })
        }
        Order::Lock { name } => {
            *held = Some(contestant.lock(&name).await?);
            Ok(Answer::Locked { at: clock::now() })
        }
        Order::Unlock => {
            let held = held.take().context("nothing is held")?;
            let before = clock::now();
            held.unlock().await?;
            Ok(Answer::Unlocked { before })
        }
        Order::TellRenewals => tell_renewals(held.as_deref().context("nothing is held")?).await,
        Order::HoldMany { holding, count, window } => {
            Ok(Answer::HeldMany(held::hold_many(entry, holding, ttl, count, window).await?))
        }
    }
}

async fn tell_renewals(held: &dyn Held) -> Result<Answer> {
    let mut last = None;
    loop {
        let renewed = held.renewed();
        if let Some(at) = renewed.filter(|_| renewed != last) {
            say(&Answer::Renewed { at })?;
            last = renewed;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn say(answer: &Answer) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(answer)?)?;
    Ok(out.flush()?)
}
