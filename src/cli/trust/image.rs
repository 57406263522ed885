//! Images and repositories as publishing commands take them.

use anyhow::{Context as _, bail};

use crate::reference::{Digest, Gun, Reference, Tag};

/// A tag of a repository, and the digest it is to have, if that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tagged {
    pub(super) gun: Gun,
    pub(super) tag: Tag,
    pub(super) digest: Option<Digest>,
}

/// Reads `IMAGE:TAG`. A name without a tag is not completed: it would say `latest` where nobody did.
pub(super) fn tagged(text: &str) -> anyhow::Result<Tagged> {
    let image = parse(text)?;
    let (bare, _) = text.split_once('@').unwrap_or((text, ""));
    let last = bare.rsplit('/').next().unwrap_or_default();
    match image.tag() {
        Some(tag) if last.contains(':') => Ok(Tagged {
            gun: image.gun().clone(),
            tag: tag.clone(),
            digest: image.digest().cloned(),
        }),
        Some(_) | None => bail!(
            "{text:?} names no tag: trust belongs to the tags of a repository, so say which, as in {}:1.0",
            image.gun()
        ),
    }
}

/// Reads the name of a repository, which docker's way completes.
pub(super) fn repository(text: &str) -> anyhow::Result<Gun> {
    let image = parse(text)?;
    let last = text.rsplit('/').next().unwrap_or_default();
    if last.contains(':') || text.contains('@') {
        bail!(
            "{text:?} names a tag or digest: this is about the whole repository, {}",
            image.gun()
        );
    }
    Ok(image.gun().clone())
}

/// Reads what may be a repository or one of its tags.
pub(super) fn either(text: &str) -> anyhow::Result<(Gun, Option<Tag>)> {
    match repository(text) {
        Ok(gun) => Ok((gun, None)),
        Err(_) => tagged(text).map(|tagged| (tagged.gun, Some(tagged.tag))),
    }
}

fn parse(text: &str) -> anyhow::Result<Reference> {
    Reference::parse(text).with_context(|| format!("{text:?} is not an image reference"))
}

/// The same by repository, in the order in which each was named first.
pub(super) fn by_repository(images: Vec<Tagged>) -> Vec<(Gun, Vec<Tagged>)> {
    let mut grouped: Vec<(Gun, Vec<Tagged>)> = Vec::new();
    for image in images {
        match grouped.iter_mut().find(|(gun, _)| *gun == image.gun) {
            Some((_, images)) => images.push(image),
            None => grouped.push((image.gun.clone(), vec![image])),
        }
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_never_made_up() {
        for (text, tag) in [
            ("app:1.0", Some("1.0")),
            ("localhost:5000/app:1.0", Some("1.0")),
            ("app", None),
            ("localhost:5000/app", None),
            (
                "app@sha256:183f0249d5f05b52ae8b9b3f7c9ba895708f3e5a32aab808814b84a2acb5497a",
                None,
            ),
        ] {
            let found = tagged(text).ok().map(|image| image.tag.to_string());
            assert_eq!(found.as_deref(), tag, "{text}");
        }
    }

    #[test]
    fn a_repository_has_neither_tag_nor_digest() {
        assert_eq!(repository("app").unwrap().as_str(), "docker.io/library/app");
        assert_eq!(
            repository("localhost:5000/app").unwrap().as_str(),
            "localhost:5000/app"
        );
        for text in ["app:1.0", "localhost:5000/app:1.0", "App"] {
            assert!(repository(text).is_err(), "{text}");
        }
    }

    #[test]
    fn images_are_taken_together_by_repository() {
        let images = ["b:1", "a:1", "b:2"].map(|text| tagged(text).unwrap()).to_vec();
        let grouped = by_repository(images);
        let names: Vec<_> = grouped
            .iter()
            .map(|(gun, images)| (gun.path(), images.len()))
            .collect();
        assert_eq!(names, [("library/b", 2), ("library/a", 1)]);
    }
}
