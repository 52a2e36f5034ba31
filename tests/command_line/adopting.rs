//! `adopt`: what it makes of weights, and what it says of weights that are not those of the pipeline.

use safetensors::tensor::{Dtype, TensorView};
use tidecast_core::model::Model;
use tidecast_core::network::{Network, Tensor, Tensors, tensors};

use super::mistakes::PARQUET;
use super::*;

const RECIPE: &str = "
[train]
memory = false
cell = \"gru\"
hidden = 9
layers = 2
lookback = 6
segment = 1
horizon = 2
calendar = [\"hour-of-day\"]
";
const ADOPT: &str = "adopt p.toml --weights w.safetensors --data in.parquet --out m.safetensors";

fn workspace() -> Workspace {
    let workspace = Workspace::new(&format!("{PARQUET}{RECIPE}"));
    workspace.readings("in.parquet", &readings(&["a", "b"], 0..100));
    workspace
}

/// The weights that fit, under the names of a module.
fn weights() -> Tensors {
    let network: Network = Case::default().model().cells.expect("it has cells");
    let named = |(name, tensor): (&String, &Tensor)| match name.starts_with("head.") {
        true => (name.clone(), tensor.clone()),
        false => (format!("encoder.gru.{name}"), tensor.clone()),
    };
    network.tensors().iter().map(named).collect()
}

fn write(workspace: &Workspace, tensors: &Tensors) {
    fs::write(workspace.path("w.safetensors"), tensors::write(tensors, "format", "pt")).unwrap();
}

/// That weights changed like this are refused for these reasons, and nothing is written.
#[track_caller]
fn refused(change: impl FnOnce(&mut Tensors), why: &[&str]) {
    let workspace = workspace();
    let mut tensors = weights();
    change(&mut tensors);
    write(&workspace, &tensors);
    workspace.run(ADOPT).fails(&["w.safetensors cannot be adopted"]).says(why);
    assert!(!workspace.path("m.safetensors").exists());
}

#[test]
fn an_adopted_model_is_scored_and_has_intervals() {
    let workspace = workspace();
    write(&workspace, &weights());
    let outcome =
        workspace.run(ADOPT).succeeds().says(&["its scores and intervals are honest if nothing at or after"]);
    assert!(outcome.stdout.contains("this model"), "{outcome:#?}");
    let bytes = fs::read(workspace.path("m.safetensors")).unwrap();
    let model = Model::from_bytes(&bytes).unwrap();
    let parts: Vec<_> = model.manifest.scores.iter().map(|score| score.split.name()).collect();
    assert_eq!(parts, ["validation", "test"]);
    assert!(model.residuals.is_some() && model.manifest.training["adopted"]["sha256"].is_string());
    assert_eq!(model.cells.unwrap().tensors(), Case::default().model().cells.unwrap().tensors());
    workspace.change("model = \"model.safetensors\"", "model = \"m.safetensors\"");
    for command in ["backfill p.toml --to -", "evaluate p.toml", "inspect m.safetensors"] {
        assert!(!workspace.run(command).succeeds().stdout.is_empty());
    }
    workspace.run(ADOPT).succeeds();
    assert_eq!(fs::read(workspace.path("m.safetensors")).unwrap(), bytes, "the same weights give the same file");
}

#[test]
fn weights_of_another_network_name_the_tensor_and_the_key() {
    let workspace = workspace();
    write(&workspace, &weights());
    for (key, other, why) in [
        (
            "cell = \"gru\"",
            "cell = \"lstm\"",
            "train.cell is \"lstm\" with 4 rows for each hidden value, but `weight_hh_l0` \
             is [27, 9] with 3, as of \"lstm-coupled\", \"lstm-peephole-coupled\", \"gru\"",
        ),
        ("hidden = 9", "hidden = 32", "train.hidden is 32, but `weight_hh_l0` is [27, 9], of 9"),
        ("layers = 2", "layers = 1", "train.layers is 1, but there are 2"),
        ("horizon = 2", "horizon = 24", "train.horizon is 24, but `head.weight` is [2, 9], of 2 values"),
        (
            "segment = 1",
            "segment = 2",
            "`weight_ih_l0` is [27, 3], of 3 inputs, but 6 are read at a time: 2 step(s) (train.segment) \
             of the value, two of train.calendar's \"hour-of-day\"",
        ),
        ("memory = false", "memory = true", "say memory = false"),
    ] {
        let before = fs::read_to_string(workspace.path("p.toml")).unwrap();
        workspace.change(key, other);
        workspace.run(ADOPT).fails(&["w.safetensors cannot be adopted", "p.toml", why]);
        fs::write(workspace.path("p.toml"), before).unwrap();
    }
    // All at once.
    workspace.change("hidden = 9", "hidden = 8");
    workspace.change("horizon = 2", "horizon = 3");
    workspace.run(ADOPT).fails(&["train.hidden is 8", "train.horizon is 3"]);
}

#[test]
fn tensors_that_do_not_belong_come_with_what_to_do_in_python() {
    let rename = |from: &'static str, to: &'static str| {
        move |all: &mut Tensors| {
            let tensor = all.remove(from).unwrap();
            all.insert(to.into(), tensor);
        }
    };
    let add =
        |name: &'static str| move |all: &mut Tensors| drop(all.insert(name.into(), Tensor::zeros(&[9])));
    refused(rename("head.weight", "fc.weight"), &["`head.weight` is missing: call the nn.Linear"]);
    refused(add("norm.weight"), &["tensor `norm.weight` does not belong"]);
    refused(
        add("gru.weight_ih_l0_reverse"),
        &["`weight_ih_l0_reverse` reads backwards", "bidirectional=True"],
    );
    refused(add("gru.weight_hr_l0"), &["leave out proj_size"]);
    refused(add("decoder.weight_ih_l0"), &["`weight_ih_l0` is there twice"]);
    refused(
        |all| all.retain(|name, _| !name.contains("bias")),
        &["`bias_ih_l0` is missing: leave out bias=False"],
    );
    refused(|all| all.retain(|name, _| name.starts_with("head")), &["save the tensors of an nn.RNN"]);
    refused(
        |all| all.get_mut("head.bias").unwrap().data[1] = f32::NAN,
        &["tensor `head.bias` holds NaN at place 1"],
    );
}

#[test]
fn what_is_no_tensors_of_f32_says_how_to_write_them() {
    let workspace = workspace();
    let refused = |bytes: &[u8], why: &str| {
        fs::write(workspace.path("w.safetensors"), bytes).unwrap();
        workspace.run(ADOPT).fails(&["w.safetensors cannot be adopted", why]);
    };
    for (dtype, name) in [(Dtype::F64, "F64"), (Dtype::BF16, "BF16")] {
        let data = vec![0; 8 * dtype.bitsize()];
        let view = TensorView::new(dtype, vec![64], &data).unwrap();
        let why = format!(
            "tensor `head.bias` is {name}, but only F32 is read: convert it, in PyTorch with `.float()`"
        );
        refused(&safetensors::serialize([("head.bias", view)], None).unwrap(), &why);
    }
    refused(b"PK\x03\x04 as torch.save begins", "safetensors.torch.save_file(module.state_dict(), PATH)");
    refused(b"PAR1 and so on, as a table begins", "not a safetensors file");
    fs::remove_file(workspace.path("w.safetensors")).unwrap();
    workspace.run(ADOPT).fails(&["cannot read w.safetensors"]);
    workspace
        .run("adopt p.toml --weights in.parquet --data in.parquet --out in.parquet")
        .fails(&["in.parquet is read"]);
}
