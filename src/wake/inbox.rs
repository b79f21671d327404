//! Receiving hints: one socket of an opened store, and who waits for which nonce.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::{oneshot, watch};

use super::datagram;
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind, Result};
use crate::holder::Nonce;
use crate::record::Wake;
use crate::runtime::dedicated;

/// After so many datagrams in a row that nobody waits for, the socket is left alone for a while: whoever
/// floods it must not keep the thread busy that renews leases. What comes meanwhile waits in the system's
/// buffer, or is lost, as hints may be.
const STRANGERS: usize = 64;
const PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(crate) struct Inbox {
    advertised: SocketAddr,
    waiting: Arc<Waiting>,
}

/// Who waits, by the nonce of its ticket.
#[derive(Debug, Default)]
struct Waiting(Mutex<HashMap<Nonce, oneshot::Sender<()>>>);

impl Waiting {
    /// Wakes who waits for this nonce, once; whether somebody did.
    fn wake(&self, nonce: Nonce) -> bool {
        let waiter = self.all().remove(&nonce);
        waiter.is_some_and(|waiter| waiter.send(()).is_ok())
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Nonce, oneshot::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inbox {
    /// Listens at `bind` until `closing` turns true or its sender is gone.
    ///
    /// On the library's own thread, whatever the store's runtime: a caller's may have been built without
    /// what sockets need.
    ///
    /// # Errors
    /// It cannot be listened there, or nobody could send to what is `advertised` then.
    pub(super) fn open(
        bind: SocketAddr,
        advertised: impl FnOnce(SocketAddr) -> Result<SocketAddr>,
        mut closing: watch::Receiver<bool>,
    ) -> Result<Self> {
        let runtime = dedicated()?;
        let _inside = runtime.enter();
        let listening = std::net::UdpSocket::bind(bind).and_then(|socket| {
            socket.set_nonblocking(true)?;
            UdpSocket::from_std(socket)
        });
        let bound = listening.and_then(|socket| Ok((socket.local_addr()?, socket)));
        let (bound, socket) = bound.map_err(|error| {
            let message = format!("wake-up hints cannot be listened for at {bind}");
            Error::new(ErrorKind::InvalidOptions, message).caused_by(error)
        })?;
        let inbox = Self { advertised: advertised(bound)?, waiting: Arc::default() };
        let waiting = Arc::clone(&inbox.waiting);
        runtime.spawn(async move {
            tokio::select! {
                biased;
                _ = closing.wait_for(|closing| *closing) => {}
                () = receive(&socket, &waiting) => {}
            }
        });
        Ok(inbox)
    }

    /// What goes into tickets.
    #[cfg(test)]
    pub(super) fn advertised(&self) -> SocketAddr {
        self.advertised
    }

    /// Wakes who waits here for this nonce, without the network; whether somebody did.
    pub(super) fn wake(&self, nonce: Nonce) -> bool {
        self.waiting.wake(nonce)
    }

    /// Waits for hints about the ticket that will have this nonce.
    pub(crate) fn expect(&self, nonce: Nonce) -> Awaited {
        let (waiter, woken) = oneshot::channel();
        self.waiting.all().insert(nonce, waiter);
        let waiting = Arc::clone(&self.waiting);
        Awaited { to: self.advertised, nonce, woken: Some(woken), waiting }
    }
}

/// Wakes those who are told, for ever.
async fn receive(socket: &UdpSocket, waiting: &Waiting) {
    // One byte more, so that what is longer than a hint is not taken for one.
    let mut buffer = [0; datagram::LENGTH + 1];
    let mut strangers = 0;
    loop {
        let nonce = match socket.recv(&mut buffer).await {
            Ok(length) => datagram::read(&buffer[..length]),
            Err(error) => {
                tracing::debug!(%error, "no wake-up hint was received");
                None
            }
        };
        if nonce.is_some_and(|nonce| waiting.wake(nonce)) {
            strangers = 0;
            continue;
        }
        tracing::trace!("a datagram is no hint that anybody waits for");
        strangers += 1;
        if strangers == STRANGERS {
            strangers = 0;
            // By the machine's clock, as that is what the network goes by.
            SystemClock.sleep_until(SystemClock.now().boot.plus(PAUSE)).await;
        }
    }
}

/// One ticket's wait for a hint, which ends when this is dropped. A hint is good for once, and kept until
/// it is asked for.
#[derive(Debug)]
pub(crate) struct Awaited {
    to: SocketAddr,
    nonce: Nonce,
    woken: Option<oneshot::Receiver<()>>,
    waiting: Arc<Waiting>,
}

impl Awaited {
    /// What has to be left in the ticket.
    pub(crate) fn wake(&self) -> Wake {
        Wake::new(self.to, self.nonce)
    }

    /// Waits for the hint; for ever, where it has been there before. Cancel safe.
    pub(crate) async fn woken(&mut self) {
        if let Some(woken) = &mut self.woken {
            let told = woken.await;
            self.woken = None;
            if told.is_ok() {
                return;
            }
        }
        std::future::pending().await
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.waiting.all().remove(&self.nonce);
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::clock::timeout;

    const LONG: Duration = Duration::from_secs(60);

    fn open(closing: watch::Receiver<bool>) -> Inbox {
        let bind = "127.0.0.1:0".parse().expect("is an address");
        Inbox::open(bind, Ok, closing).expect("opens")
    }

    fn sender() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0").expect("binds")
    }

    #[tokio::test]
    async fn a_hint_wakes_once_and_only_whom_it_is_for() {
        let (_open, closing) = watch::channel(false);
        let inbox = open(closing);
        let [mut one, mut other] = [1, 2].map(|number| inbox.expect(Nonce::from_random(number)));
        let sender = sender();
        for _ in 0..3 {
            sender.send_to(&datagram::to(one.nonce), one.to).expect("is sent");
        }
        // What comes before it is kept.
        timeout(&SystemClock, LONG, one.woken()).await.expect("is woken");
        sender.send_to(&datagram::to(other.nonce), other.to).expect("is sent");
        timeout(&SystemClock, LONG, other.woken()).await.expect("is woken");
        // The copies have come before that.
        assert!(timeout(&SystemClock, Duration::ZERO, one.woken()).await.is_err());
        assert!(inbox.waiting.all().is_empty());
    }

    #[tokio::test]
    async fn whoever_waits_no_more_leaves_nothing() {
        let (_open, closing) = watch::channel(false);
        let inbox = open(closing);
        let waits = inbox.expect(Nonce::from_random(1));
        assert_eq!(inbox.waiting.all().len(), 1);
        drop(waits);
        assert!(inbox.waiting.all().is_empty());
    }

    #[tokio::test]
    async fn after_a_flood_hints_are_heard_again() {
        let (_open, closing) = watch::channel(false);
        let inbox = open(closing);
        let mut waits = inbox.expect(Nonce::from_random(1));
        let sender = sender();
        for number in 0..10_000 {
            let forged = datagram::to(Nonce::from_random(1000 + number));
            sender.send_to(&forged, waits.to).expect("is sent");
        }
        let pause = PAUSE;
        // It may be lost as long as the system's buffer is full.
        while timeout(&SystemClock, pause, waits.woken()).await.is_err() {
            sender.send_to(&datagram::to(waits.nonce), waits.to).expect("is sent");
        }
    }

    #[tokio::test]
    async fn the_socket_is_closed_when_the_store_is() {
        for shut_down in [true, false] {
            let (open_store, closing) = watch::channel(false);
            let inbox = open(closing);
            let taken = || UdpSocket::bind(inbox.advertised()).is_err();
            assert!(taken());
            if shut_down {
                open_store.send_replace(true);
            }
            drop(open_store);
            while taken() {
                let soon = SystemClock.now().boot.plus(Duration::from_millis(1));
                SystemClock.sleep_until(soon).await;
            }
        }
    }
}
