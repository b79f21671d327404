//! The history of one lock, as its users saw it.

use leaselock_history::{History, NotLinearizable};

/// What was seen, with room for ends whose time only becomes known later.
#[derive(Debug, Default)]
pub(super) struct Recording(Vec<Option<(usize, Seen)>>);

#[derive(Clone, Copy, Debug)]
pub(super) enum Seen {
    Acquiring,
    Acquired(Option<u64>),
    Trusted(u64),
    Ending(u64),
    Ended,
}

impl Recording {
    pub(super) fn add(&mut self, user: usize, seen: Seen) {
        self.0.push(Some((user, seen)));
    }

    /// A place where an end may be put later: a holder that loses its lease has begun to end when it
    /// looked for the last time.
    pub(super) fn leave_room(&mut self) -> usize {
        self.0.push(None);
        self.0.len() - 1
    }

    pub(super) fn fill(&mut self, place: usize, user: usize, seen: Seen) {
        self.0[place] = Some((user, seen));
    }

    pub(super) fn check(&self) -> Result<(), NotLinearizable> {
        let mut history = History::default();
        for (user, seen) in self.0.iter().flatten() {
            match *seen {
                Seen::Acquiring => history.acquiring(*user),
                Seen::Acquired(token) => history.acquired(*user, token),
                Seen::Trusted(token) => history.trusted(*user, token),
                Seen::Ending(token) => history.ending(*user, token),
                Seen::Ended => history.ended(*user),
            }
        }
        history.check()
    }
}
