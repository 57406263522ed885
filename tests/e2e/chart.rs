//! The Helm chart with Helm, the plain manifests with kustomize, and both on a real API server.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::manifests::{must_be_safe, objects, of_kind, only, pod_specs, rules, words};
use crate::process::{self, eventually, output, part, run, text};
use crate::world::cluster;

/// Controllers retry with growing pauses.
const CONTROLLED: Duration = Duration::from_secs(60);
const NAMESPACE: &str = "countersign-system";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn chart() -> PathBuf {
    root().join("charts/countersign")
}

fn helm(arguments: &[&str]) -> Command {
    let mut command = Command::new(part("HELM"));
    // Nothing of whoever runs the tests.
    let home = process::new_folder("helm");
    command
        .env("HELM_CONFIG_HOME", &home)
        .env("HELM_CACHE_HOME", &home)
        .args(arguments);
    command
}

/// What the chart renders with `arguments`, such as `--set`.
fn template(arguments: &[&str]) -> String {
    let mut command = helm(&["template", "countersign"]);
    run(command
        .arg(chart())
        .args(["--namespace", NAMESPACE])
        .args(arguments))
}

/// The sets of values that the chart is tried with.
fn all_values() -> Vec<PathBuf> {
    let entries = fs::read_dir(chart().join("ci")).unwrap();
    let mut values: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    values.sort();
    assert!(values.len() > 10, "{values:?}");
    values
}

fn file(values: &Path) -> &str {
    values.to_str().unwrap()
}

#[test]
fn helm_finds_nothing_to_complain_about() {
    for values in all_values() {
        let mut command = helm(&["lint", "--strict", "--values", file(&values)]);
        run(command.arg(chart()));
    }
}

/// Checklist 32, 48, 54 and 59, for each set of values.
#[test]
fn whatever_the_values_the_result_is_safe_and_the_same_every_time() {
    for values in all_values() {
        let rendered = template(&["--values", file(&values)]);
        assert_eq!(
            rendered,
            template(&["--values", file(&values)]),
            "{}",
            values.display()
        );
        let namespace = if values.ends_with("full-values.yaml") {
            "trust-system"
        } else {
            NAMESPACE
        };
        must_be_safe(&without_extra_containers(&rendered), namespace);
    }
}

/// Containers of the user's own have limits of the user's own.
fn without_extra_containers(rendered: &str) -> Vec<Value> {
    let mut objects = objects(rendered);
    for object in &mut objects {
        if let Some(Value::Array(containers)) = object.pointer_mut("/spec/template/spec/containers") {
            containers.truncate(1);
        }
    }
    objects
}

/// Checklist 58.
#[test]
fn a_misspelt_or_impossible_value_is_refused() {
    for (setting, named) in [
        ("replica=2", "replica"),
        ("certificates.selfManaged.caLifetim=1h", "caLifetim"),
        ("monitoring.prometheusRule.enable=true", "enable"),
        ("replicas=0", "replicas"),
        ("mode=warn", "mode"),
        ("webhooks.validate.timeoutSeconds=31", "timeoutSeconds"),
        ("webhooks.validate.failurePolicy=ignore", "failurePolicy"),
        ("image.digest=latest", "digest"),
        ("namespaceSelector.strategy=optIn", "strategy"),
        (
            "certificates.mode=provided,certificates.provided.caBundle=x",
            "secretName",
        ),
        ("certificates.mode=provided", "caBundle"),
    ] {
        let mut command = helm(&["template", "countersign", "--set", setting]);
        let output = output(command.arg(chart()));
        let said = text(&output.stderr);
        assert!(
            !output.status.success() && said.contains(named),
            "{setting}: {said}"
        );
    }
}

/// CHT-04: what an operator should think twice about is said after the installation.
#[test]
fn notes_warn_of_what_weakens() {
    let notes = |settings: &str| {
        let mut command = helm(&[
            "install",
            "countersign",
            "--dry-run=client",
            "--set-string",
            settings,
        ]);
        let said = run(command.arg(chart()).args(["--namespace", NAMESPACE]));
        said.split_once("NOTES:").unwrap().1.to_owned()
    };
    let safe = "defaultPolicy.mode=Audit";
    let usual = notes(safe);
    assert!(!usual.contains("WARNING"), "{usual}");
    let names = "validatingwebhookconfiguration,mutatingwebhookconfiguration countersign-countersign-system";
    assert!(usual.contains(names), "{usual}");
    for (settings, warned) in [
        ("commonLabels.a=b", "defaultPolicy is empty"),
        ("defaultPolicy.mode=Audit,mode=audit", "mode is audit"),
        (
            "defaultPolicy.mode=Audit,webhooks.validate.failurePolicy=Ignore",
            "is Ignore",
        ),
        (
            "defaultPolicy.mode=Audit,webhooks.matchConditions[0].name=a,webhooks.matchConditions[0].expression=false",
            "webhooks.matchConditions",
        ),
        (
            "defaultPolicy.mode=Audit,namespaceSelector.strategy=OptOut",
            "OptOut without",
        ),
    ] {
        let notes = notes(settings);
        assert_eq!(notes.matches("WARNING").count(), 1, "{notes}");
        assert!(notes.contains(warned), "{settings}: {notes}");
    }
    for (settings, warned) in [
        ("replicas=1", "One replica"),
        ("guard.enabled=false", "guard.enabled is false"),
        ("hostNetwork=true", "hostNetwork"),
        ("workloadPullSecrets.enabled=true", "workloadPullSecrets"),
    ] {
        let mut command = helm(&["install", "countersign", "--dry-run=client", "--set", settings]);
        let said = run(command.arg(chart()).args(["--namespace", NAMESPACE]));
        assert!(said.contains(&format!("WARNING: {warned}")), "{settings}: {said}");
    }
}

/// CHT-24.
#[test]
fn the_chart_works_as_a_part_of_another() {
    let parent = process::new_folder("parent");
    let description = "apiVersion: v2\nname: platform\nversion: 1.0.0\n";
    fs::write(parent.join("Chart.yaml"), description).unwrap();
    fs::create_dir_all(parent.join("charts")).unwrap();
    run(Command::new("cp")
        .arg("-r")
        .arg(chart())
        .arg(parent.join("charts")));
    let settings = "global.imageRegistry=mirror.example.com,global.other=x,countersign.replicas=2";
    let mut command = helm(&[
        "template",
        "platform",
        "--namespace",
        NAMESPACE,
        "--set",
        settings,
    ]);
    let rendered = objects(&run(command.arg(&parent)));
    must_be_safe(&rendered, NAMESPACE);
    let deployment = only(&rendered, "Deployment");
    assert_eq!(deployment["metadata"]["name"], "platform-countersign");
    assert_eq!(deployment["spec"]["replicas"], 2);
    let image = pod_specs(&rendered)[0]["containers"][0]["image"]
        .as_str()
        .unwrap();
    assert!(image.starts_with("mirror.example.com/"), "{image}");
}

/// Every rule of every role, and every binding.
fn permissions(objects: &[Value]) -> BTreeSet<String> {
    let kinds = ["ClusterRole", "Role"].into_iter();
    let granted = kinds
        .flat_map(|kind| rules(objects, kind))
        .map(|(role, rule)| format!("{role} {rule}"));
    let bindings = ["ClusterRoleBinding", "RoleBinding"]
        .into_iter()
        .flat_map(|kind| of_kind(objects, kind));
    let bound = bindings.map(|binding| {
        let (metadata, role) = (&binding["metadata"], &binding["roleRef"]["name"]);
        format!(
            "{role} bound in {} to {}",
            metadata["namespace"], binding["subjects"]
        )
    });
    granted.chain(bound).collect()
}

/// Checklist 54: a feature adds the rules it needs, and no other value adds any.
#[test]
fn features_add_exactly_the_documented_permissions() {
    let usual = permissions(&objects(&template(&[])));
    let own = r#"[{"kind":"ServiceAccount","name":"countersign","namespace":"countersign-system"}]"#;
    let role = "countersign-countersign-system-pull-secrets";
    let pull_secrets = [
        format!(r#"{role} {{"apiGroups":[""],"resources":["secrets"],"verbs":["get"]}}"#),
        format!(r#"{role} {{"apiGroups":[""],"resources":["serviceaccounts"],"verbs":["get"]}}"#),
    ];
    let bound = |namespace: &str| format!("{role:?} bound in {namespace} to {own}");
    let everywhere = [pull_secrets.to_vec(), vec![bound("null")]].concat();
    let somewhere = [
        pull_secrets.to_vec(),
        vec![bound("\"shop\""), bound("\"staging\"")],
    ]
    .concat();
    for (values, added) in [
        ("default", vec![]),
        ("single", vec![]),
        ("audit", vec![]),
        ("ha", vec![]),
        ("opt-out", vec![]),
        ("host-network", vec![]),
        ("pull-secrets", everywhere),
        ("pull-secrets-namespaces", somewhere),
    ] {
        let values = chart().join(format!("ci/{values}-values.yaml"));
        let found = permissions(&objects(&template(&["--values", file(&values)])));
        let more: BTreeSet<_> = found.difference(&usual).cloned().collect();
        assert_eq!(more, added.into_iter().collect(), "{}", values.display());
        assert!(found.is_superset(&usual), "{}", values.display());
    }
    // Without a Secret and a caBundle of its own, the webhook writes neither.
    for values in ["cert-manager", "provided"] {
        let values = chart().join(format!("ci/{values}-values.yaml"));
        let rendered = objects(&template(&["--values", file(&values)]));
        let roles = [rules(&rendered, "ClusterRole"), rules(&rendered, "Role")].concat();
        let own = roles.iter().filter(|(role, _)| !role.contains("-policy-"));
        for (role, rule) in own {
            let resources = words(&rule["resources"]);
            let writes = words(&rule["verbs"])
                .iter()
                .any(|verb| matches!(*verb, "create" | "update" | "patch"));
            let sensitive = resources
                .iter()
                .any(|name| *name == "secrets" || name.ends_with("webhookconfigurations"));
            assert!(!(writes && sensitive), "{role}: {rule}");
        }
    }
}

/// Checklist 36.
#[test]
fn a_single_replica_can_be_drained() {
    for arguments in [
        ["--set", "replicas=1"],
        ["--set", "autoscaling.enabled=true,autoscaling.minReplicas=1"],
    ] {
        let rendered = objects(&template(&arguments));
        assert!(
            of_kind(&rendered, "PodDisruptionBudget").is_empty(),
            "{arguments:?}"
        );
    }
}

#[test]
fn an_image_by_digest_keeps_its_tag_for_people_to_read() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let image = |settings: &str| {
        let rendered = objects(&template(&["--set", settings]));
        let pods = pod_specs(&rendered);
        let images: BTreeSet<_> = pods
            .iter()
            .map(|pod| pod["containers"][0]["image"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(images.len(), 1, "the Pod of helm test has the same");
        images.into_iter().next().unwrap()
    };
    let version = env!("CARGO_PKG_VERSION");
    let name = "ghcr.io/countersign/countersign";
    assert_eq!(image("replicas=3"), format!("{name}:{version}"));
    assert_eq!(
        image(&format!("image.digest={digest}")),
        format!("{name}:{version}@{digest}")
    );
    assert_eq!(
        image("global.imageRegistry=mirror.example.com,image.tag=1.2"),
        "mirror.example.com/countersign/countersign:1.2"
    );
}

/// CHT-13: user labels in a selector could never be changed again.
#[test]
fn selectors_and_names_of_two_releases_do_not_collide() {
    let other = |release: &str| {
        let mut command = helm(&["template", release]);
        let command = command.arg(chart()).args(["--namespace", "other"]);
        objects(&run(
            command.args(["--set", "crds.enabled=false,commonLabels.a=b,podLabels.c=d"])
        ))
    };
    let (one, two) = (
        objects(&template(&["--set", "crds.enabled=false"])),
        other("second"),
    );
    let names = |objects: &[Value]| -> BTreeSet<String> {
        let own = objects
            .iter()
            .filter(|object| object["metadata"].get("namespace").is_none());
        own.map(|object| format!("{} {}", object["kind"], object["metadata"]["name"]))
            .collect()
    };
    assert_eq!(names(&one).intersection(&names(&two)).count(), 0);
    assert_eq!(names(&one).intersection(&names(&other("countersign"))).count(), 0);
    let selector = &only(&two, "Deployment")["spec"]["selector"]["matchLabels"];
    let keys: Vec<_> = selector.as_object().unwrap().keys().collect();
    let wanted = ["component", "instance", "name"].map(|key| format!("app.kubernetes.io/{key}"));
    assert_eq!(keys, wanted.iter().collect::<Vec<_>>());
}

/// Checklist 58: strictly, by the oldest release that the chart supports, by one between, and by that of these tests.
#[test]
fn rendered_objects_are_valid_in_every_supported_release() {
    let tool = root().join("tests/tools/validate-manifests");
    let validate = |files: &[PathBuf]| {
        let mut command = Command::new(&tool);
        output(
            command
                .arg(part("SCHEMAS"))
                .arg("1.30.0,1.33.0,1.36.0")
                .args(files),
        )
    };
    let mut files = vec![process::write(
        "rendered/crds.yaml",
        template(&["--show-only", "templates/crds.yaml"]),
    )];
    for values in all_values() {
        let rendered = template(&["--values", file(&values), "--set", "crds.enabled=false"]);
        let name = values.file_name().unwrap().to_str().unwrap();
        files.push(process::write(&format!("rendered/{name}"), rendered));
    }
    let valid = validate(&files);
    assert!(valid.status.success(), "{}", text(&valid.stderr));
    // What says yes to everything shows nothing.
    let wrong = template(&["--show-only", "templates/service.yaml"]).replace("targetPort:", "targetPorts:");
    let wrong = validate(&[process::write("rendered/wrong.yaml", wrong)]);
    assert!(
        text(&wrong.stderr).contains("targetPorts"),
        "{}",
        text(&wrong.stderr)
    );
}

/// KUS-04: what is in the repository is what the chart renders.
#[test]
fn the_plain_manifests_are_those_of_the_chart() {
    let folder = process::new_folder("manifests");
    let mut command = Command::new(root().join("tests/tools/render-manifests"));
    run(command.arg(&folder).env("HELM", part("HELM")));
    let mut diff = Command::new("diff");
    let diff = output(
        diff.args(["-r", "--exclude=values.yaml"])
            .arg(root().join("manifests"))
            .arg(&folder),
    );
    assert!(diff.status.success(), "run `make chart`: {}", text(&diff.stdout));
}

fn kustomize(folder: &Path) -> String {
    run(Command::new(part("KUBECTL")).arg("kustomize").arg(folder))
}

/// KUS-06.
#[test]
fn another_namespace_reaches_everything_that_depends_on_it() {
    let folder = process::new_folder("elsewhere");
    run(Command::new("cp")
        .arg("-r")
        .arg(root().join("manifests"))
        .arg(&folder));
    for variation in ["", "overlays/ha", "overlays/audit-only", "overlays/cert-manager"] {
        let variation = folder.join("manifests").join(variation);
        let path = variation.join("kustomization.yaml");
        let kustomization = fs::read_to_string(&path).unwrap();
        let moved = kustomization.replace(&format!("\nnamespace: {NAMESPACE}\n"), "\nnamespace: elsewhere\n");
        fs::write(path, moved).unwrap();
        let built = kustomize(&variation);
        let objects = objects(&built);
        must_be_safe(&objects, "elsewhere");
        assert_eq!(only(&objects, "Namespace")["metadata"]["name"], "elsewhere");
        // Names of what belongs to the cluster, and the flag and the rule that repeat one, may keep the old one.
        let left = built.replace("countersign-countersign-system", "");
        assert!(!left.contains(NAMESPACE), "{}", variation.display());
    }
}

/// The chart on the cluster of all tests, whose namespaces it leaves alone.
fn install(namespace: &str, command: &str, more: &[&str]) -> Command {
    let only = "webhooks.matchConditions[0].name=only-here,webhooks.matchConditions[0].expression=request.namespace=='none'";
    let mut helm = helm(&[command, "charted"]);
    helm.arg("--kubeconfig")
        .arg(&cluster().kubeconfig)
        .arg(chart())
        .args(["--namespace", namespace, "--set-string", only])
        // Others bring the definitions; and nobody listens there, which is known at once.
        .args(["--set", "crds.enabled=false,webhooks.url=https://127.0.0.1:1"])
        .args(more);
    helm
}

/// Checklist 40 and 59, and what is written at run time outlives upgrades and rollbacks (CHT-16, TLS-08).
#[test]
fn a_release_comes_changes_and_goes_without_a_trace() {
    let namespace = "charted";
    cluster().namespace(namespace, &[("pod-security.kubernetes.io/enforce", "restricted")]);
    run(&mut install(namespace, "install", &[]));
    // A controller made them, so Pod Security has admitted them.
    eventually("three Pods", CONTROLLED, || {
        let pods = cluster().get(namespace, "pods");
        (pods["items"].as_array()?.len() == 3).then_some(())
    });
    let probe = objects(&run(&mut install(
        namespace,
        "template",
        &["--show-only", "templates/tests/probe.yaml"],
    )));
    cluster().create(&probe[0]);

    let name = format!("charted-countersign-{namespace}");
    let written = json!({"data": {"tls.key": "c2VjcmV0"}}).to_string();
    cluster().kubectl_ok(&[
        "patch",
        "secret",
        "-n",
        namespace,
        "charted-countersign-ca",
        "-p",
        &written,
    ]);
    let bundle = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": name},
        "webhooks": [{"name": "validate.countersign.dev", "clientConfig": {"caBundle": bundle()}}],
    });
    let apply = ["apply", "--server-side", "--field-manager=countersign-ca"];
    assert!(cluster().kubectl_with(&apply, &bundle).status.success());
    for server_side in ["--server-side=true", "--server-side=false"] {
        run(&mut install(
            namespace,
            "upgrade",
            &["--set", "replicas=2", server_side],
        ));
        let mut back = helm(&["rollback", "charted", "1", "--namespace", namespace, server_side]);
        run(back.arg("--kubeconfig").arg(&cluster().kubeconfig));
        let secret = cluster().get(namespace, "secret/charted-countersign-ca");
        assert_eq!(secret["data"]["tls.key"], "c2VjcmV0", "{server_side}");
        let configuration = cluster().get("", &format!("validatingwebhookconfiguration/{name}"));
        assert_eq!(
            configuration["webhooks"][0]["clientConfig"]["caBundle"],
            bundle["webhooks"][0]["clientConfig"]["caBundle"],
            "{server_side}"
        );
    }

    let mut uninstall = helm(&["uninstall", "charted", "--namespace", namespace]);
    run(uninstall.arg("--kubeconfig").arg(&cluster().kubeconfig));
    let kinds = "validatingwebhookconfiguration,mutatingwebhookconfiguration,validatingadmissionpolicy,\
                 validatingadmissionpolicybinding,clusterrole,clusterrolebinding,secret,configmap,service,deployment,\
                 serviceaccount,role,rolebinding,poddisruptionbudget";
    let left = [
        "get",
        kinds,
        "-A",
        "-o",
        "name",
        "-l",
        "app.kubernetes.io/instance=charted",
    ];
    assert_eq!(cluster().kubectl_ok(&left), "");
}

/// Some authority: the API server wants PEM here.
fn bundle() -> String {
    use base64::Engine as _;
    let identity = crate::pki::issue("chart", &["chart"]);
    base64::engine::general_purpose::STANDARD.encode(fs::read(identity.certificate).unwrap())
}

/// KUS-05 and KUS-08.
#[test]
fn plain_manifests_are_accepted_and_a_second_time_change_nothing() {
    for variation in ["", "overlays/ha", "overlays/audit-only"] {
        let built = kustomize(&root().join("manifests").join(variation));
        // The registration of this one would call for every Pod of the other tests.
        let mut harmless = objects(&built);
        harmless.retain(|object| object["kind"] != "CustomResourceDefinition");
        for object in &mut harmless {
            for entry in object
                .get_mut("webhooks")
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                let never = json!({"name": "never", "expression": "false"});
                entry["matchConditions"].as_array_mut().unwrap().push(never);
            }
        }
        let list = json!({"apiVersion": "v1", "kind": "List", "items": harmless});
        let versions = || {
            let output = cluster().kubectl_with(&["apply", "--server-side", "-o", "json"], &list);
            assert!(output.status.success(), "{variation}: {}", text(&output.stderr));
            let applied: Value = serde_json::from_slice(&output.stdout).unwrap();
            let applied = applied["items"].as_array().unwrap().iter();
            // Controllers write the status of the others.
            let still = applied.filter(|object| object.get("status").is_none());
            still
                .map(|object| format!("{} {}", object["kind"], object["metadata"]["resourceVersion"]))
                .collect::<Vec<_>>()
        };
        assert_eq!(versions(), versions(), "{variation}");
    }
    cluster().kubectl_ok(&["delete", "namespace", NAMESPACE, "--wait=false"]);
    let kinds = "validatingwebhookconfiguration,mutatingwebhookconfiguration,validatingadmissionpolicy,\
                 validatingadmissionpolicybinding,clusterrole,clusterrolebinding";
    cluster().kubectl_ok(&["delete", kinds, "-l", "app.kubernetes.io/instance=countersign"]);
}
