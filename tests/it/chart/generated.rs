//! What is made from something else, held against it. With `COUNTERSIGN_REWRITE=1` it is made anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::values::Node;

fn chart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/countersign")
}

fn read(path: &str) -> String {
    fs::read_to_string(chart().join(path)).unwrap()
}

/// Demands that a file of the chart says `wanted`, or makes it so when asked to.
fn must_be(path: &str, wanted: &str) {
    let path = chart().join(path);
    if std::env::var_os("COUNTERSIGN_REWRITE").is_some() {
        fs::write(path, wanted).unwrap();
        return;
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == wanted,
        "{} is out of date: run `make chart`",
        path.display()
    );
}

fn values() -> Node {
    Node::parse(&read("values.yaml"))
}

#[test]
fn the_schema_is_that_of_the_values() {
    let mut schema = values().schema();
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!("Values of the chart countersign");
    must_be(
        "values.schema.json",
        &(serde_json::to_string_pretty(&schema).unwrap() + "\n"),
    );
}

#[test]
fn the_readme_lists_every_value() {
    let mut table = "| value | type | default | description |\n| --- | --- | --- | --- |\n".to_owned();
    for value in values().described() {
        let default = serde_json::to_string(&value.default).unwrap().replace('|', "\\|");
        let description = value.description.as_deref().unwrap().replace('|', "\\|");
        let (path, kind) = (value.path.join("."), value.kind());
        writeln!(table, "| `{path}` | {kind} | `{default}` | {description} |").unwrap();
    }
    let readme = read("README.md");
    let (before, rest) = readme.split_once("<!-- values: begin -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- values: end -->\n").unwrap();
    must_be(
        "README.md",
        &format!("{before}<!-- values: begin -->\n{table}<!-- values: end -->\n{after}"),
    );
}

#[test]
fn the_definitions_are_those_the_program_prints() {
    let output = assert_cmd::Command::cargo_bin("countersign")
        .unwrap()
        .arg("crds")
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut files = BTreeMap::new();
    for document in text.split("---\n").filter(|document| !document.is_empty()) {
        let definition: Value = serde_saphyr::from_str(document).unwrap();
        let name = definition["metadata"]["name"].as_str().unwrap();
        files.insert(format!("{name}.yaml"), document.to_owned());
    }
    let folder = fs::read_dir(chart().join("files/crds")).unwrap();
    for there in folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
        assert!(files.contains_key(&there), "no definition is called {there}");
    }
    for (name, document) in files {
        must_be(&format!("files/crds/{name}"), &document);
    }
}

#[test]
fn chart_and_program_have_the_same_version() {
    let chart: Value = serde_saphyr::from_str(&read("Chart.yaml")).unwrap();
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    let images = chart["annotations"]["artifacthub.io/images"].as_str().unwrap();
    assert!(
        images.contains(&format!(":{}\n", env!("CARGO_PKG_VERSION"))),
        "{images}"
    );
}
