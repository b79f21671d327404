//! How an acquisition that was given up is undone: the library's `acquire/door`.

use super::{Swapped, moved_on};
use crate::decisions;
use crate::state::{Id, Rec, Role, Shutting, State};
use crate::witness::Event;
use crate::world::World;

impl World {
    /// `Contender::try_to_shut`: one look at the door, and one push.
    pub(crate) fn shut(&self, state: &mut State, process: usize) {
        let Role::Shutting(Shutting { id, expected, .. }) = state.processes[process].role else {
            return;
        };
        let found = state.object.map(|object| object.rec);
        let nonce = self.nonce(process, state.processes[process].written, id);
        let rec = match found {
            Some(rec) => {
                let ours = rec.entry.is_some_and(|entry| entry.id == id);
                if !ours && moved_on(expected, Some(self.version(&rec))) {
                    return self.door_is_shut(state, process, id);
                }
                decisions::shut_the_door(rec, id, nonce)
            }
            None if expected.is_none() => {
                Rec { token: state.past.top, nonce, serial: nonce, entry: None, done: None }
            }
            None => return self.door_is_shut(state, process, id),
        };
        if state.processes[process].writes == 0 {
            state.processes[process].role = Role::Out;
            return;
        }
        let version = found.map(|rec| self.version(&rec));
        let sent = self.send(state, process, version, rec);
        if let Role::Shutting(this) = &mut state.processes[process].role {
            this.write = Some(sent);
        }
    }

    pub(super) fn door_swapped(&self, state: &mut State, process: usize, swapped: Swapped) {
        let Role::Shutting(this) = &mut state.processes[process].role else { return };
        this.write = None;
        let id = this.id;
        if matches!(swapped, Swapped::Won) {
            self.door_is_shut(state, process, id);
        }
    }

    fn door_is_shut(&self, state: &mut State, process: usize, id: Id) {
        self.witness.note(Event::DoorShut);
        state.past.shut.insert(id);
        state.processes[process].role = Role::Out;
    }
}
