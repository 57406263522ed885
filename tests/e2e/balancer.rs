//! What a Service is in a cluster: new connections go in turn to the replicas that say they are ready. It forwards
//! bytes, so it also sees which protocols the API server offers in its TLS greeting.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How often a replica is asked whether it is ready. A kubelet asks every few seconds; a Service follows it in
/// about a second.
const PROBE_EVERY: Duration = Duration::from_millis(100);
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// The first bytes of a connection hold the names of the protocols that the client offers.
const GREETING: usize = 4096;

/// A replica: where it serves, and where it says whether it is ready. The two ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backend {
    pub(crate) port: u16,
    pub(crate) admin_port: u16,
}

/// A forwarder on loopback. Its threads live as long as the process.
#[derive(Debug, Clone)]
pub(crate) struct Balancer {
    pub(crate) port: u16,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    backends: Mutex<Vec<Backend>>,
    ready: Mutex<Vec<Backend>>,
    turn: AtomicUsize,
    /// Whether new connections are taken and then neither served nor closed.
    hangs: AtomicBool,
    held: AtomicUsize,
    greetings: Mutex<Vec<Vec<u8>>>,
}

impl Balancer {
    pub(crate) fn start() -> Self {
        Self::start_at("127.0.0.1:0")
    }

    /// At an address of its own.
    pub(crate) fn start_at(address: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let probing = Arc::clone(&state);
        thread::spawn(move || {
            loop {
                probing.probe();
                thread::sleep(PROBE_EVERY);
            }
        });
        let accepting = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = Arc::clone(&accepting);
                thread::spawn(move || state.forward(client));
            }
        });
        Self { port, state }
    }

    /// The replicas behind it from now on.
    pub(crate) fn set(&self, backends: &[Backend]) {
        *self.state.backends.lock().unwrap() = backends.to_vec();
        self.state.probe();
    }

    /// From now on new connections are taken, and nothing more happens.
    pub(crate) fn hang(&self) {
        self.state.hangs.store(true, Ordering::Relaxed);
    }

    /// How many connections wait for an answer that will not come, or did so until their client gave up.
    pub(crate) fn held(&self) -> usize {
        self.state.held.load(Ordering::Relaxed)
    }

    /// How many replicas say that they are ready.
    pub(crate) fn ready(&self) -> usize {
        self.state.ready.lock().unwrap().len()
    }

    /// Whether each connection so far offered HTTP/2.
    pub(crate) fn offers_of_http2(&self) -> Vec<bool> {
        const ALPN: &[u8] = b"\x02h2";
        self.state
            .greetings
            .lock()
            .unwrap()
            .iter()
            .map(|greeting| greeting.windows(ALPN.len()).any(|bytes| bytes == ALPN))
            .collect()
    }
}

impl State {
    fn probe(&self) {
        let backends = self.backends.lock().unwrap().clone();
        let ready: Vec<_> = backends
            .into_iter()
            .filter(|backend| answers_ready(backend.admin_port))
            .collect();
        *self.ready.lock().unwrap() = ready;
    }

    fn forward(&self, mut client: TcpStream) {
        if self.hangs.load(Ordering::Relaxed) {
            self.held.fetch_add(1, Ordering::Relaxed);
            // Until the client has had enough.
            let _ = client.read_to_end(&mut Vec::new());
            return;
        }
        let Some(mut server) = self.connect() else {
            return;
        };
        let mut greeting = vec![0; GREETING];
        let Ok(length) = client.read(&mut greeting) else {
            return;
        };
        greeting.truncate(length);
        if server.write_all(&greeting).is_err() {
            return;
        }
        self.greetings.lock().unwrap().push(greeting);
        let (Ok(mut client_again), Ok(mut server_again)) = (client.try_clone(), server.try_clone()) else {
            return;
        };
        let back = thread::spawn(move || pass(&mut server_again, &mut client_again));
        pass(&mut client, &mut server);
        let _ = back.join();
    }

    /// A connection to the next ready replica. One that is gone without having said so costs the client its
    /// connection, as it would in a cluster.
    fn connect(&self) -> Option<TcpStream> {
        let ready = self.ready.lock().unwrap().clone();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let backend = ready.get(turn.checked_rem(ready.len())?)?;
        TcpStream::connect(("127.0.0.1", backend.port)).ok()
    }
}

/// Passes bytes on in one direction, and the end of them too.
fn pass(from: &mut TcpStream, to: &mut TcpStream) {
    let mut buffer = [0; 16 * 1024];
    loop {
        match from.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => break,
            Ok(length) => {
                if to.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// `GET /readyz` gives 200.
pub(crate) fn answers_ready(admin_port: u16) -> bool {
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut socket = TcpStream::connect(("127.0.0.1", admin_port))?;
        socket.set_read_timeout(Some(PROBE_TIMEOUT))?;
        socket.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut status = vec![0; "HTTP/1.1 200".len()];
        socket.read_exact(&mut status)?;
        Ok(status)
    };
    ask().is_ok_and(|status| status.ends_with(b" 200"))
}
