//! Import of cells that were trained in PyTorch: validated against the pipeline, then scored on the history like a model
//! trained here.

use anyhow::{Result, bail, ensure};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::plan::initial_manifest;
use super::scores::{ScoredOrigins, score_model};
use super::settings::{TrainConfig, TrainingSpec};
use super::{History, Split};
use tidecast_core::model::{BlendWeight, CellsSpec, DataSummary, Model, ModelManifest};
use tidecast_core::network::{CellKind, Decoder, Network, StateKind, Tensors, tensors};
use tidecast_core::series::Calendar;

/// A network with the shape that the pipeline describes.
#[derive(Debug)]
pub struct ImportedNetwork {
    network: Network,
    /// SHA-256 of the imported bytes.
    sha256: String,
}

/// Prefixes of the tensor names of PyTorch's recurrent modules, and of our peepholes.
const RECURRENT_PREFIXES: [&str; 6] =
    ["weight_ih_l", "weight_hh_l", "weight_hr_l", "bias_ih_l", "bias_hh_l", "peephole_"];

impl ImportedNetwork {
    /// Reads the tensors of an `nn.RNN`, `nn.LSTM` or `nn.GRU`, nested in modules of any name, and of an `nn.Linear` named
    /// `head`, from safetensors bytes.
    ///
    /// # Errors
    /// If the bytes are not safetensors of f32, or the tensors differ from the network that `[train]` describes. The error
    /// names all keys that differ.
    pub fn from_bytes(pipeline: &TrainingSpec, bytes: &[u8]) -> Result<Self> {
        ensure!(
            !bytes.starts_with(b"PK"),
            "the file is a pickle from torch.save, which may run code when it is loaded: save the tensors with \
             safetensors.torch.save_file(module.state_dict(), PATH)"
        );
        let tensors = flatten_names(tensors::read_any(bytes)?)?;
        let manifest = manifest_without_history(pipeline)?;
        let spec = manifest.cells.as_ref().expect("a configuration without a recurrence has cells");
        let mismatches = find_mismatches(&manifest, spec, &tensors);
        if !mismatches.is_empty() {
            bail!(
                "the network differs from [train] in {}: {}",
                pipeline.file.display(),
                mismatches.join("; ")
            );
        }
        let network = Network::from_tensors(spec.network, &tensors)?;
        let sha256 = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { network, sha256 })
    }

    /// The model of these weights. From the history it takes the moments of the columns and, from the validation split, the
    /// residual quantiles of the intervals; validation and test split are scored. `data` describes the source of the
    /// history; its times are set here.
    ///
    /// # Errors
    /// If the history is empty.
    pub fn into_model(self, pipeline: &TrainingSpec, history: &History, data: DataSummary) -> Result<Model> {
        let split = Split::new(history, pipeline.train.split_fractions())?;
        let mut manifest = initial_manifest(pipeline, history, Vec::new(), split, data);
        let cells = manifest.cells.as_mut().expect("a configuration without a recurrence has cells");
        cells.blend_weights = vec![BlendWeight { end: manifest.horizon, weight: 1.0 }];
        manifest.training = json!({ "imported": { "sha256": self.sha256 } });
        let origins = ScoredOrigins::sample(history, &manifest, split, 1);
        let model = Model::new(manifest, None, Some(self.network), None);
        Ok(score_model(model, pipeline, history, &history.channels(), split, &origins).0)
    }
}

/// The manifest by the configuration alone, which determines all sizes.
fn manifest_without_history(pipeline: &TrainingSpec) -> Result<ModelManifest> {
    let TrainConfig { recurrence, embedding, quantiles, state, .. } = pipeline.train;
    ensure!(
        !recurrence,
        "{}: [train] has a recurrence, which PyTorch modules do not have: set recurrence = false",
        pipeline.file.display()
    );
    ensure!(
        embedding == 0 && !quantiles && state == StateKind::Window,
        "{}: [train] has an embedding, quantiles or a carried state, which PyTorch modules do not have: remove these keys",
        pipeline.file.display()
    );
    let split = Split { first: 0, train_end: 0, validation_end: 0, end: 0 };
    Ok(initial_manifest(pipeline, &History::default(), Vec::new(), split, DataSummary::default()))
}

/// Removes the names of outer modules: `gru.weight_ih_l0` becomes `weight_ih_l0`.
fn flatten_names(tensors: Tensors) -> Result<Tensors> {
    let mut flat = Tensors::new();
    for (name, tensor) in tensors {
        let short = short_name(&name);
        if flat.insert(short.to_owned(), tensor).is_some() {
            bail!("duplicate tensor `{short}`, the second one as `{name}`: save a single recurrent module");
        }
    }
    Ok(flat)
}

fn short_name(name: &str) -> &str {
    let last = name.rsplit('.').next().unwrap_or(name);
    if RECURRENT_PREFIXES.iter().any(|prefix| last.starts_with(prefix)) {
        return last;
    }
    let head = ["head.weight", "head.bias"].into_iter().find(|head| {
        name.strip_suffix(head).is_some_and(|module| module.is_empty() || module.ends_with('.'))
    });
    head.unwrap_or(name)
}

/// Differences between the tensors and the configured network, each with the key to change or the change in Python.
fn find_mismatches(manifest: &ModelManifest, spec: &CellsSpec, tensors: &Tensors) -> Vec<String> {
    let CellsSpec { network: shape, segment, .. } = spec;
    let mut mismatches = unsupported_tensors(tensors);
    let sizes = |name: &str| match tensors.get(name).map(|tensor| &tensor.shape[..]) {
        Some([rows, columns]) => Some((*rows, *columns)),
        _ => None,
    };
    if let Some((rows, hidden)) = sizes("weight_hh_l0").filter(|(_, columns)| *columns > 0) {
        let tensor = format!("`weight_hh_l0` is [{rows}, {hidden}]");
        let gates = rows / hidden;
        if gates != shape.cell.gates() {
            let cells = CellKind::ALL.iter().filter(|cell| cell.gates() == gates);
            let cells: Vec<_> = cells.map(|cell| format!("{:?}", cell.name())).collect();
            let cells = if cells.is_empty() { "no cell".to_owned() } else { cells.join(", ") };
            mismatches.push(format!(
                "train.cell is {:?} with {} rows per hidden value, but {tensor} with {gates}, like {cells}",
                shape.cell.name(),
                shape.cell.gates()
            ));
        }
        if hidden != shape.hidden {
            mismatches.push(format!("train.hidden is {}, but {tensor}", shape.hidden));
        }
    }
    let layers = (0..).take_while(|k| tensors.contains_key(&format!("weight_ih_l{k}"))).count();
    if layers != shape.layers && layers > 0 {
        mismatches.push(format!("train.layers is {}, but the module has {layers}", shape.layers));
    }
    if let Some((rows, inputs)) = sizes("weight_ih_l0").filter(|(_, inputs)| *inputs != shape.inputs) {
        mismatches.push(format!(
            "`weight_ih_l0` is [{rows}, {inputs}], but the pipeline has {} inputs: {segment} step(s) (train.segment) of {}",
            shape.inputs,
            inputs_of_a_step(manifest)
        ));
    }
    if let Some((rows, columns)) = sizes("head.weight") {
        let tensor = format!("`head.weight` is [{rows}, {columns}]");
        match shape.decoder {
            Decoder::Direct if rows != shape.horizon => {
                mismatches.push(format!("train.horizon is {}, but {tensor}", shape.horizon));
            }
            Decoder::Recursive if rows != 1 => mismatches
                .push(format!("train.decoder is \"recursive\", which has one output per step, but {tensor}")),
            _ => {}
        }
    }
    mismatches
}

/// Tensors that are unsupported or missing, each with the change in Python.
fn unsupported_tensors(tensors: &Tensors) -> Vec<String> {
    let any = |is_match: &dyn Fn(&str) -> bool| tensors.keys().find(|name| is_match(name));
    let reverse = any(&|name| name.ends_with("_reverse"))
        .map(|name| format!("`{name}` is bidirectional: remove bidirectional=True"));
    let projection = any(&|name| name.starts_with("weight_hr_l"))
        .map(|name| format!("`{name}` is a projection: remove proj_size"));
    let missing = |name: &str, remedy: &str| {
        (!tensors.contains_key(name)).then(|| format!("`{name}` is missing: {remedy}"))
    };
    let recurrent = missing("weight_ih_l0", "save the tensors of an nn.RNN, nn.LSTM or nn.GRU");
    let bias = missing("bias_ih_l0", "remove bias=False").filter(|_| recurrent.is_none());
    let head = missing("head.weight", "name the nn.Linear that reads the last hidden values `head`");
    [reverse, projection, recurrent, bias, head].into_iter().flatten().collect()
}

/// The inputs of a step: `the value, covariate "wind", two of train.calendar's "hour-of-day"`.
fn inputs_of_a_step(manifest: &ModelManifest) -> String {
    let mut inputs = vec!["the value".to_owned()];
    inputs.extend(manifest.inputs.mask.then(|| "the mask of gap_fill = \"missing\"".to_owned()));
    inputs.extend(manifest.covariates.iter().map(|name| format!("covariate {name:?}")));
    let calendar = |calendar: &Calendar| format!("two of train.calendar's {}", json!(calendar));
    inputs.extend(manifest.inputs.calendar.iter().map(calendar));
    inputs.join(", ")
}
