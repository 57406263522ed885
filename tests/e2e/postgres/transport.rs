//! Which connections are encrypted, and what a refused one tells.

use std::path::PathBuf;

use countersign::trustserver::storage::Storage as _;
use countersign::trustserver::storage::postgres::{Options, Postgres};
use secrecy::SecretString;

use super::{chain, few, refused};
use crate::pki;
use crate::postgres_server::{PASSWORD, shared};
use crate::process;

const ENCRYPTED: &str = "
    SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
    WHERE datname = current_database() AND application_name = 'countersign'";

#[tokio::test]
async fn tls_is_spoken_with_a_server_that_proves_its_name() {
    for (parameters, encrypted) in [
        // To loopback, nobody is in between.
        ("", "f"),
        ("?sslmode=prefer", "f"),
        ("?sslmode=disable", "f"),
        ("?sslmode=require", "t"),
        ("?sslmode=verify-full", "t"),
    ] {
        let database = shared().database();
        let url = database.url_with(parameters);
        let storage = Postgres::open(&url, trusting(pki::authority())).await.unwrap();
        storage.ping().await.unwrap();
        assert_eq!(database.run(ENCRYPTED), encrypted, "{parameters}");
    }
}

#[tokio::test]
async fn a_socket_needs_no_tls() {
    let database = shared().database();
    let storage = Postgres::open(&database.socket_url(), few()).await.unwrap();
    storage.ping().await.unwrap();
    assert_eq!(database.run(ENCRYPTED), "f");
}

#[tokio::test]
async fn a_server_whose_authority_is_unknown_is_refused() {
    let database = shared().database();
    let error = refused(&database.url_with("?sslmode=require")).await;
    assert!(error.contains("UnknownIssuer"), "{error}");
}

#[tokio::test]
async fn a_server_of_another_name_is_refused() {
    let database = shared().database();
    // The certificate is for 127.0.0.1; `hostaddr` is where the connection goes all the same.
    let port = shared().port();
    let url = database.url_at(
        &format!("elsewhere.example:{port}"),
        "?sslmode=require&hostaddr=127.0.0.1",
    );
    let opened = Postgres::open(&url, trusting(pki::authority())).await;
    let error = chain(&opened.unwrap_err());
    assert!(error.contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn authorities_that_cannot_be_read_are_told() {
    let database = shared().database();
    for (file, content) in [("none.pem", None), ("empty.pem", Some(""))] {
        let path = process::folder().join(file);
        if let Some(content) = content {
            process::write(file, content);
        }
        let opened = Postgres::open(&database.url(), trusting(path)).await;
        let error = chain(&opened.unwrap_err());
        assert!(error.contains(file), "{error}");
    }
}

#[tokio::test]
async fn a_refused_connection_does_not_tell_the_password() {
    let database = shared().database();
    let away = database.url_at("127.0.0.1:1", "");
    let wrong: SecretString =
        format!("postgresql://nobody:{PASSWORD}@127.0.0.1:{}/x", shared().port()).into();
    for url in [away, wrong] {
        let error = Postgres::open(&url, few()).await.unwrap_err();
        for told in [chain(&error), format!("{error:?}")] {
            assert!(told.contains("127.0.0.1"), "{told}");
            assert!(!told.contains(PASSWORD) && !told.contains("s3cret"), "{told}");
        }
    }
}

fn trusting(authorities: PathBuf) -> Options {
    Options {
        authorities: Some(authorities),
        ..few()
    }
}
