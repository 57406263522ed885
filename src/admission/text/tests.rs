use std::sync::Arc;

use super::*;
use crate::policy::{Mode, PolicyName, Workloads};
use crate::reference::Reference;
use crate::review::images::List;
use crate::trust::fake;

fn image(list: List, text: &str) -> Image {
    Image {
        pointer: String::new(),
        list,
        name: "web".to_owned(),
        image: text.to_owned(),
        old: None,
    }
}

fn objection(cause: Cause) -> Objection {
    let policy = Arc::new(PolicyName {
        namespace: None,
        name: "default".to_owned(),
    });
    Objection {
        mode: Mode::Enforce,
        workloads: Workloads::Advise,
        origin: Some((policy, Some(1))),
        cause,
    }
}

fn unsigned() -> Cause {
    let similar = ["1.0", "1.1"].map(|tag| tag.parse().unwrap()).to_vec();
    let cause = "tag 1.2 is not signed in registry.example.com/app";
    Cause::Refused(fake::refusal(Kind::Untrusted, "not_signed", cause, similar))
}

fn line(image: &Image, cause: Cause) -> String {
    complaint(image, [&objection(cause)]).unwrap().full()
}

/// Design §8, to the letter.
#[test]
fn the_denial_of_an_unsigned_tag_is_the_one_the_design_shows() {
    assert_eq!(
        line(
            &image(List::Containers, "registry.example.com/app:1.2"),
            unsigned()
        ),
        "container \"web\": registry.example.com/app:1.2 is not trusted: tag 1.2 is not signed in \
         registry.example.com/app (policy default, rule 1, verifier acme at trust.example.com); \
         signed tags: 1.0, 1.1"
    );
}

#[test]
fn every_cause_says_what_is_wrong_and_what_would_help() {
    let digest = Digest::sha256([0xab; 32]);
    let reference = Reference::parse("app:1").unwrap();
    let down = fake::refusal(
        Kind::Unavailable,
        "unreachable",
        "trust server did not answer",
        Vec::new(),
    );
    let hex = "ab".repeat(32);
    for (cause, want) in [
        (
            Cause::Uncovered,
            "app:1 is not admitted: no rule covers it (policy default, rule 1); the policy needs a rule for it"
                .to_owned(),
        ),
        (
            Cause::Denied {
                message: "only ours".into(),
            },
            "app:1 is not admitted: only ours (policy default, rule 1)".to_owned(),
        ),
        (
            Cause::Refused(down),
            "app:1 could not be verified: trust server did not answer (policy default, rule 1, verifier acme at \
             trust.example.com); try again"
                .to_owned(),
        ),
        (
            Cause::Deadline,
            "app:1 could not be verified: verification did not finish in the time this request has \
             (policy default, rule 1); try again"
                .to_owned(),
        ),
        (
            Cause::NotPinned {
                pinned: reference.with_digest(digest.clone()),
            },
            format!(
                "app:1 is not pinned to a digest (the mutating step did not run or could not verify it) \
                 (policy default, rule 1); create it again, or write docker.io/library/app:1@sha256:{hex}"
            ),
        ),
        (
            Cause::Disagree {
                signed: digest,
                other: Digest::sha256([0xcd; 32]),
            },
            "app:1 is not trusted: sha256:abababababab… is signed here, but sha256:cdcdcdcdcdcd… by its own \
             digest or another policy (policy default, rule 1)"
                .to_owned(),
        ),
    ] {
        let got = line(&image(List::InitContainers, "app:1"), cause);
        assert_eq!(got, format!("init container \"web\": {want}"));
    }
}

/// ADM-18, ADM-50.
#[test]
fn causes_of_no_policy_stand_alone() {
    let own = |image: &Image, cause| {
        complaint(image, [&Objection::own(Mode::Enforce, cause)])
            .unwrap()
            .full()
    };
    assert_eq!(
        own(&image(List::Containers, "  "), Cause::Blank),
        "container \"web\": names no image"
    );
    let error = Reference::parse("a@sha256:x").unwrap_err();
    assert_eq!(
        own(&image(List::Volumes, "a@sha256:x"), Cause::Unparsable(error)),
        "volume \"web\": a@sha256:x is not an image reference: the digest is malformed: the hash must be \
         lower-case hex of the algorithm's full length"
    );
    assert_eq!(
        own(
            &image(List::EphemeralContainers, "a"),
            Cause::NoPolicy {
                namespace: "shop".to_owned()
            }
        ),
        "ephemeral container \"web\": a is not admitted: no policy applies in namespace shop; a \
         ClusterTrustPolicy has to select it"
    );
}

#[test]
fn a_second_policy_is_named_in_brief() {
    let got = complaint(
        &image(List::Containers, "app:1"),
        [&objection(Cause::Uncovered), &objection(unsigned())],
    );
    let got = got.unwrap().full();
    assert!(
        got.contains("; also tag 1.2 is not signed in registry.example.com/app (policy default"),
        "{got}"
    );
}

/// OBS-21, checklist 57.
#[test]
fn what_a_user_wrote_cannot_forge_a_line() {
    let evil = Image {
        name: "x\nError: all is well".to_owned(),
        ..image(List::Containers, "a\r\nallowed")
    };
    let error = Reference::parse(evil.text()).unwrap_err();
    let got = line(&evil, Cause::Unparsable(error));
    assert!(!got.chars().any(char::is_control), "{got}");
}

#[test]
fn stale_metadata_is_announced_with_its_age_and_server() {
    assert_eq!(
        stale(
            &image(List::Containers, "app:1"),
            Duration::from_secs(3 * 3600 + 125),
            "t.example"
        ),
        "container \"web\": app:1 was verified with metadata 3h2m old: trust server t.example could not be asked"
    );
}
