//! Which files are read, and whose are believed.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::process::Command;

use nix::unistd::geteuid;

use super::{Home, settings, write};
use crate::tool::{assert_code, finish, stderr, without_configuration};

fn below(home: &Home, directory: &str) -> Command {
    let directory = home.project().join(directory);
    fs::create_dir_all(&directory).unwrap();
    let mut command = home.leaselock(&[]);
    command.current_dir(directory);
    command
}

/// The project's TTL, by which the files are told apart.
fn ttl(command: &mut Command) -> String {
    settings(command)["settings"]["ttl"]["value"].as_str().unwrap().to_owned()
}

#[test]
fn the_nearest_file_above_counts_as_far_as_the_home_or_a_repository() {
    let home = Home::new();
    assert_eq!(ttl(&mut below(&home, "a/b")), "30s");
    write(&home.path().join("leaselock.toml"), "ttl = '11s'");
    assert_eq!(ttl(&mut below(&home, "a/b")), "11s", "the home is the last one");
    home.write("ttl = '12s'");
    assert_eq!(ttl(&mut below(&home, "a/b")), "12s");
    write(&home.project().join("a/leaselock.toml"), "ttl = '13s'");
    assert_eq!(ttl(&mut below(&home, "a/b")), "13s");
    fs::create_dir_all(home.project().join("c/d/.git")).unwrap();
    assert_eq!(ttl(&mut below(&home, "c/d/e")), "30s", "a repository ends at its root");
    write(&home.project().join("c/d/leaselock.toml"), "ttl = '14s'");
    assert_eq!(ttl(&mut below(&home, "c/d/e")), "14s", "which belongs to it");
    // A file's end of `.git` is a worktree's.
    write(&home.project().join("w/.git"), "gitdir: elsewhere");
    assert_eq!(ttl(&mut below(&home, "w")), "30s");
    let mut stranger = below(&home, "a/b");
    stranger.env("HOME", home.project().join("a"));
    fs::remove_file(home.project().join("a/leaselock.toml")).unwrap();
    assert_eq!(ttl(&mut stranger), "30s", "nothing above the home");
}

#[test]
fn the_users_file_is_where_the_platform_has_it() {
    let home = Home::new();
    let file = home.write_for_user("ttl = '11s'");
    assert_eq!(ttl(&mut below(&home, "a")), "11s");
    let told = settings(&mut home.leaselock(&[]));
    assert_eq!(told["files"], serde_json::json!([{ "path": file, "place": "user" }]));
    let elsewhere = home.path().join("elsewhere");
    write(&elsewhere.join("leaselock/leaselock.toml"), "ttl = '12s'");
    assert_eq!(ttl(below(&home, "a").env("XDG_CONFIG_HOME", elsewhere)), "12s");
}

#[test]
fn a_named_file_is_read_alone_and_an_empty_name_reads_none() {
    let home = Home::new();
    home.write("ttl = '11s'\nowner = 'project'");
    home.write_for_user("owner = 'user'");
    let named = write(&home.path().join("named.toml"), "ttl = '12s'");
    let named = named.to_str().unwrap();
    let told = settings(&mut home.leaselock(&["--config", named]));
    assert_eq!(told["settings"]["ttl"]["value"], "12s");
    assert_eq!(told["settings"]["owner"]["origin"]["from"], "default");
    assert_eq!(told["files"], serde_json::json!([{ "path": named, "place": "named" }]));
    assert_eq!(ttl(home.leaselock(&[]).env("LEASELOCK_CONFIG", "../named.toml")), "12s");
    assert_eq!(ttl(home.leaselock(&["--config", ""]).env("LEASELOCK_CONFIG", named)), "30s");
    assert_eq!(ttl(home.leaselock(&[]).env("LEASELOCK_CONFIG", "")), "30s");
    let output = home.output(&["--config", "absent.toml", "ls"]);
    assert_code(&output, 78);
    assert!(stderr(&output).contains("absent.toml cannot be read"), "{}", stderr(&output));
}

#[test]
fn what_is_there_and_cannot_be_read_is_78() {
    let home = Home::new();
    let file = home.project().join("leaselock.toml");
    let refused_to = |command: &mut Command, said: &str| {
        let output = finish(command.arg("ls"));
        assert_code(&output, 78);
        let told = stderr(&output);
        assert!(told.contains("leaselock.toml") && told.contains(said), "{told}");
        assert!(told.contains("hint:"), "{told}");
    };
    let refused = |said: &str| refused_to(&mut home.leaselock(&[]), said);
    fs::create_dir(&file).unwrap();
    refused("it is not a file");
    fs::remove_dir(&file).unwrap();
    nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
    refused("it is not a file");
    fs::remove_file(&file).unwrap();
    symlink("nowhere", &file).unwrap();
    refused("No such file");
    fs::remove_file(&file).unwrap();
    fs::write(&file, b"owner = '\xff'").unwrap();
    refused("UTF-8");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    if !geteuid().is_root() {
        return refused("Permission denied");
    }
    // Whom nothing is forbidden: as somebody else then, who has to reach the program.
    let program = home.path().join("program");
    fs::copy(env!("CARGO_BIN_EXE_leaselock"), &program).unwrap();
    for path in [home.path(), home.project(), file] {
        chown(path, Some(65534), None).unwrap();
    }
    let mut other = Command::new("setpriv");
    other.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
    without_configuration(&mut other);
    other.env("HOME", home.path()).env_remove("LEASELOCK_CONFIG").env_remove("XDG_CONFIG_HOME");
    refused_to(other.current_dir(home.project()), "Permission denied");
}

#[track_caller]
fn assert_not_believed(mut command: Command, fault: &str) {
    let output = finish(command.args(["run", "etl", "--", "touch", "ran"]));
    assert_code(&output, 78);
    let told = stderr(&output);
    assert!(told.contains("is not read") && told.contains(fault), "{told}");
    assert!(told.contains("--config leaselock.toml if you trust it"), "{told}");
}

#[test]
fn a_file_that_anybody_may_write_to_is_refused_and_can_be_named() {
    let home = Home::new();
    let file = home.write(&format!("ttl = '11s'\nstore = {:?}", home.store()));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o664)).unwrap();
    assert_eq!(ttl(&mut home.leaselock(&[])), "11s", "a group shares the project");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    assert_not_believed(home.leaselock(&[]), "anybody may write to it");
    assert_eq!(ttl(&mut home.leaselock(&["--config", "leaselock.toml"])), "11s");
    assert_eq!(ttl(&mut home.leaselock(&["--config", ""])), "30s");
    let user = home.write_for_user("");
    fs::remove_file(&file).unwrap();
    fs::set_permissions(&user, fs::Permissions::from_mode(0o602)).unwrap();
    assert_code(&home.output(&["ls"]), 78);
    assert!(!home.path().join("locks").exists(), "nothing was written");
}

#[test]
fn a_file_or_a_link_of_somebody_else_is_refused() {
    if !geteuid().is_root() {
        eprintln!("not tested: only root can give files away");
        return;
    }
    let home = Home::new();
    let file = home.write("ttl = '11s'");
    chown(&file, Some(65534), None).unwrap();
    assert_not_believed(home.leaselock(&[]), "it belongs to another user (uid 65534)");
    // As `sudo` has it.
    assert_eq!(ttl(home.leaselock(&[]).env("SUDO_UID", "65534")), "11s");
    assert_eq!(ttl(&mut home.leaselock(&["--config", "leaselock.toml"])), "11s");
    let own = home.path().join("own.toml");
    fs::rename(&file, &own).unwrap();
    chown(&own, Some(0), None).unwrap();
    symlink(Path::new("../own.toml"), &file).unwrap();
    assert_eq!(ttl(&mut home.leaselock(&[])), "11s", "a link of one's own");
    lchown(&file, Some(65534), None).unwrap();
    assert_not_believed(home.leaselock(&[]), "it belongs to another user");
}

#[test]
fn of_secrets_that_others_may_read_it_is_warned() {
    let home = Home::new();
    for (text, has_secrets) in [
        ("store-options.aws_secret_access_key = 's'", true),
        ("store-options.azure_storage_account_key = 's'", true),
        ("store-options.google_service_account_key = 's'", true),
        ("[profile.ci.store-options]\naws_session_token = 's'", true),
        ("store = 's3://b?aws_secret_access_key=s'", true),
        ("store-options = { aws_region = 'r', aws_access_key_id = 'i' }", false),
    ] {
        let file = home.write(text);
        for (mode, is_open) in [(0o600, false), (0o640, true), (0o644, true)] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let output = home.output(&["config"]);
            assert_code(&output, 0);
            let told = stderr(&output);
            let warned = told.contains("has secrets in it") && told.contains("chmod 600 ");
            assert_eq!(warned, has_secrets && is_open, "{text}, {mode:o}: {told}");
            assert_eq!(stderr(&home.output(&["--quiet", "config"])), "");
        }
    }
}
