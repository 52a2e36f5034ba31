//! Model files: what is written reads back to the same bytes; whatever else a file may hold is an error that says what
//! is wrong, and never a panic.

use serde_json::{Value, json};
use tidecast_core::intervals::Base;
use tidecast_core::model::{Model, ModelError};
use tidecast_core::network::tensors::{self, Tensor, Tensors};

use crate::harness::Case;

const KEY: &str = "tidecast";

fn bytes() -> Vec<u8> {
    Case::default().model().to_bytes()
}

/// Why a model file is refused once its tensors and its description have been changed.
fn error_after(change: impl FnOnce(&mut Tensors, &mut Value)) -> String {
    let (mut tensors, text) = tensors::read(&bytes(), KEY).unwrap();
    let mut description = serde_json::from_str(&text).unwrap();
    change(&mut tensors, &mut description);
    Model::from_bytes(&tensors::write(&tensors, KEY, &description.to_string())).unwrap_err().to_string()
}

#[track_caller]
fn refused_tensors(change: impl FnOnce(&mut Tensors), why: &str) {
    let error = error_after(|tensors, _| change(tensors));
    assert!(error.contains(why), "{error}");
}

#[track_caller]
fn refused_description(path: &str, value: Value, why: &str) {
    let error = error_after(|_, description| *description.pointer_mut(path).unwrap() = value);
    assert!(error.contains(why), "{error}");
}

fn tensor(shape: &[usize], data: &[f32]) -> Tensor {
    Tensor { shape: shape.to_vec(), data: data.to_vec() }
}

#[test]
fn what_is_written_reads_back_to_the_same_bytes() {
    let written = Case::default().model();
    let read = Model::from_bytes(&written.to_bytes()).unwrap();
    assert_eq!(read.to_bytes(), written.to_bytes());
    assert_eq!((read.hash.as_str(), read.hash.len()), (written.hash.as_str(), 12));
    assert_eq!(read.description, written.description);
    let tensors = |model: &Model| model.cells.as_ref().map(|cells| cells.tensors().clone());
    assert_eq!(tensors(&read), tensors(&written));
    assert_eq!(read.errors, written.errors);
}

/// A model that learned quantiles, with a memory and series of its own.
fn with_quantiles() -> Case {
    Case { memory: true, learned: vec![0.8], levels: vec![0.8, 0.9], ..Case::default() }
}

#[test]
fn learned_quantiles_and_their_corrections_read_back() {
    let written = with_quantiles().model();
    let read = Model::from_bytes(&written.to_bytes()).unwrap();
    assert_eq!(read.to_bytes(), written.to_bytes());
    assert_eq!((&read.errors, &read.description), (&written.errors, &written.description));
    let corrected = read.errors.as_ref().unwrap().corrected.as_ref().unwrap();
    assert_eq!(corrected.own.len(), 4);
    // A level that was learned is counted from its quantiles, any other from the forecast.
    let bases = |level, series| {
        let bounds = read.bounds(level, series);
        [bounds.lower.base, bounds.upper.base]
    };
    assert_eq!(bases(0.8, None), [Base::Quantile(0), Base::Quantile(1)]);
    assert_eq!(bases(0.9, Some(2)), [Base::Forecast; 2]);
    assert_eq!(read.bounds(0.8, Some(2)), corrected.own[2].bounds([0, 1]));
    assert_eq!(read.bounds(0.8, Some(9)), corrected.all.bounds([0, 1]));
}

#[test]
fn corrections_have_a_number_for_each_quantile_and_step() {
    let (tensors, text) = tensors::read(&with_quantiles().model().to_bytes(), KEY).unwrap();
    let error = |change: &dyn Fn(&mut Tensors)| {
        let mut tensors = tensors.clone();
        change(&mut tensors);
        Model::from_bytes(&tensors::write(&tensors, KEY, &text)).unwrap_err().to_string()
    };
    let missing = error(&|all| drop(all.remove("quantile_corrections")));
    assert!(missing.starts_with("tensor \"quantile_corrections\" must be [2, 2] values"), "{missing}");
    let wide = error(&|all| drop(all.insert("quantile_corrections".into(), tensor(&[4, 1], &[0.0; 4]))));
    assert_eq!(wide, missing);
    let own = error(&|all| drop(all.insert("own_quantile_corrections".into(), tensor(&[2, 2], &[0.0; 4]))));
    assert!(own.starts_with("tensor \"own_quantile_corrections\" must be [4, 2, 2] values"), "{own}");
    // Without errors nothing is corrected.
    let alone =
        error(&|all| all.retain(|name, _| !["error_quantiles", "error_widening"].contains(&&name[..])));
    assert!(alone.contains("`own_quantile_corrections` does not belong"), "{alone}");
    refused_tensors(
        |all| drop(all.insert("quantile_corrections".into(), tensor(&[2, 2], &[0.0; 4]))),
        "tensor `quantile_corrections` does not belong",
    );
}

#[test]
fn an_embedding_has_numbers_for_each_series_that_is_named() {
    let case = Case { embedding: 2, ..Case::default() };
    let bytes = case.model().to_bytes();
    assert_eq!(Model::from_bytes(&bytes).unwrap().to_bytes(), bytes);
    let (tensors, text) = tensors::read(&bytes, KEY).unwrap();
    let error = |change: &dyn Fn(&mut Tensors, &mut Value)| {
        let (mut tensors, mut description) = (tensors.clone(), serde_json::from_str(&text).unwrap());
        change(&mut tensors, &mut description);
        Model::from_bytes(&tensors::write(&tensors, KEY, &description.to_string())).unwrap_err().to_string()
    };
    let missing = error(&|tensors, _| drop(tensors.remove("embedding.weight")));
    assert!(missing.starts_with("tensor `embedding.weight` of shape [4, 2] is missing"), "{missing}");
    let fewer = error(&|_, description| description["series"] = json!([["a", "value"]]));
    assert!(fewer.contains("1 series are described, the network has an embedding of 4"), "{fewer}");
    let none = error(&|_, description| description["cells"]["network"]["embedding"] = json!(0));
    assert!(none.contains("0 series are described, the network has an embedding of 4"), "{none}");
    let wide = error(&|_, description| description["cells"]["network"]["embedding"] = json!(usize::MAX));
    assert!(wide.contains("`embedding` is 18446744073709551615, more than 64"), "{wide}");
    refused_description(
        "/cells/network/series",
        json!(3),
        "0 series are described, the network has an embedding of 3",
    );
}

#[test]
fn quantiles_and_their_probabilities_agree() {
    let (tensors, text) = tensors::read(&with_quantiles().model().to_bytes(), KEY).unwrap();
    let error = |path: &str, value: Value| {
        let mut description: Value = serde_json::from_str(&text).unwrap();
        *description.pointer_mut(path).unwrap() = value;
        Model::from_bytes(&tensors::write(&tensors, KEY, &description.to_string())).unwrap_err().to_string()
    };
    for (path, value, why) in [
        ("/cells/probabilities", json!([0.1]), "1 probabilities are described, the network says 2 quantiles"),
        ("/cells/probabilities", json!([0.9, 0.1]), "do not rise between 0 and 1"),
        ("/cells/probabilities", json!([0.0, 0.9]), "do not rise between 0 and 1"),
        ("/cells/network/quantiles", json!(usize::MAX), "the network says 18446744073709551615 quantiles"),
        ("/cells/network/decoder", json!("recursive"), "use the direct decoder"),
    ] {
        let error = error(path, value);
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_file_may_say_how_much_restlessness_widens_the_bounds() {
    let (mut tensors, text) = tensors::read(&bytes(), KEY).unwrap();
    tensors.insert("error_widening".into(), tensor(&[1], &[2.0]));
    let written = tensors::write(&tensors, KEY, &text);
    let read = Model::from_bytes(&written).unwrap();
    let widths = |model: &Model, restless: f32| {
        let forecast = vec![0.0; model.description.horizon];
        let [mut lower, mut upper] = [(); 2].map(|()| forecast.clone());
        model.bounds(0.5, Some(3)).write((&forecast, &[]), restless, &mut lower, &mut upper);
        upper[0] - lower[0]
    };
    assert_eq!(widths(&read, 1.0), 3.0 * widths(&read, 0.0));
    assert_eq!(read.to_bytes(), written);
    tensors.remove("error_widening");
    let calm = Model::from_bytes(&tensors::write(&tensors, KEY, &text)).unwrap();
    assert_eq!(widths(&calm, 1.0), widths(&read, 0.0));
    for wrong in [tensor(&[2], &[1.0, 1.0]), tensor(&[1], &[-1.0])] {
        refused_tensors(
            |tensors| drop(tensors.insert("error_widening".into(), wrong)),
            "must be 1 numbers of at least 0",
        );
    }
}

#[test]
fn another_weight_or_description_has_another_hash() {
    let case = Case::default();
    let longer = Case { lookback: case.lookback + 1, ..case.clone() };
    assert_ne!(case.model().hash, longer.model().hash);
    let (mut tensors, text) = tensors::read(&bytes(), KEY).unwrap();
    tensors.get_mut("head.bias").unwrap().data[0] += 1.0;
    let changed = Model::from_bytes(&tensors::write(&tensors, KEY, &text)).unwrap();
    assert_ne!(case.model().hash, changed.hash);
}

#[test]
fn a_model_without_errors_is_whole() {
    let mut model = Case::default().model();
    model.errors = None;
    assert_eq!(Model::from_bytes(&model.to_bytes()).unwrap().errors, None);
}

#[test]
fn a_file_cut_short_anywhere_is_an_error() {
    let bytes = bytes();
    for length in 0..bytes.len() {
        let error = Model::from_bytes(&bytes[..length]).unwrap_err().to_string();
        assert!(error.starts_with("cut short"), "{length} bytes: {error}");
    }
}

#[test]
fn a_file_with_something_behind_it_is_an_error() {
    for behind in [&b"\0"[..], b"PAR1", &bytes()] {
        let longer = [&bytes(), behind].concat();
        let error = Model::from_bytes(&longer).unwrap_err().to_string();
        assert!(error.contains("something else at its end"), "{error}");
    }
}

#[test]
fn damage_in_the_header_never_panics() {
    let bytes = bytes();
    let header = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    for place in 0..8 + header {
        for byte in [bytes[place] ^ 1, b'9', b'"', 0xff] {
            let mut damaged = bytes.clone();
            damaged[place] = byte;
            // Some damage is another valid model: another name of a column, another moment.
            if let Ok(model) = Model::from_bytes(&damaged) {
                assert_eq!(model.hash == Case::default().model().hash, damaged == bytes);
            }
        }
    }
}

#[test]
fn files_of_others_are_told_apart() {
    let error = |bytes: &[u8]| Model::from_bytes(bytes).unwrap_err().to_string();
    let one = Tensors::from([("weight".to_string(), tensor(&[1], &[1.0]))]);
    let foreign = error(&tensors::write(&one, "format", "pt"));
    assert!(foreign.contains("no `tidecast`: the file was not written by tidecast"), "{foreign}");
    let number = 1f32.to_le_bytes();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &number).unwrap();
    let bare = error(&safetensors::serialize([("weight", view)], None).unwrap());
    assert!(bare.contains("no `tidecast`"), "{bare}");
    let parquet = error(b"PAR1\x15\x04\x15\x00\x15\x02 and so on");
    assert!(parquet.contains("not a safetensors file"), "{parquet}");
    assert!(error(b"").contains("cut short"));
}

#[test]
fn every_tensor_is_there_in_its_shape_and_finite() {
    let remove = |name: &'static str| move |all: &mut Tensors| drop(all.remove(name));
    let put = |name: &str, tensor: Tensor| {
        let name = name.to_string();
        move |all: &mut Tensors| drop(all.insert(name, tensor))
    };
    refused_tensors(remove("head.bias"), "tensor `head.bias` of shape [2] is missing");
    refused_tensors(
        put("head.bias", tensor(&[1], &[0.5])),
        "tensor `head.bias` has shape [1], but [2] follows",
    );
    refused_tensors(put("head.bias", tensor(&[2, 1], &[0.5, 0.5])), "has shape [2, 1], but [2] follows");
    refused_tensors(put("weight_ih_l2", tensor(&[1], &[0.5])), "`weight_ih_l2` does not belong");
    for (number, named) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let why = format!("tensor `head.bias` holds {named} at place 1");
        refused_tensors(put("head.bias", tensor(&[2], &[0.5, number])), &why);
    }
}

#[test]
fn error_quantiles_rise_and_have_a_column_a_step() {
    let why = "tensor \"error_quantiles\" must be 199 x 2 values that rise";
    refused_tensors(|all| all.get_mut("error_quantiles").unwrap().data.reverse(), why);
    refused_tensors(|all| drop(all.insert("error_quantiles".into(), tensor(&[199], &[0.0; 199]))), why);
    refused_tensors(|all| drop(all.insert("error_quantiles".into(), tensor(&[2, 199], &[0.0; 398]))), why);
}

#[test]
fn a_description_of_another_format_names_both() {
    let why = "its description has format 4; this build reads format 3";
    refused_description("/format", json!(4), why);
    // A later format has fields that this build does not know: not they are the news.
    let error = error_after(|_, description| *description = json!({"format": 4, "cells": ["mamba"]}));
    assert_eq!(error, why);
}

#[test]
fn a_damaged_description_says_what_is_wrong() {
    let unreadable = "the description in its metadata cannot be read";
    refused_description("/lookback", json!("three"), "expected usize");
    refused_description("/lookback", json!(-3), unreadable);
    refused_description("/cells/network/cell", json!("transformer"), unreadable);
    refused_description("/format", json!(null), unreadable);
    let error = error_after(|_, description| description["surprise"] = json!(1));
    assert!(error.contains("unknown field `surprise`"), "{error}");
    let error = error_after(|_, description| drop(description.as_object_mut().unwrap().remove("rules")));
    assert!(error.contains("missing field `rules`"), "{error}");
    let (tensors, text) = tensors::read(&bytes(), KEY).unwrap();
    for damaged in ["", "{", "[]", &text[..text.len() / 2]] {
        let error = Model::from_bytes(&tensors::write(&tensors, KEY, damaged)).unwrap_err();
        assert!(matches!(error, ModelError::Description(_)), "{error}");
    }
}

#[test]
fn a_description_that_contradicts_the_network_is_an_error() {
    refused_description("/lookback", json!(0), "contradicts itself: lookback is 0");
    refused_description("/rules/grid/every", json!(0), "the grid is impossible");
    refused_description("/rules/grid/offset", json!(-1), "the grid is impossible");
    refused_description("/inputs/mask", json!(true), "4 inputs are described, the network has 3");
    refused_description("/inputs/calendar", json!([]), "1 inputs are described, the network has 3");
    refused_description("/cells/network/inputs", json!(7), "3 inputs are described, the network has 7");
    refused_description(
        "/cells/network/known",
        json!(1),
        "0 inputs known ahead are described, the network has 1",
    );
    refused_description("/cells/segment", json!(2), "a lookback of 3 steps is not cut into segments of 2");
    refused_description("/cells/segment", json!(0), "is not cut into segments of 0");
    refused_description("/cells/segment", json!(3), "9 inputs are described, the network has 3");
    let error = error_after(|_, description| {
        description["cells"]["segment"] = json!(3);
        description["cells"]["network"]["decoder"] = json!("recursive");
    });
    assert!(error.contains("a recursive network says one step at a time, but reads 3"), "{error}");
    refused_description("/targets", json!(["value", "other"]), "it needs 2 finite moments of targets");
    refused_description("/moments/0/sd", json!(-1.0), "it needs 1 finite moments of targets");
    refused_description("/cells/network/hidden", json!(8), "but [24, 3] follows");
    refused_description("/cells/network/layers", json!(3), "`weight_ih_l2` of shape [27, 9] is missing");
    refused_description("/cells/network/layers", json!(0), "`layers` is 0");
    refused_description("/cells/network/cell", json!("lstm"), "[36, 3] follows");
}

#[test]
fn sizes_that_no_machine_has_are_errors() {
    for size in [usize::MAX, usize::MAX / 199 + 1, 1 << 40] {
        refused_description("/horizon", json!(size), "the horizon is");
        refused_description("/cells/network/hidden", json!(size), "more than 4096");
        refused_description("/cells/network/layers", json!(size), "more than 16");
        refused_description("/lookback", json!(size), "more than 65536");
    }
}
