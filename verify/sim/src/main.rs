//! Simulates many seeds, or one with everything that happens in it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use leaselock_sim::{Counts, Options, Outcome, Sabotage, draw, missing, run, shrink, table};

/// Runs the whole library in virtual time under faults, once for each seed, and checks what it
/// promises.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = STANDARD)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only this seed, with everything that happens.
    #[arg(long)]
    seed: Option<u64>,
    /// Only these faults of the seed's schedule, by number.
    #[arg(long, value_delimiter = ',', requires = "seed", num_args = 0..)]
    keep: Option<Vec<usize>>,
    /// How many threads, each with its own seeds.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Clocks whose rates differ by more than is promised to be safe.
    #[arg(long)]
    rates_beyond: bool,
    /// A store that is not one.
    #[arg(long, value_enum)]
    sabotage: Option<StoreFault>,
    /// Stops at the first violation and only says where.
    #[arg(long)]
    until_violation: bool,
    /// Checks the histories of every so many seeds only.
    #[arg(long, default_value_t = 1)]
    histories_of: u64,
    /// Where the picture of a violation, or of the one seed, goes.
    #[arg(long)]
    svg: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StoreFault {
    ReusedEtag,
    IgnoredIfMatch,
}

/// In so many seeds everything happens that must happen sometimes.
const STANDARD: u64 = 2000;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // What panics is a violation, and reported as such.
    std::panic::set_hook(Box::new(|_| {}));
    match arguments.seed {
        Some(seed) => one(seed, &arguments),
        None => many(&arguments),
    }
}

fn options(arguments: &Arguments) -> Options {
    Options {
        keep: arguments.keep.clone(),
        rates_beyond: arguments.rates_beyond,
        sabotage: arguments.sabotage.map(|fault| match fault {
            StoreFault::ReusedEtag => Sabotage::ReusedEtag,
            StoreFault::IgnoredIfMatch => Sabotage::IgnoredIfMatch,
        }),
        timeline: arguments.seed.is_some(),
        histories_of: arguments.histories_of,
    }
}

fn one(seed: u64, arguments: &Arguments) -> ExitCode {
    let outcome = run(seed, &options(arguments));
    show(&outcome, arguments);
    match &outcome.violation {
        None => ExitCode::SUCCESS,
        Some(violation) => {
            println!("seed {seed}: {violation}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a run and draws it.
fn show(outcome: &Outcome, arguments: &Arguments) {
    let Some(timeline) = &outcome.timeline else { return };
    print!("{timeline}");
    for line in &outcome.cast {
        println!("{line}");
    }
    for (number, fault) in outcome.faults.iter().enumerate() {
        println!("fault {number}: {fault}");
    }
    println!("trace {:016x}, {} events", outcome.trace, outcome.events);
    let place = arguments
        .svg
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("target/sim-{}.svg", outcome.seed)));
    match std::fs::write(&place, draw(timeline)) {
        Ok(()) => println!("drawn in {}", place.display()),
        Err(error) => println!("not drawn in {}: {error}", place.display()),
    }
}

/// What many runs have come to.
#[derive(Default)]
struct Sum {
    counts: Counts,
    events: u64,
    done: u64,
    /// Of all traces, in whatever order they came.
    digest: u64,
    /// By seed, so that the first is the first whatever thread found it.
    failed: BTreeMap<u64, Outcome>,
}

#[allow(clippy::disallowed_methods, reason = "measures how fast the simulation itself is")]
fn many(arguments: &Arguments) -> ExitCode {
    let began = Instant::now();
    let sum = run_all(arguments, &options(arguments));
    report(&sum, began.elapsed());
    let Some((seed, outcome)) = sum.failed.first_key_value() else {
        let missing = missing(&sum.counts);
        if missing.is_empty() || arguments.sabotage.is_some() {
            return ExitCode::SUCCESS;
        }
        println!("never happened: {}", missing.join(", "));
        // Too few seeds cannot show everything.
        return if sum.done < STANDARD { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    };
    if arguments.until_violation {
        println!("caught at seed {seed}");
        println!("{}", outcome.violation.as_ref().map(ToString::to_string).unwrap_or_default());
        return ExitCode::FAILURE;
    }
    for (seed, outcome) in &sum.failed {
        let violation = outcome.violation.as_ref().map(ToString::to_string).unwrap_or_default();
        println!("seed {seed}: {violation}");
    }
    explain(outcome, arguments);
    ExitCode::FAILURE
}

/// Shrinks the schedule of a run that has failed, and shows what is left.
fn explain(outcome: &Outcome, arguments: &Arguments) {
    let shrunk = shrink(outcome, &options(arguments));
    show(&shrunk.outcome, arguments);
    if let Some(violation) = &shrunk.outcome.violation {
        println!("seed {}: {violation}", outcome.seed);
    }
    let keep: Vec<_> = shrunk.keep.iter().map(ToString::to_string).collect();
    let beyond = if arguments.rates_beyond { " --rates-beyond" } else { "" };
    println!("again with: --seed {} --keep {}{beyond}", outcome.seed, keep.join(","));
}

/// Failures that are remembered at most.
const ENOUGH: usize = 10;

fn run_all(arguments: &Arguments, options: &Options) -> Sum {
    let sum = Mutex::new(Sum::default());
    let next = AtomicU64::new(arguments.from);
    let end = arguments.from + arguments.seeds;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let outcome = run(seed, options);
                    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                    sum.counts.merge(outcome.counts.clone());
                    sum.events += outcome.events;
                    sum.done += 1;
                    sum.digest ^= outcome.trace.rotate_left((seed % 64) as u32);
                    if outcome.violation.is_some() {
                        sum.failed.insert(seed, outcome);
                    }
                    if arguments.until_violation && !sum.failed.is_empty()
                        || sum.failed.len() >= ENOUGH
                    {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    sum.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn report(sum: &Sum, took: Duration) {
    print!("{}", table(&sum.counts));
    let seconds = took.as_secs_f64();
    println!(
        "{} seeds, {} events in {seconds:.1} s: {:.0} seeds per second; digest {:016x}",
        sum.done,
        sum.events,
        sum.done as f64 / seconds,
        sum.digest
    );
}
