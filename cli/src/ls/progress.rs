//! A line on stderr that tells how far a listing has come: at a terminal, where it takes long.

use std::future::Future;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::args::Global;
use crate::clock::{self, Moment};

/// What is done sooner needs no words.
const FIRST_WORD: Duration = Duration::from_millis(500);
/// The spinner's pace.
const TICK: Duration = Duration::from_millis(125);

pub(crate) struct Progress {
    bar: ProgressBar,
    wanted: bool,
    /// Whether what is printed comes to the same terminal, most likely.
    shared: bool,
    /// When it is time for it.
    from: Moment,
    read: u64,
}

impl Progress {
    pub(crate) fn of(global: &Global) -> Self {
        let wanted = !global.quiet && std::io::stderr().is_terminal();
        let from = Moment::now().plus(FIRST_WORD);
        let shared = std::io::stdout().is_terminal();
        Self { bar: ProgressBar::hidden(), wanted, shared, from, read: 0 }
    }

    /// Waits for `work`, and turns the spinner meanwhile.
    pub(crate) async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = clock::sleep(TICK), if self.wanted => self.tick(),
            }
        }
    }

    /// Counts one lock more.
    pub(crate) fn read(&mut self) {
        self.read += 1;
        self.bar.set_position(self.read);
        // Locks may come faster than the spinner would turn between them.
        if self.wanted && self.bar.is_hidden() {
            self.tick();
        }
    }

    /// Prints a line of the listing. Lines that come one after the other tell enough.
    pub(crate) fn line<T>(&mut self, print: impl FnOnce() -> T) -> T {
        if self.shared { self.aside(print) } else { print() }
    }

    /// Prints something else on the terminal.
    pub(crate) fn aside<T>(&mut self, print: impl FnOnce() -> T) -> T {
        if self.wanted {
            self.bar.finish_and_clear();
            self.bar = ProgressBar::hidden();
            self.from = Moment::now().plus(FIRST_WORD);
        }
        print()
    }

    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }

    fn tick(&mut self) {
        if self.bar.is_hidden() && self.from.reached(Moment::now()) {
            self.bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} locks read") {
                self.bar.set_style(style);
            }
            self.bar.set_position(self.read);
        }
        self.bar.tick();
    }
}
