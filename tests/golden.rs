//! The cells against independently computed vectors: every file of `tests/golden`, and of the folder in the environment
//! variable `TIDECAST_GOLDEN`. `tests/golden/README.md` describes the files.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tidecast_core::network::{
    CellKind, Decoder, Network, Scratch, Shape, State, Tensor, Tensors, TrainScratch,
};

#[derive(Deserialize)]
struct Values {
    shape: Vec<usize>,
    data: Vec<f32>,
}

#[derive(Deserialize)]
struct Case {
    cell: CellKind,
    layers: usize,
    input: usize,
    hidden: usize,
    batch: usize,
    steps: usize,
    weights: std::collections::BTreeMap<String, Values>,
    x: Values,
    h0: Values,
    c0: Option<Values>,
    y: Values,
    h_n: Values,
    c_n: Option<Values>,
    dy: Values,
    grads: std::collections::BTreeMap<String, Values>,
    dx: Values,
}

impl Case {
    /// A network of the case's cells, with a head of zeros that the test does not use.
    fn network(&self) -> Network {
        let shape = Shape {
            cell: self.cell,
            inputs: self.input,
            hidden: self.hidden,
            layers: self.layers,
            horizon: 1,
            future_covariates: 0,
            quantiles: 0,
            embedding: 0,
            series: 0,
            decoder: Decoder::Direct,
        };
        let weights = self.weights.iter().map(|(name, values)| {
            (name.clone(), Tensor { shape: values.shape.clone(), data: values.data.clone() })
        });
        let mut tensors: Tensors = weights.collect();
        tensors.insert("head.weight".into(), Tensor::zeros(&[1, self.hidden]));
        tensors.insert("head.bias".into(), Tensor::zeros(&[1]));
        Network::from_tensors(shape, &tensors).expect("the case has every tensor of its cell")
    }

    fn initial_state(&self, network: &Network) -> State {
        let mut state = State::zeros(network.shape(), self.batch);
        for k in 0..self.layers {
            state.hidden_mut(k).copy_from_slice(self.layer(&self.h0, k));
            if let Some(c0) = &self.c0 {
                state.cell_mut(k).copy_from_slice(self.layer(c0, k));
            }
        }
        state
    }

    /// Layer `k` of `[layer][column][hidden]`.
    fn layer<'a>(&self, values: &'a Values, k: usize) -> &'a [f32] {
        let size = self.batch * self.hidden;
        &values.data[k * size..][..size]
    }
}

/// The tolerated difference from the expected value: the larger of the two.
#[derive(Clone, Copy)]
struct Tolerance {
    relative: f32,
    absolute: f32,
}

const OUTPUT_TOLERANCE: Tolerance = Tolerance { relative: 0.0, absolute: 1e-5 };
const GRADIENT_TOLERANCE: Tolerance = Tolerance { relative: 2e-4, absolute: 2e-5 };

#[track_caller]
fn assert_close(name: &str, found: &[f32], expected: &[f32], tolerance: Tolerance) {
    assert_eq!(found.len(), expected.len(), "{name}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let allowed = tolerance.absolute.max(tolerance.relative * expected.abs());
        assert!((found - expected).abs() <= allowed, "{name}[{index}] is {found}, expected {expected}");
    }
}

/// Step by step, with carried state.
fn check_steps(case: &Case, network: &Network) {
    let mut state = case.initial_state(network);
    let mut scratch = Scratch::new(network.shape());
    let mut outputs = Vec::new();
    let columns: Vec<usize> = (0..case.batch).collect();
    for input in case.x.data.chunks_exact(case.batch * case.input) {
        network.step(&mut state, &columns, input, &[], &mut scratch);
        outputs.extend_from_slice(state.hidden(case.layers - 1));
    }
    assert_close("outputs", &outputs, &case.y.data, OUTPUT_TOLERANCE);
    for k in 0..case.layers {
        assert_close("h_n", state.hidden(k), case.layer(&case.h_n, k), OUTPUT_TOLERANCE);
        if let Some(c_n) = &case.c_n {
            assert_close("c_n", state.cell(k), case.layer(c_n, k), OUTPUT_TOLERANCE);
        }
    }
}

/// Forward and backward over the whole sequence.
fn check_gradients(case: &Case, network: &Network) {
    let state = case.initial_state(network);
    let mut scratch = TrainScratch::new(network.shape());
    let found = network.sequence_gradients(&state, &case.x.data, &case.dy.data, &mut scratch);
    assert_close("outputs", &found.outputs, &case.y.data, OUTPUT_TOLERANCE);
    assert_close("dx", &found.inputs, &case.dx.data, GRADIENT_TOLERANCE);
    assert_eq!(
        case.grads.len() + 2,
        found.gradients.tensors().len(),
        "every weight has a gradient, and the head's two tensors"
    );
    for (name, expected) in &case.grads {
        let tensor = &found.gradients.tensors()[name];
        assert_eq!(tensor.shape, expected.shape, "{name}");
        assert_close(name, &tensor.data, &expected.data, GRADIENT_TOLERANCE);
    }
}

fn check(folder: &Path) {
    let files = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("the folder can be listed").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    assert!(!files.is_empty(), "{} has no case", folder.display());
    for file in files {
        println!("{}", file.display());
        let text = std::fs::read_to_string(&file).expect("the file can be read");
        let case: Case = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        assert_eq!(case.x.shape, [case.steps, case.batch, case.input]);
        let network = case.network();
        check_steps(&case, &network);
        check_gradients(&case, &network);
    }
}

#[test]
fn cells_match_golden_vectors() {
    check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"));
    if let Some(folder) = std::env::var_os("TIDECAST_GOLDEN") {
        check(Path::new(&folder));
    }
}
