//! The access policies of `docs/policies/`: each role does its work on a store that grants what its
//! policy says and nothing else, and needs all of it. What clouds make of the same files nobody can
//! test without an account there; `rules.rs` says how they are read here.

mod rules;
mod store;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use leaselock::{Break, ErrorKind, Store};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use serde_json::Value;

use rules::{Ask, Aws, Azure, Google, Rules};
use store::Guarded;

const PREFIX: &str = "PREFIX";

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/policies")
}

fn text(file: &str) -> String {
    let path = folder().join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json(file: &str) -> Value {
    serde_json::from_str(&text(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// What each cloud grants a role.
fn clouds(role: &str) -> Vec<(String, Arc<dyn Rules>)> {
    // A role of a bucket or a container is not of an application: its operators are holders there.
    let of_bucket = if role == "operator" { "holder" } else { role };
    let aws = json(&format!("aws/{role}.json"));
    let google = json(&format!("gcp/{of_bucket}.json"));
    let azure = json(&format!("azure/{of_bucket}.json"));
    vec![
        (format!("aws {role}"), Arc::new(Aws::new(&[&aws]))),
        (format!("aws {role}, bucket"), Arc::new(Aws::new(&[&aws, &json("aws/bucket.json")]))),
        (format!("gcp {role}"), Arc::new(Google::new(&google, None))),
        (
            format!("gcp {role}, prefix"),
            Arc::new(Google::new(&google, Some(&json("gcp/condition.json")))),
        ),
        (format!("azure {role}"), Arc::new(Azure::new(&azure, None))),
        (
            format!("azure {role}, condition"),
            Arc::new(Azure::new(&azure, Some(&text("azure/condition.txt")))),
        ),
    ]
}

async fn open(objects: &Guarded) -> Store {
    let builder = Store::from_object_store(Arc::new(objects.clone())).prefix(PREFIX);
    builder.open().await.expect("opens")
}

/// Everything that holds locks.
async fn hold(store: &Store) -> leaselock::Result<()> {
    let lock = store.lock("APP/nightly");
    let guard = lock.acquire().await?;
    guard.renew().await?;
    assert!(lock.try_acquire().await?.acquired().is_none(), "it is held");
    lock.inspect().await?;
    guard.release().await?;
    store.lock_all(["APP/a", "APP/b"]).acquire().await?.release().await?;
    let fair = store.lock("APP/fair").fair();
    let guard = fair.acquire().await?;
    let waits = fair.acquire_timeout(Duration::from_millis(200)).await?;
    assert!(waits.acquired().is_none(), "a ticket was written and taken back");
    guard.release().await?;
    store.rwlock("APP/table").read().await?.release().await?;
    store.semaphore("APP/licences", 2).acquire().await?.release().await?;
    store.election("APP/leader").campaign().await?.resign().await?;
    store.latch("APP/latch", 1).arrive_and_wait("only").await?;
    store.barrier("APP/barrier", 1).wait("only").await?;
    let once = store.once("APP/close").run(async |_| Ok::<_, ()>(7)).await?;
    assert!(matches!(once, leaselock::Outcome::Ran(7)));
    let session = store.session().open().await?;
    session.lock("APP/under").acquire().await?.release().await?;
    session.close().await?;
    store.shutdown().await;
    Ok(())
}

/// `ls`, `show`, `history`, `watch`.
async fn observe(store: &Store) -> leaselock::Result<()> {
    let locks: Vec<_> = store.list("").try_collect().await?;
    assert!(locks.len() > 5, "there are locks to see: {}", locks.len());
    let below: Vec<_> = store.names("APP/").try_collect().await?;
    assert_eq!(below.len(), locks.len());
    store.lock("APP/nightly").inspect().await?;
    store.lock("APP/never-used").inspect().await?;
    store.once("APP/close").inspect().await?;
    store.latch("APP/latch", 1).inspect().await?;
    assert!(store.election("APP/leader").leader().await?.is_none());
    Ok(())
}

/// `break`, `break --once`, `latch reset`, `doctor`.
async fn operate(store: &Store, holder: &Store) -> leaselock::Result<()> {
    observe(store).await?;
    let held = holder.lock("APP/nightly").acquire().await?;
    let order = Break::expecting(held.token()).reason("hangs");
    store.lock("APP/nightly").break_lease(order).await?;
    // Under a session, which a break ends as well.
    let held = holder.rwlock("APP/table").read().await?;
    store.lock("APP/table").break_lease(Break::force()).await?;
    drop(held);
    store.once("APP/close").forget(Break::force()).await?;
    store.latch("APP/latch", 1).reset().await?;
    assert!(store.diagnose().await?.is_fit());
    store.shutdown().await;
    Ok(())
}

/// A store on which holders have been at work.
async fn used() -> (Arc<InMemory>, Store) {
    let objects = Arc::new(InMemory::new());
    let anything: Arc<dyn Rules> = Arc::new(rules::Everything);
    let store = open(&Guarded::new(Arc::clone(&objects), anything)).await;
    hold(&open(&Guarded::new(Arc::clone(&objects), Arc::new(rules::Everything))).await)
        .await
        .expect("holds");
    (objects, store)
}

/// Nothing was refused, and nothing was granted in vain.
fn assert_exact(what: &str, objects: &Guarded, rules: &dyn Rules) {
    assert_eq!(objects.refused(), [""; 0], "{what}: refused");
    assert_eq!(rules.unused(), BTreeSet::new(), "{what}: granted, and not needed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holders_policy_is_enough_and_no_more() {
    for (what, rules) in clouds("holder") {
        let objects = Guarded::new(Arc::new(InMemory::new()), Arc::clone(&rules));
        let held = hold(&open(&objects).await).await;
        held.unwrap_or_else(|error| panic!("{what}: {error}"));
        // Listing is granted for what absent records look like.
        assert_exact(&what, &objects, &*rules);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observers_policy_is_enough_and_no_more() {
    for (what, rules) in clouds("observer") {
        let (inner, _) = used().await;
        let objects = Guarded::new(inner, Arc::clone(&rules));
        let store = open(&objects).await;
        observe(&store).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_exact(&what, &objects, &*rules);
        for refused in [
            store.lock("APP/nightly").try_acquire().await.map(drop),
            store.lock("APP/nightly").break_lease(Break::force()).await.map(drop),
        ] {
            let error = refused.expect_err("observers change nothing");
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{what}: {error}");
        }
        assert_eq!(objects.written(), 0, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_policy_is_enough_and_no_more() {
    for (what, rules) in clouds("operator") {
        let (inner, holder) = used().await;
        let objects = Guarded::new(inner, Arc::clone(&rules));
        let done = operate(&open(&objects).await, &holder).await;
        done.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_exact(&what, &objects, &*rules);
        holder.shutdown().await;
    }
}

#[tokio::test]
async fn the_bucket_refuses_whoever_deletes_or_overwrites_records() {
    let anything = serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [{ "Effect": "Allow", "Action": "s3:*", "Resource": "*" }],
    });
    let rules = Aws::new(&[&anything, &json("aws/bucket.json")]);
    let (inner, _) = used().await;
    let objects = Guarded::new(inner, Arc::new(rules));
    for key in ["PREFIX/APP/nightly.lock", "PREFIX/APP/close.once"] {
        let key = object_store::path::Path::from(key);
        assert!(objects.get(&key).await.is_ok(), "{key} is there");
        assert!(objects.delete(&key).await.is_err(), "{key} was deleted");
        let body = PutPayload::from_static(b"{}");
        assert!(objects.put(&key, body).await.is_err(), "{key} was overwritten");
    }
    let elsewhere = object_store::path::Path::from("reports/today.csv");
    objects.put(&elsewhere, PutPayload::from_static(b"1")).await.expect("is none of its business");
    objects.delete(&elsewhere).await.expect("is none of its business");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_leave_to_delete_scratch_objects_stay_and_locks_work() {
    let mut policy = json("aws/holder.json");
    let statements = policy["Statement"].as_array_mut().expect("has statements");
    statements.retain(|statement| statement["Action"] != "s3:DeleteObject");
    let inner = Arc::new(InMemory::new());
    let objects = Guarded::new(Arc::clone(&inner), Arc::new(Aws::new(&[&policy])));
    hold(&open(&objects).await).await.expect("holds");
    let left: Vec<_> = inner.list(None).try_collect().await.expect("lists");
    let left: Vec<_> = left.iter().map(|meta| meta.location.as_ref()).collect();
    let scratch = left.iter().filter(|key| key.starts_with("PREFIX/.leaselock/"));
    assert!(scratch.count() > 1, "{left:?}");
    assert!(objects.refused().iter().all(|ask| ask.starts_with("Delete")), "{left:?}");
}

/// Why the holder's policy has no condition on what may be listed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_leave_to_list_an_absent_record_looks_forbidden() {
    let condition = serde_json::json!({ "StringLike": { "s3:prefix": "PREFIX/*" } });
    for condition in [None, Some(condition)] {
        let mut policy = json("aws/holder.json");
        let statements = policy["Statement"].as_array_mut().expect("has statements");
        match &condition {
            None => statements.retain(|statement| statement["Action"] != "s3:ListBucket"),
            Some(condition) => statements[0]["Condition"] = condition.clone(),
        }
        let rules: Arc<dyn Rules> = Arc::new(Aws::new(&[&policy]));
        let listed = rules.permits(&Ask::List, "PREFIX/");
        assert_eq!(listed, condition.is_some(), "listing below the prefix");
        let objects = Guarded::new(Arc::new(InMemory::new()), rules);
        let error = open(&objects).await.lock("APP/new").acquire().await.expect_err("is refused");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    }
}

#[test]
fn every_policy_is_well_formed_and_named_in_the_guide() {
    let guide = folder().join("../OPERATIONS.md");
    let guide = std::fs::read_to_string(guide).expect("there is a guide");
    let mut files = 0;
    for cloud in ["aws", "gcp", "azure"] {
        for entry in std::fs::read_dir(folder().join(cloud)).expect("is a folder") {
            let name = entry.expect("is readable").file_name().into_string().expect("is text");
            let file = format!("{cloud}/{name}");
            assert!(guide.contains(&format!("policies/{file}")), "nobody reads {file}");
            files += 1;
            match name.as_str() {
                "lifecycle.json" => only_old_versions(&file),
                name if name.ends_with(".json") => only_known(cloud, &file),
                _ => assert!(rules::placeholders(&text(&file)), "{file}"),
            }
        }
    }
    assert!(files >= 11, "only {files} files were found");
}

fn only_known(cloud: &str, file: &str) {
    let policy = json(file);
    let known: BTreeSet<_> = rules::known(cloud).iter().copied().collect();
    let actions = rules::actions(cloud, &policy);
    let conditions = policy.get("expression").is_some();
    assert!(conditions || !actions.is_empty(), "{file} grants nothing");
    for action in &actions {
        assert!(known.contains(action.as_str()), "{file}: {action}");
    }
    let scoped = cloud == "aws" || cloud == "azure" || conditions;
    assert!(!scoped || rules::placeholders(&text(file)), "{file} names a place of somebody's");
    if cloud == "aws" {
        assert_eq!(policy["Version"], "2012-10-17", "{file}");
        let is_of_a_bucket = file == "aws/bucket.json";
        for statement in policy["Statement"].as_array().expect("has statements") {
            let effect = if is_of_a_bucket { "Deny" } else { "Allow" };
            assert_eq!(statement["Effect"], effect, "{file}");
            assert_eq!(statement.get("Principal").is_some(), is_of_a_bucket, "{file}");
            for resource in rules::strings(&statement["Resource"]) {
                assert!(resource.starts_with("arn:aws:s3:::BUCKET"), "{file}: {resource}");
            }
        }
    }
    if cloud == "azure" && !conditions {
        assert_eq!(policy["IsCustom"], true, "{file}");
        assert_eq!(policy["Actions"].as_array().map(Vec::len), Some(0), "{file}");
    }
}

/// A rule that expired current objects would delete records.
fn only_old_versions(file: &str) {
    let rules = json(file);
    let body = rules.to_string();
    assert!(body.contains("PREFIX/"), "{file} is not limited to the prefix");
    let allowed: &[&str] = match file {
        "aws/lifecycle.json" => &["NoncurrentVersionExpiration", "Expiration"],
        "gcp/lifecycle.json" => &["daysSinceNoncurrentTime", "matchesPrefix"],
        _ => &["version"],
    };
    let acts = match file {
        "aws/lifecycle.json" => {
            let rule = rules["Rules"][0].as_object().expect("is a rule");
            let marker = serde_json::json!({ "ExpiredObjectDeleteMarker": true });
            assert_eq!(rule["Expiration"], marker, "nothing else may expire");
            let fixed = ["ID", "Status", "Filter"];
            rule.keys().filter(|key| !fixed.contains(&key.as_str())).cloned().collect::<Vec<_>>()
        }
        "gcp/lifecycle.json" => {
            let conditions = rules["rule"][0]["condition"].as_object().expect("has conditions");
            assert!(conditions.contains_key("daysSinceNoncurrentTime"));
            conditions.keys().cloned().collect()
        }
        _ => {
            let actions = rules["rules"][0]["definition"]["actions"].as_object();
            actions.expect("has actions").keys().cloned().collect()
        }
    };
    assert!(!acts.is_empty());
    for act in acts {
        assert!(allowed.contains(&act.as_str()), "{file}: {act}");
    }
}
