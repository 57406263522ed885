//! What every command that publishes does alike: keys, progress, reports, exit status.

use std::cell::Cell;
use std::io::{IsTerminal as _, Write as _};

use clap::Args;

use super::super::key_flags::KeyFlags;
use super::super::{Status, complain, print};
use super::keyring::Keys;
use super::site_flags::{PublishFlags, SiteFlags};
use crate::publish::{Effect, Progress, PublishError, Publisher, Report};
use crate::reference::Gun;
use crate::review::verdict::printable;
use crate::telemetry::chain;
use crate::trust::{Site, Sites};

/// What every command that publishes can be told.
#[derive(Args, Debug)]
pub(super) struct DeskFlags {
    #[command(flatten)]
    keys: KeyFlags,
    #[command(flatten)]
    pub(super) publishing: PublishFlags,
    #[command(flatten)]
    pub(super) site: SiteFlags,
}

/// Where publishing commands work.
pub(super) struct Desk<'a> {
    sites: Sites,
    keys: Keys,
    flags: &'a DeskFlags,
    force: bool,
}

impl<'a> Desk<'a> {
    pub(super) fn new(flags: &'a DeskFlags, force: bool) -> anyhow::Result<Self> {
        let keys = Keys::new(&flags.keys)?;
        Ok(Self {
            sites: flags.site.sites()?,
            keys,
            flags,
            force,
        })
    }

    /// Does `work` for each repository in turn, and reports on each. The worst that happened is the status.
    pub(super) fn each<'g>(
        &self,
        guns: impl IntoIterator<Item = &'g Gun>,
        work: &impl AsyncFn(&Publisher<'_, Keys>, &Gun) -> Result<Report, PublishError>,
    ) -> anyhow::Result<Status> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut status = Status::Success;
        for gun in guns {
            let site = self.sites.site(gun)?;
            let line = ProgressLine::new(&site);
            let progress = |now| line.show(now);
            let publisher = Publisher::new(
                &site,
                &self.keys,
                self.flags.site.options(&self.flags.publishing, self.force),
                &progress,
            );
            let outcome = runtime.block_on(work(&publisher, gun));
            line.clear();
            status = worse(
                status,
                match outcome {
                    Ok(report) => self.tell(&report)?,
                    Err(error) => fail(&error),
                },
            );
        }
        Ok(status)
    }

    fn tell(&self, report: &Report) -> anyhow::Result<Status> {
        for warning in &report.warnings {
            complain(&format!("warning: {}", printable(warning, usize::MAX)));
        }
        let gun = &report.gun;
        let dry = self.flags.publishing.effect() == Effect::DryRun;
        let files: Vec<_> = report
            .written
            .iter()
            .map(|file| format!("{} {}", file.role, file.version))
            .collect();
        if report.deleted {
            let would = if dry { "would be deleted" } else { "deleted" };
            print(&format!("{gun}: {would}"))?;
            return Ok(Status::Success);
        }
        let text = match (report.initialised, files.is_empty(), dry) {
            (true, _, true) => format!("{gun}: would be initialised"),
            (true, _, false) => format!("{gun}: initialised ({})", files.join(", ")),
            (false, true, true) => format!("{gun}: nothing would be published"),
            (false, true, false) => format!("{gun}: nothing to do, it is so already"),
            (false, false, true) => format!("{gun}: would be published ({})", files.join(", ")),
            (false, false, false) => format!("{gun}: published ({})", files.join(", ")),
        };
        print(&text)?;
        Ok(Status::Success)
    }
}

/// Says what went wrong, and what that means for the exit status.
pub(super) fn fail(error: &PublishError) -> Status {
    complain(&format!("error: {}", printable(&chain(error), usize::MAX)));
    if error.is_outage() {
        Status::Unavailable
    } else if error.is_usage() {
        Status::Usage
    } else {
        Status::Denied
    }
}

/// Of two outcomes the one to be told: wrong usage, then a no, then not knowing.
pub(super) fn worse(one: Status, other: Status) -> Status {
    let rank = |status| match status {
        Status::Success => 0,
        Status::Unavailable => 1,
        Status::Denied => 2,
        Status::Usage => 3,
    };
    if rank(other) > rank(one) { other } else { one }
}

/// One line on a terminal that says what is going on; nothing elsewhere.
struct ProgressLine {
    gun: Gun,
    shown: Cell<bool>,
    terminal: bool,
}

impl ProgressLine {
    fn new(site: &Site) -> Self {
        Self {
            gun: site.gun().clone(),
            shown: Cell::new(false),
            terminal: std::io::stderr().is_terminal(),
        }
    }

    fn show(&self, progress: Progress) {
        if !self.terminal {
            return;
        }
        let words = match progress {
            Progress::Looking => "verifying …".to_owned(),
            // A passphrase may be asked for now, on a line of its own.
            Progress::Signing => return self.clear(),
            Progress::Uploading => "publishing …".to_owned(),
            Progress::Again(times) => format!("another publisher was faster ({times}) …"),
            Progress::Confirming => "verifying what was published …".to_owned(),
        };
        write(&format!("\r\x1b[K{}: {words}", self.gun));
        self.shown.set(true);
    }

    fn clear(&self) {
        if self.shown.take() {
            write("\r\x1b[K");
        }
    }
}

fn write(text: &str) {
    let mut err = std::io::stderr().lock();
    // With standard error gone there is nobody left to tell.
    let _gone = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}
