//! `init`: a pipeline file to start from.

mod cadence;
mod columns;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::log::say;
use crate::cli::Init;
use crate::config::{Pipeline, duration_text};
use tidecast_tables;
use cadence::Cadence;
use columns::Found;

pub fn init(arguments: Init) -> Result<()> {
    let Init { data, out, time, series, targets } = arguments;
    let fields = parquet::fields(&data)?;
    let mut found = Found::among(&fields, time, series, targets).with_context(|| shown(&data, &fields))?;
    let cadence = Cadence::of(&data, &mut found)?;
    let text = text(&found, &cadence, &out, &data)?;
    Pipeline::from_text(&out, &text, &|_| None).context("no sound pipeline can be made of this history")?;
    write(&out, &text)?;
    let model = out.with_file_name(model_name(&out));
    let (out, data, model) = (out.display(), data.display(), model.display());
    super::print(&format!("{text}\n"))?;
    say!(
        "wrote {out}; next:\n  tidecast check {out}\n  tidecast train {out} --data {data} --out {model}\n  tidecast evaluate {out}\n  tidecast backfill {out}\n\
         then, with the tables for Kafka that it has in comments:\n  tidecast run {out}"
    );
    Ok(())
}

fn shown(data: &Path, fields: &[(String, arrow::datatypes::DataType)]) -> String {
    let columns: Vec<String> = fields.iter().map(|(name, found)| format!("{name}: {found}")).collect();
    format!("{} has the columns {}", data.display(), columns.join(", "))
}

/// Nothing that is there is overwritten.
fn write(out: &Path, text: &str) -> Result<()> {
    let opened = fs::OpenOptions::new().write(true).create_new(true).open(out);
    let mut file = match opened {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!("{} is there already; name another file with --out", out.display())
        }
        opened => opened.with_context(|| format!("cannot write {}", out.display()))?,
    };
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", out.display()))
}

fn stem(path: &Path) -> String {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let allowed = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' };
    let stem: String = stem.chars().map(allowed).collect();
    if stem.is_empty() { "pipeline".to_owned() } else { stem }
}

fn model_name(out: &Path) -> String {
    format!("{}.safetensors", stem(out))
}

/// The data as the pipeline file has to name it: paths in it are relative to it.
fn beside(out: &Path, data: &Path) -> Result<PathBuf> {
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder {
        None => Ok(data.to_owned()),
        Some(_) if data.is_absolute() => Ok(data.to_owned()),
        // A pattern has no canonical form.
        Some(_) => Ok(std::env::current_dir().context("where this process stands")?.join(data)),
    }
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    // What looks like a variable is none.
    toml::Value::from(text.replace("${", "$${")).to_string()
}

fn text(found: &Found, cadence: &Cadence, out: &Path, data: &Path) -> Result<String> {
    let name = stem(out);
    let list: Vec<String> = found.targets.iter().map(|target| quoted(target)).collect();
    let series = match &found.series {
        Some(series) => format!("series = {}\n", quoted(series)),
        None => {
            "# series = \"id\"          # no column of ids was found: all rows are one series\n".to_owned()
        }
    };
    let unit = found.unit.map_or(String::new(), |unit| {
        format!("time_unit = {}         # of the whole numbers in that column, by their size\n", quoted(unit))
    });
    let (every, gap) = (duration_text(cadence.every), duration_text(6 * cadence.every));
    let complete = match cadence.alone {
        true => "complete_after = 1          # a step closes with its first row: none was seen to have two\n",
        false => {
            "# complete_after = 1        # steps have several rows, and close with the next step's first one\n"
        }
    };
    let data = quoted(&beside(out, data)?.to_string_lossy());
    let (model, topic) = (quoted(&model_name(out)), quoted(&format!("{name}-readings")));
    let (forecasts, rejects) = (quoted(&format!("{name}-forecasts")), quoted(&format!("{name}-rejects")));
    let scores = quoted(&format!("{name}-scores"));
    let (folder, store) = (quoted(&format!("out/{name}")), quoted(&format!("file:state/{name}")));
    let (name, time, targets) = (quoted(&name), quoted(&found.time), list.join(", "));
    Ok(format!(
        "# {summary}
# Paths are relative to this file. `tidecast check` prints every key with its default.

name = {name}

[columns]
{series}time = {time}
{unit}targets = [{targets}]

[grid]
every = \"{every}\"               # the readings of a series are mostly so far apart
{complete}gaps = \"hold\"               # steps without a row: hold, linear, missing
max_gap = \"{gap}\"             # after a longer gap a series starts again

[forecast]
model = {model}   # written by `tidecast train`
levels = [0.8, 0.95]        # intervals around each forecast

[source.parquet]
path = {data}

[sink.parquet]
path = {folder}

# To forecast a topic live with `tidecast run`, take these:
#
# [source.kafka]
# brokers = \"${{TIDECAST_BROKERS:-localhost:9092}}\"
# topic = {topic}
#
# [sink.kafka]
# topic = {forecasts}
# rejects = {rejects}
#
# [state]
# store = {store}   # what each series remembers, so that a restart is short
#
# To know how good the forecasts are while they run, these as well:
#
# [scores]
# every = 24                  # steps that a score is of
#
# [sink.scores]
# topic = {scores}
#
# And to look at it, a dashboard, metrics for Prometheus and whether it is well:
#
# [serve]
# address = \"127.0.0.1:8080\"
",
        summary = cadence.summary(),
    ))
}
