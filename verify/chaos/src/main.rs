//! Kills, freezes and cuts off real processes on real stores.
//!
//! Many `leaselock run` contend for a few locks on each store, while wrappers, watchdogs and
//! workers are killed and frozen, clocks are set apart, the network misbehaves, and the emulator
//! itself is killed and restarted. Their workers report to a referee, who accepts work by its
//! fencing token and looks for two at once: see [`section`] for what counts as an overlap.
//!
//! Usage: `cargo run -p leaselock-chaos -- --seconds 60`, or `--minutes 30 --store gcs`.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use leaselock_test_support::emulators::Backend;
use leaselock_test_support::proxy::draw;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use tempfile::TempDir;

use crate::arena::{Arena, Mischief};
use crate::contender::{Sabotage, Setting};
use crate::director::Director;
use crate::emulators::Emulators;
use crate::nursery::Nursery;
use crate::profile::Profile;
use crate::referee::Referee;
use crate::report::Outcome;
use crate::weather::Weather;
use crate::worker::Worker;

mod arena;
mod clock;
mod command;
mod contender;
mod director;
mod emulators;
mod log;
mod nursery;
mod process;
mod profile;
mod referee;
mod report;
mod section;
mod tally;
mod weather;
mod worker;

/// Who contend at each place; SeaweedFS gets very slow with more than four.
const CONTENDERS: usize = 3;
/// For how long the same is in play at most.
const TURN: Duration = Duration::from_secs(20);
/// As a shell tells it of a process that died of ^C.
const INTERRUPTED: u8 = 130;
/// How many violations of one store are printed.
const PRINTED: usize = 20;
/// How long the commands may take to end when they are asked to, before they are killed …
const ASKED: Duration = Duration::from_secs(15);
/// … and how long after that.
const KILLED: Duration = Duration::from_secs(30);

/// Kills, freezes and cuts off real processes on real stores, and checks that no two hold a lock.
#[derive(Debug, Parser)]
#[command(name = "leaselock-chaos", max_term_width = 100, args_conflicts_with_subcommands = true)]
struct Chaos {
    /// How long it goes on
    #[arg(long, default_value_t = 60)]
    seconds: u64,

    /// The same, in minutes
    #[arg(long, conflicts_with = "seconds")]
    minutes: Option<u64>,

    /// Only on this store: file, ministack, seaweedfs, azurite or gcs (repeatable) [default: all]
    #[arg(long, value_name = "NAME", value_parser = store)]
    store: Vec<Backend>,

    /// What is chosen to happen
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Takes a part of the lock out of play: the run must then fail, and ends when it does
    #[arg(long, value_enum)]
    sabotage: Option<Sabotage>,

    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, clap::Subcommand)]
enum Role {
    /// What the command runs while it holds the lock.
    #[command(hide = true)]
    Worker(Worker),
}

fn store(name: &str) -> Result<Backend, String> {
    stores()
        .find(|backend| backend.name() == name)
        .ok_or_else(|| "file, ministack, seaweedfs, azurite or gcs".to_owned())
}

/// A lock in memory cannot be contended for by processes.
fn stores() -> impl Iterator<Item = Backend> {
    Backend::ALL.into_iter().filter(|backend| *backend != Backend::Memory)
}

fn main() -> ExitCode {
    let chaos = Chaos::parse();
    if let Some(Role::Worker(worker)) = &chaos.role {
        return ExitCode::from(worker.run().unwrap_or(worker::ALONE));
    }
    match chaos.run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("chaos: {error}");
            ExitCode::from(2)
        }
    }
}

impl Chaos {
    fn run(&self) -> io::Result<ExitCode> {
        let over = Arc::new(AtomicBool::new(false));
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
        }
        let time = Duration::from_secs(self.minutes.map_or(self.seconds, |minutes| minutes * 60));
        let backends = if self.store.is_empty() { stores().collect() } else { self.store.clone() };
        let nursery = Nursery::new()?;
        let directory = tempfile::Builder::new().prefix("leaselock-chaos-").tempdir()?;
        let command = command::build(&nursery, directory.path())?;
        let http: Vec<_> = backends.iter().copied().filter(Backend::is_http).collect();
        let mut emulators = Emulators::start(&nursery, &directory.path().join("stores"), &http)?;
        let arenas: Vec<_> =
            backends.iter().map(|backend| Arc::new(Arena::new(*backend))).collect();
        let referee = Referee::start(arenas.clone())?;

        // Everything comes in turn in every run, however short.
        let (begun, turn) = (clock::now(), TURN.min(time / Profile::TURNS));
        let mut weathers = Vec::new();
        let mut settings = Vec::new();
        for (number, arena) in arenas.iter().enumerate() {
            let (weather, url) = self.place(arena, &emulators, directory.path())?;
            let files = directory.path().join(format!("{}-runs", arena.backend));
            std::fs::create_dir_all(&files)?;
            weathers.push(weather);
            settings.push(Setting {
                arena,
                nursery: &nursery,
                command: &command,
                url,
                store: number,
                referee: referee.address(),
                directory: files,
                sabotage: self.sabotage,
                over: &over,
                begun,
                turn,
            });
        }
        // A first restart in every run, however short; later ones not too often.
        let restarts = (time * 2 / 3).min(Duration::from_secs(60));
        let directors: Vec<_> = settings
            .iter()
            .zip(&weathers)
            .map(|(setting, weather)| Director {
                arena: setting.arena,
                weather: weather.as_ref(),
                emulators: &emulators,
                over: &over,
                mischief: match self.sabotage {
                    None => &Mischief::ALL,
                    // What the sabotaged part is there for.
                    Some(_) => &[Mischief::FreezeWrapper],
                },
                restarts,
            })
            .collect();
        let names: Vec<_> = backends.iter().map(Backend::name).collect();
        eprintln!("chaos: {time:?} on {}, seed {}", names.join(", "), self.seed);
        let ended = self.play(&settings, &directors, time, &interrupted);
        drop(directors);
        drop(settings);
        drop(weathers);
        drop(referee);
        emulators.stop()?;
        drop(emulators);
        let mut wrong = self.left_behind(&nursery);
        if !ended {
            wrong.push("commands did not end when they were asked to".to_owned());
        }
        let interrupted = interrupted.load(Ordering::SeqCst);
        Ok(self.judge(&arenas, wrong, interrupted, directory))
    }

    /// The network and the URL of a store.
    fn place(
        &self,
        arena: &Arc<Arena>,
        emulators: &Emulators<'_>,
        directory: &Path,
    ) -> io::Result<(Option<Weather>, String)> {
        if !arena.backend.is_http() {
            let place = directory.join("locks");
            std::fs::create_dir_all(&place)?;
            return Ok((None, format!("file://{}", place.display())));
        }
        let url = emulators.url(arena.backend)?;
        let (weather, url) = Weather::new(url, Arc::clone(arena), self.seed_for(arena.backend, 0));
        Ok((Some(weather), url))
    }

    fn seed_for(&self, backend: Backend, role: u64) -> u64 {
        let store = stores().position(|other| other == backend).unwrap_or(0) as u64;
        draw(draw(self.seed, store), role)
    }

    /// Everything runs until the time is up, then ends. Answers whether it did.
    fn play(
        &self,
        settings: &[Setting<'_>],
        directors: &[Director<'_>],
        time: Duration,
        interrupted: &AtomicBool,
    ) -> bool {
        std::thread::scope(|scope| {
            for (setting, director) in settings.iter().zip(directors) {
                let backend = setting.arena.backend;
                for place in 0..Profile::AT_ONCE {
                    for contender in 0..CONTENDERS {
                        let role = 2 + place * CONTENDERS + contender;
                        let seed = self.seed_for(backend, role as u64);
                        scope.spawn(move || setting.contend(place, seed));
                    }
                }
                if self.sabotage != Some(Sabotage::NoLock) {
                    let seed = self.seed_for(backend, 1);
                    scope.spawn(move || director.direct(scope, seed));
                }
            }
            self.watch(settings, time, interrupted);
            disperse(settings)
        })
    }

    /// Until the time is up, somebody types ^C, or sabotage is found out.
    fn watch(&self, settings: &[Setting<'_>], time: Duration, interrupted: &AtomicBool) {
        let (mut last, mut stall) = (clock::now(), Duration::ZERO);
        let (mut reap, mut tell) = (last, last + Duration::from_secs(60));
        let end = last + time;
        let found_out = || {
            let mut sections = settings.iter().flat_map(|setting| setting.arena.sections());
            self.sabotage.is_some() && sections.any(|section| section.seen.overlaps > 0)
        };
        while last < end && !interrupted.load(Ordering::SeqCst) && !found_out() {
            std::thread::sleep(Duration::from_millis(20));
            let now = clock::now();
            stall = stall.max(now - last);
            last = now;
            if now >= reap {
                reap = now + Duration::from_millis(200);
                if let Some(setting) = settings.first() {
                    setting.nursery.orphans();
                }
            }
            if now >= tell && now < end {
                tell = now + Duration::from_secs(60);
                let count = |setting: &Setting<'_>| {
                    let numbers = setting.arena.tally.numbers();
                    format!("{} {}", setting.arena.backend, numbers.acquired)
                };
                let counts: Vec<_> = settings.iter().map(count).collect();
                let left = end.saturating_duration_since(now).as_secs();
                eprintln!("chaos: {left} s left; acquired: {}", counts.join(", "));
            }
        }
        eprintln!("chaos: the longest stall of this machine took {} ms", stall.as_millis());
    }

    fn left_behind(&self, nursery: &Nursery) -> Vec<String> {
        let gone = clock::wait_until(Duration::from_secs(10), || nursery.orphans().is_empty());
        if gone {
            return Vec::new();
        }
        let left = nursery.orphans();
        clock::wait_until(Duration::from_secs(10), || {
            nursery.end_orphans();
            nursery.orphans().is_empty()
        });
        vec![format!("left behind, and killed: {}", left.join(", "))]
    }

    fn judge(
        &self,
        arenas: &[Arc<Arena>],
        mut wrong: Vec<String>,
        interrupted: bool,
        files: TempDir,
    ) -> ExitCode {
        let results: Vec<_> = arenas.iter().map(|arena| Outcome::of(arena)).collect();
        println!("{}", report::print(&results));
        for (arena, result) in arenas.iter().zip(&results) {
            let name = arena.backend;
            let more = result.violations.len().saturating_sub(PRINTED);
            let first = result.violations.iter().take(PRINTED);
            wrong.extend(first.map(|text| format!("{name}: {text}")));
            wrong.extend((more > 0).then(|| format!("{name}: and {more} more")));
            if !interrupted {
                let missing = result.missing.iter();
                wrong.extend(missing.map(|what| format!("{name}: proves nothing: {what}")));
            }
        }
        if !interrupted {
            let missing = report::missing(&results).into_iter();
            wrong.extend(missing.map(|what| format!("proves nothing: {what}")));
        }
        for text in &wrong {
            println!("VIOLATION {text}");
        }
        if wrong.is_empty() {
            println!("no violation{}", if interrupted { ", but interrupted" } else { "" });
            return if interrupted { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS };
        }
        if self.sabotage.is_some() {
            // As it should be: there is nothing to look for.
            return ExitCode::FAILURE;
        }
        println!(
            "{} violations; the commands' last logs are in {}",
            wrong.len(),
            files.keep().display()
        );
        ExitCode::FAILURE
    }
}

/// Everybody is asked to end, then made to. Answers whether everybody has ended.
fn disperse(settings: &[Setting<'_>]) -> bool {
    for setting in settings {
        setting.over.store(true, Ordering::SeqCst);
    }
    let begun = clock::now();
    let ended = clock::wait_until(ASKED + KILLED, || {
        std::thread::sleep(Duration::from_millis(200));
        let at_once = begun.elapsed() > ASKED;
        let left: usize = settings.iter().map(|setting| setting.arena.disperse(at_once)).sum();
        if let Some(setting) = settings.first() {
            setting.nursery.orphans();
        }
        left == 0
    });
    ended && begun.elapsed() <= ASKED
}
