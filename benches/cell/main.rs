//! The network alone, on one thread: forward passes through whole windows, and single steps with the state carried.
//!
//! `cargo bench --bench cell -- --cell lstm --hidden 64 --batch 64 --steps 96 --input 4` prints a line of JSON: steps a second
//! (batch times steps over the time of one forward pass, a head of 24 outputs included) and the share of what nalgebra's
//! matrix product reaches on the same core in the same run. `--sweep` does so for all cells and sizes that are compared with
//! other runtimes (`benches/peers/cells.py`), `--carried` compares a step with the state carried, of `--series` of them, with a window. Without any
//! of them a few cases are run. `--seconds` is how long each case is tried; the best of all runs counts, since a shared
//! machine only ever takes time away.

use std::time::Instant;

use nalgebra::DMatrix;
use serde_json::json;
use tidecast_core::network::{Batch, CellKind, Decoder, Network, Random, Scratch, Shape, State};

#[path = "../words.rs"]
mod words;

/// Values of a forecast.
const HORIZON: usize = 24;
/// Series whose states are carried, in no order: more than fit the first two levels of the cache.
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
    let words = words::Words::new();
    let number = |name: &str, otherwise: usize| words.number(name, otherwise);
    let seconds: f64 = words.number("--seconds", 1.0);
    let (steps, input) = (number("--steps", 96), number("--input", 4));
    let series = number("--series", SERIES);
    let cell = words.after("--cell").map(|cell| cell.parse().unwrap_or_else(|e| panic!("{e}")));
    let given = ["--cell", "--hidden", "--batch"].iter().any(|name| words.after(name).is_some());
    let (cells, hidden, batch) = match given {
        true => {
            (vec![cell.unwrap_or(CellKind::Lstm)], vec![number("--hidden", 64)], vec![number("--batch", 64)])
        }
        false if words.has("--sweep") => {
            (vec![CellKind::Lstm, CellKind::Gru, CellKind::Rnn], vec![32, 64, 128], vec![1, 64, 512])
        }
        false => (vec![CellKind::Lstm, CellKind::Gru], vec![32, 128], vec![1, 64]),
    };
    for cell in cells {
        for &hidden in &hidden {
            for &batch in &batch {
                let case = Case { cell, hidden, batch, steps, input, series: series.max(batch) };
                match words.has("--carried") {
                    true => carried(case, seconds),
                    false => windows(case, seconds),
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
            known: 0,
            quantiles: 0,
            embedding: 0,
            series: 0,
            decoder: Decoder::Direct,
        };
        Network::new(shape, 1).expect("a shape within bounds")
    }

    /// Of one column's step: a multiplication and an addition for each weight of the cell.
    fn flop(&self) -> f64 {
        (2 * self.cell.gates() * self.hidden * (self.hidden + self.input)) as f64
    }

    fn inputs(&self) -> Vec<f32> {
        let mut random = Random::new(2);
        (0..self.steps * self.batch * self.input).map(|_| random.within(1.7)).collect()
    }
}

/// Whole windows from a state of zeros.
fn windows(case: Case, seconds: f64) {
    let (network, inputs) = (case.network(), case.inputs());
    let (mut scratch, mut out) = (Scratch::new(network.shape()), vec![0.0; case.batch * HORIZON]);
    let (width, steps) = (case.batch, case.steps);
    let batch = Batch { width, steps, inputs: &inputs, future: &[], known: &[], series: &[] };
    let mut peak = Peak::new();
    let [time, gemm] =
        best(seconds, [&mut || network.forecast(&batch, &mut scratch, &mut out), &mut || peak.run()]);
    let (steps_s, gemm) = ((width * steps) as f64 / time, Peak::FLOP / gemm / 1e9);
    let gflop_s = steps_s * case.flop() / 1e9;
    let line = json!({
        "cell": case.cell.name(), "hidden": case.hidden, "batch": width, "steps": steps, "input": case.input,
        "steps_s": steps_s.round(), "gflop_s": rounded(gflop_s),
        "gemm_gflop_s": rounded(gemm), "of_gemm": rounded(gflop_s / gemm),
    });
    println!("{line}");
}

/// A step with the state carried and what is said after it, beside a window that says the same.
fn carried(case: Case, seconds: f64) {
    let (network, inputs) = (case.network(), case.inputs());
    let (mut scratch, mut out) = (Scratch::new(network.shape()), vec![0.0; case.batch * HORIZON]);
    let (width, steps) = (case.batch, case.steps);
    let window = Batch { width, steps, inputs: &inputs, future: &[], known: &[], series: &[] };
    let now = Batch { steps: 0, inputs: &[], ..window };
    let columns: Vec<Vec<usize>> = shuffled(case.series).chunks_exact(width).map(<[usize]>::to_vec).collect();
    let mut state = State::zeros(network.shape(), case.series);
    let (mut next_scratch, mut said) = (Scratch::new(network.shape()), out.clone());
    // As many batches as there are steps in a window, so that both take about as long as the other is long.
    let mut turn = 0;
    let mut step = || {
        for input in inputs.chunks_exact(width * case.input) {
            let columns = &columns[turn % columns.len()];
            network.step((&mut state, columns), input, &[], &mut next_scratch);
            network.forecast_from((&state, columns), &now, &mut next_scratch, &mut said);
            turn += 1;
        }
    };
    let [step, window] =
        best(seconds, [&mut step, &mut || network.forecast(&window, &mut scratch, &mut out)]);
    let (step, window) = (step / (width * steps) as f64, window / width as f64);
    let line = json!({
        "cell": case.cell.name(), "hidden": case.hidden, "batch": width, "steps": steps, "input": case.input,
        "series": case.series, "carried_ns": rounded(step * 1e9), "window_ns": rounded(window * 1e9), "ratio": rounded(window / step),
    });
    println!("{line}");
}

/// nalgebra's product of matrices that fit the second level of the cache.
struct Peak {
    a: DMatrix<f32>,
    b: DMatrix<f32>,
    c: DMatrix<f32>,
}

impl Peak {
    const SIZE: usize = 256;
    const FLOP: f64 = 2.0 * (Self::SIZE * Self::SIZE * Self::SIZE) as f64;

    fn new() -> Self {
        let mut random = Random::new(3);
        let mut matrix = || DMatrix::from_fn(Self::SIZE, Self::SIZE, |_, _| random.within(1.0));
        Self { a: matrix(), b: matrix(), c: matrix() }
    }

    fn run(&mut self) {
        self.c.gemm(1.0, &self.a, &self.b, 0.0);
    }
}

/// The shortest time of each of two things that take turns.
fn best(seconds: f64, mut works: [&mut dyn FnMut(); 2]) -> [f64; 2] {
    let (mut best, started, mut rounds) = ([f64::INFINITY; 2], Instant::now(), 0);
    while rounds < 5 || started.elapsed().as_secs_f64() < seconds {
        for (work, best) in works.iter_mut().zip(&mut best) {
            let started = Instant::now();
            work();
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

/// The numbers below `count` in an order without pattern.
fn shuffled(count: usize) -> Vec<usize> {
    let (mut random, mut order) = (Random::new(4), (0..count).collect::<Vec<usize>>());
    for i in (1..count).rev() {
        order.swap(i, (random.next_u64() % (i as u64 + 1)) as usize);
    }
    order
}
