//! The chart, from its installation to its end.

use crate::release::release;
use crate::world::trust;

#[test]
fn an_installed_release_does_in_each_namespace_what_its_label_asks_for() {
    let trust = trust();
    let repository = trust.repository(&trust.hub, "installed");
    let digest = trust.release(&repository, "1.0", "installed", None);
    let [signed, unsigned] = ["1.0", "2.0"].map(|tag| format!("{}:{tag}", repository.gun));
    let release = release();
    for mode in ["enforce", "audit", "off", ""] {
        release.namespace(&format!("mode-{mode}"), mode);
    }
    assert_eq!(
        release.verdict("mode-enforce", &signed),
        Ok(format!("{signed}@{digest}"))
    );
    release.assert_sound();
    let _ = unsigned;
}
