//! The values that a holder leaves in the record for others to read.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};

/// A JSON value of up to 16 KiB that a holder sets when it acquires or renews and that anybody
/// reads with [`inspect`](crate::Lock::inspect). It stays after release until it is overwritten.
///
/// Also the result of work that is run [once](crate::Once), up to 64 KiB.
#[derive(Clone, PartialEq)]
pub struct Payload(pub(super) serde_json::Value);

impl Payload {
    /// Largest payload, in bytes of compact JSON.
    pub const MAX_BYTES: usize = 16 * 1024;
    /// Largest result of work that is run once, in bytes of compact JSON.
    pub const MAX_RESULT_BYTES: usize = 64 * 1024;

    /// The payload written as JSON in `text`.
    ///
    /// # Errors
    /// [`InvalidOptions`](ErrorKind::InvalidOptions) when it is not JSON, or too large.
    pub fn from_json_str(text: &str) -> Result<Self> {
        Self::checked(serde_json::from_str(text), PAYLOAD)
    }

    /// `value` as a payload.
    ///
    /// # Errors
    /// [`InvalidOptions`](ErrorKind::InvalidOptions) when it has no JSON form, or is too large.
    pub fn from_serialize(value: &impl Serialize) -> Result<Self> {
        Self::checked(serde_json::to_value(value), PAYLOAD)
    }

    /// `value` as the result of work that is run once.
    pub(crate) fn result_of(value: &impl Serialize) -> Result<Self> {
        Self::checked(serde_json::to_value(value), RESULT)
    }

    fn checked(value: serde_json::Result<serde_json::Value>, place: Place) -> Result<Self> {
        let Place { what, most, opening, closing } = place;
        let invalid = |message: String| Error::new(ErrorKind::InvalidOptions, message);
        let payload = Self(
            value.map_err(|error| invalid(format!("the {what} is not JSON")).caused_by(error))?,
        );
        let text = payload.to_json();
        // As deep as it will lie in the record: what no reader could parse must not be written.
        let nested = format!("{opening}{text}{closing}");
        if serde_json::from_str::<serde_json::Value>(&nested).is_err() {
            return Err(invalid(format!("the {what} is nested too deeply")));
        }
        let size = text.len();
        if size > most {
            return Err(invalid(format!("a {what} of {size} bytes is over the {most} allowed")));
        }
        Ok(payload)
    }

    /// The payload as compact JSON.
    pub fn to_json(&self) -> String {
        self.0.to_string()
    }

    /// The payload as a `T`.
    ///
    /// # Errors
    /// [`InvalidOptions`](ErrorKind::InvalidOptions) when it has another shape.
    pub fn deserialize<T: DeserializeOwned>(&self) -> Result<T> {
        T::deserialize(&self.0).map_err(|error| {
            Error::new(ErrorKind::InvalidOptions, "the payload has another shape").caused_by(error)
        })
    }
}

/// Where in the record a value will lie.
#[derive(Clone, Copy)]
struct Place {
    what: &'static str,
    most: usize,
    opening: &'static str,
    closing: &'static str,
}

const PAYLOAD: Place =
    Place { what: "payload", most: Payload::MAX_BYTES, opening: "[", closing: "]" };
const RESULT: Place =
    Place { what: "result", most: Payload::MAX_RESULT_BYTES, opening: "[[", closing: "]]" };

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Payload {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}
