//! The sessions of a contender: its own, and those under which others hold or wait.

use std::sync::Arc;

use object_store::path::Path;

use super::{
    Contender, Limit, Moment, Patience, Record, Result, Under, View, WRITES, Want, Written,
};
use crate::hold::LossReason;
use crate::holder::HolderId;
use crate::keeper::lost;
use crate::name;
use crate::protocol::expiry::{Evidence, Sessions, Standing};
use crate::protocol::session;
use crate::record::Kind;
use crate::session as own;
use crate::store::{Polled, Swap};

impl Contender {
    pub(super) fn want(&self) -> Want {
        let session = match self.target.under {
            Under::Itself => None,
            // Where there is none yet, one is opened before anything is written.
            _ => Some(self.session.as_ref().map_or(HolderId::from_random(0), |open| open.id)),
        };
        let queue = self.target.want.queue && self.limit != Limit::Once;
        Want { session, queue, ..self.target.want }
    }

    /// Opens the session under which to wait and hold, if one is needed and not there; whether it was
    /// opened now.
    ///
    /// # Errors
    /// That cannot be done, or the session that was given is lost.
    pub(super) async fn open_session(&mut self) -> Result<bool> {
        if self.session.is_some() {
            return Ok(false);
        }
        let open = match &self.target.under {
            Under::Itself => return Ok(false),
            Under::Session(open) => Arc::clone(open),
            Under::Implied => {
                // Where it can wait without a ticket, it does not insist.
                let limit = if self.target.may_queue { Limit::Once } else { self.limit };
                let opening = own::session(self.client(), self.terms.ttl, limit);
                match self.unless_given_up(opening).await? {
                    Ok(open) => open,
                    Err(error) if self.target.may_queue => {
                        tracing::debug!(lock = %self.target.name, %error, "cannot queue for it");
                        self.do_without_the_queue();
                        return Ok(true);
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        self.session = Some(open);
        Ok(true)
    }

    /// Goes on as another acquisition when the session under which this one waits is over: its
    /// ticket is void.
    ///
    /// # Errors
    /// The session that was given is lost.
    pub(super) fn leave_lost_session(&mut self) -> Result<()> {
        let Some(session) = self.session.as_ref().filter(|session| !session.hold.is_held()) else {
            return Ok(());
        };
        if matches!(self.target.under, Under::Session(_)) {
            return Err(lost(&session.hold.loss().unwrap_or(LossReason::SessionClosed)));
        }
        self.begin_anew();
        Ok(())
    }

    /// Takes a ticket by writing `record`; what to look at next.
    pub(super) async fn line_up(
        &mut self,
        mut record: Record,
        view: View,
        decided: Moment,
    ) -> Result<View> {
        self.leave_address(&mut record);
        let (now, observations) = (view.now, view.observations.clone());
        match self.write(record, None, view, decided).await? {
            Written::Look(view) => Ok(view),
            Written::Landed { record, version, .. } => {
                self.queued = true;
                let (found, version) = (Some(record), Some(version));
                Ok(View { found, version, last_modified: None, now, observations })
            }
        }
    }

    /// How the sessions stand that were looked at.
    pub(super) async fn known_sessions(&self) -> Sessions {
        let mut known = Vec::with_capacity(self.sessions.len());
        for (id, view) in &self.sessions {
            let standing = match view {
                None => Standing::Ended,
                Some(view) => self.standing(view).await,
            };
            known.push((*id, standing));
        }
        known.into_iter().collect()
    }

    async fn standing(&self, view: &View) -> Standing {
        let store = self.store_time(view).await;
        let evidence = Evidence {
            now: self.clock().now(),
            observations: &view.observations,
            store,
            max_skew: self.terms.max_skew,
            sessions: &Sessions::NONE,
        };
        session::standing(view.found.as_deref(), &evidence)
    }

    /// Finds out how a session stands that somebody in `view` needs.
    pub(super) async fn ask(&mut self, session: HolderId, view: &View) -> Result<()> {
        if let Some(record) = &view.found {
            let holders = record.holders.iter().filter_map(|lease| lease.session);
            let waiters = record.waiters.iter().map(|ticket| ticket.session);
            let needed: Vec<_> = holders.chain(waiters).collect();
            self.sessions.retain(|id, _| needed.contains(id));
        }
        let key = self.session_key(session)?;
        let seen = loop {
            let read = self.store().read(&key, self.terms.request_timeout);
            match self.unless_given_up(read).await? {
                Ok(read) => break self.seen(&key, read)?,
                Err(error) => self.bear(error).await?,
            }
        };
        self.note_session(session, seen);
        Ok(())
    }

    /// Ends a session that has run out, by a write over the version by which that was judged. It is
    /// looked at once more before: it may have been renewed since. Whether it was not.
    pub(super) async fn end(&mut self, session: HolderId) -> Result<bool> {
        let key = self.session_key(session)?;
        let Some(Some(view)) = self.sessions.get(&session) else { return Ok(true) };
        let (Some(record), Some(version)) = (view.found.clone(), view.version.clone()) else {
            return Ok(true);
        };
        let request = self.terms.request_timeout;
        let poll = self.store().poll(&key, &version, request);
        let changed = match self.unless_given_up(poll).await? {
            Ok(Polled::Unchanged { .. }) => None,
            Ok(Polled::Changed(read)) => Some(read),
            Err(error) => return self.bear(error).await.map(|()| true),
        };
        if let Some(read) = changed {
            let seen = self.seen(&key, *read)?;
            self.note_session(session, seen);
            return Ok(false);
        }
        let (nonce, now) = (self.store().nonce(), self.clock().now());
        let ended = session::end(&record, nonce, now.wall);
        let patience = Patience { request, until: now.boot.plus(self.terms.ttl), attempts: WRITES };
        match self.store().swap(&key, Some(&version), &ended, patience).await {
            Ok(Swap::Won { .. }) => {
                tracing::info!(lock = %self.target.name, %session, "ended a session that had run out");
                self.sessions.insert(session, None);
                Ok(true)
            }
            Ok(Swap::Conflict(read)) => {
                let seen = self.seen(&key, *read)?;
                self.note_session(session, seen);
                Ok(false)
            }
            Ok(Swap::Unknown(error)) | Err(error) => self.bear(error).await.map(|()| true),
        }
    }

    fn note_session(&mut self, session: HolderId, seen: View) {
        let held = seen.found.as_ref().is_some_and(|record| !record.holders.is_empty());
        self.sessions.insert(session, held.then_some(seen));
    }

    fn session_key(&self, session: HolderId) -> Result<Path> {
        name::key_of(Kind::Session, self.store().prefix(), &session.to_string())
    }
}
