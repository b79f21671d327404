//! A simulation of the whole library, as it is shipped, in virtual time.
//!
//! A few processes contend for a few locks on one store. Every process has clocks of its own, which
//! run at rates of their own and show times of their own; the store answers late, twice, wrongly or
//! not at all; processes crash, pause and freeze, people delete records and operators break leases.
//! All of it follows from one number, the seed: the same seed gives the same run to the last event.
//! A referee who sees everything checks from outside what `docs/PROTOCOL.md` promises.
//!
//! **Rates of clocks.** The promise holds while rates differ by less than 13 %. A run draws a slowest
//! rate from 0.92 to 0.956 and a fastest 1.13 times that, so at most 1.08, and puts every process's
//! clock and the store's between the two, often at the ends. [`Options::rates_beyond`] puts them at
//! 0.92 and 1.08, which is outside the promise: the referee must then find overlaps.
//!
//! ```
//! use leaselock_sim::{Options, run};
//!
//! let outcome = run(7, &Options::default());
//! assert!(outcome.violation.is_none());
//! assert_eq!(outcome.trace, run(7, &Options::default()).trace);
//! ```

mod clock;
mod counts;
mod events;
mod faults;
mod machine;
mod objects;
mod plan;
mod process;
mod referee;
mod report;
mod rng;
mod route;
mod shrink;
mod sim;
mod store;
mod svg;
mod testimony;
mod trace;
mod wire;
mod workload;
mod world;

pub use counts::Counts;
pub use referee::Violation;
pub use report::{missing, table};
pub use shrink::{Shrunk, shrink};
pub use sim::{Outcome, run};
pub use svg::draw;
pub use trace::Timeline;

/// What may be wrong with the store on purpose, to show that the simulation notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// ETags repeat although the bodies differ (hazard H3).
    ReusedEtag,
    /// Updates are applied whatever their condition says (hazard H14).
    IgnoredIfMatch,
}

/// How a seed is run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only these faults of the schedule, by number; all of them without.
    pub keep: Option<Vec<usize>>,
    /// Clocks whose rates differ by more than is promised to be safe.
    pub rates_beyond: bool,
    /// A store that is not one.
    pub sabotage: Option<Sabotage>,
    /// Keep a timeline to read and to draw.
    pub timeline: bool,
    /// Check only the histories of seeds that this divides; 0 and 1 mean all.
    pub histories_of: u64,
}
