//! The command as people run it: real processes, real signals, real time.
//!
//! Time limits are generous; what is waited for is a condition, not a moment.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admin;
mod children;
mod elect;
mod exclusion;
mod exit_codes;
mod gathering;
mod lease;
mod once;
mod several;
mod shared;
mod signals;
mod terminal;
mod tool;
