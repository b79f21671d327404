//! The objects of the store, and what it answers.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use leaselock::clock::Wall;
use object_store::path::Path;
use object_store::{Attributes, Error, ObjectMeta, PutMode};

use crate::Sabotage;
use crate::clock::{Dial, Time};
use crate::faults::Failure;
use crate::plan::{Plan, StorePlan};

/// What is asked of the store.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Put { key: Path, body: Bytes, attributes: Attributes, mode: PutMode },
    Get { key: Path, if_none_match: Option<String> },
    Delete { key: Path },
    List { prefix: String },
}

/// What the store says.
pub(crate) type Reply = Result<Answer, Error>;

/// What the store says when it did what it was asked.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Written { e_tag: String },
    Found { meta: ObjectMeta, attributes: Attributes, body: Bytes },
    Deleted,
    Listed(Vec<ObjectMeta>),
}

/// One object.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) body: Bytes,
    attributes: Attributes,
    e_tag: String,
    modified: DateTime<Utc>,
    /// When it was first made, since it was last deleted.
    pub(crate) made: Time,
}

/// All objects.
#[derive(Debug)]
pub(crate) struct Objects {
    objects: BTreeMap<String, Object>,
    writes: u64,
    plan: StorePlan,
    sabotage: Option<Sabotage>,
    clock: Dial,
}

impl Operation {
    pub(crate) fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Get { key, .. } | Self::Delete { key } => key.as_ref(),
            Self::List { prefix } => prefix,
        }
    }

    /// Whether it is about a record, or about the table.
    pub(crate) fn is_of_interest(&self) -> bool {
        let key = self.key();
        let is_record = [".lock", ".once", ".session"].into_iter().any(|kind| key.ends_with(kind));
        is_record || key == Plan::TABLE
    }
}

impl Objects {
    pub(crate) fn new(plan: StorePlan, clock: Dial, sabotage: Option<Sabotage>) -> Self {
        Self { objects: BTreeMap::new(), writes: 0, plan, sabotage, clock }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Object> {
        self.objects.get(key)
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<Object> {
        self.objects.remove(key)
    }

    /// Does what is asked. `ahead` is by how many microseconds the clock of the machine that
    /// serves it is ahead of the store's.
    pub(crate) fn serve(&mut self, operation: &Operation, now: Time, ahead: i64) -> Reply {
        match operation {
            Operation::Put { key, mode, .. } => {
                let there = self.objects.get(key.as_ref());
                self.check(there, key, mode)?;
                self.write(operation, now, ahead)
            }
            Operation::Get { key, if_none_match } => self.read(key, if_none_match.as_deref()),
            Operation::Delete { key } => {
                self.objects.remove(key.as_ref());
                Ok(Answer::Deleted)
            }
            Operation::List { prefix } => Ok(Answer::Listed(self.list(prefix))),
        }
    }

    /// Whether the condition of a write holds.
    fn check(&self, there: Option<&Object>, key: &Path, mode: &PutMode) -> Result<(), Error> {
        match mode {
            PutMode::Create if there.is_some() => Err(failure(Failure::Exists, key)),
            PutMode::Update(expected) if self.sabotage != Some(Sabotage::IgnoredIfMatch) => {
                let Some(object) = there else { return Err(absent(key)) };
                if expected.e_tag.as_ref() != Some(&object.e_tag) {
                    return Err(failure(Failure::Precondition, key));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn write(&mut self, operation: &Operation, now: Time, ahead: i64) -> Reply {
        let Operation::Put { key, body, attributes, .. } = operation else {
            unreachable!("only writes are written")
        };
        self.writes += 1;
        let e_tag = self.e_tag(body);
        let made = self.objects.get(key.as_ref()).map_or(now, |object| object.made);
        let (body, attributes, modified) =
            (body.clone(), attributes.clone(), self.stamp(now, ahead));
        let object = Object { body, attributes, e_tag: e_tag.clone(), modified, made };
        self.objects.insert(key.as_ref().to_owned(), object);
        Ok(Answer::Written { e_tag })
    }

    fn read(&self, key: &Path, if_none_match: Option<&str>) -> Reply {
        let object = self.objects.get(key.as_ref()).ok_or_else(|| absent(key))?;
        let unchanged = if_none_match == Some(&*object.e_tag);
        if unchanged && !self.plan.ignores_if_none_match {
            return Err(Error::NotModified { path: key.to_string(), source: "unchanged".into() });
        }
        let (meta, attributes) = (meta(key.clone(), object), object.attributes.clone());
        Ok(Answer::Found { meta, attributes, body: object.body.clone() })
    }

    fn list(&self, prefix: &str) -> Vec<ObjectMeta> {
        let below = |key: &String| key.starts_with(prefix);
        let found = self.objects.iter().filter(|(key, _)| below(key));
        found.map(|(key, object)| meta(Path::from(key.as_str()), object)).collect()
    }

    fn e_tag(&self, body: &Bytes) -> String {
        if self.sabotage == Some(Sabotage::ReusedEtag) {
            return format!("\"{}\"", self.writes % 3);
        }
        if !self.plan.digests {
            return format!("\"v{}\"", self.writes);
        }
        let mut digest = DefaultHasher::new();
        body.hash(&mut digest);
        format!("\"{:016x}\"", digest.finish())
    }

    fn stamp(&self, now: Time, ahead: i64) -> DateTime<Utc> {
        let micros = self.clock.wall(now).micros() + ahead;
        let step = if self.plan.whole_seconds { 1_000_000 } else { 1_000 };
        let rounded = Wall::from_micros(micros - micros.rem_euclid(step));
        DateTime::from_timestamp_micros(rounded.micros()).unwrap_or_default()
    }
}

fn meta(location: Path, object: &Object) -> ObjectMeta {
    ObjectMeta {
        location,
        last_modified: object.modified,
        size: object.body.len() as u64,
        e_tag: Some(object.e_tag.clone()),
        version: None,
    }
}

fn absent(key: &Path) -> Error {
    Error::NotFound { path: key.to_string(), source: "no such object".into() }
}

/// A failure as `object_store` reports it.
pub(crate) fn failure(failure: Failure, key: &Path) -> Error {
    let path = key.to_string();
    match failure {
        Failure::Generic => {
            Error::Generic { store: "SimStore", source: "503 or a reset connection".into() }
        }
        Failure::Exists => Error::AlreadyExists { path, source: "409".into() },
        Failure::Precondition => Error::Precondition { path, source: "412".into() },
        Failure::Denied => Error::PermissionDenied { path, source: "403".into() },
    }
}
