//! How members gather at a latch or a barrier: read, decide, write, and wait for the others.
//!
//! Runs as a task of the library: a write that has begun is seen to its end whatever becomes of the
//! caller's future (hazard H16). An arrival whose outcome is not known is looked for and made again,
//! as nobody counts twice (hazards H1, H6).

use std::sync::Arc;
use std::time::Duration;

use object_store::path::Path;
use tokio::sync::watch;

use crate::acquire::{Limit, Outage, shut_down, token_start, unreadable};
use crate::client::Client;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::name;
use crate::options::{DEFAULT_TTL, request_timeout};
use crate::protocol::gathering::{
    About, Arrive, ArriveDecision, Refusal, ResetDecision, Standing, arrive, is_open, reset,
    standing,
};
use crate::record::{Arrived, Kind, MAX_MEMBERS, Record};
use crate::store::{Content, LockStore, Patience, Polled, Read, StoreNow, Swap, Version};
use crate::token::FencingToken;
use crate::wait::{Backoff, Contention, POLLING, RETRYING};

mod info;

pub use info::{GatheringInfo, MemberInfo};

/// Attempts of one write.
const WRITES: u32 = 3;

/// Where an epoch of a latch or a barrier stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Arrival {
    /// Which epoch; the first is 0.
    pub epoch: u64,
    /// How many different members have arrived in it.
    pub arrived: u32,
    /// How many it waits for.
    pub needed: u32,
    /// Whether that many have arrived: the latch is open, or the barrier's epoch has passed.
    pub is_open: bool,
}

/// An epoch in which all that were needed have arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Passed {
    /// Which; the first is 0.
    pub epoch: u64,
}

/// How a wait of limited length ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it may have timed out"]
pub enum Waited {
    /// All that were needed have arrived.
    Passed(Passed),
    /// Not yet; this is how it stood at the last look.
    TimedOut(Arrival),
}

/// What a latch and a barrier have in common.
#[derive(Clone, Debug)]
pub(crate) struct Gatherer {
    client: Arc<Client>,
    kind: Kind,
    name: String,
    needed: u32,
}

/// What a call does besides looking.
#[derive(Clone, Debug)]
pub(crate) struct Errand {
    /// Who arrives, if somebody does.
    pub(crate) member: Option<String>,
    /// For which epoch; for the present one without.
    pub(crate) epoch: Option<u64>,
    /// For how long it waits, if it waits.
    pub(crate) wait: Option<Limit>,
}

impl Gatherer {
    pub(crate) fn new(client: Arc<Client>, kind: Kind, name: String, needed: u32) -> Self {
        Self { client, kind, name, needed }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn needed(&self) -> u32 {
        self.needed
    }

    /// The limit of a wait that ends so long from now.
    pub(crate) fn within(&self, time: Duration) -> Limit {
        Limit::Until(self.client.store.clock().now().boot.plus(time))
    }

    /// Arrives, waits, or both.
    ///
    /// # Errors
    /// Those of [`Latch::arrive`](crate::Latch::arrive) and [`Latch::wait`](crate::Latch::wait).
    pub(crate) async fn attend(&self, errand: Errand) -> Result<Arrival> {
        if let Some(fault) = errand.member.as_deref().and_then(Arrived::fault) {
            let message = format!(
                "a member's name has 1 to 128 bytes without control characters; found {fault}"
            );
            return Err(Error::new(ErrorKind::InvalidOptions, message));
        }
        let limit = errand.wait.unwrap_or(Limit::Forever);
        self.begin(errand.epoch, limit, |call| call.attend(errand)).await
    }

    /// Ends an epoch, the present one or this, and answers which is present then.
    ///
    /// # Errors
    /// Those of [`Latch::reset`](crate::Latch::reset).
    pub(crate) async fn reset(&self, epoch: Option<u64>) -> Result<u64> {
        self.begin(epoch, Limit::Forever, Call::reset).await
    }

    /// What the record says.
    ///
    /// # Errors
    /// Those of [`Latch::inspect`](crate::Latch::inspect).
    pub(crate) async fn inspect(&self) -> Result<GatheringInfo> {
        self.begin(None, Limit::Once, Call::inspect).await
    }

    async fn begin<T, F>(
        &self,
        epoch: Option<u64>,
        limit: Limit,
        work: impl FnOnce(Call) -> F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        if !(1..=MAX_MEMBERS).contains(&self.needed) {
            let message = format!(
                "{} waits for 1 to {MAX_MEMBERS} members, not for {}",
                self.kind.described(),
                self.needed
            );
            return Err(Error::new(ErrorKind::InvalidOptions, message));
        }
        let key = name::key_of(self.kind, self.client.store.prefix(), &self.name)?;
        self.client.ensure_open()?;
        // Dropped with this future: tells the task that nobody waits any more.
        let (_waiting, caller) = watch::channel(());
        let about = About { kind: self.kind, needed: self.needed, epoch, seen: None };
        let outage = Outage::new(Arc::clone(self.client.store.rng()));
        let name = self.name.clone();
        let client = Arc::clone(&self.client);
        let call = Call { client, name, key, about, limit, outage, doubt: false, caller };
        // Boxed: those who wait for many of them keep them in one future.
        Box::pin(self.client.call(Box::pin(work(call)))).await
    }
}

/// One call.
struct Call {
    client: Arc<Client>,
    name: String,
    key: Path,
    about: About,
    limit: Limit,
    /// For how long and how often the store has failed us.
    outage: Outage,
    /// Whether a write may have landed, or may still land, and has not been seen.
    doubt: bool,
    /// Closed when the caller has stopped waiting.
    caller: watch::Receiver<()>,
}

/// What is known of the record.
struct View {
    found: Option<Box<Record>>,
    version: Option<Version>,
    now: Option<StoreNow>,
}

/// What became of a write.
enum Written {
    Landed(View),
    /// Something else is there: this.
    Refused(View),
    /// It failed, or it is not known.
    Failed,
}

impl Call {
    async fn attend(mut self, errand: Errand) -> Result<Arrival> {
        let attended = self.arrive_and_wait(&errand).await;
        attended.map_err(|error| self.doubted(error))
    }

    async fn reset(mut self) -> Result<u64> {
        let reset = self.end_epoch().await;
        reset.map_err(|error| self.doubted(error))
    }

    async fn inspect(mut self) -> Result<GatheringInfo> {
        let read = self.read().await?;
        match read.content {
            Content::Absent => Ok(GatheringInfo::absent(&self.name, self.about.needed)),
            Content::Unreadable { error, .. } => Err(unreadable(&self.name, error)),
            Content::Record { record, last_modified, .. } => {
                GatheringInfo::of(&self.name, &record, last_modified)
                    .filter(|_| record.kind == self.about.kind)
                    .ok_or_else(|| self.refused(Refusal::OtherKind(record.kind)))
            }
        }
    }

    async fn arrive_and_wait(&mut self, errand: &Errand) -> Result<Arrival> {
        let (view, passed) = match &errand.member {
            Some(member) => self.arrive(member).await?,
            None => (self.look().await?, false),
        };
        if passed || errand.wait.is_none() {
            return Ok(self.arrival(&view, passed));
        }
        self.wait(view).await
    }

    /// Arrives; what is known then, and whether the epoch has passed.
    async fn arrive(&mut self, member: &str) -> Result<(View, bool)> {
        let mut contention = Contention::new(RETRYING, Arc::clone(self.store().rng()));
        let mut view = self.look().await?;
        loop {
            self.about = self.about.clone().after(view.found.as_deref());
            // A new record will be written, and before that its first token be found out.
            if view.found.is_none() && self.make_fit().await? {
                view = self.look().await?;
                continue;
            }
            let above = match self.token_floor(&view).await {
                Ok(above) => above,
                Err(error) => {
                    self.bear(error).await?;
                    view = self.look().await?;
                    continue;
                }
            };
            let arrival = Arrive { member, nonce: self.store().nonce(), above };
            let now = self.clock().now().wall;
            match arrive(view.found.as_deref(), &self.about, arrival, now) {
                ArriveDecision::There => return Ok(self.settled(view, false)),
                ArriveDecision::Passed => return Ok(self.settled(view, true)),
                ArriveDecision::Refused(refusal) => return Err(self.refused(refusal)),
                // Never written to before: that takes time, so look again.
                ArriveDecision::Write { .. } if self.make_fit().await? => {
                    view = self.look().await?;
                }
                ArriveDecision::Write { record, passes } => {
                    match self.write(record, &view).await? {
                        Written::Landed(written) => {
                            self.about = self.about.clone().after(written.found.as_deref());
                            if passes {
                                tracing::info!(name = %self.name, epoch = ?self.about.epoch, "passed");
                            }
                            return Ok(self.settled(written, passes));
                        }
                        Written::Refused(other) => {
                            view = self.contend(other, &mut contention).await?
                        }
                        Written::Failed => view = self.look().await?,
                    }
                }
            }
        }
    }

    /// What became of this call's arrival is known.
    fn settled(&mut self, view: View, passed: bool) -> (View, bool) {
        self.doubt = false;
        self.outage.over();
        (view, passed)
    }

    /// Waits until the epoch has passed or the limit is reached.
    async fn wait(&mut self, mut view: View) -> Result<Arrival> {
        let mut polling = Backoff::new(POLLING, Arc::clone(self.store().rng()));
        loop {
            self.about = self.about.clone().after(view.found.as_deref());
            match standing(view.found.as_deref(), &self.about) {
                Standing::Passed => return Ok(self.arrival(&view, true)),
                Standing::Refused(refusal) => return Err(self.refused(refusal)),
                Standing::Present => self.outage.over(),
            }
            let now = self.clock().now().boot;
            if self.limit.is_over(now) {
                return Ok(self.arrival(&view, false));
            }
            let wake = self.limit.cut(now.plus(polling.next()));
            self.unless_given_up(self.clock().sleep_until(wake)).await?;
            view = self.look_again(view, &mut polling).await?;
        }
    }

    async fn look_again(&mut self, view: View, polling: &mut Backoff) -> Result<View> {
        let Some(version) = &view.version else { return self.look().await };
        let poll = self.store().poll(&self.key, version, request_timeout(DEFAULT_TTL));
        match self.unless_given_up(poll).await? {
            Ok(Polled::Unchanged { .. }) => Ok(view),
            Ok(Polled::Changed(read)) => {
                polling.reset();
                self.view(*read)
            }
            Err(error) => {
                self.bear(error).await?;
                self.look().await
            }
        }
    }

    async fn end_epoch(&mut self) -> Result<u64> {
        let mut contention = Contention::new(RETRYING, Arc::clone(self.store().rng()));
        let mut view = self.look().await?;
        loop {
            self.about = self.about.clone().after(view.found.as_deref());
            match reset(view.found.as_deref(), &self.about, self.store().nonce()) {
                ResetDecision::Already(epoch) => return Ok(epoch),
                ResetDecision::Refused(refusal) => return Err(self.refused(refusal)),
                ResetDecision::Write(_) if self.make_fit().await? => view = self.look().await?,
                ResetDecision::Write(record) => {
                    let epoch = record.gathering.as_ref().map_or(0, |gathering| gathering.epoch);
                    match self.write(record, &view).await? {
                        Written::Landed(_) => return Ok(epoch),
                        Written::Refused(other) => {
                            view = self.contend(other, &mut contention).await?;
                        }
                        Written::Failed => view = self.look().await?,
                    }
                }
            }
        }
    }

    fn arrival(&self, view: &View, is_open: bool) -> Arrival {
        let needed = self.about.needed;
        let present = view.found.as_ref().and_then(|record| record.gathering.as_ref());
        let arrived = present.map_or(0, |gathering| gathering.count());
        let epoch = self.about.epoch.or(present.map(|gathering| gathering.epoch)).unwrap_or(0);
        Arrival { epoch, arrived: if is_open { needed } else { arrived }, needed, is_open }
    }

    async fn write(&mut self, record: Box<Record>, view: &View) -> Result<Written> {
        let (request, now) = (request_timeout(DEFAULT_TTL), self.clock().now().boot);
        let until = match self.limit {
            Limit::Until(limit) => limit.max(now.plus(request)),
            _ => now.plus(DEFAULT_TTL / 2),
        };
        let patience = Patience { request, until, attempts: WRITES };
        // Never interrupted: it is seen to its end (hazard H16).
        let swapped = self.store().swap(&self.key, view.version.as_ref(), &record, patience).await;
        match swapped {
            Ok(Swap::Won { version }) => {
                self.client.memory.issued(&self.key, record.token);
                let (found, version) = (Some(record), Some(version));
                Ok(Written::Landed(View { found, version, now: None }))
            }
            Ok(Swap::Conflict(read)) => {
                self.outage.over();
                self.view(*read).map(Written::Refused)
            }
            Ok(Swap::Unknown(error)) => {
                self.doubt = true;
                self.bear(error).await?;
                Ok(Written::Failed)
            }
            Err(error) => {
                self.bear(error).await?;
                Ok(Written::Failed)
            }
        }
    }

    /// Goes on after a write that somebody else's came before: each time somebody has got ahead, so
    /// this ends.
    async fn contend(&mut self, other: View, contention: &mut Contention) -> Result<View> {
        let Some(pause) = contention.next() else { return Ok(other) };
        let resume = self.clock().now().boot.plus(pause);
        self.unless_given_up(self.clock().sleep_until(resume)).await?;
        self.look().await
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

    /// A token that a new record's must exceed (hazard H9).
    async fn token_floor(&self, view: &View) -> Result<FencingToken> {
        let highest = self.client.memory.highest(&self.key).unwrap_or(FencingToken::ZERO);
        if view.found.is_some() {
            return Ok(highest);
        }
        let start = token_start(self.store(), view.now, request_timeout(DEFAULT_TTL)).await?;
        Ok(highest.max(start))
    }

    /// Reads the record; again and again while the store does not answer, within bounds.
    async fn look(&mut self) -> Result<View> {
        let read = self.read().await?;
        self.view(read)
    }

    async fn read(&mut self) -> Result<Read> {
        loop {
            let read = self.store().read(&self.key, request_timeout(DEFAULT_TTL));
            match self.unless_given_up(read).await? {
                Ok(read) => return Ok(read),
                Err(error) => self.bear(error).await?,
            }
        }
    }

    /// A read as a view.
    ///
    /// # Errors
    /// The record is damaged: it is left alone (hazard H10).
    fn view(&self, read: Read) -> Result<View> {
        let now = read.now;
        match read.content {
            Content::Absent => Ok(View { found: None, version: None, now }),
            Content::Record { record, version, .. } => {
                self.client.memory.issued(&self.key, record.token);
                Ok(View { found: Some(record), version: Some(version), now })
            }
            Content::Unreadable { error, .. } => Err(unreadable(&self.name, error)),
        }
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

    /// Waits or reads, unless the caller stops waiting or the store is shut down meanwhile.
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

    fn doubted(&self, error: Error) -> Error {
        // Other errors tell what is on record, or what to do.
        let store = matches!(
            error.kind(),
            ErrorKind::Unavailable | ErrorKind::PermissionDenied | ErrorKind::MissingCredentials
        );
        if !(self.doubt && store) {
            return error;
        }
        let message = format!("the store did not say whether {:?} was changed", self.name);
        Error::new(ErrorKind::Unconfirmed, message).caused_by(error)
    }

    fn refused(&self, refusal: Refusal) -> Error {
        let (name, about) = (&self.name, &self.about);
        let epoch = about.epoch.unwrap_or(0);
        let (kind, message) = match refusal {
            Refusal::OtherKind(kind) => (
                ErrorKind::WrongKind,
                format!("{name:?} is {}, not {}", kind.described(), about.kind.described()),
            ),
            Refusal::OtherLimit(stored) => (
                ErrorKind::LimitMismatch { stored },
                format!("{name:?} waits for {stored} members, not for {}", about.needed),
            ),
            Refusal::Ahead(stored) => (
                ErrorKind::EpochMismatch { stored },
                format!("epoch {epoch} of {name:?} has not begun: it is in epoch {stored}"),
            ),
            Refusal::Gone(stored) => (
                ErrorKind::EpochMismatch { stored },
                format!(
                    "epoch {epoch} of {name:?} is gone: it was reset before it was seen to pass, \
                     or its record was deleted; it is in epoch {stored}"
                ),
            ),
        };
        Error::new(kind, message)
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        self.client.store.clock()
    }

    fn store(&self) -> &LockStore {
        &self.client.store
    }
}

impl Arrival {
    /// As a wait of limited length tells it.
    pub(crate) fn waited(self) -> Waited {
        match self.is_open {
            true => Waited::Passed(self.passed()),
            false => Waited::TimedOut(self),
        }
    }

    /// As a wait without a limit tells it.
    pub(crate) fn passed(self) -> Passed {
        Passed { epoch: self.epoch }
    }
}
