//! The command as people run it: real processes, real signals, real time.
//!
//! Time limits are generous; what is waited for is a condition, not a moment.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

/// Each of these bodies as a test on every store.
macro_rules! on_every_store {
    ($($body:ident),* $(,)?) => {
        on_every_store!(@ file File $($body)*);
        on_every_store!(@ ministack Ministack $($body)*);
        on_every_store!(@ seaweedfs Seaweedfs $($body)*);
        on_every_store!(@ azurite Azurite $($body)*);
        on_every_store!(@ gcs Gcs $($body)*);
    };
    (@ $module:ident $backend:ident $($body:ident)*) => {
        mod $module {
            $(
                #[test]
                fn $body() {
                    super::$body(leaselock_test_support::emulators::Backend::$backend);
                }
            )*
        }
    };
}

mod admin;
mod children;
mod cost;
mod doctor;
mod elect;
mod exclusion;
mod exit_codes;
mod gathering;
mod handle;
mod history;
mod lease;
mod ls;
mod once;
mod schema;
mod several;
mod shared;
mod signals;
mod terminal;
mod tool;
mod watch;
