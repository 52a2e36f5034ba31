//! What the program tells while it works, on standard error: as lines for a reader, or as JSON for a collector of logs. What is
//! said to whoever started it ([`SAID`]) is plain text to a reader, and an event like any other to a collector.

use std::fmt;
use std::io::IsTerminal;

use anyhow::{Context, Result};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::report::Beside;
use crate::cli::{Cli, LogFormat};

/// The target of what is said to whoever started the program. Its other fields are for collectors.
pub const SAID: &str = "tidecast::said";

/// The target of the spans that are traced. No log is told of them.
#[cfg(feature = "traces")]
pub const SPANS: &str = "spans";

/// Says a line to whoever started the program, with fields for collectors.
macro_rules! say {
    ($($field:ident = $value:expr,)* $text:literal $($rest:tt)*) => {
        tracing::info!(target: $crate::commands::log::SAID, $($field = $value,)* $text $($rest)*)
    };
}
pub(super) use say;

/// The format that the command line or `TIDECAST_LOG_FORMAT` asks for.
fn format(cli: &Cli) -> LogFormat {
    let variable = || std::env::var("TIDECAST_LOG_FORMAT").ok().filter(|text| text == "json");
    cli.log_format.unwrap_or_else(|| variable().map_or(LogFormat::Text, |_| LogFormat::Json))
}

/// Tells events until it is dropped.
pub struct Told {
    format: LogFormat,
    #[cfg(feature = "traces")]
    _traces: Option<super::traces::Traces>,
}

/// Starts to tell events on standard error; `TIDECAST_LOG` says more precisely than -v which.
///
/// # Errors
/// If a collector of traces is named and cannot be used.
pub fn start(cli: &Cli) -> Result<Told> {
    let format = format(cli);
    let level = match (cli.quiet, cli.verbose, format) {
        (true, _, _) => "error",
        (false, 0, LogFormat::Text) => "warn",
        // Whoever collects logs wants to find in them what happened.
        (false, 0 | 1, _) => "tidecast=info,warn",
        (false, _, _) => "tidecast=debug,info",
    };
    let mut filter = EnvFilter::try_from_env("TIDECAST_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    // Whatever else is asked for: what is said is said, or not.
    let said = if cli.quiet { "off" } else { "info" };
    filter = filter.add_directive(format!("{SAID}={said}").parse().context("a target and a level")?);
    // Colours are for eyes: a file gets none.
    let colours =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let to = tracing_subscriber::fmt::layer().with_writer(|| Beside).with_ansi(colours);
    let told = match format {
        LogFormat::Json => to.json().flatten_event(true).with_span_list(false).with_filter(filter).boxed(),
        LogFormat::Text => to.event_format(Lines(Format::default())).with_filter(filter).boxed(),
    };
    let registry = tracing_subscriber::registry().with(told);
    #[cfg(feature = "traces")]
    {
        let traces = super::traces::Traces::start()?;
        registry.with(traces.as_ref().map(super::traces::Traces::layer)).init();
        Ok(Told { format, _traces: traces })
    }
    #[cfg(not(feature = "traces"))]
    {
        registry.init();
        Ok(Told { format })
    }
}

impl Told {
    /// Says why the program ends.
    pub fn failed(&self, error: &anyhow::Error) {
        match self.format {
            LogFormat::Json => tracing::error!("{error:#}"),
            LogFormat::Text => eprintln!("error: {error:#}"),
        }
    }
}

/// Events as lines; what is said stands alone.
struct Lines(Format<Full>);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if event.metadata().target() != SAID {
            return self.0.format_event(context, writer, event);
        }
        let mut message = Message(String::new());
        event.record(&mut message);
        writeln!(writer, "{}", message.0)
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
