//! The command line as types: what can be said, and in which words. No logic beyond reading a single value.

mod adopt;
mod bootstrap;
mod completions;
mod init;
mod look;
mod rejects;
mod study;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime};
use clap::{Args, Parser, Subcommand, ValueEnum};

pub use adopt::Adopt;
pub use bootstrap::Bootstrap;
pub use completions::Completions;
pub use init::Init;
pub use look::{Check, Inspect};
pub use rejects::Rejects;
pub use study::{How, Study, StudyConvergence, StudyMemory, StudyOf};

/// Streaming forecasts on Kafka and Parquet with recurrent networks.
///
/// A pipeline file says where readings come from, how they become steps of a series, and where forecasts go. The same
/// file trains a model on history, fills the past with forecasts, and runs live; the numbers are the same in all three.
#[derive(Debug, Parser)]
#[command(name = "tidecast", version, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "Start here:\n  tidecast demo\n  tidecast init HISTORY.parquet\n  \
                        tidecast check pipelines/sensors.toml\n\n\
                        Exit codes:\n  0  done, or stopped as asked (Ctrl-C, SIGTERM) with everything committed\n  \
                        1  failed; the reason is on standard error\n  2  the command line makes no sense\n  \
                        130  told a second time to stop, which was at once")]
pub struct Cli {
    /// Say more: -v for what happens, -vv for every step of it
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// Say nothing but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// How events are told on standard error: lines, or an object of JSON each [default: TIDECAST_LOG_FORMAT, or text]
    #[arg(long, global = true, value_name = "text|json")]
    pub log_format: Option<LogFormat>,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Demo(Demo),
    Init(Init),
    Run(Run),
    Backfill(Backfill),
    Train(Train),
    Adopt(Adopt),
    Bootstrap(Bootstrap),
    Evaluate(Evaluate),
    Replay(Replay),
    Rejects(Rejects),
    Check(Check),
    Inspect(Inspect),
    Study(Study),
    Completions(Completions),
}

/// Show it working on real sensor data, with nothing else installed
///
/// Replays a year of weather sensors into a Kafka broker inside this process, forecasts each of them live, and draws
/// what it does.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tidecast demo\n  tidecast demo --for 2m --speed 3600")]
pub struct Demo {
    /// Stop after this long [default: until Ctrl-C]
    #[arg(long = "for", value_name = "DURATION", value_parser = length)]
    pub duration: Option<Duration>,

    /// How much faster than the readings came: a number, or "max"; 86400 is a day each second
    #[arg(long, value_name = "N", default_value = "86400")]
    pub speed: Speed,

    /// Where the dashboard is [default: 127.0.0.1:8080, or another port where that is taken]
    #[arg(long, value_name = "IP:PORT")]
    pub address: Option<SocketAddr>,
}

/// Forecast a stream: from the pipeline's Kafka topic to its sink
///
/// Runs until it is stopped. Into Kafka or Parquet nothing is lost and nothing said twice; to standard output, and with
/// `delivery = "at_least_once"`, what a crash leaves uncommitted is said again. Several processes of one pipeline share the
/// partitions of its topic.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tidecast run pipelines/sensors.toml\n  \
                        tidecast run pipelines/sensors.toml --until-end --to -")]
pub struct Run {
    /// Pipeline file
    pub pipeline: PathBuf,

    /// Stop at what is the end of the topic now; steps that wait for more rows stay open. For a process that is alone
    /// in its group: what a member leaves when it ends is not taken up by the others
    #[arg(long)]
    pub until_end: bool,

    /// Where forecasts go: "kafka" or "parquet" for the pipeline's sink of that kind, "-" for standard output
    /// [default: the pipeline's sink, Kafka before Parquet]
    #[arg(long, value_name = "kafka|parquet|-", value_parser = Destination::of_pipeline)]
    pub to: Option<Destination>,
}

/// Forecast history: from Parquet files to Parquet files
///
/// Gives, row for row, the forecasts that a live run would have given. At the end of the input the steps that wait for
/// more rows are closed.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tidecast backfill pipelines/sensors.toml\n  \
                        tidecast backfill pipelines/sensors.toml --from 'history/*.parquet' --to out/2025.parquet\n  \
                        tidecast backfill pipelines/sensors.toml --series miami/humidity --since 2023-06-01 --to -")]
pub struct Backfill {
    /// Pipeline file
    pub pipeline: PathBuf,

    /// Readings: a file, a folder or a pattern [default: the pipeline's Parquet source]
    #[arg(long, value_name = "PATH")]
    pub from: Option<PathBuf>,

    /// Where forecasts go: a path, "parquet" or "kafka" for the pipeline's sink of that kind, "-" for standard output
    /// [default: the pipeline's sink, Parquet before Kafka]. With a path, the scores of a pipeline with [sink.scores] go
    /// beside it, and leave those of the pipeline's own file alone: NAME.scores.parquet, or scores.parquet in a folder
    #[arg(long, value_name = "PATH|kafka|-")]
    pub to: Option<Destination>,

    /// Leave out readings before this time
    #[arg(long, value_name = "TIME")]
    pub since: Option<Time>,

    /// Leave out readings at or after this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<Time>,

    /// Only the series of this id; may be given several times
    #[arg(long, value_name = "ID")]
    pub series: Vec<String>,

    /// Leave the steps open that wait for more rows at the end of the input
    #[arg(long)]
    pub leave_open: bool,
}

/// Train the pipeline's network on Parquet history and write it as a model file
///
/// Cuts the history in time into a part to learn from, a part to validate with and a part that is only scored, and
/// prints the scores beside those of forecasts that cost nothing: the last value, and the value a season before.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tidecast train pipelines/sensors.toml --data pipelines/sensors/readings.parquet \
                        --out pipelines/sensors/model.safetensors\n  \
                        tidecast train pipelines/sensors.toml --data history/ --out /tmp/m.safetensors --epochs 5"
)]
pub struct Train {
    /// Pipeline file
    pub pipeline: PathBuf,

    /// History: a file, a folder or a pattern
    #[arg(long, value_name = "PATH")]
    pub data: PathBuf,

    /// Model file to write
    #[arg(long, value_name = "PATH")]
    pub out: PathBuf,

    /// A page to write: what was chosen, how the loss fell, forecasts to look at; readable without a network
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Most passes over the history [default: the pipeline's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub epochs: Option<u32>,

    /// Where the random numbers start; the same seed gives the same file [default: the pipeline's]
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
}

/// Score a model's forecasts on history, beside forecasts that cost nothing or next to nothing
///
/// Forecasts the history exactly as `backfill` does, and holds what comes out against what came, on the part that the model
/// never saw. The last value, the value a day and a week before, a ridge regression and exponential smoothing forecast at
/// the very same origins, and a test says whether the difference is more than luck.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tidecast evaluate pipelines/sensors.toml\n  \
                        tidecast evaluate pipelines/sensors.toml --html sensors.html\n  \
                        tidecast evaluate pipelines/sensors.toml --data newer/ --model /tmp/m.safetensors --json")]
pub struct Evaluate {
    /// Pipeline file
    pub pipeline: PathBuf,

    /// Model file [default: the pipeline's]
    #[arg(long, value_name = "PATH")]
    pub model: Option<PathBuf>,

    /// Readings: a file, a folder or a pattern [default: the pipeline's Parquet source]
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,

    /// Score forecasts from this time on [default: what the model never saw]
    #[arg(long, value_name = "TIME")]
    pub since: Option<Time>,

    /// Score forecasts before this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<Time>,

    /// Score only the series of this id; may be given several times
    #[arg(long, value_name = "ID")]
    pub series: Vec<String>,

    /// Print all that was found as one line of JSON
    #[arg(long)]
    pub json: bool,

    /// Also write a page of tables and pictures
    #[arg(long, value_name = "PATH")]
    pub html: Option<PathBuf>,
}

/// Send Parquet readings to the pipeline's Kafka topic, as if they came live
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tidecast replay pipelines/sensors.toml --from pipelines/sensors/readings.parquet\n  \
                        tidecast replay pipelines/sensors.toml --from history/ --speed max"
)]
pub struct Replay {
    /// Pipeline file
    pub pipeline: PathBuf,

    /// Readings: a file, a folder or a pattern
    #[arg(long, value_name = "PATH")]
    pub from: PathBuf,

    /// How much faster than the readings came: a number, or "max" for as fast as the broker takes them
    #[arg(long, value_name = "N|max", default_value = "1")]
    pub speed: Speed,
}

/// How fast event time passes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// This many times as fast as it did; finite and above 0.
    Times(f64),
    /// Without waiting.
    Max,
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_suffix('x').unwrap_or(text).parse::<f64>() {
            _ if text == "max" => Ok(Self::Max),
            Ok(times) if times.is_finite() && times > 0.0 => Ok(Self::Times(times)),
            _ => Err("a speed is a number above 0, such as 60, or \"max\"".to_string()),
        }
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Times(times) => write!(f, "{times}x"),
            Self::Max => f.write_str("max"),
        }
    }
}

/// Where forecasts go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The pipeline's Kafka sink.
    Kafka,
    /// The pipeline's Parquet sink.
    Parquet,
    /// Standard output, a line of JSON for each.
    Stdout,
    /// This Parquet file or folder.
    Path(PathBuf),
}

impl Destination {
    /// One of those that need no path.
    fn of_pipeline(text: &str) -> Result<Self, String> {
        match text.parse()? {
            Self::Path(_) => {
                Err("it is \"kafka\", \"parquet\" or \"-\"; a path goes into [sink.parquet]".to_string())
            }
            destination => Ok(destination),
        }
    }
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "kafka" => Ok(Self::Kafka),
            "parquet" => Ok(Self::Parquet),
            "-" => Ok(Self::Stdout),
            "" => Err("it is empty".to_string()),
            path => Ok(Self::Path(path.into())),
        }
    }
}

/// A point in time: microseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub i64);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let date = || text.parse::<NaiveDate>().ok().map(|date| date.and_time(NaiveTime::MIN).and_utc());
        let time = DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc());
        match time.or_else(date) {
            Some(time) => Ok(Self(time.timestamp_micros())),
            None => Err("a time is a date such as 2026-01-31 (its first moment in UTC), or a date, a time and a zone \
                         such as 2026-01-31T08:00:00Z"
                .to_string()),
        }
    }
}

/// A duration that is not zero.
fn length(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("it is no time at all".to_string()),
        Ok(duration) => Ok(duration),
        Err(_) => Err("a duration is a number and a unit, such as 30s, 5m or 1h".to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, String> {
        let cli = Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?;
        Ok(cli.command)
    }

    #[track_caller]
    fn refused(line: &str, why: &str) {
        let error = parse(line).unwrap_err();
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn the_definition_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn destinations() {
        let to = |line: &str| match parse(line) {
            Ok(Command::Run(Run { to, .. }) | Command::Backfill(Backfill { to, .. })) => to,
            other => panic!("{other:?}"),
        };
        assert_eq!(to("tidecast run p.toml --to -"), Some(Destination::Stdout));
        assert_eq!(to("tidecast run p.toml --to kafka"), Some(Destination::Kafka));
        assert_eq!(to("tidecast backfill p.toml --to parquet"), Some(Destination::Parquet));
        assert_eq!(to("tidecast backfill p.toml --to out/x"), Some(Destination::Path("out/x".into())));
        assert_eq!(to("tidecast backfill p.toml"), None);
        refused("tidecast run p.toml --to out/x", "a path goes into [sink.parquet]");
    }

    #[test]
    fn speeds() {
        let texts = ["1", "0.5", "60x", "max"];
        let speeds = [Speed::Times(1.0), Speed::Times(0.5), Speed::Times(60.0), Speed::Max];
        assert_eq!(texts.map(|text| text.parse::<Speed>()), speeds.map(Ok));
        for text in ["0", "-1", "nan", "inf", "fast", "", "x", "maxx"] {
            assert!(text.parse::<Speed>().is_err(), "{text}");
        }
        refused("tidecast replay p.toml --from x --speed fast", "a speed is a number above 0");
    }

    #[test]
    fn times() {
        let second = 1_000_000;
        assert_eq!("1970-01-02".parse(), Ok(Time(86_400 * second)));
        assert_eq!("1970-01-01T01:00:00.5+01:00".parse(), Ok(Time(second / 2)));
        assert_eq!("1969-12-31T23:59:59.9999999Z".parse(), Ok(Time(-1)), "floored, not rounded to zero");
        refused("tidecast backfill p.toml --since yesterday", "a time is a date such as");
        refused("tidecast backfill p.toml --since 2026-02-30", "a time is a date such as");
        refused("tidecast backfill p.toml --since 2026-01-31T08:00:00", "and a zone");
    }

    #[test]
    fn what_is_missing_or_makes_no_sense_is_refused() {
        refused("tidecast demo --for 0s", "no time at all");
        refused("tidecast demo --for soon", "a number and a unit");
        refused("tidecast train p.toml --out m", "--data");
        refused("tidecast train p.toml --data d --out m --epochs 0", "1..=100000");
        refused("tidecast adopt p.toml --data d --out m", "--weights");
        refused("tidecast replay p.toml", "--from");
        refused("tidecast rejects p.toml --map cat", "--replay");
        refused("tidecast rejects p.toml --replay --all", "cannot be used with");
        refused("tidecast check p.toml -q -v", "cannot be used with");
        refused("tidecast forecast p.toml", "unrecognized subcommand");
    }

    #[test]
    fn everything_said_is_heard() {
        let line = "tidecast backfill p.toml --from a --since 2026-01-01 --until 2026-01-02 --series x --series y --leave-open";
        let Ok(Command::Backfill(said)) = parse(line) else { panic!("not a backfill") };
        assert_eq!((said.series, said.leave_open), (vec!["x".to_string(), "y".to_string()], true));
        assert!(said.since < said.until && said.from == Some("a".into()));
        let Ok(cli) = Cli::try_parse_from(["tidecast", "demo", "-vv", "--for", "30s"]) else {
            panic!("not a demo")
        };
        assert_eq!(cli.verbose, 2);
        let Command::Demo(demo) = cli.command else { panic!("not a demo") };
        assert_eq!((demo.duration, demo.speed), (Some(Duration::from_secs(30)), Speed::Times(86_400.0)));
    }
}
