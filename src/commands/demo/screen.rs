//! The live table of the demo: redrawn in place on a terminal, a line now and then elsewhere.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use console::{Term, style};
use tokio::task::JoinHandle;

use super::board::{Board, Sensor};
use crate::cli::Speed;
use crate::config::Pipeline;
use tidecast_stream::driver::Progress;
use tidecast_core::table::time_text;

const REDRAW: Duration = Duration::from_millis(250);
const LINE: Duration = Duration::from_secs(5);

/// Lines of a screen that are not sensors.
const FRAME: usize = 6;

/// Draws until it is told to end.
pub struct Screen {
    drawing: JoinHandle<()>,
}

impl Screen {
    /// Says where the broker is and starts drawing.
    pub fn start(
        board: Arc<Mutex<Board>>,
        page: SocketAddr,
        broker: String,
        pipeline: &Pipeline,
        speed: Speed,
        quiet: bool,
    ) -> Result<Self> {
        let topic = |topic: Option<&str>| topic.unwrap_or("-").to_owned();
        let readings = topic(pipeline.kafka_source.as_ref().map(|source| source.topic.as_str()));
        let forecasts = topic(pipeline.kafka_sink.as_ref().map(|sink| sink.topic.as_str()));
        if !quiet {
            super::super::print(&format!(
                "dashboard: http://{page}\n\
                 a broker inside this process: {broker}; any Kafka client can look in\n\
                 topics: {readings} ({speed} as fast as it came) -> {forecasts}\n"
            ))?;
        }
        let drawing = tokio::spawn(async move {
            if !quiet {
                draw(board).await;
            }
        });
        Ok(Self { drawing })
    }

    pub async fn end(self) {
        self.drawing.abort();
        // It ends by being aborted.
        let _ = self.drawing.await;
    }
}

async fn draw(board: Arc<Mutex<Board>>) {
    let term = Term::stdout();
    let watched = term.features().is_attended();
    let mut ticks = tokio::time::interval(if watched { REDRAW } else { LINE });
    ticks.tick().await;
    let (mut drawn, mut rate) = (0, Rate::new());
    loop {
        ticks.tick().await;
        let text = {
            let board = board.lock().expect("nobody panics with the board in hand");
            rate.update(&board);
            if watched { table(&board, &rate, usize::from(term.size().0)) } else { line(&board, &rate) }
        };
        if watched {
            // A terminal that is gone has nobody to tell.
            let _ = term.clear_last_lines(drawn);
            drawn = text.lines().count();
        }
        let _ = term.write_str(&text);
    }
}

/// Readings and forecasts a second, over the last second or more.
struct Rate {
    since: Instant,
    readings: u64,
    forecasts: u64,
    per_second: [f64; 2],
}

impl Rate {
    fn new() -> Self {
        Self { since: Instant::now(), readings: 0, forecasts: 0, per_second: [0.0; 2] }
    }

    fn update(&mut self, board: &Board) {
        let seconds = self.since.elapsed().as_secs_f64();
        if seconds >= 1.0 {
            let rate = |now: u64, before: u64| (now - before) as f64 / seconds;
            self.per_second = [rate(board.readings, self.readings), rate(board.forecasts, self.forecasts)];
            (self.since, self.readings, self.forecasts) = (Instant::now(), board.readings, board.forecasts);
        }
    }
}

fn line(board: &Board, rate: &Rate) -> String {
    let [readings, forecasts] = rate.per_second;
    format!(
        "{}  {} readings ({readings:.0}/s), {} forecasts ({forecasts:.0}/s), {}\n",
        event_time(board),
        board.readings,
        board.forecasts,
        ratio(board)
    )
}

fn event_time(board: &Board) -> String {
    if board.readings == 0 { "waiting for readings".to_owned() } else { time_text(board.now) }
}

fn ratio(board: &Board) -> String {
    board.ratio().map_or("no forecast is a day old yet".to_owned(), |(ratio, sensors)| {
        format!("error {ratio:.2} of seasonal-naive's over {sensors} sensors")
    })
}

/// The whole screen, as many sensors as fit.
fn table(board: &Board, rate: &Rate, height: usize) -> String {
    let [readings, forecasts] = rate.per_second;
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "\n{}  {readings:.0} readings/s, {forecasts:.0} forecasts/s, {}",
        style(event_time(board)).bold(),
        ratio(board)
    );
    let head = format!(
        "{:<32}{:>10}{:>12}{:>22}{:>12}{:>10}",
        "sensor", "reading", "next hour", "80 % between", "error", "naive's"
    );
    let _ = writeln!(out, "{}", style(head).underlined());
    let room = height.saturating_sub(FRAME).max(1);
    for (name, sensor) in board.sensors.iter().take(room) {
        let _ = writeln!(out, "{}", row(name, sensor));
    }
    if let Some(more) = board.sensors.len().checked_sub(room).filter(|more| *more > 0) {
        let _ = writeln!(out, "and {more} more");
    }
    out
}

fn row(name: &str, sensor: &Sensor) -> String {
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
    let (next, between) = match sensor.next {
        Some((_, [next, lower, upper])) => (format!("{next:.1}"), format!("{lower:.1} .. {upper:.1}")),
        None => ("warming".to_owned(), "-".to_owned()),
    };
    let (ours, naive) = sensor.error().unzip();
    let error = format!("{:>12}", number(ours));
    let better = ours.zip(naive).is_some_and(|(ours, naive)| ours < naive);
    let error = if better { style(error).green() } else { style(error) };
    format!("{name:<32}{:>10}{next:>12}{between:>22}{error}{:>10}", number(sensor.last()), number(naive))
}

/// What it came to.
pub fn summary(board: &Board, progress: &Progress) -> String {
    let errors: Vec<(f64, f64)> = board.sensors.values().filter_map(Sensor::error).collect();
    let better = errors.iter().filter(|(ours, naive)| ours < naive).count();
    let mut out =
        format!("\n{} sensors, up to {}: {}\n", board.sensors.len(), event_time(board), progress.tally);
    let _ = match board.ratio() {
        Some((ratio, sensors)) => writeln!(
            out,
            "mean absolute error over the next day: {ratio:.2} of seasonal-naive's on average over {sensors} sensors, better on {better}"
        ),
        None => writeln!(out, "no forecast's day was over yet: run it longer, or with a higher --speed"),
    };
    out
}
