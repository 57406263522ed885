//! `countersign policy …` and the start of a webhook with a default policy, as processes.

use std::fs;
use std::path::PathBuf;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

const POLICY: &str = r#"apiVersion: countersign.dev/v1alpha1
kind: ClusterTrustPolicy
metadata: {name: default}
spec:
  verifiers:
  - name: acme
    notary:
      server: https://trust.example.com
      root: {trustOnFirstUse: true}
  rules:
  - images: ["docker.io/library/*"]
    verify: {anyOf: [acme]}
  - images: ["**"]
    deny: {message: "not here"}
"#;

/// How a command ended: status, standard output, standard error.
fn run(arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut command = Command::cargo_bin("countersign").unwrap();
    let output = command
        .env_clear()
        .args(arguments)
        .write_stdin(input)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn written(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.yaml");
    fs::write(&path, text).unwrap();
    (folder, path)
}

#[test]
fn lint_is_silent_about_what_is_right_and_lists_all_that_is_not() {
    let (folder, path) = written(POLICY);
    let place = folder.path().to_str().unwrap();
    let (status, out, err) = run(&["policy", "lint", place], "");
    assert_eq!((status, out.as_str()), (Some(0), ""), "{err}");
    assert_eq!(err, "1 policies, 0 errors, 0 warnings\n");

    let bad = POLICY.replace("[acme]", "[acne]").replace(
        "{trustOnFirstUse: true}",
        "{keys: [\"-----BEGIN PUBLIC KEY-----bm8ga2V5-----END PUBLIC KEY-----\"]}",
    );
    fs::write(&path, &bad).unwrap();
    let (status, out, _) = run(&["policy", "lint", place], "");
    let path = path.display();
    let key = "cannot be used: root names what is not a key";
    assert_eq!(status, Some(1));
    for line in [
        format!(
            "error: {path}:12: document 1: spec.rules[0].verify.anyOf[0]: this policy defines no verifier \"acne\", did you mean \"acme\"?"
        ),
        format!("error: {path}:6: document 1: spec.verifiers[0]: {key}"),
        format!(
            "warning: {path}:6: document 1: spec.verifiers[0]: no rule names verifier \"acme\": name it, or take it out"
        ),
    ] {
        assert!(out.lines().any(|found| found.starts_with(&line)), "{line}\n{out}");
    }

    let (status, out, _) = run(&["policy", "lint", "-", "--output", "json"], &bad);
    assert_eq!(status, Some(1));
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&json["policies"], json["findings"].as_array().unwrap().len()),
        (&1.into(), 3)
    );
    let first = &json["findings"][0];
    assert_eq!(first["severity"], "error");
    assert_eq!(first["kind"], "verifier");
    assert_eq!(
        (&first["file"], &first["line"], &first["document"]),
        (&"standard input".into(), &6.into(), &1.into())
    );
    assert_eq!(first["path"], "spec.verifiers[0]");
    assert!(first["message"].as_str().unwrap().starts_with(key));
}

#[test]
fn lint_knows_where_policies_are_going_to_be() {
    let secret = POLICY.replace(
        "      root:",
        "      credentials: {secretRef: {name: login}}\n      root:",
    );
    assert_eq!(run(&["policy", "lint", "-"], &secret).0, Some(0));
    assert_eq!(
        run(&["policy", "lint", "-", "--for", "files"], &secret).0,
        Some(1)
    );
}

#[test]
fn what_cannot_be_read_is_no_finding() {
    for arguments in [
        ["policy", "lint", "/nonexistent/p.yaml"].as_slice(),
        &["policy", "lint"],
        &["policy", "explain", "NOT A REFERENCE", "--policy", "-"],
        &["policy", "explain", "nginx", "--policy", "/nonexistent/p.yaml"],
    ] {
        let (status, out, err) = run(arguments, POLICY);
        assert_eq!((status, out.as_str()), (Some(2), ""), "{arguments:?} {err}");
        assert!(!err.is_empty());
    }
    assert_eq!(
        run(&["policy", "explain", "nginx", "--policy", "-"], "kind: Nonsense").0,
        Some(2)
    );
}

/// CRD-22.
#[test]
fn explain_names_the_rule_that_speaks_for_an_image() {
    let own = "---\napiVersion: countersign.dev/v1alpha1\nkind: TrustPolicy\nmetadata: {name: own, namespace: shop}\n\
               spec:\n  mode: Audit\n  rules: [{images: [\"a.io/x\"], allow: {reason: x}}]\n";
    let all = format!("{POLICY}{own}");
    let explain = |arguments: &[&str]| {
        run(
            &[&["policy", "explain"], arguments, &["--policy", "-"]].concat(),
            &all,
        )
    };
    assert_eq!(
        explain(&["nginx"]),
        (
            Some(0),
            "policy default, rule 1: verify: anyOf acme\n".to_owned(),
            String::new()
        )
    );
    let (status, out, _) = explain(&["quay.io/a/b:1", "--namespace", "shop"]);
    assert_eq!(
        (status, out.as_str()),
        (
            Some(1),
            "policy default, rule 2: deny: not here\n\
             policy shop/own: uncovered: no rule covers the image, so it is denied (mode: Audit, so only a warning)\n"
        )
    );
    let (status, out, _) = explain(&["nginx", "--output", "json"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((status, &json["admits"]), (Some(0), &true.into()));
    assert_eq!(json["reference"], "docker.io/library/nginx:latest");
    assert_eq!(
        json["policies"],
        serde_json::json!([{"policy": "default", "rule": 1, "mode": "Enforce", "action": "verify", "details": "anyOf acme"}])
    );
    let selected = POLICY.replace(
        "spec:\n",
        "spec:\n  namespaceSelector: {matchLabels: {tier: web}}\n",
    );
    let labelled = |arguments: &[&str]| {
        run(
            &[&["policy", "explain", "nginx", "--policy", "-"], arguments].concat(),
            &selected,
        )
        .0
    };
    assert_eq!(labelled(&[]), Some(1), "no policy applies");
    assert_eq!(labelled(&["--label", "tier=web"]), Some(0));
}

/// CRD-21: a default that cannot be used is no default.
#[test]
fn a_webhook_does_not_start_with_a_default_policy_that_cannot_be_used() {
    let kubeconfig = "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{name: a, cluster: {server: 'http://127.0.0.1:9'}}]\n\
                      users: [{name: a, user: {}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n";
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("kubeconfig");
    fs::write(&config, kubeconfig).unwrap();
    let start = |policy: &str| {
        let path = folder.path().join("default.yaml");
        fs::write(&path, policy).unwrap();
        let (path, config, state) = (
            path.to_str().unwrap(),
            config.to_str().unwrap(),
            folder.path().join("tls"),
        );
        run(
            &[
                "webhook",
                "--kube",
                "--kubeconfig",
                config,
                "--default-policy",
                path,
                "--self-signed-dir",
                state.to_str().unwrap(),
            ],
            "",
        )
    };
    let own = POLICY
        .replace("ClusterTrustPolicy", "TrustPolicy")
        .replace("{name: default}", "{name: a, namespace: b}");
    for (policy, why) in [
        (
            POLICY.replace("[acme]", "[acne]"),
            "this policy defines no verifier",
        ),
        (own, "only a ClusterTrustPolicy can stand in"),
        (String::new(), "no policy in it"),
    ] {
        let (status, _, err) = start(&policy);
        assert_eq!(status, Some(2), "{err}");
        assert!(
            err.contains("--default-policy cannot be used") && err.contains(why),
            "{why}: {err}"
        );
    }
    let (status, _, err) = run(&["webhook", "--mode", "warn"], "");
    assert!(
        status == Some(2) && err.contains("enforce or audit is expected"),
        "{err}"
    );
}
