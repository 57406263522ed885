//! The chain of roots, from what vouches for it to the newest (notary-v1 §5.7 steps 2 and 3).

use bytes::Bytes;

use super::super::metadata::Root;
use super::super::root::{Chain, Gap};
use super::super::{Answer, Error, Form, Role};
use super::{Pause, Update};

/// Root versions asked for in the first round of a walk. Later rounds ask for as many as have been walked: each
/// round runs over the whole chain again, and so a long chain costs twice its length and not its square.
const WALK: u64 = 16;

impl Update {
    pub(super) fn root_chain(&self) -> Result<Chain, Pause> {
        let file = match self.answer(Role::Root, &Form::Current)? {
            Answer::Found(file) => file.clone(),
            Answer::Absent => return Err(self.nothing_there().into()),
        };
        let offered = Root::parse(&file)?;
        let version = offered.version;
        let remembered = Chain::restored(&self.prior.roots, self.rules())?;
        let chain = match remembered {
            Some(chain) => self.walk(chain, offered, file)?,
            None if self.task.pin.trusts_first_use() || self.rules().pin_met_by(&offered) => {
                Chain::anchored(offered, file, self.rules())?
            }
            None => return self.walk_from_pin(version, offered, file),
        };
        if self.task.pin.trusts_first_use() || chain.meets_pin(self.rules()) {
            return Ok(chain);
        }
        self.rewalk_from_pin(&chain)
    }

    fn nothing_there(&self) -> Error {
        let gun = self.task.gun.clone();
        if self.prior.is_empty() {
            Error::NoTrustData { gun }
        } else {
            Error::Gone { gun }
        }
    }

    /// Extends `chain` version by version up to the root the server offers as newest.
    fn walk(&self, mut chain: Chain, offered: Root, file: Bytes) -> Result<Chain, Pause> {
        let trusted = chain.newest().version;
        if offered.version < trusted {
            return Err(Error::Rollback {
                role: Role::Root,
                offered: offered.version,
                trusted,
            }
            .into());
        }
        if offered.version == trusted {
            let same = offered.sha256 == chain.newest().sha256;
            let twice = Error::Equivocation {
                role: Role::Root,
                version: trusted,
            };
            return if same { Ok(chain) } else { Err(twice.into()) };
        }
        let most = self.task.limits.roots;
        if offered.version - trusted > most {
            return Err(Error::Limit {
                what: "root versions",
                most,
            }
            .into());
        }
        let mut gap = Gap::Refused;
        for version in trusted + 1..offered.version {
            match self.root_version(version, offered.version)? {
                Some((root, file)) => chain.extend(root, file, self.rules(), Gap::Refused)?,
                None if version == trusted + 1 => {
                    gap = Gap::Accepted;
                    break;
                }
                None => {
                    return Err(Error::RootChain {
                        trusted,
                        offered: offered.version,
                    }
                    .into());
                }
            }
        }
        chain.extend(offered, file, self.rules(), gap)?;
        Ok(chain)
    }

    /// Finds the first root that meets the pin and walks on from there: pins survive root rotations (step 2).
    fn walk_from_pin(&self, newest: u64, offered: Root, file: Bytes) -> Result<Chain, Pause> {
        let most = self.task.limits.roots;
        if newest > most {
            return Err(Error::Limit {
                what: "root versions",
                most,
            }
            .into());
        }
        for version in 1..newest {
            let Some((root, first)) = self.root_version(version, newest)? else {
                break;
            };
            if self.rules().pin_met_by(&root) {
                return self.walk(Chain::anchored(root, first, self.rules())?, offered, file);
            }
        }
        // Nothing of the pinned key: say which rule failed first for the newest root.
        self.explain_pin(&offered)
    }

    fn explain_pin(&self, offered: &Root) -> Result<Chain, Pause> {
        let gun = self.task.gun.clone();
        match self.rules().acceptable(offered) {
            Err(error) => Err(error.into()),
            Ok(()) => Err(Error::Pin { gun }.into()),
        }
    }

    /// The pin changed since the chain was remembered, and no root of it meets the new one: an older root may, but
    /// only if it leads to the very root we remember.
    fn rewalk_from_pin(&self, known: &Chain) -> Result<Chain, Pause> {
        let Some(file) = known.files().last().cloned() else {
            return Err(Error::Pin {
                gun: self.task.gun.clone(),
            }
            .into());
        };
        let offered = Root::parse(&file)?;
        let version = offered.version;
        let chain = self.walk_from_pin(version, offered, file)?;
        let remembered = self
            .prior
            .roots
            .last()
            .map(|file| Root::parse(file))
            .transpose()?;
        match remembered {
            Some(root)
                if chain
                    .version(root.version)
                    .is_none_or(|same| same.sha256 != root.sha256) =>
            {
                Err(Error::Equivocation {
                    role: Role::Root,
                    version: root.version,
                }
                .into())
            }
            _ => Ok(chain),
        }
    }

    /// Root `version`, if the server has it; asks for a stretch of versions below `end` at once.
    fn root_version(&self, version: u64, end: u64) -> Result<Option<(Root, Bytes)>, Pause> {
        match self.pool.get(&(Role::Root, Form::Version(version))) {
            Some(Answer::Found(file)) => {
                let root = Root::parse(file)?;
                if root.version != version {
                    return Err(Error::RootChain {
                        trusted: version,
                        offered: root.version,
                    }
                    .into());
                }
                Ok(Some((root, file.clone())))
            }
            Some(Answer::Absent) => Ok(None),
            None => {
                let stretch = version..end.min(version + self.stride());
                Err(Pause::Need(
                    stretch
                        .map(|v| self.request(Role::Root, Form::Version(v), false))
                        .collect(),
                ))
            }
        }
    }

    /// How many root versions the next round of a walk asks for: no more than may be read.
    fn stride(&self) -> u64 {
        let walked = self
            .pool
            .keys()
            .filter(|(_, form)| matches!(form, Form::Version(_)));
        let walked = u64::try_from(walked.count()).unwrap_or(u64::MAX);
        let affordable = self.room() / self.task.limits.root_bytes.max(1);
        walked.max(WALK).min(affordable).max(1)
    }
}
