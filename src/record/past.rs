//! What is past: a tenure, shared by all records that remember it.

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use serde_json::value::RawValue;

use super::Tenure;

/// A tenure that has ended. It never changes, so records share it, and it is written as JSON once: a lock
/// that comes and goes would spend most of its time with what is past otherwise.
#[derive(Clone)]
pub struct Past(Arc<Inner>);

struct Inner {
    tenure: Tenure,
    json: OnceLock<Box<RawValue>>,
}

impl Past {
    /// As JSON, which `write` makes the first time.
    ///
    /// # Errors
    /// Those of `write`.
    pub(super) fn json(
        &self,
        write: impl FnOnce(&Tenure) -> serde_json::Result<Box<RawValue>>,
    ) -> serde_json::Result<&RawValue> {
        match self.0.json.get() {
            Some(json) => Ok(json),
            None => {
                let json = write(&self.0.tenure)?;
                Ok(self.0.json.get_or_init(|| json))
            }
        }
    }
}

impl From<Tenure> for Past {
    fn from(tenure: Tenure) -> Self {
        Self(Arc::new(Inner { tenure, json: OnceLock::new() }))
    }
}

impl Deref for Past {
    type Target = Tenure;

    fn deref(&self) -> &Tenure {
        &self.0.tenure
    }
}

impl PartialEq for Past {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl fmt::Debug for Past {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
