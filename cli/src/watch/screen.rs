//! The terminal, from the moment it is taken to the moment it is as it was.

use std::io::{self, Stdout, stdout};

use crossterm::cursor::{Hide, Show};
use crossterm::execute;
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use nix::sys::signal::Signal;
use ratatui::backend::CrosstermBackend;
use ratatui::{Frame, Terminal};

use crate::exit::{self, Failure};
use crate::terminal;

/// Given back when it is dropped, and when the program panics.
#[derive(Debug)]
pub(crate) struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    pub(crate) fn take() -> Result<Self, Failure> {
        give_back_on_panic();
        match take() {
            Ok(terminal) => Ok(Self { terminal }),
            Err(error) => {
                give_back();
                Err(failure(error))
            }
        }
    }

    pub(crate) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> Result<(), Failure> {
        self.terminal.draw(draw).map(drop).map_err(failure)
    }

    /// Stops the job, as ^Z would: until the shell continues it, or not at all where nobody could.
    pub(crate) fn suspend(&mut self) -> Result<(), Failure> {
        give_back();
        // This thread gets it too, before it returns from there.
        terminal::signal_own_group(Signal::SIGTSTP);
        self.take_again()
    }

    /// After the program was stopped, and the shell has had the terminal.
    pub(crate) fn take_again(&mut self) -> Result<(), Failure> {
        give_back();
        self.terminal = take().map_err(failure)?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn take() -> io::Result<Terminal<CrosstermBackend<Stdout>>> {
    enable_raw_mode()?;
    execute!(stdout(), EnterAlternateScreen, Hide)?;
    // Another screen is blank. To clear it would ask for the cursor, whose answer the keyboard gets.
    Terminal::new(CrosstermBackend::new(stdout()))
}

fn give_back() {
    // Nobody can be told when the terminal is gone.
    let _ = disable_raw_mode();
    let _ = execute!(stdout(), LeaveAlternateScreen, Show);
}

/// Before the message, which would vanish with the screen.
fn give_back_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // A panic of another thread does not end the program.
        if std::thread::current().name() == Some("main") {
            give_back();
        }
        report(panic);
    }));
}

fn failure(error: io::Error) -> Failure {
    Failure::new(exit::INTERNAL, format!("cannot use the terminal: {error}"))
}
