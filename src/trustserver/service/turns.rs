//! One change of a repository at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

use crate::reference::Gun;

/// Whose turn it is, by repository: whoever keeps one busy keeps nobody waiting who changes another.
#[derive(Debug, Default)]
pub(super) struct Turns {
    taken: Mutex<HashMap<Gun, Weak<tokio::sync::Mutex<()>>>>,
}

impl Turns {
    /// Waits until nobody else in this process changes the repository.
    pub(super) async fn take(&self, gun: &Gun) -> OwnedMutexGuard<()> {
        self.of(gun).lock_owned().await
    }

    fn of(&self, gun: &Gun) -> Arc<tokio::sync::Mutex<()>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = taken.get(gun).and_then(Weak::upgrade) {
            return turn;
        }
        // There are as many as requests at a time, so looking at all of them is nothing.
        taken.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        taken.insert(gun.clone(), Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gun(name: &str) -> Gun {
        format!("reg.example/{name}").parse().unwrap()
    }

    #[tokio::test]
    async fn who_keeps_one_repository_busy_keeps_no_other_waiting() {
        let turns = Turns::default();
        let _held = turns.take(&gun("busy")).await;
        for i in 0..1_000 {
            turns.take(&gun(&format!("a{i}"))).await;
        }
        assert!(turns.of(&gun("busy")).try_lock().is_err(), "it is still taken");
        assert!(
            turns.taken.lock().unwrap().len() <= 3,
            "what is over is forgotten"
        );
    }
}
