//! What the tests of leaselock share: emulators, a faulty proxy, a counting store, a clock moved by
//! hand, and a referee for critical sections.

pub mod clock;
pub mod counting;
pub mod emulators;
pub mod hold;
pub mod place;
pub mod proxy;
pub mod record;
pub mod remote;
