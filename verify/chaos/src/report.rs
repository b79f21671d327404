//! What came of it: a table, and whether it proves anything.

use std::fmt::Write;
use std::sync::mpsc;
use std::time::Duration;

use leaselock_history::NotLinearizable;

use crate::arena::{Arena, Mischief};
use crate::emulators::{Memory, memory_of};
use crate::profile::Profile;
use crate::section::{Calm, Seen};
use crate::tally::Numbers;

/// Beyond the promised bound, on a machine with better things to do.
const SLACK: Duration = Duration::from_secs(10);
/// How long the check of a history may take; it takes moments when there is an explanation.
const CHECKED: Duration = Duration::from_secs(120);

/// One store's results.
#[derive(Debug)]
pub(crate) struct Outcome {
    name: &'static str,
    is_http: bool,
    memory: Memory,
    seen: Seen,
    numbers: Numbers,
    events: usize,
    /// Of each section, what was seen there.
    sections: Vec<(Profile, Seen)>,
    /// What is wrong.
    pub(crate) violations: Vec<String>,
    /// What should have happened, and did not.
    pub(crate) missing: Vec<String>,
}

impl Outcome {
    /// Checks the histories too.
    pub(crate) fn of(arena: &Arena) -> Self {
        let numbers = arena.tally.numbers().clone();
        let mut violations = numbers.violations.clone();
        let mut seen = Seen::default();
        let mut events = 0;
        let mut sections = Vec::new();
        for section in arena.sections() {
            events += section.events();
            sections.push((section.profile(), section.seen.clone()));
            violations.extend(section.seen.violations.iter().cloned());
            // With an overlap there is no explanation, and the search for one can take for ever.
            if section.seen.overlaps == 0
                && let Err(fault) = check(section.check())
            {
                violations.push(format!("the history of {}: {fault}", section.name()));
            }
            add(&mut seen, &section.seen);
        }
        let backend = arena.backend;
        let (name, is_http, memory) = (backend.name(), backend.is_http(), memory_of(backend));
        let missing = Vec::new();
        let mut this =
            Self { name, is_http, memory, seen, numbers, events, sections, violations, missing };
        this.violations.extend(this.bounds());
        this.missing.extend(this.proves_nothing());
        this
    }

    fn bounds(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if let Some(Calm { waited, bound }) = self.seen.calm
            && waited > bound + SLACK
        {
            wrong.push(format!("{waited:?} passed after a crash: much more than {bound:?}"));
        }
        if self.memory == Memory::Keeps && self.numbers.records_deleted > 0 {
            wrong.push("the emulator lost records that it should have kept".to_owned());
        }
        wrong
    }

    /// A run in which nothing happened proves nothing.
    fn proves_nothing(&self) -> Vec<String> {
        let Self { seen, numbers, .. } = self;
        let mut wanted = vec![
            ("acquisition", seen.acquisitions),
            ("completed run", numbers.completed),
            ("piece of work", seen.work),
            ("takeover", numbers.takeovers),
            ("loss", numbers.losses),
            ("command with wrong clocks", numbers.wrong_clocks),
            ("crash followed by an entry", u64::from(!seen.longest_wait.is_zero())),
        ];
        for mischief in Mischief::ALL {
            let count = numbers.mischief.get(mischief.name()).copied().unwrap_or_default();
            wanted.push((mischief.name(), count));
        }
        if self.is_http {
            wanted.push(("restart of the emulator", numbers.restarts));
            wanted.push(("ambiguous write resolved", numbers.resolved));
            for (what, is_it) in NETWORK {
                let of_it = numbers.faults.iter().filter(|(fault, _)| is_it(fault));
                wanted.push((what, of_it.map(|(_, count)| count).sum()));
            }
        }
        let missing = wanted.into_iter().filter(|(_, count)| *count == 0);
        missing.map(|(what, _)| format!("no {what}")).collect()
    }

    fn entries(&self) -> String {
        let each = self.sections.iter().map(|(profile, seen)| {
            let more = match profile {
                Profile::Rows | Profile::Permits => format!(" ({} together)", seen.together),
                Profile::Lead => format!(" ({} again)", seen.again),
                Profile::Both => format!(" ({} with both)", seen.both),
                _ => String::new(),
            };
            format!("{} {}{more}", profile.name(), seen.acquisitions)
        });
        each.collect::<Vec<_>>().join(", ")
    }

    fn row(&self) -> [String; 12] {
        let Self { seen, numbers, .. } = self;
        let seconds = |time: Duration| format!("{:.1}", time.as_secs_f64());
        let calm = seen.calm.map_or("-".to_owned(), |calm| {
            format!("{} of {}", seconds(calm.waited), seconds(calm.bound))
        });
        [
            self.name.to_owned(),
            seen.acquisitions.to_string(),
            numbers.takeovers.to_string(),
            numbers.losses.to_string(),
            format!("{}/{}", numbers.resolved, numbers.ambiguous),
            seen.stale.to_string(),
            format!("{}+{}", seen.outlived, seen.after_loss),
            seen.overlaps.to_string(),
            format!("{}+{}", seen.recorded, seen.already_done),
            calm,
            seconds(seen.longest_wait),
            self.events.to_string(),
        ]
    }
}

/// What should have happened somewhere, and did not. On one store it can fail to happen in a minute.
pub(crate) fn missing(results: &[Outcome]) -> Vec<String> {
    let sum = |what: fn(&Seen) -> u64| results.iter().map(|result| what(&result.seen)).sum();
    let of = |profile: Profile, what: fn(&Seen) -> u64| {
        let sections = results.iter().flat_map(|result| &result.sections);
        sections.filter(|(of, _)| *of == profile).map(|(_, seen)| what(seen)).sum()
    };
    let wanted: [(&str, u64); 8] = [
        ("stale work", sum(|seen| seen.stale)),
        ("result recorded", sum(|seen| seen.recorded)),
        ("run that found a result", sum(|seen| seen.already_done)),
        ("two who read", of(Profile::Rows, |seen| seen.together)),
        ("two with permits", of(Profile::Permits, |seen| seen.together)),
        ("leader that was lost and elected again", of(Profile::Lead, |seen| seen.again)),
        ("run with both locks", of(Profile::Both, |seen| seen.both)),
        ("run with one lock of both", of(Profile::Both, |seen| seen.acquisitions - seen.both)),
    ];
    let missing = wanted.into_iter().filter(|(_, count)| *count == 0);
    let missing = missing.map(|(what, _)| format!("no {what}"));
    let empty = Profile::ALL.into_iter().filter(|one| of(*one, |seen| seen.acquisitions) == 0_u64);
    missing.chain(empty.map(|one| format!("nobody in {}", one.name()))).collect()
}

/// Whether the history is one of a lock; or no answer came in good time.
fn check(
    history: impl FnOnce() -> Result<(), NotLinearizable> + Send + 'static,
) -> Result<(), String> {
    let (answer, answered) = mpsc::channel();
    // Nothing waits for it when it takes too long: it ends with this process.
    std::thread::spawn(move || answer.send(history().map_err(|fault| fault.to_string())));
    answered.recv_timeout(CHECKED).unwrap_or_else(|error| Err(error.to_string()))
}

fn add(sum: &mut Seen, seen: &Seen) {
    sum.acquisitions += seen.acquisitions;
    sum.work += seen.work;
    sum.stale += seen.stale;
    sum.outlived += seen.outlived;
    sum.after_loss += seen.after_loss;
    sum.overlaps += seen.overlaps;
    sum.together += seen.together;
    sum.again += seen.again;
    sum.both += seen.both;
    sum.recorded += seen.recorded;
    sum.already_done += seen.already_done;
    sum.crashes += seen.crashes;
    sum.longest_wait = sum.longest_wait.max(seen.longest_wait);
    sum.calm = [sum.calm, seen.calm].into_iter().flatten().max_by_key(Calm::beyond);
}

/// What the network is to do, and whether a fault is that.
type Kind = (&'static str, fn(&str) -> bool);

const NETWORK: [Kind; 5] = [
    ("refusal by a store", |fault| fault == "Status"),
    ("answer lost after a commit", |fault| {
        fault.starts_with("CommitThen") && fault != "CommitThenDelay"
    }),
    ("delay", |fault| fault.contains("Delay")),
    ("cut connection", |fault| matches!(fault, "Cut" | "CloseBefore" | "ResetBefore")),
    ("outage", |fault| fault == "Outage"),
];

const HEAD: [&str; 12] = [
    "store",
    "acquired",
    "takeovers",
    "losses",
    "resolved",
    "stale",
    "outlived",
    "overlaps",
    "once",
    "wait, calm",
    "wait, any",
    "events",
];

const LEGEND: &str = "\
acquired   entries that the referee accepted, each with a larger token than all before
takeovers  of leases that had ended, by the commands' logs
losses     of leases, as the holders' own logs tell
resolved   ambiguous writes (by the commands' logs) after which the command went on / all of them
stale      entries and pieces of work that the referee refused because of their token; of permits,
           also because others had entered since, and there was room for nobody else
outlived   workers that were alive when a successor entered, and may be: both guards frozen or
           killed + the store had lost the record
overlaps   workers alive and guarded when a successor entered who had no room: must be 0
once       of work that is run once: results recorded + runs that found one and did not work
wait       seconds from the kill of a holder to the next entry: in calm weather, with the promised
           bound (1.02 x TTL + 50 ms, twice where two records are watched, + one look of 5 s);
           and in any weather
events     of the histories that were checked for linearizability";

/// The tables.
pub(crate) fn print(results: &[Outcome]) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(results.iter().map(Outcome::row));
    let mut text = table(&rows);
    let _ = writeln!(text, "\n{LEGEND}\n");
    for result in results {
        let numbers = &result.numbers;
        let list = |counts: &std::collections::BTreeMap<&'static str, u64>| {
            let each = counts.iter().map(|(what, count)| format!("{what} {count}"));
            each.collect::<Vec<_>>().join(", ")
        };
        let memory = match (result.is_http, result.memory) {
            (false, _) => "",
            (true, Memory::Keeps) => " (records kept)",
            (true, Memory::Loses) => " (records lost)",
        };
        let _ = writeln!(
            text,
            "{}: {}; {} commands, {} of them to their end, {} with wrong clocks; {} pieces of work; {}; {} restarts{memory}; \
             {} crashes{}{}",
            result.name,
            result.entries(),
            numbers.runs,
            numbers.completed,
            numbers.wrong_clocks,
            result.seen.work,
            list(&numbers.mischief),
            numbers.restarts,
            result.seen.crashes,
            if numbers.faults.is_empty() { "" } else { "; network: " },
            list(&numbers.faults),
        );
    }
    text
}

fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().enumerate().map(|(column, cell)| match column {
            0 => format!("{cell:<0$}", width(column)),
            _ => format!("{cell:>0$}", width(column)),
        });
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  "));
    }
    text
}
