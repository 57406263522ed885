//! Files of access rules: read or refused with a reason, and what was read lets nobody in whom it does not name.

use std::sync::LazyLock;

use countersign::trustserver::access::{Access, Need, Peer};
use futures_util::FutureExt as _;
use http::HeaderMap;

/// A folder with what rules may name.
struct Folder(std::path::PathBuf);

static FOLDER: LazyLock<Folder> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("countersign-fuzz-access-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(
        folder.join("htpasswd"),
        "alice:$2y$05$qbRYmEQkEmLfCKdUgxPTHOjR6EIKH2Y0dxjZUxzjZQm0sVSwHFD8O\n",
    )
    .unwrap();
    std::fs::write(folder.join("jwks.json"), r#"{"keys":[]}"#).unwrap();
    Folder(folder)
});

pub(crate) fn run(data: &[u8]) {
    let file = FOLDER.0.join(format!("{:?}.yaml", std::thread::current().id()));
    std::fs::write(&file, data).unwrap();
    match Access::read(&file) {
        Ok(access) => assert_closed(&access, data),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn assert_closed(access: &Access, data: &[u8]) {
    assert!(!access.is_open_to_all(), "a file opens the server to everybody");
    let text = String::from_utf8_lossy(data);
    // Texts in YAML may hide letters behind escapes.
    if text.contains("anonymous") || text.contains('\\') {
        return;
    }
    let peer = Peer {
        address: "192.0.2.1:4443".parse().unwrap(),
        names: Vec::new(),
    };
    let need = Need::Pull("registry.example.com/team/app".parse().unwrap());
    let now = "2033-05-18T03:33:20Z".parse().unwrap();
    let admitted = access.admit(&peer, &HeaderMap::new(), &need, now).now_or_never();
    assert!(
        admitted.is_some_and(|admitted| admitted.is_err()),
        "nobody is let in"
    );
}
