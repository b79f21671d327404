//! Commands that hold locks.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};
use leaselock::HolderId;

use super::duration;
use crate::{exit, people};

/// What to do while somebody else holds the lock.
#[derive(Args, Debug, Default)]
pub(crate) struct Busy {
    /// Give up at once when the lock is held
    #[arg(short, long, conflicts_with = "wait")]
    pub(crate) no_wait: bool,

    /// Wait at most so long for the lock, for example 30s or 5m [default: for ever]
    #[arg(short, long, value_name = "DUR", value_parser = duration)]
    pub(crate) wait: Option<Duration>,

    /// Exit with N instead of 75 when the lock is busy
    #[arg(short = 'E', long, value_name = "N")]
    conflict_exit_code: Option<u8>,
}

impl Busy {
    /// How to exit when it has not been acquired.
    pub(crate) fn code(&self) -> u8 {
        self.conflict_exit_code.unwrap_or(exit::BUSY)
    }
}

/// What others are told of who holds the lock.
#[derive(Args, Debug, Default)]
pub(crate) struct Owner {
    /// Who holds the lock, for people [default: the user's name]
    #[arg(long, value_name = "LABEL")]
    owner: Option<String>,

    /// Why it is held, for people
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
}

impl Owner {
    pub(crate) fn label(&self) -> String {
        self.owner.clone().unwrap_or_else(people::user)
    }
}

#[derive(Args, Debug, Default)]
#[command(group = ArgGroup::new("way").args(["shared", "exclusive", "limit", "once"]))]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) busy: Busy,

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

    #[command(flatten)]
    pub(crate) owner: Owner,

    /// Exit with 0 at once, without running CMD, when the lock is busy
    #[arg(long, conflicts_with_all = ["wait", "conflict_exit_code"])]
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
    #[command(flatten)]
    pub(crate) busy: Busy,

    /// How long the lease lasts unless `leaselock renew` is called: 1s to 24h, longer than the longest
    /// step. There is no default
    #[arg(long, value_name = "DUR", value_parser = duration)]
    pub(crate) ttl: Duration,

    #[command(flatten)]
    pub(crate) owner: Owner,

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

    #[command(flatten)]
    pub(crate) owner: Owner,

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

fn holder(text: &str) -> Result<HolderId, String> {
    text.parse().map_err(|error: leaselock::ParseHolderIdError| error.to_string())
}
