//! The story of content trust: what a person types, what the webhook is asked, what it says, and what to make of it.
//!
//! The story is data. Each step says how it must come out, and is held to that when it is played, so that it is never
//! told of a program that does something else.

mod play;
mod print;

pub(super) use self::play::{Player, StoryError, named, restock};
pub(super) use self::print::Printer;

/// One thing that content trust does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chapter {
    pub(super) title: &'static str,
    pub(super) steps: &'static [Step],
}

/// What somebody does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Pushes an image: `docker push`.
    Push { image: &'static str, content: Content },
    /// Signs a tag: `countersign trust sign`.
    Sign { image: &'static str },
    /// Withdraws a signature: `countersign trust revoke`.
    Revoke { image: &'static str },
    /// Runs a Pod: `kubectl run`.
    Run {
        namespace: Namespace,
        image: Named,
        ends: Ending,
        /// What to make of it, in one line.
        moral: &'static str,
    },
}

/// The images of the story, by what is in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// What the publisher built.
    Built,
    /// What somebody else pushed.
    Pushed,
    /// What nobody signs.
    Unsigned,
}

/// How a Pod names an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// By its tag.
    Tag(&'static str),
    /// By its digest, in the repository.
    Digest(&'static str, Content),
}

/// A namespace, by its label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Namespace {
    /// `countersign.dev/mode: enforce`
    Enforced,
    /// `countersign.dev/mode: audit`
    Audited,
}

/// How a step must come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The Pod runs with this content, pinned to its digest.
    Pinned(Content),
    /// The Pod runs as it was written.
    AsWritten,
    /// The Pod does not run, for this reason.
    Denied(&'static str),
    /// The Pod runs as it was written, and a warning says that it would not, for this reason.
    Warned(&'static str),
}

impl Content {
    /// The words that make the image.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Built => "trusttest, as its publisher built it",
            Self::Pushed => "trusttest, as somebody else pushed it",
            Self::Unsigned => "cliffs",
        }
    }
}

impl Namespace {
    pub(super) const ALL: [Self; 2] = [Self::Enforced, Self::Audited];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Enforced => "shop",
            Self::Audited => "legacy",
        }
    }

    /// The value of its label.
    pub(super) const fn mode(self) -> &'static str {
        match self {
            Self::Enforced => "enforce",
            Self::Audited => "audit",
        }
    }
}

/// The repository that is signed.
pub(super) const SIGNED: &str = "docker/trusttest";
/// The tag that is signed, and stays so.
pub(super) const LATEST: &str = "docker/trusttest:latest";
/// The tag that is not signed, of a repository that has no trust data.
pub(super) const CLIFFS: &str = "docker/cliffs:latest";
const REVOKED: &str = "docker/trusttest:1.0";

/// The story.
pub(super) const STORY: &[Chapter] = &[
    Chapter {
        title: "A signed tag runs, pinned to the digest that was signed",
        steps: &[
            Step::Push {
                image: LATEST,
                content: Content::Built,
            },
            Step::Sign { image: LATEST },
            Step::Run {
                namespace: Namespace::Enforced,
                image: Named::Tag(LATEST),
                ends: Ending::Pinned(Content::Built),
                moral: "the node pulls this digest and nothing else, whatever becomes of the tag",
            },
        ],
    },
    Chapter {
        title: "A repository that nobody signs has no trust data",
        steps: &[
            Step::Push {
                image: CLIFFS,
                content: Content::Unsigned,
            },
            Step::Run {
                namespace: Namespace::Enforced,
                image: Named::Tag(CLIFFS),
                ends: Ending::Denied("no trust data"),
                moral: "nothing unsigned runs, wherever it was pulled from",
            },
        ],
    },
    Chapter {
        title: "A signed tag is overwritten, and what was signed still runs",
        steps: &[
            Step::Push {
                image: LATEST,
                content: Content::Pushed,
            },
            Step::Run {
                namespace: Namespace::Enforced,
                image: Named::Tag(LATEST),
                ends: Ending::Pinned(Content::Built),
                moral: "who can push is not who can sign: the registry is not believed",
            },
        ],
    },
    Chapter {
        title: "A digest runs if it was signed",
        steps: &[
            Step::Run {
                namespace: Namespace::Enforced,
                image: Named::Digest(SIGNED, Content::Built),
                ends: Ending::AsWritten,
                moral: "it is what a signed tag stands for",
            },
            Step::Run {
                namespace: Namespace::Enforced,
                image: Named::Digest(SIGNED, Content::Pushed),
                ends: Ending::Denied("is not the digest of a signed tag"),
                moral: "a digest says which image it is, not who vouches for it",
            },
        ],
    },
    Chapter {
        title: "A signature is withdrawn",
        steps: &[
            Step::Push {
                image: REVOKED,
                content: Content::Pushed,
            },
            Step::Sign { image: REVOKED },
            Step::Run {
                namespace: Namespace::Enforced,
                image: Named::Tag(REVOKED),
                ends: Ending::Pinned(Content::Pushed),
                moral: "signed, so it runs",
            },
            Step::Revoke { image: REVOKED },
            Step::Run {
                namespace: Namespace::Enforced,
                image: Named::Tag(REVOKED),
                ends: Ending::Denied("tag 1.0 is not signed"),
                moral: "from the next Pod on; running ones stay",
            },
        ],
    },
    Chapter {
        title: "A namespace that only audits is warned, and nothing is denied there",
        steps: &[Step::Run {
            namespace: Namespace::Audited,
            image: Named::Tag(CLIFFS),
            ends: Ending::Warned("no trust data"),
            moral: "kubectl shows the warning: look first, enforce next",
        }],
    },
];
