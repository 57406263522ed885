//! What a person wants of the tags and signers of a repository, as changes of what it is.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::error::PublishError;
use super::keyring::Keyring;
use super::report::Report;
use super::{Effect, Initial, Publisher};
use crate::reference::Tag;
use crate::tuf::edit::{Change, Published, SignerKeys, SignerState};
use crate::tuf::{DelegationName, KeyId, PublicKey, Role};

/// A tag and what it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signing {
    /// The tag.
    pub tag: Tag,
    /// SHA-256 of the manifest or index.
    pub sha256: [u8; 32],
    /// Its length in bytes.
    pub length: u64,
}

/// Who is to sign from now on, and how.
#[derive(Clone, Debug)]
pub struct NewSigner {
    /// The delegation of their own.
    pub name: DelegationName,
    /// Their keys; those they have stay.
    pub keys: Vec<Arc<PublicKey>>,
    /// How many of their keys must sign in their own delegation; else as many as did, which is one at the beginning.
    /// `targets/releases`, which all signers share, keeps its own threshold.
    pub threshold: Option<u64>,
    /// Beginnings of the tags that they may sign; those they have stay.
    pub paths: Vec<Box<str>>,
}

impl<K: Keyring> Publisher<'_, K> {
    /// Signs tags, all in one publication: as those of `signers`, or, where none is named, as everybody whose key is at
    /// hand. A repository that has no trust data, and so no signers, is made as `initial` says.
    ///
    /// # Errors
    ///
    /// [`PublishError`].
    pub async fn sign_tags(
        &self,
        tags: &[Signing],
        signers: &[DelegationName],
        initial: &Initial,
    ) -> Result<Report, PublishError> {
        let held = self.held()?;
        let mut warnings = Vec::new();
        let who = |published: &Published| (!signers.is_empty()).then(|| keys_of(published, signers));
        let changed = self
            .change_as(who, |published, _| {
                let (changes, concerns) = release(published, tags, signers, &held)?;
                warnings = concerns;
                Ok(changes)
            })
            .await;
        match changed {
            Ok(mut report) => {
                report.warnings.extend(warnings);
                Ok(report)
            }
            Err(PublishError::NotInitialised { .. }) if signers.is_empty() => self.init(initial, tags).await,
            Err(error) => Err(error),
        }
    }

    /// Withdraws tags from every role whose key is at hand, `targets` among them (T48); without `tags`, all.
    ///
    /// # Errors
    ///
    /// [`PublishError`].
    pub async fn revoke(&self, tags: Option<&[Tag]>) -> Result<Report, PublishError> {
        let held = self.held()?;
        let mut warnings = Vec::new();
        let report = self.change(|published, conflicts| {
            let all: BTreeSet<Tag>;
            let tags: Vec<&Tag> = if let Some(tags) = tags {
                tags.iter().collect()
            } else {
                all = published.rows().into_iter().map(|row| row.tag).collect();
                all.iter().collect()
            };
            warnings.clear();
            let mut changes = Vec::new();
            for tag in tags {
                let (change, concern) = withdraw(published, tag, &held, conflicts)?;
                changes.extend(change);
                warnings.extend(concern);
            }
            Ok(changes)
        });
        let mut report = report.await?;
        report.warnings.append(&mut warnings);
        Ok(report)
    }

    /// Lets a signer sign: in a delegation of their own, and in `targets/releases` (§6.5). A repository that has no
    /// trust data is made.
    ///
    /// # Errors
    ///
    /// [`PublishError`].
    pub async fn add_signer(&self, signer: &NewSigner, initial: &Initial) -> Result<Report, PublishError> {
        match self.delegate(signer).await {
            Err(PublishError::NotInitialised { .. }) => {}
            outcome => return outcome,
        }
        let made = self.init(initial, &[]).await?;
        if self.options.effect == Effect::DryRun {
            return Ok(made);
        }
        let report = self.delegate(signer).await?;
        Ok(Report {
            initialised: true,
            ..report
        })
    }

    async fn delegate(&self, signer: &NewSigner) -> Result<Report, PublishError> {
        let held = self.held()?;
        let mut warnings = Vec::new();
        let report = self.change(|published, _| {
            let (changes, concerns) = delegate(published, signer, &held);
            warnings = concerns;
            Ok(changes)
        });
        let mut report = report.await?;
        report.warnings.append(&mut warnings);
        Ok(report)
    }

    /// Takes a signer's rights away. `targets/releases` is signed anew in the same publication by a signer who stays,
    /// if such a key is at hand.
    ///
    /// # Errors
    ///
    /// [`PublishError`].
    pub async fn remove_signer(&self, name: &DelegationName) -> Result<Report, PublishError> {
        let mut warnings = Vec::new();
        let report = self.change(|published, conflicts| {
            let (changes, concern) = undelegate(published, name, conflicts, self.options.force)?;
            warnings = concern;
            Ok(changes)
        });
        let mut report = report.await?;
        report.warnings.append(&mut warnings);
        Ok(report)
    }

    /// Signs files again as they are, so that they are good for longer (witness). `how` says what of a file that does
    /// not verify.
    ///
    /// # Errors
    ///
    /// [`PublishError`].
    pub async fn witness(&self, roles: &[Role], how: Witness) -> Result<Report, PublishError> {
        self.change(|published, conflicts| {
            // After a conflict it may be our own change that was taken after all.
            let done = |name: &DelegationName| {
                conflicts > 0 && published.version(&Role::Delegation(name.clone())).is_some()
            };
            let changes = roles.iter().filter_map(|role| match (how, role) {
                (Witness::Adopt | Witness::Empty, Role::Delegation(name)) if done(name) => None,
                (Witness::Adopt, Role::Delegation(name)) => Some(Change::Adopt { name: name.clone() }),
                (Witness::Empty, Role::Delegation(name)) => Some(Change::Empty { name: name.clone() }),
                (Witness::Renew | Witness::Adopt | Witness::Empty, role) => {
                    Some(Change::Resign { role: role.clone() })
                }
            });
            Ok(changes.collect())
        })
        .await
    }
}

/// What a witness makes of a delegation's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
    /// It verifies, and is good for longer from now on.
    Renew,
    /// It does not verify, and its tags are vouched for.
    Adopt,
    /// It does not verify, and its tags are dropped.
    Empty,
}

/// The keys of those signers: canonical ids.
fn keys_of(published: &Published, signers: &[DelegationName]) -> BTreeSet<KeyId> {
    let roles = signers.iter().cloned().map(Role::Delegation);
    roles.flat_map(|role| published.key_ids(&role)).collect()
}

fn release(
    published: &Published,
    tags: &[Signing],
    signers: &[DelegationName],
    held: &BTreeSet<KeyId>,
) -> Result<(Vec<Change>, Vec<String>), PublishError> {
    let mut changes = Vec::new();
    let mut concerns = Vec::new();
    let gun = published.gun();
    for Signing { tag, sha256, length } in tags {
        let roles = if signers.is_empty() {
            everybody(published, tag, held, &mut concerns)?
        } else {
            chosen(published, tag, signers, held)?
        };
        if !roles.contains(&Role::Targets) && !roles.contains(&Role::releases()) {
            concerns.push(format!(
                "{gun}:{tag} is signed, but not released: no key at hand may sign targets/releases"
            ));
        }
        changes.push(Change::Release {
            tag: tag.clone(),
            sha256: *sha256,
            length: *length,
            roles,
        });
    }
    Ok((changes, concerns))
}

/// The roles of all whose keys are at hand. Those of whose keys too few are do not keep the others from signing.
fn everybody(
    published: &Published,
    tag: &Tag,
    held: &BTreeSet<KeyId>,
    concerns: &mut Vec<String>,
) -> Result<BTreeSet<Role>, PublishError> {
    let gun = published.gun();
    let roles = published.signable(tag, held);
    if roles.is_empty() {
        let signers = published.delegations().into_iter();
        return Err(PublishError::NoSigner {
            gun: gun.clone(),
            tag: tag.clone(),
            signers: signers.map(|signer| signer.name.to_string()).collect(),
        });
    }
    let own = |role: &&Role| !matches!(role, Role::Targets) && **role != Role::releases();
    let (able, short): (BTreeSet<_>, BTreeSet<_>) = roles
        .iter()
        .filter(own)
        .cloned()
        .partition(|role| published.is_signable(role, held));
    if able.is_empty() {
        // Whoever is short is told so by what comes of signing.
        return Ok(roles);
    }
    for role in &short {
        concerns.push(format!(
            "{gun}:{tag} is not signed in {role}: fewer of its keys are at hand than must sign"
        ));
    }
    Ok(roles.difference(&short).cloned().collect())
}

/// The roles of those signers, each of whom must be able to, and `targets/releases`.
fn chosen(
    published: &Published,
    tag: &Tag,
    signers: &[DelegationName],
    held: &BTreeSet<KeyId>,
) -> Result<BTreeSet<Role>, PublishError> {
    let known = published.delegations();
    let theirs = held.intersection(&keys_of(published, signers)).copied().collect();
    let able = published.signable(tag, &theirs);
    for name in signers {
        let (gun, signer) = (published.gun().clone(), name.signer().to_owned());
        if known.iter().all(|known| known.name != *name) {
            return Err(PublishError::NoSuchSigner { gun, name: signer });
        }
        if !able.contains(&Role::Delegation(name.clone())) {
            let tag = tag.clone();
            return Err(PublishError::NotAble { gun, tag, signer });
        }
    }
    let wanted = |role: &Role| match role {
        Role::Delegation(name) => *role == Role::releases() || signers.contains(name),
        Role::Root | Role::Targets | Role::Snapshot | Role::Timestamp => false,
    };
    Ok(able.into_iter().filter(wanted).collect())
}

fn withdraw(
    published: &Published,
    tag: &Tag,
    held: &BTreeSet<KeyId>,
    conflicts: u32,
) -> Result<(Option<Change>, Option<String>), PublishError> {
    let (gun, tag) = (published.gun().clone(), tag.clone());
    let signed = published.signed_in(&tag);
    if signed.is_empty() {
        // After a conflict it may be our own change that was taken after all.
        return if conflicts > 0 {
            Ok((None, None))
        } else {
            Err(PublishError::NotSigned { gun, tag })
        };
    }
    let ours = |role: &Role| published.is_signable(role, held);
    let (roles, left): (BTreeSet<_>, BTreeSet<_>) = signed.into_iter().partition(ours);
    if roles.is_empty() {
        let roles = left.into_iter().collect();
        return Err(PublishError::NotOurs { gun, tag, roles });
    }
    let left: Vec<_> = left.iter().map(Role::as_str).collect();
    let concern = (!left.is_empty()).then(|| {
        format!(
            "{gun}:{tag} IS STILL SIGNED in {}, where no key at hand may withdraw it: until its owner does, it may \
             still be trusted",
            left.join(", ")
        )
    });
    Ok((Some(Change::Withdraw { tag, roles }), concern))
}

fn delegate(published: &Published, signer: &NewSigner, held: &BTreeSet<KeyId>) -> (Vec<Change>, Vec<String>) {
    let NewSigner { name, keys, .. } = signer;
    let ours = keys.iter().any(|key| held.contains(&key.canonical()));
    let known = published.delegations();
    let mut changes = Vec::new();
    let mut concerns = unbound(&known, signer);
    for (name, threshold, paths) in [
        (name.clone(), signer.threshold, signer.paths.clone()),
        (DelegationName::releases(), None, vec!["".into()]),
    ] {
        let role = Role::Delegation(name.clone());
        let lives = known.iter().any(|signer| signer.name == name);
        changes.push(Change::Delegate {
            name,
            keys: keys.clone(),
            threshold,
            paths,
        });
        // The server may still list a file from an earlier life of the role, signed by these very keys (T49); or it does
        // not, and whoever remembers that file takes it for an omission (T8).
        let (listed, seen) = (published.is_listed(&role), published.was_seen(&role));
        if lives || !(listed || seen) {
            continue;
        }
        if ours {
            changes.push(Change::Resign { role });
        } else if listed {
            concerns.push(format!(
                "{role} was delegated before, and the server still has its file: whatever these keys signed in it \
                 then counts again; have the signer look through it and revoke what should not"
            ));
        } else {
            concerns.push(format!(
                "{role} was delegated before: whoever remembers its file refuses the repository until the signer has \
                 signed a tag"
            ));
        }
    }
    (changes, concerns)
}

/// What a signer is not kept from, although it may look so.
fn unbound(known: &[SignerKeys], signer: &NewSigner) -> Vec<String> {
    let mut concerns = Vec::new();
    let role = &signer.name;
    let narrow = !signer.paths.iter().any(|path| path.is_empty());
    let within = |path: &str| signer.paths.iter().any(|asked| path.starts_with(&**asked));
    if let Some(before) = known.iter().find(|known| known.name == *role) {
        let more: Vec<_> = before.paths.iter().filter(|path| !within(path)).collect();
        if narrow && !more.is_empty() {
            concerns.push(format!(
                "{role} may sign tags beginning with {more:?} besides, as before: remove the signer first to take that away"
            ));
        }
    }
    if narrow || signer.threshold.is_some_and(|threshold| threshold > 1) {
        concerns.push(format!(
            "paths and threshold hold in {role}, for policies that name {} as a signer. Docker looks at targets/releases \
             alone, which all signers share: there one of these keys can release any tag, unless that has a threshold of \
             its own",
            role.signer()
        ));
    }
    concerns
}

fn undelegate(
    published: &Published,
    name: &DelegationName,
    conflicts: u32,
    force: bool,
) -> Result<(Vec<Change>, Vec<String>), PublishError> {
    let signers = published.delegations();
    let find = |name: &DelegationName| signers.iter().find(|signer| signer.name == *name);
    let Some(signer) = find(name) else {
        return if conflicts > 0 {
            Ok((Vec::new(), Vec::new()))
        } else {
            Err(PublishError::NoSuchSigner {
                gun: published.gun().clone(),
                name: name.signer().to_owned(),
            })
        };
    };
    let mut changes = vec![Change::Undelegate { name: name.clone() }];
    let mut concerns = Vec::new();
    let releases = DelegationName::releases();
    if let Some(shared) = find(&releases).filter(|_| *name != releases) {
        let others = signers
            .iter()
            .filter(|other| other.name != *name && other.name != releases);
        let keep: BTreeSet<KeyId> = others.flat_map(|other| other.keys.iter().copied()).collect();
        let keys: BTreeSet<_> = signer
            .keys
            .intersection(&shared.keys)
            .filter(|key| !keep.contains(key))
            .copied()
            .collect();
        let last = !keys.is_empty() && keys == shared.keys;
        let releases = Role::releases();
        if last && !force && published.rows().iter().any(|row| row.roles.contains(&releases)) {
            return Err(PublishError::Orphans {
                roles: vec![releases],
            });
        }
        changes.extend(leave_releases(shared, keys, &mut concerns));
    }
    Ok((changes, concerns))
}

/// Without keys a role is unusable, and its file would deny every tag: then the role goes too.
fn leave_releases(shared: &SignerKeys, keys: BTreeSet<KeyId>, concerns: &mut Vec<String>) -> Option<Change> {
    let name = shared.name.clone();
    if keys.is_empty() {
        return None;
    }
    if keys != shared.keys {
        return Some(Change::RemoveKeys { name, keys });
    }
    if shared.state != SignerState::Unpublished {
        concerns.push(format!(
            "{name} went with its last signer: from now on only what targets itself has signed is trusted"
        ));
    }
    Some(Change::Undelegate { name })
}
