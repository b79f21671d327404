//! How a lock is to be held: plain data, its relations checked before anything is written.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::holder::Owner;
use crate::polling::Polling;
use crate::protocol::expiry::holder_validity;
use crate::record::{MAX_RETENTION, MAX_TTL, MIN_RETENTION, MIN_TTL, Payload};

/// TTL unless another is given.
pub(crate) const DEFAULT_TTL: Duration = Duration::from_secs(30);
/// A request never takes longer, however long the TTL.
const LONGEST_REQUEST: Duration = Duration::from_secs(5);
/// Google Cloud Storage and R2 take about one write a second per object: where the TTL allows,
/// renewals stay well below that.
const SHORTEST_COMFORTABLE_RENEWAL: Duration = Duration::from_secs(2);

/// Methods of a builder that set one field of its `options` each.
macro_rules! setters {
    ($($(#[$said:meta])+ $name:ident($argument:ident: $kind:ty) { $field:ident: $value:expr })+) => {$(
        $(#[$said])+
        #[must_use = "it is set on what comes back"]
        pub fn $name(mut self, $argument: $kind) -> Self {
            self.options.$field = $value;
            self
        }
    )+};
}

/// What can be asked of everything that is held under a session.
macro_rules! common_setters {
    () => {
        crate::options::setters! {
            /// How long what is held outlives a process that vanished: 1 s to 24 h, 30 s unless given,
            /// in whole milliseconds. It is the TTL of the session under which it is held.
            ttl(ttl: Duration) { ttl: Some(ttl) }

            /// A label for the record, at most 128 bytes, so that others can see who holds it or waits.
            owner(label: impl Into<String>) { owner: label.into() }

            /// Free text for the record, at most 1,024 bytes.
            note(text: impl Into<String>) { note: Some(text.into()) }

            /// What is held is lost after this time, so that a hung job does not keep it for ever.
            max_hold(limit: Duration) { max_hold: Some(limit) }

            /// How often a waiter looks whether there is room for it.
            polling(polling: crate::Polling) { polling: polling }
        }
    };
}

pub(crate) use {common_setters, setters};

/// What the user asked for, not yet checked.
#[derive(Clone, Debug, Default)]
pub(crate) struct LockOptions {
    pub(crate) ttl: Option<Duration>,
    pub(crate) renew_every: Option<Duration>,
    pub(crate) max_hold: Option<Duration>,
    pub(crate) min_hold: Option<Duration>,
    pub(crate) progress_within: Option<Duration>,
    pub(crate) owner: String,
    pub(crate) note: Option<String>,
    pub(crate) payload: Option<Payload>,
    pub(crate) manual: bool,
    pub(crate) no_store_clock: bool,
    pub(crate) no_local_handover: bool,
    pub(crate) no_queue: bool,
    pub(crate) polling: Polling,
    pub(crate) max_skew: Option<Duration>,
}

/// The same, checked and completed.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) ttl: Duration,
    /// Between a renewal's answer and the next renewal, before jitter; `None` when the user renews.
    pub(crate) renew_every: Option<Duration>,
    /// A lease without an acknowledged renewal for this long is at risk.
    pub(crate) at_risk_after: Duration,
    /// The longest that one request to the store may take.
    pub(crate) request_timeout: Duration,
    pub(crate) max_hold: Option<Duration>,
    pub(crate) min_hold: Option<Duration>,
    pub(crate) progress_within: Option<Duration>,
    pub(crate) owner: Owner,
    pub(crate) payload: Option<Payload>,
    pub(crate) store_clock: bool,
    pub(crate) max_skew: Option<Duration>,
    pub(crate) polling: Polling,
}

/// The longest that one request may take under a lease of `ttl`.
pub(crate) fn request_timeout(ttl: Duration) -> Duration {
    LONGEST_REQUEST.min(ttl / 6)
}

impl LockOptions {
    /// The options, if they go together.
    ///
    /// # Errors
    /// [`InvalidOptions`](ErrorKind::InvalidOptions), with both numbers in the message when two of
    /// them contradict each other.
    pub(crate) fn check(&self) -> Result<Terms> {
        let ttl = self.ttl.unwrap_or(DEFAULT_TTL);
        within("the TTL", ttl, MIN_TTL, MAX_TTL)?;
        whole_milliseconds("the TTL", ttl)?;
        let request_timeout = request_timeout(ttl);
        let renew_every = self.renew_every.unwrap_or_else(|| default_renewal(ttl));
        let with_jitter = renew_every.saturating_add(renew_every / 10);
        let worst = with_jitter.saturating_add(request_timeout);
        if renew_every.is_zero() || worst >= holder_validity(ttl) {
            return invalid(format!(
                "renewing every {renew_every:?} does not fit a TTL of {ttl:?}: with a tenth of \
                 jitter and one request of up to {request_timeout:?} a renewal could take \
                 {worst:?}, and a holder trusts its lease for {:?} (0.9 of the TTL); use a TTL of \
                 at least three times the interval",
                holder_validity(ttl),
            ));
        }
        if let Some(max) = self.max_hold {
            within("the longest hold", max, Duration::from_millis(1), Duration::MAX)?;
            if let Some(min) = self.min_hold.filter(|min| *min > max) {
                return invalid(format!("the shortest hold {min:?} exceeds the longest, {max:?}"));
            }
        }
        if let Some(min) = self.min_hold {
            within("the shortest hold", min, Duration::ZERO, MAX_TTL)?;
        }
        if let Some(progress) = self.progress_within {
            within("the progress interval", progress, Duration::from_millis(1), Duration::MAX)?;
        }
        at_most("the owner's label", &self.owner, Owner::MAX_LABEL)?;
        at_most("the note", self.note.as_deref().unwrap_or_default(), Owner::MAX_NOTE)?;
        Ok(Terms {
            ttl,
            renew_every: (!self.manual).then_some(renew_every),
            at_risk_after: (ttl / 2).max(with_jitter),
            request_timeout,
            max_hold: self.max_hold,
            min_hold: self.min_hold.filter(|min| !min.is_zero()),
            progress_within: self.progress_within,
            owner: Owner::of_this_process(self.owner.clone(), self.note.clone()),
            payload: self.payload.clone(),
            store_clock: !self.no_store_clock,
            max_skew: self.max_skew,
            polling: self.polling.check()?,
        })
    }
}

/// For how long a result may be kept.
///
/// # Errors
/// [`InvalidOptions`](ErrorKind::InvalidOptions), with the bound in the message.
pub(crate) fn check_retention(time: Duration) -> Result<()> {
    within("the retention", time, MIN_RETENTION, MAX_RETENTION)?;
    whole_milliseconds("the retention", time)
}

fn whole_milliseconds(what: &str, time: Duration) -> Result<()> {
    if time.subsec_nanos().is_multiple_of(1_000_000) {
        return Ok(());
    }
    invalid(format!("{what} {time:?} is finer than a millisecond"))
}

/// A third of the TTL, so that two renewals may fail; not under 2 s where two fifths of the TTL
/// allow, which with jitter still lies before the warning at half the TTL.
fn default_renewal(ttl: Duration) -> Duration {
    (ttl / 3).max(SHORTEST_COMFORTABLE_RENEWAL.min(ttl / 5 * 2))
}

fn within(what: &str, value: Duration, least: Duration, most: Duration) -> Result<()> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let bound =
        if value < least { format!("at least {least:?}") } else { format!("at most {most:?}") };
    invalid(format!("{what} is {value:?}, but must be {bound}"))
}

fn at_most(what: &str, text: &str, limit: usize) -> Result<()> {
    if text.len() <= limit {
        return Ok(());
    }
    invalid(format!("{what} has {} bytes, but may have at most {limit}", text.len()))
}

fn invalid<T>(message: String) -> Result<T> {
    Err(Error::new(ErrorKind::InvalidOptions, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn message(options: LockOptions) -> String {
        let error = options.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
        error.to_string()
    }

    #[test]
    fn the_defaults_fit_each_other_for_every_ttl() {
        for ms in [1000, 1001, 1500, 2000, 3000, 5999, 6000, 30_000, 86_400_000] {
            let ttl = Duration::from_millis(ms);
            let terms = LockOptions { ttl: Some(ttl), ..LockOptions::default() }.check().unwrap();
            assert!(terms.renew_every.unwrap() <= ttl / 2);
        }
        let terms = LockOptions::default().check().unwrap();
        assert_eq!((terms.ttl, terms.renew_every), (seconds(30), Some(seconds(10))));
        assert_eq!(terms.request_timeout, seconds(5));
    }

    #[test]
    fn short_ttls_renew_no_faster_than_stores_take_writes() {
        let options = LockOptions { ttl: Some(seconds(5)), ..LockOptions::default() };
        assert_eq!(options.check().unwrap().renew_every, Some(seconds(2)));
    }

    #[test]
    fn ttls_out_of_range_are_refused_with_the_bound() {
        for (ttl, bound) in
            [(Duration::from_millis(999), "at least 1s"), (seconds(86_401), "at most 86400s")]
        {
            let text = message(LockOptions { ttl: Some(ttl), ..LockOptions::default() });
            assert!(text.contains(bound), "{text}");
        }
        let ttl = Some(Duration::from_micros(1_000_500));
        assert!(message(LockOptions { ttl, ..LockOptions::default() }).contains("millisecond"));
    }

    #[test]
    fn a_renewal_that_cannot_keep_the_lease_is_refused_with_both_numbers() {
        let options = LockOptions {
            ttl: Some(seconds(10)),
            renew_every: Some(seconds(8)),
            ..LockOptions::default()
        };
        let text = message(options);
        assert!(text.contains("8s") && text.contains("10s"), "{text}");
        message(LockOptions { renew_every: Some(Duration::ZERO), ..LockOptions::default() });
    }

    #[test]
    fn holds_that_contradict_each_other_are_refused() {
        let options = LockOptions {
            max_hold: Some(seconds(5)),
            min_hold: Some(seconds(6)),
            ..LockOptions::default()
        };
        message(options);
        message(LockOptions { min_hold: Some(seconds(90_000)), ..LockOptions::default() });
        message(LockOptions { max_hold: Some(Duration::ZERO), ..LockOptions::default() });
        message(LockOptions { progress_within: Some(Duration::ZERO), ..LockOptions::default() });
    }

    #[test]
    fn labels_and_notes_are_bounded() {
        message(LockOptions { owner: "x".repeat(129), ..LockOptions::default() });
        message(LockOptions { note: Some("x".repeat(1025)), ..LockOptions::default() });
    }
}
