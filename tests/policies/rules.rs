//! How three clouds read their policies: as much of it as the policies of `docs/policies/` use.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

/// What a store is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Get {
        /// Whether there is no such object: who may not list is not told so.
        absent: bool,
    },
    Create,
    Update,
    Overwrite,
    Delete,
    List,
}

pub(crate) trait Rules: Send + Sync {
    /// Whether this is granted for this key, or for a listing that begins with it.
    fn permits(&self, ask: &Ask, key: &str) -> bool;

    /// What is granted and was never asked for.
    fn unused(&self) -> BTreeSet<String>;
}

/// No policy at all.
pub(crate) struct Everything;

impl Rules for Everything {
    fn permits(&self, _: &Ask, _: &str) -> bool {
        true
    }

    fn unused(&self) -> BTreeSet<String> {
        BTreeSet::new()
    }
}

/// Names that are granted, and those of them that were needed.
#[derive(Default)]
struct Grants {
    used: Mutex<BTreeSet<String>>,
}

impl Grants {
    fn note(&self, grant: String) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(grant);
    }

    fn missing_of(&self, all: impl IntoIterator<Item = String>) -> BTreeSet<String> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        all.into_iter().filter(|grant| !used.contains(grant)).collect()
    }
}

/// Statements of identities and of the bucket: granted is what one allows and none denies.
pub(crate) struct Aws {
    statements: Vec<Statement>,
    grants: Grants,
}

struct Statement {
    allows: bool,
    actions: Vec<String>,
    resources: Vec<String>,
    condition: Value,
}

/// One permission that a request needs.
struct Need {
    action: &'static str,
    resource: String,
    /// Condition keys that the request has.
    context: Vec<(&'static str, String)>,
}

impl Aws {
    pub(crate) fn new(policies: &[&Value]) -> Self {
        let all = policies.iter().flat_map(|policy| policy["Statement"].as_array());
        let statements = all.flatten().map(|statement| Statement {
            allows: statement["Effect"] == "Allow",
            actions: strings(&statement["Action"]),
            resources: strings(&statement["Resource"]),
            condition: statement.get("Condition").cloned().unwrap_or(Value::Null),
        });
        Self { statements: statements.collect(), grants: Grants::default() }
    }

    fn needs(ask: &Ask, key: &str) -> Vec<Need> {
        let object = format!("arn:aws:s3:::BUCKET/{key}");
        let of = |action, context| Need { action, resource: object.clone(), context };
        let list = |context| Need {
            action: "s3:ListBucket",
            resource: "arn:aws:s3:::BUCKET".to_owned(),
            context,
        };
        match ask {
            Ask::Get { absent: false } => vec![of("s3:GetObject", vec![])],
            // A read has no `s3:prefix`.
            Ask::Get { absent: true } => vec![of("s3:GetObject", vec![]), list(vec![])],
            Ask::Create => vec![of("s3:PutObject", vec![("s3:if-none-match", "*".to_owned())])],
            Ask::Update => vec![of("s3:PutObject", vec![("s3:if-match", "\"etag\"".to_owned())])],
            Ask::Overwrite => vec![of("s3:PutObject", vec![])],
            Ask::Delete => vec![of("s3:DeleteObject", vec![])],
            Ask::List if key.is_empty() => vec![list(vec![])],
            Ask::List => vec![list(vec![("s3:prefix", key.to_owned())])],
        }
    }
}

impl Rules for Aws {
    fn permits(&self, ask: &Ask, key: &str) -> bool {
        Self::needs(ask, key).iter().all(|need| {
            let mut allowed = false;
            for statement in &self.statements {
                let Some(grant) = statement.concerns(need) else { continue };
                if !statement.allows {
                    return false;
                }
                allowed = true;
                self.grants.note(grant);
            }
            allowed
        })
    }

    fn unused(&self) -> BTreeSet<String> {
        let allowing = self.statements.iter().filter(|statement| statement.allows);
        self.grants.missing_of(allowing.flat_map(|statement| {
            let pairs = statement.actions.iter().flat_map(|action| {
                statement.resources.iter().map(move |resource| grant(action, resource))
            });
            pairs.collect::<Vec<_>>()
        }))
    }
}

impl Statement {
    /// The pair of action and resource by which this statement speaks of it.
    fn concerns(&self, need: &Need) -> Option<String> {
        let action = self.actions.iter().find(|action| like(action, need.action))?;
        let resource = self.resources.iter().find(|resource| like(resource, &need.resource))?;
        self.holds(need).then(|| grant(action, resource))
    }

    /// Whether all conditions hold.
    fn holds(&self, need: &Need) -> bool {
        let Some(operators) = self.condition.as_object() else { return true };
        operators.iter().all(|(operator, keys)| {
            let mut keys = keys.as_object().expect("has keys").iter();
            keys.all(|(key, wanted)| {
                let found = need.context.iter().find(|(name, _)| name == key).map(|found| &found.1);
                match operator.as_str() {
                    "Null" => found.is_none() == (wanted == "true"),
                    "StringLike" => found.is_some_and(|found| {
                        strings(wanted).iter().any(|pattern| like(pattern, found))
                    }),
                    other => panic!("{other} is not understood here"),
                }
            })
        })
    }
}

fn grant(action: &str, resource: &str) -> String {
    format!("{action} on {resource}")
}

/// A role of Google's, and a condition on its binding.
pub(crate) struct Google {
    permissions: Vec<String>,
    /// What names of objects and listings begin with.
    prefixes: Option<(String, String)>,
    grants: Grants,
}

impl Google {
    pub(crate) fn new(role: &Value, condition: Option<&Value>) -> Self {
        let prefixes = condition.map(|condition| {
            let expression = condition["expression"].as_str().expect("is an expression");
            let parts: Vec<_> = expression.split(" || ").collect();
            assert_eq!(parts.len(), 2, "{expression}");
            let list = "api.getAttribute(\"storage.googleapis.com/objectListPrefix\", \"\")";
            (prefix_of(parts[0], "resource.name"), prefix_of(parts[1], list))
        });
        let permissions = actions("gcp", role);
        Self { permissions, prefixes, grants: Grants::default() }
    }
}

/// The text of `subject.startsWith("text")`.
fn prefix_of(expression: &str, subject: &str) -> String {
    let rest =
        expression.strip_prefix(subject).and_then(|rest| rest.strip_prefix(".startsWith(\""));
    let prefix = rest.and_then(|rest| rest.strip_suffix("\")"));
    prefix.unwrap_or_else(|| panic!("{expression} is not about {subject}")).to_owned()
}

impl Rules for Google {
    fn permits(&self, ask: &Ask, key: &str) -> bool {
        let needs: &[&str] = match ask {
            Ask::Get { absent: false } => &["storage.objects.get"],
            Ask::Get { absent: true } => &["storage.objects.get", "storage.objects.list"],
            Ask::Create => &["storage.objects.create"],
            // What is replaced is deleted.
            Ask::Update | Ask::Overwrite => &["storage.objects.create", "storage.objects.delete"],
            Ask::Delete => &["storage.objects.delete"],
            Ask::List => &["storage.objects.list"],
        };
        let within = self.prefixes.as_ref().is_none_or(|(objects, listings)| match ask {
            Ask::List => key.starts_with(listings),
            _ => format!("projects/_/buckets/BUCKET/objects/{key}").starts_with(objects),
        });
        within && granted(&self.permissions, needs, &self.grants)
    }

    fn unused(&self) -> BTreeSet<String> {
        self.grants.missing_of(self.permissions.iter().cloned())
    }
}

/// A role of Azure's, and a condition on its assignment.
pub(crate) struct Azure {
    actions: Vec<String>,
    /// What may be deleted.
    deletable: Option<String>,
    grants: Grants,
}

const BLOBS: &str = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs";

impl Azure {
    pub(crate) fn new(role: &Value, condition: Option<&str>) -> Self {
        let deletable = condition.map(|condition| {
            let words: Vec<_> = condition.split_whitespace().collect();
            let words = words.join(" ");
            let before = format!(
                "( ( !(ActionMatches{{'{BLOBS}/delete'}}) ) OR ( @Resource[{BLOBS}:path] StringLike '"
            );
            let rest = words.strip_prefix(&before).expect("is a condition on deletions");
            rest.strip_suffix("' ) )").expect("and on nothing else").to_owned()
        });
        Self { actions: actions("azure", role), deletable, grants: Grants::default() }
    }
}

impl Rules for Azure {
    fn permits(&self, ask: &Ask, key: &str) -> bool {
        let need = match ask {
            Ask::Get { .. } | Ask::List => "read",
            Ask::Create | Ask::Update | Ask::Overwrite => "write",
            Ask::Delete => "delete",
        };
        let deletes = *ask == Ask::Delete;
        let within = !deletes || self.deletable.as_ref().is_none_or(|path| like(path, key));
        within && granted(&self.actions, &[&format!("{BLOBS}/{need}")], &self.grants)
    }

    fn unused(&self) -> BTreeSet<String> {
        self.grants.missing_of(self.actions.iter().cloned())
    }
}

fn granted(all: &[String], needs: &[&str], grants: &Grants) -> bool {
    let granted = needs.iter().all(|need| all.iter().any(|one| one == need));
    if granted {
        needs.iter().for_each(|need| grants.note((*need).to_owned()));
    }
    granted
}

/// Whether a text matches a pattern in which `*` stands for any text, slashes included.
fn like(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == text };
    let Some(rest) = text.strip_prefix(before) else { return false };
    (0..=rest.len()).any(|end| rest.is_char_boundary(end) && like(after, &rest[end..]))
}

/// What a policy grants or denies by name.
pub(crate) fn actions(cloud: &str, policy: &Value) -> Vec<String> {
    match cloud {
        "aws" => {
            let statements = policy["Statement"].as_array().into_iter().flatten();
            statements.flat_map(|statement| strings(&statement["Action"])).collect()
        }
        "gcp" => policy.get("includedPermissions").map(strings).unwrap_or_default(),
        _ => policy.get("DataActions").map(strings).unwrap_or_default(),
    }
}

/// Names that the cloud knows, of those that concern objects.
pub(crate) fn known(cloud: &str) -> &'static [&'static str] {
    match cloud {
        "aws" => &[
            "s3:DeleteObject",
            "s3:DeleteObjectVersion",
            "s3:GetObject",
            "s3:ListBucket",
            "s3:PutObject",
        ],
        "gcp" => &[
            "storage.objects.create",
            "storage.objects.delete",
            "storage.objects.get",
            "storage.objects.list",
        ],
        _ => &[
            "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/delete",
            "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read",
            "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write",
        ],
    }
}

/// Whether places are named by placeholders.
pub(crate) fn placeholders(text: &str) -> bool {
    ["BUCKET", "PREFIX", "SUBSCRIPTION"].iter().any(|name| text.contains(name))
}

/// A text, or several.
pub(crate) fn strings(value: &Value) -> Vec<String> {
    let one = |value: &Value| value.as_str().map(str::to_owned);
    match value.as_array() {
        Some(values) => values.iter().filter_map(one).collect(),
        None => one(value).into_iter().collect(),
    }
}
