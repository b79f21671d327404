//! What the command runs while it holds the lock: work that a referee judges.
//!
//! Between one piece of work and the next it sleeps, so that whoever freezes it mostly does so
//! between the check and the act.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use signal_hook::consts::SIGTERM;

use crate::clock;
use crate::process;

/// It was refused: its token is not the largest any more.
pub(crate) const REFUSED: u8 = 3;
/// The referee is gone.
pub(crate) const ALONE: u8 = 4;
/// Between two pieces of work.
const PACE: Duration = Duration::from_millis(20);
/// It ends by itself after that, whatever happens.
const LONGEST: Duration = Duration::from_secs(60);

/// What a worker is told.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Worker {
    #[arg(long)]
    pub(crate) referee: SocketAddr,
    /// Which store, by its number.
    #[arg(long)]
    pub(crate) store: usize,
    /// Which lock of the store.
    #[arg(long)]
    pub(crate) section: usize,
    /// Its run's number.
    #[arg(long)]
    pub(crate) user: usize,
    #[arg(long)]
    pub(crate) hold_ms: u64,
    /// Ignores TERM: only KILL ends it.
    #[arg(long)]
    pub(crate) stubborn: bool,
}

impl Worker {
    /// Works. Answers the exit code.
    ///
    /// # Errors
    /// There is no token, or no referee.
    pub(crate) fn run(&self) -> io::Result<u8> {
        if self.stubborn {
            signal_hook::flag::register(SIGTERM, Arc::new(AtomicBool::new(false)))?;
        }
        let (token, other) = tokens()?;
        let pid = std::process::id();
        let started = process::stat(pid.cast_signed()).map_or(0, |stat| stat.started);
        let mut referee = BufReader::new(TcpStream::connect(self.referee)?);
        referee.get_ref().set_nodelay(true)?;
        let mut ask = |question: String| -> io::Result<bool> {
            referee.get_mut().write_all(format!("{question}\n").as_bytes())?;
            let mut answer = String::new();
            if referee.read_line(&mut answer)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(answer == "accepted\n")
        };
        let Self { store, section, user, .. } = self;
        let begun = clock::now();
        let until = Duration::from_millis(self.hold_ms).min(LONGEST);
        if !ask(format!("enter {store} {section} {user} {token} {pid} {started}{other}"))? {
            return Ok(REFUSED);
        }
        // Whoever was frozen works once more before it looks at the time.
        loop {
            std::thread::sleep(PACE);
            if !ask("work".to_owned())? {
                return Ok(REFUSED);
            }
            if begun.elapsed() >= until {
                break;
            }
        }
        ask("leave".to_owned())?;
        Ok(0)
    }
}

/// The section's token, and for the referee that of another lock, if there is one: the section is that
/// of the last name.
fn tokens() -> io::Result<(String, String)> {
    let Ok(all) = std::env::var("LEASELOCK_TOKENS") else {
        let token = std::env::var("LEASELOCK_TOKEN").map_err(io::Error::other)?;
        return Ok((token, String::new()));
    };
    let mut all: Vec<_> = all.lines().filter_map(|line| line.rsplit_once('=')).collect();
    all.sort_unstable();
    match all.as_slice() {
        [(_, other), (_, token)] => Ok(((*token).to_owned(), format!(" {other}"))),
        _ => Err(io::Error::other("there are not two tokens")),
    }
}
