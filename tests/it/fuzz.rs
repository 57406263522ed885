//! The functions of the fuzzer over mutations of the fixtures: few, always the same, in every test run.

use std::fs;
use std::path::{Path, PathBuf};

use crate::fuzz_targets::{
    access, canonical, challenge, key_file, login, metadata, policy, publish, reference, review, route,
    sealed, upload,
};

/// Mutations of each seed: a second or two for each target.
const ROUNDS: usize = 40;
/// Most changes of one mutation.
const CHANGES: usize = 4;
/// What breaks readers more often than chance would put it there.
const TOKENS: [&[u8]; 14] = [
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"[[[[",
    b"{}",
    b"null",
    b"-0",
    b"1e9",
    b",",
    b":",
    b"\xff",
    b"\xef\xbb\xbf",
    b"sha256:",
    b"@",
];

/// `xorshift64*`: the same numbers every time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap();
        number % end.max(1)
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    /// `seed` with a few changes: bytes, tokens, and parts of itself or of `other` in a wrong place.
    fn mutate(&mut self, seed: &[u8], other: &[u8]) -> Vec<u8> {
        let mut data = seed.to_vec();
        for _ in 0..=self.below(CHANGES) {
            let at = self.below(data.len() + 1);
            let end = (at + self.below(64)).min(data.len());
            let from = self.below(other.len());
            let part = &other[from..(from + self.below(64)).min(other.len())];
            match self.below(6) {
                0 if at < data.len() => data[at] = self.byte(),
                1 => drop(data.drain(at..end)),
                2 => drop(data.splice(at..end, part.iter().copied())),
                3 => drop(data.splice(at..at, TOKENS[self.below(TOKENS.len())].iter().copied())),
                4 => data.truncate(at),
                _ => data.insert(at, self.byte()),
            }
        }
        data
    }
}

/// How many times as many mutations somebody wants who has the time.
fn patience() -> usize {
    std::env::var("COUNTERSIGN_FUZZ_TIMES").map_or(1, |times| times.parse().unwrap())
}

/// Runs `target` over `seeds` as they are, then over mutations of each.
fn fuzz(target: fn(&[u8]), seeds: &[Vec<u8>], rounds: usize) {
    assert!(!seeds.is_empty());
    let rounds = rounds * patience();
    let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
    for seed in seeds {
        target(seed);
        for _ in 0..rounds {
            let other = &seeds[numbers.below(seeds.len())];
            let data = numbers.mutate(seed, other);
            target(&data);
        }
    }
}

fn fixtures(folder: &str) -> Vec<Vec<u8>> {
    fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, found);
            } else if path
                .extension()
                .is_some_and(|end| ["json", "yaml", "pem", "key"].iter().any(|known| end == *known))
            {
                found.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    collect(&fixtures.join(folder), &mut paths);
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

#[test]
fn references_survive_the_fuzzer() {
    let digest = format!(
        "registry.example.com:5000/a/b__c/d-e:1.0_x@sha256:{}",
        "ab".repeat(32)
    );
    let seeds = [
        "nginx",
        "index.docker.io/library/nginx:1.27",
        "localhost/x",
        &"a".repeat(64),
        &digest,
    ];
    fuzz(reference::run, &texts(&seeds), 20 * ROUNDS);
}

#[test]
fn canonical_json_survives_the_fuzzer() {
    fuzz(canonical::run, &fixtures("appendix-a"), ROUNDS);
    fuzz(canonical::run, &fixtures("review"), ROUNDS);
    fuzz(
        canonical::run,
        &texts(&["-1", "[9007199254740991,-0]", r#"{"a":"\u00e9\ud83d\ude00"}"#]),
        10 * ROUNDS,
    );
}

#[test]
fn updates_survive_the_fuzzer() {
    let mut joined = vec![0];
    for (_, file) in metadata::FILES {
        joined.extend_from_slice(file);
        joined.push(0);
    }
    fuzz(metadata::run, &[joined], ROUNDS);
    // One, two and three changes to a recording, with and without a memory of the honest one.
    let changes: Vec<_> = (1..4)
        .flat_map(|count| [1, 2].map(|first| vec![first; 1 + 6 * count]))
        .collect();
    fuzz(metadata::run, &changes, 2 * ROUNDS);
}

#[test]
fn reviews_survive_the_fuzzer() {
    fuzz(review::run, &fixtures("review"), ROUNDS);
}

#[test]
fn policies_survive_the_fuzzer() {
    fuzz(policy::run, &fixtures("policy"), 2 * ROUNDS);
}

#[test]
fn key_files_survive_the_fuzzer() {
    fuzz(key_file::run, &fixtures("keys"), ROUNDS);
}

#[test]
fn logins_survive_the_fuzzer() {
    let seeds = [
        r#"Bearer realm="https://auth.example.com/token",service="registry, \"x\"",scope="a:b:c""#,
        "Basic realm=x, Bearer realm=https://auth.example.com/token , service = y\nNegotiate YII=",
        r#"{"auths":{"https://index.docker.io/v1/":{"auth":"YTpi"},"*.example.com:5000/team":{"username":"a","password":"b"}}}"#,
        r#"{"credsStore":"pass","credHelpers":{"docker.io":"x","registry.example.com:5000":"../y"}}"#,
        r#"{"registry.example.com:5000":{"auth":"YTpi","identitytoken":"t"}}"#,
        r#"{"ServerURL":"https://x","Username":"<token>","Secret":"s"}"#,
    ];
    fuzz(challenge::run, &texts(&seeds), 20 * ROUNDS);
}

#[test]
fn uploads_survive_the_fuzzer() {
    let mut joined = b"multipart/form-data; boundary=b\n".to_vec();
    for (role, file) in metadata::FILES
        .iter()
        .filter(|(role, _)| *role != "timestamp")
        .take(3)
    {
        let head =
            format!("--b\r\nContent-Disposition: form-data; name=\"files\"; filename=\"{role}\"\r\n\r\n");
        joined.extend_from_slice(head.as_bytes());
        joined.extend_from_slice(file);
        joined.extend_from_slice(b"\r\n");
    }
    joined.extend_from_slice(b"--b--\r\n");
    let file =
        r#"{"signed":{"_type":"Targets","expires":"2031-05-01T10:00:00Z","version":1},"signatures":[]}"#;
    let part = |name: &str| format!("--x\r\nContent-Disposition: form-data; {name}\r\n\r\n{file}\r\n");
    let small = [
        format!(
            "multipart/form-data; boundary=x\n{}--x--\r\n",
            part("name=files; filename=targets")
        ),
        format!(
            "multipart/form-data; boundary=\"x\"\n{}{}--x--",
            part(r#"name="files"; filename="root.json""#),
            part(r#"filename="targets/releases""#)
        ),
        format!(
            "multipart/form-data; boundary=x\n--x--{}",
            part("filename*=utf-8''root")
        ),
    ];
    fuzz(upload::run, &[joined], 2 * ROUNDS);
    fuzz(upload::run, &small.map(String::into_bytes), 10 * ROUNDS);
}

#[test]
fn request_lines_survive_the_fuzzer() {
    let hash = "ab".repeat(32);
    let by_hash = format!("GET /v2/reg.example:5000/a/b/_trust/tuf/targets/releases.{hash}.json");
    let seeds = [
        "GET /v2/",
        "HEAD /_notary_server/health",
        "POST /v2/reg.example/app/_trust/tuf/",
        "DELETE /v2/reg.example/app/_trust/tuf/",
        "GET /v2/reg.example/app/_trust/tuf/3.root.json",
        &by_hash,
        "POST /v2/reg.example/app/_trust/tuf/snapshot.key",
        "GET /v2/reg.example/app/_trust/changefeed?records=-10&change_id=7",
        "GET /v2/%5B::1%5D//evil.example/../_trust/changefeed?records=1",
        "OPTIONS *",
    ];
    fuzz(route::run, &texts(&seeds), 20 * ROUNDS);
}

#[test]
fn updates_that_are_judged_survive_the_fuzzer() {
    // None, one, two and three changes, to each of the files.
    let mut changes = vec![Vec::new()];
    for file in 0..4 {
        changes.extend((1..4).map(|count| [file, 0, 1, 40, 48, 1].repeat(count)));
    }
    fuzz(publish::run, &changes, ROUNDS);
}

#[test]
fn logins_at_a_trust_server_survive_the_fuzzer() {
    let mut seeds = texts(&["Bearer x", "Basic Og==", "Negotiate YII=", "bearer  "]);
    seeds.extend(login::honest().map(String::into_bytes));
    fuzz(login::run, &seeds, 10 * ROUNDS);
}

#[test]
fn access_rules_survive_the_fuzzer() {
    let hash = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let all = format!(
        "token:\n  realm: https://auth.example.com/token\n  service: trust.example.com\n  issuer: auth.example.com\n  \
         jwks: jwks.json\ntokens:\n- {{name: ci, sha256: {hash}}}\nhtpasswd: htpasswd\nclientCertificates: true\n\
         anonymous: [pull]\nrules:\n- {{who: [ci, alice], repositories: [\"registry.example.com/team/\"], actions: \
         [pull, push]}}\n- {{who: [\"*\"], repositories: [\"**\"], actions: [pull]}}\ngunPrefixes: \
         [\"registry.example.com/\"]\nlimits: {{requestsPerSecond: 50, burst: 200, publishesPerMinute: 60, \
         keysPerMinute: 10}}\n"
    );
    let few = "rules:\n- {who: [ci], repositories: ['**'], actions: ['*']}\n";
    fuzz(access::run, &texts(&[&all, few, "", "{}"]), 5 * ROUNDS);
}

#[test]
fn sealed_keys_survive_the_fuzzer() {
    let mut seeds = texts(&[
        "\x01",
        "\x01\x00\x05\x01\x02\x09\x7f",
        "\x02",
        "\x03registry.example.com/team/app",
        "\x03registry.example.com/team/other",
    ]);
    seeds.push([b"\x04".as_slice(), "ab".repeat(32).as_bytes()].concat());
    fuzz(sealed::run, &seeds, 10 * ROUNDS);
}
