//! The log on standard error: lines for a reader, or JSON for a log collector.

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

use crate::cli::{Cli, LogFormat};
use crate::terminal::{StderrLines, USER_TARGET};

/// The running log; flushes traces when dropped.
pub struct Logging {
    format: LogFormat,
    #[cfg(feature = "traces")]
    _traces: Option<super::traces::Traces>,
}

impl Logging {
    /// Starts the log. `TIDECAST_LOG` selects events more precisely than -v.
    ///
    /// # Errors
    /// If the configured trace collector cannot be used.
    pub fn start(cli: &Cli) -> Result<Self> {
        let format = cli.log_format.unwrap_or_else(format_from_env);
        let level = match (cli.quiet, cli.verbose, format) {
            (true, _, _) => "error",
            (false, 0, LogFormat::Text) => "warn",
            // Collected logs include events by default.
            (false, 0 | 1, _) => "tidecast=info,warn",
            (false, _, _) => "tidecast=debug,info",
        };
        let mut filter = EnvFilter::try_from_env("TIDECAST_LOG").unwrap_or_else(|_| EnvFilter::new(level));
        // Only -q hides messages to the user.
        let user_level = if cli.quiet { "off" } else { "info" };
        let directive = format!("{USER_TARGET}={user_level}").parse().context("a target and a level")?;
        filter = filter.add_directive(directive);
        let ansi = std::io::stderr().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let stderr = tracing_subscriber::fmt::layer().with_writer(|| StderrLines).with_ansi(ansi);
        let layer = match format {
            LogFormat::Json => {
                stderr.json().flatten_event(true).with_span_list(false).with_filter(filter).boxed()
            }
            LogFormat::Text => stderr.event_format(TextFormat(Format::default())).with_filter(filter).boxed(),
        };
        let registry = tracing_subscriber::registry().with(layer);
        #[cfg(feature = "traces")]
        {
            let traces = super::traces::Traces::start()?;
            registry.with(traces.as_ref().map(super::traces::Traces::layer)).init();
            Ok(Self { format, _traces: traces })
        }
        #[cfg(not(feature = "traces"))]
        {
            registry.init();
            Ok(Self { format })
        }
    }

    /// Reports the error that ends the program.
    pub fn report_failure(&self, error: &anyhow::Error) {
        match self.format {
            LogFormat::Json => tracing::error!("{error:#}"),
            LogFormat::Text => eprintln!("error: {error:#}"),
        }
    }
}

fn format_from_env() -> LogFormat {
    match std::env::var("TIDECAST_LOG_FORMAT").as_deref() {
        Ok("json") => LogFormat::Json,
        _ => LogFormat::Text,
    }
}

/// Events as lines; messages to the user without time and level.
struct TextFormat(Format<Full>);

impl<S, N> FormatEvent<S, N> for TextFormat
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
        if event.metadata().target() != USER_TARGET {
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
