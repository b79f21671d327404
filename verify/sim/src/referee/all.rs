//! Both locks at once: to the referee two calls and two guards, of which one is not lost without the
//! other.

use leaselock::{HolderId, Owner};

use super::landing::call_of;
use super::{Mode, Referee, Tenancy};
use crate::clock::Time;

impl Referee {
    /// A call that wants the first two locks; its number is the first of two, one for each lock.
    pub(crate) fn calls_begin(
        &mut self,
        now: Time,
        process: usize,
        incarnation: u32,
        user: usize,
        (mode, limited): (Mode, bool),
    ) -> usize {
        let [first, second] = [0, 1]
            .map(|lock| self.call_begins(now, lock, process, incarnation, user, (mode, limited)));
        self.calls[first].with = Some(second);
        self.calls[second].with = Some(first);
        first
    }

    /// The acquisition that has this token, as a guard of several does not say which it is; one that
    /// was never on record, where there is none.
    pub(crate) fn entry_of(&self, call: usize, token: u64) -> HolderId {
        let entries = &self.locks[self.calls[call].lock].tenancies;
        let is_it = |entry: &Tenancy| (entry.call, entry.token) == (Some(call), token);
        let found = entries.iter().find(|(_, entry)| is_it(entry)).map(|(id, _)| *id);
        found.unwrap_or(HolderId::from_random(0))
    }

    /// The call whose acquisition of this lock this is: one label may stand for two calls.
    pub(super) fn call_on(&self, lock: usize, owner: &Owner) -> Option<usize> {
        let call = call_of(owner)?;
        let with = self.calls.get(call).and_then(|call| call.with);
        with.filter(|with| self.calls[*with].lock == lock).or(Some(call))
    }

    /// What the same call has acquired last of the other lock.
    pub(super) fn tenancy_with(&self, one: Option<&Tenancy>) -> Option<&Tenancy> {
        let with = self.calls[one?.call?].with?;
        let others = self.locks[self.calls[with].lock].tenancies.values();
        others.filter(|other| other.call == Some(with)).max_by_key(|other| other.token)
    }
}
