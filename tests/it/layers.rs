//! The layer table of `lib.rs`, held against the source.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Module → its layer. A module may name modules of lower layers only.
const LAYERS: [(&str, u8); 19] = [
    ("reference", 0),
    ("tuf", 1),
    ("policy", 1),
    ("review", 1),
    ("credential", 1),
    ("fetch", 2),
    ("notary", 3),
    ("registry", 3),
    ("store", 3),
    ("policy_files", 3),
    ("cluster", 3),
    ("keystore", 3),
    ("trust", 4),
    ("admission", 5),
    ("publish", 5),
    ("trustserver", 5),
    ("serve", 6),
    ("sandbox", 7),
    ("cli", 8),
];
/// Modules beside the table, and the lowest layer that may name them.
const BESIDE: [(&str, u8); 2] = [("telemetry", 4), ("clock", 4)];

#[test]
fn modules_use_only_the_layers_below_them() {
    let layers: BTreeMap<_, _> = LAYERS.into_iter().collect();
    let beside: BTreeMap<_, _> = BESIDE.into_iter().collect();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut breaches = Vec::new();
    for file in rust_files(&source) {
        let module = module_of(file.strip_prefix(&source).unwrap());
        if matches!(module.as_str(), "lib" | "main") {
            continue;
        }
        for used in used_modules(&fs::read_to_string(&file).unwrap()) {
            let allowed = used == module
                || match (
                    layers.get(module.as_str()),
                    layers.get(used.as_str()),
                    beside.get(used.as_str()),
                ) {
                    (Some(from), Some(to), None) => to < from,
                    (Some(from), None, Some(least)) => from >= least,
                    (None, Some(to), None) => beside.contains_key(module.as_str()) && *to == 0,
                    _ => false,
                };
            if !allowed {
                breaches.push(format!("{} names crate::{used}", file.display()));
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

#[test]
fn every_module_has_its_place_in_the_table() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    for module in lib
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
    {
        let known = LAYERS
            .iter()
            .map(|(name, _)| name)
            .chain(BESIDE.iter().map(|(name, _)| name))
            .any(|name| *name == module);
        assert!(known, "{module} has no layer");
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// `trust/cache.rs` belongs to `trust`.
fn module_of(path: &Path) -> String {
    let first = path.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The `x` of every `crate::x`, and of every `crate::{x, y::…}`; doc links are left alone.
fn used_modules(text: &str) -> Vec<String> {
    let mut used = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
        for rest in line.split("crate::").skip(1) {
            let names = rest.strip_prefix('{').unwrap_or(rest);
            let group = if rest.starts_with('{') {
                names.split(',').collect()
            } else {
                vec![names]
            };
            for name in group {
                let name: String = name
                    .trim()
                    .chars()
                    .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                    .collect();
                if !name.is_empty() {
                    used.push(name);
                }
            }
        }
    }
    used
}
