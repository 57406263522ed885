//! The audited way out (notary-v1 §4.8).

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::{REQUEST, RESET, encoding, failed, is_absent, kind, spec_of};
use crate::reference::Gun;
use crate::store::{Forgotten, StoreError};

/// Records in one answer to a list.
const PAGE: u32 = 32;
/// How often a record is taken up again that a replica has just written.
const ATTEMPTS: usize = 5;
/// Characters of a reason.
const REASON: usize = 256;

/// Why records are forgotten, for those who read the log later.
#[derive(Clone, Debug)]
pub struct Note {
    /// What the administrator says.
    pub reason: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// Forgets `gun`, on `server` or on all: says in each of its records who wants that, when and why, then deletes it.
/// The replicas see both. Says what was forgotten.
///
/// # Errors
///
/// [`StoreError`] if the API server does not answer or does not allow it.
pub async fn reset(
    client: &Client,
    server: Option<&str>,
    gun: &Gun,
    note: &Note,
) -> Result<Vec<Forgotten>, StoreError> {
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &kind());
    // If the API server does not tell, its own audit log still does.
    let who = in_time(gun, whoami(client)).await.unwrap_or_default();
    let note = json!({
        "by": who,
        "at": note.at.to_string(),
        "reason": note.reason.as_ref().map(|reason| reason.chars().take(REASON).collect::<String>()),
    });
    let mut forgotten = Vec::new();
    for object in records_of(&api, server, gun).await? {
        forgotten.extend(forget(&api, object, gun, &note.to_string()).await?);
    }
    forgotten.sort_by(|a, b| a.server.cmp(&b.server));
    Ok(forgotten)
}

/// The records that say they are of `gun`, be they readable or not.
async fn records_of(
    api: &Api<DynamicObject>,
    server: Option<&str>,
    gun: &Gun,
) -> Result<Vec<DynamicObject>, StoreError> {
    let mut found = Vec::new();
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let list = in_time(gun, api.list(&page)).await?;
        let of_gun = |object: &DynamicObject| {
            said(object, "/spec/gun") == gun.as_str()
                && server.is_none_or(|server| {
                    // An authority that only its user vouches for stands behind the URL.
                    let rest = said(object, "/spec/server").strip_prefix(server);
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("#ca="))
                })
        };
        found.extend(list.items.into_iter().filter(of_gun));
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// Deletes one record, as it is at that moment; `None` if somebody else did.
async fn forget(
    api: &Api<DynamicObject>,
    mut object: DynamicObject,
    gun: &Gun,
    note: &str,
) -> Result<Option<Forgotten>, StoreError> {
    let name = object.name_any();
    for _ in 0..ATTEMPTS {
        let attempt = async {
            let metadata = &object.metadata;
            let marked = json!({"metadata": {
                "annotations": {RESET: note}, "uid": metadata.uid, "resourceVersion": metadata.resource_version,
            }});
            let marked = api
                .patch(&name, &PatchParams::default(), &Patch::Merge(&marked))
                .await?;
            let this = Preconditions {
                resource_version: marked.metadata.resource_version.clone(),
                uid: marked.metadata.uid.clone(),
            };
            api.delete(&name, &DeleteParams::default().preconditions(this))
                .await
        };
        match timeout_at(Instant::now() + REQUEST * 2, attempt).await {
            Ok(Ok(_)) => return Ok(Some(told(&object))),
            Ok(Err(error)) if is_absent(&error, &name) => return Ok(None),
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => {}
            Ok(Err(error)) => return Err(failed(gun, error)),
            Err(_) => return Err(StoreError::Slow { gun: gun.clone() }),
        }
        object = match in_time(gun, api.get_opt(&name)).await? {
            Some(object) => object,
            None => return Ok(None),
        };
    }
    Err(StoreError::Conflict { gun: gun.clone() })
}

async fn whoami(client: &Client) -> kube::Result<String> {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let review = api
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await?;
    let user = review.status.and_then(|status| status.user_info);
    Ok(user.and_then(|user| user.username).unwrap_or_default())
}

async fn in_time<T>(gun: &Gun, request: impl Future<Output = kube::Result<T>>) -> Result<T, StoreError> {
    match timeout_at(Instant::now() + REQUEST * 2, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(failed(gun, error)),
        Err(_) => Err(StoreError::Slow { gun: gun.clone() }),
    }
}

/// What a record knew. Of a damaged one, what can be read of it.
fn told(object: &DynamicObject) -> Forgotten {
    let spec = spec_of(object);
    let known = spec.as_ref().ok().and_then(|spec| encoding::essence(spec).ok());
    let (roots, seen) = known.unwrap_or_default();
    let mut versions: Vec<_> = seen
        .iter()
        .map(|(role, seen)| (role.to_string(), i64::try_from(seen.version).unwrap_or(i64::MAX)))
        .collect();
    versions.sort();
    Forgotten {
        server: said(object, "/spec/server").to_owned(),
        roots: i64::try_from(roots.len()).unwrap_or(i64::MAX),
        versions,
    }
}

fn said<'a>(object: &'a DynamicObject, pointer: &str) -> &'a str {
    object
        .data
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}
