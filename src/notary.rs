//! The trust server of notary-v1 §1–2, as a client sees it.
