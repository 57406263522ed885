//! The operator's program, which has a key management service wrap and unwrap the data key.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::SealError;
use super::cipher::Secret;

/// A service answers in a second or two; this is for one that has to be logged in to first.
const PATIENCE: Duration = Duration::from_secs(10);
/// What services make of 32 bytes has some hundred, with names of keys and what they were told besides.
const OUTPUT: usize = 64 * 1024;

/// Why a program did not do its part. What it printed is never told: it may be the key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// It cannot be run.
    #[error("it cannot be run")]
    Run(#[from] io::Error),
    /// It took too long, and was ended.
    #[error("it did not answer within {} seconds", PATIENCE.as_secs())]
    Late,
    /// It says that it failed; why is in what it wrote to standard error.
    #[error("it failed ({0})")]
    Failed(ExitStatus),
    /// It printed too much.
    #[error("it printed more than {} KiB", OUTPUT / 1024)]
    Long,
    /// It printed something else than was asked for.
    #[error("it did not print {0} in base64")]
    Answer(&'static str),
}

pub(super) async fn wrap(program: &Path, data_key: &Secret) -> Result<Vec<u8>, SealError> {
    let wrapped = ask(program, "wrap", data_key.bytes()).await.and_then(|wrapped| {
        let any = !wrapped.is_empty();
        any.then(|| wrapped.to_vec())
            .ok_or(ProgramError::Answer("a wrapped key"))
    });
    wrapped.map_err(failed(program, "wrap"))
}

pub(super) async fn unwrap(program: &Path, wrapped: &[u8]) -> Result<Secret, SealError> {
    let data_key = ask(program, "unwrap", wrapped)
        .await
        .and_then(|plain| Secret::of(&plain).ok_or(ProgramError::Answer("a key of 32 bytes")));
    data_key.map_err(failed(program, "unwrap"))
}

fn failed(program: &Path, verb: &'static str) -> impl FnOnce(ProgramError) -> SealError {
    move |source| SealError::Program {
        program: program.into(),
        verb,
        source,
    }
}

async fn ask(
    program: &Path,
    verb: &'static str,
    question: &[u8],
) -> Result<Zeroizing<Vec<u8>>, ProgramError> {
    let question = Zeroizing::new(BASE64_STANDARD.encode(question));
    let talk = talk(program, verb, question.as_bytes());
    let printed = timeout(PATIENCE, talk).await.map_err(|_| ProgramError::Late)??;
    let mut answer = Zeroizing::new(Vec::with_capacity(printed.len()));
    let decoded = BASE64_STANDARD.decode_vec(printed.trim_ascii(), &mut answer);
    decoded.map_err(|_| ProgramError::Answer("anything"))?;
    Ok(answer)
}

/// What the program prints. One that is given up is ended.
async fn talk(
    program: &Path,
    verb: &'static str,
    question: &[u8],
) -> Result<Zeroizing<Vec<u8>>, ProgramError> {
    // What it has to say of its troubles goes where ours goes.
    let mut child = Command::new(program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    let asking = async {
        if let Some(mut input) = input {
            // One that does not read what it is asked will be told by its answer.
            let _ = input.write_all(question).await;
        }
    };
    let listening = async {
        // One byte more, so that too much is told from just enough; never moved while it grows.
        let mut printed = Zeroizing::new(Vec::with_capacity(OUTPUT + 1));
        if let Some(output) = output {
            output.take(OUTPUT as u64 + 1).read_to_end(&mut printed).await?;
        }
        Ok::<_, io::Error>(printed)
    };
    let ((), printed) = tokio::join!(asking, listening);
    let printed = printed?;
    if printed.len() > OUTPUT {
        return Err(ProgramError::Long);
    }
    let status = child.wait().await?;
    if status.success() {
        Ok(printed)
    } else {
        Err(ProgramError::Failed(status))
    }
}
