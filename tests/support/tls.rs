//! Certificates, a server on port 0, and a client that sees every byte.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use countersign::serve::{
    self, Addresses, Certificate, Config, Endpoint, Ready, Rejected, ServeError, Stop, StopHandle,
};
use countersign::telemetry::{Exposition, Metrics};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::task::TaskTracker;

/// An authority of the test's own.
pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate of a server on loopback.
    pub(crate) fn server(&self) -> Pair {
        self.sign(
            "server",
            ExtendedKeyUsagePurpose::ServerAuth,
            &["localhost", "127.0.0.1"],
        )
    }

    /// A certificate of a client.
    pub(crate) fn client(&self, common_name: &str, names: &[&str]) -> Pair {
        self.sign(common_name, ExtendedKeyUsagePurpose::ClientAuth, names)
    }

    fn sign(&self, common_name: &str, usage: ExtendedKeyUsagePurpose, names: &[&str]) -> Pair {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Pair {
    /// Puts the pair into `directory` the way the kubelet does: a new folder, then one swap of a symlink.
    pub(crate) fn mount(&self, directory: &Path) -> Certificate {
        let version = tempfile::Builder::new()
            .prefix("..version")
            .tempdir_in(directory)
            .unwrap()
            .keep();
        std::fs::write(version.join("tls.crt"), &self.certificate).unwrap();
        std::fs::write(version.join("tls.key"), &self.key).unwrap();
        let link = directory.join("..data_tmp");
        std::os::unix::fs::symlink(version.file_name().unwrap(), &link).unwrap();
        std::fs::rename(link, directory.join("..data")).unwrap();
        for name in ["tls.crt", "tls.key"] {
            // There since the first mount.
            let _exists = std::os::unix::fs::symlink(Path::new("..data").join(name), directory.join(name));
        }
        mounted(directory)
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()
    }
}

/// Where [`Pair::mount`] puts a pair.
pub(crate) fn mounted(directory: &Path) -> Certificate {
    Certificate::Files {
        certificate: directory.join("tls.crt"),
        key: directory.join("tls.key"),
    }
}

/// Loopback, ports of the system's choice.
pub(crate) fn config(certificate: Certificate) -> Config {
    let port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut config = Config {
        listen: port,
        admin: Some(port),
        ..Config::new(certificate)
    };
    config.tls.poll = std::time::Duration::from_millis(20);
    config
}

/// A server that runs in this process.
pub(crate) struct Server {
    pub(crate) webhook: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) ready: Ready,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) stop: StopHandle,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    /// Starts a server whose policies are loaded, and waits for its ports.
    pub(crate) async fn start<H, F>(config: Config, handler: H) -> Self
    where
        H: Fn(Endpoint, Bytes, Option<String>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Vec<u8>, Rejected>> + Send + 'static,
    {
        let (stop, requests) = Stop::by_hand();
        let server = Self::start_with(config, handler, requests).await;
        Self { stop, ..server }
    }

    /// The same, stopped by whatever `requests` listens to.
    pub(crate) async fn start_with<H, F>(config: Config, handler: H, requests: Stop) -> Self
    where
        H: Fn(Endpoint, Bytes, Option<String>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Vec<u8>, Rejected>> + Send + 'static,
    {
        let (ready, metrics) = (Ready::default(), Arc::new(Metrics::default()));
        ready.policies_loaded();
        let (bound, addresses) = oneshot::channel();
        let run = serve::run(
            config,
            handler,
            ready.clone(),
            Arc::clone(&metrics),
            requests,
            bound,
        );
        let task = TaskTracker::new().spawn(run);
        let Addresses { webhook, admin } = addresses.await.expect("the server starts");
        Self {
            webhook,
            admin: admin.unwrap(),
            ready,
            metrics,
            stop: Stop::by_hand().0,
            task,
        }
    }

    /// Waits for its end.
    pub(crate) async fn ended(self) -> Result<(), ServeError> {
        self.task.await.unwrap()
    }

    pub(crate) fn metric(&self, name: &str) -> i64 {
        let text = self.metrics.encode(Exposition::Classic).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} in\n{text}"))
            .parse()
            .unwrap()
    }
}

/// Answers every review with its own bytes.
pub(crate) async fn echo(_: Endpoint, body: Bytes, _: Option<String>) -> Result<Vec<u8>, Rejected> {
    Ok(body.to_vec())
}

/// How a client connects.
#[derive(Clone)]
pub(crate) struct Client(Arc<ClientConfig>);

impl Client {
    /// Trusts `authorities`, offers `alpn`.
    pub(crate) fn new(authorities: &str, alpn: &[&[u8]]) -> Self {
        Self::with(authorities, alpn, rustls::ALL_VERSIONS, None)
    }

    pub(crate) fn with(
        authorities: &str,
        alpn: &[&[u8]],
        versions: &[&'static SupportedProtocolVersion],
        identity: Option<&Pair>,
    ) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![pair.der()], key).unwrap()
            }
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Self(Arc::new(config))
    }

    /// What an API server offers (ADM-02).
    pub(crate) fn api_server(authorities: &str) -> Self {
        Self::new(authorities, &[b"http/1.1"])
    }

    pub(crate) async fn connect(&self, address: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::clone(&self.0));
        connector.connect(name, stream).await.map(Connection)
    }
}

/// One kept-alive connection.
pub(crate) struct Connection(pub(crate) TlsStream<TcpStream>);

/// An HTTP/1.1 answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let values = self.head.lines().filter_map(|line| line.split_once(": "));
        values
            .into_iter()
            .find_map(|(found, value)| (found == name).then_some(value))
    }

    /// Whether the server asks for a new connection.
    pub(crate) fn closes(&self) -> bool {
        self.header("connection") == Some("close")
    }
}

impl Connection {
    /// Posts `body` as a review and reads the answer.
    pub(crate) async fn post(&mut self, path: &str, body: &[u8]) -> io::Result<Answer> {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.send(&[head.as_bytes(), body].concat()).await?;
        self.answer().await
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await?;
        self.0.flush().await
    }

    pub(crate) async fn answer(&mut self) -> io::Result<Answer> {
        answer(&mut self.0).await
    }

    /// The certificate the server showed.
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.0.get_ref().1.peer_certificates().unwrap()[0]
            .clone()
            .into_owned()
    }
}

/// `GET path` from the plain port.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    answer(&mut stream).await.unwrap()
}

async fn answer(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> io::Result<Answer> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let mut answer = Answer {
        status: 0,
        head: String::from_utf8(head).unwrap(),
        body: Vec::new(),
    };
    answer.status = answer.head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = answer.header("content-length").unwrap_or("0").parse().unwrap();
    answer.body.resize(length, 0);
    stream.read_exact(&mut answer.body).await?;
    Ok(answer)
}
