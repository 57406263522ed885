//! Several replicas over hours, with clocks that are wrong, answers that are late, and operators.

use std::sync::Mutex;

use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;

/// What happens to a replica, or around it.
#[derive(Clone, Copy, Debug)]
enum Event {
    Rotate,
    Lose,
    Restart(usize),
}

#[derive(Clone, Debug)]
struct Story {
    seed: u64,
    /// Seconds by which the clock of each replica is ahead.
    clocks: Vec<i64>,
    lifetimes: Lifetimes,
    /// Each after so many seconds.
    events: Vec<(u64, Event)>,
}

/// What all replicas serve, by replica: the issuer and whether it was the first leaf since a start.
type Served = Arc<Mutex<Vec<Option<CertificateDer<'static>>>>>;

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => Just(Event::Rotate),
        1 => Just(Event::Lose),
        2 => (0..3_usize).prop_map(Event::Restart),
    ]
}

/// Clocks that are wrong by as much as is provided for; rotations because somebody asks.
fn wrong_clocks() -> impl Strategy<Value = Story> {
    let clocks = prop::collection::vec(-300..=300_i64, 3);
    let events = prop::collection::vec((1..150_u64, event()), 1..6);
    (any::<u64>(), clocks, events).prop_map(|(seed, clocks, events)| Story {
        seed,
        clocks,
        lifetimes: lifetimes(),
        events,
    })
}

/// Lives of seconds, in which every answer may be as late as the wait before a promotion is long.
fn short_lives() -> impl Strategy<Value = Story> {
    let events = prop::collection::vec((1..20_u64, event()), 0..6);
    (any::<u64>(), events).prop_map(|(seed, events)| Story {
        seed,
        clocks: vec![0; 3],
        lifetimes: Lifetimes {
            authority: Duration::from_secs(60),
            leaf: Duration::from_secs(30),
        },
        events,
    })
}

fn now(clock: i64, began: Instant) -> Timestamp {
    let elapsed = SignedDuration::try_from(began.elapsed()).unwrap();
    start()
        .checked_add(elapsed)
        .unwrap()
        .checked_add(SignedDuration::from_secs(clock))
        .unwrap()
}

/// One replica, which turns for ever.
struct Replica {
    played: Played,
    story: Story,
    number: usize,
    served: Served,
    began: Instant,
    /// The Secret was lost at some time, or has not been there yet: a replica without a leaf may then take what there is.
    need: Arc<Mutex<Option<Instant>>>,
}

impl Replica {
    async fn run(self) {
        let names = vec!["countersign.release.svc".to_owned()];
        let mut managed = Managed::new(self.played.store(), names, self.story.lifetimes, Arc::default());
        loop {
            let own_clock = now(self.story.clocks[self.number], self.began);
            managed.turn(own_clock).await;
            self.check(&managed);
            tokio::time::sleep(pause(&self.story.lifetimes)).await;
        }
    }

    /// Whatever is served has been trusted by every entry for long enough, and is good by the API server's clock.
    fn check(&self, managed: &Managed) {
        let Some(leaf) = &managed.leaf else { return };
        let true_time = now(0, self.began);
        assert!(leaf.life.contains(true_time), "{:?} at {true_time}", leaf.life);
        let mut served = self.served.lock().unwrap();
        let before = served[self.number].replace(leaf.issuer.clone());
        if before.as_ref() == Some(&leaf.issuer) {
            return;
        }
        let world = self.played.lock();
        let since = world.trusted.get(&leaf.issuer).expect("every entry trusts it");
        let settle = settle_time(&self.story.lifetimes);
        let need = self
            .need
            .lock()
            .unwrap()
            .is_some_and(|at| at.elapsed() < settle * 2);
        let excused = before.is_none() && need;
        assert!(
            excused || since.elapsed() >= settle,
            "trusted for {:?} only",
            since.elapsed()
        );
    }
}

async fn play(story: Story) {
    let played = Played::new();
    played.seed(story.seed);
    let (began, settle) = (Instant::now(), settle_time(&story.lifetimes));
    let served: Served = Arc::new(Mutex::new(vec![None; 3]));
    let need = Arc::new(Mutex::new(Some(began)));
    {
        let mut world = played.lock();
        world.slowness = 1_900;
        let served = Arc::clone(&served);
        world.watcher = Some(Box::new(move |world| {
            for issuer in served.lock().unwrap().iter().flatten() {
                assert!(
                    world.trusted.contains_key(issuer),
                    "a leaf in service is not trusted any more"
                );
            }
        }));
    }
    let mut tasks = tokio::task::JoinSet::new();
    let mut running: Vec<Option<tokio::task::AbortHandle>> = vec![None, None, None];
    let mut spawn = |number: usize, running: &mut Vec<Option<tokio::task::AbortHandle>>| {
        if let Some(old) = running[number].take() {
            old.abort();
        }
        served.lock().unwrap()[number] = None;
        let replica = Replica {
            played: played.clone(),
            story: story.clone(),
            number,
            served: Arc::clone(&served),
            began,
            need: Arc::clone(&need),
        };
        running[number] = Some(tasks.spawn(replica.run()));
    };
    for number in 0..3 {
        spawn(number, &mut running);
    }
    tokio::time::sleep(settle * 2).await;
    for (wait, event) in &story.events {
        tokio::time::sleep(Duration::from_secs(*wait)).await;
        match event {
            Event::Rotate => played.annotate(crate::cluster::ROTATE),
            Event::Lose => {
                *need.lock().unwrap() = Some(Instant::now());
                played.lock().delete_secret();
            }
            Event::Restart(number) => spawn(*number, &mut running),
        }
    }
    // Long enough for a rotation that was asked for during another, and for lives of a minute to end several times.
    tokio::time::sleep(settle * 6 + Duration::from_secs(60)).await;
    settled(&played, &story, &served).await;
    // A replica that found something wrong has panicked.
    while let Some(ended) = tasks.try_join_next() {
        let error = ended.unwrap_err();
        assert!(error.is_cancelled(), "{error}");
    }
}

/// All have come to rest: one authority, and nothing is written any more.
async fn settled(played: &Played, story: &Story, served: &Served) {
    let issuers: Vec<_> = served.lock().unwrap().iter().flatten().cloned().collect();
    assert_eq!(issuers.len(), 3, "every replica serves");
    if story.lifetimes != lifetimes() {
        return;
    }
    assert!(issuers.iter().all(|issuer| *issuer == issuers[0]));
    let secret = played.secret().unwrap();
    assert!(secret["data"].get("next.crt").is_none(), "nothing is under way");
    assert_eq!(played.bundles(), vec![secret["data"]["ca.crt"].clone(); 3]);
    let writes = played.writes();
    tokio::time::sleep(MINUTE * 10).await;
    assert_eq!(played.writes(), writes, "a steady state");
}

proptest! {
    // Each is some minutes of three replicas, a second of ours.
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 4, ..ProptestConfig::default() })]

    #[test]
    fn with_clocks_that_are_wrong_every_leaf_is_trusted_in_time(story in wrong_clocks()) {
        run(story);
    }

    #[test]
    fn with_short_lives_and_late_answers_every_leaf_is_trusted_in_time(story in short_lives()) {
        run(story);
    }
}

fn run(story: Story) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(play(story));
}
