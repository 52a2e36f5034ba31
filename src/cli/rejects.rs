//! The words of `rejects`.

use std::path::PathBuf;

use clap::Args;

/// Look at the messages that were refused, and send them through again
///
/// Lists what waits in the pipeline's rejects topic: how many of each reason, and some of each with the place they came
/// from. With --replay they are sent to the source topic again, as they are or as a program corrects them. What was
/// sent is not sent twice, whatever breaks off the replay: messages and positions are committed together.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  tidecast rejects pipelines/sensors.toml\n  \
                        tidecast rejects pipelines/sensors.toml --json | jq -r .detail | sort | uniq -c\n  \
                        tidecast rejects pipelines/sensors.toml --replay --reason malformed\n  \
                        tidecast rejects pipelines/sensors.toml --replay --map \"jq -c '.value | fromjson | .time |= tonumber'\" --dry-run")]
pub struct Rejects {
    /// Pipeline file
    pub pipeline: PathBuf,

    /// Only those refused for these reasons, parted by commas
    #[arg(long, value_name = "REASON,...", value_delimiter = ',')]
    pub reason: Vec<String>,

    /// Print every message as a line of JSON
    #[arg(long, conflicts_with = "replay")]
    pub json: bool,

    /// Also those that were sent through again already, or left out
    #[arg(long, conflicts_with = "replay")]
    pub all: bool,

    /// Send them to the source topic again
    #[arg(long)]
    pub replay: bool,

    /// Correct them with this program of the shell: a line of JSON in for each message (reason, detail, topic, partition,
    /// offset, key, value), a line out, which is the message to send; an empty one leaves it out. It is started anew for
    /// every thousand messages
    #[arg(long, value_name = "PROGRAM", requires = "replay")]
    pub map: Option<String>,

    /// Print what would be sent, and send nothing
    #[arg(long, requires = "replay")]
    pub dry_run: bool,
}
