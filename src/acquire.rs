//! How a contender gets a lock: read, decide, write, and wait in between.
//!
//! Runs as a task of the library: the caller's future may be dropped at any await point, the task
//! goes on and undoes what it has begun (hazards H2, H16).

use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;
use tokio::sync::{mpsc, watch};

use crate::client::Client;
use crate::clock::{Boot, Clock, Moment, Wall};
use crate::error::{Error, ErrorKind, Result};
use crate::guard::LockGuard;
use crate::hold::Hold;
use crate::holder::HolderId;
use crate::info::LockInfo;
use crate::keeper::Keeper;
use crate::lock::Attempt;
use crate::options::Terms;
use crate::protocol::expiry::{Evidence, Observations, Rule, StoreTime, contender_wait, remaining};
use crate::protocol::lock::{Acquire, AcquireDecision, acquire, shut_the_door};
use crate::record::Record;
use crate::store::{Content, LockStore, Patience, Polled, Read, StoreNow, Swap, Version};
use crate::telemetry;
use crate::token::FencingToken;
use crate::wait::{Backoff, POLLING, RETRYING};

/// How long to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    /// One look, and one try if the lock is free.
    Once,
    /// Until then.
    Until(Boot),
    /// For as long as somebody holds it.
    Forever,
}

/// Without an end of its own, waiting gives up when the store has not answered for this long.
const OUTAGE: Duration = Duration::from_secs(30);
/// How often a single look is repeated when the store does not answer.
const LOOKS: u32 = 3;
/// Attempts of one write.
const WRITES: u32 = 3;

/// One call that wants a lock.
#[derive(Debug)]
pub(crate) struct Contender {
    client: Arc<Client>,
    name: String,
    key: Path,
    terms: Terms,
    limit: Limit,
    id: HolderId,
    /// Before the first write was sent under this id.
    first_sent: Option<Moment>,
    /// What a write of this id was conditioned on whose outcome is not known.
    doubt: Option<Option<Version>>,
    /// Closed when the caller has stopped waiting.
    caller: watch::Receiver<()>,
}

/// What is known of the record.
struct View {
    found: Option<Box<Record>>,
    version: Option<Version>,
    last_modified: Option<Wall>,
    now: Option<StoreNow>,
    observations: Observations,
    /// The read that this is from; none when the record is remembered from our own release.
    read: Option<Read>,
}

/// What became of a write.
enum Written {
    Acquired(Box<LockGuard>),
    /// Not acquired; this was seen.
    Look(View),
}

impl Contender {
    pub(crate) fn new(
        client: Arc<Client>,
        name: String,
        key: Path,
        terms: Terms,
        limit: Limit,
        caller: watch::Receiver<()>,
    ) -> Self {
        let id = HolderId::from_random(client.store.rng().bits());
        Self {
            client,
            name,
            key,
            terms,
            limit,
            id,
            first_sent: None,
            doubt: None,
            caller,
        }
    }

    /// Contends until the lock is acquired, somebody else holds it, the limit is reached, or the
    /// caller has stopped waiting.
    pub(crate) async fn run(mut self) -> Result<Attempt> {
        telemetry::attempt();
        let started = self.clock().now();
        let result = self.contend(started).await;
        // A write whose outcome is in doubt must not take effect after the caller was told that
        // there is no lock (hazard H2).
        if self.doubt.is_some() {
            let client = Arc::clone(&self.client);
            client.spawn(self.shut_the_door());
        }
        if matches!(result, Ok(Attempt::Held(_))) {
            telemetry::busy();
        }
        result
    }

    /// Waits or reads, unless the caller stops waiting or the store is shut down meanwhile. Never
    /// used around a write: that is always seen to its end (hazard H16).
    async fn unless_given_up<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        let mut caller = self.caller.clone();
        let mut closing = self.client.closing();
        tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => Err(shut_down()),
            // Nothing is ever sent: the only change is the sender's end.
            _ = caller.changed() => {
                Err(Error::new(ErrorKind::Internal, "the caller has stopped waiting"))
            }
            output = work => Ok(output),
        }
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        self.client.store.clock()
    }

    fn store(&self) -> &LockStore {
        &self.client.store
    }

    async fn contend(&mut self, started: Moment) -> Result<Attempt> {
        let mut polling = Backoff::new(POLLING, Arc::clone(self.store().rng()));
        let mut view = match self.remembered() {
            Some(view) => view,
            None => self.look(None).await?,
        };
        loop {
            match self.decide(&view).await? {
                AcquireDecision::Ours => match self.claim_landed(view, started).await? {
                    Written::Acquired(guard) => return Ok(Attempt::Acquired(*guard)),
                    Written::Look(next) => view = next,
                },
                AcquireDecision::Write { record, takeover } => {
                    match self.write(*record, takeover, view, started).await? {
                        Written::Acquired(guard) => return Ok(Attempt::Acquired(*guard)),
                        Written::Look(next) => view = next,
                    }
                }
                AcquireDecision::HeldUntil(end) => {
                    if self.limit == Limit::Once {
                        return Ok(self.held(&view));
                    }
                    match self.wait(view, end, &mut polling).await? {
                        Ok(next) => view = next,
                        Err(last) => return Ok(self.held(&last)),
                    }
                }
            }
        }
    }

    /// The record that this process freed just now: saves the read.
    fn remembered(&self) -> Option<View> {
        let now = self.clock().now().boot;
        let (record, version) = self.client.memory.take_free(&self.key, now)?;
        Some(View {
            found: Some(record),
            version: Some(version),
            last_modified: None,
            now: None,
            observations: Observations::default(),
            read: None,
        })
    }

    async fn decide(&self, view: &View) -> Result<AcquireDecision> {
        let store = self.store_time(view).await;
        let evidence = Evidence {
            now: self.clock().now(),
            observations: &view.observations,
            store,
            max_skew: self.terms.max_skew,
        };
        let intent = Acquire {
            id: self.id,
            ttl: self.terms.ttl,
            owner: self.terms.owner.clone(),
            payload: self.terms.payload.clone(),
            nonce: self.store().nonce(),
            above: self.token_floor(view).await,
        };
        Ok(acquire(view.found.as_deref(), &evidence, &intent))
    }

    /// The store-clock rule's evidence. Where no answer has told the store's time it costs requests
    /// to find out: then only when our own wall clock suggests that it would matter. That clock may
    /// be wrong; it decides nothing.
    async fn store_time(&self, view: &View) -> Option<StoreTime> {
        if !self.terms.store_clock {
            return None;
        }
        let ttl = view
            .found
            .as_ref()?
            .holders
            .iter()
            .map(|lease| lease.ttl)
            .max()?;
        let last_modified = view.last_modified?;
        let margin = self.store().time_margin();
        let now = match view.now {
            Some(now) => now,
            None => {
                let suspected = last_modified.plus(contender_wait(ttl) + margin);
                if self.clock().now().wall < suspected {
                    return None;
                }
                self.store()
                    .now(view.read.as_ref()?, self.terms.request_timeout)
                    .await?
            }
        };
        Some(StoreTime {
            at_least: now.at_least,
            at: now.at,
            last_modified,
            margin,
        })
    }

    /// A token that the new one must exceed: whatever this process has seen under the name, and
    /// for a new record the store's present time in microseconds (hazard H9).
    async fn token_floor(&self, view: &View) -> FencingToken {
        let zero = FencingToken::new(0);
        let highest = self.client.memory.highest(&self.key).or(zero);
        let start = match (&view.found, &view.read) {
            (None, Some(read)) => token_start(self.store(), read, self.terms.request_timeout).await,
            _ => None,
        };
        highest.max(start).unwrap_or(FencingToken::MAX)
    }

    /// Makes the lock ours by writing `record` over what was seen.
    async fn write(
        &mut self,
        record: Record,
        takeover: Option<Rule>,
        view: View,
        started: Moment,
    ) -> Result<Written> {
        self.store().ensure_fit().await?;
        let now = self.clock().now();
        self.first_sent.get_or_insert(now);
        let until = match self.limit {
            Limit::Until(limit) => limit.max(now.boot.plus(self.terms.request_timeout)),
            _ => now.boot.plus(self.terms.ttl / 2),
        };
        let patience = Patience {
            request: self.terms.request_timeout,
            until,
            attempts: WRITES,
        };
        // Until the outcome is known, whoever drops this future must see to the write.
        self.doubt = Some(view.version.clone());
        let swapped = self
            .store()
            .swap(&self.key, view.version.as_ref(), &record, patience)
            .await;
        match swapped {
            Ok(Swap::Won { version, sent }) => {
                self.doubt = None;
                if let Some(rule) = takeover {
                    note_takeover(&self.name, rule);
                }
                self.enter(record, version, sent, started).await
            }
            Ok(Swap::Conflict(read)) => {
                self.doubt = None;
                Ok(Written::Look(self.view(*read)?))
            }
            // Look again: the next read may show what became of it.
            Ok(Swap::Unknown(error)) => Ok(Written::Look(self.look(Some(error)).await?)),
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                self.doubt = None;
                Ok(Written::Look(self.look(Some(error)).await?))
            }
            Err(error) => {
                self.doubt = None;
                Err(error)
            }
        }
    }

    /// An earlier write of ours has landed after all.
    async fn claim_landed(&mut self, view: View, started: Moment) -> Result<Written> {
        self.doubt = None;
        let landed = view.found.zip(view.version).zip(self.first_sent);
        let ((record, version), sent) = landed.ok_or_else(|| {
            Error::new(
                ErrorKind::Internal,
                "an acquisition was found that was never written",
            )
        })?;
        self.enter(*record, version, sent, started).await
    }

    /// The record says that we hold the lock. Do we still?
    async fn enter(
        &mut self,
        record: Record,
        version: Version,
        sent: Moment,
        started: Moment,
    ) -> Result<Written> {
        let token = record
            .lease(self.id)
            .map_or(record.token, |lease| lease.token);
        self.client.memory.issued(&self.key, token);
        let now = self.clock().now();
        if remaining(self.terms.ttl, sent, now).is_zero() {
            // It took so long that the lease is over. Others may be about to take it: undo, look.
            self.undo_late(&record, &version).await;
            self.id = HolderId::from_random(self.store().rng().bits());
            self.first_sent = None;
            return Ok(Written::Look(self.look(None).await?));
        }
        telemetry::acquired(now.since(started));
        tracing::info!(lock = %self.name, %token, holder = %self.id, "acquired");
        let clock = Arc::clone(self.clock());
        let hold = Hold::new(self.name.clone(), self.id, token, sent, &self.terms, clock);
        let hold = Arc::new(hold);
        let (sender, commands) = mpsc::unbounded_channel();
        let keeper = Keeper {
            store: Arc::clone(&self.client.store),
            memory: Arc::clone(&self.client.memory),
            key: self.key.clone(),
            hold: Arc::clone(&hold),
            terms: self.terms.clone(),
            record,
            version,
            commands,
        };
        let registration = self.client.register(Arc::clone(&hold), sender.clone());
        self.client.spawn(async move {
            keeper.run().await;
            drop(registration);
        });
        Ok(Written::Acquired(Box::new(LockGuard::new(hold, sender))))
    }

    /// Gives back an acquisition that came too late to be used.
    async fn undo_late(&self, record: &Record, version: &Version) {
        let (nonce, now) = (self.store().nonce(), self.clock().now());
        let freed = shut_the_door(record, self.id, nonce, now.wall);
        let until = now.boot.plus(self.terms.request_timeout);
        let patience = Patience {
            request: self.terms.request_timeout,
            until,
            attempts: 1,
        };
        let undone = self
            .store()
            .swap(&self.key, Some(version), &freed, patience)
            .await;
        tracing::debug!(lock = %self.name, ?undone, "acquired too late: given back");
    }

    /// Waits a while for a lock that is held and looks again; the last view when the limit is
    /// reached.
    async fn wait(
        &mut self,
        view: View,
        end: Boot,
        polling: &mut Backoff,
    ) -> Result<Result<View, View>> {
        let now = self.clock().now().boot;
        let mut wake = now.plus(polling.next());
        if let Limit::Until(limit) = self.limit {
            if now >= limit {
                return Ok(Err(view));
            }
            wake = wake.min(limit);
        }
        if end <= wake {
            // The lease ends before the next look would come: take over then, without another.
            self.unless_given_up(self.clock().sleep_until(end)).await?;
            return Ok(Ok(view));
        }
        self.unless_given_up(self.clock().sleep_until(wake)).await?;
        let Some(version) = &view.version else {
            return Ok(Ok(self.look(None).await?));
        };
        let poll = self
            .store()
            .poll(&self.key, version, self.terms.request_timeout);
        match self.unless_given_up(poll).await? {
            Ok(Polled::Unchanged { now }) => Ok(Ok(View {
                now: now.or(view.now),
                ..view
            })),
            Ok(Polled::Changed(read)) => {
                polling.reset();
                Ok(Ok(self.view(*read)?))
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                Ok(Ok(self.look(Some(error)).await?))
            }
            Err(error) => Err(error),
        }
    }

    /// Reads the record; again and again while the store does not answer, within bounds. `failed`
    /// is a failure that has just happened.
    async fn look(&mut self, mut failed: Option<Error>) -> Result<View> {
        let began = self.clock().now().boot;
        let mut backoff = Backoff::new(RETRYING, Arc::clone(self.store().rng()));
        for look in 1.. {
            if let Some(error) = failed.take() {
                let now = self.clock().now().boot;
                let resume = now.plus(backoff.next());
                let out_of_time = match self.limit {
                    Limit::Once => look > LOOKS,
                    Limit::Until(limit) => resume >= limit,
                    Limit::Forever => now.since(began) >= OUTAGE,
                };
                if out_of_time {
                    return Err(error);
                }
                self.unless_given_up(self.clock().sleep_until(resume))
                    .await?;
            }
            let read = self.store().read(&self.key, self.terms.request_timeout);
            match self.unless_given_up(read).await? {
                Ok(read) => return self.view(read),
                Err(error) if error.kind() == ErrorKind::Unavailable => failed = Some(error),
                Err(error) => return Err(error),
            }
        }
        unreachable!("looks are counted up to a limit")
    }

    /// A read as a view.
    ///
    /// # Errors
    /// The record is damaged: it counts as held and is left alone (hazard H10).
    fn view(&mut self, read: Read) -> Result<View> {
        let now = read.now;
        let (found, version, last_modified) = match &read.content {
            Content::Absent => (None, None, None),
            Content::Record {
                record,
                version,
                last_modified,
            } => (Some(record.clone()), Some(version.clone()), *last_modified),
            Content::Unreadable { error, .. } => return Err(unreadable(&self.name, error.clone())),
        };
        // Once the version has moved on, a write conditioned on it can never land.
        let ours = found
            .as_ref()
            .is_some_and(|record| record.lease(self.id).is_some());
        if !ours
            && self
                .doubt
                .as_ref()
                .is_some_and(|expected| *expected != version)
        {
            self.doubt = None;
        }
        let observations = match &found {
            Some(record) => self.client.memory.seen(&self.key, record, read.received),
            None => Observations::default(),
        };
        Ok(View {
            found,
            version,
            last_modified,
            now,
            observations,
            read: Some(read),
        })
    }

    fn held(&self, view: &View) -> Attempt {
        let now = view.now;
        let info = match &view.found {
            Some(record) => LockInfo::of_record(&self.name, record, view.last_modified, now),
            None => LockInfo::absent(&self.name),
        };
        Attempt::Held(Box::new(info))
    }

    /// Sees to it that a write of this acquisition, which may yet land, does no harm: gives the
    /// lock back if it has, and otherwise moves the version on, which voids it (hazard H2).
    async fn shut_the_door(mut self) {
        let Some(expected) = self.doubt.take() else {
            return;
        };
        let clock = Arc::clone(self.clock());
        let end = clock.now().boot.plus(contender_wait(self.terms.ttl));
        let mut backoff = Backoff::new(RETRYING, Arc::clone(self.store().rng()));
        while clock.now().boot < end {
            match self.try_to_shut(expected.as_ref(), end).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(lock = %self.name, %error, "undoing an abandoned acquisition");
                }
            }
            clock
                .sleep_until(clock.now().boot.plus(backoff.next()))
                .await;
        }
        tracing::warn!(lock = %self.name, "an abandoned acquisition was left to expire by itself");
    }

    async fn try_to_shut(&self, expected: Option<&Version>, until: Boot) -> Result<bool> {
        let request = self.terms.request_timeout;
        let read = self.store().read(&self.key, request).await?;
        let (nonce, now) = (self.store().nonce(), self.clock().now().wall);
        let (version, record) = match &read.content {
            Content::Record {
                record, version, ..
            } => {
                let ours = record.lease(self.id).is_some();
                if !ours && Some(version) != expected {
                    return Ok(true);
                }
                (Some(version), shut_the_door(record, self.id, nonce, now))
            }
            Content::Absent if expected.is_none() => {
                let start = token_start(self.store(), &read, request).await;
                let start = start.ok_or_else(|| internal("no token to start a record with"))?;
                (None, Record::free(start, nonce))
            }
            Content::Absent | Content::Unreadable { .. } => return Ok(true),
        };
        let patience = Patience {
            request,
            until,
            attempts: 1,
        };
        let swapped = self
            .store()
            .swap(&self.key, version, &record, patience)
            .await?;
        Ok(matches!(swapped, Swap::Won { .. }))
    }
}

/// The token that a new record's first one must exceed: an upper bound of the store's present time
/// in microseconds, so that tokens go on rising when a record is deleted and made again.
pub(crate) async fn token_start(
    store: &LockStore,
    read: &Read,
    limit: Duration,
) -> Option<FencingToken> {
    let micros = match store.now(read, limit).await {
        Some(now) => now
            .at_most
            .plus(store.clock().now().boot.since(now.at))
            .micros(),
        None => {
            tracing::debug!("the store's time is not known: tokens start from our own clock");
            store.clock().now().wall.micros()
        }
    };
    FencingToken::new(u64::try_from(micros).unwrap_or(0))
}

pub(crate) fn unreadable(name: &str, error: crate::record::RecordError) -> Error {
    let message =
        format!("the record of the lock {name:?} cannot be understood; it is left untouched");
    Error::new(ErrorKind::UnreadableRecord, message).caused_by(error)
}

pub(crate) fn shut_down() -> Error {
    Error::new(ErrorKind::ShutDown, "the store handle was shut down")
}

fn internal(message: &str) -> Error {
    Error::new(ErrorKind::Internal, message)
}

fn note_takeover(name: &str, rule: Rule) {
    let word = match rule {
        Rule::Observation => "observation",
        Rule::StoreClock => "store_clock",
        Rule::WallClock => "wall_clock",
    };
    tracing::info!(lock = %name, rule = word, "took over an expired lease");
    telemetry::takeover(word);
}
