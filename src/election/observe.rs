//! Who leads, as anybody can see it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use object_store::path::Path;
use tokio::sync::mpsc;

use crate::acquire::unreadable;
use crate::client::Client;
use crate::clock::Boot;
use crate::error::{ErrorKind, Result};
use crate::holder::{HolderId, Owner};
use crate::info::{LockInfo, LockState};
use crate::options::{DEFAULT_TTL, request_timeout};
use crate::record::Payload;
use crate::store::{Content, LockStore, Polled, Read};
use crate::token::FencingToken;
use crate::wait::{Backoff, POLLING};

/// A store that does not answer is mentioned after this time, as an acquire gives up then.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who leads, as the record says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Leader {
    /// Its term: the fencing token of its acquisition.
    pub term: FencingToken,
    /// The identity of its acquisition.
    pub id: HolderId,
    /// Who it is.
    pub owner: Owner,
    /// What it has left for others to read.
    pub payload: Option<Payload>,
    /// Since when it leads, by its own wall clock.
    pub since: SystemTime,
}

impl Leader {
    fn of(info: LockInfo) -> Option<Self> {
        if info.state != LockState::Held {
            return None;
        }
        // An entry that only stays for its minimum hold belongs to nobody any more.
        let holder = info.holders.into_iter().find(|holder| holder.released_at.is_none())?;
        Some(Self {
            term: holder.token,
            id: holder.id,
            owner: holder.owner,
            payload: info.payload,
            since: holder.acquired_at,
        })
    }
}

/// Who leads, with one read.
pub(super) async fn leader(client: &Client, name: &str, key: &Path) -> Result<Option<Leader>> {
    let read = look(&client.store, key, None).await?;
    leader_in(&client.store, name, &read)
}

fn leader_in(store: &LockStore, name: &str, read: &Read) -> Result<Option<Leader>> {
    if let Content::Unreadable { error, .. } = &read.content {
        return Err(unreadable(name, error.clone()));
    }
    Ok(Leader::of(LockInfo::of_read(name, read, read.now, store.time_margin())))
}

/// What the record says now and what time it is there, with one request, given what was known of it.
async fn look(store: &LockStore, key: &Path, known: Option<Read>) -> Result<Read> {
    let limit = request_timeout(DEFAULT_TTL);
    let mut read = match known.and_then(|known| Some((version(&known)?.clone(), known))) {
        Some((version, known)) => match store.poll(key, &version, limit).await? {
            Polled::Changed(read) => *read,
            Polled::Unchanged { now } => Read { now, ..known },
        },
        None => store.read(key, limit).await?,
    };
    read.now = store.time_for_free(read.now, limit).await;
    Ok(read)
}

fn version(read: &Read) -> Option<&crate::store::Version> {
    match &read.content {
        Content::Absent => None,
        Content::Record { version, .. } | Content::Unreadable { version, .. } => Some(version),
    }
}

/// Tells one listener who leads, until nobody listens.
#[derive(Debug)]
pub(super) struct Observer {
    client: Arc<Client>,
    name: String,
    key: Path,
    listener: mpsc::Sender<Result<Option<Leader>>>,
    /// What was said last.
    said: Option<Result<Option<Leader>, ErrorKind>>,
    /// Since when the store has not answered.
    silent: Option<Boot>,
}

impl Observer {
    pub(super) fn new(
        client: Arc<Client>,
        name: String,
        key: Path,
        listener: mpsc::Sender<Result<Option<Leader>>>,
    ) -> Self {
        Self { client, name, key, listener, said: None, silent: None }
    }

    pub(super) async fn run(mut self) {
        let None = self.observe().await;
    }

    /// Until nobody listens, or the store is shut down.
    async fn observe(&mut self) -> Option<Infallible> {
        let store = Arc::clone(&self.client.store);
        let mut polling = Backoff::new(POLLING, Arc::clone(store.rng()));
        let mut known = None;
        loop {
            let looked = self.unless_over(look(&store, &self.key, known.take())).await?;
            let news = match looked {
                Ok(read) => {
                    let leader = leader_in(&store, &self.name, &read);
                    known = Some(read);
                    leader
                }
                Err(error) => Err(error),
            };
            if self.is_worth_telling(&news) {
                self.said = Some(news.as_ref().map(Clone::clone).map_err(|error| error.kind()));
                self.unless_over(self.listener.send(news)).await?.ok()?;
                polling.reset();
            }
            let wake = store.clock().now().boot.plus(polling.next());
            self.unless_over(store.clock().sleep_until(wake)).await?;
        }
    }

    fn is_worth_telling(&mut self, news: &Result<Option<Leader>>) -> bool {
        let news = news.as_ref().map_err(|error| error.kind());
        if news == Err(ErrorKind::Unavailable) {
            let now = self.client.store.clock().now().boot;
            if now.since(*self.silent.get_or_insert(now)) < PATIENCE {
                return false;
            }
        } else {
            self.silent = None;
        }
        self.said.as_ref().map(|said| said.as_ref().map_err(|kind| *kind)) != Some(news)
    }

    async fn unless_over<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut closing = self.client.closing();
        tokio::select! {
            biased;
            _ = closing.wait_for(|closing| *closing) => None,
            () = self.listener.closed() => None,
            output = work => Some(output),
        }
    }
}
