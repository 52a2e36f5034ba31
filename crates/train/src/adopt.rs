//! Cells that were trained elsewhere, as PyTorch's modules save them: held against the recipe, then scored on the
//! history by the code that scores our own.

use anyhow::{Result, bail, ensure};
use sha2::{Digest, Sha256};

use super::describe::describe;
use super::windows::Split;
use super::{History, parts, scorable, scored, walk};
use crate::settings::{Train, TrainingSpec};
use tidecast_core::model::{DataSummary, Description, Model, Share};
use tidecast_core::network::{CellKind, Decoder, Network, Shape, StateKind, Tensors, tensors};
use tidecast_core::series::Calendar;

/// Weights of a network that the recipe describes.
#[derive(Debug)]
pub struct Adopted {
    network: Network,
    /// Of the bytes they came in.
    sha256: String,
}

/// Beginnings of the names that PyTorch gives the tensors of a recurrent module, and ours of peepholes.
const RECURRENT: [&str; 6] =
    ["weight_ih_l", "weight_hh_l", "weight_hr_l", "bias_ih_l", "bias_hh_l", "peephole_"];

impl Adopted {
    /// Reads safetensors `bytes`: the tensors of an `nn.RNN`, `nn.LSTM` or `nn.GRU`, under whatever name its module has
    /// in another, and of an `nn.Linear` called `head`. Their sizes must be those of the recipe.
    ///
    /// # Errors
    /// If the bytes are not safetensors of f32, or the tensors are not those that the recipe asks for; all keys of the
    /// recipe that they contradict are named.
    pub fn read(pipeline: &TrainingSpec, bytes: &[u8]) -> Result<Self> {
        ensure!(
            !bytes.starts_with(b"PK"),
            "it is what torch.save writes, a pickle that may run code when it is read: write the tensors with \
             safetensors.torch.save_file(module.state_dict(), PATH)"
        );
        let tensors = named(tensors::read_foreign(bytes)?)?;
        let description = blank(pipeline)?;
        let part = description.cells.as_ref().expect("a recipe has a memory or cells");
        let wrong = disagreements(&description, &part.network, part.segment, &tensors);
        if !wrong.is_empty() {
            bail!("it is not the network of {}: {}", pipeline.file.display(), wrong.join("; "));
        }
        let network = Network::from_tensors(part.network, &tensors)?;
        let sha256 = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { network, sha256 })
    }

    /// The model of these weights for `pipeline`. Nothing is learned from the history but the moments of its columns;
    /// the validation part gives the intervals, and all parts but the training part are scored. `data` says where the
    /// history came from; its times are filled in here.
    ///
    /// # Errors
    /// If the history is empty.
    pub fn model(self, pipeline: &TrainingSpec, history: &History, data: DataSummary) -> Result<Model> {
        let split = parts(pipeline, history)?;
        let mut description = describe(pipeline, history, Vec::new(), split, data);
        let cells = description.cells.as_mut().expect("the weights are those of cells");
        cells.shares = vec![Share { until: description.horizon, share: 1.0 }];
        description.recipe = serde_json::json!({ "adopted": { "sha256": self.sha256 } });
        let [validated, tested] = scorable(history, &description, split, 1);
        let model = Model::new(description, None, Some(self.network), None);
        let lanes = walk::lanes(history);
        Ok(scored(model, pipeline, history, &lanes, split, [&validated, &tested]).0)
    }
}

/// What the recipe describes, without a history: its sizes follow from the pipeline alone.
fn blank(pipeline: &TrainingSpec) -> Result<Description> {
    ensure!(
        !pipeline.train.memory,
        "{}: [train] has a memory, and the weights of a memory are none of PyTorch's: say memory = false",
        pipeline.file.display()
    );
    let Train { embedding, quantiles, state, .. } = pipeline.train;
    ensure!(
        embedding == 0 && !quantiles && state == StateKind::Window,
        "{}: [train] has an embedding, quantiles or a carried state, and what PyTorch's modules say has none: leave \
         these keys out",
        pipeline.file.display()
    );
    let split = Split { first: 0, train_end: 0, validation_end: 0, end: 0 };
    Ok(describe(pipeline, &History::default(), Vec::new(), split, DataSummary::default()))
}

/// The tensors without the names of the modules around them: `gru.weight_ih_l0` is `weight_ih_l0`.
fn named(tensors: Tensors) -> Result<Tensors> {
    let mut plain = Tensors::new();
    for (name, tensor) in tensors {
        let short = short(&name);
        if plain.insert(short.to_owned(), tensor).is_some() {
            bail!("tensor `{short}` is there twice, the second time as `{name}`: save one recurrent module");
        }
    }
    Ok(plain)
}

fn short(name: &str) -> &str {
    let last = name.rsplit('.').next().unwrap_or(name);
    if RECURRENT.iter().any(|start| last.starts_with(start)) {
        return last;
    }
    let head = ["head.weight", "head.bias"].into_iter().find(|head| {
        name.strip_suffix(head).is_some_and(|module| module.is_empty() || module.ends_with('.'))
    });
    head.unwrap_or(name)
}

/// In what the tensors are of another network than the recipe's: the tensor, and the key to change or what to do in
/// Python.
fn disagreements(of: &Description, shape: &Shape, segment: usize, tensors: &Tensors) -> Vec<String> {
    let mut wrong = unknown(tensors);
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
            let cells = if cells.is_empty() { "no cell here".to_owned() } else { cells.join(", ") };
            wrong.push(format!(
                "train.cell is {:?} with {} rows for each hidden value, but {tensor} with {gates}, as of {cells}",
                shape.cell.name(),
                shape.cell.gates()
            ));
        }
        if hidden != shape.hidden {
            wrong.push(format!("train.hidden is {}, but {tensor}, of {hidden}", shape.hidden));
        }
    }
    let layers = (0..).take_while(|k| tensors.contains_key(&format!("weight_ih_l{k}"))).count();
    if layers != shape.layers && layers > 0 {
        wrong.push(format!("train.layers is {}, but there are {layers}", shape.layers));
    }
    if let Some((rows, inputs)) = sizes("weight_ih_l0").filter(|(_, inputs)| *inputs != shape.inputs) {
        wrong.push(format!(
            "`weight_ih_l0` is [{rows}, {inputs}], of {inputs} inputs, but {} are read at a time: {segment} step(s) \
             (train.segment) of {}",
            shape.inputs,
            inputs_of_a_step(of)
        ));
    }
    if let Some((rows, columns)) = sizes("head.weight") {
        let tensor = format!("`head.weight` is [{rows}, {columns}]");
        match shape.decoder {
            Decoder::Direct if rows != shape.horizon => {
                wrong.push(format!("train.horizon is {}, but {tensor}, of {rows} values", shape.horizon));
            }
            Decoder::Recursive if rows != 1 => wrong.push(format!(
                "train.decoder is \"recursive\" and says a value at a time, but {tensor}, of {rows}"
            )),
            _ => {}
        }
    }
    wrong
}

/// Tensors of networks that are not read here, and those that every one has, with what to do in Python.
fn unknown(tensors: &Tensors) -> Vec<String> {
    let any = |found: &dyn Fn(&str) -> bool| tensors.keys().find(|name| found(name));
    let reverse = any(&|name| name.ends_with("_reverse")).map(|name| {
        format!("`{name}` reads backwards, from the end of a window: leave out bidirectional=True")
    });
    let projection = any(&|name| name.starts_with("weight_hr_l"))
        .map(|name| format!("`{name}` makes hidden values fewer: leave out proj_size"));
    let lacks = |name: &str, remedy: &str| {
        (!tensors.contains_key(name)).then(|| format!("`{name}` is missing: {remedy}"))
    };
    let recurrent = lacks("weight_ih_l0", "save the tensors of an nn.RNN, nn.LSTM or nn.GRU");
    let bias = lacks("bias_ih_l0", "leave out bias=False").filter(|_| recurrent.is_none());
    let head = lacks("head.weight", "call the nn.Linear that reads the last hidden values `head`");
    [reverse, projection, recurrent, bias, head].into_iter().flatten().collect()
}

/// `the value, covariate "wind", two of train.calendar's "hour-of-day"`
fn inputs_of_a_step(of: &Description) -> String {
    let mut parts = vec!["the value".to_owned()];
    parts.extend(of.inputs.mask.then(|| "the mask of gaps = \"missing\"".to_owned()));
    parts.extend(of.covariates.iter().map(|name| format!("covariate {name:?}")));
    let calendar = |calendar: &Calendar| format!("two of train.calendar's {}", serde_json::json!(calendar));
    parts.extend(of.inputs.calendar.iter().map(calendar));
    parts.join(", ")
}
