use serde_json::json;

use super::*;

fn pod(spec: &Value) -> Value {
    json!({"metadata": {"name": "p"}, "spec": spec})
}

fn seen(object: &Value, old: Option<&Value>) -> Vec<(String, bool)> {
    extract(object, old, POD_ROOT)
        .unwrap()
        .into_iter()
        .map(|image| (image.pointer.clone(), image.changed()))
        .collect()
}

/// ADM-17, ADM-44.
#[test]
fn every_list_is_read_in_order() {
    let object = pod(&json!({
        "volumes": [{"name": "cfg", "configMap": {"name": "x"}}, {"name": "data", "image": {"reference": "v:1"}}],
        "ephemeralContainers": [{"name": "dbg", "image": "e:1"}],
        "containers": [{"name": "a", "image": "c:1"}, {"name": "b", "image": "c:2"}],
        "initContainers": [{"name": "i", "image": "i:1", "restartPolicy": "Always"}],
    }));
    let images = extract(&object, None, POD_ROOT).unwrap();
    let seen: Vec<_> = images
        .iter()
        .map(|image| format!("{} {} {} {}", image.pointer, image.list, image.name, image.image))
        .collect();
    assert_eq!(
        seen,
        [
            "/spec/containers/0/image container a c:1",
            "/spec/containers/1/image container b c:2",
            "/spec/initContainers/0/image init container i i:1",
            "/spec/ephemeralContainers/0/image ephemeral container dbg e:1",
            "/spec/volumes/1/image/reference volume data v:1",
        ]
    );
    for image in &images {
        assert_eq!(object.pointer(&image.pointer).unwrap(), image.image.as_str());
    }
}

/// ADM-30, ADM-31.
#[test]
fn an_entry_changed_unless_its_list_and_name_had_the_same_bytes() {
    let old = pod(&json!({
        "containers": [{"name": "a", "image": "x:1"}, {"name": "b", "image": "y:1"}],
        "initContainers": [{"name": "a", "image": "z:1"}],
    }));
    let new = |spec: &Value| seen(&pod(spec), Some(&old));
    let at = |list: &str, index: usize, changed| (format!("/spec/{list}/{index}/image"), changed);
    for (label, spec, want) in [
        (
            "reordered",
            json!({"containers": [{"name": "b", "image": "y:1"}, {"name": "a", "image": "x:1"}]}),
            vec![at("containers", 0, false), at("containers", 1, false)],
        ),
        (
            "another image",
            json!({"containers": [{"name": "a", "image": "x:2"}]}),
            vec![at("containers", 0, true)],
        ),
        (
            "only spelled otherwise",
            json!({"containers": [{"name": "a", "image": "docker.io/library/x:1"}]}),
            vec![at("containers", 0, true)],
        ),
        (
            "a new name",
            json!({"containers": [{"name": "c", "image": "x:1"}]}),
            vec![at("containers", 0, true)],
        ),
        (
            "names swapped",
            json!({"containers": [{"name": "a", "image": "y:1"}, {"name": "b", "image": "x:1"}]}),
            vec![at("containers", 0, true), at("containers", 1, true)],
        ),
        (
            "moved to another list",
            json!({"ephemeralContainers": [{"name": "a", "image": "x:1"}]}),
            vec![at("ephemeralContainers", 0, true)],
        ),
        (
            "one name twice",
            json!({"containers": [{"name": "a", "image": "x:1"}, {"name": "a", "image": "evil"}]}),
            vec![at("containers", 0, false), at("containers", 1, true)],
        ),
    ] {
        assert_eq!(new(&spec), want, "{label}");
    }
}

#[test]
fn a_stored_object_that_cannot_be_read_leaves_everything_changed() {
    let object = pod(&json!({"containers": [{"name": "a", "image": "x:1"}]}));
    for old in [json!(null), json!("x"), json!({"spec": {"containers": "x"}})] {
        assert_eq!(
            seen(&object, Some(&old)),
            [("/spec/containers/0/image".to_owned(), true)],
            "{old}"
        );
    }
}

/// ADM-11, ADM-18.
#[test]
fn null_and_missing_are_empty() {
    let object = pod(&json!({
        "containers": [{"name": "a"}, {"name": "b", "image": null}, {"image": "x"}],
        "initContainers": null,
        "volumes": [{"name": "n", "image": null}, {"name": "v", "image": {}}, {"name": "w", "image": {"reference": null}}],
    }));
    let images = extract(&object, None, POD_ROOT).unwrap();
    let texts: Vec<_> = images
        .iter()
        .map(|image| (image.name.as_str(), image.text()))
        .collect();
    assert_eq!(texts, [("a", ""), ("b", ""), ("", "x"), ("v", ""), ("w", "")]);
}

/// ADM-67.
#[test]
fn an_object_of_the_wrong_shape_is_unreadable() {
    for (object, want) in [
        (json!("pod"), "no readable object"),
        (json!({}), "no specification"),
        (json!({"spec": null}), "no specification"),
        (json!({"spec": []}), "/spec is not an object"),
        (
            json!({"spec": {"containers": {}}}),
            "/spec/containers is not a list",
        ),
        (
            json!({"spec": {"containers": [7]}}),
            "/spec/containers/0 is not an object",
        ),
        (
            json!({"spec": {"containers": [{"image": ["x"]}]}}),
            "/spec/containers/0 is not text",
        ),
        (
            json!({"spec": {"containers": [{"name": 1, "image": "x"}]}}),
            "/spec/containers/0 is not text",
        ),
        (
            json!({"spec": {"volumes": [{"image": "x"}]}}),
            "/spec/volumes/0 is not an object",
        ),
    ] {
        let got = extract(&object, None, POD_ROOT).unwrap_err().to_string();
        assert!(got.contains(want), "{object}: {got}");
    }
}

#[test]
fn a_template_that_is_missing_has_no_images() {
    for object in [
        json!({"spec": {}}),
        json!({"spec": {"template": null}}),
        json!({}),
    ] {
        assert_eq!(
            extract(&object, None, "/spec/template/spec"),
            Ok(Vec::new()),
            "{object}"
        );
    }
}

#[test]
fn more_images_than_can_be_verified_are_refused_unless_they_are_unchanged() {
    let containers: Vec<_> = (0..=MAX_IMAGES)
        .map(|i| json!({"name": format!("c{i}"), "image": "x:1"}))
        .collect();
    let object = pod(&json!({"containers": containers}));
    let read = |old| changed(extract(&object, old, POD_ROOT).unwrap());
    assert_eq!(
        read(None),
        Err(Unreadable::TooMany {
            count: MAX_IMAGES + 1
        })
    );
    assert_eq!(read(Some(&object)), Ok(Vec::new()));
}
