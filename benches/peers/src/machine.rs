//! Where it was measured.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;

use crate::results::About;

/// `benches/run` tells what it knows and a program does not in these variables.
const VERSION_PREFIX: &str = "PEERS_VERSION_";

pub fn about(quick: bool, took: Duration, load: &str) -> Result<About> {
    let told = |name: &str| std::env::var(name).unwrap_or_else(|_| "unknown".to_owned());
    let versions: BTreeMap<String, String> = std::env::vars()
        .filter_map(|(name, value)| {
            let name = name.strip_prefix(VERSION_PREFIX)?;
            Some((name.to_lowercase().replace('_', " "), value))
        })
        .collect();
    let kernel = rustix::system::uname();
    Ok(About {
        date: told("PEERS_DATE"),
        commit: told("PEERS_COMMIT"),
        quick,
        seconds: took.as_secs(),
        processor: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
        cores: std::thread::available_parallelism()?.get(),
        memory: field("/proc/meminfo", "MemTotal").map_or_else(|| "unknown".to_owned(), gibibytes),
        kernel: format!(
            "{} {}",
            kernel.sysname().to_string_lossy(),
            kernel.release().to_string_lossy()
        ),
        system: field("/etc/os-release", "PRETTY_NAME").unwrap_or_else(|| "unknown".to_owned()),
        load: load.to_owned(),
        versions,
    })
}

/// How busy the machine is, by its averages over 1, 5 and 15 minutes.
pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(", ")
}

/// What a file of lines says of `name`.
fn field(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    let (_, value) = line.split_once([':', '='])?;
    Some(value.trim().trim_matches('"').to_owned())
}

fn gibibytes(kibibytes: String) -> String {
    let number = kibibytes.split_whitespace().next().and_then(|number| number.parse::<f64>().ok());
    number.map_or(kibibytes, |number| format!("{:.1} GiB", number / 1024.0 / 1024.0))
}
