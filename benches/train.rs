//! Windows a second that a network learns from: minibatches over all cores as `train` spreads them, gradients summed, clipped,
//! and a step of AdamW.
//!
//! `cargo bench --bench train -- --cell lstm --hidden 64 --batch 256 --steps 96 --input 4` prints a line of JSON;
//! `benches/peers/train.py` runs the same recipe in PyTorch beside it. `--seconds` is how long it is tried; the best
//! minibatch counts.

use std::time::Instant;

use serde_json::json;
use tidecast_core::network::{
    Batch, CellKind, Decoder, Gradients, Lesson, Loss, Network, Optimizer, Random, Scored, Shape,
    TrainScratch,
};
use tidecast_train::shards;

mod words;

/// Values of a forecast.
const HORIZON: usize = 24;
/// Windows that one thread works on at a time, as in `train`.
const AT_ONCE: usize = 64;

fn main() {
    let words = words::Words::new();
    let number = |name: &str, otherwise: usize| words.number(name, otherwise);
    let seconds: f64 = words.number("--seconds", 3.0);
    let cell: CellKind =
        words.after("--cell").map_or(CellKind::Lstm, |cell| cell.parse().unwrap_or_else(|e| panic!("{e}")));
    let (hidden, width) = (number("--hidden", 64), number("--batch", 256));
    let (steps, inputs) = (number("--steps", 96), number("--input", 4));
    let shape = Shape {
        cell,
        inputs,
        hidden,
        layers: 1,
        horizon: HORIZON,
        known: 0,
        quantiles: 0,
        embedding: 0,
        series: 0,
        decoder: Decoder::Direct,
    };
    let mut network = Network::new(shape, 1).expect("a shape within bounds");
    let mut optimizer = Optimizer::new(&network, 1e-3, 1e-2);
    let parts: Vec<Part> = (0..width)
        .step_by(AT_ONCE)
        .map(|first| Part::new(&shape, steps, AT_ONCE.min(width - first)))
        .collect();
    let mut workspaces = Vec::new();
    let (mut best, started, mut rounds) = (f64::INFINITY, Instant::now(), 0);
    while rounds < 3 || started.elapsed().as_secs_f64() < seconds {
        let started = Instant::now();
        let scored = shards::each_in(
            &mut workspaces,
            parts.len(),
            || TrainScratch::new(&shape),
            |scratch, part| parts[part].learn(&network, scratch),
        );
        let mut all = Gradients::zeros(&shape);
        scored.iter().for_each(|scored| all.add(&scored.gradients));
        all.scale(1.0 / scored.iter().map(|scored| scored.count).sum::<usize>() as f32);
        all.clip(1.0);
        optimizer.step(&mut network, &all);
        best = best.min(started.elapsed().as_secs_f64());
        rounds += 1;
    }
    let line = json!({
        "cell": cell.name(), "hidden": hidden, "batch": width, "steps": steps, "input": inputs,
        "windows_s": (width as f64 / best).round(),
    });
    println!("{line}");
}

/// Some windows of a minibatch.
struct Part {
    width: usize,
    steps: usize,
    inputs: Vec<f32>,
    targets: Vec<f32>,
}

impl Part {
    fn new(shape: &Shape, steps: usize, width: usize) -> Self {
        let mut random = Random::new(2);
        let mut draw = |count: usize| (0..count).map(|_| random.within(1.7)).collect();
        Self { width, steps, inputs: draw(steps * width * shape.inputs), targets: draw(width * HORIZON) }
    }

    fn learn(&self, network: &Network, scratch: &mut TrainScratch) -> Scored {
        let (width, steps, inputs) = (self.width, self.steps, &self.inputs);
        let batch = Batch { width, steps, inputs, future: &[], known: &[], series: &[] };
        let lesson = Lesson { targets: &self.targets, loss: Loss::Mse, probabilities: &[], factors: &[] };
        network.loss_and_gradients(&batch, &lesson, scratch)
    }
}
