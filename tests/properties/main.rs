//! Properties that must hold for every record, every evidence and every pair of clocks.
//!
//! Failing cases are kept in `*.regressions` beside the file of the property, and tried first.

#[allow(dead_code, unreachable_pub, reason = "the fuzz targets' own library")]
#[path = "../../fuzz/src/lib.rs"]
mod checks;
mod decisions;
mod made;
mod quorum;
mod record;
mod timing;

use proptest::test_runner::{Config, FileFailurePersistence};

fn cases(cases: u32) -> Config {
    let beside = FileFailurePersistence::WithSource("regressions");
    Config { cases, failure_persistence: Some(Box::new(beside)), ..Config::default() }
}
