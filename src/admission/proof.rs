//! The one step that waits: every reference once, several at a time, all until one deadline (ADM-26).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, timeout_at};

use super::finding::{Cause, Finding, Need, Objection, Proof, judge};
use super::ruling::Stance;
use crate::policy::{Demand, Mode, Requirement, Verification, Workloads};
use crate::reference::Reference;
use crate::review::images::Image;
use crate::review::logins::PullSources;
use crate::trust::{Pinned, Verify};

/// Verifications of one request that run at once (ADM-26): most Pods have fewer images, and one that has a thousand
/// cannot crowd out the others.
const CONCURRENT: usize = 8;

/// What has to be found out about one image string.
#[derive(Debug)]
pub(super) enum Question {
    /// Nothing: it is known already.
    Settled(Finding),
    /// Whether a reference meets its requirements.
    Open {
        reference: Reference,
        requirements: Vec<Requirement>,
    },
}

/// By image string without surrounding blanks, so that equal ones are asked about once.
pub(super) type Questions<'a> = BTreeMap<&'a str, Question>;
/// By the same strings.
pub(super) type Findings<'a> = BTreeMap<&'a str, Finding>;

/// What policies say in the namespace of a request.
pub(super) struct Rules<'a, S> {
    /// What they demand of an image: [`PolicySet::select`](crate::policy::PolicySet::select).
    pub(super) select: S,
    /// Which namespace.
    pub(super) namespace: &'a str,
    /// Whether an image that cannot be asked about is denied.
    pub(super) unreadable: Mode,
}

/// One question per distinct image string.
pub(super) fn questions<'a, S>(images: &'a [Image], stance: Stance, rules: &Rules<'_, S>) -> Questions<'a>
where
    S: Fn(&Reference) -> Vec<Requirement>,
{
    let texts: BTreeSet<_> = images.iter().map(Image::text).collect();
    texts
        .into_iter()
        .map(|text| (text, question(text, stance, rules)))
        .collect()
}

fn question<S>(text: &str, stance: Stance, rules: &Rules<'_, S>) -> Question
where
    S: Fn(&Reference) -> Vec<Requirement>,
{
    let settled = |mode, cause| Question::Settled(Finding::of(Objection::own(mode, cause)));
    if text.is_empty() {
        return settled(rules.unreadable, Cause::Blank);
    }
    let reference = match Reference::parse(text) {
        Ok(reference) => reference,
        Err(error) => return settled(rules.unreadable, Cause::Unparsable(error)),
    };
    // A reference that has a digest is never rewritten: there is nothing to find out yet (ADM-25).
    if stance == Stance::Pin && reference.digest().is_some() {
        return Question::Settled(Finding::default());
    }
    let requirements = (rules.select)(&reference);
    if requirements.is_empty() {
        let namespace = rules.namespace.to_owned();
        return settled(Mode::Enforce, Cause::NoPolicy { namespace });
    }
    open(reference, requirements, stance)
}

/// Policies that ignore workloads have no say about templates.
fn open(reference: Reference, mut requirements: Vec<Requirement>, stance: Stance) -> Question {
    if stance.asks_workloads() {
        requirements.retain(|requirement| requirement.workloads != Workloads::Ignore);
    }
    if requirements.is_empty() {
        Question::Settled(Finding::default())
    } else {
        Question::Open {
            reference,
            requirements,
        }
    }
}

/// Answers every question before `until`. What is not known by then could not be found out.
pub(super) async fn find<'a, V: Verify>(
    verify: &V,
    questions: Questions<'a>,
    need: Need,
    sources: &PullSources,
    until: Instant,
) -> Findings<'a> {
    let jobs = jobs(&questions);
    let mut proved: BTreeMap<_, _> = stream::iter(jobs)
        .map(|job| async move {
            let proof = prove(verify, &job.reference, &job.verification, sources, until).await;
            (job.place, proof)
        })
        .buffer_unordered(CONCURRENT)
        .collect()
        .await;
    questions
        .into_iter()
        .enumerate()
        .map(|(index, (text, question))| {
            let proof = |rule| proved.remove(&(index, rule));
            (text, answer(question, proof, need))
        })
        .collect()
}

/// One verification, and which requirement of which question it is for.
struct Job {
    place: (usize, usize),
    reference: Reference,
    verification: Arc<Verification>,
}

fn jobs(questions: &Questions<'_>) -> Vec<Job> {
    let mut jobs = Vec::new();
    for (question, asked) in questions.values().enumerate() {
        let Question::Open {
            reference,
            requirements,
        } = asked
        else {
            continue;
        };
        for (number, requirement) in requirements.iter().enumerate() {
            if let Demand::Verify(verification) = &requirement.demand {
                jobs.push(Job {
                    place: (question, number),
                    reference: reference.clone(),
                    verification: Arc::clone(verification),
                });
            }
        }
    }
    jobs
}

async fn prove<V: Verify>(
    verify: &V,
    reference: &Reference,
    verification: &Verification,
    sources: &PullSources,
    until: Instant,
) -> Result<Pinned, Cause> {
    match timeout_at(until, verify.verify(reference, verification, sources, until)).await {
        Ok(proof) => proof.map_err(Cause::Refused),
        Err(_) => Err(Cause::Deadline),
    }
}

fn answer(question: Question, mut proof: impl FnMut(usize) -> Proof, need: Need) -> Finding {
    match question {
        Question::Settled(finding) => finding,
        Question::Open {
            reference,
            requirements,
        } => {
            let proofs = (0..requirements.len()).map(&mut proof).collect();
            judge(&reference, &requirements, proofs, need)
        }
    }
}
