//! What models would have said at origins of a history, lane by lane.

use super::walk::{Lane, walk};
use super::windows::{Origin, Windows};
use tidecast_core::forecaster::{Carried, OriginView, Predictor};
use tidecast_core::intervals::restlessness;
use tidecast_core::model::Model;
use tidecast_core::network::Network;
use tidecast_core::series::Scale;

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
    /// Of the series at the origin.
    pub restlessness: f32,
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
    let mut queues: Vec<Queue> = models.iter().map(Queue::new).collect();
    let memory = models.first().and_then(|model| model.memory.as_ref()).map(|part| &part.memory);
    let own = windows.own(number);
    let mut done = 0;
    walk(windows.history, lane, memory, origins, |origin, memory| {
        let segment = &windows.history.segments[origin.segment as usize];
        let window = windows.view(origin).expect("origins are where windows are whole");
        let running = segment.running(origin.place as usize);
        let restless = restlessness(windows.past(origin), window.scale.spread);
        let (ahead, past) = (windows.ahead(origin), windows.past(origin));
        let of = which(window.origin);
        let view = OriginView { window, ahead, memory, past, running: &running, own };
        let queue = &mut queues[of];
        let scale = queue.predictor.add(&models[of], windows.rules, &view);
        if let Some(along) = &mut queue.along {
            queue.carried.extend_from_slice(along.say(windows, &models[of], origin, own));
        }
        queue.waiting.push((done, origin, scale, restless));
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
    along: Option<Along>,
    /// What cells that carry their state say, `[origin][quantity][horizon]`.
    carried: Vec<f32>,
    waiting: Vec<(usize, Origin, Scale, f32)>,
    outputs: Vec<f32>,
}

/// Steps whose inputs are written at once: the way to the first origin may be as long as the history.
const STEPS_AT_ONCE: usize = 4096;

/// The state that the cells carry along a lane.
pub struct Along {
    carried: Carried,
    segment: u32,
    /// Steps of the segment that it has taken.
    done: usize,
    inputs: Vec<f32>,
    said: Vec<f32>,
}

impl Along {
    /// Before anything was seen; `None` if the model's cells carry no state.
    pub fn new(model: &Model) -> Option<Self> {
        let network = model.cells.as_ref().filter(|_| model.description.carries())?;
        let carried = Carried::new(network.shape());
        Some(Self { carried, segment: 0, done: 0, inputs: Vec::new(), said: Vec::new() })
    }

    /// What the cells of the model say at an origin that lies behind the ones before it, `[quantity][horizon]`; `own` is the
    /// number of the lane's series among those that the model knows.
    pub fn say(
        &mut self,
        windows: &Windows<'_>,
        model: &Model,
        origin: Origin,
        own: Option<usize>,
    ) -> &[f32] {
        let Some(network) = &model.cells else { return &[] };
        let until = origin.place as usize + 1;
        if self.segment != origin.segment || self.done == 0 {
            self.carried.clear(0);
            (self.segment, self.done) = (origin.segment, 0);
        }
        while self.done < until {
            self.advance(windows, network, origin, own);
        }
        &self.said
    }

    /// Takes some of the steps up to an origin, and says a forecast if it is reached.
    fn advance(&mut self, windows: &Windows<'_>, network: &Network, origin: Origin, own: Option<usize>) {
        let (shape, until) = (network.shape(), origin.place as usize + 1);
        let steps = self.done..until.min(self.done + STEPS_AT_ONCE);
        self.inputs.resize(steps.len() * shape.inputs, 0.0);
        windows.steps(origin.segment, steps, &mut self.inputs);
        for input in self.inputs.chunks_exact(shape.inputs) {
            self.done += 1;
            self.carried.add(shape, 0, own, |out| out.copy_from_slice(input));
            if self.done == until {
                let inputs = &windows.description.inputs;
                self.carried.issue(shape, 0, |out| inputs.write_known(windows.ahead(origin), out));
            }
            self.carried.run(network, &mut self.said);
        }
    }
}

impl Queue {
    fn new(model: &Model) -> Self {
        Self { along: Along::new(model), ..Self::default() }
    }

    fn flush(&mut self, model: &Model, visit: &mut impl FnMut(Said<'_>)) {
        self.predictor.run(model, &self.carried, &mut self.outputs);
        self.carried.clear();
        let horizon = model.description.horizon;
        let numbers = model.description.probabilities().len() * horizon;
        let outputs = self.outputs.chunks_exact(horizon).enumerate();
        for ((number, origin, scale, restlessness), (i, values)) in self.waiting.drain(..).zip(outputs) {
            let quantiles = &self.predictor.quantiles()[i * numbers..][..numbers];
            visit(Said { number, origin, scale, values, quantiles, restlessness });
        }
    }
}
