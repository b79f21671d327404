//! Which locks are read in which round, so that no round costs more than so many requests.

/// How many records are read in one round.
pub(crate) const READS: usize = 200;
/// How many names are known at most.
pub(crate) const NAMES: usize = 5_000;
/// Stores list so many names with one request. Longer listings are repeated …
pub(crate) const PAGE: usize = 1_000;
/// … once in so many rounds.
const ROUNDS_PER_LONG_LISTING: u32 = 10;

#[derive(Debug, Default)]
pub(crate) struct Rota {
    /// Sorted.
    names: Vec<String>,
    /// Whose turn it is.
    next: usize,
    /// `None` before the first listing.
    since_listing: Option<u32>,
}

impl Rota {
    /// Whether the next round should begin with a listing.
    pub(crate) fn listing_is_due(&self) -> bool {
        match self.since_listing {
            Some(rounds) => self.names.len() <= PAGE || rounds >= ROUNDS_PER_LONG_LISTING,
            None => true,
        }
    }

    /// Goes on where it was, whatever names have come and gone.
    pub(crate) fn listed(&mut self, mut names: Vec<String>) {
        names.sort();
        names.dedup();
        self.next = match self.names.get(self.next) {
            Some(next) => names.partition_point(|name| name < next),
            None => 0,
        };
        self.names = names;
        self.since_listing = Some(0);
    }

    /// Whom to read now: at most [`READS`], each once, and `first` before those whose turn it is.
    pub(crate) fn round(&mut self, first: Option<&str>) -> Vec<String> {
        self.since_listing = self.since_listing.map(|rounds| rounds.saturating_add(1));
        let known =
            |first: &&str| self.names.binary_search_by(|name| name.as_str().cmp(first)).is_ok();
        let first = first.filter(known).map(str::to_owned);
        let mut round: Vec<String> = first.clone().into_iter().collect();
        // Once around at most.
        for _ in 0..self.names.len() {
            if round.len() == READS {
                break;
            }
            let name = &self.names[self.next % self.names.len()];
            self.next = (self.next + 1) % self.names.len();
            if first.as_ref() != Some(name) {
                round.push(name.clone());
            }
        }
        round
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("{number:05}")).collect()
    }

    #[test]
    fn few_locks_are_read_in_every_round() {
        let mut rota = Rota::default();
        assert!(rota.listing_is_due());
        rota.listed(names(3));
        for _ in 0..3 {
            let mut round = rota.round(Some("00001"));
            assert_eq!(round[0], "00001");
            round.sort();
            assert_eq!(round, names(3));
            assert!(rota.listing_is_due(), "one request");
        }
    }

    #[test]
    fn many_take_turns_and_the_first_is_always_read() {
        let mut rota = Rota::default();
        rota.listed(names(1_001));
        let mut read = std::collections::BTreeSet::new();
        let mut rounds = 0;
        while read.len() < 1_001 {
            let round = rota.round(Some("00700"));
            assert_eq!((round.len(), round[0].as_str()), (READS, "00700"));
            read.extend(round);
            rounds += 1;
        }
        assert_eq!(rounds, 6);
        assert!(!rota.listing_is_due());
        for _ in rounds..10 {
            rota.round(None);
        }
        assert!(rota.listing_is_due());
    }

    #[test]
    fn it_goes_on_where_it_was_after_a_listing() {
        let mut rota = Rota::default();
        rota.listed(names(500));
        rota.round(None);
        rota.listed(names(500).split_off(100));
        assert_eq!(rota.round(None)[0], "00200");
        rota.listed(Vec::new());
        assert_eq!(rota.round(Some("gone")), [""; 0]);
        rota.listed(names(2));
        assert_eq!(rota.round(None).len(), 2);
    }
}
