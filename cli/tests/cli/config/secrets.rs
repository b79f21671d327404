//! A secret is shown nowhere, whichever way it came.

use std::process::{Command, Output};
use std::thread;

use leaselock_test_support::emulators::{Backend, require};

use super::Home;
use crate::tool::{assert_code, finish, stderr, stdout};

/// Of two parts: a quote is where a text about a URL is easily cut.
const SECRET: &str = "hunter2'Xyzzy";

#[track_caller]
fn assert_kept(way: &str, text: &str) {
    for part in ["hunter2", "Xyzzy"] {
        assert!(!text.contains(part), "{way} shows it: {text}");
    }
}

/// Nobody listens there.
const NOWHERE: &str = "aws_endpoint=http://127.0.0.1:9&aws_allow_http=true&aws_region=r";
const OPTIONS: [&str; 4] = [
    "aws_endpoint=http://127.0.0.1:9",
    "aws_allow_http=true",
    "aws_region=r",
    "aws_access_key_id=a",
];

fn toml(options: &[String]) -> String {
    let options = options.iter().map(|option| option.split_once('=').unwrap());
    let lines = options.map(|(name, value)| format!("{name} = {value:?}\n"));
    format!("store = 's3://b'\n[store-options]\n{}", lines.collect::<String>())
}

/// How a secret gets to the command.
#[derive(Clone, Default)]
struct Way {
    name: &'static str,
    arguments: Vec<String>,
    variables: Vec<(&'static str, String)>,
    file: Option<String>,
}

impl Way {
    fn new(name: &'static str) -> Self {
        Self { name, ..Self::default() }
    }

    fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    fn variable(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    fn file(self, text: impl Into<String>) -> Self {
        Self { file: Some(text.into()), ..self }
    }

    fn leaselock(&self, home: &Home) -> Command {
        let mut command = home.leaselock(&[]);
        command.args(&self.arguments).envs(self.variables.iter().cloned());
        if let Some(text) = &self.file {
            home.write(text);
        }
        command
    }
}

/// Each URL with a secret as an option, a variable, and in a file.
fn in_a_url() -> Vec<Way> {
    let query = format!("s3://b?{NOWHERE}&aws_access_key_id=a&aws_secret_access_key={SECRET}");
    let endpoint = format!("http://u:{SECRET}@");
    let azure = "az://c?azure_storage_account_name=a";
    let ways = [
        ("query", query.clone()),
        ("session token", format!("{query}&aws_session_token={SECRET}")),
        ("user of the endpoint", query.replacen("http://", &endpoint, 1)),
        ("user", format!("s3://{SECRET}@b?{NOWHERE}&aws_skip_signature=true")),
        ("password", format!("s3://u:{SECRET}@b?{NOWHERE}&aws_skip_signature=true")),
        ("mistyped scheme", format!("s3//u:{SECRET}@b")),
        ("mistyped scheme, user", format!("s3:/{SECRET}@b")),
        ("no scheme", format!("{SECRET}@b?aws_secret_access_key={SECRET}")),
        ("unknown scheme", format!("s4://{SECRET}@b?token={SECRET}#{SECRET}")),
        ("unknown option", format!("s3://b?my_secret={SECRET}")),
        ("option without a name", format!("s3://b?{SECRET}")),
        ("password of a host", format!("http://u:{SECRET}@b/p")),
        ("key that is not base64", format!("{azure}&azure_storage_account_key={SECRET}")),
        ("signature", format!("{azure}&azure_storage_sas_key={SECRET}")),
        ("service account", format!("gs://b?google_service_account_key=\"{SECRET}\"")),
        ("option of a directory", format!("file:///tmp?aws_secret_access_key={SECRET}")),
    ];
    let each_way = |(name, url): (_, String)| {
        [
            Way::new(name).arguments(&["--store", &url]),
            Way::new(name).variable("LEASELOCK_STORE", &url),
            Way::new(name).file(format!("store = {url:?}")),
        ]
    };
    ways.into_iter().flat_map(each_way).collect()
}

fn in_options() -> Vec<Way> {
    let mut options: Vec<_> = OPTIONS.iter().map(ToString::to_string).collect();
    let plain = toml(&options);
    options.push(format!("aws_secret_access_key={SECRET}"));
    let flags: Vec<_> = options.iter().flat_map(|it| ["--store-option", it]).collect();
    let in_profile = toml(&options).replace("[store-options]", "[profile.p.store-options]");
    let json = format!("\"{SECRET}\"");
    vec![
        Way::new("--store-option").arguments(&["--store", "s3://b"]).arguments(&flags),
        Way::new("LEASELOCK_STORE_OPTIONS")
            .variable("LEASELOCK_STORE", "s3://b")
            .variable("LEASELOCK_STORE_OPTIONS", options.join("\n")),
        Way::new("store-options").file(toml(&options)),
        Way::new("a profile").arguments(&["--profile", "p"]).file(in_profile),
        Way::new("the provider's variables")
            .file(plain)
            .variable("AWS_SECRET_ACCESS_KEY", SECRET)
            .variable("AWS_SESSION_TOKEN", SECRET),
        Way::new("a wrong variable of the provider")
            .variable("LEASELOCK_STORE", "gs://b")
            .variable("GOOGLE_SERVICE_ACCOUNT_KEY", json),
        Way::new("an option without a name").arguments(&["--store-option", SECRET]),
        Way::new("a variable without a name").variable("LEASELOCK_STORE_OPTIONS", SECRET),
    ]
}

fn in_wrong_files() -> Vec<Way> {
    let texts = [
        format!("aws_secret_access_key = \"{SECRET}"),
        format!("aws_secret_access_key = {SECRET}"),
        format!("aws_secret_access_key = \"{SECRET}\""),
        format!("[store-options]\naws_secret_access_key = [\"{SECRET}\"]"),
        format!("store-options = \"aws_secret_access_key={SECRET}\""),
        format!("store = {{ url = \"{SECRET}\" }}"),
        format!("profile = \"{SECRET}\""),
        SECRET.to_owned(),
    ];
    texts.into_iter().map(|text| Way::new("a wrong file").file(text)).collect()
}

fn everything(output: &Output) -> String {
    stdout(output) + &stderr(output)
}

#[test]
fn no_command_shows_a_secret() {
    let commands: [&[&str]; 6] = [
        &["config"],
        &["config", "--json"],
        &["doctor"],
        &["ls"],
        &["show", "etl"],
        &["run", "-n", "--json", "etl", "--", "true"],
    ];
    // Most of the time passes with waiting for answers that do not come.
    let hidden: usize = thread::scope(|scope| {
        let tried = commands.map(|arguments| scope.spawn(|| hidden_by(arguments)));
        tried.into_iter().map(|trial| trial.join().unwrap()).sum()
    });
    // Of each URL and each option, as a table and as JSON.
    assert!(hidden >= 2 * 48, "it came to where it could be shown only {hidden} times");
}

/// How often a command hid something.
fn hidden_by(arguments: &[&str]) -> usize {
    let mut hidden = 0;
    for way in [in_a_url(), in_options(), in_wrong_files()].concat() {
        let name = way.name;
        let home = Home::new();
        // Everything that -vv says, and more.
        let output = finish(way.leaselock(&home).arg("-vvv").args(arguments));
        let said = everything(&output);
        assert_kept(&format!("{name}, {arguments:?}"), &said);
        match arguments[0] {
            "config" => hidden += usize::from(said.contains("hidden")),
            _ => assert_ne!(output.status.code(), Some(0), "{name}: {said}"),
        }
    }
    hidden
}

/// The whole environment that leaselock gives to CMD, and the file it keeps for it.
const TELL: &str = "\
echo $LEASELOCK_STORE; env | grep ^LEASELOCK_ | grep -v ^LEASELOCK_STORE_OPTIONS; \
cat $LEASELOCK_STATUS_FILE";

fn told(home: &Home, way: &Way) -> String {
    let mut command = way.leaselock(home);
    let output = finish(command.args(["-vvv", "run", "etl", "--", "sh", "-c", TELL]));
    assert_code(&output, 0);
    let said = everything(&output);
    assert!(said.contains("\"boot_deadline\""), "{said}");
    said
}

#[test]
fn neither_the_environment_of_cmd_nor_its_status_file_has_a_secret() {
    let home = Home::new();
    let option = format!("aws_secret_access_key={SECRET}");
    let text = toml(std::slice::from_ref(&option)).replace("s3://b", &home.store());
    let token = format!("aws_session_token={SECRET}");
    let way = Way::new("a directory").file(text).variable("LEASELOCK_STORE_OPTIONS", token);
    let said = told(&home, &way);
    assert_kept(way.name, &said);
    assert!(said.starts_with(&home.store()), "{said}");
}

#[test]
fn cmd_finds_a_bucket_without_its_credentials() {
    if require(Backend::Ministack).is_none() {
        return;
    }
    let url = Backend::Ministack.fresh_url().unwrap().as_str().to_owned();
    let (place, query) = url.split_once('?').unwrap();
    let mut options: Vec<_> = query.split('&').collect();
    options.retain(|option| !option.starts_with("aws_secret_access_key="));
    // The emulator takes any.
    let query = format!("{}&aws_secret_access_key={SECRET}", options.join("&"));
    let url = format!("{}?{query}", place.replacen("s3://", &format!("s3://{SECRET}@"), 1));
    let home = Home::new();
    for way in [
        Way::new("an option").arguments(&["--store", &url]),
        Way::new("a file").file(format!("store = {url:?}")),
    ] {
        let said = told(&home, &way);
        assert_kept(way.name, &said);
        assert!(said.starts_with(&format!("{place}\n")), "{said}");
    }
}
