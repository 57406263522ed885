//! Everybody in the sandbox, up and listening.

use std::net::{Ipv4Addr, SocketAddr};

use url::Url;

use super::Options;
use super::api_server::ApiServer;
use super::error::SandboxError;
use super::folder::{Folder, Ports};
use super::invitation::{DOCKER, Place, ROOT_KEY, SEEN, TLS};
use super::keys::Keys;
use super::publisher::Signer;
use super::registry::Registry;
use super::servers::Servers;
use super::story::{Player, SIGNED, STORY, named, restock};
use super::trust_server::TrustServer;
use super::webhook::Webhook;
use crate::keystore::KeyStore;
use crate::store::Store;
use crate::tuf::pinned_key;

/// Everybody in the sandbox, up and listening.
pub(super) struct Scene<'a> {
    pub(super) place: Place<'a>,
    registry: Registry,
    keys: Keys,
    root_pem: String,
}

impl<'a> Scene<'a> {
    /// Starts all there is. Keys are made or opened while servers start, which takes about as long.
    pub(super) async fn set(
        options: &'a Options,
        folder: &'a Folder,
        servers: &mut Servers,
    ) -> Result<Self, SandboxError> {
        let wanted = ports(options, folder)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, wanted.registry));
        let registry = servers.registry(address).await?;
        let gun = named(&registry.host(), SIGNED)?.gun().clone();
        let trust_server = TrustServer {
            tls: folder.join(TLS),
            port: wanted.trust_server,
            data: folder.join("server"),
        };
        let pinned = folder.read(ROOT_KEY).ok().and_then(|pem| pinned_key(&pem).ok());
        let store = KeyStore::new(&folder.join(DOCKER).join("trust"));
        let (keys, trust_server) = tokio::join!(
            Keys::ready(store, &gun, pinned),
            servers.start(
                |stop, bound| trust_server.run(stop, bound),
                SandboxError::TrustServer
            ),
        );
        let (keys, trust_server) = (keys?, trust_server?);
        let mut place = Place {
            folder,
            ports: Ports {
                registry: registry.address().port(),
                trust_server,
                webhook: wanted.webhook,
            },
            program: options.program.as_deref(),
        };
        let root_pem = keys.root_pem()?;
        let webhook = Webhook {
            tls: folder.join(TLS),
            port: wanted.webhook,
            policy: place.lay_out_policy(&root_pem)?,
            seen: folder.join("webhook"),
        };
        let webhook = servers.start(|stop, bound| webhook.run(stop, bound), SandboxError::Webhook);
        place.ports.webhook = webhook.await?;
        Ok(Self {
            place,
            registry,
            keys,
            root_pem,
        })
    }

    /// Who plays the story.
    pub(super) fn player(&self) -> Result<Player, SandboxError> {
        let authority = self.place.authority()?;
        let seen = Store::open(&self.place.folder.join(SEEN))?;
        let signer = Signer::new(
            url(&self.place.trust_server())?,
            authority.clone(),
            self.root_pem.clone(),
            seen,
            self.keys.clone(),
        );
        Ok(Player {
            registry: self.registry.clone(),
            signer: signer.map_err(SandboxError::Signer)?,
            api_server: ApiServer::new(url(&self.place.webhook())?, authority)
                .map_err(super::story::StoryError::from)?,
        })
    }

    /// Pushes what the story has pushed when it is over.
    pub(super) fn restock(&self) -> Result<(), SandboxError> {
        Ok(restock(STORY, &self.registry)?)
    }
}

/// The ports to listen at; 0 is a free one. Those of an earlier run stay: repositories are named by one, and trust is
/// remembered by another.
fn ports(options: &Options, folder: &Folder) -> Result<Ports, SandboxError> {
    let begun = folder.begun().map(|begun| begun.ports);
    match (options.port, begun) {
        (Some(port), Some(begun)) if port != begun.registry => Err(SandboxError::Moved {
            begun: begun.registry,
        }),
        (_, Some(begun)) => Ok(begun),
        (Some(port), None) => match (port.checked_add(1), port.checked_add(2)) {
            (Some(trust_server), Some(webhook)) => Ok(Ports {
                registry: port,
                trust_server,
                webhook,
            }),
            _ => Err(SandboxError::Ports),
        },
        (None, None) => Ok(Ports::default()),
    }
}

fn url(text: &str) -> Result<Url, SandboxError> {
    Url::parse(text).map_err(|_| SandboxError::Ports)
}

#[cfg(test)]
mod tests {
    use super::super::folder::Begun;
    use super::*;

    const BEGUN: Ports = Ports {
        registry: 40_000,
        trust_server: 41_000,
        webhook: 42_000,
    };

    #[test]
    fn ports_are_those_of_the_earlier_run_or_three_in_a_row_or_free_ones() {
        let row = Ports {
            registry: 5000,
            trust_server: 5001,
            webhook: 5002,
        };
        for (port, begun, want) in [
            (None, None, Some(Ports::default())),
            (Some(5000), None, Some(row)),
            (Some(65_534), None, None),
            (None, Some(BEGUN), Some(BEGUN)),
            (Some(40_000), Some(BEGUN), Some(BEGUN)),
            (Some(5000), Some(BEGUN), None),
        ] {
            let home = tempfile::tempdir().unwrap();
            if let Some(ports) = begun {
                let folder = Folder::open(Some(home.path())).unwrap();
                folder.note(Begun { ports, told: true }).unwrap();
            }
            let folder = Folder::open(Some(home.path())).unwrap();
            let options = Options {
                port,
                ..Options::default()
            };
            assert_eq!(ports(&options, &folder).ok(), want, "{port:?} {begun:?}");
        }
    }
}
