//! Hand-over inside a process: those who want one lock by the handles of one store wait in one queue, and
//! a lease goes from one to the next without a request.
//!
//! **Invariants.** Of all in the queue one at a time contends at the store: the [`Lead`]. Whoever holds by a
//! [`Seat`] holds for as long as the lease is held, and is judged by nothing else: the loss of the lease is
//! the loss of all. There is one seat of a lease at a time that has not been left. Nothing is dropped, sent
//! or ordered while a [`Bench`] is locked.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use object_store::path::Path;

use crate::acquire::{Contended, Limit, Sharing, Target, contend_for, shut_down};
use crate::client::Client;
use crate::error::Result;
use crate::guard::LockGuard;
use crate::name;
use crate::options::LockOptions;
use crate::telemetry;

mod bench;
mod lead;
mod lease;
mod seat;
mod waiting;

use bench::{Bench, Called, Entered};
use lead::Lead;
pub(crate) use seat::Seat;

/// All benches of one store.
#[derive(Debug, Default)]
pub(crate) struct Local {
    benches: Mutex<BTreeMap<Place, Arc<Bench>>>,
    closed: AtomicBool,
}

/// Who can hold by one lease: those who want the same lock on the same terms.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    key: Path,
    ttl: Option<Duration>,
    renew_every: Option<Duration>,
    owner: String,
    note: Option<String>,
    contends: Contends,
}

/// How somebody contends: whoever does so for others does it as they would.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Contends {
    polling: (Duration, Duration, Option<u32>),
    no_store_clock: bool,
    no_queue: bool,
    max_skew: Option<Duration>,
}

impl Place {
    fn of(key: Path, options: &LockOptions) -> Self {
        let contends = Contends {
            polling: options.polling.bounds(),
            no_store_clock: options.no_store_clock,
            no_queue: options.no_queue,
            max_skew: options.max_skew,
        };
        Self {
            key,
            ttl: options.ttl,
            renew_every: options.renew_every,
            owner: options.owner.clone(),
            note: options.note.clone(),
            contends,
        }
    }
}

/// Whether whoever wants this can share a lease. Not what is written with an acquisition or after it for
/// one holder alone, and no limit of its own.
fn is_shareable(target: &Target, options: &LockOptions) -> bool {
    let special = options.manual
        || options.payload.is_some()
        || options.min_hold.is_some()
        || options.max_hold.is_some()
        || options.progress_within.is_some();
    target.is_plain_lock() && !special && !options.no_local_handover
}

/// Contends for a lock, behind others in this process that want it.
///
/// # Errors
/// As [`contend_for`].
pub(crate) async fn contend(
    target: &Target,
    options: &LockOptions,
    limit: Limit,
) -> Result<Contended> {
    if !is_shareable(target, options) {
        return contend_for(&target.queueing(options), options, limit).await;
    }
    let client = &target.client;
    let key = name::key_of(target.kind, client.store.prefix(), &target.name)?;
    let place = Place::of(key, options);
    // Who does not lead sees for itself, within this limit.
    let lead = match client.local.enter(client, &place, limit)? {
        Entered::Leads(lead) => Ok(lead),
        Entered::Busy => Err(limit),
        Entered::Waits(waiting) => {
            let began = client.store.clock().now();
            match waiting.called(client, limit).await? {
                Some(Called::Holds(guard)) => {
                    telemetry::attempt();
                    telemetry::handed_over();
                    telemetry::acquired(client.store.clock().now().since(began));
                    return acquired(client, guard);
                }
                Some(Called::Leads(lead)) => Ok(lead),
                Some(Called::Alone) => Err(limit),
                // What is there now, and a last try.
                None => Err(Limit::Once),
            }
        }
    };
    let lead = match lead {
        Ok(lead) => lead,
        Err(limit) => return contend_for(&target.queueing(options), options, limit).await,
    };
    let sharing = Sharing { reserve: lead.to_reserve(), not_before: lead.not_before() };
    match contend_for(&target.queueing(options).sharing(sharing), options, limit).await {
        Ok(Contended::Acquired(lease)) => acquired(client, lead.seat(lease)),
        Ok(other) => Ok(other),
        Err(error) => {
            lead.scatter();
            Err(error)
        }
    }
}

/// A shutdown that began meanwhile may have missed the guard, which then gives itself back.
fn acquired(client: &Client, guard: LockGuard) -> Result<Contended> {
    client.ensure_open().map(|()| Contended::Acquired(guard))
}

impl Local {
    fn enter(&self, client: &Arc<Client>, place: &Place, limit: Limit) -> Result<Entered> {
        loop {
            let bench = {
                let mut benches = self.benches();
                match benches.get(place) {
                    Some(bench) => Arc::clone(bench),
                    None => {
                        let bench = Arc::new(Bench::new(place.clone()));
                        benches.insert(place.clone(), Arc::clone(&bench));
                        bench
                    }
                }
            };
            // One that was taken away meanwhile lets nobody in.
            let Some(entered) = bench.enter(client, limit == Limit::Once) else { continue };
            // Not before: whoever comes after all were sent away would wait for ever.
            let closed = self.closed.load(Ordering::SeqCst);
            return if closed { Err(shut_down()) } else { Ok(entered) };
        }
    }

    /// Takes a bench away that nobody uses.
    fn tidy(&self, bench: &Arc<Bench>) {
        let mut benches = self.benches();
        if bench.retire() {
            benches.remove(&bench.place);
        }
    }

    /// Nobody waits any more, from now on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        let benches: Vec<_> = self.benches().values().cloned().collect();
        for bench in benches {
            bench.send_away();
        }
    }

    fn benches(&self) -> MutexGuard<'_, BTreeMap<Place, Arc<Bench>>> {
        self.benches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::waiting::Waiting;
    use super::*;
    use crate::handle::Store;
    use crate::record::Kind;
    use crate::runtime::Runtime;

    async fn open() -> (Arc<Client>, Target) {
        let store = Store::builder("memory:///").runtime(Runtime::Current);
        let client = store.open().await.unwrap().into_client();
        let lock = Target::alone(Arc::clone(&client), Kind::Lock, "x".to_owned());
        (client, lock)
    }

    fn waits(client: &Arc<Client>, place: &Place) -> Waiting {
        match client.local.enter(client, place, Limit::Forever).unwrap() {
            Entered::Waits(waiting) => waiting,
            other => panic!("{other:?}"),
        }
    }

    async fn called(waiting: Waiting, client: &Client) -> Called {
        let end = client.store.clock().now().boot.plus(Duration::from_secs(30));
        waiting.called(client, Limit::Until(end)).await.unwrap().expect("is called")
    }

    /// The moment between being taken out of the queue and being called, in which another thread drops
    /// whoever waits.
    fn gone(client: &Arc<Client>, place: &Place) -> Waiting {
        let mut gone = waits(client, place);
        gone.call.close();
        gone
    }

    #[tokio::test]
    async fn whoever_has_just_gone_is_passed_over() {
        let (client, lock) = open().await;
        let options = LockOptions::default();
        let Contended::Acquired(first) = contend(&lock, &options, Limit::Forever).await.unwrap()
        else {
            panic!("nobody else is there")
        };
        let key = name::key_of(lock.kind, client.store.prefix(), &lock.name).unwrap();
        let place = Place::of(key, &options);
        let _gone = (gone(&client, &place), gone(&client, &place));
        let waiting = waits(&client, &place);
        let token = first.token();
        // The first release reserves tokens for those who wait.
        drop(first);
        match called(waiting, &client).await {
            Called::Holds(guard) => assert_eq!(guard.token().get(), token.get() + 3),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn whoever_has_just_gone_does_not_lead() {
        let (client, lock) = open().await;
        let key = name::key_of(lock.kind, client.store.prefix(), &lock.name).unwrap();
        let place = Place::of(key, &LockOptions::default());
        let Entered::Leads(lead) = client.local.enter(&client, &place, Limit::Forever).unwrap()
        else {
            panic!("nobody else is there")
        };
        let _gone = (gone(&client, &place), gone(&client, &place));
        let waiting = waits(&client, &place);
        drop(lead);
        let called = called(waiting, &client).await;
        assert!(matches!(called, Called::Leads(_)), "{called:?}");
    }

    #[tokio::test]
    async fn whoever_comes_after_the_end_is_sent_away_and_leaves_nothing() {
        let (client, lock) = open().await;
        let options = LockOptions::default();
        let first = contend(&lock, &options, Limit::Forever).await.unwrap();
        assert_eq!(client.local.benches().len(), 1);
        client.local.close();
        let late = contend(&lock, &options, Limit::Forever).await.unwrap_err();
        assert_eq!(late.kind(), crate::error::ErrorKind::ShutDown);
        drop(first);
        let other = Target::alone(Arc::clone(&client), Kind::Lock, "y".to_owned());
        contend(&other, &options, Limit::Once).await.unwrap_err();
        Arc::clone(&client).shutdown().await;
        assert!(client.local.benches().is_empty());
    }
}
