//! What is to happen, in the order of true time.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::clock::Time;
use crate::objects::Reply;
use crate::referee::Check;

/// Something that happens at one instant.
#[derive(Debug)]
pub(crate) enum Event {
    /// A sleeper of this process may have slept long enough.
    Wake(usize),
    /// A copy of a request reaches the store.
    Arrive { request: u64, copy: usize },
    /// An answer reaches the process that asked.
    Answer { request: u64, reply: Reply },
    /// A fault of the schedule.
    Fault(usize),
    /// A process of this incarnation goes on after a pause.
    Resume { process: usize, incarnation: u32 },
    /// A process is started again.
    Start(usize),
    /// The referee looks at something.
    Check(Check),
    /// All faults end.
    Quiet,
    /// Everybody must have been served.
    End,
}

/// Events by time; those of one instant in the order in which they were added.
#[derive(Debug, Default)]
pub(crate) struct Events {
    queue: BinaryHeap<Reverse<Entry>>,
    added: u64,
}

#[derive(Debug)]
struct Entry {
    at: Time,
    number: u64,
    event: Event,
}

impl Events {
    pub(crate) fn add(&mut self, at: Time, event: Event) {
        self.added += 1;
        self.queue.push(Reverse(Entry { at, number: self.added, event }));
    }

    pub(crate) fn next(&mut self) -> Option<(Time, Event)> {
        self.queue.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }

    /// What is on its way arrives by then at the latest, and no fault begins any more.
    pub(crate) fn hurry(&mut self, latest: Time) {
        let mut entries = std::mem::take(&mut self.queue).into_vec();
        entries.sort_unstable();
        for Reverse(entry) in entries.into_iter().rev() {
            let Entry { at, event, .. } = entry;
            match event {
                Event::Arrive { .. } | Event::Answer { .. } => self.add(at.min(latest), event),
                Event::Fault(_) | Event::Start(_) | Event::Resume { .. } => {}
                Event::Wake(_) | Event::Check(_) | Event::Quiet | Event::End => self.add(at, event),
            }
        }
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}
