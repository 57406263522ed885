//! One change, from the first look to the last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep};

use super::error::PublishError;
use super::keyring::Keyring;
use super::report::{Report, Written, expiring};
use super::{Anchor, Effect, Progress, Publisher};
use crate::notary::PushError;
use crate::trust::{Setback, Site, present};
use crate::tuf::edit::{Change, Draft, Published, Signed};
use crate::tuf::{self, KeyId, Pin, PrivateKey, Purpose, Role, State, Verified};

/// Attempts at one change. With others who publish as fast as the server takes it, each attempt succeeds with one
/// chance in so many publishers; a dozen suffice for half a dozen of them.
const ATTEMPTS: u32 = 12;
/// Attempts where the server does not answer: it may have taken the change, which the next look tells.
const ATTEMPTS_UNANSWERED: u32 = 3;
/// The first pause between attempts, without jitter; later ones double up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often the reach of the search for a delegation's earlier life is doubled. A million publications are one every
/// five minutes for ten years; a server that claims more would have us use up the versions there are.
const MOST_LOOKS: u32 = 20;

impl<K: Keyring> Publisher<'_, K> {
    /// Makes the change that `plan` says of the repository as it is found; again, of what it has become, as long as
    /// others are faster. `plan` is told how often that happened. It must ask for nothing that is so already.
    pub(super) async fn change(
        &self,
        plan: impl FnMut(&Arc<Published>, u32) -> Result<Vec<Change>, PublishError>,
    ) -> Result<Report, PublishError> {
        self.change_as(|_| None, plan).await
    }

    /// The same, signed by no other keys than those that `who` names (canonical ids), where it names any, and by that of
    /// the snapshot.
    pub(super) async fn change_as(
        &self,
        who: impl Fn(&Published) -> Option<BTreeSet<KeyId>>,
        mut plan: impl FnMut(&Arc<Published>, u32) -> Result<Vec<Change>, PublishError>,
    ) -> Result<Report, PublishError> {
        let mut conflicts = 0;
        loop {
            let (now, deadline) = (present()?, self.deadline());
            let published = Arc::new(self.published(now, deadline).await?);
            let mut draft = published.edit();
            for change in plan(&published, conflicts)? {
                draft.apply(&change)?;
            }
            if draft.is_unchanged() {
                return Ok(Report::unchanged(self.site.gun().clone(), conflicts));
            }
            self.raise_floors(&mut draft, deadline).await?;
            let signed = self.sign(draft, who(&published).as_ref(), now)?;
            if !signed.revived.is_empty() && !self.options.force {
                return Err(PublishError::Revived {
                    roles: signed.revived,
                });
            }
            if !signed.orphans.is_empty() && !self.options.force {
                return Err(PublishError::Orphans {
                    roles: signed.orphans,
                });
            }
            if self.options.effect == Effect::DryRun {
                return Ok(self.report(&signed, conflicts));
            }
            match self.upload(&signed).await {
                Ok(()) => return self.confirm(&signed, conflicts).await,
                Err(failure) if conflicts + 1 < attempts(&failure) => {
                    conflicts += 1;
                    (self.progress)(Progress::Again(conflicts));
                    sleep(pause(conflicts)).await;
                }
                Err(failure) => return Err(self.not_published(failure)),
            }
        }
    }

    /// For what is asked of the server from now on. A passphrase that somebody types in between takes nothing from it.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.options.timeout
    }

    /// What a failed upload comes to: after one without an answer nobody knows what came of it.
    pub(super) fn not_published(&self, source: PushError) -> PublishError {
        let gun = self.site.gun().clone();
        let unanswered = matches!(&source, PushError::Fetch(error) if error.is_outage());
        let failure = PublishError::Push {
            gun: gun.clone(),
            source,
        };
        if unanswered {
            PublishError::Unconfirmed {
                gun,
                source: Box::new(failure),
            }
        } else {
            failure
        }
    }

    /// The repository as it is, verified for publishing.
    pub(super) async fn published(
        &self,
        now: Timestamp,
        deadline: Instant,
    ) -> Result<Published, PublishError> {
        (self.progress)(Progress::Looking);
        let gun = self.site.gun();
        match self.look(now, deadline).await {
            Ok(verified) => Ok(Published::of(gun, &verified)?),
            Err(Setback::Untrusted(tuf::Error::NoTrustData { gun })) => {
                Err(PublishError::NotInitialised { gun })
            }
            Err(Setback::Untrusted(tuf::Error::Pin { gun })) if self.options.anchor != Anchor::Configured => {
                Err(PublishError::Unanchored { gun })
            }
            Err(source) => Err(PublishError::Look {
                gun: gun.clone(),
                source,
            }),
        }
    }

    async fn look(&self, now: Timestamp, deadline: Instant) -> Result<Verified, Setback> {
        let site = self.anchored(deadline).await?;
        site.look(Purpose::Publish, now, deadline).await
    }

    /// The site with what vouches for it: a repository that was never seen is never believed just because it was first.
    async fn anchored(&self, deadline: Instant) -> Result<Site, Setback> {
        Ok(match self.options.anchor {
            Anchor::OwnRoot if !self.site.is_known(deadline).await? => self.site.pinned(self.own_roots()),
            Anchor::OwnRoot | Anchor::Configured | Anchor::FirstUse => self.site.clone(),
        })
    }

    /// A pin that our root keys meet, and nothing if we have none.
    fn own_roots(&self) -> Pin {
        let held = self.keys.held().unwrap_or_default();
        let roots = held.iter().filter(|key| key.role == Role::Root.as_str());
        Pin::held(roots.map(|key| key.id))
    }

    /// Canonical ids of the keys at hand.
    pub(super) fn held(&self) -> Result<BTreeSet<KeyId>, PublishError> {
        Ok(self.keys.held()?.into_iter().map(|key| key.id).collect())
    }

    pub(super) fn sign(
        &self,
        draft: Draft,
        who: Option<&BTreeSet<KeyId>>,
        now: Timestamp,
    ) -> Result<Signed, PublishError> {
        (self.progress)(Progress::Signing);
        let keys = self.unlock(&draft, who)?;
        Ok(draft.sign(&keys, &self.options.terms.from(now))?)
    }

    /// Those keys at hand that the draft needs, and no others.
    fn unlock(
        &self,
        draft: &Draft,
        who: Option<&BTreeSet<KeyId>>,
    ) -> Result<BTreeMap<KeyId, Arc<PrivateKey>>, PublishError> {
        let held = self.held()?;
        let mut wanted: BTreeSet<KeyId> = draft.snapshot_keys();
        let needed = draft.needs().into_iter().flat_map(|need| need.keys);
        wanted.extend(needed.filter(|key| who.is_none_or(|who| who.contains(key))));
        let keys = wanted
            .intersection(&held)
            .map(|id| Ok((*id, self.keys.unlock(id)?)));
        keys.collect()
    }

    pub(super) async fn upload(&self, signed: &Signed) -> Result<(), PushError> {
        (self.progress)(Progress::Uploading);
        let files: Vec<_> = signed
            .files
            .iter()
            .map(|file| (file.role.clone(), file.bytes.clone()))
            .collect();
        self.site
            .server()
            .publish(self.site.gun(), &files, self.deadline())
            .await
    }

    /// Verifies what was published, as everybody else will.
    pub(super) async fn confirm(&self, signed: &Signed, conflicts: u32) -> Result<Report, PublishError> {
        (self.progress)(Progress::Confirming);
        let (now, gun) = (present()?, self.site.gun());
        let deadline = self.deadline();
        let uploaded = signed.files.iter().filter_map(|file| match &file.role {
            Role::Delegation(name) => Some(name.clone()),
            Role::Root | Role::Targets | Role::Snapshot | Role::Timestamp => None,
        });
        // Who has accepted, by force, that a delegation does not verify any more is not told that it failed.
        let purpose = if signed.orphans.is_empty() {
            Purpose::Trust
        } else {
            Purpose::Publish
        };
        // What a server shows after a first publication is held to our root like what it shows before one.
        let looked = match self.anchored(deadline).await {
            Ok(site) => site.needing(uploaded).look(purpose, now, deadline).await,
            Err(setback) => Err(setback),
        };
        let verified = match looked {
            Ok(verified) => verified,
            Err(source @ Setback::Untrusted(_)) => {
                return Err(PublishError::Unverified {
                    gun: gun.clone(),
                    source,
                });
            }
            Err(source) => {
                let source = Box::new(PublishError::Look {
                    gun: gun.clone(),
                    source,
                });
                return Err(PublishError::Unconfirmed {
                    gun: gun.clone(),
                    source,
                });
            }
        };
        for file in &signed.files {
            if !is_served(
                &verified.state,
                &file.role,
                file.version,
                &tuf::sha256(&file.bytes),
            ) {
                return Err(PublishError::Altered {
                    server: self.site.server().host().to_string(),
                    role: file.role.clone(),
                    version: file.version,
                });
            }
        }
        let mut report = self.report(signed, conflicts);
        report
            .warnings
            .extend(expiring(&Published::of(gun, &verified)?, now));
        Ok(report)
    }

    pub(super) fn report(&self, signed: &Signed, conflicts: u32) -> Report {
        let orphans = signed.orphans.iter().map(|role| {
            format!("{role} carries no valid signature now: none of its tags is trusted until a signer publishes it")
        });
        let revived = signed.revived.iter().map(|role| {
            format!("{role} verifies again with the keys it has now, and all its tags count: revoke what should not")
        });
        Report {
            written: signed.files.iter().map(Written::from).collect(),
            warnings: orphans.chain(revived).collect(),
            ..Report::unchanged(self.site.gun().clone(), conflicts)
        }
    }

    /// A delegation that begins may have lived before, and its versions are used up (§7.8).
    async fn raise_floors(&self, draft: &mut Draft, deadline: Instant) -> Result<(), PublishError> {
        for role in draft.begins() {
            let newest = self.newest_version(&role, deadline).await?;
            draft.above(role, newest);
        }
        Ok(())
    }

    /// The highest version that the server has of a role; 0 if none.
    async fn newest_version(&self, role: &Role, deadline: Instant) -> Result<u64, PublishError> {
        let (mut there, mut gone) = (0_u64, 1_u64);
        let mut looks = 0;
        while looks < MOST_LOOKS && self.has_version(role, gone, deadline).await? {
            (there, gone) = (gone, gone.saturating_mul(2));
            looks += 1;
        }
        if looks == MOST_LOOKS {
            return Err(PublishError::Versions {
                server: self.site.server().host().to_string(),
                role: role.clone(),
                version: there,
            });
        }
        while gone.saturating_sub(there) > 1 {
            let middle = there.midpoint(gone);
            if self.has_version(role, middle, deadline).await? {
                there = middle;
            } else {
                gone = middle;
            }
        }
        Ok(there)
    }

    async fn has_version(&self, role: &Role, version: u64, deadline: Instant) -> Result<bool, PublishError> {
        let found = self.site.file(role, version, deadline).await;
        found
            .map(|file| file.is_some())
            .map_err(|source| PublishError::Look {
                gun: self.site.gun().clone(),
                source: Setback::Unavailable(source),
            })
    }
}

/// Verifies a repository to show it, whatever it is: nothing is signed on top of it.
///
/// # Errors
///
/// [`PublishError`] if it does not verify, but for what a publisher could repair.
pub async fn look(site: &Site, timeout: Duration) -> Result<(Published, Timestamp), PublishError> {
    let now = present()?;
    let gun = site.gun();
    match site.look(Purpose::Publish, now, Instant::now() + timeout).await {
        Ok(verified) => Ok((Published::of(gun, &verified)?, now)),
        Err(Setback::Untrusted(tuf::Error::NoTrustData { gun })) => Err(PublishError::NotInitialised { gun }),
        Err(source) => Err(PublishError::Look {
            gun: gun.clone(),
            source,
        }),
    }
}

/// How often an upload that failed like this is tried at most.
pub(super) fn attempts(failure: &PushError) -> u32 {
    if matches!(failure, PushError::Conflict { .. }) {
        ATTEMPTS
    } else if failure.is_worth_another_try() {
        ATTEMPTS_UNANSWERED
    } else {
        1
    }
}

/// Whether the server has what was sent, or something later, which was made on top of it.
fn is_served(state: &State, role: &Role, version: u64, sha256: &[u8; 32]) -> bool {
    if *role == Role::Root {
        return state.roots.iter().any(|root| tuf::sha256(root) == *sha256);
    }
    match state.seen.get(role) {
        Some(seen) if seen.version == version => seen.sha256 == *sha256,
        Some(seen) => seen.version > version,
        None => false,
    }
}

/// How long to wait before the attempt after `conflicts` failures: publishers that met once must not meet again.
pub(super) fn pause(conflicts: u32) -> Duration {
    let mut random = [0; 2];
    // Nothing secret depends on these two bytes: without them the pause is the shortest.
    let _spread = aws_lc_rs::rand::fill(&mut random);
    let most = PAUSE
        .saturating_mul(2_u32.saturating_pow(conflicts))
        .min(LONGEST_PAUSE);
    PAUSE + most.mul_f64(f64::from(u16::from_ne_bytes(random)) / f64::from(u16::MAX))
}
