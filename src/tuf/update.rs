//! The update of one repository, step by step as notary-v1 §5.7 requires it, without I/O.
//!
//! [`Update::begin`] names the files of the first round; [`Update::supply`] takes what the server answered and
//! either finishes or names what is still missing. Inside, the algorithm is written straight down and simply run
//! again whenever more files have come: signatures are cheap, and no half-verified state is kept between rounds.

mod roots;
mod tree;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use tree::Tree;

use super::collection::Collection;
use super::envelope::Meta;
use super::metadata::{Root, Signed, Snapshot, TimestampFile};
use super::root::RootRules;
use super::{Answer, DelegationName, Error, Form, Limits, Pin, Request, Role, Seen, State};
use crate::reference::Gun;

/// What is to be verified, for whom, and as of when.
#[derive(Clone, Debug)]
pub struct Task {
    /// The repository.
    pub gun: Gun,
    /// What its root is pinned to.
    pub pin: Arc<Pin>,
    /// Delegations whose signatures the policy asks for; loaded besides `targets` and `targets/releases`.
    pub signers: BTreeSet<DelegationName>,
    /// Whether to load all other signers too, as far as they verify, to say who signed.
    pub attribution: bool,
    /// What the repository is looked at for.
    pub purpose: Purpose,
    /// Caps on what the server may make us read.
    pub limits: Limits,
    /// The one reading of the clock that serves the whole run (TUF §5.1).
    pub now: Timestamp,
}

/// What a repository is looked at for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To believe what it says.
    Trust,
    /// To publish a change of it: what has merely expired, and delegations that do not verify, are what a publisher
    /// repairs. Signatures, versions and hashes are held to the same rules.
    Publish,
}

/// A run in progress.
#[derive(Debug)]
pub struct Update {
    task: Task,
    /// What was remembered when the run began.
    prior: State,
    /// What the server has answered so far.
    pool: HashMap<(Role, Form), Answer>,
    /// What was asked for so far, so that nothing is asked for ahead of need twice.
    asked: HashSet<(Role, Form)>,
    /// Bytes received.
    received: u64,
    /// Whether the run was begun again because a publisher was at work.
    restarted: bool,
    /// What is remembered, brought forward to the longest chain of roots that this run has verified from an anchor.
    rooted: Option<State>,
}

/// What [`Update::supply`] leads to.
#[derive(Debug)]
pub enum Step {
    /// These files are needed too.
    Fetch(Vec<Request>),
    /// All is verified.
    Done(Box<Verified>),
}

/// A complete, successful run.
#[derive(Debug)]
pub struct Verified {
    /// What to remember.
    pub state: State,
    /// What the repository says.
    pub collection: Collection,
    /// Delegations that are published and do not verify, with what is wrong and the file if there is one. Only a look
    /// for [`Purpose::Publish`] gets past them.
    pub unsound: BTreeMap<DelegationName, (Error, Option<Bytes>)>,
}

/// Why the algorithm stopped before its end.
enum Pause {
    Need(Vec<Request>),
    Refused(Error),
}

impl From<Error> for Pause {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl Update {
    /// Begins a run from what is remembered, and names everything that is most likely needed: one parallel round.
    pub fn begin(task: Task, prior: State) -> (Self, Vec<Request>) {
        let mut update = Self {
            task,
            prior,
            pool: HashMap::new(),
            asked: HashSet::new(),
            received: 0,
            restarted: false,
            rooted: None,
        };
        let round = update.first_round();
        (update, round)
    }

    /// Takes the answers to the requests named before. An answer may be left out only if its request was
    /// speculative.
    ///
    /// # Errors
    ///
    /// [`Error`] if what was answered cannot be trusted.
    pub fn supply(&mut self, answers: impl IntoIterator<Item = (Request, Answer)>) -> Result<Step, Error> {
        for (request, answer) in answers {
            if let Answer::Found(bytes) = &answer {
                self.received = self
                    .received
                    .saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            }
            self.pool.insert((request.role, request.form), answer);
        }
        if self.received > self.task.limits.total_bytes {
            return Err(Error::Limit {
                what: "bytes of metadata",
                most: self.task.limits.total_bytes,
            });
        }
        match self.run() {
            Ok(verified) => Ok(Step::Done(Box::new(verified))),
            Err(Pause::Need(requests)) => Ok(Step::Fetch(requests)),
            Err(Pause::Refused(error)) if error.may_be_a_race() && !self.restarted => {
                self.restarted = true;
                self.pool.clear();
                self.asked.clear();
                Ok(Step::Fetch(self.first_round()))
            }
            Err(Pause::Refused(error)) => Err(error),
        }
    }

    /// What was remembered with a longer chain of roots, if this run has verified one. It may be kept even if the run
    /// fails later (design §9.7), since every root of it is vouched for by the pin or by a root already kept; a root
    /// that is trusted only because it was the first is not among these. What a rotation makes us forget is forgotten
    /// with it: the next run sees no rotation any more.
    pub fn trusted_roots(&self) -> Option<&State> {
        self.rooted
            .as_ref()
            .filter(|rooted| rooted.roots != self.prior.roots)
    }

    fn first_round(&mut self) -> Vec<Request> {
        let mut roles = vec![Role::Targets, Role::releases()];
        roles.extend(self.task.signers.iter().cloned().map(Role::Delegation));
        let base = [
            (Role::Timestamp, false),
            (Role::Root, false),
            (Role::Snapshot, true),
        ];
        let mut requests: Vec<_> = base
            .into_iter()
            .map(|(role, speculative)| self.request(role, Form::Current, speculative))
            .collect();
        // Nobody has said yet how long these are: together they must fit into what the run may read.
        let base: u64 = requests.iter().map(|request| request.limit).sum();
        let share = self.room().saturating_sub(base) / u64::try_from(roles.len()).unwrap_or(u64::MAX);
        requests.extend(roles.into_iter().map(|role| {
            let request = self.request(role, Form::Current, true);
            Request {
                limit: request.limit.min(share),
                ..request
            }
        }));
        self.asked.extend(
            requests
                .iter()
                .map(|request| (request.role.clone(), request.form.clone())),
        );
        requests
    }

    /// How many more bytes may be read.
    const fn room(&self) -> u64 {
        self.task.limits.total_bytes.saturating_sub(self.received)
    }

    fn request(&self, role: Role, form: Form, speculative: bool) -> Request {
        let limits = &self.task.limits;
        let limit = match &role {
            Role::Root => limits.root_bytes,
            Role::Timestamp => limits.timestamp_bytes,
            Role::Snapshot => limits.snapshot_bytes,
            Role::Targets | Role::Delegation(_) => limits.targets_bytes,
        };
        Request {
            role,
            form,
            limit,
            speculative,
        }
    }

    fn rules(&self) -> RootRules<'_> {
        RootRules {
            gun: &self.task.gun,
            pin: &self.task.pin,
            now: self.task.now,
        }
    }

    /// The algorithm of §5.7, steps 2 to 11.
    fn run(&mut self) -> Result<Verified, Pause> {
        let chain = self.root_chain()?;
        let root = chain.newest();
        let memory = self.memory(root)?;
        if !self.task.pin.trusts_first_use() || !self.prior.roots.is_empty() {
            self.rooted = Some(State {
                roots: chain.files().to_vec(),
                seen: memory.clone(),
                ..self.prior.clone()
            });
        }
        let mut expires = match self.task.purpose {
            Purpose::Trust => chain.in_force(self.rules())?,
            Purpose::Publish => root.expires,
        };
        let timestamp = self.timestamp(root, &memory)?;
        let snapshot = self.snapshot(root, &timestamp, &memory)?;
        if !chain
            .files()
            .last()
            .is_some_and(|file| snapshot.root.describes(file))
        {
            return Err(Error::RootMismatch.into());
        }
        self.fetch_ahead(&snapshot)?;
        let mut tree = Tree::new(self.load_targets(root, &snapshot, &memory)?);
        self.refuse_omissions(&tree.targets, &snapshot)?;
        for name in self.needed_delegations() {
            self.load(&mut tree, &name, &snapshot)?;
        }
        if self.task.attribution || self.task.purpose == Purpose::Publish {
            self.load_other_signers(&mut tree, &snapshot)?;
        }
        for signed in [&timestamp.signed, &snapshot.signed, &tree.targets.signed] {
            expires = expires.min(signed.expires);
        }
        Ok(self.finish(&chain, &timestamp, &snapshot, tree, expires))
    }

    /// What is remembered of each role, less what a rotation of the server's keys makes us forget: with new
    /// timestamp or snapshot keys versions may begin anew, which is the way out of a fast-forward (step 5, T6).
    fn memory(&self, root: &Root) -> Result<BTreeMap<Role, Seen>, Error> {
        let mut memory = self.prior.seen.clone();
        let Some(file) = self.prior.roots.last() else {
            return Ok(memory);
        };
        let previous = Root::parse(file)?;
        let rotated = previous.timestamp.canonical() != root.timestamp.canonical()
            || previous.snapshot.canonical() != root.snapshot.canonical();
        if rotated {
            memory.remove(&Role::Timestamp);
            memory.remove(&Role::Snapshot);
        }
        Ok(memory)
    }

    fn timestamp(&self, root: &Root, memory: &BTreeMap<Role, Seen>) -> Result<TimestampFile, Pause> {
        let file = match self.answer(Role::Timestamp, &Form::Current)? {
            Answer::Found(file) => file,
            Answer::Absent => {
                return Err(Error::Missing {
                    role: Role::Timestamp,
                }
                .into());
            }
        };
        let timestamp = TimestampFile::verify(file, &root.timestamp)?;
        self.admit(&Role::Timestamp, &timestamp.signed, memory)?;
        Ok(timestamp)
    }

    fn snapshot(
        &self,
        root: &Root,
        timestamp: &TimestampFile,
        memory: &BTreeMap<Role, Seen>,
    ) -> Result<Snapshot, Pause> {
        let file = self.described(&Role::Snapshot, &timestamp.snapshot, &Role::Timestamp)?;
        let snapshot = Snapshot::verify(&file, &root.snapshot)?;
        self.admit(&Role::Snapshot, &snapshot.signed, memory)?;
        Ok(snapshot)
    }

    /// Versions never fall, one version has one content, and nothing expired counts: the same for every role.
    fn admit(&self, role: &Role, signed: &Signed, memory: &BTreeMap<Role, Seen>) -> Result<(), Error> {
        let Signed { seen, expires } = *signed;
        if let Some(known) = memory.get(role) {
            if seen.version < known.version {
                return Err(Error::Rollback {
                    role: role.clone(),
                    offered: seen.version,
                    trusted: known.version,
                });
            }
            if seen.version == known.version && seen.sha256 != known.sha256 {
                return Err(Error::Equivocation {
                    role: role.clone(),
                    version: seen.version,
                });
            }
        }
        if expires <= self.task.now && self.task.purpose == Purpose::Trust {
            return Err(Error::Expired {
                role: role.clone(),
                at: expires,
            });
        }
        Ok(())
    }

    fn answer(&self, role: Role, form: &Form) -> Result<&Answer, Pause> {
        let key = (role, form.clone());
        self.pool.get(&key).ok_or_else(|| {
            let (role, form) = key;
            Pause::Need(vec![self.request(role, form, false)])
        })
    }

    /// The file of `role` that `meta` means, if some answer brought it.
    fn pooled(&self, role: &Role, meta: &Meta) -> Option<Bytes> {
        [Form::Current, Form::Hash(meta.sha256)]
            .into_iter()
            .find_map(|form| match self.pool.get(&(role.clone(), form))? {
                Answer::Found(file) if meta.describes(file) => Some(file.clone()),
                Answer::Found(_) | Answer::Absent => None,
            })
    }

    /// The file of `role` that `meta` means: exact length, every hash (T7).
    fn described(&self, role: &Role, meta: &Meta, by: &Role) -> Result<Bytes, Pause> {
        let request = self.request(role.clone(), Form::Hash(meta.sha256), false);
        if meta.length > request.limit {
            return Err(Error::Limit {
                what: "bytes of a metadata file",
                most: request.limit,
            }
            .into());
        }
        if let Some(file) = self.pooled(role, meta) {
            return Ok(file);
        }
        match self.pool.get(&(role.clone(), request.form.clone())) {
            None => Err(Pause::Need(vec![Request {
                limit: meta.length,
                ..request
            }])),
            Some(Answer::Absent) => Err(Error::Missing { role: role.clone() }.into()),
            Some(Answer::Found(_)) => Err(Error::Hash {
                role: role.clone(),
                by: by.clone(),
            }
            .into()),
        }
    }
}
