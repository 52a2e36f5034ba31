//! Rows in the order of their times.

use super::*;

/// 1500 rows, many of the same time: each of the first 1200 its own row group, the others in groups of 90.
fn shuffled(folder: &TempDir) {
    for (file, rows, group) in [("1", 0..1200i64, 1), ("2", 1200..1500, 90)] {
        let owned: Vec<String> = rows.clone().map(|row| format!("s{}", row % 7)).collect();
        let named = [
            ("sensor", ids(&owned.iter().map(String::as_str).collect::<Vec<_>>())),
            ("time", times(&rows.clone().map(|row| (row * 7919) % 101 - 50).collect::<Vec<_>>())),
            ("value", values(&rows.map(|row| row as f64).collect::<Vec<_>>())),
        ];
        write(&folder.path().join(file).with_extension("parquet"), group, &named);
    }
}

/// Temporary folders of this process. Only the one test below sorts more than it lets fit into memory.
fn left() -> usize {
    let ours = format!("tidecast-sort-{}-", std::process::id());
    let names = fs::read_dir(std::env::temp_dir()).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with(&ours)).count()
}

#[tokio::test]
async fn time_order_is_a_stable_sort_whatever_the_memory() {
    let folder = TempDir::new().unwrap();
    shuffled(&folder);
    let range = Range { since: Some(-48), until: Some(50) };
    let input = |run_rows| {
        let open = Open { range, order: Order::Time, ..at(folder.path()) };
        open.open().unwrap().with_run_rows(run_rows)
    };
    let mut expected = Open { range, ..at(folder.path()) }.rows();
    expected.sort_by_key(|row| row.2);
    // Runs of one row are so many that they are merged in three levels.
    assert!(expected.len() > 1200);
    for run_rows in [1 << 20, 500, 37, 1] {
        let mut batches = input(run_rows).batches();
        let first = batches.next().unwrap().unwrap();
        assert_eq!(left(), usize::from(run_rows < expected.len()));
        let batches = std::iter::once(Ok(first)).chain(batches).collect::<anyhow::Result<Vec<_>>>().unwrap();
        assert_eq!(rows(&batches, &columns()), expected, "runs of {run_rows} rows");
        assert_eq!(left(), 0);
    }
    let mut closed = input(37);
    closed.next().await.unwrap();
    closed.close().await.unwrap();
    assert_eq!(left(), 0);
}
