//! The time to snapshot and restore the state of many series.
//!
//! `TIDECAST_RECOVERY=100000 cargo test --release a_restart_restores_all_series -- --nocapture` prints the times as JSON.

use std::time::Instant;

use tidecast_core::forecaster::{COPIED_BYTES_MAX, Setup};
use tidecast_core::intervals::CalibrationMode;
use tidecast_core::model::Model;
use tidecast_core::time::SECOND;

use super::*;

/// The setup of the sample pipeline `sensors`.
fn sensors(series_max: usize) -> Setup {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    let pipeline = tidecast::config::Pipeline::open(&folder.join("sensors.toml")).unwrap();
    Setup {
        model: Arc::new(Model::from_bytes(&fs::read(&pipeline.forecast.model).unwrap()).unwrap()),
        every: pipeline.forecast.every,
        levels: pipeline.forecast.levels.clone(),
        calibration: CalibrationMode::Online,
        scoring: None,
        step_text: pipeline.step_text(),
        capacity: series_max.into(),
        columns: pipeline.columns,
        step_config: pipeline.step_config,
    }
}

#[tokio::test]
async fn a_restart_restores_all_series() {
    let ids = std::env::var("TIDECAST_RECOVERY").ok().and_then(|ids| ids.parse().ok()).unwrap_or(300usize);
    let setup = Arc::new(sensors(ids));
    let case = Case { columns: setup.columns.clone(), ..Case::default() };
    let mut forecaster = Forecaster::new(setup.clone());
    let seconds_per_step = setup.step_config.grid.every / SECOND;
    let mut position = 0;
    // Enough steps to fill every window.
    for step in 0..setup.retention().steps_max() {
        for first in (0..ids).step_by(10_000) {
            let rows: Vec<_> = (first..ids.min(first + 10_000))
                .map(|id| {
                    let value = ((id * 31 + step * 7) % 97) as f64;
                    row(&format!("sensor-{id:07}"), step as i64 * seconds_per_step, value)
                })
                .collect();
            forecaster.replay(&case.batch(position, &rows));
            position += rows.len() as i64;
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let (mut longest_step, mut writing) = (0.0f64, 0.0);
    let mut writer = store.writer(&partition(), Position(0), Position(position));
    let began = Instant::now();
    forecaster.begin_snapshot(COPIED_BYTES_MAX);
    loop {
        let at = Instant::now();
        let progress = forecaster.advance_snapshot(256);
        longest_step = longest_step.max(at.elapsed().as_secs_f64());
        let at = Instant::now();
        match progress {
            SnapshotProgress::Pending => {}
            SnapshotProgress::Batch(batch) => drop(writer.write(&batch).await.unwrap()),
            SnapshotProgress::Done => break,
        }
        writing += at.elapsed().as_secs_f64();
    }
    writer.finish().await.unwrap();
    let saving = began.elapsed().as_secs_f64();
    let bytes = files(folder.path())[0].metadata().unwrap().len();
    let expected = (forecaster.series_count(), forecaster.warm_series_count());
    let first = forecaster.snapshot().slice(0, 10);
    drop(forecaster);
    let began = Instant::now();
    let restore = |forecaster: &mut Forecaster, batch: &RecordBatch| Ok(forecaster.restore_batch(batch)?);
    let new_state = || Forecaster::new(setup.clone());
    let (start, committed) = (Some(Position(0)), Position(position));
    let found = store.restore_newest(&partition(), start, committed, new_state, restore).await.unwrap();
    let restoring = began.elapsed().as_secs_f64();
    let Lookup::Found { state, .. } = found else { panic!("there is a snapshot") };
    assert_eq!((state.series_count(), state.warm_series_count()), expected);
    assert_eq!(state.snapshot().slice(0, 10), first);
    println!(
        "{}",
        serde_json::json!({
            "series": ids, "bytes_per_series": bytes / ids as u64, "longest_step_seconds": longest_step,
            "write_seconds": writing, "save_seconds": saving, "restore_seconds": restoring,
        })
    );
}
