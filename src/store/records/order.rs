//! Which of two records knows more (notary-v1 §5.7): versions only rise, and the higher one wins.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::resource::{SeenFile, TrustRecordSpec};

/// Whether `found` knows all that `remembered` knows.
pub(super) fn covers(found: &TrustRecordSpec, remembered: &TrustRecordSpec) -> bool {
    same(found, &merged(remembered, found))
}

/// Whether both know the same, whenever it was verified and whatever files they have.
pub(super) fn same(one: &TrustRecordSpec, other: &TrustRecordSpec) -> bool {
    one.root == other.root
        && one.timestamp == other.timestamp
        && one.snapshot == other.snapshot
        && one.targets == other.targets
        && one.delegations == other.delegations
}

/// `found` with all that `remembered` knows better. Of two contents under one version that of `found` stays: else two
/// replicas that saw different ones would go on contradicting each other, where one of them has to refuse.
///
/// It has no files and was not verified, unless it is `found`: nobody has vouched for the mixture.
pub(super) fn merged(remembered: &TrustRecordSpec, found: &TrustRecordSpec) -> TrustRecordSpec {
    let (root, timestamp, snapshot) = match remembered.root.version.cmp(&found.root.version) {
        Ordering::Greater => (
            &remembered.root,
            remembered.timestamp.clone(),
            remembered.snapshot.clone(),
        ),
        // The keys of the server may be others now, whose versions begin anew (step 5).
        Ordering::Less => (&found.root, found.timestamp.clone(), found.snapshot.clone()),
        Ordering::Equal => (
            &found.root,
            higher(remembered.timestamp.as_ref(), found.timestamp.as_ref()),
            higher(remembered.snapshot.as_ref(), found.snapshot.as_ref()),
        ),
    };
    let mut merged = TrustRecordSpec {
        root: root.clone(),
        timestamp,
        snapshot,
        targets: higher(remembered.targets.as_ref(), found.targets.as_ref()),
        delegations: each(&remembered.delegations, &found.delegations),
        ..found.clone()
    };
    if !same(&merged, found) {
        merged.files = None;
        merged.verified_at = None;
    }
    merged
}

fn higher(remembered: Option<&SeenFile>, found: Option<&SeenFile>) -> Option<SeenFile> {
    match (remembered, found) {
        (Some(old), Some(new)) if old.version > new.version => Some(old.clone()),
        (old, None) => old.cloned(),
        (_, new) => new.cloned(),
    }
}

fn each(
    remembered: &BTreeMap<String, SeenFile>,
    found: &BTreeMap<String, SeenFile>,
) -> BTreeMap<String, SeenFile> {
    let names = remembered.keys().chain(found.keys());
    names
        .filter_map(|name| Some((name.clone(), higher(remembered.get(name), found.get(name))?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::records::resource::TrustedRoot;

    fn file(version: i64, content: char) -> Option<SeenFile> {
        let sha256 = content.to_string().repeat(64);
        (version > 0).then_some(SeenFile { version, sha256 })
    }

    /// Root, timestamp, snapshot, targets, releases; none of version 0.
    fn record(versions: [i64; 5]) -> TrustRecordSpec {
        let [root, timestamp, snapshot, targets, releases] = versions;
        TrustRecordSpec {
            server: "https://trust.example.com/".to_owned(),
            gun: "registry.example.com/team/app".to_owned(),
            root: TrustedRoot {
                version: root,
                sha256: root.to_string(),
                chain: root.to_string(),
            },
            timestamp: file(timestamp, 'a'),
            snapshot: file(snapshot, 'a'),
            targets: file(targets, 'a'),
            delegations: file(releases, 'a')
                .map(|file| ("targets/releases".to_owned(), file))
                .into_iter()
                .collect(),
            verified_at: None,
            files: Some("files".to_owned()),
        }
    }

    #[test]
    fn the_higher_version_wins_role_by_role() {
        for (what, remembered, found, merge, covered) in [
            (
                "the same",
                [1, 5, 5, 5, 5],
                [1, 5, 5, 5, 5],
                [1, 5, 5, 5, 5],
                true,
            ),
            (
                "all newer",
                [1, 5, 5, 5, 5],
                [1, 6, 6, 6, 6],
                [1, 6, 6, 6, 6],
                true,
            ),
            (
                "rollback of all",
                [1, 5, 5, 5, 5],
                [1, 4, 4, 4, 4],
                [1, 5, 5, 5, 5],
                false,
            ),
            (
                "rollback of one",
                [1, 5, 5, 5, 5],
                [1, 6, 6, 6, 4],
                [1, 6, 6, 6, 5],
                false,
            ),
            (
                "omission",
                [1, 5, 5, 5, 5],
                [1, 6, 6, 6, 0],
                [1, 6, 6, 6, 5],
                false,
            ),
            (
                "an older root",
                [2, 1, 1, 5, 5],
                [1, 9, 9, 6, 5],
                [2, 1, 1, 6, 5],
                false,
            ),
            (
                "keys replaced",
                [1, 9, 9, 5, 5],
                [2, 1, 1, 5, 5],
                [2, 1, 1, 5, 5],
                true,
            ),
            (
                "keys just replaced",
                [1, 9, 9, 5, 5],
                [2, 0, 0, 5, 5],
                [2, 0, 0, 5, 5],
                true,
            ),
            (
                "rollback behind new keys",
                [1, 9, 9, 5, 5],
                [2, 1, 1, 4, 5],
                [2, 1, 1, 5, 5],
                false,
            ),
            (
                "something new",
                [1, 5, 5, 5, 0],
                [1, 5, 5, 5, 1],
                [1, 5, 5, 5, 1],
                true,
            ),
        ] {
            let (remembered, found) = (record(remembered), record(found));
            let mixture = merged(&remembered, &found);
            assert!(same(&mixture, &record(merge)), "{what}: {mixture:?}");
            assert_eq!(covers(&found, &remembered), covered, "{what}");
            assert_eq!(
                mixture.files.is_some(),
                covered,
                "{what}: nobody vouched for a mixture"
            );
        }
    }

    #[test]
    fn equivocation_is_not_fought_over() {
        let (one, mut other) = (record([1, 5, 5, 5, 5]), record([1, 5, 5, 5, 5]));
        other.timestamp = file(5, 'b');
        assert!(covers(&other, &one) && covers(&one, &other));
        assert!(!same(&one, &other));
    }
}
