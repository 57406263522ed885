//! Break-glass: whether a user may do without content trust (design §3).
//!
//! Nothing is remembered: only requests that ask for a bypass cost a question, the API server has authorized each of
//! them anyway, and a right that was taken away ends at once.

use std::fmt;
use std::future::Future;

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::PostParams;
use kube::{Client, Resource as _};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::REQUEST;
use crate::review::wire::Identity;

/// Who may do what. The seam that tests of `admission` replace.
pub trait Authorize: Send + Sync + 'static {
    /// Whether `user` has the verb `bypass` on `trustpolicies.countersign.dev` in `namespace`, by `deadline` at the
    /// latest.
    ///
    /// # Errors
    ///
    /// [`Unanswered`], which is neither yes nor no.
    fn may_bypass(
        &self,
        user: &Identity,
        namespace: &str,
        deadline: Instant,
    ) -> impl Future<Output = Result<bool, Unanswered>> + Send;
}

/// Why it is not known whether somebody may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// Policies come from files.
    #[error("the webhook runs without access to the cluster")]
    NoCluster,
    /// An outage.
    #[error("the API server does not answer")]
    Silent,
    /// A permission of the webhook is missing.
    #[error("the API server does not let the webhook ask: it needs to create subjectaccessreviews")]
    Forbidden,
    /// An authorizer failed, or what was said makes no sense.
    #[error("the API server could not tell")]
    Unclear,
}

/// The API server as the authority on rights; outside of a cluster there is none.
#[derive(Clone, Default)]
pub struct Access(Option<Client>);

impl Access {
    pub(super) const fn of(client: Client) -> Self {
        Self(Some(client))
    }
}

impl Authorize for Access {
    async fn may_bypass(
        &self,
        user: &Identity,
        namespace: &str,
        deadline: Instant,
    ) -> Result<bool, Unanswered> {
        let client = self.0.as_ref().ok_or(Unanswered::NoCluster)?;
        let deadline = deadline.min(Instant::now() + REQUEST);
        match timeout_at(deadline, ask(client, user, namespace)).await {
            Ok(Ok(answer)) => read(&answer),
            Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => Err(Unanswered::Forbidden),
            Ok(Err(_)) | Err(_) => Err(Unanswered::Silent),
        }
    }
}

/// The answer as text: the client's typed calls would log one that they cannot read, and it names the user.
async fn ask(client: &Client, user: &Identity, namespace: &str) -> kube::Result<String> {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.name.clone()),
            uid: Some(user.uid.clone()).filter(|uid| !uid.is_empty()),
            groups: Some(user.groups.clone()),
            extra: Some(user.extra.clone()),
            resource_attributes: Some(ResourceAttributes {
                verb: Some("bypass".to_owned()),
                group: Some("countersign.dev".to_owned()),
                resource: Some("trustpolicies".to_owned()),
                namespace: Some(namespace.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let body = serde_json::to_vec(&review).map_err(kube::Error::SerdeError)?;
    let request = kube::core::Request::new(SubjectAccessReview::url_path(&(), None))
        .create(&PostParams::default(), body)
        .map_err(kube::Error::BuildRequest)?;
    client.request_text(request).await
}

#[derive(Deserialize)]
struct Answer {
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    allowed: bool,
    denied: Option<bool>,
    evaluation_error: Option<String>,
}

/// A no that comes with an error may be one for the error alone.
fn read(answer: &str) -> Result<bool, Unanswered> {
    let Answer { status } = serde_json::from_str(answer).map_err(|_| Unanswered::Unclear)?;
    let failed = status.evaluation_error.is_some_and(|error| !error.is_empty());
    match (status.allowed, status.denied.unwrap_or_default()) {
        (true, false) => Ok(true),
        (false, false) if failed => Err(Unanswered::Unclear),
        (_, true) | (false, false) => Ok(false),
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Access").field(&self.0.is_some()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};
    use tower_test::mock;

    use super::*;

    fn user() -> Identity {
        let user = json!({"username": "alice", "uid": "7", "groups": ["oncall"], "extra": {"scopes": ["a"]}});
        serde_json::from_value(user).unwrap()
    }

    /// What comes of one question that the API server answers so, and what it was asked.
    async fn asked(status: u16, answer: &Value) -> (Result<bool, Unanswered>, Value) {
        let (service, mut handle) = mock::pair::<Request<Body>, Response<Body>>();
        let access = Access::of(Client::new(service, "default"));
        let user = user();
        let question = access.may_bypass(&user, "shop", Instant::now() + REQUEST);
        let server = async {
            let (request, send) = handle.next_request().await.unwrap();
            assert_eq!(request.method(), "POST");
            assert_eq!(
                request.uri().path(),
                "/apis/authorization.k8s.io/v1/subjectaccessreviews"
            );
            let body = request.into_body().collect_bytes().await.unwrap();
            let asked = serde_json::from_slice(&body).unwrap();
            let answer = Response::builder()
                .status(status)
                .body(Body::from(answer.to_string().into_bytes()));
            send.send_response(answer.unwrap());
            asked
        };
        tokio::join!(question, server)
    }

    #[tokio::test]
    async fn the_question_names_the_whole_user_the_verb_and_the_namespace() {
        let (answer, asked) = asked(201, &json!({"status": {"allowed": true}})).await;
        assert_eq!(answer, Ok(true));
        assert_eq!(
            asked["spec"],
            json!({
                "user": "alice", "uid": "7", "groups": ["oncall"], "extra": {"scopes": ["a"]},
                "resourceAttributes": {
                    "verb": "bypass", "group": "countersign.dev", "resource": "trustpolicies", "namespace": "shop",
                },
            })
        );
    }

    #[tokio::test]
    async fn yes_no_and_nobody_knows_are_told_apart() {
        let of = |status| json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "status": status});
        let failure = |code: u16, reason| {
            let failure = json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "played"});
            (code, failure)
        };
        for ((status, answer), want) in [
            ((201, of(json!({"allowed": true}))), Ok(true)),
            ((201, of(json!({"allowed": false}))), Ok(false)),
            ((201, of(json!({"allowed": true, "denied": true}))), Ok(false)),
            (
                (
                    201,
                    of(json!({"allowed": false, "denied": true, "evaluationError": "x"})),
                ),
                Ok(false),
            ),
            (
                (
                    201,
                    of(json!({"allowed": true, "evaluationError": "a role is missing"})),
                ),
                Ok(true),
            ),
            (
                (
                    201,
                    of(json!({"allowed": false, "evaluationError": "webhook timed out"})),
                ),
                Err(Unanswered::Unclear),
            ),
            ((201, of(json!({}))), Err(Unanswered::Unclear)),
            ((201, of(json!({"allowed": "true"}))), Err(Unanswered::Unclear)),
            ((201, json!([])), Err(Unanswered::Unclear)),
            ((201, of(Value::Null)), Err(Unanswered::Unclear)),
            (failure(403, "Forbidden"), Err(Unanswered::Forbidden)),
            (failure(500, "InternalError"), Err(Unanswered::Silent)),
            (failure(429, "TooManyRequests"), Err(Unanswered::Silent)),
        ] {
            assert_eq!(asked(status, &answer).await.0, want, "{status} {answer}");
        }
        let nobody = Access::default();
        let (user, deadline) = (user(), Instant::now() + REQUEST);
        let answer = nobody.may_bypass(&user, "shop", deadline).await;
        assert_eq!(answer, Err(Unanswered::NoCluster));
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_hangs_is_not_waited_for_longer_than_there_is_time() {
        let (service, _handle) = mock::pair::<Request<Body>, Response<Body>>();
        let access = Access::of(Client::new(service, "default"));
        for (time, want) in [
            (Duration::from_millis(300), Duration::from_millis(300)),
            (Duration::from_secs(9), REQUEST),
        ] {
            let began = Instant::now();
            let answer = access.may_bypass(&user(), "shop", began + time).await;
            assert_eq!(answer, Err(Unanswered::Silent));
            assert!(began.elapsed() >= want && began.elapsed() < want + Duration::from_millis(10));
        }
    }
}
