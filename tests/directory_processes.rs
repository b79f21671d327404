//! `DirectoryStore` among processes, some of which are killed.
//!
//! The processes run this test binary again, with a role in the environment.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::path::Path as FilePath;
use std::process::{Child, Command, Stdio};

use leaselock::DirectoryStore;
use object_store::path::Path;
use object_store::{
    Attribute, AttributeValue, Attributes, Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    Result, UpdateVersion,
};

const ROLE: &str = "LEASELOCK_TEST_ROLE";
const ROOT: &str = "LEASELOCK_TEST_ROOT";
const PAD: &str = "LEASELOCK_TEST_PAD";

const PROCESSES: u64 = 4;
const INCREMENTS: u64 = 100;
const KILLS: usize = 60;

/// An object that shows whether its parts belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Counter {
    value: u64,
    e_tag: Option<String>,
}

impl Counter {
    /// Lengths vary, so that a mixture of two bodies would show.
    fn body(value: u64) -> String {
        let pad = "=".repeat(usize::try_from(value % 97).unwrap() * 50);
        format!("{value}:{}:{pad}:{value}", pad.len())
    }

    fn attributes(value: u64, pad: usize) -> Attributes {
        Attributes::from_iter([
            (Attribute::ContentType, AttributeValue::from("text/plain")),
            (Attribute::Metadata("value".into()), value.to_string().into()),
            (Attribute::Metadata("pad".into()), "x".repeat(pad).into()),
        ])
    }

    async fn read(store: &DirectoryStore, path: &Path, pad: usize) -> Result<Self> {
        let result = store.get(path).await?;
        let (e_tag, attributes) = (result.meta.e_tag.clone(), result.attributes.clone());
        let size = result.meta.size;
        let body = result.bytes().await?;
        let body = str::from_utf8(&body).unwrap();
        let value = body.split_once(':').unwrap().0.parse().unwrap();
        assert_eq!(body, Self::body(value), "a torn body");
        assert_eq!(size, body.len() as u64);
        assert_eq!(attributes, Self::attributes(value, pad), "mixed attributes");
        Ok(Self { value, e_tag })
    }

    async fn write(&self, store: &DirectoryStore, path: &Path, pad: usize) -> Result<Self> {
        let value = self.value + 1;
        let mode = match &self.e_tag {
            None => PutMode::Create,
            Some(_) => PutMode::Update(UpdateVersion { e_tag: self.e_tag.clone(), version: None }),
        };
        let options =
            PutOptions { mode, attributes: Self::attributes(value, pad), ..PutOptions::default() };
        let put = store.put_opts(path, Self::body(value).into(), options).await?;
        Ok(Self { value, e_tag: put.e_tag })
    }
}

fn path() -> Path {
    Path::from("made/by/the/first/counter")
}

/// Killed when dropped: a failed test must not leave it running.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(role: &str, root: &FilePath, pad: usize) -> Process {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_process", "--nocapture"])
        .env(ROLE, role)
        .env(ROOT, root)
        .env(PAD, pad.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    Process(child)
}

/// Does nothing unless started by one of the other tests.
#[tokio::test]
async fn child_process() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let store = DirectoryStore::open(std::env::var(ROOT).unwrap()).unwrap();
    let pad = std::env::var(PAD).unwrap().parse().unwrap();
    let increments = match role.as_str() {
        "increment" => INCREMENTS,
        "until killed" => u64::MAX,
        other => panic!("no such role: {other}"),
    };
    let mut refused = 0_u64;
    for _ in 0..increments {
        loop {
            let current = match Counter::read(&store, &path(), pad).await {
                Ok(current) => current,
                Err(Error::NotFound { .. }) => Counter { value: 0, e_tag: None },
                Err(error) => panic!("{error}"),
            };
            match current.write(&store, &path(), pad).await {
                Ok(_) => break,
                Err(Error::Precondition { .. } | Error::AlreadyExists { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    let report = Path::from(format!("refused/{}", std::process::id()));
    store.put(&report, refused.to_string().into()).await.unwrap();
}

async fn processes_lose_no_increment(pad: usize) {
    let root = tempfile::tempdir().unwrap();
    let children: Vec<_> = (0..PROCESSES).map(|_| spawn("increment", root.path(), pad)).collect();
    let ids: Vec<_> = children.iter().map(|child| child.0.id()).collect();
    for mut child in children {
        assert!(child.0.wait().unwrap().success());
    }
    let store = DirectoryStore::open(root.path()).unwrap();
    let counter = Counter::read(&store, &path(), pad).await.unwrap();
    assert_eq!(counter.value, PROCESSES * INCREMENTS);
    let mut refused = 0;
    for id in ids {
        let report = store.get(&Path::from(format!("refused/{id}"))).await;
        let report = report.unwrap().bytes().await.unwrap();
        refused += str::from_utf8(&report).unwrap().parse::<u64>().unwrap();
    }
    assert!(refused > 0, "the processes never met");
}

async fn killed_writers_leave_whole_objects(pad: usize) {
    let root = tempfile::tempdir().unwrap();
    let store = DirectoryStore::open(root.path()).unwrap();
    let mut last = 0;
    for kill in 0..KILLS {
        let mut children =
            [spawn("until killed", root.path(), pad), spawn("until killed", root.path(), pad)];
        // A few writes, then a wait in steps far below a write's length.
        let goal = last + 1 + kill as u64 % 3;
        while !matches!(Counter::read(&store, &path(), pad).await, Ok(now) if now.value >= goal) {
            for child in &mut children {
                assert_eq!(child.0.try_wait().unwrap(), None, "a writer failed");
            }
        }
        std::thread::sleep(std::time::Duration::from_micros(kill as u64 * 137 % 5000));
        for child in &mut children {
            child.0.kill().unwrap();
        }
        for child in &mut children {
            child.0.wait().unwrap();
        }
        let found = Counter::read(&store, &path(), pad).await.unwrap();
        assert!(found.value >= goal, "a write was lost");
        assert_eq!(Counter::read(&store, &path(), pad).await.unwrap(), found);
        let next = found.write(&store, &path(), pad).await.unwrap();
        assert_eq!(Counter::read(&store, &path(), pad).await.unwrap(), next);
        let stale = found.write(&store, &path(), pad).await;
        assert!(matches!(stale, Err(Error::Precondition { .. })));
        last = next.value;
    }
    let directory = root.path().join("made/by/the/first");
    let temporary = std::fs::read_dir(directory).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_str().unwrap().ends_with(".tmp")
    });
    let temporary = temporary.count();
    println!("{last} writes, {temporary} writers killed while writing");
    assert!(temporary > 0, "no writer was killed while writing");
}

#[tokio::test]
async fn increments() {
    processes_lose_no_increment(0).await;
}

#[tokio::test]
async fn increments_with_sidecars() {
    processes_lose_no_increment(70_000).await;
}

#[tokio::test]
async fn kills() {
    killed_writers_leave_whole_objects(0).await;
}

#[tokio::test]
async fn kills_with_sidecars() {
    killed_writers_leave_whole_objects(70_000).await;
}
