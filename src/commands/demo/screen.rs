//! The live table of the demo, read from the dashboard: redrawn in place on a terminal, one line every few seconds elsewhere.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use console::{Term, style};

use crate::cli::Speed;
use crate::config::Pipeline;
use crate::serve::{Dashboard, SeriesRow, ViewQuery};
use tidecast_core::schema::format_time;
use tidecast_core::time::duration_text;
use tidecast_stream::driver::Progress;

const TABLE_INTERVAL: Duration = Duration::from_millis(250);
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Lines of the table that are not series.
const TABLE_FRAME: usize = 6;

/// Errors are shown at the farthest horizon of the dashboard.
const HORIZON_INDEX: usize = 1;

/// Addresses and topics of the demo.
pub fn header(pipeline: &Pipeline, page: SocketAddr, broker: &str, speed: Speed) -> String {
    let input = pipeline.kafka_source.as_ref().map_or("-", |source| &source.topic);
    let output = pipeline.kafka_sink.as_ref().map_or("-", |sink| &sink.topic);
    let speed = match speed {
        Speed::Factor(factor) => format!("at {factor} times real time"),
        Speed::Max => "without pacing".to_owned(),
    };
    format!(
        "dashboard: http://{page}\n\
         embedded broker: {broker} (any Kafka client can connect)\n\
         topics: {input} (replayed {speed}) -> {output}\n"
    )
}

/// Draws until it is aborted.
pub async fn draw(dashboard: Arc<Dashboard>) {
    let term = Term::stdout();
    let is_terminal = term.features().is_attended();
    let mut ticks = tokio::time::interval(if is_terminal { TABLE_INTERVAL } else { LINE_INTERVAL });
    ticks.tick().await;
    let mut drawn_lines = 0;
    loop {
        ticks.tick().await;
        let text = if is_terminal { table(&dashboard, usize::from(term.size().0)) } else { line(&dashboard) };
        if is_terminal {
            // A closed terminal is not an error of the demo.
            let _ = term.clear_last_lines(drawn_lines);
            drawn_lines = text.lines().count();
        }
        let _ = term.write_str(&text);
    }
}

/// Rows and forecasts per second, in the latest second.
fn rates(dashboard: &Dashboard) -> (f64, f64) {
    let sampler = dashboard.sampler.lock();
    sampler.samples.back().map_or((0.0, 0.0), |sample| (sample.rows_per_second, sample.forecasts_per_second))
}

fn line(dashboard: &Dashboard) -> String {
    let (row_rate, forecast_rate) = rates(dashboard);
    let rows = dashboard.status.lock().rows.clone();
    format!(
        "{}  {} rows ({row_rate:.0}/s), {} forecasts ({forecast_rate:.0}/s), {}\n",
        event_time(dashboard),
        rows.rows,
        rows.forecasts,
        error_summary(dashboard)
    )
}

fn event_time(dashboard: &Dashboard) -> String {
    dashboard.view.lock().event_time.map_or("waiting for rows".to_owned(), format_time)
}

/// The horizon of the errors, such as `1d`.
fn horizon_text(dashboard: &Dashboard) -> String {
    let info = &dashboard.info;
    duration_text(info.grid.every * info.view_horizons[HORIZON_INDEX] as i64)
}

fn error_summary(dashboard: &Dashboard) -> String {
    let horizon = horizon_text(dashboard);
    let summary = dashboard.view.lock().summaries[HORIZON_INDEX].clone();
    summary.mase.map_or(format!("no forecast {horizon} ahead is due yet"), |mase| {
        format!("error {horizon} ahead {mase:.2} of seasonal naive's over {} sensors", summary.series)
    })
}

/// The whole screen, with as many sensors as fit.
fn table(dashboard: &Dashboard, height: usize) -> String {
    let (row_rate, forecast_rate) = rates(dashboard);
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "\n{}  {row_rate:.0} rows/s, {forecast_rate:.0} forecasts/s, {}",
        style(event_time(dashboard)).bold(),
        error_summary(dashboard)
    );
    let head = format!(
        "{:<32}{:>10}{:>12}{:>22}{:>12}{:>10}",
        "sensor",
        "value",
        "next hour",
        "80 % interval",
        format!("MAE {}", horizon_text(dashboard)),
        "naive"
    );
    let _ = writeln!(out, "{}", style(head).underlined());
    let rows_max = height.saturating_sub(TABLE_FRAME).max(1);
    let view = dashboard.view.lock();
    let matches = view.query(&ViewQuery::default());
    for index in matches.iter().take(rows_max) {
        let _ = writeln!(out, "{}", table_row(&view.row(*index, HORIZON_INDEX)));
    }
    if let Some(more) = matches.len().checked_sub(rows_max).filter(|more| *more > 0) {
        let _ = writeln!(out, "and {more} more");
    }
    out
}

fn table_row(row: &SeriesRow<'_>) -> String {
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
    let next = row.next.map_or("warming up".to_owned(), |next| format!("{next:.1}"));
    let interval =
        row.lower.zip(row.upper).map_or("-".to_owned(), |(lower, upper)| format!("{lower:.1} .. {upper:.1}"));
    let scores = row.scores;
    let mae = format!("{:>12}", number(scores.mae));
    let is_better = scores.mase.is_some_and(|mase| mase < 1.0);
    let mae = if is_better { style(mae).green() } else { style(mae) };
    format!(
        "{:<32}{:>10}{next:>12}{interval:>22}{mae}{:>10}",
        row.id,
        number(row.value),
        number(scores.naive_mae)
    )
}

/// The result of the demo.
pub fn summary(dashboard: &Dashboard, progress: &Progress) -> String {
    let horizon = horizon_text(dashboard);
    let event_time = event_time(dashboard);
    let view = dashboard.view.lock();
    let mases: Vec<f64> = view.entries.iter().filter_map(|entry| entry.scores[HORIZON_INDEX].mase).collect();
    let better = mases.iter().filter(|mase| **mase < 1.0).count();
    let mut out = format!("\n{} sensors, up to {event_time}: {}\n", view.entries.len(), progress.counters);
    let _ = match view.summaries[HORIZON_INDEX].mase {
        Some(mase) => writeln!(
            out,
            "mean absolute error {horizon} ahead: {mase:.2} of seasonal naive's on average over {} sensors, better on {better}",
            mases.len()
        ),
        None => writeln!(out, "no forecast {horizon} ahead is due yet: run longer, or with a higher --speed"),
    };
    out
}
