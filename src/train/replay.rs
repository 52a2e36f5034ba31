//! What models would have said at origins of a history, lane by lane.

use super::walk::{Lane, walk};
use super::windows::{Origin, Windows};
use crate::forecaster::{OriginView, Predictor};
use crate::model::Model;
use crate::series::Scale;

/// Origins that are forecast at once: enough for full matrices.
const WIDTH: usize = 64;

/// A forecast and the origin it is for.
pub struct Said<'a> {
    /// Place of the origin among those asked for.
    pub number: usize,
    pub origin: Origin,
    pub scale: Scale,
    /// Scaled, for each step of the horizon.
    pub values: &'a [f32],
    /// The learned quantiles, scaled, `[quantile][horizon]`.
    pub quantiles: &'a [f32],
}

/// Forecasts `origins` of a lane, which are in the order of time. All `models` have the same memory; `which` says by the
/// step of an origin which of them forecasts it.
pub fn replay(
    windows: &Windows<'_>,
    (number, lane): (usize, &Lane),
    models: &[Model],
    which: &dyn Fn(i64) -> usize,
    origins: &[Origin],
    mut visit: impl FnMut(Said<'_>),
) {
    let mut queues: Vec<Queue> = models.iter().map(|_| Queue::default()).collect();
    let memory = models.first().and_then(|model| model.memory.as_ref()).map(|part| &part.memory);
    let own = windows.own(number);
    let mut done = 0;
    walk(windows.history, lane, memory, origins, |origin, memory| {
        let segment = &windows.history.segments[origin.segment as usize];
        let window = windows.view(origin).expect("origins are where windows are whole");
        let running = segment.running(origin.place as usize);
        let (ahead, past) = (windows.ahead(origin), windows.past(origin));
        let of = which(window.origin);
        let view = OriginView { window, ahead, memory, past, running: &running, own };
        let queue = &mut queues[of];
        let scale = queue.predictor.add(&models[of], windows.rules, &view);
        queue.waiting.push((done, origin, scale));
        done += 1;
        if queue.waiting.len() == WIDTH {
            queue.flush(&models[of], &mut visit);
        }
    });
    for (queue, model) in queues.iter_mut().zip(models) {
        queue.flush(model, &mut visit);
    }
}

#[derive(Default)]
struct Queue {
    predictor: Predictor,
    waiting: Vec<(usize, Origin, Scale)>,
    outputs: Vec<f32>,
}

impl Queue {
    fn flush(&mut self, model: &Model, visit: &mut impl FnMut(Said<'_>)) {
        self.predictor.run(model, &mut self.outputs);
        let horizon = model.description.horizon;
        let numbers = model.description.probabilities().len() * horizon;
        let outputs = self.outputs.chunks_exact(horizon).enumerate();
        for ((number, origin, scale), (i, values)) in self.waiting.drain(..).zip(outputs) {
            let quantiles = &self.predictor.quantiles()[i * numbers..][..numbers];
            visit(Said { number, origin, scale, values, quantiles });
        }
    }
}
