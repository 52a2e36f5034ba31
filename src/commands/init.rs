//! `init`: a pipeline file for the columns and the time step of a history.

mod columns;
mod time_step;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use tidecast_core::time::duration_text;

use crate::cli::Init;
use crate::config::Pipeline;
use crate::terminal::print;
use crate::user_info;
use columns::ColumnRoles;
use time_step::TimeStep;

pub fn init(arguments: Init) -> Result<()> {
    let Init { data, out, time, series, targets } = arguments;
    let fields = tidecast_tables::fields(&data)?;
    let columns: Vec<String> =
        fields.iter().map(|(name, data_type)| format!("{name}: {data_type}")).collect();
    let mut roles = ColumnRoles::choose(&fields, time, series, targets)
        .with_context(|| format!("{} has the columns {}", data.display(), columns.join(", ")))?;
    let time_step = TimeStep::detect(&data, &mut roles)?;
    let text = pipeline_text(&roles, &time_step, &out, &data)?;
    Pipeline::from_text(&out, &text, &|_| None).context("no valid pipeline fits this history")?;
    write_new(&out, &text)?;
    let model = out.with_file_name(model_name(&out));
    let (out, data, model) = (out.display(), data.display(), model.display());
    print(&format!("{text}\n"))?;
    user_info!(
        "wrote {out}; next:\n  tidecast check {out}\n  tidecast train {out} --data {data} --out {model}\n  tidecast evaluate {out}\n  tidecast backfill {out}\n\
         then uncomment the Kafka tables and run it live:\n  tidecast run {out}"
    );
    Ok(())
}

fn write_new(out: &Path, text: &str) -> Result<()> {
    let mut file = match File::create_new(out) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!("{} exists already; choose another --out", out.display())
        }
        opened => opened.with_context(|| format!("cannot write {}", out.display()))?,
    };
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", out.display()))
}

/// The pipeline's name: that of its file, with valid characters only.
fn pipeline_name(path: &Path) -> String {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let valid = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' };
    let name: String = stem.chars().map(valid).collect();
    if name.is_empty() { "pipeline".to_owned() } else { name }
}

fn model_name(out: &Path) -> String {
    format!("{}.safetensors", pipeline_name(out))
}

/// The path of the data in the pipeline file, where paths are relative to the file.
fn data_path(out: &Path, data: &Path) -> Result<PathBuf> {
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder {
        None => Ok(data.to_owned()),
        Some(_) if data.is_absolute() => Ok(data.to_owned()),
        // A pattern cannot be canonicalized.
        Some(_) => Ok(std::env::current_dir().context("cannot determine the current folder")?.join(data)),
    }
}

/// A TOML string, in which `${` is literal.
fn quoted(text: &str) -> String {
    toml::Value::from(text.replace("${", "$${")).to_string()
}

fn pipeline_text(roles: &ColumnRoles, time_step: &TimeStep, out: &Path, data: &Path) -> Result<String> {
    let name = pipeline_name(out);
    let targets: Vec<String> = roles.targets.iter().map(|target| quoted(target)).collect();
    let series = match &roles.series {
        Some(series) => format!("series = {}\n", quoted(series)),
        None => "# series = \"id\"          # no id column found: all rows are one series\n".to_owned(),
    };
    let time_unit = roles.time_unit.map_or(String::new(), |unit| {
        format!("time_unit = \"{unit}\"         # of the integers in the time column, by their magnitude\n")
    });
    let complete_after = if time_step.one_row_per_step {
        "complete_after = 1          # a step closes with its first row: no step has two\n"
    } else {
        "# complete_after = 1        # steps have several rows, and close with the first row of the next step\n"
    };
    let basics = format!(
        "# {summary}
# Paths are relative to this file. `tidecast check` prints every key with its default.

name = {name}

[columns]
{series}time = {time}
{time_unit}targets = [{targets}]

[grid]
every = \"{every}\"               # the most frequent interval between observations
{complete_after}gap_fill = \"hold\"           # steps without a row: hold, linear, missing
max_gap = \"{max_gap}\"             # after a longer gap the series restarts
",
        summary = time_step.summary(),
        name = quoted(&name),
        time = quoted(&roles.time),
        targets = targets.join(", "),
        every = duration_text(time_step.every),
        max_gap = duration_text(6 * time_step.every),
    );
    Ok(format!("{basics}{}", connectors_text(&name, out, data)?))
}

/// The tables from `[forecast]` on.
fn connectors_text(name: &str, out: &Path, data: &Path) -> Result<String> {
    Ok(format!(
        "
[forecast]
model = {model}   # written by `tidecast train`
levels = [0.8, 0.95]        # prediction intervals

[source.parquet]
path = {data}

[sink.parquet]
path = {folder}

# Uncomment to forecast a topic live with `tidecast run`:
#
# [source.kafka]
# brokers = \"${{TIDECAST_BROKERS:-localhost:9092}}\"
# topic = {topic}
#
# [sink.kafka]
# topic = {forecasts}
# rejects_topic = {rejects}
#
# [state]
# store = {store}   # snapshots of the series, for short restarts
#
# Uncomment to score the live forecasts:
#
# [scores]
# every = 24                  # steps of a scoring period
#
# [sink.scores]
# topic = {scores}
#
# Uncomment for a dashboard, Prometheus metrics and health checks:
#
# [serve]
# address = \"127.0.0.1:8080\"
",
        model = quoted(&model_name(out)),
        data = quoted(&data_path(out, data)?.to_string_lossy()),
        folder = quoted(&format!("out/{name}")),
        topic = quoted(&format!("{name}-readings")),
        forecasts = quoted(&format!("{name}-forecasts")),
        rejects = quoted(&format!("{name}-rejects")),
        store = quoted(&format!("file:state/{name}")),
        scores = quoted(&format!("{name}-scores")),
    ))
}
