//! A trust server to be lied to by: it serves the bytes it is given, wants the login it is told to want, and
//! misbehaves on request. It listens on a loopback port of its own and is gone when dropped.
//!
//! ```text
//! let server = TrustServer::start().await;
//! server.put("docker.io/library/nginx", "timestamp.json", bytes);
//! server.misbehave("snapshot.json", Fault::Hang);
//! …
//! assert_eq!(server.requests_for("timestamp.json"), 1);
//! ```

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use futures_util::stream;
use http::{HeaderMap, Method, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// What the server wants before it serves metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wants {
    /// Nothing.
    #[default]
    Nothing,
    /// User and password with every request.
    Basic(&'static str, &'static str),
    /// A token, which its token service gives to this user.
    Token(&'static str, &'static str),
    /// A token, which its token service gives to everybody.
    AnonymousToken,
    /// A token, which its token service gives for this identity token by `POST`.
    IdentityToken(&'static str),
    /// This very bearer token; there is no token service.
    Bearer(&'static str),
}

/// How an answer goes wrong.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// This status, with these headers and this body.
    Status(u16, Vec<(&'static str, String)>, String),
    /// The reference's answer to a role that the repository does not have.
    UnknownRole(&'static str),
    /// No answer, ever.
    Hang,
    /// One byte every ten milliseconds, without end.
    Drip,
    /// Bytes as fast as they are taken, without end and without a length.
    Endless,
    /// As many bytes as its `Content-Length` says.
    Oversized(usize),
    /// A few KiB that gunzip to this many.
    GzipBomb(usize),
    /// The true bytes, gzipped.
    Gzip,
    /// The connection ends after half the answer.
    Cut,
    /// A redirect to this place.
    Redirect(u16, String),
}

/// One request that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Logged {
    /// Its method.
    pub(crate) method: Method,
    /// Its path and query.
    pub(crate) target: String,
    /// Its `Authorization` header.
    pub(crate) authorization: Option<String>,
    /// All of its headers.
    pub(crate) headers: HeaderMap,
    /// Its body.
    pub(crate) body: String,
}

/// What somebody else says the answer to a request is.
pub(crate) enum Kept {
    /// This status and body.
    Reply(u16, Bytes),
    /// It gets lost on the way.
    Lost,
}

type Keeper = Arc<dyn Fn(&Logged) -> Option<Kept> + Send + Sync>;

/// How to start one.
#[derive(Default)]
pub(crate) struct Builder {
    wants: Wants,
    tls: bool,
    client_certificate: bool,
    expires_in: Option<u64>,
    realm: Option<String>,
}

impl Builder {
    /// What login it wants.
    pub(crate) fn wants(mut self, wants: Wants) -> Self {
        self.wants = wants;
        self
    }

    /// Serves https, with a certificate of an authority made up for it.
    pub(crate) fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Serves https, to clients with a certificate of that authority only.
    pub(crate) fn client_certificate(mut self) -> Self {
        self.client_certificate = true;
        self.tls()
    }

    /// The term of its tokens in seconds.
    pub(crate) fn expires_in(mut self, seconds: u64) -> Self {
        self.expires_in = Some(seconds);
        self
    }

    /// Names this token service in place of its own.
    pub(crate) fn realm(mut self, realm: &str) -> Self {
        self.realm = Some(realm.to_owned());
        self
    }

    /// Starts it.
    pub(crate) async fn start(self) -> TrustServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if self.tls { "https" } else { "http" };
        let url = format!("{scheme}://{address}");
        let certificates = self.tls.then(Certificates::new);
        let acceptor = certificates
            .as_ref()
            .map(|made| made.acceptor(self.client_certificate));
        let state = Arc::new(Behaviour {
            realm: self.realm.unwrap_or_else(|| format!("{url}/token")),
            wants: Mutex::new(self.wants),
            expires_in: self.expires_in,
            ..Behaviour::default()
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, acceptor, Arc::clone(&state)));
        TrustServer {
            url,
            address,
            state,
            certificates,
            _tasks: tasks,
        }
    }
}

/// A running fake. Dropped, it is gone with all its connections.
pub(crate) struct TrustServer {
    url: String,
    address: SocketAddr,
    state: Arc<Behaviour>,
    certificates: Option<Certificates>,
    _tasks: JoinSet<()>,
}

impl TrustServer {
    /// Starts one that serves http and wants no login.
    pub(crate) async fn start() -> Self {
        Self::builder().start().await
    }

    /// To start another kind.
    pub(crate) fn builder() -> Builder {
        Builder::default()
    }

    /// Its base URL, without a slash at the end.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate of its authority, PEM, if it serves https.
    pub(crate) fn ca_pem(&self) -> String {
        self.certificates.as_ref().unwrap().authority.pem()
    }

    /// A client's certificate and key, PEM, that it accepts.
    pub(crate) fn client_identity(&self) -> (String, String) {
        self.certificates.as_ref().unwrap().issue("client")
    }

    /// Serves `bytes` as the file `name` (`timestamp.json`, `targets/releases.json`, …) of `gun`.
    pub(crate) fn put(&self, gun: &str, name: &str, bytes: impl Into<Bytes>) {
        self.state
            .files
            .lock()
            .unwrap()
            .insert(path(gun, name), bytes.into());
    }

    /// Serves that file no more.
    pub(crate) fn remove(&self, gun: &str, name: &str) {
        self.state.files.lock().unwrap().remove(&path(gun, name));
    }

    /// Answers every request whose path ends in `suffix` in this way from now on; the empty suffix is all.
    pub(crate) fn misbehave(&self, suffix: &str, fault: Fault) {
        self.misbehave_times(usize::MAX, suffix, fault);
    }

    /// The same for so many requests, after which it behaves again.
    pub(crate) fn misbehave_times(&self, times: usize, suffix: &str, fault: Fault) {
        self.state
            .faults
            .lock()
            .unwrap()
            .push((suffix.to_owned(), fault, times));
    }

    /// Asks `keeper` first what the answer to a request is, if it has one.
    pub(crate) fn ask_first(&self, keeper: impl Fn(&Logged) -> Option<Kept> + Send + Sync + 'static) {
        *self.state.keeper.lock().unwrap() = Some(Arc::new(keeper));
    }

    /// Ends all misbehaviour.
    pub(crate) fn behave(&self) {
        self.state.faults.lock().unwrap().clear();
    }

    /// Wants another login from now on.
    pub(crate) fn want(&self, wants: Wants) {
        *self.state.wants.lock().unwrap() = wants;
    }

    /// Honours none of the tokens given so far.
    pub(crate) fn revoke_tokens(&self) {
        self.state.tokens.lock().unwrap().clear();
    }

    /// Answers requests for metadata only when `count` of them are there: those who ask one by one wait for ever.
    pub(crate) fn withhold_until(&self, count: usize) {
        *self.state.barrier.lock().unwrap() = Some(Arc::new(Barrier::new(count)));
    }

    /// Every request so far, in order of arrival.
    pub(crate) fn requests(&self) -> Vec<Logged> {
        self.state.log.lock().unwrap().clone()
    }

    /// How many requests had a path (query left out) that ends in `suffix`.
    pub(crate) fn requests_for(&self, suffix: &str) -> usize {
        let path = |logged: &Logged| logged.target.split('?').next().unwrap().ends_with(suffix);
        self.requests().iter().filter(|logged| path(logged)).count()
    }

    /// How many connections it has accepted.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }
}

fn path(gun: &str, name: &str) -> String {
    format!("/v2/{gun}/_trust/tuf/{name}")
}

#[derive(Default)]
struct Behaviour {
    files: Mutex<BTreeMap<String, Bytes>>,
    wants: Mutex<Wants>,
    realm: String,
    expires_in: Option<u64>,
    tokens: Mutex<Vec<String>>,
    given: AtomicUsize,
    faults: Mutex<Vec<(String, Fault, usize)>>,
    barrier: Mutex<Option<Arc<Barrier>>>,
    log: Mutex<Vec<Logged>>,
    connections: AtomicUsize,
    keeper: Mutex<Option<Keeper>>,
}

async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, state: Arc<Behaviour>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        state.connections.fetch_add(1, Ordering::SeqCst);
        connections.spawn(serve(stream, acceptor.clone(), Arc::clone(&state)));
    }
}

async fn serve(stream: TcpStream, acceptor: Option<TlsAcceptor>, state: Arc<Behaviour>) {
    let service = TowerToHyperService::new(Router::new().fallback(answer).with_state(state));
    let server = auto::Builder::new(TokioExecutor::new());
    // How a connection ends is the client's affair.
    match acceptor {
        None => drop(server.serve_connection(TokioIo::new(stream), service).await),
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                drop(server.serve_connection(TokioIo::new(stream), service).await);
            }
        }
    }
}

async fn answer(State(state): State<Arc<Behaviour>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let path = parts.uri.path().to_owned();
    let logged = Logged {
        method: parts.method,
        target: parts.uri.to_string(),
        authorization: parts
            .headers
            .get(header::AUTHORIZATION)
            .map(|value| value.to_str().unwrap().to_owned()),
        headers: parts.headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    state.log.lock().unwrap().push(logged.clone());
    let barrier = state.barrier.lock().unwrap().clone();
    if let Some(barrier) = barrier.filter(|_| path.contains("/_trust/tuf/")) {
        barrier.wait().await;
    }
    let fault = state.fault(&path);
    match fault {
        Some(Fault::Gzip) | None => {}
        Some(fault) => return misbehave(fault).await,
    }
    if path == "/token" {
        return state.token(&logged);
    }
    if !state.admits(logged.authorization.as_deref()) {
        return state.challenge();
    }
    if path == "/v2/" {
        return reply(StatusCode::OK, "{}".into());
    }
    let keeper = state.keeper.lock().unwrap().clone();
    match keeper.and_then(|keeper| keeper(&logged)) {
        Some(Kept::Reply(status, body)) => return reply(StatusCode::from_u16(status).unwrap(), body),
        Some(Kept::Lost) => {
            let cut = [Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionReset))];
            return Response::new(Body::from_stream(stream::iter(cut)));
        }
        None => {}
    }
    let found = state.files.lock().unwrap().get(&path).cloned();
    match found {
        Some(bytes) if fault.is_some() => gzipped(stored(&bytes)),
        Some(bytes) => reply(StatusCode::OK, bytes),
        None => reply(
            StatusCode::NOT_FOUND,
            r#"{"errors":[{"code":"METADATA_NOT_FOUND"}]}"#.into(),
        ),
    }
}

impl Behaviour {
    fn fault(&self, path: &str) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let (_, fault, left) = faults
            .iter_mut()
            .find(|(suffix, _, left)| *left > 0 && path.ends_with(suffix.as_str()))?;
        *left -= 1;
        Some(fault.clone())
    }

    fn admits(&self, authorization: Option<&str>) -> bool {
        let bearer = authorization.and_then(|text| text.strip_prefix("Bearer "));
        match *self.wants.lock().unwrap() {
            Wants::Nothing => true,
            Wants::Basic(user, password) => authorization == Some(&basic(user, password)),
            Wants::Bearer(token) => bearer == Some(token),
            Wants::Token(..) | Wants::AnonymousToken | Wants::IdentityToken(_) => {
                bearer.is_some_and(|token| self.tokens.lock().unwrap().iter().any(|given| given == token))
            }
        }
    }

    fn challenge(&self) -> Response {
        let value = match *self.wants.lock().unwrap() {
            Wants::Basic(..) => "Basic realm=\"trust\"".to_owned(),
            Wants::Nothing
            | Wants::Token(..)
            | Wants::AnonymousToken
            | Wants::IdentityToken(_)
            | Wants::Bearer(_) => format!(
                "Bearer realm=\"{}\",service=\"fake\",scope=\"registry:catalog:*\"",
                self.realm
            ),
        };
        let mut response = reply(
            StatusCode::UNAUTHORIZED,
            r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#.into(),
        );
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, value.parse().unwrap());
        response
    }

    fn token(&self, request: &Logged) -> Response {
        let granted = match *self.wants.lock().unwrap() {
            Wants::Token(user, password) => request.authorization == Some(basic(user, password)),
            Wants::IdentityToken(token) => {
                request.method == Method::POST && request.body.contains(&format!("refresh_token={token}&"))
            }
            Wants::AnonymousToken => true,
            Wants::Nothing | Wants::Basic(..) | Wants::Bearer(_) => false,
        };
        if !granted {
            return reply(StatusCode::UNAUTHORIZED, "{}".into());
        }
        let token = format!("token-{}", self.given.fetch_add(1, Ordering::SeqCst));
        self.tokens.lock().unwrap().push(token.clone());
        let body = serde_json::json!({ "token": token, "expires_in": self.expires_in });
        reply(StatusCode::OK, body.to_string().into())
    }
}

async fn misbehave(fault: Fault) -> Response {
    match fault {
        Fault::Gzip => unreachable!("it has no bytes of its own"),
        Fault::Status(status, headers, body) => {
            let mut response = reply(StatusCode::from_u16(status).unwrap(), body.into());
            for (name, value) in headers {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            response
        }
        Fault::UnknownRole(role) => {
            let body = serde_json::json!({"errors": [{"code": "UNKNOWN", "message": "unknown error", "detail": {"Role": role}}]});
            reply(StatusCode::INTERNAL_SERVER_ERROR, format!("{body}\n").into())
        }
        Fault::Hang => std::future::pending().await,
        Fault::Drip => Response::new(Body::from_stream(stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            Some((Ok::<_, Infallible>(Bytes::from_static(b" ")), ()))
        }))),
        Fault::Endless => Response::new(Body::from_stream(stream::repeat_with(|| {
            Ok::<_, Infallible>(Bytes::from_static(&[b' '; 4096]))
        }))),
        Fault::Oversized(length) => reply(StatusCode::OK, vec![b' '; length].into()),
        Fault::GzipBomb(length) => gzipped(zeros(length)),
        Fault::Cut => {
            let halves = [
                Ok(Bytes::from_static(b"{\"signed\":")),
                Err(io::Error::from(io::ErrorKind::ConnectionReset)),
            ];
            Response::new(Body::from_stream(stream::iter(halves)))
        }
        Fault::Redirect(status, location) => {
            let mut response = reply(StatusCode::from_u16(status).unwrap(), Bytes::new());
            response
                .headers_mut()
                .insert(header::LOCATION, location.parse().unwrap());
            response
        }
    }
}

fn reply(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
}

fn gzipped(bytes: Vec<u8>) -> Response {
    let mut response = reply(StatusCode::OK, bytes.into());
    response
        .headers_mut()
        .insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
    response
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine;
    format!(
        "Basic {}",
        base64::prelude::BASE64_STANDARD.encode(format!("{user}:{password}"))
    )
}

/// The ten bytes before a deflate stream (RFC 1952).
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// A gzip file of one stored block, as long as its bytes and a little more; at most 64 KiB.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap();
    let mut file = GZIP_HEADER.to_vec();
    file.push(1);
    file.extend(length.to_le_bytes());
    file.extend((!length).to_le_bytes());
    file.extend(bytes);
    file.extend(crc32(bytes).to_le_bytes());
    file.extend(u32::from(length).to_le_bytes());
    file
}

/// A gzip file of at least `length` zero bytes, a hundred and sixty times smaller: one literal, then matches of 258
/// bytes at distance one, each 13 bits of the fixed Huffman code (RFC 1951 §3.2.6). It has no end: nobody gets there.
fn zeros(length: usize) -> Vec<u8> {
    let literal_zero = [0, 0, 1, 1, 0, 0, 0, 0];
    let longest_match = [1, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0];
    let block = [1_u8, 1, 0].into_iter().chain(literal_zero);
    let bits: Vec<u8> = block
        .chain((0..=length / 258).flat_map(|_| longest_match))
        .collect();
    let bytes = bits
        .chunks(8)
        .map(|byte| byte.iter().rev().fold(0, |sum, bit| sum << 1 | bit));
    GZIP_HEADER.into_iter().chain(bytes).collect()
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| {
        if crc & 1 == 1 {
            crc >> 1 ^ 0xedb8_8320
        } else {
            crc >> 1
        }
    };
    !bytes
        .iter()
        .fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

/// An authority made up for one server, and its server's certificate.
struct Certificates {
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Certificates {
    fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        Self { authority }
    }

    /// Certificate and key, PEM.
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new([name.to_owned()]).unwrap();
        (
            parameters.signed_by(&key, &self.authority).unwrap().pem(),
            key.serialize_pem(),
        )
    }

    fn acceptor(&self, client_certificate: bool) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if client_certificate {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.authority.der().clone()).unwrap();
            let verifier =
                rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let (certificate, key) = self.issue("127.0.0.1");
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let mut config = builder.with_single_cert(vec![certificate], key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}
