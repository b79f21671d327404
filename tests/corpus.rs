//! What fuzzing has found interesting, run through the checks of the fuzz targets.

use std::fs;
use std::path::Path;

#[allow(unreachable_pub, reason = "the fuzz targets' own library")]
#[path = "../fuzz/src/lib.rs"]
mod checks;

/// Runs a check on every input of its corpus.
fn replay(target: &str, check: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(&corpus).expect("there is a corpus") {
        let path = entry.expect("is readable").path();
        eprintln!("{}", path.display());
        check(&fs::read(&path).expect("is readable"));
        inputs += 1;
    }
    assert!(inputs >= 10, "only {inputs} inputs for {target}");
}

#[test]
fn record_decode() {
    replay("record_decode", checks::record_decode);
}

#[test]
fn store_url() {
    replay("store_url", checks::store_url);
}

#[test]
fn lock_name() {
    replay("lock_name", checks::lock_name);
}

#[test]
fn http_date() {
    replay("http_date", checks::http_date);
}
