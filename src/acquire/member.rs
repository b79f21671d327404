//! A contender for one member of a quorum. It does not decide by itself: it tells what it sees, and
//! writes when it is told which token.
//!
//! **Invariants.** A vote that has landed issued exactly the token after the proposed one, at a member
//! that had issued none so large. A vote or a join that fails, or whose outcome is not known, is undone
//! in the background like any acquisition that was given up; one that has landed is a guard, which
//! undoes itself by being dropped.

use std::sync::Arc;

use object_store::path::Path;
use tokio::sync::watch;

use super::view::View;
use super::{Contended, Contender, Limit, Target, Written};
use crate::client::Client;
use crate::clock::{Boot, Moment};
use crate::error::{Error, ErrorKind, Result};
use crate::guard::LockGuard;
use crate::holder::HolderId;
use crate::info::LockInfo;
use crate::options::Terms;
use crate::protocol::expiry::remaining;
use crate::protocol::lock::{AcquireDecision, acquire};
use crate::protocol::quorum::{is_vote, join};
use crate::record::Kind;
use crate::token::FencingToken;

/// In the unit of tokens that start from a time.
const SECOND: u64 = 1_000_000;

/// One member, seen by who wants it.
#[derive(Debug)]
pub(crate) struct Member {
    contender: Contender,
    started: Moment,
}

/// What a member looks like.
#[derive(Debug)]
pub(crate) struct Survey {
    /// No smaller than any token that it has issued.
    pub(crate) floor: FencingToken,
    /// Who has it, and until when if nothing changes; `None` if it may be entered.
    pub(crate) taken: Option<(Boot, Box<LockInfo>)>,
    seen: View,
}

/// What came of writing to a member.
#[derive(Debug)]
pub(crate) enum Entry {
    /// It has our entry.
    Landed(LockGuard),
    /// Somebody else was there first; this is what the record says.
    Refused(Box<LockInfo>),
}

impl Member {
    /// `id` is new; it is of the same acquisition as those at other members. `caller` is closed when
    /// nobody waits any more.
    pub(crate) fn new(
        client: &Arc<Client>,
        name: &str,
        key: Path,
        terms: Terms,
        id: HolderId,
        caller: watch::Receiver<()>,
    ) -> Self {
        let (kind, limit) = (Kind::Lock, Limit::Once);
        let client = Arc::clone(client);
        let target = Target::alone(client, kind, name.into());
        let mut contender = Contender::new(target, key, terms, limit, caller);
        contender.id = id;
        let started = contender.clock().now();
        Self { contender, started }
    }

    /// What it looks like, with a read; without one where this process has freed it just now. That
    /// guess may be wrong, and then the vote is refused.
    ///
    /// # Errors
    /// The member has not answered, four times, or its record is not understood.
    pub(crate) async fn survey(&mut self) -> Result<Survey> {
        self.contender.client().ensure_open()?;
        let this = &mut self.contender;
        let mut seen = match this.remembered() {
            Some(view) => view,
            None => this.look().await?,
        };
        loop {
            let start = this.token_floor(&seen).await?;
            let floor = seen.found.as_ref().map_or(start, |record| start.max(record.token));
            let (decision, now) = this.decide_by(&seen, floor, acquire).await;
            let until = match decision {
                // Never written to before: that takes time, so look again.
                AcquireDecision::Write { .. } if this.make_fit().await? => {
                    seen = this.look().await?;
                    continue;
                }
                AcquireDecision::Write { .. } => None,
                AcquireDecision::HeldUntil(end) => Some(end),
                AcquireDecision::Ask(session) => {
                    this.ask(session, &seen).await?;
                    continue;
                }
                AcquireDecision::End(session) => {
                    this.end(session).await?;
                    continue;
                }
                AcquireDecision::OtherKind(found) => return Err(this.target.other_kind(found)),
                _ => Some(now.boot),
            };
            let taken = until.map(|until| (until, self.info(&seen)));
            return Ok(Survey { floor, taken, seen });
        }
    }

    /// Enters it with the token after `proposed`, if it is as it was seen and has issued none so
    /// large.
    ///
    /// # Errors
    /// The member does not answer; what may have landed is undone in the background.
    pub(crate) async fn vote(mut self, survey: Survey, proposed: FencingToken) -> Result<Entry> {
        self.contender.client().ensure_open()?;
        if !self.may_follow(survey.floor, proposed) {
            return Ok(Entry::Refused(self.info(&survey.seen)));
        }
        let result = self.try_to_vote(survey.seen, proposed).await;
        self.over(result)
    }

    /// Whether the token after `proposed` exceeds all that this member may have issued. A look that came
    /// too late for the proposal is not in it, and where the record is gone only the store's time
    /// tells. Stores' times differ: a second is nothing to go by, as ever with records that are deleted
    /// as soon as they are made (hazard H9).
    fn may_follow(&self, floor: FencingToken, proposed: FencingToken) -> bool {
        let this = &self.contender;
        let known = this.client().memory.highest(&this.key);
        known.is_none_or(|known| known <= proposed)
            && floor.get().saturating_sub(proposed.get()) <= SECOND
    }

    async fn try_to_vote(&mut self, mut seen: View, proposed: FencingToken) -> Result<Entry> {
        loop {
            let this = &mut self.contender;
            let (decision, decided) = this.decide_by(&seen, proposed, acquire).await;
            let written = match decision {
                AcquireDecision::Ours => this.claim_landed(seen)?,
                AcquireDecision::Write { record, takeover } if is_vote(&record, proposed) => {
                    this.write(*record, takeover, seen, decided).await?
                }
                _ => return Ok(Entry::Refused(self.info(&seen))),
            };
            match self.entered(written)? {
                Ok(guard) => return Ok(Entry::Landed(guard)),
                Err(next) => seen = next,
            }
        }
    }

    /// Enters it for an acquisition that a majority has made, with its token.
    ///
    /// # Errors
    /// As [`vote`](Self::vote).
    pub(crate) async fn join(mut self, token: FencingToken) -> Result<Entry> {
        self.contender.client().ensure_open()?;
        let result = self.try_to_join(token).await;
        self.over(result)
    }

    async fn try_to_join(&mut self, token: FencingToken) -> Result<Entry> {
        let mut seen = self.contender.look().await?;
        loop {
            let this = &mut self.contender;
            let start = this.token_floor(&seen).await?;
            let (decision, decided) = this
                .decide_by(&seen, start, |found, evidence, intent| {
                    join(found, evidence, intent, token)
                })
                .await;
            let written = match decision {
                AcquireDecision::Ours => this.claim_landed(seen)?,
                AcquireDecision::Write { .. } if this.make_fit().await? => {
                    seen = this.look().await?;
                    continue;
                }
                AcquireDecision::Write { record, takeover } => {
                    this.write(*record, takeover, seen, decided).await?
                }
                _ => return Ok(Entry::Refused(self.info(&seen))),
            };
            match self.entered(written)? {
                Ok(guard) => return Ok(Entry::Landed(guard)),
                Err(next) => seen = next,
            }
        }
    }

    /// The guard, if the write has landed in time.
    fn entered(&mut self, written: Written) -> Result<Result<LockGuard, View>> {
        let this = &mut self.contender;
        let (record, version, sent) = match written {
            Written::Look(view) => return Ok(Err(view)),
            Written::Landed { record, version, sent } => (record, version, sent),
        };
        if remaining(this.terms.ttl, sent, this.clock().now()).is_zero() {
            // Others may be about to take it: to be undone.
            this.doubt = Some(Some(version));
            let message = "the store took so long that the lease was over when it answered";
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        this.enter(*record, version, sent, self.started).map(Ok)
    }

    /// A write whose outcome is in doubt must not take effect later (hazard H2).
    fn over(self, result: Result<Entry>) -> Result<Entry> {
        let this = self.contender;
        if this.doubt.is_some() {
            let client = Arc::clone(this.client());
            client.spawn(this.shut_the_door());
        }
        result
    }

    fn info(&self, seen: &View) -> Box<LockInfo> {
        match self.contender.held(seen) {
            Contended::Held(info) => info,
            _ => Box::new(LockInfo::absent(&self.contender.target.name)),
        }
    }
}
