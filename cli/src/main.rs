//! `leaselock`: hold a lock on object storage while a command runs.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use leaselock::Store;
use tracing_subscriber::EnvFilter;

use crate::args::{Cli, Command, Global};
use crate::exit::Failure;

mod args;
mod r#break;
mod child;
mod choice;
mod clock;
mod cost;
mod doctor;
mod elect;
mod exit;
mod gathering;
mod handle;
mod history;
mod hold;
mod key;
mod limits;
mod ls;
mod manual;
mod people;
mod process;
mod report;
mod run;
mod show;
mod signals;
mod status_file;
mod tenure;
mod terminal;
#[cfg(feature = "test-clock")]
mod test_clock;
mod waiting;
mod watch;
mod watchdog;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    log(&cli.global);
    let ended = match cli.command {
        // They fork their watchdog first and start the runtime themselves.
        Command::Run(args) => run::run(&cli.global, &args),
        Command::Elect(args) => elect::elect(&cli.global, args),
        Command::Acquire(args) => block_on(handle::acquire(&cli.global, &args)),
        Command::Renew(args) => block_on(handle::renew(&cli.global, &args)),
        Command::Release(args) => block_on(handle::release(&cli.global, &args)),
        Command::Ls(args) => block_on(ls::ls(&cli.global, &args)),
        Command::Watch(args) => block_on(watch::watch(&cli.global, &args)),
        Command::Show(args) => block_on(show::show(&cli.global, &args)),
        Command::History(args) => block_on(history::history(&cli.global, &args)),
        Command::Break(args) => block_on(r#break::break_lease(&cli.global, &args)),
        Command::Latch(call) => block_on(gathering::latch(&cli.global, &call)),
        Command::Barrier(call) => block_on(gathering::barrier(&cli.global, &call)),
        Command::Doctor(args) => block_on(doctor::doctor(&cli.global, &args)),
        Command::Cost(args) => cost::cost(&args),
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::manual(&args),
    };
    ExitCode::from(ended.unwrap_or_else(|failure| failure.print()))
}

/// clap would exit with 2, which is also what many a CMD exits with.
fn refuse(error: &clap::Error) -> ExitCode {
    let usage = error.use_stderr();
    // Nobody is left to be told when printing fails.
    let _ = error.print();
    if usage { ExitCode::from(exit::USAGE) } else { ExitCode::SUCCESS }
}

/// Runs on the calling thread alone: the library brings a thread of its own for what must not
/// wait.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(exit::INTERNAL, format!("cannot start: {error}")))?
        .block_on(work)
}

/// Opens the store that `--store` names, or the one of this user on this machine.
pub(crate) async fn open(global: &Global) -> Result<Store, Failure> {
    match global.stores().as_slice() {
        [] => open_at(global, &default_store(global)?).await,
        [url] => open_at(global, url).await,
        _ => {
            Err(Failure::new(exit::USAGE, "several --store make a quorum, which only `run` knows")
                .hint("name one of them with --store"))
        }
    }
}

/// Opens all stores that `--store` names.
pub(crate) async fn open_all(global: &Global) -> Result<Vec<Store>, Failure> {
    let urls = global.stores();
    if urls.len() < 2 {
        return Ok(vec![open(global).await?]);
    }
    let mut stores = Vec::new();
    for url in urls {
        stores.push(open_at(global, url).await?);
    }
    Ok(stores)
}

pub(crate) async fn open_at(global: &Global, url: &str) -> Result<Store, Failure> {
    let store = Store::builder(url)
        .options(global.store_option.iter().map(|(key, value)| (key.as_str(), value.as_str())))
        .check_preconditions(!global.no_check);
    #[cfg(feature = "test-clock")]
    let store = store.clock(test_clock::of_the_library());
    Ok(store.open().await?)
}

fn default_store(global: &Global) -> Result<String, Failure> {
    use etcetera::BaseStrategy;
    let home = etcetera::choose_base_strategy().map_err(|error| {
        Failure::new(exit::CONFIGURATION, format!("no home directory: {error}"))
            .hint("name a store with --store")
    })?;
    let state = home.state_dir().unwrap_or_else(|| home.data_dir());
    let directory = state.join("leaselock").join("locks");
    let url = file_url(&directory)?;
    if global.verbose > 0 {
        people::say(&format!("no --store given: locks are in {}", directory.display()));
    }
    Ok(url)
}

/// As a URL, with everything escaped that means something in one.
fn file_url(path: &std::path::Path) -> Result<String, Failure> {
    let path = path.to_str().ok_or_else(|| {
        Failure::new(exit::CONFIGURATION, format!("{} is not UTF-8", path.display()))
            .hint("name a store with --store")
    })?;
    let mut url = String::from("file://");
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    Ok(url)
}

/// Logging costs start-up time: it is set up only when somebody asked for it.
fn log(global: &Global) {
    let filter = match (std::env::var("LEASELOCK_LOG"), global.verbose) {
        (Ok(filter), _) if !filter.is_empty() => filter,
        (_, 0) => return,
        (_, 1) => "leaselock=info".to_owned(),
        (_, 2) => "leaselock=debug".to_owned(),
        (_, _) => "leaselock=trace,object_store=debug".to_owned(),
    };
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        // They would be printed in a way that panics when nobody reads stderr any more.
        .log_internal_errors(false)
        .init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_odd_characters_becomes_a_url() {
        let url = file_url(std::path::Path::new("/home/a b/100%/é?")).unwrap();
        assert_eq!(url, "file:///home/a%20b/100%25/%C3%A9%3F");
    }
}
