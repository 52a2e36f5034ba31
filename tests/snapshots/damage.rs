//! Damaged and forged snapshots: detected, reported and skipped, without a panic.

use std::sync::OnceLock;

use arrow::datatypes::Schema;
use arrow::ipc::root_as_footer;
use arrow::ipc::writer::FileWriter;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use sha2::{Digest, Sha256};
use tidecast_core::forecaster::RestoreError;
use tidecast_core::schema::Columns;
use tidecast_stream::state::SnapshotReader;

use super::*;

#[tokio::test]
async fn a_damaged_snapshot_is_skipped_for_the_previous_one() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case { series_max: 100, ..Case::default() });
    let store = store(folder.path());
    let mut state = filled(&case, 50, 3);
    for position in [10, 20, 30] {
        save(&store, 0, position, &mut state).await;
    }
    let [first, second, third]: [PathBuf; 3] = files(folder.path()).try_into().unwrap();
    let mut bytes = fs::read(&third).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&third, bytes).unwrap();
    assert_eq!(newest_position(&store, &case, Some(0), 30).await, Some(20));
    // A valid file whose header does not match its name.
    fs::copy(&first, &second).unwrap();
    assert_eq!(newest_position(&store, &case, Some(0), 30).await, Some(10));
    fs::write(&first, "").unwrap();
    assert_eq!(newest_position(&store, &case, Some(0), 30).await, None);
}

/// A snapshot file and its state.
struct ValidSnapshot {
    bytes: Vec<u8>,
    state: RecordBatch,
    case: Case,
}

fn valid_snapshot() -> &'static ValidSnapshot {
    static SNAPSHOT: OnceLock<ValidSnapshot> = OnceLock::new();
    SNAPSHOT.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let case = Case::default();
        let mut forecaster = filled(&case, 3, 5);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(save(&store(folder.path()), 0, 15, &mut forecaster));
        let bytes = fs::read(&files(folder.path())[0]).unwrap();
        ValidSnapshot { bytes, state: forecaster.snapshot(), case }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: rounds(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_bytes_give_the_state_or_an_error(
        flips in vec((any::<Index>(), 1u8..=255), 0..4), cut in prop::option::of(any::<Index>()),
    ) {
        let ValidSnapshot { bytes, state, case } = valid_snapshot();
        let mut damaged = bytes.clone();
        flips.iter().for_each(|(at, bits)| damaged[at.index(bytes.len())] ^= bits);
        if let Some(cut) = cut {
            damaged.truncate(cut.index(bytes.len()));
        }
        // Damage to the parts that only other Arrow readers use has no effect.
        match read(case, &damaged) {
            Ok(forecaster) => prop_assert_eq!(&forecaster.snapshot(), state),
            Err(error) => prop_assert!(damaged != *bytes, "{error:#}"),
        }
    }

    #[test]
    fn forged_bytes_cause_no_panic(
        flips in vec((any::<Index>(), prop_oneof![Just(1u8), Just(0x80), Just(0x7f), any::<u8>()]), 1..4),
    ) {
        let ValidSnapshot { bytes, case, .. } = valid_snapshot();
        if let Ok(forecaster) = read(case, &forge(bytes, &flips)) {
            forecaster.snapshot();
        }
    }
}

fn rounds() -> u32 {
    std::env::var("TIDECAST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(200)
}

/// Restores the state in a snapshot file of these bytes.
fn read(case: &Case, bytes: &[u8]) -> Result<Forecaster> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let path = ObjectPath::from("x.arrow");
    let mut forecaster = case.forecaster();
    runtime.block_on(async {
        store.put(&path, bytes.to_vec().into()).await?;
        let mut snapshot = SnapshotReader::open(&store, &path).await?;
        while let Some(batch) = snapshot.next().await? {
            forecaster.restore_batch(&batch)?;
        }
        Ok(forecaster)
    })
}

/// Flips bits in the frames of a file, and updates the digests.
fn forge(bytes: &[u8], flips: &[(Index, u8)]) -> Vec<u8> {
    let hex =
        |bytes: &[u8]| -> String { Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect() };
    let end = bytes.len() - 10;
    let length = i32::from_le_bytes(bytes[end..end + 4].try_into().unwrap()) as usize;
    let footer = root_as_footer(&bytes[end - length..end]).unwrap();
    let pair = footer.custom_metadata().unwrap().get(0);
    let mut index: serde_json::Value =
        serde_json::from_str(pair.value().unwrap().split_once(' ').unwrap().1).unwrap();
    let mut body = bytes[..end - length].to_vec();
    let frames = index["frames"].as_array_mut().unwrap();
    let sum: u64 = frames.iter().map(|frame| frame["bytes"].as_u64().unwrap()).sum();
    flips.iter().for_each(|(at, bits)| body[at.index(sum as usize)] ^= bits);
    let mut offset = 0;
    for frame in frames {
        let length = frame["bytes"].as_u64().unwrap() as usize;
        frame["sha256"] = hex(&body[offset..offset + length]).into();
        offset += length;
    }
    // The footer of an empty file with only the index.
    let mut writer = FileWriter::try_new(Vec::new(), &Schema::empty()).unwrap();
    let index = index.to_string();
    writer.write_metadata(pair.key().unwrap(), format!("{} {index}", hex(index.as_bytes())));
    body.extend(writer.into_inner().unwrap());
    body
}

#[test]
fn an_inconsistent_state_is_refused() {
    let case = Case { series_max: 100, ..Case::default() };
    let batch = filled(&case, 3, 5).snapshot();
    let mut forecaster = case.forecaster();
    forecaster.restore_batch(&batch).unwrap();
    assert!(matches!(forecaster.restore_batch(&batch), Err(RestoreError::DuplicateSeries(id)) if id == "s0"));
    let small = Case { series_max: 2, ..Case::default() };
    assert!(matches!(small.forecaster().restore(&batch), Err(RestoreError::TooManySeries(2))));
    let targets = vec!["t".to_owned(), "h".to_owned()];
    let wide = Case { columns: Columns { targets, ..case.columns.clone() }, ..case };
    assert!(matches!(wide.forecaster().restore(&batch), Err(RestoreError::Inconsistent { .. })));
}
