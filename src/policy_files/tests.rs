use tempfile::TempDir;
use tokio::sync::mpsc;

use super::*;

fn policy(name: &str) -> String {
    format!(
        "apiVersion: countersign.dev/v1alpha1\nkind: ClusterTrustPolicy\nmetadata: {{name: {name}}}\n\
         spec: {{rules: [{{images: [\"**\"], deny: {{message: \"no\"}}}}]}}\n"
    )
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn names(policies: &PolicySet) -> Vec<String> {
    let policies = policies.policies().iter();
    policies.map(|policy| policy.name.to_string()).collect()
}

/// What `on_change` was told: names of policies, or the words of the errors.
type News = Result<Vec<String>, String>;

/// Watches while `story` runs. Time is paused: it passes as soon as everybody waits for it.
async fn watched<S: Future<Output = ()>>(
    files: PolicyFiles,
    story: impl FnOnce(mpsc::UnboundedReceiver<News>) -> S,
) {
    let (tell, news) = mpsc::unbounded_channel();
    let watch = files.watch(move |change| {
        let news = change
            .map(|policies| names(&policies))
            .map_err(|error| error.to_string());
        tell.send(news).unwrap();
    });
    tokio::select! {
        never = watch => match never {},
        () = story(news) => {}
    }
}

#[test]
fn a_folder_is_all_its_yaml_by_name() {
    let folder = folder(&[
        ("b.yml", &policy("second")),
        ("a.yaml", &[policy("first"), policy("third")].join("---\n")),
        (".c.yaml", "hidden"),
        ("d.txt", "another thing"),
    ]);
    fs::create_dir(folder.path().join("e.yaml")).unwrap();
    let (_, policies) = PolicyFiles::open([folder.path().to_owned()]).unwrap();
    assert_eq!(names(&policies), ["first", "second", "third"]);
}

#[test]
fn everything_that_cannot_be_read_is_told_at_once() {
    let folder = folder(&[("bad.yaml", "spec: 1"), ("good.yaml", &policy("good"))]);
    let empty = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("latin.yaml"), [0xe9]).unwrap();
    let long = usize::try_from(MAX_FILE_BYTES).unwrap() + 10;
    fs::write(folder.path().join("long.yaml"), " ".repeat(long)).unwrap();
    let paths = [
        folder.path().to_owned(),
        folder.path().join("absent.yaml"),
        empty.path().to_owned(),
        PathBuf::from("/dev/null"),
    ];
    let error = PolicyFiles::open(paths).unwrap_err();
    let text = error.to_string();
    for want in [
        "bad.yaml:1: document 1: required field is missing: add \"apiVersion\"",
        "latin.yaml: not UTF-8 text",
        "long.yaml: longer than 1048576 bytes",
        "absent.yaml: cannot be read: No such file",
        "no *.yaml or *.yml file in this folder",
        "/dev/null: neither a file nor a folder",
    ] {
        assert!(text.contains(want), "{want} in\n{text}");
    }
    assert_eq!((error.findings().len(), text.lines().count()), (6, 6));
}

#[tokio::test(start_paused = true)]
async fn a_change_is_delivered_and_a_bad_one_told_once() {
    let folder = folder(&[("p.yaml", &policy("one"))]);
    let path = folder.path().join("p.yaml");
    let (files, policies) = PolicyFiles::open([path.clone()]).unwrap();
    assert_eq!(names(&policies), ["one"]);
    watched(files, async |mut news| {
        fs::write(&path, policy("two")).unwrap();
        assert_eq!(news.recv().await.unwrap(), Ok(vec!["two".to_owned()]));
        fs::write(&path, "spec: }").unwrap();
        let error = news.recv().await.unwrap().unwrap_err();
        assert!(error.contains("not YAML"), "{error}");
        tokio::time::sleep(POLL * 10).await;
        assert!(news.try_recv().is_err(), "the same contents are told once");
        fs::write(&path, policy("two")).unwrap();
        assert_eq!(
            news.recv().await.unwrap(),
            Ok(vec!["two".to_owned()]),
            "back to good"
        );
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_vanishes_is_an_error_and_one_that_comes_is_read() {
    let folder = folder(&[("p.yaml", &policy("one"))]);
    let (files, _) = PolicyFiles::open([folder.path().to_owned()]).unwrap();
    watched(files, async |mut news| {
        fs::remove_file(folder.path().join("p.yaml")).unwrap();
        let error = news.recv().await.unwrap().unwrap_err();
        assert!(error.contains("no *.yaml"), "{error}");
        fs::write(folder.path().join("q.yaml"), policy("other")).unwrap();
        assert_eq!(news.recv().await.unwrap(), Ok(vec!["other".to_owned()]));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn contents_seen_once_only_are_not_believed() {
    let folder = folder(&[("p.yaml", &policy("one"))]);
    let path = folder.path().join("p.yaml");
    let (files, _) = PolicyFiles::open([path.clone()]).unwrap();
    watched(files, async |mut news| {
        // Seen by one poll, and gone by the next.
        tokio::time::sleep(POLL / 2).await;
        fs::write(&path, policy("half-written")).unwrap();
        tokio::time::sleep(POLL).await;
        fs::write(&path, policy("whole")).unwrap();
        assert_eq!(news.recv().await.unwrap(), Ok(vec!["whole".to_owned()]));
    })
    .await;
}

#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn a_mounted_config_map_is_followed_when_it_rotates() {
    use std::os::unix::fs::symlink;
    let mount = tempfile::tempdir().unwrap();
    for (version, name) in [("..1", "one"), ("..2", "two")] {
        fs::create_dir(mount.path().join(version)).unwrap();
        fs::write(mount.path().join(version).join("p.yaml"), policy(name)).unwrap();
    }
    symlink("..1", mount.path().join("..data")).unwrap();
    symlink("..data/p.yaml", mount.path().join("p.yaml")).unwrap();
    let (files, policies) = PolicyFiles::open([mount.path().to_owned()]).unwrap();
    assert_eq!(names(&policies), ["one"]);
    watched(files, async |mut news| {
        symlink("..2", mount.path().join("..data_tmp")).unwrap();
        fs::rename(mount.path().join("..data_tmp"), mount.path().join("..data")).unwrap();
        assert_eq!(news.recv().await.unwrap(), Ok(vec!["two".to_owned()]));
    })
    .await;
}
