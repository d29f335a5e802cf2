//! The base of a log: the state of the trace when its open row group began.
//!
//! ```text
//! base   = length (4) JSON footer
//! footer = the row groups of the main file, as a Parquet footer without trailer
//! ```

use serde_json::{Map, Value, json};

use super::Malformed;
use crate::trace::draft::Draft;
use crate::trace::footer;
use crate::trace::metadata::{Keys, key_values};
use crate::trace::schema::Column;
use crate::trace::totals::Totals;
use crate::trace::writer::Limits;

/// Keys of the metadata that are believed; this program writes about twenty.
pub(super) const MOST_KEYS: usize = 1024;

/// The base of a log for what `draft` is now; its open group must be empty.
pub(super) fn write(draft: &Draft) -> Result<Vec<u8>, crate::trace::Error> {
    let keys = key_values(&draft.keys, &draft.totals);
    let keys: Map<String, Value> = keys
        .into_iter()
        .map(|pair| (pair.key, pair.value.map_or(Value::Null, Value::String)))
        .collect();
    let columns: Vec<_> = draft.columns.iter().map(|column| column.name()).collect();
    let json = json!({
        "base_bytes": draft.base_bytes,
        "next_seq": draft.next_seq,
        "payload_bytes": draft.payload_bytes,
        "columns": columns,
        "keys": keys,
    })
    .to_string();
    let mut base = (json.len() as u32).to_le_bytes().to_vec();
    base.extend_from_slice(json.as_bytes());
    footer::write(draft.columns, &draft.groups, Vec::new(), &mut base)?;
    let trailer = footer::TRAILER_BYTES as usize;
    base.truncate(base.len() - trailer);
    Ok(base)
}

/// The state that a base describes.
///
/// # Errors
/// When it describes none that this program knows.
pub(super) fn read(base: &[u8], limits: Limits) -> Result<Draft, Malformed> {
    let cut = || Malformed::new("its base is cut short");
    let (length, rest) = base.split_first_chunk::<4>().ok_or_else(cut)?;
    let length = u32::from_le_bytes(*length) as usize;
    let (json, groups) = rest.split_at_checked(length).ok_or_else(cut)?;
    let json: Value = serde_json::from_slice(json)
        .map_err(|error| Malformed::new(format!("its base is no JSON: {error}")))?;
    let number = |key: &str| {
        let number = json.get(key).and_then(Value::as_u64).filter(|n| *n <= i64::MAX as u64);
        number.ok_or_else(|| Malformed::new(format!("its base has no '{key}'")))
    };
    let keys = json.get("keys").and_then(Value::as_object);
    let keys = keys.ok_or_else(|| Malformed::new("its base has no 'keys'"))?;
    if keys.len() > MOST_KEYS {
        return Err(Malformed::new(format!("expected at most {MOST_KEYS} keys in its base")));
    }
    let mut draft = Draft::new(Keys::default(), limits);
    for (key, value) in keys {
        draft.keys.set_text(key, value.as_str().unwrap_or_default().to_owned());
    }
    draft.totals = Totals::parse(draft.keys.iter())
        .map_err(|error| Malformed::new(format!("its base has no totals: {error}")))?;
    draft.columns = columns(&json)?;
    draft.base_bytes = number("base_bytes")?;
    draft.next_seq = number("next_seq")?;
    draft.payload_bytes = number("payload_bytes")?;
    draft.groups = footer::read(groups)
        .map_err(|error| Malformed::new(format!("its row groups are none: {error}")))?;
    Ok(draft)
}

/// The columns that a base names: the first of those this program knows.
fn columns(json: &Value) -> Result<&'static [Column], Malformed> {
    let names = json.get("columns").and_then(Value::as_array);
    let names = names.ok_or_else(|| Malformed::new("its base has no 'columns'"))?;
    let known = Column::ALL.get(..names.len()).ok_or_else(|| {
        let (found, known) = (names.len(), Column::ALL.len());
        Malformed::new(format!(
            "a newer recorder wrote it: expected at most {known} columns, found {found}"
        ))
    })?;
    let same = known.iter().zip(names).all(|(column, name)| name.as_str() == Some(column.name()));
    if !same || known.is_empty() {
        return Err(Malformed::new("its columns are not those of a trace"));
    }
    Ok(known)
}
