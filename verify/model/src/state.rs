//! The states of the world: small, and without absolute times.

/// Ticks since something happened; saturates.
pub(crate) type Age = u8;
/// An acquisition: the process in the high bits, which of its acquisitions in the low ones.
pub(crate) type Id = u8;
/// A write: the process in the high bits, which of its writes in the low ones.
pub(crate) type Nonce = u8;
/// A fencing token.
pub(crate) type Token = u8;

/// What an operator's writes are told by.
pub(crate) const OPERATOR: Nonce = 0xF0;

/// The lease in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) id: Id,
    pub(crate) token: Token,
    pub(crate) renewals: u8,
}

/// A record, without what changes no decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Rec {
    pub(crate) token: Token,
    pub(crate) nonce: Nonce,
    /// Which write it is; the same as the nonce, unless nonces are reused as a sabotage. Processes
    /// do not look at it: the store does.
    pub(crate) serial: Nonce,
    pub(crate) entry: Option<Entry>,
    /// The result of work that is run once: whose it is.
    pub(crate) done: Option<Id>,
}

/// What names one write of the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Version {
    /// Every write has its own.
    Of(Nonce),
    /// Equal contents have the same: only when that is the sabotage.
    Like(Token, Option<Entry>),
}

/// The object on the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Object {
    pub(crate) rec: Rec,
    /// Since it was written, by the store's clock; only counted where the store's clock is used.
    pub(crate) age: Age,
}

/// A request that has not reached the store yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Request {
    pub(crate) process: usize,
    pub(crate) put: Put,
}

/// A conditional write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Put {
    /// `None`: only if there is nothing.
    pub(crate) expected: Option<Version>,
    pub(crate) rec: Rec,
    /// Delete the object instead: only when that is the sabotage.
    pub(crate) delete: bool,
}

/// A write as its sender sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Write {
    pub(crate) put: Put,
    /// Since it was decided on.
    pub(crate) age: Age,
    pub(crate) stage: Stage,
    /// How often it was sent.
    pub(crate) sent: u8,
    /// Whether it has taken effect. The sender does not know: properties look at it.
    pub(crate) landed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// No answer yet.
    Waiting,
    Acknowledged,
    /// An answer that says nothing: refused, failed, 409.
    Unclear,
    /// Certainly not applied.
    NotApplied,
    /// Being read back.
    ReadingBack,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) role: Role,
    /// Acquisitions it may still begin.
    pub(crate) acquisitions: u8,
    /// Writes it may still send.
    pub(crate) writes: u8,
    /// Identities taken so far, which numbers them.
    pub(crate) begun: u8,
    /// Writes made so far, which numbers them.
    pub(crate) written: u8,
    pub(crate) memory: Memory,
}

/// What a process remembers from one acquisition to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Memory {
    pub(crate) highest: Token,
    pub(crate) seen: Option<Seen>,
    /// The free record it wrote last.
    pub(crate) freed: Option<Rec>,
}

/// Since when it has seen which entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Seen {
    pub(crate) entry: Entry,
    pub(crate) age: Age,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Out,
    Contending(Contending),
    Holding(Holding),
    /// Undoing an acquisition that was given up.
    Shutting(Shutting),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Contending {
    pub(crate) id: Id,
    /// Since the first write under this id was decided on.
    pub(crate) first_write: Option<Age>,
    /// What a write of this id was conditioned on whose outcome is not known.
    pub(crate) doubt: Option<Option<Version>>,
    /// The same, before the write that is under way.
    pub(crate) earlier_doubt: Option<Option<Version>>,
    pub(crate) doing: Contend,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Contend {
    /// A read is on its way to the store since it was sent.
    Looking {
        since: Age,
    },
    /// The store has given an answer, which is on its way back.
    Reading {
        found: Option<Rec>,
        stamp: Age,
        since: Age,
    },
    /// Knows what was there.
    Viewing(View),
    Writing(Write),
}

/// What a contender knows of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct View {
    pub(crate) found: Option<Rec>,
    /// How old the object was, by the store's clock.
    pub(crate) stamp: Age,
    /// Since then.
    pub(crate) age: Age,
    /// Whether the store told these; what was remembered tells nothing.
    pub(crate) stamped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Holding {
    pub(crate) id: Id,
    pub(crate) token: Token,
    pub(crate) renewals: u8,
    pub(crate) unresolved: bool,
    /// The record as it knows it.
    pub(crate) rec: Rec,
    /// Since the write was decided on that established or last renewed the lease.
    pub(crate) age: Age,
    /// The largest token that an acknowledged write has reserved for hand-overs.
    pub(crate) reserved: Token,
    /// How often it was handed on inside the process; `token` is that of whoever holds by it now.
    pub(crate) handed: u8,
    /// Whether its guard has not been told that it is over.
    pub(crate) live: bool,
    pub(crate) doing: Keep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Keep {
    Resting,
    Renewing(Write),
    Releasing(Write),
    /// Recording the result of its run.
    Finishing(Write),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Shutting {
    pub(crate) id: Id,
    pub(crate) expected: Option<Version>,
    pub(crate) write: Option<Write>,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) object: Option<Object>,
    /// On their way to the store, sorted: their order tells nothing.
    pub(crate) network: Vec<Request>,
    pub(crate) processes: Vec<Process>,
    pub(crate) crashes: u8,
    pub(crate) breaks: u8,
    pub(crate) deletions: u8,
    pub(crate) duplicates: u8,
    pub(crate) past: Past,
}

/// What has happened, as far as properties ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Past {
    /// The largest token that was ever written.
    pub(crate) top: Token,
    /// The token of whoever entered last.
    pub(crate) entered: Token,
    /// Acquisitions whose entry has been in the record and has left it.
    pub(crate) gone: Ids,
    /// Acquisitions that were given up, with the door shut behind them.
    pub(crate) shut: Ids,
    /// Acquisitions whose guard has said that its lease is lost.
    pub(crate) lost: Ids,
    /// Holders to whom exclusion is not promised any more: somebody broke their lease or deleted
    /// the record.
    pub(crate) overridden: Ids,
    /// Runs whose result has been on record.
    pub(crate) recorded: Ids,
    /// Runs that were told that theirs is not.
    pub(crate) refused: Ids,
    pub(crate) violation: Option<Violation>,
}

/// A promise that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Violation {
    /// A later acquisition has a token that is not larger.
    TokenDidNotRise,
    /// A released or lost holder is in the record again.
    CameBack,
    /// An acquisition that was given up takes the lock.
    DoorWasOpen,
    /// A process takes its own write for a rival's.
    MistookItself,
    /// A process finds itself in the record and does not know why.
    Bewildered,
    /// A result was taken off the record before its time.
    ResultTakenOff,
    /// A result was recorded by a run that did not hold the record.
    ResultOfAnother,
    /// A run was told that its result is on record, and it is not.
    ResultMissing,
    /// Somebody was told of a result that is not the one on record.
    ToldAnother,
}

/// A set of acquisitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Ids(u64);

impl Ids {
    fn bit(id: Id) -> u64 {
        // Four processes with sixteen acquisitions each.
        1 << ((id >> 4) * 16 + (id & 0xF))
    }

    /// Adds one.
    pub(crate) fn insert(&mut self, id: Id) {
        self.0 |= Self::bit(id);
    }

    /// Whether it is in the set.
    pub(crate) fn has(self, id: Id) -> bool {
        self.0 & Self::bit(id) != 0
    }

    /// Whether one is in both.
    pub(crate) fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// How many there are.
    pub(crate) fn len(self) -> u32 {
        self.0.count_ones()
    }
}

impl Write {
    /// A write that has just been decided on and sent.
    pub(crate) fn new(put: Put) -> Self {
        Self { put, age: 0, stage: Stage::Waiting, sent: 1, landed: false }
    }
}

impl Process {
    /// The write that it is waiting for, if any.
    pub(crate) fn write(&mut self) -> Option<&mut Write> {
        match &mut self.role {
            Role::Contending(Contending { doing: Contend::Writing(write), .. })
            | Role::Holding(Holding {
                doing: Keep::Renewing(write) | Keep::Releasing(write) | Keep::Finishing(write),
                ..
            })
            | Role::Shutting(Shutting { write: Some(write), .. }) => Some(write),
            _ => None,
        }
    }

    /// The same, to look at.
    pub(crate) fn waiting_for(&self) -> Option<&Write> {
        match &self.role {
            Role::Contending(Contending { doing: Contend::Writing(write), .. })
            | Role::Holding(Holding {
                doing: Keep::Renewing(write) | Keep::Releasing(write) | Keep::Finishing(write),
                ..
            })
            | Role::Shutting(Shutting { write: Some(write), .. }) => Some(write),
            _ => None,
        }
    }

    /// Whether it is recording a result.
    pub(crate) fn is_finishing(&self) -> bool {
        matches!(self.role, Role::Holding(Holding { doing: Keep::Finishing(_), .. }))
    }
}
