//! Whose login is tried, and who may know what it opens (kubernetes-admission §5.1, CRED-24).

use std::sync::Arc;

use tokio::time::Instant;

use super::super::borrowed::Borrowed;
use super::super::memory::{FAILED, Key};
use super::super::outcome::{Kind, Pinned, Refusal};
use super::super::remote::Reach;
use super::super::verifier::Notary;
use super::{Engine, settle};
use crate::credential::Credential;
use crate::reference::{Gun, Reference};
use crate::review::logins::PullSources;

/// Who asks about which repository, and with what.
#[derive(Clone, Debug)]
pub(super) struct Inquiry {
    pub(super) notary: Arc<Notary>,
    pub(super) key: Key,
    /// A workload's own, in place of the policy's.
    pub(super) logins: Option<Arc<[Credential]>>,
}

impl Inquiry {
    /// With the login of the policy, for everybody whom it governs.
    pub(super) fn own(notary: &Arc<Notary>, gun: &Gun) -> Self {
        let key = Key {
            verifier: notary.number,
            gun: gun.clone(),
            scope: None,
        };
        Self {
            notary: Arc::clone(notary),
            key,
            logins: None,
        }
    }

    /// The same with borrowed logins, if there are any.
    fn with(&self, borrowed: &Borrowed) -> Option<Self> {
        let scope = borrowed.scope()?;
        Some(Self {
            notary: Arc::clone(&self.notary),
            key: Key {
                scope: Some(scope),
                ..self.key.clone()
            },
            logins: Some(borrowed.logins()),
        })
    }

    pub(super) const fn reach(&self) -> Reach {
        match self.logins {
            None => Reach::All,
            Some(_) => Reach::Holders,
        }
    }
}

impl Engine {
    /// The judgement with the policy's login, and if that opens nothing with the workload's own (§5.1); and whether
    /// memory alone could give it. What is known to want a login is not asked without one again and again.
    pub(super) async fn consult(
        self: &Arc<Self>,
        image: &Reference,
        notary: &Arc<Notary>,
        sources: &PullSources,
        deadline: Instant,
    ) -> (Result<Pinned, Refusal>, &'static str) {
        let (own, secrets) = (Inquiry::own(notary, image.gun()), &self.options.pull_secrets);
        let refused = |refusal: &Refusal| self.may_be_opened(&own, refusal);
        let borrow = || Borrowed::read(secrets, &self.metrics, (notary, image.gun()), sources, deadline);
        let failure = self.memory.failure(&own.key, FAILED);
        if failure.is_some_and(|failure| refused(&failure.refusal)) {
            let borrowed = borrow().await;
            if let Some(inquiry) = own.with(&borrowed) {
                return self.judge_with(image, &inquiry, &borrowed, deadline).await;
            }
        }
        let (result, cache) = self.judge(image, &own, deadline).await;
        let refusal = match result {
            Err(refusal) if secrets.are_used() && refusal.kind == Kind::Unavailable => refusal,
            settled => return (settled, cache),
        };
        let borrowed = borrow().await;
        let inquiry = own.with(&borrowed);
        match inquiry {
            Some(inquiry) if refused(&refusal) => self.judge_with(image, &inquiry, &borrowed, deadline).await,
            Some(inquiry) => match self.remembered(image, &own, &inquiry, deadline).await {
                Some(result) => (result, "hit"),
                None => (Err(refusal), cache),
            },
            None if refused(&refusal) => (Err(refusal.after(borrowed.account())), cache),
            None => (Err(refusal), cache),
        }
    }

    /// What the holders of logins may go on believing while the server is away, which `own` has found out just now.
    async fn remembered(
        self: &Arc<Self>,
        image: &Reference,
        own: &Inquiry,
        inquiry: &Inquiry,
        deadline: Instant,
    ) -> Option<Result<Pinned, Refusal>> {
        let failure = self.recent_failure(&own.key).filter(|failure| failure.outage)?;
        let notary = &inquiry.notary;
        let fresh = self.fresh(&inquiry.key, notary).map(|known| (known, None));
        let (known, age) = if let Some(fresh) = fresh {
            fresh
        } else {
            let (known, age) = self.stale(inquiry, &failure, deadline).await?;
            self.metrics.stale_served();
            (known, Some(age))
        };
        let resolved = self.resolve(image, notary, &known);
        Some(settle(image, notary, &known, resolved, age))
    }

    async fn judge_with(
        self: &Arc<Self>,
        image: &Reference,
        inquiry: &Inquiry,
        borrowed: &Borrowed,
        deadline: Instant,
    ) -> (Result<Pinned, Refusal>, &'static str) {
        let (result, cache) = self.judge(image, inquiry, deadline).await;
        let told = |refusal: Refusal| {
            if refusal.wants_login() {
                refusal.after(borrowed.account())
            } else {
                refusal
            }
        };
        (result.map_err(told), cache)
    }

    /// Whether a workload's own login is still to be tried.
    pub(super) fn may_be_opened(&self, inquiry: &Inquiry, refusal: &Refusal) -> bool {
        inquiry.logins.is_none() && self.options.pull_secrets.are_used() && refusal.wants_login()
    }
}
