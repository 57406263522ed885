//! One image in, a [`Pinned`] digest or a [`Refusal`] out.
//!
//! [`Trust`] drives `tuf` with what `notary` fetches and `store` remembers. Answers come from verified memory;
//! what has to be fetched is fetched once however many wait, within a deadline, and nothing unverified is ever let
//! through because a server is down.

use std::future::Future;

use tokio::time::Instant;

use crate::policy::Verification;
use crate::reference::Reference;
use crate::review::logins::PullSources;

mod borrowed;
mod combine;
mod contact;
mod engine;
mod keeper;
mod memory;
mod options;
mod outcome;
mod remote;
mod servers;
mod site;
mod turns;
mod verifier;

pub use contact::Contact;
pub use engine::Trust;
pub use keeper::Keeper;
pub use options::{Clock, Options};
pub use outcome::{Kind, Pinned, Refusal, Source, fake};
pub use remote::Setback;
pub use site::{Site, Sites, present};
pub use verifier::{Fault, VerifierError};

/// Finds out whether an image is trusted. The one seam that tests of `admission` replace.
pub trait Verify: Send + Sync + 'static {
    /// Holds `image` against `verification` and answers before `deadline`. `sources` are where the workload that is to
    /// run it has its logins.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] that says whether the image is untrusted or whether that could not be found out.
    fn verify(
        &self,
        image: &Reference,
        verification: &Verification,
        sources: &PullSources,
        deadline: Instant,
    ) -> impl Future<Output = Result<Pinned, Refusal>> + Send;
}
