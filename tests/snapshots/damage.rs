//! Damaged snapshots: noticed, named, passed over; never a panic.

use std::path::PathBuf;

use arrow::datatypes::Schema;
use arrow::ipc::root_as_footer;
use arrow::ipc::writer::FileWriter;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use proptest::collection::vec;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use tidecast_core::forecaster::RestoreError;
use tidecast_stream::state::Snapshot;

use super::*;

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_damaged_one_is_passed_over_for_the_one_before_it() {
    let (folder, case) = (tempfile::tempdir().unwrap(), Case { limit: 100, ..Case::default() });
    let store = store(folder.path());
    let mut state = filled(&case, 50, 3);
    for at in [10, 20, 30] {
        save(&store, 0, at, &mut state).await;
    }
    let [first, second, third]: [PathBuf; 3] = files(folder.path()).try_into().unwrap();
    let mut bytes = std::fs::read(&third).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&third, bytes).unwrap();
    assert_eq!(position(&found(&store, &case, Some(0), 30).await.unwrap()), Some(20));
    // Another one's bytes are whole, and not what the name says.
    std::fs::copy(&first, &second).unwrap();
    assert_eq!(position(&found(&store, &case, Some(0), 30).await.unwrap()), Some(10));
    std::fs::write(&first, "").unwrap();
    assert_eq!(position(&found(&store, &case, Some(0), 30).await.unwrap()), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: rounds(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_give_the_state_or_an_error(
        flips in vec((any::<prop::sample::Index>(), 1u8..=255), 0..4), cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let (bytes, expected, case) = whole();
        let mut damaged = bytes.clone();
        flips.iter().for_each(|(at, bits)| damaged[at.index(bytes.len())] ^= bits);
        if let Some(cut) = cut {
            damaged.truncate(cut.index(bytes.len()));
        }
        // What other readers go by may be damaged without a harm to us.
        match read(case, &damaged) {
            Ok(forecaster) => prop_assert_eq!(&forecaster.snapshot(), expected),
            Err(error) => prop_assert!(damaged != *bytes, "{error:#}"),
        }
    }

    #[test]
    fn bytes_that_somebody_made_do_no_harm(
        flips in vec((any::<prop::sample::Index>(), prop_oneof![Just(1u8), Just(0x80), Just(0x7f), any::<u8>()]), 1..4),
    ) {
        let (bytes, _, case) = whole();
        // A state or an error, as it comes.
        if let Ok(forecaster) = read(case, &forged(bytes, &flips)) {
            forecaster.snapshot();
        }
    }
}

/// The state that a file of these bytes holds.
fn read(case: &Case, bytes: &[u8]) -> Result<Forecaster> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let path = ObjectPath::from("x.arrow");
    let mut forecaster = case.forecaster();
    runtime.block_on(async {
        store.put(&path, bytes.to_vec().into()).await?;
        let mut snapshot = Snapshot::open(&store, &path).await?;
        while let Some(batch) = snapshot.next().await? {
            forecaster.restore_more(&batch)?;
        }
        Ok(forecaster)
    })
}

/// The same file with bits of its frames turned, and digests that fit.
fn forged(bytes: &[u8], flips: &[(prop::sample::Index, u8)]) -> Vec<u8> {
    let hex =
        |bytes: &[u8]| -> String { Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect() };
    let end = bytes.len() - 10;
    let length = i32::from_le_bytes(bytes[end..end + 4].try_into().unwrap()) as usize;
    let footer = root_as_footer(&bytes[end - length..end]).unwrap();
    let pair = footer.custom_metadata().unwrap().get(0);
    let mut list: serde_json::Value =
        serde_json::from_str(pair.value().unwrap().split_once(' ').unwrap().1).unwrap();
    let mut body = bytes[..end - length].to_vec();
    let frames = list["frames"].as_array_mut().unwrap();
    let sum: u64 = frames.iter().map(|frame| frame[0].as_u64().unwrap()).sum();
    flips.iter().for_each(|(at, bits)| body[at.index(sum as usize)] ^= bits);
    let mut offset = 0;
    for frame in frames {
        let length = frame[0].as_u64().unwrap() as usize;
        frame[1] = hex(&body[offset..offset + length]).into();
        offset += length;
    }
    // The footer of a file with nothing in it but the list.
    let mut writer = FileWriter::try_new(Vec::new(), &Schema::empty()).unwrap();
    let list = list.to_string();
    writer.write_metadata(pair.key().unwrap(), format!("{} {list}", hex(list.as_bytes())));
    body.extend(writer.into_inner().unwrap());
    body
}

fn rounds() -> u32 {
    std::env::var("TIDECAST_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(200)
}

/// A file, its state and the case it is of.
fn whole() -> &'static (Vec<u8>, RecordBatch, Case) {
    static WHOLE: std::sync::OnceLock<(Vec<u8>, RecordBatch, Case)> = std::sync::OnceLock::new();
    WHOLE.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let case = Case::default();
        let mut state = filled(&case, 3, 5);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(save(&store(folder.path()), 0, 15, &mut state));
        (std::fs::read(&files(folder.path())[0]).unwrap(), state.snapshot(), case)
    })
}

fn wide(case: &Case) -> tidecast_core::table::Columns {
    let targets = vec!["t".to_owned(), "h".to_owned()];
    tidecast_core::table::Columns { targets, ..case.columns.clone() }
}

#[test]
fn a_state_that_contradicts_itself_is_refused() {
    let case = Case { limit: 100, ..Case::default() };
    let batch = filled(&case, 3, 5).snapshot();
    let mut forecaster = case.forecaster();
    forecaster.restore_more(&batch).unwrap();
    assert!(matches!(forecaster.restore_more(&batch), Err(RestoreError::Twice(id)) if id == "s0"));
    let few = Case { limit: 2, ..Case::default() };
    assert!(matches!(few.forecaster().restore(&batch), Err(RestoreError::TooMany(2))));
    let wide = Case { columns: wide(&case), ..case };
    assert!(matches!(wide.forecaster().restore(&batch), Err(RestoreError::Row { .. })));
}
