use super::super::gatekeeper::Look;
use super::*;

#[tokio::test]
async fn new_rules_count_once_they_were_seen_twice() {
    let folder = Folder::new().with("htpasswd", passwords::ALICE);
    folder.write("access.yaml", "anonymous: [pull]");
    let keeper = Gatekeeper::open(folder.rules()).unwrap();
    let need = Need::Pull(gun(APP));
    let granted = async || with(&keeper.current(), "", &need).await;
    assert_eq!(granted().await, "anonymous");
    assert_eq!(keeper.look(), Look::Unchanged);

    folder.write("access.yaml", "htpasswd: htpasswd");
    assert_eq!(keeper.look(), Look::Changed);
    assert_eq!(granted().await, "anonymous");
    assert_eq!(keeper.look(), Look::Replaced);
    assert_eq!(granted().await, "no_credentials");
    assert_eq!(keeper.look(), Look::Unchanged);
}

#[tokio::test]
async fn rules_that_cannot_be_read_leave_the_last_good_ones() {
    let folder = Folder::new().with("htpasswd", passwords::ALICE);
    folder.write("access.yaml", "{anonymous: [pull], htpasswd: htpasswd}");
    let keeper = Gatekeeper::open(folder.rules()).unwrap();
    for (name, broken) in [
        ("access.yaml", "anonymous: [pull"),
        ("access.yaml", "anonymos: [pull]"),
        ("htpasswd", "alice:password"),
    ] {
        let before = fs::read(folder.rules().with_file_name(name)).unwrap();
        folder.write(name, broken);
        for _ in 0..3 {
            assert_ne!(keeper.look(), Look::Replaced, "{broken}");
            let got = with(&keeper.current(), "", &Need::Pull(gun(APP))).await;
            assert_eq!(got, "anonymous", "{broken}");
        }
        folder.write(name, before);
        assert_eq!(keeper.look(), Look::Unchanged, "{broken}");
    }
}

#[tokio::test]
async fn a_user_who_is_taken_out_is_out_although_the_password_was_remembered() {
    let folder = Folder::new().with("htpasswd", passwords::ALICE);
    folder.write("access.yaml", "htpasswd: htpasswd");
    let keeper = Gatekeeper::open(folder.rules()).unwrap();
    let alice = basic("alice", "correct horse");
    assert_eq!(
        with(&keeper.current(), &alice, &Need::Known).await,
        "htpasswd alice"
    );
    folder.write("htpasswd", "# nobody\n");
    assert_eq!((keeper.look(), keeper.look()), (Look::Changed, Look::Replaced));
    assert_eq!(with(&keeper.current(), &alice, &Need::Known).await, "password");
}

#[tokio::test]
async fn a_change_of_other_rules_gives_nobody_a_new_allowance() {
    let folder = Folder::new();
    let limits = "limits: {burst: 1, requestsPerSecond: 1}";
    folder.write("access.yaml", format!("{{anonymous: [pull], {limits}}}"));
    let keeper = Gatekeeper::open(folder.rules()).unwrap();
    let need = Need::Pull(gun(APP));
    assert_eq!(with(&keeper.current(), "", &need).await, "anonymous");
    folder.write("access.yaml", format!("{{anonymous: [pull, push], {limits}}}"));
    assert_eq!((keeper.look(), keeper.look()), (Look::Changed, Look::Replaced));
    assert_eq!(with(&keeper.current(), "", &need).await, "too many requests");
}

#[tokio::test(start_paused = true)]
async fn files_are_looked_at_while_the_server_runs() {
    let folder = Folder::new();
    folder.write("access.yaml", "{}");
    let keeper = Arc::new(Gatekeeper::open(folder.rules()).unwrap());
    folder.write("access.yaml", "anonymous: [pull]");
    let changed = async {
        while with(&keeper.current(), "", &Need::Pull(gun(APP))).await != "anonymous" {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        _ = Arc::clone(&keeper).keep_fresh() => {}
        () = changed => {}
    }
}

#[test]
fn fixed_rules_stay() {
    let keeper = Gatekeeper::fixed(Access::open_to_all());
    assert_eq!(keeper.look(), Look::Unchanged);
    assert!(keeper.current().is_open_to_all());
}
