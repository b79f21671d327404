//! The one error type.

use std::error::Error as StdError;
use std::fmt;

use crate::token::FencingToken;

/// The result of the library's fallible functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as far as a caller would act differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The lock's name cannot be a key on every store.
    InvalidName,
    /// A duration is out of its range, or two options contradict each other.
    InvalidOptions,
    /// The store's URL or one of its options is not understood.
    InvalidUrl,
    /// No credentials for the store were found.
    MissingCredentials,
    /// The bucket or container does not exist.
    StoreAbsent,
    /// The store refused the credentials, or they do not permit the request.
    PermissionDenied,
    /// The store did not answer, or answered with errors until patience ran out. Trying again
    /// later may help.
    Unavailable,
    /// The store does not honour conditional writes: a lock on it would have several holders.
    UnfitStore,
    /// The lock's record is damaged, too large, or written by a newer version. It is treated as
    /// held and left untouched; [`Break::force`](crate::Break::force) replaces it.
    UnreadableRecord,
    /// The name belongs to another primitive: a lock was opened as a semaphore, say. Nothing was
    /// changed.
    WrongKind,
    /// A semaphore has another limit, or a latch or a barrier waits for another number, than it was
    /// opened with. Nothing was changed.
    LimitMismatch {
        /// What is on record.
        stored: u32,
    },
    /// A latch or a barrier is in another epoch than the call was about: that epoch has not begun, was
    /// reset before it opened, or vanished with the record, which somebody has deleted. What had
    /// arrived in it counts for nothing any more.
    EpochMismatch {
        /// The epoch that is on record; 0 where there is no record.
        stored: u64,
    },
    /// A symbolic link leads out of the directory of a `file://` store.
    OutsideRoot,
    /// The lease was lost while the work ran.
    Lost,
    /// The store refused a fenced write: a holder with a larger token has claimed the object.
    Fenced {
        /// That holder's token.
        by_token: FencingToken,
    },
    /// An object was changed or deleted by somebody who does not go by the fence; or, in an
    /// optimistic update, by others again and again.
    Conflict,
    /// There is an object already where a new one was to be.
    AlreadyExists,
    /// It could not be found out whether a write has landed: the store did not answer, or so many
    /// others have written since that its traces are gone. It may have; unless a later write is
    /// there, it still may.
    Unconfirmed,
    /// A break expected another fencing token than the holder's.
    TokenMismatch,
    /// There is no holder to break.
    NotHeld,
    /// The store handle was shut down.
    ShutDown,
    /// A fault in this library.
    Internal,
}

/// An error of the library: a [kind](Error::kind) to act on, a sentence to read, and the cause
/// as [`source`](StdError::source). `{error:#}` is the sentence with its causes.
pub struct Error {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// What went wrong, as far as a caller would act differently.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    pub(crate) fn caused_by(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { source: Some(source.into()), ..self }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self:#}", self.kind)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&if f.alternate() { with_causes(self) } else { self.message.clone() })
    }
}

/// What an error says, and its causes.
pub(crate) fn with_causes(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Many an error says what its cause says, and then has it as its cause too.
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once() {
        let inner = Error::new(ErrorKind::Unavailable, "connection refused");
        let middle = Error::new(ErrorKind::Unavailable, "no answer: connection refused");
        let outer = Error::new(ErrorKind::Unavailable, "nobody is there");
        let error = outer.caused_by(middle.caused_by(inner));
        assert_eq!(
            format!("{error:?}"),
            "Unavailable: nobody is there: no answer: connection refused"
        );
        assert_eq!(format!("{error:#}"), "nobody is there: no answer: connection refused");
        assert_eq!(error.to_string(), "nobody is there");
    }
}
