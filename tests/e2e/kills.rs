//! A trust server that is killed at any moment of a publication has after it what it had before, or what was
//! published, and what it said it has taken.

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::hand::Hand;
use crate::notary::Publisher;
use crate::our_server::OurServer;
use crate::pki;
use crate::process::{self, output, text};
use crate::remote::Remote;
use crate::upload::Pen;
use crate::world::trust;

/// Kills while the request is under way, each after another number of its bytes.
const IN_REQUEST: u32 = 25;
/// Kills after the last byte of the request, each a moment later, until well after the answer.
const AFTER_REQUEST: u32 = 75;
/// After every so many kills the repository is looked at file by file too, and somebody else publishes into the next.
const SOMETIMES: u32 = 4;
/// What the moments after the request are spread over, in lengths of a publication that nobody disturbs.
const SPREAD: f64 = 1.5;

/// A reader of a repository, who may remember it.
struct Reader<'a> {
    server: &'a OurServer,
    gun: &'a str,
    root: &'a str,
    state: Option<PathBuf>,
}

impl Reader<'_> {
    /// The digest of a tag, or the reason for which there is none.
    fn digest(&self, tag: &str) -> String {
        let image = format!("{}:{tag}", self.gun);
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
        command
            .args(["verify", &image, "--output=json", "--root-key-id", self.root])
            .env("COUNTERSIGN_TRUST_SERVER", self.server.url())
            .env("COUNTERSIGN_CA", pki::authority());
        if let Some(state) = &self.state {
            command.env("COUNTERSIGN_STATE_DIR", state);
        }
        let said = output(&mut command);
        let answer: Value =
            serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{}", text(&said.stderr)));
        let found = answer["digest"].as_str().or(answer["reason"].as_str());
        found.unwrap_or_else(|| panic!("{answer}")).to_owned()
    }
}

#[test]
fn a_server_that_is_killed_at_any_moment_of_a_publication_keeps_all_of_it_or_nothing() {
    let server = OurServer::start("killed");
    let gun = format!("{}/killed/app", trust().registry.host);
    let notary = Publisher::at(&server.url(), "killed", &gun);
    notary.init();
    let root = notary.root_key_id();
    let remote = Remote::new(&server.url(), &gun);
    let pen = Pen::new(&server.url(), &gun, notary.folder(), "passphrase of targets");
    let reader = |state| Reader {
        server: &server,
        gun: &gun,
        root: &root,
        state,
    };
    let (fresh, follower) = (reader(None), reader(Some(process::new_folder("killed-follower"))));

    let undisturbed = (0..5).map(|round| {
        let request = pen.write(
            &remote.get("targets.json").unwrap(),
            &format!("quiet-{round}"),
            &digest("quiet"),
        );
        let mut upload = pen.connect(request);
        upload.send(upload.len());
        let sent = Instant::now();
        assert_eq!(upload.status(), Some(200));
        sent.elapsed()
    });
    let undisturbed = undisturbed.max().unwrap();

    let (kept, lost, acknowledged) = thread::scope(|scope| {
        let (call, calls) = mpsc::channel();
        let elsewhere = &server;
        let crowd = scope.spawn(move || publish_meanwhile(elsewhere, &calls));
        let mut outcomes = [0_u32; 3];
        for round in 0..IN_REQUEST + AFTER_REQUEST {
            let (tag, content) = (format!("round-{round}"), digest(&format!("round {round}")));
            let before = remote.get("targets.json").unwrap();
            let mut upload = pen.connect(pen.write(&before, &tag, &content));
            let status = if let Some(after) = round.checked_sub(IN_REQUEST) {
                upload.send(upload.len());
                let answer = scope.spawn(|| upload.status());
                let share = f64::from(after) / f64::from(AFTER_REQUEST);
                // No waiting for anything: this moment is what is tried.
                thread::sleep(undisturbed.mul_f64(share * SPREAD));
                server.kill();
                answer.join().unwrap()
            } else {
                upload.send(upload.len() / IN_REQUEST as usize * round as usize);
                server.kill();
                upload.status()
            };
            server.restart();
            if round % SOMETIMES == 0 {
                remote.is_whole();
                call.send(()).unwrap();
            }
            let expected = format!("sha256:{}", hex::encode(content));
            let now = fresh.digest(&tag);
            assert_eq!(
                follower.digest(&tag),
                now,
                "{tag}, to whom remembers the one before"
            );
            if remote.get("targets.json").unwrap() == before {
                assert_eq!((now.as_str(), status), ("tag_not_signed", None), "{tag}");
                outcomes[1] += 1;
            } else {
                assert_eq!(now, expected, "{tag}");
                outcomes[0] += 1;
                outcomes[2] += u32::from(status == Some(200));
            }
        }
        drop(call);
        let others = crowd.join().unwrap();
        assert!(others > 0, "somebody else published meanwhile");
        let [kept, lost, acknowledged] = outcomes;
        (kept, lost, acknowledged)
    });
    let _ = writeln!(
        std::io::stderr(),
        "{kept} kept, {acknowledged} of them acknowledged; {lost} lost; a publication takes {undisturbed:?}"
    );
    // Else the moments were all before the commit, or all after it.
    assert!(kept >= 10 && lost >= IN_REQUEST, "{kept} kept, {lost} lost");
}

/// Publishes to a repository of its own whenever it is called. Every publication that was said to have succeeded is
/// there in the end; says how many they are.
fn publish_meanwhile(server: &OurServer, calls: &mpsc::Receiver<()>) -> usize {
    let gun = format!("{}/killed/other", trust().registry.host);
    let notary = Publisher::at(&server.url(), "killed-other", &gun);
    let hand = Hand::with_keys(&server.url(), "killed-other", notary.folder());
    process::eventually("the first publication", Duration::from_secs(60), || {
        (hand.run(&["init", &gun]).status == Some(0)).then_some(())
    });
    let content = format!("sha256:{}", hex::encode(digest("other")));
    let mut published = Vec::new();
    for (number, ()) in calls.iter().enumerate() {
        let tag = format!("tag-{number}");
        let image = format!("{gun}:{tag}");
        if hand
            .run(&["sign", &image, "--digest", &content, "--size", "1000"])
            .status
            == Some(0)
        {
            published.push(tag);
        }
    }
    let inspected = hand.inspect(&gun);
    let tags: Vec<_> = inspected["SignedTags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| &tag["SignedTag"])
        .collect();
    for tag in &published {
        assert!(
            tags.iter().any(|listed| *listed == tag),
            "{tag} was published: {tags:?}"
        );
    }
    published.len()
}

fn digest(content: &str) -> [u8; 32] {
    Sha256::digest(content).into()
}
