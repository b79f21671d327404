//! The run in numbers.

use std::fmt;

use super::audit::Audit;
use super::director::{Deed, Play, Scene};
use super::event::What;
use super::options::Options;

/// What happened to one writer, all its lives together.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    acquisitions: u64,
    lost: u64,
    fenced: u64,
    unconfirmed: u64,
    failed: u64,
    freezes: u64,
    kills: u64,
}

/// The table at the end.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    options: &'a Options,
    audit: &'a Audit,
    tallies: Vec<Tally>,
    takeovers: u64,
    faults: Vec<String>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(options: &'a Options, play: &Play, audit: &'a Audit) -> Self {
        let mut tallies = vec![Tally::default(); options.writers];
        let mut takeovers = 0;
        // Who has the lock and has not begun to give it back, by the order of time.
        let mut holder = None;
        for Scene { writer, deed, .. } in &play.scenes {
            let tally = &mut tallies[*writer];
            let was_holder = holder == Some(*writer);
            match deed {
                Deed::Told(What::Acquired { .. }) => {
                    tally.acquisitions += 1;
                    takeovers += u64::from(holder.is_some());
                    holder = Some(*writer);
                }
                Deed::Told(What::Releasing) if was_holder => holder = None,
                Deed::Told(What::TooLate | What::Lost) => tally.lost += 1,
                Deed::Told(What::Fenced { .. }) => {
                    // Nobody could have claimed it while the lease lasted.
                    tally.lost += 1;
                    tally.fenced += 1;
                }
                Deed::Told(What::Unconfirmed | What::Failed { .. }) => {
                    let counter = match deed {
                        Deed::Told(What::Unconfirmed) => &mut tally.unconfirmed,
                        _ => &mut tally.failed,
                    };
                    *counter += 1;
                    // An attempt that failed drops its guard, which gives the lock back if it can.
                    tally.lost += u64::from(!was_holder);
                    holder = holder.filter(|_| !was_holder);
                }
                Deed::Frozen => tally.freezes += 1,
                Deed::Killed => tally.kills += 1,
                _ => {}
            }
        }
        let faults = play.faults.iter().cloned().chain(audit.faults()).collect();
        Self { options, audit, tallies, takeovers, faults }
    }

    pub(crate) fn adds_up(&self) -> bool {
        self.faults.is_empty()
    }

    fn total(&self, of: impl Fn(&Tally) -> u64) -> u64 {
        self.tallies.iter().map(of).sum()
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = [
            "writer",
            "acquired",
            "batches",
            "rows",
            "lost",
            "fenced",
            "unconfirmed",
            "failed",
            "frozen",
            "killed",
        ];
        for column in columns {
            write!(f, "{column:>11} ")?;
        }
        writeln!(f)?;
        for (number, tally) in self.tallies.iter().enumerate() {
            let (batches, rows) = self.audit.acknowledged.get(number).copied().unwrap_or_default();
            row(f, &number.to_string(), tally, batches, rows)?;
        }
        let all = Tally {
            acquisitions: self.total(|tally| tally.acquisitions),
            lost: self.total(|tally| tally.lost),
            fenced: self.total(|tally| tally.fenced),
            unconfirmed: self.total(|tally| tally.unconfirmed),
            failed: self.total(|tally| tally.failed),
            freezes: self.total(|tally| tally.freezes),
            kills: self.total(|tally| tally.kills),
        };
        let batches = self.audit.acknowledged.iter().map(|(batches, _)| batches).sum();
        let rows: u64 = self.audit.acknowledged.iter().map(|(_, rows)| rows).sum();
        row(f, "all", &all, batches, rows)?;
        let audit = self.audit;
        writeln!(f, "\ntakeovers          {:>9}", self.takeovers)?;
        writeln!(f, "rows acknowledged  {rows:>9}")?;
        writeln!(f, "     found         {:>9}, in {} files", audit.rows, audit.files)?;
        writeln!(
            f,
            "     of them never acknowledged, as their writer was stopped: {}",
            audit.unacknowledged
        )?;
        writeln!(f, "     missing       {:>9}", audit.missing)?;
        writeln!(f, "     duplicated    {:>9}\n", audit.duplicated)?;
        if self.options.chaos && !self.options.unfenced && all.fenced == 0 {
            writeln!(f, "No write was fenced this time, so this shows little: run it for longer.")?;
        }
        self.verdict(f)
    }
}

impl Report<'_> {
    fn verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.adds_up(), self.options.unfenced) {
            (true, false) => write!(f, "It adds up: every acknowledged row is there exactly once."),
            (true, true) => {
                write!(f, "It adds up this time, by luck: nothing was there to make it.")
            }
            (false, unfenced) => {
                write!(f, "It does not add up: {}.", self.faults.join("; "))?;
                if unfenced && self.audit.missing > 0 {
                    write!(
                        f,
                        "\nThe guard was asked before every write. This is what the fence is for."
                    )?;
                }
                Ok(())
            }
        }
    }
}

fn row(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    tally: &Tally,
    batches: u64,
    rows: u64,
) -> fmt::Result {
    write!(f, "{name:>11} {:>11} {batches:>11} {rows:>11} ", tally.acquisitions)?;
    let Tally { lost, fenced, unconfirmed, failed, freezes, kills, .. } = tally;
    for count in [lost, fenced, unconfirmed, failed, freezes, kills] {
        write!(f, "{count:>11} ")?;
    }
    writeln!(f)
}
