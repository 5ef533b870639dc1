//! The manifest says what is true of the options.

// In a test, to panic is to fail.
#![allow(clippy::unwrap_used)]

use optwasm_model::{Options, Status};
use optwasm_plugin_nlp::solve;
use pounce_algorithm::application::IpoptApplication;
use pounce_common::reg_options::{DefaultValue, OptionType};
use toml::{Table, Value};

const HS71: &[u8] = include_bytes!("data/hs71.nl");
const OWN: [&str; 2] = ["relax_integrality", "fuel_for_best"];

fn options() -> Vec<Table> {
    let manifest: Table = include_str!("../plugin.toml").parse().unwrap();
    let options = manifest["option"].as_array().unwrap();
    options
        .iter()
        .map(|o| o.as_table().unwrap().clone())
        .collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[test]
fn every_default_and_choice_is_taken() {
    let defaults: Vec<String> = options()
        .iter()
        .map(|option| format!("{}={}", text(&option["name"]), text(&option["default"])))
        .collect();
    let plain = solve(HS71, Options::default(), |_| ()).unwrap();
    let all = solve(HS71, Options::parse(&defaults).unwrap(), |_| ()).unwrap();
    assert_eq!(all, plain);
    for option in options() {
        let Some(choices) = option.get("choices") else {
            continue;
        };
        for choice in choices.as_array().unwrap() {
            let given = format!("{}={}", text(&option["name"]), text(choice));
            let solution = solve(HS71, Options::parse([&given]).unwrap(), |_| ());
            let solution = solution.unwrap_or_else(|error| panic!("{given}: {error}"));
            assert_eq!(solution.status, Status::Optimal, "{given}");
        }
    }
}

#[test]
fn types_defaults_and_limits_are_those_of_pounce() {
    let application = IpoptApplication::new();
    for option in options() {
        let name = text(&option["name"]);
        if OWN.contains(&name.as_str()) {
            continue;
        }
        let registered = application.registered_options().get_option(&name);
        let registered = registered.unwrap_or_else(|| panic!("pounce has no {name}"));
        let number = |key: &str| {
            let value = option.get(key)?;
            value
                .as_float()
                .or_else(|| value.as_integer().map(|i| i as f64))
        };
        let kind = match registered.option_type {
            OptionType::OT_Number => "number",
            OptionType::OT_Integer => "integer",
            _ => "choice",
        };
        assert_eq!(text(&option["type"]), kind, "{name}");
        match &registered.default {
            // Printing goes to the job's log, which is to stay short.
            _ if name == "print_level" => assert_eq!(number("default"), Some(0.0)),
            DefaultValue::Number(default) => assert_eq!(number("default"), Some(*default)),
            DefaultValue::Integer(default) => {
                assert_eq!(number("default"), Some(f64::from(*default)), "{name}");
            }
            DefaultValue::String(default) => assert_eq!(text(&option["default"]), *default),
            DefaultValue::None => panic!("{name} has no default"),
        }
        let limits = (number("min"), number("max"));
        let lower = registered.has_lower.then_some(registered.lower);
        let upper = registered.has_upper.then_some(registered.upper);
        assert_eq!(limits, (lower, upper), "{name}");
        if let Some(choices) = option.get("choices") {
            let choices: Vec<String> = choices.as_array().unwrap().iter().map(text).collect();
            let valid = registered.valid_strings.iter().map(|s| s.value.clone());
            assert_eq!(choices, valid.collect::<Vec<_>>(), "{name}");
        }
    }
}
