//! Several processes append to one table on an object store, and are frozen and killed meanwhile:
//! `cargo run --release --example pipeline_writers -- --writers 6 --seconds 30 --chaos`
//!
//! `--help` tells of all options. For a bucket add `--all-features` before the `--` and
//! `--store s3://bucket/prefix` behind it.
//!
//! A batch of rows is an immutable Parquet file. It is committed by adding it to a manifest under
//! the lock, and only then acknowledged. At the end a reader checks that every acknowledged row is in
//! the table exactly once.
//!
//! **`writer.rs` is the part to copy**, with the shape of `table.rs` in mind. `unfenced.rs` is the
//! same as it is often done, without a fence: with `--unfenced --chaos` rows are lost. Everything
//! below `stage/` is the theatre: it starts processes, disturbs them, checks and draws.

mod stage;
mod store;
mod table;
mod unfenced;
mod writer;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use leaselock::Store;
use leaselock::clock::{Clock, SystemClock};
use tempfile::TempDir;

use stage::actor::{self, act};
use stage::audit::Audit;
use stage::director::{Place, direct};
use stage::options::{Options, USAGE};
use stage::report::Report;
use stage::timeline;
use table::Layout;
use writer::Error;

// One thread, and the one that `main` runs on: a child ends with the thread that started it.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(actor::ARGUMENT) {
        return match act().await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        };
    }
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("pipeline_writers: {error}");
            return ExitCode::from(64);
        }
    };
    match run(&options).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => failed(&error),
    }
}

/// Answers whether it adds up.
async fn run(options: &Options) -> Result<bool, Error> {
    let directory = tempfile::Builder::new().prefix("pipeline-writers-").tempdir()?;
    let place = place(options, &directory).await?;
    let reader = Store::builder(&place.store).prefix(&place.locks).open().await?;
    let title = format!(
        "{} writers, {:?}, leases of {:?}{}{}",
        options.writers,
        options.time,
        options.ttl,
        if options.chaos { format!(", chaos of seed {}", options.seed) } else { String::new() },
        if options.unfenced { ", WITHOUT THE FENCE" } else { "" },
    );
    println!("{title}\non {}, below {}\n", reader.url(), place.layout.root);

    let play = direct(options, &place).await?;
    let audit = Audit::of(&place, &reader.objects(), options.writers).await?;
    let report = Report::new(options, &play, &audit);
    println!("{report}");

    let svg = options.svg.clone().unwrap_or_else(|| directory.path().with_extension("svg"));
    fs::write(&svg, timeline::draw(&play, options.writers, &title))?;
    println!("Who held the lock when: {}", svg.display());
    if !report.adds_up() && !options.unfenced {
        println!("What there is to look at: {}", directory.keep().display());
    }
    Ok(report.adds_up())
}

/// A place of this run's own.
async fn place(options: &Options, directory: &TempDir) -> Result<Place, Error> {
    let local = directory.path().join("store");
    let store = match &options.store {
        Some(url) => url.clone(),
        None => {
            fs::create_dir(&local)?;
            format!("file://{}", local.display())
        }
    };
    let run = format!("pipeline-{:x}-{:x}", SystemClock.now().wall.micros(), std::process::id());
    // Says what is wrong with a URL before anybody is started.
    let opened = leaselock::open(&store).await?;
    // A table's paths count from the store's root, a lock's from the prefix in its URL.
    let root = opened.prefix().clone().join(run.as_str()).join("table");
    Ok(Place {
        store,
        locks: format!("{run}/locks"),
        layout: Layout { root: root.to_string() },
        directory: PathBuf::from(directory.path()),
    })
}

fn failed(error: &Error) -> ExitCode {
    // The library's errors tell their causes in this form; the others do not need it.
    match error.downcast_ref::<leaselock::Error>() {
        Some(error) => eprintln!("pipeline_writers: {error:?}"),
        None => eprintln!("pipeline_writers: {error}"),
    }
    ExitCode::FAILURE
}
