//! A small HTTPS server, for the neighbours of the webhook that the tests play themselves.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::pki;

/// Longest request: far more than any of the tests makes.
const LIMIT: u64 = 4 * 1024 * 1024;

/// What a client sent.
#[derive(Debug)]
pub(crate) struct Request {
    /// The request line and the headers.
    pub(crate) head: Vec<String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .iter()
            .filter_map(|line| line.split_once(": "))
            .find(|(header, _)| header.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

/// Answers on a port of 127.0.0.1, which it gives, with a status and JSON. Its threads live as long as the process.
pub(crate) fn serve(answer: impl Fn(&Request) -> (&'static str, String) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tls, answer) = (Arc::new(tls_config()), Arc::new(answer));
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let (tls, answer) = (Arc::clone(&tls), Arc::clone(&answer));
            // A client that breaks off has its reasons; the next one is served.
            thread::spawn(move || exchange(socket, tls, answer.as_ref()));
        }
    });
    port
}

fn tls_config() -> ServerConfig {
    let identity = pki::loopback();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(identity.der.clone())],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.pkcs8.clone())),
        )
        .unwrap()
}

fn exchange(
    socket: TcpStream,
    tls: Arc<ServerConfig>,
    answer: impl Fn(&Request) -> (&'static str, String),
) -> std::io::Result<()> {
    let mut stream = StreamOwned::new(ServerConnection::new(tls).unwrap(), socket);
    let request = read(&mut stream)?;
    let (status, body) = answer(&request);
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )?;
    stream.conn.send_close_notify();
    stream.flush()
}

fn read(stream: &mut impl Read) -> std::io::Result<Request> {
    let mut reader = BufReader::new(stream.take(LIMIT));
    let mut request = Request {
        head: Vec::new(),
        body: Vec::new(),
    };
    for line in reader.by_ref().lines() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        request.head.push(line);
    }
    let length = request
        .header("content-length")
        .and_then(|length| length.parse().ok());
    request.body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut request.body)?;
    Ok(request)
}
