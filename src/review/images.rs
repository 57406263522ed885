//! The one extractor of image references (ADM-17) and the rule that says which of them changed (ADM-30).

use std::collections::HashMap;
use std::fmt;

use serde_json::{Map, Value};

use crate::review::workload::POD_ROOT;

/// Most changed images of one object. A request has at most 3 MiB (ADM-66) and a node refuses more than a few
/// hundred containers; 1,000 distinct images are 125 rounds of the 8 verified at once, more than any deadline holds.
pub const MAX_IMAGES: usize = 1000;

/// The lists of a pod specification whose entries name images, in the order of answers and patches (ADM-44).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum List {
    /// `containers`.
    Containers,
    /// `initContainers`: native sidecars too.
    InitContainers,
    /// `ephemeralContainers`: debug containers.
    EphemeralContainers,
    /// `volumes` with an `image` source.
    Volumes,
}

impl List {
    /// Every list.
    pub const ALL: [Self; 4] = [
        Self::Containers,
        Self::InitContainers,
        Self::EphemeralContainers,
        Self::Volumes,
    ];

    /// The member of the pod specification.
    pub const fn member(self) -> &'static str {
        match self {
            Self::Containers => "containers",
            Self::InitContainers => "initContainers",
            Self::EphemeralContainers => "ephemeralContainers",
            Self::Volumes => "volumes",
        }
    }

    /// The path of the reference below an entry, as segments of a JSON pointer.
    pub const fn path(self) -> &'static [&'static str] {
        match self {
            Self::Containers | Self::InitContainers | Self::EphemeralContainers => &["image"],
            Self::Volumes => &["image", "reference"],
        }
    }

    /// The image an entry names: `None` if it names none and need not, as a volume of another source.
    fn image<'a>(self, entry: &'a Map<String, Value>, pointer: &str) -> Result<Option<&'a str>, Unreadable> {
        let mut value = entry.get("image");
        if self == Self::Volumes {
            match value {
                None | Some(Value::Null) => return Ok(None),
                Some(Value::Object(source)) => value = source.get("reference"),
                Some(_) => return Err(Unreadable::object(pointer)),
            }
        }
        text(value, pointer).map(Some)
    }
}

/// What an entry is called in messages: `container`, `init container`, …
impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Containers => "container",
            Self::InitContainers => "init container",
            Self::EphemeralContainers => "ephemeral container",
            Self::Volumes => "volume",
        })
    }
}

/// One place that names an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// JSON pointer of the string, in the object that was sent.
    pub pointer: String,
    /// The list it is in.
    pub list: List,
    /// The entry's name, which identifies it within its list.
    pub name: String,
    /// The string as written; empty if there is none.
    pub image: String,
    /// What the entry of the same list and name says in the stored object.
    pub old: Option<String>,
}

impl Image {
    /// Whether this image has to be looked at. Touching one that has not changed would restart containers and roll
    /// Deployments (ADM-30, ADM-31).
    pub fn changed(&self) -> bool {
        self.old.as_deref() != Some(&self.image)
    }

    /// The reference without the blanks that a template may have around it (ADM-18).
    pub fn text(&self) -> &str {
        self.image.trim()
    }
}

/// Why the images of an object cannot be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unreadable {
    /// No object, or one that is not JSON we can read.
    #[error("the request has no readable object")]
    NoObject,
    /// A Pod without specification.
    #[error("the Pod has no specification")]
    NoSpecification,
    /// Something else where an object must be.
    #[error("{pointer} is not an object")]
    NotAnObject {
        /// Where.
        pointer: Box<str>,
    },
    /// Something else where a list must be.
    #[error("{pointer} is not a list")]
    NotAList {
        /// Where.
        pointer: Box<str>,
    },
    /// Something else where text must be.
    #[error("{pointer} is not text")]
    NotText {
        /// Where.
        pointer: Box<str>,
    },
    /// More than [`MAX_IMAGES`].
    #[error("{count} images are new or changed: at most {MAX_IMAGES} can be verified at once")]
    TooMany {
        /// How many.
        count: usize,
    },
}

impl Unreadable {
    fn object(pointer: &str) -> Self {
        Self::NotAnObject {
            pointer: pointer.into(),
        }
    }
}

/// Every image that the pod specification at `root` of `object` names, list by list.
///
/// An `old` object that cannot be read makes every image a changed one: the safe side.
///
/// # Errors
///
/// [`Unreadable`] if a list, an entry or a reference has another type than it must have.
pub fn extract(object: &Value, old: Option<&Value>, root: &str) -> Result<Vec<Image>, Unreadable> {
    let stored = old.and_then(|old| entries(old, root).ok()).unwrap_or_default();
    let mut before = HashMap::new();
    for image in &stored {
        before
            .entry((image.list, image.name.as_str()))
            .or_insert(image.image.as_str());
    }
    let mut images = entries(object, root)?;
    if root == POD_ROOT && object.get("spec").is_none_or(Value::is_null) {
        return Err(Unreadable::NoSpecification);
    }
    for image in &mut images {
        image.old = before
            .get(&(image.list, image.name.as_str()))
            .map(|&old| old.to_owned());
    }
    Ok(images)
}

/// The images that have to be looked at.
///
/// # Errors
///
/// [`Unreadable::TooMany`].
pub fn changed(images: Vec<Image>) -> Result<Vec<Image>, Unreadable> {
    let changed: Vec<_> = images.into_iter().filter(Image::changed).collect();
    if changed.len() > MAX_IMAGES {
        return Err(Unreadable::TooMany { count: changed.len() });
    }
    Ok(changed)
}

/// The images of one object, `old` still open.
fn entries(object: &Value, root: &str) -> Result<Vec<Image>, Unreadable> {
    let Some(spec) = descend(object, root)? else {
        return Ok(Vec::new());
    };
    let mut images = Vec::new();
    for list in List::ALL {
        let pointer = format!("{root}/{}", list.member());
        let entries = match spec.get(list.member()) {
            None | Some(Value::Null) => continue,
            Some(Value::Array(entries)) => entries,
            Some(_) => {
                return Err(Unreadable::NotAList {
                    pointer: pointer.into(),
                });
            }
        };
        for (index, entry) in entries.iter().enumerate() {
            images.extend(read(list, entry, &format!("{pointer}/{index}"))?);
        }
    }
    Ok(images)
}

/// The object at `root`; `None` if a member on the way is missing, as in a `ReplicationController` without
/// template.
fn descend<'a>(object: &'a Value, root: &str) -> Result<Option<&'a Map<String, Value>>, Unreadable> {
    let mut here = object.as_object().ok_or(Unreadable::NoObject)?;
    for segment in root.split('/').skip(1) {
        here = match here.get(segment) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Object(next)) => next,
            Some(_) => return Err(Unreadable::object(root)),
        };
    }
    Ok(Some(here))
}

fn read(list: List, entry: &Value, pointer: &str) -> Result<Option<Image>, Unreadable> {
    let entry = entry.as_object().ok_or_else(|| Unreadable::object(pointer))?;
    let name = text(entry.get("name"), pointer)?;
    Ok(list.image(entry, pointer)?.map(|image| Image {
        pointer: format!("{pointer}/{}", list.path().join("/")),
        list,
        name: name.to_owned(),
        image: image.to_owned(),
        old: None,
    }))
}

/// Missing text is empty text (ADM-11).
fn text<'a>(value: Option<&'a Value>, pointer: &str) -> Result<&'a str, Unreadable> {
    match value {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(Unreadable::NotText {
            pointer: pointer.into(),
        }),
    }
}

#[cfg(test)]
mod tests;
