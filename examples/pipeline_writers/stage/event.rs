//! What a writer tells the director: one line on its standard output each.

use std::time::Duration;

use leaselock::clock::Boot;
use leaselock::{ErrorKind, Release};
use serde::{Deserialize, Serialize};

use crate::writer::Progress;

/// What happened in a writer, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// Microseconds on the clock that all processes share.
    at: u64,
    pub(crate) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum What {
    Acquired {
        token: u64,
    },
    /// It has read the manifest and is about to write it. Under chaos it waits for an answer.
    Putting,
    Releasing,
    Released,
    /// The lease had ended when it was to be released.
    TooLate,
    /// The store refused it: somebody with a larger token was there.
    Fenced {
        by: u64,
    },
    /// The lease ended while it worked.
    Lost,
    /// Its write was refused or lost, and so much was written since that it cannot tell.
    Unconfirmed,
    /// Another attempt failed.
    Failed {
        why: String,
    },
    /// The batch is in the table, and in the log of this writer.
    Acknowledged {
        rows: u64,
    },
}

impl Event {
    pub(crate) fn new(at: Boot, what: What) -> Self {
        let at = u64::try_from(at.since_origin().as_micros()).unwrap_or(u64::MAX);
        Self { at, what }
    }

    pub(crate) fn at(&self) -> Boot {
        Boot::new(Duration::from_micros(self.at))
    }
}

impl From<Progress<'_>> for What {
    fn from(progress: Progress<'_>) -> Self {
        match progress {
            Progress::Acquired(token) => Self::Acquired { token: token.get() },
            Progress::Putting => Self::Putting,
            Progress::Releasing => Self::Releasing,
            Progress::Released(Release::AlreadyLost(_)) => Self::TooLate,
            Progress::Released(Release::Released | Release::Unconfirmed) => Self::Released,
            Progress::Failed(error) => match error.kind() {
                ErrorKind::Fenced { by_token } => Self::Fenced { by: by_token.get() },
                ErrorKind::Lost => Self::Lost,
                ErrorKind::Unconfirmed => Self::Unconfirmed,
                _ => Self::Failed { why: format!("{error:?}") },
            },
        }
    }
}
