//! One of those who run the command again and again under the same lock.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use fastrand::Rng;
use leaselock_test_support::emulators::Backend;

use crate::arena::Arena;
use crate::log::Account;
use crate::nursery::Nursery;
use crate::profile::Profile;
use crate::worker::{ALONE, REFUSED};

/// How the lock is taken out of play, to see that the referee notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sabotage {
    /// Workers run without the lock, with tokens that rise.
    NoLock,
    /// Nothing ends a worker whose lease has ended (`--on-lost warn`).
    NoWatchdog,
    /// Clocks whose rates differ by more than leases allow for.
    Clocks,
}

/// What all runs on one store have in common.
#[derive(Debug)]
pub(crate) struct Setting<'a> {
    pub(crate) arena: &'a Arena,
    pub(crate) nursery: &'a Nursery,
    pub(crate) command: &'a Path,
    pub(crate) url: String,
    /// Which store, for the referee.
    pub(crate) store: usize,
    pub(crate) referee: SocketAddr,
    /// For the commands' files and logs.
    pub(crate) directory: PathBuf,
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) over: &'a AtomicBool,
    /// When it began, and how long a turn takes.
    pub(crate) begun: Instant,
    pub(crate) turn: Duration,
}

/// The last logs that are kept, for somebody who looks for the cause of a violation.
const LOGS: usize = 200;
/// A worker whose wrapper was killed is ended by its watchdog, before the lease ends.
const WORKER_PATIENCE: Duration = Duration::from_secs(20);
/// `leaselock run` exits with these when the lease was lost.
const LOST: [i32; 2] = [120, 121];
/// … and with this when the store did not answer for long.
const UNAVAILABLE: i32 = 69;
/// … and `leaselock elect` with this when its watchdog goes while it campaigns again.
const UNWATCHED: i32 = 70;
/// Tokens for workers without a lock.
static INVENTED: AtomicU64 = AtomicU64::new(1);

/// How one run is to be.
#[derive(Clone, Debug)]
struct Plan {
    ttl: Duration,
    hold: Duration,
    permits: u32,
    /// Another lock at once.
    another: bool,
    stubborn: bool,
    /// Milliseconds ahead, and millionths too fast.
    clock: (i64, i32),
}

impl Plan {
    fn draw(backend: Backend, profile: Profile, rng: &mut Rng) -> Self {
        // Where racing for one key is slow, a renewal needs more time.
        let least = if backend == Backend::Seaweedfs { 3 } else { 2 };
        let ttl = Duration::from_secs(least + [0, 0, 0, 1, 1, 3][rng.usize(..6)]);
        let hold = match rng.u8(..10) {
            0..4 => Duration::from_millis(rng.u64(50..300)),
            4..7 => ttl.mul_f64(0.3 + 0.7 * rng.f64()),
            _ => ttl.mul_f64(1.2 + rng.f64()),
        };
        let hour = 3_600_000;
        let ahead = [0, 0, hour, -hour, 24 * hour, -24 * hour, rng.i64(-5_000..5_000)];
        let fast = [0, 0, 5_000, -5_000, 30_000, -30_000];
        let clock = (ahead[rng.usize(..ahead.len())], fast[rng.usize(..fast.len())]);
        let permits = profile.draw(rng);
        let another = profile.draw_another(rng);
        Self { ttl, hold, permits, another, stubborn: rng.u8(..10) < 3, clock }
    }
}

impl Setting<'_> {
    /// What is in play at this place now. Stores are not all at the same.
    fn profile(&self, place: usize) -> Profile {
        let turn = self.begun.elapsed().div_duration_f64(self.turn) as usize;
        Profile::in_turn(turn + self.store, place)
    }

    /// Runs the command until it is over.
    pub(crate) fn contend(&self, place: usize, seed: u64) {
        let mut rng = Rng::with_seed(seed);
        while !self.over.load(Ordering::SeqCst) {
            let profile = self.profile(place);
            let section = profile.section();
            let mut plan = Plan::draw(self.arena.backend, profile, &mut rng);
            let user = self.arena.begins(section, plan.permits);
            if self.sabotage.is_some() {
                // Long enough to be there when the next one comes.
                plan.hold = plan.ttl * 3;
            }
            match self.run(section, user, &plan) {
                Ok(true) => {}
                // There was nothing to do: others have done it.
                Ok(false) => std::thread::sleep(Duration::from_millis(rng.u64(100..600))),
                Err(error) => {
                    self.arena.tally.violation(format!("{user} could not be run: {error}"));
                    return;
                }
            }
        }
    }

    /// Runs the command once. Answers whether it had anything to do.
    fn run(&self, section: usize, user: usize, plan: &Plan) -> io::Result<bool> {
        let log = self.log(user);
        let mut command = match self.sabotage {
            Some(Sabotage::NoLock) => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(self.worker(section, user, plan));
                let token = INVENTED.fetch_add(1, Ordering::SeqCst);
                command.env("LEASELOCK_TOKEN", token.to_string());
                command
            }
            sabotage => self.wrapper(section, user, plan, sabotage)?,
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        command.current_dir(&self.directory);
        let start = || self.nursery.start(&mut command);
        let child = self.arena.start(user, section, plan.ttl, start)?;
        let status = self.nursery.wait(child)?.status;
        // Gone, where very many have begun since: see below.
        let said = fs::read_to_string(&log).unwrap_or_default();
        if !self.over.load(Ordering::SeqCst)
            && let Some(fault) = self.fault(section, user, status)
        {
            let end: Vec<_> = said.lines().rev().take(12).collect();
            let end: Vec<_> = end.into_iter().rev().collect();
            self.arena.tally.violation(format!("{user} ended with {fault}:\n{}", end.join("\n")));
        }
        self.arena.tally.account(&Account::of(&said));
        if !self.arena.is_over(user, section, WORKER_PATIENCE) {
            let text = format!("the worker of {user} outlived its wrapper by {WORKER_PATIENCE:?}");
            self.arena.tally.violation(text);
        }
        let worked = !status.success() || self.arena.succeeded(section, user);
        if let Some(old) = user.checked_sub(LOGS) {
            // It may belong to a run that is not over yet, which then goes unread.
            let _ = fs::remove_file(self.log(old));
        }
        Ok(worked)
    }

    fn log(&self, user: usize) -> PathBuf {
        self.directory.join(format!("{user}.log"))
    }

    fn wrapper(
        &self,
        section: usize,
        user: usize,
        plan: &Plan,
        sabotage: Option<Sabotage>,
    ) -> io::Result<Command> {
        let mut command = Command::new(self.command);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("LEASELOCK_") {
                command.env_remove(name);
            }
        }
        let (ahead, fast) = plan.clock;
        self.arena.tally.numbers().wrong_clocks += u64::from(plan.clock != (0, 0));
        command.env("LEASELOCK_LOG", "leaselock=debug");
        let fast = match sabotage {
            Some(Sabotage::Clocks) if user.is_multiple_of(2) => -300_000,
            Some(Sabotage::Clocks) => 300_000,
            _ => fast,
        };
        command.env("LEASELOCK_TEST_CLOCK", format!("{ahead} {fast}"));
        command.env("XDG_RUNTIME_DIR", &self.directory);
        let profile = self.arena.section(section).profile();
        command.env("LEASELOCK_STORE", &self.url).env("LEASELOCK_CONFIG", "");
        command.arg(profile.subcommand());
        command.args(["--quiet", "--json", "--no-check"]);
        command.args(["--ttl", &format!("{}ms", plan.ttl.as_millis())]);
        command.args(["--owner", &user.to_string()]);
        if sabotage == Some(Sabotage::NoWatchdog) {
            command.args(["--on-lost", "warn"]);
        }
        command.args(profile.arguments(plan.permits, plan.another));
        command.arg("--").arg(std::env::current_exe()?);
        command.args(self.worker(section, user, plan));
        Ok(command)
    }

    fn worker(&self, section: usize, user: usize, plan: &Plan) -> Vec<String> {
        let mut arguments = vec!["worker".to_owned()];
        for (name, value) in [
            ("--referee", self.referee.to_string()),
            ("--store", self.store.to_string()),
            ("--section", section.to_string()),
            ("--user", user.to_string()),
            ("--hold-ms", plan.hold.as_millis().to_string()),
        ] {
            arguments.extend([name.to_owned(), value]);
        }
        if plan.stubborn {
            arguments.push("--stubborn".to_owned());
        }
        arguments
    }

    /// An end that nothing explains.
    fn fault(&self, section: usize, user: usize, status: ExitStatus) -> Option<String> {
        let profile = self.arena.section(section).profile();
        let unheard = self.arena.backend.is_http() || profile.retention().is_some();
        let explained = match (status.code(), status.signal()) {
            (Some(0), _) => true,
            (Some(code), _) if code == i32::from(REFUSED) => true,
            // By what was done to it, by the network; on a directory because somebody was frozen
            // in the middle of a write, who keeps all others from writing.
            (Some(code), _) if LOST.contains(&code) => true,
            (Some(UNAVAILABLE), _) => unheard,
            (Some(UNWATCHED), _) => profile.asks_again() && self.arena.is_disturbed(user),
            (Some(code), _) if code == i32::from(ALONE) => false,
            // Killed, or its worker was.
            (Some(128..), _) | (None, Some(_)) => self.arena.is_disturbed(user),
            _ => false,
        };
        (!explained).then(|| status.to_string())
    }
}
