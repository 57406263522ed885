//! The two text formats a scraper may ask for (OBS-01).

use std::fmt::Write as _;

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// `application/openmetrics-text`, for whoever asks for it.
    OpenMetrics,
    /// The older `text/plain; version=0.0.4`, for everybody else.
    Classic,
}

impl Exposition {
    /// Chooses by the `Accept` header of a request.
    pub fn accepted(accept: Option<&str>) -> Self {
        if accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
            Self::OpenMetrics
        } else {
            Self::Classic
        }
    }

    /// The `Content-Type` of the answer.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Turns `OpenMetrics` text into the older format: there a counter's family carries `_total` and an info is a gauge.
/// Samples are the same in both.
pub(super) fn classic(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut help = "";
    for line in text.lines() {
        if line.starts_with("# HELP ") {
            // Written with the type, which follows it and says what the family is called.
            help = line;
        } else if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').unwrap_or((family, "untyped"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                same => ("", same),
            };
            let help = help.splitn(4, ' ').nth(3).unwrap_or_default();
            let _infallible = writeln!(out, "# HELP {name}{suffix} {help}\n# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_format_is_chosen_unless_the_newer_is_asked_for() {
        for (accept, want) in [
            (None, Exposition::Classic),
            (Some("*/*"), Exposition::Classic),
            (Some("text/plain;version=0.0.4"), Exposition::Classic),
            (
                Some("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3"),
                Exposition::OpenMetrics,
            ),
        ] {
            assert_eq!(Exposition::accepted(accept), want, "{accept:?}");
        }
    }

    #[test]
    fn families_get_the_names_and_types_of_the_older_format() {
        let newer = "# HELP a Help of a.\n# TYPE a counter\na_total{x=\"1\"} 2\n# HELP b Help.\n# TYPE b info\nb_info{v=\"1\"} 1\n\
                     # HELP c_seconds Help.\n# TYPE c_seconds histogram\n# UNIT c_seconds seconds\nc_seconds_sum 1.0\n# EOF\n";
        assert_eq!(
            classic(newer),
            "# HELP a_total Help of a.\n# TYPE a_total counter\na_total{x=\"1\"} 2\n# HELP b_info Help.\n# TYPE b_info gauge\n\
             b_info{v=\"1\"} 1\n# HELP c_seconds Help.\n# TYPE c_seconds histogram\nc_seconds_sum 1.0\n"
        );
    }
}
