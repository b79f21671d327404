//! What the world consists of at one moment, and a member's part in it.

use super::decisions;

pub(crate) type Token = u8;

/// The world.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// In order.
    pub(crate) members: Vec<Member>,
    pub(crate) contenders: Vec<Contender>,
    pub(crate) outages: u8,
    pub(crate) past: Past,
}

/// A store, and how each contender stands with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Member {
    pub(crate) rec: Option<Rec>,
    pub(crate) up: bool,
    /// By contender.
    pub(crate) seats: Vec<Seat>,
    /// Writes on their way over the present version, in order.
    pub(crate) flights: Vec<Flight>,
}

/// A member's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Rec {
    pub(crate) token: Token,
    pub(crate) entry: Option<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Entry {
    pub(crate) of: u8,
    /// Whether its contender does not count it any more.
    pub(crate) astray: bool,
    pub(crate) token: Token,
}

impl Entry {
    /// Whose it was, and with which token, makes no difference.
    pub(crate) const ASTRAY: Self = Self { of: 0, astray: true, token: 0 };
}

/// A vote, or a join, on its way. Whose it is makes no difference once it is astray.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Flight {
    pub(crate) by: u8,
    pub(crate) astray: bool,
    pub(crate) token: Token,
    pub(crate) joins: bool,
}

/// How a contender stands with a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Seat {
    /// Nothing is wanted of it, it was taken, did not answer, or was lost.
    Out,
    /// It is about to be looked at.
    Asked,
    /// It was free, and had issued this token.
    Open(Token),
    /// It was not, and had issued this token.
    Taken(Token),
    /// A vote, or a join, was sent.
    Sent { joins: bool },
    /// It has the entry, whose lease is not over.
    Landed { joined: bool },
}

impl Seat {
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Open(_))
    }

    pub(crate) fn is_sent(self) -> bool {
        matches!(self, Self::Sent { .. })
    }

    pub(crate) fn has_landed(self) -> bool {
        matches!(self, Self::Landed { .. })
    }

    pub(crate) fn floor(self) -> Option<Token> {
        match self {
            Self::Open(floor) | Self::Taken(floor) => Some(floor),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Contender {
    pub(crate) phase: Phase,
    /// How many rounds it may play yet, and how many members try to enter afterwards.
    pub(crate) rounds: u8,
    pub(crate) joins: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Phase {
    /// In no round.
    Idle,
    Looking,
    /// Votes with this token.
    Proposed(Token),
    /// Holds, with this token.
    Won(Token),
}

impl Phase {
    pub(crate) fn token(self) -> Option<Token> {
        match self {
            Self::Proposed(token) | Self::Won(token) => Some(token),
            Self::Idle | Self::Looking => None,
        }
    }
}

/// What is remembered for the promises alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Past {
    /// The token of the last acquisition.
    pub(crate) acquired: Token,
    pub(crate) violation: Option<Violation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Violation {
    TokenDidNotRise,
    CounterDecreased,
    OtherToken,
}

impl Member {
    /// Sends a write over what is there.
    pub(crate) fn send(&mut self, contender: usize, token: Token, joins: bool) {
        let by = decisions::small(contender);
        self.seats[contender] = Seat::Sent { joins };
        self.flights.push(Flight { by, astray: false, token, joins });
        self.flights.sort_unstable();
    }

    /// Another version: nothing that was on its way can land, and whoever waits for it is told so.
    pub(crate) fn write(&mut self, rec: Rec) {
        self.rec = Some(rec);
        for flight in std::mem::take(&mut self.flights) {
            if flight.astray {
                continue;
            }
            // A vote is decided on again. Whether a join is does not matter: it may be tried again.
            let again = if flight.joins { Seat::Out } else { Seat::Open(0) };
            self.seats[usize::from(flight.by)] = again;
        }
    }

    /// A contender does not count what it has here any more, nor what it has on its way.
    pub(crate) fn go_astray(&mut self, contender: usize) {
        let contender = decisions::small(contender);
        let entry = self.rec.as_mut().and_then(|rec| rec.entry.as_mut());
        if let Some(entry) = entry.filter(|entry| entry.of == contender) {
            *entry = Entry::ASTRAY;
        }
        for flight in self.flights.iter_mut().filter(|flight| flight.by == contender) {
            *flight = Flight { by: 0, astray: true, ..*flight };
        }
        self.flights.sort_unstable();
        self.flights.dedup();
    }

    /// Whether something may come yet that nobody counts any more.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.flights.iter().any(|flight| flight.astray)
    }
}
