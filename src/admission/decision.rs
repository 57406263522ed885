//! A decision, and what becomes of it: a reply, audit annotations, a word for metrics.

use std::collections::BTreeMap;

use super::bypass::Bypass;
use crate::review::patch::Patch;
use crate::review::verdict::{self, MAX_ANNOTATION, Outcome, Ruling, Status};
use crate::review::wire::{Reply, User};

/// A ruling, and what logs, metrics and the audit log say of it.
#[derive(Debug)]
pub(super) struct Decision {
    /// Yes or no.
    pub(super) ruling: Ruling,
    /// Whether a warning says that something would be denied.
    pub(super) would_deny: bool,
    /// What to call the object; empty if it was not looked at.
    pub(super) name: String,
    /// A word for the whole request.
    pub(super) reason: &'static str,
    /// Policies that were asked, in order of their names.
    pub(super) policies: String,
    /// Why something could not be found out or read.
    pub(super) error: Option<String>,
    /// What came of each image that somebody was asked about.
    pub(super) images: Vec<Looked>,
    /// What came of the wish to do without all this, where it would have made a difference.
    pub(super) bypass: Option<Bypass>,
}

/// What came of one image.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) pointer: String,
    pub(super) image: String,
    pub(super) digest: Option<String>,
    pub(super) result: &'static str,
    pub(super) reason: &'static str,
}

impl Looked {
    /// `image` is the text to show with it, if any.
    pub(super) fn outcome(&self, image: Option<String>) -> Outcome<'_> {
        Outcome {
            path: &self.pointer,
            image,
            digest: self.digest.clone(),
            result: self.result,
            reason: self.reason,
        }
    }
}

impl Decision {
    /// Yes, without a look.
    pub(super) fn allow(reason: &'static str, warning: Option<&str>) -> Self {
        Self::of(
            Ruling::Allowed {
                patch: None,
                warnings: verdict::warnings(warning.map(str::to_owned)),
            },
            reason,
        )
    }

    /// `ruling`, with nothing to say about any image.
    pub(super) const fn of(ruling: Ruling, reason: &'static str) -> Self {
        Self {
            ruling,
            would_deny: false,
            name: String::new(),
            reason,
            policies: String::new(),
            error: None,
            images: Vec::new(),
            bypass: None,
        }
    }

    /// Of an object called `name`.
    pub(super) fn about(self, name: String) -> Self {
        Self { name, ..self }
    }

    /// Without warnings where nobody reads them (ADM-55); the audit log keeps what they would have said.
    pub(super) fn heard_by(mut self, user: &User<'_>) -> Self {
        if let Ruling::Allowed { warnings, .. } = &mut self.ruling
            && user.is_machinery()
        {
            warnings.clear();
        }
        self
    }

    /// `allowed`, `denied`, `would_deny`, or `error` if nothing but an outage denies.
    pub(super) const fn word(&self) -> &'static str {
        match &self.ruling {
            Ruling::Denied {
                status: Status::ServiceUnavailable,
                ..
            } => "error",
            Ruling::Denied { .. } => "denied",
            Ruling::Allowed { .. } if self.would_deny => "would_deny",
            Ruling::Allowed { .. } => "allowed",
        }
    }

    /// How many images the answer pins.
    pub(super) fn pinned(&self) -> usize {
        match &self.ruling {
            Ruling::Allowed { patch, .. } => patch.as_ref().map_or(0, Patch::images),
            Ruling::Denied { .. } => 0,
        }
    }

    /// What a denial says.
    pub(super) fn message(&self) -> Option<&str> {
        match &self.ruling {
            Ruling::Denied { message, .. } => Some(message),
            Ruling::Allowed { .. } => None,
        }
    }

    pub(super) fn into_reply(self, uid: String) -> Reply {
        Reply {
            uid,
            annotations: self.annotations(),
            ruling: self.ruling,
        }
    }

    /// None for what was allowed without a look (ADM-56).
    fn annotations(&self) -> BTreeMap<&'static str, String> {
        let mut annotations = BTreeMap::new();
        if self.images.is_empty() && self.error.is_none() {
            return annotations;
        }
        let decision = match self.word() {
            "would_deny" => "would-deny",
            "error" => "denied",
            word => word,
        };
        annotations.insert("decision", decision.to_owned());
        if !self.policies.is_empty() {
            annotations.insert("policy", verdict::annotation(&self.policies));
        }
        if !self.images.is_empty() {
            let outcomes: Vec<_> = self.images.iter().map(|image| image.outcome(None)).collect();
            annotations.insert("images", verdict::outcomes(&outcomes, MAX_ANNOTATION));
        }
        if let Some(reason) = self.bypass.as_ref().and_then(Bypass::reason) {
            annotations.insert("bypass", verdict::annotation(reason));
        }
        if let Some(error) = &self.error {
            annotations.insert("error", verdict::annotation(error));
        }
        annotations
    }
}
