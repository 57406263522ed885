use super::super::tests::{GUN, OTHER, Place, gun, now, passphrases, recorded};
use super::*;
use crate::tuf::Role;

/// The recorded dumps: the same repositories, put into each database by the reference's own code.
const FORMS: [(&str, &str); 5] = [
    ("server.mysql.sql", "signer.mysql.sql"),
    ("server.mysql-hex.sql", "signer.mysql-hex.sql"),
    ("server.pg-copy.sql", "signer.pg-copy.sql"),
    ("server.pg-inserts.sql", "signer.pg-inserts.sql"),
    ("server.sqlite", "signer.sqlite"),
];

async fn import(server: &Path, signer: Option<&Path>, place: &Place) -> Report {
    let dump = Dump::read(server, signer).unwrap();
    let report = dump
        .import(
            &place.storage,
            &place.sealer,
            &passphrases(),
            Over::Nothing,
            now(),
        )
        .await;
    report.unwrap()
}

#[tokio::test]
async fn dumps_of_every_form_give_the_repositories_and_the_signers_keys() {
    for (server, signer) in FORMS {
        let dump = Dump::read(&recorded(server), Some(&recorded(signer))).unwrap();
        assert_eq!(dump.aliases().unwrap(), ["timestamp_1"], "{server}");
        let place = Place::new(1).await;
        let report = import(&recorded(server), Some(&recorded(signer)), &place).await;
        let guns: Vec<_> = report
            .imported
            .iter()
            .map(|moved| moved.imported.gun.as_str())
            .collect();
        // The third was deleted, of which the changefeed tells.
        assert_eq!(guns, [GUN, OTHER], "{server}");
        assert!(
            report.refused.is_empty() && report.left_out.is_empty(),
            "{server}: {report:?}"
        );
        for moved in &report.imported {
            assert!(moved.imported.is_signed_here(), "{server}");
            assert_eq!(moved.imported.held.len(), 2, "{server}");
            assert_eq!((moved.left_behind, moved.keys.len()), (0, 0), "{server}");
        }
        let repository = place.storage.repository(&gun()).await.unwrap().unwrap();
        let current: Vec<_> = repository
            .files
            .iter()
            .map(|(role, file)| (role.as_str(), file.version))
            .collect();
        assert_eq!(
            current,
            [
                ("root", 1),
                ("targets", 4),
                ("snapshot", 4),
                ("timestamp", 4),
                ("targets/alice", 1)
            ],
            "{server}"
        );
        assert_eq!(
            place.storage.versions(&gun()).await.unwrap().len(),
            13,
            "{server}"
        );
        let page = crate::trustserver::storage::Page::Newest(100);
        assert_eq!(
            place.storage.changes(Some(&gun()), page).await.unwrap().len(),
            4,
            "{server}"
        );
    }
}

#[tokio::test]
async fn without_the_signers_dump_a_repository_is_served_and_not_signed() {
    let place = Place::new(1).await;
    let report = import(&recorded("server.pg-copy.sql"), None, &place).await;
    for moved in &report.imported {
        assert!(!moved.imported.is_signed_here());
        assert!(moved.imported.served_until.unwrap() > now());
        let faults: Vec<_> = moved
            .keys
            .iter()
            .map(|fault| (fault.role.as_str(), fault.why))
            .collect();
        assert_eq!(
            faults,
            [("snapshot", WhyNoKey::Absent), ("timestamp", WhyNoKey::Absent)]
        );
    }
    assert!(place.storage.keys(&gun()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_wrong_passphrase_leaves_keys_out_and_says_so() {
    for (passphrases, why) in [
        (BTreeMap::new(), WhyNoKey::Locked),
        (
            BTreeMap::from([("timestamp_1".to_owned(), SecretString::from("another one"))]),
            WhyNoKey::Jwe(JweError::Passphrase),
        ),
    ] {
        let place = Place::new(1).await;
        let dump = Dump::read(&recorded("server.sqlite"), Some(&recorded("signer.sqlite"))).unwrap();
        let report = dump
            .import(&place.storage, &place.sealer, &passphrases, Over::Nothing, now())
            .await;
        let report = report.unwrap();
        assert_eq!(report.imported.len(), 2);
        assert!(
            report
                .imported
                .iter()
                .all(|moved| moved.keys.iter().all(|fault| fault.why == why))
        );
        assert!(place.storage.keys(&gun()).await.unwrap().is_empty());
    }
}

/// A recorded dump with some of its text replaced.
fn changed(name: &str, change: impl FnOnce(String) -> String) -> tempfile::NamedTempFile {
    let text = std::fs::read_to_string(recorded(name)).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), change(text)).unwrap();
    file
}

/// The lines of a `COPY` dump, those of `role` of the first repository changed.
fn with_lines_of(text: &str, role: &str, change: impl Fn(&str) -> String) -> String {
    let lines = text.split_inclusive('\n').map(|line| {
        if line.contains(&format!("\t{GUN}\t{role}\t")) {
            change(line)
        } else {
            line.to_owned()
        }
    });
    lines.collect()
}

#[tokio::test]
async fn one_repository_that_does_not_verify_keeps_no_other_out() {
    // The trap of notary-v1 §3.2: the server took a file that was not in its own spelling, hashed it in that, and serves
    // what nobody can verify.
    let file = changed("server.pg-copy.sql", |text| {
        with_lines_of(&text, "targets", |line| {
            let fields: Vec<_> = line.trim_end_matches('\n').split('\t').collect();
            let fields = fields.iter().map(|field| match *field {
                field if field.starts_with("\\\\x") => format!("{field}0a"),
                // SHA-256 as the server wrote it down, of its own spelling.
                field => field.to_owned(),
            });
            let line: Vec<_> = fields.collect();
            format!("{}\n", line.join("\t"))
        })
    });
    let place = Place::new(1).await;
    let report = import(file.path(), None, &place).await;
    let guns: Vec<_> = report
        .imported
        .iter()
        .map(|moved| moved.imported.gun.as_str())
        .collect();
    assert_eq!(guns, [OTHER]);
    assert_eq!(report.refused.len(), 1);
    let (name, why) = &report.refused[0];
    assert_eq!(name, GUN);
    assert!(
        matches!(why, Unusable::Incomplete { role: Role::Targets }),
        "{why}"
    );
    assert_eq!(report.left_out_count, 3);
    assert!(
        report
            .left_out
            .iter()
            .all(|row| row.why == "its bytes are not those of its SHA-256")
    );
}

#[tokio::test]
async fn rows_that_were_deleted_softly_are_left_out() {
    let file = changed("server.pg-copy.sql", |text| {
        with_lines_of(&text, "targets/alice", |line| {
            line.replacen("\t\\N\t", "\t2026-11-22 20:00:00\t", 1)
        })
    });
    let place = Place::new(1).await;
    let report = import(file.path(), None, &place).await;
    assert_eq!(report.left_out.len(), 1);
    assert_eq!(report.left_out[0].why, "deleted");
    assert_eq!(report.left_out[0].what, format!("{GUN} targets/alice 1"));
    // The snapshot lists the file, so the repository does not verify without it.
    assert_eq!(report.imported.len(), 1);
}

/// What is left out if the lines of one repository's targets are changed in a dump of `COPY`.
async fn left_out_of(change: impl Fn(&str) -> String) -> Vec<LeftOut> {
    let file = changed("server.pg-copy.sql", |text| {
        with_lines_of(&text, "targets", change)
    });
    let place = Place::new(1).await;
    let report = import(file.path(), None, &place).await;
    assert!(!report.is_complete());
    let guns: Vec<_> = report
        .imported
        .iter()
        .map(|moved| moved.imported.gun.as_str())
        .collect();
    assert_eq!(guns, [OTHER]);
    report.left_out
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_left_out_and_ends_nothing() {
    for (change, why) in [
        ("\tno digits\t", "no version"),
        ("\t\\N\t", "its version is missing or cannot be read"),
        ("\t1\t2\t", "its gun is missing or cannot be read"),
    ] {
        let spoiled = |line: &str| {
            let (before, after) = line.split_once("\ttargets\t").unwrap();
            let (_, after) = after.split_once('\t').unwrap();
            format!("{before}\ttargets{change}{after}")
        };
        let left_out = left_out_of(spoiled).await;
        assert_eq!(left_out.len(), 3, "{change:?}: {left_out:?}");
        assert!(
            left_out.iter().all(|row| row.why == why),
            "{change:?}: {left_out:?}"
        );
    }
    let odd = |line: &str| line.replacen("\\\\x7b", "\\\\x7z", 1);
    assert_eq!(
        left_out_of(odd).await[0].why,
        "its bytes are not those of its SHA-256"
    );
}

#[tokio::test]
async fn a_timestamp_whose_row_is_damaged_is_signed_over() {
    let newest = {
        let place = Place::new(1).await;
        import(&recorded("server.pg-copy.sql"), None, &place).await;
        let repository = place.storage.repository(&gun()).await.unwrap().unwrap();
        repository.used[&Role::Timestamp]
    };
    let file = changed("server.pg-copy.sql", |text| {
        with_lines_of(&text, "timestamp", |line| {
            let newest = line.contains(&format!("\ttimestamp\t{newest}\t"));
            let spoiled = line.replacen("\\\\x7b", "\\\\x7c", 1);
            if newest { spoiled } else { line.to_owned() }
        })
    });
    let place = Place::new(1).await;
    let report = import(file.path(), Some(&recorded("signer.pg-copy.sql")), &place).await;
    assert_eq!(report.left_out_count, 1);
    assert_eq!(report.imported[0].imported.current[&Role::Timestamp], newest - 1);
    // Clients may have seen it, so the server signs above it, and at once.
    let repository = place.storage.repository(&gun()).await.unwrap().unwrap();
    assert_eq!(repository.used[&Role::Timestamp], newest);
    assert_eq!(place.storage.due(now(), 10).await.unwrap(), [gun()]);
}

#[test]
fn what_is_staged_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let staging = Staging::new().unwrap();
    let folder = staging.folder().metadata().unwrap();
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn a_dump_that_is_imported_again_changes_nothing() {
    let place = Place::new(1).await;
    import(&recorded("server.sqlite"), None, &place).await;
    let before = place.storage.repository(&gun()).await.unwrap();
    let report = import(&recorded("server.sqlite"), None, &place).await;
    assert!(report.imported.is_empty());
    let exists = |why: &Unusable| matches!(why, Unusable::Refused(InterchangeError::Exists { .. }));
    assert!(report.refused.iter().all(|(_, why)| exists(why)));
    assert_eq!(place.storage.repository(&gun()).await.unwrap(), before);
}

type Rows = Vec<(Table, Vec<Option<String>>)>;

/// Every row of the tables that we know in a dump's text.
fn rows(text: &[u8], dialect: Dialect) -> Result<Rows, DumpError> {
    const COLUMNS: [&str; 4] = ["gun", "role", "version", "data"];
    let mut rows = Vec::new();
    // One byte at a time: nothing may depend on where reads end.
    let mut tokens = Tokens::new(Ahead::new(OneByOne(text)), dialect);
    statement::read(&mut tokens, &mut |table, mut row| {
        let values = COLUMNS.map(|column| {
            row.take(column)
                .map(|value| String::from_utf8_lossy(&value).into_owned())
        });
        rows.push((table, values.to_vec()));
        Ok(())
    })?;
    Ok(rows)
}

struct OneByOne<'a>(&'a [u8]);

impl Read for OneByOne<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let one = self.0.len().min(1);
        let (mut now, later) = self.0.split_at(one);
        self.0 = later;
        now.read(out)
    }
}

fn values(row: &[Option<String>]) -> Vec<&str> {
    row.iter().map(|value| value.as_deref().unwrap_or("-")).collect()
}

#[test]
fn strings_are_read_as_each_database_writes_them() {
    let create = "CREATE TABLE `tuf_files` (`id` int(11) NOT NULL, `gun` varchar(255), `data` longblob,
        `role` varchar(255) DEFAULT ',', `version` int, PRIMARY KEY (`id`), UNIQUE KEY `gun` (`gun`,`role`), KEY `d` (`data`));\n";
    for (dialect, insert, data) in [
        (
            Dialect::MySql,
            r"(1,'a\'b',_binary '\\x7b\n\0\Z','r',2)",
            "\\x7b\n\0\x1a",
        ),
        (Dialect::MySql, "(1,'a''b',0x7B7D,'r',2)", "{}"),
        (Dialect::MySql, "(1,'a''b',X'7B7D','r',2)", "{}"),
        (Dialect::Postgres, r"(1,'a''b','\x7b7d','r',2)", "{}"),
        (Dialect::Postgres, r"(1,E'a\'b','\x7b7d','r',2)", "{}"),
    ] {
        let text = format!(
            "/*!40101 SET x='a;b' */;\n-- it's a comment; INSERT\n{create}INSERT INTO `tuf_files` VALUES {insert};"
        );
        let rows = rows(text.as_bytes(), dialect).unwrap();
        assert_eq!(rows.len(), 1, "{insert}");
        assert_eq!(values(&rows[0].1), ["a'b", "r", "2", data], "{insert}");
    }
}

#[test]
fn columns_are_found_in_whatever_order_they_are() {
    let text = "COPY public.tuf_files (version, data, gun, role) FROM stdin;\n7\t\\\\x7b7d\ta\\tb\\\\\t\\N\n\\.\n\
        SELECT pg_catalog.setval('public.tuf_files_id_seq', 26, true);\n\
        INSERT INTO public.tuf_files (role, version, gun, data) VALUES ('r', 1, 'g', '\\x7b7d');\n\
        INSERT INTO public.schema_migrations VALUES (2, false);\n";
    let rows = rows(text.as_bytes(), Dialect::Postgres).unwrap();
    assert_eq!(values(&rows[0].1), ["a\tb\\", "-", "7", "{}"]);
    assert_eq!(values(&rows[1].1), ["g", "r", "1", "{}"]);
    assert_eq!(rows.len(), 2);
}

#[test]
fn rows_that_are_no_rows_of_ours_are_skipped_however_long() {
    let long = "x".repeat(100_000);
    let text = format!(
        "INSERT INTO `other` VALUES ('{long}'),('it''s; INSERT INTO `tuf_files` VALUES (1)');\nUNLOCK TABLES;"
    );
    assert_eq!(rows(text.as_bytes(), Dialect::MySql).unwrap(), []);
}

#[test]
fn a_dump_that_ends_in_the_middle_is_called_that() {
    for text in [
        "INSERT INTO tuf_files (gun) VALUES ('a",
        "INSERT INTO tuf_files (gun) VALUES ('a')",
        "INSERT INTO tuf_files (gun",
        "CREATE TABLE tuf_files (gun text",
        "COPY tuf_files (gun) FROM stdin;\na\n",
        "COPY tuf_files (gun) FROM stdin;\na",
    ] {
        let error = rows(text.as_bytes(), Dialect::Postgres).unwrap_err();
        assert!(matches!(error, DumpError::Truncated), "{text}: {error}");
    }
}

#[test]
fn rows_of_another_shape_than_their_columns_are_refused() {
    for text in [
        "INSERT INTO tuf_files (gun, role) VALUES ('a')",
        "INSERT INTO tuf_files (gun) VALUES ('a', 'b')",
        "INSERT INTO tuf_files (gun) VALUES (now())",
        "INSERT INTO tuf_files (gun) VALUES ()",
    ] {
        let error = rows(text.as_bytes(), Dialect::Postgres).unwrap_err();
        assert!(matches!(error, DumpError::Statement), "{text}: {error}");
    }
    let error = rows(b"INSERT INTO tuf_files VALUES (1)", Dialect::Postgres).unwrap_err();
    assert!(
        matches!(error, DumpError::Columns { table: "tuf_files" }),
        "{error}"
    );
}

#[test]
fn other_files_are_told_apart_by_their_first_bytes() {
    assert!(matches!(kind(b"PGDMP\x01\x0e"), Err(DumpError::CustomFormat)));
    assert!(matches!(kind(&[0x1f, 0x8b, 8]), Err(DumpError::Packed)));
    assert!(matches!(kind(b"hello"), Err(DumpError::Unknown)));
    assert!(matches!(kind(b""), Err(DumpError::Unknown)));
}
