//! Tables, pages and figures of the studies.

use tidecast::report::{Axis, AxisKind, Band, BandPoint, Chart, Figure, Line, Page};

use crate::Summary;
use crate::convergence::{self, CurvePoint};
use crate::memory::{GateInit, MemoryResults, Row, Variant};
use crate::tasks::Task;

/// Smallest error on a logarithmic axis. The held-out sequences cannot tell less from 0.
const ERROR_MIN: f64 = 1e-4;

/// A header and rows of cells.
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Aligned columns for a terminal.
    pub fn text(&self) -> String {
        let header = self.header.iter().map(|name| name.to_string()).collect();
        let all: Vec<&Vec<String>> = std::iter::once(&header).chain(&self.rows).collect();
        let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
        };
        all.into_iter().map(line).collect()
    }

    fn add_to(&self, page: &mut Page) {
        page.table(&self.header, &self.rows);
    }
}

/// All gaps and variants of a task.
pub fn memory_table(results: &MemoryResults, task: Task) -> Table {
    let header = vec![
        "network",
        "gap",
        "hidden",
        "parameters",
        "rate",
        "error",
        "min",
        "max",
        "solved",
        "sequences until solved",
    ];
    let row = |row: &Row| {
        vec![
            row.variant().name(),
            row.gap.to_string(),
            row.hidden.to_string(),
            row.parameters.to_string(),
            rate(row.learning_rate, row.rate_at_edge),
            error(row.error.median),
            error(row.error.min),
            error(row.error.max),
            percent(row.solved),
            row.sequences.map_or("–".into(), |sequences| format!("{:.0}", sequences.median)),
        ]
    };
    Table { header, rows: results.rows.iter().filter(|row| row.task == task).map(row).collect() }
}

/// Memory span of each variant on a task.
pub fn span_table(results: &MemoryResults, task: Task) -> Table {
    let rows = results.spans_of(task).map(|span| vec![span.variant().name(), span.text()]);
    Table { header: vec!["network", "most seeds"], rows: rows.collect() }
}

pub fn memory_page(results: &MemoryResults) -> Page {
    let plan = &results.plan;
    let mut page = Page::new("How far back recurrent networks remember");
    page.text(&format!(
        "The textbook: a plain network loses what lies many steps before the output, an LSTM does not suffer from the \
         distance. Measured with {} seeds, at most {} training sequences, and for every cell the parameter count of an LSTM \
         of {} hidden units and a learning rate chosen on an unreported seed. Chance is the error of the best blind answer; \
         0.01 or less counts as solved. Lines are medians over seeds, bands the range from the best to the worst seed; errors \
         below {ERROR_MIN} are drawn there. A solved training stops, so the errors of networks that solve a task do not rank \
         them; their numbers of sequences do. An unsolved task may need more sequences, above all where a training was \
         abandoned because two fifths of them left the error above nine tenths of chance. Learning rates at the edge of the \
         candidates are marked.",
        plan.seeds, plan.sequences, plan.hidden
    ));
    if results.missing > 0 {
        page.text(&format!("The study was stopped: {} trainings are missing.", results.missing));
    }
    for task in Task::ALL {
        page.heading(&format!("{}: {}", capitalized(task.name()), task.error_name()));
        page.text(&format!("{} Chance is {:.3}.", description(task), task.chance()));
        if results.spans_of(task).next().is_none() {
            page.text("No training of this task is finished.");
            continue;
        }
        span_table(results, task).add_to(&mut page);
        for gate_init in [GateInit::One, GateInit::Chrono, GateInit::Zero] {
            page.chart(&errors(results, task, gate_init));
        }
        memory_table(results, task).add_to(&mut page);
    }
    page
}

/// Recall next to adding for each gate initialization, then timing.
pub fn memory_figure(results: &MemoryResults) -> Figure {
    let mut figure =
        Figure::new("Errors of recurrent networks against the gap that they have to remember over");
    for gate_init in [GateInit::One, GateInit::Chrono, GateInit::Zero] {
        for task in [Task::Recall, Task::Adding] {
            figure.chart(errors(results, task, gate_init));
        }
    }
    // A stopped study may not have reached timing.
    if results.spans_of(Task::Timing).next().is_some() {
        for gate_init in [GateInit::One, GateInit::Chrono] {
            figure.chart(errors(results, Task::Timing, gate_init));
        }
    }
    figure
}

fn description(task: Task) -> &'static str {
    match task {
        Task::Recall => "One of four tokens comes first, then noise. At the end: which token was it?",
        Task::Adding => {
            "A number and a mark at each step, with one marked step per half. At the end: the sum of both numbers."
        }
        Task::Timing => {
            "Spikes at a period of the given number of steps or of one less, with the last one at the end. Which period is it?"
        }
    }
}

/// Errors of all cells on a task with one gate initialization. A cell without it is shown with its default, so that all
/// charts of a task have the same lines in the same colours.
fn errors(results: &MemoryResults, task: Task, gate_init: GateInit) -> Chart {
    let variants = Variant::all(task);
    let mut shown: Vec<Variant> = Vec::new();
    for variant in &variants {
        let wanted = Variant { gate_init, ..*variant };
        let default = Variant { gate_init: GateInit::Default, ..wanted };
        let chosen = if variants.contains(&wanted) { wanted } else { default };
        if !shown.contains(&chosen) {
            shown.push(chosen);
        }
    }
    let (mut lines, mut bands) = (Vec::new(), Vec::new());
    for variant in shown {
        let name = variant.name();
        let (mut medians, mut ranges) = (Vec::new(), Vec::new());
        for row in results.rows_of(task, variant) {
            let (gap, error) = (row.gap as f64, row.error);
            medians.push((gap, error.median.max(ERROR_MIN)));
            let (lower, upper) = (error.min.max(ERROR_MIN), error.max.max(ERROR_MIN));
            ranges.push(BandPoint { x: gap, lower, upper });
        }
        lines.push(Line { name: name.clone(), points: medians, dashed: false });
        bands.push(Band { name, points: ranges });
    }
    let gaps = results.plan.task_gaps(task);
    let chance = gaps.iter().map(|gap| (*gap as f64, task.chance())).collect();
    lines.push(Line { name: "chance".into(), points: chance, dashed: true });
    Chart {
        title: format!("{}, {}: error after training", capitalized(task.name()), gate_init.name()),
        x: Axis { label: "gap, steps".into(), kind: AxisKind::Log },
        y: Axis { label: task.error_name().into(), kind: AxisKind::Log },
        lines,
        bands,
    }
}

pub fn convergence_table(rows: &[convergence::Row]) -> Table {
    let header = vec![
        "data",
        "history",
        "cell",
        "hidden",
        "parameters",
        "rate",
        "best validation",
        "test error",
        "target",
        "reached",
        "windows until",
        "seconds until",
    ];
    let row = |row: &convergence::Row| {
        vec![
            row.data.clone(),
            percent(row.fraction),
            row.cell.to_string(),
            row.hidden.to_string(),
            row.parameters.to_string(),
            rate(row.learning_rate, row.rate_at_edge),
            range(row.best_validation, 4),
            range(row.test, 4),
            format!("{:.4}", row.target),
            percent(row.reached),
            range(row.windows, 0),
            range(row.seconds, 1),
        ]
    };
    Table { header, rows: rows.iter().map(row).collect() }
}

pub fn convergence_page(rows: &[convergence::Row]) -> Page {
    let mut page = Page::new("How soon recurrent networks learn");
    page.text(
        "The textbook: a GRU converges in less time and needs less data than an LSTM. Measured as `tidecast train` trains, at \
         matched parameter counts, with one value per step and a learning rate per cell, chosen on an unreported seed and on \
         the middle fraction of the history (marked at the edge of the candidates). Small fractions are trained for more \
         epochs. Lines are medians over seeds, bands and ranges the minimum and maximum. The target is the worst median of \
         the best validation losses, so that half of the trainings of every cell reach it; the learning rate falls along a \
         cosine, and most trainings reach it late. Seconds are those of the machine of this run, including its other load.",
    );
    for rows in rows.chunk_by(|a, b| a.data == b.data) {
        page.heading(&rows[0].data);
        convergence_charts(rows).iter().for_each(|chart| page.chart(chart));
        convergence_table(rows).add_to(&mut page);
    }
    page
}

/// For each data set, test error against history and validation loss against seconds.
pub fn convergence_figure(rows: &[convergence::Row]) -> Figure {
    let mut figure =
        Figure::new("Errors of recurrent networks against the history and the time that they learn from");
    for rows in rows.chunk_by(|a, b| a.data == b.data) {
        let [_, seconds, history] = convergence_charts(rows);
        figure.chart(history);
        figure.chart(seconds);
    }
    figure
}

/// Charts of one data set: against windows, against seconds, against the history.
fn convergence_charts(rows: &[convergence::Row]) -> [Chart; 3] {
    let whole: Vec<&convergence::Row> = rows.iter().filter(|row| row.fraction == 1.0).collect();
    [
        learning_curves(&whole, "windows", |point| point.windows),
        learning_curves(&whole, "seconds", |point| point.seconds),
        errors_by_history(rows),
    ]
}

fn learning_curves(rows: &[&convergence::Row], label: &str, x: fn(&CurvePoint) -> f64) -> Chart {
    let data = rows.first().map_or("", |row| &row.data);
    let line = |row: &&convergence::Row| Line {
        name: row.cell.to_string(),
        points: row.curve.iter().map(|point| (x(point), point.validation.median)).collect(),
        dashed: false,
    };
    let band = |row: &&convergence::Row| Band {
        name: row.cell.to_string(),
        points: row.curve.iter().map(|point| band_point(x(point), &point.validation)).collect(),
    };
    Chart {
        title: format!("{data}: validation loss against {label}, whole history"),
        x: Axis { label: label.into(), kind: AxisKind::Linear },
        y: Axis { label: "validation loss, scaled".into(), kind: AxisKind::Linear },
        lines: rows.iter().map(line).collect(),
        bands: rows.iter().map(band).collect(),
    }
}

fn errors_by_history(rows: &[convergence::Row]) -> Chart {
    let data = rows.first().map_or("", |row| &row.data);
    let (mut lines, mut bands) = (Vec::<Line>::new(), Vec::<Band>::new());
    for row in rows {
        let Some(test) = row.test else { continue };
        let name = row.cell.to_string();
        let index = lines.iter().position(|line| line.name == name).unwrap_or_else(|| {
            lines.push(Line { name: name.clone(), points: Vec::new(), dashed: false });
            bands.push(Band { name, points: Vec::new() });
            lines.len() - 1
        });
        let windows = row.windows_per_epoch as f64;
        lines[index].points.push((windows, test.median));
        bands[index].points.push(band_point(windows, &test));
    }
    Chart {
        title: format!("{data}: test error against training windows"),
        x: Axis { label: "windows".into(), kind: AxisKind::Log },
        y: Axis { label: "mean absolute error, standard deviations".into(), kind: AxisKind::Linear },
        lines,
        bands,
    }
}

/// The range over the seeds at `x`.
fn band_point(x: f64, summary: &Summary) -> BandPoint {
    BandPoint { x, lower: summary.min, upper: summary.max }
}

fn percent(fraction: f64) -> String {
    format!("{:.0} %", 100.0 * fraction)
}

fn rate(rate: f64, at_edge: bool) -> String {
    format!("{rate}{}", if at_edge { " (edge)" } else { "" })
}

fn error(error: f64) -> String {
    format!("{error:.4}")
}

fn range(summary: Option<Summary>, digits: usize) -> String {
    summary.map_or("–".into(), |Summary { median, min, max }| {
        format!("{median:.digits$} ({min:.digits$} to {max:.digits$})")
    })
}

fn capitalized(name: &str) -> String {
    name[..1].to_uppercase() + &name[1..]
}
