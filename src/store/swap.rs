//! A conditional write, seen to its end.

use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;

use super::Version;
use super::request::Failure;
use crate::clock::{Boot, Clock};
use crate::error::{Error, ErrorKind, Result};
use crate::rng::Randomness;
use crate::telemetry;
use crate::wait::{Backoff, RETRYING};

/// How a write ended that may have been applied.
#[derive(Debug)]
pub(crate) enum Swap<Conflict> {
    /// It landed, at the first attempt or a later one: whoever wrote it counts from before the first.
    Won {
        /// What it is called now.
        version: Version,
    },
    /// It is not what is there: this is.
    Conflict(Conflict),
    /// Not known, and it may still land.
    Unknown(Error),
}

/// How much patience a write has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For each request.
    pub(crate) request: Duration,
    /// No attempt begins later.
    pub(crate) until: Boot,
    /// No more attempts than this.
    pub(crate) attempts: u32,
}

/// A write that the store takes once at most, whose bytes are unlike those of every other.
pub(super) trait ConditionalWrite: Sync {
    /// What a read of its place finds.
    type Found: Send;
    /// What is told of a write that something else is there instead of.
    type Conflict;

    /// Its place.
    fn key(&self) -> &Path;

    /// Sends it once.
    fn put(&self, limit: Duration) -> impl Future<Output = Result<Version, Failure>> + Send;

    /// Reads its place.
    fn read(&self, limit: Duration) -> impl Future<Output = Result<Self::Found>> + Send;

    /// Whose write was found.
    fn recognise(&self, found: &Self::Found) -> Landed;

    /// Something else was found. `refused` when the store has refused every copy that was sent, as
    /// far as this process can know.
    fn conflict(&self, found: Self::Found, refused: bool) -> Self::Conflict;
}

/// Whose write is there.
pub(super) enum Landed {
    Ours(Version),
    Other,
    /// What was there before.
    NotYet,
}

/// Sends a write until its outcome is known or patience runs out.
///
/// A refusal or a failure is not believed: a client, a proxy or a load balancer between here and
/// the store may have sent the request twice and report about the second (hazards H1, H4, H5), so
/// what is there is read back and recognised. While what was expected is still there the write may
/// yet land, and the same bytes are sent again under the same condition: the store takes at most
/// one of them.
///
/// # Errors
/// It was not applied and never will be.
pub(super) async fn see_through<W: ConditionalWrite>(
    write: &W,
    clock: &Arc<dyn Clock>,
    rng: &Arc<dyn Randomness>,
    patience: Patience,
) -> Result<Swap<W::Conflict>> {
    let key = write.key();
    let mut pauses = Pauses::new(clock, rng, patience);
    // Set once an attempt may have reached the store.
    let mut doubt = false;
    // Unset once an attempt has been answered by anything but a refusal.
    let mut refused = true;
    for attempt in 1.. {
        let failure = match write.put(patience.request).await {
            Ok(version) => return Ok(Swap::Won { version }),
            Err(failure) => failure,
        };
        tracing::debug!(%key, attempt, ?failure, "a write was not acknowledged");
        doubt |= failure.may_have_been_applied();
        refused &= failure.is_refusal() || !failure.may_have_been_applied();
        let unclear = failure.is_unclear();
        let last = attempt >= patience.attempts;
        if !doubt {
            // Nothing has reached the store: no need to look.
            if last || !failure.is_passing() || !pauses.pause().await {
                return Err(failure.into_error(key));
            }
            continue;
        }
        match pauses.read(|limit| write.read(limit), worth_reading_again).await {
            Err(error) => {
                telemetry::ambiguity_resolved("unknown");
                return Ok(Swap::Unknown(error.caused_by(failure.into_error(key))));
            }
            Ok(found) => match write.recognise(&found) {
                Landed::Ours(version) => {
                    telemetry::ambiguity_resolved("won");
                    return Ok(Swap::Won { version });
                }
                Landed::Other => {
                    if unclear {
                        telemetry::ambiguity_resolved("lost");
                    }
                    return Ok(Swap::Conflict(write.conflict(found, refused)));
                }
                Landed::NotYet => {}
            },
        }
        if last || !pauses.pause().await {
            telemetry::ambiguity_resolved("unknown");
            return Ok(Swap::Unknown(failure.into_error(key)));
        }
    }
    unreachable!("attempts are counted up to a limit")
}

/// Reads until an answer comes or patience runs out.
///
/// # Errors
/// What went wrong last; at once when trying again does not help.
pub(super) async fn read_through<T, F: Future<Output = Result<T>>>(
    read: impl Fn(Duration) -> F,
    clock: &Arc<dyn Clock>,
    rng: &Arc<dyn Randomness>,
    patience: Patience,
) -> Result<T> {
    let passing = |error: &Error| error.kind() == ErrorKind::Unavailable;
    Pauses::new(clock, rng, patience).read(read, passing).await
}

/// While the outcome of a write is open even denied access may pass; what was read and not
/// understood stays as it is.
fn worth_reading_again(error: &Error) -> bool {
    error.kind() != ErrorKind::UnreadableRecord
}

/// The time between attempts.
struct Pauses<'a> {
    clock: &'a dyn Clock,
    backoff: Backoff,
    patience: Patience,
}

impl<'a> Pauses<'a> {
    fn new(clock: &'a Arc<dyn Clock>, rng: &Arc<dyn Randomness>, patience: Patience) -> Self {
        Self { clock: &**clock, backoff: Backoff::new(RETRYING, Arc::clone(rng)), patience }
    }

    /// Reads until an answer comes, patience runs out, or an error is not worth another attempt.
    async fn read<T, F>(
        &mut self,
        read: impl Fn(Duration) -> F,
        again: impl Fn(&Error) -> bool,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        for attempt in 1.. {
            match read(self.patience.request).await {
                Ok(found) => return Ok(found),
                Err(error) => {
                    let last = attempt >= self.patience.attempts || !again(&error);
                    if last || !self.pause().await {
                        return Err(error);
                    }
                }
            }
        }
        unreachable!("attempts are counted up to a limit")
    }

    /// Sleeps before another attempt; false when patience will have run out by then.
    async fn pause(&mut self) -> bool {
        let resume = self.clock.now().boot.plus(self.backoff.next());
        if resume >= self.patience.until {
            return false;
        }
        self.clock.sleep_until(resume).await;
        // A frozen process sleeps for longer (hazard H7).
        self.clock.now().boot < self.patience.until
    }
}
