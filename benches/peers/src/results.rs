//! What was measured, as it is kept in a file: the report is made from nothing else.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

/// Figures by name; the name ends with the unit.
pub type Figures = BTreeMap<String, f64>;

/// One run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Results {
    pub about: About,
    pub measurements: Vec<Measurement>,
    pub failures: Vec<Failure>,
}

/// Where and how it was measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct About {
    pub date: String,
    pub commit: String,
    pub quick: bool,
    pub seconds: u64,
    pub processor: String,
    pub cores: usize,
    pub memory: String,
    pub kernel: String,
    pub system: String,
    /// The load averages before it began.
    #[serde(default)]
    pub load: String,
    /// Of servers and of what they run on.
    pub versions: BTreeMap<String, String>,
}

/// What one contestant did in one round of one case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measurement {
    pub scenario: String,
    pub case: String,
    pub contestant: String,
    pub round: usize,
    pub figures: Figures,
    /// Single values, in milliseconds, of which there are too few in a round to say anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<f64>,
}

/// A contestant that did not get through a case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    pub scenario: String,
    pub case: String,
    pub contestant: String,
    pub why: String,
}

impl Results {
    pub fn read(path: &Path) -> Result<Self> {
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }

    /// One line for each measurement, so that two runs can be compared line by line.
    pub fn write(&self, path: &Path) -> Result<()> {
        let lines = |items: Vec<String>| {
            if items.is_empty() { "[]".to_owned() } else { format!("[\n{}\n]", items.join(",\n")) }
        };
        let measurements =
            self.measurements.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
        let failures =
            self.failures.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
        let text = format!(
            "{{\"about\": {},\n\"measurements\": {},\n\"failures\": {}}}\n",
            serde_json::to_string(&self.about)?,
            lines(measurements),
            lines(failures)
        );
        Ok(std::fs::write(path, text)?)
    }
}
