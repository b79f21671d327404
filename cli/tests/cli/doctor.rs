//! `doctor`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use leaselock_test_support::emulators::{Backend, TestUrl, require};
use leaselock_test_support::proxy::Fault;
use serde_json::Value;

use crate::tool::{Place, assert_code, finish, leaselock, stderr, stdout, without_configuration};

#[test]
fn a_fit_store_is_0_with_every_step_ticked() {
    let place = Place::new();
    let output = place.output(&["doctor"]);
    assert_code(&output, 0);
    let text = stdout(&output);
    assert_eq!(text.lines().filter(|line| line.starts_with('✓')).count(), 13, "{text}");
    assert!(text.ends_with("it can hold locks\n"), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours where nobody looks");
    // The directory's own file, by which processes exclude each other while they write.
    let own = |path: &PathBuf| path.ends_with(".leaselock-dir.lock");
    assert!(place.stored().iter().all(own), "{:?}", place.stored());
    let output = place.output(&["doctor", "--json"]);
    assert_code(&output, 0);
    let told: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(told["fit"], true);
    assert_eq!(told["findings"].as_array().unwrap().len(), 13);
    assert_eq!(told["findings"][0]["verdict"], "passed");
}

fn emulator() -> Option<TestUrl> {
    require(Backend::Ministack)?;
    Backend::Ministack.fresh_url()
}

/// What it exits with, and what it says, behind a proxy that does this to every request.
fn behind(fault: Fault) -> Option<(i32, String, String)> {
    let (proxy, url) = emulator()?.proxied();
    proxy.plan(move |_| fault.clone());
    let place = Place::new();
    let output = finish(leaselock(&url, place.files()).arg("doctor"));
    Some((output.status.code().unwrap(), stdout(&output), stderr(&output)))
}

#[test]
fn a_proxy_that_strips_conditions_is_78_and_the_consequence_is_said() {
    let Some((code, text, said)) = behind(Fault::StripPreconditions) else { return };
    assert_eq!(code, 78, "{text}{said}");
    assert!(text.contains("✗ refuse to create it again"), "{text}");
    assert!(text.contains("two holders of one lock at once"), "{text}");
    assert!(said.contains("hint:"), "{said}");
}

#[test]
fn denied_access_is_77_and_no_answer_69() {
    for (status, expected) in [(403, 77), (503, 69)] {
        let Some((code, text, said)) = behind(Fault::Status(status)) else { return };
        assert_eq!(code, expected, "{text}{said}");
        assert!(text.contains("12 more steps were not tried"), "{text}");
    }
}

#[test]
fn an_absent_bucket_is_78_and_an_unreachable_host_69() {
    let Some(url) = emulator() else { return };
    let place = Place::new();
    let absent = url.as_str().replacen("s3://", "s3://absent-", 1);
    let output = finish(leaselock(&absent, place.files()).arg("doctor"));
    assert_code(&output, 78);
    assert!(stderr(&output).contains("hint: create it"), "{}", stderr(&output));
    let nowhere = "s3://b?aws_endpoint=http://127.0.0.1:9&aws_allow_http=true&aws_region=r\
                   &aws_access_key_id=a&aws_secret_access_key=secret";
    let output = finish(leaselock(nowhere, place.files()).arg("doctor"));
    assert_code(&output, 69);
    assert!(!stderr(&output).contains("secret"), "{}", stderr(&output));
}

#[test]
fn a_directory_that_may_not_be_written_is_77() {
    let place = Place::new();
    let directory = place.file("read-only");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o555)).unwrap();
    let url = format!("file://{}", directory.display());
    let mut doctor = if nix::unistd::geteuid().is_root() {
        // Whom nothing is forbidden: as somebody else then, who has to reach the program.
        let program = place.file("leaselock");
        fs::copy(env!("CARGO_BIN_EXE_leaselock"), &program).unwrap();
        fs::set_permissions(place.files(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut other = Command::new("setpriv");
        other.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
        without_configuration(&mut other);
        other.env("LEASELOCK_STORE", &url);
        other
    } else {
        leaselock(&url, place.files())
    };
    let output = finish(doctor.arg("doctor"));
    assert_code(&output, 77);
    assert!(stdout(&output).contains("✗ create an object"), "{}", stdout(&output));
}
