//! Tells when an object that a policy names has changed, and nothing about it.
//!
//! One watch for each object, by its name, so that `watch` on that name is all that has to be granted (CRED-23). Only
//! metadata is asked for, and not even that is looked at: what has changed is read by name afterwards, as ever. So there
//! is nothing of a Secret here that could be logged or kept.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::stream::{AbortHandle, BoxStream, SelectAll, StreamExt as _, abortable, unfold};
use http::StatusCode;
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::WatchParams;
use kube::client::Body;
use kube::{Client, Resource as _};
use tokio::time::{sleep, timeout};
use tracing::{debug, info};

use super::REQUEST;
use crate::policy::Lookup;

/// Watches at most; each may take a connection. What is beyond is read every now and then like what may not be watched.
const MOST: usize = 64;
/// The API server ends a watch after so many seconds, so that one that died silently is not trusted for longer.
const LIFETIME: u32 = 240;
/// A watch that says nothing for longer has died.
const SILENCE: Duration = Duration::from_secs(250);
/// From a change to its bell: what changes all the time rings once a second.
const PACE: Duration = Duration::from_secs(1);
/// A watch that ended is begun again after this.
const AGAIN: Duration = Duration::from_secs(2);
/// One that is forbidden, after this: the right may come, and until then the object is read every 30 seconds.
const FORBIDDEN: Duration = Duration::from_secs(300);

/// A namespace, and an object in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Object {
    namespace: String,
    kind: Kind,
    name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Secret,
    ConfigMap,
}

impl Object {
    /// The object in which `what` is looked up.
    pub(super) fn of(namespace: &str, what: &Lookup) -> Self {
        let (kind, name) = match what {
            Lookup::Secret(name) => (Kind::Secret, name),
            Lookup::ConfigMap { name, .. } => (Kind::ConfigMap, name),
        };
        Self {
            namespace: namespace.to_owned(),
            kind,
            name: name.clone(),
        }
    }

    /// Begins where things stand, with an event if the object is there.
    fn request(&self) -> Option<http::Request<Body>> {
        let namespace = Some(self.namespace.as_str());
        let path = match self.kind {
            Kind::Secret => Secret::url_path(&(), namespace),
            Kind::ConfigMap => ConfigMap::url_path(&(), namespace),
        };
        let params = WatchParams::default()
            .fields(&format!("metadata.name={}", self.name))
            .timeout(LIFETIME)
            .disable_bookmarks();
        let request = kube::core::Request::new(path).watch_metadata(&params, "");
        request.ok().map(|request| request.map(Body::from))
    }
}

/// All watches.
pub(super) struct Bells {
    client: Client,
    hung: BTreeMap<Object, AbortHandle>,
    ringing: SelectAll<BoxStream<'static, Object>>,
}

impl Bells {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            hung: BTreeMap::new(),
            ringing: SelectAll::new(),
        }
    }

    /// Watches `objects`, as many as may be, and nothing else any more.
    pub(super) fn hang(&mut self, objects: &BTreeSet<Object>) {
        self.hung.retain(|object, handle| {
            let wanted = objects.contains(object);
            if !wanted {
                handle.abort();
            }
            wanted
        });
        for object in objects {
            if self.hung.len() >= MOST {
                return;
            }
            if !self.hung.contains_key(object) {
                let (bell, handle) = abortable(bell(self.client.clone(), object.clone()));
                self.ringing.push(bell.boxed());
                self.hung.insert(object.clone(), handle);
            }
        }
    }

    /// The next object that may have changed; `None` if nothing is watched.
    pub(super) async fn next(&mut self) -> Option<Object> {
        self.ringing.next().await
    }

    /// Another that has changed already.
    pub(super) fn another(&mut self) -> Option<Object> {
        self.next().now_or_never().flatten()
    }
}

/// Where a watch is.
enum Watch {
    Waiting(Duration),
    Open(Body),
}

/// Rings with the object whenever something was said about it.
fn bell(client: Client, object: Object) -> impl futures_util::Stream<Item = Object> + Send {
    unfold(Watch::Waiting(Duration::ZERO), move |mut watch| {
        let (client, object) = (client.clone(), object.clone());
        async move {
            loop {
                watch = match watch {
                    Watch::Waiting(time) => {
                        sleep(time).await;
                        open(&client, &object).await
                    }
                    Watch::Open(mut body) => match listen(&mut body, SILENCE).await {
                        Heard::Something => {
                            sleep(PACE).await;
                            return Some((object, hear_out(body).await));
                        }
                        Heard::Nothing | Heard::End => Watch::Waiting(AGAIN),
                    },
                };
            }
        }
    })
}

async fn open(client: &Client, object: &Object) -> Watch {
    let Some(request) = object.request() else {
        return Watch::Waiting(FORBIDDEN);
    };
    let (namespace, name) = (&object.namespace, &object.name);
    match timeout(REQUEST, client.send(request)).await {
        Ok(Ok(response)) if response.status() == StatusCode::OK => Watch::Open(response.into_body()),
        Ok(Ok(response)) if response.status() == StatusCode::FORBIDDEN => {
            info!(namespace, name, kind = ?object.kind, "an object may not be watched and is read every 30 seconds");
            Watch::Waiting(FORBIDDEN)
        }
        Ok(Ok(_) | Err(_)) | Err(_) => {
            debug!(namespace, name, kind = ?object.kind, "an object could not be watched");
            Watch::Waiting(AGAIN)
        }
    }
}

/// What came of listening. What was said is dropped.
enum Heard {
    Something,
    Nothing,
    End,
}

/// Waits for the API server to say something.
async fn listen(body: &mut Body, time: Duration) -> Heard {
    match timeout(time, body.frame()).await {
        Ok(Some(Ok(_))) => Heard::Something,
        Ok(Some(Err(_)) | None) => Heard::End,
        Err(_) => Heard::Nothing,
    }
}

/// Passes over what has been said already.
async fn hear_out(mut body: Body) -> Watch {
    loop {
        match listen(&mut body, Duration::ZERO).await {
            Heard::Something => {}
            Heard::Nothing => return Watch::Open(body),
            Heard::End => return Watch::Waiting(AGAIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use tower_test::mock;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn watches_are_bounded_and_follow_what_is_named() {
        let (service, _handle) = mock::pair::<Request<Body>, Response<Body>>();
        let mut bells = Bells::new(Client::new(service, "default"));
        let objects = |names: std::ops::Range<usize>| {
            let secret = |number| Object::of("shop", &Lookup::Secret(format!("login-{number}")));
            names.map(secret).collect::<BTreeSet<_>>()
        };
        bells.hang(&objects(0..500));
        assert_eq!((bells.hung.len(), bells.ringing.len()), (MOST, MOST));
        bells.hang(&objects(499..500));
        assert!(bells.another().is_none());
        assert_eq!((bells.hung.len(), bells.ringing.len()), (1, 1));
        bells.hang(&BTreeSet::new());
        assert!(bells.next().await.is_none(), "nothing is watched");
    }
}
