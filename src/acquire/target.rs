//! What is contended for, and under what lease it will be held.

use std::sync::Arc;

use crate::client::Client;
use crate::clock::Boot;
use crate::error::{Error, ErrorKind, Result};
use crate::options::{LockOptions, Terms};
use crate::protocol::queue::Want;
use crate::record::Kind;
use crate::session::OpenSession;

/// What is contended for.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) client: Arc<Client>,
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) want: Want,
    pub(crate) under: Under,
    /// Whether it may take to the queue when others get it again and again.
    pub(crate) may_queue: bool,
    /// Whether the lease will be handed on inside the process.
    pub(crate) sharing: Option<Sharing>,
}

/// For whom else a lease is acquired.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sharing {
    /// How many tokens to reserve for others in this process.
    pub(crate) reserve: u64,
    /// When to begin: it may be other processes' turn.
    pub(crate) not_before: Option<Boot>,
}

/// Under what lease it will be held.
#[derive(Clone, Debug)]
pub(crate) enum Under {
    /// One of its own.
    Itself,
    /// That of whatever session this process has for its TTL.
    Implied,
    /// That of this session.
    Session(Arc<OpenSession>),
}

impl Target {
    pub(crate) fn alone(client: Arc<Client>, kind: Kind, name: String) -> Self {
        Self {
            client,
            kind,
            name,
            want: Want::ALONE,
            under: Under::Itself,
            may_queue: false,
            sharing: None,
        }
    }

    /// The same, which may take to the queue if these options allow for it: what is held under a session
    /// is not renewed by itself, and the queue has no room for what is said of one holder.
    pub(crate) fn queueing(&self, options: &LockOptions) -> Self {
        let special = options.manual
            || options.renew_every.is_some()
            || options.payload.is_some()
            || options.note.is_some();
        Self { may_queue: self.is_plain_lock() && !special && !options.no_queue, ..self.clone() }
    }

    /// The same, for others in this process too.
    pub(crate) fn sharing(self, sharing: Sharing) -> Self {
        Self { sharing: Some(sharing), ..self }
    }

    /// Whether it is a lock that is wanted alone, under a lease of its own and without a ticket.
    pub(crate) fn is_plain_lock(&self) -> bool {
        self.kind == Kind::Lock && matches!(self.under, Under::Itself)
    }

    /// The options, if they go together with each other and with the session.
    pub(super) fn terms(&self, options: &LockOptions) -> Result<Terms> {
        if matches!(self.under, Under::Itself) {
            return options.check();
        }
        let invalid = |message: String| Err(Error::new(ErrorKind::InvalidOptions, message));
        if options.manual || options.renew_every.is_some() {
            return invalid("what is held under a session is renewed with it".to_owned());
        }
        let Under::Session(session) = &self.under else { return options.check() };
        if let Some(ttl) = options.ttl.filter(|ttl| *ttl != session.ttl) {
            let of_session = session.ttl;
            return invalid(format!("the TTL is {ttl:?}, but that of its session {of_session:?}"));
        }
        LockOptions { ttl: Some(session.ttl), ..options.clone() }.check()
    }

    pub(crate) fn other_kind(&self, found: Kind) -> Error {
        let (name, wanted) = (&self.name, self.kind.described());
        let message = format!("{name:?} is {}, not {wanted}", found.described());
        Error::new(ErrorKind::WrongKind, message)
    }

    pub(crate) fn other_limit(&self, stored: u32) -> Error {
        let (name, limit) = (&self.name, self.want.limit);
        let message = format!("the semaphore {name:?} has {stored} permits, not {limit}");
        Error::new(ErrorKind::LimitMismatch { stored }, message)
    }
}
