//! Writes the sample data of this folder from the original files:
//!
//! ```sh
//! cargo run --release --example samples -- RAW_FOLDER
//! ```
//!
//! RAW_FOLDER contains `weather_stations/` (two TMY3 files, one TMY2) and `motes/readings.csv`. The output depends only on
//! these files, byte for byte. It is committed, so the original files are not needed otherwise; the README.md of each folder
//! names their origin and all changes.
//!
//! An invalid line stops the program with an error that names the line.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use chrono::{DateTime, Datelike, Timelike};
use polars::prelude::{Column, DataFrame, DataType, ParquetCompression, ParquetWriter, TimeUnit, TimeZone};
use tidecast_core::time::{HOUR, SECOND};

/// 2023-01-01T00:00:00Z. The months of a typical year come from different years; all are dated 2023 here, which has 365 days
/// like a typical year.
const YEAR_START: i64 = 1_672_531_200 * SECOND;
const YEAR_HOURS: usize = 365 * 24;

/// 2010-05-09T00:00:00Z: the day of the readings. The time of day is unknown.
const MOTES_START: i64 = 1_273_363_200 * SECOND;
const MOTES_EVERY: i64 = 5 * SECOND;

/// Rows per row group: small enough for a time filter to skip groups.
const ROW_GROUP: usize = 20_000;

/// A sensor with more missing hours is omitted, as is a constant one.
const MISSING_MAX: usize = YEAR_HOURS / 4;

struct Station {
    name: &'static str,
    file: &'static str,
    format: Format,
}

enum Format {
    Tmy2,
    Tmy3,
}

const STATIONS: [Station; 3] = [
    Station { name: "greensboro", file: "723170TYA.CSV", format: Format::Tmy3 },
    Station { name: "miami", file: "12839.tm2", format: Format::Tmy2 },
    Station { name: "sand-point", file: "703165TY.csv", format: Format::Tmy3 },
];

/// A measured quantity: its column in a TMY3 file and its characters in a TMY2 line, each with the divisor that converts the
/// number to the unit in `sensors/README.md`.
struct Quantity {
    name: &'static str,
    tmy3: (&'static str, f64),
    tmy2: (Range<usize>, f64),
}

const QUANTITIES: [Quantity; 9] = [
    Quantity { name: "temperature", tmy3: ("Dry-bulb (C)", 1.0), tmy2: (67..71, 10.0) },
    Quantity { name: "dew-point", tmy3: ("Dew-point (C)", 1.0), tmy2: (73..77, 10.0) },
    Quantity { name: "humidity", tmy3: ("RHum (%)", 1.0), tmy2: (79..82, 1.0) },
    Quantity { name: "pressure", tmy3: ("Pressure (mbar)", 1.0), tmy2: (84..88, 1.0) },
    Quantity { name: "wind-speed", tmy3: ("Wspd (m/s)", 1.0), tmy2: (95..98, 10.0) },
    Quantity { name: "visibility", tmy3: ("Hvis (m)", 1000.0), tmy2: (100..104, 10.0) },
    Quantity { name: "global-irradiance", tmy3: ("GHI (W/m^2)", 1.0), tmy2: (17..21, 1.0) },
    Quantity { name: "direct-irradiance", tmy3: ("DNI (W/m^2)", 1.0), tmy2: (23..27, 1.0) },
    Quantity { name: "diffuse-irradiance", tmy3: ("DHI (W/m^2)", 1.0), tmy2: (29..33, 1.0) },
];

/// One line of a weather file. Its hour is given by month, day and number: 1 to 24, the hour that ends then.
struct WeatherHour {
    stamp: (u32, u32, u32),
    values: [Option<f64>; QUANTITIES.len()],
}

/// A row of `sensors/readings.parquet`.
struct Reading {
    time: i64,
    sensor: Rc<str>,
    value: f64,
}

/// A row of `motes/readings.parquet`.
struct MoteReading {
    time: i64,
    mote: String,
    humidity: f64,
    temperature: f64,
    label: i32,
}

fn main() -> ExitCode {
    let Some(raw) = std::env::args_os().nth(1) else {
        eprintln!("usage: samples RAW_FOLDER, which contains weather_stations/ and motes/");
        return ExitCode::from(2);
    };
    match make_samples(Path::new(&raw), &Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn make_samples(raw: &Path, pipelines: &Path) -> Result<()> {
    let mut readings = Vec::new();
    for station in &STATIONS {
        let path = raw.join("weather_stations").join(station.file);
        let (utc_offset, year) = parse_station(&station.format, &path, &read(&path)?)?;
        for (index, quantity) in QUANTITIES.iter().enumerate() {
            let values: Vec<Option<f64>> = year.iter().map(|hour| hour.values[index]).collect();
            add_sensor(&mut readings, &format!("{}/{}", station.name, quantity.name), utc_offset, &values);
        }
    }
    // In the order of a stream: by time, then by sensor.
    readings.sort_by(|a, b| (a.time, &a.sensor).cmp(&(b.time, &b.sensor)));
    write_parquet(
        &pipelines.join("sensors/readings.parquet"),
        vec![
            Column::new("sensor".into(), readings.iter().map(|r| &*r.sensor).collect::<Vec<_>>()),
            Column::new("time".into(), readings.iter().map(|r| r.time).collect::<Vec<_>>()),
            Column::new("value".into(), readings.iter().map(|r| r.value).collect::<Vec<_>>()),
        ],
    )?;

    let path = raw.join("motes/readings.csv");
    let mut readings = parse_motes(&path, &read(&path)?)?;
    readings.sort_by(|a, b| (a.time, &a.mote).cmp(&(b.time, &b.mote)));
    write_parquet(
        &pipelines.join("motes/readings.parquet"),
        vec![
            Column::new("mote".into(), readings.iter().map(|r| r.mote.as_str()).collect::<Vec<_>>()),
            Column::new("time".into(), readings.iter().map(|r| r.time).collect::<Vec<_>>()),
            Column::new("humidity".into(), readings.iter().map(|r| r.humidity).collect::<Vec<_>>()),
            Column::new("temperature".into(), readings.iter().map(|r| r.temperature).collect::<Vec<_>>()),
            Column::new("label".into(), readings.iter().map(|r| r.label).collect::<Vec<_>>()),
        ],
    )
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {} as text", path.display()))
}

/// Adds the rows of one sensor from its hourly values; a missing value has no row.
fn add_sensor(readings: &mut Vec<Reading>, sensor: &str, utc_offset: i64, values: &[Option<f64>]) {
    let known: Vec<f64> = values.iter().flatten().copied().collect();
    let missing = values.len() - known.len();
    let (min, max) = known.iter().fold((f64::MAX, f64::MIN), |(min, max), &v| (min.min(v), max.max(v)));
    if missing > MISSING_MAX || min >= max {
        println!("omitted {sensor}: {missing} hours missing, values from {min} to {max}");
        return;
    }
    println!("{sensor}: {} rows, {missing} hours missing, values from {min} to {max}", known.len());
    let sensor: Rc<str> = sensor.into();
    for (hour, value) in (0..).zip(values) {
        // Local time is UTC plus the offset.
        let time = YEAR_START + (hour - utc_offset) * HOUR;
        readings.extend(value.map(|value| Reading { time, sensor: sensor.clone(), value }));
    }
}

// === Weather stations ===

/// The UTC offset of a station in hours, and all hours of its year in order.
fn parse_station(format: &Format, path: &Path, text: &str) -> Result<(i64, Vec<WeatherHour>)> {
    let mut lines = (1..).zip(text.lines());
    let mut next_header = || lines.next().map_or("", |(_, line)| line);
    let header = |number: usize| format!("{}:{number}", path.display());
    let (utc_offset, columns) = match format {
        Format::Tmy2 => (parse_tmy2_zone(next_header()).with_context(|| header(1))?, Vec::new()),
        Format::Tmy3 => {
            let utc_offset = parse_tmy3_zone(next_header()).with_context(|| header(1))?;
            (utc_offset, find_tmy3_columns(next_header()).with_context(|| header(2))?)
        }
    };
    let mut year = Vec::with_capacity(YEAR_HOURS);
    for (number, line) in lines.filter(|(_, line)| !line.is_empty()) {
        let line_number = || format!("{}:{number}", path.display());
        let hour = match format {
            Format::Tmy2 => parse_tmy2_hour(line),
            Format::Tmy3 => parse_tmy3_hour(line, &columns),
        };
        let hour = hour.with_context(line_number)?;
        check_stamp(hour.stamp, year.len()).with_context(line_number)?;
        year.push(hour);
    }
    ensure!(year.len() == YEAR_HOURS, "{}: {} hours, expected {YEAR_HOURS}", path.display(), year.len());
    Ok((utc_offset, year))
}

/// Checks that the lines of a year are complete and in order, so that the year can be replaced.
fn check_stamp(stamp: (u32, u32, u32), index: usize) -> Result<()> {
    let start = YEAR_START + index as i64 * HOUR;
    let start = DateTime::from_timestamp_micros(start).context("the year has too many hours")?;
    let expected = (start.month(), start.day(), start.hour() + 1);
    ensure!(stamp == expected, "month, day and hour are {stamp:?}, expected {expected:?}");
    Ok(())
}

/// `703165,"SAND POINT",AK,-9.0,55.317,-160.517,7`: the fourth field is the zone.
fn parse_tmy3_zone(line: &str) -> Result<i64> {
    let fields: Vec<&str> = line.split(',').collect();
    whole_hours(field(&fields, 3)?)
}

/// The column of each quantity.
fn find_tmy3_columns(line: &str) -> Result<Vec<usize>> {
    let names: Vec<&str> = line.split(',').collect();
    let find = |name| names.iter().position(|n| *n == name).with_context(|| format!("no column {name}"));
    QUANTITIES.iter().map(|quantity| find(quantity.tmy3.0)).collect()
}

/// `01/31/1997,24:00,...`: date and time, then the value, source and uncertainty of each quantity. -9900 is a missing value.
fn parse_tmy3_hour(line: &str, columns: &[usize]) -> Result<WeatherHour> {
    let fields: Vec<&str> = line.split(',').collect();
    let (date, time) = (field(&fields, 0)?, field(&fields, 1)?);
    let hour = time.strip_suffix(":00").with_context(|| format!("{time} is not a full hour"))?;
    let stamp = (whole(characters(date, 0..2)?)?, whole(characters(date, 3..5)?)?, whole(hour)?);
    let mut values = [None; QUANTITIES.len()];
    for ((value, quantity), &column) in values.iter_mut().zip(&QUANTITIES).zip(columns) {
        let found = number(field(&fields, column)?)?;
        *value = (found != -9900.0).then_some(found / quantity.tmy3.1);
    }
    Ok(WeatherHour { stamp, values })
}

/// ` 12839 MIAMI                  FL  -5 N 25 48 W  80 16     2`: characters 33 to 36 are the zone.
fn parse_tmy2_zone(line: &str) -> Result<i64> {
    whole_hours(characters(line, 33..37)?)
}

/// ` 62013124...`: year, month, day and hour in two digits each, then values in fixed columns, each followed by a letter for its
/// source and a digit for its uncertainty. A value of nines is missing.
fn parse_tmy2_hour(line: &str) -> Result<WeatherHour> {
    let digits = |from: usize| whole(characters(line, from..from + 2)?);
    let stamp = (digits(3)?, digits(5)?, digits(7)?);
    let mut values = [None; QUANTITIES.len()];
    for (value, quantity) in values.iter_mut().zip(&QUANTITIES) {
        let (range, divisor) = &quantity.tmy2;
        let found = characters(line, range.clone())?;
        *value = if found.bytes().all(|b| b == b'9') { None } else { Some(number(found)? / divisor) };
    }
    Ok(WeatherHour { stamp, values })
}

// === Motes ===

/// The rows of the file. Times follow from the reading numbers, which must be 1, 2, 3, ... for each mote.
fn parse_motes(path: &Path, text: &str) -> Result<Vec<MoteReading>> {
    let mut lines = (1..).zip(text.lines());
    let header = lines.next().map_or("", |(_, line)| line);
    let expected = "reading,mote_id,indoor,humidity,temperature,label";
    ensure!(header == expected, "{}:1: columns are {header}, expected {expected}", path.display());
    let mut readings = Vec::new();
    let mut last_numbers = BTreeMap::new();
    for (number, line) in lines.filter(|(_, line)| !line.is_empty()) {
        let line_number = || format!("{}:{number}", path.display());
        let (reading_number, reading) = parse_mote_reading(line).with_context(line_number)?;
        let last = last_numbers.entry(reading.mote.clone()).or_insert(0);
        if reading_number != *last + 1 {
            bail!("{}: reading {reading_number} of {} follows reading {last}", line_number(), reading.mote);
        }
        *last = reading_number;
        readings.push(reading);
    }
    Ok(readings)
}

/// `1,3,0,45.93,27.97,0`: reading number, mote, whether it is indoors, humidity, temperature, label.
fn parse_mote_reading(line: &str) -> Result<(u32, MoteReading)> {
    let fields: Vec<&str> = line.split(',').collect();
    let reading_number = whole(field(&fields, 0)?)?;
    let reading = MoteReading {
        time: MOTES_START + (i64::from(reading_number) - 1) * MOTES_EVERY,
        mote: format!("mote-{}", whole(field(&fields, 1)?)?),
        humidity: number(field(&fields, 3)?)?,
        temperature: number(field(&fields, 4)?)?,
        label: match field(&fields, 5)? {
            "0" => 0,
            "1" => 1,
            other => bail!("label is `{other}`, expected 0 or 1"),
        },
    };
    Ok((reading_number, reading))
}

// === Text ===

fn field<'a>(fields: &[&'a str], index: usize) -> Result<&'a str> {
    fields
        .get(index)
        .copied()
        .with_context(|| format!("{} fields, expected at least {}", fields.len(), index + 1))
}

fn characters(text: &str, range: Range<usize>) -> Result<&str> {
    text.get(range.clone())
        .with_context(|| format!("{} characters, expected at least {}", text.len(), range.end))
}

fn whole(text: &str) -> Result<u32> {
    text.trim().parse().with_context(|| format!("`{text}` is not a whole number"))
}

fn number(text: &str) -> Result<f64> {
    let number: f64 = text.trim().parse().with_context(|| format!("`{text}` is not a number"))?;
    ensure!(number.is_finite(), "`{text}` is not finite");
    Ok(number)
}

fn whole_hours(text: &str) -> Result<i64> {
    let zone = number(text)?;
    ensure!(zone.fract() == 0.0 && zone.abs() <= 14.0, "a zone of {zone} hours is not supported");
    Ok(zone as i64)
}

// === Parquet ===

/// Writes `columns`; the column `time` has microseconds since the Unix epoch.
fn write_parquet(path: &Path, columns: Vec<Column>) -> Result<()> {
    let frame = DataFrame::new_infer_height(columns)?;
    // The schema declares the integers to be timestamps, which needs no further feature of polars.
    let mut schema = frame.schema().as_ref().clone();
    schema.with_column("time".into(), DataType::Datetime(TimeUnit::Microseconds, Some(TimeZone::UTC)));
    let mut bytes = Vec::new();
    let zstd = ParquetCompression::Zstd(None);
    let mut writer = ParquetWriter::new(&mut bytes).with_compression(zstd).batched(&schema)?;
    for start in (0..frame.height()).step_by(ROW_GROUP) {
        writer.write_batch(&frame.slice(start as i64, ROW_GROUP))?;
    }
    writer.finish()?;
    fs::write(path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{}: {} rows, {} bytes", path.display(), frame.height(), bytes.len());
    Ok(())
}
