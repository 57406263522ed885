//! Logging in: what a server wants, tokens, and what happens when it says 401 (notary-v1 §1.7).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderValue, StatusCode};
use tokio::time::Instant;
use url::Url;

use super::access::{Access, Names};
use super::login::{Keyring, Login};
use super::{
    Client, Error, Flights, Host, LoginError, Request, Response, TokenRequest, basic, bearer, host_of,
    read_token, realm_url,
};
use crate::credential::{Challenge, Credential};
use crate::reference::Gun;

/// What is known of a server's wishes, and the tokens that met them. Clones are one session.
#[derive(Clone)]
pub struct Session(Arc<State>);

/// For which repository a token is, and what it allows.
type Scope = (Gun, Access);

struct State {
    client: Client,
    host: Host,
    /// `BASE/v2/`.
    ping: Url,
    keyring: Keyring,
    realms: Vec<String>,
    names: Names,
    wishes: Mutex<Option<Arc<[Challenge]>>>,
    pings: Flights<(), Result<Arc<[Challenge]>, Error>>,
    grants: Mutex<HashMap<Scope, Arc<Grant>>>,
    exchanges: Flights<(Scope, usize), Result<Arc<Grant>, Error>>,
}

/// A token for one repository.
struct Grant {
    authorization: HeaderValue,
    /// Which login got it.
    candidate: usize,
    until: Instant,
}

/// What one request is sent with.
enum Pass {
    /// Nothing: the server wants no login.
    Open,
    /// User and password.
    Basic {
        authorization: HeaderValue,
        candidate: usize,
    },
    /// A token from memory, which the server may have stopped to honour.
    Kept(Arc<Grant>),
    /// A token got for this request.
    Fresh(Arc<Grant>),
}

impl Pass {
    fn authorization(&self) -> Option<HeaderValue> {
        match self {
            Self::Open => None,
            Self::Basic { authorization, .. } => Some(authorization.clone()),
            Self::Kept(grant) | Self::Fresh(grant) => Some(grant.authorization.clone()),
        }
    }
}

impl Session {
    /// A session with the server of `client`, which says at `ping` what login it wants.
    pub fn new(client: Client, ping: Url, login: Login, realms: Vec<String>, names: Names) -> Self {
        let host = host_of(client.server());
        Self(Arc::new(State {
            client,
            host,
            ping,
            keyring: Keyring::new(login),
            realms,
            names,
            wishes: Mutex::default(),
            pings: Flights::default(),
            grants: Mutex::default(),
            exchanges: Flights::default(),
        }))
    }

    /// A session of its own with the same server: what that wants is known already, tokens are not shared.
    #[must_use]
    pub fn with_login(&self, login: Login) -> Self {
        let State {
            client, ping, realms, ..
        } = &*self.0;
        let session = Self::new(client.clone(), ping.clone(), login, realms.clone(), self.0.names);
        *session.0.wishes.lock().unwrap_or_else(PoisonError::into_inner) = self.0.wishes();
        session
    }

    /// Sends a request for `gun` with the login the server wants. A 401 is answered with what has not been tried:
    /// its new challenge, a new token, the next login. The last 401 is the answer.
    ///
    /// # Errors
    ///
    /// [`Error`] if there is no answer, or no login that could be tried. Statuses are answers.
    pub async fn send(
        &self,
        gun: &Gun,
        access: Access,
        request: Request,
        deadline: Instant,
    ) -> Result<Response, Error> {
        let scope = &(gun.clone(), access);
        let mut from = 0;
        let mut learned = false;
        for _ in 0..MOST_TRIES {
            let pass = self.pass(scope, from).await?;
            let request = request.clone().authorized(pass.authorization());
            let response = self.0.client.send(request, deadline).await?;
            if response.status != StatusCode::UNAUTHORIZED {
                return Ok(response);
            }
            let anew = self.0.remember(&response) && !learned;
            learned |= anew;
            from = match self.next(scope, pass) {
                _ if anew => 0,
                Some(next) => next,
                None => return Ok(response),
            };
        }
        Err(self.unauthorized())
    }

    /// The login to go on with after a 401; `None` if there is nothing left to try.
    fn next(&self, scope: &Scope, refused: Pass) -> Option<usize> {
        match refused {
            Pass::Open => None,
            Pass::Kept(grant) => {
                self.0.revoke(scope, &grant);
                Some(0)
            }
            Pass::Basic { candidate, .. } => {
                self.0.keyring.forget();
                Some(candidate + 1)
            }
            Pass::Fresh(grant) => {
                self.0.revoke(scope, &grant);
                Some(grant.candidate + 1)
            }
        }
    }

    /// What to send with the next request, if logins before `from` have been refused.
    async fn pass(&self, scope: &Scope, from: usize) -> Result<Pass, Error> {
        let wishes = self.wishes().await?;
        let token_service = wishes.iter().find_map(|wish| match wish {
            Challenge::Bearer { realm, service } => Some((realm.as_str(), service.as_deref())),
            Challenge::Basic => None,
        });
        match token_service {
            Some((realm, service)) => self.bearer(scope, from, realm, service).await,
            None if wishes.is_empty() => Ok(Pass::Open),
            None => self.basic(&scope.0, from).await,
        }
    }

    async fn wishes(&self) -> Result<Arc<[Challenge]>, Error> {
        if let Some(wishes) = self.0.wishes() {
            return Ok(wishes);
        }
        let state = Arc::clone(&self.0);
        self.0
            .pings
            .join((), || async move { state.ask_wishes().await }.boxed())
            .await
    }

    async fn basic(&self, gun: &Gun, from: usize) -> Result<Pass, Error> {
        for (candidate, login) in self.0.candidates(gun).await?.iter().enumerate().skip(from) {
            if let Credential::Basic { user, password } = login
                && let Some(authorization) = basic(user, password)
            {
                return Ok(Pass::Basic {
                    authorization,
                    candidate,
                });
            }
        }
        Err(self.unauthorized())
    }

    async fn bearer(
        &self,
        scope: &Scope,
        from: usize,
        realm: &str,
        service: Option<&str>,
    ) -> Result<Pass, Error> {
        if from == 0
            && let Some(grant) = self.0.kept(scope)
        {
            return Ok(Pass::Kept(grant));
        }
        let realm = realm_url(self.0.client.server(), realm, &self.0.realms)?;
        let (state, scoped, service) = (Arc::clone(&self.0), scope.clone(), service.map(str::to_owned));
        let exchange = async move { state.log_in(&scoped, from, &realm, service.as_deref()).await };
        self.0
            .exchanges
            .join((scope.clone(), from), || exchange.boxed())
            .await
            .map(Pass::Fresh)
    }

    fn unauthorized(&self) -> Error {
        Error::Unauthorized {
            host: Arc::clone(&self.0.host),
        }
    }
}

impl State {
    fn wishes(&self) -> Option<Arc<[Challenge]>> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the server once what login it wants. Anything but a 401 means none; a server that is down has said
    /// nothing and is asked again next time.
    async fn ask_wishes(&self) -> Result<Arc<[Challenge]>, Error> {
        let request = Request::ping(self.ping.clone());
        let response = self.client.send(request, Instant::now() + PING).await?;
        let refusal = response.refusal();
        if refusal.is_outage() {
            return Err(refusal);
        }
        // Where a redirect led to another host, what that wants is not what this server wants.
        let own = response.url.origin() == self.ping.origin();
        let wishes = if own { challenges(&response) } else { Vec::new() };
        let wishes: Arc<[Challenge]> = wishes.into();
        *self.wishes.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&wishes));
        Ok(wishes)
    }

    /// Takes the challenge of a 401 for what the server wants from now on; says whether that is new.
    fn remember(&self, response: &Response) -> bool {
        let wishes = challenges(response);
        if wishes.is_empty() {
            return false;
        }
        let mut known = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
        let new = known.as_deref() != Some(wishes.as_slice());
        *known = Some(wishes.into());
        new
    }

    async fn candidates(&self, gun: &Gun) -> Result<Vec<Credential>, Error> {
        // A registry's login is kept under its name, which is not always its host.
        let host = match self.names {
            Names::Gun => &*self.host,
            Names::Path => gun.host(),
        };
        let found = self.keyring.candidates(host, gun).await;
        found.map_err(|source| Error::Login {
            host: Arc::clone(&self.host),
            source,
        })
    }

    /// Tries the logins from `from` on at the token service until one is taken (CRED-01), and keeps the token.
    async fn log_in(
        &self,
        scope: &Scope,
        from: usize,
        realm: &Url,
        service: Option<&str>,
    ) -> Result<Arc<Grant>, Error> {
        let logins = self.candidates(&scope.0).await?;
        if logins.is_empty() && from == 0 {
            return self.exchange(scope, 0, realm, service, None).await;
        }
        let mut refusal = Error::Unauthorized {
            host: Arc::clone(&self.host),
        };
        for (candidate, login) in logins.iter().enumerate().skip(from) {
            match self.exchange(scope, candidate, realm, service, Some(login)).await {
                Err(error @ (Error::Unauthorized { .. } | Error::Forbidden { .. })) => refusal = error,
                other => return other,
            }
        }
        self.keyring.forget();
        Err(refusal)
    }

    async fn exchange(
        &self,
        scope: &Scope,
        candidate: usize,
        realm: &Url,
        service: Option<&str>,
        login: Option<&Credential>,
    ) -> Result<Arc<Grant>, Error> {
        if let Some(Credential::RegistryToken(token)) = login {
            return self.registry_token(bearer(token), candidate);
        }
        let (gun, access) = scope;
        let asked = format!("repository:{}:{}", self.names.of(gun), access.actions());
        let request = TokenRequest {
            realm,
            service,
            scope: &asked,
            login,
        }
        .build();
        let response = self.client.send(request, Instant::now() + TOKEN).await?;
        let token = read_token(&response).map_err(|error| match (error, login) {
            // `invalid_grant` (RFC 6749 §5.2): the identity token is not, or no longer, one.
            (
                Error::Status {
                    host,
                    status: StatusCode::BAD_REQUEST,
                },
                Some(Credential::IdentityToken(_)),
            ) => Error::Unauthorized { host },
            (other, _) => other,
        })?;
        let until = Instant::now() + token.lifetime;
        let grant = Arc::new(Grant {
            authorization: token.authorization,
            candidate,
            until,
        });
        self.keep(scope, &grant);
        Ok(grant)
    }

    /// A login that is a token already is not kept: it is read anew each time.
    fn registry_token(
        &self,
        authorization: Option<HeaderValue>,
        candidate: usize,
    ) -> Result<Arc<Grant>, Error> {
        let until = Instant::now();
        match authorization {
            Some(authorization) => Ok(Arc::new(Grant {
                authorization,
                candidate,
                until,
            })),
            None => Err(Error::Login {
                host: Arc::clone(&self.host),
                source: LoginError::Secret,
            }),
        }
    }

    fn kept(&self, scope: &Scope) -> Option<Arc<Grant>> {
        let grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        grants
            .get(scope)
            .filter(|grant| grant.until > Instant::now())
            .cloned()
    }

    fn keep(&self, scope: &Scope, grant: &Arc<Grant>) {
        let mut grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        if grants.len() >= MOST_GRANTS {
            let now = Instant::now();
            grants.retain(|_, grant| grant.until > now);
        }
        if grants.len() < MOST_GRANTS {
            grants.insert(scope.clone(), Arc::clone(grant));
        }
    }

    /// Drops a token, unless another has taken its place already.
    fn revoke(&self, scope: &Scope, grant: &Arc<Grant>) {
        let mut grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        if grants.get(scope).is_some_and(|kept| Arc::ptr_eq(kept, grant)) {
            grants.remove(scope);
        }
    }
}

fn challenges(response: &Response) -> Vec<Challenge> {
    if response.status != StatusCode::UNAUTHORIZED {
        return Vec::new();
    }
    let headers = response.headers.get_all(WWW_AUTHENTICATE);
    Challenge::parse_all(headers.iter().filter_map(|value| value.to_str().ok()))
}

/// A ping is answered at once or the server is in no state to be asked more (notary-v1 §1.6).
const PING: Duration = Duration::from_secs(5);
/// Token services look users up elsewhere; the reference gives them 15 s, which is longer than any admission waits.
const TOKEN: Duration = Duration::from_secs(10);
/// Requests for one file: once as things are, once with a new challenge, once with a new token, and once for each of
/// eight logins.
const MOST_TRIES: usize = 12;
/// Tokens kept for one server, one a repository; at 4 KB each 16 MiB. Beyond that repositories pay for a token each
/// time.
const MOST_GRANTS: usize = 4096;
