use futures_util::future::join_all;

use super::*;

/// `correct horse`, at the lowest cost there is.
pub(in super::super) const ALICE: &str =
    "alice:$2b$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e\n";

fn alices() -> Access {
    Folder::new()
        .with("htpasswd", format!("# people\n\n{ALICE}"))
        .access("htpasswd: htpasswd\nrules: [{who: [alice], repositories: ['**'], actions: [pull]}]\n")
}

#[tokio::test]
async fn passwords_are_verified() {
    let access = alices();
    for (label, user, password, want) in [
        ("right", "alice", "correct horse", "htpasswd alice"),
        ("right and remembered", "alice", "correct horse", "htpasswd alice"),
        ("wrong", "alice", "correct horses", "password"),
        ("wrong case", "alice", "Correct horse", "password"),
        ("wrong case of the name", "Alice", "correct horse", "password"),
        ("nobody", "mallory", "correct horse", "password"),
        ("the password of the decoy", "mallory", "", "malformed"),
        ("the colon elsewhere", "alice:correct", "horse", "password"),
        ("a zero byte", "alice", "correct horse\0", "password"),
        (
            "the hash",
            "alice",
            ALICE.split_once(':').unwrap().1.trim(),
            "password",
        ),
    ] {
        let got = with(&access, &basic(user, password), &Need::Pull(gun(APP))).await;
        assert_eq!(got, want, "{label}");
    }
}

#[tokio::test]
async fn guessing_passwords_ends_after_twenty_guesses_of_an_address() {
    let access = alices();
    let guess = async |from: &str, user: &str, password: &str, at: Timestamp| {
        let headers = headers(&[&basic(user, password)]);
        outcome(
            &access
                .admit(&peer(from), &headers, &Need::Pull(gun(APP)), at)
                .await,
        )
    };
    assert_eq!(
        guess("192.0.2.2", "alice", "correct horse", now()).await,
        "htpasswd alice"
    );
    for i in 0..20 {
        let user = if i % 2 == 0 { "alice" } else { "bob" };
        assert_eq!(
            guess("192.0.2.2", user, &format!("{i}"), now()).await,
            "password",
            "{i}"
        );
    }
    let late = now() + Duration::from_secs(59);
    for (label, from, user, password, at, want) in [
        ("one more", "192.0.2.2", "alice", "x", now(), "too many logins"),
        ("a new name", "192.0.2.2", "carol", "x", late, "too many logins"),
        (
            "who logged in before",
            "192.0.2.2",
            "alice",
            "correct horse",
            now(),
            "htpasswd alice",
        ),
        ("another address", "192.0.2.3", "alice", "x", now(), "password"),
        (
            "a minute later",
            "192.0.2.2",
            "alice",
            "x",
            now() + Duration::from_secs(60),
            "password",
        ),
    ] {
        assert_eq!(guess(from, user, password, at).await, want, "{label}");
    }
}

#[tokio::test]
async fn guessing_at_once_is_no_way_round_the_limit() {
    let access = alices();
    let guesses = (0..60).map(|i| {
        let header = basic("alice", &format!("guess {i}"));
        let access = &access;
        async move { with(access, &header, &Need::Known).await }
    });
    let outcomes = join_all(guesses).await;
    let tried = outcomes.iter().filter(|outcome| *outcome == "password").count();
    assert_eq!(tried, 20, "{outcomes:?}");
}

#[tokio::test]
async fn many_who_log_in_at_once_with_a_good_password_all_get_in() {
    let access = alices();
    let header = basic("alice", "correct horse");
    let logins = (0..60).map(|_| with(&access, &header, &Need::Known));
    for outcome in join_all(logins).await {
        assert_eq!(outcome, "htpasswd alice");
    }
}

#[tokio::test]
async fn successes_in_between_buy_no_guesses() {
    let secret = "tokens: [{name: mallory, sha256: @}]".replace('@', &sha256("s"));
    let access = Folder::new()
        .with("htpasswd", ALICE)
        .access(&format!("htpasswd: htpasswd\n{secret}"));
    for i in 0..20 {
        let own = with(&access, &basic("mallory", "s"), &Need::Known).await;
        assert_eq!(own, "static mallory", "{i}");
        let own = with(&access, "Bearer s", &Need::Known).await;
        assert_eq!(own, "static mallory", "{i}");
        let guess = with(&access, &basic("alice", &format!("{i}")), &Need::Known).await;
        assert_eq!(guess, "password", "{i}");
    }
    let guess = with(&access, &basic("alice", "x"), &Need::Known).await;
    assert_eq!(guess, "too many logins");
}

#[test]
fn a_name_that_is_not_there_is_held_against_a_hash_that_can_be_verified() {
    // Were it malformed, the answer would come at once, and tell which names there are.
    let parts: bcrypt::HashParts = super::super::passwords::decoy(4).parse().unwrap();
    assert_eq!(parts.get_cost(), 4);
    assert_eq!(
        bcrypt::verify("x", &super::super::passwords::decoy(4)).ok(),
        Some(false)
    );
}
