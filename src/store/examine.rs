//! A thorough look at a store, step by step (hazard H14): sequential questions, and races, because some
//! stores honour conditions one at a time but not atomically.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use object_store::path::Path;

use super::probe::{LIMIT, Outcomes, body, check_metadata, scratch_key, write_at_once};
use super::request::Failure;
use super::{LockStore, Version, json_attributes};
use crate::clock::Boot;
use crate::diagnosis::{Finding, Verdict};
use crate::error::{Error, ErrorKind};

/// How many writers race.
const RACERS: usize = 16;
/// How often at most, and for how long.
const RACES: u32 = 20;
const RACING: Duration = Duration::from_secs(2);
/// How far a clock may be off without a word about it.
const NEAR: Duration = Duration::from_secs(5);

const TWO_HOLDERS: &str = "two holders of one lock at once";
const NO_LOCKS: &str = "no lock can be acquired, renewed or released";
const LOST_HOLDER: &str =
    "a holder whose record was deleted would write it again, beside the next one";

/// What a step has seen.
struct Seen {
    verdict: Verdict,
    text: String,
    consequence: Option<&'static str>,
    error: Option<Error>,
}

impl Seen {
    fn good(text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Passed, text: text.into(), consequence: None, error: None }
    }

    fn bad(text: impl Into<String>, consequence: &'static str) -> Self {
        let (verdict, consequence) = (Verdict::Failed, Some(consequence));
        Self { verdict, consequence, ..Self::good(text) }
    }

    fn warning(text: impl Into<String>, consequence: &'static str) -> Self {
        Self { verdict: Verdict::Warning, ..Self::bad(text, consequence) }
    }

    /// The store did not answer, or not so that anything follows.
    fn failure(failure: Failure, key: &Path) -> Self {
        Self::error(failure.into_error(key))
    }

    fn error(error: Error) -> Self {
        let passing = error.kind() == ErrorKind::Unavailable;
        let verdict = if passing { Verdict::Unclear } else { Verdict::Failed };
        let text = match error.kind() {
            ErrorKind::Unavailable => "no clear answer",
            ErrorKind::PermissionDenied => "access denied",
            ErrorKind::MissingCredentials => "there are no credentials",
            ErrorKind::StoreAbsent => "there is no such bucket or container",
            _ => "the store cannot do it",
        };
        Self { verdict, error: Some(error), ..Self::bad(text, NO_LOCKS) }
    }
}

/// The steps so far.
struct Examination<'a> {
    store: &'a LockStore,
    findings: Vec<Finding>,
    began: Boot,
}

impl LockStore {
    /// Whether it can hold locks, and what else is to be known about it.
    pub(crate) async fn examine(&self) -> Vec<Finding> {
        let began = self.clock.now().boot;
        let mut examination = Examination { store: self, findings: Vec::new(), began };
        let key = scratch_key(self, "doctor");
        examination.run(&key).await;
        // After a step that ended early.
        self.requests.delete(&key, LIMIT).await;
        examination.findings
    }
}

impl Examination<'_> {
    fn note(&mut self, check: &'static str, seen: Seen) {
        let now = self.store.clock.now().boot;
        self.findings.push(Finding {
            check,
            verdict: seen.verdict,
            seen: seen.text,
            consequence: seen.consequence,
            error: seen.error,
            took: now.since(self.began),
        });
        self.began = now;
    }

    async fn run(&mut self, key: &Path) {
        let Some((body, version)) = self.create(key).await else { return self.rest_not_tried() };
        let seen = self.read(key, &body).await;
        self.note(READ, seen);
        let seen = self.refused_twice(key).await;
        self.note(CREATE_AGAIN, seen);
        let Some(newer) = self.update(key, &version).await else { return self.rest_not_tried() };
        let seen = self.refused(key, &version, "it was accepted", TWO_HOLDERS).await;
        self.note(STALE, seen);
        let missing = scratch_key(self.store, "doctor");
        let seen = self.refused(&missing, &newer, "it made a new object", LOST_HOLDER).await;
        self.store.requests.delete(&missing, LIMIT).await;
        self.note(MISSING, seen);
        let seen = self.poll(key, newer).await;
        self.note(POLL, seen);
        let seen = self.races(true).await;
        self.note(RACING_CREATES, seen);
        let seen = self.races(false).await;
        self.note(RACING_UPDATES, seen);
        let seen = self.list(key).await;
        self.note(LIST, seen);
        let seen = self.metadata().await;
        self.note(METADATA, seen);
        let seen = self.time(key).await;
        self.note(TIME, seen);
        let seen = self.delete(key).await;
        self.note(DELETE, seen);
    }

    fn rest_not_tried(&mut self) {
        for check in &STEPS[self.findings.len()..] {
            let seen = Seen { verdict: Verdict::NotTried, ..Seen::good("because of the above") };
            self.note(check, seen);
        }
    }

    async fn put(
        &self,
        key: &Path,
        expected: Option<&Version>,
        body: Bytes,
    ) -> Result<Version, Failure> {
        self.store.put(key, expected, body, json_attributes(), LIMIT).await
    }

    async fn create(&mut self, key: &Path) -> Option<(Bytes, Version)> {
        let written = body(self.store);
        let (seen, created) = match self.put(key, None, written.clone()).await {
            Ok(version) => (Seen::good("accepted"), Some((written, version))),
            Err(Failure::Refused(cause)) => {
                let text = format!("refused, though there is nothing: {cause}");
                (Seen::bad(text, NO_LOCKS), None)
            }
            Err(failure) => (Seen::failure(failure, key), None),
        };
        self.note(CREATE, seen);
        created
    }

    async fn update(&mut self, key: &Path, version: &Version) -> Option<Version> {
        let (seen, updated) = match self.put(key, Some(version), body(self.store)).await {
            Ok(version) => (Seen::good("accepted"), Some(version)),
            Err(Failure::Refused(cause)) => (
                Seen::bad(format!("refused, though nobody else wrote it: {cause}"), NO_LOCKS),
                None,
            ),
            Err(failure) => (Seen::failure(failure, key), None),
        };
        self.note(UPDATE, seen);
        updated
    }

    async fn read(&self, key: &Path, body: &Bytes) -> Seen {
        match self.store.requests.get(key, None, 1024, LIMIT).await {
            Ok((got, _)) if got.body.as_ref() == Some(body) => Seen::good("the same bytes"),
            Ok(_) => Seen::bad("other bytes than were written", TWO_HOLDERS),
            Err(Failure::Absent { .. }) => Seen::bad("not there yet", TWO_HOLDERS),
            Err(failure) => Seen::failure(failure, key),
        }
    }

    async fn refused_twice(&self, key: &Path) -> Seen {
        for _ in 0..2 {
            match self.put(key, None, body(self.store)).await {
                Ok(_) => return Seen::bad("If-None-Match is ignored", TWO_HOLDERS),
                Err(Failure::Refused(_)) => {}
                Err(failure) => return Seen::failure(failure, key),
            }
        }
        Seen::good("refused twice")
    }

    async fn refused(
        &self,
        key: &Path,
        version: &Version,
        otherwise: &str,
        consequence: &'static str,
    ) -> Seen {
        match self.put(key, Some(version), body(self.store)).await {
            Ok(_) => Seen::bad(format!("If-Match is ignored: {otherwise}"), consequence),
            Err(Failure::Refused(_)) => Seen::good("refused"),
            Err(failure) => Seen::failure(failure, key),
        }
    }

    async fn poll(&self, key: &Path, version: Version) -> Seen {
        match self.store.requests.get(key, version.e_tag, 1024, LIMIT).await {
            Err(Failure::NotModified { .. }) => Seen::good("not modified (304)"),
            Ok(_) => Seen::warning("answered in full", "waiting for a lock costs more bytes"),
            Err(failure) => Seen::failure(failure, key),
        }
    }

    /// Races again and again: some stores let a second one win now and then. A fault that is rarer, or that
    /// requests of one process do not meet, is not seen.
    async fn races(&self, create: bool) -> Seen {
        let clock = &self.store.clock;
        let end = clock.now().boot.plus(RACING);
        let mut races = 0;
        while races < RACES && (races == 0 || clock.now().boot < end) {
            let key = scratch_key(self.store, "doctor");
            let seen = match create {
                true => self.race(&key, None).await,
                false => self.race_for_an_update(&key).await,
            };
            self.store.requests.delete(&key, LIMIT).await;
            races += 1;
            if seen.verdict != Verdict::Passed {
                return Seen { text: format!("{}, in race {races}", seen.text), ..seen };
            }
        }
        Seen::good(format!("1 of {RACERS} won, in each of {races}"))
    }

    async fn race_for_an_update(&self, key: &Path) -> Seen {
        match self.put(key, None, body(self.store)).await {
            Ok(version) => self.race(key, Some(&version)).await,
            Err(failure) => Seen::failure(failure, key),
        }
    }

    /// At most one may win, and somebody should.
    async fn race(&self, key: &Path, expected: Option<&Version>) -> Seen {
        let Outcomes { won, unclear } = match write_at_once(self.store, key, expected, RACERS).await
        {
            Ok(outcomes) => outcomes,
            Err(error) => return Seen::error(error),
        };
        let text = match unclear {
            0 => format!("{won} of {RACERS} won"),
            _ => format!("{won} of {RACERS} won, {unclear} had no clear answer"),
        };
        match (won, unclear) {
            (1, _) => Seen::good(text),
            (0, 0) => Seen::bad(text, NO_LOCKS),
            (0, _) => Seen { verdict: Verdict::Unclear, ..Seen::bad(text, NO_LOCKS) },
            _ => Seen::bad(text, TWO_HOLDERS),
        }
    }

    async fn list(&self, key: &Path) -> Seen {
        const CONSEQUENCE: &str = "ls and watch show nothing; locks work";
        let parts: Vec<_> = key.parts().collect();
        let folder = parts[..parts.len() - 1].iter().cloned().collect();
        let mut objects = self.store.list(&folder);
        while let Some(object) = objects.next().await {
            match object {
                Ok(object) if object.location == *key => return Seen::good("it is listed"),
                Ok(_) => {}
                Err(error) => {
                    let seen = Seen::warning("listing failed", CONSEQUENCE);
                    return Seen { error: Some(error), ..seen };
                }
            }
        }
        Seen::warning("it is not listed", CONSEQUENCE)
    }

    async fn metadata(&self) -> Seen {
        match check_metadata(self.store).await {
            Ok(()) => Seen::good("kept"),
            Err(error) => {
                let seen = Seen::warning("not kept", "no fenced writes of objects; locks work");
                Seen { error: Some(error), ..seen }
            }
        }
    }

    async fn time(&self, key: &Path) -> Seen {
        let answer = self.store.requests.get(key, None, 1024, LIMIT).await;
        let told = answer.ok().and_then(|(_, now)| now);
        let now = match told {
            Some(now) => Some(now),
            None => self.store.probe_time(LIMIT).await,
        };
        let Some(now) = now else {
            return Seen::warning(
                "the store does not tell its time",
                "who comes to a lock whose holder has died waits for longer",
            );
        };
        let wall = self.store.clock.now().wall;
        let (ahead, behind) = (wall.since(now.at_most), now.at_least.since(wall));
        let off = ahead.max(behind);
        let text = match (ahead.is_zero(), behind.is_zero()) {
            (true, true) => "this machine's clock agrees with it".to_owned(),
            (false, _) => format!("this machine's clock is {off:.1?} ahead of it"),
            (true, false) => format!("this machine's clock is {off:.1?} behind it"),
        };
        if off > NEAR {
            return Seen::warning(text, "times that are shown are wrong; locks do not need them");
        }
        Seen::good(text)
    }

    async fn delete(&self, key: &Path) -> Seen {
        self.store.requests.delete(key, LIMIT).await;
        match self.store.requests.get(key, None, 1024, LIMIT).await {
            Err(Failure::Absent { .. }) => Seen::good("it is gone"),
            Ok(_) => Seen::warning(
                "it is still there",
                "scratch objects and records of sessions stay behind; locks work",
            ),
            Err(failure) => Seen::failure(failure, key),
        }
    }
}

const CREATE: &str = "create an object";
const READ: &str = "read it";
const CREATE_AGAIN: &str = "refuse to create it again";
const UPDATE: &str = "update its version";
const STALE: &str = "refuse an update of the version before";
const MISSING: &str = "refuse an update of what is not there";
const POLL: &str = "read it if it has changed";
const RACING_CREATES: &str = "races of 16 creates";
const RACING_UPDATES: &str = "races of 16 updates";
const LIST: &str = "list it";
const METADATA: &str = "keep metadata";
const TIME: &str = "tell the time";
const DELETE: &str = "delete it";

/// In their order.
const STEPS: [&str; 13] = [
    CREATE,
    READ,
    CREATE_AGAIN,
    UPDATE,
    STALE,
    MISSING,
    POLL,
    RACING_CREATES,
    RACING_UPDATES,
    LIST,
    METADATA,
    TIME,
    DELETE,
];
