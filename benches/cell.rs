//! Forward passes of the network on one thread, as lines of JSON.
//!
//! `cargo bench --bench cell -- --cell lstm --hidden 64 --batch 64 --steps 96 --input 4` measures whole windows: steps and
//! floating point operations per second (the cell's multiplications and additions over the time of a forward pass with a head
//! of 24 outputs), and their ratio to nalgebra's matrix product on the same core in the same run. `--sweep` measures all cells
//! and sizes that `benches/peers/cells.py` compares with other runtimes. `--carried` compares a step with a carried state, of
//! `--series` series, with a window. The default is a few cases. `--seconds` limits the time per case; the fastest run counts,
//! since other load on the machine only slows it down.

mod common;

use std::time::Instant;

use common::options::Options;
use nalgebra::DMatrix;
use serde_json::json;
use tidecast_core::network::{Batch, CellKind, Decoder, Network, Random, Scratch, Shape, State};

/// Values of a forecast.
const HORIZON: usize = 24;
/// Series with carried states: more than the first two levels of the cache hold.
const SERIES: usize = 10_000;

#[derive(Clone, Copy)]
struct Case {
    cell: CellKind,
    hidden: usize,
    batch: usize,
    steps: usize,
    input: usize,
    series: usize,
}

fn main() {
    let options = Options::from_args();
    let number = |name: &str, default: usize| options.number(name, default);
    let seconds: f64 = options.number("--seconds", 1.0);
    let (steps, input) = (number("--steps", 96), number("--input", 4));
    let series = number("--series", SERIES);
    let cell = options
        .value("--cell")
        .map(|cell| serde_json::from_value(cell.into()).unwrap_or_else(|e| panic!("{e}")));
    let is_single = ["--cell", "--hidden", "--batch"].iter().any(|name| options.value(name).is_some());
    let (cells, hidden, batch) = if is_single {
        (vec![cell.unwrap_or(CellKind::Lstm)], vec![number("--hidden", 64)], vec![number("--batch", 64)])
    } else if options.has("--sweep") {
        (vec![CellKind::Lstm, CellKind::Gru, CellKind::Rnn], vec![32, 64, 128], vec![1, 64, 512])
    } else {
        (vec![CellKind::Lstm, CellKind::Gru], vec![32, 128], vec![1, 64])
    };
    for cell in cells {
        for &hidden in &hidden {
            for &batch in &batch {
                let case = Case { cell, hidden, batch, steps, input, series: series.max(batch) };
                match options.has("--carried") {
                    true => measure_carried(case, seconds),
                    false => measure_windows(case, seconds),
                }
            }
        }
    }
}

impl Case {
    fn network(&self) -> Network {
        let shape = Shape {
            cell: self.cell,
            inputs: self.input,
            hidden: self.hidden,
            layers: 1,
            horizon: HORIZON,
            future_covariates: 0,
            quantiles: 0,
            embedding: 0,
            series: 0,
            decoder: Decoder::Direct,
        };
        Network::new(shape, 1).expect("the shape is within its limits")
    }

    /// Operations of one step of one column: a multiplication and an addition per weight of the cell.
    fn flop(&self) -> f64 {
        (2 * self.cell.gates() * self.hidden * (self.hidden + self.input)) as f64
    }

    fn inputs(&self) -> Vec<f32> {
        let mut random = Random::new(2);
        (0..self.steps * self.batch * self.input).map(|_| random.uniform(1.7)).collect()
    }
}

/// Whole windows from a zero state.
fn measure_windows(case: Case, seconds: f64) {
    let (network, inputs) = (case.network(), case.inputs());
    let (mut scratch, mut out) = (Scratch::new(network.shape()), vec![0.0; case.batch * HORIZON]);
    let (width, steps) = (case.batch, case.steps);
    let batch =
        Batch { width, steps, inputs: &inputs, feedback_inputs: &[], future_covariates: &[], series: &[] };
    let mut gemm = Gemm::new();
    let [time, gemm_time] =
        best_times(seconds, [&mut || network.forecast(&batch, &mut scratch, &mut out), &mut || gemm.run()]);
    let (steps_per_second, gemm_gflops) = ((width * steps) as f64 / time, Gemm::FLOP / gemm_time / 1e9);
    let gflops = steps_per_second * case.flop() / 1e9;
    let line = json!({
        "cell": case.cell.name(), "hidden": case.hidden, "batch": width, "steps": steps, "input": case.input,
        "steps_per_second": steps_per_second.round(), "gflops": rounded(gflops),
        "gemm_gflops": rounded(gemm_gflops), "gemm_ratio": rounded(gflops / gemm_gflops),
    });
    println!("{line}");
}

/// A step with a carried state and its forecast, next to a window with the same forecast.
fn measure_carried(case: Case, seconds: f64) {
    let (network, inputs) = (case.network(), case.inputs());
    let (mut scratch, mut out) = (Scratch::new(network.shape()), vec![0.0; case.batch * HORIZON]);
    let (width, steps) = (case.batch, case.steps);
    let window =
        Batch { width, steps, inputs: &inputs, feedback_inputs: &[], future_covariates: &[], series: &[] };
    let head_only = Batch { steps: 0, inputs: &[], ..window };
    let columns: Vec<Vec<usize>> = shuffled(case.series).chunks_exact(width).map(<[usize]>::to_vec).collect();
    let mut state = State::zeros(network.shape(), case.series);
    let (mut step_scratch, mut step_out) = (Scratch::new(network.shape()), out.clone());
    // As many steps as a window has, so that both runs take about equally long in windowed cost.
    let mut turn = 0;
    let mut run_steps = || {
        for input in inputs.chunks_exact(width * case.input) {
            let columns = &columns[turn % columns.len()];
            network.step(&mut state, columns, input, &[], &mut step_scratch);
            network.forecast_from(&state, columns, &head_only, &mut step_scratch, &mut step_out);
            turn += 1;
        }
    };
    let [step_time, window_time] =
        best_times(seconds, [&mut run_steps, &mut || network.forecast(&window, &mut scratch, &mut out)]);
    let (step_time, window_time) = (step_time / (width * steps) as f64, window_time / width as f64);
    let line = json!({
        "cell": case.cell.name(), "hidden": case.hidden, "batch": width, "steps": steps, "input": case.input,
        "series": case.series, "carried_ns": rounded(step_time * 1e9), "window_ns": rounded(window_time * 1e9),
        "ratio": rounded(window_time / step_time),
    });
    println!("{line}");
}

/// nalgebra's product of matrices that fit the second level of the cache.
struct Gemm {
    a: DMatrix<f32>,
    b: DMatrix<f32>,
    c: DMatrix<f32>,
}

impl Gemm {
    const SIZE: usize = 256;
    const FLOP: f64 = 2.0 * (Self::SIZE * Self::SIZE * Self::SIZE) as f64;

    fn new() -> Self {
        let mut random = Random::new(3);
        let mut matrix = || DMatrix::from_fn(Self::SIZE, Self::SIZE, |_, _| random.uniform(1.0));
        Self { a: matrix(), b: matrix(), c: matrix() }
    }

    fn run(&mut self) {
        self.c.gemm(1.0, &self.a, &self.b, 0.0);
    }
}

/// The shortest time of each of two functions that take turns.
fn best_times(seconds: f64, mut functions: [&mut dyn FnMut(); 2]) -> [f64; 2] {
    let (mut best, started, mut rounds) = ([f64::INFINITY; 2], Instant::now(), 0);
    while rounds < 5 || started.elapsed().as_secs_f64() < seconds {
        for (function, best) in functions.iter_mut().zip(&mut best) {
            let started = Instant::now();
            function();
            *best = best.min(started.elapsed().as_secs_f64());
        }
        rounds += 1;
    }
    best
}

/// Three digits after the point.
fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

/// A random permutation of the numbers below `count`.
fn shuffled(count: usize) -> Vec<usize> {
    let (mut random, mut order) = (Random::new(4), (0..count).collect::<Vec<usize>>());
    for i in (1..count).rev() {
        order.swap(i, (random.next_u64() % (i as u64 + 1)) as usize);
    }
    order
}
