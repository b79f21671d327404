//! `DirectoryStore` in one process: the trait's semantics and the files it makes.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::TryStreamExt;
use leaselock::{DirectoryStore, OutsideRoot};
use object_store::path::Path;
use object_store::{
    Attribute, AttributeValue, Attributes, Error, GetOptions, ObjectStore, ObjectStoreExt, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UpdateVersion, integration,
};

fn store() -> (tempfile::TempDir, DirectoryStore) {
    let directory = tempfile::tempdir().unwrap();
    let store = DirectoryStore::open(directory.path()).unwrap();
    (directory, store)
}

fn small() -> Attributes {
    Attributes::from_iter([
        (Attribute::ContentType, "application/json"),
        (Attribute::CacheControl, "no-store"),
        (Attribute::ContentDisposition, "inline"),
        (Attribute::ContentEncoding, "identity"),
        (Attribute::ContentLanguage, "en"),
        (Attribute::StorageClass, "hot"),
        (Attribute::Metadata("owner".into()), "Zoë \"1\"\n"),
    ])
}

/// More than any extended attribute holds, so that a sidecar is used.
fn large() -> Attributes {
    let mut attributes = small();
    attributes.insert(Attribute::Metadata("pad".into()), "x".repeat(70_000).into());
    attributes
}

async fn put(
    store: &DirectoryStore,
    path: &Path,
    body: &str,
    mode: PutMode,
    attributes: &Attributes,
) -> Result<PutResult> {
    let options = PutOptions { mode, attributes: attributes.clone(), ..PutOptions::default() };
    store.put_opts(path, PutPayload::from(body.to_owned()), options).await
}

fn update(e_tag: impl Into<Option<String>>) -> PutMode {
    PutMode::Update(UpdateVersion { e_tag: e_tag.into(), version: None })
}

async fn read(store: &DirectoryStore, path: &Path) -> (String, String, Attributes) {
    let result = store.get(path).await.unwrap();
    let e_tag = result.meta.e_tag.clone().unwrap();
    let attributes = result.attributes.clone();
    let body = result.bytes().await.unwrap();
    (String::from_utf8(body.to_vec()).unwrap(), e_tag, attributes)
}

async fn names(store: &DirectoryStore, prefix: Option<&Path>) -> Vec<String> {
    let listed: Vec<_> = store.list(prefix).try_collect().await.unwrap();
    let mut names: Vec<_> = listed.iter().map(|meta| meta.location.to_string()).collect();
    names.sort();
    names
}

fn own_files(directory: &FilePath, suffix: &str) -> Vec<PathBuf> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with(".leaselock-") && name.ends_with(suffix)
        })
        .collect()
}

#[tokio::test]
async fn passes_object_stores_own_tests() {
    let (_directory, store) = store();
    integration::put_get_delete_list(&store).await;
    integration::put_get_attributes(&store).await;
    integration::get_opts(&store).await;
    integration::put_opts(&store, true).await;
    integration::list_uses_directories_correctly(&store).await;
    integration::list_with_delimiter(&store).await;
    integration::list_with_offset_exclusivity(&store).await;
    integration::rename_and_copy(&store).await;
    integration::copy_if_not_exists(&store).await;
    integration::copy_rename_nonexistent_object(&store).await;
    integration::multipart_out_of_order(&store).await;
    integration::get_nonexistent_object(&store, None).await.unwrap_err();
}

#[tokio::test]
async fn modes_and_attributes() {
    for attributes in [Attributes::new(), small(), large()] {
        let (directory, store) = store();
        let path = Path::from("locks/a.json");

        let absent = put(&store, &path, "0", update("\"0\"".to_owned()), &attributes).await;
        assert!(matches!(absent, Err(Error::Precondition { .. })));
        let created = put(&store, &path, "1", PutMode::Create, &attributes).await.unwrap();
        let e_tag = created.e_tag.unwrap();
        assert_eq!(e_tag.len(), 34);
        assert_eq!(read(&store, &path).await, ("1".to_owned(), e_tag.clone(), attributes.clone()));
        let again = put(&store, &path, "2", PutMode::Create, &attributes).await;
        assert!(matches!(again, Err(Error::AlreadyExists { .. })));

        let updated = put(&store, &path, "22", update(e_tag.clone()), &attributes).await.unwrap();
        let stale = put(&store, &path, "3", update(e_tag.clone()), &attributes).await;
        assert!(matches!(stale, Err(Error::Precondition { .. })));
        let none = put(&store, &path, "3", update(None), &attributes).await;
        assert!(matches!(none, Err(Error::Generic { .. })));
        assert_eq!(
            read(&store, &path).await,
            ("22".to_owned(), updated.e_tag.unwrap(), attributes.clone())
        );
        let file = directory.path().join("locks/a.json");
        assert_eq!(fs::read_to_string(file).unwrap(), "22");

        // Between a sidecar and none, in both directions.
        for next in [small(), large(), Attributes::new(), attributes.clone()] {
            let put = put(&store, &path, "next", PutMode::Overwrite, &next).await;
            let e_tag = put.unwrap().e_tag.unwrap();
            assert_eq!(read(&store, &path).await, ("next".to_owned(), e_tag, next));
        }
        assert_eq!(names(&store, None).await, ["locks/a.json"]);
        let copy = Path::from("copy");
        store.copy(&path, &copy).await.unwrap();
        assert_eq!(read(&store, &copy).await.2, attributes);
        assert_ne!(read(&store, &copy).await.1, read(&store, &path).await.1);

        store.delete(&path).await.unwrap();
        let gone = store.delete(&path).await;
        assert!(matches!(gone, Err(Error::NotFound { .. })));
        let left = directory.path().join("locks");
        assert_eq!(own_files(&left, ".lock").len(), 1);
        assert_eq!(own_files(&left, "").len(), 1);
        assert_eq!(names(&store, None).await, ["copy"]);
    }
}

#[tokio::test]
async fn reads_honour_their_options() {
    let (_directory, store) = store();
    let path = Path::from("a");
    store.put(&path, "0123456789".into()).await.unwrap();
    let meta = store.head(&path).await.unwrap();
    assert_eq!(meta.size, 10);
    assert_eq!(store.get_range(&path, 2..5).await.unwrap(), "234");
    let ranges = store.get_ranges(&path, &[0..1, 8..10]).await.unwrap();
    assert_eq!(ranges, ["0", "89"]);
    let unchanged = GetOptions::new().with_if_none_match(meta.e_tag.clone());
    let unchanged = store.get_opts(&path, unchanged).await;
    assert!(matches!(unchanged, Err(Error::NotModified { .. })));
    let head = GetOptions::new().with_head(true).with_if_match(Some("\"no\""));
    let head = store.get_opts(&path, head).await;
    assert!(matches!(head, Err(Error::Precondition { .. })));
    let beyond = store.get_range(&path, 10..11).await;
    assert!(matches!(beyond, Err(Error::Generic { .. })));
}

#[tokio::test]
async fn multipart_keeps_attributes() {
    let (_directory, store) = store();
    let path = Path::from("big");
    let options = PutMultipartOptions { attributes: small(), ..PutMultipartOptions::default() };
    let mut upload = store.put_multipart_opts(&path, options).await.unwrap();
    let second = {
        upload.put_part("first ".into()).await.unwrap();
        upload.put_part("second".into())
    };
    second.await.unwrap();
    let e_tag = upload.complete().await.unwrap().e_tag.unwrap();
    let expected = ("first second".to_owned(), e_tag, small());
    assert_eq!(read(&store, &path).await, expected);
}

#[tokio::test]
async fn equal_bodies_have_different_etags() {
    let (_directory, store) = store();
    let path = Path::from("same");
    let mut seen = std::collections::HashSet::new();
    for _ in 0..200 {
        let result = store.put(&path, "same".into()).await.unwrap();
        assert!(seen.insert(result.e_tag.unwrap()));
    }
}

#[test]
fn racing_threads_have_one_winner() {
    const THREADS: usize = 8;
    const ROUNDS: usize = 50;
    for attributes in [small(), large()] {
        let (_directory, store) = store();
        for round in 0..ROUNDS {
            let path = Path::from(format!("race/{round}"));
            race(&store, &path, PutMode::Create, &attributes, THREADS);
            let (_, e_tag, _) = futures::executor::block_on(read(&store, &path));
            let body = race(&store, &path, update(e_tag), &attributes, THREADS);
            let found = futures::executor::block_on(read(&store, &path));
            assert_eq!((found.0, found.2), (body, attributes.clone()));
        }
    }
}

/// Lets `threads` threads write at once; returns the only winner's body.
fn race(
    store: &DirectoryStore,
    path: &Path,
    mode: PutMode,
    attributes: &Attributes,
    threads: usize,
) -> String {
    let barrier = Barrier::new(threads);
    let refused = AtomicUsize::new(0);
    let winners: Vec<String> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads)
            .map(|thread| {
                let (barrier, refused, mode) = (&barrier, &refused, mode.clone());
                scope.spawn(move || {
                    let body = format!("thread {thread}");
                    barrier.wait();
                    let put = put(store, path, &body, mode, attributes);
                    match futures::executor::block_on(put) {
                        Ok(_) => Some(body),
                        Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {
                            refused.fetch_add(1, Ordering::Relaxed);
                            None
                        }
                        Err(error) => panic!("{error}"),
                    }
                })
            })
            .collect();
        let joined = started.into_iter().map(|thread| thread.join().unwrap());
        joined.flatten().collect()
    });
    assert_eq!(winners.len(), 1);
    assert_eq!(refused.into_inner(), threads - 1);
    winners.into_iter().next().unwrap()
}

#[tokio::test]
async fn edits_by_hand_are_noticed() {
    for attributes in [small(), large()] {
        let (directory, store) = store();
        let path = Path::from("a");
        let file = directory.path().join("a");
        for round in 0..50 {
            let put_tag =
                put(&store, &path, "aaaa", PutMode::Overwrite, &attributes).await.unwrap().e_tag;
            // In place, same length, as soon as possible.
            let opened = fs::OpenOptions::new().write(true).open(&file).unwrap();
            opened.write_all_at(b"bbbb", 0).unwrap();
            let stale = put(&store, &path, "c", update(put_tag.clone()), &attributes).await;
            assert!(matches!(stale, Err(Error::Precondition { .. })), "round {round}");
            let (body, e_tag, found) = read(&store, &path).await;
            assert_eq!((body.as_str(), found), ("bbbb", Attributes::new()));
            assert_ne!(Some(&e_tag), put_tag.as_ref());
            assert_eq!(read(&store, &path).await.1, e_tag);
            put(&store, &path, "c", update(e_tag), &attributes).await.unwrap();
        }
        // A copy takes along the extended attributes and times, but is not the object.
        let copy = directory.path().join("copy");
        let copied = std::process::Command::new("cp")
            .args(["-a".as_ref(), file.as_os_str(), copy.as_os_str()])
            .status();
        assert!(copied.unwrap().success());
        let original = read(&store, &path).await;
        let copy = read(&store, &Path::from("copy")).await;
        assert_eq!(copy.0, original.0);
        assert_ne!(copy.1, original.1);

        fs::write(directory.path().join("b"), "by hand").unwrap();
        let (body, e_tag, _) = read(&store, &Path::from("b")).await;
        assert_eq!(body, "by hand");
        fs::write(directory.path().join("b"), "by HAND").unwrap();
        let stale = put(&store, &Path::from("b"), "", update(e_tag), &attributes).await;
        assert!(matches!(stale, Err(Error::Precondition { .. })));
    }
}

#[tokio::test]
async fn links_out_of_the_root_are_refused() {
    let (directory, store) = store();
    let outside = tempfile::tempdir().unwrap();
    let root = directory.path().canonicalize().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    symlink(outside.path(), root.join("out")).unwrap();
    symlink(outside.path().join("secret"), root.join("object")).unwrap();
    symlink(outside.path().join("missing"), root.join("dangling")).unwrap();
    fs::create_dir(root.join("real")).unwrap();
    symlink(root.join("real"), root.join("in")).unwrap();
    symlink(root.join("real/x"), root.join("link")).unwrap();

    for name in ["out/new", "out/secret", "out/a/b", "object", "dangling"] {
        let path = Path::from(name);
        let results = [
            store.put(&path, "x".into()).await.map(drop),
            store.get(&path).await.map(drop),
            store.delete(&path).await,
        ];
        for result in results {
            let Err(Error::PermissionDenied { source, .. }) = result else {
                panic!("{name}: {result:?}");
            };
            let outside = source.downcast_ref::<OutsideRoot>().unwrap();
            assert_eq!(outside.root, root);
        }
    }
    let listed: Result<Vec<_>> = store.list(Some(&Path::from("out"))).try_collect().await;
    assert!(matches!(listed, Err(Error::PermissionDenied { .. })));
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    let secret = fs::read_to_string(outside.path().join("secret"));
    assert_eq!(secret.unwrap(), "secret");

    store.put(&Path::from("in/x"), "x".into()).await.unwrap();
    assert_eq!(read(&store, &Path::from("real/x")).await.0, "x");
    let link = store.put(&Path::from("link"), "y".into()).await;
    assert!(matches!(link, Err(Error::PermissionDenied { .. })));
    assert_eq!(names(&store, None).await, ["real/x"]);
}

#[tokio::test]
async fn names_and_prefixes() {
    let (directory, store) = store();
    for name in ["a/b", "a/b c~d%e", "a/ü", "ab", "a/d/.hidden", "a/d/e"] {
        let path = Path::from(name);
        store.put(&path, name.to_owned().into()).await.unwrap();
        assert_eq!(read(&store, &path).await.0, name);
        assert!(directory.path().join(path.as_ref()).is_file());
    }
    fs::write(directory.path().join("a/hand~made"), "").unwrap();
    fs::write(directory.path().join("a/line\nfeed"), "").unwrap();
    fs::create_dir_all(directory.path().join("a/empty/empty")).unwrap();
    assert_eq!(
        names(&store, Some(&Path::from("a"))).await,
        ["a/%C3%BC", "a/b", "a/b c%7Ed%25e", "a/d/.hidden", "a/d/e", "a/hand~made"]
    );
    let hand_made = Path::parse("a/hand~made").unwrap();
    store.delete(&hand_made).await.unwrap();
    for nothing in ["a/b", "none", "a/empty"] {
        assert!(names(&store, Some(&Path::from(nothing))).await.is_empty(), "{nothing}");
    }
    let level = store.list_with_delimiter(Some(&Path::from("a"))).await.unwrap();
    assert_eq!(level.common_prefixes, [Path::from("a/d")]);
    assert_eq!(level.objects.len(), 3);

    for name in ["a", "a/empty", "none", "none/none", "ab/c", ".leaselock-dir.lock", ""] {
        let path = Path::from(name);
        let got = store.get(&path).await;
        assert!(matches!(got, Err(Error::NotFound { .. })), "{name}");
        let deleted = store.delete(&path).await;
        assert!(matches!(deleted, Err(Error::NotFound { .. })), "{name}");
    }
    for name in ["a", "ab/c", "ab/c/d", ".leaselock-dir.lock", ".leaselock-x/y", ""] {
        let put = store.put(&Path::from(name), "x".into()).await;
        assert!(matches!(put, Err(Error::Generic { .. })), "{name}");
    }
    assert!(!directory.path().join(".leaselock-x").exists());
}

#[tokio::test]
async fn long_names() {
    let (_directory, store) = store();
    let longest = Path::from("n".repeat(255));
    store.put(&longest, "x".into()).await.unwrap();
    assert_eq!(read(&store, &longest).await.0, "x");
    store.put(&longest, "y".into()).await.unwrap();
    store.delete(&longest).await.unwrap();
    for too_long in ["n".repeat(256), format!("{}/a", "n".repeat(256))] {
        let error = store.put(&Path::from(too_long), "x".into()).await;
        assert!(error.unwrap_err().to_string().contains("256 bytes"));
    }
}

#[tokio::test]
async fn sweeps_only_what_killed_writers_left() {
    let (directory, store) = store();
    let make = |name: &str, age: u64| {
        let path = directory.path().join(name);
        let file = fs::File::create(&path).unwrap();
        let now = file.metadata().unwrap().modified().unwrap();
        file.set_modified(now - Duration::from_secs(age)).unwrap();
        (path, file)
    };
    let (stale, _) = make(".leaselock-1.tmp", 601);
    let (young, _) = make(".leaselock-2.tmp", 500);
    let (alive, writer) = make(".leaselock-3.tmp", 601);
    rustix::fs::flock(&writer, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let (object, _) = make("old.tmp", 601);

    store.put(&Path::from("a"), "x".into()).await.unwrap();
    assert!(stale.exists(), "swept at most once a minute");
    drop(DirectoryStore::open(directory.path()).unwrap());
    assert!(!stale.exists());
    assert!(young.exists() && alive.exists() && object.exists());
    drop(writer);
    drop(DirectoryStore::open(directory.path()).unwrap());
    assert!(young.exists() && !alive.exists());
    assert_eq!(names(&store, None).await, ["a", "old.tmp"]);
}

#[tokio::test]
async fn time_is_the_file_systems() {
    let (directory, store) = store();
    let path = Path::from("a");
    for _ in 0..50 {
        let before = store.store_time().await.unwrap();
        store.put(&path, "x".into()).await.unwrap();
        let modified = store.head(&path).await.unwrap().last_modified;
        let after = store.store_time().await.unwrap();
        assert!(before <= modified + chrono::TimeDelta::nanoseconds(1));
        assert!(modified < after);
    }
    assert!(own_files(directory.path(), ".tmp").is_empty());
}

#[tokio::test]
async fn opens_only_directories() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("a/b/c");
    let store = DirectoryStore::open(&root).unwrap();
    assert_eq!(
        store.to_string(),
        format!("DirectoryStore({})", root.canonicalize().unwrap().display())
    );
    store.put(&Path::from("file"), "x".into()).await.unwrap();
    let file = DirectoryStore::open(root.join("file")).unwrap_err();
    assert!(file.to_string().contains("is not a directory"), "{file}");
    DirectoryStore::open(root.join("file/below")).unwrap_err();
}

#[test]
fn readers_never_see_a_mixture() {
    for pad in [10, 70_000] {
        let (_directory, store) = store();
        let path = Path::from("a");
        let write = |n: usize| {
            let mut attributes = Attributes::new();
            attributes.insert(Attribute::Metadata("n".into()), n.to_string().into());
            let padding = AttributeValue::from("x".repeat(pad));
            attributes.insert(Attribute::Metadata("pad".into()), padding);
            let body = n.to_string();
            let put = put(&store, &path, &body, PutMode::Overwrite, &attributes);
            futures::executor::block_on(put).unwrap().e_tag.unwrap()
        };
        let mut written = vec![write(0)];
        let reading = AtomicBool::new(true);
        let changes = AtomicUsize::new(0);
        let seen = std::thread::scope(|scope| {
            let readers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let mut seen = Vec::new();
                        while reading.load(Ordering::Relaxed) {
                            let (body, e_tag, attributes) =
                                futures::executor::block_on(read(&store, &path));
                            let n = attributes.get(&Attribute::Metadata("n".into()));
                            assert_eq!(n.map(|n| n.to_string()), Some(body.clone()));
                            let found = (body.parse::<usize>().unwrap(), e_tag);
                            if seen.last() != Some(&found) {
                                changes.fetch_add(1, Ordering::Relaxed);
                                seen.push(found);
                            }
                        }
                        seen
                    })
                })
                .collect();
            let stop = Stop(&reading);
            for n in 1..20_000 {
                written.push(write(n));
                if n >= 200 && changes.load(Ordering::Relaxed) >= 50 {
                    break;
                }
            }
            drop(stop);
            let joined = readers.into_iter().map(|reader| reader.join().unwrap());
            joined.flatten().collect::<Vec<_>>()
        });
        assert!(seen.len() >= 50, "the readers saw few writes");
        for (n, e_tag) in &seen {
            assert_eq!(&written[*n], e_tag);
        }
    }
}

/// Ends the readers even if the writer fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
