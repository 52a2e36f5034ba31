//! Ours beside the baseline that was best on the validation part, and the bars over many series.

use serde_json::{Map, Value, json};

/// A series that is worse than this, times the baseline, is a failure unless the paired test cannot tell.
const LARGEST: f64 = 1.1;

/// What is kept of one series.
pub struct Scored {
    mase: Vec<Option<f64>>,
    best: usize,
    /// Error of ours over that of the best baseline; none where nothing varies, or the baseline never errs.
    ratio: Option<f64>,
    p: Option<f64>,
    verdict: String,
    /// Mean interval score over the levels, ours and that of the quantiles of the seasonal naive residuals.
    intervals: Option<[f64; 2]>,
    coverage: Vec<f64>,
}

impl Scored {
    /// From a series of an evaluation.
    pub fn of(series: &Value) -> Self {
        let methods = series["methods"].as_array().expect("methods");
        let mase: Vec<Option<f64>> = methods.iter().map(|method| method["mase"].as_f64()).collect();
        let best = series["best"].as_u64().expect("a place") as usize;
        let ratio = mase[0].zip(mase[best]).filter(|(_, best)| *best > 0.0).map(|(ours, best)| ours / best);
        let score = |metrics: &Value| {
            let levels = metrics["levels"].as_array().filter(|levels| !levels.is_empty())?;
            let scores = levels.iter().map(|level| level["interval_score"].as_f64());
            Some(scores.sum::<Option<f64>>()? / levels.len() as f64)
        };
        let intervals = score(&methods[0]).zip(score(&series["naive_intervals"])).map(|(a, b)| [a, b]);
        let levels = methods[0]["levels"].as_array().expect("levels").iter();
        Self {
            best,
            ratio,
            intervals,
            coverage: levels.filter_map(|level| level["coverage"].as_f64()).collect(),
            p: series["comparison"]["p"].as_f64(),
            verdict: series["comparison"]["verdict"].as_str().unwrap_or_default().to_owned(),
            mase,
        }
    }

    pub fn json(&self, set: &str, name: Value, target: &Value, methods: &Value) -> Value {
        let names = methods.as_array().expect("methods").iter().filter_map(Value::as_str);
        let mase = names.zip(&self.mase).map(|(name, mase)| (name.to_owned(), json!(mase)));
        json!({
            "set": set,
            "series": name,
            "target": target,
            "mase": self.mase[0],
            "best": methods[self.best],
            "best_mase": self.mase[self.best],
            "ratio": self.ratio,
            "p": self.p,
            "verdict": self.verdict,
            "interval_score": self.intervals.map(|[ours, _]| ours),
            "naive_interval_score": self.intervals.map(|[_, naive]| naive),
            "coverage": self.coverage,
            "all": mase.collect::<Map<_, _>>(),
        })
    }
}

/// The bars over series: the share that is no worse than the best baseline, the middle and the largest ratio, those that are
/// more than a tenth worse beyond doubt, and the share whose intervals score better.
pub fn summary(set: &str, all: &[Scored]) -> Value {
    let mut ratios: Vec<f64> = all.iter().filter_map(|scored| scored.ratio).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let middle = |sorted: &[f64]| match sorted.len() {
        0 => None,
        count if count % 2 == 1 => Some(sorted[count / 2]),
        count => Some((sorted[count / 2 - 1] + sorted[count / 2]) / 2.0),
    };
    let share = |good: usize, of: usize| (of > 0).then(|| good as f64 / of as f64);
    let failed =
        |scored: &&Scored| scored.ratio.is_some_and(|ratio| ratio > LARGEST) && scored.verdict == "worse";
    let intervals: Vec<[f64; 2]> =
        all.iter().filter(|scored| scored.ratio.is_some()).filter_map(|scored| scored.intervals).collect();
    let better = intervals.iter().filter(|[ours, naive]| ours < naive).count();
    json!({
        "summary": set,
        "series": all.len(),
        "without_scale": all.len() - ratios.len(),
        "at_most_1": share(ratios.iter().filter(|ratio| **ratio <= 1.0).count(), ratios.len()),
        "median": middle(&ratios),
        "largest": ratios.last(),
        "above_1.10_and_worse": all.iter().filter(failed).count(),
        "interval_score_better": share(better, intervals.len()),
    })
}
