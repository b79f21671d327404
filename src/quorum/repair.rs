//! What goes on behind the guard of a quorum: members that do not have its entry are entered.
//!
//! They were too slow for the round, were down, lost their record, or were lost. One task for each
//! guard; it ends with the lease. Where an operator has broken the entry it stays out: otherwise a break
//! at a majority would end the lock only if it were done at all of them between two renewals.
//!
//! **Why a member may be entered after the acquisition.** The lock is held by who has the entries of a
//! majority *at that moment*, each within its own validity. A member is entered by the rules for every
//! contender, over the version that was judged, so nobody is put out before their validity has ended
//! there; and once it is entered, nobody else is before ours has. Which members make the majority may
//! change in time, at every moment there is one, and any two share a member, which has one holder. An
//! entry that is late, and lands after the lease has ended, revives nothing: it is given back, or
//! expires, as a minority's.
//!
//! **Hazard.** The entry has a new identity for each stay. The token and the count of renewals would
//! not tell a second stay from a first one, which somebody may have watched for as long as it takes.

use std::sync::Arc;

use super::round::{Field, Report, Round};
use crate::clock::{Boot, Clock};
use crate::hold::{Hold, LeasePhase, LossReason};
use crate::joint::Joining;
use crate::keeper::until_renewal;

/// After so many pauses at most a member is tried again that could not be entered. Two renewals fit
/// into a lease.
const LONGEST_PAUSE: u32 = 2;

pub(super) struct Repair {
    field: Arc<Field>,
    /// The round that was won: members that were too slow report to it.
    round: Round,
    /// The whole.
    hold: Arc<Hold>,
    seats: Vec<Seat>,
    joining: Joining,
}

/// A member.
struct Seat {
    /// The entry it has, or had.
    hold: Option<Arc<Hold>>,
    /// Something is under way, and will be reported.
    busy: bool,
    /// How many pauses it is left alone for …
    rest: u32,
    /// … and how many it will be if it fails again.
    next_rest: u32,
}

impl Repair {
    pub(super) fn new(
        field: Arc<Field>,
        round: Round,
        hold: Arc<Hold>,
        holds: Vec<Option<Arc<Hold>>>,
        late: &[usize],
        joining: Joining,
    ) -> Self {
        let seat =
            |(number, hold)| Seat { hold, busy: late.contains(&number), rest: 0, next_rest: 0 };
        let seats = holds.into_iter().enumerate().map(seat).collect();
        Self { field, round, hold, seats, joining }
    }

    pub(super) async fn run(mut self) {
        let clock = Arc::clone(self.field.clock());
        let ended = self.hold.wait_for(|phase| match phase {
            LeasePhase::Lost(_) | LeasePhase::Released => Some(()),
            LeasePhase::Held | LeasePhase::AtRisk => None,
        });
        let mut ended = std::pin::pin!(ended);
        let mut next = self.next(&clock);
        loop {
            tokio::select! {
                biased;
                () = &mut ended => return,
                (seat, report) = self.round.report() => self.take_note(seat, report),
                () = clock.sleep_until(next) => {
                    self.look_around();
                    next = self.next(&clock);
                }
            }
        }
    }

    /// An interval of renewals from now, give or take a tenth.
    fn next(&self, clock: &Arc<dyn Clock>) -> Boot {
        let every = self.field.terms.renew_every.unwrap_or(self.field.terms.ttl / 3);
        let rng = self.field.members[0].0.store.rng();
        clock.now().boot.plus(until_renewal(every, &**rng))
    }

    fn look_around(&mut self) {
        for (number, seat) in self.seats.iter_mut().enumerate() {
            if seat.busy || seat.hold.as_ref().is_some_and(|hold| hold.is_held() || broken(hold)) {
                continue;
            }
            if seat.rest > 0 {
                seat.rest -= 1;
                continue;
            }
            seat.busy = true;
            self.round.join(number, self.hold.token);
        }
    }

    fn take_note(&mut self, number: usize, report: Report) {
        let seat = &mut self.seats[number];
        match report {
            // It goes on by itself.
            Report::Open(_) => {}
            Report::Landed(guard) => {
                tracing::info!(lock = %self.hold.name, member = number, "entered one more member");
                (seat.busy, seat.rest, seat.next_rest) = (false, 0, 0);
                seat.hold = Some(Arc::clone(guard.hold()));
                // If the lease has just ended, it is given back.
                let _ = self.joining.send(guard);
            }
            Report::Taken { .. } | Report::Refused(_) | Report::Failed(_) => {
                seat.busy = false;
                seat.rest = seat.next_rest;
                seat.next_rest = (seat.next_rest * 2 + 1).min(LONGEST_PAUSE - 1);
            }
        }
    }
}

fn broken(hold: &Hold) -> bool {
    matches!(hold.loss(), Some(LossReason::Broken { .. }))
}
