//! The server that workers report to: it accepts work by its fencing token, as a service would
//! that the lock protects.
//!
//! One line is one question: `enter STORE LOCK USER TOKEN PID STARTED`, with the token of another lock
//! where there is one; `work`, `leave`. The answer is `accepted` or `refused`. The end of a connection is the end of its worker's stay.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::arena::{Arena, Entry};
use crate::section::Verdict;

/// More workers than there can be: whoever else connects is sent away.
const MOST: usize = 500;

#[derive(Debug)]
struct Shared {
    arenas: Vec<Arc<Arena>>,
    over: AtomicBool,
    connections: Mutex<BTreeMap<u64, TcpStream>>,
}

/// The server; ends when dropped.
#[derive(Debug)]
pub(crate) struct Referee {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl Referee {
    /// On a free port of the loopback interface.
    pub(crate) fn start(arenas: Vec<Arc<Arena>>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            arenas,
            over: AtomicBool::new(false),
            connections: Mutex::default(),
        });
        let accepting = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Ok(Self { address, shared, accepting: Some(accepting) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Referee {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        for connection in self.shared.connections().values() {
            let _ = connection.shutdown(Shutdown::Both);
        }
        // Wakes the listener.
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, BTreeMap<u64, TcpStream>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    std::thread::scope(|scope| {
        for number in 0_u64.. {
            let Ok((stream, _)) = listener.accept() else { continue };
            if shared.over.load(Ordering::SeqCst) {
                return;
            }
            let Ok(copy) = stream.try_clone() else { continue };
            let mut connections = shared.connections();
            if connections.len() >= MOST {
                continue;
            }
            connections.insert(number, copy);
            drop(connections);
            scope.spawn(move || {
                converse(stream, &shared.arenas);
                shared.connections().remove(&number);
            });
        }
    });
}

/// Who is at the other end.
#[derive(Clone, Copy)]
struct Guest<'a> {
    arena: &'a Arena,
    section: usize,
    user: usize,
    token: u64,
}

fn converse(stream: TcpStream, arenas: &[Arc<Arena>]) {
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::new(stream);
    let mut guest = None;
    let mut line = String::new();
    // An error is an end too.
    while reader.read_line(&mut line).is_ok_and(|read| read > 0) {
        let Some(verdict) = judge(line.trim_end(), &mut guest, arenas) else { break };
        line.clear();
        let answer: &[u8] = match verdict {
            Verdict::Accepted => b"accepted\n",
            Verdict::Refused => b"refused\n",
        };
        if reader.get_mut().write_all(answer).is_err() {
            break;
        }
    }
    if let Some(Guest { arena, section, user, token }) = guest {
        arena.ends(section, user, token);
    }
}

/// `None` when it is no question.
fn judge<'a>(
    line: &str,
    guest: &mut Option<Guest<'a>>,
    arenas: &'a [Arc<Arena>],
) -> Option<Verdict> {
    let words: Vec<_> = line.split(' ').collect();
    match (words.as_slice(), *guest) {
        (["enter", store, section, user, token, pid, started, other @ ..], None) => {
            let arena = arenas.get(store.parse::<usize>().ok()?)?;
            let (section, user) = (section.parse().ok()?, user.parse().ok()?);
            let (token, pid, started) =
                (token.parse().ok()?, pid.parse().ok()?, started.parse().ok()?);
            let other = other.first().and_then(|other| other.parse().ok());
            let verdict = arena.enter(&Entry { section, user, token, other, pid, started });
            if verdict == Verdict::Accepted {
                *guest = Some(Guest { arena, section, user, token });
            }
            Some(verdict)
        }
        (["work"], Some(Guest { arena, section, user, token })) => {
            Some(arena.work(section, user, token))
        }
        (["leave"], Some(Guest { arena, section, user, token })) => {
            arena.leaves(section, user, token);
            Some(Verdict::Accepted)
        }
        _ => None,
    }
}
