//! A latch or a barrier as anybody can see it.

use std::time::SystemTime;

use serde::Serialize;

use super::is_open;
use crate::clock::Wall;
use crate::record::{Record, rfc3339, to_pretty_json};
use crate::token::FencingToken;

/// What the record of a latch or a barrier says at the time it was read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GatheringInfo {
    /// Its name.
    pub name: String,
    /// The present epoch: how many lie behind.
    pub epoch: u64,
    /// Who has arrived in it, in that order.
    pub members: Vec<MemberInfo>,
    /// How many it waits for, as the record says; where there is none, as this handle was told.
    pub needed: u32,
    /// Whether a latch is open. A barrier never is: what has passed is an earlier epoch.
    pub is_open: bool,
    /// Grows by one for every epoch that passes; `None` while nobody has ever arrived.
    pub token: Option<FencingToken>,
    /// When the record was last written, by the store's clock, as far as the store says.
    pub last_modified: Option<SystemTime>,
}

/// A member that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberInfo {
    /// Its name.
    pub member: String,
    /// When it arrived, by its wall clock.
    pub at: SystemTime,
}

impl GatheringInfo {
    pub(super) fn absent(name: &str, needed: u32) -> Self {
        Self {
            name: name.to_owned(),
            epoch: 0,
            members: Vec::new(),
            needed,
            is_open: false,
            token: None,
            last_modified: None,
        }
    }

    /// `None` when it is the record of something else.
    pub(super) fn of(name: &str, record: &Record, last_modified: Option<Wall>) -> Option<Self> {
        let gathering = record.gathering.as_ref()?;
        let members = gathering.arrived.iter();
        Some(Self {
            name: name.to_owned(),
            epoch: gathering.epoch,
            members: members
                .map(|arrived| MemberInfo { member: arrived.member.clone(), at: arrived.at.into() })
                .collect(),
            needed: record.limit,
            is_open: is_open(record),
            token: Some(record.token),
            last_modified: last_modified.map(Into::into),
        })
    }

    /// The same as indented JSON: `name`, `epoch`, `arrived`, `needed`, `open`, `members` with `member`
    /// and `at`, `token`, `last_modified`; times in RFC 3339.
    pub fn to_json(&self) -> String {
        let time = |at: SystemTime| rfc3339(Wall::from(at));
        let members = self.members.iter();
        to_pretty_json(&View {
            name: &self.name,
            epoch: self.epoch,
            arrived: self.members.len(),
            needed: self.needed,
            open: self.is_open,
            members: members
                .map(|member| MemberView { member: &member.member, at: time(member.at) })
                .collect(),
            token: self.token.map(FencingToken::get),
            last_modified: self.last_modified.map(time),
        })
    }
}

#[derive(Serialize)]
struct View<'a> {
    name: &'a str,
    epoch: u64,
    arrived: usize,
    needed: u32,
    open: bool,
    members: Vec<MemberView<'a>>,
    token: Option<u64>,
    last_modified: Option<String>,
}

#[derive(Serialize)]
struct MemberView<'a> {
    member: &'a str,
    at: String,
}
