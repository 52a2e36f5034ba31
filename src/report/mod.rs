//! Reports: HTML pages, SVG charts, and descriptions of models, snapshots and evaluations as text and JSON.
//!
//! - `html`, `chart`, `axis`, `downsample`, `svg`: self-contained pages and charts
//! - `model`, `snapshot`: the content of a file
//! - `training_page`, `evaluation_text`, `evaluation_page`: the results of `train` and `evaluate`

mod axis;
mod chart;
mod downsample;
pub(crate) mod evaluation_page;
pub(crate) mod evaluation_text;
mod html;
pub(crate) mod model;
pub(crate) mod snapshot;
mod svg;
pub(crate) mod training_page;

pub use axis::{Axis, AxisKind};
pub use chart::{Band, Chart, Line};
pub use html::Page;
pub use svg::Picture;
