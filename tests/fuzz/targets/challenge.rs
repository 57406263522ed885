//! What strangers write of logins: challenges of servers, docker's configuration, the answers of helpers.

use countersign::credential::{Challenge, DockerConfig, helper_answer};
use countersign::reference::Gun;

const GUNS: [&str; 2] = ["docker.io/library/nginx", "registry.example.com:5000/team/app"];

pub(crate) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let challenges = Challenge::parse_all(text.lines());
    // Each takes a scheme of at least five letters.
    assert!(challenges.len() <= text.len() / 5, "challenges out of nowhere");
    drop(helper_answer(data));
    for config in [DockerConfig::parse(data), DockerConfig::parse_legacy(data)]
        .into_iter()
        .flatten()
    {
        for gun in GUNS.map(|gun| gun.parse::<Gun>().unwrap()) {
            let own = config.for_registry(&gun).len();
            assert!(config.for_trust("notary.example.com", &gun).len() >= own);
            if let Ok(Some(helper)) = config.helper(gun.host()) {
                // It is run: never a path, never empty.
                let program = helper.program();
                assert!(!program.contains(['/', '\\', '\0']), "{program:?}");
            }
        }
    }
}
