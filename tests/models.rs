//! Model files: a model survives a round trip byte for byte, and every invalid file is rejected with a message that names the
//! problem, and never a panic.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tidecast_core::intervals::{Base, ModelOutput};
use tidecast_core::model::{Model, ModelError};
use tidecast_core::network::tensors::{self, Tensor, Tensors};

use crate::harness::Case;

const KEY: &str = "tidecast";

fn bytes() -> Vec<u8> {
    Case::default().model().to_bytes()
}

/// A model with quantiles, a recurrence and per-series parameters.
fn quantile_bytes() -> Vec<u8> {
    quantile_case().model().to_bytes()
}

fn quantile_case() -> Case {
    Case { recurrence: true, quantile_levels: vec![0.8], levels: vec![0.8, 0.9], ..Case::default() }
}

/// The error of a model file after a change to its tensors and its manifest.
fn error_after(bytes: &[u8], change: impl FnOnce(&mut Tensors, &mut Value)) -> String {
    let (mut tensors, text) = tensors::read(bytes, KEY).unwrap();
    let mut manifest = serde_json::from_str(&text).unwrap();
    change(&mut tensors, &mut manifest);
    Model::from_bytes(&tensors::write(&tensors, KEY, &manifest.to_string())).unwrap_err().to_string()
}

/// Asserts that the default model is rejected after a change to its tensors.
#[track_caller]
fn rejects_tensors(change: impl FnOnce(&mut Tensors), message: &str) {
    let error = error_after(&bytes(), |tensors, _| change(tensors));
    assert!(error.contains(message), "{error}");
}

/// Asserts that a model is rejected with another value in its manifest.
#[track_caller]
fn rejects_manifest_of(bytes: &[u8], path: &str, value: Value, message: &str) {
    let error = error_after(bytes, |_, manifest| *manifest.pointer_mut(path).unwrap() = value);
    assert!(error.contains(message), "{error}");
}

#[track_caller]
fn rejects_manifest(path: &str, value: Value, message: &str) {
    rejects_manifest_of(&bytes(), path, value, message);
}

fn tensor(shape: &[usize], data: &[f32]) -> Tensor {
    Tensor { shape: shape.to_vec(), data: data.to_vec() }
}

/// The change that sets one tensor.
fn set(name: &str, tensor: Tensor) -> impl FnOnce(&mut Tensors) {
    let name = name.to_owned();
    move |tensors| drop(tensors.insert(name, tensor))
}

#[test]
fn a_model_is_read_back_from_its_bytes() {
    let written = Case::default().model();
    let read = Model::from_bytes(&written.to_bytes()).unwrap();
    assert_eq!(read.to_bytes(), written.to_bytes());
    assert_eq!((read.hash.as_str(), read.hash.len()), (written.hash.as_str(), 12));
    assert_eq!(read.manifest, written.manifest);
    let tensors = |model: &Model| model.cells.as_ref().map(|cells| cells.tensors().clone());
    assert_eq!(tensors(&read), tensors(&written));
    assert_eq!(read.residuals, written.residuals);
}

#[test]
fn the_sample_models_are_read_back_from_their_bytes() {
    for name in ["sensors", "motes"] {
        let path = format!("{}/pipelines/{name}/model.safetensors", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(path).unwrap();
        assert_eq!(Model::from_bytes(&bytes).unwrap().to_bytes(), bytes, "{name}");
    }
}

#[test]
fn quantiles_and_their_offsets_are_read_back() {
    let written = quantile_case().model();
    let read = Model::from_bytes(&written.to_bytes()).unwrap();
    assert_eq!(read.to_bytes(), written.to_bytes());
    assert_eq!((&read.residuals, &read.manifest), (&written.residuals, &written.manifest));
    let offsets = read.residuals.as_ref().unwrap().offsets.as_ref().unwrap();
    assert_eq!(offsets.per_series.len(), 4);
    // Bounds are relative to the network's quantiles at the level that it has them for, else to the forecast.
    let bases = |level, series| {
        let bounds = read.bounds(level, series);
        [bounds.lower.base, bounds.upper.base]
    };
    assert_eq!(bases(0.8, None), [Base::Quantile(0), Base::Quantile(1)]);
    assert_eq!(bases(0.9, Some(2)), [Base::Forecast; 2]);
    assert_eq!(read.bounds(0.8, Some(2)), offsets.per_series[2].bounds([0, 1]));
    assert_eq!(read.bounds(0.8, Some(9)), offsets.pooled.bounds([0, 1]));
}

#[test]
fn quantile_offsets_have_one_value_per_quantile_and_step() {
    let error = |change: &dyn Fn(&mut Tensors)| error_after(&quantile_bytes(), |tensors, _| change(tensors));
    let missing = error(&|tensors| drop(tensors.remove("quantile_offsets")));
    assert!(missing.starts_with("tensor `quantile_offsets` must be [2, 2] values"), "{missing}");
    let wide = error(&|tensors| set("quantile_offsets", tensor(&[4, 1], &[0.0; 4]))(tensors));
    assert_eq!(wide, missing);
    let name = "per_series_quantile_offsets";
    let per_series = error(&|tensors| set(name, tensor(&[2, 2], &[0.0; 4]))(tensors));
    assert!(per_series.starts_with(&format!("tensor `{name}` must be [4, 2, 2] values")), "{per_series}");
    // Offsets need residual quantiles.
    let residuals = ["residual_quantiles", "volatility_gain"];
    let without = error(&|tensors| tensors.retain(|name, _| !residuals.contains(&&name[..])));
    assert!(without.contains(&format!("`{name}` is not part of")), "{without}");
    rejects_tensors(
        set("quantile_offsets", tensor(&[2, 2], &[0.0; 4])),
        "tensor `quantile_offsets` is not part of",
    );
}

#[test]
fn quantiles_match_their_probabilities() {
    let bytes = quantile_bytes();
    let order = "do not increase between 0 and 1";
    for (path, value, message) in [
        ("/cells/probabilities", json!([0.1]), "1 quantiles are described, but the network has 2"),
        ("/cells/probabilities", json!([0.9, 0.1]), order),
        ("/cells/probabilities", json!([0.0, 0.9]), order),
        ("/cells/network/quantiles", json!(usize::MAX), "but the network has 18446744073709551615"),
        ("/cells/network/decoder", json!("recursive"), "use the direct decoder"),
    ] {
        rejects_manifest_of(&bytes, path, value, message);
    }
}

#[test]
fn embeddings_match_the_series_of_the_manifest() {
    let bytes = Case { embedding: 2, ..Case::default() }.model().to_bytes();
    assert_eq!(Model::from_bytes(&bytes).unwrap().to_bytes(), bytes);
    let missing = error_after(&bytes, |tensors, _| drop(tensors.remove("embedding.weight")));
    assert!(missing.starts_with("tensor `embedding.weight` of shape [4, 2] is missing"), "{missing}");
    let embedding = "/cells/network/embedding";
    for (path, value, message) in [
        (
            "/series",
            json!([{ "id": "a", "target": "value" }]),
            "1 embedded series are described, but the network has 4",
        ),
        (embedding, json!(0), "0 embedded series are described, but the network has 4"),
        (embedding, json!(usize::MAX), "`embedding` is 18446744073709551615, more than 64"),
    ] {
        rejects_manifest_of(&bytes, path, value, message);
    }
    rejects_manifest(
        "/cells/network/series",
        json!(3),
        "0 embedded series are described, but the network has 3",
    );
}

#[test]
fn volatility_scales_the_bounds_of_a_model_with_a_gain() {
    let (mut tensors, text) = tensors::read(&bytes(), KEY).unwrap();
    tensors.insert("volatility_gain".into(), tensor(&[1], &[2.0]));
    let written = tensors::write(&tensors, KEY, &text);
    let scaled = Model::from_bytes(&written).unwrap();
    let width = |model: &Model, volatility: f32| {
        let forecast = vec![0.0; model.manifest.horizon];
        let [mut lower, mut upper] = [(); 2].map(|()| forecast.clone());
        let output = ModelOutput { values: &forecast, quantiles: &[], volatility };
        model.bounds(0.5, Some(3)).write(output, &mut lower, &mut upper);
        upper[0] - lower[0]
    };
    assert_eq!(width(&scaled, 1.0), 3.0 * width(&scaled, 0.0));
    assert_eq!(scaled.to_bytes(), written);
    tensors.remove("volatility_gain");
    let unscaled = Model::from_bytes(&tensors::write(&tensors, KEY, &text)).unwrap();
    assert_eq!(width(&unscaled, 1.0), width(&scaled, 0.0));
    for invalid in [tensor(&[2], &[1.0, 1.0]), tensor(&[1], &[-1.0])] {
        rejects_tensors(set("volatility_gain", invalid), "must be [1] numbers of at least 0");
    }
}

#[test]
fn weights_and_manifest_change_the_hash() {
    let case = Case::default();
    let longer = Case { lookback: case.lookback + 1, ..case.clone() };
    assert_ne!(case.model().hash, longer.model().hash);
    let (mut tensors, text) = tensors::read(&bytes(), KEY).unwrap();
    tensors.get_mut("head.bias").unwrap().data[0] += 1.0;
    let changed = Model::from_bytes(&tensors::write(&tensors, KEY, &text)).unwrap();
    assert_ne!(case.model().hash, changed.hash);
}

#[test]
fn residuals_are_optional() {
    let mut model = Case::default().model();
    model.residuals = None;
    assert_eq!(Model::from_bytes(&model.to_bytes()).unwrap().residuals, None);
}

#[test]
fn a_truncated_file_is_rejected() {
    let bytes = bytes();
    for length in 0..bytes.len() {
        let error = Model::from_bytes(&bytes[..length]).unwrap_err().to_string();
        assert!(error.starts_with("truncated"), "{length} bytes: {error}");
    }
}

#[test]
fn trailing_bytes_are_rejected() {
    for trailing in [&b"\0"[..], b"PAR1", &bytes()] {
        let longer = [&bytes(), trailing].concat();
        let error = Model::from_bytes(&longer).unwrap_err().to_string();
        assert!(error.contains("the file has trailing bytes"), "{error}");
    }
}

#[test]
fn a_damaged_header_never_panics() {
    let bytes = bytes();
    let header = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    for index in 0..8 + header {
        for byte in [bytes[index] ^ 1, b'9', b'"', 0xff] {
            let mut damaged = bytes.clone();
            damaged[index] = byte;
            // Some damage gives another valid model, for example another column name.
            if let Ok(model) = Model::from_bytes(&damaged) {
                assert_eq!(model.hash == Case::default().model().hash, damaged == bytes);
            }
        }
    }
}

#[test]
fn files_of_other_writers_are_rejected() {
    let error = |bytes: &[u8]| Model::from_bytes(bytes).unwrap_err().to_string();
    let one = Tensors::from([("weight".to_string(), tensor(&[1], &[1.0]))]);
    let other = error(&tensors::write(&one, "format", "pt"));
    assert!(other.contains("no `tidecast`: the file was not written by tidecast"), "{other}");
    let number = 1f32.to_le_bytes();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &number).unwrap();
    let without_metadata = error(&safetensors::serialize([("weight", view)], None).unwrap());
    assert!(without_metadata.contains("no `tidecast`"), "{without_metadata}");
    let parquet = error(b"PAR1\x15\x04\x15\x00\x15\x02 and so on");
    assert!(parquet.contains("not a safetensors file"), "{parquet}");
    assert!(error(b"").starts_with("truncated"));
}

#[test]
fn every_tensor_is_present_finite_and_of_its_shape() {
    rejects_tensors(|all| drop(all.remove("head.bias")), "tensor `head.bias` of shape [2] is missing");
    rejects_tensors(
        set("head.bias", tensor(&[1], &[0.5])),
        "tensor `head.bias` has shape [1], but the network's sizes require [2]",
    );
    rejects_tensors(set("head.bias", tensor(&[2, 1], &[0.5, 0.5])), "has shape [2, 1], but");
    rejects_tensors(set("weight_ih_l2", tensor(&[1], &[0.5])), "`weight_ih_l2` is not part of");
    for (number, name) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let message = format!("tensor `head.bias` has {name} at index 1");
        rejects_tensors(set("head.bias", tensor(&[2], &[0.5, number])), &message);
    }
}

#[test]
fn residual_quantiles_increase_and_have_one_column_per_step() {
    let name = "residual_quantiles";
    let message = "tensor `residual_quantiles` must be [199, 2] values that increase";
    rejects_tensors(|all| all.get_mut(name).unwrap().data.reverse(), message);
    rejects_tensors(set(name, tensor(&[199], &[0.0; 199])), message);
    rejects_tensors(set(name, tensor(&[2, 199], &[0.0; 398])), message);
}

#[test]
fn another_manifest_format_is_reported_first() {
    let message = "its manifest has format 2; this build reads format 1";
    rejects_manifest("/format", json!(2), message);
    // The fields of another format may be unknown here, but the format is the problem to report.
    let error = error_after(&bytes(), |_, manifest| *manifest = json!({"format": 2, "cells": ["mamba"]}));
    assert_eq!(error, message);
}

#[test]
fn a_damaged_manifest_is_reported() {
    let unparsable = "the manifest in its metadata cannot be parsed";
    rejects_manifest("/lookback", json!("three"), "expected usize");
    rejects_manifest("/lookback", json!(-3), unparsable);
    rejects_manifest("/cells/network/cell", json!("transformer"), unparsable);
    rejects_manifest("/format", json!(null), unparsable);
    let error = error_after(&bytes(), |_, manifest| manifest["surprise"] = json!(1));
    assert!(error.contains("unknown field `surprise`"), "{error}");
    let error = error_after(&bytes(), |_, manifest| {
        manifest.as_object_mut().unwrap().remove("step_config");
    });
    assert!(error.contains("missing field `step_config`"), "{error}");
    let (tensors, text) = tensors::read(&bytes(), KEY).unwrap();
    for damaged in ["", "{", "[]", &text[..text.len() / 2]] {
        let error = Model::from_bytes(&tensors::write(&tensors, KEY, damaged)).unwrap_err();
        assert!(matches!(error, ModelError::Manifest(_)), "{error}");
    }
}

#[test]
fn an_inconsistent_manifest_is_rejected() {
    rejects_manifest("/lookback", json!(0), "its manifest is inconsistent: lookback is 0");
    rejects_manifest("/step_config/grid/every", json!(0), "a grid of 0 with offset 0 is impossible");
    rejects_manifest("/step_config/grid/offset", json!(-1), "with offset -1 is impossible");
    rejects_manifest("/inputs/mask", json!(true), "4 inputs are described, but the network has 3");
    rejects_manifest("/inputs/calendar", json!([]), "1 inputs are described, but the network has 3");
    rejects_manifest("/cells/network/inputs", json!(7), "3 inputs are described, but the network has 7");
    rejects_manifest(
        "/cells/network/future_covariates",
        json!(1),
        "0 future covariates are described, but the network has 1",
    );
    rejects_manifest("/cells/segment", json!(2), "a lookback of 3 steps is not a multiple of the segment 2");
    rejects_manifest("/cells/segment", json!(0), "is not a multiple of the segment 0");
    rejects_manifest("/cells/segment", json!(3), "9 inputs are described, but the network has 3");
    let error = error_after(&bytes(), |_, manifest| {
        manifest["cells"]["segment"] = json!(3);
        manifest["cells"]["network"]["decoder"] = json!("recursive");
    });
    assert!(error.contains("the recursive decoder needs a segment of 1, not 3"), "{error}");
    rejects_manifest("/targets", json!(["value", "other"]), "it needs 2 finite moments of targets");
    rejects_manifest("/moments/0/sd", json!(-1.0), "it needs 1 finite moments of targets");
    rejects_manifest("/cells/network/hidden", json!(8), "but the network's sizes require [24, 3]");
    rejects_manifest("/cells/network/layers", json!(3), "`weight_ih_l2` of shape [27, 9] is missing");
    rejects_manifest("/cells/network/layers", json!(0), "`layers` is 0");
    rejects_manifest("/cells/network/cell", json!("lstm"), "but the network's sizes require [36, 3]");
}

#[test]
fn impossible_sizes_are_rejected() {
    for size in [usize::MAX, usize::MAX / 199 + 1, 1 << 40] {
        rejects_manifest("/horizon", json!(size), "horizon is");
        rejects_manifest("/cells/network/hidden", json!(size), "more than 4096");
        rejects_manifest("/cells/network/layers", json!(size), "more than 16");
        rejects_manifest("/lookback", json!(size), "more than 65536");
    }
}

#[test]
fn an_ensemble_needs_buckets_within_the_horizon() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines/sensors/model.safetensors");
    let bytes = fs::read(path).unwrap();
    for ends in [json!([]), json!([0, 24]), json!([12, 12]), json!([25])] {
        let message = "the buckets of the ensemble do not fit the horizon and the season";
        rejects_manifest_of(&bytes, "/recurrence/ensemble/bucket_ends", ends, message);
    }
}
