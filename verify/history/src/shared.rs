//! Histories of what several may hold at once: permits of a semaphore, or readers beside each other.
//!
//! Every holder has some permits, and all together never have more than there are. A lock for readers
//! and writers is that with so many permits that there is one for every reader, of which a writer has
//! all.
//!
//! No search is needed here. Tokens tell the order of entries, so the best explanation is known: each
//! holder enters as late as it can, which is when it, or somebody with a larger token, is told so; and
//! it leaves as early as it can, which is when it begins to. Any other explanation has everybody
//! inside for longer.

use std::collections::BTreeMap;

use super::{Event, History, NotLinearizable, Operation, Outcome, describe};

/// One holder's time inside, by the places of events in the history.
#[derive(Clone, Copy, Debug)]
struct Stay {
    user: usize,
    permits: u32,
    asked: usize,
    told: usize,
    /// `None` when it never began to leave.
    leaving: Option<usize>,
}

impl History {
    /// Whether the history is one of something with `limit` permits, of which the holder with each
    /// token has as many as `permits` says.
    ///
    /// # Errors
    /// It is not; the part that has no explanation.
    ///
    /// # Panics
    /// A user was recorded to return from nothing.
    pub fn check_shared(
        &self,
        limit: u32,
        permits: impl Fn(u64) -> u32,
    ) -> Result<(), NotLinearizable> {
        let stays = self.stays(permits)?;
        // Before and after events, which have odd places; at the same place who leaves comes first.
        let mut turns: Vec<(usize, bool, u64)> = Vec::new();
        let mut latest = usize::MAX;
        for (token, stay) in stays.iter().rev() {
            latest = latest.min(stay.told);
            if latest <= stay.asked {
                return Err(self.unexplained(latest));
            }
            turns.push((latest * 2, true, *token));
            turns.extend(stay.leaving.map(|leaving| (leaving * 2 + 2, false, *token)));
        }
        turns.sort_unstable();
        let mut held = 0;
        for (place, enters, token) in turns {
            let permits = u64::from(stays[&token].permits);
            if !enters {
                held -= permits;
                continue;
            }
            held += permits;
            if held > u64::from(limit) {
                return Err(self.unexplained(place / 2));
            }
        }
        Ok(())
    }

    fn stays(&self, permits: impl Fn(u64) -> u32) -> Result<BTreeMap<u64, Stay>, NotLinearizable> {
        let mut asking = BTreeMap::new();
        let mut stays: BTreeMap<u64, Stay> = BTreeMap::new();
        for (place, (user, event)) in self.events.iter().enumerate() {
            let user = *user;
            match *event {
                Event::Call(Operation::Acquire) => drop(asking.insert(user, place)),
                Event::Return(Outcome::NotAcquired) => drop(asking.remove(&user)),
                Event::Return(Outcome::Acquired(token)) => {
                    let asked = asking.remove(&user).expect("whoever is told something has asked");
                    let permits = permits(token);
                    let stay = Stay { user, permits, asked, told: place, leaving: None };
                    if stays.insert(token, stay).is_some() {
                        return Err(self.unexplained(place));
                    }
                }
                Event::Call(Operation::Trust(token) | Operation::End(token)) => {
                    let stay = stays.get_mut(&token).filter(|stay| stay.user == user);
                    let Some(stay) = stay.filter(|stay| stay.leaving.is_none()) else {
                        return Err(self.unexplained(place));
                    };
                    if *event == Event::Call(Operation::End(token)) {
                        stay.leaving = Some(place);
                    }
                }
                Event::Return(Outcome::Trusted | Outcome::Ended) => {}
            }
        }
        Ok(stays)
    }

    /// The events that matter up to this one.
    fn unexplained(&self, place: usize) -> NotLinearizable {
        let known = self.events.iter().take(place + 1).rev();
        let telling = known.filter(|(_, event)| {
            !matches!(event, Event::Call(Operation::Trust(_)) | Event::Return(Outcome::Trusted))
        });
        let mut events: Vec<_> = telling.take(SHOWN).map(describe).collect();
        events.reverse();
        NotLinearizable { events }
    }
}

/// Events that are shown before the one that has no explanation.
const SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use super::super::tests::history;

    #[test]
    fn as_many_as_there_are_permits_is_a_history_of_a_semaphore() {
        for script in [
            "1+ 2+ 1=7 2=8 1?7 2?8 1~7 1. 2?8 3+ 3=9 2~8 2. 3?9",
            // The third was let in when the first began to leave, whenever that returns.
            "1+ 2+ 3+ 1=7 2=8 1~7 3=9 3?9 1. 2?8",
            // Told late: it had entered before the two others left.
            "1+ 2+ 2=8 3+ 2~8 2. 3=9 1=7 1?7 3?9",
        ] {
            history(script).check_shared(2, |_| 1).unwrap();
        }
    }

    #[test]
    fn one_too_many_or_a_token_again_is_not() {
        for script in [
            "1+ 2+ 3+ 1=7 2=8 3=9",
            "1+ 2+ 3+ 1=7 2=8 3=9 1~7 1.",
            "1+ 1=7 1~7 1. 2+ 2=7",
            "1+ 1=8 2+ 2=7",
            "1+ 1=7 1~7 1?7",
        ] {
            assert!(history(script).check_shared(2, |_| 1).is_err(), "{script}");
        }
    }

    #[test]
    fn a_writer_is_alone_and_readers_are_not() {
        // Odd tokens write.
        let permits = |token| if token % 2 == 1 { u32::MAX } else { 1 };
        for (script, fits) in [
            ("1+ 2+ 1=6 2=8 1?6 2?8 3+ 1~6 1. 2~8 2. 3=9 3?9", true),
            ("1+ 2+ 1=6 2=8 1?6 2?8 3+ 1~6 1. 3=9 2~8 2.", false),
            ("1+ 2+ 1=7 2=8 1~7 1.", false),
        ] {
            assert_eq!(history(script).check_shared(u32::MAX, permits).is_ok(), fits, "{script}");
        }
    }

    /// With one permit both checks answer the same, of whatever three users may see.
    #[test]
    fn one_permit_is_a_lock() {
        let mut counts = [0; 2];
        for seed in 0..20_000 {
            let script = script(seed);
            let history = history(&script);
            let is_lock = history.check().is_ok();
            assert_eq!(history.check_shared(1, |_| 1).is_ok(), is_lock, "{script}");
            counts[usize::from(is_lock)] += 1;
        }
        assert!(counts.iter().all(|count| *count > 1000), "{counts:?}");
    }

    /// A few events, drawn by a linear congruential generator (Knuth's constants for MMIX).
    fn script(seed: u64) -> String {
        let mut state = seed;
        let mut below = |most: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % most
        };
        // What each is doing: nothing, asking, holding, leaving.
        let mut doing = [(0, 0); 3];
        let (mut next, mut words) = (1, Vec::new());
        for _ in 0..10 {
            let user = below(3) as usize;
            let (what, token) = doing[user];
            let (word, now) = match (what, below(4)) {
                (0, _) => ("+".to_owned(), (1, 0)),
                (1, 0) => ("=-".to_owned(), (0, 0)),
                (1, _) => {
                    // Mostly the next, sometimes one that was left out.
                    next += 1 + below(2);
                    let token = next - below(3).min(1);
                    (format!("={token}"), (2, token))
                }
                (2, 0) => (format!("?{token}"), (2, token)),
                (2, _) => (format!("~{token}"), (3, token)),
                _ => (".".to_owned(), (0, 0)),
            };
            doing[user] = now;
            words.push(format!("{user}{word}"));
        }
        words.join(" ")
    }
}
