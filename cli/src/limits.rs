//! When a child must be asked to end, and when it must be dead, so that it never outlives the
//! lease.

use std::time::Duration;

use crate::args::OnLost;
use crate::clock::Moment;

/// What `run` was told about the end of a lease.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    pub(crate) on_lost: OnLost,
    /// Between TERM and KILL.
    pub(crate) grace: Duration,
    /// Between KILL and the end of the lease: time for the signal to be delivered on a busy
    /// machine.
    margin: Duration,
}

/// The two moments that follow from a lease's deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) term: Moment,
    pub(crate) kill: Moment,
}

impl Policy {
    /// `shortest` is the shorter of the TTL and of the longest hold, if there is one; `grace` is
    /// a sixth of that, at most 5 s, unless given.
    ///
    /// # Errors
    /// A sentence, when `grace` leaves no time for a renewal: a lease of 0.9 TTL is renewed at up
    /// to 0.44 TTL, so TERM must not come before TTL/2.
    pub(crate) fn new(
        on_lost: OnLost,
        shortest: Duration,
        grace: Option<Duration>,
    ) -> Result<Self, String> {
        let grace = grace.unwrap_or_else(|| Duration::from_secs(5).min(shortest / 6));
        if grace > shortest / 3 {
            return Err(format!(
                "--kill-grace {} is more than a third of {}, the shorter of --ttl and --max-hold: \
                 CMD would be ended too early",
                humantime::format_duration(grace),
                humantime::format_duration(shortest),
            ));
        }
        let margin = Duration::from_millis(500).min(shortest / 20);
        Ok(Self { on_lost, grace, margin })
    }

    /// Whether a child is stopped at all.
    pub(crate) fn stops(&self) -> bool {
        self.on_lost != OnLost::Warn
    }

    /// For a lease that ends at `deadline`.
    pub(crate) fn limits(&self, deadline: Moment) -> Limits {
        let kill = deadline.minus(self.margin);
        let term = match self.on_lost {
            OnLost::Term => kill.minus(self.grace),
            OnLost::Kill | OnLost::Warn => Moment::NEVER,
        };
        Limits { term, kill }
    }

    /// The watchdog's TERM comes a little after the wrapper's, which is to be the only one.
    pub(crate) fn for_watchdog(&self, limits: Limits) -> Limits {
        Limits { term: limits.term.plus(self.margin / 2), kill: limits.kill }
    }

    /// The lease will not be renewed any more: end the child now, and within what is left.
    pub(crate) fn hurry(&self, limits: Limits, now: Moment) -> Limits {
        match self.on_lost {
            OnLost::Term => Limits { term: now, kill: limits.kill.earlier(now.plus(self.grace)) },
            OnLost::Kill => Limits { term: Moment::NEVER, kill: now },
            OnLost::Warn => limits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(seconds: f64) -> Moment {
        let time = Duration::from_secs_f64(seconds);
        Moment { boot: time, wall: time }
    }

    #[test]
    fn term_comes_first_then_kill_and_both_before_the_deadline() {
        let ttl = Duration::from_secs(30);
        let policy = Policy::new(OnLost::Term, ttl, None).unwrap();
        let limits = policy.limits(moment(27.0));
        assert_eq!(limits, Limits { term: moment(21.5), kill: moment(26.5) });
        let hurried = policy.hurry(limits, moment(10.0));
        assert_eq!(hurried, Limits { term: moment(10.0), kill: moment(15.0) });
        let late = policy.hurry(limits, moment(25.0));
        assert_eq!(late.kill, moment(26.5), "never later than the lease allows");
    }

    #[test]
    fn a_short_lease_has_a_short_grace_and_margin() {
        let policy = Policy::new(OnLost::Term, Duration::from_secs(1), None).unwrap();
        assert_eq!(policy.grace, Duration::from_secs(1) / 6);
        assert_eq!(policy.margin, Duration::from_millis(50));
    }

    #[test]
    fn kill_sends_no_term() {
        let policy = Policy::new(OnLost::Kill, Duration::from_secs(30), None).unwrap();
        let limits = policy.limits(moment(27.0));
        assert_eq!(limits, Limits { term: Moment::NEVER, kill: moment(26.5) });
        assert_eq!(policy.hurry(limits, moment(3.0)).kill, moment(3.0));
    }

    #[test]
    fn a_grace_that_leaves_no_time_to_renew_is_refused() {
        let ttl = Duration::from_secs(30);
        assert!(Policy::new(OnLost::Term, ttl, Some(Duration::from_secs(10))).is_ok());
        let error = Policy::new(OnLost::Term, ttl, Some(Duration::from_secs(11))).unwrap_err();
        assert!(error.contains("11s") && error.contains("30s"), "{error}");
    }
}
