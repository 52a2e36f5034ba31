//! A year of made-up weather at one station, as its 21 sensors say it every ten minutes. Simple laws tie the sensors to each
//! other; what drives them is drawn from a fixed seed.
//!
//! The sun follows its height at 51 degrees north. Spells of high pressure, of westerly weather and of fronts come and go;
//! each brings its own pressure, air, clouds and wind, towards which the state drifts with its own delay and noise. The
//! ground is warmed by the sun and cools at night, the less the cloudier it is; humidity follows from temperature and dew
//! point; rain falls in fronts, in showers of drawn length; the wind gusts around its mean; carbon dioxide gathers in still
//! nights.

use std::f64::consts::{PI, TAU};

/// Columns of a reading, in order.
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
    "photosynthetic_radiation_highest",
    "logger_temperature",
    "soil_temperature",
    "carbon_dioxide",
];

/// Steps of a day.
pub const DAY: usize = 144;
const HOURS: f64 = 24.0 / DAY as f64;
/// Degrees.
const LATITUDE: f64 = 51.0;

/// What a spell of weather brings.
#[derive(Clone, Copy)]
struct Spell {
    /// hPa above the mean.
    pressure: f64,
    /// From 0 to 1.
    clouds: f64,
    /// Towards the east and the north, m/s.
    wind: [f64; 2],
    /// Mean length, hours.
    hours: f64,
    wet: bool,
}

const HIGH: Spell = Spell { pressure: 12.0, clouds: 0.25, wind: [-1.0, -0.5], hours: 70.0, wet: false };
const WESTERLY: Spell = Spell { pressure: -2.0, clouds: 0.6, wind: [4.5, 1.0], hours: 30.0, wet: false };
const FRONT: Spell = Spell { pressure: -13.0, clouds: 0.95, wind: [5.0, 3.5], hours: 10.0, wet: true };

/// The readings of each step: `[step][sensor]`.
pub fn year(seed: u64) -> Vec<[f64; SENSORS.len()]> {
    let mut station = Station::new(seed);
    (0..365 * DAY).map(|step| station.step(step)).collect()
}

struct Station {
    random: Random,
    spell: Spell,
    /// Of the air that the spell brought, against the season; and of its pressure, against that of its kind.
    air: f64,
    depth: f64,
    pressure: f64,
    clouds: f64,
    wind: [f64; 2],
    mass: f64,
    /// What the sun has warmed, and what of it has reached the logger and the soil.
    warmed: f64,
    logger: f64,
    soil: f64,
    dryness: f64,
    /// Millimetres in ten minutes while it rains.
    shower: Option<f64>,
    gathered: f64,
}

impl Station {
    fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            spell: WESTERLY,
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
            gathered: 0.0,
        }
    }

    fn step(&mut self, step: usize) -> [f64; SENSORS.len()] {
        let (days, hour) = (step as f64 / DAY as f64, step as f64 * HOURS % 24.0);
        // -1 in the middle of winter, 1 in the middle of summer; the air follows the sun by some weeks.
        let season = |late: f64| -((days - late) * TAU / 365.0).cos();
        self.change_spell(season(20.0));
        let Self { random, .. } = self;

        self.pressure = drift(self.pressure, self.spell.pressure + self.depth, 10.0) + 0.12 * random.normal();
        self.mass = drift(self.mass, self.air, 9.0) + 0.05 * random.normal();
        self.clouds = (drift(self.clouds, self.spell.clouds, 2.5) + 0.05 * random.normal()).clamp(0.0, 1.0);
        for (wind, mean) in self.wind.iter_mut().zip(self.spell.wind) {
            *wind = drift(*wind, mean, 3.0) + 0.25 * random.normal();
        }

        let height = sun(days, hour);
        let clear = if height > 0.0 { 1080.0 * height.powf(1.15) } else { 0.0 };
        // Broken clouds flicker, a clear and an overcast sky do not.
        let flicker = 1.6 * self.clouds * (1.0 - self.clouds) * random.normal().abs();
        let radiation = clear * ((1.0 - 0.75 * self.clouds.powf(3.0)) - 0.5 * flicker).clamp(0.08, 1.0);

        let cooling = 0.55 * (1.0 - 0.7 * self.clouds);
        self.warmed +=
            HOURS * (0.0045 * radiation - cooling) - HOURS * self.warmed / 5.0 + 0.03 * random.normal();
        let temperature = 7.5 + 7.5 * season(28.0) + self.mass + self.warmed;

        self.rain();
        let dry = if self.shower.is_some() {
            0.6
        } else if self.spell.wet {
            1.8
        } else {
            4.5
        };
        self.dryness = (drift(self.dryness, dry, 4.0) + 0.05 * self.random.normal()).clamp(0.1, 15.0);
        // Water in the air lasts over the day, so the dew point follows the mean of the day rather than the hour.
        let dew = (temperature - 0.85 * self.warmed - self.dryness).min(temperature - 0.05);

        let speed = self.wind[0].hypot(self.wind[1]);
        let gusts = 1.35 + 0.0006 * radiation + 0.12 * self.random.normal().abs();
        let direction = (self.wind[0].atan2(self.wind[1]) + PI).to_degrees().rem_euclid(360.0);
        let still = (1.0 - speed / 4.0).max(0.0);
        let breathed = if radiation < 5.0 { 3.0 * still } else { -0.004 * radiation * (1.0 + season(28.0)) };
        self.gathered = drift(self.gathered, 0.0, 5.0) + HOURS * breathed;
        self.logger = drift(self.logger, temperature + 0.004 * radiation, 1.5);
        self.soil = drift(self.soil, temperature, 30.0);

        let pressure = 989.0 + self.pressure + 0.5 * (2.0 * TAU * (hour - 10.0) / 24.0).cos();
        let (most, vapour) = (saturated(temperature), saturated(dew));
        let specific = 622.0 * vapour / (pressure - 0.378 * vapour);
        let kelvin = temperature + 273.15;
        let fallen = self.shower.map_or(0.0, |rain| rain * (0.6 + 0.8 * self.random.uniform()));
        let wet = if self.shower.is_some() { 200.0 + 400.0 * self.random.uniform() } else { 0.0 };
        let photosynthetic = 2.05 * radiation;
        let exact = [
            pressure,
            temperature,
            kelvin * (1000.0 / pressure).powf(0.286),
            dew,
            100.0 * vapour / most,
            most,
            vapour,
            most - vapour,
            specific,
            1e5 * pressure / (287.05 * kelvin * (1.0 + 0.000_61 * specific)),
            speed,
            speed * gusts,
            direction,
            fallen,
            wet,
            radiation,
            photosynthetic,
            photosynthetic * (1.0 + flicker),
            self.logger,
            self.soil,
            411.0 - 5.0 * season(28.0) + self.gathered,
        ];
        self.measured(exact)
    }

    fn change_spell(&mut self, season: f64) {
        if self.random.uniform() >= HOURS / self.spell.hours {
            return;
        }
        let next = self.random.uniform();
        self.spell = match (self.spell.wet, self.spell.pressure > 0.0) {
            // A front ends in westerly weather or clears up.
            (true, _) => {
                if next < 0.6 {
                    WESTERLY
                } else {
                    HIGH
                }
            }
            (_, true) => {
                if next < 0.5 {
                    FRONT
                } else {
                    WESTERLY
                }
            }
            _ => {
                if next < 0.65 {
                    FRONT
                } else {
                    HIGH
                }
            }
        };
        // Under high pressure summers are hot and winters cold.
        let lasting = if self.spell.pressure > 0.0 { 3.0 * season } else { -1.5 * season };
        self.air = lasting + 4.0 * self.random.normal();
        self.depth = 5.0 * self.random.normal();
    }

    fn rain(&mut self) {
        let (begins, ends) = if self.spell.wet { (0.05, 0.06) } else { (0.002 * self.clouds, 0.25) };
        let change = self.random.uniform();
        match self.shower {
            None if change < begins => self.shower = Some(0.25 * (0.9 * self.random.normal()).exp()),
            Some(_) if change < ends => self.shower = None,
            _ => {}
        }
    }

    /// With the noise of each sensor, and in the steps that it counts in.
    fn measured(&mut self, exact: [f64; SENSORS.len()]) -> [f64; SENSORS.len()] {
        const NOISE: [f64; SENSORS.len()] = [
            0.03, 0.04, 0.04, 0.05, 0.4, 0.03, 0.03, 0.03, 0.02, 0.2, 0.08, 0.15, 4.0, 0.0, 0.0, 1.0, 2.0,
            3.0, 0.03, 0.02, 0.6,
        ];
        const UNIT: [f64; SENSORS.len()] = [
            0.01, 0.01, 0.01, 0.01, 0.1, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01, 0.1, 0.1, 10.0, 0.01,
            0.01, 0.01, 0.01, 0.01, 0.1,
        ];
        // Pressures of vapour, speeds, rain and light are never below 0, and there is no light in the dark.
        const POSITIVE: std::ops::Range<usize> = 4..18;
        let mut said = exact;
        for (i, value) in said.iter_mut().enumerate() {
            let dark = exact[i] == 0.0;
            let noisy = if dark { 0.0 } else { *value + NOISE[i] * self.random.normal() };
            let whole = (noisy / UNIT[i]).round() * UNIT[i];
            *value = if POSITIVE.contains(&i) { whole.max(0.0) } else { whole };
        }
        said[4] = said[4].min(100.0);
        said[12] = said[12].rem_euclid(360.0);
        said
    }
}

/// The sine of the sun's height.
fn sun(days: f64, hour: f64) -> f64 {
    let (latitude, tilt) =
        (LATITUDE.to_radians(), -23.44f64.to_radians() * ((days + 10.0) * TAU / 365.0).cos());
    latitude.sin() * tilt.sin() + latitude.cos() * tilt.cos() * ((hour - 12.0) * TAU / 24.0).cos()
}

/// The pressure of saturated vapour over water, hPa (Magnus).
fn saturated(temperature: f64) -> f64 {
    6.112 * (17.62 * temperature / (243.12 + temperature)).exp()
}

/// One step closer to `goal`, with a delay of so many hours.
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

    /// By Box and Muller; one of the two is thrown away.
    fn normal(&mut self) -> f64 {
        let (radius, angle) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * radius.ln()).sqrt() * (TAU * angle).cos()
    }
}
