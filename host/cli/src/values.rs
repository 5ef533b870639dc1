//! Between CBOR, which guests speak, and JSON, which people and scripts read.

use ciborium::Value;
use serde_json::Value as Json;

/// CBOR of one JSON document.
pub fn cbor_of_json(json: &[u8]) -> Result<Vec<u8>, String> {
    let value: Json = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    ciborium::into_writer(&value, &mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// What `output` shows as in JSON: the value where it is CBOR, else text, else base64.
pub fn json_of_output(output: &[u8], is_cbor: bool) -> Json {
    if is_cbor && let Some(value) = decode(output) {
        return json(&value);
    }
    match std::str::from_utf8(output) {
        Ok(text) => Json::String(text.to_owned()),
        Err(_) => serde_json::json!({ "base64": data_encoding::BASE64.encode(output) }),
    }
}

/// The CBOR value that `bytes` are, whole.
fn decode(bytes: &[u8]) -> Option<Value> {
    let mut rest = bytes;
    let value = ciborium::from_reader(&mut rest).ok()?;
    rest.is_empty().then_some(value)
}

fn json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(b) => (*b).into(),
        Value::Integer(i) => integer(i128::from(*i)),
        // JSON has no word for what is not finite.
        Value::Float(f) => serde_json::Number::from_f64(*f)
            .map_or_else(|| Json::String(f.to_string()), Json::Number),
        Value::Text(text) => text.clone().into(),
        Value::Bytes(bytes) => {
            serde_json::json!({ "base64": data_encoding::BASE64.encode(bytes) })
        }
        Value::Array(items) => items.iter().map(json).collect(),
        Value::Map(entries) => {
            let key = |key: &Value| match key {
                Value::Text(text) => text.clone(),
                other => json(other).to_string(),
            };
            let entries = entries.iter().map(|(k, v)| (key(k), json(v)));
            Json::Object(entries.collect())
        }
        Value::Tag(tag, inner) => typed_array(*tag, inner).unwrap_or_else(|| json(inner)),
        _ => Json::Null,
    }
}

fn integer(number: i128) -> Json {
    match (u64::try_from(number), i64::try_from(number)) {
        (Ok(number), _) => number.into(),
        (_, Ok(number)) => number.into(),
        _ => number.to_string().into(),
    }
}

/// The numbers of a little-endian typed array (RFC 8746).
fn typed_array(tag: u64, inner: &Value) -> Option<Json> {
    let Value::Bytes(bytes) = inner else {
        return None;
    };
    macro_rules! numbers {
        ($type:ty, $show:expr) => {
            bytes
                .chunks_exact(size_of::<$type>())
                .map(|chunk| chunk.try_into().map(<$type>::from_le_bytes).map($show))
                .collect::<Result<Json, _>>()
                .ok()
        };
    }
    let float = |f: f64| json(&Value::Float(f));
    match tag {
        64 => Some(bytes.iter().map(|b| Json::from(*b)).collect()),
        69 => numbers!(u16, Json::from),
        70 => numbers!(u32, Json::from),
        71 => numbers!(u64, Json::from),
        72 => Some(bytes.iter().map(|b| Json::from(*b as i8)).collect()),
        77 => numbers!(i16, Json::from),
        78 => numbers!(i32, Json::from),
        79 => numbers!(i64, Json::from),
        85 => numbers!(f32, |f| float(f64::from(f))),
        86 => numbers!(f64, float),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_arrays_and_odd_floats_become_json() {
        let bytes: Vec<u8> = [1.5f64, f64::NAN]
            .iter()
            .flat_map(|f| f.to_le_bytes())
            .collect();
        let value = Value::Map(vec![(
            Value::Text("x".into()),
            Value::Tag(86, Box::new(Value::Bytes(bytes))),
        )]);
        let mut cbor = Vec::new();
        ciborium::into_writer(&value, &mut cbor).unwrap();
        assert_eq!(
            json_of_output(&cbor, true).to_string(),
            r#"{"x":[1.5,"NaN"]}"#
        );
    }

    #[test]
    fn json_goes_in_and_comes_out() {
        let text = r#"{"a":[1,-2,2.5,null,true],"b":"x"}"#;
        let cbor = cbor_of_json(text.as_bytes()).unwrap();
        assert_eq!(json_of_output(&cbor, true).to_string(), text);
        assert!(cbor_of_json(b"{").is_err());
        assert_eq!(json_of_output(b"plain", false), Json::from("plain"));
        assert_eq!(
            json_of_output(&[0xff], false).to_string(),
            r#"{"base64":"/w=="}"#
        );
    }
}
