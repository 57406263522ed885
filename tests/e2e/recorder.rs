//! What a client uploads, seen on its way to a trust server.

use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::https::{self, Request};
use crate::pki;
use crate::process::{self, output, text};

/// Passes requests on, and keeps the files of every upload.
#[derive(Debug)]
pub(crate) struct Recorder {
    port: u16,
    uploads: Arc<Mutex<Vec<Uploaded>>>,
}

/// One file of an upload.
#[derive(Debug, Clone)]
pub(crate) struct Uploaded {
    pub(crate) role: String,
    pub(crate) file: String,
}

impl Recorder {
    /// Before the server at this URL.
    pub(crate) fn start(server: &str, name: &str) -> Self {
        let uploads = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&uploads);
        let (server, name) = (server.to_owned(), name.to_owned());
        let port = https::serve(move |request| {
            let answer = forward(&server, &name, request);
            if answer.0.starts_with("200") {
                kept.lock().unwrap().extend(files(request));
            }
            answer
        });
        Self { port, uploads }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// The files of all uploads that the server has taken.
    pub(crate) fn uploads(&self) -> Vec<Uploaded> {
        self.uploads.lock().unwrap().clone()
    }
}

fn forward(server: &str, name: &str, request: &Request) -> (&'static str, String) {
    let mut words = request.head[0].split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let body = process::write(&format!("recorder/{name}.body"), &request.body);
    let mut command = Command::new("curl");
    command
        .args([
            "--silent",
            "--max-time",
            "20",
            "--write-out",
            "\n%{http_code}",
            "--cacert",
        ])
        .arg(pki::authority())
        .args(["--request", method, "--header"])
        .arg(format!(
            "content-type: {}",
            request.header("content-type").unwrap_or("")
        ))
        .arg("--data-binary")
        .arg(format!("@{}", body.display()))
        .arg(format!("{server}{target}"));
    let answer = text(&output(&mut command).stdout);
    let (body, status) = answer.rsplit_once('\n').unwrap();
    let status = match status {
        "200" => "200 OK",
        "400" => "400 Bad Request",
        "404" => "404 Not Found",
        _ => "502 Bad Gateway",
    };
    (status, body.to_owned())
}

/// The parts of a body in many parts; none for any other.
fn files(request: &Request) -> Vec<Uploaded> {
    let kind = request.header("content-type").unwrap_or("");
    let Some((_, boundary)) = kind.split_once("boundary=") else {
        return Vec::new();
    };
    let body = text(&request.body);
    let boundary = format!("--{boundary}");
    let parts = body
        .split(&boundary)
        .filter_map(|part| part.split_once("\r\n\r\n"));
    parts
        .map(|(head, file)| {
            let (_, role) = head.split_once("filename=\"").unwrap();
            Uploaded {
                role: role.split('"').next().unwrap().to_owned(),
                file: file.strip_suffix("\r\n").unwrap().to_owned(),
            }
        })
        .collect()
}
