//! Where a login comes from, read anew whenever one is needed, so that a rotated one works without a restart.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::LoginError;
use super::helper;
use crate::credential::{Credential, DockerConfig, HelperName, registry_key};
use crate::reference::Gun;

/// Where a login comes from.
#[derive(Clone, Debug)]
pub enum Login {
    /// There is none.
    Anonymous,
    /// This one, for every repository.
    Credential(Credential),
    /// These, for every repository, best first.
    Several(Arc<[Credential]>),
    /// What a docker configuration has for the server or for the repository's registry: a pull secret. Its helpers
    /// are not run.
    Config(Arc<DockerConfig>),
    /// Only what it has for the server itself: who chose the server need not be one who may know the registry's logins
    /// (CRED-21).
    Own(Arc<DockerConfig>),
    /// What a docker `config.json` has, as [`Login::Config`], read when needed. A file that is not there has no logins.
    File {
        /// Where it is.
        path: PathBuf,
        /// Whether the helpers it names are run.
        helpers: Helpers,
    },
}

/// What `credHelpers` and `credsStore` mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Helpers {
    /// The programs are run: for a person at a terminal.
    Run,
    /// They are not: nothing in a cluster's configuration may name a program.
    Ignore,
}

/// A [`Login`] with what its helpers said lately.
#[derive(Debug)]
pub(super) struct Keyring {
    login: Login,
    said: Mutex<HashMap<(String, HelperName), Said>>,
}

/// What a helper said about a server, and when.
#[derive(Clone, Debug)]
struct Said {
    at: Instant,
    login: Option<Credential>,
}

impl Keyring {
    pub(super) fn new(login: Login) -> Self {
        Self {
            login,
            said: Mutex::default(),
        }
    }

    /// The logins to be tried at the trust server `host` for `gun`, best first, eight at most.
    pub(super) async fn candidates(&self, host: &str, gun: &Gun) -> Result<Vec<Credential>, LoginError> {
        let mut found = match &self.login {
            Login::Anonymous => Vec::new(),
            Login::Credential(credential) => vec![credential.clone()],
            Login::Several(credentials) => credentials.to_vec(),
            Login::Config(config) => cloned(config, host, gun),
            Login::Own(config) => config.for_server(host, gun).into_iter().cloned().collect(),
            Login::File { path, helpers } => {
                let config = read(path).await?;
                match helpers {
                    Helpers::Run => self.with_helpers(&config, host, gun).await?,
                    Helpers::Ignore => cloned(&config, host, gun),
                }
            }
        };
        found.truncate(MOST);
        Ok(found)
    }

    /// Asks the helpers again next time: what they said was refused.
    pub(super) fn forget(&self) {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What helpers say comes before what the file says, as in docker. One that fails matters only if there is no
    /// other login.
    async fn with_helpers(
        &self,
        config: &DockerConfig,
        host: &str,
        gun: &Gun,
    ) -> Result<Vec<Credential>, LoginError> {
        let mut found = Vec::new();
        let mut failure = None;
        for server in [host, registry_key(gun)] {
            match self.ask(config, server).await {
                Ok(login) => found.extend(login),
                Err(error) => failure = Some(error),
            }
        }
        found.extend(cloned(config, host, gun));
        match failure {
            Some(error) if found.is_empty() => Err(error),
            Some(_) | None => Ok(found),
        }
    }

    async fn ask(&self, config: &DockerConfig, server: &str) -> Result<Option<Credential>, LoginError> {
        let Some(name) = config.helper(server)? else {
            return Ok(None);
        };
        let key = (server.to_owned(), name);
        if let Some(said) = self.lately(&key) {
            return Ok(said.login);
        }
        let login = helper::ask(&key.1, server).await?;
        let mut all = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MOST_SAID {
            all.clear();
        }
        let (at, said) = (Instant::now(), login.clone());
        all.insert(key, Said { at, login: said });
        Ok(login)
    }

    fn lately(&self, key: &(String, HelperName)) -> Option<Said> {
        let all = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(key).filter(|said| said.at.elapsed() < MEMORY).cloned()
    }
}

fn cloned(config: &DockerConfig, host: &str, gun: &Gun) -> Vec<Credential> {
    config.for_trust(host, gun).into_iter().cloned().collect()
}

async fn read(path: &Path) -> Result<DockerConfig, LoginError> {
    let unreadable = |error: io::Error| LoginError::File(Arc::new(error));
    let file = match tokio::fs::File::open(path).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(DockerConfig::default()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut json = Zeroizing::new(Vec::new());
    file.take(FILE + 1)
        .read_to_end(&mut json)
        .await
        .map_err(unreadable)?;
    if u64::try_from(json.len()).is_ok_and(|length| length > FILE) {
        return Err(LoginError::FileTooLarge { limit: FILE });
    }
    Ok(DockerConfig::parse(&json)?)
}

/// Logins tried at one server: a rotation leaves two behind, globs a few more. Each costs a round trip.
pub const MOST: usize = 8;
/// How long a helper's answer serves: CRED-24 allows 60 s.
const MEMORY: Duration = Duration::from_secs(30);
/// Answers kept at once: one per registry, and few machines know sixty.
const MOST_SAID: usize = 64;
/// Largest configuration file: a Kubernetes Secret holds 1 MiB.
const FILE: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn gun() -> Gun {
        "registry.example.com/app".parse().unwrap()
    }

    async fn users(keyring: &Keyring) -> Vec<String> {
        let found = keyring.candidates("trust.example.com", &gun()).await.unwrap();
        found
            .into_iter()
            .map(|login| format!("{login:?}").split('"').nth(1).unwrap().to_owned())
            .collect()
    }

    fn file(path: &Path, helpers: Helpers) -> Keyring {
        Keyring::new(Login::File {
            path: path.to_owned(),
            helpers,
        })
    }

    #[tokio::test]
    async fn a_rotated_login_counts_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let keyring = file(&path, Helpers::Ignore);
        assert!(users(&keyring).await.is_empty(), "no file, no logins");
        for user in ["old", "new"] {
            let json =
                format!(r#"{{"auths":{{"registry.example.com":{{"username":"{user}","password":"x"}}}}}}"#);
            std::fs::write(&path, json).unwrap();
            assert_eq!(users(&keyring).await, [user]);
        }
    }

    #[tokio::test]
    async fn a_helper_is_run_only_where_that_is_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, r#"{"credsStore":"no-such-helper"}"#).unwrap();
        assert!(users(&file(&path, Helpers::Ignore)).await.is_empty());
        let error = file(&path, Helpers::Run)
            .candidates("trust.example.com", &gun())
            .await
            .unwrap_err();
        assert!(matches!(error, LoginError::Helper { .. }), "{error}");
        let json = r#"{"credsStore":"no-such-helper","auths":{"trust.example.com":{"username":"own","password":"x"}}}"#;
        std::fs::write(&path, json).unwrap();
        assert_eq!(users(&file(&path, Helpers::Run)).await, ["own"]);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_a_configuration_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let reason = async || match file(&path, Helpers::Ignore)
            .candidates("h", &gun())
            .await
            .unwrap_err()
        {
            LoginError::File(_) => "unreadable",
            LoginError::FileTooLarge { .. } => "too large",
            LoginError::Config(_) => "malformed",
            LoginError::Helper { .. } | LoginError::Secret => "another",
        };
        std::fs::create_dir(&path).unwrap();
        assert_eq!(reason().await, "unreadable");
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, "{").unwrap();
        assert_eq!(reason().await, "malformed");
        std::fs::write(&path, vec![b' '; 1024 * 1024 + 1]).unwrap();
        assert_eq!(reason().await, "too large");
    }
}
