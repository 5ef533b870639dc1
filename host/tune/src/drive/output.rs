//! What an objective returns: a loss, and anything else beside it.
//!
//! A map with `loss` and `info`, or the loss alone. What begins with `{` is JSON: no CBOR map or number
//! does. Everything else is CBOR, so that a number alone is always CBOR: the digit `7` as a text would
//! be the number -24.

use ciborium::Value as Cbor;
use serde_json::Value as Json;

/// Levels of CBOR inside one another. A journal is JSON, of which 128 levels can be read again, and a
/// tag of CBOR becomes two of them.
const LEVELS_MAX: usize = 60;

/// Loss and info of an output. A loss may be infinite or no number.
pub(super) fn read(output: &[u8]) -> Result<(f64, Json), String> {
    let read = match output.first() {
        Some(b'{') => {
            let value = serde_json::from_slice(output);
            of_json(
                value
                    .map_err(|error| format!("the output is not the JSON it begins as: {error}"))?,
            )
        }
        _ => of_cbor(parse(output)?)?,
    };
    read.ok_or_else(|| "the output has no number `loss`".to_owned())
}

fn of_json(mut value: Json) -> Option<(f64, Json)> {
    let loss = value.get("loss")?.as_f64()?;
    let info = value.get_mut("info").map(Json::take);
    Some((loss, info.unwrap_or_default()))
}

fn parse(mut output: &[u8]) -> Result<Cbor, String> {
    let value = ciborium::de::from_reader_with_recursion_limit(&mut output, LEVELS_MAX);
    let value = value.map_err(|error| match error {
        ciborium::de::Error::RecursionLimitExceeded => {
            format!("the output is nested more than {LEVELS_MAX} levels deep")
        }
        error => format!("the output is neither CBOR nor a JSON object: {error}"),
    })?;
    match output {
        [] => Ok(value),
        _ => Err(
            "the output is neither CBOR nor a JSON object: something follows its end".to_owned(),
        ),
    }
}

fn of_cbor(value: Cbor) -> Result<Option<(f64, Json)>, String> {
    let Cbor::Map(entries) = value else {
        return Ok(number(&value).map(|loss| (loss, Json::Null)));
    };
    let (mut loss, mut info) = (None, Json::Null);
    for (key, value) in entries {
        match key.as_text() {
            Some("loss") => loss = number(&value),
            Some("info") => {
                let json = serde_json::to_value(value);
                info = json.map_err(|error| format!("the output's `info`: {error}"))?;
            }
            _ => {}
        }
    }
    Ok(loss.map(|loss| (loss, info)))
}

fn number(value: &Cbor) -> Option<f64> {
    match value {
        Cbor::Float(number) => Some(*number),
        Cbor::Integer(number) => Some(i128::from(*number) as f64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cbor(value: &impl serde::Serialize) -> Vec<u8> {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).unwrap_or_default();
        bytes
    }

    #[test]
    fn objects_are_read_in_both_forms() {
        let full = serde_json::json!({"loss": 0.5, "info": {"epochs": [1, 2]}});
        let info = serde_json::json!({"epochs": [1, 2]});
        assert_eq!(read(&cbor(&full)), Ok((0.5, info.clone())));
        assert_eq!(read(full.to_string().as_bytes()), Ok((0.5, info)));
        assert_eq!(read(b"{\"loss\": -2}"), Ok((-2.0, Json::Null)));
        let infinite = read(&[0xf9, 0x7c, 0x00]);
        assert_eq!(infinite, Ok((f64::INFINITY, Json::Null)));
        for wrong in [
            &b""[..],
            b"{",
            b"{\"loss\": \"1\"}",
            b"\n{\"loss\": 1}",
            b"0.5",
            b"loss",
        ] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
        assert!(read(&cbor(&serde_json::json!({"los": 1}))).is_err());
    }

    #[test]
    fn every_whole_number_is_a_loss() {
        for number in -300..300 {
            assert_eq!(read(&cbor(&number)), Ok((f64::from(number), Json::Null)));
        }
    }

    #[test]
    fn what_is_read_can_be_read_back_from_a_journal() {
        let nested = |levels: usize, wrap: fn(Cbor) -> Cbor| {
            let info = (0..levels).fold(Cbor::Null, |inner, _| wrap(inner));
            read(&cbor(&Cbor::Map(vec![
                (Cbor::Text("loss".to_owned()), Cbor::Float(1.0)),
                (Cbor::Text("info".to_owned()), info),
            ])))
        };
        let wraps: [fn(Cbor) -> Cbor; 2] = [
            |inner| Cbor::Array(vec![inner]),
            |inner| Cbor::Tag(1000, Box::new(inner)),
        ];
        for wrap in wraps {
            let mut most = 0;
            for levels in 0..200 {
                let Ok((_, info)) = nested(levels, wrap) else {
                    break;
                };
                let line = serde_json::json!({ "info": info }).to_string();
                let again: Result<Json, _> = serde_json::from_str(&line);
                assert!(again.is_ok(), "{levels} levels");
                most = levels;
            }
            assert!((20..100).contains(&most), "{most}");
        }
    }
}
