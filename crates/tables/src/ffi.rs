//! Arrays and fields between polars' Arrow and arrow-rs, through the Arrow C data interface: without copies, the
//! receiver releases the memory.

use anyhow::Result;
use arrow::array::{Array, ArrayRef, make_array};
use arrow::datatypes::Field;
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi};
use polars_arrow::array::Array as PolarsArray;
use polars_arrow::datatypes::Field as PolarsField;
use polars_arrow::ffi;

/// # Errors
/// If arrow-rs does not have the type.
pub(super) fn field_from_polars(field: &PolarsField) -> Result<Field> {
    Ok(Field::try_from(&schema_from_polars(field))?)
}

/// # Errors
/// If polars does not have the type.
pub(super) fn field_to_polars(field: &Field) -> Result<PolarsField> {
    let schema = FFI_ArrowSchema::try_from(field)?;
    // SAFETY: both types are the C struct `ArrowSchema` of the Arrow C data interface (`repr(C)`, the same nine fields
    // in the order of the specification), and neither is aliased: the value moves.
    let schema: ffi::ArrowSchema = unsafe { std::mem::transmute(schema) };
    // SAFETY: `schema` was just made by arrow-rs, which exports valid schemas.
    Ok(unsafe { ffi::import_field_from_c(&schema) }?)
}

/// # Errors
/// If arrow-rs does not have the type.
pub(super) fn array_from_polars(array: Box<dyn PolarsArray>) -> Result<ArrayRef> {
    let field = PolarsField::new("".into(), array.dtype().clone(), true);
    let schema = schema_from_polars(&field);
    let array = ffi::export_array_to_c(array);
    // SAFETY: both types are the C struct `ArrowArray` of the Arrow C data interface (`repr(C)`, the same ten fields in
    // the order of the specification), and the value moves, so it is released once.
    let array: FFI_ArrowArray = unsafe { std::mem::transmute(array) };
    // SAFETY: array and schema were exported together from one valid polars array.
    let data = unsafe { from_ffi(array, &schema) }?;
    Ok(make_array(data))
}

/// Converts an array with the type of `field`.
///
/// # Errors
/// If polars does not have the type.
pub(super) fn array_to_polars(array: &dyn Array, field: &Field) -> Result<Box<dyn PolarsArray>> {
    let dtype = field_to_polars(field)?.dtype;
    let array = FFI_ArrowArray::new(&array.to_data());
    // SAFETY: as in `array_from_polars`, in the other direction.
    let array: ffi::ArrowArray = unsafe { std::mem::transmute(array) };
    // SAFETY: `array` was just made by arrow-rs from a valid array, and `dtype` is the type it had there.
    Ok(unsafe { ffi::import_array_from_c(array, dtype) }?)
}

fn schema_from_polars(field: &PolarsField) -> FFI_ArrowSchema {
    let schema = ffi::export_field_to_c(field);
    // SAFETY: as in `field_to_polars`, in the other direction.
    unsafe { std::mem::transmute(schema) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        Float32Array, Float64Array, Int64Array, LargeStringArray, ListArray, StringArray,
        TimestampMicrosecondArray,
    };
    use arrow::datatypes::{Float64Type, Int32Type};

    use super::*;

    fn check(array: ArrayRef) {
        let field = Field::new("column", array.data_type().clone(), true);
        assert_eq!(field_from_polars(&field_to_polars(&field).unwrap()).unwrap(), field);
        let converted = array_from_polars(array_to_polars(&array, &field).unwrap()).unwrap();
        assert_eq!(&converted, &array);
        // A slice starts at an offset of its buffers.
        let slice = array.slice(1, array.len() - 1);
        let converted = array_from_polars(array_to_polars(&slice, &field).unwrap()).unwrap();
        drop(slice);
        assert_eq!(&converted, &array.slice(1, array.len() - 1));
    }

    #[test]
    fn arrays_are_unchanged_after_a_round_trip() {
        check(Arc::new(Int64Array::from(vec![Some(1), None, Some(i64::MIN)])));
        check(Arc::new(Float64Array::from(vec![Some(0.5), None, Some(f64::MAX), Some(-0.0)])));
        check(Arc::new(Float32Array::from(vec![1.0, 2.0])));
        check(Arc::new(StringArray::from(vec![Some("a"), None, Some("längere Zeichenkette")])));
        check(Arc::new(LargeStringArray::from(vec!["", "x"])));
        check(Arc::new(TimestampMicrosecondArray::from(vec![Some(-1), None, Some(7)]).with_timezone("UTC")));
        let lists = [Some(vec![Some(1.0), None]), None, Some(vec![]), Some(vec![Some(2.0)])];
        check(Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(lists)));
        let lists = [Some(vec![Some(1)]), Some(vec![Some(2), Some(3)])];
        check(Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists)));
    }
}
