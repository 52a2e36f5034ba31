//! What is chosen where the recipe is silent: the memory's poles and seasons follow from the grid, with the reasons that
//! are told to whoever trains.

use crate::settings::TrainingSpec;
use tidecast_core::model::MemoryPart;
use tidecast_core::network::memory::Memory;

use super::readings::{self, RECENT, Reading, Readings};
use super::regression::{self, BLOCKS};
use super::solutions::Held;
use super::walk::Lane;
use super::windows::Split;
use super::{History, mix};

/// Something chosen, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub what: String,
    pub why: String,
}

/// A memory as the grid and the length of the history suggest it.
#[derive(Clone, Debug)]
pub struct Chosen {
    pub poles: Vec<[f32; 2]>,
    pub part: MemoryPart,
    pub readings: Readings,
    /// Observed steps of a series before its first forecast.
    pub warm: u64,
    pub choices: Vec<Choice>,
}

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;

/// Harmonics of the day, at most: what is shorter than two hours is left to the recent values.
const HARMONICS: i64 = 12;
/// Days over which the resonators of the day decay: from what yesterday was like to what the fortnight was.
const DAYS: [i64; 4] = [1, 3, 7, 14];
/// Values before the last one that a readout may see as they are, at most: two weeks of hours, a day and some hours of
/// five minutes.
const RECENT_MOST: i64 = 335;
/// Days of them.
const RECENT_DAYS: i64 = 2;
/// Days that a series has to have for what came a day before to be tried as it is.
const DAYS_SEEN: i64 = 4;
/// Numbers of the sums that all series with coefficients of their own may have together: 512 MiB.
const SUMS_MOST: usize = 64 << 20;
/// Series of which something of their own is learned, at most: in the memory each adds some forty numbers a step of the
/// horizon to the file.
pub const OWN_MOST: usize = 256;
/// How often what fades slowest has to fit into the history of a series.
const SEEN: i64 = 8;
/// Days before the first forecast of a series: one to see the day, one to see it come again.
const WARM_DAYS: i64 = 2;
/// The part of the training steps that may pass before the first row is learned from.
const WARM_PART: i64 = 10;

/// The memory for a pipeline's grid and a history of such a length.
pub fn memory(pipeline: &TrainingSpec, history: &History, lanes: &[Lane], split: Split) -> Chosen {
    let every = pipeline.rules.grid.every;
    let steps = lane_steps(history, lanes, split);
    // What takes longer to fade than this has been seen too seldom to learn from.
    let longest = steps / SEEN;
    let whole = |part: i64| (part % every == 0 && part / every >= 4).then_some(part / every);
    let day = whole(DAY).filter(|day| *day <= longest);
    let mut choices = Vec::new();
    let mut chose = |what: String, why: String| choices.push(Choice { what, why });

    let top = whole(DAY).map_or(longest as f64, |day| (0.9 * day as f64).min(longest as f64));
    let decays: Vec<f64> =
        (0..).map(|k| 2.0 * 3f64.powi(k)).take_while(|decay| *decay <= top.max(2.0)).collect();
    let mut poles: Vec<_> = decays.iter().map(|decay| Memory::pole(*decay, 0.0)).collect();
    let mut copied: Vec<usize> = (0..poles.len()).collect();
    chose(
        format!("memory: {} plain decays over 2 to {:.0} steps", decays.len(), decays.last().unwrap_or(&2.0)),
        format!(
            "threefold each, below a day and an {SEEN}th of the {steps} steps that a series has to learn from"
        ),
    );
    if let Some(day) = day {
        let harmonics = HARMONICS.min(day / 2);
        let days: Vec<i64> = DAYS.into_iter().filter(|days| days * day <= longest).collect();
        for decay in &days {
            for harmonic in 0..=harmonics {
                if harmonic <= 1 {
                    copied.push(poles.len());
                }
                poles.push(resonator(decay * day, harmonic, day));
            }
        }
        chose(
            format!(
                "memory: resonators of the day and its harmonics up to the {harmonics}th, over {days:?} days"
            ),
            format!("a day is {day} steps, and a series has {} days to learn from", steps / day),
        );
    }
    if let (Some(day), Some(hour)) = (day, whole(HOUR)) {
        let harmonics = HARMONICS.min(hour / 2);
        poles.extend((1..=harmonics).map(|harmonic| resonator(day, harmonic, hour)));
        chose(
            format!("memory: resonators of the hour and its harmonics up to the {harmonics}th, over a day"),
            format!("an hour is {hour} steps: what runs every hour or quarter shows"),
        );
    }
    if lanes.len() <= OWN_MOST {
        chose(
            format!("{} series may have coefficients of their own beside the shared ones", lanes.len()),
            format!("at most {OWN_MOST} may"),
        );
    } else {
        copied.clear();
        chose(
            "all series share all coefficients".into(),
            format!("{} series are more than {OWN_MOST}", lanes.len()),
        );
    }
    let copied = copied.into_iter().map(|pole| Memory::places(&poles, pole)[0]).collect();
    let season = whole(DAY).filter(|day| *day * DAYS_SEEN <= steps);
    let mix = mix::part(pipeline.train.horizon, season.map(|day| day as usize));
    chose(
        format!(
            "the first {} steps of the horizon are mixed with medians and repetitions",
            mix.ends.last().unwrap_or(&0)
        ),
        "where they were better on times that were not fitted".into(),
    );
    let fills = day.map_or(*decays.last().unwrap_or(&2.0) as i64, |day| WARM_DAYS * day);
    let warm = fills.min(steps / WARM_PART).max(RECENT as i64 + 1) as u64;
    chose(
        format!("the first forecast of a series comes after {warm} steps"),
        "by then the memory has seen the season, and the scale is known".into(),
    );
    let context = pipeline.train.context;
    let mut part = MemoryPart { context, recent: RECENT, copied, mix: Some(mix), penalties: Vec::new() };
    let own = if lanes.len() > OWN_MOST { 1 } else { lanes.len().max(1) };
    let readings = readings(pipeline, (history, own), &mut part, &poles, (decays.len(), season));
    if readings.keep.is_some() {
        chose(
            format!("what the memory's readout reads, of its states and the last {} values", part.recent + 1),
            "the history is small enough to compare, on parts of it that were not fitted".into(),
        );
    }
    Chosen { poles, part, readings, warm, choices }
}

/// What the readout may read: in a small history also more of the recent values as they are, if they can be afforded.
fn readings(
    pipeline: &TrainingSpec,
    // With how many series have sums of their own.
    (history, own): (&History, usize),
    part: &mut MemoryPart,
    poles: &[[f32; 2]],
    (plain, day): (usize, Option<i64>),
) -> Readings {
    let complex = poles.iter().filter(|pole| pole[1] != 0.0).count();
    let (states, horizon) = (poles.len() + complex, pipeline.train.horizon);
    let steps: usize = history.segments.iter().map(|segment| segment.values.len()).sum();
    let rows = steps.saturating_sub(history.segments.len() * horizon);
    let keep = |recent: usize| readings::keep(rows, states + recent + 1 + part.copied.len(), horizon);
    let recent = day.map_or(0, |day| (RECENT_DAYS * day - 1).min(RECENT_MOST)) as usize;
    let sums = own * (BLOCKS + 1) * regression::parts(horizon).len();
    let affordable = (states + recent + 1 + part.copied.len()).pow(2) * sums <= SUMS_MOST;
    // A series that often starts anew would often be silent for as long.
    let after =
        history.segments.iter().map(|segment| segment.values.len().saturating_sub(recent)).sum::<usize>();
    if recent > RECENT && affordable && keep(recent).is_some() && after * 10 >= steps * 8 {
        part.recent = recent;
    }
    let keep = keep(part.recent).map(|every| regression::stride(every, pipeline.rules.grid.every));
    Readings { plain, states, recent: part.recent, keep }
}

impl Chosen {
    /// Leaves the recent values at the latest ones.
    pub fn shorten(&mut self) {
        (self.part.recent, self.readings.recent) = (RECENT, RECENT);
    }
}

/// What was chosen for the readouts, where it is not what is usual.
pub fn readouts(held: &[Held], absolute: &[f64]) -> Vec<Choice> {
    let mut choices = Vec::new();
    let mut first = 0;
    for (held, absolute) in held.iter().zip(absolute) {
        let steps = format!("steps {} to {} of the horizon", first + 1, held.penalty.until);
        first = held.penalty.until;
        if held.reading != Reading::States {
            choices.push(Choice {
                what: format!("{steps}: the readout reads {}", held.reading.words()),
                why: "it errs less so on parts of the history that were not fitted".into(),
            });
        }
        if *absolute > 0.0 {
            choices.push(Choice {
                what: format!(
                    "{steps}: {:.0}% of the readout is fitted by absolute errors",
                    100.0 * absolute
                ),
                why: "against squares they err less on parts of the history that were not fitted".into(),
            });
        }
    }
    choices
}

/// The series of which something of their own is learned, by id and target, in the order of the lanes; none where they are
/// too many.
pub fn series(pipeline: &TrainingSpec, history: &History, lanes: &[Lane]) -> Vec<(String, String)> {
    let name =
        |lane: &Lane| (history.ids[lane.series].clone(), pipeline.columns.targets[lane.target].clone());
    if lanes.len() > OWN_MOST { Vec::new() } else { lanes.iter().map(name).collect() }
}

/// The pole that fades over `decay` steps and turns `harmonic` times in `period` steps.
fn resonator(decay: i64, harmonic: i64, period: i64) -> [f32; 2] {
    Memory::pole(decay as f64, std::f64::consts::TAU * harmonic as f64 / period as f64)
}

/// Steps that the middle one of all series has in the training part.
fn lane_steps(history: &History, lanes: &[Lane], split: Split) -> i64 {
    let steps = |lane: &Lane| {
        let of = |number: &u32| {
            let segment = &history.segments[*number as usize];
            (split.train_end - segment.start).clamp(0, segment.values.len() as i64)
        };
        lane.segments.iter().map(of).sum::<i64>()
    };
    let mut all: Vec<i64> = lanes.iter().map(steps).collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or(0).max(1)
}
