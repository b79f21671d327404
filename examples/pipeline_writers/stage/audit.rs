//! Does it add up? A reader compares the table with what was acknowledged.

use std::collections::BTreeMap;
use std::fs;

use futures::{StreamExt, TryStreamExt};
use leaselock::fencing::Objects;

use super::director::Place;
use crate::table::{Entry, Layout, Manifest, Row, decode};
use crate::writer::Error;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Audit {
    /// By writer: batches and rows.
    pub(crate) acknowledged: Vec<(u64, u64)>,
    pub(crate) files: usize,
    pub(crate) rows: u64,
    /// Rows of batches that nobody acknowledged, of killed writers mostly. They may be there.
    pub(crate) unacknowledged: u64,
    /// Acknowledged rows that are not there.
    pub(crate) missing: u64,
    /// Rows that are there once too often.
    pub(crate) duplicated: u64,
    /// Rows that are not what was written.
    pub(crate) damaged: u64,
    /// Files in the manifest that are not there, or not readable.
    pub(crate) lost_files: Vec<String>,
}

impl Audit {
    pub(crate) async fn of(
        place: &Place,
        objects: &Objects,
        writers: usize,
    ) -> Result<Self, Error> {
        let logs: Result<Vec<_>, Error> =
            (0..writers).map(|writer| acknowledged(place, writer)).collect();
        let logs = logs?;
        let manifest = objects.read(place.layout.manifest()).await?;
        let manifest =
            Manifest::parse(manifest.map(leaselock::fencing::Object::into_bytes).as_ref())?;
        let mut files: Vec<_> = futures::stream::iter(manifest.files)
            .map(|entry| rows(&place.layout, objects, entry))
            .buffered(8)
            .try_collect()
            .await?;
        Ok(Self::compare(&logs, &mut files))
    }

    fn compare(logs: &[BTreeMap<String, u64>], files: &mut [(Entry, Option<Vec<Row>>)]) -> Self {
        let mut audit = Self { files: files.len(), ..Self::default() };
        let mut found: BTreeMap<Row, u64> = BTreeMap::new();
        for (entry, rows) in files {
            let Some(rows) = rows.take() else {
                audit.lost_files.push(entry.batch.clone());
                continue;
            };
            audit.damaged += entry.rows.abs_diff(rows.len() as u64);
            for row in rows {
                audit.damaged += u64::from(!row.is_whole() || row.batch != entry.batch);
                audit.rows += 1;
                *found.entry(row).or_default() += 1;
            }
        }
        audit.duplicated = found.values().map(|times| times - 1).sum();
        let mut present: BTreeMap<&str, u64> = BTreeMap::new();
        for row in found.keys() {
            *present.entry(&row.batch).or_default() += 1;
        }
        let mut promised = 0;
        for log in logs {
            audit.acknowledged.push((log.len() as u64, log.values().sum()));
            for (batch, rows) in log {
                let there = present.get(batch.as_str()).copied().unwrap_or(0);
                audit.missing += rows.saturating_sub(there);
                promised += there;
            }
        }
        audit.unacknowledged = found.len() as u64 - promised;
        audit
    }

    /// What does not add up.
    pub(crate) fn faults(&self) -> Vec<String> {
        let counts = [
            (self.missing, "rows were acknowledged and are not there"),
            (self.duplicated, "rows are there more than once"),
            (self.damaged, "rows are not what was written"),
            (self.lost_files.len() as u64, "files are in the manifest and not on the store"),
        ];
        let wrong = counts.into_iter().filter(|(count, _)| *count > 0);
        wrong.map(|(count, what)| format!("{count} {what}")).collect()
    }
}

/// The batches that a writer acknowledged, with their numbers of rows.
fn acknowledged(place: &Place, writer: usize) -> Result<BTreeMap<String, u64>, Error> {
    let text = match fs::read_to_string(place.acknowledged(writer)) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error.into()),
    };
    let line = |line: &str| {
        let (batch, rows) = line.split_once(' ').ok_or("a damaged log of what was acknowledged")?;
        Ok((batch.to_owned(), rows.parse()?))
    };
    text.lines().map(line).collect()
}

async fn rows(
    layout: &Layout,
    objects: &Objects,
    entry: Entry,
) -> Result<(Entry, Option<Vec<Row>>), Error> {
    let found = objects.read(layout.file(&entry.batch)).await?;
    let rows = found.and_then(|file| decode(file.into_bytes()).ok());
    Ok((entry, rows))
}
