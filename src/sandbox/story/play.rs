//! Playing the story, and holding it to what it says.

use std::io;

use super::super::api_server::{Answer, ApiServer, AskError, Exchange, Pod};
use super::super::image::Image;
use super::super::publisher::{SignError, Signer, found};
use super::super::registry::Registry;
use super::print::Printer;
use super::{Chapter, Content, Ending, Named, Namespace, Step};
use crate::publish::Report;
use crate::reference::{Digest, Reference, ReferenceError};

/// Everybody in the story.
pub(crate) struct Player {
    pub(crate) registry: Registry,
    pub(crate) signer: Signer,
    pub(crate) api_server: ApiServer,
}

/// The story was not told to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoryError {
    /// It came out otherwise.
    #[error(transparent)]
    Differs(#[from] Difference),
    /// A tag was not signed or revoked.
    #[error("{image} was not signed as the story has it")]
    Sign {
        /// The image.
        image: String,
        /// Why.
        #[source]
        source: Box<SignError>,
    },
    /// The webhook did not answer.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// An image whose name is none.
    #[error("{image} is no image")]
    Name {
        /// The name.
        image: String,
        /// Why.
        #[source]
        source: ReferenceError,
    },
    /// It cannot be written down.
    #[error("the story cannot be written")]
    Output(#[from] io::Error),
}

/// What was told, and what happened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the story of {image} came out otherwise: it tells of {told}, but {happened}")]
pub struct Difference {
    /// The image it is about.
    pub image: String,
    /// What should have happened.
    pub told: String,
    /// What happened.
    pub happened: String,
}

/// What became of a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fate {
    exchanges: Vec<Exchange>,
    /// What the Pod has in the end.
    image: String,
    /// What the last answer was.
    answer: Answer,
}

/// Pushes what `story` pushes, in its order: what the registry would have after it.
pub(crate) fn restock(story: &[Chapter], registry: &Registry) -> Result<(), StoryError> {
    let host = registry.host();
    for step in story.iter().flat_map(|chapter| chapter.steps) {
        if let Step::Push { image, content } = step {
            let image = named(&host, image)?;
            let tag = image.tag().into_iter();
            tag.for_each(|tag| {
                let _room = registry.push(image.gun(), tag, &Image::new(content.words()));
            });
        }
    }
    Ok(())
}

impl Player {
    /// Plays all of it.
    pub(crate) async fn play(
        &mut self,
        story: &[Chapter],
        printer: &mut Printer<'_>,
    ) -> Result<(), StoryError> {
        for (number, chapter) in (1..).zip(story) {
            printer.chapter(number, chapter.title)?;
            for step in chapter.steps {
                self.step(*step, printer).await?;
            }
        }
        Ok(())
    }

    async fn step(&mut self, step: Step, printer: &mut Printer<'_>) -> Result<(), StoryError> {
        let host = self.registry.host();
        match step {
            Step::Push { image, content } => {
                let image = named(&host, image)?;
                let digest = self.push(&image, content).await?;
                printer.pushed(&image, &digest)?;
            }
            Step::Sign { image } => {
                let image = named(&host, image)?;
                let report = self.signer.sign(&image).await;
                let report = report.map_err(|source| unsigned(&image, source))?;
                printer.published("sign", &image, &files(&report), report.initialised)?;
            }
            Step::Revoke { image } => {
                let image = named(&host, image)?;
                let report = self.signer.revoke(&image).await;
                let report = report.map_err(|source| unsigned(&image, source))?;
                printer.published("revoke", &image, &files(&report), false)?;
            }
            Step::Run {
                namespace,
                image,
                ends,
                moral,
            } => {
                let image = image.text(&host);
                printer.runs(namespace.name(), &image)?;
                let fate = self.run(namespace, &image).await?;
                for exchange in &fate.exchanges {
                    printer.exchange(namespace.name(), exchange)?;
                }
                ends.hold(&image, &fate)?;
                printer.moral(ends, moral)?;
            }
        }
        Ok(())
    }

    /// Pushes, and asks the registry what it has now.
    async fn push(&self, image: &Reference, content: Content) -> Result<Digest, StoryError> {
        let made = Image::new(content.words());
        let kept = image
            .tag()
            .is_some_and(|tag| self.registry.push(image.gun(), tag, &made));
        let (digest, _) = found(image).await.map_err(|source| unsigned(image, source))?;
        if kept && digest == made.digest() {
            return Ok(digest);
        }
        let difference = Difference {
            image: image.to_string(),
            told: format!("{} in the registry", made.digest()),
            happened: format!("it has {digest}"),
        };
        Err(difference.into())
    }

    /// What an API server makes of the Pod: what the mutating step puts in place of its image, the validating step is
    /// asked about.
    async fn run(&mut self, namespace: Namespace, image: &str) -> Result<Fate, StoryError> {
        let paths: &[&'static str] = match namespace {
            Namespace::Enforced => &["/mutate", "/validate"],
            Namespace::Audited => &["/audit"],
        };
        let mut fate = Fate {
            exchanges: Vec::new(),
            image: image.to_owned(),
            answer: Answer::Allowed {
                image: None,
                warnings: Vec::new(),
            },
        };
        for path in paths {
            let pod = Pod {
                namespace: namespace.name(),
                image: fate.image.clone(),
            };
            let exchange = self.api_server.ask(path, &pod).await?;
            fate.answer = exchange.answer.clone();
            fate.exchanges.push(exchange);
            match &fate.answer {
                Answer::Allowed { image: None, .. } => {}
                Answer::Allowed {
                    image: Some(image), ..
                } => fate.image.clone_from(image),
                Answer::Denied { .. } => break,
            }
        }
        Ok(fate)
    }
}

impl Named {
    /// As a Pod has it.
    fn text(self, host: &str) -> String {
        match self {
            Self::Tag(image) => format!("{host}/{image}"),
            Self::Digest(repository, content) => {
                format!("{host}/{repository}@{}", Image::new(content.words()).digest())
            }
        }
    }
}

impl Ending {
    /// Whether the Pod that was written with `image` came to this.
    fn hold(self, image: &str, fate: &Fate) -> Result<(), Difference> {
        if self.is(image, fate) {
            return Ok(());
        }
        let told = match self {
            Self::Pinned(content) => format!("a Pod with {}", pinned(image, content)),
            Self::AsWritten => "a Pod as it was written".to_owned(),
            Self::Denied(reason) => format!("a denial that says {reason:?}"),
            Self::Warned(reason) => format!("a Pod as it was written and a warning that says {reason:?}"),
        };
        let happened = match &fate.answer {
            Answer::Denied { code, message } => format!("it was denied ({code}): {message}"),
            Answer::Allowed { warnings, .. } if warnings.is_empty() => {
                format!("it was allowed as {}", fate.image)
            }
            Answer::Allowed { warnings, .. } => {
                format!(
                    "it was allowed as {}, with a warning: {}",
                    fate.image,
                    warnings.join("; ")
                )
            }
        };
        Err(Difference {
            image: image.to_owned(),
            told,
            happened,
        })
    }

    fn is(self, image: &str, fate: &Fate) -> bool {
        match (self, &fate.answer) {
            (Self::Pinned(content), Answer::Allowed { .. }) => fate.image == pinned(image, content),
            (Self::AsWritten, Answer::Allowed { .. }) => fate.image == image,
            // Any other status would mean that it could not be found out.
            (Self::Denied(reason), Answer::Denied { code, message }) => {
                *code == 403 && message.contains(reason)
            }
            (Self::Warned(reason), Answer::Allowed { warnings, .. }) => {
                fate.image == image && warnings.iter().any(|warning| warning.contains(reason))
            }
            (Self::Pinned(_) | Self::AsWritten | Self::Warned(_), Answer::Denied { .. })
            | (Self::Denied(_), Answer::Allowed { .. }) => false,
        }
    }
}

fn pinned(image: &str, content: Content) -> String {
    format!("{image}@{}", Image::new(content.words()).digest())
}

/// An image of the registry at `host`.
pub(crate) fn named(host: &str, image: &str) -> Result<Reference, StoryError> {
    let image = format!("{host}/{image}");
    Reference::parse(&image).map_err(|source| StoryError::Name { image, source })
}

fn unsigned(image: &Reference, source: SignError) -> StoryError {
    StoryError::Sign {
        image: image.to_string(),
        source: Box::new(source),
    }
}

/// What was written, as `countersign trust` prints it.
fn files(report: &Report) -> Vec<String> {
    let written = report.written.iter();
    written
        .map(|file| format!("{} {}", file.role, file.version))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate(image: &str, answer: Answer) -> Fate {
        Fate {
            exchanges: Vec::new(),
            image: image.to_owned(),
            answer,
        }
    }

    fn allowed(warnings: &[&str]) -> Answer {
        Answer::Allowed {
            image: None,
            warnings: warnings.iter().map(|text| (*text).to_owned()).collect(),
        }
    }

    fn denied(code: u64, message: &str) -> Answer {
        Answer::Denied {
            code,
            message: message.to_owned(),
        }
    }

    fn built() -> String {
        pinned("a:1", Content::Built)
    }

    #[test]
    fn a_step_that_comes_out_as_told_is_told() {
        for (ends, fate) in [
            (Ending::Pinned(Content::Built), fate(&built(), allowed(&[]))),
            (Ending::AsWritten, fate("a:1", allowed(&[]))),
            (
                Ending::Denied("no trust data"),
                fate("a:1", denied(403, "a:1 has no trust data")),
            ),
            (
                Ending::Warned("no trust data"),
                fate("a:1", allowed(&["would be denied: no trust data"])),
            ),
        ] {
            assert_eq!(ends.hold("a:1", &fate), Ok(()), "{ends:?}");
        }
    }

    #[test]
    fn a_step_that_comes_out_otherwise_is_a_difference_that_says_how() {
        let other = pinned("a:1", Content::Pushed);
        let (right, reason) = (Ending::Pinned(Content::Built), "no trust data");
        for (ends, fate, happened) in [
            (right, fate(&other, allowed(&[])), "it was allowed as a:1@sha256:"),
            (right, fate("a:1", allowed(&[])), "it was allowed as a:1"),
            (right, fate("a:1", denied(403, "no")), "it was denied (403): no"),
            (
                Ending::AsWritten,
                fate(&built(), allowed(&[])),
                "it was allowed as a:1@sha256:",
            ),
            (
                Ending::AsWritten,
                fate("a:1", denied(403, "no")),
                "it was denied (403): no",
            ),
            (
                Ending::Denied(reason),
                fate("a:1", allowed(&[])),
                "it was allowed as a:1",
            ),
            (
                Ending::Denied(reason),
                fate("a:1", denied(403, "else")),
                "it was denied (403): else",
            ),
            (
                Ending::Denied(reason),
                fate("a:1", denied(503, reason)),
                "it was denied (503): no trust data",
            ),
            (
                Ending::Warned(reason),
                fate("a:1", allowed(&["else"])),
                "it was allowed as a:1, with a warning: else",
            ),
            (
                Ending::Warned(reason),
                fate(&built(), allowed(&[reason])),
                "it was allowed as a:1@sha256:",
            ),
            (
                Ending::Warned(reason),
                fate("a:1", denied(403, reason)),
                "it was denied (403)",
            ),
        ] {
            let difference = ends.hold("a:1", &fate).unwrap_err();
            assert!(
                difference.happened.starts_with(happened),
                "{ends:?}: {difference}"
            );
            assert_eq!(difference.image, "a:1");
        }
    }
}
