//! The command line.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand};

use crate::config::ForStores;
use crate::exit;

mod cost;
mod gathering;
mod holding;
mod looking;

pub(crate) use cost::Cost;
pub(crate) use gathering::{BarrierCall, LatchCall};
pub(crate) use holding::{Acquire, Elect, Handled, OnLost, Run};
pub(crate) use looking::{
    BreakLease, Completions, Config, Doctor, History, Ls, Manual, Show, Watch,
};

/// What somebody tries first.
const EXAMPLES: &str = "\
Examples:
  leaselock run backup -- ./backup.sh         one at a time on this machine, or
  export LEASELOCK_STORE=s3://bucket/locks    on all that can reach a bucket
  leaselock doctor                            can the bucket hold locks?
  leaselock run -n nightly -- ./nightly.sh    now or not at all, as from cron
  leaselock show nightly                      who has it
  leaselock run --help                        everything about `run`";

/// Hold a lock on object storage while a command runs.
///
/// Locks are leases on a store with conditional writes: Amazon S3 and what speaks its protocol,
/// Azure Blob Storage, Google Cloud Storage, or a directory. There is no lock server.
#[derive(Debug, Parser)]
#[command(name = "leaselock", version, max_term_width = 100)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{}", exit::HELP))]
#[command(arg_required_else_help = true, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// Where the locks are: file:///dir, s3://bucket/prefix, gs://bucket/prefix,
    /// az://container/prefix. Default: a directory under the XDG state directory. For `run` it may be
    /// repeated (in the variable, one a line): an odd number of stores, of which a majority decides
    #[arg(long, global = true, value_name = "URL", value_delimiter = '\n')]
    pub(crate) store: Vec<String>,

    /// An option of the store, for example aws_region=eu-central-1 (repeatable); of several stores it
    /// is an option of each. What differs between them belongs into the URL: s3://bucket?aws_region=…
    // Taken apart later: what clap refuses it repeats, and this may be a secret.
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub(crate) store_option: Vec<String>,

    /// Do not check that the store honours conditional writes. A store that does not gives a lock
    /// to two holders at once
    #[arg(long, global = true)]
    pub(crate) no_check: bool,

    /// Read this file instead of the leaselock.toml of the project and the user; '' reads none
    // A path would not be allowed to be empty.
    #[arg(long, global = true, value_name = "FILE", env = "LEASELOCK_CONFIG")]
    #[arg(hide_env_values = true)]
    pub(crate) config: Option<OsString>,

    /// Take what [profile.NAME] of leaselock.toml sets before what its top level does
    #[arg(long, global = true, value_name = "NAME", env = "LEASELOCK_PROFILE")]
    #[arg(hide_env_values = true)]
    pub(crate) profile: Option<String>,

    #[arg(skip)]
    pub(crate) for_stores: ForStores,

    /// Say more on stderr (repeatable)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Say nothing on stderr but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
}

impl Global {
    /// The URLs that were given.
    pub(crate) fn stores(&self) -> Vec<&str> {
        self.store.iter().map(String::as_str).filter(|url| !url.is_empty()).collect()
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Hold LOCK while CMD runs; of several LOCKs all or none
    #[command(after_help = exit::HELP, after_long_help = format!("{}\n\n{}", crate::run::LONG_HELP, exit::HELP))]
    Run(Box<Run>),
    /// Run CMD on one of many hosts, and on another when that is gone
    ///
    /// Runs CMD while leading the election NAME, and campaigns again whenever that is lost.
    #[command(after_help = exit::HELP, after_long_help = format!("{}\n\n{}", crate::elect::LONG_HELP, exit::HELP))]
    Elect(Elect),
    /// Take LOCK and exit: for scripts whose steps nothing can wrap
    #[command(after_help = exit::HELP, after_long_help = format!("{}\n\n{}", crate::handle::LONG_HELP, exit::HELP))]
    Acquire(Acquire),
    /// Renew what `acquire` took, for its TTL from now on
    #[command(after_help = exit::HELP, after_long_help = format!("{}\n\n{}", crate::handle::LONG_HELP, exit::HELP))]
    Renew(Handled),
    /// Give back what `acquire` took. Twice is no error
    #[command(after_help = exit::HELP, after_long_help = format!("{}\n\n{}", crate::handle::LONG_HELP, exit::HELP))]
    Release(Handled),
    /// List locks: state, token, age, time left, holder
    ///
    /// Of several holders it shows the first, and how many more.
    Ls(Ls),
    /// Show locks on the whole screen as they change
    ///
    /// For operators: a lock can be broken there, too.
    Watch(Watch),
    /// Show one lock whole: holders, queue, payload, history
    ///
    /// With --once a key of `run --once`, and its result.
    Show(Show),
    /// Tell who held a lock, when, for how long, and how it ended
    History(History),
    /// Put the holder of a lock out of it (for operators)
    ///
    /// On a terminal it shows the holder and asks; elsewhere it needs --expect-token or --force. With
    /// --once it forgets a success of `run --once`.
    Break(BreakLease),
    /// Open a latch when enough members have arrived, or wait for that
    #[command(subcommand, after_help = exit::HELP, after_long_help = format!("{}\n\n{}", crate::gathering::LATCH_HELP, exit::HELP))]
    Latch(LatchCall),
    /// Wait until all members have arrived, round after round
    #[command(subcommand, after_help = exit::HELP, after_long_help = format!("{}\n\n{}", crate::gathering::BARRIER_HELP, exit::HELP))]
    Barrier(BarrierCall),
    /// Find out whether a store can hold locks
    ///
    /// Tries conditional writes, also in races, the clock, latency and permissions, with scratch objects
    /// below `.leaselock/`.
    Doctor(Doctor),
    /// Show what is set by options, variables and leaselock.toml, and where
    ///
    /// Secrets are hidden.
    Config(Config),
    /// Reckon what locks cost a month, and what lock servers would
    #[command(after_long_help = crate::cost::LONG_HELP)]
    Cost(Cost),
    /// Print a script that completes this command's words in a shell
    #[command(after_long_help = crate::manual::COMPLETIONS_HELP)]
    Completions(Completions),
    /// Print a manual page: `leaselock man run | man -l -`
    Man(Manual),
}

impl Command {
    /// Whether it does what variables and leaselock.toml can set.
    pub(crate) fn is_configured(&self) -> bool {
        !matches!(self, Self::Cost(_) | Self::Completions(_) | Self::Man(_))
    }
}

/// What the library accepts, which says so only when a lock is taken.
pub(crate) const TTL: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error} (such as 30s, 5m, 1h30m)"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_fits_a_terminal() {
        let gathering = [crate::gathering::LATCH_HELP, crate::gathering::BARRIER_HELP];
        let texts =
            [exit::HELP, crate::run::LONG_HELP, crate::elect::LONG_HELP, crate::cost::LONG_HELP];
        for line in texts.iter().chain(&gathering).flat_map(|text| text.lines()) {
            assert!(line.chars().count() <= 80, "{line:?} would be broken once more");
        }
    }

    #[test]
    fn the_command_after_the_dashes_is_taken_as_it_is() {
        let cli = Cli::try_parse_from(["leaselock", "run", "a/b", "--", "sh", "-c", "-n --ttl"]);
        let Command::Run(run) = cli.unwrap().command else { panic!("not run") };
        assert_eq!((run.locks.concat().as_str(), run.command.len()), ("a/b", 3));
        assert!(!run.busy.no_wait);
    }
}
