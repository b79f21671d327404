//! `leaselock`: hold a lock on object storage while a command runs.

use std::path::PathBuf;
use std::process::ExitCode;

use leaselock::Store;

use crate::args::{Command, Global};
use crate::config::Refusal;
use crate::exit::Failure;

mod args;
mod r#break;
mod child;
mod choice;
mod clock;
mod config;
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
mod log;
mod ls;
mod manual;
mod orphans;
mod people;
mod private_file;
mod process;
mod report;
mod run;
mod secrets;
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
    let (cli, settings) = match config::configure() {
        Ok(configured) => configured,
        Err(Refusal::CommandLine(error)) => return refuse(&error),
        Err(Refusal::Configuration(failure)) => return ExitCode::from(failure.print()),
    };
    log::start(&cli.global);
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
        Command::Config(args) => config::show::config(&args, &settings),
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
        [] => {
            let (url, directory) = default_store()?;
            if global.verbose > 0 {
                people::say(&format!("no --store given: locks are in {}", directory.display()));
            }
            open_at(global, &url).await
        }
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
        .options(global.for_stores.options(url))
        .check_preconditions(!global.no_check);
    #[cfg(feature = "test-clock")]
    let store = store.clock(test_clock::of_the_library());
    store.open().await.map_err(|error| global.for_stores.explain(error.into()))
}

/// Where locks are unless somebody says it: as a URL and as a directory, which need not exist.
pub(crate) fn default_store() -> Result<(String, PathBuf), Failure> {
    use etcetera::BaseStrategy;
    let home = etcetera::choose_base_strategy().map_err(|error| {
        Failure::new(exit::CONFIGURATION, format!("no home directory: {error}"))
            .hint("name a store with --store")
    })?;
    let state = home.state_dir().unwrap_or_else(|| home.data_dir());
    let directory = state.join("leaselock").join("locks");
    Ok((file_url(&directory)?, directory))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_odd_characters_becomes_a_url() {
        let url = file_url(std::path::Path::new("/home/a b/100%/é?")).unwrap();
        assert_eq!(url, "file:///home/a%20b/100%25/%C3%A9%3F");
    }
}
