//! One value of a result, whatever its Arrow type: what all formats print.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Decimal128Type, Float16Type, Float32Type, Float64Type, Int64Type, TimeUnit,
    UInt64Type,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::DataFusionError;

use crate::tables::rfc3339;
use crate::time::WallNanos;

/// A value, as the formats tell values apart.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// An integer, or a decimal that is printed as a number.
    Number(String),
    Float(f64),
    Text(String),
    Bytes(Vec<u8>),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Value {
    /// The value at `row`.
    pub(super) fn of(array: &ArrayRef, row: usize) -> Result<Self, DataFusionError> {
        if array.is_null(row) {
            return Ok(Self::Null);
        }
        Ok(match array.data_type() {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Bool(array.as_boolean().value(row)),
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
                let one = cast(&array.slice(row, 1), &DataType::Int64)?;
                Self::Number(one.as_primitive::<Int64Type>().value(0).to_string())
            }
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => {
                let one = cast(&array.slice(row, 1), &DataType::UInt64)?;
                Self::Number(one.as_primitive::<UInt64Type>().value(0).to_string())
            }
            DataType::Decimal128(..) => {
                Self::Number(array.as_primitive::<Decimal128Type>().value_as_string(row))
            }
            DataType::Float16 => {
                Self::Float(array.as_primitive::<Float16Type>().value(row).to_f64())
            }
            // Through text: 0.1_f32 is 0.1 and not 0.10000000149011612.
            DataType::Float32 => {
                Self::Number(array.as_primitive::<Float32Type>().value(row).to_string())
            }
            DataType::Float64 => Self::Float(array.as_primitive::<Float64Type>().value(row)),
            DataType::Utf8 => Self::Text(array.as_string::<i32>().value(row).into()),
            DataType::LargeUtf8 => Self::Text(array.as_string::<i64>().value(row).into()),
            DataType::Utf8View => Self::Text(array.as_string_view().value(row).into()),
            DataType::Binary => Self::Bytes(array.as_binary::<i32>().value(row).into()),
            DataType::LargeBinary => Self::Bytes(array.as_binary::<i64>().value(row).into()),
            DataType::BinaryView => Self::Bytes(array.as_binary_view().value(row).into()),
            DataType::FixedSizeBinary(_) => {
                Self::Bytes(array.as_fixed_size_binary().value(row).into())
            }
            DataType::Timestamp(_, zone) => {
                let nanos = DataType::Timestamp(TimeUnit::Nanosecond, zone.clone());
                timestamp(&cast(&array.slice(row, 1), &nanos)?, zone.is_some())
            }
            DataType::List(_) => list(&array.as_list::<i32>().value(row))?,
            DataType::LargeList(_) => list(&array.as_list::<i64>().value(row))?,
            DataType::FixedSizeList(..) => list(&array.as_fixed_size_list().value(row))?,
            DataType::Struct(fields) => {
                let columns = fields.iter().zip(array.as_struct().columns());
                let member = |(field, column): (&arrow::datatypes::FieldRef, &ArrayRef)| {
                    Ok((field.name().clone(), Self::of(column, row)?))
                };
                Self::Object(columns.map(member).collect::<Result<_, DataFusionError>>()?)
            }
            DataType::Union(..) => {
                // The JSON functions return a union of the JSON types.
                let one = array.as_union().value(row);
                Self::of(&one, 0)?
            }
            DataType::Dictionary(_, values) => Self::of(&cast(&array.slice(row, 1), values)?, 0)?,
            _ => {
                let formatter = ArrayFormatter::try_new(array, &FormatOptions::default())?;
                Self::Text(formatter.value(row).to_string())
            }
        })
    }

    /// The value as one text, for formats without types of their own; lists and objects are JSON.
    pub(super) fn into_text(self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Bool(value) => value.to_string(),
            Self::Number(value) | Self::Text(value) => value,
            Self::Float(value) => value.to_string(),
            Self::Bytes(bytes) => escape_bytes(&bytes),
            nested @ (Self::List(_) | Self::Object(_)) => nested.into_json().to_string(),
        }
    }

    /// The value as JSON. Bytes are text where they are UTF-8, else `{"base64": "..."}`; numbers
    /// that JSON does not have (NaN, infinite) are `null`.
    pub(super) fn into_json(self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Self::Null => Json::Null,
            Self::Bool(value) => Json::Bool(value),
            Self::Number(text) => text.parse().map_or(Json::String(text), Json::Number),
            Self::Float(value) => {
                serde_json::Number::from_f64(value).map_or(Json::Null, Json::Number)
            }
            Self::Text(value) => Json::String(value),
            Self::Bytes(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Json::String(text),
                Err(error) => serde_json::json!({ "base64": base64(error.as_bytes()) }),
            },
            Self::List(values) => values.into_iter().map(Self::into_json).collect(),
            Self::Object(members) => Json::Object(
                members.into_iter().map(|(name, value)| (name, value.into_json())).collect(),
            ),
        }
    }
}

fn list(values: &ArrayRef) -> Result<Value, DataFusionError> {
    let values = (0..values.len()).map(|row| Value::of(values, row));
    Ok(Value::List(values.collect::<Result<_, _>>()?))
}

/// RFC 3339 with nine digits; without the `Z` where the type has no time zone.
fn timestamp(nanos: &ArrayRef, has_zone: bool) -> Value {
    let nanos = nanos.as_primitive::<arrow::datatypes::TimestampNanosecondType>().value(0);
    let mut text = rfc3339(WallNanos(nanos));
    if !has_zone && text.ends_with('Z') {
        text.pop();
    }
    Value::Text(text)
}

/// Bytes as text: printable ASCII and valid UTF-8 stay, the rest becomes `\xNN`; a backslash is
/// doubled, so that the bytes can be had back.
fn escape_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                c if c.is_ascii_control() => text.push_str(&format!("\\x{:02x}", c as u32)),
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// Base64 with padding (RFC 4648, 4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            if at <= group.len() {
                text.push(char::from(ALPHABET[(bits >> (18 - 6 * at) & 63) as usize]));
            } else {
                text.push('=');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_follows_the_rfc_vectors() {
        let vectors =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (plain, coded) in vectors {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn bytes_keep_text_and_escape_the_rest() {
        assert_eq!(escape_bytes("aé\\\x1b\n".as_bytes()), "aé\\\\\\x1b\\n");
        assert_eq!(escape_bytes(b"\xff\xc3"), "\\xff\\xc3");
    }

    #[test]
    fn json_says_what_json_can_say() {
        let nested = Value::Object(vec![
            ("n".into(), Value::Number("18446744073709551615".into())),
            ("f".into(), Value::Float(f64::NAN)),
            ("b".into(), Value::Bytes(vec![0xff])),
            ("l".into(), Value::List(vec![Value::Null, Value::Bytes(b"x".to_vec())])),
        ]);
        let json = r#"{"n":18446744073709551615,"f":null,"b":{"base64":"/w=="},"l":[null,"x"]}"#;
        assert_eq!(nested.into_text(), json);
    }

    #[test]
    fn times_have_nine_digits_and_survive_the_ends_of_their_range() {
        let array = |nanos: i64| -> ArrayRef {
            let array = arrow::array::TimestampNanosecondArray::from(vec![nanos]);
            std::sync::Arc::new(array.with_timezone("UTC"))
        };
        let text = |nanos| Value::of(&array(nanos), 0).unwrap().into_text();
        assert_eq!(text(1), "1970-01-01T00:00:00.000000001Z");
        assert_eq!(text(i64::MAX), "2262-04-11T23:47:16.854775807Z");
        assert_eq!(text(i64::MIN), "1677-09-21T00:12:43.145224192Z");
    }
}
