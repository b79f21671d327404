//! What happened, in order: always as a digest, and on request to read and to draw.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::clock::Time;

/// Kinds of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A process starts.
    Alive,
    /// A process ends.
    Dead,
    /// A process is stopped or frozen.
    Paused,
    /// It goes on.
    Resumed,
    /// A user begins to ask for a lock.
    Waiting,
    /// A user holds it.
    Holding,
    /// A user neither holds it nor waits for it.
    Idle,
    /// A request is sent.
    Sent,
    /// It was applied.
    Applied,
    /// It was refused.
    Refused,
    /// It, or its answer, is lost.
    Lost,
    /// Its answer has come.
    Answered,
    /// Something is done to the world.
    Fault,
    /// A promise is broken.
    Violation,
}

/// One entry.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) at: Time,
    pub(crate) process: Option<usize>,
    pub(crate) kind: Kind,
    pub(crate) text: String,
}

/// What happened in one run, to read ([`Display`](std::fmt::Display)) and to [draw](crate::draw).
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    pub(crate) entries: Vec<Entry>,
}

impl std::fmt::Display for Timeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for entry in &self.entries {
            let who = entry.process.map_or("  ".to_owned(), |process| format!("p{process}"));
            let (at, kind) = (entry.at.as_secs_f64(), format!("{:?}", entry.kind));
            writeln!(f, "{at:>11.6} {who} {kind:<9} {}", entry.text)?;
        }
        Ok(())
    }
}

/// The digest takes what happens at one instant as a set: tokio wakes the tasks that wait for one
/// channel in any order, when the library shuts down for example.
#[derive(Debug)]
pub(crate) struct Trace {
    digest: DefaultHasher,
    instant: (Time, u64),
    timeline: Option<Timeline>,
}

impl Trace {
    pub(crate) fn new(keep: bool) -> Self {
        Self {
            digest: DefaultHasher::new(),
            instant: (Time::ZERO, 0),
            timeline: keep.then(Timeline::default),
        }
    }

    pub(crate) fn note(
        &mut self,
        at: Time,
        process: Option<usize>,
        kind: Kind,
        text: impl FnOnce() -> String,
    ) {
        if self.instant.0 != at {
            self.instant.hash(&mut self.digest);
            self.instant = (at, 0);
        }
        let mut entry = DefaultHasher::new();
        (process, kind).hash(&mut entry);
        self.instant.1 = self.instant.1.wrapping_add(entry.finish());
        if let Some(timeline) = &mut self.timeline {
            timeline.entries.push(Entry { at, process, kind, text: text() });
        }
    }

    pub(crate) fn end(&mut self) -> (u64, Option<Timeline>) {
        self.instant.hash(&mut self.digest);
        (self.digest.finish(), self.timeline.take())
    }
}
