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
    from: Moment,
    read: u64,
}

impl Progress {
    pub(crate) fn of(global: &Global) -> Self {
        let wanted = !global.quiet && std::io::stderr().is_terminal();
        let from = Moment::now().plus(FIRST_WORD);
        Self { bar: ProgressBar::hidden(), wanted, from, read: 0 }
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

    /// Prints something else without mixing the two.
    pub(crate) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }

    fn tick(&mut self) {
        if self.bar.is_hidden() && self.from.reached(Moment::now()) {
            self.bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {pos} locks read")
            {
                self.bar.set_style(style);
            }
            self.bar.set_position(self.read);
        }
        self.bar.tick();
    }
}
