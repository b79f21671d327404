//! The table: immutable Parquet files, and one manifest in JSON that lists those which count.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::record::RowAccessor;
use parquet::schema::parser::parse_message_type;
use serde::{Deserialize, Serialize};

use crate::writer::Error;

const SCHEMA: &str = "message rows {
    REQUIRED BYTE_ARRAY batch (STRING);
    REQUIRED INT64 row;
    REQUIRED INT64 value;
}";

/// Where the table's objects are, counted from the store's root.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Layout {
    pub(crate) root: String,
}

impl Layout {
    pub(crate) fn manifest(&self) -> Path {
        Path::from(format!("{}/manifest.json", self.root))
    }

    pub(crate) fn file(&self, batch: &str) -> Path {
        Path::from(format!("{}/data/{batch}.parquet", self.root))
    }
}

/// The files that make up the table.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) files: Vec<Entry>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) batch: String,
    pub(crate) rows: u64,
}

impl Manifest {
    /// What is written there; an empty table where nothing is.
    pub(crate) fn parse(bytes: Option<&Bytes>) -> Result<Self, Error> {
        Ok(bytes.map(|bytes| serde_json::from_slice(bytes)).transpose()?.unwrap_or_default())
    }

    /// Adds a batch; false when it is there already.
    pub(crate) fn add(&mut self, batch: &Batch) -> bool {
        let is_new = self.files.iter().all(|file| file.batch != batch.name);
        if is_new {
            self.files.push(Entry { batch: batch.name.clone(), rows: batch.rows });
        }
        is_new
    }

    pub(crate) fn to_json(&self) -> Result<Vec<u8>, Error> {
        Ok(serde_json::to_vec(self)?)
    }
}

/// Rows that are appended together, as a Parquet file.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    /// Its own: no other batch is ever called so, by whomever.
    pub(crate) name: String,
    pub(crate) rows: u64,
    pub(crate) bytes: Bytes,
}

impl Batch {
    pub(crate) fn new(name: String, rows: u64) -> Result<Self, Error> {
        let bytes = encode(&name, rows)?.into();
        Ok(Self { name, rows, bytes })
    }
}

/// One row as it was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) batch: String,
    pub(crate) row: i64,
    pub(crate) value: i64,
}

impl Row {
    /// Whether this is what was written.
    pub(crate) fn is_whole(&self) -> bool {
        self.value == value(self.row)
    }
}

fn value(row: i64) -> i64 {
    row * row + 1
}

fn encode(batch: &str, rows: u64) -> Result<Vec<u8>, Error> {
    let numbers: Vec<i64> = (0..rows.cast_signed()).collect();
    let values: Vec<i64> = numbers.iter().copied().map(value).collect();
    let batches = vec![ByteArray::from(batch); numbers.len()];
    let schema = Arc::new(parse_message_type(SCHEMA)?);
    let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::default())?;
    let mut group = file.next_row_group()?;
    let mut column = group.next_column()?.ok_or("no column `batch`")?;
    column.typed::<ByteArrayType>().write_batch(&batches, None, None)?;
    column.close()?;
    for values in [&numbers, &values] {
        let mut column = group.next_column()?.ok_or("no column of numbers")?;
        column.typed::<Int64Type>().write_batch(values, None, None)?;
        column.close()?;
    }
    group.close()?;
    Ok(file.into_inner()?)
}

/// The rows of a data file.
pub(crate) fn decode(bytes: Bytes) -> Result<Vec<Row>, Error> {
    let file = SerializedFileReader::new(bytes)?;
    let rows = file.get_row_iter(None)?.map(|row| {
        let row = row?;
        let batch = row.get_string(0)?.clone();
        Ok(Row { batch, row: row.get_long(1)?, value: row.get_long(2)? })
    });
    rows.collect()
}
