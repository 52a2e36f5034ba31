//! Training throughput of a network on all cores: minibatches in parallel chunks, summed gradients, clipping and AdamW.
//!
//! `cargo bench --bench train -- --cell lstm --hidden 64 --batch 256 --steps 96 --input 4` prints a line of JSON.
//! `benches/peers/train.py` compares with PyTorch. `--seconds` limits the time; the fastest minibatch counts.

mod common;

use std::sync::Mutex;
use std::time::Instant;

use common::options::Options;
use rayon::prelude::*;
use serde_json::json;
use tidecast_core::network::{
    AdamW, Batch, CellKind, Decoder, Gradients, Loss, LossAndGradients, LossSpec, Network, Random, Shape,
    TrainScratch,
};

/// Values of a forecast.
const HORIZON: usize = 24;
/// Windows per chunk, as in `tidecast train`.
const CHUNK: usize = 64;

fn main() {
    let options = Options::from_args();
    let seconds: f64 = options.number("--seconds", 3.0);
    let cell = options.value("--cell");
    let cell = cell
        .map_or(CellKind::Lstm, |cell| serde_json::from_value(cell.into()).unwrap_or_else(|e| panic!("{e}")));
    let (hidden, width) = (options.number("--hidden", 64), options.number("--batch", 256));
    let (steps, inputs) = (options.number("--steps", 96), options.number("--input", 4));
    let shape = Shape {
        cell,
        inputs,
        hidden,
        layers: 1,
        horizon: HORIZON,
        future_covariates: 0,
        quantiles: 0,
        embedding: 0,
        series: 0,
        decoder: Decoder::Direct,
    };
    let mut network = Network::new(shape, 1).expect("the shape is within its limits");
    let mut optimizer = AdamW::new(&network, 1e-3, 1e-2);
    let chunks: Vec<Chunk> =
        (0..width).step_by(CHUNK).map(|first| Chunk::new(&shape, steps, CHUNK.min(width - first))).collect();
    let scratches: Vec<Mutex<TrainScratch>> =
        chunks.iter().map(|_| Mutex::new(TrainScratch::new(&shape))).collect();
    let (mut best, started, mut rounds) = (f64::INFINITY, Instant::now(), 0);
    while rounds < 3 || started.elapsed().as_secs_f64() < seconds {
        let started = Instant::now();
        let results: Vec<LossAndGradients> = chunks
            .par_iter()
            .zip(&scratches)
            .map(|(chunk, scratch)| {
                chunk.loss_and_gradients(&network, &mut scratch.lock().expect("no panic"))
            })
            .collect();
        let mut gradients = Gradients::zeros(&shape);
        results.iter().for_each(|result| gradients.add(&result.gradients));
        gradients.scale(1.0 / results.iter().map(|result| result.count).sum::<usize>() as f32);
        gradients.clip(1.0);
        optimizer.step(&mut network, &gradients);
        best = best.min(started.elapsed().as_secs_f64());
        rounds += 1;
    }
    let line = json!({
        "cell": cell.name(), "hidden": hidden, "batch": width, "steps": steps, "input": inputs,
        "windows_per_second": (width as f64 / best).round(),
    });
    println!("{line}");
}

/// Some windows of a minibatch.
struct Chunk {
    width: usize,
    steps: usize,
    inputs: Vec<f32>,
    targets: Vec<f32>,
}

impl Chunk {
    fn new(shape: &Shape, steps: usize, width: usize) -> Self {
        let mut random = Random::new(2);
        let mut draw = |count: usize| (0..count).map(|_| random.uniform(1.7)).collect();
        Self { width, steps, inputs: draw(steps * width * shape.inputs), targets: draw(width * HORIZON) }
    }

    fn loss_and_gradients(&self, network: &Network, scratch: &mut TrainScratch) -> LossAndGradients {
        let (width, steps, inputs) = (self.width, self.steps, &self.inputs);
        let batch = Batch { width, steps, inputs, feedback_inputs: &[], future_covariates: &[], series: &[] };
        let spec = LossSpec { targets: &self.targets, loss: Loss::Mse, probabilities: &[], dropout: &[] };
        network.loss_and_gradients(&batch, &spec, scratch)
    }
}
