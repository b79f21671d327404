//! How a lease goes from one task of a process to the next: the library's `local`.

use super::holding;
use crate::config::Sabotage;
use crate::decisions::{self, HandOver};
use crate::state::{Holding, Keep, Role, State};
use crate::witness::Event;
use crate::world::{Step, World};

impl World {
    /// What a process does whose holder is done while another of its tasks waits: `Bench::next`.
    pub(crate) fn hand_over_steps(&self, state: &State, process: usize, steps: &mut Vec<Step>) {
        let Some(local) = self.config.local else { return };
        let Role::Holding(this) = &state.processes[process].role else { return };
        let keeps = matches!(this.doing, Keep::Resting | Keep::Renewing(_));
        let anyway = self.config.has(Sabotage::HandedOverAfterLoss);
        if !keeps || this.handed >= local.hand_overs || !(self.believes(state, process) || anyway) {
            return;
        }
        match decisions::hand_over(this) {
            HandOver::To(_) => steps.push(Step::HandOver(process)),
            HandOver::Reserve if this.doing == Keep::Resting => {
                if local.with_renewal > 0 && state.processes[process].writes > 0 {
                    steps.push(Step::Reserve(process));
                }
            }
            HandOver::Reserve => {}
        }
    }

    /// Another task of the process holds by the same lease, for as long as that lasts.
    pub(crate) fn hand_over(&self, state: &mut State, process: usize) {
        let Some(local) = self.config.local else { return };
        let this = holding(state, process);
        let HandOver::To(token) = decisions::hand_over(this) else { return };
        if self.config.has(Sabotage::HandedOverAfterLoss) && !this.live {
            (this.live, this.age) = (true, 0);
        }
        if self.config.has(Sabotage::CountedFromHandOver) {
            this.age = 0;
        }
        if !self.config.has(Sabotage::TokenNotAdvanced) {
            this.token = token;
        }
        this.handed += 1;
        let Holding { id, token, rec, doing, .. } = *this;
        self.witness.note(Event::HandedOn);
        if rec.entry.is_some_and(|entry| token > entry.token + local.with_acquisition) {
            self.witness.note(Event::HandedOnByRenewal);
        }
        if matches!(doing, Keep::Renewing(_)) {
            self.witness.note(Event::HandedOnWhileRenewing);
        }
        self.has_entered(state, id, token);
    }

    /// A renewal that reserves tokens.
    pub(crate) fn reserve(&self, state: &mut State, process: usize) {
        let Some(local) = self.config.local else { return };
        self.renew(state, process, local.with_renewal);
        if let Role::Holding(this) = &mut state.processes[process].role
            && let Keep::Renewing(write) = this.doing
            && self.config.has(Sabotage::TokensNotReserved)
        {
            this.reserved = write.put.rec.token;
        }
    }
}
