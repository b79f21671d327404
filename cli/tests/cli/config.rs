//! Options, variables, `leaselock.toml`, profiles; `leaselock config`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::tool::{assert_code, finish, leaselock, report, stderr, stdout};

mod errors;
mod search;
mod secrets;

/// A home with a project in it, whose files are searched for.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(TempDir::new().unwrap());
        fs::create_dir_all(home.project()).unwrap();
        home
    }

    fn path(&self) -> PathBuf {
        self.0.path().canonicalize().unwrap()
    }

    fn project(&self) -> PathBuf {
        self.path().join("project")
    }

    /// Writes the project's file.
    fn write(&self, text: &str) -> PathBuf {
        write(&self.project().join("leaselock.toml"), text)
    }

    fn write_for_user(&self, text: &str) -> PathBuf {
        write(&self.path().join(".config/leaselock/leaselock.toml"), text)
    }

    fn leaselock(&self, arguments: &[&str]) -> Command {
        let mut command = leaselock("", &self.project());
        command.env("HOME", self.path()).env("USER", "tester").env_remove("LEASELOCK_CONFIG");
        for variable in ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "SUDO_UID", "AWS_SESSION_TOKEN"] {
            command.env_remove(variable);
        }
        command.args(arguments);
        command
    }

    fn output(&self, arguments: &[&str]) -> Output {
        finish(&mut self.leaselock(arguments))
    }

    /// A directory for locks.
    fn store(&self) -> String {
        format!("file://{}/locks", self.path().display())
    }
}

/// Nobody else may read it: of that it would be warned.
fn write(path: &Path, text: &str) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_owned()
}

#[track_caller]
fn settings(command: &mut Command) -> Value {
    let output = finish(command.args(["config", "--json"]));
    assert_code(&output, 0);
    serde_json::from_str(&stdout(&output)).unwrap()
}

/// As TOML, as a variable, as an option, as `leaselock config --json` tells it.
struct Sample {
    key: &'static str,
    told_as: &'static str,
    option: &'static str,
    variable: &'static str,
    /// For the layers from the lowest to the highest.
    values: [&'static str; 6],
}

const SAMPLES: [Sample; 8] = [
    Sample {
        key: "store",
        told_as: "store",
        option: "--store",
        variable: "LEASELOCK_STORE",
        values: ["file:///1", "file:///2", "file:///3", "file:///4", "file:///5", "file:///6"],
    },
    Sample {
        key: "store-options.aws_region",
        told_as: "store-options.aws_region",
        option: "--store-option",
        variable: "LEASELOCK_STORE_OPTIONS",
        values: ["r1", "r2", "r3", "r4", "r5", "r6"],
    },
    Sample {
        key: "no-check",
        told_as: "no-check",
        option: "--no-check",
        variable: "LEASELOCK_NO_CHECK",
        values: ["true", "false", "true", "false", "false", "true"],
    },
    Sample {
        key: "ttl",
        told_as: "ttl",
        option: "--ttl",
        variable: "LEASELOCK_TTL",
        values: ["11s", "12s", "13s", "14s", "15s", "16s"],
    },
    Sample {
        key: "wait",
        told_as: "wait",
        option: "--wait",
        variable: "LEASELOCK_WAIT",
        values: ["1m", "2m", "3m", "4m", "5m", "6m"],
    },
    Sample {
        key: "kill-grace",
        told_as: "kill-grace",
        option: "--kill-grace",
        variable: "LEASELOCK_KILL_GRACE",
        values: ["1s", "2s", "3s", "4s", "5s", "6s"],
    },
    Sample {
        key: "owner",
        told_as: "owner",
        option: "--owner",
        variable: "LEASELOCK_OWNER",
        values: ["a", "b", "c", "d", "e", "f"],
    },
    Sample {
        key: "on-lost",
        told_as: "on-lost",
        option: "--on-lost",
        variable: "LEASELOCK_ON_LOST",
        values: ["term", "kill", "warn", "kill", "warn", "kill"],
    },
];

impl Sample {
    fn line(&self, layer: usize) -> String {
        match self.key {
            "no-check" => format!("{} = {}\n", self.key, self.values[layer]),
            _ => format!("{} = {:?}\n", self.key, self.values[layer]),
        }
    }

    fn text(&self, layer: usize) -> String {
        match self.key {
            "store-options.aws_region" => format!("aws_region={}", self.values[layer]),
            _ => self.values[layer].to_owned(),
        }
    }

    fn told(&self, layer: usize) -> Value {
        match self.key {
            "store" => json!([self.values[layer]]),
            "no-check" => json!(self.values[layer] == "true"),
            _ => json!(self.values[layer]),
        }
    }
}

#[test]
fn of_every_key_each_layer_comes_before_those_below_it() {
    for sample in &SAMPLES {
        let home = Home::new();
        let (user, project) =
            (home.path().join(".config/leaselock/leaselock.toml"), home.project());
        let project = project.join("leaselock.toml");
        for layers in 1..=6 {
            // Layers: the user's file, the project's, the user's profile, the project's, variable, option.
            let file = |top: usize, profile: usize| {
                let mut text = String::new();
                if layers > top {
                    text += &sample.line(top);
                }
                if layers > profile {
                    text += &format!("[profile.ci]\n{}", sample.line(profile));
                }
                text
            };
            home.write_for_user(&file(0, 2));
            home.write(&file(1, 3));
            let mut command = home.leaselock(&[]);
            if layers > 2 {
                command.args(["--profile", "ci"]);
            }
            if layers > 4 {
                command.env(sample.variable, sample.text(4));
            }
            command.args(["config", "--json"]);
            if layers > 5 {
                command.arg(sample.option);
                if sample.key != "no-check" {
                    command.arg(sample.text(5));
                }
            }
            let output = finish(&mut command);
            assert_code(&output, 0);
            let told: Value = serde_json::from_str(&stdout(&output)).unwrap();
            let expected = match layers {
                1 => json!({ "from": "file", "path": user, "line": 1, "profile": null }),
                2 => json!({ "from": "file", "path": project, "line": 1, "profile": null }),
                3 => json!({ "from": "file", "path": user, "line": 3, "profile": "ci" }),
                4 => json!({ "from": "file", "path": project, "line": 3, "profile": "ci" }),
                5 => json!({ "from": "variable", "name": sample.variable }),
                _ => json!({ "from": "option", "name": sample.option }),
            };
            let setting = &told["settings"][sample.told_as];
            assert_eq!(setting["value"], sample.told(layers - 1), "{} {layers}", sample.key);
            assert_eq!(setting["origin"], expected, "{} {layers}", sample.key);
        }
    }
}

#[test]
fn json_is_as_documented_and_every_key_has_its_default() {
    let home = Home::new();
    let told = settings(&mut home.leaselock(&[]));
    let store = format!("file://{}/.local/state/leaselock/locks", home.path().display());
    let default =
        |value: Value| json!({ "value": value, "hidden": false, "origin": { "from": "default" } });
    let expected = json!({
        "settings": {
            "store": default(json!([store])),
            "store-options": default(Value::Null),
            "no-check": default(json!(false)),
            "ttl": default(json!("30s")),
            "wait": default(Value::Null),
            "kill-grace": default(Value::Null),
            "owner": default(json!("tester")),
            "on-lost": default(json!("term")),
        },
        "profile": null,
        "files": [],
    });
    assert_eq!(told, expected);
    // None is forgotten above.
    let keys = told["settings"].as_object().unwrap().keys();
    assert!(keys.eq(keys_of_samples().iter()), "{told}");
    let project =
        home.write("[profile.ci]\nttl = '5s'\nstore-options = { aws_secret_access_key = 's' }");
    let told = settings(home.leaselock(&[]).env("LEASELOCK_PROFILE", "ci"));
    let origin = json!({ "from": "variable", "name": "LEASELOCK_PROFILE" });
    assert_eq!(told["profile"], json!({ "name": "ci", "origin": origin }));
    assert_eq!(told["files"], json!([{ "path": project, "place": "project" }]));
    let secret = &told["settings"]["store-options.aws_secret_access_key"];
    assert_eq!((&secret["value"], &secret["hidden"]), (&Value::Null, &json!(true)));
    assert!(!home.path().join(".local").exists(), "no store was opened");
}

fn keys_of_samples() -> Vec<String> {
    let whole = |key: &str| key.split('.').next().unwrap().to_owned();
    let mut keys: Vec<_> = SAMPLES.iter().map(|sample| whole(sample.key)).collect();
    keys.sort();
    keys
}

#[test]
fn the_table_tells_key_value_and_origin() {
    let home = Home::new();
    home.write("\nstore = ['file:///a', 'file:///b', 'file:///c']\n[profile.ci]\nttl = '5s'");
    let mut command = home.leaselock(&["config", "--profile", "ci", "--wait", "1m"]);
    let output = finish(command.env("LEASELOCK_OWNER", "me\u{1b}[2J"));
    assert_code(&output, 0);
    let text = stdout(&output);
    let expected = "\
KEY            VALUE                           FROM
store          file:///a
               file:///b
               file:///c                       leaselock.toml:2
store-options  none                            default
no-check       false                           default
ttl            5s                              leaselock.toml:4 (profile ci)
wait           1m                              --wait
kill-grace     a sixth of the TTL, at most 5s  default
owner          me\u{fffd}[2J                          LEASELOCK_OWNER
on-lost        term                            default

profile: ci (--profile)
files read: leaselock.toml
";
    assert_eq!(text, expected);
}

/// What the record says of its holder while CMD runs.
const SHOW: &str = "\"$LEASELOCK\" show etl --json";

fn seen(home: &Home, arguments: &[&str]) -> Value {
    let mut command = home.leaselock(arguments);
    command.args(["etl", "--", "sh", "-c", SHOW]).env("LEASELOCK", env!("CARGO_BIN_EXE_leaselock"));
    let output = finish(&mut command);
    assert_code(&output, 0);
    let told: Value = serde_json::from_str(&stdout(&output)).unwrap();
    told["holders"][0].clone()
}

#[test]
fn run_and_elect_do_what_is_configured() {
    let home = Home::new();
    home.write(&format!("store = {:?}\nttl = '45s'\nowner = 'crew'", home.store()));
    for command in ["run", "elect"] {
        let holder = seen(&home, &[command]);
        assert_eq!(holder["ttl_ms"], 45_000, "{command}");
        assert_eq!(holder["owner"]["label"], "crew", "{command}");
        let holder = seen(&home, &[command, "--ttl", "50s"]);
        assert_eq!(holder["ttl_ms"], 50_000, "{command}");
    }
    assert!(home.path().join("locks/etl.lock").exists());
    home.write(&format!("store = {:?}\nkill-grace = '11s'", home.store()));
    for command in ["run", "elect"] {
        let output = home.output(&[command, "etl", "--", "true"]);
        assert_code(&output, 64);
        assert!(stderr(&output).contains("leaselock config"), "{}", stderr(&output));
        assert_code(&home.output(&[command, "--kill-grace", "1s", "etl", "--", "true"]), 0);
    }
}

#[test]
fn a_configured_wait_ends_and_an_option_that_excludes_it_puts_it_out() {
    let home = Home::new();
    home.write(&format!("store = {:?}\nwait = '50ms'", home.store()));
    let again = |options: &str| {
        let script = format!("\"$LEASELOCK\" run {options} --json etl -- true");
        let mut command = home.leaselock(&["run", "etl", "--", "sh", "-c", &script]);
        finish(command.env("LEASELOCK", env!("CARGO_BIN_EXE_leaselock")))
    };
    for (options, code, outcome) in
        [("", 75, "timed_out"), ("-n", 75, "busy"), ("--skip-if-busy", 0, "skipped")]
    {
        let output = again(options);
        assert_code(&output, code);
        let text = stderr(&output);
        assert!(text.contains(&format!("\"outcome\":\"{outcome}\"")), "{options}: {text}");
    }
    // So do variables.
    let mut command = home.leaselock(&["run", "-n", "--json", "etl", "--", "true"]);
    let output = finish(command.env("LEASELOCK_WAIT", "5m"));
    assert_eq!(report(&output)["outcome"], "completed");
}

#[test]
fn a_configured_end_is_that_of_the_command() {
    let home = Home::new();
    let script =
        "trap 'touch termed; exit' TERM; rm ../locks/etl.lock; while :; do sleep 0.02; done";
    for (on_lost, is_asked) in [("kill", false), ("term", true)] {
        home.write(&format!("store = {:?}\nttl = '1s'\non-lost = {on_lost:?}", home.store()));
        assert_code(&home.output(&["run", "etl", "--", "sh", "-c", script]), 120);
        assert_eq!(home.project().join("termed").exists(), is_asked, "{on_lost}");
    }
}

#[test]
fn a_list_of_stores_is_a_quorum_for_run_and_refused_elsewhere() {
    let home = Home::new();
    let stores: Vec<_> = (0..3).map(|number| format!("{}{number}", home.store())).collect();
    home.write(&format!("store = {stores:?}"));
    let output = home.output(&["run", "etl", "--", "sh", "-c", "echo \"$LEASELOCK_STORE\""]);
    assert_code(&output, 0);
    assert_eq!(stdout(&output), stores.join("\n") + "\n");
    assert!(home.path().join("locks2/etl.lock").exists());
    let output = home.output(&["ls"]);
    assert_code(&output, 64);
    assert!(stderr(&output).contains("--store"), "{}", stderr(&output));
    assert_code(&home.output(&["ls", "--store", &stores[0]]), 0);
}

#[test]
fn options_of_another_provider_are_left_out_unless_the_command_line_has_them() {
    let home = Home::new();
    home.write("[store-options]\naws_region = 'r'\nazure_storage_account_name = 'a'");
    let store = home.store();
    assert_code(&home.output(&["ls", "--store", &store]), 0);
    let output = home.output(&["ls", "--store", &store, "--store-option", "aws_region=r"]);
    assert_code(&output, 64);
    // What says nothing of a provider is not ignored.
    home.write("[store-options]\nregion = 'r'");
    assert_code(&home.output(&["ls", "--store", &store]), 64);
}

#[test]
fn an_option_of_the_command_line_is_taken_as_it_is() {
    let home = Home::new();
    // As of --store-option google_service_account_key="$(cat key.json)".
    let told = settings(&mut home.leaselock(&["--store-option", "aws_region= r\n= s ="]));
    assert_eq!(told["settings"]["store-options.aws_region"]["value"], " r\n= s =");
    let twice = ["--store-option", "aws_region=r", "--store-option", "AWS_REGION=s"];
    let told = settings(&mut home.leaselock(&twice));
    assert_eq!(told["settings"]["store-options.aws_region"]["value"], "s", "the last one counts");
}

#[test]
fn empty_variables_and_an_empty_store_are_as_good_as_none() {
    let home = Home::new();
    home.write(&format!("store = {:?}\nttl = '45s'", home.store()));
    let mut command = home.leaselock(&["--store", ""]);
    for sample in &SAMPLES {
        command.env(sample.variable, "");
    }
    let told = settings(command.env("LEASELOCK_PROFILE", ""));
    assert_eq!(told["settings"]["store"]["value"], json!([home.store()]));
    assert_eq!(told["settings"]["ttl"]["value"], "45s");
    assert_eq!(told["profile"], Value::Null);
}

#[test]
fn help_names_the_variables() {
    let home = Home::new();
    for (command, keys) in [("run", &SAMPLES[..]), ("ls", &SAMPLES[..3])] {
        let text = stdout(&home.output(&[command, "--help"]));
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for sample in keys {
            assert!(text.contains(&format!("[env: {}]", sample.variable)), "{text}");
        }
        assert!(text.contains("[env: LEASELOCK_PROFILE]"), "{text}");
    }
}
