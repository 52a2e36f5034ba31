//! What is chosen where the recipe is silent: the memory's poles and seasons follow from the grid, with the reasons that
//! are told to whoever trains.

use crate::config::Pipeline;
use crate::model::{MemoryPart, Season};
use crate::network::memory::Memory;

use super::History;
use super::walk::Lane;
use super::windows::Split;

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
/// Values before the last one that the readout sees as they are.
const RECENT: usize = 23;
/// Series with coefficients of their own, at most: each adds some forty numbers a step of the horizon to the file.
const OWN_MOST: usize = 256;
/// The part of the training steps that may pass before the first row is learned from.
const WARM_PART: i64 = 10;

/// The memory for a pipeline's grid and a history of such a length.
pub fn memory(pipeline: &Pipeline, history: &History, lanes: &[Lane], split: Split) -> Chosen {
    let every = pipeline.rules.grid.every;
    let steps = (split.train_end - split.first).max(1);
    // Whole steps a day, or none that recurs.
    let day = (DAY % every == 0 && DAY / every >= 2).then_some(DAY / every).filter(|day| steps >= 3 * day);
    let mut choices = Vec::new();
    let mut chose = |what: String, why: String| choices.push(Choice { what, why });

    let mut poles = Vec::new();
    let mut resonant = Vec::new();
    let longest = day.map_or(steps as f64 / 8.0, |day| 0.9 * day as f64);
    let decays: Vec<f64> =
        (0..).map(|k| 2.0 * 3f64.powi(k)).take_while(|decay| *decay < longest.max(3.0)).collect();
    poles.extend(decays.iter().map(|decay| Memory::pole(*decay, 0.0)));
    chose(
        format!("memory: {} plain decays over 2 to {:.0} steps", decays.len(), decays.last().unwrap_or(&2.0)),
        match day {
            Some(_) => "threefold from the shortest on, below a day".into(),
            None => "threefold from the shortest on, up to an eighth of the training part".into(),
        },
    );
    if let Some(day) = day {
        let harmonics = HARMONICS.min(day / 2);
        let days: Vec<i64> = DAYS.into_iter().filter(|days| *days == 1 || days * day * 4 <= steps).collect();
        for decay in &days {
            for harmonic in 0..=harmonics {
                let frequency = std::f64::consts::TAU * harmonic as f64 / day as f64;
                if harmonic <= 1 {
                    resonant.push(poles.len());
                }
                poles.push(Memory::pole((decay * day) as f64, frequency));
            }
        }
        chose(
            format!("memory: resonators of the day and {harmonics} of its harmonics, over {days:?} days"),
            format!("a day is {day} steps, and the training part {} days", steps / day),
        );
    }
    let own: Vec<(String, String)> = match lanes.len() {
        ..=OWN_MOST => lanes
            .iter()
            .map(|lane| (history.ids[lane.series].clone(), pipeline.columns.targets[lane.target].clone()))
            .collect(),
        _ => Vec::new(),
    };
    let copied = match own.len() {
        0 => Vec::new(),
        // The real parts of what resonates once a day at most, and the plain decays.
        _ => (0..decays.len()).chain(resonant).map(|pole| Memory::places(&poles, pole)[0]).collect(),
    };
    let season =
        day.filter(|_| !own.is_empty()).map(|day| Season { period: DAY, slots: day.min(24) as usize });
    if own.is_empty() {
        let count = lanes.len();
        chose("all series share all coefficients".into(), format!("{count} series are more than {OWN_MOST}"));
    } else {
        chose(
            format!("{} series have coefficients of their own beside the shared ones", own.len()),
            format!("at most {OWN_MOST} may"),
        );
    }
    let warm =
        day.map_or(RECENT as i64 + 1, |day| 14 * day).min(steps / WARM_PART).max(RECENT as i64 + 1) as u64;
    chose(
        format!("the first forecast of a series comes after {warm} steps"),
        "the memory has to fill first".into(),
    );
    let context = pipeline.train.context;
    let part = MemoryPart { context, recent: RECENT, season, copied, own, penalties: Vec::new() };
    Chosen { poles, part, warm, choices }
}
