//! Wake-up hints: a datagram that tells a waiter in a queue that it has been served, so that it looks at
//! once and not when its next look is due.
//!
//! **Invariant.** A hint leads to a read and to nothing else. Lost, late, forged or sent twice, it changes
//! neither what is written nor who holds a lock.

use std::net::SocketAddr;

use tokio::sync::watch;

use crate::error::{Error, ErrorKind, Result};
use crate::protocol::queue::served;
use crate::record::{Record, Wake};

mod datagram;
mod inbox;
mod outbox;

pub(crate) use inbox::Awaited;
use inbox::Inbox;
use outbox::{Outbox, is_callable};

/// Datagrams (UDP) between processes that tell a waiter in the queue of a lock that its turn has come. Off
/// unless a store is opened with [`wake_hints`](crate::StoreBuilder::wake_hints).
///
/// A process that listens leaves an address in each of its tickets. Whoever hands the lock over afterwards,
/// and sends hints, sends a datagram of 26 bytes there; the waiter then looks at once. Nothing is promised:
/// where a datagram is lost, or one of both sides does not take part, the waiter looks when
/// [`Polling`](crate::Polling) says.
///
/// Only who has a ticket can be told: with [`Lock::fair`](crate::Lock::fair) from the start, otherwise once
/// somebody else got the lock before; readers, writers and those who wait for permits always.
///
/// **Who can do what with it.** Whoever may read the store sees the addresses, and can make each ticket's
/// waiter look once more. Whoever may write it can have such datagrams sent to any unicast address by each
/// process that sends hints, up to 8 for every write of that process that lets somebody in. Nobody can make
/// anybody hold a lock.
///
/// ```
/// # async fn open() -> Result<(), Box<dyn std::error::Error>> {
/// use leaselock::{Store, WakeHints};
///
/// // What others reach this machine by; port 0 stands for the port that the system chooses.
/// let hints = WakeHints::listen("0.0.0.0:0".parse()?).advertise("10.0.3.7:0".parse()?);
/// let store = Store::builder("s3://bucket/locks").wake_hints(hints).open().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WakeHints {
    listen: Option<SocketAddr>,
    advertise: Option<SocketAddr>,
}

impl WakeHints {
    /// Listens at this address of the machine, one socket for each opened store, and sends hints to others.
    /// Port 0 has the system choose one. Hints are received on the library's own thread, also with
    /// [`Runtime::Current`](crate::Runtime::Current).
    #[must_use]
    pub const fn listen(bind: SocketAddr) -> Self {
        Self { listen: Some(bind), advertise: None }
    }

    /// Sends hints to others who listen, and waits as if there were none.
    #[must_use]
    pub const fn send_only() -> Self {
        Self { listen: None, advertise: None }
    }

    /// What is left in tickets instead of the address that is listened at: needed where that is unspecified
    /// (`0.0.0.0`, `[::]`), or others reach it by another one. Port 0 stands for the port that is listened
    /// at.
    #[must_use]
    pub const fn advertise(self, address: SocketAddr) -> Self {
        Self { advertise: Some(address), ..self }
    }

    /// What goes into tickets when it is listened at `bound`.
    ///
    /// # Errors
    /// [`InvalidOptions`](ErrorKind::InvalidOptions): nobody could send anything there.
    fn advertised(self, bound: SocketAddr) -> Result<SocketAddr> {
        let mut address = self.advertise.unwrap_or(bound);
        if address.port() == 0 {
            address.set_port(bound.port());
        }
        if is_callable(address) {
            return Ok(address);
        }
        let message = if self.advertise.is_none() && address.ip().is_unspecified() {
            format!(
                "others cannot send wake-up hints to {address}: say by `advertise` at which address they \
                 reach this machine"
            )
        } else {
            format!("others cannot send wake-up hints to {address}: it has to be a unicast address")
        };
        Err(Error::new(ErrorKind::InvalidOptions, message))
    }
}

/// What an opened store has for hints: nothing, unless it was asked for.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    inbox: Option<Inbox>,
    outbox: Option<Outbox>,
}

impl Wakes {
    /// Opens the sockets, and listens until `closing` turns true or its sender is gone.
    ///
    /// # Errors
    /// [`InvalidOptions`](ErrorKind::InvalidOptions): they contradict each other, or it cannot be listened
    /// at that address.
    pub(crate) fn open(hints: WakeHints, closing: watch::Receiver<bool>) -> Result<Self> {
        let inbox = match hints.listen {
            Some(bind) => Some(Inbox::open(bind, |bound| hints.advertised(bound), closing)?),
            None if hints.advertise.is_some() => {
                let message =
                    "an address is advertised for wake-up hints, but nobody listens there";
                return Err(Error::new(ErrorKind::InvalidOptions, message));
            }
            None => None,
        };
        Ok(Self { inbox, outbox: Some(Outbox::open()) })
    }

    /// Where those are told who wait in this process, if they want to be.
    pub(crate) fn inbox(&self) -> Option<&Inbox> {
        self.inbox.as_ref()
    }

    /// Tells those whom an acknowledged write has let in: `after` is on record in the place of `before`.
    /// Waits for nothing.
    pub(crate) fn tell(&self, before: &Record, after: &Record) {
        let Some(outbox) = &self.outbox else { return };
        let here = |wake: &Wake| self.inbox.as_ref().is_some_and(|inbox| inbox.wake(wake.nonce));
        let wakes = served(before, after).filter_map(|ticket| ticket.wake.as_ref());
        outbox.send(wakes.filter(|wake| !here(wake)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("is an address")
    }

    fn refused(hints: WakeHints) -> String {
        let (_open, closing) = watch::channel(false);
        let error = Wakes::open(hints, closing).expect_err("makes no sense");
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
        error.to_string()
    }

    #[test]
    fn what_nobody_could_send_to_is_refused() {
        let anywhere = WakeHints::listen(address("0.0.0.0:0"));
        assert!(refused(anywhere).contains("advertise"));
        assert!(refused(anywhere.advertise(address("0.0.0.0:7"))).contains("unicast"));
        assert!(refused(anywhere.advertise(address("224.0.0.1:7"))).contains("unicast"));
        assert!(refused(anywhere.advertise(address("255.255.255.255:7"))).contains("unicast"));
        assert!(
            refused(WakeHints::send_only().advertise(address("10.0.0.1:7"))).contains("nobody")
        );
        // An address of documentation's, which no machine has.
        assert!(refused(WakeHints::listen(address("192.0.2.1:0"))).contains("192.0.2.1:0"));
    }

    #[test]
    fn port_0_stands_for_the_port_that_was_chosen() {
        let (_open, closing) = watch::channel(false);
        let here = WakeHints::listen(address("127.0.0.1:0"));
        let advertised = |hints| {
            let wakes = Wakes::open(hints, closing.clone()).expect("opens");
            wakes.inbox().expect("listens").advertised()
        };
        assert_ne!(advertised(here).port(), 0);
        let elsewhere = advertised(here.advertise(address("10.0.0.1:0")));
        assert!(elsewhere.port() != 0 && elsewhere.ip() == address("10.0.0.1:0").ip());
        let mapped = advertised(here.advertise(address("10.0.0.1:9")));
        assert_eq!(mapped, address("10.0.0.1:9"));
    }
}
