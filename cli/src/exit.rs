//! What the command exits with: the one table, and the one place where errors become codes.

use leaselock::{Error, ErrorKind};

use crate::{people, secrets};

/// Busy, or the wait timed out (`-E` changes it). `EX_TEMPFAIL` of sysexits.h: try again later.
pub(crate) const BUSY: u8 = 75;
/// The lease was lost and the child was stopped.
pub(crate) const LOST: u8 = 120;
/// The child finished, but at release the lock was somebody else's.
pub(crate) const OVERRUN: u8 = 121;
/// A break was refused: the lock is not held, or by another token; or a latch or a barrier is in another
/// epoch.
pub(crate) const REFUSED: u8 = 1;
/// `EX_USAGE`
pub(crate) const USAGE: u8 = 64;
/// `EX_UNAVAILABLE`
pub(crate) const UNAVAILABLE: u8 = 69;
/// `EX_SOFTWARE`
pub(crate) const INTERNAL: u8 = 70;
/// `EX_NOPERM`
const DENIED: u8 = 77;
/// `EX_CONFIG`
pub(crate) const CONFIGURATION: u8 = 78;
/// What shells answer.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// What shells answer.
pub(crate) const NOT_FOUND: u8 = 127;

/// The table, as every `--help` shows it.
pub(crate) const HELP: &str = "\
Exit codes:
  CMD's own, or 128+n   it ran and ended (or died by signal n) while the lock
                        was held; 128+n also when signal n ended the wait for it
  75                    the lock is busy, or the wait timed out (-E changes it);
                        latch, barrier: not all have arrived in time
  0                     also: the lock is busy, with --skip-if-busy; CMD has
                        succeeded before, with --once
  120                   the lease was lost, and CMD was stopped (elect campaigns
                        again instead); renew: the lock is not held any more
  121                   CMD finished, but at release the lock was somebody
                        else's; release: it was not held any more
  1                     break: refused, the lock is not held or by another
                        token, or the answer was no; latch, barrier: the
                        epoch has not begun, was reset, or is gone with its
                        record
  64                    usage: an argument, a lock's name, a duration, a URL;
                        the name belongs to something else, or to a semaphore,
                        latch or barrier of another number
  69                    the store, or a majority of several, cannot be reached;
                        or, with --once, CMD has succeeded, and the store did
                        not confirm that this was recorded
  70                    a fault of leaselock itself
  77                    access denied, or no credentials
  78                    the store is unfit, a record unreadable, or a variable
                        or leaselock.toml wrong
  126, 127              CMD is not executable, not found";

/// How a process that died by `signal` is reported.
pub(crate) fn by_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// Why a command ended without doing what it was asked to.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
    hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    /// What went wrong, without the hint.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Says it in parentheses behind the message.
    pub(crate) fn detail(self, detail: &str) -> Self {
        Self { message: format!("{} ({detail})", self.message), ..self }
    }

    /// Says it, and answers the exit code.
    pub(crate) fn print(&self) -> u8 {
        people::say(&self.message);
        if let Some(hint) = &self.hint {
            people::say(&format!("hint: {hint}"));
        }
        self.code
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (code, hint) = meaning(error.kind());
        let failure = Self::new(code, secrets::without(&format!("{error:#}")));
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

fn meaning(kind: ErrorKind) -> (u8, Option<&'static str>) {
    match kind {
        ErrorKind::InvalidName => (USAGE, Some("a lock's name is a path such as etl/nightly")),
        ErrorKind::InvalidOptions => (USAGE, None),
        ErrorKind::InvalidUrl => (
            USAGE,
            Some("--store takes file:///dir, s3://bucket/prefix, gs://bucket or az://container"),
        ),
        ErrorKind::TokenMismatch | ErrorKind::NotHeld => {
            (REFUSED, Some("`leaselock show [--once] LOCK` shows it as it is now"))
        }
        ErrorKind::WrongKind => (
            USAGE,
            Some("`leaselock show LOCK` tells what it is: a lock, an rwlock, a semaphore, …"),
        ),
        ErrorKind::LimitMismatch { .. } => {
            (USAGE, Some("all who use one semaphore, latch or barrier give it the same number"))
        }
        ErrorKind::EpochMismatch { .. } => {
            (REFUSED, Some("`leaselock latch show` and `barrier show` tell the present epoch"))
        }
        ErrorKind::Lost => (LOST, None),
        ErrorKind::Unavailable => (
            UNAVAILABLE,
            Some(
                "is the store's address right, and can it be reached from this machine? If it is \
                 only slow: a longer --ttl gives each request more time (a sixth of it, up to 5s)",
            ),
        ),
        ErrorKind::Unconfirmed => (UNAVAILABLE, Some("run it again to find out")),
        ErrorKind::MissingCredentials => (
            DENIED,
            Some("set the provider's environment variables, or pass --store-option KEY=VALUE"),
        ),
        ErrorKind::PermissionDenied => {
            (DENIED, Some("reading, writing and listing below the prefix must be allowed"))
        }
        ErrorKind::StoreAbsent => (CONFIGURATION, Some("create it, or correct --store")),
        ErrorKind::UnfitStore => (
            CONFIGURATION,
            Some("do not keep locks there: --no-check only hides that two holders are possible"),
        ),
        ErrorKind::UnreadableRecord => (
            CONFIGURATION,
            Some(
                "it was left as it is; `leaselock break LOCK --force` replaces it (with --once where run had it)",
            ),
        ),
        ErrorKind::OutsideRoot => {
            (CONFIGURATION, Some("remove the link, or name the real directory in --store"))
        }
        // The list of kinds may grow: an unknown one is a fault of this command.
        _ => (INTERNAL, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_table() {
        for code in [BUSY, LOST, OVERRUN, USAGE, UNAVAILABLE, INTERNAL, DENIED, CONFIGURATION] {
            assert!(HELP.contains(&format!("\n  {code} ")), "{code} is not in the table");
        }
        assert_eq!(by_signal(15), 143);
    }
}
