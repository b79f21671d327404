//! What has been seen to happen.

use std::sync::atomic::{AtomicU64, Ordering};

/// What has been seen to happen: a property that always holds proves nothing where nothing ever
/// happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Acquired,
    Released,
    Renewed,
    TakeoverTried,
    TakenOver,
    Lost,
    RenewedTooLate,
    AcquiredTooLate,
    FoundLanded,
    FoundRefused,
    NeverFoundOut,
    LateWriteLanded,
    LateWriteRefused,
    LateWriteClaimed,
    DoorShut,
    ShutOut,
    Broken,
    Deleted,
    Crashed,
    Recorded,
    ResultFoundLanded,
    ResultRemembered,
    ResultRefused,
    ResultRedone,
    ResultPast,
    ToldDone,
    Retried,
    HandedOver,
    LetIn,
    LetInByAnother,
    HandedToTheDead,
    SessionEnded,
    EndRefused,
    LateRenewalRefused,
    TookFromEnded,
    DeadWaiterSkipped,
    WaiterGaveUp,
    EnteredTooLate,
    ReadTogether,
    PermitsTogether,
    HandedOn,
    HandedOnByRenewal,
    HandedOnWhileRenewing,
    EnteredAfterHandOver,
}

impl Event {
    /// All, with what they mean.
    pub(crate) const ALL: [(Self, &'static str); 44] = [
        (Self::Acquired, "acquired"),
        (Self::Released, "released"),
        (Self::Renewed, "renewed"),
        (Self::TakeoverTried, "takeover tried"),
        (Self::TakenOver, "taken over"),
        (Self::Lost, "lost"),
        (Self::RenewedTooLate, "renewed too late"),
        (Self::AcquiredTooLate, "acquired too late, given back"),
        (Self::FoundLanded, "unclear write found to have landed"),
        (Self::FoundRefused, "unclear write found refused"),
        (Self::NeverFoundOut, "unclear write never found out"),
        (Self::LateWriteLanded, "late write landed"),
        (Self::LateWriteRefused, "late write refused"),
        (Self::LateWriteClaimed, "late write recognised as one's own"),
        (Self::DoorShut, "door shut behind a doubtful write"),
        (Self::ShutOut, "late write shut out"),
        (Self::Broken, "broken by an operator"),
        (Self::Deleted, "record deleted"),
        (Self::Crashed, "crashed"),
        (Self::Recorded, "a result recorded"),
        (Self::ResultFoundLanded, "unheard result found on record"),
        (Self::ResultRemembered, "unheard result found in the history"),
        (Self::ResultRefused, "result refused, the run was taken over"),
        (Self::ResultRedone, "result sent again over one's own renewal"),
        (Self::ResultPast, "a result past, the work run again"),
        (Self::ToldDone, "told that the work is done"),
        (Self::Retried, "a failed run retried by another"),
        (Self::HandedOver, "handed over by a release"),
        (Self::LetIn, "a reader let in by a downgrade"),
        (Self::LetInByAnother, "let in by one who left or entered"),
        (Self::HandedToTheDead, "handed over to a dead waiter"),
        (Self::SessionEnded, "a session ended that had run out"),
        (Self::EndRefused, "a session's end refused, it was renewed"),
        (Self::LateRenewalRefused, "a renewal of an ended session refused"),
        (Self::TookFromEnded, "taken from under an ended session"),
        (Self::DeadWaiterSkipped, "a dead waiter skipped"),
        (Self::WaiterGaveUp, "a waiter left the queue"),
        (Self::EnteredTooLate, "admitted, but the session was over"),
        (Self::ReadTogether, "two readers at once"),
        (Self::PermitsTogether, "two holders of permits at once"),
        (Self::HandedOn, "handed on inside a process"),
        (Self::HandedOnByRenewal, "handed on by a renewal's reservation"),
        (Self::HandedOnWhileRenewing, "handed on while it was renewed"),
        (Self::EnteredAfterHandOver, "entered after one that had handed on"),
    ];
}

/// Counts events.
#[derive(Debug)]
pub(crate) struct Witness([AtomicU64; Event::ALL.len()]);

impl Default for Witness {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Witness {
    pub(crate) fn note(&self, event: Event) {
        self.0[event as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was seen.
    pub(crate) fn count(&self, event: Event) -> u64 {
        self.0[event as usize].load(Ordering::Relaxed)
    }
}
