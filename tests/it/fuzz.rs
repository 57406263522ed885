//! The functions of the fuzzer over mutations of the fixtures: few, always the same, in every test run.

use std::fs;
use std::path::{Path, PathBuf};

use crate::fuzz_targets::{canonical, challenge, key_file, metadata, policy, reference, review};

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

/// Runs `target` over `seeds` as they are, then over mutations of each.
fn fuzz(target: fn(&[u8]), seeds: &[Vec<u8>], rounds: usize) {
    assert!(!seeds.is_empty());
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
