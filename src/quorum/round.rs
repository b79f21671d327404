//! One attempt at a majority: everybody is looked at, one token is proposed, everybody may vote.
//!
//! **Invariants.**
//! - One round proposes one token, larger than all that a majority has told of and all that this
//!   process has seen. So all entries of a round carry the same.
//! - A round is won when a majority has landed. It never waits for the others, neither for their looks
//!   nor for their votes; those that come later are reported to whoever goes on with the round.
//! - Nobody votes any more once the round is dropped: what had begun by then is a guard that nobody
//!   receives, which gives itself back, or is undone as in doubt (hazards H2, H16).

use std::sync::Arc;

use object_store::path::Path;
use tokio::sync::{mpsc, watch};

use super::view::spokesman;
use crate::acquire::member::{Entry, Member, Survey};
use crate::client::Client;
use crate::clock::{Boot, Clock};
use crate::error::{Error, ErrorKind};
use crate::guard::LockGuard;
use crate::holder::HolderId;
use crate::info::LockInfo;
use crate::options::Terms;
use crate::token::FencingToken;

/// What every round of a call has in common.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: String,
    /// The stores, and the lock's key on each.
    pub(super) members: Vec<(Arc<Client>, Path)>,
    /// Of each member.
    pub(super) terms: Terms,
    pub(super) needed: usize,
}

impl Field {
    /// By which everything is timed that no store is involved in.
    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        self.members[0].0.store.clock()
    }

    /// The identity of another acquisition.
    pub(super) fn bits(&self) -> u128 {
        self.members[0].0.store.rng().bits()
    }
}

/// What a member has to say.
#[derive(Debug)]
pub(super) enum Report {
    /// It was free when it was looked at, and votes once there is a proposal: its floor of tokens.
    Open(FencingToken),
    Taken {
        floor: FencingToken,
        until: Boot,
        info: Box<LockInfo>,
    },
    Landed(LockGuard),
    Refused(Box<LockInfo>),
    Failed(Error),
}

pub(super) type Reports = mpsc::UnboundedSender<(usize, Report)>;

#[derive(Debug)]
pub(super) struct Round {
    field: Arc<Field>,
    pub(super) id: HolderId,
    /// What each member has said last; `None` until it has.
    seats: Vec<Option<Report>>,
    proposal: watch::Sender<Option<FencingToken>>,
    reports: mpsc::UnboundedReceiver<(usize, Report)>,
    sender: Reports,
    /// Closed with the round: members stop reading.
    caller: watch::Sender<()>,
}

/// What a round has come to that was not won.
#[derive(Debug)]
pub(super) enum Lost {
    /// Somebody is there; if nothing changes, a majority may be entered then, as far as those that
    /// answered can tell.
    Taken(Box<LockInfo>, Option<Boot>),
    /// A majority was free, but others were faster. Who, if one of them is there.
    Overtaken(Option<Box<LockInfo>>),
    /// So many have answered, and so did the others fail.
    Unreachable(usize, Vec<Error>),
}

impl Round {
    /// Looks at every member.
    pub(super) fn begin(field: Arc<Field>) -> Self {
        let (sender, reports) = mpsc::unbounded_channel();
        let (proposal, caller) = (watch::Sender::new(None), watch::Sender::new(()));
        let id = HolderId::from_random(field.bits());
        let seats = field.members.iter().map(|_| None).collect();
        let this = Self { field, id, seats, proposal, reports, sender, caller };
        for (seat, (client, _)) in this.field.members.iter().enumerate() {
            let (member, reports) = (this.member(seat), this.sender.clone());
            client.start_here(stand(member, seat, reports, this.proposal.subscribe()));
        }
        this
    }

    /// A new identity of this acquisition at a member.
    fn member(&self, seat: usize) -> Member {
        let (client, key) = &self.field.members[seat];
        let id = self.id.another(client.store.rng().bits());
        let (name, terms) = (&self.field.name, self.field.terms.clone());
        Member::new(client, name, key.clone(), terms, id, self.caller.subscribe())
    }

    /// Tries to enter a member that does not have the acquisition's entry, and reports.
    pub(super) fn join(&self, seat: usize, token: FencingToken) {
        let (member, reports) = (self.member(seat), self.sender.clone());
        self.field.members[seat].0.spawn(async move {
            let _ = reports.send((seat, entry(member.join(token).await)));
        });
    }

    /// Plays until a majority has landed or cannot, or `limit`. Dropping this future loses nothing.
    pub(super) async fn play(&mut self, limit: Option<Boot>) -> bool {
        let clock = Arc::clone(self.field.clock());
        let request = self.field.terms.request_timeout;
        let begun = clock.now().boot;
        let mut proposed = None;
        loop {
            let needed = self.field.needed;
            let asked = self.seats.iter().filter(|seat| seat.is_none()).count();
            let (open, landed) = (self.count(Report::is_open), self.count(Report::has_landed));
            if landed >= needed {
                return true;
            }
            if landed + open + asked < needed {
                return false;
            }
            if proposed.is_none() && open >= needed {
                proposed = Some(clock.now().boot);
                self.propose();
            }
            // Who hangs is waited for only while it may still decide: no longer than for one request
            // once a majority has answered, nor than for two while entries of ours are in the way of
            // others.
            let answered = self.seats.len() - asked - self.count(Report::has_failed);
            let end = match proposed {
                Some(at) => Some(at.plus(request * 2)),
                None if answered >= needed => Some(begun.plus(request)),
                None => limit.map(|limit| limit.max(begun.plus(request))),
            };
            tokio::select! {
                biased;
                report = self.reports.recv() => {
                    if let Some((seat, report)) = report {
                        self.seats[seat] = Some(report);
                    }
                }
                () = until(&clock, end) => return false,
            }
        }
    }

    /// One more than every token that is known of: whoever votes has issued none so large.
    fn propose(&self) {
        let told = self.seats.iter().flatten().filter_map(Report::floor);
        let members = self.field.members.iter();
        let known = members.filter_map(|(client, key)| client.memory.highest(key));
        self.proposal.send_replace(told.chain(known).max());
    }

    /// What has landed, by seat, and which seats may still report.
    pub(super) fn won(&mut self) -> (Vec<(usize, LockGuard)>, Vec<usize>) {
        let (mut guards, mut late) = (Vec::new(), Vec::new());
        for (number, seat) in self.seats.iter_mut().enumerate() {
            match seat.take() {
                Some(Report::Landed(guard)) => guards.push((number, guard)),
                None | Some(Report::Open(_)) => late.push(number),
                Some(Report::Taken { .. } | Report::Refused(_) | Report::Failed(_)) => {}
            }
        }
        (guards, late)
    }

    /// The next report of a round that was won.
    pub(super) async fn report(&mut self) -> (usize, Report) {
        match self.reports.recv().await {
            Some(report) => report,
            // Never: there is a sender here.
            None => std::future::pending().await,
        }
    }

    /// What has landed, to be given back, and what the round has come to.
    pub(super) fn lost(mut self) -> (Vec<LockGuard>, Lost) {
        let proposed = self.proposal.borrow().is_some();
        let (mut guards, mut until, mut infos) = (Vec::new(), Vec::new(), Vec::new());
        let mut failures = Vec::new();
        let (mut answered, mut free) = (0, 0);
        // Who was asked and not waited for has not failed.
        let decided = self.count(Report::has_failed) > self.seats.len() - self.field.needed;
        for seat in std::mem::take(&mut self.seats) {
            match seat {
                Some(Report::Landed(guard)) => {
                    guards.push(guard);
                    answered += 1;
                }
                Some(Report::Open(_)) if proposed => failures.push(silent()),
                None if decided => {}
                None => failures.push(silent()),
                Some(Report::Open(_)) => (answered, free) = (answered + 1, free + 1),
                Some(Report::Taken { until: end, info, .. }) => {
                    until.push(end);
                    infos.push(info);
                    answered += 1;
                }
                Some(Report::Refused(info)) => {
                    infos.push(info);
                    answered += 1;
                }
                Some(Report::Failed(error)) => failures.push(error),
            }
        }
        if answered < self.field.needed {
            return (guards, Lost::Unreachable(answered, failures));
        }
        infos.retain(|info| !info.holders.is_empty());
        let info = spokesman(infos.iter().map(|info| &**info)).cloned().map(Box::new);
        until.sort_unstable();
        let missing = self.field.needed.saturating_sub(free + 1);
        let lost = match (info, until.get(missing)) {
            (Some(info), end) if !proposed => Lost::Taken(info, end.copied()),
            (info, _) => Lost::Overtaken(info),
        };
        (guards, lost)
    }

    fn count(&self, is: impl Fn(&Report) -> bool) -> usize {
        self.seats.iter().flatten().filter(|report| is(report)).count()
    }
}

impl Report {
    fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }

    fn has_landed(&self) -> bool {
        matches!(self, Self::Landed(_))
    }

    fn has_failed(&self) -> bool {
        matches!(self, Self::Failed(_))
    }

    fn floor(&self) -> Option<FencingToken> {
        match self {
            Self::Open(floor) | Self::Taken { floor, .. } => Some(*floor),
            _ => None,
        }
    }
}

/// What one member does in a round.
async fn stand(
    mut member: Member,
    seat: usize,
    reports: Reports,
    mut proposal: watch::Receiver<Option<FencingToken>>,
) {
    let survey = match member.survey().await {
        Ok(survey) => survey,
        Err(error) => {
            let _ = reports.send((seat, Report::Failed(error)));
            return;
        }
    };
    let Survey { floor, taken: None, .. } = survey else {
        let Survey { floor, taken, .. } = survey;
        if let Some((until, info)) = taken {
            let _ = reports.send((seat, Report::Taken { floor, until, info }));
        }
        return;
    };
    let _ = reports.send((seat, Report::Open(floor)));
    let proposed = proposal.wait_for(Option::is_some).await.ok().and_then(|proposed| *proposed);
    // The round may be over: a proposal outlives it.
    let Some(proposed) = proposed.filter(|_| proposal.has_changed().is_ok()) else { return };
    let _ = reports.send((seat, entry(member.vote(survey, proposed).await)));
}

fn entry(result: crate::Result<Entry>) -> Report {
    match result {
        Ok(Entry::Landed(guard)) => Report::Landed(guard),
        Ok(Entry::Refused(info)) => Report::Refused(info),
        Err(error) => Report::Failed(error),
    }
}

async fn until(clock: &Arc<dyn Clock>, end: Option<Boot>) {
    match end {
        Some(end) => clock.sleep_until(end).await,
        None => std::future::pending().await,
    }
}

fn silent() -> Error {
    Error::new(ErrorKind::Unavailable, "it has not answered in time")
}
