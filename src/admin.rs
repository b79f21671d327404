//! What an operator does from outside to a lock, or to work that is run once.

use std::sync::Arc;

use object_store::path::Path;

use crate::acquire::{token_start, unreadable};
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::holder::Owner;
use crate::info::{HolderInfo, LockInfo};
use crate::lock::Lock;
use crate::name;
use crate::once::Once;
use crate::options::{DEFAULT_TTL, request_timeout};
use crate::protocol::lock::break_lease;
use crate::record::{Kind, Record};
use crate::store::{Content, Patience, Swap};
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
    /// Ends the present holder's lease and frees the lock. The counter of tokens is kept, and who
    /// broke it, when and why is remembered in the history.
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
                let Some(token) = present(record) else {
                    let why = match record.kind.gathers() {
                        true => format!("it is {}, which nobody holds", record.kind.described()),
                        false => "nobody holds it".to_owned(),
                    };
                    return Err(not_held(name, &why));
                };
                if let Some(expected) = order.expected.filter(|expected| *expected != token) {
                    return Err(Error::new(
                        ErrorKind::TokenMismatch,
                        format!(
                            "{name:?} is held with token {token}, not {expected}: look again \
                             before breaking it"
                        ),
                    ));
                }
                let info = LockInfo::of_record(name, record, *last_modified, read.now);
                let freed =
                    break_lease(record, Some(by.clone()), order.reason.clone(), nonce, now.wall);
                let holder = info.holders.into_iter().next();
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
                return Ok(broken);
            }
            Swap::Conflict(_) => {}
            Swap::Unknown(error) => return Err(error),
        }
    }
    Err(Error::new(ErrorKind::Unavailable, format!("the record of {name:?} changes all the time")))
}

/// The token of whoever is there, or has left a result.
fn present(record: &Record) -> Option<FencingToken> {
    let holder = record.holders.first().map(|lease| lease.token);
    holder.or_else(|| Some(record.done.as_ref()?.token))
}

fn not_held(name: &str, why: &str) -> Error {
    Error::new(ErrorKind::NotHeld, format!("{name:?} cannot be broken: {why}"))
}
