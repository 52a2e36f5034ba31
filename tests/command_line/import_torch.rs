//! `import-torch`: the resulting model, and the errors for weights that do not match the pipeline.

use safetensors::tensor::{Dtype, TensorView};
use tidecast_core::model::Model;
use tidecast_core::network::{Network, Tensor, Tensors, tensors};

use super::errors::PARQUET;
use super::*;

const RECIPE: &str = "
[train]
recurrence = false
cell = \"gru\"
hidden = 9
layers = 2
lookback = 6
segment = 1
horizon = 2
calendar = [\"hour-of-day\"]
";
const IMPORT: &str = "import-torch p.toml --weights w.safetensors --data in.parquet --out m.safetensors";

fn workspace() -> Workspace {
    let workspace = Workspace::new(&format!("{PARQUET}{RECIPE}"));
    workspace.write_readings("in.parquet", &readings(&["a", "b"], 0..100));
    workspace
}

/// Matching weights, with the names of a module.
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

/// Asserts that changed weights are rejected for these reasons, and nothing is written.
#[track_caller]
fn assert_rejected(change: impl FnOnce(&mut Tensors), why: &[&str]) {
    let workspace = workspace();
    let mut tensors = weights();
    change(&mut tensors);
    write(&workspace, &tensors);
    workspace.run(IMPORT).fails(&["cannot import w.safetensors"]).logs(why);
    assert!(!workspace.path("m.safetensors").exists());
}

#[test]
fn an_imported_model_is_scored_and_has_intervals() {
    let workspace = workspace();
    write(&workspace, &weights());
    let outcome = workspace.run(IMPORT).succeeds().logs(&["its errors and intervals are valid only if"]);
    assert!(outcome.stdout.contains("seasonal naive"), "{outcome:#?}");
    let bytes = fs::read(workspace.path("m.safetensors")).unwrap();
    let model = Model::from_bytes(&bytes).unwrap();
    let splits: Vec<_> = model.manifest.scores.iter().map(|score| score.split.name()).collect();
    assert_eq!(splits, ["validation", "test"]);
    assert!(model.residuals.is_some() && model.manifest.training["imported"]["sha256"].is_string());
    assert_eq!(model.cells.unwrap().tensors(), Case::default().model().cells.unwrap().tensors());
    workspace.change("model = \"model.safetensors\"", "model = \"m.safetensors\"");
    for command in ["backfill p.toml --to -", "evaluate p.toml", "inspect m.safetensors"] {
        assert!(!workspace.run(command).succeeds().stdout.is_empty());
    }
    workspace.run(IMPORT).succeeds();
    assert_eq!(fs::read(workspace.path("m.safetensors")).unwrap(), bytes, "equal weights give equal files");
}

#[test]
fn mismatching_weights_name_the_tensor_and_the_key() {
    let workspace = workspace();
    write(&workspace, &weights());
    for (key, other, why) in [
        (
            "cell = \"gru\"",
            "cell = \"lstm\"",
            "train.cell is \"lstm\" with 4 rows per hidden value, but `weight_hh_l0` \
             is [27, 9] with 3, like \"lstm-coupled\", \"lstm-peephole-coupled\", \"gru\"",
        ),
        ("hidden = 9", "hidden = 32", "train.hidden is 32, but `weight_hh_l0` is [27, 9]"),
        ("layers = 2", "layers = 1", "train.layers is 1, but the module has 2"),
        ("horizon = 2", "horizon = 24", "train.horizon is 24, but `head.weight` is [2, 9]"),
        (
            "segment = 1",
            "segment = 2",
            "`weight_ih_l0` is [27, 3], but the pipeline has 6 inputs: 2 step(s) (train.segment) \
             of the value, two of train.calendar's \"hour-of-day\"",
        ),
        ("recurrence = false", "recurrence = true", "set recurrence = false"),
    ] {
        let before = fs::read_to_string(workspace.path("p.toml")).unwrap();
        workspace.change(key, other);
        workspace.run(IMPORT).fails(&["cannot import w.safetensors", "p.toml", why]);
        fs::write(workspace.path("p.toml"), before).unwrap();
    }
    // All mismatches at once.
    workspace.change("hidden = 9", "hidden = 8");
    workspace.change("horizon = 2", "horizon = 3");
    workspace.run(IMPORT).fails(&["train.hidden is 8", "train.horizon is 3"]);
}

#[test]
fn unexpected_tensors_are_rejected_with_the_fix_in_pytorch() {
    let rename = |from: &'static str, to: &'static str| {
        move |all: &mut Tensors| {
            let tensor = all.remove(from).unwrap();
            all.insert(to.into(), tensor);
        }
    };
    let add =
        |name: &'static str| move |all: &mut Tensors| drop(all.insert(name.into(), Tensor::zeros(&[9])));
    assert_rejected(rename("head.weight", "fc.weight"), &["`head.weight` is missing: name the nn.Linear"]);
    assert_rejected(add("norm.weight"), &["tensor `norm.weight` is not part of such a network"]);
    assert_rejected(
        add("gru.weight_ih_l0_reverse"),
        &["`weight_ih_l0_reverse` is bidirectional", "bidirectional=True"],
    );
    assert_rejected(add("gru.weight_hr_l0"), &["remove proj_size"]);
    assert_rejected(add("decoder.weight_ih_l0"), &["duplicate tensor `weight_ih_l0`"]);
    assert_rejected(
        |all| all.retain(|name, _| !name.contains("bias")),
        &["`bias_ih_l0` is missing: remove bias=False"],
    );
    assert_rejected(|all| all.retain(|name, _| name.starts_with("head")), &["save the tensors of an nn.RNN"]);
    assert_rejected(
        |all| all.get_mut("head.bias").unwrap().data[1] = f32::NAN,
        &["tensor `head.bias` has NaN at index 1"],
    );
}

#[test]
fn unreadable_tensors_are_rejected_with_the_fix_in_pytorch() {
    let workspace = workspace();
    let assert_rejected = |bytes: &[u8], why: &str| {
        fs::write(workspace.path("w.safetensors"), bytes).unwrap();
        workspace.run(IMPORT).fails(&["cannot import w.safetensors", why]);
    };
    for (dtype, name) in [(Dtype::F64, "F64"), (Dtype::BF16, "BF16")] {
        let data = vec![0; 8 * dtype.bitsize()];
        let view = TensorView::new(dtype, vec![64], &data).unwrap();
        let why = format!(
            "tensor `head.bias` is {name}, but only F32 is supported: convert it, in PyTorch with `.float()`"
        );
        assert_rejected(&safetensors::serialize([("head.bias", view)], None).unwrap(), &why);
    }
    assert_rejected(
        b"PK\x03\x04 as torch.save begins",
        "safetensors.torch.save_file(module.state_dict(), PATH)",
    );
    assert_rejected(b"PAR1 and so on, as a table begins", "not a safetensors file");
    fs::remove_file(workspace.path("w.safetensors")).unwrap();
    workspace.run(IMPORT).fails(&["cannot read w.safetensors"]);
    workspace
        .run("import-torch p.toml --weights in.parquet --data in.parquet --out in.parquet")
        .fails(&["in.parquet is an input"]);
}
