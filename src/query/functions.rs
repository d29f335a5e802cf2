//! SQL functions of this program beyond DataFusion's and the JSON ones: `body_text`.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringViewArray, StringViewBuilder};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// `body_text(x)`: bytes as text.
pub(super) fn body_text() -> ScalarUDF {
    ScalarUDF::new_from_impl(BodyText { signature: Signature::any(1, Volatility::Immutable) })
}

/// Bytes (`BINARY`, or `BINARY[]` whose elements belong together, as in `events.data`) as text;
/// what is not UTF-8 becomes U+FFFD.
#[derive(Debug, PartialEq, Eq, Hash)]
struct BodyText {
    signature: Signature,
}

impl ScalarUDFImpl for BodyText {
    fn name(&self) -> &str {
        "body_text"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [given] if is_bytes(given) => Ok(DataType::Utf8View),
            [DataType::List(element)] if is_bytes(element.data_type()) => Ok(DataType::Utf8View),
            [given] => plan_err!("body_text expects BINARY or BINARY[], found {given}"),
            _ => plan_err!("body_text expects one argument, found {}", arg_types.len()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let array = match args.args.as_slice() {
            [ColumnarValue::Array(array)] => Arc::clone(array),
            [ColumnarValue::Scalar(scalar)] => scalar.to_array()?,
            _ => return exec_err!("body_text expects one argument, found {}", args.args.len()),
        };
        let text = match array.data_type() {
            DataType::List(_) => lists_text(&array)?,
            _ => bytes_text(&array)?,
        };
        Ok(ColumnarValue::Array(text))
    }
}

fn is_bytes(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Binary
            | DataType::LargeBinary
            | DataType::BinaryView
            | DataType::FixedSizeBinary(_)
            | DataType::Null
    )
}

fn bytes_text(array: &ArrayRef) -> Result<ArrayRef> {
    let array = cast(array, &DataType::Binary)?;
    let texts = array.as_binary::<i32>().iter().map(|bytes| bytes.map(String::from_utf8_lossy));
    Ok(Arc::new(texts.collect::<StringViewArray>()))
}

fn lists_text(array: &ArrayRef) -> Result<ArrayRef> {
    let mut texts = StringViewBuilder::new();
    // A character may cross elements: join the bytes first.
    let mut joined = Vec::new();
    for list in array.as_list::<i32>().iter() {
        let Some(list) = list else {
            texts.append_null();
            continue;
        };
        joined.clear();
        let list = cast(&list, &DataType::Binary)?;
        for part in list.as_binary::<i32>().iter().flatten() {
            joined.extend_from_slice(part);
        }
        texts.append_value(String::from_utf8_lossy(&joined));
    }
    Ok(Arc::new(texts.finish()))
}
