//! Rows in the order of their times.

use super::*;

#[test]
fn time_order_is_a_stable_sort_whatever_the_memory() {
    let folder = TempDir::new().unwrap();
    // 1200 rows, many of the same time, in three files.
    for file in 0..3i64 {
        let rows = file * 400..(file + 1) * 400;
        let id = |row: i64| format!("s{}", row % 7);
        let owned: Vec<String> = rows.clone().map(id).collect();
        let named = [
            ("sensor", ids(&owned.iter().map(String::as_str).collect::<Vec<_>>())),
            ("time", times(&rows.clone().map(|row| (row * 7919) % 101 - 50).collect::<Vec<_>>())),
            ("value", values(&rows.map(|row| row as f64).collect::<Vec<_>>())),
        ];
        write(&folder.path().join(format!("{file}.parquet")), 90, &named);
    }
    let range = Range { since: Some(-40), until: Some(45) };
    let mut expected = Open { range, ..at(folder.path()) }.rows();
    expected.sort_by_key(|row| row.2);
    let sorted = |run_rows| {
        let open = Open { range, order: Order::Time, ..at(folder.path()) };
        let batches = open.open().unwrap().with_run_rows(run_rows).batches();
        rows(&batches.collect::<anyhow::Result<Vec<_>>>().unwrap(), &columns())
    };
    for run_rows in [1 << 20, 500, 37, 1] {
        assert_eq!(sorted(run_rows), expected, "runs of {run_rows} rows");
    }
    // Only this test sorts more than fits: its temporary folders are gone.
    let ours = format!("tidecast-sort-{}-", std::process::id());
    let left = fs::read_dir(std::env::temp_dir()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.filter(|name| name.to_string_lossy().starts_with(&ours)).count(), 0);
}
