//! The shipped decisions, asked in the model's terms. Nothing is decided here.
//!
//! Every process's clock shows the same reading now; what differs is how long ago things were.

use std::sync::OnceLock;
use std::time::Duration;

use leaselock::clock::{Boot, Moment, Wall};
use leaselock::protocol::expiry::{
    Evidence, Observations, Rule, Sessions, StoreTime, contender_wait, remaining,
};
use leaselock::protocol::handover::{Next, Turn};
use leaselock::protocol::lock::{
    self, Acquire, AcquireDecision, Gone, HolderDecision, Own, Renewal,
};
use leaselock::protocol::once::{self, Finish};
use leaselock::protocol::queue::Want;
use leaselock::record::{Kind, Record};
use leaselock::{FencingToken, HolderId, Nonce, Owner, Payload};

use crate::config::{Config, Sabotage, TTL};
use crate::state::{Age, Entry, Holding, Id, Memory, Rec, Seen, Token, View};

/// What every clock shows now.
const NOW: Boot = Boot::new(Duration::from_secs(100_000));
const WALL: Wall = Wall::from_micros(1_795_000_000_000_000);
/// What the stamps of a store with whole seconds and several front ends may be wrong by: the
/// library's RESOLUTION + TOLERANCE.
const STORE_MARGIN: Duration = Duration::from_secs(3);

/// The longest that any rule waits.
pub(crate) fn longest_wait() -> Duration {
    contender_wait(TTL) + STORE_MARGIN
}

/// What a contender shall do.
pub(crate) enum Decision {
    Write {
        rec: Rec,
        /// By which rule somebody else is put out.
        takeover: Option<Rule>,
    },
    Ours,
    /// The work is done; this run's result is on record.
    Done(Id),
    Wait,
}

/// Asks [`lock::acquire`].
pub(crate) fn acquire(
    config: &Config,
    process: usize,
    id: Id,
    view: &View,
    memory: &Memory,
    start: Token,
    nonce: crate::state::Nonce,
) -> Decision {
    let mut now = Moment { boot: NOW, wall: WALL };
    if config.has(Sabotage::NoContenderMargin) {
        now.boot = now.boot.plus(contender_wait(TTL) - TTL);
    }
    let observations = match memory.seen {
        Some(seen) if config.rules.observation => observations(config, process, seen),
        _ => Observations::default(),
    };
    let store =
        (config.rules.store_clock && view.stamped).then(|| store_time(config, process, view));
    let sessions = &Sessions::NONE;
    let evidence = Evidence { now, observations: &observations, store, max_skew: None, sessions };
    let above = match view.found {
        Some(_) => memory.highest,
        None if config.has(Sabotage::TokenReset) => memory.highest,
        None => memory.highest.max(start),
    };
    let intent = Acquire {
        kind: if config.once.is_some() { Kind::Once } else { Kind::Lock },
        want: Want::ALONE,
        id: holder(id),
        ttl: TTL,
        owner: Owner::default(),
        payload: None,
        nonce: Nonce::from_random(u128::from(nonce)),
        above: token(above),
        reserve: config.local.map_or(0, |local| u64::from(local.with_acquisition)),
        renews_in: None,
    };
    let mut found = view.found.map(record);
    if let Some(found) = &mut found {
        found.kind = intent.kind;
        found.done = found.done.take().filter(|_| !config.has(Sabotage::ResultIgnored));
        if let Some(done) = &mut found.done {
            done.retention = config.once.and_then(|once| once.retention);
        }
    }
    match lock::acquire(found.as_ref(), &evidence, &intent) {
        AcquireDecision::Write { record, takeover } => {
            Decision::Write { rec: rec(&record, nonce, &[id]), takeover }
        }
        AcquireDecision::Ours => Decision::Ours,
        AcquireDecision::Done => {
            Decision::Done(view.found.and_then(|rec| rec.done).expect("a result is there"))
        }
        AcquireDecision::HeldUntil(_) => Decision::Wait,
        other => unreachable!("these worlds have no queues and sessions: {other:?}"),
    }
}

/// The worst that a store's stamps may show: the record seems older than it is by almost all of
/// what the rule allows for.
fn store_time(config: &Config, process: usize, view: &View) -> StoreTime {
    let exaggerated = STORE_MARGIN - Duration::from_micros(1);
    let done = view.found.is_some_and(|rec| rec.done.is_some());
    let trusted = config.has(Sabotage::NoStoreClockMargin)
        || (done && config.has(Sabotage::NoRetentionMargin));
    let margin = if trusted { Duration::ZERO } else { STORE_MARGIN };
    StoreTime {
        at_least: WALL.plus(config.tick * u32::from(view.stamp) + exaggerated),
        at: ago(config, process, view.age),
        last_modified: WALL,
        margin,
    }
}

fn ago(config: &Config, process: usize, age: Age) -> Boot {
    Boot::new(NOW.since_origin() - config.elapsed(process, age))
}

fn observations(config: &Config, process: usize, seen: Seen) -> Observations {
    let mut observations = Observations::default();
    observations.note(&containing(seen.entry), ago(config, process, seen.age));
    observations
}

/// Asks [`Observations::note`] what is known after a read of `found`.
pub(crate) fn note(
    config: &Config,
    process: usize,
    seen: Option<Seen>,
    found: Rec,
) -> Option<Seen> {
    let entry = found.entry?;
    let Some(seen) = seen else { return Some(Seen { entry, age: 0 }) };
    if config.has(Sabotage::TimerNotReset) && seen.entry.id == entry.id {
        return Some(Seen { entry, age: seen.age });
    }
    let mut observations = observations(config, process, seen);
    let found = record(found);
    observations.note(&found, NOW);
    let since = observations.since(&found.holders[0]);
    let age = if since == Some(ago(config, process, seen.age)) { seen.age } else { 0 };
    Some(Seen { entry, age })
}

/// Asks [`remaining`] whether a lease established by a write of this age is still the holder's.
pub(crate) fn is_alive(config: &Config, process: usize, age: Age) -> bool {
    let mut sent = ago(config, process, age);
    if config.has(Sabotage::NoHolderMargin) {
        sent = sent.plus(TTL / 10).min(NOW);
    }
    let moment = |boot| Moment { boot, wall: WALL };
    !remaining(TTL, moment(sent), moment(NOW)).is_zero()
}

/// What a holder finds.
pub(crate) enum Found {
    StillMine(Rec),
    Gone,
    /// Its result was recorded.
    Finished,
    /// It takes its own renewals for somebody else's.
    Cloned,
}

/// Asks [`lock::renew`], which reserves so many tokens.
pub(crate) fn renew(holding: &Holding, reserve: u8, nonce: crate::state::Nonce) -> Found {
    let own = own(holding);
    let nonce_of = Nonce::from_random(u128::from(nonce));
    let with = Renewal { reserve: u64::from(reserve), ..Renewal::default() };
    found(lock::renew(&record(holding.rec), own, with, nonce_of, WALL), nonce, holding.id)
}

/// What becomes of a lease whose holder is done while others in its process wait for it.
pub(crate) enum HandOver {
    /// It goes on under this token.
    To(Token),
    /// More tokens have to be reserved before.
    Reserve,
}

/// Asks [`Turn::next`], at the beginning of the process's turn: it may give the lease back at any time.
pub(crate) fn hand_over(holding: &Holding) -> HandOver {
    let mut turn = Turn::new(token(holding.token), token(holding.reserved), false, NOW);
    match turn.next(NOW) {
        Next::HandOver(token) => HandOver::To(small(token.get())),
        Next::Reserve(_) => HandOver::Reserve,
        Next::GiveBack => unreachable!("its turn has just begun"),
    }
}

/// Asks [`lock::release`].
pub(crate) fn release(holding: &Holding, nonce: crate::state::Nonce) -> Found {
    let own = own(holding);
    let nonce_of = Nonce::from_random(u128::from(nonce));
    found(lock::release(&record(holding.rec), own, None, nonce_of, WALL), nonce, holding.id)
}

/// Asks [`once::finish`]. `recorded`: whether the history says that this run has finished.
pub(crate) fn finish(
    config: &Config,
    holding: &Holding,
    recorded: bool,
    nonce: crate::state::Nonce,
) -> Found {
    let mut own = own(holding);
    if let Some(entry) = holding.rec.entry
        && config.has(Sabotage::ResultOfAnybody)
    {
        own.id = holder(entry.id);
        own.renewals = u64::from(entry.renewals);
    }
    let mut record = record(holding.rec);
    if recorded {
        record.history.clone_from(&finished().history);
        let mut tenure = (*record.history[0]).clone();
        tenure.id = holder(holding.id);
        record.history[0] = tenure.into();
    }
    let retention = config.once.and_then(|once| once.retention);
    let finish = Finish { result: result(holding.id), retention };
    let nonce_of = Nonce::from_random(u128::from(nonce));
    found(once::finish(&record, own, &finish, nonce_of, WALL), nonce, holding.id)
}

/// What a run leaves behind: who it was.
fn result(id: Id) -> Payload {
    Payload::from_json_str(&id.to_string()).expect("a number is JSON")
}

fn own(holding: &Holding) -> Own {
    Own {
        id: holder(holding.id),
        renewals: u64::from(holding.renewals),
        unresolved: holding.unresolved,
    }
}

fn found(decision: HolderDecision, nonce: crate::state::Nonce, id: Id) -> Found {
    match decision {
        HolderDecision::Write(record) => Found::StillMine(rec(&record, nonce, &[id])),
        HolderDecision::Gone(Gone::Cloned) => Found::Cloned,
        HolderDecision::Gone(Gone::Finished) => Found::Finished,
        HolderDecision::Gone(_) => Found::Gone,
    }
}

/// Asks [`lock::shut_the_door`].
pub(crate) fn shut_the_door(found: Rec, id: Id, nonce: crate::state::Nonce) -> Rec {
    let nonce_of = Nonce::from_random(u128::from(nonce));
    let others = found.entry.map(|entry| entry.id);
    let shut = lock::shut_the_door(&record(found), holder(id), nonce_of, WALL);
    rec(&shut, nonce, others.as_slice())
}

/// Asks [`lock::break_lease`].
pub(crate) fn break_lease(found: Rec, nonce: crate::state::Nonce) -> Rec {
    let nonce_of = Nonce::from_random(u128::from(nonce));
    rec(&lock::break_lease(&record(found), None, None, None, nonce_of, WALL), nonce, &[])
}

/// The record that the protocol sees.
fn record(rec: Rec) -> Record {
    let mut record = match rec.entry {
        Some(entry) => containing(entry),
        None => Record::free(token(rec.token), Nonce::from_random(0)),
    };
    record.done = rec.done.map(|id| {
        let mut done = finished().done.clone().expect("a run has finished");
        done.result = result(id);
        done
    });
    record.token = token(rec.token);
    record.nonce = Nonce::from_random(u128::from(rec.nonce));
    record
}

/// A record with this entry, made by the protocol itself.
fn containing(entry: Entry) -> Record {
    static TEMPLATE: OnceLock<Record> = OnceLock::new();
    let template = TEMPLATE.get_or_init(|| {
        let observations = Observations::default();
        let now = Moment { boot: NOW, wall: WALL };
        let (store, sessions) = (None, &Sessions::NONE);
        let evidence =
            Evidence { now, observations: &observations, store, max_skew: None, sessions };
        let intent = Acquire {
            kind: Kind::Lock,
            want: Want::ALONE,
            id: holder(0),
            ttl: TTL,
            owner: Owner::default(),
            payload: None,
            nonce: Nonce::from_random(0),
            above: token(0),
            reserve: 0,
            renews_in: None,
        };
        match lock::acquire(None, &evidence, &intent) {
            AcquireDecision::Write { record, .. } => *record,
            other => unreachable!("an absent record is there for the taking: {other:?}"),
        }
    });
    let mut record = template.clone();
    record.holders[0].id = holder(entry.id);
    record.holders[0].token = token(entry.token);
    record.holders[0].renewals = u64::from(entry.renewals);
    record
}

/// A record with a result, made by the protocol itself.
fn finished() -> &'static Record {
    static TEMPLATE: OnceLock<Record> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let running = containing(Entry { id: 0, token: 1, renewals: 0 });
        let own = Own { id: holder(0), renewals: 0, unresolved: false };
        let finish = Finish { result: result(0), retention: None };
        match once::finish(&running, own, &finish, Nonce::from_random(0), WALL) {
            HolderDecision::Write(record) => *record,
            HolderDecision::Gone(gone) => unreachable!("it holds the record: {gone:?}"),
        }
    })
}

/// The record as the model keeps it. `ids` are those that may be in it.
fn rec(record: &Record, nonce: crate::state::Nonce, ids: &[Id]) -> Rec {
    let entry = record.holders.first().map(|lease| Entry {
        id: *ids.iter().find(|id| holder(**id) == lease.id).expect("nobody else may be in it"),
        token: small(lease.token.get()),
        renewals: small(lease.renewals),
    });
    let done = record.done.as_ref();
    let done = done.map(|done| done.result.deserialize().expect("a result says whose it is"));
    assert_eq!(record.nonce, Nonce::from_random(u128::from(nonce)), "every write has its nonce");
    Rec { token: small(record.token.get()), nonce, serial: nonce, entry, done }
}

fn small(number: u64) -> u8 {
    u8::try_from(number).expect("the model's numbers are small")
}

fn holder(id: Id) -> HolderId {
    HolderId::from_random(u128::from(id) + 1)
}

fn token(value: Token) -> FencingToken {
    FencingToken::new(u64::from(value)).expect("the model's numbers are small")
}
