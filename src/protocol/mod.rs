//! The protocol, pure: from what was read, facts about time and an intent to a decision.
//!
//! Nothing here does I/O, reads a clock, draws a random number or knows a runtime; the same code
//! runs in production, under the model checker and in the simulation. The argument why it is safe
//! stands in `docs/PROTOCOL.md`; comments name the hazards listed there.

pub mod expiry;
pub mod fencing;
pub mod gathering;
pub mod handover;
pub mod lock;
pub mod once;
pub mod queue;
pub mod quorum;
pub mod session;
