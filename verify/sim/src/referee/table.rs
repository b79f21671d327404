//! The fenced table: every row that was acknowledged is there, once, and no holder writes over what
//! a later one has claimed.

use std::collections::BTreeSet;

use bytes::Bytes;
use leaselock::ErrorKind;
use object_store::{Attribute, Attributes};

use super::Referee;
use crate::clock::Time;
use crate::world::World;

type Row = u64;

/// The table, as the store has it and as users were told.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Row>,
    token: u64,
    /// The largest token whose holder was told that it has claimed the table.
    relied_on: u64,
    acknowledged: BTreeSet<Row>,
    refused: BTreeSet<Row>,
    given: Row,
}

impl Referee {
    /// A row that nobody has written.
    pub(crate) fn new_row(&mut self) -> Row {
        self.table.given += 1;
        self.table.given
    }

    /// A write of the table has landed.
    pub(crate) fn table_written(
        &mut self,
        now: Time,
        process: usize,
        body: &Bytes,
        attributes: &Attributes,
    ) {
        let token = attributes.get(&Attribute::Metadata("leaselocktoken".into()));
        let token = token.and_then(|token| token.parse::<u64>().ok());
        let (Some(token), Some(rows)) = (token, rows(body)) else {
            return self.violate(now, "the table is readable", || format!("p{process}: {body:?}"));
        };
        let (before, relied_on) = (self.table.token, self.table.relied_on);
        if token < before {
            self.violate(now, "an object's token never decreases", || {
                format!("p{process} wrote {token} over {before}")
            });
        }
        if rows != self.table.rows && token < relied_on {
            self.violate(now, "no holder writes over a later one's claim", || {
                format!("p{process} wrote with {token} after {relied_on} had claimed")
            });
        }
        (self.table.token, self.table.rows) = (token, rows);
        self.check_table(now);
    }

    /// A holder was told that it has claimed the table.
    pub(crate) fn table_claimed(&mut self, token: u64) {
        self.counts.add("claims");
        self.table.relied_on = self.table.relied_on.max(token);
    }

    /// The holder of `token` was told that its row is in the table.
    pub(crate) fn row_acknowledged(&mut self, now: Time, token: u64, row: Row) {
        self.counts.add("rows acknowledged");
        if self.table.token > token {
            self.counts.add("rows superseded before they were heard of");
        }
        self.table.acknowledged.insert(row);
        self.check_table(now);
    }

    fn check_table(&mut self, now: Time) {
        let table = &self.table;
        let there: BTreeSet<_> = table.rows.iter().copied().collect();
        let lost = table.acknowledged.difference(&there).next().copied();
        let back = table.refused.intersection(&there).next().copied();
        let twice = there.len() < table.rows.len();
        if let Some(row) = lost {
            self.violate(now, "every acknowledged row is there", || format!("row {row} is not"));
        }
        if let Some(row) = back {
            self.violate(now, "what was refused is not there", || format!("row {row} is"));
        }
        if twice {
            let rows = self.table.rows.clone();
            self.violate(now, "no row is there twice", || format!("{rows:?}"));
        }
    }
}

impl World {
    /// A holder was told that its row is not in the table, or that this is not known.
    pub(crate) fn row_not_written(&mut self, token: u64, row: Row, kind: ErrorKind) {
        match kind {
            ErrorKind::Unconfirmed => return self.count("rows unconfirmed"),
            ErrorKind::Fenced { by_token } => {
                self.count("rows fenced out");
                self.judge_fence(token, by_token.get());
            }
            _ => self.count("rows refused otherwise"),
        }
        let now = self.now;
        self.referee.table.refused.insert(row);
        self.referee.check_table(now);
    }

    /// A holder was told that it has not claimed the table.
    pub(crate) fn table_not_claimed(&mut self, token: u64, kind: ErrorKind) {
        if let ErrorKind::Fenced { by_token } = kind {
            self.count("claims that were fenced out");
            self.judge_fence(token, by_token.get());
        }
    }

    fn judge_fence(&mut self, token: u64, by: u64) {
        let highest = self.referee.table.token;
        if by <= token || by > highest {
            self.violate("only a later holder fences out", || {
                format!("{token} was refused for {by}, where {highest} is")
            });
        }
    }
}

/// The rows in the table; `None` if it is not a table.
fn rows(content: &Bytes) -> Option<Vec<Row>> {
    let text = std::str::from_utf8(content).ok()?;
    text.split_whitespace().map(|row| row.parse().ok()).collect()
}
