//! The update of one repository, step by step as notary-v1 §5.7 requires it, without I/O.
//!
//! [`Update::begin`] names the files of the first round; [`Update::supply`] takes what the server answered and
//! either finishes or names what is still missing. Inside, the algorithm is written straight down and simply run
//! again whenever more files have come: signatures are cheap, and no half-verified state is kept between rounds.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::collection::{Collection, Published, SignerTags};
use super::envelope::Meta;
use super::metadata::{Root, Signed, Snapshot, Targets, TimestampFile};
use super::root::{Chain, Gap, RootRules};
use super::{Answer, DelegationName, Error, Form, Limits, Pin, Request, Role, Seen, State};
use crate::reference::Gun;

/// Root versions asked for in the first round of a walk. Later rounds ask for as many as have been walked: each
/// round runs over the whole chain again, and so a long chain costs twice its length and not its square.
const WALK: u64 = 16;

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
    /// Caps on what the server may make us read.
    pub limits: Limits,
    /// The one reading of the clock that serves the whole run (TUF §5.1).
    pub now: Timestamp,
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
        let mut expires = chain.in_force(self.rules())?;
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
        if self.task.attribution {
            self.load_other_signers(&mut tree, &snapshot)?;
        }
        for signed in [&timestamp.signed, &snapshot.signed, &tree.targets.signed] {
            expires = expires.min(signed.expires);
        }
        Ok(self.finish(&chain, &timestamp, &snapshot, tree, expires))
    }

    // Roots, steps 2 and 3.

    fn root_chain(&self) -> Result<Chain, Pause> {
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

    // Timestamp and snapshot, steps 5 to 7.

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
        if expires <= self.task.now {
            return Err(Error::Expired {
                role: role.clone(),
                at: expires,
            });
        }
        Ok(())
    }

    // The targets tree, steps 8 to 10.

    /// Asks for everything the snapshot lists and we need, at once, as far as the first round did not bring it and it
    /// fits into what the run may read.
    fn fetch_ahead(&mut self, snapshot: &Snapshot) -> Result<(), Pause> {
        let mut wanted = vec![(Role::Targets, &snapshot.targets)];
        for name in self.needed_delegations() {
            if let Some((name, meta)) = snapshot.delegations.get_key_value(&name) {
                wanted.push((Role::Delegation(name.clone()), meta));
            }
        }
        self.ask_ahead(wanted)
    }

    fn ask_ahead(&mut self, wanted: Vec<(Role, &Meta)>) -> Result<(), Pause> {
        let mut requests = Vec::new();
        let mut room = self.room();
        for (role, meta) in wanted {
            let form = Form::Hash(meta.sha256);
            let known =
                self.pooled(&role, meta).is_some() || self.asked.contains(&(role.clone(), form.clone()));
            if !known && meta.length <= self.task.limits.targets_bytes.min(room) {
                room -= meta.length;
                self.asked.insert((role.clone(), form.clone()));
                requests.push(Request {
                    limit: meta.length,
                    ..self.request(role, form, true)
                });
            }
        }
        if requests.is_empty() {
            Ok(())
        } else {
            Err(Pause::Need(requests))
        }
    }

    fn load_targets(
        &self,
        root: &Root,
        snapshot: &Snapshot,
        memory: &BTreeMap<Role, Seen>,
    ) -> Result<Targets, Pause> {
        let file = self.described(&Role::Targets, &snapshot.targets, &Role::Snapshot)?;
        let targets = Targets::verify(&Role::Targets, &file, &root.targets, &self.task.limits)?;
        self.admit(&Role::Targets, &targets.signed, memory)?;
        Ok(targets)
    }

    /// `targets/releases`, the required signers, and whatever lies between them and `targets`, parents first.
    fn needed_delegations(&self) -> Vec<DelegationName> {
        let mut needed = Vec::new();
        let mut need = |role: Role| {
            let mut line = vec![role];
            while let Some(parent) = line.last().and_then(Role::parent) {
                line.push(parent);
            }
            for role in line.into_iter().rev() {
                if let Role::Delegation(name) = role
                    && !needed.contains(&name)
                {
                    needed.push(name);
                }
            }
        };
        need(Role::releases());
        self.task
            .signers
            .iter()
            .for_each(|name| need(Role::Delegation(name.clone())));
        needed
    }

    /// A role that was seen and is still delegated must still be listed (step 9, T8).
    fn refuse_omissions(&self, parent: &Targets, snapshot: &Snapshot) -> Result<(), Error> {
        for name in parent.delegations.iter().map(|delegation| &delegation.name) {
            let role = Role::Delegation(name.clone());
            if self.prior.seen.contains_key(&role) && !snapshot.delegations.contains_key(name) {
                return Err(Error::Omitted { role });
            }
        }
        Ok(())
    }

    /// Loads delegation `name` into `tree` if its parent delegates to it and it is published. What is delegated and
    /// published must verify: nothing falls back to another role (step 10, T9).
    fn load(&self, tree: &mut Tree, name: &DelegationName, snapshot: &Snapshot) -> Result<(), Pause> {
        let role = Role::Delegation(name.clone());
        let limits = &self.task.limits;
        if name.depth() > limits.depth {
            let most = u64::try_from(limits.depth).unwrap_or(u64::MAX);
            return Err(Error::Limit {
                what: "levels of delegation",
                most,
            }
            .into());
        }
        let Some((delegation, parent_paths)) = tree.delegating(&role) else {
            return Ok(());
        };
        let Some(meta) = snapshot.delegations.get(name) else {
            tree.unpublished.insert(name.clone());
            return Ok(());
        };
        if tree.delegations.len() + 1 >= limits.roles {
            let most = u64::try_from(limits.roles).unwrap_or(u64::MAX);
            return Err(Error::Limit { what: "roles", most }.into());
        }
        let file = self.described(&role, meta, &Role::Snapshot)?;
        let targets = Targets::verify(&role, &file, &delegation.keys, limits)?;
        self.admit(&role, &targets.signed, &self.prior.seen)?;
        self.refuse_omissions(&targets, snapshot)?;
        let paths = effective_paths(&delegation.paths, parent_paths);
        tree.delegations.insert(
            name.clone(),
            Loaded {
                targets,
                paths,
                required: true,
            },
        );
        Ok(())
    }

    /// Loads the direct delegations that nobody requires, to say who signed. One that does not verify says nothing,
    /// and blocks nothing (T41).
    fn load_other_signers(&mut self, tree: &mut Tree, snapshot: &Snapshot) -> Result<(), Pause> {
        let room = self.task.limits.roles.saturating_sub(tree.delegations.len() + 1);
        let others: Vec<_> = tree
            .targets
            .delegations
            .iter()
            .map(|delegation| delegation.name.clone())
            .collect();
        let others: Vec<_> = others
            .into_iter()
            .filter(|name| !tree.delegations.contains_key(name))
            .take(room)
            .collect();
        let listed = others
            .iter()
            .filter_map(|name| Some((name, snapshot.delegations.get(name)?)));
        self.ask_ahead(
            listed
                .map(|(name, meta)| (Role::Delegation(name.clone()), meta))
                .collect(),
        )?;
        for name in others {
            // Whatever is wrong with it, or missing of it, is not our question.
            drop(self.load(tree, &name, snapshot));
            if let Some(loaded) = tree.delegations.get_mut(&name) {
                loaded.required = false;
            }
        }
        Ok(())
    }

    // Files.

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

    // The result.

    fn finish(
        &self,
        chain: &Chain,
        timestamp: &TimestampFile,
        snapshot: &Snapshot,
        tree: Tree,
        expires: Timestamp,
    ) -> Verified {
        let mut state = State {
            roots: chain.files().to_vec(),
            seen: self.prior.seen.clone(),
            files: BTreeMap::new(),
            verified_at: Some(self.task.now),
        };
        let mut remember = |role: Role, signed: &Signed, meta: Option<&Meta>| {
            let current = || match self.pool.get(&(role.clone(), Form::Current)) {
                Some(Answer::Found(file)) => Some(file.clone()),
                Some(Answer::Absent) | None => None,
            };
            let file = meta.map_or_else(current, |meta| self.pooled(&role, meta));
            state.files.extend(file.map(|file| (role.clone(), file)));
            state.seen.insert(role, signed.seen);
        };
        remember(Role::Timestamp, &timestamp.signed, None);
        remember(Role::Snapshot, &snapshot.signed, Some(&timestamp.snapshot));
        remember(Role::Targets, &tree.targets.signed, Some(&snapshot.targets));
        for (name, loaded) in &tree.delegations {
            remember(
                Role::Delegation(name.clone()),
                &loaded.targets.signed,
                snapshot.delegations.get(name),
            );
        }
        Verified {
            state,
            collection: self.collection(tree, expires),
        }
    }

    fn collection(&self, tree: Tree, expires: Timestamp) -> Collection {
        let Tree {
            targets,
            delegations,
            unpublished,
        } = tree;
        let required = delegations.values().filter(|loaded| loaded.required);
        let expires = required
            .map(|loaded| loaded.targets.signed.expires)
            .fold(expires, Timestamp::min);
        let mut collection = Collection::new(self.task.gun.clone(), expires);
        collection.release(Published::Targets, targets.entries);
        for (name, Loaded { targets, paths, .. }) in delegations {
            let covered =
                |tag: &crate::reference::Tag| paths.iter().any(|path| tag.as_str().starts_with(path));
            let entries = targets
                .entries
                .into_iter()
                .filter(|(tag, _)| covered(tag))
                .collect();
            if Role::Delegation(name.clone()) == Role::releases() {
                collection.release(Published::Releases, entries);
            } else {
                collection.attribute(
                    name,
                    SignerTags {
                        keys: targets.signers,
                        entries,
                    },
                );
            }
        }
        for name in unpublished {
            collection.unpublished(name);
        }
        collection
    }
}

/// The targets roles that have verified so far.
struct Tree {
    targets: Targets,
    delegations: BTreeMap<DelegationName, Loaded>,
    /// Delegated, and never published.
    unpublished: BTreeSet<DelegationName>,
}

struct Loaded {
    targets: Targets,
    /// Effective paths (§6.4).
    paths: Vec<String>,
    /// Whether the policy needs it, or it only attributes.
    required: bool,
}

impl Tree {
    fn new(targets: Targets) -> Self {
        Self {
            targets,
            delegations: BTreeMap::new(),
            unpublished: BTreeSet::new(),
        }
    }

    /// How the parent of `role` delegates to it, and the parent's own effective paths (`None`: everything).
    fn delegating(&self, role: &Role) -> Option<(&super::metadata::Delegation, Option<&[String]>)> {
        let Role::Delegation(name) = role else { return None };
        match role.parent()? {
            Role::Targets => Some((self.targets.delegation(name)?, None)),
            Role::Delegation(parent) => {
                let parent = self.delegations.get(&parent)?;
                Some((parent.targets.delegation(name)?, Some(&parent.paths)))
            }
            Role::Root | Role::Snapshot | Role::Timestamp => None,
        }
    }
}

/// The child's paths that extend one of the parent's; others are dropped, not intersected (§6.4, T39).
fn effective_paths(own: &[String], parent: Option<&[String]>) -> Vec<String> {
    let within =
        |path: &&String| parent.is_none_or(|parent| parent.iter().any(|prefix| path.starts_with(prefix)));
    own.iter().filter(within).cloned().collect()
}
