//! Bad input: each kind gets an error of its own that says what was wrong and where, and nothing is
//! written.

use std::time::Duration;

use leaselock::{ErrorKind, Store};
use leaselock_test_support::emulators::{Backend, TestUrl};

async fn fails_to_open(url: &str) -> leaselock::Error {
    leaselock::open(url).await.expect_err("is no usable URL")
}

#[tokio::test]
async fn urls_that_cannot_be_used_are_told_apart() {
    let cases = [
        ("not a url", "not a URL"),
        ("ftp://host/dir", "known are s3"),
        ("https://example.com/locks", "s3://BUCKET?aws_endpoint"),
        ("s3://bucket?no_such_option=1", "no_such_option"),
        ("az://container?no_such_option=1", "no_such_option"),
        ("gs://bucket?no_such_option=1", "no_such_option"),
        ("file:///tmp/x?ttl=3", "has no options"),
        ("memory:///?x=1", "has no options"),
        ("file://host/dir", "known are s3"),
    ];
    for (url, expected) in cases {
        let error = fails_to_open(url).await;
        assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{url}: {error:?}");
        assert!(format!("{error:?}").contains(expected), "{url}: {error:?}");
    }
}

#[tokio::test]
async fn secrets_in_a_url_are_never_shown() {
    let url = "s3://bucket/locks?aws_secret_access_key=hunter2&aws_access_key_id=id";
    let store = leaselock::open(url).await.expect("opens");
    assert_eq!(store.url(), "s3://bucket/locks");
    assert!(!format!("{store:?}").contains("hunter2"));
    let error = fails_to_open("s3://bucket?aws_secret_access_key=hunter2&bad=1").await;
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    for url in [
        "nope://user:hunter2@host/x?key=hunter2",
        "s3://user:hunter2@bucket:port/x",
        "s3//user:hunter2@bucket",
        "abfs://container:hunter2@account/x",
        // What somebody mistyped, or took for the place of a secret.
        "s3//hunter2@bucket",
        "s3:/hunter2@bucket",
        "user:hunter2@bucket",
        "hunter2@bucket",
        "nope://hunter2@bucket",
        "s3://bucket?hunter2",
        "file:///tmp?hunter2",
        "gs://bucket?google_service_account_key=%22hunter2%22",
        "gs://bucket?google_service_account={hunter2}",
    ] {
        let error = fails_to_open(url).await;
        assert!(!format!("{error:?} {error}").contains("hunter2"), "{url}: {error:?}");
    }
    let store = leaselock::open("s3://hunter2@bucket/locks").await.expect("opens");
    assert_eq!(store.url(), "s3://bucket/locks");
    let store = leaselock::open("abfs://locks@account.dfs.core.windows.net/x").await;
    assert_eq!(store.expect("opens").url(), "abfs://locks@account.dfs.core.windows.net/x");
}

#[tokio::test]
async fn a_file_is_no_directory_of_locks() {
    let file = tempfile::NamedTempFile::new().expect("is made");
    let error = fails_to_open(&format!("file://{}", file.path().display())).await;
    assert_eq!(error.kind(), ErrorKind::StoreAbsent, "{error:?}");
}

#[tokio::test]
async fn names_and_options_are_checked_before_anything_is_written() {
    let directory = tempfile::tempdir().expect("is made");
    let url = format!("file://{}", directory.path().display());
    let store = leaselock::open(url).await.expect("opens");
    let before = entries(directory.path());
    for name in
        ["", "..", "a/../b", "a//b", "/a", "a/", "a\nb", "a\0b", ".hidden", &"x".repeat(513)]
    {
        let error = store.lock(name).acquire().await.expect_err(name);
        assert_eq!(error.kind(), ErrorKind::InvalidName, "{name:?}: {error:?}");
    }
    let lock = store.lock("x");
    let second = Duration::from_secs(1);
    for bad in [
        lock.clone().ttl(Duration::from_millis(999)),
        lock.clone().ttl(second * 90_000),
        lock.clone().ttl(second * 10).renew_every(second * 8),
        lock.clone().min_hold(second * 9).max_hold(second * 8),
        lock.clone().owner("x".repeat(200)),
    ] {
        let error = bad.acquire().await.expect_err("does not fit");
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error:?}");
    }
    assert_eq!(entries(directory.path()), before, "nothing was written");
}

fn entries(directory: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("is readable");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.expect("is readable").file_name().to_string_lossy().into_owned()
    };
    let mut names: Vec<_> = entries.map(name).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_link_that_leads_out_of_a_directory_is_not_followed() {
    let directory = tempfile::tempdir().expect("is made");
    let outside = tempfile::tempdir().expect("is made");
    std::os::unix::fs::symlink(outside.path(), directory.path().join("etl")).expect("is made");
    let url = format!("file://{}", directory.path().display());
    let store = leaselock::open(url).await.expect("opens");
    let error = store.lock("etl/nightly").acquire().await.expect_err("leads out");
    assert_eq!(error.kind(), ErrorKind::OutsideRoot, "{error:?}");
    assert_eq!(entries(outside.path()).len(), 0, "nothing was written");
}

/// A port that is bound, so that nobody else gets it, but that nobody listens on.
fn nobody_listens() -> (tokio::net::TcpSocket, u16) {
    let socket = tokio::net::TcpSocket::new_v4().expect("is made");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("binds");
    let port = socket.local_addr().expect("is bound").port();
    (socket, port)
}

#[tokio::test]
async fn a_store_that_cannot_be_reached_is_unavailable() {
    let (_bound, port) = nobody_listens();
    let url = format!(
        "s3://locks?aws_endpoint=http://127.0.0.1:{port}&aws_allow_http=true\
         &aws_access_key_id=a&aws_secret_access_key=b"
    );
    let store = leaselock::open(url).await.expect("opens");
    let error = store.lock("x").try_acquire().await.expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains("no connection"), "{error:?}");
}

#[tokio::test]
async fn missing_credentials_are_told_apart_from_an_unreachable_store() {
    // The address that stands for the cloud's own credential service, which nobody serves here.
    let (_bound, port) = nobody_listens();
    let url = format!(
        "s3://locks?aws_endpoint=http://127.0.0.1:{port}&aws_allow_http=true\
         &aws_metadata_endpoint=http://127.0.0.1:{port}"
    );
    let store = leaselock::open(url).await.expect("opens");
    let error = store.lock("x").try_acquire().await.expect_err("no credentials");
    assert_eq!(error.kind(), ErrorKind::MissingCredentials, "{error:?}");
}

/// The URL with its bucket or container replaced.
fn in_bucket(url: &TestUrl, bucket: &str) -> String {
    let mut other = url::Url::parse(url.as_str()).expect("is a URL");
    other.set_host(Some(bucket)).expect("has a bucket");
    other.into()
}

async fn absent_bucket(backend: Backend) {
    let Some(url) = backend.fresh_url() else { return };
    let store = leaselock::open(in_bucket(&url, "no-such-bucket-here")).await.expect("opens");
    let error = store.lock("x").acquire().await.expect_err("is absent");
    assert_eq!(error.kind(), ErrorKind::StoreAbsent, "{error:?}");
}

#[tokio::test]
async fn an_absent_bucket_on_ministack() {
    absent_bucket(Backend::Ministack).await;
}

#[tokio::test]
async fn an_absent_bucket_on_seaweedfs() {
    absent_bucket(Backend::Seaweedfs).await;
}

#[tokio::test]
async fn an_absent_container_on_azurite() {
    absent_bucket(Backend::Azurite).await;
}

#[tokio::test]
async fn wrong_credentials_are_denied() {
    let Some(url) = Backend::Seaweedfs.fresh_url() else { return };
    let wrong = url.as_str().replace("aws_secret_access_key=secret", "aws_secret_access_key=wrong");
    assert_ne!(wrong, url.as_str());
    let error = leaselock::open(wrong).await.expect("opens").lock("x").acquire().await;
    let error = error.expect_err("is denied");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
    let Some(url) = Backend::Azurite.fresh_url() else { return };
    let wrong =
        url.as_str().replace("azure_storage_account_key=Eby8", "azure_storage_account_key=AAAA");
    assert_ne!(wrong, url.as_str());
    let error = leaselock::open(wrong).await.expect("opens").lock("x").acquire().await;
    let error = error.expect_err("is denied");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
}

#[tokio::test]
async fn a_directory_without_permission_is_denied() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("is made");
    let locked = directory.path().join("locked");
    std::fs::create_dir(&locked).expect("is made");
    std::fs::set_permissions(&locked, PermissionsExt::from_mode(0o500)).expect("is set");
    // The superuser may write everywhere: nothing to show then.
    if std::fs::write(locked.join("x"), "").is_ok() {
        eprintln!("runs as the superuser: permissions do not bind it");
        return;
    }
    let store = leaselock::open(format!("file://{}", locked.display())).await.expect("opens");
    let error = store.lock("x").acquire().await.expect_err("is denied");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
}

#[tokio::test]
async fn a_prefix_must_be_a_path() {
    let error = Store::builder("memory:///").prefix("a//b").open().await.expect_err("no path");
    assert_eq!(error.kind(), ErrorKind::InvalidUrl, "{error:?}");
}
