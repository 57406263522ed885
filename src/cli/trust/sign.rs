//! `countersign trust sign` and `revoke`.

use std::collections::HashMap;

use anyhow::{Context as _, bail};
use clap::Args;
use tokio::time::Instant;

use super::super::{Status, complain};
use super::desk::{Desk, DeskFlags};
use super::image::{Tagged, by_repository, either, tagged};
use super::initial_flags::InitialFlags;
use super::signer::signer;
use crate::fetch::{Helpers, Login};
use crate::publish::Signing;
use crate::reference::{Algorithm, Digest, Gun, Tag};
use crate::registry::{Config, Manifest, Registry, RegistryError};
use crate::review::verdict::printable;
use crate::telemetry::chain;

/// Arguments of `trust sign`.
#[derive(Args, Debug)]
pub(super) struct Sign {
    /// Images to sign, each with its tag: registry.example.com/team/app:1.0
    #[arg(required = true, value_name = "IMAGE:TAG")]
    images: Vec<String>,
    /// The digest to sign, for a single image; the registry must have it under the tag, if it has the tag
    #[arg(long, value_name = "DIGEST", env = "COUNTERSIGN_DIGEST")]
    digest: Option<Digest>,
    /// Length of the manifest in bytes: with it and --digest the registry is not asked
    #[arg(long, value_name = "BYTES", requires = "digest", env = "COUNTERSIGN_SIZE")]
    size: Option<u64>,
    /// Sign as this signer only, and not as everybody whose key is at hand; may be repeated
    #[arg(long, value_name = "NAME", env = "COUNTERSIGN_SIGNER", value_delimiter = ',')]
    signer: Vec<String>,
    #[command(flatten)]
    initial: InitialFlags,
    #[command(flatten)]
    desk: DeskFlags,
}

/// Arguments of `trust revoke`.
#[derive(Args, Debug)]
pub(super) struct Revoke {
    /// Images to revoke, each with its tag; or repositories, with --all-tags
    #[arg(required = true, value_name = "IMAGE:TAG")]
    images: Vec<String>,
    /// Revoke every tag of the repositories
    #[arg(long, env = "COUNTERSIGN_ALL_TAGS")]
    all_tags: bool,
    #[command(flatten)]
    desk: DeskFlags,
}

pub(super) fn sign(args: &Sign) -> anyhow::Result<Status> {
    let mut images = args
        .images
        .iter()
        .map(|text| tagged(text))
        .collect::<anyhow::Result<Vec<_>>>()?;
    if let Some(digest) = &args.digest {
        let [image] = images.as_mut_slice() else {
            bail!("--digest is for a single image: write the others as IMAGE:TAG@DIGEST");
        };
        if image.digest.as_ref().is_some_and(|written| written != digest) {
            bail!("the image is written with another digest than --digest says");
        }
        image.digest = Some(digest.clone());
    }
    let signers = args
        .signer
        .iter()
        .map(|name| signer(name))
        .collect::<anyhow::Result<Vec<_>>>()?;
    for digest in images.iter().filter_map(|image| image.digest.as_ref()) {
        // Before anything is asked: what a registry has under another algorithm cannot be compared with what is signed.
        if digest.algorithm() != Algorithm::Sha256 {
            bail!("{digest} cannot be signed: trust data can vouch for sha256 digests only");
        }
    }
    let wanted = match resolve(args, &images) {
        Ok(wanted) => wanted,
        Err(failure) => return failure,
    };
    let grouped = by_repository(images);
    let guns: Vec<_> = grouped.iter().map(|(gun, _)| gun).collect();
    let desk = Desk::new(&args.desk, false)?;
    let initial = args.initial.initial();
    desk.each(guns, &async |publisher, gun| {
        let tags = wanted.get(gun).map_or(&[][..], Vec::as_slice);
        publisher.sign_tags(tags, &signers, &initial).await
    })
}

/// What each tag is to be, found out before any key is touched. An error is what the command comes to.
fn resolve(args: &Sign, images: &[Tagged]) -> Result<HashMap<Gun, Vec<Signing>>, anyhow::Result<Status>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Err(error.into()))?;
    let mut wanted: HashMap<Gun, Vec<Signing>> = HashMap::new();
    for image in images {
        let manifest = if let (Some(digest), Some(size)) = (&image.digest, args.size) {
            Manifest {
                digest: digest.clone(),
                size,
                media_type: "as told".to_owned(),
            }
        } else {
            let config = registry_config(args).map_err(Err)?;
            let found = runtime.block_on(manifest(image, &config, args.desk.site.timeout()));
            found.map_err(|error| Ok(refuse(&error)))?
        };
        let signing = signing(image, &manifest).map_err(Err)?;
        complain(&format!(
            "{}:{} is {} ({} bytes, {})",
            image.gun,
            image.tag,
            manifest.digest,
            manifest.size,
            printable(&manifest.media_type, 100)
        ));
        wanted.entry(image.gun.clone()).or_default().push(signing);
    }
    Ok(wanted)
}

fn registry_config(args: &Sign) -> anyhow::Result<Config> {
    let login = args.desk.site.login()?.map(|path| Login::File {
        path,
        helpers: Helpers::Run,
    });
    Ok(Config {
        ca_pem: args.desk.site.authorities()?,
        identity: None,
        login: login.unwrap_or(Login::Anonymous),
    })
}

/// What the registry has under the tag; it must be the digest that was said. A tag that it does not have may be signed
/// ahead, if the digest is there.
async fn manifest(
    image: &Tagged,
    config: &Config,
    timeout: std::time::Duration,
) -> Result<Manifest, RegistryError> {
    let registry = Registry::new(&image.gun, config)?;
    let deadline = Instant::now() + timeout;
    match (
        registry.by_tag(&image.gun, &image.tag, deadline).await,
        &image.digest,
    ) {
        (Ok(found), Some(digest)) if found.digest != *digest => Err(RegistryError::Other {
            gun: image.gun.clone(),
            tag: image.tag.clone(),
            found: found.digest,
            wanted: digest.clone(),
        }),
        (Err(RegistryError::Absent { .. }), Some(digest)) => {
            registry.by_digest(&image.gun, digest, deadline).await
        }
        (outcome, _) => outcome,
    }
}

fn signing(image: &Tagged, manifest: &Manifest) -> anyhow::Result<Signing> {
    let sha256 = <[u8; 32]>::try_from(manifest.digest.bytes()).ok();
    let sha256 = sha256.filter(|_| manifest.digest.algorithm() == Algorithm::Sha256);
    Ok(Signing {
        tag: image.tag.clone(),
        sha256: sha256.context("trust data can vouch for sha256 digests only")?,
        length: manifest.size,
    })
}

fn refuse(error: &RegistryError) -> Status {
    complain(&format!("error: {}", printable(&chain(error), usize::MAX)));
    match error {
        RegistryError::Setup(_) => Status::Usage,
        RegistryError::Fetch(_) => Status::Unavailable,
        RegistryError::Absent { .. }
        | RegistryError::Lie { .. }
        | RegistryError::Other { .. }
        | RegistryError::MediaType { .. } => Status::Denied,
    }
}

pub(super) fn revoke(args: &Revoke) -> anyhow::Result<Status> {
    let mut wanted: Vec<(Gun, Vec<Tag>)> = Vec::new();
    for text in &args.images {
        let (gun, tag) = either(text)?;
        let tag = match (tag, args.all_tags) {
            (Some(tag), false) => Some(tag),
            (None, true) => None,
            (None, false) => bail!(
                "{text:?} names no tag: trust belongs to the tags of a repository, so say which, or --all-tags"
            ),
            (Some(_), true) => bail!("{text:?} names a tag, and --all-tags means all of them"),
        };
        match wanted.iter_mut().find(|(other, _)| *other == gun) {
            Some((_, tags)) => tags.extend(tag),
            None => wanted.push((gun, tag.into_iter().collect())),
        }
    }
    let guns: Vec<_> = wanted.iter().map(|(gun, _)| gun).collect();
    let desk = Desk::new(&args.desk, false)?;
    desk.each(guns, &async |publisher, gun| {
        let tags = wanted.iter().find(|(other, _)| other == gun);
        let tags = tags.map(|(_, tags)| tags.as_slice()).filter(|_| !args.all_tags);
        publisher.revoke(tags).await
    })
}
