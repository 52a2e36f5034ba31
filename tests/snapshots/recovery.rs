//! How long the state of many series takes: to be captured, written, read and restored.
//!
//! `TIDECAST_RECOVERY=100000 cargo test --release a_restart_with_many_series -- --nocapture` prints a line of JSON.

use std::time::Instant;

use tidecast_core::forecaster::{ASIDE_BYTES, SnapshotProgress, Setup};
use tidecast_core::intervals::CalibrationMode;
use tidecast_core::model::Model;

use super::*;

/// The pipeline of the sensors that comes with the program.
fn sensors(limit: usize) -> Setup {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    let pipeline = tidecast::config::Pipeline::open(&folder.join("sensors.toml")).unwrap();
    Setup {
        model: Arc::new(Model::from_bytes(&std::fs::read(&pipeline.forecast.model).unwrap()).unwrap()),
        every: pipeline.forecast.every,
        levels: pipeline.forecast.levels.clone(),
        calibration: CalibrationMode::Online,
        scoring: None,
        every_text: pipeline.every_text(),
        capacity: limit.into(),
        columns: pipeline.columns,
        rules: pipeline.rules,
    }
}

#[tokio::test]
async fn a_restart_with_many_series() {
    let ids = std::env::var("TIDECAST_RECOVERY").ok().and_then(|ids| ids.parse().ok()).unwrap_or(300usize);
    let setup = Arc::new(sensors(ids));
    let case = Case { columns: setup.columns.clone(), ..Case::default() };
    let mut forecaster = Forecaster::new(setup.clone());
    // As many steps as make every window full.
    let steps = setup.keep().steps_max() as i64;
    let hour = setup.rules.grid.every / 1_000_000;
    let mut position = 0;
    for step in 0..steps {
        for some in (0..ids).step_by(10_000) {
            let value = |id: usize| ((id * 31 + step as usize * 7) % 97) as f64;
            let some = some..ids.min(some + 10_000);
            let rows: Vec<_> =
                some.map(|id| row(&format!("sensor-{id:07}"), step * hour, value(id))).collect();
            forecaster.absorb(&case.batch(position, &rows));
            position += rows.len() as i64;
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let (mut pause, mut writing) = (0.0f64, 0.0);
    let mut writer = store.writer(&partition(), Position(0), Position(position));
    let began = Instant::now();
    forecaster.begin_capture(ASIDE_BYTES);
    loop {
        let at = Instant::now();
        let captured = forecaster.capture(256);
        pause = pause.max(at.elapsed().as_secs_f64());
        let at = Instant::now();
        match captured {
            SnapshotProgress::More => {}
            SnapshotProgress::Batch(batch) => drop(writer.batch(&batch).await.unwrap()),
            SnapshotProgress::Done => break,
        }
        writing += at.elapsed().as_secs_f64();
    }
    writer.finish().await.unwrap();
    let saved = began.elapsed().as_secs_f64();
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap();
    let bytes = file.metadata().unwrap().len();
    let expected = (forecaster.series(), forecaster.warm());
    let first = forecaster.snapshot().slice(0, 10);
    drop(forecaster);
    let began = Instant::now();
    let add = |forecaster: &mut Forecaster, batch: &RecordBatch| Ok(forecaster.restore_more(batch)?);
    let fresh = || Forecaster::new(setup.clone());
    let found = store.newest(&partition(), Some(Position(0)), Position(position), fresh, add).await.unwrap();
    let restored = began.elapsed().as_secs_f64();
    let Found::Snapshot { state, .. } = found else { panic!("there is one") };
    assert_eq!((state.series(), state.warm()), expected);
    assert_eq!(state.snapshot().slice(0, 10), first);
    println!(
        "{}",
        serde_json::json!({
            "series": ids, "bytes_per_series": bytes / ids as u64, "capture_chunk_seconds_worst": pause,
            "write_seconds": writing, "save_seconds": saved, "restore_seconds": restored,
        })
    );
}
