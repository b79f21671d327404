//! Sending hints.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::datagram;
use crate::record::Wake;

/// A write may let in dozens, readers say. Those who are told first have the most of it, and the network
/// should not hear too much of one write.
const AT_ONCE: usize = 8;

/// Sockets to send from. Where a machine has one of both protocols only, the others hear nothing.
#[derive(Debug)]
pub(super) struct Outbox {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
}

impl Outbox {
    pub(super) fn open() -> Self {
        let open = |from: IpAddr| match unbound(from) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::debug!(%from, %error, "no wake-up hints can be sent from there");
                None
            }
        };
        let (v4, v6) = (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into());
        Self { v4: open(v4), v6: open(v6) }
    }

    /// Sends a hint to the first of them. It takes as long as handing so many datagrams to the system;
    /// whatever it does not take at once is left out.
    pub(super) fn send<'a>(&self, wakes: impl Iterator<Item = &'a Wake>) {
        for wake in wakes.filter(|wake| is_callable(wake.to)).take(AT_ONCE) {
            let to = SocketAddr::new(wake.to.ip().to_canonical(), wake.to.port());
            let socket = if to.is_ipv4() { &self.v4 } else { &self.v6 };
            let Some(socket) = socket else { continue };
            match socket.send_to(&datagram::to(wake.nonce), to) {
                Ok(_) => tracing::trace!(%to, "sent a wake-up hint"),
                Err(error) => tracing::debug!(%to, %error, "a wake-up hint was not sent"),
            }
        }
    }
}

fn unbound(from: IpAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((from, 0))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Whether a datagram to this address reaches one machine at most. (The broadcast address of a network
/// looks like others; the system refuses to send there.)
pub(super) fn is_callable(address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::holder::Nonce;

    #[test]
    fn only_unicast_addresses_are_sent_to() {
        let callable = |text: &str| is_callable(text.parse().expect("is an address"));
        for good in
            ["127.0.0.1:1", "10.1.2.3:9", "[::1]:65535", "[2001:db8::1]:9", "[::ffff:10.0.0.1]:9"]
        {
            assert!(callable(good), "{good}");
        }
        for bad in [
            "10.1.2.3:0",
            "0.0.0.0:9",
            "[::]:9",
            "[::ffff:0.0.0.0]:9",
            "255.255.255.255:9",
            "[::ffff:255.255.255.255]:9",
            "224.0.0.251:9",
            "[ff02::1]:9",
            "[::ffff:224.0.0.1]:9",
        ] {
            assert!(!callable(bad), "{bad}");
        }
    }

    #[test]
    fn one_write_sends_to_few_and_errors_stop_nobody() {
        let here = UdpSocket::bind("127.0.0.1:0").expect("binds");
        here.set_read_timeout(Some(Duration::from_secs(60))).expect("is set");
        let to = here.local_addr().expect("is bound");
        // A network's broadcast address, to which the system lets nobody send who has not asked for it.
        let refused =
            Wake::new("127.255.255.255:9".parse().expect("is one"), Nonce::from_random(0));
        let mapped = "[::ffff:127.0.0.1]:0".parse::<SocketAddr>().expect("is an address").ip();
        let mapped = Wake::new(SocketAddr::new(mapped, to.port()), Nonce::from_random(1));
        let all = (2..100).map(|number| Wake::new(to, Nonce::from_random(number)));
        let all: Vec<_> = [refused, mapped].into_iter().chain(all).collect();
        let outbox = Outbox::open();
        outbox.send(all.iter());
        outbox.send([Wake::new(to, Nonce::from_random(1000))].iter());
        let mut heard = Vec::new();
        while heard.last() != Some(&Nonce::from_random(1000)) {
            let mut buffer = [0; 64];
            let length = here.recv(&mut buffer).expect("is sent");
            heard.extend(datagram::read(&buffer[..length]));
        }
        let expected: Vec<_> = (1..8).chain([1000]).map(Nonce::from_random).collect();
        assert_eq!(heard, expected);
    }
}
