//! The command line as types: commands, flags and their help. Only single values are parsed here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::{Shell, generate};

/// Streaming forecasts with recurrent networks, on Kafka and Parquet.
///
/// A pipeline file names the source of the observations, the grid of the series, the model and the sink of the forecasts.
/// One file trains a model on history, backfills forecasts and runs live; all three give the same numbers.
#[derive(Debug, Parser)]
#[command(name = "tidecast", version, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "Start here:\n  tidecast demo\n  tidecast init HISTORY.parquet\n  \
                        tidecast check pipelines/sensors.toml\n\n\
                        Exit codes:\n  0    success, or stopped by Ctrl-C or SIGTERM with everything committed\n  \
                        1    failure; the error is on standard error\n  2    invalid command line\n  \
                        130  stopped at once by a second Ctrl-C or SIGTERM")]
pub struct Cli {
    /// Log more: -v for events, -vv for details
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// Print errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Format of the log on standard error [default: TIDECAST_LOG_FORMAT, or text]
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
    Check(Check),
    Train(Train),
    Evaluate(Evaluate),
    Backfill(Backfill),
    Run(Run),
    Bootstrap(Bootstrap),
    Replay(Replay),
    Rejects(Rejects),
    ImportTorch(ImportTorch),
    Inspect(Inspect),
    Completions(Completions),
}

/// Forecast real sensor data in one process, without any installation
///
/// Starts a Kafka broker in this process, replays a year of weather observations into it, forecasts each sensor live, and
/// shows forecasts and errors in the terminal and in a dashboard.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tidecast demo\n  tidecast demo --for 2m --speed 3600")]
pub struct Demo {
    /// Stop after this time [default: at Ctrl-C]
    #[arg(long = "for", value_name = "DURATION", value_parser = positive_duration)]
    pub duration: Option<Duration>,

    /// Replay speed: a factor, or "max"; 86400 is a day per second
    #[arg(long, value_name = "FACTOR|max", default_value = "86400")]
    pub speed: Speed,

    /// Address of the dashboard [default: 127.0.0.1:8080, or a free port if 8080 is in use]
    #[arg(long, value_name = "IP:PORT")]
    pub address: Option<SocketAddr>,
}

/// Write a pipeline file for the columns and the time step of a Parquet history
///
/// Reads the schema and the first rows to find the time, the id and the numeric columns, and the time between observations.
/// Comments in the file explain each choice. An existing file is not overwritten.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tidecast init history/readings.parquet\n  \
                        tidecast init history/ --out plant.toml --time at --series machine --target kilowatts")]
pub struct Init {
    /// History: a file, a folder or a pattern
    pub data: PathBuf,

    /// Pipeline file to write
    #[arg(long, value_name = "PATH", default_value = "pipeline.toml")]
    pub out: PathBuf,

    /// Time column [default: by name and type]
    #[arg(long, value_name = "COLUMN")]
    pub time: Option<String>,

    /// Id column [default: by name and type, if there is one]
    #[arg(long, value_name = "COLUMN")]
    pub series: Option<String>,

    /// Column to forecast; repeatable [default: all measurements]
    #[arg(long = "target", value_name = "COLUMN")]
    pub targets: Vec<String>,
}

/// Validate a pipeline, and print it with every default filled in
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tidecast check pipelines/sensors.toml\n  \
                        tidecast check pipelines/sensors.toml --connect\n  \
                        tidecast check pipelines/sensors.toml --json | jq .plan.grid.every")]
pub struct Check {
    /// Pipeline file
    pub pipeline: PathBuf,

    /// Also connect to the brokers and look up the topics
    #[arg(long)]
    pub connect: bool,

    /// Print one line of JSON: the plan by key, and the problems with their file and line
    #[arg(long)]
    pub json: bool,
}

/// Train the pipeline's model on Parquet history and write it to a file
///
/// Splits the history by time into training, validation and test data, and compares the model's errors on the last two with
/// those of naive forecasts: the last value, and the value one season before. Ctrl-C keeps the best model so far, and the same
/// command resumes.
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

    /// Also write a report as a self-contained HTML page: decisions, loss, errors and example forecasts
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Maximum number of epochs [default: the pipeline's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub epochs: Option<u32>,

    /// Random seed; equal seeds give equal files [default: the pipeline's]
    #[arg(long, value_name = "SEED")]
    pub seed: Option<u64>,
}

/// Score a model on history, against baselines
///
/// Forecasts the history exactly as `backfill` does and scores the forecasts of the data that the model was not trained on.
/// The baselines forecast at the same origins: the last value, the value one day and one week before, a ridge regression and
/// exponential smoothing. A Diebold-Mariano test decides whether a difference is significant.
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

    /// Observations: a file, a folder or a pattern [default: the pipeline's Parquet source]
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,

    /// Score forecasts from this time [default: the end of the model's validation data]
    #[arg(long, value_name = "TIME", value_parser = epoch_micros)]
    pub since: Option<i64>,

    /// Score forecasts before this time
    #[arg(long, value_name = "TIME", value_parser = epoch_micros)]
    pub until: Option<i64>,

    /// Score only the series with this id; repeatable
    #[arg(long, value_name = "ID")]
    pub series: Vec<String>,

    /// Print the full report as one line of JSON
    #[arg(long)]
    pub json: bool,

    /// Also write a report as a self-contained HTML page
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Forecast history: from Parquet files to Parquet files
///
/// Writes the forecasts that a live run would have made, row for row. At the end of the input, open steps are closed.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tidecast backfill pipelines/sensors.toml\n  \
                        tidecast backfill pipelines/sensors.toml --from 'history/*.parquet' --to out/2025.parquet\n  \
                        tidecast backfill pipelines/sensors.toml --series miami/humidity --since 2023-06-01 --to -")]
pub struct Backfill {
    /// Pipeline file
    pub pipeline: PathBuf,

    /// Observations: a file, a folder or a pattern [default: the pipeline's Parquet source]
    #[arg(long, value_name = "PATH")]
    pub from: Option<PathBuf>,

    /// Destination: a path, "parquet" or "kafka" for the pipeline's sink, "-" for standard output [default: the pipeline's
    /// sink, Parquet before Kafka]. The scores of a pipeline with [sink.scores] are written next to a path: to
    /// NAME.scores.parquet, or to scores.parquet in a folder
    #[arg(long, value_name = "PATH|kafka|-")]
    pub to: Option<Destination>,

    /// Skip observations before this time
    #[arg(long, value_name = "TIME", value_parser = epoch_micros)]
    pub since: Option<i64>,

    /// Skip observations at or after this time
    #[arg(long, value_name = "TIME", value_parser = epoch_micros)]
    pub until: Option<i64>,

    /// Read only the series with this id; repeatable
    #[arg(long, value_name = "ID")]
    pub series: Vec<String>,

    /// Do not close open steps at the end of the input
    #[arg(long)]
    pub leave_open: bool,
}

/// Forecast live: from the pipeline's Kafka topic to its sink
///
/// Runs until stopped. Kafka and Parquet sinks receive every forecast exactly once; standard output, and a pipeline with
/// `delivery = "at_least_once"`, may receive some forecasts twice after a crash. Several processes of a pipeline share the
/// partitions of the topic.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tidecast run pipelines/sensors.toml\n  \
                        tidecast run pipelines/sensors.toml --until-end --to -")]
pub struct Run {
    /// Pipeline file
    pub pipeline: PathBuf,

    /// Stop at the current end of the topic, and leave open steps open. Use it with a single process per group: the partitions
    /// of a finished process are not reassigned
    #[arg(long)]
    pub until_end: bool,

    /// Destination: "kafka" or "parquet" for the pipeline's sink, "-" for standard output [default: the pipeline's sink, Kafka
    /// before Parquet]
    #[arg(long, value_name = "kafka|parquet|-", value_parser = Destination::without_path)]
    pub to: Option<Destination>,
}

/// Create the state of a new pipeline from files, so that `run` starts warm
///
/// Reads the history before --at without output, writes a snapshot for every partition of the topic (each series in the
/// partition that murmur2 gives its key), and commits the offsets of --at, where `run` starts. The consumer group must have no
/// committed offsets and no members.
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  tidecast bootstrap pipelines/sensors.toml --from 'history/*.parquet' --at 2026-01-01"
)]
pub struct Bootstrap {
    /// Pipeline file
    pub pipeline: PathBuf,

    /// History: a file, a folder or a pattern
    #[arg(long, value_name = "PATH")]
    pub from: PathBuf,

    /// Read earlier observations from the files, and later ones from the topic (a date or RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = epoch_micros)]
    pub at: i64,
}

/// Send Parquet observations to the pipeline's Kafka topic at their original pace or faster
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tidecast replay pipelines/sensors.toml --from pipelines/sensors/readings.parquet\n  \
                        tidecast replay pipelines/sensors.toml --from history/ --speed max"
)]
pub struct Replay {
    /// Pipeline file
    pub pipeline: PathBuf,

    /// Observations: a file, a folder or a pattern
    #[arg(long, value_name = "PATH")]
    pub from: PathBuf,

    /// Replay speed: a factor, or "max" for the speed of the broker
    #[arg(long, value_name = "FACTOR|max", default_value = "1")]
    pub speed: Speed,
}

/// List or replay the messages in the rejects topic
///
/// Lists the pending rejects: their number by reason, and examples with their coordinates. With --replay, sends them to the
/// source topic again, unchanged or corrected by a program. Each message is sent once, even if the replay is interrupted:
/// messages and progress are committed together.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tidecast rejects pipelines/sensors.toml\n  \
                        tidecast rejects pipelines/sensors.toml --json | jq -r .detail | sort | uniq -c\n  \
                        tidecast rejects pipelines/sensors.toml --replay --reason malformed\n  \
                        tidecast rejects pipelines/sensors.toml --replay --map \"jq -c '.value | fromjson | .time |= tonumber'\" --dry-run")]
pub struct Rejects {
    /// Pipeline file
    pub pipeline: PathBuf,

    /// Only rejects with these reasons, separated by commas
    #[arg(long, value_name = "REASON,...", value_delimiter = ',')]
    pub reason: Vec<String>,

    /// Print every message as one line of JSON
    #[arg(long, conflicts_with = "replay")]
    pub json: bool,

    /// Include rejects that were replayed or skipped already
    #[arg(long, conflicts_with = "replay")]
    pub all: bool,

    /// Send the rejects to the source topic again
    #[arg(long)]
    pub replay: bool,

    /// Correct the rejects with this shell command: it reads one line of JSON per message (reason, detail, topic, partition,
    /// offset, key, value) and prints one line each, the new message; an empty line skips it. It is started for every thousand
    /// messages
    #[arg(long, value_name = "COMMAND", requires = "replay")]
    pub map: Option<String>,

    /// Print the messages instead of sending them
    #[arg(long, requires = "replay")]
    pub dry_run: bool,
}

/// Convert a network trained with PyTorch to a model file
///
/// Reads the tensors of an nn.RNN, nn.LSTM or nn.GRU and of an nn.Linear named `head`, as saved by
/// safetensors.torch.save_file. The cell, its sizes, lookback, horizon, scaling and calendar are those of the pipeline's
/// [train], with recurrence = false. Nothing is trained: the validation split calibrates the intervals, and the errors on the
/// validation and test splits are computed as by `train`. `tidecast check` prints every key of [train].
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  tidecast import-torch python/sensors.toml --weights /tmp/weights.safetensors \
                        --data pipelines/sensors/readings.parquet --out /tmp/model.safetensors"
)]
pub struct ImportTorch {
    /// Pipeline file
    pub pipeline: PathBuf,

    /// Tensors from PyTorch, a safetensors file
    #[arg(long, value_name = "PATH")]
    pub weights: PathBuf,

    /// History: a file, a folder or a pattern
    #[arg(long, value_name = "PATH")]
    pub data: PathBuf,

    /// Model file to write
    #[arg(long, value_name = "PATH")]
    pub out: PathBuf,
}

/// Print the metadata of a model (network, recipe, errors) or of a snapshot (position, lineage, ids)
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tidecast inspect pipelines/sensors/model.safetensors\n  \
                        tidecast inspect pipelines/sensors/model.safetensors --json | jq .scores\n  \
                        tidecast inspect 'pipelines/state/sensors/sensor-readings@0@00000000000000120000-0123456789ab-\
                        00000000000000000000.arrow'")]
pub struct Inspect {
    /// Model file, or snapshot of a state folder
    pub file: PathBuf,

    /// Print one line of JSON
    #[arg(long)]
    pub json: bool,
}

/// Print the completion script of a shell
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tidecast completions bash > ~/.local/share/bash-completion/completions/tidecast\n  \
                        tidecast completions zsh > ~/.zfunc/_tidecast\n  \
                        tidecast completions fish > ~/.config/fish/completions/tidecast.fish"
)]
pub struct Completions {
    pub shell: Shell,
}

impl Completions {
    pub fn script(&self) -> String {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "tidecast", &mut script);
        String::from_utf8_lossy(&script).into_owned()
    }
}

/// The speed of event time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// A multiple of real time; finite and positive.
    Factor(f64),
    /// Without pauses.
    Max,
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_suffix('x').unwrap_or(text).parse::<f64>() {
            _ if text == "max" => Ok(Self::Max),
            Ok(factor) if factor.is_finite() && factor > 0.0 => Ok(Self::Factor(factor)),
            _ => Err("a speed is a positive number, such as 60, or \"max\"".to_owned()),
        }
    }
}

/// The destination of forecasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The pipeline's Kafka sink.
    Kafka,
    /// The pipeline's Parquet sink.
    Parquet,
    /// Standard output, one line of JSON per forecast.
    Stdout,
    /// A Parquet file or folder.
    Path(PathBuf),
}

impl Destination {
    /// Parses any destination but a path.
    fn without_path(text: &str) -> Result<Self, String> {
        match text.parse()? {
            Self::Path(_) => {
                Err("expected \"kafka\", \"parquet\" or \"-\"; set a path in [sink.parquet]".to_owned())
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
            "" => Err("the path is empty".to_owned()),
            path => Ok(Self::Path(path.into())),
        }
    }
}

/// A time as microseconds since the epoch.
fn epoch_micros(text: &str) -> Result<i64, &'static str> {
    let date = || text.parse::<NaiveDate>().ok().map(|date| date.and_time(NaiveTime::MIN).and_utc());
    let time = DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc());
    time.or_else(date).map(|time| time.timestamp_micros()).ok_or(
        "a time is a date such as 2026-01-31 (midnight UTC), or a date and time with a zone such as 2026-01-31T08:00:00Z",
    )
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("the duration is zero".to_owned()),
        Ok(duration) => Ok(duration),
        Err(_) => Err("a duration is a number and a unit, such as 30s, 5m or 1h".to_owned()),
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
    fn rejected(line: &str, why: &str) {
        let error = parse(line).unwrap_err();
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn the_definition_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn destinations_are_parsed() {
        let to = |line: &str| match parse(line) {
            Ok(Command::Run(Run { to, .. }) | Command::Backfill(Backfill { to, .. })) => to,
            other => panic!("{other:?}"),
        };
        assert_eq!(to("tidecast run p.toml --to -"), Some(Destination::Stdout));
        assert_eq!(to("tidecast run p.toml --to kafka"), Some(Destination::Kafka));
        assert_eq!(to("tidecast backfill p.toml --to parquet"), Some(Destination::Parquet));
        assert_eq!(to("tidecast backfill p.toml --to out/x"), Some(Destination::Path("out/x".into())));
        assert_eq!(to("tidecast backfill p.toml"), None);
        rejected("tidecast run p.toml --to out/x", "set a path in [sink.parquet]");
    }

    #[test]
    fn speeds_are_parsed() {
        let texts = ["1", "0.5", "60x", "max"];
        let speeds = [Speed::Factor(1.0), Speed::Factor(0.5), Speed::Factor(60.0), Speed::Max];
        assert_eq!(texts.map(|text| text.parse::<Speed>()), speeds.map(Ok));
        for text in ["0", "-1", "nan", "inf", "fast", "", "x", "maxx"] {
            assert!(text.parse::<Speed>().is_err(), "{text}");
        }
        rejected("tidecast replay p.toml --from x --speed fast", "a speed is a positive number");
    }

    #[test]
    fn times_are_parsed() {
        let second = 1_000_000;
        assert_eq!(epoch_micros("1970-01-02"), Ok(86_400 * second));
        assert_eq!(epoch_micros("1970-01-01T01:00:00.5+01:00"), Ok(second / 2));
        assert_eq!(epoch_micros("1969-12-31T23:59:59.9999999Z"), Ok(-1), "rounded down, not to zero");
        rejected("tidecast backfill p.toml --since 2026-02-30", "a time is a date such as");
        rejected("tidecast backfill p.toml --since 2026-01-31T08:00:00", "with a zone");
    }

    #[test]
    fn invalid_command_lines_are_rejected() {
        rejected("tidecast demo --for 0s", "the duration is zero");
        rejected("tidecast demo --for soon", "a number and a unit");
        rejected("tidecast train p.toml --out m", "--data");
        rejected("tidecast train p.toml --data d --out m --epochs 0", "1..=100000");
        rejected("tidecast import-torch p.toml --data d --out m", "--weights");
        rejected("tidecast replay p.toml", "--from");
        rejected("tidecast rejects p.toml --map cat", "--replay");
        rejected("tidecast rejects p.toml --replay --all", "cannot be used with");
        rejected("tidecast check p.toml -q -v", "cannot be used with");
        rejected("tidecast forecast p.toml", "unrecognized subcommand");
    }

    #[test]
    fn every_argument_is_parsed() {
        let line = "tidecast backfill p.toml --from a --since 2026-01-01 --until 2026-01-02 --series x --series y --leave-open";
        let Ok(Command::Backfill(arguments)) = parse(line) else { panic!("not a backfill") };
        assert_eq!((arguments.series, arguments.leave_open), (vec!["x".to_owned(), "y".to_owned()], true));
        assert!(arguments.since < arguments.until && arguments.from == Some("a".into()));
        let Ok(cli) = Cli::try_parse_from(["tidecast", "demo", "-vv", "--for", "30s"]) else {
            panic!("not a demo")
        };
        assert_eq!(cli.verbose, 2);
        let Command::Demo(demo) = cli.command else { panic!("not a demo") };
        assert_eq!((demo.duration, demo.speed), (Some(Duration::from_secs(30)), Speed::Factor(86_400.0)));
    }
}
