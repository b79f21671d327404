//! What is wrong in a file or a variable, and where.

use super::{Home, settings};
use crate::tool::{assert_code, finish, stderr};

#[test]
fn a_wrong_file_is_78_with_its_line_and_nothing_is_written() {
    let home = Home::new();
    for (text, said) in [
        ("\ntll = '5s'", ["leaselock.toml:2: there is no key \"tll\"", "did you mean ttl?"]),
        ("store_options = {}", [":1: there is no key", "did you mean store-options?"]),
        ("kill_grace = '1s'", [":1: there is no key", "did you mean kill-grace?"]),
        ("zzz = 1", [":1: there is no key", "keys are store, store-options, no-check, ttl"]),
        ("\n\naws_region = 'r'", [":3: there is no key", "the table store-options"]),
        ("[profiles.ci]", [":1: there is no key", "did you mean profile?"]),
        ("[profile.ci]\n\nprofile = 1", [":3: there is no key", "keys are store"]),
        ("[profile.ci]\nwiat = '1s'", [":2: there is no key", "did you mean wait?"]),
        ("ttl = 30", [":1: ttl is a duration in quotes, such as \"30s\"", "here is a number"]),
        ("ttl = '30'", [":1: ttl = \"30\"", "such as 30s"]),
        ("ttl = '999ms'", [":1: ttl = \"999ms\"", "1s to 24h"]),
        ("wait = 'soon'", [":1: wait = \"soon\"", "such as 30s"]),
        ("no-check = 'yes'", [":1: no-check is true or false", "here is a text"]),
        ("store = ''", [":1: store is a URL or a list", "nothing between the quotes"]),
        ("store = []", [":1: store is a URL or a list", "an empty list"]),
        ("store = [\n'file:///a',\n1]", [":3: a store is a URL", "a number"]),
        ("on-lost = 'trem'", [":1: on-lost = \"trem\"", "term, kill, warn"]),
        ("owner = true", [":1: owner is a text", "true or false"]),
        ("store-options = 'a=b'", [":1: store-options is a table", "a text"]),
        ("store-options.a = 1.5", [":1: a is a text", "a number"]),
        ("profile = 'ci'", [":1: a table for each profile", "a text"]),
        ("profile.ci = 'ci'", [":1: a table for each profile", "a text"]),
        ("ttl = '1s'\nttl = '2s'", [":2: this is not TOML", "duplicate key"]),
        ("a\n", [":1: this is not TOML", "toml.io"]),
    ] {
        home.write(text);
        let store = home.store();
        let output = home.output(&["run", "--store", &store, "etl", "--", "touch", "ran"]);
        assert_code(&output, 78);
        let told = stderr(&output);
        assert!(said.iter().all(|said| told.contains(said)), "{text}: {told}");
    }
    assert!(!home.path().join("locks").exists(), "nothing is written to any store");
    assert!(!home.project().join("ran").exists());
}

#[test]
fn a_wrong_variable_is_78_and_named() {
    let home = Home::new();
    for (variable, value, said) in [
        ("LEASELOCK_TTL", "30", "such as 30s"),
        ("LEASELOCK_TTL", "25h", "1s to 24h"),
        ("LEASELOCK_WAIT", "soon", "such as 30s"),
        ("LEASELOCK_ON_LOST", "trem", "term, kill, warn"),
        ("LEASELOCK_NO_CHECK", "maybe", "true or false"),
        ("LEASELOCK_STORE_OPTIONS", "aws_region", "KEY=VALUE"),
    ] {
        let output = finish(home.leaselock(&["ls"]).env(variable, value));
        assert_code(&output, 78);
        let told = stderr(&output);
        assert!(told.contains(variable) && told.contains(said), "{told}");
        assert!(told.contains("hint:"), "{told}");
    }
}

#[test]
fn an_unknown_profile_is_78_and_those_there_are_are_listed() {
    let home = Home::new();
    let unknown = |arguments: &[&str]| {
        let output = home.output(arguments);
        assert_code(&output, 78);
        stderr(&output)
    };
    let told = unknown(&["--profile", "ci", "ls"]);
    assert!(told.contains("no profile \"ci\" (--profile)"), "{told}");
    assert!(told.contains("there is no leaselock.toml"), "{told}");
    home.write("ttl = '5s'");
    assert!(unknown(&["--profile", "ci", "ls"]).contains("has no profiles"));
    home.write("[profile.ci]\n[profile.staging]");
    home.write_for_user("[profile.laptop]\nttl = '7s'");
    let told = unknown(&["--profile", "stagin", "ls"]);
    assert!(told.contains("did you mean staging?"), "{told}");
    assert!(told.contains("ci, laptop, staging"), "{told}");
    assert!(unknown(&["--profile", "x", "ls"]).contains("ci, laptop, staging"));
    assert!(unknown(&["--profile", "ci", "--config", "", "ls"]).contains("no file is read"));
    // It need not be in all files, and the option comes before the variable.
    let told = settings(home.leaselock(&["--profile", "laptop"]).env("LEASELOCK_PROFILE", "x"));
    assert_eq!(told["settings"]["ttl"]["value"], "7s");
}

#[test]
fn what_needs_no_configuration_reads_none() {
    let home = Home::new();
    home.write("nonsense");
    assert_code(&home.output(&["ls"]), 78);
    for arguments in [&["man", "run"][..], &["completions", "bash"], &["cost", "--hold", "1h"]] {
        assert_code(&home.output(arguments), 0);
    }
    assert_code(&home.output(&["ls", "--help"]), 0);
}

#[test]
fn a_wrong_store_is_told_with_where_it_was_set() {
    let home = Home::new();
    home.write("ttl = '5s'\nstore = 's4://b'");
    let output = home.output(&["ls"]);
    assert_code(&output, 64);
    let told = stderr(&output);
    assert!(told.contains("the store is set by leaselock.toml:2"), "{told}");
    let output = home.output(&["ls", "--store", "s4://c"]);
    assert!(!stderr(&output).contains("leaselock.toml"), "{}", stderr(&output));
}
