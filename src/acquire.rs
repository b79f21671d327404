//! How a contender gets a lock: read, decide, write, and wait in between.
//!
//! Runs as a task of the library: the caller's future may be dropped at any await point, the task
//! goes on and undoes what it has begun (hazards H2, H16).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;
use tokio::sync::{oneshot, watch};
use tracing::Instrument;

use crate::client::Client;
use crate::clock::{Boot, Clock, Moment};
use crate::error::{Error, ErrorKind, Result};
use crate::guard::LockGuard;
use crate::holder::HolderId;
use crate::info::LockInfo;
use crate::keeper::until_renewal;
use crate::name;
use crate::options::{LockOptions, Terms};
use crate::polling::{Look, Polls};
use crate::protocol::expiry::{Evidence, Rule, StoreTime, contender_wait, remaining};
use crate::protocol::lock::{Acquire, AcquireDecision, acquire};
use crate::protocol::queue::Want;
use crate::record::{Done, Kind, Payload, Record};
use crate::session::OpenSession;
use crate::store::{LockStore, Patience, Polled, Swap, Version};
use crate::telemetry;
use crate::token::FencingToken;
use crate::wait::{Contention, QUEUEING};
use crate::wake::Awaited;

mod door;
mod enter;
mod expect;
mod hint;
pub(crate) mod member;
mod outage;
mod sessions;
mod start;
mod target;
mod view;

pub(crate) use outage::Outage;
pub(crate) use start::token_start;
pub(crate) use target::{Sharing, Target, Under};
use view::{View, moved_on};

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

impl Limit {
    /// The time for something that is planned for `at`: no later than the limit.
    pub(crate) fn cut(self, at: Boot) -> Boot {
        match self {
            Self::Until(limit) => at.min(limit),
            Self::Once | Self::Forever => at,
        }
    }

    /// Whether the time is up.
    pub(crate) fn is_over(self, now: Boot) -> bool {
        matches!(self, Self::Until(limit) if now >= limit)
    }
}

/// What came of contending.
#[derive(Debug)]
pub(crate) enum Contended {
    /// The lease is ours.
    Acquired(LockGuard),
    /// Somebody else has it.
    Held(Box<LockInfo>),
    /// The work is done that would have been run under it.
    Done(Box<Done>),
}

/// Attempts of one write.
const WRITES: u32 = 3;

/// Contends for the lock of this kind and name, alone and under a lease of its own.
///
/// # Errors
/// As [`contend_for`].
pub(crate) async fn contend(
    client: &Arc<Client>,
    kind: Kind,
    name: &str,
    options: &LockOptions,
    limit: Limit,
) -> Result<Contended> {
    contend_for(&Target::alone(Arc::clone(client), kind, name.to_owned()), options, limit).await
}

/// Contends in a task of the library.
///
/// # Errors
/// The name or the options are invalid, or the task could not do it.
pub(crate) async fn contend_for(
    target: &Target,
    options: &LockOptions,
    limit: Limit,
) -> Result<Contended> {
    let terms = target.terms(options)?;
    let client = &target.client;
    let key = name::key_of(target.kind, client.store.prefix(), &target.name)?;
    client.ensure_open()?;
    // Dropped with this future: tells the task that nobody waits any more.
    let (_waiting, caller) = watch::channel(());
    let contender = Contender::new(target.clone(), key, terms, limit, caller);
    let (send, answer) = oneshot::channel();
    let span = tracing::info_span!("acquire", lock = %target.name);
    let contending = async move {
        // A guard that nobody receives releases itself.
        let _ = send.send(contender.run().await);
    };
    client.start_here(contending.instrument(span));
    answer.await.unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Internal, "the task that acquires the lock has ended"))
    })
}

/// One call that wants a lock.
#[derive(Debug)]
pub(crate) struct Contender {
    target: Target,
    key: Path,
    terms: Terms,
    limit: Limit,
    id: HolderId,
    /// After how long its lease will be renewed first, as its entry tells others.
    renews_in: Option<Duration>,
    /// Before the first write was sent under this id, if one may have landed.
    first_sent: Option<Moment>,
    /// What a write of this id was conditioned on whose outcome is not known.
    doubt: Option<Option<Version>>,
    /// Whether a ticket of this id is in the queue, as far as is known.
    queued: bool,
    /// The session under which it waits and will hold, once there is one.
    session: Option<Arc<OpenSession>>,
    /// What is known of the sessions of others; `None` of those that have ended.
    sessions: BTreeMap<HolderId, Option<View>>,
    /// Who was seen to hold the lock last.
    rival: Option<HolderId>,
    /// Its wait to be told that its ticket is served, where this process listens for that.
    hint: Option<Awaited>,
    /// For how long and how often the store has failed us.
    outage: Outage,
    /// Closed when the caller has stopped waiting.
    caller: watch::Receiver<()>,
}

/// What became of a write.
enum Written {
    /// The record says that we hold the lock.
    Landed {
        record: Box<Record>,
        version: Version,
        /// Before the write was sent.
        sent: Moment,
    },
    /// It did not land, or it is not known; this was seen.
    Look(View),
}

impl Contender {
    fn new(
        target: Target,
        key: Path,
        terms: Terms,
        limit: Limit,
        caller: watch::Receiver<()>,
    ) -> Self {
        let rng = target.client.store.rng();
        let id = HolderId::from_random(rng.bits());
        let renews_in = terms.renew_every.map(|every| until_renewal(every, &**rng));
        let outage = Outage::new(Arc::clone(rng));
        Self {
            target,
            key,
            terms,
            limit,
            id,
            renews_in,
            first_sent: None,
            doubt: None,
            queued: false,
            session: None,
            sessions: BTreeMap::new(),
            rival: None,
            hint: None,
            outage,
            caller,
        }
    }

    /// Contends until the lock is acquired, somebody else holds it, the limit is reached, the work is
    /// done, or the caller has stopped waiting.
    async fn run(mut self) -> Result<Contended> {
        let counted = self.target.kind != Kind::Session;
        if counted {
            telemetry::attempt();
        }
        let started = self.clock().now();
        let result = self.contend(started).await;
        // A write whose outcome is in doubt must not take effect after the caller was told that
        // there is no lock (hazard H2), and nobody is to wait for a ticket that is not used.
        if !matches!(result, Ok(Contended::Acquired(_))) && self.has_left_traces() {
            let client = Arc::clone(self.client());
            client.spawn(self.shut_the_door());
        }
        if matches!(result, Ok(Contended::Held(_))) {
            telemetry::busy();
        }
        result
    }

    /// Whether something of this acquisition is on record, or may yet be.
    fn has_left_traces(&self) -> bool {
        self.doubt.is_some() || self.queued
    }

    /// Waits or reads, unless the caller stops waiting or the store is shut down meanwhile. Never
    /// used around a write: that is always seen to its end (hazard H16).
    async fn unless_given_up<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        let mut caller = self.caller.clone();
        let mut closing = self.client().closing();
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

    fn client(&self) -> &Arc<Client> {
        &self.target.client
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        self.client().store.clock()
    }

    fn store(&self) -> &LockStore {
        &self.client().store
    }

    async fn contend(&mut self, started: Moment) -> Result<Contended> {
        if let Some(begin) = self.target.sharing.and_then(|sharing| sharing.not_before) {
            self.unless_given_up(self.clock().sleep_until(self.limit.cut(begin))).await?;
        }
        let mut polls = Polls::new(self.terms.polling, Arc::clone(self.store().rng()));
        let mut contention = Contention::new(QUEUEING, Arc::clone(self.store().rng()));
        let mut view = match self.remembered() {
            Some(view) => view,
            None => self.look().await?,
        };
        loop {
            self.leave_lost_session()?;
            // A new record will be written, and before that its first token be found out.
            if view.found.is_none() && self.make_fit().await? {
                view = self.look().await?;
            }
            let (decision, decided) = match self.decide(&view).await {
                Ok(decided) => decided,
                // The time at which a new record starts was not to be had.
                Err(error) => {
                    self.bear(error).await?;
                    view = self.look().await?;
                    continue;
                }
            };
            match decision {
                AcquireDecision::Ours => {
                    // Who was let in from the queue had no payload there.
                    let left_out = self.left_out(&view);
                    let landed = self.claim_landed(view)?;
                    match self.outcome(landed, started).await? {
                        Ok(guard) => {
                            if let Some(payload) = left_out {
                                guard.set_payload(payload).await?;
                            }
                            return Ok(Contended::Acquired(guard));
                        }
                        Err(next) => view = next,
                    }
                }
                // Never written to before, or without a session: that takes time, so decide again.
                AcquireDecision::Write { .. } | AcquireDecision::Queue(_)
                    if self.make_fit().await? || self.open_session().await? => {}
                AcquireDecision::Write { record, takeover } => {
                    let written = self.write(*record, takeover, view, decided).await?;
                    match self.outcome(written, started).await? {
                        Ok(guard) => return Ok(Contended::Acquired(guard)),
                        Err(next) => view = next,
                    }
                }
                AcquireDecision::Queue(record) => {
                    view = self.line_up(*record, view, decided).await?;
                    if let Some(pause) = contention.next().filter(|_| !self.queued) {
                        let resume = self.clock().now().boot.plus(pause);
                        self.unless_given_up(self.clock().sleep_until(resume)).await?;
                        view = self.look_again(view).await?;
                    }
                }
                AcquireDecision::Ask(session) => self.ask(session, &view).await?,
                AcquireDecision::End(session) => {
                    // Where it has been renewed, the lock was not looked at for as long.
                    if !self.end(session).await? {
                        view = self.look_again(view).await?;
                    }
                }
                AcquireDecision::Done => return Ok(Contended::Done(done(view)?)),
                AcquireDecision::OtherKind(found) => return Err(self.target.other_kind(found)),
                AcquireDecision::OtherLimit(stored) => return Err(self.target.other_limit(stored)),
                AcquireDecision::HeldUntil(end) => {
                    self.outage.over();
                    if self.limit == Limit::Once {
                        return Ok(self.held(&view));
                    }
                    match self.wait(view, end, &mut polls).await? {
                        Ok(next) => view = next,
                        Err(last) => return Ok(self.held(&last)),
                    }
                }
            }
        }
    }

    /// Checks the store if that has not been done; whether it was done now.
    async fn make_fit(&mut self) -> Result<bool> {
        if self.store().is_known_fit() {
            return Ok(false);
        }
        match self.unless_given_up(self.store().ensure_fit()).await? {
            Err(error) if error.kind() == ErrorKind::Unavailable => self.bear(error).await?,
            checked => checked?,
        }
        Ok(true)
    }

    /// Decides, and tells the time it was decided at: the record carries it, and a holder counts
    /// its lease from there.
    async fn decide(&self, view: &View) -> Result<(AcquireDecision, Moment)> {
        let above = self.token_floor(view).await?;
        Ok(self.decide_by(view, above, acquire).await)
    }

    async fn decide_by(
        &self,
        view: &View,
        above: FencingToken,
        decide: impl FnOnce(Option<&Record>, &Evidence<'_>, &Acquire) -> AcquireDecision,
    ) -> (AcquireDecision, Moment) {
        let store = self.store_time(view).await;
        let sessions = self.known_sessions().await;
        let now = self.clock().now();
        let evidence = Evidence {
            now,
            observations: &view.observations,
            store,
            max_skew: self.terms.max_skew,
            sessions: &sessions,
        };
        let intent = Acquire {
            kind: self.target.kind,
            want: self.want(),
            id: self.id,
            ttl: self.terms.ttl,
            owner: self.terms.owner.clone(),
            payload: self.terms.payload.clone(),
            nonce: self.store().nonce(),
            above,
            reserve: self.target.sharing.map_or(0, |sharing| sharing.reserve),
            renews_in: self.renews_in,
        };
        (decide(view.found.as_deref(), &evidence, &intent), now)
    }

    /// The store-clock rule's evidence. Where no answer has told the store's time it costs requests
    /// to find out: then only when our own wall clock suggests that it would matter. That clock may
    /// be wrong; it decides nothing.
    async fn store_time(&self, view: &View) -> Option<StoreTime> {
        if !self.terms.store_clock {
            return None;
        }
        let ends_after = ends_after(view.found.as_ref()?)?;
        let last_modified = view.last_modified?;
        let margin = self.store().time_margin();
        let now = match view.now {
            Some(now) => now,
            None => {
                let suspected = last_modified.plus(ends_after.saturating_add(margin));
                if self.clock().now().wall < suspected {
                    return None;
                }
                self.store().ask_time(self.terms.request_timeout).await?
            }
        };
        Some(StoreTime { at_least: now.at_least, at: now.at, last_modified, margin })
    }

    /// A token that the new one must exceed: whatever this process has seen under the name, and
    /// for a new record the store's present time in microseconds (hazard H9).
    async fn token_floor(&self, view: &View) -> Result<FencingToken> {
        let highest = self.client().memory.highest(&self.key).unwrap_or(FencingToken::ZERO);
        // The name of a session is used once: nothing has to rise.
        if view.found.is_some() || self.target.kind == Kind::Session {
            return Ok(highest);
        }
        let start = token_start(self.store(), view.now, self.terms.request_timeout).await?;
        Ok(highest.max(start))
    }

    /// Writes `record`, which was decided on at `decided`, over what was seen: with our entry, or with
    /// our ticket.
    async fn write(
        &mut self,
        record: Record,
        takeover: Option<Rule>,
        view: View,
        decided: Moment,
    ) -> Result<Written> {
        self.first_sent.get_or_insert(decided);
        let until = match self.limit {
            Limit::Until(limit) => limit.max(decided.boot.plus(self.terms.request_timeout)),
            _ => decided.boot.plus(self.terms.ttl / 2),
        };
        let patience = Patience { request: self.terms.request_timeout, until, attempts: WRITES };
        // Until the outcome is known, whoever drops this future must see to the write.
        let doubted_before = self.doubt.replace(view.version.clone());
        let swapped = self.store().swap(&self.key, view.version.as_ref(), &record, patience).await;
        match swapped {
            Ok(Swap::Won { version }) => {
                self.settled();
                if let Some(rule) = takeover {
                    note_takeover(&self.target.name, rule);
                }
                if let Some(before) = &view.found {
                    self.client().wakes.tell(before, &record);
                }
                Ok(Written::Landed { record: Box::new(record), version, sent: decided })
            }
            Ok(Swap::Conflict(read)) => {
                // What refused it may be an earlier write of ours: the view tells.
                self.outage.over();
                Ok(Written::Look(self.view(*read)?))
            }
            // Look again: the next read may show what became of it.
            Ok(Swap::Unknown(error)) => {
                self.bear(error).await?;
                Ok(Written::Look(self.look().await?))
            }
            Err(error) => {
                // This one was not applied; an earlier one still may be.
                self.doubt = doubted_before;
                if !self.has_left_traces() {
                    self.first_sent = None;
                }
                self.bear(error).await?;
                Ok(Written::Look(self.look().await?))
            }
        }
    }

    /// The store has answered a write clearly.
    fn settled(&mut self) {
        self.doubt = None;
        self.outage.over();
    }

    /// Waits before trying again after a failure.
    ///
    /// # Errors
    /// The failure, when trying again soon does not help, or patience has run out.
    async fn bear(&mut self, error: Error) -> Result<()> {
        if error.kind() != ErrorKind::Unavailable {
            return Err(error);
        }
        let now = self.clock().now().boot;
        let Some(resume) = self.outage.next(now, self.limit) else { return Err(error) };
        self.unless_given_up(self.clock().sleep_until(resume)).await
    }

    /// The payload, if the record that says that we hold the lock lacks it.
    fn left_out(&self, view: &View) -> Option<Payload> {
        let found = view.found.as_ref().and_then(|record| record.payload.as_ref());
        self.terms.payload.clone().filter(|payload| found != Some(payload))
    }

    /// An earlier write of ours has landed after all.
    fn claim_landed(&mut self, view: View) -> Result<Written> {
        self.settled();
        let landed = view.found.zip(view.version).zip(self.first_sent);
        let ((record, version), sent) = landed.ok_or_else(|| {
            Error::new(ErrorKind::Internal, "an acquisition was found that was never written")
        })?;
        Ok(Written::Landed { record, version, sent })
    }

    /// The guard, if a write has made us the holder in time; otherwise what to look at next.
    async fn outcome(
        &mut self,
        written: Written,
        started: Moment,
    ) -> Result<Result<LockGuard, View>> {
        let (record, version, sent) = match written {
            Written::Look(view) => return Ok(Err(view)),
            Written::Landed { record, version, sent } => (record, version, sent),
        };
        if self.is_in_time(&record, sent) {
            return self.enter(*record, version, sent, started).map(Ok);
        }
        // It took so long that the lease is over. Others may be about to take the lock: give it
        // back in the background, as another identity, and look again.
        self.doubt = Some(Some(version));
        self.begin_anew();
        Ok(Err(self.look().await?))
    }

    /// Whether the entry that has landed is still worth something.
    fn is_in_time(&self, record: &Record, sent: Moment) -> bool {
        match &self.session {
            // Who was admitted from the queue has to hold under the session it waited under.
            Some(session) => {
                let under = record.lease(self.id).and_then(|lease| lease.session);
                under == Some(session.id) && session.hold.is_held()
            }
            None => !remaining(self.terms.ttl, sent, self.clock().now()).is_zero(),
        }
    }

    /// Goes on as another acquisition, while what this one has left is undone in the background.
    fn begin_anew(&mut self) {
        let target = self.target.clone();
        let (key, terms) = (self.key.clone(), self.terms.clone());
        let anew = Self::new(target, key, terms, self.limit, self.caller.clone());
        let former = std::mem::replace(self, anew);
        if former.has_left_traces() {
            let client = Arc::clone(self.client());
            client.spawn(former.shut_the_door());
        }
    }

    /// Waits a while for a lock that is held and looks again; the last view when the limit is
    /// reached.
    async fn wait(
        &mut self,
        view: View,
        end: Boot,
        polls: &mut Polls,
    ) -> Result<Result<View, View>> {
        let now = self.clock().now();
        if self.limit.is_over(now.boot) {
            return Ok(Err(view));
        }
        if let Some((expected, since)) = self.expected(&view) {
            let holder = expected.holder;
            polls.expect(expected, since, now);
            if self.is_overtaken(holder) {
                self.join_the_queue();
                return Ok(Ok(view));
            }
        }
        let (next, at) = polls.next(now.boot);
        let wake = self.limit.cut(next);
        let told = self.sleep_until_told(wake.min(end)).await?;
        if end <= wake && !told {
            // The lease ends before the next look would come: take over then, without another.
            return Ok(Ok(view));
        }
        // The last look is at the lock, and so is one that it was told to take.
        let at = if told || wake < next { Look::Lock } else { at };
        polls.look(self.clock().now().boot, at);
        if let Look::Session(session) = at {
            self.ask(session, &view).await?;
            return Ok(Ok(view));
        }
        self.look_again(view).await.map(Ok)
    }

    /// Looks whether the record has changed.
    async fn look_again(&mut self, view: View) -> Result<View> {
        let Some(version) = &view.version else { return self.look().await };
        let poll = self.store().poll(&self.key, version, self.terms.request_timeout);
        match self.unless_given_up(poll).await? {
            // A time that is not trusted any more replaces one that was.
            Ok(Polled::Unchanged { now }) => Ok(View { now, ..view }),
            Ok(Polled::Changed(read)) => self.view(*read),
            Err(error) => {
                self.bear(error).await?;
                self.look().await
            }
        }
    }

    /// Reads the record; again and again while the store does not answer, within bounds.
    async fn look(&mut self) -> Result<View> {
        loop {
            let read = self.store().read(&self.key, self.terms.request_timeout);
            match self.unless_given_up(read).await? {
                Ok(read) => return self.view(read),
                Err(error) => self.bear(error).await?,
            }
        }
    }
}

/// How long after it was written a record lets somebody in, if that is only a matter of time: a
/// lease, or a result that is kept for some time.
fn ends_after(record: &Record) -> Option<Duration> {
    // What is held under a session is not renewed here, and not a matter of this record's age.
    let alone = record.holders.iter().filter(|lease| lease.session.is_none());
    let lease = alone.map(|lease| contender_wait(lease.ttl)).max();
    lease.or_else(|| record.done.as_ref()?.retention)
}

fn done(view: View) -> Result<Box<Done>> {
    let done = view.found.and_then(|record| record.done);
    done.map(Box::new).ok_or_else(|| Error::new(ErrorKind::Internal, "a result is not there"))
}

pub(crate) fn unreadable(name: &str, error: crate::record::RecordError) -> Error {
    let message = format!("the record of {name:?} cannot be understood; it is left untouched");
    Error::new(ErrorKind::UnreadableRecord, message).caused_by(error)
}

pub(crate) fn shut_down() -> Error {
    Error::new(ErrorKind::ShutDown, "the store handle was shut down")
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
