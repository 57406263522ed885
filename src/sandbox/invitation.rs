//! What to try by hand: the environment of a shell, a policy, a review, a registration, and commands that work as printed.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use super::api_server::{Pod, review};
use super::folder::{Folder, FolderError, Ports};
use super::keys::PASSPHRASE;
use super::story::{CLIFFS, LATEST, Namespace, Printer, SIGNED};

/// Who is there to talk to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) folder: &'a Folder,
    pub(super) ports: Ports,
    /// The folder of this program, if a shell would not find it.
    pub(super) program: Option<&'a Path>,
}

/// What a shell needs to know, by name.
type Environment = Vec<(&'static str, String)>;

impl Place<'_> {
    /// The registry, as images name it.
    pub(super) fn registry(&self) -> String {
        format!("localhost:{}", self.ports.registry)
    }

    /// The trust server's URL.
    pub(super) fn trust_server(&self) -> String {
        format!("https://localhost:{}", self.ports.trust_server)
    }

    /// The webhook's URL.
    pub(super) fn webhook(&self) -> String {
        format!("https://localhost:{}", self.ports.webhook)
    }

    /// The authority of both, as PEM.
    pub(super) fn authority(&self) -> Result<String, FolderError> {
        self.folder.read(AUTHORITY)
    }

    /// Writes the policy that the webhook serves by, and the key it pins; an earlier one stays as it was left.
    pub(super) fn lay_out_policy(&self, root_pem: &str) -> Result<PathBuf, FolderError> {
        self.folder.write(ROOT_KEY, root_pem)?;
        let path = self.folder.join(POLICY);
        if path.exists() {
            return Ok(path);
        }
        let text = self.policy(&self.authority()?, root_pem);
        self.folder.write(POLICY, &text)
    }

    /// Writes everything else that commands name.
    pub(super) fn lay_out(&self) -> Result<(), FolderError> {
        let authority = self.authority()?;
        let docker = format!("docker/tls/localhost:{}/ca.crt", self.ports.trust_server);
        self.folder.write(&docker, &authority)?;
        if !self.folder.join(DOCKER_CONFIG).exists() {
            self.folder.write(DOCKER_CONFIG, "{}\n")?;
        }
        let pod = Pod {
            namespace: Namespace::Enforced.name(),
            image: format!("{}/{LATEST}", self.registry()),
        };
        let review = review("00000000-0000-4000-8000-000000000000", &pod);
        let review = serde_json::to_string_pretty(&review).unwrap_or_default();
        self.folder.write(REVIEW, &format!("{review}\n"))?;
        self.folder.write(REGISTRATION, &self.registration(&authority))?;
        let mut exports = String::new();
        for (name, value) in self.environment() {
            let _infallible = writeln!(exports, "export {name}={}", quoted(&value));
        }
        if let Some(program) = self.program {
            let program = quoted(&program.display().to_string());
            let _infallible = writeln!(exports, "export PATH={program}:\"$PATH\"");
        }
        self.folder.write(ENVIRONMENT, &exports).map(drop)
    }

    /// Says who is there.
    pub(super) fn introduce(&self, printer: &mut Printer<'_>) -> io::Result<()> {
        printer.heading("Content trust in one process, on loopback")?;
        printer.entry("registry", &format!("http://{}", self.registry()))?;
        printer.entry("trust server", &self.trust_server())?;
        let audited = Namespace::Audited.name();
        printer.entry(
            "webhook",
            &format!("{} (namespace {audited} only audits)", self.webhook()),
        )?;
        printer.entry("folder", &self.folder.path().display().to_string())?;
        printer.line("")
    }

    /// Says what to type.
    pub(super) fn invite(&self, printer: &mut Printer<'_>) -> io::Result<()> {
        let file = |name: &str| quoted(&self.folder.join(name).display().to_string());
        let registry = self.registry();
        printer.heading("Now you, in another terminal")?;
        printer.command(&format!(". {}", file(ENVIRONMENT)))?;
        printer.line("\nwhich says\n")?;
        for (name, value) in self.environment() {
            printer.line(&format!("   export {name}={}", quoted(&value)))?;
        }
        printer.line("\nAsk as the webhook does, look, sign what was not signed, and ask again:\n")?;
        for command in [
            format!("countersign verify {registry}/{LATEST}"),
            format!("countersign trust inspect {registry}/{SIGNED}"),
            format!("countersign trust sign {registry}/{CLIFFS}"),
            format!("countersign verify {registry}/{CLIFFS}"),
        ] {
            printer.command(&command)?;
        }
        printer.line("\nSend the webhook a review; edit it, or the policy, and send it again:\n")?;
        for path in ["mutate", "validate"] {
            let (review, webhook) = (file(REVIEW), self.webhook());
            printer.command(&format!(
                "curl --cacert \"$COUNTERSIGN_CA\" --json @{review} {webhook}/{path}"
            ))?;
        }
        printer.command(&format!("countersign policy lint {}", file(POLICY)))?;
        printer.line("\nPush images of your own:\n")?;
        printer.command(&format!("docker push {registry}/acme/app:1.0"))?;
        printer.command(&format!(
            "skopeo copy --dest-tls-verify=false oci:IMAGE docker://{registry}/acme/app:1.0"
        ))?;
        printer.line("\nWith a cluster whose API server runs on this machine:\n")?;
        printer.command(&format!("kubectl apply -f {}", file(REGISTRATION)))?;
        for namespace in Namespace::ALL {
            let (name, mode) = (namespace.name(), namespace.mode());
            printer.command(&format!("kubectl create namespace {name}"))?;
            printer.command(&format!(
                "kubectl label namespace {name} countersign.dev/mode={mode}"
            ))?;
        }
        let (name, image) = (Namespace::Enforced.name(), format!("{registry}/{CLIFFS}"));
        printer.command(&format!("kubectl --namespace {name} run web --image {image}"))?;
        printer.line("\nCtrl-C ends it.")?;
        if self.folder.is_temporary() {
            printer.line(
                "Nothing stays behind. --dir DIR keeps keys, signatures and policy for the next time.",
            )?;
        }
        Ok(())
    }

    /// What commands read, docker's and notary's among them.
    fn environment(&self) -> Environment {
        let path = |name: &str| self.folder.join(name).display().to_string();
        let passphrases = [
            "DOCKER_CONTENT_TRUST_ROOT_PASSPHRASE",
            "DOCKER_CONTENT_TRUST_REPOSITORY_PASSPHRASE",
        ];
        let mut environment = vec![
            ("COUNTERSIGN_TRUST_SERVER", self.trust_server()),
            ("COUNTERSIGN_CA", path(AUTHORITY)),
            ("COUNTERSIGN_ROOT_KEY", path(ROOT_KEY)),
            ("COUNTERSIGN_STATE_DIR", path(SEEN)),
            ("DOCKER_CONFIG", path(DOCKER)),
            ("DOCKER_CONTENT_TRUST_SERVER", self.trust_server()),
        ];
        environment.extend(passphrases.map(|name| (name, PASSPHRASE.to_owned())));
        environment
    }

    fn policy(&self, authority: &str, root_pem: &str) -> String {
        let (registry, server) = (self.registry(), self.trust_server());
        let (authority, root) = (indented(authority, 10), indented(root_pem, 10));
        format!(
            "\
apiVersion: countersign.dev/v1alpha1
kind: ClusterTrustPolicy
metadata: {{name: sandbox}}
spec:
  verifiers:
  - name: sandbox
    notary:
      server: {server}
      ca:
        pem: |
{authority}      root:
        keys:
        - |
{root}  rules:
  - images: [\"{registry}/**\"]
    verify: {{anyOf: [sandbox]}}
  - images: [\"**\"]
    deny: {{message: \"only images of {registry} run in the sandbox\"}}
"
        )
    }

    /// The webhook as a cluster is told of it; which path is asked is for the label of a namespace to say.
    fn registration(&self, authority: &str) -> String {
        use base64::Engine as _;
        use base64::engine::general_purpose::STANDARD;
        let bundle = STANDARD.encode(authority);
        let entry = |path: &str, mode: Namespace| {
            let (url, mode) = (self.webhook(), mode.mode());
            format!(
                "\
- name: {path}.sandbox.countersign.dev
  admissionReviewVersions: [v1]
  clientConfig: {{url: \"{url}/{path}\", caBundle: {bundle}}}
  namespaceSelector: {{matchLabels: {{countersign.dev/mode: {mode}}}}}
  sideEffects: None
  timeoutSeconds: 10
  rules:
  - {{apiGroups: [\"\"], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods, pods/ephemeralcontainers]}}
"
            )
        };
        format!(
            "\
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {{name: countersign-sandbox}}
webhooks:
{}---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {{name: countersign-sandbox}}
webhooks:
{}{}",
            entry("mutate", Namespace::Enforced),
            entry("validate", Namespace::Enforced),
            entry("audit", Namespace::Audited),
        )
    }
}

/// Every line with so many blanks before it.
fn indented(text: &str, by: usize) -> String {
    let indent = " ".repeat(by);
    text.lines()
        .flat_map(|line| [indent.as_str(), line, "\n"])
        .collect()
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/:.-_+,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Where docker keeps its configuration.
pub(super) const DOCKER: &str = "docker";
/// What publishers and `verify` have seen.
pub(super) const SEEN: &str = "state";
/// Where both servers have their certificates.
pub(super) const TLS: &str = "tls";
const AUTHORITY: &str = "tls/ca.crt";
const DOCKER_CONFIG: &str = "docker/config.json";
const ENVIRONMENT: &str = "env";
const POLICY: &str = "policy.yaml";
const REGISTRATION: &str = "registration.yaml";
const REVIEW: &str = "review.json";
/// The root key that the policy pins.
pub(super) const ROOT_KEY: &str = "root.pem";

#[cfg(test)]
mod tests {
    use k8s_openapi::api::admissionregistration::v1::{
        MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
    };
    use serde_json::Value;

    use super::super::keys::Keys;
    use super::*;
    use crate::keystore::KeyStore;
    use crate::policy::PolicySet;

    const PORTS: Ports = Ports {
        registry: 5000,
        trust_server: 5001,
        webhook: 5002,
    };

    fn place(folder: &Folder) -> Place<'_> {
        Place {
            folder,
            ports: PORTS,
            program: None,
        }
    }

    #[tokio::test]
    async fn the_policy_can_be_used_and_is_not_written_over() {
        let folder = Folder::open(None).unwrap();
        let store = KeyStore::new(&folder.join(DOCKER));
        let gun = "localhost:5000/docker/trusttest".parse().unwrap();
        let root = Keys::ready(store, &gun, None).await.unwrap().root_pem().unwrap();
        let authority = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        folder.write(AUTHORITY, &authority.cert.pem()).unwrap();
        let path = place(&folder).lay_out_policy(&root).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let policies = PolicySet::parse([(path.clone(), text)]).unwrap();
        assert_eq!(policies.policies().len(), 1);
        folder.write(POLICY, "mine").unwrap();
        place(&folder).lay_out_policy(&root).unwrap();
        assert_eq!(folder.read(POLICY).unwrap(), "mine");
    }

    #[test]
    fn the_registration_is_what_an_api_server_takes() {
        let folder = Folder::open(None).unwrap();
        let text = place(&folder).registration("-----BEGIN CERTIFICATE-----\n");
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        let [mutating, validating] = documents.try_into().unwrap();
        let mutating: MutatingWebhookConfiguration = serde_json::from_value(mutating).unwrap();
        let validating: ValidatingWebhookConfiguration = serde_json::from_value(validating).unwrap();
        let mutating = mutating.webhooks.unwrap();
        let validating = validating.webhooks.unwrap();
        let urls = mutating
            .iter()
            .map(|entry| &entry.client_config)
            .chain(validating.iter().map(|entry| &entry.client_config))
            .map(|config| config.url.clone().unwrap());
        let paths = ["mutate", "validate", "audit"];
        assert!(urls.eq(paths.map(|path| format!("https://localhost:5002/{path}"))));
    }

    #[test]
    fn words_that_a_shell_would_take_apart_are_quoted() {
        for (word, want) in [
            ("/tmp/a.b", "/tmp/a.b"),
            ("https://localhost:1", "https://localhost:1"),
            ("/tmp/a b", "'/tmp/a b'"),
            ("it's", r"'it'\''s'"),
            ("$(reboot)", "'$(reboot)'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), want);
        }
    }
}
