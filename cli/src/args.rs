//! The command line.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, ArgGroup, Args, Parser, Subcommand, ValueEnum};
use leaselock::{FencingToken, HolderId};

use crate::config::ForStores;
use crate::exit;

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

#[derive(Args, Debug, Default)]
#[command(group = ArgGroup::new("way").args(["shared", "exclusive", "limit", "once"]))]
pub(crate) struct Run {
    /// Give up at once when the lock is held
    #[arg(short, long, conflicts_with = "wait")]
    pub(crate) no_wait: bool,

    /// Wait at most so long for the lock, for example 30s or 5m [default: for ever]
    #[arg(short, long, value_name = "DUR", value_parser = duration)]
    pub(crate) wait: Option<Duration>,

    /// How long the lock outlives a holder that vanished; 1s to 24h
    #[arg(long, value_name = "DUR", default_value = "30s", value_parser = duration)]
    pub(crate) ttl: Duration,

    /// Stop CMD when it has held the lock for so long
    #[arg(long, value_name = "DUR", value_parser = duration)]
    pub(crate) max_hold: Option<Duration>,

    /// Hold LOCK together with others that say --shared, and with nobody that says --exclusive
    #[arg(long)]
    pub(crate) shared: bool,

    /// Hold LOCK alone: the other half of --shared
    #[arg(long)]
    pub(crate) exclusive: bool,

    /// LOCK is a semaphore of M permits, 1 to 65536: the same number for all who use it
    #[arg(long, value_name = "M")]
    pub(crate) limit: Option<u32>,

    /// With --limit: how many permits CMD needs, all of them or none [default: 1]
    // What excludes --limit would excuse its absence.
    #[arg(long, value_name = "N", requires = "limit")]
    #[arg(conflicts_with_all = ["shared", "exclusive", "once"])]
    pub(crate) permits: Option<u32>,

    /// Wait in a queue: who comes first enters first. With --shared, --exclusive and --limit it is so
    /// anyway
    #[arg(long, conflicts_with = "once")]
    pub(crate) fair: bool,

    /// Run CMD only if it has not succeeded before under this key, here or elsewhere; LOCK is the key.
    /// Otherwise exit with 0
    #[arg(long)]
    pub(crate) once: bool,

    /// With --once: for how long CMD is not run again after it has succeeded; 1s to 100 years
    /// [default: for ever]
    #[arg(long, value_name = "DUR", value_parser = duration, requires = "once")]
    #[arg(conflicts_with_all = ["shared", "exclusive", "limit"])]
    pub(crate) retention: Option<Duration>,

    /// Keep the lock at least so long, even when CMD ends sooner (cron jobs on several hosts whose
    /// clocks differ)
    #[arg(long, value_name = "DUR", value_parser = duration)]
    #[arg(conflicts_with_all = ["shared", "exclusive", "limit"])]
    pub(crate) min_hold: Option<Duration>,

    /// Who holds the lock, for people [default: the user's name]
    #[arg(long, value_name = "LABEL")]
    pub(crate) owner: Option<String>,

    /// Why it is held, for people
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,

    /// Exit with N instead of 75 when the lock is busy
    #[arg(short = 'E', long, value_name = "N", conflicts_with = "skip_if_busy")]
    pub(crate) conflict_exit_code: Option<u8>,

    /// Exit with 0 at once, without running CMD, when the lock is busy
    #[arg(long, conflicts_with = "wait")]
    pub(crate) skip_if_busy: bool,

    /// What happens to CMD when the lease is lost
    #[arg(long, value_name = "HOW", value_enum, default_value_t = OnLost::Term)]
    pub(crate) on_lost: OnLost,

    /// Between TERM and KILL; at most a third of the shorter of --ttl and --max-hold [default: a
    /// sixth of it, at most 5s]
    #[arg(long, value_name = "DUR", value_parser = duration)]
    pub(crate) kill_grace: Option<Duration>,

    /// Print one JSON object on stderr at the end: outcome, token (of several LOCKs tokens), exit_code,
    /// waited_ms, held_ms
    #[arg(long)]
    pub(crate) json: bool,

    /// A path such as etl/nightly; several are taken together, all of them or none
    #[arg(value_name = "LOCK", required = true)]
    pub(crate) locks: Vec<String>,

    /// The command and its arguments; executed directly, without a shell
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Args, Debug)]
pub(crate) struct Acquire {
    /// Give up at once when the lock is held
    #[arg(short, long, conflicts_with = "wait")]
    pub(crate) no_wait: bool,

    /// Wait at most so long for the lock, for example 30s or 5m [default: for ever]
    #[arg(short, long, value_name = "DUR", value_parser = duration)]
    pub(crate) wait: Option<Duration>,

    /// How long the lease lasts unless `leaselock renew` is called: 1s to 24h, longer than the longest
    /// step. There is no default
    #[arg(long, value_name = "DUR", value_parser = duration)]
    pub(crate) ttl: Duration,

    /// Who holds the lock, for people [default: the user's name]
    #[arg(long, value_name = "LABEL")]
    pub(crate) owner: Option<String>,

    /// Why it is held, for people
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,

    /// Exit with N instead of 75 when the lock is busy
    #[arg(short = 'E', long, value_name = "N")]
    pub(crate) conflict_exit_code: Option<u8>,

    /// Write the handle to this file instead, as JSON, readable by its owner only: for `renew` and
    /// `release`. It must not be there yet
    #[arg(long, value_name = "FILE")]
    pub(crate) handle: Option<PathBuf>,

    /// Print one JSON object instead of the holder's id: name, store, holder, token, ttl_ms, expires_at
    #[arg(long)]
    pub(crate) json: bool,

    /// A path such as etl/nightly
    #[arg(value_name = "LOCK")]
    pub(crate) lock: String,
}

/// What `acquire` took.
#[derive(Args, Debug)]
pub(crate) struct Handled {
    /// The lock, of --holder
    #[arg(value_name = "LOCK", requires = "holder", required_unless_present = "handle")]
    pub(crate) lock: Option<String>,

    /// Who holds it: what `acquire` has printed
    #[arg(long, value_name = "ID", requires = "lock", value_parser = holder)]
    pub(crate) holder: Option<HolderId>,

    /// The file that `acquire --handle` has written. `renew` keeps it current, `release` removes it.
    /// Without --store, the lock's own is used
    #[arg(long, value_name = "FILE", conflicts_with_all = ["lock", "holder"])]
    pub(crate) handle: Option<PathBuf>,

    /// Print one JSON object: of `renew` as of `acquire`, of `release` name, holder and outcome (released,
    /// lost)
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Elect {
    /// How long a leader that vanished keeps others from being elected; 1s to 24h
    #[arg(long, value_name = "DUR", default_value = "30s", value_parser = duration)]
    pub(crate) ttl: Duration,

    /// Who leads, for people [default: the user's name]
    #[arg(long, value_name = "LABEL")]
    pub(crate) owner: Option<String>,

    /// Anything else about this candidate, for people
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,

    /// What happens to CMD when the lease is lost
    #[arg(long, value_name = "HOW", value_enum, default_value_t = OnLost::Term)]
    pub(crate) on_lost: OnLost,

    /// Between TERM and KILL; at most a third of --ttl [default: a sixth of it, at most 5s]
    #[arg(long, value_name = "DUR", value_parser = duration)]
    pub(crate) kill_grace: Option<Duration>,

    /// Print one JSON object on stderr at the end: outcome, token, exit_code, waited_ms, held_ms
    #[arg(long)]
    pub(crate) json: bool,

    /// A path such as etl/nightly: the lock of this name is held by whoever leads
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// The command and its arguments; executed directly, without a shell
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnLost {
    /// TERM, then KILL; both before the lease ends
    #[default]
    Term,
    /// KILL, before the lease ends
    Kill,
    /// Only a warning: CMD then outlives the lease, beside the next holder
    Warn,
}

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

#[derive(Debug, Subcommand)]
pub(crate) enum LatchCall {
    /// Arrive, without waiting for the others; may be repeated
    Arrive {
        #[arg(value_name = "LATCH")]
        name: String,
        /// How many different members open it; 1 to 1024
        #[arg(long, value_name = "N")]
        needed: u32,
        /// Who arrives: the same whenever the same work is run again. There is no default
        #[arg(long, value_name = "NAME")]
        member: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Wait until it is open; exit with 75 if that takes too long
    Wait {
        #[arg(value_name = "LATCH")]
        name: String,
        /// How many different members open it; 1 to 1024
        #[arg(long, value_name = "N")]
        needed: u32,
        /// At most so long, for example 30s or 5m [default: for ever]
        #[arg(short, long, value_name = "DUR", value_parser = duration)]
        wait: Option<Duration>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show who has arrived
    Show {
        #[arg(value_name = "LATCH")]
        name: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Close it and begin the next epoch, in which nobody has arrived
    Reset {
        #[arg(value_name = "LATCH")]
        name: String,
        /// How many different members open it from now on; 1 to 1024
        #[arg(long, value_name = "N")]
        needed: u32,
        /// Only if this epoch is present; a later one stays
        #[arg(long, value_name = "E")]
        epoch: Option<u64>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum BarrierCall {
    /// Arrive, and wait until all have; exit with 75 if that takes too long
    Wait {
        #[arg(value_name = "BARRIER")]
        name: String,
        /// How many members wait for each other; 1 to 1024
        #[arg(long, value_name = "N")]
        parties: u32,
        /// Who arrives: the same whenever the same work is run again. There is no default
        #[arg(long, value_name = "NAME")]
        member: String,
        /// Which round this is, from 0; one that has passed returns at once [default: the present one]
        #[arg(long, value_name = "E")]
        epoch: Option<u64>,
        /// At most so long, for example 30s or 5m [default: for ever]
        #[arg(short, long, value_name = "DUR", value_parser = duration)]
        wait: Option<Duration>,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Arrive in the present epoch, without waiting for the others
    Arrive {
        #[arg(value_name = "BARRIER")]
        name: String,
        /// How many members wait for each other; 1 to 1024
        #[arg(long, value_name = "N")]
        parties: u32,
        /// Who arrives: the same whenever the same work is run again. There is no default
        #[arg(long, value_name = "NAME")]
        member: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show who has arrived
    Show {
        #[arg(value_name = "BARRIER")]
        name: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("lists").args(["table", "show_prices"]))]
pub(crate) struct Cost {
    /// How many locks there are
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(crate) locks: u64,

    /// For how long a lock is held each time, for example 20s or 1h
    #[arg(long, value_name = "DUR", value_parser = duration, required_unless_present = "lists")]
    pub(crate) hold: Option<Duration>,

    /// How often each lock is acquired and released a day, for example 24 or 0.5 [default: without a
    /// pause]
    #[arg(long, value_name = "N", value_parser = above_zero)]
    pub(crate) cycles_per_day: Option<f64>,

    /// The TTL of the locks; 1s to 24h
    #[arg(long, value_name = "DUR", default_value = "30s", value_parser = duration)]
    pub(crate) ttl: Duration,

    /// How many wait each time, on average, for example 2 or 0.1
    #[arg(long, value_name = "N", value_parser = above_zero, requires = "wait")]
    pub(crate) waiters: Option<f64>,

    /// For how long each of them waits, for example 10m
    #[arg(long, value_name = "DUR", value_parser = duration, requires = "waiters")]
    pub(crate) wait: Option<Duration>,

    /// All locks are held under one session, which is renewed once for all
    #[arg(long)]
    pub(crate) session: bool,

    /// Each lock is acquired by the process that has released it less than 10s ago, which saves the
    /// read
    #[arg(long)]
    pub(crate) warm: bool,

    /// Show where each number comes from
    #[arg(long, conflicts_with = "json")]
    pub(crate) explain: bool,

    /// Print one JSON object: usage, services with their requests by kind and cost_per_month
    #[arg(long)]
    pub(crate) json: bool,

    /// Take prices from FILE instead of the list that is built in
    #[arg(long, value_name = "FILE")]
    pub(crate) prices: Option<PathBuf>,

    /// Print the list that is built in, to be copied and changed
    #[arg(long, conflicts_with_all = ["locks", "hold", "cycles_per_day", "ttl", "waiters", "wait"])]
    #[arg(conflicts_with_all = ["session", "warm", "explain", "json", "prices"])]
    pub(crate) show_prices: bool,

    /// Print the table of docs/COST.md: what cycles, hours held and hours waited cost
    #[arg(long, conflicts_with_all = ["locks", "hold", "cycles_per_day", "ttl", "waiters", "wait"])]
    #[arg(conflicts_with_all = ["session", "warm", "explain", "json"])]
    pub(crate) table: bool,
}

/// What the library accepts, which says so only when a lock is taken.
pub(crate) const TTL: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("{error} (such as 30s, 5m, 1h30m)"))
}

fn above_zero(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "a number above zero is expected".to_owned())
}

fn token(text: &str) -> Result<FencingToken, String> {
    text.parse().map_err(|_| "not a fencing token: a whole number is expected".to_owned())
}

fn holder(text: &str) -> Result<HolderId, String> {
    text.parse().map_err(|error: leaselock::ParseHolderIdError| error.to_string())
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
        assert!(!run.no_wait);
    }
}
