//! Whatever the object: a patch touches images only, applies, and has nothing left to do (ADM-42, ADM-64).

use proptest::prelude::*;

use super::templates::{RESOURCES, around};
use super::*;

const LISTS: [&str; 4] = ["containers", "initContainers", "ephemeralContainers", "volumes"];

fn image() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => "(r\\.example(:5000)?/)?[a-z]{1,3}(/[a-z]{1,3})?(:[a-f0-9.]{1,4})?".prop_map(Value::from),
        1 => "[ a-z]{0,3}:?(bad|down)?".prop_map(Value::from),
        1 => Just(json!(pinned("r.example/app:1"))),
        1 => Just(json!(pinned("app"))),
        1 => "\\PC{0,8}".prop_map(Value::from),
        1 => Just(Value::Null),
    ]
}

fn entry(list: &'static str) -> impl Strategy<Value = Value> {
    (image(), "[a-c~/]{0,2}", any::<bool>()).prop_map(move |(image, name, extra)| {
        let mut entry = json!({"name": name, "tomorrow": extra});
        entry["image"] = match (list, extra) {
            ("volumes", true) => json!({"reference": image, "pullPolicy": "Always"}),
            ("volumes", false) => Value::Null,
            _ => image,
        };
        entry
    })
}

fn some_pod() -> impl Strategy<Value = Value> {
    let list = |name: &'static str| prop::collection::vec(entry(name), 0..5);
    (list(LISTS[0]), list(LISTS[1]), list(LISTS[2]), list(LISTS[3])).prop_map(|(a, b, c, d)| {
        json!({
            "metadata": {"name": "p", "annotations": {"a/b~c": "image"}},
            "spec": {"containers": a, "initContainers": b, "ephemeralContainers": c, "volumes": d, "new": [{"image": 1}]},
        })
    })
}

/// The object with every image string taken out.
fn without_images(object: &Value, root: &str) -> Value {
    let mut rest = object.clone();
    for image in images::extract(object, None, root).unwrap() {
        if let Some(text) = rest.pointer_mut(&image.pointer) {
            *text = Value::Null;
        }
    }
    rest
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

proptest! {
    /// ADM-40…44, ADM-64, checklist 21 and 26.
    #[test]
    fn a_patch_changes_images_only_and_once(object in some_pod(), old in prop::option::of(some_pod())) {
        let review_of = |object: &Value| match &old {
            Some(old) => review("pods", "UPDATE", object, old),
            None => created(object),
        };
        let response = run(respond(Phase::Mutate, &review_of(&object)));
        prop_assert_eq!(&response["allowed"], &json!(true));
        let after = patched(&object, &response);
        prop_assert_eq!(without_images(&object, "/spec"), without_images(&after, "/spec"));
        let again = run(respond(Phase::Mutate, &review_of(&after)));
        prop_assert_eq!(patch_of(&again), None);
        if let Some(patch) = patch_of(&response) {
            let steps = patch.as_array().unwrap();
            let mut paths: Vec<_> = steps.iter().map(|step| step["path"].as_str().unwrap()).collect();
            paths.dedup();
            prop_assert_eq!(paths.len() * 2, steps.len());
            for path in paths {
                // Checklist 24: what was written parses, and names its registry.
                let text = after.pointer(path).unwrap().as_str().unwrap();
                let reference = Reference::parse(text).unwrap();
                prop_assert!(reference.digest().is_some());
            }
        }
    }

    /// The same of every kind of template where a policy wants them pinned.
    #[test]
    fn a_template_changes_in_its_images_only_and_once(
        template in some_pod(), old in prop::option::of(some_pod()), resource in prop::sample::select(&RESOURCES[..]),
    ) {
        let (resource, pointer, create, update) = resource;
        let root = format!("{pointer}/spec");
        let object = around(pointer, &template);
        let review_of = |object: &Value| match &old {
            Some(old) => review(resource, "UPDATE", object, &around(pointer, old)),
            None => review(resource, "CREATE", object, &Value::Null),
        };
        let response = run(respond_pinning(&review_of(&object)));
        prop_assert!(response["allowed"] == true && response.get("warnings").is_none());
        let after = patched(&object, &response);
        prop_assert_eq!(without_images(&object, &root), without_images(&after, &root));
        prop_assert_eq!(patch_of(&run(respond_pinning(&review_of(&after)))), None);
        // What a Pod would get, and no other.
        let of_pod = match &old {
            Some(old) => run(respond(Phase::Mutate, &review("pods", "UPDATE", &template, old))),
            None => run(respond(Phase::Mutate, &created(&template))),
        };
        let pins = if old.is_some() { update } else { create };
        let want = if pins { patched(&template, &of_pod) } else { template.clone() };
        prop_assert_eq!(after.pointer(&root), want.get("spec"));
    }

    /// ADM-21: what the mutating phase pinned, the validating phase admits.
    #[test]
    fn what_was_pinned_is_admitted(tags in prop::collection::vec("[a-f0-9]{1,3}", 1..5)) {
        let images: Vec<_> = tags.iter().map(|tag| format!("r.example/app:{tag}")).collect();
        let images: Vec<_> = images.iter().map(String::as_str).collect();
        let object = pod(&images);
        let response = run(respond(Phase::Mutate, &created(&object)));
        let after = patched(&object, &response);
        let signed = tags.iter().all(|tag| tag != "bad");
        prop_assert_eq!(&run(respond(Phase::Validate, &created(&after)))["allowed"], &json!(signed));
    }
}
