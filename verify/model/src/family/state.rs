//! What the world consists of at one moment.

use std::collections::BTreeSet;

pub(crate) type Age = u8;
pub(crate) type Token = u8;
/// Which acquisition: its process, and which of its own.
pub(crate) type Id = u8;

/// Acquisitions of one process have numbers below this.
const PER_PROCESS: u8 = 4;

/// The acquisition of this number of a process.
pub(crate) fn id(process: usize, number: u8) -> Id {
    u8::try_from(process).expect("there are few") * PER_PROCESS + number
}

/// Whose acquisition it is, and so under which session it waits and holds.
pub(crate) fn process_of(id: Id) -> usize {
    usize::from(id / PER_PROCESS)
}

/// The record of the lock. Its version is not in it: of every reference to one it is known whether
/// it still is the present.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Rec {
    pub(crate) token: Token,
    pub(crate) holders: Vec<Entry>,
    pub(crate) waiters: Vec<Id>,
}

/// A holder's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Entry {
    pub(crate) id: Id,
    pub(crate) token: Token,
    pub(crate) shared: bool,
}

impl Rec {
    pub(crate) fn entry(&self, id: Id) -> Option<&Entry> {
        self.holders.iter().find(|entry| entry.id == id)
    }

    /// Whether any acquisition of this process is in it.
    pub(crate) fn has_any_of(&self, process: usize) -> bool {
        let holders = self.holders.iter().map(|entry| entry.id);
        holders.chain(self.waiters.iter().copied()).any(|id| process_of(id) == process)
    }

    /// Whether this acquisition is in it, as a holder or as a waiter.
    pub(crate) fn names(&self, id: Id) -> bool {
        self.entry(id).is_some() || self.waiters.contains(&id)
    }
}

/// The record of a session. No two versions of it are alike, as every renewal counts; only whether a
/// count is the present one, or the one before, makes a difference, so that is all that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum OnRecord {
    Held { renewals: u8 },
    Ended,
}

/// A process's own session, as far as it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Session {
    pub(crate) lost: bool,
    /// Since the write was decided on that established or last renewed it, as far as was heard.
    pub(crate) age: Age,
    pub(crate) renewals: u8,
    /// Whether one more renewal may have landed.
    pub(crate) unresolved: bool,
    pub(crate) renewing: Renewing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Renewing {
    Resting,
    /// A renewal was decided on so long ago and sent.
    Sent(Age),
    /// It was waited for in vain, and is read back; whether it is what is there by now.
    Unclear {
        age: Age,
        there: bool,
    },
}

impl Session {
    pub(crate) const OPENED: Self = Self {
        lost: false,
        age: 0,
        renewals: PRESENT,
        unresolved: false,
        renewing: Renewing::Resting,
    };
    pub(crate) const LOST: Self = Self { lost: true, renewals: 0, ..Self::OPENED };
}

/// What the present count of a session's renewals is kept as.
const PRESENT: u8 = 2;

/// What a process knows of somebody's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Known {
    Nothing,
    /// This was seen so long ago for the first time.
    Seen {
        renewals: u8,
        age: Age,
    },
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// Has asked for nothing, or for nothing more.
    Idle,
    /// Looks at the record from time to time.
    Contending,
    /// Has sent this.
    Sent(What),
    /// Has seen itself among the holders, with this token, and is about to look at its session.
    Entering { token: Token },
    /// Holds; as a reader, if it is shared. So long ago it entered, which only counts where that is
    /// relied on by mistake.
    Holding { shared: bool, age: Age },
    /// Lets go and has to write that.
    Releasing,
    /// Has given up and sees to what it may have left.
    Shutting,
    /// Has died.
    Dead,
}

/// What a write is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum What {
    Enter,
    LineUp,
    Release,
    Downgrade,
    ShutTheDoor,
    /// To end the session of this process.
    EndSession(u8),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) phase: Phase,
    pub(crate) begun: u8,
    pub(crate) session: Session,
    /// By process.
    pub(crate) known: Vec<Known>,
}

impl Process {
    pub(crate) const fn is_dead(&self) -> bool {
        matches!(self.phase, Phase::Dead)
    }
}

/// A write on its way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Flight {
    pub(crate) by: u8,
    pub(crate) put: Put,
    /// Whether its sender waits for the answer.
    pub(crate) awaited: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Put {
    /// Over the lock's record, if it still is the one that was read.
    Lock { what: What, rec: Rec, present: bool },
    /// Over the sender's session with so many renewals. Whether the sender has sent none since.
    Renewal { over: u8, last: bool },
    /// Over this session with so many renewals.
    End { session: u8, over: u8 },
}

/// The world.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) rec: Rec,
    pub(crate) sessions: Vec<OnRecord>,
    pub(crate) processes: Vec<Process>,
    /// In order.
    pub(crate) flights: Vec<Flight>,
    /// How many slow renewals, faults and crashes there may be yet.
    pub(crate) slow_renewals: u8,
    pub(crate) faults: u8,
    pub(crate) crashes: u8,
    pub(crate) past: Past,
}

/// What is remembered for the promises alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Past {
    /// The highest token with which anybody has entered, and that of those who did so alone.
    pub(crate) entered: Token,
    pub(crate) entered_alone: Token,
    /// Who was a holder on record and is not any more.
    pub(crate) gone: BTreeSet<Id>,
    /// Who has given up, and has seen to the door.
    pub(crate) shut: BTreeSet<Id>,
    pub(crate) violation: Option<Violation>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Violation {
    TokenDidNotRise,
    SessionCameBack,
    PassedTheQueue,
    PutOut,
    CameBack,
    DoorWasOpen,
}

impl State {
    pub(crate) fn id(&self, process: usize) -> Id {
        id(process, self.processes[process].begun.saturating_sub(1))
    }

    pub(crate) fn send(&mut self, process: usize, put: Put) {
        let by = u8::try_from(process).expect("there are few");
        self.fly(Flight { by, put, awaited: true });
    }

    pub(crate) fn fly(&mut self, flight: Flight) {
        let place = self.flights.partition_point(|other| *other <= flight);
        self.flights.insert(place, flight);
    }

    /// Forgets what can make no difference any more, and puts the rest in order.
    pub(crate) fn tidy(&mut self) {
        for of in 0..self.sessions.len() {
            self.count_from_the_present(of);
        }
        let sessions = &self.sessions;
        let is_present =
            |of: u8, over| sessions[usize::from(of)] == OnRecord::Held { renewals: over };
        self.flights.retain(|flight| {
            flight.awaited
                || match flight.put {
                    Put::Lock { present, .. } => present,
                    Put::Renewal { over, .. } => is_present(flight.by, over),
                    Put::End { session, over } => is_present(session, over),
                }
        });
        self.flights.sort();
    }

    fn count_from_the_present(&mut self, of: usize) {
        let present = match &mut self.sessions[of] {
            OnRecord::Held { renewals } => Some(std::mem::replace(renewals, PRESENT)),
            OnRecord::Ended => None,
        };
        let kept = |count: u8| match present {
            Some(present) if count == present => PRESENT,
            Some(present) if count + 1 == present => PRESENT - 1,
            _ => 0,
        };
        let own = &mut self.processes[of].session;
        if !own.lost {
            own.renewals = kept(own.renewals);
        }
        // Of what others have seen, and of what a write is conditioned on, the one before is as
        // good as any.
        let kept = |count| if kept(count) == PRESENT { PRESENT } else { 0 };
        for process in &mut self.processes {
            if let Known::Seen { renewals, .. } = &mut process.known[of] {
                *renewals = kept(*renewals);
            }
        }
        for flight in &mut self.flights {
            match &mut flight.put {
                Put::Renewal { over, .. } if usize::from(flight.by) == of => *over = kept(*over),
                Put::End { session, over } if usize::from(*session) == of => *over = kept(*over),
                _ => {}
            }
        }
    }
}
