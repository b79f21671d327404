//! A lock over a quorum as anybody can see it.

use super::too_few;
use crate::error::{Error, Result};
use crate::info::{HolderInfo, LockInfo, LockState};
use crate::token::FencingToken;

/// What the records of a lock over a quorum say, each at the time it was read.
#[derive(Debug)]
#[non_exhaustive]
pub struct QuorumInfo {
    /// The lock's name.
    pub name: String,
    /// [`Held`](LockState::Held) when one acquisition holds it at a majority,
    /// [`Free`](LockState::Free) when a majority is free, was never used, or has only expired
    /// entries; `None` when no majority says either: somebody is acquiring it, gives it back, or has
    /// crashed.
    pub state: Option<LockState>,
    /// Who holds it at a majority, as the first of those says. Each entry has an id of its own, of which
    /// the first half is that of the guard's.
    pub holder: Option<HolderInfo>,
    /// The highest token that was ever issued, as far as those that answered know.
    pub token: Option<FencingToken>,
    /// Each store, in the order in which they were named.
    pub members: Vec<QuorumMember>,
}

/// One store's account of a lock.
#[derive(Debug)]
#[non_exhaustive]
pub struct QuorumMember {
    /// The store's URL without options and credentials.
    pub url: String,
    /// What its record says, or why that is not known.
    pub answer: Result<LockInfo>,
}

impl QuorumInfo {
    /// # Errors
    /// No majority has answered.
    pub(super) fn of(name: &str, members: Vec<QuorumMember>, majority: usize) -> Result<Self> {
        let infos: Vec<_> =
            members.iter().filter_map(|member| member.answer.as_ref().ok()).collect();
        if infos.len() < majority {
            let (answered, of) = (infos.len(), members.len());
            let failures = members.into_iter().filter_map(|member| member.answer.err());
            return Err(too_few(answered, of, failures.collect::<Vec<Error>>()));
        }
        let (votes, holder) = leading(&infos);
        let holder = holder.filter(|_| votes >= majority).cloned();
        let free = infos.iter().filter(|info| is_free(info.state)).count();
        let state = match holder {
            Some(_) => Some(LockState::Held),
            None if free >= majority => Some(LockState::Free),
            None => None,
        };
        let token = infos.iter().filter_map(|info| info.token).max();
        Ok(Self { name: name.to_owned(), state, holder, token, members })
    }
}

/// Of those who do not let somebody in, one who speaks for the most.
pub(super) fn spokesman<'a>(infos: impl IntoIterator<Item = &'a LockInfo>) -> Option<&'a LockInfo> {
    let infos: Vec<_> = infos.into_iter().collect();
    let leader = leading(&infos).1.map(|holder| holder.id);
    let is_leaders =
        |info: &&&LockInfo| info.holders.first().is_some_and(|holder| Some(holder.id) == leader);
    infos.iter().find(is_leaders).or_else(|| infos.first()).copied()
}

/// The acquisition that is in most of the records, and in how many. A token does not tell acquisitions
/// apart: two that failed may both have proposed it.
fn leading<'a>(infos: &[&'a LockInfo]) -> (usize, Option<&'a HolderInfo>) {
    let held = || infos.iter().filter(|info| info.state == LockState::Held);
    let holders = || held().flat_map(|info| info.holders.first());
    let votes = |of: &HolderInfo| holders().filter(|h| h.id.is_of_same_acquisition(of.id)).count();
    let mut leader = (0, None);
    for holder in holders() {
        if votes(holder) > leader.0 {
            leader = (votes(holder), Some(holder));
        }
    }
    leader
}

fn is_free(state: LockState) -> bool {
    matches!(state, LockState::Absent | LockState::Free | LockState::Expired)
}
