use proptest::prelude::*;

use super::*;

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn image(text: &str) -> Reference {
    Reference::parse(text).unwrap()
}

#[test]
fn patterns_are_completed_as_references_are() {
    for (written, complete) in [
        ("nginx", "docker.io/library/nginx"),
        ("nginx:1.*", "docker.io/library/nginx:1.*"),
        ("library/*", "docker.io/library/*"),
        ("team/*", "docker.io/team/*"),
        ("team/**", "docker.io/team/**"),
        ("docker.io/nginx", "docker.io/library/nginx"),
        ("docker.io/*", "docker.io/library/*"),
        ("docker.io/**", "docker.io/**"),
        ("index.docker.io/team/app", "docker.io/team/app"),
        ("localhost/*", "localhost/*"),
        ("localhost:5000/**", "localhost:5000/**"),
        ("localhost:*/**", "localhost:*/**"),
        ("*.example.com/**:v*", "*.example.com/**:v*"),
        ("*-docker.pkg.dev/acme/**", "*-docker.pkg.dev/acme/**"),
        ("[::1]:5000/app", "[::1]:5000/app"),
        ("**", "**"),
        ("**:latest", "**:latest"),
        ("**/nginx", "**/nginx"),
        ("*/library/nginx", "*/library/nginx"),
    ] {
        let read = pattern(written);
        assert_eq!(read.to_string(), complete, "{written}");
        assert_eq!(pattern(complete), read, "{complete} means the same as {written}");
    }
}

#[test]
fn what_is_not_a_pattern_is_refused_with_a_remedy() {
    let long = format!("registry.example.com/{}", "a".repeat(255));
    let long_tag = format!("nginx:{}", "a".repeat(129));
    for (text, want) in [
        ("", "\"**\" for every image"),
        (long.as_str(), "longer than"),
        (long_tag.as_str(), "longer than"),
        ("nginx@sha256:00", "not digests"),
        ("registry.example.com//app", "empty segment"),
        ("/app", "empty segment"),
        ("app/", "empty segment"),
        ("docker.io/", "empty segment"),
        ("registry.example.com/***", "whole segments"),
        ("registry.example.com**", "host without a repository"),
        ("registry.example.com**/app", "whole segments"),
        ("registry.example.com/team-**", "whole segments"),
        ("*", "host without a repository"),
        ("nginx*", "docker.io/library/nginx*"),
        ("registry.example.*/app", "anybody's domain"),
        ("registry.example.com*/app", "anybody's domain"),
        ("team*/app", "docker.io/team*/**"),
        ("Registry.example.com/app", "Registry.example.com"),
        ("*.Example.com/app", "'E'"),
        ("registry.example.com/App", "no image has such a name"),
        ("registry.example.com/App*", "'A'"),
        ("registry.example.com/a..b", "no image has such a name"),
        ("registry.example.com/a\nb*", "'\\n'"),
        ("registry.example.com/é*", "'é'"),
        ("nginx:", "matches no tag"),
        ("nginx:-1", "matches no tag"),
        ("nginx:1**", "matches no tag"),
        ("a/b:é", "matches no tag"),
    ] {
        let error = Pattern::parse(text).unwrap_err().to_string();
        assert!(error.contains(want), "{text:?}: {error}");
    }
}

#[test]
fn a_star_stays_within_a_segment_and_two_cross_it() {
    for (text, yes, no) in [
        (
            "docker.io/library/*",
            vec![
                "nginx",
                "alpine:3",
                "docker.io/library/x@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            ],
            vec![
                "team/app",
                "docker.io/library/a/b",
                "registry.example.com/library/nginx",
            ],
        ),
        (
            "registry.example.com/**",
            vec!["registry.example.com/a", "registry.example.com/a/b/c:1"],
            vec![
                "registry.example.com:443/a",
                "registry.example.com.evil.org/a",
                "evil.org/registry.example.com/a",
            ],
        ),
        (
            "*.example.com/**",
            vec!["a.example.com/x", "a.b.example.com/x/y"],
            vec![
                "example.com/x",
                "a.example.com.evil.org/x",
                "evil.org/a.example.com/x",
                "a.example.com:5000/x",
            ],
        ),
        ("**", vec!["nginx", "localhost:5000/a/b/c"], vec![]),
        (
            "**/nginx",
            vec!["nginx", "evil.org/nginx"],
            vec!["evil.org/nginx2", "evil.org/my-nginx"],
        ),
        (
            "registry.example.com/**/app",
            vec!["registry.example.com/a/b/app"],
            vec!["registry.example.com/app"],
        ),
        (
            "nginx:1.*",
            vec!["nginx:1.27", "nginx:1."],
            vec!["nginx:1", "nginx", "nginx:latest"],
        ),
        (
            "nginx:*",
            vec!["nginx", "nginx:x"],
            vec!["nginx@sha256:0000000000000000000000000000000000000000000000000000000000000000"],
        ),
        ("localhost:*/app", vec!["localhost:1/app"], vec!["localhost/app"]),
    ] {
        let read = pattern(text);
        for name in yes {
            assert!(read.matches(&image(name)), "{text} matches {name}");
        }
        for name in no {
            assert!(!read.matches(&image(name)), "{text} does not match {name}");
        }
    }
}

#[test]
fn the_more_specific_pattern_is_the_greater() {
    for (more, less) in [
        ("nginx", "library/*"),
        ("library/*", "docker.io/**"),
        ("docker.io/**", "**/a-very-long-name-of-a-repository"),
        ("docker.io/**", "**"),
        ("registry.example.com/team/*", "registry.example.com/team/**"),
        ("registry.example.com/team/*", "registry.example.com/*/*"),
        ("registry.example.com/*/app", "registry.example.com/*/*"),
        ("registry.example.com/app", "*.example.com/app"),
        ("nginx:1.*", "nginx"),
        ("nginx:1.27", "nginx:1.*"),
        ("nginx:*", "nginx"),
        ("**:latest", "**"),
        ("*/**", "**"),
    ] {
        assert!(
            pattern(more).specificity() > pattern(less).specificity(),
            "{more} > {less}"
        );
    }
}

#[test]
fn overlap_is_found_and_not_invented() {
    for (one, two, overlap) in [
        ("a.io/*", "a.io/*", true),
        ("a.io/x*", "a.io/*y", true),
        ("a.io/x*", "a.io/y*", false),
        ("a.io/*", "a.io/**/b", false),
        ("a.io/*/b", "a.io/**/b", true),
        ("*.a.io/x", "b.*.io/x", true),
        ("*.a.io/x", "*.b.io/x", false),
        ("a.io/x:1*", "a.io/x:2*", false),
        ("a.io/x:1*", "a.io/x:*2", true),
        ("a.io/x:1*", "a.io/x", true),
        ("**", "a.io/x", true),
        ("**/x", "a.io/**", true),
        ("**/x", "a.io/y", false),
    ] {
        for (one, two) in [(one, two), (two, one)] {
            let found = pattern(one).overlaps(&pattern(two), &mut 1_000_000);
            assert_eq!(found, Some(overlap), "{one} and {two}");
        }
    }
    assert_eq!(pattern("a.io/*").overlaps(&pattern("a.io/*"), &mut 10), None);
}

#[test]
fn hostile_input_takes_no_longer_than_its_length_squared() {
    // A matcher that backtracks would need about 2^100 steps for each of these.
    let stars = format!("a.io/{}b", "*a".repeat(100));
    let globstars = format!("a.io/{}b", "**/".repeat(80));
    let name = format!("a.io/{}", "a".repeat(240));
    let path = format!("a.io/{}a", "a/".repeat(120));
    assert!(!pattern(&stars).matches(&image(&name)));
    assert!(!pattern(&globstars).matches(&image(&path)));
    assert_eq!(
        pattern(&stars).overlaps(&pattern(&globstars), &mut 1_000_000),
        Some(false)
    );
}

/// What `glob.rs` does, as one would write it down without a care for time.
fn naive(pattern: &[char], text: &[char]) -> bool {
    match (pattern, text) {
        ([], _) => text.is_empty(),
        (['*', '*', rest @ ..], _) => (0..=text.len()).any(|n| naive(rest, &text[n..])),
        (['*', rest @ ..], _) => (0..=text.len())
            .take_while(|&n| !text[..n].contains(&'/'))
            .any(|n| naive(rest, &text[n..])),
        ([first, rest @ ..], [c, tail @ ..]) => first == c && naive(rest, tail),
        ([_, ..], []) => false,
    }
}

fn segments() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        "[ab*]{1,3}".prop_map(|s| s.replace("**", "*a")),
        Just("**".to_owned())
    ];
    prop::collection::vec(segment, 1..4).prop_map(|list| list.join("/"))
}

fn patterns() -> impl Strategy<Value = Pattern> {
    (
        prop_oneof!["h", "\\*", "\\*\\.h"],
        segments(),
        prop::option::of("[ab*]{1,3}"),
    )
        .prop_filter_map("a pattern", |(host, path, tag)| {
            let host = if host == "h" { "h.h" } else { &host };
            let tag = tag
                .map(|tag| format!(":{}", tag.replace("**", "*")))
                .unwrap_or_default();
            Pattern::parse(&format!("{host}/{path}{tag}")).ok()
        })
}

fn images() -> impl Strategy<Value = Reference> {
    ("(h\\.)?h\\.h(/[ab]{1,3}){1,4}", "[ab]{1,3}")
        .prop_map(|(name, tag)| Reference::parse(&format!("{name}:{tag}")).unwrap())
}

proptest! {
    #[test]
    fn matching_agrees_with_the_naive_matcher(pattern in patterns(), image in images()) {
        let text = pattern.to_string();
        let (name, tag) = split_tag(&text);
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        let want = naive(&chars(name), &chars(image.gun().as_str()))
            && tag.is_none_or(|tag| naive(&chars(tag), &chars(image.tag().unwrap().as_str())));
        prop_assert_eq!(pattern.matches(&image), want, "{} {}", pattern, image);
    }

    #[test]
    fn patterns_that_match_one_image_overlap(one in patterns(), two in patterns(), image in images()) {
        if one.matches(&image) && two.matches(&image) {
            prop_assert_eq!(one.overlaps(&two, &mut { Steps::MAX }), Some(true));
        }
    }

    #[test]
    fn an_image_is_at_least_as_specific_as_what_matches_it(pattern in patterns(), image in images()) {
        let exact = Pattern::parse(&image.to_string()).unwrap();
        prop_assert!(!pattern.matches(&image) || pattern.specificity() <= exact.specificity());
    }

    #[test]
    fn no_text_panics_and_what_is_read_reads_again(text in "\\PC{0,40}|[a-z*/:.A]{0,20}") {
        if let Ok(pattern) = Pattern::parse(&text) {
            prop_assert_eq!(Pattern::parse(&pattern.to_string()), Ok(pattern));
        }
    }
}
