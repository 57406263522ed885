//! The played API server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tower_test::mock;

use super::*;

/// A watch is answered bit by bit.
type Answer = UnsyncBoxBody<Bytes, std::io::Error>;

/// How the API server fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outage {
    /// It answers with this status, in its own words or not.
    Status(u16, bool),
    /// It says nothing.
    Hang,
}

#[derive(Default)]
struct World {
    objects: BTreeMap<String, Value>,
    /// Of the latest change.
    version: u64,
    watchers: Vec<mpsc::UnboundedSender<String>>,
    /// Events that are held back: the watch lags.
    lagging: Option<Vec<String>>,
    outage: Option<Outage>,
    /// Whether a replica writes right after the next patch.
    meddling: bool,
    /// Method and name of every request that was answered, watches and lists aside.
    log: Vec<String>,
}

/// An API server. Clones are the same one.
#[derive(Clone, Default)]
pub(super) struct Played {
    world: Arc<Mutex<World>>,
    /// They end with the runtime of their test.
    tasks: TaskTracker,
}

impl Played {
    /// A connection to it.
    pub(super) fn client(&self) -> Client {
        let (service, mut handle) = mock::pair::<Request<Body>, Response<Answer>>();
        let played = self.clone();
        self.tasks.spawn(async move {
            while let Some((request, send)) = handle.next_request().await {
                let answered = played.clone();
                played.tasks.spawn(async move {
                    let answer = answered.answer(request).await;
                    send.send_response(answer);
                });
            }
        });
        Client::new(service, "default")
    }

    /// A replica that does not watch.
    pub(super) fn deaf(&self) -> Arc<Records> {
        Arc::new(Records::new(self.client()))
    }

    /// A replica, and what it is told, after the first complete list.
    pub(super) async fn replica(&self) -> (Arc<Records>, mpsc::UnboundedReceiver<Change>) {
        let records = self.deaf();
        let (told, mut changes) = mpsc::unbounded_channel();
        let watching = Arc::clone(&records);
        self.tasks.spawn(async move {
            let tell = |change| drop(told.send(change));
            watching.watch(tell).await;
        });
        while changes.recv().await.unwrap() != Change::Listed {}
        (records, changes)
    }

    pub(super) fn fail(&self, outage: Option<Outage>) {
        self.world.lock().unwrap().outage = outage;
    }

    /// A replica writes right after the next patch.
    pub(super) fn meddle(&self) {
        self.world.lock().unwrap().meddling = true;
    }

    pub(super) fn object(&self) -> Option<Value> {
        self.world
            .lock()
            .unwrap()
            .objects
            .get(&name(SERVER, &gun()))
            .cloned()
    }

    /// What was asked since the last time.
    pub(super) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.world.lock().unwrap().log)
    }

    /// An administrator puts an object there, as an import does it. Without a uid it is a new one.
    pub(super) fn put(&self, mut object: Value) {
        self.world.lock().unwrap().store(&mut object);
    }

    /// An administrator deletes the object.
    pub(super) fn delete(&self) {
        self.world.lock().unwrap().remove(&name(SERVER, &gun()));
    }

    /// What replicas see of changes from now on is held back, or given at last.
    pub(super) fn lag(&self, lags: bool) {
        let mut world = self.world.lock().unwrap();
        if lags {
            world.lagging = Some(Vec::new());
        } else {
            for event in world.lagging.take().unwrap_or_default() {
                world.tell(event);
            }
        }
    }

    /// The events that are held back.
    pub(super) fn held(&self) -> Vec<Value> {
        let world = self.world.lock().unwrap();
        let held = world.lagging.iter().flatten();
        held.map(|event| serde_json::from_str(event).unwrap()).collect()
    }

    /// All watches end, and what happened meanwhile is known to nobody any more.
    pub(super) fn expire_watches(&self) {
        let gone = json!({"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"});
        let mut world = self.world.lock().unwrap();
        // Nobody hears of these any more.
        world.lagging = None;
        world.tell(event("ERROR", &gone));
        world.watchers.clear();
    }

    async fn answer(&self, request: Request<Body>) -> Response<Answer> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let query = parts.uri.query().unwrap_or_default();
        let outage = self.world.lock().unwrap().outage;
        match outage {
            Some(Outage::Hang) => std::future::pending().await,
            Some(Outage::Status(code, true)) => return failure(code, ""),
            Some(Outage::Status(code, false)) => {
                return response(code, whole("404 page not found".to_owned()));
            }
            None => {}
        }
        let mut world = self.world.lock().unwrap();
        if query.contains("watch=true") {
            let (sender, events) = mpsc::unbounded_channel();
            world.watchers.push(sender);
            let frames = stream::unfold(events, |mut events| async {
                let event: String = events.recv().await?;
                Some((Ok::<_, std::io::Error>(Frame::data(Bytes::from(event))), events))
            });
            return response(200, StreamBody::new(frames).boxed_unsync());
        }
        let name = parts.uri.path().rsplit('/').next().unwrap().to_owned();
        if name == "selfsubjectreviews" {
            let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview",
                "status": {"userInfo": {"username": "ada"}}});
            return response(201, whole(review.to_string()));
        }
        if name == "trustrecords" && parts.method == Method::GET {
            let items: Vec<_> = world.objects.values().cloned().collect();
            let list = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "TrustRecordList",
                "metadata": {"resourceVersion": world.version.to_string()}, "items": items});
            return response(200, whole(list.to_string()));
        }
        let sent = serde_json::from_slice(&body).unwrap_or_default();
        world.log.push(parts.method.to_string());
        world.change(&parts.method, &name, sent)
    }
}

impl World {
    fn change(&mut self, method: &Method, name: &str, mut sent: Value) -> Response<Answer> {
        let wanted = if *method == Method::DELETE {
            sent["preconditions"].clone()
        } else {
            sent["metadata"].clone()
        };
        let name = if *method == Method::POST {
            sent["metadata"]["name"].as_str().unwrap().to_owned()
        } else {
            name.to_owned()
        };
        let present = self.objects.get(&name).cloned();
        let Some(mut present) = present else {
            if *method == Method::POST {
                self.store(&mut sent);
                return response(201, whole(sent.to_string()));
            }
            return failure(404, &name);
        };
        for member in ["uid", "resourceVersion"] {
            let differs = wanted
                .get(member)
                .is_some_and(|value| *value != present["metadata"][member]);
            if *method != Method::GET && differs {
                return failure(409, &name);
            }
        }
        match *method {
            Method::GET => {}
            Method::POST => return failure(409, &name),
            Method::PUT => {
                self.store(&mut sent);
                present = sent;
            }
            Method::PATCH => {
                json_patch::merge(&mut present, &sent);
                self.store(&mut present);
                if std::mem::take(&mut self.meddling) {
                    self.store(&mut present.clone());
                }
            }
            Method::DELETE => self.remove(&name),
            _ => unreachable!("{method}"),
        }
        response(200, whole(present.to_string()))
    }

    fn store(&mut self, object: &mut Value) {
        self.version += 1;
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = self.version.to_string().into();
        if metadata["uid"].is_null() {
            metadata["uid"] = format!("uid-{}", self.version).into();
        }
        let name = metadata["name"].as_str().unwrap().to_owned();
        let kind = if self.objects.insert(name, object.clone()).is_some() {
            "MODIFIED"
        } else {
            "ADDED"
        };
        self.tell(event(kind, object));
    }

    fn remove(&mut self, name: &str) {
        if let Some(object) = self.objects.remove(name) {
            self.version += 1;
            self.tell(event("DELETED", &object));
        }
    }

    fn tell(&mut self, event: String) {
        match &mut self.lagging {
            Some(held) => held.push(event),
            None => self
                .watchers
                .retain(|watcher| watcher.send(event.clone()).is_ok()),
        }
    }
}

fn event(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

fn whole(text: String) -> Answer {
    Full::from(text).map_err(|never| match never {}).boxed_unsync()
}

fn response(code: u16, body: Answer) -> Response<Answer> {
    Response::builder().status(code).body(body).unwrap()
}

fn failure(code: u16, name: &str) -> Response<Answer> {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "InternalError",
    };
    let status = json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "played",
        "details": {"name": name, "group": "countersign.dev", "kind": "trustrecords"}});
    response(code, whole(status.to_string()))
}
