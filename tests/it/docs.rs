//! What the documentation says, held against the program.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Command, CommandFactory as _};
use countersign::cli::Cli;
use countersign::policy::PolicySet;
use countersign::telemetry::{Exposition, Metrics, chain};
use countersign::trustserver::access::Access;

/// Files whose words in quotes are reasons, or what surrounds reasons in JSON.
const SPEAKERS: [&str; 8] = [
    "tuf/error.rs",
    "tuf/collection.rs",
    "fetch/error.rs",
    "trust/outcome.rs",
    "trust/combine.rs",
    "admission/finding.rs",
    "admission/ruling.rs",
    "cli/verify.rs",
];
/// Words in quotes in those files that users never read: what the fake of `trust/outcome.rs` is called.
const UNSPOKEN: [&str; 1] = ["acme"];
/// Variables that hold secrets, which no flag may.
const WITHOUT_FLAG: [&str; 2] = ["COUNTERSIGN_SEALING_KEY", "COUNTERSIGN_ARCHIVE_PASSPHRASE"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
    found
}

/// Every page by its path.
fn pages() -> Vec<(PathBuf, String)> {
    let mut paths = files(&root().join("docs"), "md");
    paths.extend(["README.md", "CHANGELOG.md"].map(|name| root().join(name)));
    paths
        .into_iter()
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect()
}

/// The code blocks of a page, each with its language.
fn blocks(page: &str) -> impl Iterator<Item = (&str, &str)> {
    page.split("```")
        .skip(1)
        .step_by(2)
        .filter_map(|block| block.split_once('\n'))
}

/// What stands between single backticks outside of code blocks.
fn spans(page: &str) -> impl Iterator<Item = &str> {
    page.split("```")
        .step_by(2)
        .flat_map(|text| text.split('`').skip(1).step_by(2))
}

/// The command lines of this program on a page, whether as code blocks or in the text, and flags mentioned alone.
fn command_lines(page: &str) -> Vec<String> {
    let blocks = blocks(page)
        .filter(|(language, _)| matches!(*language, "sh" | "console"))
        .flat_map(|(_, block)| {
            let joined = block.replace("\\\n", " ");
            joined
                .lines()
                .map(|line| line.trim_start_matches("$ ").to_owned())
                .collect::<Vec<_>>()
        });
    let spans = spans(page).map(str::to_owned);
    blocks
        .chain(spans)
        .filter(|line| line.starts_with("countersign ") || line.starts_with("--"))
        .collect()
}

fn flags_of(command: &Command) -> BTreeSet<String> {
    let names = command
        .get_arguments()
        .flat_map(|argument| argument.get_long_and_visible_aliases().unwrap_or_default());
    names.map(|name| format!("--{name}")).collect()
}

/// Every command below `command`, however deep.
fn all_commands(command: &Command) -> Vec<Command> {
    let below = command.get_subcommands();
    below
        .flat_map(|command| [vec![command.clone()], all_commands(command)].concat())
        .collect()
}

fn subcommand(name: &str) -> Command {
    Cli::command().find_subcommand(name).unwrap().clone()
}

/// Whole words of `text` that begin with `prefix`.
fn words<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-')))
        .filter(move |word| word.starts_with(prefix))
}

#[test]
fn every_flag_and_variable_that_is_mentioned_exists() {
    let commands = all_commands(&Cli::command());
    let flags: BTreeSet<_> = commands.iter().flat_map(flags_of).collect();
    let variables: BTreeSet<_> = commands
        .iter()
        .flat_map(Command::get_arguments)
        .filter_map(|argument| argument.get_env()?.to_str())
        .collect();
    let tools = read("tests/tools/measure") + &read("tests/tools/provision");
    for (path, page) in pages() {
        for line in command_lines(&page) {
            for flag in words(&line, "--") {
                assert!(flags.contains(flag), "{}: {flag} in {line}", path.display());
            }
        }
        for variable in words(&page, "COUNTERSIGN_").filter(|word| *word != "COUNTERSIGN_") {
            let known =
                variables.contains(variable) || tools.contains(variable) || WITHOUT_FLAG.contains(&variable);
            assert!(known, "{}: {variable}", path.display());
        }
    }
}

#[test]
fn every_flag_is_documented() {
    for (command, page) in [
        ("verify", "docs/verify.md"),
        ("webhook", "docs/operating.md"),
        ("probe", "docs/install.md"),
        ("server", "docs/server.md"),
        ("sandbox", "docs/sandbox.md"),
    ] {
        let text = read(page);
        let mentioned: BTreeSet<_> = spans(&text).collect();
        for flag in flags_of(&subcommand(command)) {
            assert!(
                mentioned.contains(flag.as_str()),
                "{page} does not mention {flag}"
            );
        }
    }
    let text = read("docs/signing.md");
    let mentioned: BTreeSet<_> = spans(&text).collect();
    let trust = subcommand("trust");
    // What `reset` takes is about the state folder, and said there.
    let publishing = all_commands(&trust)
        .into_iter()
        .filter(|command| command.get_name() != "reset");
    for command in publishing {
        for flag in flags_of(&command) {
            let name = command.get_name();
            assert!(
                mentioned.contains(flag.as_str()),
                "docs/signing.md: {flag} of {name}"
            );
        }
    }
    let text = read("docs/server.md");
    let mentioned: BTreeSet<_> = spans(&text).collect();
    for flag in subcommand("server").get_subcommands().flat_map(flags_of) {
        assert!(
            mentioned.contains(flag.as_str()),
            "docs/server.md does not mention {flag}"
        );
    }
    let text = read("docs/policy.md");
    let mentioned: BTreeSet<_> = spans(&text).collect();
    for flag in subcommand("policy").get_subcommands().flat_map(flags_of) {
        assert!(
            mentioned.contains(flag.as_str()),
            "docs/policy.md does not mention {flag}"
        );
    }
}

#[test]
fn documented_metrics_are_those_there_are() {
    let metrics = Metrics::default();
    // What has no series at the start.
    metrics.nearest_metadata_expiry(Some(1));
    metrics.upstream("ping", "2xx", Duration::ZERO);
    metrics.trust_fetch("ok", Duration::ZERO);
    metrics.certificate_not_after("leaf", 1);
    metrics.webhook_configuration_present("mutating", true);
    metrics.mode("enforce");
    metrics.policies("TrustPolicy", 1, 0);
    metrics.policy_generations([("default", 1)]);
    metrics.namespaces("enforce", 1);
    metrics.watch_synced("namespaces", 1);
    metrics.webhook_configuration_weakened("mutating", false);
    metrics.trust_server_expiry("root", 1);
    let text = metrics.encode(Exposition::Classic).unwrap();
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let (there, typed): (BTreeSet<_>, BTreeSet<_>) =
        families.map(|family| family.split_once(' ').unwrap()).unzip();
    assert_eq!(typed, BTreeSet::from(["counter", "gauge", "histogram"]));
    let page = read("docs/operating.md") + &read("docs/server.md");
    let documented: BTreeSet<_> = spans(&page)
        .filter_map(|span| span.split('{').next())
        .filter(|name| name.starts_with("countersign_") || name.starts_with("process_"))
        .collect();
    assert_eq!(documented, there);
}

#[test]
fn every_policy_shown_can_be_used() {
    let mut seen = 0;
    for (path, page) in pages() {
        let policies = blocks(&page).filter(|(_, block)| block.contains("apiVersion: countersign.dev/"));
        for (_, policy) in policies {
            seen += 1;
            if let Err(errors) = PolicySet::parse([(path.clone(), policy.to_owned())]) {
                panic!("{}: {errors:?}", path.display());
            }
        }
    }
    assert!(seen >= 2, "README.md and docs/policy.md show policies");
}

#[test]
fn the_access_file_shown_can_be_used() {
    let page = read("docs/server.md");
    let (_, shown) = blocks(&page).find(|(_, block)| block.contains("rules:")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let beside = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
    beside("access.yaml", shown);
    beside("ca.pem", &certificate.pem());
    beside(
        "jwks.json",
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#,
    );
    beside(
        "htpasswd",
        "alice:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC\n",
    );
    if let Err(error) = Access::read(&folder.path().join("access.yaml")) {
        panic!("docs/server.md: {}", chain(&error));
    }
}

/// Words in quotes in a source file, its tests left out.
fn quoted_words(source: &str) -> BTreeSet<&str> {
    let code = source.split("#[cfg(test)]").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let is_word = |text: &&str| {
        text.len() > 1
            && text
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    lines
        .filter(|line| !line.contains("= \"")) // attributes of flags
        .flat_map(|line| line.split('"').skip(1).step_by(2))
        .filter(is_word)
        .collect()
}

#[test]
fn documented_reasons_are_those_there_are() {
    let sources: Vec<_> = SPEAKERS.iter().map(|file| read(&format!("src/{file}"))).collect();
    let spoken: BTreeSet<_> = sources.iter().flat_map(|source| quoted_words(source)).collect();
    let (page, others) = (read("docs/verify.md"), read("docs/operating.md"));
    let mentioned: BTreeSet<_> = spans(&page).chain(spans(&others)).collect();
    for word in spoken.iter().filter(|word| !UNSPOKEN.contains(word)) {
        assert!(mentioned.contains(word), "no page mentions {word}");
    }
    let (_, tables) = page.split_once("## Reasons").unwrap();
    let first_cells = tables.lines().filter_map(|line| line.strip_prefix("| `"));
    for word in first_cells.filter_map(|line| line.split('`').next()) {
        assert!(spoken.contains(word), "nothing says {word}");
    }
}

#[test]
fn every_test_that_is_cited_exists() {
    let sources = ["tests", "src"].map(|folder| files(&root().join(folder), "rs"));
    let exists = |module: &str, test: &str| {
        sources
            .iter()
            .flatten()
            .filter(|path| path.file_stem().is_some_and(|stem| stem == module))
            .any(|path| {
                fs::read_to_string(path)
                    .unwrap()
                    .contains(&format!("fn {test}()"))
            })
    };
    let page = read("docs/threat-model.md");
    let cited: Vec<_> = spans(&page)
        .filter(|span| !span.starts_with("a::"))
        .filter_map(|span| span.rsplit_once("::"))
        .collect();
    assert!(cited.len() > 50, "the threat model cites its tests");
    for (module, test) in cited {
        let file = module.rsplit("::").next().unwrap();
        assert!(exists(file, test), "there is no test {module}::{test}");
    }
}

#[test]
fn the_checklist_has_all_its_items_and_every_test_it_names_exists() {
    let page = read("docs/operating/checklist.md");
    let items: Vec<_> = page.split("\n- ").skip(1).collect();
    for (number, item) in (1..).zip(&items) {
        let shown = item.starts_with(&format!("☑ **{number}** "));
        assert!(shown || item.starts_with(&format!("☐ **{number}** ")), "{item}");
        let tests: Vec<_> = spans(item).filter_map(|span| span.split_once("::")).collect();
        assert!(!shown || !tests.is_empty(), "{number} names no test");
        for (path, test) in tests {
            assert!(
                read(path).contains(&format!("fn {test}(")),
                "there is no test {path}::{test}"
            );
        }
    }
    assert_eq!(items.len(), 60);
}

/// The anchor of a heading, as forges make it.
fn anchor(heading: &str) -> String {
    let kept = heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .replace(' ', "-");
    kept.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
        .collect()
}

#[test]
fn every_link_within_the_documentation_leads_somewhere() {
    for (path, page) in pages() {
        let links = page.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.starts_with("https://")) {
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                path.clone()
            } else {
                path.parent().unwrap().join(file)
            };
            let text = fs::read_to_string(&target)
                .unwrap_or_else(|error| panic!("{}: {link}: {error}", path.display()));
            let found = text
                .lines()
                .any(|line| line.starts_with('#') && anchor(line) == fragment);
            assert!(fragment.is_empty() || found, "{}: {link}", path.display());
        }
    }
}
