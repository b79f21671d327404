//! The report, made from the results alone.

mod chart;
mod prose;
mod sections;
mod table;
mod view;

use std::path::Path;

use anyhow::Result;

use crate::results::Results;
use view::View;

/// Writes `BENCHMARKS.md` and the charts below `directory`.
pub fn write(results: &Results, directory: &Path) -> Result<()> {
    let charts = directory.join("benchmarks");
    std::fs::create_dir_all(&charts)?;
    let view = View { results };
    let mut text = prose::beginning(results);
    for section in sections::ALL {
        text.push_str(&section(&view, &charts)?);
    }
    text.push_str(&prose::end(results));
    Ok(std::fs::write(directory.join("BENCHMARKS.md"), text)?)
}
