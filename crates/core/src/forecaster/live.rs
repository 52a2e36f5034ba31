//! What is done with series as their actuals arrive: forecasts that waited are scored, and intervals corrected by them. It
//! happens in the order of the rows, while the network runs over many forecasts at a time: what comes in between waits in
//! line with them.

use compact_str::CompactString;

use super::{StepContext, Scoring, Setup};
use crate::intervals::{
    Bounds, CalibratedForecast, CalibrationLayout, CalibrationMode, IssuedForecast, ModelOutput, OnlineCalibrator,
    ScaledForecast, saturating_f32,
};
use crate::metrics::naive_lag;
use crate::model::Model;
use crate::series::Scale;
use crate::schema::ScoreBuilder;

/// Happenings that may wait: several for each forecast that does, where not every step issues one.
const WAITING_MOST: usize = 2048;
/// So many of them before one is done, what it reads is asked for: it was last at hand a round of all series ago. Mostly two are
/// of one series.
const AHEAD: usize = 8;

/// What waits in line.
enum Waiting {
    /// A step of a column was observed.
    Came { column: usize, own: Option<usize>, step: i64, actual: f64 },
    /// The next of the forecasts that wait.
    Issued,
    /// What was scored of a column in a period that is over is told. Rarely: it has its room elsewhere.
    Told(Box<Told>),
}

struct Told {
    column: usize,
    position: i64,
    id: CompactString,
    target: usize,
    period: i64,
    silent: bool,
}

/// A forecast as the model says it, scaled.
pub struct Said<'a> {
    pub column: usize,
    /// Number of the series among those of the manifest.
    pub own: Option<usize>,
    /// Step of the origin.
    pub step: i64,
    pub scale: Scale,
    pub volatility: f32,
    pub values: &'a [f32],
    pub quantiles: &'a [f32],
    pub bounds: &'a [Bounds],
}

/// Series whose actuals are waited for.
pub struct Live {
    online: OnlineCalibrator,
    /// Whether intervals are corrected, or stay the model's own.
    calibration: CalibrationMode,
    /// StepBuffer of a period that is scored together.
    period: i64,
    /// Of each column the period that it is in, as soon as it is known.
    periods: Vec<Option<i64>>,
    waiting: Vec<Waiting>,
    /// What the naive forecast says beside each forecast that waits, `[forecast][followed]`.
    naive: Vec<f32>,
    /// How far back from the origin it looks for that, `[followed]`: s ⌈h / s⌉ - h, or 0 where no season is known.
    backs: Vec<usize>,
    /// Mean sizes of errors that the model knows, `[followed]`: of each of its series and of all others.
    own_means: Vec<Option<Vec<f32>>>,
    means: Vec<f32>,
    /// As it is issued.
    forecast: CalibratedForecast,
}

impl Live {
    /// `None` where there are neither intervals nor scores.
    pub fn new(setup: &Setup) -> Option<Self> {
        let Setup { model, levels, every, scoring, calibration, .. } = setup;
        if !setup.waits_for_actuals() {
            return None;
        }
        let horizon = model.manifest.horizon;
        let horizons = scoring.as_ref().map_or_else(|| CalibrationLayout::default_horizons(horizon), |s| s.horizons.clone());
        let plan = CalibrationLayout::new(horizon, horizons, levels, *every, scoring.is_some());
        let means = means_of(model, &plan, None);
        let own_means = vec![None; model.manifest.series.len()];
        let period = scoring.as_ref().map_or(1, |Scoring { every, .. }| i64::from(*every));
        let back = |ahead: &usize| naive_lag(setup.season(), *ahead) - ahead;
        let backs = plan.horizons().iter().map(back).collect();
        let online = OnlineCalibrator::new(plan);
        Some(Self {
            online,
            calibration: *calibration,
            period,
            periods: Vec::new(),
            waiting: Vec::new(),
            naive: Vec::new(),
            backs,
            own_means,
            means,
            forecast: CalibratedForecast::default(),
        })
    }

    pub fn online(&self) -> &OnlineCalibrator {
        &self.online
    }

    pub fn online_mut(&mut self) -> &mut OnlineCalibrator {
        &mut self.online
    }

    /// Whether what waits has to be done before more is added.
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING_MOST
    }

    /// Whether something of these columns waits.
    pub fn waits(&self, columns: &std::ops::Range<usize>) -> bool {
        let of = |happening: &Waiting| match happening {
            Waiting::Came { column, .. } => columns.contains(column),
            Waiting::Told(told) => columns.contains(&told.column),
            // It came behind a reading of its column.
            Waiting::Issued => false,
        };
        self.waiting.iter().any(of)
    }

    /// Whether what comes is of consequence.
    fn learns(&self) -> bool {
        self.calibration == CalibrationMode::Online || self.online.layout().is_scored()
    }

    /// A target was observed in the step that has closed: what waited for it is due, and what was scored of an earlier period is
    /// told, unless it is `silent`.
    pub fn came(&mut self, closing: &StepContext<'_>, target: usize, own: Option<usize>, silent: bool) {
        if !self.learns() {
            return;
        }
        let column = closing.index * closing.targets.len() + target;
        let (values, _) = closing.targets[target].window.tail(1).expect("it was observed");
        let (step, actual) = (closing.step, values[0]);
        if self.online.layout().is_scored() {
            let period = step.div_euclid(self.period);
            if let Some(before) = self.enter(column, period).filter(|before| *before != period) {
                let (position, id) = (closing.position, closing.id.clone());
                let told = Told { column, position, id, target, period: before, silent };
                self.waiting.push(Waiting::Told(Box::new(told)));
            }
        }
        self.waiting.push(Waiting::Came { column, own, step, actual });
    }

    /// The input of an id is over: what was scored since is told.
    pub fn end(&mut self, index: usize, id: &CompactString, position: i64, targets: usize) {
        if !self.online.layout().is_scored() {
            return;
        }
        for target in 0..targets {
            let column = index * targets + target;
            let entered = self.periods.get(column).copied().flatten();
            let restored = || self.online.last(column).map(|last| last.div_euclid(self.period));
            if let Some(period) = entered.or_else(restored) {
                let (id, silent) = (id.clone(), false);
                let told = Told { column, position, id, target, period, silent };
                self.waiting.push(Waiting::Told(Box::new(told)));
            }
        }
    }

    /// A column goes on to a period; returns the one that it was in.
    fn enter(&mut self, column: usize, period: i64) -> Option<i64> {
        if column >= self.periods.len() {
            self.periods.resize(column + 1, None);
        }
        // What was put back says it itself.
        let before = self.periods[column].replace(period);
        before.or_else(|| self.online.last(column).map(|last| last.div_euclid(self.period)))
    }

    /// A forecast is issued, behind all that waits; `past` ends with the value at its origin.
    pub fn issued(&mut self, past: &[f64]) {
        self.waiting.push(Waiting::Issued);
        if self.online.layout().is_scored() {
            self.naive.extend(self.backs.iter().map(|back| naive(past, *back)));
        }
    }

    /// Forgets what is known of a column, of which nothing waits.
    pub fn clear(&mut self, column: usize) {
        self.online.clear(column);
        if let Some(period) = self.periods.get_mut(column) {
            *period = None;
        }
    }

    /// Does all that waits, in order: `next` gives the forecasts that do, and `issue` takes each with its bounds, `[probability]
    /// [horizon]`.
    pub fn run<'a>(
        &mut self,
        setup: &Setup,
        mut next: impl FnMut() -> Said<'a>,
        mut issue: impl FnMut(&[f32], &[f32]),
        scores: &mut ScoreBuilder,
    ) {
        let mut waiting = std::mem::take(&mut self.waiting);
        let prefetch = |online: &OnlineCalibrator, happening: Option<&Waiting>| match happening {
            Some(Waiting::Came { column, .. }) => online.prefetch(*column),
            Some(Waiting::Issued | Waiting::Told(_)) | None => {}
        };
        waiting.iter().take(AHEAD).for_each(|happening| prefetch(&self.online, Some(happening)));
        let mut forecasts = 0;
        for (place, happening) in waiting.iter().enumerate() {
            prefetch(&self.online, waiting.get(place + AHEAD));
            match *happening {
                Waiting::Came { column, own, step, actual } => {
                    let means = own.and_then(|own| self.own_means.get_mut(own).map(|means| (own, means)));
                    let means = match means {
                        Some((own, means)) => {
                            means.get_or_insert_with(|| means_of(&setup.model, self.online.layout(), Some(own)))
                        }
                        None => &self.means,
                    };
                    self.online.observe(column, step, actual, means);
                }
                Waiting::Issued => {
                    self.issue(setup, &next(), forecasts);
                    issue(&self.forecast.values, &self.forecast.bounds);
                    forecasts += 1;
                }
                Waiting::Told(ref told) => {
                    let Told { column, position, ref id, target, period, silent } = **told;
                    let told = self.online.take_period(column);
                    if !silent {
                        let grid = setup.rules.grid;
                        let (from, until) = (period * self.period, (period + 1) * self.period);
                        let span = [from, until].map(|step| grid.start_of(step));
                        scores.push(position, id, &setup.columns.targets[target], span, &told);
                    }
                }
            }
        }
        waiting.clear();
        self.waiting = waiting;
        self.naive.clear();
    }

    /// Corrects the bounds of a forecast, and lets it wait for its actuals.
    fn issue(&mut self, setup: &Setup, said: &Said<'_>, number: usize) {
        let learns = self.learns();
        let Self { online, naive, forecast, calibration, .. } = self;
        let volatility_scale = setup.model.volatility_scale(said.own, said.volatility);
        let Scale { center, spread } = said.scale;
        let scaled = ScaledForecast {
            center,
            spread,
            output: ModelOutput { values: said.values, quantiles: said.quantiles, volatility: said.volatility },
            bounds: said.bounds,
            volatility_scale,
        };
        online.apply(said.column, &scaled, *calibration, forecast);
        if !learns {
            return;
        }
        let followed = online.layout().horizons().len();
        let naive = if naive.is_empty() { &[][..] } else { &naive[number * followed..][..followed] };
        let unit = saturating_f32(spread * f64::from(volatility_scale));
        online.issue(said.column, &IssuedForecast { origin: said.step, forecast, unit, naive });
    }
}

/// ŷ(t + h) = y(t + h - s ⌈h / s⌉), or the last value where the past does not reach so far back.
fn naive(past: &[f64], back: usize) -> f32 {
    let last = past.len() - 1;
    saturating_f32(past[last.checked_sub(back).unwrap_or(last)])
}

/// The mean sizes of errors that the model knows of a series, of each followed step.
fn means_of(model: &Model, plan: &CalibrationLayout, own: Option<usize>) -> Vec<f32> {
    plan.horizons().iter().map(|ahead| model.mean_residual(own, ahead - 1)).collect()
}
