//! How locks are used, and checks that this is possible.

use std::time::Duration;

use crate::args::{Cost, TTL};
use crate::exit::{self, Failure};

/// What price lists count a month as: 365 days / 12.
pub(crate) const HOURS_PER_MONTH: f64 = 730.0;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How far a number of cycles may be off that somebody has worked out by hand.
const ROUNDING: f64 = 0.001;

/// A pattern of usage.
#[derive(Clone, Debug)]
pub(crate) struct Usage {
    pub(crate) ttl: Duration,
    pub(crate) locks: u64,
    /// For how long a lock is held each time.
    pub(crate) hold: Duration,
    /// How often each lock is acquired and released.
    pub(crate) cycles_per_day: f64,
    /// How many wait each time, on average.
    pub(crate) waiters: f64,
    /// For how long each of them waits.
    pub(crate) wait: Duration,
    /// All locks are held under one session.
    pub(crate) session: bool,
    /// Each lock is acquired again by the process that has just released it.
    pub(crate) warm: bool,
}

impl Usage {
    pub(crate) fn new(args: &Cost) -> Result<Self, Failure> {
        let ttl = args.ttl;
        if !TTL.contains(&ttl) {
            let bound = if ttl < *TTL.start() { "at least 1s" } else { "at most 24h" };
            return Err(refused(format!("the TTL is {}, but must be {bound}", shown(ttl))));
        }
        let hold = args.hold.unwrap_or_default();
        let cycles_per_day = match args.cycles_per_day {
            Some(cycles) => cycles,
            None if hold.is_zero() => {
                return Err(refused("locks that are held for no time need --cycles-per-day"));
            }
            None => DAY.div_duration_f64(hold),
        };
        let held_per_day = hold.as_secs_f64() * cycles_per_day;
        if held_per_day > DAY.as_secs_f64() * (1.0 + ROUNDING) {
            return Err(refused(format!(
                "a lock that is held for {} does not fit into a day {} times",
                shown(hold),
                decimal(cycles_per_day)
            )));
        }
        Ok(Self {
            ttl,
            locks: args.locks,
            hold,
            cycles_per_day,
            waiters: args.waiters.unwrap_or_default(),
            wait: args.wait.unwrap_or_default(),
            session: args.session,
            warm: args.warm,
        })
    }

    /// Acquisitions of all locks.
    pub(crate) fn cycles_per_month(&self) -> f64 {
        self.locks as f64 * self.cycles_per_day * HOURS_PER_MONTH / 24.0
    }

    /// Where the number of cycles comes from.
    pub(crate) fn explain(&self) -> String {
        format!(
            "Cycles a month: {} × {} a day × {HOURS_PER_MONTH} h / 24 h = {}",
            self.locks(),
            decimal(self.cycles_per_day),
            decimal(self.cycles_per_month()),
        )
    }

    fn locks(&self) -> String {
        match self.locks {
            1 => "1 lock".to_owned(),
            many => format!("{many} locks"),
        }
    }

    /// One sentence.
    pub(crate) fn describe(&self) -> String {
        let locks = self.locks();
        let each = if self.locks == 1 { "" } else { "each " };
        let often = match decimal(self.cycles_per_day).as_str() {
            "1" => "once".to_owned(),
            times => format!("{times} times"),
        };
        let mut text = format!(
            "{locks}, {each}held for {}, {often} a day, at a TTL of {}",
            shown(self.hold),
            shown(self.ttl),
        );
        if self.session {
            text.push_str(", under one session");
        }
        if self.warm {
            text.push_str(", acquired again by whoever released it");
        }
        if self.waiters > 0.0 {
            let waiters = decimal(self.waiters);
            text.push_str(&format!("; {waiters} waiting {} each time", shown(self.wait)));
        }
        text
    }
}

fn refused(message: impl Into<String>) -> Failure {
    Failure::new(exit::USAGE, message)
}

/// `30s`, `1h`.
pub(crate) fn shown(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

/// With at most four decimals.
pub(crate) fn decimal(number: f64) -> String {
    let text = format!("{number:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
