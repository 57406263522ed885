//! Credential helpers: `docker-credential-<name> get`, the server on standard input, JSON on standard output.

use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::LoginError;
use crate::credential::{Credential, HelperName, helper_answer};

/// Asks `helper` for the login for `server`; `None` if it has none.
///
/// # Errors
///
/// [`LoginError::Helper`] if it cannot be run, fails, takes too long or says too much.
pub(super) async fn ask(helper: &HelperName, server: &str) -> Result<Option<Credential>, LoginError> {
    let mut command = Command::new(helper.program());
    command.arg("get");
    run(command, helper, server).await
}

async fn run(
    mut command: Command,
    helper: &HelperName,
    server: &str,
) -> Result<Option<Credential>, LoginError> {
    let failed = |source: Option<io::Error>| LoginError::Helper {
        program: helper.program(),
        source: source.map(Arc::new),
    };
    let (success, output) = timeout(PATIENCE, talk(&mut command, server))
        .await
        .map_err(|_| failed(Some(io::ErrorKind::TimedOut.into())))?
        .map_err(|error| failed(Some(error)))?;
    if success {
        Ok(helper_answer(&output)?)
    } else if output.starts_with(NOTHING_KNOWN) {
        Ok(None)
    } else {
        Err(failed(None))
    }
}

/// Whether the program succeeded, and the beginning of what it printed.
async fn talk(command: &mut Command, server: &str) -> io::Result<(bool, Zeroizing<Vec<u8>>)> {
    for secret in PASSPHRASES {
        command.env_remove(secret);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // One that does not read its input may still know the answer.
        let _ = input.write_all(server.as_bytes()).await;
    }
    let mut output = Zeroizing::new(Vec::with_capacity(OUTPUT));
    if let Some(stdout) = child.stdout.take() {
        stdout.take(OUTPUT as u64).read_to_end(&mut output).await?;
    }
    Ok((child.wait().await?.success(), output))
}

/// What a helper has no business with: passphrases of keys, which publishers give by environment (notary-v1 §7.4).
const PASSPHRASES: [&str; 6] = [
    "DOCKER_CONTENT_TRUST_ROOT_PASSPHRASE",
    "DOCKER_CONTENT_TRUST_REPOSITORY_PASSPHRASE",
    "NOTARY_ROOT_PASSPHRASE",
    "NOTARY_TARGETS_PASSPHRASE",
    "NOTARY_SNAPSHOT_PASSPHRASE",
    "NOTARY_DELEGATION_PASSPHRASE",
];
/// How every helper begins to say that it has no login for a server; it fails then.
const NOTHING_KNOWN: &[u8] = b"credentials not found";
/// Helpers that ask a cloud take a second or two.
const PATIENCE: Duration = Duration::from_secs(5);
/// A user and a secret; the longest tokens of clouds have a few KB.
const OUTPUT: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str) -> String {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        match run(command, &"test".parse().unwrap(), "trust.example.com").await {
            Ok(Some(Credential::Basic { user, .. })) => user,
            Ok(Some(Credential::IdentityToken(_) | Credential::RegistryToken(_))) => "token".to_owned(),
            Ok(None) => "nothing".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn a_helper_is_told_the_server_and_tells_the_login() {
        let failed = "the credential helper docker-credential-test failed";
        for (script, want) in [
            (
                r#"read server || true; printf '{"Username":"%s","Secret":"s"}' "$server""#,
                "trust.example.com",
            ),
            (r#"printf '{"Username":"<token>","Secret":"s"}'"#, "token"),
            (r#"exec <&-; printf '{"Username":"deaf","Secret":"s"}'"#, "deaf"),
            (
                "printf 'credentials not found in native keychain'; exit 1",
                "nothing",
            ),
            ("printf 'locked'; exit 1", failed),
            ("printf 'not json'", "this is not JSON as docker writes it"),
        ] {
            assert_eq!(shell(script).await, want, "{script}");
        }
    }

    #[tokio::test]
    async fn a_helper_does_not_see_the_passphrases_of_keys() {
        let mut command = Command::new("/bin/sh");
        let script = r#"printf '{"Username":"u%s","Secret":"s"}' "$DOCKER_CONTENT_TRUST_ROOT_PASSPHRASE$NOTARY_TARGETS_PASSPHRASE""#;
        command.args(["-c", script]);
        for secret in PASSPHRASES {
            command.env(secret, "seen");
        }
        let found = run(command, &"test".parse().unwrap(), "trust.example.com").await;
        assert!(matches!(found, Ok(Some(Credential::Basic { user, .. })) if user == "u"));
    }

    #[tokio::test]
    async fn a_helper_that_never_stops_talking_is_cut_off() {
        let failed = "the credential helper docker-credential-test failed";
        assert_eq!(shell("exec yes").await, failed);
    }

    #[tokio::test]
    async fn a_helper_that_is_not_installed_is_named() {
        let error = ask(&"no-such-helper".parse().unwrap(), "trust.example.com")
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the credential helper docker-credential-no-such-helper failed"
        );
    }
}
