//! The shipped decisions, asked in this world's terms. Nothing is decided here.

use std::sync::OnceLock;
use std::time::Duration;

use leaselock::clock::{Boot, Moment, Wall};
use leaselock::protocol::expiry::{Evidence, Observations, Sessions, contender_wait};
use leaselock::protocol::lock::{self, Acquire, AcquireDecision, shut_the_door};
use leaselock::protocol::queue::Want;
use leaselock::protocol::quorum;
use leaselock::record::{Kind, Record};
use leaselock::{FencingToken, HolderId, Nonce, Owner};

use super::state::{Entry, Flight, Member, Rec, Token};
use super::{Quorum, QuorumSabotage};
use crate::config::TTL;

/// What every clock shows now.
const NOW: Moment =
    Moment { boot: Boot::new(Duration::from_secs(100_000)), wall: Wall::from_micros(0) };
/// Every write has a new nonce in the library. Here versions are told apart otherwise.
const NONCE: Nonce = Nonce::from_random(0);

impl Member {
    /// Asks [`lock::acquire`] for another acquisition of a contender.
    pub(super) fn acquire(&self, contender: usize, above: Token) -> AcquireDecision {
        self.ask(false, |found, evidence| lock::acquire(found, evidence, &intent(contender, above)))
    }

    /// Asks [`quorum::join`].
    pub(super) fn join(&self, contender: usize, with: Token) -> AcquireDecision {
        self.ask(false, |found, evidence| {
            quorum::join(found, evidence, &intent(contender, 0), token(with))
        })
    }

    /// Asks about what is on record. A lease has ended if its holder does not count it any more, or
    /// if `all` have.
    fn ask(
        &self,
        all: bool,
        decide: impl FnOnce(Option<&Record>, &Evidence<'_>) -> AcquireDecision,
    ) -> AcquireDecision {
        let found = self.rec.map(record);
        let mut observations = Observations::default();
        let has_ended = self.rec.and_then(|rec| rec.entry).is_some_and(|entry| entry.astray);
        if let Some(found) = found.as_ref().filter(|_| has_ended || all) {
            let seen = NOW.boot.since_origin() - contender_wait(TTL);
            observations.note(found, Boot::new(seen));
        }
        let evidence = Evidence {
            now: NOW,
            observations: &observations,
            store: None,
            max_skew: None,
            sessions: &Sessions::NONE,
        };
        decide(found.as_ref(), &evidence)
    }

    /// What is on record when a write lands: what was decided on when it was sent, as it is decided
    /// on over the same version. That a lease has ended does not change any more.
    pub(super) fn landed(&self, world: &Quorum, flight: &Flight) -> Rec {
        let Flight { by, token: with, joins, .. } = *flight;
        let contender = usize::from(by);
        let puts_out = world.has(QuorumSabotage::RepairPutsOut);
        let issues = world.has(QuorumSabotage::RepairIssuesToken);
        let decision = match joins {
            true if issues => self.acquire(contender, 0),
            true => self.ask(puts_out, |found, evidence| {
                quorum::join(found, evidence, &intent(contender, 0), token(with))
            }),
            false => self.acquire(contender, with - 1),
        };
        let AcquireDecision::Write { record, .. } = decision else {
            unreachable!("it was decided on when it was sent")
        };
        let lease = record.holders.first().expect("it enters");
        let issued = small(lease.token.get());
        let counts = world.has(QuorumSabotage::IssuedTokenCounts) && !joins;
        let token = if counts { with } else { issued };
        let entry = Entry { of: by, astray: false, token };
        let entry = if flight.astray { Entry::ASTRAY } else { entry };
        let mut rec = Rec { token: small(record.token.get()), entry: Some(entry) };
        if world.has(QuorumSabotage::RepairLowersCounter) && joins {
            rec.token = with;
        }
        rec
    }

    /// Asks [`shut_the_door`].
    pub(super) fn without_what_may_come(&self) -> Rec {
        let Some(rec) = self.rec else {
            // What the door is shut with where there is nothing.
            return Rec { token: 0, entry: None };
        };
        let written = shut_the_door(&record(rec), on_its_way(0), NONCE, NOW.wall);
        Rec { token: small(written.token.get()), entry: rec.entry }
    }
}

/// The record that the protocol sees.
fn record(rec: Rec) -> Record {
    static TEMPLATE: OnceLock<Record> = OnceLock::new();
    let template = TEMPLATE.get_or_init(|| {
        let nothing = Member { rec: None, up: true, seats: Vec::new(), flights: Vec::new() };
        match nothing.acquire(0, 0) {
            AcquireDecision::Write { record, .. } => *record,
            other => unreachable!("an absent record is there for the taking: {other:?}"),
        }
    });
    let mut record = template.clone();
    record.token = token(rec.token);
    match rec.entry {
        Some(entry) => {
            record.holders[0].id = on_record(entry.of);
            record.holders[0].token = token(entry.token);
        }
        None => record.holders.clear(),
    }
    record
}

fn intent(contender: usize, above: Token) -> Acquire {
    Acquire {
        kind: Kind::Lock,
        want: Want::ALONE,
        id: on_its_way(small(contender)),
        ttl: TTL,
        owner: Owner::default(),
        payload: None,
        nonce: NONCE,
        above: token(above),
        reserve: 0,
        renews_in: None,
    }
}

/// The id of an entry on record. Whoever enters does so under a new one.
fn on_record(of: u8) -> HolderId {
    HolderId::from_random(2 * u128::from(of) + 1)
}

fn on_its_way(of: u8) -> HolderId {
    HolderId::from_random(2 * u128::from(of) + 2)
}

pub(super) fn token(value: Token) -> FencingToken {
    FencingToken::new(u64::from(value)).expect("the model's numbers are small")
}

pub(super) fn small(number: impl TryInto<u8>) -> u8 {
    number.try_into().ok().expect("the model's numbers are small")
}
