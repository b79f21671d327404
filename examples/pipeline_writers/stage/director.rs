//! Starts the writers, listens to them, and under chaos freezes and kills them.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use fastrand::Rng;
use leaselock::clock::{Boot, Clock, SystemClock};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::actor::{ARGUMENT, Role};
use super::event::{Event, What};
use super::now;
use super::options::Options;
use crate::table::Layout;
use crate::writer::Error;

/// Where the run keeps what.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) store: String,
    pub(crate) locks: String,
    pub(crate) layout: Layout,
    /// Of this machine, for the logs of what was acknowledged.
    pub(crate) directory: PathBuf,
}

impl Place {
    pub(crate) fn acknowledged(&self, writer: usize) -> PathBuf {
        self.directory.join(format!("acknowledged-{writer}"))
    }
}

/// What was done to a writer, or what it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Told(What),
    Frozen,
    Thawed,
    Killed,
    Started,
}

/// What happened, when, and with whom.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) at: Boot,
    pub(crate) writer: usize,
    pub(crate) deed: Deed,
}

/// The whole run.
#[derive(Debug)]
pub(crate) struct Play {
    pub(crate) from: Boot,
    pub(crate) to: Boot,
    pub(crate) scenes: Vec<Scene>,
    /// What should not have happened.
    pub(crate) faults: Vec<String>,
}

/// Runs the writers for the time that was asked for. None of them outlives the call.
pub(crate) async fn direct(options: &Options, place: &Place) -> Result<Play, Error> {
    let mut director = Director::new(options.clone(), place.clone());
    let mut terminated = signal(SignalKind::terminate())?;
    let outcome = tokio::select! {
        outcome = director.run() => outcome,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
        _ = terminated.recv() => Err("terminated".into()),
    };
    director.end_all().await;
    outcome?;
    director.scenes.sort_by_key(|scene| scene.at);
    Ok(Play { from: director.from, to: now(), scenes: director.scenes, faults: director.faults })
}

#[derive(Debug)]
struct Writer {
    child: Child,
    pid: Pid,
    input: ChildStdin,
    restart: u32,
    /// Has been heard of: from then on it ends with this process, frozen or not.
    is_up: bool,
    token: u64,
    frozen: Option<Frozen>,
    was_killed: bool,
    has_ended: bool,
}

#[derive(Clone, Copy, Debug)]
struct Frozen {
    until: Until,
    at_the_latest: Boot,
}

#[derive(Clone, Copy, Debug)]
enum Until {
    /// Only by the time.
    Time,
    /// Somebody with a larger token has had a batch acknowledged.
    Succeeded { token: u64, not_before: Boot },
}

/// A line of a writer, or the end of them, and of which life of its.
type Line = (usize, u32, Option<String>);

#[derive(Debug)]
struct Director {
    options: Options,
    place: Place,
    rng: Rng,
    from: Boot,
    writers: Vec<Writer>,
    lines: UnboundedReceiver<Line>,
    line: UnboundedSender<Line>,
    scenes: Vec<Scene>,
    faults: Vec<String>,
    /// No more chaos, no more restarts.
    is_closing: bool,
    next_mischief: Boot,
    /// The next writer that is about to put is frozen.
    lies_in_wait: bool,
}

impl Director {
    fn new(options: Options, place: Place) -> Self {
        let (line, lines) = unbounded_channel();
        let from = now();
        Self {
            rng: Rng::with_seed(options.seed),
            from,
            writers: Vec::new(),
            lines,
            line,
            scenes: Vec::new(),
            faults: Vec::new(),
            is_closing: false,
            next_mischief: from.plus(options.ttl),
            lies_in_wait: false,
            options,
            place,
        }
    }

    async fn run(&mut self) -> Result<(), Error> {
        for number in 0..self.options.writers {
            let writer = self.start(number, 0).await?;
            self.writers.push(writer);
        }
        let end = self.from.plus(self.options.time);
        while now() < end && self.faults.is_empty() {
            self.listen_until(end.min(now().plus(TICK))).await?;
            if self.options.chaos {
                self.thaw_those_due();
                self.mischief();
            }
        }
        self.close().await
    }

    /// Lets all writers end by themselves.
    async fn close(&mut self) -> Result<(), Error> {
        self.is_closing = true;
        for writer in 0..self.writers.len() {
            self.thaw(writer);
            // One that is gone does not hear it.
            let _ = self.writers[writer].input.write_all(b"stop\n").await;
        }
        let patience = now().plus(self.options.ttl * 2 + LAST_PATIENCE);
        while now() < patience && self.writers.iter().any(|writer| !writer.has_ended) {
            self.listen_until(now().plus(TICK)).await?;
        }
        for (number, writer) in self.writers.iter().enumerate().filter(|(_, one)| !one.has_ended) {
            self.faults.push(format!("writer {number} ({}) did not stop", writer.pid));
        }
        Ok(())
    }

    /// Makes sure that no writer is left.
    async fn end_all(&mut self) {
        for writer in &mut self.writers {
            if !writer.has_ended {
                // Ends the frozen, too.
                let _ = writer.child.kill().await;
            }
        }
    }

    // --- writers ---

    async fn start(&mut self, writer: usize, restart: u32) -> Result<Writer, Error> {
        let role = Role {
            parent: std::process::id(),
            writer,
            restart,
            store: self.place.store.clone(),
            locks: self.place.locks.clone(),
            layout: self.place.layout.clone(),
            ttl: self.options.ttl,
            chaos: self.options.chaos,
            unfenced: self.options.unfenced,
            seed: self.rng.u64(..),
            acknowledged: self.place.acknowledged(writer),
        };
        // A group of its own: a terminal's ^C is for the director.
        let mut child = Command::new(std::env::current_exe()?)
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let pid = pid.ok_or("a writer ended at once")?;
        let mut input = child.stdin.take().ok_or("a writer has no input")?;
        let output = child.stdout.take().ok_or("a writer has no output")?;
        input.write_all(format!("{}\n", serde_json::to_string(&role)?).as_bytes()).await?;
        let line = self.line.clone();
        tokio::spawn(async move {
            let mut output = BufReader::new(output).lines();
            while let Ok(Some(text)) = output.next_line().await {
                let _ = line.send((writer, restart, Some(text)));
            }
            let _ = line.send((writer, restart, None));
        });
        self.note(writer, Deed::Started);
        Ok(Writer {
            child,
            pid,
            input,
            restart,
            is_up: false,
            token: 0,
            frozen: None,
            was_killed: false,
            has_ended: false,
        })
    }

    async fn listen_until(&mut self, until: Boot) -> Result<(), Error> {
        loop {
            let (writer, restart, line) = tokio::select! {
                biased;
                Some(line) = self.lines.recv() => line,
                () = SystemClock.sleep_until(until) => return Ok(()),
            };
            if self.writers[writer].restart != restart {
                continue;
            }
            match line {
                Some(line) => self.hear(writer, serde_json::from_str(&line)?).await,
                None => self.has_ended(writer).await?,
            }
            if now() >= until {
                return Ok(());
            }
        }
    }

    async fn hear(&mut self, writer: usize, event: Event) {
        let at = event.at();
        self.writers[writer].is_up = true;
        match event.what {
            What::Acquired { token } => self.writers[writer].token = token,
            What::Putting if self.options.chaos => {
                if self.lies_in_wait && !self.is_closing && self.may_freeze(writer) {
                    self.lies_in_wait = false;
                    self.freeze_before_its_put(writer);
                }
                // When it is thawed it goes on, and asks nobody again.
                let _ = self.writers[writer].input.write_all(b"go on\n").await;
            }
            What::Acknowledged { .. } => self.has_succeeded(self.writers[writer].token),
            _ => {}
        }
        self.scenes.push(Scene { at, writer, deed: Deed::Told(event.what) });
    }

    async fn has_ended(&mut self, writer: usize) -> Result<(), Error> {
        let status = self.writers[writer].child.wait().await?;
        let (killed, restart) = (self.writers[writer].was_killed, self.writers[writer].restart);
        let was_asked_to = killed || self.is_closing && status.success();
        if !was_asked_to {
            self.faults.push(format!("writer {writer} ended by itself: {status}"));
        }
        if killed && !self.is_closing {
            self.writers[writer] = self.start(writer, restart + 1).await?;
        } else {
            self.writers[writer].has_ended = true;
        }
        Ok(())
    }

    fn note(&mut self, writer: usize, deed: Deed) {
        self.scenes.push(Scene { at: now(), writer, deed });
    }

    // --- chaos ---

    fn mischief(&mut self) {
        if now() < self.next_mischief {
            return;
        }
        let pause = self.options.ttl.mul_f64(0.4 + self.rng.f64());
        self.next_mischief = now().plus(pause);
        let (choice, writer) = (self.rng.u8(0..10), self.rng.usize(0..self.writers.len()));
        match choice {
            0..=3 => self.lies_in_wait = true,
            4..=6 if self.may_freeze(writer) => {
                let time = self.options.ttl.mul_f64(1.2 + self.rng.f64());
                self.freeze(writer, Frozen { until: Until::Time, at_the_latest: now().plus(time) });
            }
            7..=9 if self.writers[writer].is_up && !self.writers[writer].was_killed => {
                self.kill(writer);
            }
            _ => {}
        }
    }

    /// Half of the writers go on at any time.
    fn may_freeze(&self, writer: usize) -> bool {
        let frozen = self.writers.iter().filter(|writer| writer.frozen.is_some()).count();
        let writer = &self.writers[writer];
        let is_at_work = writer.is_up && writer.frozen.is_none() && !writer.was_killed;
        is_at_work && frozen < self.writers.len() / 2
    }

    /// Until somebody has gone on in its place.
    fn freeze_before_its_put(&mut self, writer: usize) {
        let (at, ttl) = (now(), self.options.ttl);
        let token = self.writers[writer].token;
        let until = Until::Succeeded { token, not_before: at.plus(ttl) };
        self.freeze(writer, Frozen { until, at_the_latest: at.plus(ttl * 3 + LAST_PATIENCE) });
    }

    fn freeze(&mut self, writer: usize, frozen: Frozen) {
        if self.signal(writer, Signal::STOP) {
            self.writers[writer].frozen = Some(frozen);
            self.note(writer, Deed::Frozen);
        }
    }

    /// Somebody who holds this token has had a batch acknowledged.
    fn has_succeeded(&mut self, token: u64) {
        for frozen in self.writers.iter_mut().filter_map(|writer| writer.frozen.as_mut()) {
            if let Until::Succeeded { token: theirs, not_before } = frozen.until
                && token > theirs
            {
                *frozen = Frozen { until: Until::Time, at_the_latest: not_before };
            }
        }
    }

    fn thaw_those_due(&mut self) {
        for writer in 0..self.writers.len() {
            if self.writers[writer].frozen.is_some_and(|frozen| now() >= frozen.at_the_latest) {
                self.thaw(writer);
            }
        }
    }

    fn thaw(&mut self, writer: usize) {
        if self.writers[writer].frozen.take().is_some() {
            self.note(writer, Deed::Thawed);
            self.signal(writer, Signal::CONT);
        }
    }

    fn kill(&mut self, writer: usize) {
        if self.writers[writer].frozen.take().is_some() {
            self.note(writer, Deed::Thawed);
        }
        self.writers[writer].was_killed = true;
        self.note(writer, Deed::Killed);
        self.signal(writer, Signal::KILL);
    }

    fn signal(&self, writer: usize, signal: Signal) -> bool {
        let writer = &self.writers[writer];
        // Its number is its own until it has been waited for.
        !writer.has_ended && kill_process(writer.pid, signal).is_ok()
    }
}

const TICK: Duration = Duration::from_millis(20);

/// What a writer may take to come to an end besides waiting for a lease.
const LAST_PATIENCE: Duration = Duration::from_secs(10);
