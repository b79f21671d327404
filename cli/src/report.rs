//! What `run --json` prints at the end.

use std::io::{self, Write};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::exit;
use crate::terminal::Terminal;

/// Filled in as things go on.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) outcome: &'static str,
    pub(crate) token: Option<u64>,
    /// Of several locks, by their names.
    pub(crate) tokens: Option<Value>,
    pub(crate) waited: Duration,
    pub(crate) held: Duration,
    /// Not printed: ^C at the terminal has ended this.
    pub(crate) typed: Option<Typed>,
}

/// To whom the terminal has sent an INT that somebody typed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Typed {
    ToCmd,
    /// To this process and its whole job.
    ToJob,
}

impl Typed {
    /// Whether it was ^C that CMD died of. `passed_on` is whether there was an INT to this process.
    pub(crate) fn by(died_by: Option<i32>, had_terminal: bool, passed_on: bool) -> Option<Self> {
        match (died_by? == Signal::SIGINT as i32, had_terminal) {
            (false, _) => None,
            (true, true) => Some(Self::ToCmd),
            (true, false) => (passed_on && Terminal::find().is_ours()).then_some(Self::ToJob),
        }
    }
}

impl Default for Report {
    fn default() -> Self {
        let none = Duration::ZERO;
        Self { outcome: "failed", token: None, tokens: None, waited: none, held: none, typed: None }
    }
}

impl Report {
    /// The wait was ended by a signal. Answers the exit code.
    pub(crate) fn interrupted(&mut self, signal: Signal) -> u8 {
        if signal == Signal::SIGINT && Terminal::find().is_ours() {
            self.typed = Some(Typed::ToJob);
        }
        self.outcome = "interrupted";
        exit::by_signal(signal as i32)
    }

    pub(crate) fn print(&self, code: u8) {
        let mut object = json!({
            "outcome": self.outcome,
            "token": self.token,
            "exit_code": code,
            "waited_ms": millis(self.waited),
            "held_ms": millis(self.held),
        });
        if let Some(tokens) = &self.tokens {
            object["tokens"] = tokens.clone();
        }
        // Nobody is left to be told when nobody reads it.
        let _ = writeln!(io::stderr(), "{object}");
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
