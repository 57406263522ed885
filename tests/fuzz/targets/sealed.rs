//! Keys at rest: the first byte says what is changed, the rest how. A key opens only where, and as, it was sealed; and
//! any text is a sealing key or is refused.

use std::sync::LazyLock;

use countersign::reference::Gun;
use countersign::trustserver::seal::{OperatorKey, Sealer};
use countersign::trustserver::storage::SealedKey;
use countersign::trustserver::storage::sqlite::Sqlite;
use countersign::tuf::{Algorithm, PrivateKey, Role};

struct Scene {
    sealer: Sealer,
    gun: Gun,
    key: SealedKey,
}

static SCENE: LazyLock<Scene> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let folder = std::env::temp_dir().join(format!("countersign-fuzz-sealed-{}", std::process::id()));
    let operator = OperatorKey::of_text(&"ab".repeat(32)).unwrap();
    let sealer = runtime.block_on(async {
        let storage = Sqlite::open(&folder).await.unwrap();
        Sealer::open(&storage, &operator).await.unwrap()
    });
    std::fs::remove_dir_all(&folder).unwrap();
    let gun: Gun = "registry.example.com/team/app".parse().unwrap();
    let key = PrivateKey::generate(Algorithm::EcdsaP256).unwrap();
    let key = sealer
        .seal(
            &gun,
            &Role::Snapshot,
            &key,
            "2031-05-01T10:00:00Z".parse().unwrap(),
        )
        .unwrap();
    Scene { sealer, gun, key }
});

pub(crate) fn run(data: &[u8]) {
    let Some((&kind, rest)) = data.split_first() else {
        return;
    };
    if kind % 4 == 0 {
        // A panic is all that can go wrong.
        drop(std::str::from_utf8(rest).map(OperatorKey::of_text));
        return;
    }
    let scene = &*SCENE;
    let (mut gun, mut key) = (scene.gun.clone(), scene.key.clone());
    match kind % 4 {
        1 => rest
            .chunks_exact(3)
            .for_each(|change| alter(&mut key.sealed, change)),
        2 => key.sealed = rest.to_vec(),
        _ => {
            if let Some(other) = std::str::from_utf8(rest).ok().and_then(|text| text.parse().ok()) {
                gun = other;
            } else {
                key.role = Role::Timestamp;
            }
        }
    }
    let same = gun == scene.gun && key == scene.key;
    match scene.sealer.unseal(&gun, &key) {
        Ok(opened) => assert!(same && opened.id() == scene.key.id, "a changed key opens"),
        Err(error) => assert!(!same && !error.to_string().is_empty(), "{error}"),
    }
}

/// One change: which, where, and what.
fn alter(sealed: &mut Vec<u8>, change: &[u8]) {
    let &[kind, at, value] = change else { return };
    let at = usize::from(at) % (sealed.len() + 1);
    match kind % 3 {
        0 if at < sealed.len() => sealed[at] ^= value,
        1 => sealed.insert(at, value),
        _ => sealed.truncate(at),
    }
}
