//! All of content trust in one process, to be tried out: a registry, a trust server and the webhook on loopback, and a
//! publisher whose keys lie in a folder.
//!
//! ```text
//! story ─ push ─▶ registry (http)     ─ sign ─▶ trust server (https)     ─ review ─▶ webhook (https)
//!   │                                              ▲                                   │
//!   └─ each step is held to what it tells          └──────── which digest is signed? ──┘
//! ```
//!
//! Nothing is played with back doors but the push: tags are signed by [`crate::publish`] over HTTPS, reviews are sent as an
//! API server sends them, and what is printed to be tried by hand works as printed. Nothing in it is secret: whoever can
//! reach the machine's loopback interface can do anything here.

mod api_server;
mod error;
mod folder;
mod image;
mod invitation;
mod keys;
mod publisher;
mod registry;
mod scene;
mod servers;
mod story;
mod trust_server;
mod webhook;

use std::io::{self, Write};
use std::path::PathBuf;

use tokio::signal::unix::{Signal, SignalKind, signal};

pub use self::error::SandboxError;
use self::folder::{Begun, Folder};
use self::scene::Scene;
use self::servers::Servers;
use self::story::{Printer, STORY};

/// How the sandbox is played in.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where everything is kept; a temporary folder if none is named.
    pub dir: Option<PathBuf>,
    /// The first of three ports; free ones if none is named.
    pub port: Option<u16>,
    /// Whether it ends with the story.
    pub once: bool,
    /// Whether reviews and answers are shown whole.
    pub reviews: bool,
    /// The folder of this program, if a shell would not find it.
    pub program: Option<PathBuf>,
}

/// Starts everything, tells the story on `out`, and stays until SIGINT, SIGTERM or SIGHUP. What the folder held before is
/// gone on with.
///
/// # Errors
///
/// [`SandboxError`]; [`SandboxError::is_difference`] tells a story that came out otherwise from a sandbox that there is
/// none of.
pub async fn run(options: &Options, out: &mut dyn Write) -> Result<(), SandboxError> {
    let mut signals = Signals::listen().map_err(SandboxError::Signals)?;
    let folder = Folder::open(options.dir.as_deref())?;
    let mut printer = Printer::new(out, options.reviews);
    let mut servers = Servers::default();
    let told = tokio::select! {
        told = tell(options, &folder, &mut servers, &mut printer) => told,
        () = signals.any() => Ok(()),
    };
    let ended = servers.end().await;
    let closed = folder.close();
    told.and(ended)?;
    Ok(closed?)
}

async fn tell(
    options: &Options,
    folder: &Folder,
    servers: &mut Servers,
    printer: &mut Printer<'_>,
) -> Result<(), SandboxError> {
    let scene = Scene::set(options, folder, servers).await?;
    let begun = Begun {
        ports: scene.place.ports,
        told: folder.begun().is_some_and(|begun| begun.told),
    };
    folder.note(begun)?;
    scene.place.introduce(printer)?;
    if options.once || !begun.told {
        scene.player()?.play(STORY, printer).await?;
        folder.note(Begun { told: true, ..begun })?;
    } else {
        scene.restock()?;
        printer.paragraph(TOLD)?;
        printer.line("")?;
    }
    if options.once {
        return Ok(());
    }
    scene.place.lay_out()?;
    scene.place.invite(printer)?;
    Err(servers.broken().await)
}

/// What asks the program to end.
struct Signals([Signal; 3]);

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn any(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

const TOLD: &str = "The story was told in this folder before. Keys, signatures, policy and what was seen are as you left \
                    them; images that you pushed are gone, for the registry keeps them in memory only.";
