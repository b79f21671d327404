//! What the terminal tells: keys, and that its size has changed.

use std::io;

use crossterm::event::{Event, read};
use tokio::sync::mpsc;

use crate::exit::{self, Failure};

/// Reads it in a thread of its own, which waits in the system and ends with the program.
pub(crate) fn listen() -> Result<mpsc::Receiver<io::Result<Event>>, Failure> {
    let (send, events) = mpsc::channel(16);
    let listening = std::thread::Builder::new().name("keyboard".to_owned()).spawn(move || {
        loop {
            let event = read();
            let is_last = event.is_err();
            if send.blocking_send(event).is_err() || is_last {
                return;
            }
        }
    });
    match listening {
        Ok(_) => Ok(events),
        Err(error) => Err(Failure::new(exit::INTERNAL, format!("cannot start: {error}"))),
    }
}
