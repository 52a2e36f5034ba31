//! The studies as tables and pages.

use super::Task;
use super::convergence;
use super::findings::{Findings, Row, Spread};
use super::plan::{Start, Variant};
use tidecast::report::{Axis, AxisKind, Band, Chart, Line, Page, Picture};

/// A logarithm has no place for 0. Less than this the held-out sequences cannot tell from it.
const DRAWN_MIN: f64 = 1e-4;

/// A header and rows of cells.
pub struct Table {
    pub header: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// For a terminal: columns parted by two spaces.
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

/// All gaps and variants of one task.
pub fn memory_table(findings: &Findings, task: Task) -> Table {
    let header = vec![
        "network",
        "gap",
        "hidden",
        "parameters",
        "rate",
        "error",
        "lowest",
        "highest",
        "solved",
        "sequences until",
    ];
    let row = |row: &Row| {
        let variant = Variant { cell: row.cell, start: row.start };
        vec![
            variant.name(),
            row.gap.to_string(),
            row.hidden.to_string(),
            row.parameters.to_string(),
            rate(row.learning_rate, row.rate_at_edge),
            small(row.error.median),
            small(row.error.lowest),
            small(row.error.highest),
            share(row.solved),
            row.sequences.map_or("–".into(), |spread| format!("{:.0}", spread.median)),
        ]
    };
    Table { header, rows: findings.rows.iter().filter(|row| row.task == task).map(row).collect() }
}

/// Where each variant loses the thread, one task a column.
pub fn thread_table(findings: &Findings, task: Task) -> Table {
    let row = |thread: &super::Thread| vec![thread.variant().name(), thread.text()];
    Table { header: vec!["network", "most seeds"], rows: findings.threads_of(task).map(row).collect() }
}

pub fn memory_page(findings: &Findings) -> Page {
    let plan = &findings.plan;
    let mut page = Page::new("How far back recurrent networks remember");
    page.text(&format!(
        "The textbook: a plain network loses what lies many steps before the output that needs it, an LSTM does not suffer \
         from the distance. Measured with {} seeds, at most {} sequences to learn from, as many parameters for every cell as \
         an LSTM of {} hidden values has, and a learning rate chosen for each on a seed that is not shown. Chance is the \
         error of the best answer that knows nothing; 0.01 or less counts as solved. Lines are medians over seeds, bands go \
         from the best to the worst seed; an error below {DRAWN_MIN} is drawn there. \
         What is solved is stopped at once, so that errors of those that solve a task do not tell which is the better; \
         sequences until then do. What is not solved within its sequences may yet be with more, the more so where two fifths \
         of them brought it nowhere below nine tenths of chance: it was given up then. A learning rate at the edge of those \
         that were tried is marked.",
        plan.seeds, plan.sequences, plan.hidden
    ));
    if findings.missing > 0 {
        page.text(&format!("Stopped before its end: {} trainings are missing.", findings.missing));
    }
    for task in Task::ALL {
        page.heading(&format!("{}: {}", capital(task.name()), task.measure()));
        page.text(&format!("{} Chance is {:.3}.", asked(task), task.chance()));
        if findings.threads_of(task).next().is_none() {
            page.text("No training of this task was finished.");
            continue;
        }
        thread_table(findings, task).add_to(&mut page);
        for start in [Start::One, Start::Chrono, Start::Zero] {
            page.chart(&errors(findings, task, start));
        }
        memory_table(findings, task).add_to(&mut page);
    }
    page
}

/// Recall beside adding for each way of starting, then timing.
pub fn memory_picture(findings: &Findings) -> Picture {
    let mut picture =
        Picture::new("Errors of recurrent networks against the gap that they have to remember over");
    for start in [Start::One, Start::Chrono, Start::Zero] {
        for task in [Task::Recall, Task::Adding] {
            picture.chart(errors(findings, task, start));
        }
    }
    // Of a study that was stopped before it came to timing there is nothing to show.
    if findings.threads_of(Task::Timing).next().is_some() {
        for start in [Start::One, Start::Chrono] {
            picture.chart(errors(findings, Task::Timing, start));
        }
    }
    picture
}

fn asked(task: Task) -> &'static str {
    match task {
        Task::Recall => "One of four tokens comes first, then noise; at the end: which token was it?",
        Task::Adding => {
            "A number and a mark at each step; one step of each half is marked; at the end: the sum of both numbers."
        }
        Task::Timing => {
            "Spikes at a period of the given steps or of one less, the last one at the end: which period?"
        }
    }
}

/// The cells of a task with one way of starting; those that cannot start so stand beside them as they are, so that every
/// chart of a task has the same lines in the same colours.
fn errors(findings: &Findings, task: Task, start: Start) -> Chart {
    let variants = Variant::of(task);
    let mut shown: Vec<Variant> = Vec::new();
    for variant in &variants {
        let wanted = Variant { start, ..*variant };
        let chosen =
            if variants.contains(&wanted) { wanted } else { Variant { start: Start::AsDrawn, ..wanted } };
        if !shown.contains(&chosen) {
            shown.push(chosen);
        }
    }
    let (mut lines, mut bands) = (Vec::new(), Vec::new());
    for variant in shown {
        let name = variant.name();
        let (mut medians, mut ends) = (Vec::new(), Vec::new());
        for row in findings.rows_of(task, variant) {
            let (gap, error) = (row.gap as f64, row.error);
            medians.push((gap, error.median.max(DRAWN_MIN)));
            ends.push((gap, error.lowest.max(DRAWN_MIN), error.highest.max(DRAWN_MIN)));
        }
        lines.push(Line { name: name.clone(), points: medians, dashed: false });
        bands.push(Band { name, points: ends });
    }
    let gaps = findings.plan.gaps(task);
    let chance = gaps.iter().map(|gap| (*gap as f64, task.chance())).collect();
    lines.push(Line { name: "chance".into(), points: chance, dashed: true });
    Chart {
        title: format!("{}, {}: error after training", capital(task.name()), start.name()),
        x: Axis { label: "gap, steps".into(), kind: AxisKind::Log },
        y: Axis { label: task.measure().into(), kind: AxisKind::Log },
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
        "mark",
        "reached",
        "windows until",
        "seconds until",
    ];
    let row = |row: &convergence::Row| {
        vec![
            row.data.clone(),
            share(row.share),
            row.cell.to_string(),
            row.hidden.to_string(),
            row.parameters.to_string(),
            rate(row.learning_rate, row.rate_at_edge),
            range(row.best, 4),
            range(row.test, 4),
            format!("{:.4}", row.target),
            share(row.reached),
            range(row.windows, 0),
            range(row.seconds, 1),
        ]
    };
    Table { header, rows: rows.iter().map(row).collect() }
}

pub fn convergence_page(rows: &[convergence::Row]) -> Page {
    let mut page = Page::new("How soon recurrent networks learn");
    page.text(
        "The textbook: a GRU converges in less time and needs less data than an LSTM. Measured as `tidecast train` trains, \
         at matched parameters, a reading a step, with a learning rate chosen for each cell on a seed that is not shown and \
         on the middle one of the shares of the history (marked where it is at the edge of those that were tried). Smaller \
         shares are read more often. Lines are medians over seeds, bands and ranges go from the lowest to the highest seed. \
         The mark is the best validation loss of the cell that does worst (its median), so that half of the trainings of \
         every cell come to it; the learning rate falls to its end along a cosine, and most come to it late. Seconds are \
         those of the machine that this ran on, with whatever else it had to do.",
    );
    for of_data in rows.chunk_by(|a, b| a.data == b.data) {
        page.heading(&of_data[0].data);
        convergence_charts(of_data).iter().for_each(|chart| page.chart(chart));
        convergence_table(of_data).add_to(&mut page);
    }
    page
}

/// Each set of data below the other: what more of the history is worth, then what more time is worth.
pub fn convergence_picture(rows: &[convergence::Row]) -> Picture {
    let mut picture =
        Picture::new("Errors of recurrent networks against the history and the time that they learn from");
    for of_data in rows.chunk_by(|a, b| a.data == b.data) {
        let [_, seconds, readings] = convergence_charts(of_data);
        picture.chart(readings);
        picture.chart(seconds);
    }
    picture
}

/// Of one set of data: against windows, seconds, and the history.
fn convergence_charts(rows: &[convergence::Row]) -> [Chart; 3] {
    let whole: Vec<&convergence::Row> = rows.iter().filter(|row| row.share == 1.0).collect();
    [
        learning(&whole, "windows seen", |point| point.0),
        learning(&whole, "seconds of computing", |point| point.1),
        data_needed(rows),
    ]
}

fn learning(rows: &[&convergence::Row], label: &str, place: fn(&(f64, f64, Spread)) -> f64) -> Chart {
    let data = rows.first().map_or("", |row| &row.data);
    let line = |row: &&convergence::Row| Line {
        name: row.cell.to_string(),
        points: row.curve.iter().map(|point| (place(point), point.2.median)).collect(),
        dashed: false,
    };
    let band = |row: &&convergence::Row| Band {
        name: row.cell.to_string(),
        points: row.curve.iter().map(|point| (place(point), point.2.lowest, point.2.highest)).collect(),
    };
    Chart {
        title: format!("{data}: validation loss against {label}, all of the history"),
        x: Axis { label: label.into(), kind: AxisKind::Linear },
        y: Axis { label: "validation loss, scaled".into(), kind: AxisKind::Linear },
        lines: rows.iter().map(line).collect(),
        bands: rows.iter().map(band).collect(),
    }
}

fn data_needed(rows: &[convergence::Row]) -> Chart {
    let data = rows.first().map_or("", |row| &row.data);
    let (mut lines, mut bands) = (Vec::<Line>::new(), Vec::<Band>::new());
    for row in rows {
        let Some(test) = row.test else { continue };
        let name = row.cell.to_string();
        let at = lines.iter().position(|line| line.name == name).unwrap_or_else(|| {
            lines.push(Line { name: name.clone(), points: Vec::new(), dashed: false });
            bands.push(Band { name, points: Vec::new() });
            lines.len() - 1
        });
        let readings = row.learned_from as f64;
        lines[at].points.push((readings, test.median));
        bands[at].points.push((readings, test.lowest, test.highest));
    }
    Chart {
        title: format!("{data}: test error against the readings that were learned from"),
        x: Axis { label: "readings".into(), kind: AxisKind::Log },
        y: Axis { label: "mean absolute error, standard deviations".into(), kind: AxisKind::Linear },
        lines,
        bands,
    }
}

fn share(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

fn rate(rate: f64, at_edge: bool) -> String {
    format!("{rate}{}", if at_edge { " (edge)" } else { "" })
}

fn small(error: f64) -> String {
    format!("{error:.4}")
}

fn range(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or("–".into(), |Spread { median, lowest, highest }| {
        format!("{median:.digits$} ({lowest:.digits$} to {highest:.digits$})")
    })
}

fn capital(name: &str) -> String {
    name[..1].to_uppercase() + &name[1..]
}
