use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;

use super::connect::Target;
use super::*;

fn target(url: &str) -> Target {
    Target::parse(&url.to_owned().into()).unwrap()
}

fn chain(error: &StorageError) -> String {
    let first: &dyn std::error::Error = error;
    let causes: Vec<_> = std::iter::successors(Some(first), |error| error.source())
        .map(ToString::to_string)
        .collect();
    causes.join(": ")
}

async fn refused(url: &str) -> String {
    let opened = Postgres::open(&url.to_owned().into(), Options::default()).await;
    chain(&opened.unwrap_err())
}

#[test]
fn only_disable_sends_anything_in_the_clear_to_another_machine() {
    use SslMode::{Disable, Require};
    for (host, unsaid, wished) in [
        ("db.example", Require, Require),
        ("10.0.0.7", Require, Require),
        ("localhost.example", Require, Require),
        ("127.0.0.1,db.example", Require, Require),
        ("127.0.0.1", Disable, Require),
        ("127.9.9.9:6543", Disable, Require),
        ("[::1]", Disable, Require),
        ("localhost", Disable, Require),
        ("%2Frun%2Fpostgresql", Disable, Require),
    ] {
        for (parameters, mode) in [
            ("", &unsaid),
            ("?sslmode=prefer", &unsaid),
            ("?application_name=x", &unsaid),
            ("?sslmode=require", &wished),
            ("?application_name=x&sslmode=verify-ca", &wished),
            ("?sslmode=verify-full&application_name=x", &wished),
            ("?sslmode=disable", &Disable),
        ] {
            let url = format!("postgresql://user:password@{host}/db{parameters}");
            assert_eq!(target(&url).ssl_mode(), *mode, "{url}");
        }
    }
}

#[test]
fn a_name_for_loopback_does_not_hide_an_address_elsewhere() {
    for (url, mode) in [
        ("postgresql://localhost/db?hostaddr=10.0.0.7", SslMode::Require),
        ("postgresql:///db?host=localhost,db.example", SslMode::Require),
        (
            "postgresql:///db?host=localhost&host=db.example",
            SslMode::Require,
        ),
        ("postgresql:///db?host=/run/postgresql", SslMode::Disable),
        ("postgresql://db.example/db?hostaddr=127.0.0.1", SslMode::Disable),
    ] {
        assert_eq!(target(url).ssl_mode(), mode, "{url}");
    }
}

#[test]
fn a_database_is_named_without_its_password() {
    for (url, place) in [
        (
            "postgres://user:s3cret@db.example/trust",
            "postgresql://db.example:5432/trust",
        ),
        (
            "postgresql://user:s3cret@a,b:6543/trust",
            "postgresql://a:5432,b:6543/trust",
        ),
        (
            "postgresql://user@db.example?password=s3cret",
            "postgresql://db.example:5432/user",
        ),
        (
            "postgresql://%2Frun%2Fpg/trust",
            "postgresql:///run/pg:5432/trust",
        ),
        (
            "postgresql:///trust?hostaddr=10.0.0.7&port=6543",
            "postgresql://10.0.0.7:6543/trust",
        ),
    ] {
        assert_eq!(target(url).place(), place, "{url}");
    }
}

#[tokio::test]
async fn what_is_told_of_a_url_that_cannot_be_read_holds_nothing_of_it() {
    for url in [
        "s3cret",
        "mysql://user:s3cret@db.example/trust",
        "host=db.example user=user password=s3cret",
        "postgresql://user:s3cret",
        "postgresql://user:an@s3cret@db.example/trust",
        "postgresql://user:an@s3cret?x=1@db.example/trust",
        "postgresql://user:pass@db.example/trust?s3cret=1",
        "postgresql://user:pass@db.example:s3cret/trust",
        "postgresql://user:pass@db.example/trust?sslmode=s3cret",
        "postgresql:///trust?password=s3cret",
    ] {
        let told = refused(url).await;
        assert!(!told.contains("s3cret"), "{url}: {told}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgresql://user:s3cret@{}/db", listener.local_addr().unwrap());
    let told = timeout(Duration::from_secs(60), refused(&url)).await.unwrap();
    assert!(told.contains("cannot be opened"), "{told}");
}

#[tokio::test]
async fn somebody_in_between_who_denies_tls_gets_no_word_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "postgresql://user:s3cret@{}/db?sslmode=require",
        listener.local_addr().unwrap()
    );
    let between = async {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut request = [0; 8];
        client.read_exact(&mut request).await.unwrap();
        client.write_all(b"N").await.unwrap();
        let mut rest = Vec::new();
        // Closed with or without a reset; either way nothing comes.
        let _ = client.read_to_end(&mut rest).await;
        rest
    };
    let (told, rest) = tokio::join!(refused(&url), between);
    assert!(told.contains("does not support TLS"), "{told}");
    assert_eq!(rest, b"");
}
