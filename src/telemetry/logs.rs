//! Logs: one line an event, as JSON or as text (OBS-20).
//!
//! Values may come from users. Whatever they hold, an event stays one line and no value grows without bound (OBS-21):
//! control characters, line separators and characters that reorder text are written as escapes in both formats.

mod line;

use std::io;
use std::panic::PanicHookInfo;
use std::str::FromStr;
use std::sync::Mutex;

use jiff::Timestamp;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber, error};
use tracing_subscriber::filter::{EnvFilter, LevelFilter, ParseError};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Registry, Scope};
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use self::line::{Fields, Line};

/// How events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line: `ts`, `level`, `msg`, `target`, then the fields.
    #[default]
    Json,
    /// `ts level target: msg key=value…`, for people.
    Text,
}

impl FromStr for Format {
    type Err = LogsError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err(LogsError::Format),
        }
    }
}

/// Logs could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogsError {
    /// Not a format.
    #[error("a log format is json or text")]
    Format,
    /// A word that is no level. As a filter it would be a module, and everything else would fall silent.
    #[error("{word:?} is no log level: write error, warn, info, debug or trace, alone or as module=level,…")]
    Level {
        /// The word.
        word: Box<str>,
    },
    /// Not a filter.
    #[error("a log level is error, warn, info, debug or trace, alone or as module=level,…")]
    Filter(#[source] ParseError),
    /// This process writes logs already.
    #[error("logs are set up already")]
    Twice(#[source] TryInitError),
}

/// Writes the events of this process, and of libraries that use `log`, to `writer`: standard output for the webhook
/// (OBS-20), standard error for commands whose result goes to standard output. Panics become events too: what the
/// runtime itself prints about them is many lines, and not escaped.
///
/// # Errors
///
/// [`LogsError::Level`] or [`LogsError::Filter`] if `filter` is neither a level nor a list of `module=level`,
/// [`LogsError::Twice`] if logs are set up already.
pub fn install(
    format: Format,
    filter: &str,
    writer: impl io::Write + Send + 'static,
    clock: fn() -> Timestamp,
) -> Result<(), LogsError> {
    subscriber(format, filter, writer, clock)?
        .try_init()
        .map_err(LogsError::Twice)?;
    std::panic::set_hook(Box::new(panicked));
    Ok(())
}

fn panicked(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    error!(place, error = message(panic), "panic");
}

fn message<'a>(panic: &'a PanicHookInfo<'_>) -> &'a str {
    let payload = panic.payload();
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

/// What [`install`] installs.
///
/// # Errors
///
/// [`LogsError::Level`] and [`LogsError::Filter`], as there.
pub fn subscriber(
    format: Format,
    filter: &str,
    writer: impl io::Write + Send + 'static,
    clock: fn() -> Timestamp,
) -> Result<impl Subscriber + Send + Sync + 'static, LogsError> {
    let filter = read_filter(filter)?;
    let lines = Lines {
        format,
        writer: Mutex::new(writer),
        clock,
    };
    Ok(Registry::default().with(lines.with_filter(filter)))
}

fn read_filter(text: &str) -> Result<EnvFilter, LogsError> {
    let known = |word: &str| word.contains('=') || word.parse::<LevelFilter>().is_ok();
    if let Some(word) = text.split(',').map(str::trim).find(|word| !known(word)) {
        return Err(LogsError::Level { word: word.into() });
    }
    EnvFilter::try_new(text).map_err(LogsError::Filter)
}

/// Turns events into lines. The fields of the spans around an event come first, so that a request's uid is on each of
/// its lines.
struct Lines<W> {
    format: Format,
    writer: Mutex<W>,
    clock: fn() -> Timestamp,
}

impl<W, S> Layer<S> for Lines<W>
where
    W: io::Write + Send + 'static,
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(Scope::from_root) {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.extend(outer);
            }
        }
        event.record(&mut fields);
        self.write(event.metadata(), fields);
    }
}

impl<W: io::Write> Lines<W> {
    /// Writes a line in one piece. A failure has nowhere to be reported.
    fn write(&self, metadata: &Metadata<'_>, fields: Fields) {
        let line = Line::new((self.clock)(), metadata, fields);
        let text = match self.format {
            Format::Json => line.json(),
            Format::Text => line.text(),
        };
        if let Ok(mut writer) = self.writer.lock() {
            let _written = writer.write_all(text.as_bytes()).and_then(|()| writer.flush());
        }
    }
}

#[cfg(test)]
mod tests;
