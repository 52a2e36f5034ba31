//! A synthetic year of weather at one station with 21 sensors and steps of ten minutes. Simple laws relate the sensors to each
//! other; the random inputs have a fixed seed.
//!
//! The radiation follows the elevation of the sun at 51 degrees north. Regimes of high pressure, westerly weather and fronts
//! alternate. Each has its own pressure, air mass, clouds and wind, which the state approaches with a delay and noise. The sun
//! warms the ground, which cools at night, less so under clouds. Humidity follows from temperature and dew point. Rain falls in
//! fronts, in showers of random length. The wind gusts around its mean. Carbon dioxide accumulates in calm nights.

use std::f64::consts::{PI, TAU};

/// Columns of an observation, in order.
pub const SENSORS: [&str; 21] = [
    "pressure",
    "temperature",
    "potential_temperature",
    "dew_point",
    "relative_humidity",
    "vapour_pressure_saturated",
    "vapour_pressure",
    "vapour_pressure_deficit",
    "specific_humidity",
    "air_density",
    "wind_speed",
    "wind_gust",
    "wind_direction",
    "rain",
    "rain_seconds",
    "radiation",
    "photosynthetic_radiation",
    "photosynthetic_radiation_max",
    "logger_temperature",
    "soil_temperature",
    "carbon_dioxide",
];

/// Steps of a day.
pub const DAY: usize = 144;
const HOURS: f64 = 24.0 / DAY as f64;
/// Degrees.
const LATITUDE: f64 = 51.0;

/// A weather regime.
#[derive(Clone, Copy)]
struct Regime {
    /// Pressure above the mean in hPa.
    pressure: f64,
    /// Cloud cover from 0 to 1.
    clouds: f64,
    /// Components to the east and the north in m/s.
    wind: [f64; 2],
    /// Mean duration.
    hours: f64,
    wet: bool,
}

const HIGH: Regime = Regime { pressure: 12.0, clouds: 0.25, wind: [-1.0, -0.5], hours: 70.0, wet: false };
const WESTERLY: Regime = Regime { pressure: -2.0, clouds: 0.6, wind: [4.5, 1.0], hours: 30.0, wet: false };
const FRONT: Regime = Regime { pressure: -13.0, clouds: 0.95, wind: [5.0, 3.5], hours: 10.0, wet: true };

/// Observations, `[step][sensor]`.
pub fn year(seed: u64) -> Vec<[f64; SENSORS.len()]> {
    let mut station = Station::new(seed);
    (0..365 * DAY).map(|step| station.step(step)).collect()
}

struct Station {
    random: Random,
    regime: Regime,
    /// Temperature of the regime's air mass relative to the season.
    air: f64,
    /// Pressure relative to other regimes of its kind.
    depth: f64,
    pressure: f64,
    clouds: f64,
    wind: [f64; 2],
    mass: f64,
    /// Warming of the ground by the sun, which reaches the logger and the soil with a delay.
    warmed: f64,
    logger: f64,
    soil: f64,
    dryness: f64,
    /// Rain in millimetres per step; none while it is dry.
    shower: Option<f64>,
    accumulated: f64,
}

impl Station {
    fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            regime: WESTERLY,
            air: 0.0,
            depth: 0.0,
            pressure: 0.0,
            clouds: 0.5,
            wind: [2.0, 0.0],
            mass: 0.0,
            warmed: 0.0,
            logger: 0.0,
            soil: 0.0,
            dryness: 4.0,
            shower: None,
            accumulated: 0.0,
        }
    }

    fn step(&mut self, step: usize) -> [f64; SENSORS.len()] {
        let (days, hour) = (step as f64 / DAY as f64, step as f64 * HOURS % 24.0);
        // -1 in midwinter, 1 in midsummer, some weeks after the sun.
        let season = |late: f64| -((days - late) * TAU / 365.0).cos();
        self.change_regime(season(20.0));
        self.approach_regime();
        let Self { random, .. } = self;

        let height = sun(days, hour);
        let clear = if height > 0.0 { 1080.0 * height.powf(1.15) } else { 0.0 };
        // Radiation fluctuates under broken clouds, not under a clear or an overcast sky.
        let flicker = 1.6 * self.clouds * (1.0 - self.clouds) * random.normal().abs();
        let radiation = clear * ((1.0 - 0.75 * self.clouds.powf(3.0)) - 0.5 * flicker).clamp(0.08, 1.0);

        let cooling = 0.55 * (1.0 - 0.7 * self.clouds);
        self.warmed +=
            HOURS * (0.0045 * radiation - cooling) - HOURS * self.warmed / 5.0 + 0.03 * random.normal();
        let temperature = 7.5 + 7.5 * season(28.0) + self.mass + self.warmed;

        self.rain();
        let dry = match (&self.shower, self.regime.wet) {
            (Some(_), _) => 0.6,
            (None, true) => 1.8,
            (None, false) => 4.5,
        };
        self.dryness = (drift(self.dryness, dry, 4.0) + 0.05 * self.random.normal()).clamp(0.1, 15.0);
        // The water content of the air changes slowly, so the dew point follows the daily mean.
        let dew = (temperature - 0.85 * self.warmed - self.dryness).min(temperature - 0.05);

        let speed = self.wind[0].hypot(self.wind[1]);
        let gusts = 1.35 + 0.0006 * radiation + 0.12 * self.random.normal().abs();
        let direction = (self.wind[0].atan2(self.wind[1]) + PI).to_degrees().rem_euclid(360.0);
        let calm = (1.0 - speed / 4.0).max(0.0);
        let respiration =
            if radiation < 5.0 { 3.0 * calm } else { -0.004 * radiation * (1.0 + season(28.0)) };
        self.accumulated = drift(self.accumulated, 0.0, 5.0) + HOURS * respiration;
        self.logger = drift(self.logger, temperature + 0.004 * radiation, 1.5);
        self.soil = drift(self.soil, temperature, 30.0);

        let pressure = 989.0 + self.pressure + 0.5 * (2.0 * TAU * (hour - 10.0) / 24.0).cos();
        let (vapour_max, vapour) = (saturated(temperature), saturated(dew));
        let specific = 622.0 * vapour / (pressure - 0.378 * vapour);
        let kelvin = temperature + 273.15;
        let rain = self.shower.map_or(0.0, |rain| rain * (0.6 + 0.8 * self.random.uniform()));
        let wet = if self.shower.is_some() { 200.0 + 400.0 * self.random.uniform() } else { 0.0 };
        let photosynthetic = 2.05 * radiation;
        let exact = [
            pressure,
            temperature,
            kelvin * (1000.0 / pressure).powf(0.286),
            dew,
            100.0 * vapour / vapour_max,
            vapour_max,
            vapour,
            vapour_max - vapour,
            specific,
            1e5 * pressure / (287.05 * kelvin * (1.0 + 0.000_61 * specific)),
            speed,
            speed * gusts,
            direction,
            rain,
            wet,
            radiation,
            photosynthetic,
            photosynthetic * (1.0 + flicker),
            self.logger,
            self.soil,
            411.0 - 5.0 * season(28.0) + self.accumulated,
        ];
        self.measured(exact)
    }

    /// Moves pressure, air mass, clouds and wind towards those of the regime.
    fn approach_regime(&mut self) {
        let Self { random, regime, .. } = self;
        self.pressure = drift(self.pressure, regime.pressure + self.depth, 10.0) + 0.12 * random.normal();
        self.mass = drift(self.mass, self.air, 9.0) + 0.05 * random.normal();
        self.clouds = (drift(self.clouds, regime.clouds, 2.5) + 0.05 * random.normal()).clamp(0.0, 1.0);
        for (wind, mean) in self.wind.iter_mut().zip(regime.wind) {
            *wind = drift(*wind, mean, 3.0) + 0.25 * random.normal();
        }
    }

    fn change_regime(&mut self, season: f64) {
        if self.random.uniform() >= HOURS / self.regime.hours {
            return;
        }
        let next = self.random.uniform();
        let (likely, other, probability) = match (self.regime.wet, self.regime.pressure > 0.0) {
            (true, _) => (WESTERLY, HIGH, 0.6),
            (false, true) => (FRONT, WESTERLY, 0.5),
            (false, false) => (FRONT, HIGH, 0.65),
        };
        self.regime = if next < probability { likely } else { other };
        // High pressure makes summers hot and winters cold.
        let seasonal = if self.regime.pressure > 0.0 { 3.0 * season } else { -1.5 * season };
        self.air = seasonal + 4.0 * self.random.normal();
        self.depth = 5.0 * self.random.normal();
    }

    fn rain(&mut self) {
        let (begins, ends) = if self.regime.wet { (0.05, 0.06) } else { (0.002 * self.clouds, 0.25) };
        let change = self.random.uniform();
        match self.shower {
            None if change < begins => self.shower = Some(0.25 * (0.9 * self.random.normal()).exp()),
            Some(_) if change < ends => self.shower = None,
            _ => {}
        }
    }

    /// Adds the noise of each sensor and rounds to its resolution.
    fn measured(&mut self, exact: [f64; SENSORS.len()]) -> [f64; SENSORS.len()] {
        const NOISE: [f64; SENSORS.len()] = [
            0.03, 0.04, 0.04, 0.05, 0.4, 0.03, 0.03, 0.03, 0.02, 0.2, 0.08, 0.15, 4.0, 0.0, 0.0, 1.0, 2.0,
            3.0, 0.03, 0.02, 0.6,
        ];
        const RESOLUTION: [f64; SENSORS.len()] = [
            0.01, 0.01, 0.01, 0.01, 0.1, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.1, 0.1, 10.0, 0.01,
            0.01, 0.01, 0.01, 0.01, 0.1,
        ];
        // Sensors whose values are never negative. A value of exactly 0 has no noise.
        const POSITIVE: std::ops::Range<usize> = 4..18;
        let mut measured = exact;
        for (i, value) in measured.iter_mut().enumerate() {
            let is_zero = exact[i] == 0.0;
            let noisy = if is_zero { 0.0 } else { *value + NOISE[i] * self.random.normal() };
            let rounded = (noisy / RESOLUTION[i]).round() * RESOLUTION[i];
            *value = if POSITIVE.contains(&i) { rounded.max(0.0) } else { rounded };
        }
        measured[4] = measured[4].min(100.0);
        measured[12] = measured[12].rem_euclid(360.0);
        measured
    }
}

/// Sine of the sun's elevation.
fn sun(days: f64, hour: f64) -> f64 {
    let (latitude, tilt) =
        (LATITUDE.to_radians(), -23.44f64.to_radians() * ((days + 10.0) * TAU / 365.0).cos());
    latitude.sin() * tilt.sin() + latitude.cos() * tilt.cos() * ((hour - 12.0) * TAU / 24.0).cos()
}

/// Saturation pressure of vapour over water in hPa (Magnus).
fn saturated(temperature: f64) -> f64 {
    6.112 * (17.62 * temperature / (243.12 + temperature)).exp()
}

/// Approaches `goal` for a step, with a time constant in hours.
fn drift(now: f64, goal: f64, hours: f64) -> f64 {
    now + (goal - now) * HOURS / hours
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((bits ^ bits >> 31) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// By Box and Muller; the second value is discarded.
    fn normal(&mut self) -> f64 {
        let (radius, angle) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * radius.ln()).sqrt() * (TAU * angle).cos()
    }
}
