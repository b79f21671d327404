//! Commands for those who look after locks.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};
use leaselock::FencingToken;

use super::duration;

#[derive(Args, Debug)]
pub(crate) struct Ls {
    /// Only locks below this prefix
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
    /// Only locks whose lease has run out
    #[arg(long)]
    pub(crate) stale: bool,
    /// Only locks with a holder whose text, as it is shown, contains TEXT
    #[arg(long, value_name = "TEXT")]
    pub(crate) holder: Option<String>,
    /// One JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Watch {
    /// Only locks below this prefix
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
    /// How often locks are read, at least 500ms; at most 200 of them each time, and the others after
    /// them
    #[arg(long, value_name = "DUR", default_value = "2s", value_parser = duration)]
    pub(crate) every: Duration,
}

#[derive(Args, Debug)]
pub(crate) struct Show {
    #[arg(value_name = "LOCK")]
    pub(crate) lock: String,
    /// LOCK is a key of `run --once`
    #[arg(long)]
    pub(crate) once: bool,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct History {
    #[arg(value_name = "LOCK")]
    pub(crate) lock: String,
    /// LOCK is a key of `run --once`
    #[arg(long)]
    pub(crate) once: bool,
    /// Print one JSON object: name, state, history and holders, as in `show --json`
    #[arg(long)]
    pub(crate) json: bool,
    /// Draw it as a timeline into FILE, and print no table
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("sure").args(["expect_token", "force"]))]
pub(crate) struct BreakLease {
    #[arg(value_name = "LOCK")]
    pub(crate) lock: String,
    /// LOCK is a key of `run --once`: ends a run, or forgets a success
    #[arg(long)]
    pub(crate) once: bool,
    /// Only if the holder has this fencing token (`leaselock show` prints it); of several holders only
    /// that one
    #[arg(long, value_name = "T", value_parser = token)]
    pub(crate) expect_token: Option<FencingToken>,
    /// Whoever holds it, and all of them; replaces an unreadable record too
    #[arg(long)]
    pub(crate) force: bool,
    /// Why; kept in the lock's history
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Doctor {
    /// Print one JSON object: fit, and findings with check, verdict, seen, consequence, error and took_ms
    #[arg(long)]
    pub(crate) json: bool,
}

// Besides, it has what can be set of all commands: see `config::command`.
#[derive(Args, Debug)]
pub(crate) struct Config {
    /// Print one JSON object: settings with value, hidden and origin, profile, files
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// For which shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Args, Debug)]
pub(crate) struct Manual {
    /// Of which command, for example run, or latch wait [default: leaselock itself]
    #[arg(value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

fn token(text: &str) -> Result<FencingToken, String> {
    text.parse().map_err(|_| "not a fencing token: a whole number is expected".to_owned())
}
