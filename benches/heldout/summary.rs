//! The model against the best baseline of the validation range, per series and over many series.

use serde_json::{Map, Value, json};

/// Error relative to the baseline above which a series fails, if the significance test agrees.
const RELATIVE_ERROR_MAX: f64 = 1.1;

/// Results of one series.
pub struct SeriesResult {
    /// By method.
    mase: Vec<Option<f64>>,
    best_baseline: usize,
    /// Error of the model relative to the best baseline; none for a constant series and for a perfect baseline.
    relative_error: Option<f64>,
    p_value: Option<f64>,
    verdict: String,
    interval_scores: Option<IntervalScores>,
    coverage: Vec<f64>,
}

/// Mean interval scores over the levels.
#[derive(Clone, Copy)]
struct IntervalScores {
    model: f64,
    /// Quantiles of the residuals of the seasonal naive forecast.
    naive: f64,
}

impl SeriesResult {
    /// From a series of an evaluation report.
    pub fn new(series: &Value) -> Self {
        let methods = series["methods"].as_array().expect("methods");
        let mase: Vec<Option<f64>> = methods.iter().map(|method| method["mase"].as_f64()).collect();
        let best_baseline = series["best_baseline"].as_u64().expect("an index") as usize;
        let errors = mase[0].zip(mase[best_baseline]).filter(|(_, best)| *best > 0.0);
        let interval_score = |metrics: &Value| {
            let levels = metrics["levels"].as_array().filter(|levels| !levels.is_empty())?;
            let scores = levels.iter().map(|level| level["interval_score"].as_f64());
            Some(scores.sum::<Option<f64>>()? / levels.len() as f64)
        };
        let scores = interval_score(&methods[0]).zip(interval_score(&series["naive_intervals"]));
        let levels = methods[0]["levels"].as_array().expect("levels").iter();
        Self {
            best_baseline,
            relative_error: errors.map(|(model, best)| model / best),
            interval_scores: scores.map(|(model, naive)| IntervalScores { model, naive }),
            coverage: levels.filter_map(|level| level["coverage"].as_f64()).collect(),
            p_value: series["comparison"]["p_value"].as_f64(),
            verdict: series["comparison"]["verdict"].as_str().unwrap_or_default().to_owned(),
            mase,
        }
    }

    pub fn json(&self, set: &str, name: Value, target: &Value, methods: &Value) -> Value {
        let names = methods.as_array().expect("methods").iter().filter_map(Value::as_str);
        let mase_by_method = names.zip(&self.mase).map(|(name, mase)| (name.to_owned(), json!(mase)));
        json!({
            "set": set,
            "series": name,
            "target": target,
            "mase": self.mase[0],
            "best_baseline": methods[self.best_baseline],
            "best_baseline_mase": self.mase[self.best_baseline],
            "relative_error": self.relative_error,
            "p_value": self.p_value,
            "verdict": self.verdict,
            "interval_score": self.interval_scores.map(|scores| scores.model),
            "naive_interval_score": self.interval_scores.map(|scores| scores.naive),
            "coverage": self.coverage,
            "mase_by_method": mase_by_method.collect::<Map<_, _>>(),
        })
    }
}

/// Over series: the fraction with at most the error of the best baseline, median and maximum of the relative error, the number
/// that is significantly more than a tenth worse, and the fraction with better interval scores than the naive forecast.
pub fn summary(set: &str, all: &[SeriesResult]) -> Value {
    let mut errors: Vec<f64> = all.iter().filter_map(|result| result.relative_error).collect();
    errors.sort_unstable_by(f64::total_cmp);
    let median = match errors.len() {
        0 => None,
        count if count % 2 == 1 => Some(errors[count / 2]),
        count => Some((errors[count / 2 - 1] + errors[count / 2]) / 2.0),
    };
    let fraction = |count: usize, total: usize| (total > 0).then(|| count as f64 / total as f64);
    let has_failed = |result: &&SeriesResult| {
        result.relative_error.is_some_and(|error| error > RELATIVE_ERROR_MAX) && result.verdict == "worse"
    };
    let scores = all.iter().filter(|result| result.relative_error.is_some());
    let scores: Vec<IntervalScores> = scores.filter_map(|result| result.interval_scores).collect();
    let better = scores.iter().filter(|scores| scores.model < scores.naive).count();
    json!({
        "summary": set,
        "series": all.len(),
        "without_naive_mae": all.len() - errors.len(),
        "at_most_1": fraction(errors.iter().filter(|error| **error <= 1.0).count(), errors.len()),
        "median": median,
        "max": errors.last(),
        "significantly_above_1.10": all.iter().filter(has_failed).count(),
        "better_interval_score": fraction(better, scores.len()),
    })
}
