//! What an operator does from outside to a lock, or to work that is run once.

use std::collections::BTreeSet;
use std::sync::Arc;

use object_store::path::Path;

use crate::acquire::{Target, token_start, unreadable};
use crate::client::Client;
use crate::clock::{Moment, Wall};
use crate::error::{Error, ErrorKind, Result};
use crate::holder::{HolderId, Nonce, Owner};
use crate::info::{HolderInfo, LockInfo};
use crate::lock::Lock;
use crate::name;
use crate::once::Once;
use crate::options::{DEFAULT_TTL, request_timeout};
use crate::protocol::lock::break_lease;
use crate::protocol::session;
use crate::record::{Kind, Record};
use crate::store::{Content, Patience, Swap, Version};
use crate::token::FencingToken;

/// An operator's override: ends somebody else's lease.
///
/// The holder notices at its next renewal, up to a third of its TTL later, and may act until then:
/// only fencing tokens stop it. Make sure that it is dead, or wait for the lease to expire.
#[derive(Clone, Debug)]
#[must_use = "nothing is broken yet"]
pub struct Break {
    expected: Option<FencingToken>,
    reason: Option<String>,
    by: Option<String>,
}

/// What a break has done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Broken {
    /// The record's counter, which a break keeps.
    pub token: FencingToken,
    /// Who was put out.
    pub holder: Option<HolderInfo>,
    /// Whether a record that could not be understood was replaced.
    pub repaired: bool,
}

impl Break {
    /// Longest reason or name, in bytes.
    const MAX_TEXT: usize = 1024;

    /// Only if the present holder has this token: the one that was looked at before.
    pub fn expecting(token: FencingToken) -> Self {
        Self { expected: Some(token), reason: None, by: None }
    }

    /// Whoever holds it; also replaces a record that cannot be understood.
    pub fn force() -> Self {
        Self { expected: None, reason: None, by: None }
    }

    /// Why, for the history; at most 1,024 bytes.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }

    /// Who, for the history; at most 1,024 bytes. This process and host unless given.
    pub fn by(mut self, by: impl Into<String>) -> Self {
        self.by = Some(by.into());
        self
    }
}

impl Lock {
    /// Ends the present holder's lease and frees the lock, or hands it over to who waits next in the
    /// queue. The counter of tokens is kept, and who broke it, when and why is remembered in the
    /// history. Works alike on whatever has the name: with a token it puts out that one of several
    /// holders, with force all of them.
    ///
    /// A holder under a [session](crate::Session) loses all that it holds under it: the session is
    /// ended.
    ///
    /// # Errors
    /// [`NotHeld`](ErrorKind::NotHeld), [`TokenMismatch`](ErrorKind::TokenMismatch) when another
    /// holder has it by now, [`UnreadableRecord`](ErrorKind::UnreadableRecord) without force.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop what has begun.
    pub async fn break_lease(&self, order: Break) -> Result<Broken> {
        carry_out(self.client(), Kind::Lock, self.name(), order).await
    }
}

impl Once {
    /// Ends a run that is under way, or forgets a result: the next to ask runs the work. The order's
    /// token is that of the run, or of the run that left the result. The counter of tokens is kept,
    /// and the end of a run remembered in the history; of a result that is forgotten only the log
    /// tells.
    ///
    /// # Errors
    /// [`NotHeld`](ErrorKind::NotHeld) when there is neither,
    /// [`TokenMismatch`](ErrorKind::TokenMismatch) when it is another's by now,
    /// [`UnreadableRecord`](ErrorKind::UnreadableRecord) without force.
    ///
    /// # Cancel safety
    /// Dropping the future does not stop what has begun.
    pub async fn forget(&self, order: Break) -> Result<Broken> {
        carry_out(self.client(), Kind::Once, self.key(), order).await
    }
}

async fn carry_out(client: &Arc<Client>, kind: Kind, name: &str, order: Break) -> Result<Broken> {
    let texts = [&order.reason, &order.by];
    if texts.into_iter().flatten().any(|text| text.len() > Break::MAX_TEXT) {
        let message = format!("a reason or name has more than {} bytes", Break::MAX_TEXT);
        return Err(Error::new(ErrorKind::InvalidOptions, message));
    }
    let key = name::key_of(kind, client.store.prefix(), name)?;
    let (ours, name) = (Arc::clone(client), name.to_owned());
    client.call(async move { execute(&ours, kind, &name, &key, order).await }).await
}

/// How often a record that changes meanwhile is looked at again.
const REDO: usize = 8;

async fn execute(
    client: &Client,
    kind: Kind,
    name: &str,
    key: &Path,
    order: Break,
) -> Result<Broken> {
    let store = &client.store;
    let request = request_timeout(DEFAULT_TTL);
    store.ensure_fit().await?;
    let by =
        order.by.clone().unwrap_or_else(|| Owner::of_this_process(String::new(), None).to_string());
    for _ in 0..REDO {
        let read = store.read(key, request).await?;
        let (nonce, now) = (store.nonce(), store.clock().now());
        let (version, record, broken) = match &read.content {
            Content::Absent => return Err(not_held(name, "it has no record")),
            Content::Record { record, version, last_modified } => {
                check_expected(name, record, order.expected)?;
                // Who holds under a session would not hear of it before it gives the lock back.
                for session in sessions_of(record, order.expected) {
                    end_session(client, session).await?;
                }
                let info = LockInfo::of_record(name, record, *last_modified, read.now);
                let (whose, reason) = (order.expected, order.reason.clone());
                let freed = break_lease(record, whose, Some(by.clone()), reason, nonce, now.wall);
                let is_meant =
                    |holder: &HolderInfo| whose.is_none_or(|token| holder.token == token);
                let holder = info.holders.into_iter().find(is_meant);
                (version, freed, Broken { token: record.token, holder, repaired: false })
            }
            Content::Unreadable { error, .. } if order.expected.is_some() => {
                return Err(unreadable(name, error.clone()));
            }
            Content::Unreadable { version, .. } => {
                let start = token_start(store, read.now, request).await?;
                let start = client.memory.highest(key).map_or(start, |highest| highest.max(start));
                let broken = Broken { token: start, holder: None, repaired: true };
                (version, Record::free_of(kind, start, nonce), broken)
            }
        };
        let patience = Patience { request, until: now.boot.plus(DEFAULT_TTL), attempts: 5 };
        match store.swap(key, Some(version), &record, patience).await? {
            Swap::Won { .. } => {
                tracing::warn!(lock = %name, by, reason = ?order.reason, "broke a lease");
                if let Content::Record { record: before, .. } = &read.content {
                    client.wakes.tell(before, &record);
                }
                return Ok(broken);
            }
            Swap::Conflict(_) => {}
            Swap::Unknown(error) => return Err(error),
        }
    }
    Err(changes_all_the_time(name))
}

/// Whether there is somebody to break, who has the token that was expected.
fn check_expected(name: &str, record: &Record, expected: Option<FencingToken>) -> Result<()> {
    let holders = record.holders.iter().map(|lease| lease.token);
    let present: Vec<_> = holders.chain(record.done.as_ref().map(|done| done.token)).collect();
    if present.is_empty() {
        let why = match record.kind.gathers() {
            true => format!("it is {}, which nobody holds", record.kind.described()),
            false => "nobody holds it".to_owned(),
        };
        return Err(not_held(name, &why));
    }
    let Some(expected) = expected.filter(|expected| !present.contains(expected)) else {
        return Ok(());
    };
    let present: Vec<_> = present.iter().map(ToString::to_string).collect();
    let message = format!(
        "{name:?} is held with token {}, not {expected}: look again before breaking it",
        present.join(", ")
    );
    Err(Error::new(ErrorKind::TokenMismatch, message))
}

/// The sessions under which those hold who are meant.
fn sessions_of(record: &Record, whose: Option<FencingToken>) -> BTreeSet<HolderId> {
    let meant =
        record.holders.iter().filter(|lease| whose.is_none_or(|token| lease.token == token));
    meant.filter_map(|lease| lease.session).collect()
}

/// Ends a session, whether or not it has run out.
async fn end_session(client: &Client, session: HolderId) -> Result<()> {
    let key = name::key_of(Kind::Session, client.store.prefix(), &session.to_string())?;
    let decide = |found: Option<&Record>, nonce, now| {
        let held = found.filter(|found| !found.holders.is_empty());
        Ok(held.map(|found| session::end(found, nonce, now)))
    };
    rewrite_at(client, &key, &session.to_string(), decide).await.map(drop)
}

/// A record that was rewritten.
pub(crate) struct Rewritten {
    pub(crate) record: Record,
    pub(crate) version: Version,
    /// When that was decided, before it was sent.
    pub(crate) decided: Moment,
}

/// Rewrites the record of `target` as `decide` says, again and again while others change it; `None`
/// leaves it as it is.
///
/// # Errors
/// What `decide` refuses, the record is damaged, or the store did not do it.
pub(crate) async fn rewrite(
    target: &Target,
    decide: impl Fn(Option<&Record>, Nonce, Wall) -> Result<Option<Record>> + Send + Sync + 'static,
) -> Result<Option<Rewritten>> {
    let client = Arc::clone(&target.client);
    let key = name::key_of(target.kind, client.store.prefix(), &target.name)?;
    let (ours, name) = (Arc::clone(&client), target.name.clone());
    client
        .call(async move {
            ours.store.ensure_fit().await?;
            rewrite_at(&ours, &key, &name, decide).await
        })
        .await
}

async fn rewrite_at(
    client: &Client,
    key: &Path,
    name: &str,
    decide: impl Fn(Option<&Record>, Nonce, Wall) -> Result<Option<Record>>,
) -> Result<Option<Rewritten>> {
    let (store, request) = (&client.store, request_timeout(DEFAULT_TTL));
    for _ in 0..REDO {
        let read = store.read(key, request).await?;
        let (nonce, decided) = (store.nonce(), store.clock().now());
        let (found, version) = match &read.content {
            Content::Absent => (None, None),
            Content::Record { record, version, .. } => (Some(&**record), Some(version)),
            Content::Unreadable { error, .. } => return Err(unreadable(name, error.clone())),
        };
        let Some(record) = decide(found, nonce, decided.wall)? else { return Ok(None) };
        let patience = Patience { request, until: decided.boot.plus(DEFAULT_TTL), attempts: 5 };
        match store.swap(key, version, &record, patience).await? {
            Swap::Won { version } => {
                if let Some(before) = found {
                    client.wakes.tell(before, &record);
                }
                return Ok(Some(Rewritten { record, version, decided }));
            }
            Swap::Conflict(_) => {}
            Swap::Unknown(error) => return Err(error),
        }
    }
    Err(changes_all_the_time(name))
}

fn not_held(name: &str, why: &str) -> Error {
    Error::new(ErrorKind::NotHeld, format!("{name:?} cannot be broken: {why}"))
}

fn changes_all_the_time(name: &str) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the record of {name:?} changes all the time"))
}
