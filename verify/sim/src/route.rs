//! What becomes of one request on its way.

use std::time::Duration;

use rand::rngs::SmallRng;

use crate::faults::{Failure, Fate, Weather};
use crate::plan::Latency;
use crate::rng::Draw;

/// The way of one request.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// When copies of it reach the store, counted from when it is sent; none if it is lost.
    pub(crate) copies: Vec<Duration>,
    pub(crate) back: Back,
    /// Whether anything went wrong with it.
    pub(crate) plain: bool,
}

/// What the process hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Back {
    /// Nothing, ever.
    Nothing,
    /// What the store says about this copy, so long after it arrived.
    Of { copy: usize, after: Duration },
    /// A failure, so long after the request was sent, whatever the store says.
    Failed { failure: Failure, after: Duration },
}

/// A request that travels well.
pub(crate) fn plain(latency: &Latency, rng: &mut SmallRng) -> Route {
    let (there, back) = (travel(latency, rng), travel(latency, rng));
    Route { copies: vec![there], back: Back::Of { copy: 0, after: back }, plain: true }
}

fn travel(latency: &Latency, rng: &mut SmallRng) -> Duration {
    let spread = if rng.chance(latency.tail) { latency.spread * 10 } else { latency.spread };
    latency.least + rng.up_to(spread)
}

impl Route {
    /// The same after something has happened to it.
    pub(crate) fn suffering(mut self, fate: Fate) -> Self {
        self.plain = false;
        let there = self.copies.first().copied().unwrap_or_default();
        let round = match self.back {
            Back::Of { after, .. } => there + after,
            _ => there,
        };
        match fate {
            Fate::Lost => (self.copies, self.back) = (Vec::new(), Back::Nothing),
            Fate::Unanswered => self.back = Back::Nothing,
            Fate::Late(by) => self.copies.iter_mut().for_each(|copy| *copy += by),
            Fate::SlowAnswer(by) => {
                if let Back::Of { after, .. } = &mut self.back {
                    *after += by;
                }
            }
            Fate::Before(failure) => {
                self.copies.clear();
                self.back = Back::Failed { failure, after: round };
            }
            Fate::After(failure) => self.back = Back::Failed { failure, after: round },
            Fate::Ghost(failure, by) => {
                self.copies.iter_mut().for_each(|copy| *copy += by);
                self.back = Back::Failed { failure, after: round };
            }
            Fate::Twice { apart, second } => {
                self.copies.push(there + apart);
                if let Back::Of { copy, .. } = &mut self.back {
                    *copy = usize::from(second);
                }
            }
        }
        self
    }

    /// The same where the client reports a failure if no answer has come for so long.
    pub(crate) fn of_a_client_with_patience(mut self, limit: Duration) -> Self {
        if self.back == Back::Nothing {
            self.back = Back::Failed { failure: Failure::Generic, after: limit };
        }
        self
    }

    /// The same in this weather.
    pub(crate) fn through(self, weather: Weather, latency: &Latency, rng: &mut SmallRng) -> Self {
        let fate = match weather {
            Weather::Cut => Fate::Lost,
            Weather::Mute => Fate::Unanswered,
            Weather::Denied => Fate::Before(Failure::Denied),
            Weather::Storm(percent) if rng.chance(percent) => Fate::Before(Failure::Generic),
            Weather::Flaky(percent) if rng.chance(percent) => Fate::After(Failure::Generic),
            Weather::Slow(most) => Fate::Late(rng.up_to(most)),
            Weather::Twice(percent) if rng.chance(percent) => {
                Fate::Twice { apart: travel(latency, rng), second: rng.chance(75) }
            }
            Weather::Storm(_) | Weather::Flaky(_) | Weather::Twice(_) => return self,
        };
        self.suffering(fate)
    }
}
